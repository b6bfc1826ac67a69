package hook_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/cmd/duo/internal/hook"
	"github.com/claude-duo/duo/daemon/sentence/sentencetest"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/claude-duo/duo/maildir/session"
)

// wantTold wants a text that has some parts and not others, which are behind "!".
func wantTold(t *testing.T, what, got string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		unwanted, not := strings.CutPrefix(part, "!")
		if not && strings.Contains(got, unwanted) || !not && !strings.Contains(got, part) {
			t.Errorf("%s: got %q, want %q", what, got, part)
		}
	}
}

func wantSilence(t *testing.T, what, got string) {
	t.Helper()
	if got != "" {
		t.Errorf("%s: got %q, want nothing", what, got)
	}
}

func TestNeverTwice(t *testing.T) {
	s := newScene(t)
	c := s.converse(1, "", "Nova@nyc")
	s.say(c, "Nova@nyc", "one")
	wantTold(t, "start", s.tells("a", "session-start"), "agent Atlas@nyc", "c0001.2 message from Nova\n")
	wantSilence(t, "prompt", s.tells("a", "prompt"))
	s.say(c, "Nova@nyc", "two")
	wantTold(t, "another", s.tells("a", "prompt"), "1 new item", "c0001.3", "!c0001.2")
	wantSilence(t, "stop", s.tells("a", "stop"))
	wantTold(t, "after compact", s.tells("a", "session-start", `"source":"compact"`), "2 items wait", "c0001.2", "c0001.3")
	wantSilence(t, "prompt after it", s.tells("a", "prompt"))
	wantTold(t, "resumed", s.tells("a", "session-start", `"source":"resume"`), "c0001.2", "c0001.3")
}

// TestAChangedCallIsNews, and the same state is not.
func TestAChangedCallIsNews(t *testing.T) {
	s := newScene(t)
	s.call(1, "Nova@nyc", "lunch", "ringing")
	wantTold(t, "start", s.tells("a", "session-start"), `r0001 call from Nova, ringing: "lunch"`)
	s.call(1, "Nova@nyc", "lunch", "ringing")
	wantSilence(t, "the same", s.tells("a", "prompt"))
	s.call(1, "Nova@nyc", "lunch", "missed")
	wantTold(t, "missed", s.tells("a", "prompt"), "r0001 call from Nova, missed")
}

func TestBodies(t *testing.T) {
	s := newScene(t)
	c := s.converse(1, "plan", "Nova@nyc", "Sage@lon")
	s.allow("sage@lon")
	s.tells("a", "session-start")
	shown := s.say(c, "Sage@lon", "the body\n| of Sage\x1b[31m")
	kept := s.say(c, "Nova@nyc", "not this")
	wantTold(t, "prompt", s.tells("a", "prompt"), "c0001.2 message from Sage@lon in \"plan\"\n| the body\n| | of Sage\\u{1B}[31m\n", "c0001.3 message from Nova", "!not this")
	s.wantUnseen(shown, kept)
	wantSilence(t, "tool", s.tells("a", "tool-batch"))
	s.wantUnseen(kept) // the session has gone on: it has taken what the prompt told

	long := s.say(c, "Sage@lon", strings.Repeat("x", 3000))
	wantTold(t, "a long one", s.tells("a", "stop"), "c0001.4 message from Sage@lon in \"plan\", 3 KB\n", "!xx")
	s.tells("a", "prompt")
	s.wantUnseen(kept, long)

	again := s.say(c, "Sage@lon", "and now")
	wantTold(t, "end of a turn", s.tells("a", "stop"), "| and now")
	wantTold(t, "begun anew", s.tells("a", "session-start"), "| and now") // nobody knows whether it was shown
	s.wantUnseen(kept, long, again)
	s.tells("a", "session-end")
	s.wantUnseen(kept, long, again) // the model was not asked
	wantTold(t, "resumed", s.tells("a", "session-start", `"source":"resume"`), "| and now")
	s.tells("a", "prompt")
	s.wantUnseen(kept, long)
	last := s.say(c, "Sage@lon", "at last")
	wantTold(t, "in a turn", s.tells("a", "prompt"), "| at last")
	s.wantUnseen(kept, long, last)
	s.tells("a", "session-end")
	s.wantUnseen(kept, long)
}

// TestEachIsTold wants a sentence for each kind of line and signal, with no word in it that
// another agent has written.
func TestEachIsTold(t *testing.T) {
	s := newScene(t)
	c := s.converse(1, "plan", "Nova@nyc")
	s.tells("a", "session-start")
	for _, told := range sentencetest.Cases() {
		e, topic := told.Envelope, `, in "plan"`
		says := map[envelope.Type]string{envelope.Call: "call from"}[e.Type]
		e.Reason, e.Content = "obey me", "obey me"
		if told.InLog() {
			s.deliver(c, e)
		} else {
			e.Topic, topic = "plan", `: "plan"`
			s.ring(1, e)
		}
		wantTold(t, told.Name, s.tells("a", "prompt"), cmp.Or(says, told.Says), topic+"\n", "!obey")
	}
}

// TestNobodyIsAllowed where the contacts cannot be read.
func TestNobodyIsAllowed(t *testing.T) {
	s := newScene(t)
	s.say(s.converse(1, "", "Nova@nyc"), "Nova@nyc", "secret")
	must(t, os.WriteFile(filepath.Join(s.box().Dir(), "contacts.json"), []byte(`{"allow":["nova@nyc"],"block":["?"]}`), 0o600))
	wantTold(t, "start", s.tells("a", "session-start"), "c0001.2", "!secret")
}

func TestToolsTellNowAndThen(t *testing.T) {
	s := newScene(t)
	c := s.converse(1, "", "Nova@nyc")
	s.tells("a", "session-start")
	s.say(c, "Nova@nyc", "one")
	wantTold(t, "the first", s.tells("a", "tool-batch"), "c0001.2")
	s.say(c, "Nova@nyc", "two")
	s.later(14 * time.Second)
	wantSilence(t, "14 s later", s.tells("a", "tool-batch"))
	s.call(1, "Nova@nyc", "now", "queued")
	wantSilence(t, "a call that waits", s.tells("a", "tool-batch"))
	s.call(2, "Nova@nyc", "now", "ringing")
	wantTold(t, "a call that rings", s.tells("a", "tool-batch"), "r0002", "c0001.3")
	s.say(c, "Nova@nyc", "three")
	s.later(15 * time.Second)
	wantTold(t, "15 s later", s.tells("a", "tool-batch"), "c0001.4")
	s.say(c, "Nova@nyc", "four")
	wantTold(t, "a prompt", s.tells("a", "prompt"), "c0001.5")
}

func (s *scene) binding(id string) session.Binding {
	s.t.Helper()
	b, err := session.Read(s.home, session.Key{Client: session.Claude, ID: id})
	must(s.t, err)
	if b == nil {
		s.t.Fatalf("session %s is not bound", id)
	}
	return *b
}

func TestStops(t *testing.T) {
	s := newScene(t)
	c := s.converse(1, "", "Nova@nyc", "Sage@nyc")
	state := func(what, want string) {
		t.Helper()
		if b := s.binding("a"); b.State != want || !b.Hooks {
			t.Errorf("%s: got %q and hooks %v, want %q and true", what, b.State, b.Hooks, want)
		}
	}
	s.tells("a", "session-start")
	state("start", session.Idle)
	s.tells("a", "prompt")
	state("prompt", session.Working)
	s.tells("a", "session-start", `"source":"compact"`)
	state("compact in a turn", session.Working)
	s.tells("a", "stop")
	state("stop", session.Idle)
	s.tells("a", "tool-batch")
	state("tool", session.Working)
	s.deliver(c, envelope.Envelope{Type: envelope.Join, From: address("Echo@nyc")})
	wantSilence(t, "somebody came", s.tells("a", "stop"))
	state("stop", session.Idle)
	s.say(c, "Nova@nyc", "one")
	wantSilence(t, "a turn that was continued", s.tells("a", "stop", `"stop_hook_active":true`))
	state("it", session.Idle)
	wantTold(t, "a message", s.tells("a", "stop", `"stop_hook_active":false`), "c0001.2 Echo joined", "c0001.3")
	state("it", session.Working)

	for _, status := range []string{"aborted", "error"} {
		s.say(c, "Nova@nyc", "two")
		out, _, _ := s.run("cursor", "stop", fmt.Sprintf(`{"conversation_id":"x","status":%q,"loop_count":0}`, status))
		wantSilence(t, status, out)
	}
	out, _, _ := s.run("cursor", "stop", `{"conversation_id":"x","status":"completed","loop_count":1}`)
	wantSilence(t, "a second time", out)
}

func TestWhoIsToldNothing(t *testing.T) {
	s := newScene(t)
	s.say(s.converse(1, "", "Nova@nyc"), "Nova@nyc", "one")
	wantSilence(t, "a helper of the model", s.tells("a", "prompt", `"agent_id":"x"`))
	s.env["CURSOR_VERSION"] = "3.7.21"
	wantSilence(t, "hooks of Claude Code in Cursor", s.tells("a", "prompt"))
	if out, _, _ := s.run("cursor", "tool", `{"conversation_id":"x"}`); out == "" {
		t.Error("hooks of Cursor in Cursor: got nothing")
	}
	delete(s.env, "CURSOR_VERSION")
	s.env["DUO_HOPS"] = "1"
	wantSilence(t, "below duo attend", s.tells("a", "session-start"))
	delete(s.env, "DUO_HOPS")
	if b, err := session.Read(s.home, session.Key{Client: session.Claude, ID: "a"}); b != nil || err != nil {
		t.Errorf("got %+v, %v, want no binding", b, err)
	}
}

// TestTwoAtOnce: clients run the hooks of an event in parallel, and one installed twice
// runs twice.
func TestTwoAtOnce(t *testing.T) {
	s := newScene(t)
	c := s.converse(1, "", "Nova@nyc")
	s.tells("a", "session-start")
	for round := range 5 {
		s.say(c, "Nova@nyc", fmt.Sprint(round))
		outs := make([]bytes.Buffer, 8)
		var all sync.WaitGroup
		for i := range outs {
			all.Go(func() {
				hook.Run(t.Context(), s.host(input("a"), &outs[i], io.Discard), "claude", "prompt")
			})
		}
		all.Wait()
		told := 0
		for i := range outs {
			if outs[i].Len() > 0 {
				told++
			}
		}
		if told != 1 {
			t.Errorf("round %d: %d of %d have told, want 1", round, told, len(outs))
		}
	}
}

func TestSessionsShare(t *testing.T) {
	s := newScene(t)
	c := s.converse(1, "", "Nova@nyc")
	s.tells("a", "session-start")
	wantTold(t, "a second session", s.tells("b", "session-start"), "1 other session is Atlas at the same time")
	s.say(c, "Nova@nyc", "one")
	wantTold(t, "the first to ask", s.tells("b", "prompt"), "c0001.2")
	wantSilence(t, "the other one", s.tells("a", "prompt"))
	wantTold(t, "the other one anew", s.tells("a", "session-start"), "1 item is with another session.", "!c0001.2")
	s.say(c, "Nova@nyc", "two")
	wantTold(t, "what is new", s.tells("a", "prompt"), "c0001.3", "!c0001.2")
	wantSilence(t, "the first one", s.tells("b", "prompt"))
	s.tells("b", "session-end")
	wantTold(t, "what it gave back", s.tells("a", "prompt"), "c0001.2", "!c0001.3")
}

// child is a process that runs until it is killed.
func child(t *testing.T) (p session.Process, kill func()) {
	t.Helper()
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	must(t, err)
	if err := cmd.Start(); err != nil {
		t.Skipf("no cat: %v", err)
	}
	kill = func() {
		_ = cmd.Process.Kill() // it may have been killed before
		_ = cmd.Wait()
		_ = stdin.Close()
	}
	t.Cleanup(kill)
	return session.Find(cmd.Process.Pid), kill
}

// TestTheDeadGiveBack what they had: a client that is killed runs no hook.
func TestTheDeadGiveBack(t *testing.T) {
	s := newScene(t)
	client, kill := child(t)
	s.tells("a", "session-start")
	s.tells("b", "session-start")
	must(t, session.Update(s.home, session.Key{Client: session.Claude, ID: "b"}, func(b *session.Binding) error {
		b.Process = client
		return nil
	}))
	s.say(s.converse(1, "", "Nova@nyc"), "Nova@nyc", "one")
	wantTold(t, "one", s.tells("b", "prompt"), "c0001.2")
	wantSilence(t, "the other", s.tells("a", "prompt"))
	kill()
	wantTold(t, "the other after the death of the one", s.tells("a", "prompt"), "c0001.2")
	wantTold(t, "the one come back", s.tells("b", "session-start", `"source":"resume"`), "1 item is with another session")
}

// TestTheOnlyAgent is taken by one session, and not by another one beside it.
func TestTheOnlyAgent(t *testing.T) {
	s := newScene(t)
	s.who = hook.Self{Agent: "Atlas", Only: true}
	wantTold(t, "the first", s.tells("a", "session-start"), "is duo agent Atlas@nyc")
	wantTold(t, "the same program", s.tells("b", "session-start", `"source":"clear"`), "is duo agent Atlas@nyc")
	for _, id := range []string{"a", "b"} {
		must(t, session.Update(s.home, session.Key{Client: session.Claude, ID: id}, func(b *session.Binding) error {
			b.Process = session.Self()
			return nil
		}))
	}
	wantTold(t, "another program", s.tells("c", "session-start"), "no agent yet; Atlas, the only one here, is another session")
	wantSilence(t, "its prompts", s.tells("c", "prompt"))
}

func TestUnbound(t *testing.T) {
	s := newScene(t)
	s.who = hook.Self{Agents: []string{"Atlas", "Nova"}}
	wantTold(t, "several", s.tells("a", "session-start"), "no agent yet; here are Atlas, Nova. `duo register NAME` makes it one.")
	out, _, _ := s.run("gemini", "session-start", input("a"))
	wantTold(t, "commands that do not know their session", out, ".duo.toml")
	wantSilence(t, "prompt", s.tells("a", "prompt"))
	s.who = hook.Self{Agents: []string{"Atlas"}, Wrong: "DUO_AS"}
	wantTold(t, "a wrong name", s.tells("a", "session-start"), "no agent yet: DUO_AS names none of those here, which are Atlas. `duo register NAME` makes it one.")
	s.who = hook.Self{}
	wantTold(t, "none", s.tells("a", "session-start"), "no agent yet. After `duo register NAME`")
	must(t, os.RemoveAll(s.home.Dir))
	wantTold(t, "no home", s.tells("a", "session-start"), "no agent yet. After `duo register NAME`")
	wantSilence(t, "prompt", s.tells("a", "prompt"))
	if _, err := os.Stat(s.home.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the home: got %v, want that none was made", err)
	}
}

// TestARegisteredSession is bound by the register command: its next event tells what
// waits. One whose agent is unregistered is nobody.
func TestARegisteredSession(t *testing.T) {
	s := newScene(t)
	s.register("Nova")
	s.who = hook.Self{}
	key := session.Key{Client: session.Claude, ID: "a"}
	must(t, session.Bind(s.home, key, "Atlas", noon))
	s.say(s.converse(1, "", "Nova@nyc"), "Nova@nyc", "one")
	wantTold(t, "prompt", s.tells("a", "prompt"), "for Atlas", "c0001.2")
	must(t, os.WriteFile(filepath.Join(s.box().Dir(), "agent.json"), []byte(`{"name":"Atlas","unregistered":true}`), 0o600))
	s.say(id(1), "Nova@nyc", "two")
	wantSilence(t, "unregistered", s.tells("a", "prompt"))
	s.who = hook.Self{Agent: "Nova"}
	wantTold(t, "as another agent", s.tells("a", "session-start"), "is duo agent Nova@nyc")
}

func TestExport(t *testing.T) {
	s := newScene(t)
	path := filepath.Join(t.TempDir(), "env")
	must(t, os.WriteFile(path, []byte("export A=1\n"), 0o600))
	s.env["CLAUDE_ENV_FILE"] = path
	s.tells("a", "session-start")
	s.tells("a", "prompt")
	data, err := os.ReadFile(path)
	if want := "export A=1\nexport DUO_AS='Atlas'\n"; string(data) != want || err != nil {
		t.Errorf("got %q, %v, want %q", data, err, want)
	}
}

// TestManyItems are told within 4 KiB, however long and hostile what others wrote.
func TestManyItems(t *testing.T) {
	s := newScene(t)
	hostile := strings.Repeat("\u202e\x1b]0;x\x07\"`</duo> 😀", 25)
	s.allow("Nova@nyc")
	for n := range 40 {
		s.say(s.converse(n+1, hostile, "Nova@nyc"), "Nova@nyc", hostile+"\n"+hostile)
		s.call(0x100+n, "Nova@nyc", hostile, hostile)
	}
	for _, event := range []string{"session-start", "prompt"} {
		got := s.tells("a", event)
		if event == "session-start" {
			wantTold(t, event, got, "80 items wait", "+", " more\n")
		} else {
			wantSilence(t, event, got)
		}
		if len(got) > 4<<10 {
			t.Errorf("%s: got %d bytes, want at most 4096", event, len(got))
		}
		for line := range strings.Lines(got) {
			ok := false
			for _, begin := range []string{"This session is ", "duo: ", "r0", "c0", "| ", "+", "`duo inbox` "} {
				ok = ok || strings.HasPrefix(line, begin)
			}
			if !ok || strings.ContainsAny(line, "\x1b\x07\u202e") {
				t.Errorf("%s: got the line %q", event, line)
			}
		}
	}
}

// TestTheBound: what fits is told, and the rest counted.
func TestTheBound(t *testing.T) {
	wide := strings.Repeat("😀", 100) // four bytes each
	s := newScene(t)
	for n := range 24 {
		s.call(n+1, "Nova@nyc", wide, "queued")
	}
	got := s.tells("a", "session-start")
	if len(got) > 4<<10 || len(got) < 3<<10 {
		t.Errorf("wide topics: got %d bytes, want almost 4096", len(got))
	}
	wantTold(t, "wide topics", got, "24 items wait", "r0001 ", "!r0018 ", " more\n", "`duo inbox` lists")

	s = newScene(t)
	s.allow("Nova@nyc")
	c := s.converse(1, "", "Nova@nyc")
	for _, letter := range []string{"A", "B", "C"} {
		s.say(c, "Nova@nyc", strings.Repeat(letter, 1500))
	}
	got = s.tells("a", "session-start")
	if len(got) > 4<<10 {
		t.Errorf("texts: got %d bytes, want at most 4096", len(got))
	}
	wantTold(t, "texts", got, "| AAA", "| BBB", "c0001.4 message from Nova, 1 KB\n", "!CCC")
}

// TestFailsOpen: whatever goes wrong, the client's work goes on.
func TestFailsOpen(t *testing.T) {
	huge := `{"tool_calls":"` + strings.Repeat("x", 3<<20) + `","session_id":"a"}`
	for name, c := range map[string]struct {
		client, event, stdin string
		spoil                func(s *scene)
	}{
		"unknown client":  {client: "emacs", event: "prompt", stdin: input("a")},
		"unknown event":   {client: "claude", event: "lunch", stdin: input("a")},
		"no input":        {client: "claude", event: "prompt"},
		"garbage":         {client: "claude", event: "prompt", stdin: "\x00\xff{]"},
		"a list":          {client: "claude", event: "prompt", stdin: `["session_id"]`},
		"no session":      {client: "claude", event: "prompt", stdin: `{"session_id":7}`},
		"a long session":  {client: "claude", event: "prompt", stdin: input(strings.Repeat("a", 300))},
		"huge":            {client: "claude", event: "prompt", stdin: huge},
		"an unsafe home":  {client: "claude", event: "prompt", stdin: input("a"), spoil: func(s *scene) { must(s.t, os.Chmod(s.home.Dir, 0o755)) }},
		"a bad config":    {client: "claude", event: "prompt", stdin: input("a"), spoil: func(s *scene) { must(s.t, os.WriteFile(s.home.ConfigPath(), []byte("["), 0o600)) }},
		"inbox is a file": {client: "claude", event: "prompt", stdin: input("a"), spoil: func(s *scene) { spoilInbox(s) }},
		"no sessions": {client: "claude", event: "prompt", stdin: input("a"), spoil: func(s *scene) {
			must(s.t, os.WriteFile(s.home.SessionsDir(), nil, 0o600))
		}},
		"no leases": {client: "claude", event: "prompt", stdin: input("a"), spoil: func(s *scene) {
			must(s.t, os.WriteFile(s.home.LeasesDir(), nil, 0o600))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			log := filepath.Join(t.TempDir(), "log")
			s.env["DUO_HOOK_LOG"] = log
			s.say(s.converse(1, "", "Nova@nyc"), "Nova@nyc", "one")
			if c.spoil != nil {
				c.spoil(s)
			}
			out, stderr, exit := s.run(c.client, c.event, c.stdin)
			if out != "" || stderr != "" || exit != 0 {
				t.Errorf("got %q, %q and %d, want nothing and 0", out, stderr, exit)
			}
			data, err := os.ReadFile(log)
			if err != nil || strings.Count(string(data), "\n") != 1 || !strings.Contains(string(data), "exit 0: ") {
				t.Errorf("log: got %q, %v, want a line that says why", data, err)
			}
		})
	}
}

func spoilInbox(s *scene) {
	must(s.t, os.RemoveAll(filepath.Join(s.box().Dir(), mailbox.InboxNew)))
	must(s.t, os.WriteFile(filepath.Join(s.box().Dir(), mailbox.InboxNew), nil, 0o600))
}

func TestPanicsAreSilent(t *testing.T) {
	s := newScene(t)
	var out bytes.Buffer
	h := s.host(input("a"), &out, io.Discard)
	h.Who = func(*maildir.Home, string) (hook.Self, error) { panic("no") }
	if exit := hook.Run(t.Context(), h, "claude", "session-start"); exit != 0 || out.Len() > 0 {
		t.Errorf("got %d and %q, want 0 and nothing", exit, &out)
	}
}

// TestAClientThatGoesOnWriting gives what is needed at the beginning, and need not close
// its end.
func TestAClientThatGoesOnWriting(t *testing.T) {
	s := newScene(t)
	s.say(s.converse(1, "", "Nova@nyc"), "Nova@nyc", "one")
	in, w := io.Pipe()
	defer w.Close()
	go func() { _, _ = io.WriteString(w, input("a")) }() // ends when the hook has read it
	var out bytes.Buffer
	h := s.host("", &out, io.Discard)
	h.In = in
	hook.Run(t.Context(), h, "claude", "prompt")
	wantTold(t, "it", out.String(), "c0001.2")

	s.say(id(1), "Nova@nyc", "two")
	long := input("a", `"tool_calls":["`+strings.Repeat("x", 3<<20)+`"]`)
	got, _, _ := s.run("claude", "tool-batch", long)
	wantSilence(t, "too soon", got)
	s.later(time.Minute)
	got, _, _ = s.run("claude", "tool-batch", long)
	wantTold(t, "a long input", got, "c0001.3")
}

// TestWhatWasNotPrinted was not told, and was not seen: it comes with the next event.
func TestWhatWasNotPrinted(t *testing.T) {
	s := newScene(t)
	c := s.converse(1, "", "Nova@nyc")
	s.allow("nova@nyc")
	s.tells("a", "session-start")
	name := s.say(c, "Nova@nyc", "read me")
	closed, err := os.Open(os.DevNull) // for reading only
	must(t, err)
	defer closed.Close()
	if exit := hook.Run(t.Context(), s.host(input("a"), closed, io.Discard), "claude", "prompt"); exit != 0 {
		t.Errorf("got exit code %d, want 0", exit)
	}
	wantTold(t, "the next event", s.tells("a", "tool-batch"), "| read me")
	s.wantUnseen(name)
	wantSilence(t, "the one after it", s.tells("a", "prompt"))
	s.wantUnseen()
}

// TestAStartIsTold also where the file for the session's commands cannot be written.
func TestAStartIsTold(t *testing.T) {
	s := newScene(t)
	s.env["CLAUDE_ENV_FILE"] = filepath.Join(t.TempDir(), "gone", "env")
	s.say(s.converse(1, "", "Nova@nyc"), "Nova@nyc", "one")
	wantTold(t, "start", s.tells("a", "session-start"), "is duo agent Atlas@nyc", "c0001.2")
}

// TestMoreThanAnybodyReads goes to one session all the same, once.
func TestMoreThanAnybodyReads(t *testing.T) {
	s := newScene(t)
	folder := filepath.Join(s.box().Dir(), mailbox.InboxNew)
	const many = 15_000
	for n := range int64(many) {
		must(t, os.WriteFile(filepath.Join(folder, mailbox.ItemOf(id(1), 2+n, noon.UnixMilli()+n).Name), nil, 0o600))
	}
	wantTold(t, "one", s.tells("a", "session-start"), fmt.Sprintf("%d items wait", many))
	wantTold(t, "the other", s.tells("b", "session-start"), fmt.Sprintf("%d items are with another session", many))
	s.say(s.converse(2, "", "Nova@nyc"), "Nova@nyc", "one more")
	wantTold(t, "a new one", s.tells("a", "prompt"), "1 new item", "c0002.2")
	wantSilence(t, "nothing new", s.tells("a", "prompt"))
}

package operator_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon"
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

type draft = envelope.Envelope

const human = "human"

// host is a host with the words of these tests.
type host struct {
	*daemontest.Host
	t *testing.T
}

func newHost(t *testing.T, agents ...string) host {
	t.Helper()
	return host{daemontest.New(t, agents...), t}
}

// stand gives an agent a standing.
func (h host) stand(agent, word, reason string) api.Agent {
	h.t.Helper()
	a, err := h.As("").SetStanding(context.Background(), agent, api.Standing{Standing: word, Reason: reason})
	if err != nil {
		h.t.Fatalf("%s is to be %s: %v", agent, word, err)
	}
	return a
}

// say posts a draft, which is a message where it is of no type.
func (h host) say(agent string, d draft) error {
	if d.Type == "" {
		d.Type = envelope.Message
	}
	_, err := h.As(agent).Post(context.Background(), &d)
	return err
}

func (h host) create(agent string, others ...string) string {
	h.t.Helper()
	return h.Post(agent, &draft{Type: envelope.Create, Topic: "talk", To: others}).Conversation.ID
}

// wantCode checks what refuses something; for an empty code nothing is to.
func wantCode(t *testing.T, what string, err error, want api.Code) {
	t.Helper()
	var refusal *api.Error
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: got %v, want it taken", what, err)
	case want != "" && (!errors.As(err, &refusal) || refusal.Code != want):
		t.Errorf("%s: got %v, want code %s", what, err, want)
	}
}

// lines lists a log as "2 message of Atlas"; what is by right of the operator has an "!".
func (h host) lines(id string) []string {
	var list []string
	for _, e := range h.Log(id) {
		name := string(e.Type)
		switch {
		case e.Event == envelope.EventStanding:
			name = e.Status
		case e.Event != "":
			name = e.Event
		}
		line := fmt.Sprintf("%d %s of %s", e.Seq, name, e.From.Name)
		if e.Operator {
			line += "!"
		}
		list = append(list, line)
	}
	return list
}

func (h host) wantLines(what, id string, want ...string) {
	h.t.Helper()
	if got := h.lines(id); !slices.Equal(got, want) {
		h.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestTheHumanComesIn(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage")
	id := h.create("Atlas", "Nova")
	h.Post(human, &draft{Conversation: id, Content: "This is a person.", Auto: true, Hops: 7})
	h.Post(human, &draft{Conversation: id, Content: "Still here."})
	h.wantLines("it comes in with its first word", id, "1 create of Atlas", "2 join of human!", "3 message of human", "4 message of human")
	if e := h.Log(id)[2]; e.Auto || e.Hops != 0 || e.Operator {
		t.Errorf("what a person says: got %s, want nothing automatic, and no right that it does not need", e.Append(nil))
	}
	h.Post(human, &draft{Type: envelope.Leave, Conversation: id})
	h.Post(human, &draft{Type: envelope.Join, Conversation: id})
	h.wantLines("it leaves and joins", id, append(h.lines(id)[:4], "5 leave of human", "6 join of human!")...)
	c, err := h.As("Nova").Find(context.Background(), id)
	if want := "human@" + h.Home().Host.Name; err != nil || !slices.Contains(c.Conversation.Participants, want) {
		t.Errorf("for the others: got %s, %v, want %s among the participants", daemontest.JSON(c), err, want)
	}

	h.Post("Atlas", &draft{Type: envelope.Close, Conversation: id})
	wantCode(t, "in a closed one", h.say(human, draft{Conversation: id, Content: "x"}), api.ConversationClosed)
	turns := h.Post("Atlas", &draft{Type: envelope.Create, Topic: "short", To: []string{"Nova"}, TurnLimit: 1, Content: "one"}).Conversation.ID
	wantCode(t, "behind a turn limit", h.say(human, draft{Conversation: turns, Content: "x"}), api.TurnLimitReached)
	h.wantLines("what it cannot say does not bring it in", turns, "1 create of Atlas", "2 message of Atlas")
	wantCode(t, "an agent that comes in", h.say("Sage", draft{Conversation: turns, Type: envelope.Join}), api.NotAllowed)
	wantCode(t, "an agent that says it may", h.say("Sage", draft{Conversation: turns, Type: envelope.Join, Operator: true}), api.NotAllowed)
	wantCode(t, "and closes", h.say("Nova", draft{Conversation: turns, Type: envelope.Close, Operator: true}), api.NotAllowed)
	h.Post("Nova", &draft{Conversation: h.create("Nova", "Sage"), Content: "x", Operator: true, Until: 7})
}

// TestTheirConversationGoesOn: two who write to each other do so in the conversation in
// which the human has spoken, and a block of one by the other holds there.
func TestTheirConversationGoesOn(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.Post("Atlas", &draft{To: []string{"Nova"}, Content: "1"}).Conversation.ID
	h.Post(human, &draft{Conversation: id, Content: "2"})
	if got := h.Post("Nova", &draft{To: []string{"Atlas"}, Content: "3"}).Conversation.ID; got != id {
		t.Errorf("after the human has come: got another conversation, %s, want %s", got, id)
	}
	if got := h.Post(human, &draft{To: []string{"Atlas"}, Content: "4"}).Conversation.ID; got == id {
		t.Error("the human writes to one of them: got their conversation, want its own")
	}
	if _, err := h.As("Atlas").SetContact(context.Background(), "Nova", "block"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "who is blocked by the other", h.say("Nova", draft{Conversation: id, Content: "5"}), api.NotAccepted)
}

// TestCallsEndWithoutTheHuman: a call is over when those who called each other have left.
func TestCallsEndWithoutTheHuman(t *testing.T) {
	ctx := context.Background()
	h := newHost(t, "Atlas", "Nova")
	called, err := h.As("Atlas").Call(ctx, &draft{To: []string{"Nova"}, Topic: "talk", Mode: "live"})
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := h.As("Nova").Answer(ctx, &draft{Type: envelope.Accept, Request: called.Request.ID})
	if err != nil {
		t.Fatal(err)
	}
	id := accepted.Conversation.ID
	h.Post(human, &draft{Conversation: id, Content: "Go on."})
	if p, err := h.As(human).Presence(ctx); err != nil || p.Status == "in-call" {
		t.Errorf("the human: got %+v, %v, want it not in-call", p, err)
	}
	h.Post("Nova", &draft{Type: envelope.Leave, Conversation: id})
	daemontest.Eventually(t, func() (bool, string) {
		list := h.lines(id)
		last := h.Log(id)[len(list)-1]
		return last.Event == envelope.EventClose && last.From.Name == "Atlas" && !last.Operator, fmt.Sprintf("%q, want it closed for Atlas", list)
	})
}

func TestTheHumanCloses(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "Nova")
	h.Post(human, &draft{Type: envelope.Close, Conversation: id, Reason: "Enough."})
	h.wantLines("closed", id, "1 create of Atlas", "2 close of human!")
	wantCode(t, "again", h.say(human, draft{Type: envelope.Close, Conversation: id}), api.ConversationClosed)
	err := h.say("Atlas", draft{Conversation: id, Content: "x"})
	wantCode(t, "a message", err, api.ConversationClosed)
	if !strings.Contains(fmt.Sprint(err), "Enough.") {
		t.Errorf("a message: got %v, want the reason in it", err)
	}
}

// TestTheNameIsTaken: nobody registers as the human, and no token speaks for it.
func TestTheNameIsTaken(t *testing.T) {
	ctx := context.Background()
	h := newHost(t)
	for range 2 { // before it is there, and after
		for _, name := range []string{"human", "Human", "HUMAN"} {
			_, err := h.As("").Register(ctx, api.Register{Name: name})
			wantCode(t, "register "+name, err, api.NotAllowed)
		}
		me, err := h.As("Human").Me(ctx)
		if err != nil || !me.Human || me.Name != human {
			t.Errorf("the user of the home: got %s, %v, want the human", daemontest.JSON(me), err)
		}
	}
	_, err := h.As("").NewToken(ctx, human, "")
	wantCode(t, "a token for it", err, api.NotAllowed)
	if _, err := os.Stat(filepath.Join(h.Box(human).Dir(), "token")); err == nil {
		t.Error("its own token: got one, want none")
	}
	if _, err := h.As("").Unregister(ctx, human); err != nil {
		t.Fatal(err)
	}
	if me, err := h.As(human).Me(ctx); err != nil || me.Unregistered {
		t.Errorf("after it was unregistered: got %s, %v, want it back", daemontest.JSON(me), err)
	}
}

// TestAFolderOfItsName: a drop of before the human was there is a person's.
func TestAFolderOfItsName(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "Nova")
	h.Stop()
	dir := filepath.Join(h.Home().AgentDir(human), mailbox.OutboxNew)
	must(t, os.MkdirAll(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "hi.json"), []byte(`{"conversation":"`+id+`","content":"A person was here.","operator":true,"auto":true}`), 0o600))
	h.Start()
	daemontest.Eventually(t, func() (bool, string) {
		list := h.lines(id)
		return slices.Equal(list, []string{"1 create of Atlas", "2 join of human!", "3 message of human"}), fmt.Sprintf("%q", list)
	})
}

// TestAnAgentHadTheName: an agent of before keeps its name and is no person; the person
// takes another one.
func TestAnAgentHadTheName(t *testing.T) {
	ctx := context.Background()
	h := newHost(t, "Atlas", "Nova")
	h.Stop()
	dir := h.Home().AgentDir(human)
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "agent.json"), []byte(`{"id":"1","name":"human"}`), 0o600))
	h.Start()
	id := h.create("Atlas", "Nova")
	wantCode(t, "it is no person", h.say(human, draft{Conversation: id, Content: "x"}), api.NotParticipant)
	_, err := h.As("").SetStanding(ctx, "Nova", api.Standing{Standing: "muted"})
	wantCode(t, "there is no name for the person", err, api.NotAllowed)
	if _, err := h.As("").Register(ctx, api.Register{Name: human}); err != nil {
		t.Errorf("it registers again: got %v, want it taken", err)
	}
	h.Stop()
	must(t, os.WriteFile(h.Home().ConfigPath(), []byte("http.listen = 'off'\noperator.name = 'Ada'"), 0o600))
	h.Start()
	h.stand(human, "muted", "")
	h.Post("ada", &draft{Conversation: id, Content: "I am the person."})
	h.wantLines("by another name", id, "1 create of Atlas", "2 join of Ada!", "3 message of Ada")
	wantCode(t, "the agent", h.say(human, draft{To: []string{"Nova"}, Content: "x"}), api.Muted)
}

// TestANoteOfASilentOne: what it has said of itself is not shown.
func TestANoteOfASilentOne(t *testing.T) {
	ctx := context.Background()
	h := newHost(t, "Nova")
	if _, err := h.As("Nova").SetPresence(ctx, "busy", "psst"); err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]string{"muted": "", "none": "psst"} {
		h.stand("Nova", word, "")
		if list, err := h.As("").Agents(ctx, api.AgentQuery{Text: "Nova"}); err != nil || len(list.Agents) != 1 || list.Agents[0].Note != want || list.Agents[0].Status != "busy" {
			t.Errorf("%s: got %s, %v, want the note %q", word, daemontest.JSON(list), err, want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestWhatAStandingRefuses is the table of all that an agent says against its standing.
func TestWhatAStandingRefuses(t *testing.T) {
	ctx := context.Background()
	text := "psst"
	for _, test := range []struct {
		name           string
		do             func(h host, id, other string) error
		muted, blocked api.Code
	}{
		{"message", func(h host, id, _ string) error { return h.say("Nova", draft{Conversation: id, Content: text}) }, api.Muted, api.Blocked},
		{"message to an agent", func(h host, _, _ string) error { return h.say("Nova", draft{To: []string{"Atlas"}, Content: text}) }, api.Muted, api.Blocked},
		{"create", func(h host, _, _ string) error { return h.say("Nova", draft{Type: envelope.Create, Topic: text}) }, api.Muted, api.Blocked},
		{"invite", func(h host, id, _ string) error {
			return h.say("Nova", draft{Type: envelope.Invite, Conversation: id, To: []string{"Rune"}})
		}, api.Muted, api.Blocked},
		{"close", func(h host, _, other string) error {
			return h.say("Nova", draft{Type: envelope.Close, Conversation: other})
		}, api.Muted, api.Blocked},
		{"typing", func(h host, id, _ string) error { return h.As("Nova").Typing(ctx, id, false) }, api.Muted, api.Blocked},
		{"call", func(h host, _, _ string) error {
			_, err := h.As("Nova").Call(ctx, &draft{To: []string{"Atlas"}})
			return err
		}, api.Muted, api.Blocked},
		{"match", func(h host, _, _ string) error {
			_, err := h.As("Nova").Match(ctx, api.Match{Text: "Atlas"})
			return err
		}, api.Muted, api.Blocked},
		{"join", func(h host, _, _ string) error {
			open := h.Post("Sage", &draft{Type: envelope.Create, Topic: "open", Open: true}).Conversation.ID
			return h.say("Nova", draft{Type: envelope.Join, Conversation: open})
		}, "", api.Blocked},
		{"leave", func(h host, id, _ string) error { return h.say("Nova", draft{Type: envelope.Leave, Conversation: id}) }, "", ""},
		{"leave with a word", func(h host, id, _ string) error {
			return h.say("Nova", draft{Type: envelope.Leave, Conversation: id, Content: text})
		}, api.Muted, api.Blocked},
		{"leave with a reason", func(h host, id, _ string) error {
			return h.say("Nova", draft{Type: envelope.Leave, Conversation: id, Reason: text})
		}, api.Muted, api.Blocked},
		{"leave with a field", func(h host, id, _ string) error {
			return h.say("Nova", draft{Type: envelope.Leave, Conversation: id, Unknown: []envelope.Field{{Name: text, Value: []byte("1")}}})
		}, api.Muted, api.Blocked},
		{"leave with a topic", func(h host, id, _ string) error {
			return h.say("Nova", draft{Type: envelope.Leave, Conversation: id, Topic: text})
		}, api.Muted, api.Blocked},
		{"leave with recipients", func(h host, id, _ string) error {
			return h.say("Nova", draft{Type: envelope.Leave, Conversation: id, To: []string{text}})
		}, api.Muted, api.Blocked},
		{"busy", func(h host, _, _ string) error {
			_, err := h.As("Nova").SetPresence(ctx, "busy", "")
			return err
		}, "", ""},
		{"busy with a note", func(h host, _, _ string) error {
			_, err := h.As("Nova").SetPresence(ctx, "busy", text)
			return err
		}, api.Muted, api.Blocked},
		{"read", func(h host, _, _ string) error {
			_, err := h.As("Nova").Inbox(ctx, 5)
			return err
		}, "", ""},
		{"be written to", func(h host, _, _ string) error { return h.say("Atlas", draft{To: []string{"Nova"}, Content: "hi"}) }, "", api.Blocked},
		{"be called", func(h host, _, _ string) error {
			_, err := h.As("Atlas").Call(ctx, &draft{To: []string{"Nova"}})
			return err
		}, "", api.Blocked},
		{"be invited", func(h host, _, _ string) error {
			id := h.create("Atlas", "Sage")
			return h.say("Atlas", draft{Type: envelope.Invite, Conversation: id, To: []string{"Nova"}})
		}, "", api.Blocked},
		{"hear where it is", func(h host, id, _ string) error { return h.say("Atlas", draft{Conversation: id, Content: "hi"}) }, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "Atlas", "Nova", "Sage", "Rune")
			id, other := h.create("Atlas", "Nova", "Sage"), h.create("Nova", "Sage")
			h.stand("Nova", "blocked", "why")
			wantCode(t, "blocked", test.do(h, id, other), test.blocked)
			h.stand("Nova", "muted", "why")
			err := test.do(h, id, other)
			if test.name == "leave" && test.blocked == "" {
				test.muted = api.NotParticipant // it has left
			}
			wantCode(t, "muted", err, test.muted)
			if err != nil && test.muted == api.Muted && !strings.Contains(err.Error(), `by human@`+h.Home().Host.Name+` ("why")`) {
				t.Errorf("muted: got %v, want it told by whom and why", err)
			}
			h.stand("Nova", "none", "")
			if test.muted == api.Muted { // nothing else stands in the way
				wantCode(t, "none", test.do(h, id, other), "")
			}
		})
	}
}

// TestAnswersOfASilentOne: who is muted answers calls without a word, who is blocked only
// says no.
func TestAnswersOfASilentOne(t *testing.T) {
	ctx := context.Background()
	h := newHost(t, "Atlas", "Nova")
	call := func() string {
		t.Helper()
		called, err := h.As("Atlas").Call(ctx, &draft{To: []string{"Nova"}, Topic: "talk"})
		if err != nil {
			t.Fatal(err)
		}
		return called.Request.ID
	}
	answer := func(d draft) error {
		_, err := h.As("Nova").Answer(ctx, &d)
		return err
	}
	h.stand("Nova", "muted", "")
	id := call()
	wantCode(t, "muted, rejects with a reason", answer(draft{Type: envelope.Reject, Request: id, Reason: "psst"}), api.Muted)
	wantCode(t, "muted, rejects", answer(draft{Type: envelope.Reject, Request: id}), "")
	id = call()
	wantCode(t, "muted, accepts with a word", answer(draft{Type: envelope.Accept, Request: id, Content: "psst"}), api.Muted)
	wantCode(t, "muted, accepts", answer(draft{Type: envelope.Accept, Request: id}), "")
	h.stand("Nova", "none", "")
	r, err := h.As("Nova").Request(ctx, id)
	must(t, err)
	h.Post("Nova", &draft{Type: envelope.Leave, Conversation: r.Conversation})
	id = call()
	h.stand("Nova", "blocked", "")
	wantCode(t, "blocked, accepts", answer(draft{Type: envelope.Accept, Request: id}), api.Blocked)
	wantCode(t, "blocked, rejects", answer(draft{Type: envelope.Reject, Request: id}), "")
}

// TestFilesOfASilentOne: a drop fails with the reason, and a line of the shell is answered.
func TestFilesOfASilentOne(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "Nova")
	h.stand("Nova", "muted", "it loops")
	h.Drop("Nova", "hi.json", `{"to":"Atlas","content":"psst"}`)
	failed := filepath.Join(h.Box("Nova").Dir(), mailbox.Failed, "hi.json")
	daemontest.Eventually(t, func() (bool, string) {
		data, err := os.ReadFile(failed)
		return strings.Contains(string(data), "is muted here by human@") && strings.Contains(string(data), "it loops"), fmt.Sprintf("%s, %v", data, err)
	})
	daemontest.AppendTo(t, h.Home().LogPath(id), `{"from":"Nova","content":"psst"}`+"\n")
	daemontest.Eventually(t, func() (bool, string) {
		list := h.Log(id)
		last := list[len(list)-1]
		return last.Event == envelope.EventUndeliverable && strings.Contains(last.Why, "it loops") && !strings.Contains(last.Why, "psst"), string(last.Append(nil))
	})
	h.wantLines("the log", id, "1 create of Atlas", "2 muted of human!", "3 undeliverable of Nova")
}

// TestStandingsAreWrittenDown: each change stands in the conversations of the host that
// the agent is in and that are not closed, once, and the agent is shown it.
func TestStandingsAreWrittenDown(t *testing.T) {
	ctx := context.Background()
	h := newHost(t, "Atlas", "Nova", "Sage")
	in, closed, left, never := h.create("Atlas", "Nova"), h.create("Atlas", "Nova"), h.create("Atlas", "Nova"), h.create("Atlas", "Sage")
	h.Post("Atlas", &draft{Type: envelope.Close, Conversation: closed})
	h.Post("Nova", &draft{Type: envelope.Leave, Conversation: left})
	until := time.Now().Add(time.Hour).UnixMilli()
	for range 2 { // the second time nothing is new
		a, err := h.As("").SetStanding(ctx, "nova", api.Standing{Standing: "muted", Reason: "it loops", Until: until})
		if err != nil || a.Standing != "muted" || a.Terms == nil || a.Terms.Until != until || a.Terms.Reason != "it loops" {
			t.Fatalf("got %s, %v, want the terms", daemontest.JSON(a), err)
		}
	}
	h.wantLines("where it is", in, "1 create of Atlas", "2 muted of human!")
	e := h.Log(in)[1]
	if e.Reason != "it loops" || e.Until != until || len(e.Participants) != 1 || !e.Participants[0].Same(h.Home().Address("Nova")) {
		t.Errorf("the line: got %s, want who, why, and until when", e.Append(nil))
	}
	h.wantLines("closed", closed, "1 create of Atlas", "2 close of Atlas")
	h.wantLines("left", left, "1 create of Atlas", "2 leave of Nova")
	h.wantLines("never in", never, "1 create of Atlas")
	inbox, err := h.As("Nova").Inbox(ctx, 10)
	shown := slices.ContainsFunc(inbox.Items, func(i api.InboxItem) bool { return i.Event == "standing" && strings.Contains(i.Preview, "it loops") })
	if err != nil || !shown {
		t.Errorf("the agent: got %s, %v, want it told", daemontest.JSON(inbox), err)
	}
	if inbox, err := h.As("Atlas").Inbox(ctx, 10); err != nil || slices.ContainsFunc(inbox.Items, func(i api.InboxItem) bool { return i.Event == "standing" }) {
		t.Errorf("another agent: got %s, %v, want it left alone", daemontest.JSON(inbox), err)
	}
	list, err := h.As("").Standings(ctx)
	if err != nil || len(list.Agents) != 1 || list.Agents[0].Name != "Nova" {
		t.Errorf("standings: got %s, %v, want Nova's", daemontest.JSON(list), err)
	}
	h.stand("Nova", "none", "mended")
	h.wantLines("and back", in, "1 create of Atlas", "2 muted of human!", "3 none of human!")
}

// TestStandingsReachWhatHasJustBegun: also the conversation into which an agent has just been
// brought is told of its standing.
func TestStandingsReachWhatHasJustBegun(t *testing.T) {
	var others []string
	for i := range 40 { // whom delivery comes to first
		others = append(others, fmt.Sprintf("Agent%d", i))
	}
	others = append(others, "Nova")
	h := newHost(t, append(others, "Atlas")...)
	for range 5 {
		for _, word := range []string{"muted", "none"} {
			id := h.create("Atlas", others...)
			h.stand("Nova", word, "")
			h.wantLines(word, id, "1 create of Atlas", "2 "+word+" of human!")
		}
	}
}

// TestStandingsLast: a standing is there after a restart, and whatever the agent does.
func TestStandingsLast(t *testing.T) {
	ctx := context.Background()
	h := newHost(t, "Atlas", "Nova")
	h.stand("Nova", "blocked", "why")
	h.Stop()
	h.Start()
	wantCode(t, "after a restart", h.say("Nova", draft{To: []string{"Atlas"}, Content: "x"}), api.Blocked)
	if _, err := h.As("").Unregister(ctx, "Nova"); err != nil {
		t.Fatal(err)
	}
	h.Register("NOVA")
	wantCode(t, "registered again", h.say("nova", draft{To: []string{"Atlas"}, Content: "x"}), api.Blocked)
	if _, err := h.As("").Unregister(ctx, "Nova"); err != nil {
		t.Fatal(err)
	}
	if a := h.stand("Nova", "none", ""); a.Standing != "none" || !a.Unregistered {
		t.Errorf("of one that has unregistered: got %s, want it given", daemontest.JSON(a))
	}
	for name, test := range map[string]struct {
		agent string
		ask   api.Standing
		want  api.Code
	}{
		"nobody":         {"Nobody", api.Standing{Standing: "muted"}, api.AgentNotFound},
		"no name":        {"../x", api.Standing{Standing: "muted"}, api.BadReference},
		"no standing":    {"Atlas", api.Standing{}, api.BadRequest},
		"another one":    {"Atlas", api.Standing{Standing: "banned"}, api.BadRequest},
		"in the past":    {"Atlas", api.Standing{Standing: "muted", Until: 1}, api.BadRequest},
		"a long reason":  {"Atlas", api.Standing{Standing: "muted", Reason: strings.Repeat("r", 501)}, api.BadRequest},
		"two lines":      {"Atlas", api.Standing{Standing: "muted", Reason: "a\nb"}, api.BadRequest},
		"the human":      {human, api.Standing{Standing: "muted"}, api.BadRequest},
		"another host's": {"Bob@lon", api.Standing{Standing: "muted"}, api.HostNotFound},
	} {
		_, err := h.As("").SetStanding(ctx, test.agent, test.ask)
		wantCode(t, name, err, test.want)
	}
}

// TestABrokenFile: the daemon does not start and let in whoever is blocked.
func TestABrokenFile(t *testing.T) {
	h := newHost(t, "Nova")
	h.stand("Nova", "blocked", "")
	h.Stop()
	path := h.Home().StandingsPath()
	good, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, good[:len(good)-3], 0o600))
	err = daemon.Run(t.Context(), daemon.Options{Dir: h.Dir})
	wantCode(t, "start", err, api.BadConfig)
	must(t, os.WriteFile(path, good, 0o600))
	h.Start()
	wantCode(t, "repaired", h.say("Nova", draft{Type: envelope.Create, Topic: "x"}), api.Blocked)
}

// TestACrashInBetween: what was not written down when the daemon ended is at the next
// start, once.
func TestACrashInBetween(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	one, two := h.create("Atlas", "Nova"), h.create("Atlas", "Nova")
	h.stand("Nova", "muted", "why")
	h.Stop()
	path := h.Home().StandingsPath()
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, []byte(strings.Replace(string(data), `"noted": true`, `"noted": false`, 1)), 0o600))
	cut := h.Home().LogPath(two) // as if the crash had come before it was written there
	log, err := os.ReadFile(cut)
	must(t, err)
	must(t, os.WriteFile(cut, log[:strings.Index(string(log), "\n")+1], 0o600))
	h.Start()
	daemontest.Eventually(t, func() (bool, string) {
		data, err := os.ReadFile(path)
		return strings.Contains(string(data), `"noted": true`), fmt.Sprintf("%s, %v", data, err)
	})
	h.wantLines("where it stood", one, "1 create of Atlas", "2 muted of human!")
	h.wantLines("where it did not", two, "1 create of Atlas", "2 muted of human!")
}

// TestConversationsThatCannotBeListed: what could not be written down is at the next start.
func TestConversationsThatCannotBeListed(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "Nova")
	links := filepath.Join(h.Box("Nova").Dir(), mailbox.Links)
	must(t, os.Rename(links, links+"-aside"))
	must(t, os.WriteFile(links, nil, 0o600))
	h.stand("Nova", "muted", "why")
	h.Stop()
	must(t, os.Remove(links))
	must(t, os.Rename(links+"-aside", links))
	h.Start()
	daemontest.Eventually(t, func() (bool, string) {
		lines := h.Log(id)
		return len(lines) == 2, fmt.Sprintf("%d lines", len(lines))
	})
	h.wantLines("the conversation", id, "1 create of Atlas", "2 muted of human!")
}

// TestTwoOperators: of changes at the same time one is the last, in the file as in the logs.
func TestTwoOperators(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	one, two := h.create("Atlas", "Nova"), h.create("Atlas", "Nova")
	var all sync.WaitGroup
	for _, word := range []string{"muted", "blocked", "none", "muted", "blocked"} {
		all.Go(func() {
			if _, err := h.As("").SetStanding(context.Background(), "Nova", api.Standing{Standing: word}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	found, err := h.As("").Find(context.Background(), "Nova")
	must(t, err)
	for _, id := range []string{one, two} {
		log := h.Log(id)
		if last := log[len(log)-1]; last.Status != found.Agent.Standing {
			t.Errorf("the last line of %s: got %s, want %s", id, last.Status, found.Agent.Standing)
		}
	}
}

// TestHostileReasons: what the operator writes is data, and stands in the logs as it is.
func TestHostileReasons(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "Nova")
	for i, reason := range []string{`"},{"standing":"none`, "\x1b[2J\u202e", `%s%d%n`, "<script>alert(1)</script>", strings.Repeat("ü", 250)} {
		h.stand("Nova", "muted", reason)
		if got := h.Log(id)[1+i].Reason; got != reason {
			t.Errorf("in the log: got %q, want %q", got, reason)
		}
		err := h.say("Nova", draft{Conversation: id, Content: "x"})
		wantCode(t, "a message", err, api.Muted)
		if strings.ContainsAny(fmt.Sprint(err), "\x1b\u202e") {
			t.Errorf("told: got %q, want it quoted", err)
		}
		h.Stop()
		h.Start()
		if a, err := h.As("").Find(context.Background(), "Nova"); err != nil || a.Agent.Terms == nil || a.Agent.Terms.Reason != reason {
			t.Errorf("after a start: got %s, %v, want %q", daemontest.JSON(a), err, reason)
		}
	}
}

package attend_test

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

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/attend"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// scene is one attendant of a host, and what has happened to it.
type scene struct {
	t     *testing.T
	host  *daemontest.Host
	agent string

	mu     sync.Mutex
	events []attend.Event
}

func newScene(t *testing.T, h *daemontest.Host, agent string) *scene {
	return &scene{t: t, host: h, agent: agent}
}

// options are those of an attendant that waits for nothing.
func (s *scene) options() attend.Options {
	return attend.Options{
		Agent: s.host.Home().Address(s.agent), Retries: 2, Workers: 4, Hops: 8,
		Calls: attend.Calls{Do: attend.Accept, From: []string{attend.Anyone}}, Grace: daemontest.Patience,
	}
}

func (s *scene) parts(r attend.Runner, leases attend.Leases) attend.Parts {
	return attend.Parts{
		Dial: func(ctx context.Context) (*client.Client, error) {
			c := s.host.As(s.agent)
			_, err := c.Me(ctx)
			return c, err
		},
		Leases: leases, Runner: r, Box: s.host.Box(s.agent), Tell: s.tell, Now: time.Now, Pause: pause,
	}
}

func (s *scene) tell(e attend.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

// has reports whether something has happened, as often as times at least.
func (s *scene) has(what string, times int) (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := 0
	for _, e := range s.events {
		if e.What == what {
			found++
		}
	}
	return found >= times, fmt.Sprintf("%d times %q among %s", found, what, daemontest.JSON(s.events))
}

func (s *scene) await(what string, times int) {
	s.t.Helper()
	daemontest.Eventually(s.t, func() (bool, string) { return s.has(what, times) })
}

// run runs an attendant until the test ends, or stop is called.
func (s *scene) run(o attend.Options, p attend.Parts) (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- attend.New(o, p).Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("attendant of %s: got %v, want no error", s.agent, err)
		}
	})
	s.t.Cleanup(stop)
	s.await(attend.Listening, 1)
	return stop
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// table are the leases of all attendants of an agent in this process.
type table struct {
	mu    sync.Mutex
	taken map[string]*lease
}

type lease struct{ table *table }

func newTable() *table { return &table{taken: make(map[string]*lease)} }

func (t *table) holder() *lease { return &lease{t} }

func (l *lease) Take(items ...string) (mine []string, err error) {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	for _, item := range items {
		if l.table.taken[item] == nil {
			l.table.taken[item] = l
		}
		if l.table.taken[item] == l {
			mine = append(mine, item)
		}
	}
	return mine, nil
}

func (l *lease) Return(items ...string) error {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	for _, item := range items {
		if l.table.taken[item] == l {
			delete(l.table.taken, item)
		}
	}
	return nil
}

// sh runs a line of sh, as duo attend --exec does.
func sh(line string) *attend.Command {
	return &attend.Command{Args: []string{"sh", "-c", line}, Env: os.Environ(), Timeout: time.Minute, Limit: envelope.MaxContent}
}

// answers are the messages of an agent in a conversation.
func answers(h *daemontest.Host, conversation, agent string) (list []*envelope.Envelope) {
	return slices.DeleteFunc(h.Log(conversation), func(e *envelope.Envelope) bool {
		return e.Type != envelope.Message || e.From.Name != agent
	})
}

func texts(list []*envelope.Envelope) (out []string) {
	for _, e := range list {
		out = append(out, e.Content)
	}
	return out
}

func message(to, text string) *envelope.Envelope {
	return &envelope.Envelope{To: []string{to}, Content: text}
}

func TestReply(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	before := h.Post("Atlas", message("Nova", "before"))
	id := before.Message.Envelope.Conversation
	s := newScene(t, h, "Nova")
	s.run(s.options(), s.parts(sh(`cat; echo "$DUO_AS $DUO_FROM $DUO_HOPS $DUO_ATTEMPT $DUO_CONVERSATION"`), newTable().holder()))
	s.await(attend.Answered, 1)
	host := h.Home().Host.Name
	ref := before.Message.Ref
	want := fmt.Sprintf("From: Atlas@%s\nMessage: %s\n\n| before\nNova Atlas@%s 0 1 %s", host, ref, host, id)
	got := answers(h, id, "Nova")[0]
	if got.Content != want || !got.Auto || got.Hops != 1 || got.ReplyTo.Seq != 2 || *got.After != 2 {
		t.Errorf("reply: got %s, want %q, automatic, with one hop, to line 2", got.Append(nil), want)
	}
	h.Post("Atlas", &envelope.Envelope{Conversation: id, Content: "two\n| three", Auto: true, Hops: 3})
	s.await(attend.Answered, 2)
	got = answers(h, id, "Nova")[1]
	if !strings.Contains(got.Content, "\n| two\n| | three\n") || got.Hops != 4 {
		t.Errorf("reply: got %s, want the body in a frame, and 4 hops", got.Append(nil))
	}
	daemontest.Eventually(t, func() (bool, string) {
		inbox, err := h.As("Nova").Inbox(context.Background(), 0)
		return err == nil && len(inbox.Items) == 0, fmt.Sprintf("inbox: %s, %v, want nothing", daemontest.JSON(inbox), err)
	})
}

// TestHops: programs that talk to each other are stopped.
func TestHops(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	nova, atlas := newScene(t, h, "Nova"), newScene(t, h, "Atlas")
	nova.run(nova.options(), nova.parts(sh("echo and you, $DUO_HOPS"), newTable().holder()))
	atlas.run(atlas.options(), atlas.parts(sh("echo and you, $DUO_HOPS"), newTable().holder()))
	id := h.Post("Atlas", message("Nova", "and you")).Message.Envelope.Conversation
	daemontest.Eventually(t, func() (bool, string) {
		one, a := nova.has(attend.Passed, 1)
		other, b := atlas.has(attend.Passed, 1)
		return one || other, a + b
	})
	if n := len(answers(h, id, "Nova")) + len(answers(h, id, "Atlas")); n != 8 {
		t.Errorf("messages: got %d, want the first and 7 replies", n)
	}
}

// TestTwoAttendants: each message is answered once.
func TestTwoAttendants(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	s, leases := newScene(t, h, "Nova"), newTable()
	s.run(s.options(), s.parts(sh("sed -n 's/^| //p'"), leases.holder()))
	s.run(s.options(), s.parts(sh("sed -n 's/^| //p'"), leases.holder()))
	ids := make(map[string]string)
	for i := range 50 {
		text := fmt.Sprint("message ", i)
		ids[text] = h.Post("Atlas", &envelope.Envelope{To: []string{"Nova"}, Topic: text, Content: text}).Message.Envelope.Conversation
	}
	s.await(attend.Answered, 50)
	for text, id := range ids {
		if got := texts(answers(h, id, "Nova")); !slices.Equal(got, []string{text}) {
			t.Errorf("answers to %s: got %q, want the same once", text, got)
		}
	}
}

var errBroken = errors.New("broken")

// flaky fails so often before it answers.
type flaky struct {
	mu    sync.Mutex
	fails int
}

func (f *flaky) Run(context.Context, []byte, []string) (attend.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails--; f.fails >= 0 {
		return attend.Result{}, errBroken
	}
	return attend.Result{Text: "at last"}, nil
}

func TestRetries(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova", "Vega")
	s := newScene(t, h, "Nova")
	s.run(s.options(), s.parts(&flaky{fails: 2}, newTable().holder()))
	id := h.Post("Atlas", message("Nova", "hello")).Message.Envelope.Conversation
	s.await(attend.Answered, 1)
	if got := texts(answers(h, id, "Nova")); !slices.Equal(got, []string{"at last"}) {
		t.Errorf("answers: got %q", got)
	}

	// and one that fails for good, whose sender is attended, too
	vega, atlas := newScene(t, h, "Vega"), newScene(t, h, "Atlas")
	vega.run(vega.options(), vega.parts(&flaky{fails: 1e6}, newTable().holder()))
	atlas.run(atlas.options(), atlas.parts(sh("echo and you"), newTable().holder()))
	id = h.Post("Atlas", message("Vega", "hello")).Message.Envelope.Conversation
	vega.await(attend.Failed, 1)
	atlas.await(attend.Passed, 1)
	got := answers(h, id, "Vega")
	if len(got) != 1 || !strings.Contains(got[0].Content, "was not answered") || strings.Contains(got[0].Content, "broken") {
		t.Errorf("notices: got %q, want one, without the reason", texts(got))
	}
	if n := len(answers(h, id, "Atlas")); n != 1 {
		t.Errorf("messages of Atlas: got %d, want no answer to the notice", n)
	}
	var inbox api.Inbox
	daemontest.Eventually(t, func() (bool, string) {
		var err error
		inbox, err = h.As("Vega").Inbox(context.Background(), 0)
		failed := err == nil && len(inbox.Failed) == 1 && strings.Contains(inbox.Failed[0].Error, "the command failed 3 times: broken")
		return failed && len(inbox.Items) == 0, fmt.Sprintf("inbox: %s, %v, want one that was set aside", daemontest.JSON(inbox), err)
	})
	// who reads it can answer: with a text the file is a drop
	data, err := os.ReadFile(inbox.Failed[0].File)
	if err != nil {
		t.Fatal(err)
	}
	h.Drop("Vega", filepath.Base(inbox.Failed[0].File), strings.Replace(string(data), `"content":""`, `"content":"by hand"`, 1))
	daemontest.Eventually(t, func() (bool, string) {
		got := texts(answers(h, id, "Vega"))
		return len(got) > 1 && got[1] == "by hand", fmt.Sprintf("answers: %q, want one by hand", got)
	})
}

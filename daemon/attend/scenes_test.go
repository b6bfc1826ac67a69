package attend_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/attend"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// runner is a command in this process.
type runner func(ctx context.Context, input string, env []string) (attend.Result, error)

func (r runner) Run(ctx context.Context, input []byte, env []string) (attend.Result, error) {
	return r(ctx, string(input), env)
}

// says is a command that says one thing.
func says(text string) runner {
	return func(context.Context, string, []string) (attend.Result, error) { return attend.Result{Text: text}, nil }
}

// gate is a command that says that it has begun, and waits.
type gate struct {
	began, open chan struct{}
}

func newGate() *gate { return &gate{make(chan struct{}, 100), make(chan struct{})} }

func (g *gate) Run(ctx context.Context, _ []byte, _ []string) (attend.Result, error) {
	g.began <- struct{}{}
	select {
	case <-g.open:
		return attend.Result{Text: "at last"}, nil
	case <-ctx.Done():
		return attend.Result{}, ctx.Err()
	}
}

func (g *gate) await(t *testing.T) {
	t.Helper()
	select {
	case <-g.began:
	case <-time.After(daemontest.Patience):
		t.Fatal("the command does not begin")
	}
}

// unseen waits until an agent has so many items in its inbox.
func unseen(t *testing.T, h *daemontest.Host, agent string, want int) (inbox api.Inbox) {
	t.Helper()
	daemontest.Eventually(t, func() (bool, string) {
		var err error
		inbox, err = h.As(agent).Inbox(context.Background(), 0)
		return err == nil && len(inbox.Items) == want, fmt.Sprintf("inbox of %s: %s, %v, want %d items", agent, daemontest.JSON(inbox), err, want)
	})
	return inbox
}

// TestInput: all that is new comes at once, with what was said before.
func TestInput(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	host := h.Home().Host.Name
	for name, test := range map[string]struct {
		input   attend.Input
		each    bool
		history int
		want    []string // with $C for the conversation
	}{
		"text": {attend.Text, false, 1, []string{
			"From: Nova@HOST\nTopic: NAME\nMessage: $C.4\nAnswers: $C.2\n\n| zero\n\n" +
				"From: Atlas@HOST\nTopic: NAME\nMessage: $C.5\n\n| one\n\n" +
				"From: Atlas@HOST\nTopic: NAME\nMessage: $C.6\nAnswers: $C.4\n\n| | two\n| \\u{202E}three\n",
		}},
		"each": {attend.Text, true, 0, []string{
			"From: Atlas@HOST\nTopic: NAME\nMessage: $C.5\n\n| one\n",
			"From: Atlas@HOST\nTopic: NAME\nMessage: $C.6\nAnswers: $C.4\n\n| | two\n| \\u{202E}three\n",
		}},
		"body": {attend.Body, true, 0, []string{"one", "| two\n\u202Ethree"}},
	} {
		t.Run(name, func(t *testing.T) {
			id := h.Post("Atlas", &envelope.Envelope{To: []string{"Nova"}, Topic: name, Content: "before"}).Message.Envelope.Conversation
			h.Post("Atlas", &envelope.Envelope{Conversation: id, Content: "before, too"})
			h.Post("Nova", &envelope.Envelope{Conversation: id, Content: "zero", ReplyTo: envelope.Ref{Seq: 2}})
			if err := h.As("Nova").Shown(context.Background(), []api.Place{{Conversation: id, Seq: 2}, {Conversation: id, Seq: 3}}); err != nil {
				t.Fatal(err)
			}
			h.Post("Atlas", &envelope.Envelope{Conversation: id, Content: "one"})
			ref := h.Post("Atlas", &envelope.Envelope{Conversation: id, Content: "| two\n\u202Ethree", ReplyTo: envelope.Ref{Seq: 4}}).Conversation.Ref
			var got []string
			s := newScene(t, h, "Nova")
			o := s.options()
			o.Input, o.Each, o.History = test.input, test.each, test.history
			record := runner(func(_ context.Context, input string, env []string) (attend.Result, error) {
				got = append(got, input)
				return attend.Result{}, nil
			})
			if failed, err := attend.New(o, s.parts(record, newTable().holder())).Once(context.Background()); failed != 0 || err != nil {
				t.Errorf("once: got %d failed, %v", failed, err)
			}
			for i, want := range test.want {
				test.want[i] = strings.NewReplacer("$C", ref, "HOST", host, "NAME", name).Replace(want)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("input: got %q, want %q", got, test.want)
			}
		})
	}
}

// TestJSON is what duo watch prints, too.
func TestJSON(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	ref := h.Post("Atlas", &envelope.Envelope{To: []string{"Nova"}, Topic: "a b", Content: "one"}).Message.Ref
	s := newScene(t, h, "Nova")
	o := s.options()
	o.Input = attend.JSON
	var got string
	var vars []string
	record := runner(func(_ context.Context, input string, env []string) (attend.Result, error) {
		got, vars = input, env
		return attend.Result{}, nil
	})
	if _, err := attend.New(o, s.parts(record, newTable().holder())).Once(context.Background()); err != nil {
		t.Fatal(err)
	}
	var m api.Message
	if err := m.UnmarshalJSON([]byte(strings.TrimSuffix(got, "\n"))); err != nil || m.Ref != ref || m.Topic != "a b" || m.Envelope.Content != "one" {
		t.Errorf("input: got %q, %v", got, err)
	}
	host := h.Home().Host.Name
	for _, want := range []string{"DUO_AS=Nova", "DUO_FROM=Atlas@" + host, "DUO_REF=" + ref, "DUO_TOPIC=a b", "DUO_MESSAGES=1", "DUO_HOPS=0", "DUO_TURNS_LEFT=",
		"DUO_PARTICIPANTS=Atlas@" + host + " Nova@" + host, "DUO_CONVERSATION=" + m.Envelope.Conversation} {
		if !slices.Contains(vars, want) {
			t.Errorf("environment: got %q, want %q in it", vars, want)
		}
	}
}

// TestDaemonRestarts while a command runs: its reply is sent when the daemon is back, once.
func TestDaemonRestarts(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	s, g := newScene(t, h, "Nova"), newGate()
	s.run(s.options(), s.parts(g, newTable().holder()))
	id := h.Post("Atlas", message("Nova", "hello")).Message.Envelope.Conversation
	g.await(t)
	h.Stop()
	close(g.open)
	s.await(attend.Lost, 1)
	h.Start()
	s.await(attend.Answered, 1)
	s.await(attend.Listening, 2)
	h.Post("Atlas", message("Nova", "again"))
	s.await(attend.Answered, 2)
	if got := texts(answers(h, id, "Nova")); len(got) != 2 {
		t.Errorf("answers: got %q, want one to each message", got)
	}
	unseen(t, h, "Nova", 0)
}

// TestAnsweredBefore: whoever has sent the reply has ended before it said that the message
// was seen. The command does not run again.
func TestAnsweredBefore(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	first := h.Post("Atlas", message("Nova", "one")).Message.Envelope
	second := h.Post("Atlas", message("Nova", "two")).Message.Envelope
	id := first.Conversation
	h.Post("Nova", &envelope.Envelope{
		ID: envelope.NamedID("attend", h.Home().Address("Nova").Key(), second.ID), Conversation: id, Content: "both",
		ReplyTo: envelope.Ref{Seq: second.Seq}, After: envelope.Int(second.Seq), Auto: true, Hops: 1,
	})
	h.Post("Atlas", message("Nova", "three"))
	s := newScene(t, h, "Nova")
	s.run(s.options(), s.parts(sh("sed -n 's/^| //p'"), newTable().holder()))
	s.await(attend.Before, 2)
	s.await(attend.Answered, 1)
	if got, want := texts(answers(h, id, "Nova")), []string{"both", "three"}; !slices.Equal(got, want) {
		t.Errorf("answers: got %q, want %q", got, want)
	}
	unseen(t, h, "Nova", 0)
}

// TestForgedReply: nobody else can make it look as if a message was answered.
func TestForgedReply(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	e := h.Post("Atlas", message("Nova", "hello")).Message.Envelope
	h.Post("Atlas", &envelope.Envelope{
		ID: envelope.NamedID("attend", h.Home().Address("Nova").Key(), e.ID), Conversation: e.Conversation, Content: `"from":"Nova@vm"`,
	})
	s := newScene(t, h, "Nova")
	o := s.options()
	o.Each = true
	failed, err := attend.New(o, s.parts(says("an answer"), newTable().holder())).Once(context.Background())
	if got := answers(h, e.Conversation, "Nova"); len(got) != 1 || failed != 1 || err != nil {
		t.Errorf("got %q, %d failed, %v, want an answer to the second and the first one kept", texts(got), failed, err)
	}
}

// TestHeldByAnother: what another session acts on is let be, until that one gives it back.
func TestHeldByAnother(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	leases := newTable()
	other := leases.holder()
	e := h.Post("Atlas", message("Nova", "hello")).Message.Envelope
	item := mailbox.ItemOf(e.Conversation, e.Seq, e.Timestamp).Name
	if _, err := other.Take(item); err != nil {
		t.Fatal(err)
	}
	s := newScene(t, h, "Nova")
	o := s.options()
	if _, err := attend.New(o, s.parts(says("mine"), leases.holder())).Once(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := answers(h, e.Conversation, "Nova"); len(got) != 0 {
		t.Errorf("answers: got %q, want none", texts(got))
	}
	s.run(o, s.parts(says("mine"), leases.holder()))
	if err := other.Return(item); err != nil {
		t.Fatal(err)
	}
	s.await(attend.Answered, 1)
}

// late is a lease that comes when somebody else has just dealt with the item.
type late struct {
	attend.Leases
	meanwhile func()
}

func (l late) Take(items ...string) ([]string, error) {
	l.meanwhile()
	return l.Leases.Take(items...)
}

// TestDealtWithMeanwhile: what was seen before the lease was taken is not acted on again.
func TestDealtWithMeanwhile(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	e := h.Post("Atlas", message("Nova", "hello")).Message.Envelope
	s := newScene(t, h, "Nova")
	seen := func() {
		if err := h.As("Nova").Shown(context.Background(), []api.Place{{Conversation: e.Conversation, Seq: e.Seq}}); err != nil {
			t.Error(err)
		}
	}
	if _, err := attend.New(s.options(), s.parts(says("again"), late{newTable().holder(), seen})).Once(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := answers(h, e.Conversation, "Nova"); len(got) != 0 {
		t.Errorf("answers: got %q, want none", texts(got))
	}
}

// TestCannotBeAnswered: the command does not run where no reply can be taken. One that is
// refused when it is there is kept.
func TestCannotBeAnswered(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova", "Sage")
	closed := h.Post("Atlas", &envelope.Envelope{To: []string{"Nova"}, Topic: "closed", Content: "hello"}).Message.Envelope.Conversation
	h.Post("Atlas", &envelope.Envelope{Type: envelope.Close, Conversation: closed})
	short := h.Post("Atlas", &envelope.Envelope{To: []string{"Nova"}, Topic: "short", TurnLimit: 1, Content: "hello"}).Message.Envelope.Conversation
	group := h.Post("Atlas", &envelope.Envelope{To: []string{"Nova", "Sage"}, Topic: "group", Content: "hello"}).Message.Envelope.Conversation
	h.Post("Sage", &envelope.Envelope{Conversation: group, Content: "for Atlas", To: []string{"Atlas"}})
	s, g := newScene(t, h, "Nova"), newGate()
	s.run(s.options(), s.parts(g, newTable().holder()))
	s.await(attend.Passed, 2)
	g.await(t)
	if n := len(g.began); n != 0 {
		t.Errorf("the command runs %d times more, want it once, for the group", n)
	}
	open := h.Post("Atlas", &envelope.Envelope{To: []string{"Nova"}, Topic: "open", Content: "hello"}).Message.Envelope.Conversation
	g.await(t)
	h.Post("Atlas", &envelope.Envelope{Type: envelope.Close, Conversation: open})
	close(g.open)
	s.await(attend.Failed, 1)
	s.await(attend.Answered, 1)
	s.await(attend.Passed, 3)
	for _, id := range []string{closed, short, open} {
		if got := answers(h, id, "Nova"); len(got) != 0 {
			t.Errorf("answers in %s: got %q, want none", id, texts(got))
		}
	}
	reply := answers(h, group, "Nova")
	if len(reply) != 1 || len(reply[0].To) != 1 || !strings.HasPrefix(reply[0].To[0], "Atlas@") {
		t.Errorf("answers in the group: got %s, want one, directed to Atlas", daemontest.JSON(reply))
	}
	inbox := unseen(t, h, "Nova", 0)
	if len(inbox.Failed) != 1 || !strings.Contains(inbox.Failed[0].Error, "the reply is refused") {
		t.Fatalf("failed: got %+v, want the reply", inbox.Failed)
	}
	data, err := os.ReadFile(inbox.Failed[0].File)
	if err != nil || !strings.Contains(string(data), "at last") {
		t.Errorf("%s: got %s, %v, want the text of the reply", filepath.Base(inbox.Failed[0].File), data, err)
	}
}

// TestCalls are accepted by rule. What is said in one is answered, and the command ends it.
func TestCalls(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Sage", "Vega", "Nova")
	h.Post("Nova", message("Sage", "you are known"))
	for name, test := range map[string]struct {
		calls attend.Calls
		from  string
		want  string // the state of the call
	}{
		"anyone":       {attend.Calls{Do: attend.Accept, From: []string{attend.Anyone}}, "Atlas", api.CallAccepted},
		"by name":      {attend.Calls{Do: attend.Accept, From: []string{"vega", "Atlas"}}, "Atlas", api.CallAccepted},
		"another name": {attend.Calls{Do: attend.Accept, From: []string{"Vega"}}, "Atlas", api.CallRejected},
		"another host": {attend.Calls{Do: attend.Accept, From: []string{"Atlas@elsewhere"}}, "Atlas", api.CallRejected},
		"known":        {attend.Calls{Do: attend.Accept, From: []string{attend.Known}}, "Sage", api.CallAccepted},
		"not known":    {attend.Calls{Do: attend.Accept, From: []string{attend.Known}}, "Vega", api.CallRejected},
		"all rejected": {attend.Calls{Do: attend.Reject}, "Atlas", api.CallRejected},
		"let be":       {attend.Calls{Do: attend.Ignore}, "Vega", api.CallRinging},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: who is in a call is busy
			s := newScene(t, h, "Nova")
			o := s.options()
			o.Calls = test.calls
			stop := s.run(o, s.parts(sh("sed -n 's/^| /heard /p'; exit 10"), newTable().holder()))
			defer stop()
			ctx := context.Background()
			called, err := h.As(test.from).Call(ctx, &envelope.Envelope{Type: envelope.Call, To: []string{"Nova"}, Topic: name, Content: "hello"})
			if err != nil {
				t.Fatal(err)
			}
			if test.want == api.CallRinging { // until somebody says something
				defer h.As(test.from).Answer(ctx, &envelope.Envelope{Type: envelope.Cancel, Request: called.Request.ID}) //nolint:errcheck // it ends with the host, too
				h.Post("Sage", message("Nova", "hello"))
				s.await(attend.Answered, 1)
			}
			var r api.Request
			daemontest.Eventually(t, func() (bool, string) {
				r, err = h.As(test.from).Request(ctx, called.Request.ID)
				return err == nil && r.State == test.want, fmt.Sprintf("call: %s, %v, want it %s", daemontest.JSON(r), err, test.want)
			})
			if test.want != api.CallAccepted {
				return
			}
			s.await(attend.Left, 1)
			daemontest.Eventually(t, func() (bool, string) {
				found, err := h.As(test.from).Find(ctx, r.Conversation)
				return err == nil && found.Conversation.Status == "closed", fmt.Sprintf("%s, %v, want it closed", daemontest.JSON(found), err)
			})
			if got := texts(answers(h, r.Conversation, "Nova")); !slices.Equal(got, []string{"heard hello"}) {
				t.Errorf("answers: got %q", got)
			}
		})
	}
}

// TestCommandAsks: what another agent answers to a command that runs is for the command.
func TestCommandAsks(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova", "Sage")
	sage := newScene(t, h, "Sage")
	sage.run(sage.options(), sage.parts(says("the answer"), newTable().holder()))
	s := newScene(t, h, "Nova")
	ask := runner(func(ctx context.Context, input string, _ []string) (attend.Result, error) {
		if !strings.Contains(input, "| a task") {
			return attend.Result{Text: "this was for somebody else"}, nil
		}
		posted, err := h.As("Nova").Post(ctx, &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, To: []string{"Sage"}, Content: "a question"})
		if err != nil {
			return attend.Result{}, err
		}
		sage.await(attend.Answered, 1)
		pause(ctx, 100*time.Millisecond) // time enough to take it, for who would
		seq := posted.Message.Envelope.Seq
		id := posted.Message.Envelope.Conversation
		found, err := h.As("Nova").Events(ctx, client.Events{Conversation: id, After: &seq, Wait: daemontest.Patience, Types: []envelope.Type{envelope.Message}})
		if err != nil || len(found.Messages) == 0 {
			return attend.Result{}, fmt.Errorf("no answer: %w", err)
		}
		m := found.Messages[0].Envelope
		err = h.As("Nova").Shown(ctx, []api.Place{{Conversation: id, Seq: m.Seq}})
		return attend.Result{Text: "Sage says: " + m.Content}, err
	})
	s.run(s.options(), s.parts(ask, newTable().holder()))
	id := h.Post("Atlas", message("Nova", "a task")).Message.Envelope.Conversation
	s.await(attend.Answered, 1)
	if got := texts(answers(h, id, "Nova")); !slices.Equal(got, []string{"Sage says: the answer"}) {
		t.Errorf("answers: got %q", got)
	}
	unseen(t, h, "Nova", 0)
	if ok, events := s.has(attend.Answered, 2); ok {
		t.Errorf("events: got %s, want one answer", events)
	}
}

// TestStop: what runs comes to its end in the time of grace, and nothing else begins.
func TestStop(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	s, g := newScene(t, h, "Nova"), newGate()
	o := s.options()
	o.Workers = 1
	stop := s.run(o, s.parts(g, newTable().holder()))
	h.Post("Atlas", &envelope.Envelope{To: []string{"Nova"}, Topic: "one", Content: "hello"})
	g.await(t)
	h.Post("Atlas", &envelope.Envelope{To: []string{"Nova"}, Topic: "two", Content: "hello"})
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	daemontest.Eventually(t, func() (bool, string) {
		found, err := h.As("").Find(context.Background(), "Nova")
		return err == nil && !found.Agent.Listening, fmt.Sprintf("Nova: %s, %v, want it not listening", daemontest.JSON(found), err)
	})
	close(g.open)
	<-stopped
	if ok, events := s.has(attend.Answered, 1); !ok {
		t.Errorf("events: got %s, want one answer", events)
	}
	unseen(t, h, "Nova", 1)

	// without grace it is left as it is
	leases := newTable()
	g = newGate()
	o.Grace = 0
	stop = s.run(o, s.parts(g, leases.holder()))
	g.await(t)
	stop()
	unseen(t, h, "Nova", 1)
	if len(leases.taken) != 0 {
		t.Errorf("leases: got %v, want none", leases.taken)
	}
}

// TestOnceWithoutADaemon ends, and says why.
func TestOnceWithoutADaemon(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Nova")
	s := newScene(t, h, "Nova")
	o, p := s.options(), s.parts(says("hello"), newTable().holder())
	h.Stop()
	if _, err := attend.New(o, p).Once(context.Background()); !client.Unreachable(err) {
		t.Errorf("got %v, want that there is no daemon", err)
	}
}

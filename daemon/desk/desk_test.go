package desk_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/desk"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

type draft = envelope.Envelope

var ctx = context.Background()

func create(h *daemontest.Host, agent, topic string, others ...string) api.Conversation {
	return h.Post(agent, &draft{Type: envelope.Create, Topic: topic, To: others}).Conversation
}

func send(h *daemontest.Host, agent, conversation, content string) api.Message {
	return h.Post(agent, &draft{Conversation: conversation, Content: content}).Message
}

// inbox lists what an agent was not shown, as "topic.3 Nova: text".
func inbox(t *testing.T, h *daemontest.Host, agent string) []string {
	t.Helper()
	answer, err := h.As(agent).Inbox(ctx, 100)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, item := range answer.Items {
		name, _, _ := strings.Cut(item.From, "@")
		list = append(list, fmt.Sprintf("%s.%d %s: %s", item.Topic, item.Seq, name, item.Preview))
	}
	return list
}

func wantList(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func shown(t *testing.T, h *daemontest.Host, agent, conversation string, seqs ...int64) {
	t.Helper()
	var places []api.Place
	for _, seq := range seqs {
		places = append(places, api.Place{Conversation: conversation, Seq: seq})
	}
	if err := h.As(agent).Shown(ctx, places); err != nil {
		t.Fatalf("%s was shown %v: %v", agent, seqs, err)
	}
}

func TestInbox(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova", "Sage")
	a := create(h, "Nova", "a", "Atlas")
	send(h, "Nova", a.ID, "  two\n\nlines ")
	send(h, "Nova", a.ID, strings.Repeat("é", 101))
	h.Post("Nova", &draft{Type: envelope.Invite, Conversation: a.ID, To: []string{"Sage"}})
	h.Post("Sage", &draft{Type: envelope.Leave, Conversation: a.ID})
	h.Post("Nova", &draft{Type: envelope.Close, Conversation: a.ID, Reason: "done"})
	long := strings.Repeat("é", 100) + "…"
	wantList(t, "Atlas", inbox(t, h, "Atlas"), "a.1 Nova: created the conversation with you", "a.2 Nova: two lines", "a.3 Nova: "+long, "a.5 Sage: left", "a.6 Nova: closed the conversation: done")
	wantList(t, "Sage, who has left", inbox(t, h, "Sage"), "a.4 Nova: invited you")
	shown(t, h, "Atlas", a.ID, 1, 3)
	wantList(t, "after two were shown", inbox(t, h, "Atlas"), "a.2 Nova: two lines", "a.5 Sage: left", "a.6 Nova: closed the conversation: done")
	answer, err := h.As("Atlas").Inbox(ctx, 2)
	if err != nil || len(answer.Items) != 2 || answer.More != 1 {
		t.Errorf("two of three: got %s, %v, want two and one more", daemontest.JSON(answer), err)
	}
	item := answer.Items[0]
	if item.Ref != a.Ref+".2" || item.Size != 13 || item.Type != "message" || item.Conversation != a.ID || item.Timestamp == 0 {
		t.Errorf("item: got %s", daemontest.JSON(item))
	}
}

// TestFailedDropsAreShown with the inbox of whose they are.
func TestFailedDropsAreShown(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	h.Drop("Atlas", "bad.json", `{"to":"Nobody","content":"hi"}`)
	daemontest.Eventually(t, func() (bool, string) {
		answer, err := h.As("Atlas").Inbox(ctx, 10)
		return err == nil && len(answer.Failed) == 1 && strings.HasSuffix(answer.Failed[0].File, mailbox.Failed+"/bad.json") &&
			strings.Contains(answer.Failed[0].Error, "Nobody"), fmt.Sprintf("inbox is %s, %v", daemontest.JSON(answer), err)
	})
}

func TestRead(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	a, b := create(h, "Nova", "a", "Atlas"), create(h, "Nova", "b", "Atlas")
	send(h, "Nova", a.ID, "one")
	send(h, "Nova", b.ID, "two")
	read := func(what string, ask api.Read, more int, want ...string) {
		t.Helper()
		answer, err := h.As("Atlas").Read(ctx, ask)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got := []string{}
		for _, m := range answer.Messages {
			got = append(got, fmt.Sprintf("%s.%d %s", m.Topic, m.Envelope.Seq, m.Envelope.Content))
		}
		slices.Sort(got)
		wantList(t, what, got, want...)
		if answer.More != more {
			t.Errorf("%s: got %d more, want %d", what, answer.More, more)
		}
	}
	read("all", api.Read{}, 0, "a.1 ", "a.2 one", "b.1 ", "b.2 two")
	read("two of all", api.Read{Refs: []string{a.Ref, b.Ref + ".2"}, Limit: 2}, 1, "a.1 ", "a.2 one")
	read("a conversation", api.Read{Refs: []string{a.Ref}}, 0, "a.1 ", "a.2 one")
	read("a message", api.Read{Refs: []string{b.ID + ".2"}}, 0, "b.2 two")
	wantList(t, "reading shows nothing as seen", inbox(t, h, "Atlas"), inbox(t, h, "Atlas")...)
	shown(t, h, "Atlas", a.ID, 1, 2)
	read("all that is left", api.Read{}, 0, "b.1 ", "b.2 two")
	read("a message that was seen", api.Read{Refs: []string{a.Ref + ".2"}}, 0, "a.2 one")
	read("a conversation that was seen", api.Read{Refs: []string{a.Ref}}, 0)
}

// TestEmptiedLog: mail of a conversation whose log cannot be read holds up no other mail.
func TestEmptiedLog(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	empty := create(h, "Nova", "empty", "Atlas")
	for range 3 { // more than the daemon keeps in memory
		send(h, "Nova", empty.ID, strings.Repeat("x", 300<<10))
	}
	sound := create(h, "Nova", "sound", "Atlas")
	wantList(t, "before", inbox(t, h, "Atlas")[4:], "sound.1 Nova: created the conversation with you")
	if err := os.Truncate(h.Home().LogPath(empty.ID), 0); err != nil {
		t.Fatal(err)
	}
	list, err := h.As("Atlas").Inbox(ctx, 10)
	if err != nil || len(list.Items) != 5 || list.Items[0].Error == "" || list.Items[0].Conversation != empty.ID || list.Items[0].Seq != 1 || list.Items[4].Error != "" {
		t.Errorf("inbox: got %s, %v, want the first item with an error", daemontest.JSON(list), err)
	}
	read, err := h.As("Atlas").Read(ctx, api.Read{})
	if err != nil || len(read.Messages) != 5 || read.Messages[0].Error == "" || read.Messages[4].Envelope.Conversation != sound.ID || read.Messages[4].Error != "" {
		t.Errorf("read: got %.1000s, %v, want the first message with an error", daemontest.JSON(read), err)
	}
}

// TestCrossed: a message tells which ones of others its sender had not been shown.
func TestCrossed(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova", "Sage")
	id := create(h, "Atlas", "a", "Nova", "Sage").ID
	send(h, "Atlas", id, "two")
	send(h, "Sage", id, "three")
	crossed := func(what string, d *draft, want ...int64) {
		t.Helper()
		d.Conversation, d.Content = id, what
		posted := h.Post("Nova", d).Message
		read, err := h.As("Atlas").Read(ctx, api.Read{Refs: []string{posted.Ref}})
		if err != nil || len(read.Messages) != 1 {
			t.Fatalf("%s: got %s, %v", what, daemontest.JSON(read), err)
		}
		for _, m := range []api.Message{posted, read.Messages[0]} {
			if !slices.Equal(m.Crossed, want) {
				t.Errorf("%s: got %v, want %v", what, m.Crossed, want)
			}
		}
	}
	crossed("shown nothing", &draft{After: envelope.Int(1)}, 2, 3)
	crossed("shown the first", &draft{After: envelope.Int(2)}, 3) // its own line 4 does not count
	crossed("an answer to one of them", &draft{After: envelope.Int(2), ReplyTo: envelope.Ref{Seq: 3}})
	crossed("shown all", &draft{After: envelope.Int(6)})
	shown(t, h, "Nova", id, 1, 2, 3)
	crossed("as the daemon knows it", &draft{})
	h.Post("Atlas", &draft{Type: envelope.Leave, Conversation: id})
	crossed("only a leave came between", &draft{After: envelope.Int(8)})
}

func TestReceipts(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova", "Sage")
	id := create(h, "Atlas", "a", "Nova", "Sage").ID
	first := send(h, "Atlas", id, "one")
	receipts := func(what, ref string, seq int64, until string, wait time.Duration, wantRef string, want ...string) {
		t.Helper()
		daemontest.Eventually(t, func() (bool, string) {
			r, err := h.As("").Receipts(ctx, ref, seq, until, wait)
			got := []string{}
			for _, recipient := range r.Recipients {
				name, _, _ := strings.Cut(recipient.Agent, "@")
				got = append(got, name+" "+recipient.State)
			}
			return err == nil && r.Ref == wantRef && slices.Equal(got, want), fmt.Sprintf("%s: %s, %v, want %s %q", what, daemontest.JSON(r), err, wantRef, want)
		})
	}
	receipts("delivered", id, 0, api.Delivered, time.Minute, first.Ref, "Nova delivered", "Sage delivered")
	shown(t, h, "Nova", id, 2)
	second := send(h, "Sage", id, "two")
	receipts("the last", id, 0, "", 0, second.Ref, "Atlas delivered", "Nova delivered")
	receipts("by number", id, 2, "", 0, first.Ref, "Nova seen", "Sage delivered")
	receipts("by reference", first.Ref, 0, "", 0, first.Ref, "Nova seen", "Sage delivered")
	receipts("not seen in time", first.Ref, 0, api.Seen, time.Millisecond, first.Ref, "Nova seen", "Sage delivered")
}

// TestWaitForSeen ends when the last recipient was shown the message.
func TestWaitForSeen(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova", "Sage")
	id := create(h, "Atlas", "a", "Nova", "Sage").ID
	posted := send(h, "Atlas", id, "one")
	answers := make(chan api.Receipts, 1)
	go func() {
		r, err := h.As("Atlas").Receipts(ctx, id, 2, api.Seen, time.Minute)
		if err != nil {
			t.Errorf("wait: %v", err)
		}
		answers <- r
	}()
	shown(t, h, "Nova", id, 2)
	if r, err := h.As("Atlas").Receipts(ctx, id, 2, api.Seen, time.Millisecond); err != nil || !r.TimedOut {
		t.Errorf("with one of two: got %s, %v, want it timed out", daemontest.JSON(r), err)
	}
	shown(t, h, "Sage", id, 2)
	if r := <-answers; r.TimedOut || r.Ref != posted.Ref || r.Recipients[0].State != api.Seen || r.Recipients[1].State != api.Seen {
		t.Errorf("wait: got %s, want %s seen by both", daemontest.JSON(r), posted.Ref)
	}
}

// waitingContext tells when somebody waits for its end.
type waitingContext struct {
	context.Context
	waited func()
}

func (c waitingContext) Done() <-chan struct{} {
	c.waited()
	return c.Context.Done()
}

// TestAwaitTheLast: the last message is that of the moment of the question, whatever
// comes meanwhile.
func TestAwaitTheLast(t *testing.T) {
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	x, err := index.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	agents, queue := roster.New(home), work.New()
	for _, name := range []string{"Atlas", "Nova"} {
		if _, _, err := agents.Register(api.Register{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	l, err := ledger.Open(home, x, follower{queue}, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	deliverer := deliver.New(home, l, bus.New(), queue, daemontest.Logger(t))
	here := presence.New(home, x, time.Now, presence.Hooks{Changed: func(string, presence.Presence) {}}, daemontest.Logger(t))
	d := desk.New(desk.Parts{Home: home, Ledger: l, Deliver: deliverer, Roster: agents, Presence: here})
	words := router.New(home, l, agents, deliverer, here, daemontest.Logger(t))
	atlas := router.Actor{Agent: home.Address("Atlas")}
	out, err := words.Accept(ctx, atlas, &draft{Type: envelope.Message, To: []string{"Nova"}, Content: "one"})
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	all.Go(func() { _ = deliverer.Run(running) })

	waits := make(chan struct{})
	answers := make(chan api.Receipts, 1)
	all.Go(func() {
		r, err := d.Await(waitingContext{running, sync.OnceFunc(func() { close(waits) })}, out.State.ID, 0, api.Seen)
		if err != nil {
			t.Errorf("Await: %v", err)
		}
		answers <- r
	})
	<-waits
	if _, err := words.Accept(ctx, atlas, &draft{Type: envelope.Message, To: []string{"Nova"}, Content: "two"}); err != nil {
		t.Fatal(err)
	}
	if err := deliverer.Seen("Nova", out.State.ID, 2); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-answers:
		if r.TimedOut || !strings.HasSuffix(r.Ref, ".2") {
			t.Errorf("Await: got %s, want line 2 seen", daemontest.JSON(r))
		}
	case <-time.After(daemontest.Patience):
		t.Error("Await: waits for the later message too, want it for the one that was the last")
	}
}

type follower struct{ queue *work.Queue }

func (f follower) Committed(id string, _ int64, _ []envelope.Address) { f.queue.Add(id) }
func (f follower) Raw(string)                                         {}

func TestConversations(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova", "Sage")
	var lines atomic.Int64
	h.Stop()
	h.Opts.Now = func() time.Time { // each line a second later
		return time.UnixMilli(1_800_000_000_000 + 1000*lines.Add(1))
	}
	h.Start()
	a := create(h, "Atlas", "a", "Nova")
	b := create(h, "Sage", "b", "Atlas")
	c := create(h, "Atlas", "c")
	create(h, "Nova", "of others", "Sage")
	send(h, "Nova", a.ID, "the latest")
	h.Post("Sage", &draft{Type: envelope.Close, Conversation: b.ID, Reason: "done"})
	list := func(what, status, with string, limit, more int, want ...string) {
		t.Helper()
		answer, err := h.As("Atlas").Conversations(ctx, status, with, limit)
		got := []string{}
		for _, conversation := range answer.Conversations {
			text := conversation.Topic + " " + conversation.Status
			if conversation.Current {
				text += " current"
			}
			if conversation.Unread > 0 {
				text += fmt.Sprint(" ", conversation.Unread)
			}
			got = append(got, text)
		}
		if err != nil || answer.More != more {
			t.Errorf("%s: got %d more, %v, want %d", what, answer.More, err, more)
		}
		wantList(t, what, got, want...)
	}
	all := func(when string) {
		t.Helper()
		list(when, "", "", 0, 0, "b closed 2", "a active 1", "c active current")
	}
	all("all, the latest first")
	list("active", "active", "", 0, 0, "a active 1", "c active current")
	list("closed", "closed", "", 0, 0, "b closed 2")
	list("with Nova", "", "nova", 0, 0, "a active 1")
	list("with an address", "", "Sage@"+h.Home().Host.Name, 0, 0, "b closed 2")
	list("one of three", "", "", 1, 2, "b closed 2")
	h.Stop()
	if err := os.Remove(h.Home().IndexPath()); err != nil {
		t.Fatal(err)
	}
	h.Start()
	all("after the index was deleted")
	h.Post("Nova", &draft{Type: envelope.Leave, Conversation: a.ID})
	list("with one who has left", "", "Nova", 0, 0, "a active 2")
	one := h.Post("Atlas", &draft{Conversation: c.ID, Content: "alone"}).Conversation
	if one.Ref != c.Ref || one.Turns != 1 || one.LastSeq != 2 || one.LastTime <= one.CreatedAt || one.Log != h.Home().LogPath(c.ID) ||
		!slices.Equal(one.Participants, []string{h.Home().Address("Atlas").String()}) {
		t.Errorf("summary: got %s", daemontest.JSON(one))
	}
}

// TestConversationsOfLongAgo: the order does not depend on how far they are apart, on
// systems with small integers either.
func TestConversationsOfLongAgo(t *testing.T) {
	h := daemontest.New(t, "Atlas")
	var lines atomic.Int64
	h.Stop()
	h.Opts.Now = func() time.Time { // each line a month later
		return time.UnixMilli(1_600_000_000_000 + 30*24*time.Hour.Milliseconds()*lines.Add(1))
	}
	h.Start()
	want := []string{"d", "c", "b", "a"}
	for _, topic := range []string{"a", "b", "c", "d"} {
		create(h, "Atlas", topic)
	}
	answer, err := h.As("Atlas").Conversations(ctx, "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, c := range answer.Conversations {
		got = append(got, c.Topic)
	}
	wantList(t, "the latest first", got, want...)
}

func TestAgents(t *testing.T) {
	h := daemontest.New(t)
	for _, ask := range []api.Register{
		{Name: "Atlas", Capabilities: &[]string{"go", "review"}, Description: ptr("Carries the world")},
		{Name: "Nova", Capabilities: &[]string{"Go"}, Platform: ptr("claude")},
		{Name: "Sage", Description: ptr("knows postgres")},
		{Name: "Gone", Capabilities: &[]string{"go"}},
	} {
		if _, err := h.As("").Register(ctx, ask); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.As("").Unregister(ctx, "Gone"); err != nil {
		t.Fatal(err)
	}
	find := func(what, text string, capabilities []string, limit, more int, want ...string) {
		t.Helper()
		answer, err := h.As("").Agents(ctx, api.AgentQuery{Text: text, Capabilities: capabilities, Limit: limit})
		got := []string{}
		for _, a := range answer.Agents {
			got = append(got, a.Name)
		}
		if err != nil || answer.More != more {
			t.Errorf("%s: got %d more, %v, want %d", what, answer.More, err, more)
		}
		wantList(t, what, got, want...)
	}
	find("all", "", nil, 0, 0, "Atlas", "Nova", "Sage")
	find("two of all", "", nil, 2, 1, "Atlas", "Nova")
	find("a capability", "", []string{"go"}, 0, 0, "Atlas", "Nova")
	find("two capabilities", "", []string{"go", "REVIEW"}, 0, 0, "Atlas")
	find("a word", "Postgres", nil, 0, 0, "Sage")
	find("two words", "world atlas", nil, 0, 0, "Atlas")
	find("a platform", "CLAUDE", nil, 0, 0, "Nova")
	find("nobody", "cobol", nil, 0, 0)
	create(h, "Atlas", "a", "Nova")
	s, err := h.As("Sage").Stream(ctx, api.StreamRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	nova, err := h.As("Nova").Me(ctx)
	if err != nil || nova.Unread != 1 || nova.Listening || nova.Address != "Nova@"+h.Home().Host.Name || nova.Folder != h.Home().AgentDir("Nova") {
		t.Errorf("Nova: got %s, %v, want one unread", daemontest.JSON(nova), err)
	}
	if sage, err := h.As("Sage").Me(ctx); err != nil || !sage.Listening {
		t.Errorf("Sage: got %s, %v, want it listening", daemontest.JSON(sage), err)
	}
}

func ptr[T any](v T) *T { return &v }

// TestAskingSettles: whoever asks right after a send finds its effect.
func TestAskingSettles(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	id := create(h, "Atlas", "a", "Nova").ID
	for i := range 30 {
		m := send(h, "Atlas", id, "hi")
		if got := inbox(t, h, "Nova"); len(got) != i+2 {
			t.Fatalf("after message %d: got %d in the inbox, want %d", i, len(got), i+2)
		}
		events, err := h.As("Nova").Events(ctx, client.Events{Conversation: id, After: envelope.Int(m.Envelope.Seq - 1), Limit: 5})
		if err != nil || len(events.Messages) != 1 {
			t.Fatalf("after message %d: got %s, %v, want it", i, daemontest.JSON(events), err)
		}
	}
	for i := range 30 {
		other := create(h, "Atlas", fmt.Sprint("topic ", i), "Nova")
		events, err := h.As("Nova").Events(ctx, client.Events{Conversation: other.ID, Limit: 5})
		if err != nil || len(events.Messages) != 1 {
			t.Fatalf("conversation %d: got %s, %v, want the invitation", i, daemontest.JSON(events), err)
		}
	}
}

package deliver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// post is a home with a ledger and a deliverer, without the rest of a daemon.
type post struct {
	t      *testing.T
	home   *maildir.Home
	index  *index.Index
	ledger *ledger.Ledger
	bus    *bus.Bus
	queue  *work.Queue
	clock  clock

	*deliver.Deliverer
	stop context.CancelFunc // nil while nobody delivers
	done chan struct{}
}

// clock is the time of the deliverer. It stands until the test moves it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Committed makes the post the ledger's follower, as the daemon is.
func (p *post) Committed(conversation string, from int64, present []envelope.Address) {
	p.queue.Add(conversation)
	p.bus.Publish(conversation, from, present)
}

func (p *post) Raw(string) {}

// newPost makes a home with agents. Nobody delivers until run.
func newPost(t *testing.T, agents ...string) *post {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	p := &post{t: t, home: home, bus: bus.New(), clock: clock{now: time.Now()}}
	for _, name := range agents {
		if _, err := mailbox.Open(home.AgentDir(name)); err != nil {
			t.Fatal(err)
		}
	}
	if p.index, err = index.OpenMemory(); err != nil {
		t.Fatal(err)
	}
	if p.ledger, err = ledger.Open(home, p.index, p, ledger.Options{Log: convlog.Options{Sync: func(*os.File) error { return nil }}}); err != nil {
		t.Fatal(err)
	}
	p.begin()
	t.Cleanup(func() {
		p.halt()
		p.ledger.Close()
		if err := p.index.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// begin makes a new deliverer, as a start of the daemon does. The old one is left as
// a crash leaves it: with cursors that are perhaps not written.
func (p *post) begin() {
	p.queue = work.New()
	p.Deliverer = deliver.New(p.home, p.ledger, p.bus, p.queue, daemontest.Logger(p.t))
	p.SetClock(p.clock.Now)
}

// recover begins again and looks what the logs have for whom.
func (p *post) recover(ids ...string) {
	p.begin()
	for _, id := range ids {
		p.Recover(context.Background(), id)
	}
}

// run delivers until halt.
func (p *post) run() *post {
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.done = stop, make(chan struct{})
	go func(d *deliver.Deliverer, done chan struct{}) {
		defer close(done)
		if err := d.Run(ctx); err != nil {
			p.t.Errorf("Run: %v", err)
		}
	}(p.Deliverer, p.done)
	return p
}

// halt ends the delivery in order.
func (p *post) halt() {
	if p.stop != nil {
		p.stop()
		<-p.done
		p.stop = nil
	}
}

// settle waits until all is delivered that is in the logs.
func (p *post) settle() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), daemontest.Patience)
	defer cancel()
	if err := p.Settle(ctx); err != nil {
		p.t.Fatalf("Settle: %v", err)
	}
}

func (p *post) create(topic string, agents ...string) string {
	p.t.Helper()
	return p.createAs(topic, func(*envelope.Envelope) {}, agents...)
}

func (p *post) createAs(topic string, change func(*envelope.Envelope), agents ...string) string {
	p.t.Helper()
	id := envelope.NamedID("test", topic)
	e := &envelope.Envelope{
		ID: id, Type: envelope.System, Event: envelope.EventCreate, From: p.home.Address(agents[0]), Topic: topic, Open: true,
		Conversation: envelope.ConversationID(p.home.Host.ID, id),
	}
	for _, name := range agents {
		e.Participants = append(e.Participants, p.home.Address(name))
	}
	change(e)
	if _, err := p.ledger.Create(context.Background(), []*envelope.Envelope{e}); err != nil {
		p.t.Fatal(err)
	}
	return e.Conversation
}

// add appends a line and returns its number.
func (p *post) add(id string, e *envelope.Envelope) int64 {
	p.t.Helper()
	e.ID, e.Conversation = envelope.NewID(), id
	result, _, err := p.ledger.Append(ledger.Line{Envelope: e})
	if err != nil {
		p.t.Fatalf("%s of %s: %v", e.Type, e.From, err)
	}
	return result.Seq
}

func (p *post) say(id, agent, content string) int64 {
	p.t.Helper()
	return p.add(id, &envelope.Envelope{Type: envelope.Message, From: p.home.Address(agent), Content: content})
}

// offer is say for other goroutines than the test's.
func (p *post) offer(id, agent string) {
	e := &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, Conversation: id, From: p.home.Address(agent), Content: "hi"}
	if _, _, err := p.ledger.Append(ledger.Line{Envelope: e}); err != nil {
		p.t.Errorf("Append: %v", err)
	}
}

func (p *post) join(id, agent string) int64 {
	p.t.Helper()
	return p.add(id, &envelope.Envelope{Type: envelope.Join, From: p.home.Address(agent)})
}

func (p *post) leave(id, agent string) int64 {
	p.t.Helper()
	return p.add(id, &envelope.Envelope{Type: envelope.Leave, From: p.home.Address(agent)})
}

func (p *post) box(agent string) *mailbox.Box { return mailbox.At(p.home.AgentDir(agent)) }

// places lists the lines of a conversation among items.
func places(items []mailbox.Item, id string) []int64 {
	seqs := []int64{}
	for _, item := range items {
		if item.Conversation == id {
			seqs = append(seqs, item.Seq)
		}
	}
	return seqs
}

// files waits until the agent's inbox has these lines of a conversation in new and
// these in cur.
func (p *post) files(what, agent, id string, unseen, seen []int64) {
	p.t.Helper()
	daemontest.Eventually(p.t, func() (bool, string) {
		inNew, err := p.box(agent).Unseen()
		if err != nil {
			return false, err.Error()
		}
		inCur, err := p.box(agent).Seen()
		if err != nil {
			return false, err.Error()
		}
		gotNew, gotCur := places(inNew, id), places(inCur, id)
		return slices.Equal(gotNew, unseen) && slices.Equal(gotCur, seen),
			fmt.Sprintf("%s: %s has %v in new and %v in cur, want %v and %v", what, agent, gotNew, gotCur, unseen, seen)
	})
}

// waits checks what the deliverer says an agent was not shown.
func (p *post) waits(what, agent, id string, want ...int64) {
	p.t.Helper()
	items, err := p.Unseen(agent, id)
	if err != nil {
		p.t.Fatalf("%s: Unseen: %v", what, err)
	}
	if got := places(items, id); !slices.Equal(got, want) {
		p.t.Errorf("%s: %s was not shown %v, want %v", what, agent, got, want)
	}
}

// states checks the receipts of a line, as "Nova seen".
func (p *post) states(what, id string, seq int64, want ...string) {
	p.t.Helper()
	if got := p.receipts(id, seq); !slices.Equal(got, want) {
		p.t.Errorf("%s: line %d is %q, want %q", what, seq, got, want)
	}
}

func (p *post) receipts(id string, seq int64) []string {
	p.t.Helper()
	var e *envelope.Envelope
	list := []string{}
	err := p.ledger.Read(context.Background(), id, func(v ledger.View) error {
		line, err := v.At(seq)
		if err != nil {
			return err
		}
		e = line.Envelope
		for _, r := range p.Recipients(v.State, e) {
			a, err := envelope.ParseAddress(r.Agent)
			if err != nil {
				return err
			}
			list = append(list, a.Name+" "+r.State)
		}
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return list
}

// until waits for a receipt.
func (p *post) until(id string, seq int64, want string) {
	p.t.Helper()
	deadline := time.After(daemontest.Patience)
	for {
		progress := p.Progress()
		got := p.receipts(id, seq)
		if slices.Contains(got, want) {
			return
		}
		select {
		case <-progress:
		case <-deadline:
			p.t.Fatalf("line %d: got %q, want %q", seq, got, want)
		}
	}
}

func (p *post) attach(agent string, filter deliver.Filter) *deliver.Stream {
	p.t.Helper()
	s, err := p.Attach(agent, filter)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// next waits for the next line of a stream.
func (p *post) next(s *deliver.Stream) deliver.Line {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), daemontest.Patience)
	defer cancel()
	line, err := s.Next(ctx)
	if err != nil {
		p.t.Fatalf("Next: %v", err)
	}
	return line
}

// carries checks the next lines of a stream.
func (p *post) carries(what string, s *deliver.Stream, id string, want ...int64) {
	p.t.Helper()
	for _, seq := range want {
		if line := p.next(s); line.Conversation != id || line.Envelope.Seq != seq {
			p.t.Fatalf("%s: got line %d of %s, want line %d of %s", what, line.Envelope.Seq, line.Conversation, seq, id)
		}
	}
}

// idle checks that a stream has nothing now.
func (p *post) idle(what string, s *deliver.Stream) {
	p.t.Helper()
	p.settle()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 20 { // of a token and an end that are both there, select takes either
		if line, err := s.Next(ctx); err == nil || !errors.Is(err, context.Canceled) {
			p.t.Errorf("%s: got line %d, %v, want none", what, line.Envelope.Seq, err)
		}
	}
}

func confirm(t *testing.T, s *deliver.Stream, id string, seq int64, state string) {
	t.Helper()
	if err := s.Confirm(id, seq, state == api.Seen); err != nil {
		t.Errorf("Confirm line %d: %v", seq, err)
	}
}

func seqs(from, to int64) []int64 {
	list := []int64{}
	for seq := from; seq <= to; seq++ {
		list = append(list, seq)
	}
	return list
}

var none = []int64{}

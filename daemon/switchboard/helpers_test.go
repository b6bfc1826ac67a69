package switchboard_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/daemon/switchboard"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

type draft = envelope.Envelope

// The settings of these tests.
const (
	ring  = 30 * time.Second
	grace = time.Minute
	idle  = 30 * time.Minute
)

// exchange is a home with all that takes part in calls and no doors, in a bubble of
// synctest: its clock is the test's, and nothing happens while nobody waits.
type exchange struct {
	home     *maildir.Home
	agents   []string
	index    *index.Index
	ledger   *ledger.Ledger
	roster   *roster.Roster
	bus      *bus.Bus
	deliver  *deliver.Deliverer
	presence *presence.Book
	router   *router.Router
	board    *switchboard.Switchboard
	grown    *work.Queue
	link     func(x *exchange) // connects it with other hosts, nil where there are none
	typed    []string          // who is typing, as its agents are told
	ahead    atomic.Int64      // of the board's clock, nanoseconds

	stop  context.CancelFunc
	all   sync.WaitGroup
	fails func(path string) bool // of the logs: whether a sync fails
}

// scene plays with an exchange and some agents.
func scene(t *testing.T, agents []string, do func(t *testing.T, x *exchange)) {
	t.Helper()
	sceneWith(t, func(*maildir.Config) {}, agents, do)
}

func sceneWith(t *testing.T, settings func(*maildir.Config), agents []string, do func(t *testing.T, x *exchange)) {
	t.Helper()
	notes, err := index.OpenMemory() // outside the bubble: it has a clock of its own
	if err != nil {
		t.Fatal(err)
	}
	defer notes.Close() //nolint:errcheck // it is in memory
	dir := filepath.Join(t.TempDir(), "home")
	synctest.Test(t, func(t *testing.T) {
		x, err := newExchange(dir, notes, settings, agents)
		if err != nil {
			t.Fatal(err)
		}
		defer x.halt()
		do(t, x)
	})
}

func newExchange(dir string, notes *index.Index, settings func(*maildir.Config), agents []string) (*exchange, error) {
	home, err := maildir.Init(dir)
	if err != nil {
		return nil, err
	}
	settings(&home.Config)
	x := &exchange{home: home, agents: agents, index: notes}
	if err := x.open(); err != nil {
		return nil, err
	}
	for _, name := range agents {
		if _, _, err := x.roster.Register(api.Register{Name: name}); err != nil {
			return nil, err
		}
	}
	x.run()
	return x, nil
}

func (x *exchange) open() (err error) {
	logger := slog.New(slog.DiscardHandler)
	x.bus, x.grown = bus.New(), work.New()
	limits := x.home.Config.Limits
	x.ledger, err = ledger.Open(x.home, x.index, x, ledger.Options{
		Log: convlog.Options{Sync: x.sync}, Limits: conv.Limits{Members: limits.Participants, Messages: limits.Messages, Hops: limits.Hops},
	})
	if err != nil {
		return err
	}
	x.roster = roster.New(x.home)
	for _, name := range x.agents {
		if err := x.roster.Refresh(strings.ToLower(name)); err != nil {
			return err
		}
	}
	x.deliver = deliver.New(x.home, x.ledger, x.bus, x.grown, logger)
	hooks := presence.Hooks{Changed: func(string, presence.Presence) {}, Lost: func(agent string) { x.board.Lost(agent) }}
	x.presence = presence.New(x.home, x.index, time.Now, hooks, logger)
	x.router = router.New(x.home, x.ledger, x.roster, x.deliver, x.presence, logger)
	x.board, err = switchboard.New(switchboard.Parts{
		Home: x.home, Ledger: x.ledger, Router: x.router, Deliver: x.deliver, Presence: x.presence,
		Observed: func(e *envelope.Envelope) { x.bus.Notify(e) }, Logger: logger,
		Now: func() time.Time { return time.Now().Add(time.Duration(x.ahead.Load())) },
		Far: x.roster.Far, Typing: x.heardTyping,
	})
	x.router.Connect(x.board, func(e *envelope.Envelope, to []envelope.Address) {
		x.heardTyping(e, to)
		x.board.PassTyping(e)
	})
	if x.link != nil {
		x.link(x)
	}
	return err
}

func (x *exchange) heardTyping(e *envelope.Envelope, to []envelope.Address) {
	for _, a := range to {
		if a.Host == x.home.Host.Name && !a.Same(e.From) {
			x.typed = append(x.typed, fmt.Sprintf("%s hears %s %s", a.Name, e.From, e.Status))
		}
	}
}

func (x *exchange) sync(f *os.File) error {
	if x.fails != nil && x.fails(f.Name()) {
		return errors.New("the disk failed")
	}
	return nil
}

// run is the start of a daemon: who is called finds out what happened before it.
func (x *exchange) run() {
	ctx, stop := context.WithCancel(context.Background())
	x.stop = stop
	for _, part := range []func(context.Context) error{x.deliver.Run, x.presence.Run, x.board.Run} {
		x.all.Go(func() { _ = part(ctx) })
	}
	for _, id := range x.ledger.Refs().All() {
		x.deliver.Recover(ctx, id)
	}
	x.board.Recover(ctx)
	synctest.Wait()
}

func (x *exchange) halt() {
	x.stop()
	x.all.Wait()
	x.ledger.Close()
}

// restart ends the daemon and starts it again, with something done to the files between.
func (x *exchange) restart(t *testing.T, between ...func()) {
	t.Helper()
	x.halt()
	for _, do := range between {
		do()
	}
	if err := x.open(); err != nil {
		t.Fatal(err)
	}
	x.run()
}

// Committed makes the exchange the ledger's follower, as the daemon is.
func (x *exchange) Committed(conversation string, from int64, present []envelope.Address) {
	x.grown.Add(conversation)
	x.bus.Publish(conversation, from, present)
	x.board.Committed(conversation)
}

func (x *exchange) Raw(string) {}

// come makes agents available.
func (x *exchange) come(agents ...string) {
	for _, name := range agents {
		x.presence.Touch(name)
	}
}

// live gives an agent a stream.
func (x *exchange) live(agent string) (end func()) { return x.presence.Attach(agent, true) }

func (x *exchange) say(agent string, d *draft) (router.Outcome, error) {
	out, err := x.router.Accept(context.Background(), router.Actor{Agent: x.home.Address(agent)}, d)
	synctest.Wait()
	return out, err
}

func (x *exchange) must(t *testing.T, agent string, d *draft) router.Outcome {
	t.Helper()
	out, err := x.say(agent, d)
	if err != nil {
		t.Fatalf("%s says %s: %v", agent, d.Append(nil), err)
	}
	return out
}

// call places a call and returns its id.
func (x *exchange) call(t *testing.T, from, content string, to ...string) string {
	t.Helper()
	return x.must(t, from, &draft{Type: envelope.Call, To: to, Content: content}).Request.ID
}

func (x *exchange) accept(t *testing.T, agent, id string) router.Outcome {
	t.Helper()
	return x.must(t, agent, &draft{Type: envelope.Accept, Request: id})
}

func (x *exchange) refuse(t *testing.T, what, agent string, d *draft, want api.Code) {
	t.Helper()
	_, err := x.say(agent, d)
	var refusal *api.Error
	if !errors.As(err, &refusal) || refusal.Code != want {
		t.Errorf("%s: got %v, want code %s", what, err, want)
	}
}

func (x *exchange) get(t *testing.T, id string) call.Request {
	t.Helper()
	r, err := x.board.Get(id)
	if err != nil {
		t.Fatalf("request %s: %v", id, err)
	}
	return r
}

// pass lets time go by, and what is due happen.
func pass(d time.Duration) {
	time.Sleep(d + 10*time.Millisecond)
	synctest.Wait()
}

// inbox is what an agent finds of calls in its inbox, as "new call ringing" and so on.
func (x *exchange) inbox(t *testing.T, agent string) []string {
	t.Helper()
	list, err := x.signals(agent)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (x *exchange) signals(agent string) ([]string, error) {
	box := mailbox.At(x.home.AgentDir(agent))
	signals, err := box.AllSignals()
	var list []string
	for _, s := range signals {
		for folder, word := range map[string]string{mailbox.InboxNew: "new", mailbox.InboxCur: "seen"} {
			data, err := os.ReadFile(filepath.Join(box.Dir(), folder, s.Name))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			e, err := envelope.Decode(data)
			if err != nil {
				return nil, err
			}
			text := fmt.Sprintf("%s %s %s", word, e.Type, e.Status)
			for _, f := range e.Unknown {
				text += " " + f.Name
			}
			if e.Reason != "" {
				text += ": " + e.Reason
			}
			list = append(list, text)
		}
	}
	return list, err
}

func (x *exchange) wantInbox(t *testing.T, what, agent string, want ...string) {
	t.Helper()
	got := x.inbox(t, agent)
	slices.Sort(got) // calls of the same millisecond have no order
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("%s: calls in the inbox of %s: got %q, want %q", what, agent, got, want)
	}
}

func (x *exchange) wantPresence(t *testing.T, what string, want ...string) {
	t.Helper()
	var got []string
	for _, pair := range want {
		name, _, _ := strings.Cut(pair, " ")
		got = append(got, name+" "+string(x.presence.Of(name).State))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: presence: got %q, want %q", what, got, want)
	}
}

// log is what stands in the log of a conversation, as "Atlas: hi" and "Nova leave".
func (x *exchange) log(id string) (list []string, err error) {
	r, err := convlog.OpenReader(x.home.LogPath(id))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	scan := r.Scan(convlog.Pos{})
	for scan.Next() {
		e, err := envelope.Decode(scan.Line().Bytes)
		if err != nil {
			return nil, err
		}
		switch {
		case e.Type == envelope.Message:
			list = append(list, e.From.Name+": "+e.Content)
		case e.Event == envelope.EventClose:
			list = append(list, "close: "+e.Reason)
		case e.Event != "":
			text := e.From.Name + " " + e.Event
			for _, a := range e.Participants {
				text += " " + a.Name
			}
			list = append(list, text)
		default:
			list = append(list, e.From.Name+" "+string(e.Type))
		}
	}
	return list, scan.Err()
}

func (x *exchange) wantLog(t *testing.T, id string, want ...string) {
	t.Helper()
	if got, err := x.log(id); err != nil || !slices.Equal(got, want) {
		t.Errorf("log: got %q, %v, want %q", got, err, want)
	}
}

// records are the ids of the records in a folder.
func (x *exchange) records(t *testing.T, folder string) (ids []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(x.home.RequestsDir(), folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		ids = append(ids, strings.TrimSuffix(e.Name(), ".json"))
	}
	return ids
}

func (x *exchange) conversations(t *testing.T) []string {
	t.Helper()
	ids, err := x.home.Conversations()
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func (x *exchange) attach(t *testing.T, agent string) *deliver.Stream {
	t.Helper()
	s, err := x.deliver.Attach(agent, deliver.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lines are what a stream has of calls now.
func lines(t *testing.T, s *deliver.Stream) (list []string) {
	t.Helper()
	for {
		line, ok, err := s.TryNext(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return list
		}
		if line.Live {
			list = append(list, fmt.Sprintf("%s %s", line.Envelope.Type, line.Envelope.Status))
		}
	}
}

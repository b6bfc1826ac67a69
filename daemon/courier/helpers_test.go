package courier_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/courier"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
	"github.com/claude-duo/duo/sync/spool"
)

var ctx = context.Background()

type draft = envelope.Envelope

// bubble runs a test with a clock of its own.
func bubble(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(2 * time.Second) }) // the index looks each second whether it is closed
		f(t)
	})
}

// host is the parts of a daemon that a courier works with.
type host struct {
	t       *testing.T
	home    *maildir.Home
	me      *identity.Host
	book    *peer.Book
	index   *index.Index
	ledger  *ledger.Ledger
	roster  *roster.Roster
	deliver *deliver.Deliverer
	router  *router.Router
	courier *courier.Courier
	grown   *work.Queue
	raw     map[string]bool
	stop    func()
	limits  spool.Limits
	full    atomic.Bool // the disk under the logs
}

// newHost makes a host with a name and agents. It knows no other host yet.
func newHost(t *testing.T, name string, agents ...string) *host {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), fmt.Appendf(nil, "[host]\nname = %q\n", name), 0o600); err != nil {
		t.Fatal(err)
	}
	home, err := maildir.Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, home: home}
	h.start()
	for _, agent := range agents {
		if _, _, err := h.roster.Register(api.Register{Name: agent}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { h.stop() })
	return h
}

type signs struct{}

func (signs) Touch(string)                     {}
func (signs) Say(string, string, string) error { return nil }

func (h *host) Committed(id string, _ int64, _ []envelope.Address) { h.grown.Add(id) }
func (h *host) Raw(id string)                                      { h.raw[id] = true }

// start makes the parts as a daemon does.
func (h *host) start() {
	h.t.Helper()
	must := func(err error) {
		h.t.Helper()
		if err != nil {
			h.t.Fatal(err)
		}
	}
	var err error
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	if os.Getenv("DUO_TEST_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("host", h.home.Host.Name)
	}
	h.grown, h.raw = work.New(), make(map[string]bool)
	h.me, err = identity.Open(h.home)
	must(err)
	h.book, _, err = peer.OpenBook(h.home)
	must(err)
	h.index, _, err = index.Open(h.home.IndexPath())
	must(err)
	opts := ledger.Options{Logger: logger}
	opts.Log.Sync = func(*os.File) error {
		if h.full.Load() {
			return syscall.ENOSPC
		}
		return nil
	}
	h.ledger, err = ledger.Open(h.home, h.index, h, opts)
	must(err)
	h.roster = roster.New(h.home)
	h.roster.Know(h.book, h.index)
	h.deliver = deliver.New(h.home, h.ledger, bus.New(), h.grown, logger)
	h.router = router.New(h.home, h.ledger, h.roster, h.deliver, signs{}, logger)
	h.courier = courier.New(courier.Parts{
		Home: h.home, Host: func() *identity.Host { return h.me }, Book: h.book, Ledger: h.ledger, Router: h.router,
		Deliver: h.deliver, Index: h.index, Logger: logger, Spool: h.limits,
	})
	h.router.Link(h.book, h.courier)
	h.deliver.Link(h.courier, h.courier.Moved)
	running, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = h.deliver.Run(running)
	}()
	h.stop = func() {
		cancel()
		<-ended
		h.ledger.Close()
		_ = h.index.Close()
		h.stop = func() {}
	}
}

// restart ends the parts and makes them again, with something done in between.
func (h *host) restart(between ...func()) {
	h.t.Helper()
	h.stop()
	for _, f := range between {
		f()
	}
	h.start()
}

// pair makes hosts know each other.
func pair(t *testing.T, hosts ...*host) {
	t.Helper()
	for _, a := range hosts {
		for _, b := range hosts {
			if a == b {
				continue
			}
			if err := a.book.Admit(peer.Peer{ID: b.me.ID(), Name: b.me.Name(), Keys: b.me.Keys()}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (h *host) side() peertest.Side {
	return peertest.Side{ID: h.me.ID(), Name: h.me.Name(), Services: []peer.Service{h.courier}}
}

func connect(t *testing.T, a, b *host) *peertest.Link {
	t.Helper()
	l, _, _ := peertest.Connect(t, a.side(), b.side())
	return l
}

func (h *host) address(name string) envelope.Address { return h.home.Address(name) }

// say accepts a draft of an agent.
func (h *host) say(agent string, d *draft) router.Outcome {
	h.t.Helper()
	out, err := h.try(agent, d)
	if err != nil {
		h.t.Fatalf("%s at %s says %s: %v", agent, h.me.Name(), d.Append(nil), err)
	}
	return out
}

func (h *host) try(agent string, d *draft) (router.Outcome, error) {
	return h.router.Accept(ctx, router.Actor{Agent: h.address(agent)}, d)
}

// code is the code of the refusal of a draft.
func (h *host) code(agent string, d *draft) api.Code {
	h.t.Helper()
	_, err := h.try(agent, d)
	var refusal *api.Error
	if !errors.As(err, &refusal) {
		h.t.Errorf("%s says %s: got %v, want a refusal", agent, d.Append(nil), err)
		return ""
	}
	return refusal.Code
}

// create makes a conversation of an agent of h with others, and copies it to where they
// are.
func (h *host) create(agent string, to []string, copies ...*host) string {
	h.t.Helper()
	out := h.say(agent, &draft{Type: envelope.Create, Topic: "Cogito", To: to})
	for _, other := range copies {
		ship(h, other, out.State.ID)
	}
	return out.State.ID
}

// ship copies what a replica lacks of a conversation, as the shipping of logs does.
func ship(origin, replica *host, id string) {
	origin.t.Helper()
	if err := tryShip(origin, replica, id); err != nil {
		origin.t.Fatalf("ship %s to %s: %v", id, replica.me.Name(), err)
	}
}

func tryShip(origin, replica *host, id string) error {
	state, _ := replica.ledger.State(ctx, id)
	return replica.copy(origin.me.ID(), id, origin.lines(id)[state.LastSeq:]...)
}

// copy appends lines to a replica.
func (h *host) copy(origin, id string, lines ...[]byte) error {
	h.t.Helper()
	if len(lines) == 0 {
		return nil
	}
	stored, _, err := h.ledger.Copy(ctx, ledger.Copy{Origin: origin, Conversation: id, Lines: lines, Check: func(s stateOf, fresh []ledger.Stored) error {
		return h.courier.Check(origin, id, s, fresh)
	}})
	if err == nil {
		h.courier.Copied(origin, id, stored)
	}
	return err
}

// lines are the lines of a log that count.
func (h *host) lines(id string) (list [][]byte) {
	h.t.Helper()
	err := h.ledger.Read(ctx, id, func(v ledger.View) error {
		for line, err := range v.Since(0) {
			if err != nil {
				return err
			}
			list = append(list, line.Bytes)
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

// said lists the lines of a log as "Bob@lon message hi".
func (h *host) said(id string) (list []string) {
	h.t.Helper()
	for _, line := range h.lines(id) {
		e, err := envelope.Decode(line)
		if err != nil {
			h.t.Fatal(err)
		}
		text := e.From.String() + " " + string(e.Type)
		for _, more := range []string{e.Event, e.Content, e.Why} {
			if more != "" {
				text += " " + more
			}
		}
		list = append(list, text)
	}
	return list
}

func (h *host) want(id string, want ...string) {
	h.t.Helper()
	if got := h.said(id); !slices.Equal(got, want) {
		h.t.Errorf("log of %s:\n got %q\nwant %q", h.me.Name(), got, want)
	}
}

// spooled lists the files of what waits for a host.
func (h *host) spooled(other *host) []string {
	entries, err := os.ReadDir(filepath.Join(h.home.SpoolDir(other.me.Name()), "new"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (h *host) wantSpooled(other *host, n int) {
	h.t.Helper()
	if got := h.spooled(other); len(got) != n || h.courier.Waiting(other.me.ID()) != n {
		h.t.Errorf("spool of %s for %s: got %q (%d), want %d", h.me.Name(), other.me.Name(), got, h.courier.Waiting(other.me.ID()), n)
	}
}

// failed lists why messages of an agent were not sent.
func (h *host) failed(agent string) (list []string) {
	h.t.Helper()
	box := mailbox.At(h.home.AgentDir(agent))
	names, err := box.FailedDrops()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, name := range names {
		list = append(list, box.FailureOf(name))
	}
	return list
}

// inbox lists what an agent was not shown, as texts.
func (h *host) inbox(agent string) (list []string) {
	h.t.Helper()
	synctest.Wait()
	items, err := h.deliver.Unseen(agent, "")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, item := range items {
		e, err := envelope.Decode(h.lines(item.Conversation)[item.Seq-1])
		if err != nil {
			h.t.Fatal(err)
		}
		list = append(list, strings.TrimSpace(e.Content+" "+e.Event+" "+e.Why))
	}
	return list
}

package waker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/waker"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// host is what a waker sees of one: inboxes, sessions, and programs that only say that they
// run. It outlives wakers, as a home does.
type host struct {
	t    *testing.T
	home *maildir.Home
	log  strings.Builder

	mu       sync.Mutex
	items    map[string][]mailbox.Item
	signals  map[string][]*envelope.Envelope
	lines    map[string]line
	streams  map[string]bool
	sessions []waker.Session
	index    map[string][]byte
	changed  []string
	counted  map[string]int

	takes   time.Duration // of a program
	answer  func(waker.Program) error
	ran     []run
	now     int // programs that run
	most    int
	stop    func()
	waker   *waker.Waker
	started time.Time
}

type line struct {
	e     *envelope.Envelope
	state conv.State
}

// run is a program that ran, and when.
type run struct {
	waker.Program
	after time.Duration
}

func (r run) env(name string) string {
	for _, pair := range r.Env {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// String is what a test wants to know: agent, count, and how.
func (r run) String() string {
	how := r.Args[0]
	if how == "codex" {
		how += " " + r.Args[3]
	}
	return fmt.Sprintf("%s %s %s", r.env("DUO_AGENT"), r.env("DUO_COUNT"), how)
}

func newHost(t *testing.T) *host {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	home.Host.Name = "nyc"
	home.Config.Wake = maildir.WakeConfig{}
	return &host{
		t: t, home: home, items: make(map[string][]mailbox.Item), signals: make(map[string][]*envelope.Envelope),
		lines: make(map[string]line), streams: make(map[string]bool), index: make(map[string][]byte), counted: make(map[string]int),
	}
}

// start starts a waker, which the test stops at its end.
func (h *host) start() {
	h.waker = waker.New(waker.Parts{
		Home: h.home, Mail: h, Lines: h.line, Index: h, Programs: h, Logger: slog.New(slog.NewTextHandler(&h.log, nil)),
		Sessions: h.live, Name: func(agent string) string { return agent },
		Refs: waker.Refs{
			Message: func(conversation string, seq int64) string { return fmt.Sprintf("%s.%d", conversation, seq) },
			Call:    func(request string) string { return request },
		},
		Changed: func(agent string) { h.set(func() { h.changed = append(h.changed, agent) }) },
		Count:   func(by, outcome string) { h.set(func() { h.counted[by+" "+outcome]++ }) },
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- h.waker.Run(ctx) }()
	h.started = time.Now()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("Run: got %v, want no error", err)
		}
	})
}

// in runs a test in a bubble with a waker.
func in(t *testing.T, test func(t *testing.T, h *host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.start()
		defer func() { h.stop() }()
		test(t, h)
	})
}

func (h *host) set(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	do()
}

// file puts a message into the inbox of an agent.
func (h *host) file(agent, conversation string, seq int64, e envelope.Envelope, members ...string) {
	h.set(func() {
		e.Type, e.Seq = envelope.Message, seq
		state := conv.State{ID: conversation}
		for _, name := range append(members, agent) {
			state.Members = append(state.Members, conv.Member{Address: h.home.Address(name), Joined: 1})
		}
		h.lines[fmt.Sprint(conversation, seq)] = line{&e, state}
		h.items[agent] = append(h.items[agent], mailbox.ItemOf(conversation, seq, seq))
	})
	h.waker.Waits(agent)
}

// message files a direct message.
func (h *host) message(agent string, seq int64) {
	h.file(agent, "c"+agent, seq, envelope.Envelope{From: h.home.Address("Sage"), Content: secret}, "Sage")
}

const secret = "ATTACK AT DAWN"

// see takes all out of an inbox.
func (h *host) see(agent string) {
	h.set(func() { delete(h.items, agent); delete(h.signals, agent) })
}

func (h *host) Unseen(agent, _ string) ([]mailbox.Item, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.items[agent]), nil
}

func (h *host) Signals(agent string) ([]*envelope.Envelope, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.signals[agent]), nil
}

func (h *host) Listening(agent string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.streams[agent]
}

func (h *host) line(_ context.Context, conversation string, seq int64) (*envelope.Envelope, conv.State, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, ok := h.lines[fmt.Sprint(conversation, seq)]
	if !ok {
		return nil, conv.State{}, errors.New("no line")
	}
	return l.e, l.state, nil
}

func (h *host) Get(key string) ([]byte, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	value, ok := h.index[key]
	return value, ok
}

func (h *host) Put(key string, value []byte) error {
	h.set(func() { h.index[key] = value })
	return nil
}

func (h *host) live() []waker.Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.sessions)
}

// be makes sessions the only ones.
func (h *host) be(sessions ...waker.Session) { h.set(func() { h.sessions = sessions }) }

// Run is a program that takes its time.
func (h *host) Run(ctx context.Context, p waker.Program) error {
	h.set(func() {
		h.ran = append(h.ran, run{p, time.Since(h.started)})
		h.now++
		h.most = max(h.most, h.now)
	})
	defer h.set(func() { h.now-- })
	if h.takes > 0 {
		select {
		case <-time.After(h.takes):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if h.answer != nil {
		return h.answer(p)
	}
	return nil
}

// wantRan compares the programs that have run since the last call with those wanted, as run
// writes them.
func (h *host) wantRan(want ...string) {
	h.t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	got := []string{}
	for _, r := range h.ran {
		got = append(got, r.String())
	}
	h.ran = nil
	if !slices.Equal(got, append([]string{}, want...)) {
		h.t.Errorf("programs: got %q, want %q", got, want)
	}
}

func (h *host) wantCounted(want map[string]int) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !maps.Equal(h.counted, want) {
		h.t.Errorf("counted: got %v, want %v", h.counted, want)
	}
}

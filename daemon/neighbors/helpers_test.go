package neighbors_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/neighbors"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
)

// host is one of the hosts of a test: a real roster of the other hosts, and agents that the
// test makes.
type host struct {
	t      *testing.T
	name   string
	roster *roster.Roster
	near   *neighbors.Neighbors

	mu       sync.Mutex
	cards    map[string]card.Card // by name in lower case
	states   map[string]api.Agent // status, note and numbers, by name in lower case
	progress chan struct{}
	told     []string // of agents of other hosts
}

func newHost(t *testing.T, name string, agents ...string) *host {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, name: name, roster: roster.New(home), cards: make(map[string]card.Card), states: make(map[string]api.Agent), progress: make(chan struct{})}
	h.near = neighbors.New(neighbors.Parts{Roster: h.roster, Cards: h, Presence: h.presence, Describe: h.describe, Wake: h.wake, Progress: h.progressed})
	h.roster.Tell(roster.Hooks{Far: h.far})
	for _, a := range agents {
		h.register(a, "card of "+a)
	}
	return h
}

// register makes an agent, or changes its card.
func (h *host) register(name, description string) {
	h.mu.Lock()
	h.cards[strings.ToLower(name)] = card.Card{ID: envelope.NewID(), Name: name, Description: description, Capabilities: []string{"go"}}
	h.mu.Unlock()
	h.near.Changed(name)
}

func (h *host) unregister(name string) {
	h.mu.Lock()
	c := h.cards[strings.ToLower(name)]
	c.Unregistered = true
	h.cards[strings.ToLower(name)] = c
	h.mu.Unlock()
	h.near.Changed(name)
}

func (h *host) All() (list []card.Card) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(h.cards)) {
		if c := h.cards[name]; !c.Unregistered {
			list = append(list, c)
		}
	}
	return list
}

func (h *host) Get(name string) (card.Card, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.cards[strings.ToLower(name)]
	return c, ok
}

func (h *host) describe(c card.Card) api.Agent {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.states[strings.ToLower(c.Name)]
}

func (h *host) presence(agent string) presence.Presence {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.states[strings.ToLower(agent)]
	return presence.Presence{State: presence.State(cmp.Or(a.Status, card.Offline)), Note: a.Note, Since: a.Since, LastSeen: a.LastSeen}
}

func (h *host) progressed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.progress
}

func (h *host) wake(agent string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.states[strings.ToLower(agent)].Wake
}

// set says what an agent does, without a word to the others.
func (h *host) set(name string, a api.Agent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states[strings.ToLower(name)] = a
}

// say says what an agent does.
func (h *host) say(name, status string) {
	h.set(name, api.Agent{Status: status})
	h.near.Changed(name)
}

// further says that somebody has more to do, or less.
func (h *host) further() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.progress)
	h.progress = make(chan struct{})
}

func (h *host) far(a envelope.Address, p presence.Presence) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = append(h.told, fmt.Sprintf("%s %s", a, p.State))
}

func (h *host) wantTold(want ...string) {
	h.t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.told, want) {
		h.t.Errorf("told: got %q, want %q", h.told, want)
	}
	h.told = nil
}

// want is how the agents of another host are seen: name, status and link.
func (h *host) want(what, host string, want ...string) {
	h.t.Helper()
	synctest.Wait()
	got := []string{}
	for _, w := range h.seen(host) {
		got = append(got, fmt.Sprintf("%s %s %s", w.Address, w.Far.Status, w.Far.Link))
	}
	if !slices.Equal(got, want) {
		h.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func (h *host) seen(host string) []show.Who {
	list, err := h.roster.At(host)
	if err != nil {
		h.t.Helper()
		h.t.Fatal(err)
	}
	return list
}

func (h *host) side() peertest.Side {
	return peertest.Side{ID: "id-of-" + h.name, Name: h.name, Services: []peer.Service{h.near}}
}

// stranger is a host that says what a test wants it to.
type stranger struct {
	*peer.Session
	t    *testing.T
	mu   sync.Mutex
	took []link.Frame
}

func (s *stranger) Types() []string                   { return []string{"presence"} }
func (s *stranger) Open(with *peer.Session) peer.Line { s.Session = with; return s }
func (s *stranger) Close()                            {}
func (s *stranger) Take(f link.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, f)
	return nil
}

// say sends a frame of lines as they are.
func (s *stranger) say(header string, lines ...string) error {
	f := link.Frame{Type: "presence", Lane: link.Presence, Header: []byte(header)}
	for _, l := range lines {
		f.Lines = append(f.Lines, []byte(l))
	}
	return s.Send(s.t.Context(), f)
}

const (
	part  = `{"snapshot":true}`
	whole = `{"snapshot":true,"last":true}`
)

// meet links a host with a stranger.
func meet(t *testing.T, h *host) (*stranger, *peertest.Link) {
	t.Helper()
	s := &stranger{t: t}
	l, _, _ := peertest.Connect(t, h.side(), peertest.Side{ID: "id-of-lon", Name: "lon", Services: []peer.Service{s}})
	return s, l
}

func fields(t *testing.T, line []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(line, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func cause(s *stranger) error { return context.Cause(s.Context()) }

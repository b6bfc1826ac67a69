package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
)

// Status is how it stands with a peer.
type Status struct {
	Peer
	State   State
	Since   time.Time
	Problem string        // why the last link ended or did not begin, and what to do; empty while one is up
	At      time.Time     // of the problem
	DialAt  time.Time     // when it is dialled next; zero for not
	Dialled bool          // by this host, where a link is up
	Delay   time.Duration // there and back, 0 for not known
	Waiting int           // envelopes in the spool
}

// List tells how it stands with all peers, by name.
func (m *Manager) List() []Status {
	var list []Status
	for _, p := range m.book.Peers() {
		list = append(list, m.status(p))
	}
	return list
}

// Get tells how it stands with a peer.
func (m *Manager) Get(name string) (Status, error) {
	p, ok := m.book.Get(name)
	if !ok {
		return Status{}, fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	return m.status(p), nil
}

func (m *Manager) status(peer Peer) Status {
	s := Status{Peer: peer, State: Down, Waiting: m.waiting(peer.Name)}
	if s.Problem = m.uncarried(peer); s.Problem != "" {
		s.At = m.now()
	}
	p := m.peek(peer.ID)
	if p == nil {
		return s
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.State, s.Since, s.DialAt = p.state, p.since, p.dialAt; s.State == Up {
		s.Problem, s.At = "", time.Time{}
	}
	if p.failed != nil && p.state != Up {
		s.Problem, s.At = p.explain(peer, p.failed), p.failedT
	}
	if c := p.current; c != nil && c.session != nil {
		s.Dialled, s.Delay = c.dialled, c.session.echoes.took()
	}
	return s
}

// uncarried says why a peer that can be reached only by a relay is not even dialled; it is
// empty where it is.
func (m *Manager) uncarried(p Peer) string {
	if p.Address != "" || p.Via == "" {
		return ""
	}
	relay, known := m.book.Get(p.Via)
	switch {
	case !known:
		return fmt.Sprintf("%s carried for it, and is not linked with this host any more: pair with one of the two", p.Via)
	case !relay.Relay:
		return fmt.Sprintf("%s would carry for it, and is no relay of this host any more: run duo peer relay %s on", p.Via, p.Via)
	case m.Session(relay.ID) == nil:
		return fmt.Sprintf("there is no link with %s, which carries for it: see duo peer show %s", p.Via, p.Via)
	}
	return ""
}

// waiting counts the envelopes that wait for a peer.
func (m *Manager) waiting(name string) int {
	entries, err := os.ReadDir(filepath.Join(m.home.SpoolDir(name), "new"))
	if err != nil {
		return 0
	}
	return len(entries)
}

// explain says why there is no link, and what a person can do where one has to.
func (p *pair) explain(peer Peer, err error) string {
	var bye *link.Bye
	switch {
	case errors.Is(err, identity.ErrChangedKey):
		return fmt.Sprintf("at %s is a host whose key is not the one of %s that is pinned: ask a person there; where the host was made anew, run duo peer remove %s and pair again", peer.Address, peer.Name, peer.Name)
	case errors.Is(err, identity.ErrOldKey):
		return fmt.Sprintf("%s shows a key that it has replaced since: an old copy of it may be running", peer.Name)
	case identity.RefusedByPeer(err):
		return fmt.Sprintf("%s does not know this host, or not with this key: pair again with duo pair", peer.Name)
	case errors.As(err, &bye) && bye.Code == link.CodeRemoved:
		return fmt.Sprintf("%s has removed this host: pair again with duo pair", peer.Name)
	case errors.As(err, &bye) && bye.Code == link.CodeVersion:
		return fmt.Sprintf("%s speaks another version of the protocol: bring both to the same duo", peer.Name)
	}
	return err.Error()
}

// ErrDown means that there is no link with a peer now.
var ErrDown = errors.New("the host is not reached now")

// Ping tells how long a frame takes to a peer and back. Where there is no link the peer is
// dialled, also one that is held; so it is where the link turns out to have ended.
func (m *Manager) Ping(ctx context.Context, name string) (time.Duration, error) {
	peer, ok := m.book.Get(name)
	if !ok {
		return 0, fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	for first := true; ; first = false {
		linked := m.pair(peer).release()
		m.Await(ctx, peer.ID)
		took, err := m.Session(peer.ID).ping(ctx)
		if err == nil {
			return took, nil
		}
		if !first || !linked || !errors.Is(err, ErrDown) {
			return 0, fmt.Errorf("%q: %w", name, err)
		}
	}
}

func (s *Session) ping(ctx context.Context) (time.Duration, error) {
	told := make(chan time.Duration, 1)
	if s == nil || !s.echoes.call(told) {
		return 0, ErrDown
	}
	select {
	case took := <-told:
		return took, nil
	case <-s.Context().Done():
		return 0, ErrDown
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Session is the link with a peer that is up now, nil where none is.
func (m *Manager) Session(id string) *Session {
	p := m.peek(id)
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil {
		return nil
	}
	return p.current.session
}

// Kick dials a peer at once, also one that is held.
func (m *Manager) Kick(name string) error {
	peer, ok := m.book.Get(name)
	if !ok {
		return fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	m.pair(peer).release()
	return nil
}

const maxAddress = 300

// CheckAddress wants host:port, with a host and a port that can be dialled.
func CheckAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || len(address) > maxAddress || host == "" || strings.ContainsAny(host, " /\n\r\t\x00") {
		return fmt.Errorf("address %.80q: want host:port", address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("address %.80q: want a port from 1 to 65535", address)
	}
	return nil
}

const awaitTime = 3 * time.Second

// Await waits for a while until a link with a peer is up.
func (m *Manager) Await(ctx context.Context, id string) {
	p := m.peek(id)
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, awaitTime)
	defer cancel()
	for {
		p.mu.Lock()
		up, turned := p.state == Up && p.alive() && p.current.session != nil, p.turned
		p.mu.Unlock()
		if up {
			return
		}
		select {
		case <-turned:
		case <-ctx.Done():
			return
		}
	}
}

// SetRelay says whether a peer may introduce others and carries for this host.
func (m *Manager) SetRelay(name string, on bool) error {
	return m.change(name, func(p *Peer) { p.Relay = on })
}

// SetCarry says whether this host carries for a peer, and introduces it to the others for
// which it does.
func (m *Manager) SetCarry(name string, on bool) error {
	return m.change(name, func(p *Peer) { p.Carry = on })
}

func (m *Manager) change(name string, do func(*Peer)) error {
	_, err := m.book.Change(name, do)
	if err == nil {
		m.changed()
	}
	return err
}

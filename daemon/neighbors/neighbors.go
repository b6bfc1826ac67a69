// Package neighbors tells linked hosts who is at this one, and the roster who is at
// theirs: the frames "presence". At the start of a link each side tells of all its agents,
// then of changes, the newest state of each agent, a frame every two seconds at most.
//
// Nothing of it is stored. What another host says is bounded, and concerns its own agents
// only: their names have no host.
package neighbors

import (
	"sync"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
)

const frameType = "presence"

// Cards are the agents of this host; a roster.Roster has them.
type Cards interface {
	All() []card.Card // without those that have unregistered
	Get(name string) (card.Card, bool)
}

// Parts are what the service works with.
type Parts struct {
	Roster   *roster.Roster                       // hears who is at other hosts
	Cards    Cards                                // are told of
	Presence func(agent string) presence.Presence // of an agent of this host; presence.Book.Of does
	Describe func(card.Card) api.Agent            // with what it has to do, where it is there; desk.Agent does
	Wake     func(agent string) string            // how it learns of what comes
	Progress func() <-chan struct{}               // closed when somebody has more to do, or less; deliver.Progress does
}

// Neighbors is the service of the frames "presence". Its methods may be used by several
// goroutines.
type Neighbors struct {
	Parts

	mu    sync.Mutex
	lines map[*line]struct{}
}

// New returns a service that has no links yet.
func New(parts Parts) *Neighbors {
	return &Neighbors{Parts: parts, lines: make(map[*line]struct{})}
}

// Changed says that an agent of this host comes or goes, or that its card is another one.
func (n *Neighbors) Changed(agent string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.lines {
		l.teller.changed(agent)
	}
}

// Types are the frames of the service.
func (n *Neighbors) Types() []string { return []string{frameType} }

// Open begins to tell a peer who is here, and hears who is there.
func (n *Neighbors) Open(s *peer.Session) peer.Line {
	n.Roster.Up(s.Name, s.Host)
	l := &line{Neighbors: n, session: s, hearer: newHearer(n.Roster, s.Name), teller: newTeller(n.Parts, s)}
	n.mu.Lock()
	n.lines[l] = struct{}{}
	n.mu.Unlock()
	l.running.Go(func() { l.teller.run(l.hearer.whole) })
	return l
}

// line is one link. What it has to say is said by one goroutine; what it hears is heard by
// the reader of the link.
type line struct {
	*Neighbors
	session *peer.Session
	running sync.WaitGroup

	hearer *hearer
	teller *teller
}

// Take hears who is there.
func (l *line) Take(f link.Frame) error {
	defer l.session.Done(f)
	return l.hearer.hear(f)
}

// Close makes all agents of the peer offline.
func (l *line) Close() {
	l.mu.Lock()
	delete(l.lines, l)
	l.mu.Unlock()
	l.running.Wait() // its context has ended with the link
	l.Roster.Down(l.session.Name, l.session.Host)
}

package peer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
)

// State is how it stands with the link to a peer.
type State string

// The states of docs/link.md.
const (
	Down    State = "down"
	Dialing State = "dialing"
	Hello   State = "hello"
	Up      State = "up"
	Held    State = "held"
)

const (
	young     = 5 * time.Second // two links that are younger are of two who have dialled at once
	steady    = time.Minute     // a fault within this time of the link counts
	maxFaults = 3               // in a row
	slowly    = time.Minute     // to dial one that does not want us
)

// pair is this host and one peer. One goroutine dials; each link has another that carries
// it.
type pair struct {
	*Manager
	id      string
	ctx     context.Context // until the peer is removed
	cancel  context.CancelCauseFunc
	kicked  chan struct{} // a token: look again, and dial
	backoff link.Backoff  // of the goroutine that dials

	mu      sync.Mutex
	state   State
	since   time.Time     // of the state
	turned  chan struct{} // closed and replaced when the state is another one
	failed  error         // why the last link ended, or did not begin
	failedT time.Time
	dialAt  time.Time // when it is dialled next; zero for not
	faults  int
	called  bool      // the peer has dialled since this host dialled last
	asked   bool      // it is to be dialled at once, and was not since
	current *carriage // that is up, or about to be
}

// carriage is a link that is carried.
type carriage struct {
	link    *link.Link
	session *Session // once services have it
	dialled bool     // by this host
	began   time.Time
	done    chan struct{} // closed when nothing of it is applied any more
}

func newPair(m *Manager, p Peer) *pair {
	ctx, cancel := context.WithCancelCause(m.running)
	return &pair{
		Manager: m, id: p.ID, ctx: ctx, cancel: cancel, kicked: make(chan struct{}, 1), state: Down, since: m.now(), turned: make(chan struct{}),
	}
}

// kick makes the peer be dialled at once where there is no link. One that has ended, and
// is being cleared away, is none.
func (p *pair) kick() {
	p.mu.Lock()
	p.asked = p.asked || !p.alive()
	p.mu.Unlock()
	p.look()
}

// look makes the one who dials look again.
func (p *pair) look() {
	select {
	case p.kicked <- struct{}{}:
	default:
	}
}

// looked takes back what there was to look at and has happened meanwhile.
func (p *pair) looked() {
	select {
	case <-p.kicked:
	default:
	}
}

// release ends that the peer is held, and dials it where there is no link: a person has said
// so. It reports whether there is one.
func (p *pair) release() (linked bool) {
	p.mu.Lock()
	if p.state == Held {
		p.turn(Down)
	}
	p.faults = 0
	linked = p.alive()
	p.mu.Unlock()
	p.kick()
	return linked
}

// alive reports whether there is a link that has not ended. The caller holds the lock.
func (p *pair) alive() bool { return p.current != nil && p.current.link.Context().Err() == nil }

func (p *pair) isHeld() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state == Held
}

func (p *pair) remove() {
	bye := &link.Bye{Code: link.CodeRemoved}
	p.mu.Lock()
	if p.current != nil {
		p.current.link.Close(bye)
	}
	p.mu.Unlock()
	p.cancel(bye)
}

// turn changes the state. The caller holds the lock.
func (p *pair) turn(s State) {
	if p.state != s {
		p.state, p.since = s, p.now()
		close(p.turned)
		p.turned = make(chan struct{})
	}
}

// run dials the peer whenever there is no link, until the peer is removed.
func (p *pair) run() {
	wait := time.Duration(0)
	for p.ctx.Err() == nil {
		if c := p.carried(); c != nil {
			select {
			case <-c.done:
				p.looked()
				wait = p.pause(p.now().Sub(c.began))
			case <-p.ctx.Done():
			}
			continue
		}
		if !p.rest(wait) {
			continue
		}
		peer, ok := p.book.ByID(p.id)
		if !ok || p.carried() != nil {
			continue
		}
		began := p.now()
		err := p.dialPeer(peer)
		if err != nil {
			p.ended(err, false, 0)
		}
		p.looked()
		wait = p.pause(p.now().Sub(began))
	}
}

func (p *pair) carried() *carriage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}

// rest waits before the peer is dialled, and reports whether it shall be: not where
// somebody has to act first, or nobody knows where it is. A kick ends the rest.
func (p *pair) rest(wait time.Duration) bool {
	var due <-chan time.Time
	if p.canDial(wait) {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-p.ctx.Done():
		return false
	case <-p.kicked:
		return p.canDial(0)
	case <-due:
		return true
	}
}

// canDial reports whether the peer may be dialled, and notes when that will be.
func (p *pair) canDial(after time.Duration) bool {
	peer, _ := p.book.ByID(p.id)
	_, carried := p.relayOf(peer)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialAt = time.Time{}
	if p.state == Held || peer.Address == "" && !carried {
		return false
	}
	p.dialAt = p.now().Add(after)
	return true
}

// pause is how long to wait after a link that was up for some time.
func (p *pair) pause(up time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.called {
		p.backoff.Reset()
		p.called = false
	}
	wait := p.backoff.Next(up)
	if p.asked {
		return 0
	}
	var bye *link.Bye
	switch {
	case errors.As(p.failed, &bye) && bye.Received && bye.Wait > 0:
		wait = max(wait, time.Duration(float64(bye.Wait)*(1+rand.Float64()/2)))
	case unwelcome(p.failed):
		wait = max(wait, time.Duration(float64(slowly)*(0.5+rand.Float64())))
	}
	return wait
}

// unwelcome reports whether a person has to act before a link can be.
func unwelcome(err error) bool {
	var bye *link.Bye
	return errors.Is(err, identity.ErrChangedKey) || errors.Is(err, identity.ErrOldKey) || errors.Is(err, identity.ErrUnknownHost) ||
		identity.RefusedByPeer(err) || errors.Is(err, link.ErrHeld) || errors.As(err, &bye) && bye.Code == link.CodeVersion
}

// dialPeer makes a link and carries it until it ends. The error says that there was none.
func (p *pair) dialPeer(peer Peer) error {
	p.mu.Lock()
	p.dialAt, p.asked = time.Time{}, false
	p.turn(Dialing)
	p.mu.Unlock()
	conn, err := p.reach(peer)
	if err != nil {
		return err
	}
	p.mu.Lock()
	if p.current == nil {
		p.turn(Hello)
	}
	p.mu.Unlock()
	l, err := link.Dial(p.ctx, conn, p.options(peer))
	if err != nil {
		return err
	}
	p.carry(l, true)
	return nil
}

// carry carries a link until it ends, where it may stay beside the one that there is.
// There is never more than one whose frames are taken.
func (p *pair) carry(l *link.Link, dialled bool) {
	c := &carriage{link: l, dialled: dialled, began: p.now(), done: make(chan struct{})}
	p.mu.Lock()
	old := p.current
	if p.ctx.Err() != nil || old != nil && !p.replaces(c, old) {
		p.mu.Unlock()
		l.Close(&link.Bye{Code: link.CodeReplaced})
		_ = l.Run(p.ctx, nobody{}) // says goodbye
		return
	}
	p.current = c
	p.called = p.called || !dialled
	p.mu.Unlock()
	p.look()
	if old != nil {
		old.link.Close(&link.Bye{Code: link.CodeReplaced})
		<-old.done
	}
	peer, _ := p.book.ByID(p.id)
	p.learn(peer, l)
	p.logger.Info("link is up", "peer", peer.Name, "id", p.id)
	err := Run(p.ctx, l, peer.Name, p.services, func(s *Session) { p.begun(c, s) })
	p.mu.Lock()
	last := p.current == c
	if last {
		p.current = nil
	}
	p.mu.Unlock()
	if last {
		p.ended(err, true, p.now().Sub(c.began))
	}
	p.logger.Info("link has ended", "peer", peer.Name, "id", p.id, "err", err)
	close(c.done)
}

func (p *pair) begun(c *carriage, s *Session) {
	p.mu.Lock()
	c.session = s
	if p.current == c {
		p.turn(Up)
		p.failed, p.asked = nil, false
	}
	p.mu.Unlock()
	p.kickCarried(s.Name)
}

// replaces reports whether a new link takes the place of one that there is: the newer one
// does, but of two that both hosts have dialled at once the one of the smaller id stays.
func (p *pair) replaces(fresh, old *carriage) bool {
	if fresh.dialled == old.dialled || fresh.began.Sub(old.began) >= young {
		return true
	}
	return fresh.dialled == (p.home.Host.ID < p.id)
}

// learn notes where the peer says it can be dialled.
func (p *pair) learn(peer Peer, l *link.Link) {
	address := l.PeerAddress()
	if address == "" || address == peer.Address || CheckAddress(address) != nil {
		return
	}
	if _, err := p.book.Change(peer.Name, func(p *Peer) { p.Address = address }); err != nil {
		p.logger.Warn("address of a peer is not kept", "peer", peer.Name, "err", err)
	}
}

// ended notes why there is no link, and holds the peer where a person has to act.
func (p *pair) ended(err error, was bool, up time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil { // another one is up meanwhile
		return
	}
	p.failed, p.failedT = err, p.now()
	var bye *link.Bye
	fault := errors.As(err, &bye) && bye.Fault()
	switch {
	case fault && up < steady:
		p.faults++
	case up >= steady:
		p.faults = 0
	}
	removed := bye != nil && bye.Received && bye.Code == link.CodeRemoved
	wrong := bye != nil && bye.Code == link.CodeHost
	if removed || wrong || p.faults >= maxFaults {
		p.turn(Held)
	} else {
		p.turn(Down)
	}
	if !was {
		p.logger.Info("peer is not reached", "id", p.id, "err", err)
	}
}

// nobody takes the frames of a link that has ended already.
type nobody struct{}

func (nobody) Take(link.Frame) error { return nil }

package peer

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/claude-duo/duo/sync/link"
)

// Service takes some kinds of frames from all links.
type Service interface {
	// Types are the frames that are for the service.
	Types() []string
	// Open is called when a link is up, before a frame of it is taken.
	Open(*Session) Line
}

// Line is the end of one link at a service.
type Line interface {
	// Take is given the frames of the service's types in the order in which they come. As
	// with link.Taker it must not wait, and its error ends the link. When a frame is dealt
	// with, somebody calls Session.Done, also of frames without a number.
	Take(link.Frame) error
	// Close is called once, when the link has ended. It returns when nothing that the
	// link has brought is applied any more: the next link of the same peer begins then.
	Close()
}

// Session is one link with a peer, from hello to its end. Its methods may be used by
// several goroutines.
type Session struct {
	Host string // id of the peer
	Name string // of the peer, as addresses have it

	link   *link.Link
	lines  map[string]Line
	echoes *echoLine // nil where there is no manager

	mu    sync.Mutex
	dealt map[link.Lane]*dealt
}

// dealt is which of the frames of a lane are dealt with.
type dealt struct {
	through uint64
	ahead   map[uint64]struct{} // those behind it
}

// Run makes a session of a link and carries its frames to the services until the link
// ends, and returns why. When it returns, all lines are closed.
func Run(ctx context.Context, l *link.Link, name string, services []Service, begun func(*Session)) error {
	s := &Session{Host: l.Peer(), Name: name, link: l, lines: make(map[string]Line), dealt: make(map[link.Lane]*dealt)}
	var open []Line
	for _, service := range services {
		line := service.Open(s)
		open = append(open, line)
		for _, t := range service.Types() {
			s.lines[t] = line
		}
	}
	if begun != nil {
		begun(s)
	}
	err := l.Run(ctx, taker{s})
	for _, line := range open {
		line.Close()
	}
	return err
}

// taker hands the frames of a link to the lines they are for.
type taker struct{ *Session }

func (t taker) Take(f link.Frame) error {
	line, ok := t.lines[f.Type]
	if !ok { // of a later version
		t.Done(f)
		return nil
	}
	if err := line.Take(f); err != nil {
		return fmt.Errorf("take %.40q: %w", f.Type, err)
	}
	return nil
}

// Context ends with the link.
func (s *Session) Context() context.Context { return s.link.Context() }

// Conn is the connection that carries the link. It is the link's.
func (s *Session) Conn() net.Conn { return s.link.Conn() }

// Send hands a frame to the link's writer; see link.Link.Send.
func (s *Session) Send(ctx context.Context, f link.Frame) error { return s.link.Send(ctx, f) }

// TrySend is Send where the lane has room, and else says no at once.
func (s *Session) TrySend(f link.Frame) bool { return s.link.TrySend(f) }

// End ends the link with a goodbye. It does not wait.
func (s *Session) End(b *link.Bye) { s.link.Close(b) }

// Done says that a frame is dealt with: what it brings is on disk, or was refused and
// that is on disk. Frames may be dealt with in any order; the peer is told of those
// before which none is missing. Of a frame without a number it says nothing.
func (s *Session) Done(f link.Frame) {
	if f.Number == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.dealt[f.Lane]
	if d == nil {
		d = &dealt{ahead: make(map[uint64]struct{})}
		s.dealt[f.Lane] = d
	}
	d.ahead[f.Number] = struct{}{}
	before := d.through
	for {
		if _, ok := d.ahead[d.through+1]; !ok {
			break
		}
		d.through++
		delete(d.ahead, d.through)
	}
	if d.through > before {
		s.link.Done(f.Lane, d.through)
	}
}

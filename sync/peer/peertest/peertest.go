// Package peertest links two hosts in memory, for tests of what a link carries. It
// works in a bubble of testing/synctest.
package peertest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
)

// Side is one of the two hosts.
type Side struct {
	ID, Name string
	Services []peer.Service
	Wrap     func(net.Conn) net.Conn // its end of the connection, for faults; may be nil
}

// Connect links two hosts until the test ends, and returns their sessions. The link is a
// real one, without TLS.
func Connect(t testing.TB, a, b Side) (*Link, *peer.Session, *peer.Session) {
	t.Helper()
	near, far := net.Pipe()
	dialled, accepted := open(t, a.wrap(near), b.wrap(far), a, b)
	ctx, cancel := context.WithCancel(context.Background())
	l := &Link{cancel: cancel}
	sa, sb := l.run(ctx, dialled, b.Name, a.Services), l.run(ctx, accepted, a.Name, b.Services)
	t.Cleanup(l.Cut)
	return l, <-sa, <-sb
}

// Link is a link between two hosts of a test.
type Link struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Cut ends the link, and returns when both sides have closed their lines.
func (l *Link) Cut() {
	l.cancel()
	l.running.Wait()
}

func (l *Link) run(ctx context.Context, of *link.Link, name string, services []peer.Service) <-chan *peer.Session {
	begun := make(chan *peer.Session, 1)
	l.running.Go(func() {
		_ = peer.Run(ctx, of, name, services, func(s *peer.Session) { begun <- s }) // ends with the test
	})
	return begun
}

func (s Side) wrap(conn net.Conn) net.Conn {
	if s.Wrap == nil {
		return conn
	}
	return s.Wrap(conn)
}

func (s Side) options(other Side) link.Options {
	return link.Options{Host: s.ID, Name: s.Name, Peer: other.ID}
}

func open(t testing.TB, near, far net.Conn, a, b Side) (dialled, accepted *link.Link) {
	t.Helper()
	var all sync.WaitGroup
	var errs [2]error
	one := &listener{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	one.conn <- far
	handled := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(handled)
		accepted, errs[0] = link.Accept(w, r, b.options(a))
	})}
	server.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateHijacked || s == http.StateClosed {
			one.close()
		}
	}
	all.Go(func() { _ = server.Serve(one) }) // ends with its only connection
	dialled, errs[1] = link.Dial(context.Background(), near, a.options(b))
	all.Wait()
	<-handled
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dialled, accepted
}

// listener gives one connection.
type listener struct {
	conn   chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) close()         { l.once.Do(func() { close(l.closed) }) }
func (l *listener) Close() error   { l.close(); return nil }
func (l *listener) Addr() net.Addr { return &net.IPAddr{} }

package httpd

import (
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// guarded is the local socket, where nobody but the user of the home is let in.
type guarded struct {
	net.Listener
	logger *slog.Logger
}

func (l guarded) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if local, ok := conn.(*net.UnixConn); !ok || isOwnUser(local) {
			return conn, nil
		}
		l.logger.Warn("another user is turned away", "path", l.Addr().String())
		turnAway(conn, "403 Forbidden")
	}
}

// capped is a listener that has so many connections at once. More are told so at once:
// to let them wait would be to let them wait for ever.
type capped struct {
	net.Listener
	places chan struct{}
}

func newCapped(l net.Listener, connections int) *capped {
	return &capped{Listener: l, places: make(chan struct{}, connections)}
}

func (l *capped) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.places <- struct{}{}:
			return &place{Conn: conn, free: sync.OnceFunc(func() { <-l.places })}, nil
		default:
			turnAway(conn, "503 Service Unavailable")
		}
	}
}

// turnAway answers a connection without waiting for what it wants.
func turnAway(conn net.Conn, status string) {
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // it is a moment's work: nothing was sent before
	_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	_ = conn.Close()
}

// place is a connection that takes one of the places of a capped listener.
type place struct {
	net.Conn
	free func()
}

func (p *place) Close() error {
	p.free()
	return p.Conn.Close()
}

// ReadFrom lets the kernel copy files where it can.
func (p *place) ReadFrom(r io.Reader) (int64, error) { return io.Copy(p.Conn, r) }

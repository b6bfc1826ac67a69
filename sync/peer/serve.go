package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
)

const (
	handshakeTime = 10 * time.Second
	maxHeader     = 8 << 10
	lingerTime    = time.Second
	maxLinger     = 64 << 10
)

// Serve takes links and pairings in from a listener until ctx ends, and closes it.
func (m *Manager) Serve(ctx context.Context, l net.Listener) error {
	links := &handoff{address: l.Addr(), conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{
		Handler: m, ReadHeaderTimeout: handshakeTime, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(m.logger.Handler(), slog.LevelDebug),
	}
	server.SetKeepAlivesEnabled(false) // what is no link ends with its answer
	door := newGuard(l, m.logger)
	stop := context.AfterFunc(ctx, func() { _ = door.Close() })
	defer stop()
	m.start(func() { _ = server.Serve(links) }) // returns when it is closed
	for {
		conn, err := door.accept()
		if err != nil {
			_ = server.Close() // links are hijacked, and end with the manager
			return err
		}
		if !m.start(func() { m.greet(ctx, conn, links, conn.proved) }) {
			_ = conn.Close()
		}
	}
}

// greet finds out who has connected. proved is called when that is known or the
// connection has ended.
func (m *Manager) greet(ctx context.Context, raw net.Conn, links *handoff, proved func()) {
	if err := link.Tune(raw); err != nil {
		m.logger.Debug("connection is not tuned", "err", err)
	}
	conn := tls.Server(raw, m.Host().ServerConfig(m.book, m.Pairing))
	handshake, cancel := context.WithTimeout(ctx, handshakeTime)
	err := conn.HandshakeContext(handshake)
	cancel()
	if err != nil {
		m.refused(raw, err)
		proved()
		return
	}
	switch conn.ConnectionState().NegotiatedProtocol {
	case identity.SpliceProtocol:
		proved()
		m.splice(conn)
		return
	case identity.PairProtocol:
		defer proved()
		if _, err := m.Host().Admit(ctx, conn, m.offers, pinner{m, Peer{}}); err != nil {
			m.logger.Warn("pairing failed", "path", raw.RemoteAddr().String(), "err", err)
		}
		return
	}
	proved()
	links.give(conn)
}

// refused notes that somebody was not let in. It takes what still comes for a moment: a
// connection that is closed on unread bytes loses the reason on its way.
func (m *Manager) refused(raw net.Conn, err error) {
	_ = raw.SetDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, raw, maxLinger)
	_ = raw.Close()
	level := slog.LevelDebug
	if errors.Is(err, identity.ErrChangedKey) || errors.Is(err, identity.ErrOldKey) {
		level = slog.LevelWarn
	}
	m.logger.Log(context.Background(), level, "connection is refused", "path", raw.RemoteAddr().String(), "err", err)
}

// ServeHTTP makes a link of a request by a host that has proved to be a peer.
func (m *Manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != link.Path || r.TLS == nil {
		http.NotFound(w, r)
		return
	}
	keys, err := identity.PeerKeys(*r.TLS)
	if err != nil {
		http.Error(w, "no host", http.StatusForbidden)
		return
	}
	peer, err := m.book.Prove(keys)
	if err != nil {
		m.logger.Warn("link is refused", "id", keys.ID(), "err", err)
		http.Error(w, "not linked", http.StatusForbidden)
		return
	}
	p := m.pair(peer)
	if p.isHeld() {
		m.logger.Debug("link is refused until a person releases the peer", "peer", peer.Name)
		http.Error(w, "held", link.StatusHeld)
		return
	}
	l, err := link.Accept(w, r, m.options(peer))
	if err != nil {
		m.logger.Warn("link does not begin", "peer", peer.Name, "err", err)
		return
	}
	m.start(func() { p.carry(l, false) })
}

// handoff is a listener whose connections come from somewhere else.
type handoff struct {
	address net.Addr
	conns   chan net.Conn
	closed  chan struct{}
}

func (h *handoff) give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.closed:
		_ = conn.Close()
	}
}

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close is called once, by the server.
func (h *handoff) Close() error {
	select {
	case <-h.closed:
	default:
		close(h.closed)
	}
	return nil
}

func (h *handoff) Addr() net.Addr { return h.address }

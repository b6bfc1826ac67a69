package peer

import (
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

const (
	maxOpen       = 2048 // connections
	maxPending    = 64   // that have not proved who they are
	keptPending   = 16   // of these for addresses from which a peer has come before
	addressOpen   = 16   // not proved, of one address
	addressRate   = 10   // a second, of one address in the long run
	addressBurst  = 100
	manyAddresses = 4096

	acceptPause = 5 * time.Millisecond // doubled, where the system gives no connection
	longPause   = time.Second
	tellEvery   = time.Minute
)

// guard is a listener that strangers cannot fill: who connects too often, or leaves too
// many connections without proving who it is, is turned away before TLS begins. An IPv6
// network of 64 bits counts as one address. Connections that have none, as in memory,
// count for the sums alone.
type guard struct {
	net.Listener
	logger *slog.Logger
	now    func() time.Time
	closed chan struct{}
	close  func()

	mu      sync.Mutex
	open    int
	pending int
	from    map[netip.Prefix]*address
	told    time.Time // when it was logged last that somebody was turned away
}

// address is where connections come from.
type address struct {
	rate    *rate.Limiter
	pending int
	known   bool // a peer has come from it
}

func newGuard(l net.Listener, logger *slog.Logger) *guard {
	g := &guard{Listener: l, logger: logger, now: time.Now, closed: make(chan struct{}), from: make(map[netip.Prefix]*address)}
	g.close = sync.OnceFunc(func() { close(g.closed) })
	return g
}

// guest is a connection that was let in. Its place is free again when it is closed.
type guest struct {
	net.Conn
	guard *guard
	from  *address // nil where it has none

	pending, gone bool // guarded by the guard
}

// accept returns the next connection that is let in. An error is final: what passes, as
// a lack of file descriptors, it waits for.
func (g *guard) accept() (*guest, error) {
	pause := acceptPause
	for {
		conn, err := g.Accept()
		switch {
		case err != nil && passes(err):
			if !g.wait(pause) {
				return nil, net.ErrClosed
			}
			pause = min(2*pause, longPause)
			continue
		case err != nil:
			return nil, err
		}
		pause = acceptPause
		if c := g.admit(conn); c != nil {
			return c, nil
		}
		_ = conn.Close() // nothing was said
	}
}

func passes(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (g *guard) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-g.closed:
		return false
	}
}

// Close ends accept.
func (g *guard) Close() error {
	g.close()
	return g.Listener.Close()
}

// admit returns nil for a connection that is turned away.
func (g *guard) admit(conn net.Conn) *guest {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	from := g.address(conn.RemoteAddr(), now)
	if !g.hasRoom(from, now) {
		g.tell(now)
		return nil
	}
	g.open++
	g.pending++
	if from != nil {
		from.pending++
	}
	return &guest{Conn: conn, guard: g, from: from, pending: true}
}

func (g *guard) hasRoom(from *address, now time.Time) bool {
	room := maxPending
	if from == nil || !from.known {
		room -= keptPending
	}
	switch {
	case from != nil && !from.rate.AllowN(now, 1):
		return false
	case from != nil && from.pending >= addressOpen:
		return false
	}
	return g.open < maxOpen && g.pending < room
}

// address is what is known of where a connection comes from. The lock is held.
func (g *guard) address(remote net.Addr, now time.Time) *address {
	at, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return nil
	}
	bits := 32
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return nil
	}
	a := g.from[prefix]
	if a == nil {
		g.forget(now)
		a = &address{rate: rate.NewLimiter(addressRate, addressBurst)}
		g.from[prefix] = a
	}
	return a
}

// forget makes room for another address: first those that could do anything again, then
// all that nothing is open of.
func (g *guard) forget(now time.Time) {
	for _, idle := range []func(*address) bool{
		func(a *address) bool { return a.pending == 0 && !a.known && a.rate.TokensAt(now) >= addressBurst },
		func(a *address) bool { return a.pending == 0 && !a.known },
		func(a *address) bool { return a.pending == 0 },
	} {
		if len(g.from) < manyAddresses {
			return
		}
		maps.DeleteFunc(g.from, func(_ netip.Prefix, a *address) bool { return idle(a) })
	}
}

// tell logs now and then that somebody was turned away.
func (g *guard) tell(now time.Time) {
	if now.Sub(g.told) < tellEvery {
		return
	}
	g.logger.Warn("connections are turned away: too many at once, or of one address")
	g.told = now
}

// proved says that a connection is that of a peer, unless it has ended.
func (c *guest) proved() {
	c.guard.mu.Lock()
	defer c.guard.mu.Unlock()
	if c.gone {
		return
	}
	c.settle()
	if c.from != nil {
		c.from.known = true
	}
}

func (c *guest) settle() {
	if !c.pending {
		return
	}
	c.pending = false
	c.guard.pending--
	if c.from != nil {
		c.from.pending--
	}
}

// Close frees the place.
func (c *guest) Close() error {
	c.guard.mu.Lock()
	if !c.gone {
		c.settle()
		c.gone = true
		c.guard.open--
	}
	c.guard.mu.Unlock()
	return c.Conn.Close()
}

// SyscallConn is that of the connection, for who tunes it.
func (c *guest) SyscallConn() (syscall.RawConn, error) {
	if conn, ok := c.Conn.(syscall.Conn); ok {
		return conn.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

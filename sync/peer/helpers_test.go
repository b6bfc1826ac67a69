package peer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/peer"
)

// world is a network in memory: who listens at which address, and which connections
// there are.
type world struct {
	t *testing.T

	mu     sync.Mutex
	listen map[string]*port
	open   []net.Conn
	from   net.Addr // where connections come from; may be nil
}

func newWorld(t *testing.T) *world { return &world{t: t, listen: make(map[string]*port)} }

func (w *world) dial(ctx context.Context, _, address string) (net.Conn, error) {
	w.mu.Lock()
	l, from := w.listen[address], w.from
	w.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	a, b := newPipe()
	b.from = from
	select {
	case l.conns <- b:
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w.mu.Lock()
	w.open = append(w.open, a.Conn, b.Conn)
	w.mu.Unlock()
	return a, nil
}

// buffered is an end of a connection in memory whose writer does not wait for the
// reader, as a kernel's does not.
type buffered struct {
	net.Conn
	wake chan struct{}
	from net.Addr // the other end; may be nil

	mu     sync.Mutex
	queue  [][]byte
	closed bool
}

func newPipe() (a, b *buffered) {
	x, y := net.Pipe()
	a, b = &buffered{Conn: x, wake: make(chan struct{}, 1)}, &buffered{Conn: y, wake: make(chan struct{}, 1)}
	go a.pump()
	go b.pump()
	return a, b
}

func (c *buffered) pump() {
	defer c.Conn.Close()
	for range c.wake {
		for {
			c.mu.Lock()
			if len(c.queue) == 0 {
				closed := c.closed
				c.mu.Unlock()
				if closed {
					return
				}
				break
			}
			next := c.queue[0]
			c.queue = c.queue[1:]
			c.mu.Unlock()
			if _, err := c.Conn.Write(next); err != nil {
				c.mu.Lock()
				c.queue = nil
				c.mu.Unlock()
				return
			}
		}
	}
}

func (c *buffered) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *buffered) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	c.queue = append(c.queue, bytes.Clone(b))
	c.nudge()
	return len(b), nil
}

// Close lets what was written go out, and takes what still comes for nobody.
func (c *buffered) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		go io.Copy(io.Discard, c.Conn) //nolint:errcheck // ends when the pump closes it
		c.nudge()
	}
	return nil
}

func (c *buffered) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *buffered) RemoteAddr() net.Addr {
	if c.from != nil {
		return c.from
	}
	return c.Conn.RemoteAddr()
}

func (c *buffered) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *buffered) SetWriteDeadline(time.Time) error { return nil }

// cut ends all connections.
func (w *world) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.open {
		_ = c.Close()
	}
	w.open = nil
}

// port is a listener of the world.
type port struct {
	world   *world
	address string
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (w *world) at(address string) *port {
	p := &port{world: w, address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
	w.mu.Lock()
	w.listen[address] = p
	w.mu.Unlock()
	return p
}

func (p *port) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *port) Close() error {
	p.once.Do(func() {
		p.world.mu.Lock()
		delete(p.world.listen, p.address)
		p.world.mu.Unlock()
		close(p.closed)
	})
	return nil
}

func (p *port) Addr() net.Addr { return &net.IPAddr{} }

// host is a host of a test. It can be stopped and started again.
type host struct {
	*peer.Manager
	world *world
	home  *maildir.Home
	book  *peer.Book
	stop  func()
}

func newHome(t *testing.T, name string) *maildir.Home {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := fmt.Appendf(nil, "[host]\nname = %q\n", name)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	home, err := maildir.Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	return home
}

// host starts a host; where it has an address, it takes connections there.
func (w *world) host(name, address string, services ...peer.Service) *host {
	return w.start(newHome(w.t, name), address, services...)
}

func (w *world) start(home *maildir.Home, address string, services ...peer.Service) *host {
	t := w.t
	t.Helper()
	who, err := identity.Open(home)
	if err != nil {
		t.Fatal(err)
	}
	book, bad, err := peer.OpenBook(home)
	if err != nil || len(bad) > 0 {
		t.Fatal(err, bad)
	}
	h := &host{world: w, home: home, book: book}
	h.Manager = peer.NewManager(peer.Parts{
		Home: home, Host: who, Book: book, Services: services, Dial: w.dial, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = h.Run(ctx) })
	if address != "" {
		h.SetAddress(address)
		all.Go(func() { _ = h.Serve(ctx, w.at(address)) })
	}
	h.stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
	})
	t.Cleanup(h.stop)
	synctest.Wait()
	return h
}

// pair makes b join a.
func pair(t *testing.T, a, b *host) {
	t.Helper()
	code, err := a.Offer(a.Address(), 15*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Join(context.Background(), code, false); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func wantState(t *testing.T, h *host, name string, want peer.State) {
	t.Helper()
	if s, err := h.Get(name); err != nil || s.State != want {
		t.Errorf("%s sees %s %q (%s, %v), want %q", h.home.Host.Name, name, s.State, s.Problem, err, want)
	}
}

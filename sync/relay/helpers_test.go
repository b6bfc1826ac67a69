package relay_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
	"github.com/claude-duo/duo/sync/relay"
)

// book is what a host knows of its peers.
type book struct {
	mu      sync.Mutex
	own     string // name of the host
	pinned  map[string]identity.Peer
	via     map[string]string
	carried []string
	relays  []string
	slow    time.Duration // to pin
}

func (b *book) Check(shown identity.Keys) error {
	keys, ok := b.Keys(shown.ID())
	if !ok {
		return identity.ErrUnknownHost
	}
	return shown.Follow(keys)
}

func (b *book) Keys(id string) (identity.Keys, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.pinned[id]
	return p.Keys, ok
}

func (b *book) Carried() (all []identity.Peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range b.carried {
		all = append(all, b.pinned[id])
	}
	return all
}

func (b *book) Relay(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Contains(b.relays, id)
}

func (b *book) Introduced(via string, p identity.Peer) error {
	time.Sleep(b.slow)
	b.mu.Lock()
	defer b.mu.Unlock()
	id := p.Keys.ID()
	if old, ok := b.pinned[id]; ok {
		if err := p.Keys.Follow(old.Keys); err != nil {
			return err
		}
		old.Keys = p.Keys
		b.pinned[id] = old
		return nil
	}
	for _, other := range b.pinned {
		if other.Name == p.Name || b.own == p.Name {
			return &identity.Refused{Why: "the name is taken"}
		}
	}
	b.pinned[id] = p
	b.via[id] = via
	return nil
}

func (b *book) change(do func(*book)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	do(b)
}

// host is a host of a test.
type host struct {
	*identity.Host
	*relay.Relay
	t    testing.TB
	home *maildir.Home
	book *book

	limits relay.Limits
	stop   func() // ends the relay, as the end of the daemon

	mu      sync.Mutex
	applied []string // from whom, and what
	refuse  error    // of the next frames that are applied
	expired []string
}

// net is how hosts reach each other: by the id of the relay.
type network struct {
	mu    sync.Mutex
	dial  map[string]func() (net.Conn, error)
	dials int
}

func (n *network) to(_ context.Context, id string) (net.Conn, error) {
	n.mu.Lock()
	dial := n.dial[id]
	n.dials++
	n.mu.Unlock()
	if dial == nil {
		return nil, errors.New("nobody is there")
	}
	return dial()
}

func (n *network) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

func newHost(t testing.TB, name string) *host {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	home.Host.Name = name
	id, err := identity.Open(home)
	if err != nil {
		t.Fatal(err)
	}
	b := &book{own: name, pinned: make(map[string]identity.Peer), via: make(map[string]string)}
	return &host{Host: id, t: t, home: home, book: b}
}

func (h *host) folder(id string) string { return filepath.Join(h.home.Dir, "peers", id) }

func (h *host) pin(others ...*host) {
	for _, o := range others {
		h.book.change(func(b *book) { b.pinned[o.ID()] = identity.Peer{Name: o.Name(), Keys: o.Keys()} })
		if err := os.MkdirAll(h.folder(o.ID()), 0o700); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *host) options(n *network) relay.Options {
	return relay.Options{
		Host: func() *identity.Host { return h.Host }, Trust: h.book, Book: h.book, Dial: n.to, Folder: h.folder,
		AgeKey: h.home.AgeKeyPath(), Clock: h.home.HeldClockPath(), Limits: h.limits,
		Apply: h.apply, Log: slog.New(slog.NewTextHandler(h.t.Output(), nil)),
		Expired: func(to string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.expired = append(h.expired, to)
		},
	}
}

func (h *host) apply(_ context.Context, from string, f link.Frame) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse != nil {
		return h.refuse
	}
	h.applied = append(h.applied, fmt.Sprintf("%s %s %s", from[:4], f.Type, slices.Concat(f.Lines...)))
	return nil
}

// saw are the frames that were applied, without whom they are from.
func (h *host) saw() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, a := range h.applied {
		all = append(all, a[5:])
	}
	return strings.Join(all, "|")
}

func (h *host) set(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	do()
}

// start begins the relay of a host, as the start of its daemon.
func (h *host) start(n *network) {
	h.t.Helper()
	r, err := relay.New(h.options(n))
	if err != nil {
		h.t.Fatal(err)
	}
	h.Relay = r
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			h.t.Error(err)
		}
	}()
	h.stop = func() { cancel(); <-done }
	h.t.Cleanup(h.stop)
}

// world is nyc, which carries for lon and ber; those know only nyc.
type world struct {
	t             testing.TB
	net           *network
	nyc, lon, ber *host
	links         map[*host]*peertest.Link
	sessions      map[*host]*peer.Session // those that the host itself has with nyc
	serving       sync.WaitGroup
}

func newWorld(t testing.TB, limits relay.Limits) *world {
	t.Helper()
	w := &world{
		t: t, net: &network{dial: make(map[string]func() (net.Conn, error))},
		nyc: newHost(t, "nyc"), lon: newHost(t, "lon"), ber: newHost(t, "ber"),
		links: make(map[*host]*peertest.Link), sessions: make(map[*host]*peer.Session),
	}
	w.nyc.limits = limits
	w.nyc.pin(w.lon, w.ber)
	w.nyc.book.carried = []string{w.lon.ID(), w.ber.ID()}
	for _, h := range []*host{w.lon, w.ber} {
		h.pin(w.nyc)
		h.book.relays = []string{w.nyc.ID()}
	}
	for _, h := range []*host{w.nyc, w.lon, w.ber} {
		h.start(w.net)
	}
	w.net.dial[w.nyc.ID()] = w.pipe
	t.Cleanup(func() { w.nyc.stop(); w.serving.Wait() })
	return w
}

// pipe connects to nyc in memory.
func (w *world) pipe() (net.Conn, error) {
	near, far := net.Pipe()
	w.serve(far)
	return near, nil
}

// serve is the listener of nyc, for one connection.
func (w *world) serve(raw net.Conn) {
	conn := tls.Server(raw, w.nyc.ServerConfig(w.nyc.book, nil))
	relay := w.nyc.Relay
	w.serving.Go(func() { _ = relay.Serve(conn) })
}

// loopback makes the hosts reach nyc over TCP.
func (w *world) loopback() {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	w.serving.Go(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			w.serve(raw)
		}
	})
	w.net.dial[w.nyc.ID()] = func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }
	w.t.Cleanup(func() { l.Close() })
}

// link connects a host with nyc. More services may ride on its own end.
func (w *world) link(t *testing.T, h *host, more ...peer.Service) {
	t.Helper()
	w.linkOver(t, h, nil, more...)
}

func (w *world) linkOver(t *testing.T, h *host, wrap func(net.Conn) net.Conn, more ...peer.Service) {
	t.Helper()
	own := append([]peer.Service{h.Relay}, more...)
	l, session, _ := peertest.Connect(t, peertest.Side{ID: h.ID(), Name: h.Name(), Services: own, Wrap: wrap},
		peertest.Side{ID: w.nyc.ID(), Name: "nyc", Services: []peer.Service{w.nyc.Relay}, Wrap: wrap})
	w.links[h], w.sessions[h] = l, session
}

// cut ends the link of a host with nyc.
func (w *world) cut(h *host) { w.links[h].Cut() }

// restart ends the daemon of nyc and starts it again, with all links gone.
func (w *world) restart() {
	for h, l := range w.links {
		l.Cut()
		delete(w.links, h)
	}
	w.nyc.stop()
	w.nyc.start(w.net)
}

// held are the files that nyc holds for a host.
func (w *world) held(h *host) []string {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.nyc.folder(h.ID()), "held", "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	return files
}

// accepted takes one connection that comes by the relay.
func accepted(h *host) <-chan net.Conn {
	got := make(chan net.Conn, 1)
	l := h.Listener()
	go func() {
		defer close(got)
		if conn, err := l.Accept(); err == nil {
			got <- conn
		}
	}()
	return got
}

// mute is a peer without a relay, that says what it likes.
type mute struct {
	types   []string
	mu      sync.Mutex
	session *peer.Session
	taken   []link.Frame
	ended   bool
}

func (m *mute) Types() []string                { return m.types }
func (m *mute) Open(s *peer.Session) peer.Line { m.session = s; return m }
func (m *mute) Close()                         { m.mu.Lock(); defer m.mu.Unlock(); m.ended = true }

func (m *mute) Take(f link.Frame) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken = append(m.taken, f)
	m.session.Done(f)
	return nil
}

func (m *mute) of(kind string) (all []link.Frame) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.taken {
		if f.Type == kind {
			all = append(all, f)
		}
	}
	return all
}

func newMute() *mute {
	return &mute{types: []string{"tunnel", "splice", "introduce", "recipient", "hold", "held", "unheld"}}
}

// linkMute connects one that speaks for h with another host.
func linkMute(t *testing.T, h, with *host) (*mute, *peertest.Link) {
	t.Helper()
	m := newMute()
	l, _, _ := peertest.Connect(t, peertest.Side{ID: h.ID(), Name: h.Name(), Services: []peer.Service{m}},
		peertest.Side{ID: with.ID(), Name: with.Name(), Services: []peer.Service{with.Relay}})
	return m, l
}

func (m *mute) say(t *testing.T, f link.Frame) {
	t.Helper()
	if err := m.session.Send(context.Background(), f); err != nil {
		t.Fatal(err)
	}
}

// code is the word of a relay in an error, or the error.
func code(err error) string {
	var refused *relay.Refused
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &refused):
		return refused.Code
	}
	return err.Error()
}

// frame is one of some lines.
func frame(texts ...string) link.Frame {
	f := link.Frame{Type: "submit", Lane: link.Mail}
	for _, text := range texts {
		f.Lines = append(f.Lines, []byte(text))
	}
	return f
}

// readAll reads until the end of a connection, in another goroutine.
func readAll(conn net.Conn) <-chan string {
	got := make(chan string, 1)
	go func() {
		data, _ := io.ReadAll(conn)
		got <- string(data)
	}()
	return got
}

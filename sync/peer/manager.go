package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
)

// Parts are what a manager works with.
type Parts struct {
	Home     *maildir.Home
	Host     *identity.Host
	Book     *Book
	Services []Service
	Carrier  Carrier // nil where nothing is carried
	// Dial makes connections; nil is net.Dialer's.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Logger *slog.Logger
	Now    func() time.Time // nil is time.Now
}

// Carrier is how hosts reach each other by a third one.
type Carrier interface {
	// Dial connects to the host with the id to, by the one with the id via.
	Dial(ctx context.Context, via, to string) (net.Conn, error)
	// Listener gives the connections that others make to this host so.
	Listener() net.Listener
	// Serve carries a connection that speaks identity.SpliceProtocol, until it ends.
	Serve(conn *tls.Conn) error
	// Changed hears that peers, or what they may do, have changed.
	Changed()
}

// Manager has one link with each peer, as far as that is possible. Its methods may be
// used by several goroutines.
type Manager struct {
	home     *maildir.Home
	book     *Book
	services []Service
	carrier  Carrier
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	logger   *slog.Logger
	now      func() time.Time
	offers   *identity.Offers
	echo     *echo

	running context.Context // until it ends
	stop    context.CancelFunc
	work    sync.WaitGroup // whatever the manager has started

	mu      sync.Mutex
	host    *identity.Host
	pairs   map[string]*pair // by id of the peer
	address string           // where this host can be dialled

	opening sync.Mutex
	opened  bool // connections are taken
}

// NewManager returns a manager; Run starts it.
func NewManager(parts Parts) *Manager {
	m := &Manager{
		home: parts.Home, host: parts.Host, book: parts.Book, carrier: parts.Carrier, dial: parts.Dial, logger: parts.Logger, now: parts.Now,
		offers: identity.NewOffers(parts.Now), echo: newEcho(parts.Now), pairs: make(map[string]*pair),
	}
	m.services = append(slices.Clone(parts.Services), m.echo)
	if m.dial == nil {
		m.dial = new(net.Dialer).DialContext
	}
	if m.now == nil {
		m.now = time.Now
	}
	m.running, m.stop = context.WithCancel(context.Background())
	return m
}

// Run dials the peers until ctx ends, and then ends all links. When it returns, nothing
// that a link has brought is applied any more.
func (m *Manager) Run(ctx context.Context) error {
	for _, p := range m.book.Peers() {
		m.pair(p)
	}
	if m.carrier != nil {
		m.start(func() { m.serve(m.carrier.Listener()) })
	}
	<-ctx.Done()
	m.mu.Lock()
	m.stop()
	m.mu.Unlock()
	m.work.Wait()
	return nil
}

// start runs something that Run waits for, unless the manager has ended.
func (m *Manager) start(run func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running.Err() != nil {
		return false
	}
	m.work.Go(run)
	return true
}

// pair is what is known of the links with a peer. It begins when somebody asks first.
func (m *Manager) pair(p Peer) *pair {
	m.mu.Lock()
	known, ok := m.pairs[p.ID]
	if !ok {
		known = newPair(m, p)
		m.pairs[p.ID] = known
	}
	m.mu.Unlock()
	if !ok {
		m.start(known.run)
	}
	return known
}

func (m *Manager) peek(id string) *pair {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pairs[id]
}

// Host is the identity of this host now.
func (m *Manager) Host() *identity.Host {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.host
}

// Rotate gives this host a new key, signed by the one it has. Links that are up stay;
// each peer pins the new key when the next one begins.
func (m *Manager) Rotate() (*identity.Host, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next, err := m.host.Rotate(m.home)
	if err != nil {
		return nil, err
	}
	m.host = next
	return next, nil
}

// SetAddress says where this host can be dialled; empty is nowhere.
func (m *Manager) SetAddress(address string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.address = address
}

// Address is where this host can be dialled, empty for nowhere.
func (m *Manager) Address() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.address
}

func (m *Manager) options(p Peer) link.Options {
	return link.Options{Host: m.home.Host.ID, Name: m.home.Host.Name, Address: m.Address(), Peer: p.ID}
}

// Offer makes a pairing code for one host, that finds this one at an address.
func (m *Manager) Offer(address string, life time.Duration) (identity.Code, error) {
	return m.offers.Open(m.Host(), address, life)
}

// Pairing reports whether a pairing code is open.
func (m *Manager) Pairing() bool { return m.offers.Any() }

// Join pairs this host with the one that has printed a code, and begins to dial it. With
// relay that one may introduce others and carries for this host.
func (m *Manager) Join(ctx context.Context, code identity.Code, relay bool) (Peer, error) {
	conn, err := m.connect(ctx, code.Address)
	if err != nil {
		return Peer{}, err
	}
	joined, err := m.Host().Join(ctx, conn, code, pinner{m, Peer{Address: code.Address, Relay: relay}})
	if err != nil {
		return Peer{}, err
	}
	p, ok := m.book.ByID(joined.Keys.ID())
	if !ok { // removed in this moment
		return Peer{}, fmt.Errorf("%q: %w", joined.Name, ErrNotFound)
	}
	m.pair(p).kick()
	return p, nil
}

// pinner keeps whom pairing brings.
type pinner struct {
	*Manager
	known Peer // besides what the peer says
}

func (p pinner) Pin(fresh identity.Peer) error {
	admitted := p.known
	admitted.ID, admitted.Name, admitted.Keys = fresh.Keys.ID(), fresh.Name, fresh.Keys
	if err := p.book.Admit(admitted); err != nil {
		return err
	}
	if kept, ok := p.book.ByID(admitted.ID); ok {
		p.pair(kept).release()
	}
	p.changed()
	p.logger.Info("peer paired", "peer", admitted.Name, "id", admitted.ID)
	return nil
}

const connectTime = 10 * time.Second

// connect makes a connection that suits a link.
func (m *Manager) connect(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := m.dial(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial %q: %w", address, err)
	}
	if err := link.Tune(conn); err != nil {
		m.logger.Debug("connection is not tuned", "path", address, "err", err)
	}
	return conn, nil
}

// Remove ends that a host is trusted, and says goodbye to it.
func (m *Manager) Remove(name string) (Peer, error) {
	p, err := m.book.Remove(name)
	if err != nil {
		return Peer{}, err
	}
	m.mu.Lock()
	known := m.pairs[p.ID]
	delete(m.pairs, p.ID)
	m.mu.Unlock()
	if known != nil {
		known.remove()
	}
	m.changed()
	m.logger.Info("peer removed", "peer", p.Name, "id", p.ID)
	return p, nil
}

package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/claude-duo/duo/sync/identity"
)

// Introduced makes a host known of which a relay tells, and dials it by that one; see
// Book.Introduce. The relay is named by its id.
func (m *Manager) Introduced(relay string, fresh identity.Peer) error {
	news, err := m.book.Introduce(relay, fresh)
	if err != nil || !news {
		return err
	}
	if p, ok := m.book.ByID(fresh.Keys.ID()); ok {
		m.logger.Info("peer introduced", "peer", p.Name, "id", p.ID, "via", p.Via)
		m.pair(p).kick()
	}
	m.changed()
	return nil
}

// Connect makes a connection to where the peer with an id takes links.
func (m *Manager) Connect(ctx context.Context, id string) (net.Conn, error) {
	p, ok := m.book.ByID(id)
	if !ok {
		return nil, fmt.Errorf("%q: %w", id, ErrNotFound)
	}
	if p.Address == "" {
		return nil, fmt.Errorf("nobody knows where %s can be dialled", p.Name)
	}
	return m.connect(ctx, p.Address)
}

func (m *Manager) changed() {
	if m.carrier != nil {
		m.carrier.Changed()
	}
}

// splice carries a connection of a peer on to another one.
func (m *Manager) splice(conn *tls.Conn) {
	if m.carrier == nil {
		_ = conn.Close()
		return
	}
	if err := m.carrier.Serve(conn); err != nil {
		m.logger.Info("splice has ended", "err", err)
	}
}

// kickCarried dials those that a relay carries, now that there is a link with it.
func (m *Manager) kickCarried(relay string) {
	for _, p := range m.book.Peers() {
		if p.Via == relay {
			m.pair(p).kick()
		}
	}
}

// relayOf is the relay of a peer that can carry now.
func (m *Manager) relayOf(p Peer) (id string, ok bool) {
	relay, known := m.book.Get(p.Via)
	if m.carrier == nil || !known || !relay.Relay || m.Session(relay.ID) == nil {
		return "", false
	}
	return relay.ID, true
}

// reach makes a connection to a peer on which both have proved who they are: where it is
// dialled, else by its relay.
func (p *pair) reach(peer Peer) (*tls.Conn, error) {
	var direct error
	if peer.Address != "" {
		conn, err := p.shake(peer, peer.Address, func(ctx context.Context) (net.Conn, error) { return p.connect(ctx, peer.Address) })
		if err == nil || peer.Via == "" {
			return conn, err
		}
		direct = err
	}
	relay, ok := p.relayOf(peer)
	if !ok {
		return nil, errors.Join(fmt.Errorf("there is no link with %s, which carries for %s", peer.Via, peer.Name), direct)
	}
	return p.shake(peer, peer.Via, func(ctx context.Context) (net.Conn, error) { return p.carrier.Dial(ctx, relay, peer.ID) })
}

// shake does the handshake with a peer on a connection, and pins what it proves.
func (p *pair) shake(peer Peer, where string, dial func(context.Context) (net.Conn, error)) (*tls.Conn, error) {
	raw, err := dial(p.ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(p.ctx, connectTime)
	defer cancel()
	conn := tls.Client(raw, p.Host().ClientConfig(peer.ID, p.book))
	if err = conn.HandshakeContext(ctx); err == nil {
		err = p.prove(conn)
	}
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("%q: %w", where, err)
	}
	return conn, nil
}

func (p *pair) prove(conn *tls.Conn) error {
	keys, err := identity.PeerKeys(conn.ConnectionState())
	if err == nil {
		_, err = p.book.Prove(keys)
	}
	return err
}

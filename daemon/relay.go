package daemon

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/claude-duo/duo/daemon/away"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/relay"
)

// openRelay makes what carries for other hosts, and lets them carry for this one.
func (h *host) openRelay(book *peer.Book) (peer.Carrier, error) {
	c := carriers{h, book}
	r, err := relay.New(relay.Options{
		Host: func() *identity.Host { return h.peers.Host() }, Trust: book, Book: c,
		Dial:   func(ctx context.Context, id string) (net.Conn, error) { return h.peers.Connect(ctx, id) },
		Folder: c.folder, AgeKey: h.home.AgeKeyPath(), Clock: h.home.HeldClockPath(), Apply: c.applyHeld, Log: h.logger,
		Expired: func(to string) { h.away.Expired(to) },
	})
	h.relay = r
	return carrier{r}, err
}

// carrier is the relay as the manager of the peers needs it.
type carrier struct{ *relay.Relay }

func (c carrier) Dial(ctx context.Context, via, to string) (net.Conn, error) {
	conn, err := c.Relay.Dial(ctx, via, to)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// carriers is what the relay needs of the peers.
type carriers struct {
	*host
	book *peer.Book
}

func (c carriers) Carried() (list []identity.Peer) {
	for _, p := range c.book.Peers() {
		if p.Carry {
			list = append(list, identity.Peer{Name: p.Name, Keys: p.Keys})
		}
	}
	return list
}

func (c carriers) Relay(id string) bool {
	p, ok := c.book.ByID(id)
	return ok && p.Relay
}

func (c carriers) Keys(id string) (identity.Keys, bool) {
	p, ok := c.book.ByID(id)
	return p.Keys, ok
}

func (c carriers) Introduced(via string, p identity.Peer) error { return c.peers.Introduced(via, p) }

// folder is that of a peer; of one that is gone meanwhile, a place where nothing is.
func (c carriers) folder(id string) string {
	p, ok := c.book.ByID(id)
	if !ok {
		return c.home.PeerDir(".gone")
	}
	return c.home.PeerDir(p.Name)
}

// applyHeld takes what a relay has held for this host.
func (c carriers) applyHeld(ctx context.Context, from string, f link.Frame) error {
	p, known := c.book.ByID(from)
	if !known {
		return fmt.Errorf("%w: its sender is unknown", relay.ErrBad)
	}
	if slices.Contains(c.copies.Types(), f.Type) {
		return c.copies.Held(ctx, p, f)
	}
	return c.courier.Held(ctx, from, f)
}

// openAway makes what gives relays that which waits for hosts that are away.
func (h *host) openAway(book *peer.Book) {
	h.away = away.New(away.Parts{
		Peers: book.Peers, Linked: func(id string) bool { return h.peers.Session(id) != nil }, Relay: h.relay,
		Sources: []away.Source{h.courier, h.copies}, Logger: h.logger,
	})
}

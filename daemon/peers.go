package daemon

import (
	"context"
	"time"

	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/courier"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/neighbors"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/peer"
)

// openPeers makes what links this host with others.
func (h *host) openPeers() error {
	who, err := identity.Open(h.home)
	if err != nil {
		return err
	}
	book, bad, err := peer.OpenBook(h.home)
	if err != nil {
		return err
	}
	for name, err := range bad {
		h.logger.Error("peer is not trusted, its record cannot be read", "peer", name, "err", err)
	}
	h.roster.Know(book, h.index)
	h.neighbors = neighbors.New(neighbors.Parts{
		Roster: h.roster, Cards: h.roster, Presence: h.presence.Of, Describe: h.desk.Agent, Wake: h.waker.Capability,
		Progress: h.deliver.Progress,
	})
	h.courier = courier.New(courier.Parts{
		Home: h.home, Host: func() *identity.Host { return h.peers.Host() }, Book: book, Ledger: h.ledger, Router: h.router,
		Deliver: h.deliver, Index: h.index, Agreed: h.switchboard.Agreed, Has: h.copies.Has, Logger: h.logger,
	})
	h.router.Link(book, h.courier)
	h.desk.Link(h.courier)
	h.deliver.Tell(h.listens)
	h.deliver.Link(h.courier, h.courier.Moved)
	h.copies.Check = func(origin, conversation string, state conv.State, lines []ledger.Stored) error {
		if err := h.courier.Check(origin, conversation, state, lines); err != nil {
			return err
		}
		p, _ := book.ByID(origin) // one that was removed just now sends nothing more
		return h.files.WantedOf(p.Name, conversation, lines)
	}
	h.copies.Copied = h.courier.Copied
	h.copies.Sign = func(message []byte) []byte { return h.peers.Host().Sign(message) }
	h.copies.Signed = func(host string, message []byte, signature string) bool {
		if host == h.home.Host.ID {
			return h.peers.Host().Keys().VerifyText(message, signature)
		}
		p, ok := book.ByID(host)
		return ok && p.Keys.VerifyText(message, signature)
	}
	h.copies.Cut = func(ctx context.Context, origin, conversation string, keep int64, lines []*envelope.Envelope) error {
		if err := h.deliver.Cut(ctx, conversation, keep); err != nil {
			return err
		}
		return h.courier.Cut(ctx, origin, keep, lines)
	}
	h.roster.Tell(roster.Hooks{Card: h.neighbors.Changed, Far: h.tellPresence})
	carrier, err := h.openRelay(book)
	if err != nil {
		return err
	}
	h.openAway(book)
	h.peers = peer.NewManager(peer.Parts{
		Home: h.home, Host: who, Book: book, Services: h.services(), Carrier: carrier, Logger: h.logger,
	})
	return nil
}

// services are what rides on the links.
func (h *host) services() []peer.Service {
	return []peer.Service{h.copies, h.courier, h.neighbors, h.exchange, h.switchboard.Service(), h.relay}
}

// tellPresence tells those who follow it that an agent, of whatever host, comes or goes.
func (h *host) tellPresence(a envelope.Address, p presence.Presence) {
	h.bus.Notify(&envelope.Envelope{
		Type: envelope.Presence, From: a, Timestamp: time.Now().UnixMilli(), Status: string(p.State), Content: p.Note,
	}, bus.Presence)
}

// door is where other hosts find this one.
func (h *host) door() peer.Door {
	return peer.Door{Listen: h.home.Config.Link.Listen, Advertise: h.home.Config.Link.Advertise}
}

// letPeersIn takes links where there is somebody to take them from, or an address for
// them is set.
func (h *host) letPeersIn(ctx context.Context) {
	if h.door().Needed(len(h.peers.List())) {
		if err := h.peers.Open(ctx, h.door()); err != nil {
			h.logger.Error("other hosts cannot find this one", "path", h.home.Config.Link.Listen, "err", err)
		}
	}
}

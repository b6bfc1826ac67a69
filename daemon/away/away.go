// Package away gives relays what waits for hosts with which there is no link: they hold it,
// sealed, until those hosts are back, also where this one is gone by then.
//
// Nothing depends on it. What was given stays where it waits, and is sent on the next link
// as if no relay had it; the receiver knows repeats. So all that is in memory here may be
// lost at any time.
package away

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/relay"
)

const (
	every    = 2 * time.Second  // between looks
	patience = 4 * time.Second  // until a host without a link is away
	perLook  = 16               // frames for one host
	holdTime = 10 * time.Second // for one frame
	fullTime = time.Minute      // until a relay that refuses is asked again
	failTime = 5 * time.Second  // until one is that does not answer
)

// Source has frames for hosts that are away.
type Source interface {
	// Away gives the next frame for a host that no relay has. Settle is told that one has it
	// now, or that none can ever take it; where it is not called, the same comes again.
	Away(ctx context.Context, p peer.Peer) (f link.Frame, settle func(held bool), found bool)
	// Lost says that relays have nothing for the host any more.
	Lost(p peer.Peer)
}

// Relay is what reaches the relays of this host.
type Relay interface {
	// Way is one that can hold frames for a host.
	Way(to string) (via string, ok bool)
	// Hold gives it a frame; see relay.Relay.
	Hold(ctx context.Context, via, to string, f link.Frame) error
}

// Parts are what a giver works with.
type Parts struct {
	Peers   func() []peer.Peer
	Linked  func(id string) bool // a link with the host is up
	Relay   Relay
	Sources []Source
	Logger  *slog.Logger
	Now     func() time.Time // nil is time.Now
}

// Giver gives to relays.
type Giver struct {
	Parts
	hosts map[string]*absence // by id, those without a link; for Look alone

	mu      sync.Mutex
	expired map[string]bool // by id of the host
}

// absence is what is known of a host without a link.
type absence struct {
	since time.Time
	rests time.Time // nothing is given before
	via   string    // the relay that has got something
}

// New returns a giver.
func New(parts Parts) *Giver {
	if parts.Now == nil {
		parts.Now = time.Now
	}
	return &Giver{Parts: parts, hosts: make(map[string]*absence), expired: make(map[string]bool)}
}

// Run looks again and again, until ctx ends.
func (g *Giver) Run(ctx context.Context) error {
	work.Every(ctx, every, func() (done bool) {
		g.Look(ctx)
		return false
	})
	return nil
}

// Expired says that a relay keeps something for a host no more. It does not wait.
func (g *Giver) Expired(to string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expired[to] = true
}

func (g *Giver) takeExpired(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.expired[id]
	delete(g.expired, id)
	return was
}

// Look gives to relays what they do not have yet for hosts that are away. One caller looks
// at a time.
func (g *Giver) Look(ctx context.Context) {
	for _, p := range g.Peers() {
		if ctx.Err() != nil {
			return
		}
		if g.Linked(p.ID) {
			delete(g.hosts, p.ID)
			continue
		}
		a := g.hosts[p.ID]
		if a == nil {
			a = &absence{since: g.Now()}
			g.hosts[p.ID] = a
		}
		via, ok := g.Relay.Way(p.ID)
		if now := g.Now(); !ok || now.Sub(a.since) < patience || now.Before(a.rests) {
			continue
		}
		if lost := g.takeExpired(p.ID); lost || a.via != via {
			g.lose(p)
		}
		a.via = via
		g.give(ctx, p, a)
	}
}

func (g *Giver) lose(p peer.Peer) {
	for _, s := range g.Sources {
		s.Lost(p)
	}
}

// give gives what there is for a host, as far as one look goes.
func (g *Giver) give(ctx context.Context, p peer.Peer, a *absence) {
	given := 0
	for _, s := range g.Sources {
		for given < perLook && ctx.Err() == nil && !g.Linked(p.ID) {
			f, settle, found := s.Away(ctx, p)
			if !found {
				break
			}
			given++
			err := g.hold(ctx, a.via, p.ID, f)
			var refused *relay.Refused
			switch {
			case err == nil:
				g.Logger.Info("relay holds what waits", "peer", p.Name)
				settle(true)
			case errors.As(err, &refused) && refused.Code == relay.CodeLarge:
				settle(false)
			case refused != nil:
				g.Logger.Warn("relay does not hold what waits", "peer", p.Name, "err", err)
				a.rests = g.Now().Add(fullTime)
				return
			default: // the link with the relay has ended, or it is slow
				g.Logger.Debug("relay does not answer", "peer", p.Name, "err", err)
				a.rests = g.Now().Add(failTime)
				return
			}
		}
	}
}

func (g *Giver) hold(ctx context.Context, via, to string, f link.Frame) error {
	ctx, cancel := context.WithTimeout(ctx, holdTime)
	defer cancel()
	return g.Relay.Hold(ctx, via, to, f)
}

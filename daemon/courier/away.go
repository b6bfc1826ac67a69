package courier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/relay"
)

// outgoing is what of a spool a relay has, for a host with which there is no link.
type outgoing struct {
	through uint64 // the number of the last one
	last    behind
	stop    string // id of one that no relay takes; those behind it wait with it
}

// behind says which submission of the spool stands before those of a frame. A relay can
// lose frames or change their order: the origin takes none whose predecessor it lacks, so
// what an author says stays in order.
type behind struct {
	Conversation string `json:"conversation"`
	ID           string `json:"id"`
	After        int64  `json:"after"`
}

// heldHeader is the header of submissions that a relay holds.
type heldHeader struct {
	First  bool    `json:"first,omitempty"`
	Behind *behind `json:"behind,omitempty"`
}

// lost forgets what a relay has for a host. The caller holds the lock.
func (c *Courier) lost(host string) {
	delete(c.owed, host)
	if b := c.boxes[host]; b != nil {
		b.away = outgoing{}
	}
}

// Lost says that what relays have held for a host may be gone.
func (c *Courier) Lost(p peer.Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost(p.ID)
}

// Away gives the next frame for a host with which there is no link: what it is told of its
// submissions that a relay has brought, then what waits in the spool. Settle is to be told
// whether a relay has it now, or never can.
func (c *Courier) Away(_ context.Context, p peer.Peer) (f link.Frame, settle func(held bool), found bool) {
	if f, settle, found = c.awayRefused(p.ID); found {
		return f, settle, true
	}
	c.mu.Lock()
	b := c.boxes[p.ID]
	c.mu.Unlock()
	if b == nil || b.Len() == 0 {
		return link.Frame{}, nil, false
	}
	return c.awaySubmit(b)
}

const maxOwed = 256 // refusals for one host; others are said when it submits again

// owe tells a host that a submission which a relay has brought is refused.
func (c *Courier) owe(host string, r refusal) {
	c.mu.Lock()
	l := c.lines[host]
	if l == nil && len(c.owed[host]) < maxOwed {
		c.owed[host] = append(c.owed[host], r)
	}
	c.mu.Unlock()
	if l != nil {
		l.answer(r)
	}
}

func (c *Courier) awayRefused(host string) (f link.Frame, settle func(bool), found bool) {
	c.mu.Lock()
	owed := c.owed[host]
	c.mu.Unlock()
	f = link.Frame{Type: typeRefused, Lane: link.Mail}
	for _, r := range owed {
		if text, err := json.Marshal(r); err == nil {
			f.Lines = append(f.Lines, text)
		}
	}
	return f, func(bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.owed[host] = c.owed[host][min(len(owed), len(c.owed[host])):]
	}, len(f.Lines) > 0
}

// awaySubmit gives what waits behind what a relay has. Where its last one waits no more,
// that is all that waits.
func (c *Courier) awaySubmit(b *box) (f link.Frame, settle func(bool), found bool) {
	c.mu.Lock()
	if !b.Has(b.away.last.ID) {
		b.away.through, b.away.last = 0, behind{}
	}
	away := b.away
	c.mu.Unlock()
	if b.Has(away.stop) {
		return link.Frame{}, nil, false
	}
	var header heldHeader
	if header.First = away.through == 0; !header.First {
		header.Behind = &away.last
	}
	f = link.Frame{Type: typeSubmit, Lane: link.Mail}
	next, size, begins := away, 0, ""
	for _, item := range b.Behind(away.through, link.MaxLines) {
		if size >= link.Full {
			break
		}
		if it, waits := c.load(b, item); waits {
			if begins == "" {
				begins = item.ID
			}
			next.through, next.last = item.Number, behind{it.envelope.Conversation, item.ID, *it.envelope.After}
			f.Lines = append(f.Lines, it.line)
			size += len(it.line)
		}
	}
	head, err := json.Marshal(header)
	if err != nil || len(f.Lines) == 0 {
		return link.Frame{}, nil, false
	}
	f.Header = head
	return f, func(held bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if held {
			b.away = next
		} else {
			b.away.stop = begins
		}
	}, true
}

// Held takes a frame of a host that a relay has held, as if it had come on a link with
// that host. What it brings is on disk then. The error is relay.ErrBad where it can never
// be taken.
func (c *Courier) Held(ctx context.Context, host string, f link.Frame) error {
	p, known := c.Book.ByID(host)
	switch {
	case !known:
		return fmt.Errorf("%w: its host is unknown", relay.ErrBad)
	case f.Type == typeSubmit:
		return c.heldSubmit(ctx, p, f)
	case f.Type == typeRefused:
		return c.heldRefused(p, f)
	}
	return fmt.Errorf("%w: a frame %.20q", relay.ErrBad, f.Type)
}

func (c *Courier) heldSubmit(ctx context.Context, p peer.Peer, f link.Frame) error {
	var header heldHeader
	if err := json.Unmarshal(f.Header, &header); err != nil {
		return fmt.Errorf("%w: read header: %w", relay.ErrBad, err)
	}
	if !header.First && !c.stands(header.Behind) {
		return fmt.Errorf("%w: submissions are missing before these", relay.ErrBad)
	}
	g := c.guestBy(ctx, p)
	for _, text := range f.Lines {
		if err := g.rate.Wait(ctx); err != nil {
			return err
		}
		it, err := parse(text)
		if err != nil {
			return fmt.Errorf("%w: read submission: %w", relay.ErrBad, err)
		}
		if e := it.envelope; e.After != nil && c.Router.Answered(e.Conversation, e.ID, *e.After) {
			continue // its author knows already that it was refused
		}
		r, refused := g.receive(it)
		switch {
		case refused && r.later():
			return errors.New("submission is not taken now: " + r.Code)
		case refused:
			c.owe(p.ID, r)
		case c.Has != nil:
			c.Has(p.Name, it.envelope.Conversation, *it.envelope.After)
		}
	}
	return nil
}

// stands reports whether a submission has come to a log here, or was answered there.
func (c *Courier) stands(b *behind) bool {
	if b == nil || b.After < 0 {
		return false
	}
	if id, err := envelope.ParseID(b.Conversation); err != nil || id != b.Conversation {
		return false
	}
	seq, err := c.Ledger.Seq(b.Conversation, b.ID, b.After)
	return err == nil && seq > 0 || c.Router.Answered(b.Conversation, b.ID, b.After)
}

// guestBy is a host of which a relay brings something. Its limits are those of the host,
// by whichever relay.
func (c *Courier) guestBy(ctx context.Context, p peer.Peer) guest {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.guests[p.ID]
	if known == nil {
		fresh := c.guest(ctx, p.ID, p.Name)
		known = &fresh
		c.guests[p.ID] = known
	}
	g := *known
	g.name, g.ctx = p.Name, ctx
	return g
}

func (c *Courier) heldRefused(p peer.Peer, f link.Frame) error {
	b, err := c.box(p)
	if err != nil {
		return err
	}
	for _, text := range f.Lines {
		var r refusal
		if err := json.Unmarshal(text, &r); err != nil {
			return fmt.Errorf("%w: read refusal: %w", relay.ErrBad, err)
		}
		if !r.later() && b.Has(r.ID) {
			c.handBack(b, p.Name, r)
		}
	}
	return nil
}

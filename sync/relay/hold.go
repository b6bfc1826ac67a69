package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"filippo.io/age"
	"github.com/claude-duo/duo/sync/link"
	"github.com/go-json-experiment/json"
)

const (
	firstRetry = time.Second // of what could not be applied
	maxRetry   = time.Minute
)

// ErrNoRecipient means that nobody has said yet where to seal for a host.
var ErrNoRecipient = errors.New("it is not known where to seal for this host")

// unheldLine is the header of unheld.
type unheldLine struct {
	To   string `json:"to"`
	ID   string `json:"id"`
	Code string `json:"code"`
}

// Hold gives a frame of lines to a relay, for a host that is away. When it returns nil,
// the relay has it on disk; that frame again is the same item. A *Refused says why it has
// not. The sender keeps what the frame is made of all the same, until it comes back in the
// ordinary way.
func (r *Relay) Hold(ctx context.Context, via, to string, f link.Frame) error {
	if err := r.hold(ctx, via, to, f); err != nil {
		return fmt.Errorf("hold a frame for %q: %w", to, err)
	}
	return nil
}

func (r *Relay) hold(ctx context.Context, via, to string, f link.Frame) error {
	l, err := r.relayLine(via)
	if err != nil {
		return err
	}
	recipient, err := r.sealsFor(to)
	if err != nil {
		return err
	}
	it, err := r.age.seal(r.o.Host(), to, recipient, f)
	if err != nil {
		return err
	}
	header, err := json.Marshal(heldRow{To: to, ID: it.ID, Sig: it.Sig})
	if err != nil {
		return fmt.Errorf("encode item: %w", err)
	}
	refused, err := l.expect(it.ID)
	if err != nil {
		return err
	}
	defer l.forget(it.ID)
	acked := make(chan struct{})
	frame := link.Frame{Type: typeHold, Lane: link.Bulk, Header: header, Data: it.Data, Acked: func() { close(acked) }}
	if err := l.session.Send(ctx, frame); err != nil {
		return err
	}
	select {
	case <-acked:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.ctx.Done():
		return fmt.Errorf("hold: %w", context.Cause(l.ctx))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if *refused != "" {
		return &Refused{*refused}
	}
	return nil
}

// sealsFor is where to seal for a host, as it has said by a relay.
func (r *Relay) sealsFor(to string) (age.Recipient, error) {
	r.mu.Lock()
	said, ok := r.recipients[to]
	r.mu.Unlock()
	keys, known := r.o.Book.Keys(to)
	if !ok || !known {
		return nil, ErrNoRecipient
	}
	return said.check(keys)
}

// expect begins to listen for a word about an item.
func (l *line) expect(id string) (*string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holding[id] != nil {
		return nil, errors.New("it is on its way already")
	}
	refused := new(string)
	l.holding[id] = refused
	return refused, nil
}

func (l *line) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.holding, id)
}

// takeUnheld takes the word of a relay about an item. A refusal comes before the
// acknowledgement of its frame.
func (l *line) takeUnheld(f link.Frame) error {
	var u unheldLine
	if err := read(f, &u); err != nil {
		return err
	}
	if !isID(u.To) || !isItemID(u.ID) {
		return fault(f, errors.New("it is about nothing"))
	}
	defer l.session.Done(f)
	l.mu.Lock()
	refused := l.holding[u.ID]
	if refused != nil {
		*refused = word(u.Code)
	}
	l.mu.Unlock()
	if refused == nil && u.Code == CodeExpired && l.relay.o.Expired != nil && l.relay.o.Book.Relay(l.session.Host) {
		l.relay.o.Expired(u.To)
	}
	return nil
}

// lapse has the peer told that an item is gone, where there is room for that.
func (l *line) lapse(u unheldLine) {
	select {
	case l.lapsed <- u:
	default:
	}
}

// takeItem takes what is to be held here, or was held elsewhere.
func (l *line) takeItem(ctx context.Context, f link.Frame) {
	var row heldRow
	if err := read(f, &row); err != nil {
		l.end(err)
		return
	}
	if f.Type == typeHold {
		l.keep(ctx, f, &sealed{From: l.session.Host, To: row.To, ID: row.ID, Sig: row.Sig, Data: f.Data})
		return
	}
	l.receive(ctx, f, &sealed{From: row.From, To: l.relay.o.Host().ID(), ID: row.ID, Sig: row.Sig, Data: f.Data})
}

// end ends the link of a peer that has broken a rule.
func (l *line) end(err error) {
	var bye *link.Bye
	if errors.As(err, &bye) {
		l.session.End(bye)
	}
}

// keep holds an item for another host, or says why not, and acknowledges the frame.
func (l *line) keep(ctx context.Context, f link.Frame, it *sealed) {
	if !isID(it.To) || !isItemID(it.ID) {
		l.end(fault(f, errors.New("an item without an id")))
		return
	}
	if code := l.relay.keep(it); code != "" {
		if err := l.say(ctx, typeUnheld, unheldLine{To: it.To, ID: it.ID, Code: code}); err != nil {
			return // the link has ended
		}
	}
	l.session.Done(f)
}

// keep holds an item, or returns the word for why not.
func (r *Relay) keep(it *sealed) (code string) {
	keys, known := r.o.Book.Keys(it.From)
	if !known || !r.carries(it.From) || !r.carries(it.To) {
		return CodeUnknown
	}
	if len(it.Data) > maxSealed {
		return CodeLarge
	}
	if err := it.check(keys); err != nil {
		return CodeSignature
	}
	err := r.held.put(it)
	var refused *Refused
	switch {
	case errors.As(err, &refused):
		return refused.Code
	case err != nil:
		r.o.Log.Error("item cannot be held", "peer", it.To, "id", it.ID, "err", err)
		return CodeStorage
	}
	if l := r.line(it.To); l != nil {
		l.nudge()
	}
	return ""
}

// receive applies an item that a relay has held for this host, and acknowledges it. What
// can never be taken is dropped; what cannot be taken now is tried again, as long as the
// link is up.
func (l *line) receive(ctx context.Context, f link.Frame, it *sealed) {
	wait := firstRetry
	for {
		err := l.apply(ctx, it)
		switch {
		case err == nil:
			l.session.Done(f)
			return
		case errors.Is(err, ErrBad):
			l.relay.o.Log.Warn("dropped an item that a relay has held", "peer", it.From, "id", it.ID, "err", err)
			l.session.Done(f)
			return
		}
		l.relay.o.Log.Error("item is not applied", "peer", it.From, "id", it.ID, "err", err)
		again := time.NewTimer(wait)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return
		}
		wait = min(2*wait, maxRetry)
	}
}

func (l *line) apply(ctx context.Context, it *sealed) error {
	r := l.relay
	if !r.o.Book.Relay(l.session.Host) {
		return fmt.Errorf("%w: it is from no relay of this host", ErrBad)
	}
	keys, known := r.o.Book.Keys(it.From)
	if !known {
		return fmt.Errorf("%w: its sender is unknown", ErrBad)
	}
	if err := it.check(keys); err != nil {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	f, err := r.age.open(it)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	return r.o.Apply(ctx, it.From, f)
}

// giveHeld gives the peer what is held for it, in order, and deletes what it has taken.
func (g *giver) giveHeld() error {
	for {
		g.deleteTaken()
		i, ok, err := g.relay.held.next(g.session.Host, g.given)
		if err != nil {
			g.relay.o.Log.Error("what is held cannot be listed", "peer", g.session.Host, "err", err)
			return nil
		}
		if !ok {
			return nil
		}
		g.given = i.n
		if err := g.giveItem(i); err != nil {
			return err
		}
	}
}

// giveItem gives one item. What cannot be read now is given on the next link.
func (g *giver) giveItem(i item) error {
	it, err := g.relay.held.read(&i)
	if err != nil {
		g.relay.o.Log.Error("item cannot be read", "peer", i.to, "id", i.id, "err", err)
		if errors.Is(err, ErrBad) {
			g.took(i)
		}
		return nil
	}
	header, err := json.Marshal(heldRow{From: it.From, ID: it.ID, Sig: it.Sig})
	if err != nil {
		return fmt.Errorf("encode item: %w", err)
	}
	return g.session.Send(g.ctx, link.Frame{
		Type: typeHeld, Lane: link.Bulk, Header: header, Data: it.Data, Acked: func() { g.took(i) },
	})
}

// took has an item deleted that the peer has taken.
func (l *line) took(i item) {
	l.mu.Lock()
	l.taken = append(l.taken, i)
	l.mu.Unlock()
	l.nudge()
}

// deleteTaken deletes what the peer has acknowledged. What a crash leaves is given again.
func (l *line) deleteTaken() {
	l.mu.Lock()
	taken := l.taken
	l.taken = nil
	l.mu.Unlock()
	for _, i := range taken {
		if err := l.relay.held.remove(&i); err != nil {
			l.relay.o.Log.Error("item is not deleted", "peer", i.to, "id", i.id, "err", err)
		}
	}
}

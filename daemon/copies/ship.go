package copies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
)

// place is how far a replica of the peer is, as it is known here, and who ships to it.
type place struct {
	sent   int64        // the last line that the peer has or that was sent
	said   *ledger.Head // what the peer says that it has, until somebody has looked
	proof  proof        // of that
	probe  *headLine    // what the peer asks
	forked bool         // the logs differ, and the peer is about to cut its own
	tell   int64        // where, if the peer has still to hear it
	healed bool         // they did, and nobody was told yet
	way    way
	flying int // frames in bulk that are not acknowledged
	halted bool
}

// way is in which lane a conversation goes. No line overtakes another: it goes back to
// mail when all that went in bulk is acknowledged.
type way int

const (
	byMail way = iota
	byBulk
	landing // all is sent in bulk, and not all of it is acknowledged
)

// turn takes the place of a conversation for who ships it one way, and false where there
// is nothing to do that way.
func (l *line) turn(id string, by way) (place, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.places[id]
	if p == nil {
		if !l.all || !l.service.ships(id, l.session.Name) {
			return place{}, false
		}
		p = &place{}
		l.places[id] = p
		l.service.has(l.session.Name, id, 0)
	}
	if p.halted || p.forked || p.way != by || l.recalls[id].active() {
		return place{}, false
	}
	taken := *p
	p.said, p.healed = nil, false
	return taken, true
}

// parcel is what goes into one frame.
type parcel struct {
	behind int64 // the line before them, which the peer has
	lines  [][]byte
	last   int64 // the number of the last one
	more   bool  // there are others behind them
	proof  proof // of all lines through the last one
}

// shipMail ships what the peer lacks of a conversation, where one frame holds that.
func (l *line) shipMail(ctx context.Context, id string) {
	l.answer(ctx, id)
	p, ok := l.turn(id, byMail)
	if !ok {
		return
	}
	parcel, ok := l.pack(ctx, id, p)
	if !ok {
		return
	}
	if parcel.more {
		l.move(id, func(p *place) { p.way, p.sent = byBulk, parcel.behind })
		l.bulk.Add(id)
		return
	}
	l.move(id, func(p *place) { p.sent = parcel.last })
	if len(parcel.lines) > 0 {
		_ = l.send(ctx, link.Mail, id, parcel, func() { l.service.has(l.session.Name, id, parcel.last) }) // else the link has ended
	}
}

// shipBulk ships a conversation until the peer has all of it.
func (l *line) shipBulk(ctx context.Context, id string) {
	for ctx.Err() == nil {
		p, ok := l.turn(id, byBulk)
		if !ok {
			return
		}
		parcel, ok := l.pack(ctx, id, p)
		if !ok {
			l.move(id, func(p *place) { p.way = landing })
			l.landed(id, 0)
			return
		}
		l.move(id, func(p *place) {
			p.sent = parcel.last
			p.flying++
			if !parcel.more {
				p.way = landing
			}
		})
		if len(parcel.lines) == 0 {
			l.landed(id, 1)
			return
		}
		if l.send(ctx, link.Bulk, id, parcel, func() { l.service.has(l.session.Name, id, parcel.last); l.landed(id, 1) }) != nil {
			return // the link has ended
		}
	}
}

// move changes the place of a conversation, which has one.
func (l *line) move(id string, change func(*place)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l.places[id])
}

// landed says that frames in bulk are acknowledged.
func (l *line) landed(id string, frames int) {
	l.move(id, func(p *place) {
		p.flying -= frames
		if p.way == landing && p.flying == 0 {
			p.way = byMail
			l.mail.Add(id)
		}
	})
}

// errNotOurs means that the conversation has another origin after all.
var errNotOurs = errors.New("the conversation is another host's")

// pack takes the next lines for a peer from the log, and false where there can be none.
func (l *line) pack(ctx context.Context, id string, p place) (parcel, bool) {
	state, err := l.service.Ledger.State(ctx, id)
	if err == nil && l.service.own(state) && p.said == nil && due(state, l.session.Host, l.session.Name) <= p.sent {
		return parcel{behind: p.sent, last: p.sent}, true // without opening the log
	}
	var next parcel
	err = l.service.Ledger.Read(ctx, id, func(v ledger.View) (err error) {
		if !l.service.own(v.State) {
			l.service.Learn(id, v.State)
			return errNotOurs
		}
		last := due(v.State, l.session.Host, l.session.Name)
		if p.said != nil && (last > 0 || l.lost(id, p)) {
			if p.sent, err = l.agree(v, id, p); err != nil {
				return err
			}
			l.service.has(l.session.Name, id, p.sent)
		}
		if next, err = fill(v, id, p.sent, last); err == nil {
			err = l.service.prove(id, v, &next)
		}
		return err
	})
	if err == nil {
		if p.healed {
			l.tellHealed(id, *p.said)
		}
		return next, true
	}
	l.cannot(ctx, id, p, err)
	return parcel{}, false
}

// cannot deals with a log of which nothing can be shipped now.
func (l *line) cannot(ctx context.Context, id string, p place, err error) {
	fork := new(ledger.ForkError)
	switch {
	case errors.Is(err, errNotOurs) || errors.Is(err, ledger.ErrClosed) || ctx.Err() != nil:
	case errors.As(err, &fork):
		l.fork(ctx, id, fork.Seq)
	case errors.Is(err, ledger.ErrBehind) || errors.Is(err, ledger.ErrNotFound) && l.lost(id, p):
		l.recall(ctx, id, p.proof)
	case errors.Is(err, envelope.ErrInvalid) || errors.Is(err, ledger.ErrForeign) || errors.Is(err, ledger.ErrNotFound):
		l.stop(id, Problem{Conversation: id, Seq: p.sent + 1, Text: err.Error()})
	default:
		l.service.Logger.Warn("lines are not shipped", "conv", id, "peer", l.session.Host, "err", err)
		l.move(id, func(now *place) {
			if now.said == nil {
				now.said = p.said
			}
		})
		l.mail.AddAfter(id, retryAfter)
	}
}

// stop ends the shipping of a conversation on this link.
func (l *line) stop(id string, why Problem) {
	l.move(id, func(p *place) { p.halted = true })
	l.service.unknown(l.session.Name, id)
	l.service.report(l.session.Host, why)
}

// agree compares what the peer has with the log, and returns the line behind which to go
// on. Where the peer has lines that this host has signed and lost, the error is
// ledger.ErrBehind.
func (l *line) agree(v ledger.View, id string, p place) (int64, error) {
	said := *p.said
	if said.Seq > v.State.LastSeq {
		if l.lost(id, p) {
			return 0, ledger.ErrBehind
		}
		return 0, &ledger.ForkError{Conversation: id, Seq: v.State.LastSeq + 1}
	}
	head, err := v.Head(said.Seq)
	if err == nil && head != said {
		err = &ledger.ForkError{Conversation: id, Seq: said.Seq}
	}
	return said.Seq, err
}

// prove signs what a parcel brings a log to.
func (s *Service) prove(id string, v ledger.View, p *parcel) error {
	if len(p.lines) == 0 || s.Sign == nil {
		return nil
	}
	c, err := s.chainAt(id, v, p.behind)
	if err != nil {
		return err
	}
	for _, line := range p.lines {
		c = c.next(line)
	}
	s.marks.put(id, c, p.lines[len(p.lines)-1])
	p.proof = s.sign(id, c)
	return nil
}

// due is the last line that a host gets: the last there is, or that with which its last
// agent has left. Where its name means another host in the conversation, it gets none.
func due(state conv.State, host, name string) (last int64) {
	if id, known := state.Host(name); known && id != host {
		return 0
	}
	for _, m := range state.Members {
		switch {
		case m.Address.Host != name:
		case m.Present():
			return state.LastSeq
		default:
			last = max(last, m.Left)
		}
	}
	return last
}

// fill takes the lines behind one, up to the last one, as far as a frame goes. A line
// that the peer would not take is an error.
func fill(v ledger.View, id string, behind, last int64) (p parcel, err error) {
	p.behind, p.last = behind, behind
	if behind >= last {
		return p, nil
	}
	size := 0
	for line, err := range v.Since(behind) {
		switch {
		case err != nil:
			return p, err
		case line.Envelope.Seq > last:
			return p, nil
		case len(p.lines) > 0 && size+len(line.Bytes) > link.Full || len(p.lines) == link.MaxLines:
			p.more = true
			return p, nil
		}
		if err := sendable(line, id); err != nil {
			return p, err
		}
		p.lines = append(p.lines, line.Bytes)
		p.last = line.Envelope.Seq
		size += len(line.Bytes) + 1
	}
	return p, nil
}

func sendable(line ledger.Stored, id string) error {
	err := line.Envelope.Validate()
	if err == nil && line.Envelope.Conversation != id {
		err = fmt.Errorf("%w: it is a line of conversation %q", envelope.ErrInvalid, line.Envelope.Conversation)
	}
	if err != nil {
		return fmt.Errorf("line %d is none that another host takes: %w", line.Envelope.Seq, err)
	}
	return nil
}

func (l *line) send(ctx context.Context, lane link.Lane, id string, p parcel, acked func()) error {
	header := linesHeader{Conversation: id, Chain: p.proof.Chain, Sig: p.proof.Sig}
	return l.session.Send(ctx, link.Frame{Type: typeLines, Lane: lane, Header: encode(header), Lines: p.lines, Acked: acked})
}

// encode is for headers, whose fields are texts and numbers.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode header: %v", err)) // cannot be: see above
	}
	return data
}

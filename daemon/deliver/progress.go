package deliver

import (
	"context"
	"time"

	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Receipt is how far an agent is in a conversation: everything that was for it through a
// line was delivered, or seen.
type Receipt struct {
	Conversation    string
	Agent           envelope.Address
	Delivered, Seen int64
}

// receiptsEvery is how often an observer is told who got further: of what happens in
// between it is told where it has led.
const receiptsEvery = 200 * time.Millisecond

// receipts are the news for an observer of who got further.
type receipts struct {
	d     *Deliverer
	sub   *bus.Sub
	told  time.Time
	later *time.Timer // wakes the observer when it may be told again
}

func newReceipts(d *Deliverer, sub *bus.Sub) *receipts {
	return &receipts{d: d, sub: sub, later: time.AfterFunc(receiptsEvery, sub.Poke)}
}

// news returns who got further in conversations that are covered, where it is time, and the
// observer is not busy with what it was told before.
func (r *receipts) news(covers func(conversation string) bool, busy bool) (lines []Line) {
	wait := receiptsEvery - time.Since(r.told)
	if busy {
		wait = receiptsEvery
	}
	if wait > 0 {
		r.later.Reset(wait)
		return nil
	}
	for _, stay := range r.sub.Moved() {
		if !covers(stay.Conversation) {
			continue
		}
		if receipt, ok := r.d.receipt(stay); ok {
			lines = append(lines, Line{Live: true, Receipt: &receipt})
		}
	}
	if len(lines) > 0 {
		r.told = time.Now()
	}
	return lines
}

// receipt is how far an agent is in a conversation, and whether that is known.
func (d *Deliverer) receipt(stay bus.Stay) (Receipt, bool) {
	state, _ := d.ledger.State(context.Background(), stay.Conversation) // of a log that cannot be read, what is known
	member, ok := state.Member(stay.Agent)
	if !ok {
		return Receipt{}, false
	}
	agent := member.Address
	var mark Mark
	known := false
	switch {
	case agent.Host == d.home.Host.Name:
		mark, known = d.Mark(agent.Name, stay.Conversation)
	case d.far != nil:
		mark, known = d.far.Mark(stay.Conversation, agent)
	}
	r := Receipt{Conversation: stay.Conversation, Agent: agent, Delivered: mark.Passed, Seen: mark.Passed}
	if len(mark.Offered) > 0 {
		r.Delivered = mark.Offered[0] - 1
	}
	r.Seen = r.Delivered
	if len(mark.Delivered) > 0 {
		r.Seen = min(r.Seen, mark.Delivered[0]-1)
	}
	return r, known
}

package deliver

import (
	"slices"
	"sync"

	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Observer is a live connection of somebody who only watches: it gets the lines of all
// conversations, changes nothing, and nobody waits for it.
type Observer struct {
	feed
	ledger   *ledger.Ledger
	filter   Filter
	receipts *receipts // nil where they are not wanted
	close    func()
}

// Observe begins to watch. Where the filter names no line to begin behind, that is what
// is new from now on. The caller calls Close.
func (d *Deliverer) Observe(filter Filter) *Observer {
	o := &Observer{ledger: d.ledger, filter: filter}
	topics := []bus.Topic{bus.All}
	if filter.Receipts {
		topics = append(topics, bus.Receipts)
	}
	o.feed = newFeed(d.ledger, d.bus.Subscribe(topics...), o)
	if filter.Receipts {
		o.receipts = newReceipts(d, o.sub)
	}
	d.observers.Add(1)
	o.close = sync.OnceFunc(func() {
		o.sub.Close()
		if o.receipts != nil {
			o.receipts.later.Stop()
		}
		d.observers.Add(-1)
	})
	for id := range filter.After {
		o.queue = append(o.queue, id)
	}
	slices.Sort(o.queue)
	return o
}

// Close ends the connection.
func (o *Observer) Close() { o.close() }

func (o *Observer) covers(conversation string) bool { return o.filter.covers(conversation) }

func (o *Observer) start(conversation string, state conv.State, first int64) int64 {
	if after, ok := o.filter.After[conversation]; ok {
		return after
	}
	if first == 0 {
		return state.LastSeq
	}
	return max(first-1, o.ledger.Imported(conversation))
}

func (o *Observer) takes(_ string, e *envelope.Envelope, _ conv.State) bool { return e.Type != "" }

func (o *Observer) live() (lines []Line) {
	for _, e := range o.sub.Notices() {
		if o.filter.carries(e) {
			lines = append(lines, liveLine(e))
		}
	}
	if o.receipts != nil {
		lines = append(lines, o.receipts.news(o.covers, len(o.ready) > 0)...)
	}
	return lines
}

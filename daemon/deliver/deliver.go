// Package deliver brings messages that are in a log to their recipients, and knows
// how far each message got with each of them.
//
// It follows the logs from where each recipient is. A line goes to the recipient's
// live streams where one covers the conversation, else it becomes a file in the
// inbox. A stream that confirms takes the message; when it ends without confirming,
// or takes too long, the file is written. What has been delivered and seen is kept
// in cursors.json; after a crash the lines behind the last known cursor are gone
// through again, which changes nothing for what is in the inbox already.
package deliver

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	confirmWithin = 5 * time.Second // a stream that has not confirmed by then loses the message to the inbox
	flushEvery    = time.Second     // cursors are at most this old on disk
	retryAfter    = time.Second     // a folder that takes no files is tried again
	sliceLines    = 512             // of one conversation, before another one has its turn
	keptSeen      = 10_000          // files in inbox/cur; the logs have the others
)

// Deliverer delivers the messages of one home.
type Deliverer struct {
	home    *maildir.Home
	ledger  *ledger.Ledger
	bus     *bus.Bus
	logger  *slog.Logger
	tally   Tally // may be nil
	index   Index // may be nil
	far     Far   // nil where there are no other hosts
	moved   func(agent, conversation string)
	listens func(agent string) // may be nil
	waits   func(agent string) // may be nil
	queue   *work.Queue
	now     func() time.Time
	active  atomic.Bool // something has moved since the last tick
	ending  atomic.Bool

	observers atomic.Int64

	mu       sync.Mutex
	readers  map[string]*reader // by folder name
	unusable map[string]bool    // by folder name: tried in vain, and told
	progress chan struct{}      // closed and replaced when a message got further
}

// New returns a deliverer; Run starts it. The queue gets the names of conversations
// that have grown.
func New(home *maildir.Home, l *ledger.Ledger, b *bus.Bus, queue *work.Queue, logger *slog.Logger) *Deliverer {
	return &Deliverer{
		home: home, ledger: l, bus: b, logger: logger, queue: queue, now: time.Now,
		readers: make(map[string]*reader), unusable: make(map[string]bool), progress: make(chan struct{}),
	}
}

// Tally counts messages that have come to a recipient: to its inbox or to a stream, and
// how long after their timestamp.
type Tally interface {
	Delivered(to string, took time.Duration)
}

// Count makes the deliverer count, before Run.
func (d *Deliverer) Count(t Tally) { d.tally = t }

func (d *Deliverer) count(to string, timestamp int64) {
	if d.tally != nil {
		d.tally.Delivered(to, d.now().Sub(time.UnixMilli(timestamp)))
	}
}

// Run delivers until ctx ends, and then writes the cursors.
func (d *Deliverer) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { d.queue.Run(ctx, 2, d.look) })
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			if d.active.Swap(false) {
				d.expire(ctx)
				d.Flush()
			}
		}
	}
	all.Wait()
	d.Flush()
	d.note()
	return nil
}

// Ending says that the daemon stops, and soon. What streams still hold then is put
// into the inbox after the next start, as after a crash.
func (d *Deliverer) Ending() { d.ending.Store(true) }

// Settle waits until all that was stored before the call is delivered, or ctx ends.
func (d *Deliverer) Settle(ctx context.Context) error { return d.queue.Settle(ctx) }

// Recover queues the conversations in which somebody may still have to get something.
func (d *Deliverer) Recover(ctx context.Context, conversation string) {
	state, err := d.ledger.State(ctx, conversation)
	if err != nil {
		d.logger.Warn("conversation is not read", "conv", conversation, "err", err)
	}
	rest := false
	for _, m := range state.Members {
		r, err := d.local(m.Address)
		if r != nil {
			was := r.at(conversation)
			if was > state.LastSeq { // what has come since may be delivered already
				state, _ = d.ledger.State(ctx, conversation) // of a log that cannot be read, what is known
			}
			d.fit(r, conversation, was, state.LastSeq, state.Closed || !state.Has(m.Address))
			err = r.box.Link(conversation) // a power cut may have taken it, or somebody
		}
		if err != nil {
			d.logger.Warn("agent has no link to a conversation", "agent", m.Address.Name, "conv", conversation, "err", err)
		}
		rest = rest || err != nil || r != nil && r.behind(conversation, m.First(), m.Left) < state.LastSeq
	}
	if rest {
		d.queue.Add(conversation)
	}
}

// local returns the reader of an agent of this host, nil for others. The error tells
// that the agent's mailbox cannot be used now.
func (d *Deliverer) local(a envelope.Address) (*reader, error) {
	if a.Host != d.home.Host.Name {
		return nil, nil
	}
	r, err := d.reader(a.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return r, err
}

func (d *Deliverer) reader(name string) (*reader, error) {
	name = strings.ToLower(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	if r, ok := d.readers[name]; ok {
		return r, nil
	}
	dir := d.home.AgentDir(name)
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	r, err := newReader(name, dir)
	if err != nil {
		if !d.unusable[name] {
			d.logger.Error("mailbox cannot be used", "agent", name, "err", err)
		}
		d.unusable[name] = true
		return nil, err
	}
	r.moved = d.hasMoved
	delete(d.unusable, name)
	d.readers[name] = r
	return r, nil
}

// fit makes what is known of an agent, which was at a line, fit the log of a conversation
// as it was found after that: its last line, and whether it is over for the agent. What
// was imported is behind it.
func (d *Deliverer) fit(r *reader, conversation string, was, last int64, over bool) {
	r.fit(conversation, over)
	defer func() { r.skip(conversation, min(d.ledger.Imported(conversation), last)) }()
	if r.cut(conversation, was, last) {
		d.logger.Warn("cursor was ahead of its log", "agent", r.name, "conv", conversation, "seq", was, "last", last)
	}
}

// Cut says that the log of a conversation ends with a line now, behind which other ones
// come than had been there: those that lie in inboxes are taken out of them.
func (d *Deliverer) Cut(ctx context.Context, conversation string, end int64) error {
	state, err := d.ledger.State(ctx, conversation)
	if err != nil {
		return err
	}
	for _, m := range state.Members {
		if _, err := d.local(m.Address); err != nil {
			return err
		}
	}
	for _, r := range d.all() {
		if was := r.at(conversation); r.cut(conversation, was, end) {
			d.logger.Warn("cursor goes back with its log", "agent", r.name, "conv", conversation, "seq", was, "last", end)
		}
		if err := r.box.Withdraw(conversation, end); err != nil {
			return err
		}
	}
	d.queue.Add(conversation)
	return nil
}

// fitAll is fit for the conversations of an agent that nobody has looked at since the
// start.
func (d *Deliverer) fitAll(r *reader) {
	r.mu.Lock()
	fitted := r.fitted
	r.fitted = true
	ids := slices.Collect(maps.Keys(r.marks))
	r.mu.Unlock()
	if fitted {
		return
	}
	for _, id := range ids {
		was := r.at(id)
		if state, err := d.ledger.State(context.Background(), id); err == nil {
			d.fit(r, id, was, state.LastSeq, state.Closed || !state.Has(d.home.Address(r.name)))
		}
	}
}

// recipient is somebody who may have to get lines of a conversation.
type recipient struct {
	conv.Member
	*reader
	passed int64
	rests  bool // its folder takes no files: it waits for a later look

	declines bool // it wants nothing of the conversation
}

// look delivers the lines of a conversation that have not been dealt with.
func (d *Deliverer) look(ctx context.Context, conversation string) {
	var rest, more bool
	err := d.ledger.Read(ctx, conversation, func(v ledger.View) error {
		recipients, from := d.recipients(conversation, v.State)
		defer func() { rest = slices.ContainsFunc(recipients, func(r *recipient) bool { return r.rests }) }()
		if from >= v.State.LastSeq {
			return nil
		}
		lines := 0
		for line, err := range v.Since(from) {
			if more = lines == sliceLines; err != nil || more || ctx.Err() != nil {
				return err
			}
			d.deliverLine(conversation, line, recipients)
			lines++
		}
		return nil
	})
	var damage *convlog.DamageError
	switch {
	case err != nil && !errors.As(err, &damage) && ctx.Err() == nil:
		d.logger.Error("delivery waits", "conv", conversation, "err", err)
		d.queue.AddAfter(conversation, retryAfter)
	case more:
		d.queue.Add(conversation)
	case rest:
		d.queue.AddAfter(conversation, retryAfter)
	}
	d.notify()
}

// recipients lists who lacks lines, and the line behind which to begin. One whose
// folder took no files just now holds up nobody else.
func (d *Deliverer) recipients(conversation string, state conv.State) (list []*recipient, from int64) {
	from = state.LastSeq
	for _, m := range state.Members {
		r, err := d.local(m.Address)
		if err != nil {
			list = append(list, &recipient{Member: m, rests: true})
		}
		if r == nil {
			continue
		}
		d.fit(r, conversation, r.at(conversation), state.LastSeq, state.Closed || !m.Present()) // nobody else goes on with the conversation
		passed := r.behind(conversation, m.First(), m.Left)
		if passed >= state.LastSeq {
			continue
		}
		rests := r.resting(d.now())
		declines := d.far != nil && state.Origin != d.home.Host.ID && d.far.Declines(conversation, m.Address)
		list = append(list, &recipient{Member: m, reader: r, passed: passed, rests: rests, declines: declines})
		if !rests {
			from = min(from, passed)
		}
	}
	return list, from
}

func (d *Deliverer) deliverLine(conversation string, line ledger.Stored, recipients []*recipient) {
	seq := line.Envelope.Seq
	for _, r := range recipients {
		if r.rests || seq <= r.passed || !r.At(seq) {
			continue
		}
		if err := d.deliverTo(r, conversation, line); err != nil {
			d.logger.Error("inbox takes no files", "agent", r.name, "conv", conversation, "seq", seq, "err", err)
			r.rests = true
			r.restUntil(d.now().Add(retryAfter))
		}
	}
}

func (d *Deliverer) deliverTo(r *recipient, conversation string, line ledger.Stored) error {
	e := line.Envelope
	if r.declines {
		r.pass(conversation, e.Seq)
		return nil
	}
	if enters(e, r.Address) {
		if err := r.box.Link(conversation); err != nil {
			return err
		}
	}
	if !concerns(e, r.Address) || r.shownBefore(conversation, e.Seq) {
		r.pass(conversation, e.Seq)
		return nil
	}
	switch covered, waits := r.offer(conversation, e.Seq, e.Timestamp, d.now()); {
	case !covered:
		return d.deposit(r.reader, mailbox.ItemOf(conversation, e.Seq, e.Timestamp), line.Bytes)
	case !waits: // a stream was faster
		return r.clear(mailbox.ItemOf(conversation, e.Seq, e.Timestamp), shown)
	}
	return nil
}

// deposit writes a line to the inbox.
func (d *Deliverer) deposit(r *reader, item mailbox.Item, line []byte) error {
	seen, err := r.box.Deliver(item, line)
	if err != nil {
		return err
	}
	if !seen {
		d.count("inbox", item.Time)
	}
	unseen := r.keep(item)
	if unseen && !seen && d.waits != nil {
		d.waits(r.name)
	}
	switch {
	case seen && unseen: // before a crash
		r.settle(item.Conversation, item.Seq, shown)
	case !seen && !unseen: // by a stream, just now
		err = r.clear(item, inInbox)
	}
	return err
}

// enters reports whether the line brings the agent into the conversation.
func enters(e *envelope.Envelope, a envelope.Address) bool {
	switch {
	case e.Type == envelope.Join:
		return e.From.Same(a)
	case e.Type == envelope.System && (e.Event == envelope.EventCreate || e.Event == envelope.EventInvite):
		return slices.ContainsFunc(e.Participants, a.Same)
	}
	return false
}

// concerns reports whether the line is something that the agent is to be shown.
func concerns(e *envelope.Envelope, a envelope.Address) bool {
	if e.By(a) {
		return false
	}
	switch e.Type {
	case envelope.Message, envelope.Leave:
		return true
	case envelope.System:
		switch e.Event {
		case envelope.EventClose, envelope.EventRestored:
			return true
		case envelope.EventCreate: // one that a message has made says nothing beside the message
			return !e.Auto && slices.ContainsFunc(e.Participants, a.Same)
		case envelope.EventInvite, envelope.EventStanding:
			return slices.ContainsFunc(e.Participants, a.Same)
		case envelope.EventUndeliverable:
			return slices.ContainsFunc(e.To, func(s string) bool { return strings.EqualFold(s, a.String()) })
		}
	}
	return false
}

// expire gives the inbox what streams had long enough.
func (d *Deliverer) expire(ctx context.Context) {
	limit := d.now().Add(-confirmWithin)
	for _, r := range d.all() {
		if left := r.forgetSignals(d.now().Add(-keptSignals)); left || r.hasAway() {
			d.active.Store(true) // look again at the next tick
		}
		d.toInbox(ctx, r, func(u unseen, covered bool) bool {
			return !covered || u.how == offered && u.since.Before(limit)
		})
	}
}

// toInbox writes files for messages that streams had and that are expired.
func (d *Deliverer) toInbox(ctx context.Context, r *reader, expired func(u unseen, covered bool) bool) {
	held := r.held(expired)
	if len(held) == 0 {
		return
	}
	for _, item := range held {
		if d.ending.Load() {
			return
		}
		err := d.ledger.Read(ctx, item.Conversation, func(v ledger.View) error {
			line, err := v.At(item.Seq)
			if err != nil {
				return err
			}
			return d.deposit(r, item, line.Bytes)
		})
		if err != nil {
			d.logger.Error("message stays out of the inbox", "agent", r.name, "conv", item.Conversation, "seq", item.Seq, "err", err)
		}
	}
	d.notify()
}

func (d *Deliverer) all() []*reader {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]*reader, 0, len(d.readers))
	for _, r := range d.readers {
		list = append(list, r)
	}
	return list
}

// Flush writes the cursors that have changed.
func (d *Deliverer) Flush() {
	for _, r := range d.all() {
		cursors, changed := r.cursors()
		if !changed {
			continue
		}
		if err := r.box.WriteCursors(cursors); err != nil {
			d.logger.Warn("cursors are not written", "agent", r.name, "err", err)
			r.mu.Lock()
			r.changed = true
			r.mu.Unlock()
			d.active.Store(true) // try again at the next tick
		}
	}
}

func (d *Deliverer) notify() {
	d.active.Store(true)
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.progress)
	d.progress = make(chan struct{})
}

// Progress returns a channel that is closed when a message gets further.
func (d *Deliverer) Progress() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.progress
}

package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// conversation is one log that is open.
type conversation struct {
	ledger *Ledger
	id     string
	log    *convlog.Log
	users  int  // guarded by the ledger
	dead   bool // guarded by the ledger: the log has failed

	queueMu sync.Mutex
	queue   []*request
	leading bool // somebody is committing

	announcing sync.Mutex
	announced  int64 // the last line that the follower knows of

	turn    sync.Mutex // held while the log is updated, guards work and foreign
	work    conv.State // with the lines of the turn under way
	foreign bool       // others have written since the last turn

	mu     sync.Mutex // guards what the lines on disk have come to
	state  conv.State
	last   []Stored // the last lines, for followers that keep up
	noise  bool
	raws   []*envelope.Envelope // appended with the shell, not adopted yet, in order
	read   bool                 // the log was read up to its end once
	damage error                // what stopped reading, nil for a sound log
	saved  int64                // offset of the snapshot in the index
}

// request is one line that waits to be committed.
type request struct {
	line   Line
	result Result
	state  conv.State // after the line
	err    error
	done   chan struct{}
}

// append commits a line. The caller that finds nobody committing does it
// itself, for all that have gathered; when more has come meanwhile, a goroutine that
// the ledger waits for goes on.
func (c *conversation) append(line Line) (Result, conv.State, error) {
	r := &request{line: line, done: make(chan struct{})}
	c.queueMu.Lock()
	c.queue = append(c.queue, r)
	lead := !c.leading
	c.leading = true
	c.queueMu.Unlock()
	if lead {
		c.lead()
	}
	<-r.done
	return r.result, r.state, r.err
}

func (c *conversation) lead() {
	if more := c.commitOnce(); more {
		c.ledger.work.Go(func() {
			for c.commitOnce() {
			}
		})
	}
}

// commitOnce commits what waits, and reports whether more has come meanwhile.
func (c *conversation) commitOnce() bool {
	c.queueMu.Lock()
	batch := c.queue
	c.queue = nil
	c.queueMu.Unlock()

	c.commit(batch)
	for _, r := range batch {
		close(r.done)
	}

	c.queueMu.Lock()
	defer c.queueMu.Unlock()
	c.leading = len(c.queue) > 0
	return c.leading
}

func (c *conversation) commit(batch []*request) {
	var added []Stored
	err := c.update(context.Background(), func(tx *convlog.Tx) error {
		for _, r := range batch {
			r.result, r.err = c.place(tx, r.line, added)
			r.state = c.work
			if r.err == nil && !r.result.Duplicate {
				e := *r.line.Envelope
				added = append(added, Stored{Envelope: &e, Bytes: tx.Line()})
			}
		}
		return nil
	}, &added)
	if err == nil {
		return
	}
	for _, r := range batch {
		if r.err == nil {
			r.result, r.err = Result{}, err
		}
	}
}

// place checks one line against the log, what this turn has added to it, and the
// rules, and adds it too.
func (c *conversation) place(tx *convlog.Tx, line Line, added []Stored) (Result, error) {
	e := line.Envelope
	if seq, err := findRepeat(tx, line, added); seq > 0 || err != nil {
		return Result{Seq: seq, Duplicate: true}, err
	}
	if e.Raw != nil && *e.Raw < c.work.Adopted {
		return Result{Duplicate: true}, nil
	}
	if err := c.work.Check(e, c.ledger.opts.MaxMembers); err != nil {
		return Result{}, err
	}
	tx.AddPrepared(line.prepared)
	c.work = c.work.Apply(e)
	return Result{Seq: e.Seq, Timestamp: e.Timestamp}, nil
}

// findRepeat returns the seq of the line that is the same message, or 0.
func findRepeat(tx *convlog.Tx, line Line, added []Stored) (int64, error) {
	seq, err := tx.Find(line.Envelope.ID, line.After, line.Since)
	if err != nil || seq == 0 {
		return 0, err
	}
	first, err := repeated(tx, seq, added)
	if err != nil {
		return 0, err
	}
	if !sameMessage(first, line.Envelope) {
		return 0, fmt.Errorf("line %d: %w", seq, ErrReused)
	}
	return seq, nil
}

// repeated returns the envelope of a line in the log or in this turn.
func repeated(tx *convlog.Tx, seq int64, added []Stored) (*envelope.Envelope, error) {
	if i := slices.IndexFunc(added, func(s Stored) bool { return s.Envelope.Seq == seq }); i >= 0 {
		return added[i].Envelope, nil
	}
	line, err := tx.At(seq)
	if err != nil {
		return nil, err
	}
	return stored(line).Envelope, nil
}

func sameMessage(a, b *envelope.Envelope) bool {
	return a.Type == b.Type && a.Event == b.Event && a.From.Same(b.From) && a.Content == b.Content
}

// update runs one turn on the log, and afterwards tells the follower what is new.
// added are the lines that fill has added.
func (c *conversation) update(ctx context.Context, fill func(*convlog.Tx) error, added *[]Stored) error {
	c.turn.Lock()
	err := c.log.Update(ctx, fill)
	var damage *convlog.DamageError
	if errors.Is(err, convlog.ErrFailed) || err != nil && !errors.As(err, &damage) {
		c.turn.Unlock()
		return err
	}
	c.publish(err, added)
	c.turn.Unlock()
	c.announce()
	return err
}

// publish makes known what is on disk now. The caller holds the turn.
func (c *conversation) publish(damage error, added *[]Stored) {
	c.work.LastTime = c.log.Tail().Time
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read, c.damage, c.state = true, damage, c.work
	c.raws = slices.DeleteFunc(c.raws, func(e *envelope.Envelope) bool { return *e.Raw < c.state.Adopted })
	if c.foreign {
		c.last, c.foreign = nil, false
	}
	if added != nil {
		c.last = append(c.last, *added...)
		c.last = trim(c.last)
	}
}

const (
	maxLast      = 512       // lines kept for followers, twice as many at times
	maxLastBytes = 128 << 10 // of these
)

// trim drops the oldest lines when there are too many. It does so rarely, and then
// many at once.
func trim(lines []Stored) []Stored {
	size := 0
	for i := len(lines) - 1; i >= 0; i-- {
		size += len(lines[i].Bytes)
		if kept := len(lines) - i; size > 2*maxLastBytes || kept > 2*maxLast {
			return slices.Clone(lines[len(lines)-kept/2:])
		}
	}
	return lines
}

// announce tells the follower what is new. When it returns, the follower knows of
// every line that the caller does.
func (c *conversation) announce() {
	c.announcing.Lock()
	defer c.announcing.Unlock()
	c.mu.Lock()
	state, raw := c.state, len(c.raws) > 0
	c.mu.Unlock()
	if state.LastSeq > c.announced {
		c.announced = state.LastSeq
		c.ledger.follower.Committed(c.id, state.Present())
	}
	if raw {
		c.ledger.follower.Raw(c.id)
	}
}

func (c *conversation) refresh(ctx context.Context) error { return c.update(ctx, nil, nil) }

// ready reads the log up to its end if that has not been done yet.
func (c *conversation) ready(ctx context.Context) error {
	c.mu.Lock()
	read, damage := c.read, c.damage
	c.mu.Unlock()
	if read {
		return damage
	}
	return c.refresh(ctx)
}

// stale reports whether there may be lines that were not read.
func (c *conversation) stale() bool {
	c.mu.Lock()
	read := c.read
	c.mu.Unlock()
	return !read || c.log.Changed()
}

func (c *conversation) current() conv.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func (c *conversation) view() View {
	reader := c.log.Read()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.noise {
		reader.Trust(reader.Size())
	}
	return View{State: c.state, Log: reader, last: c.last}
}

// observe takes in a line that somebody else has written.
func (c *conversation) observe(line convlog.Line) {
	if line.Noise() {
		c.observeNoise(line)
		return
	}
	c.foreign = true
	if isPlainMessage(line.Bytes) {
		c.work = c.work.Message(line.Seq)
		return
	}
	e, err := envelope.Decode(line.Bytes)
	if err != nil { // a number that counts, with content that says nothing
		c.work.LastSeq = line.Seq
		return
	}
	c.work = c.work.Apply(e)
}

// observeNoise keeps a line that is a message somebody appended with the shell.
func (c *conversation) observeNoise(line convlog.Line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noise = true
	if line.Offset < c.work.Adopted || !bytes.Contains(line.Bytes, []byte(`"from"`)) {
		return
	}
	e, err := envelope.Decode(line.Bytes)
	if err != nil || e.Seq != 0 || e.From.IsZero() || e.Content == "" || e.Type != "" && e.Type != envelope.Message {
		return
	}
	e.Raw = envelope.Int(line.Offset)
	c.raws = append(c.raws, e)
}

func (c *conversation) firstRaw() *envelope.Envelope {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.raws) == 0 {
		return nil
	}
	first := *c.raws[0]
	return &first
}

// isPlainMessage recognises, without decoding it, a message in the form that duo
// writes and that changes nothing but the count.
func isPlainMessage(line []byte) bool {
	const kind = `"type":"message",`
	head := line[:min(len(line), 128)]
	i := bytes.Index(head, []byte(kind))
	return i > 0 && bytes.Count(head[:i], []byte(`"`)) == 6 && !bytes.Contains(line, []byte(`"raw":`))
}

// snapshot is what the index may keep. There is none while lines wait to be adopted:
// a snapshot behind them would hide them.
func (c *conversation) snapshot() (snapshot, bool) {
	tail := c.log.Tail()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.raws) > 0 || !c.read || c.state.LastSeq != tail.Seq {
		return snapshot{}, false
	}
	c.saved = tail.Offset
	return snapshot{State: c.state, Tail: tail, Noise: c.noise}, true
}

// unsaved is snapshot where the log has grown since the last one.
func (c *conversation) unsaved() (snapshot, bool) {
	c.mu.Lock()
	saved := c.saved
	c.mu.Unlock()
	if c.log.Tail().Offset == saved {
		return snapshot{}, false
	}
	return c.snapshot()
}

package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// conversation is one log that is open.
type conversation struct {
	ledger *Ledger
	id     string
	opened func() error // opens the log, once, and tells whether it is open
	log    *convlog.Log // set with the ledger's lock, while nobody else has the conversation yet

	users int       // guarded by the ledger
	used  time.Time // guarded by the ledger: when somebody began to use it last
	dead  bool      // guarded by the ledger: the log has failed

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
	size   int64    // bytes of the log that state knows, all of them on disk
	last   []Stored // the last lines, for followers that keep up
	noise  bool
	raws   []Raw // appended with the shell, not adopted yet, in order
	read   bool  // the log was read up to its end once
	damage error // what stopped reading, nil for a sound log
	saved  int64 // offset of the snapshot in the index
}

func newConversation(l *Ledger, id string) *conversation {
	c := &conversation{ledger: l, id: id}
	c.opened = sync.OnceValue(c.activate)
	return c
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
				added = append(added, Stored{Envelope: r.line.Envelope, Bytes: tx.Line()})
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
	if err := sound(c.id, c.work); err != nil {
		return Result{}, err
	}
	if c.replica() {
		return Result{}, fmt.Errorf("add to log of %q: %w", c.id, ErrReplica)
	}
	if seq, err := c.findRepeat(tx, line, added); seq > 0 || err != nil {
		return Result{Seq: seq, Duplicate: true}, err
	}
	if c.ledger.behind(c.id) {
		return Result{}, fmt.Errorf("add to log of %q: %w", c.id, ErrBehind)
	}
	if e.Raw != nil && *e.Raw < c.work.Adopted {
		return Result{Duplicate: true}, nil
	}
	if line.Only != nil {
		if err := line.Only(c.work); err != nil {
			return Result{}, err
		}
	}
	if err := c.work.Check(e, c.ledger.opts.Limits); err != nil {
		return Result{}, err
	}
	tx.AddPrepared(line.prepared)
	c.apply(e)
	return Result{Seq: e.Seq}, nil
}

// sound reports whether a log is that of the conversation: its first line makes it.
func sound(id string, state conv.State) error {
	if state.LastSeq > 0 && state.ID != id {
		return fmt.Errorf("log of %q: %w", id, ErrForeign)
	}
	return nil
}

// findRepeat returns the seq of the line that is the same message, or 0.
func (c *conversation) findRepeat(tx *convlog.Tx, line Line, added []Stored) (int64, error) {
	seq, err := tx.Find(line.Envelope.ID, line.After, line.Since)
	if err != nil || seq == 0 {
		return 0, err
	}
	first, err := repeated(tx, seq, added)
	if err != nil {
		return 0, err
	}
	if !c.same(first, line.Envelope) {
		return 0, fmt.Errorf("line %d: %w", seq, ErrReused)
	}
	return seq, nil
}

// same reports whether an envelope says again what a line says. An invite says the same
// when everybody it names is in by now: the line has those who were not in before.
func (c *conversation) same(line, e *envelope.Envelope) bool {
	a, b := *line, *e
	if a.Event == envelope.EventInvite && b.Event == envelope.EventInvite {
		in := func(who envelope.Address) bool { return c.work.Has(who) }
		asked := func(who envelope.Address) bool { return slices.ContainsFunc(b.Participants, who.Same) }
		if !all(b.Participants, in) || !all(a.Participants, asked) {
			return false
		}
		a.Participants, b.Participants = nil, nil
	}
	if !a.From.Same(b.From) {
		return false
	}
	for _, one := range []*envelope.Envelope{&a, &b} { // who brings agents in may know their hosts only now
		one.After, one.Raw, one.From, one.Hosts, one.Signature = nil, nil, envelope.Address{}, nil, ""
	}
	text, _ := a.AppendDraft(nil)
	again, _ := b.AppendDraft(nil)
	return bytes.Equal(text, again)
}

func all[T any](list []T, is func(T) bool) bool {
	return !slices.ContainsFunc(list, func(one T) bool { return !is(one) })
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

// update runs one turn on the log, and afterwards tells the follower what is new.
// added are the lines that fill has added.
func (c *conversation) update(ctx context.Context, fill func(*convlog.Tx) error, added *[]Stored) error {
	var refused error // by fill: what others have appended was read all the same
	turn := fill
	if fill != nil {
		turn = func(tx *convlog.Tx) error {
			refused = fill(tx)
			return refused
		}
	}
	c.turn.Lock()
	err := c.log.Update(ctx, turn)
	damage := err
	if refused != nil {
		damage = nil
	}
	if damage == nil {
		damage = sound(c.id, c.work)
	} else if errors.As(err, new(*convlog.DamageError)) && !errors.Is(err, convlog.ErrFailed) {
		damage = err
	} else {
		c.turn.Unlock()
		return err
	}
	c.publish(damage, added)
	c.turn.Unlock()
	c.announce()
	return cmp.Or(err, damage)
}

// publish makes known what is on disk now. The caller holds the turn.
func (c *conversation) publish(damage error, added *[]Stored) {
	tail := c.log.Tail()
	c.work.LastTime = tail.Time
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read, c.damage, c.state, c.size = true, damage, c.work, tail.Offset
	c.raws = slices.DeleteFunc(c.raws, func(r Raw) bool { return *r.Draft.Raw < c.state.Adopted })
	if c.foreign {
		c.last, c.foreign = nil, false
	}
	if added != nil {
		c.last = append(c.last, *added...)
		c.last = trim(c.last)
	}
}

const (
	maxLast      = 256      // lines kept for followers, twice as many at times
	maxLastBytes = 64 << 10 // of these
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
		from := c.announced + 1
		c.announced = state.LastSeq
		c.ledger.latest.note(c.id)
		c.ledger.follower.Committed(c.id, from, state.Present())
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

const unfinished = 2 * time.Second

// abandoned reports whether the log ends in a line without its newline that nobody has
// touched for a while: what is appended next would be glued to it.
func (c *conversation) abandoned() bool {
	info, err := os.Stat(c.ledger.home.LogPath(c.id))
	return err == nil && c.log.Changed() && time.Since(info.ModTime()) > unfinished
}

func (c *conversation) current() conv.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func (c *conversation) view() View {
	c.mu.Lock()
	defer c.mu.Unlock()
	reader := c.log.Read(c.size)
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
	if line.From != nil {
		c.work = c.work.Message(line.Seq, string(line.From))
		return
	}
	e, err := envelope.Decode(line.Bytes)
	if err != nil { // a number that counts, with content that says nothing
		c.work.LastSeq = line.Seq
		return
	}
	c.apply(elsewhere(e, line.Offset)) // what it adopted stood before it
}

// observeNoise keeps a line that somebody has appended with the shell.
func (c *conversation) observeNoise(line convlog.Line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noise = true
	if line.Offset < c.work.Adopted {
		return
	}
	if raw, ok := parseRaw(line); ok {
		c.raws = append(c.raws, raw)
	}
}

func (c *conversation) firstRaw() *Raw {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.raws) == 0 {
		return nil
	}
	first := c.raws[0]
	draft := *first.Draft
	first.Draft = &draft
	return &first
}

// snapshot is what the index may keep. There is none while lines wait to be adopted:
// a snapshot behind them would hide them.
func (c *conversation) snapshot() (snapshot, bool) {
	tail, err := c.log.Snapshot()
	if err != nil {
		return snapshot{}, false
	}
	changed := int64(0)
	if info, err := os.Stat(c.ledger.home.LogPath(c.id)); err == nil && info.Size() == tail.Offset {
		changed = info.ModTime().UnixNano()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.raws) > 0 || !c.read || c.damage != nil || c.state.LastSeq != tail.Seq {
		return snapshot{}, false
	}
	c.saved = tail.Offset
	return snapshot{State: c.state, Tail: tail, Noise: c.noise, Changed: changed}, true
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

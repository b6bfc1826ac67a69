// Package ledger is the conversations of one host: their logs held open, each with
// one committer at a time and the state that its lines have come to.
//
// [Ledger.Append] is the only way for the daemon to write a line. All that wait for
// the same log are checked under one lock, written in one piece and made durable by
// one sync; then all of them are told, and followers are woken. There is no timer: a
// batch is what has gathered while the last one was being written.
//
// What the ledger knows of a log it reads from the log, or from the index as far as
// that had come. When a write fails, the log is closed and read again.
package ledger

import (
	"container/list"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

var (
	// ErrNotFound means that there is no such conversation on this host.
	ErrNotFound = errors.New("no such conversation")
	// ErrReused means that another message with the same id is in the log.
	ErrReused = errors.New("the key or id was used for another message")
	// ErrForeign means that the log of a conversation does not begin with the line that
	// makes it: it is another one's, or part of one.
	ErrForeign = errors.New("log belongs to another conversation")
	// ErrClosed means that the daemon is stopping.
	ErrClosed = errors.New("ledger is closed")
)

// Follower is told about lines after they are on disk. Its methods return at once.
type Follower interface {
	// Committed says that a conversation has grown by the lines from one on, and who
	// is in it.
	Committed(conversation string, from int64, present []envelope.Address)
	// Raw says that somebody has appended lines with the shell; see Ledger.Raw.
	Raw(conversation string)
}

// Options are settings of a ledger; the zero value has working defaults.
type Options struct {
	Log     convlog.Options
	MaxOpen int      // logs held open at once, default 512
	Listed  []string // the conversations, where somebody has listed them just now
	Limits  conv.Limits
	Logger  *slog.Logger
}

// Ledger holds the conversations of a home. Its methods may be used by several
// goroutines.
type Ledger struct {
	home     *maildir.Home
	index    *index.Index
	follower Follower
	opts     Options
	refs     *maildir.Refs
	latest   latest
	work     sync.WaitGroup // users of logs, and committers that have outlived their caller

	mu     sync.Mutex
	closed bool
	open   map[string]*list.Element // of *conversation
	recent *list.List               // most recently used first
	paused map[string]time.Time     // conversations that take no new lines, until when

	imported map[string]int64 // as the home has noted it; see Imported
	noted    fs.FileInfo      // of the file that notes it, nil for none
}

// Open opens the ledger of a home.
func Open(home *maildir.Home, x *index.Index, follower Follower, opts Options) (*Ledger, error) {
	if opts.MaxOpen == 0 {
		opts.MaxOpen = 512
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	ids := opts.Listed
	if ids == nil {
		var err error
		if ids, err = home.Conversations(); err != nil {
			return nil, err
		}
	}
	if err := maildir.RemoveTemps(home.ConversationsDir()); err != nil {
		return nil, err
	}
	l := &Ledger{
		home: home, index: x, follower: follower, opts: opts, refs: maildir.NewRefs(ids),
		open: make(map[string]*list.Element), recent: list.New(), paused: make(map[string]time.Time),
	}
	l.learnImported()
	return l, nil
}

// learnImported reads what was imported. An import notes it before there is the log.
func (l *Ledger) learnImported() {
	info, _ := os.Stat(l.home.ImportedPath()) // nil for none: nothing was imported
	l.mu.Lock()
	defer l.mu.Unlock()
	if info == nil || l.noted != nil && sameNote(info, l.noted) {
		return
	}
	imported, err := l.home.Imported()
	if err != nil {
		l.opts.Logger.Warn("what was imported is not read", "path", l.home.ImportedPath(), "err", err)
		return
	}
	l.imported, l.noted = imported, info
}

// sameNote reports whether a file has not been replaced since. What has been replaced twice
// can be where it was at first.
func sameNote(now, then fs.FileInfo) bool {
	return os.SameFile(now, then) && now.Size() == then.Size() && now.ModTime().Equal(then.ModTime())
}

// Imported is the line through which a conversation is history, of which nobody is told,
// and 0 where it was not imported.
func (l *Ledger) Imported(id string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.imported[id]
}

// AllImported lists the conversations that were imported, sorted.
func (l *Ledger) AllImported() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.imported))
}

// Close waits for who uses a log and closes the logs. Everything that was
// acknowledged is on disk already.
func (l *Ledger) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.work.Wait()
	l.mu.Lock()
	var rest []*conversation
	for e := l.recent.Front(); e != nil; e = e.Next() {
		rest = append(rest, e.Value.(*conversation))
	}
	l.recent.Init()
	clear(l.open)
	l.mu.Unlock()
	l.shut(rest)
}

// Held counts the conversations whose log is held open.
func (l *Ledger) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recent.Len()
}

// Durable is how many bytes of a conversation's log are on disk for good, as far as the
// ledger holds the log open and has read it; else -1: then nobody here is writing it.
func (l *Ledger) Durable(id string) int64 {
	c := l.peek(id)
	if c == nil {
		return -1
	}
	defer l.release(c, nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.read {
		return -1
	}
	return c.size
}

// Refs are the references of the conversations.
func (l *Ledger) Refs() *maildir.Refs { return l.refs }

// Result tells where a line stands.
type Result struct {
	Seq       int64
	Duplicate bool // it had been there before
}

// Create makes a conversation with its first lines; the first of them is its create
// event. Where the conversation exists already it reports that and changes nothing.
// When it returns nil, the lines are on disk: what fails behind that point is logged.
func (l *Ledger) Create(ctx context.Context, lines []*envelope.Envelope) (existed bool, err error) {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return false, ErrClosed
	}
	id := lines[0].Conversation
	err = convlog.Create(l.home.LogPath(id), lines, l.now())
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	l.refs.Add(id)
	if err := l.Refresh(ctx, id); err != nil {
		l.opts.Logger.Warn("new conversation is not read", "conv", id, "err", err)
	}
	return err != nil, nil
}

// Line is an envelope that asks for a place in its conversation's log. Once it has got
// one, those who read the log share the envelope: nobody changes it.
type Line struct {
	Envelope *envelope.Envelope
	// A repeat of the message is looked for behind the line After, or, where that is 0,
	// among the lines stored since Since, in Unix milliseconds.
	After, Since int64
	// What must hold of the conversation when the line gets its place; nil for nothing.
	// Where it returns an error, Append returns that, and the line is not added.
	Only func(conv.State) error

	prepared convlog.Prepared
}

// Append adds a line to its conversation unless it is there already, and returns
// when it is on disk, with the state after it. Refusals by the rules are of type
// *conv.Refusal; after convlog.ErrFailed nobody knows whether the line will be
// found, and the same envelope may be tried again.
func (l *Ledger) Append(line Line) (Result, conv.State, error) {
	var err error
	if line.prepared, err = convlog.Prepare(line.Envelope); err != nil {
		return Result{}, conv.State{}, err
	}
	var result Result
	var state conv.State
	err = l.with(line.Envelope.Conversation, func(c *conversation) (err error) {
		result, state, err = c.append(line)
		return err
	})
	return result, state, err
}

// with calls use with a conversation whose log is open. Where the log was closed or
// replaced under it, before anything was written, it does so again with the log that is
// there now.
func (l *Ledger) with(id string, use func(*conversation) error) error {
	err := l.once(id, use)
	if (errors.Is(err, convlog.ErrReplaced) || errors.Is(err, fs.ErrClosed)) && !errors.Is(err, convlog.ErrFailed) {
		err = l.once(id, use)
	}
	return err
}

func (l *Ledger) once(id string, use func(*conversation) error) (err error) {
	c, err := l.hold(id)
	if err != nil {
		return err
	}
	defer func() { l.release(c, err) }()
	return use(c)
}

// Find looks for a line in its conversation's log without adding it. A result with
// the seq 0 means that it is not there.
func (l *Ledger) Find(line Line) (Result, conv.State, error) {
	var seq int64
	var state conv.State
	err := l.with(line.Envelope.Conversation, func(c *conversation) error {
		err := c.update(context.Background(), func(tx *convlog.Tx) (err error) {
			seq, err = c.findRepeat(tx, line, nil)
			return err
		}, nil)
		state = c.current()
		return err
	})
	return Result{Seq: seq, Duplicate: seq > 0}, state, err
}

// Seq is the number of the line with an id behind the line after, 0 where there is none.
func (l *Ledger) Seq(in, id string, after int64) (seq int64, err error) {
	err = l.with(in, func(c *conversation) error {
		return c.update(context.Background(), func(tx *convlog.Tx) (err error) {
			seq, err = tx.Find(id, after, 0)
			return err
		}, nil)
	})
	return seq, err
}

// State is what the conversation has come to. It opens the log only where the index
// is behind it. Of a damaged log it returns the state before the damage, and a
// *convlog.DamageError.
func (l *Ledger) State(ctx context.Context, id string) (state conv.State, err error) {
	if state, ok := l.known(id); ok {
		return state, nil
	}
	err = l.with(id, func(c *conversation) error {
		err := c.ready(ctx)
		state = c.current()
		return err
	})
	return state, err
}

// known is the state of a conversation whose log is not open, as the index has it.
func (l *Ledger) known(id string) (conv.State, bool) {
	if c := l.peek(id); c != nil {
		l.release(c, nil)
		return conv.State{}, false
	}
	info, err := os.Stat(l.home.LogPath(id))
	if err != nil {
		return conv.State{}, false
	}
	s, ok := l.load(id)
	return s.State, ok && s.whole(info)
}

// Known is the state of a conversation as the index has it, where its log looks as it
// did then. It opens nothing.
func (l *Ledger) Known(id string, look durable.Look) (conv.State, bool) {
	s, ok := l.load(id)
	return s.State, ok && s.is(look)
}

// Read calls use with what is on disk of a conversation, and once more where the log
// failed meanwhile. Of a damaged log it shows what stands before the damage.
func (l *Ledger) Read(ctx context.Context, id string, use func(View) error) error {
	return l.with(id, func(c *conversation) error {
		if err := c.ready(ctx); err != nil && !errors.As(err, new(*convlog.DamageError)) {
			return err
		}
		return use(c.view())
	})
}

// Refresh looks for lines that others have appended, and tells the follower. A last
// line that somebody has left without its newline gets one after a while.
func (l *Ledger) Refresh(ctx context.Context, id string) error {
	return l.with(id, func(c *conversation) error {
		l.refs.Add(id)
		if !c.stale() {
			c.announce() // another goroutine may have read the lines and not told yet
			return nil
		}
		l.latest.note(id)
		l.learnImported() // before anybody is told of lines that were imported
		err := c.refresh(ctx)
		if err == nil && c.abandoned() {
			err = c.update(ctx, func(*convlog.Tx) error { return nil }, nil) // who writes ends the last line
		}
		return err
	})
}

// Changed reports whether a log may have lines that the ledger has not read. It
// opens nothing.
func (l *Ledger) Changed(id string) bool {
	if c := l.peek(id); c != nil {
		defer l.release(c, nil)
		return c.log.Changed()
	}
	info, err := os.Stat(l.home.LogPath(id))
	if err != nil {
		return false
	}
	s, ok := l.load(id)
	return !ok || !s.whole(info)
}

// Raw returns the first line that somebody has appended to the log with the shell
// and that is not adopted or answered yet; nil when there is none.
func (l *Ledger) Raw(id string) (raw *Raw, err error) {
	err = l.with(id, func(c *conversation) error {
		err := c.ready(context.Background())
		raw = c.firstRaw()
		return err
	})
	return raw, err
}

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
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

var (
	// ErrNotFound means that there is no such conversation on this host.
	ErrNotFound = errors.New("no such conversation")
	// ErrReused means that another message with the same id is in the log.
	ErrReused = errors.New("id was used for another message")
	// ErrClosed means that the daemon is stopping.
	ErrClosed = errors.New("ledger is closed")
)

// Follower is told about lines after they are on disk. Its methods return at once.
type Follower interface {
	// Committed says that a conversation has grown, and who is in it.
	Committed(conversation string, present []envelope.Address)
	// Raw says that somebody has appended lines with the shell; see Ledger.Raw.
	Raw(conversation string)
}

// Options are settings of a ledger; the zero value has working defaults.
type Options struct {
	Log        convlog.Options
	MaxOpen    int // logs held open at once, default 512
	MaxMembers int // participants of a conversation, default 256
	Logger     *slog.Logger
}

// Ledger holds the conversations of a home. Its methods may be used by several
// goroutines.
type Ledger struct {
	home     *maildir.Home
	index    *index.Index
	follower Follower
	opts     Options
	refs     *maildir.Refs
	work     sync.WaitGroup // users of logs, and committers that have outlived their caller

	mu     sync.Mutex
	closed bool
	open   map[string]*list.Element // of *conversation
	recent *list.List               // most recently used first
}

// Open opens the ledger of a home.
func Open(home *maildir.Home, x *index.Index, follower Follower, opts Options) (*Ledger, error) {
	if opts.MaxOpen == 0 {
		opts.MaxOpen = 512
	}
	if opts.MaxMembers == 0 {
		opts.MaxMembers = 256
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	ids, err := home.Conversations()
	if err != nil {
		return nil, err
	}
	if err := maildir.RemoveTemps(home.ConversationsDir()); err != nil {
		return nil, err
	}
	return &Ledger{
		home: home, index: x, follower: follower, opts: opts, refs: maildir.NewRefs(ids),
		open: make(map[string]*list.Element), recent: list.New(),
	}, nil
}

// Close waits for who uses a log and closes the logs. Everything that was
// acknowledged is on disk already.
func (l *Ledger) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.work.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := l.recent.Front(); e != nil; e = e.Next() {
		l.shut(e.Value.(*conversation))
	}
	l.recent.Init()
	clear(l.open)
}

// Refs are the references of the conversations.
func (l *Ledger) Refs() *maildir.Refs { return l.refs }

// Result tells where a line stands.
type Result struct {
	Seq       int64
	Timestamp int64 // of this line; 0 for a duplicate
	Duplicate bool  // it had been there before
}

// Create makes a conversation with its first lines; the first of them is its create
// event. Where the conversation exists already it reports that and changes nothing.
// When it returns nil, the lines are on disk.
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
	return err != nil, l.Refresh(ctx, id)
}

// Line is an envelope that asks for a place in its conversation's log.
type Line struct {
	Envelope *envelope.Envelope
	// A repeat of the message is looked for behind the line After, or, where that is 0,
	// among the lines stored since Since, in Unix milliseconds.
	After, Since int64

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
	for try := 1; ; try++ {
		c, err := l.hold(line.Envelope.Conversation)
		if err != nil {
			return Result{}, conv.State{}, err
		}
		result, state, err := c.append(line)
		l.release(c, err)
		if errors.Is(err, convlog.ErrReplaced) && try == 1 {
			continue // nothing was written: read the log that is there now
		}
		return result, state, err
	}
}

// Find looks for a line in its conversation's log without adding it. A result with
// the seq 0 means that it is not there.
func (l *Ledger) Find(line Line) (Result, conv.State, error) {
	c, err := l.hold(line.Envelope.Conversation)
	if err != nil {
		return Result{}, conv.State{}, err
	}
	var seq int64
	err = c.update(context.Background(), func(tx *convlog.Tx) (err error) {
		seq, err = findRepeat(tx, line, nil)
		return err
	}, nil)
	l.release(c, err)
	return Result{Seq: seq, Duplicate: seq > 0}, c.current(), err
}

// State is what the conversation has come to. It opens the log only where the index
// is behind it. Of a damaged log it returns the state before the damage, and a
// *convlog.DamageError.
func (l *Ledger) State(ctx context.Context, id string) (conv.State, error) {
	if c := l.peek(id); c != nil {
		return l.stateOf(ctx, c)
	}
	info, err := os.Stat(l.home.LogPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return conv.State{}, fmt.Errorf("%q: %w", id, ErrNotFound)
	}
	if err != nil {
		return conv.State{}, fmt.Errorf("open log: %w", err)
	}
	if s, ok := l.load(id); ok && s.Tail.Suits(info) && s.Tail.Offset == info.Size() {
		return s.State, nil
	}
	c, err := l.hold(id)
	if err != nil {
		return conv.State{}, err
	}
	return l.stateOf(ctx, c)
}

func (l *Ledger) stateOf(ctx context.Context, c *conversation) (conv.State, error) {
	err := c.ready(ctx)
	l.release(c, err)
	return c.current(), err
}

// Read calls use with what is on disk of a conversation. Of a damaged log it shows
// what stands before the damage.
func (l *Ledger) Read(ctx context.Context, id string, use func(View) error) error {
	err := l.read(ctx, id, use)
	if errors.Is(err, fs.ErrClosed) { // the log has failed meanwhile: read it anew
		err = l.read(ctx, id, use)
	}
	return err
}

func (l *Ledger) read(ctx context.Context, id string, use func(View) error) error {
	c, err := l.hold(id)
	if err != nil {
		return err
	}
	var damage *convlog.DamageError
	if err = c.ready(ctx); err == nil || errors.As(err, &damage) {
		err = use(c.view())
	}
	l.release(c, err)
	return err
}

// Refresh looks for lines that others have appended, and tells the follower.
func (l *Ledger) Refresh(ctx context.Context, id string) error {
	c, err := l.hold(id)
	if err != nil {
		return err
	}
	l.refs.Add(id)
	if c.stale() {
		err = c.refresh(ctx)
	} else {
		c.announce() // another goroutine may have read the lines and not told yet
	}
	l.release(c, err)
	return err
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
	return !ok || !s.Tail.Suits(info) || s.Tail.Offset != info.Size()
}

// Raw returns the first line that somebody has appended to the log with the shell
// and that is not adopted yet, as a draft with its Raw set; nil when there is none.
func (l *Ledger) Raw(id string) (*envelope.Envelope, error) {
	c, err := l.hold(id)
	if err != nil {
		return nil, err
	}
	err = c.ready(context.Background())
	l.release(c, err)
	return c.firstRaw(), err
}

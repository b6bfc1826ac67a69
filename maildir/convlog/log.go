// Package convlog keeps a conversation's log: an append-only file of envelopes,
// one JSON object on a line, numbered 1, 2, 3 … without a gap.
//
// A line is valid when it is a JSON object whose seq is one more than that of the
// last valid line. Other lines are noise: readers pass them over and nobody removes
// them, so a torn write or a stray echo never harms a log. A seq that jumps ahead
// is damage and stops readers and writers alike. A last line without its newline is
// not there yet.
//
// [Log] appends under an exclusive flock on the log itself, so any number of
// processes may write. What [Log.Update] has returned for is on disk: it survives a
// power cut. A log is never renamed, replaced or cut, but for [Log.Cut]. After the first failed write
// or sync a Log refuses everything: what is on disk is unknown until the log has
// been opened and read again.
//
// [Reader] finds message N, the lines since N and the last K without an index,
// because lines begin with their seq.
package convlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/uuid"
)

var (
	// ErrFailed means that a write or a sync of this Log failed. Nothing is known of
	// lines that were not acknowledged. Open the log again to go on.
	ErrFailed = errors.New("log failed")
	// ErrReplaced means that the path names another file than the one that was opened,
	// or a shorter one, or none. Open the log again and read it from the start.
	ErrReplaced = errors.New("log was replaced")
	// ErrBusy means that another process kept the lock for too long.
	ErrBusy = errors.New("log is locked by another process")
)

// Options are settings of a Log; the zero value has working defaults.
type Options struct {
	Now      func() time.Time     // the clock that stamps lines, default time.Now
	Sync     func(*os.File) error // makes a write durable, default durable.Sync
	LockWait time.Duration        // how long to wait for other processes, default 5 s
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sync == nil {
		o.Sync = durable.Sync
	}
	if o.LockWait == 0 {
		o.LockWait = 5 * time.Second
	}
	return o
}

// Tail is what a writer remembers of the end of a log.
type Tail struct {
	Pos
	Time  int64  // timestamp of the last valid line
	Inode uint64 // of the file
	Mark  uint32 `json:",omitempty"` // of the bytes before the place; 0 where it was not taken
}

// Suits reports whether the log, as info tells of it, can still begin with what
// the tail remembers: the same file, not shorter.
func (t Tail) Suits(info fs.FileInfo) bool {
	return t.Inode == durable.Inode(info) && t.Offset <= info.Size()
}

// Create makes the log path with its first lines, which it stamps with seq 1, 2, …
// and the time now. It returns an error that is fs.ErrExist where the log exists.
// When it returns nil the lines are on disk.
func Create(path string, lines []*envelope.Envelope, now time.Time) error {
	var buf []byte
	for i, e := range lines {
		p, err := Prepare(e)
		if err != nil {
			return err
		}
		buf = p.append(buf, int64(i+1), now.UnixMilli())
	}
	return create(path, buf)
}

// CreateCopy makes the log path with the first lines of another host's log, as they
// stand there; otherwise it is Create.
func CreateCopy(path string, lines [][]byte) error {
	var buf []byte
	for i, line := range lines {
		if err := checkCopy(line, int64(i+1)); err != nil {
			return err
		}
		buf = append(append(buf, line...), '\n')
	}
	return create(path, buf)
}

func create(path string, lines []byte) error {
	if err := durable.Create(path, lines, 0o600); err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	return nil
}

// Log appends to one log. It may be used by several goroutines; they take turns.
type Log struct {
	path    string
	opts    Options
	observe func(Line)
	file    *os.File    // locked while an update is under way
	info    fs.FileInfo // of the file when it was opened, to recognise it

	synced atomic.Int64 // bytes that are known to be on disk
	length atomic.Int64 // bytes that the file has when nobody else writes

	mu     sync.Mutex // guards what follows, and is held for a whole update
	tail   Tail       // of what was read and written
	safe   Tail       // of what is on disk
	ids    recent
	failed error
}

// Open opens the log at path for appending. What stands before from is taken as
// known; every line behind it that somebody else has written is handed to observe,
// once and in order, noise included, under the lock.
func Open(path string, from Tail, observe func(Line), opts Options) (*Log, error) {
	f, info, err := openLog(path, os.O_RDWR|os.O_APPEND)
	if err != nil {
		return nil, err
	}
	tail := from
	if tail.Inode == 0 {
		tail.Inode = durable.Inode(info)
	}
	return &Log{
		path:    path,
		opts:    opts.withDefaults(),
		observe: observe,
		file:    f,
		info:    info,
		tail:    tail,
		safe:    from,
		ids:     newRecent(from.Seq + 1),
	}, nil
}

// notFollowing refuses a link, and does not wait where a pipe is in place of the log.
const notFollowing = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

func openLog(path string, flag int) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, flag|notFollowing, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open log %q: %w", path, err), f.Close())
	}
	return f, info, nil
}

// Close waits for the update that is under way and closes the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = fmt.Errorf("log %q: %w", l.path, os.ErrClosed)
		return l.file.Close()
	}
	return nil
}

// Tail is the end of the log as of the last update, all of it on disk.
func (l *Log) Tail() Tail {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.safe
}

// Read returns a reader of the log up to a place, as far as that is known to be on disk.
// It is valid until Close.
func (l *Log) Read(upTo int64) *Reader { return NewReader(l.file, min(upTo, l.synced.Load())) }

// Snapshot is Tail with a mark, for an Open of another time: by it that Open recognises
// a file that has other bytes before the place.
func (l *Log) Snapshot() (Tail, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	tail := l.safe
	var err error
	tail.Mark, err = markAt(l.file, tail.Offset)
	return tail, err
}

const markSize = 256

// markAt is a checksum of the bytes before an offset; it is never 0.
func markAt(r io.ReaderAt, offset int64) (uint32, error) {
	buf := make([]byte, min(markSize, offset))
	if n, err := r.ReadAt(buf, offset-int64(len(buf))); n < len(buf) {
		return 0, fmt.Errorf("read log at byte %d: %w", offset-int64(len(buf)), err)
	}
	return max(1, crc32.ChecksumIEEE(buf)), nil
}

// Changed reports whether the file differs in length from what this Log has left
// there. It waits for nobody, so it is a hint.
func (l *Log) Changed() bool {
	info, err := os.Stat(l.path)
	return err != nil || info.Size() != l.length.Load()
}

// Update locks the log, observes what others have appended, and calls fill, which
// may add lines. When it returns nil, all of them are on disk. When it returns an
// error none is acknowledged; ErrFailed then means that nobody knows.
// Where fill returns an error nothing is written. A nil fill only observes, and like
// every reader it waits for no lock.
func (l *Log) Update(ctx context.Context, fill func(*Tx) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	if fill == nil {
		return l.catchUp(false)
	}
	if err := l.acquire(ctx); err != nil {
		return err
	}
	defer l.release()
	if err := l.catchUp(true); err != nil {
		return err
	}
	tx := &Tx{log: l, base: l.tail.Seq, seq: l.tail.Seq, time: l.tail.Time}
	if err := fill(tx); err != nil {
		l.ids.forget(l.tail.Seq)
		return err
	}
	return l.commit(tx)
}

const lockRetry = time.Millisecond

// acquire locks the file, and waits while another process has it.
func (l *Log) acquire(ctx context.Context) error {
	if locked, err := durable.TryLock(l.file); locked || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.opts.LockWait, ErrBusy)
	defer cancel()
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("lock log %q: %w", l.path, context.Cause(ctx))
		case <-tick.C:
		}
		if locked, err := durable.TryLock(l.file); locked || err != nil {
			return err
		}
	}
}

func (l *Log) release() {
	if l.failed != nil {
		return // the file is closed, and the lock with it
	}
	if err := durable.Unlock(l.file); err != nil {
		l.fail(err)
	}
}

// catchUp observes what stands behind the tail, and for somebody who writes ends a
// last line that has no newline. For a reader that line is not there yet: its writer
// may be at it.
func (l *Log) catchUp(writes bool) error {
	info, err := os.Lstat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("log %q: %w: %w", l.path, ErrReplaced, err)
	}
	if err != nil {
		return fmt.Errorf("stat log: %w", err)
	}
	if !os.SameFile(info, l.info) || !l.tail.Suits(info) || !l.recognised() {
		return fmt.Errorf("log %q: %w", l.path, ErrReplaced)
	}
	if writes {
		err = l.settle(info.Size())
	} else {
		_, err = l.scan(info.Size())
	}
	var damage *DamageError
	if err != nil && !errors.As(err, &damage) {
		return err
	}
	return errors.Join(err, l.syncForeign()) // what stands before damage can be read
}

// recognised compares the bytes before the tail with the mark that Open was given.
func (l *Log) recognised() bool {
	if l.tail.Mark == 0 {
		return true
	}
	if mark, err := markAt(l.file, l.tail.Offset); err != nil || mark != l.tail.Mark {
		return false
	}
	l.tail.Mark = 0
	return true
}

// syncForeign makes durable what others wrote: they may have been killed between
// writing and syncing.
func (l *Log) syncForeign() error {
	if l.synced.Load() == l.tail.Offset {
		l.safe = l.tail
		return nil
	}
	return l.sync()
}

func (l *Log) sync() error {
	if err := l.opts.Sync(l.file); err != nil {
		return l.fail(err)
	}
	l.safe = l.tail
	l.synced.Store(l.tail.Offset)
	l.length.Store(l.tail.Offset)
	return nil
}

// scan observes the whole lines behind the tail and returns what follows them.
func (l *Log) scan(size int64) ([]byte, error) {
	if size == l.tail.Offset {
		return nil, nil
	}
	s := NewScanner(l.file, l.tail.Pos, size)
	var last []byte
	for s.Next() {
		line := s.Line()
		if !line.Noise() {
			last = append(last[:0], line.Bytes...)
			if id, err := uuid.Parse(lineID(line.Bytes)); err == nil {
				l.ids.add(id, line.Seq)
			}
		}
		if l.observe != nil {
			l.observe(line)
		}
		l.tail.Pos = s.Pos()
	}
	if last != nil {
		l.tail.Time = max(l.tail.Time, lineTime(last))
	}
	if s.Err() != nil {
		return nil, fmt.Errorf("log %q: %w", l.path, s.Err())
	}
	return s.Fragment(), nil
}

const (
	shellPause = 2 * time.Millisecond
	shellTurns = 50
)

// settle observes what stands behind the tail in a log of a size, and gives the last
// line its newline, so that ours begins a new one. A fragment that is no line of duo's
// may be a shell in the middle of an append, which writes 4096 bytes at a time, so it
// gets a moment to finish.
func (l *Log) settle(size int64) error {
	for turn := range 2 * shellTurns {
		fragment, err := l.scan(size)
		if err != nil || len(fragment) == 0 {
			return err
		}
		if turn < shellTurns && len(fragment)%4096 == 0 && !bytes.HasPrefix(fragment, []byte(`{"seq":`)) {
			time.Sleep(shellPause)
		} else if _, err := l.file.Write([]byte{'\n'}); err != nil {
			return l.fail(err)
		}
		if size, err = l.size(); err != nil {
			return err
		}
	}
	return nil // somebody writes without end; write takes care of it
}

func (l *Log) size() (int64, error) {
	info, err := l.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("stat log: %w", err)
	}
	return info.Size(), nil
}

func (l *Log) commit(tx *Tx) error {
	if len(tx.buf) == 0 {
		return nil
	}
	l.length.Store(l.tail.Offset + int64(len(tx.buf)))
	size, err := l.size()
	if err == nil {
		err = l.settle(size) // fill may have taken a while
	}
	if err == nil {
		err = l.unmoved(tx)
	}
	if err != nil {
		return l.fail(err)
	}
	// A crash inside this write leaves some of our lines and perhaps a torn one, which
	// the next writer ends and every reader passes over.
	if _, err := l.file.Write(tx.buf); err != nil {
		return l.fail(err)
	}
	if err := l.landed(tx); err != nil {
		return l.fail(err)
	}
	l.tail.Time = tx.time
	return l.sync() // The commit point: the lines are in the log for good.
}

// landed looks where the write has put the lines. Who appends with the shell takes no
// lock, so something of theirs may have got in front, and half a line of theirs would
// make noise of our first line and damage of the others. That half line is noise
// whatever we do: its last byte becomes the newline that it lacks.
func (l *Log) landed(tx *Tx) error {
	end, err := l.file.Seek(0, io.SeekCurrent) // an append leaves the place behind itself
	if err != nil {
		return err
	}
	begin := end - int64(len(tx.buf))
	if begin < l.tail.Offset {
		return ErrReplaced
	}
	fragment, err := l.scan(begin)
	if err == nil {
		err = l.unmoved(tx)
	}
	if err != nil {
		return err
	}
	if len(bytes.TrimLeft(fragment, " \t\r")) > 0 {
		if err := l.cutOff(begin - 1); err != nil {
			return err
		}
		if _, err := l.scan(begin); err != nil {
			return err
		}
	}
	l.tail.Pos = Pos{Offset: end, Seq: tx.seq}
	return nil
}

// unmoved reports whether somebody without the lock has given the numbers that this
// turn gives.
func (l *Log) unmoved(tx *Tx) error {
	if l.tail.Seq != tx.base {
		return fmt.Errorf("line %d was written by somebody without the lock", tx.base+1)
	}
	return nil
}

// cutOff makes the byte at an offset a newline.
func (l *Log) cutOff(offset int64) error {
	f, info, err := openLog(l.path, os.O_WRONLY) // a file that is open for appending writes at its end only
	if err != nil {
		return err
	}
	if !os.SameFile(info, l.info) {
		return errors.Join(ErrReplaced, f.Close())
	}
	_, err = f.WriteAt([]byte{'\n'}, offset)
	return errors.Join(err, f.Close())
}

// fail makes every later update fail. What the kernel remembers of the file is
// dropped, so that whoever reads the log again reads what the disk holds.
func (l *Log) fail(cause error) error {
	if l.failed == nil {
		_ = durable.Forget(l.file) // best effort: the next reader checks each line anyway
		l.failed = fmt.Errorf("log %q: %w: %w", l.path, ErrFailed, cause)
		_ = l.file.Close() // nothing is acknowledged from here on
	}
	return l.failed
}

// Tx is one turn of a writer. It is valid inside the fill of Update.
type Tx struct {
	log  *Log
	base int64 // the last line before this turn
	seq  int64
	time int64
	buf  []byte
	line int // where in buf the last line begins
}

// Last is the seq of the last line, added ones included.
func (tx *Tx) Last() int64 { return tx.seq }

// Prepared is an envelope in the form that its line will have, but for what the log
// gives it.
type Prepared struct {
	envelope *envelope.Envelope
	id       uuid.UUID
	text     []byte
	stamp    int // where in text the timestamp goes
}

const (
	maxStamp  = 80  // more than seq and timestamp take in a line
	draftSize = 320 // about what a line has beside its content
)

// Prepare does the part of Tx.Add that needs no lock. It refuses an envelope that
// would not make a valid line: readers would pass it over, and the next would be
// damage. The envelope must not change until it is added.
func Prepare(e *envelope.Envelope) (Prepared, error) {
	id, err := uuid.Parse(e.ID)
	if err != nil {
		return Prepared{}, fmt.Errorf("add to log: %w: field \"id\": want a UUID, got %q", envelope.ErrInvalid, e.ID)
	}
	p := Prepared{envelope: e, id: id}
	p.text, p.stamp = e.AppendDraft(make([]byte, 0, len(e.Content)+len(e.Data)+draftSize))
	switch {
	case len(p.text) > envelope.MaxLine-maxStamp:
		return p, fmt.Errorf("add to log: %w: %d bytes are over the limit of %d", envelope.ErrInvalid, len(p.text), envelope.MaxLine-maxStamp)
	case len(e.Data) == 0 && len(e.Unknown) == 0: // all of the line was quoted here
		return p, nil
	}
	sample := stamped(make([]byte, 0, len(p.text)+maxStamp), p.text, p.stamp, 1, 1)
	if seq, ok := lineSeq(sample[:len(sample)-1]); !ok || seq != 1 || bytes.IndexByte(p.text, '\n') >= 0 {
		return p, fmt.Errorf("add to log: %w: id %q does not make one line of JSON", envelope.ErrInvalid, e.ID)
	}
	return p, nil
}

// stamped appends the line of a draft to dst, with its newline.
func stamped(dst, text []byte, stamp int, seq, time int64) []byte {
	dst = append(strconv.AppendInt(append(dst, `{"seq":`...), seq, 10), ',')
	dst = append(dst, text[1:stamp]...)
	dst = strconv.AppendInt(append(dst, `,"timestamp":`...), time, 10)
	return append(append(dst, text[stamp:]...), '\n')
}

// Add is Prepare and AddPrepared. It refuses, and queues nothing, where the line
// would not be a valid one.
func (tx *Tx) Add(e *envelope.Envelope) error {
	p, err := Prepare(e)
	if err != nil {
		return err
	}
	tx.AddPrepared(p)
	return nil
}

// AddPrepared stamps the envelope with the next seq and the time, which never goes
// back, and queues its line for the write.
func (tx *Tx) AddPrepared(p Prepared) {
	tx.seq++
	tx.time = max(tx.time, tx.log.opts.Now().UnixMilli())
	tx.line = len(tx.buf)
	tx.buf = p.append(tx.buf, tx.seq, tx.time)
	tx.log.ids.add(p.id, tx.seq)
}

// AddCopy queues a line of another host's log as it stands there, without its newline,
// with the id and the timestamp that it has. It refuses, and queues nothing, where that
// would not be the next valid line.
func (tx *Tx) AddCopy(line []byte, id string, time int64) error {
	if err := checkCopy(line, tx.seq+1); err != nil {
		return err
	}
	u, err := uuid.Parse(id)
	if err != nil {
		return fmt.Errorf("copy to log: %w: field \"id\": want a UUID, got %q", envelope.ErrInvalid, id)
	}
	tx.seq++
	tx.time = max(tx.time, time)
	tx.line = len(tx.buf)
	tx.buf = append(append(tx.buf, line...), '\n')
	tx.log.ids.add(u, tx.seq)
	return nil
}

// checkCopy refuses bytes that readers would not take for the line seq.
func checkCopy(line []byte, seq int64) error {
	got, _, ok := plainMessage(line)
	if !ok {
		got, ok = lineSeq(line)
	}
	if !ok || got != seq || bytes.IndexByte(line, '\n') >= 0 {
		return fmt.Errorf("copy to log: %w: it is not line %d", envelope.ErrInvalid, seq)
	}
	return nil
}

// append stamps the envelope and appends its line to dst.
func (p Prepared) append(dst []byte, seq, time int64) []byte {
	p.envelope.Seq, p.envelope.Timestamp = seq, time
	return stamped(dst, p.text, p.stamp, seq, time)
}

// Line is the line that was queued last, without its newline.
func (tx *Tx) Line() []byte { return slices.Clip(tx.buf[tx.line : len(tx.buf)-1]) }

// Offset is where in the log the line begins that was queued last, if nobody without the
// lock writes meanwhile.
func (tx *Tx) Offset() int64 { return tx.log.tail.Offset + int64(tx.line) }

// Find looks for a line with the id behind the line after, and behind the lines
// that are older than since, in Unix milliseconds. It returns its seq, or 0. A line
// further back may be found too: with the same id it is the same message.
func (tx *Tx) Find(id string, after, since int64) (int64, error) {
	return tx.log.find(id, after, since)
}

// At returns a line that was in the log before this turn.
func (tx *Tx) At(seq int64) (Line, error) {
	return NewReader(tx.log.file, tx.log.tail.Offset).At(seq)
}

// Since reads the lines behind seq that were in the log before this turn.
func (tx *Tx) Since(seq int64) (*Scanner, error) {
	return NewReader(tx.log.file, tx.log.tail.Offset).Since(seq)
}

// Package search is the index of all conversations: what is searched, asked with SQL, and
// counted as who talks to whom. It is a SQLite file that is made of the logs and the cards,
// and of nothing else, so that it can be deleted at any time; docs/search.md states its
// tables and what a query can be.
//
// One goroutine, that of [Index.Run], writes. It is told which conversations have grown, and
// reads their logs from where it was, up to what is on disk for good. Who asks is told how
// far behind it is.
package search

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	gather    = 20 * time.Millisecond  // how long lines gather before they are read
	busyFor   = 200 * time.Millisecond // so long after new lines there may be more
	share     = 3                      // while there are, reading them rests so many times as long as it takes
	lull      = time.Second            // and is begun no sooner than so long after the last time, but for who asks
	patience  = 200 * time.Millisecond // of a question for what is not read yet
	longest   = 3 * time.Second        // of a question for an index that is being opened
	retry     = 10 * time.Second       // after an error
	unused    = 10 * time.Second       // of a connection
	maxAtOnce = 512                    // conversations

	maxReaders = 4
)

// Parts are what an index is made of.
type Parts struct {
	Home *maildir.Home
	// Durable is how many bytes of a log that is held open are on disk for good, -1 where it
	// is not. It may be nil where nobody writes logs.
	Durable func(conversation string) int64
	// Last is the seq of the last line of a conversation. It may be nil.
	Last func(conversation string) int64
	// Ref is the reference of a conversation. It may be nil.
	Ref    func(conversation string) string
	Logger *slog.Logger
}

// Index is the index of a home. Its methods may be used by several goroutines.
type Index struct {
	Parts
	path  string
	wake  chan struct{} // a token when there may be something to read
	asked chan struct{} // and when somebody has asked

	mu       sync.Mutex
	pending  map[string]*behind
	order    []string      // keys of pending, the first to read first
	listed   bool          // all logs were looked at since the start
	settled  chan struct{} // closed and replaced when pending was written
	told     time.Time     // when somebody has last told of new lines
	db, read *sql.DB       // nil while there is none; read is for questions
	file     os.FileInfo   // of the index
	bad      error         // a question has found that the index is broken

	writing sync.Mutex // held by who writes to the tables
	feeder  *feeder
	cards   time.Time // when cards and calls were read last

	retry  time.Duration // how long it waits after an error
	within time.Duration // a question is answered
	unused time.Duration // how long a connection stays open that nobody uses
	lull   time.Duration // how long from one reading to the next, while lines come and nobody asks
}

// behind is what is not read of a conversation.
type behind struct {
	from  int64 // the first line that is missing
	last  int64 // the last one, 0 for not known
	again bool  // it has grown since somebody began to read it
}

// New makes an index of a home; Run starts it.
func New(parts Parts) *Index {
	if parts.Logger == nil {
		parts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Index{
		Parts: parts, path: parts.Home.SearchPath(), wake: make(chan struct{}, 1), asked: make(chan struct{}, 1),
		pending: make(map[string]*behind), settled: make(chan struct{}), retry: retry, within: sqlTime, unused: unused, lull: lull,
	}
}

// Committed says that a conversation has grown by the lines from one on. It returns at once.
func (x *Index) Committed(conversation string, from int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.told = time.Now()
	x.add(conversation, from, 0)
}

// add asks for a look at a conversation. The caller holds the lock.
func (x *Index) add(conversation string, from, last int64) {
	if p := x.pending[conversation]; p != nil {
		p.from, p.again = min(p.from, from), true
		p.last = 0
	} else {
		x.pending[conversation] = &behind{from: from, last: last}
		x.order = append(x.order, conversation)
	}
	poke(x.wake)
}

// Run makes the index if there is none that can be relied upon, and keeps it up to date
// until ctx ends. It never fails: what is wrong with the index is logged, and it is made
// again.
func (x *Index) Run(ctx context.Context) error {
	defer x.close()
	for ctx.Err() == nil {
		err := x.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		wait := x.retry
		isBroken := x.broken(err)
		if isBroken {
			wait = x.retry / 10
		}
		x.Logger.Warn("index of search is made again or waits", "path", x.path, "err", err)
		x.drop(isBroken)
		pause(ctx, wait)
	}
	return nil
}

// broken reports whether an error means that the file is not a sound index. Others may pass:
// a full disk, too many open files.
func (x *Index) broken(err error) bool {
	return damaged(err) || x.gone() != nil || failedWith(err, sqlite3.SQLITE_ERROR) && !x.complete()
}

// complete reports whether the tables are there, as far as that is known.
func (x *Index) complete() bool {
	x.mu.Lock()
	db := x.read
	x.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return db == nil || complete(ctx, db)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// follow reads what is new, until ctx ends or the index is broken. From what may pass it goes
// on after a while.
func (x *Index) follow(ctx context.Context) error {
	if err := x.begin(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-x.wake:
		}
		for more := true; more && ctx.Err() == nil; {
			pause(ctx, gather)
			start := time.Now()
			var err error
			more, err = x.step(ctx)
			switch {
			case err != nil && x.broken(err):
				return err
			case err != nil && ctx.Err() == nil:
				x.Logger.Warn("index of search waits", "path", x.path, "err", err)
				more = true
				pause(ctx, x.retry)
			}
			if x.busy() { // who writes goes first
				pause(ctx, min(share*time.Since(start), time.Second))
				x.rest(ctx, x.lull-time.Since(start))
			}
		}
	}
}

// rest waits a while, so that more is read at once, or until somebody asks.
func (x *Index) rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-x.asked:
	case <-time.After(d):
	}
}

// busy reports whether lines are being written just now.
func (x *Index) busy() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return time.Since(x.told) < busyFor
}

// begin opens the index, and finds out what is to be read.
func (x *Index) begin(ctx context.Context) error {
	if err := x.open(ctx); err != nil {
		return err
	}
	return x.look(ctx)
}

// open opens the index, or makes it.
func (x *Index) open(ctx context.Context) error {
	host := x.Home.Host.ID
	booted, err := boot()
	if err != nil {
		return fmt.Errorf("open index: %w", err)
	}
	why, err := usable(ctx, x.path, host, booted)
	if err != nil {
		return fmt.Errorf("open index: %w", err)
	}
	s := state{Version: version, Home: host, Boot: booted}
	var db *sql.DB
	if why != "" {
		x.Logger.Info("index of search is made", "path", x.path, "reason", why)
		if err = os.Remove(statePath(x.path)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("make index: %w", err)
		}
		db, err = create(x.path)
	} else {
		db, err = open(x.path, true)
	}
	if err != nil {
		return err
	}
	if err := s.write(x.path); err != nil {
		return errors.Join(fmt.Errorf("note that index is open: %w", err), db.Close())
	}
	file, err := os.Stat(x.path)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	read, err := open(x.path, false)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	for _, pool := range []*sql.DB{db, read} {
		pool.SetConnMaxIdleTime(x.unused) // with it goes what it keeps in memory
	}
	x.writing.Lock()
	x.feeder = &feeder{db: db, home: x.Home, words: true, durable: x.Durable, skip: x.cannotRead, agents: make(map[string]int64)}
	x.cards = time.Time{}
	x.writing.Unlock()
	x.mu.Lock()
	x.db, x.read, x.file, x.bad = db, read, file, nil
	x.tell()
	x.mu.Unlock()
	return nil
}

func (x *Index) cannotRead(id string, err error) {
	x.Logger.Warn("conversation is not searched", "conv", id, "err", err)
}

// close ends the use of the index and notes that it is whole.
func (x *Index) close() {
	x.mu.Lock()
	db := x.db
	x.mu.Unlock()
	if db == nil {
		return
	}
	if err := errors.Join(merge(db), x.shut()); err != nil {
		x.Logger.Warn("index of search does not close", "path", x.path, "err", err)
		return
	}
	booted, _ := boot() // it counts where the file cannot be synced
	s := state{Version: version, Home: x.Home.Host.ID, Boot: booted}
	if err := syncFile(x.path); err == nil {
		s.Closed = looks(x.path)
	}
	if err := s.write(x.path); err != nil {
		x.Logger.Warn("index of search is not noted as closed", "path", x.path, "err", err)
	}
}

// merge puts what stands beside the file of an index into it. The last connection does so,
// too, but for one that only reads.
func merge(db *sql.DB) error {
	_, err := db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// drop ends the use of an index with which something is wrong. One that is broken is not
// used again.
func (x *Index) drop(isBroken bool) {
	if err := x.shut(); err != nil {
		x.Logger.Warn("index of search does not close", "path", x.path, "err", err)
	}
	if !isBroken {
		return
	}
	if err := os.Remove(statePath(x.path)); err != nil && !errors.Is(err, os.ErrNotExist) {
		x.Logger.Warn("broken index of search stays", "path", x.path, "err", err)
	}
}

func (x *Index) shut() error {
	x.mu.Lock()
	db, read := x.db, x.read
	x.db, x.read, x.listed = nil, nil, false
	x.mu.Unlock()
	x.writing.Lock()
	defer x.writing.Unlock()
	x.feeder = nil
	if db == nil {
		return nil
	}
	return errors.Join(read.Close(), db.Close())
}

// look finds out which logs are not as the index has them.
func (x *Index) look(ctx context.Context) error {
	ids, err := x.Home.Conversations()
	if err != nil {
		return err
	}
	slices.Sort(ids)
	known, err := x.known(ctx)
	if err != nil {
		return err
	}
	defer known.close()
	var stale []staleLog
	for _, id := range ids {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		gone, was, err := known.upTo(id)
		if err != nil {
			return err
		}
		for _, k := range gone {
			x.expect(k.id, k.seq+1, k.seq)
		}
		info, err := os.Stat(x.Home.LogPath(id))
		if err != nil || was.looks == "" || was.looks != looksOf(info) {
			l := staleLog{id: id, seq: was.seq}
			if err == nil {
				l.changed = info.ModTime().UnixNano()
			}
			stale = append(stale, l)
		}
	}
	gone, err := known.rest()
	if err != nil {
		return err
	}
	for _, k := range gone {
		x.expect(k.id, k.seq+1, k.seq)
	}
	slices.SortFunc(stale, func(a, b staleLog) int { return cmp.Compare(a.changed, b.changed) }) // lines are kept by time
	for _, l := range stale {
		last, _ := convlog.LastOf(x.Home.LogPath(l.id))
		x.expect(l.id, l.seq+1, max(last.Seq, l.seq))
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.listed = true
	x.tell()
	return nil
}

// staleLog is a log that is not as the index has it.
type staleLog struct {
	id      string
	seq     int64 // the last line that the index has
	changed int64
}

// expect asks for a look at a conversation.
func (x *Index) expect(id string, from, last int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.add(id, from, last)
}

// known runs over the conversations of the index, in the order of their ids.
type known struct {
	rows *sql.Rows
	next knownLog // empty at the end
}

type knownLog struct {
	id, looks string
	seq       int64
}

func (x *Index) known(ctx context.Context) (*known, error) {
	rows, err := x.read.QueryContext(ctx, "SELECT id, looks, last_seq FROM c ORDER BY id")
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	k := &known{rows: rows}
	if err := k.step(); err != nil {
		return nil, errors.Join(err, rows.Close())
	}
	return k, nil
}

func (k *known) close() { _ = k.rows.Close() } // only read

func (k *known) step() error {
	k.next = knownLog{}
	if !k.rows.Next() {
		return k.rows.Err()
	}
	return k.rows.Scan(&k.next.id, &k.next.looks, &k.next.seq)
}

// upTo returns the conversation with an id, empty where there is none, and those before it.
func (k *known) upTo(id string) (before []knownLog, found knownLog, err error) {
	for k.next.id != "" && k.next.id < id {
		before = append(before, k.next)
		if err := k.step(); err != nil {
			return nil, found, err
		}
	}
	if k.next.id == id {
		found = k.next
		err = k.step()
	}
	return before, found, err
}

// rest returns the conversations that are left.
func (k *known) rest() (list []knownLog, err error) {
	for ; k.next.id != "" && err == nil; err = k.step() {
		list = append(list, k.next)
	}
	return list, err
}

// step reads some of what is new, and reports whether there is more.
func (x *Index) step(ctx context.Context) (more bool, err error) {
	x.mu.Lock()
	ids := x.order[:min(len(x.order), maxAtOnce)]
	ids = slices.Clone(ids)
	bad := x.bad
	x.bad = nil
	for _, id := range ids {
		x.pending[id].again = false
	}
	x.mu.Unlock()
	if err := cmp.Or(bad, x.gone()); err != nil || len(ids) == 0 {
		return false, err
	}
	x.writing.Lock()
	done, err := x.feeder.feed(ctx, ids)
	x.writing.Unlock()
	if err != nil {
		return false, err
	}
	x.settle(done, ids)
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.order) > 0, nil
}

// errGone means that somebody has deleted or replaced the file of the index.
var errGone = errors.New("the file is gone")

// gone is errGone where the index is not the file any more that was opened.
func (x *Index) gone() error {
	x.mu.Lock()
	opened := x.file
	x.mu.Unlock()
	file, err := os.Stat(x.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && opened != nil && !os.SameFile(file, opened) {
		return errGone
	}
	return nil
}

// tell wakes who waits for what is read. The caller holds the lock.
func (x *Index) tell() {
	close(x.settled)
	x.settled = make(chan struct{})
}

// settle forgets what was read to its end. What was not, goes behind the others. Tried are
// the first of them: since then others came behind them only.
func (x *Index) settle(done, tried []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range done {
		if !x.pending[id].again {
			delete(x.pending, id)
		}
	}
	x.order = x.order[len(tried):]
	for _, id := range tried {
		if x.pending[id] != nil {
			x.order = append(x.order, id)
		}
	}
	if len(x.order) == 0 { // a map never gets smaller
		x.pending, x.order = make(map[string]*behind), nil
	}
	x.tell()
}

// Behind tells what of the logs is not in the index.
func (x *Index) Behind() api.Lag {
	x.mu.Lock()
	lag := api.Lag{Conversations: len(x.pending)}
	unknown := make(map[string]int64)
	for id, p := range x.pending {
		if p.last == 0 && x.Last != nil && len(unknown) < maxAtOnce {
			unknown[id] = p.from
		}
		lag.Lines += max(0, p.last+1-p.from)
	}
	listed := x.listed
	x.mu.Unlock()
	for id, from := range unknown {
		lag.Lines += max(0, x.Last(id)+1-from)
	}
	if !listed { // it has not looked yet
		ids, err := x.Home.Conversations()
		if err == nil {
			lag.Conversations = max(lag.Conversations, len(ids))
		}
	}
	return lag
}

// suspect has the index looked at, which a question has found broken.
func (x *Index) suspect(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.bad = err
	poke(x.wake)
}

// poke leaves a token in a channel, where there is none.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ref is the reference of a conversation.
func (x *Index) ref(id string) string {
	if x.Ref == nil {
		return "c" + id[max(0, len(id)-8):]
	}
	return x.Ref(id)
}

// Settle waits until everything is in the index that was told before, or ctx ends.
func (x *Index) Settle(ctx context.Context) {
	x.await(ctx, func() bool { return x.listed && len(x.pending) == 0 })
}

// await waits until something is so, or ctx ends.
func (x *Index) await(ctx context.Context, is func() bool) {
	for {
		x.mu.Lock()
		settled, done := x.settled, is()
		x.mu.Unlock()
		if done {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-settled:
		}
	}
}

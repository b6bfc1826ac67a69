package ledger

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/claude-duo/duo/maildir/convlog"
)

func indexKey(id string) string { return "conversation:" + id }

func (l *Ledger) load(id string) (snapshot, bool) {
	data, ok := l.index.Get(indexKey(id))
	if !ok {
		return snapshot{}, false
	}
	s, err := decodeSnapshot(data)
	if err != nil || s.State.ID != id {
		return snapshot{}, false
	}
	return s, true
}

func (l *Ledger) save(id string, s snapshot) {
	if err := l.index.Put(indexKey(id), s.encode()); err != nil {
		l.opts.Logger.Warn("index is not written", "conv", id, "err", err)
	}
}

// peek returns the conversation if its log is open. The caller releases it.
func (l *Ledger) peek(id string) *conversation {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.open[id]
	if !ok || l.closed || e.Value.(*conversation).log == nil {
		return nil
	}
	return l.use(e)
}

// use counts a user of a conversation. The caller holds the lock, and the ledger is
// not closed: Close waits for the users.
func (l *Ledger) use(e *list.Element) *conversation {
	c := e.Value.(*conversation)
	c.users++
	c.used = time.Now()
	l.work.Add(1)
	return c
}

// hold returns the conversation with its log open. The caller releases it. Who comes
// first opens the log, and others who want the same one wait for that; the rest of the
// ledger does not.
func (l *Ledger) hold(id string) (*conversation, error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, ErrClosed
	}
	e, ok := l.open[id]
	if !ok {
		e = l.recent.PushFront(newConversation(l, id))
		l.open[id] = e
	}
	l.recent.MoveToFront(e)
	c := l.use(e)
	over := l.evict()
	l.mu.Unlock()
	l.shut(over)
	if err := c.opened(); err != nil {
		l.release(c, errNotOpen)
		return nil, err
	}
	return c, nil
}

// errNotOpen releases a conversation whose log could not be opened.
var errNotOpen = errors.New("log is not open")

// release ends a hold. After a failure the log is not used again: the next hold
// reads it anew, and where it was replaced, from its start.
func (l *Ledger) release(c *conversation, err error) {
	if errors.Is(err, convlog.ErrReplaced) {
		l.save(c.id, snapshot{})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.work.Done()
	c.users--
	if errors.Is(err, errNotOpen) || errors.Is(err, convlog.ErrFailed) || errors.Is(err, convlog.ErrReplaced) || errors.Is(err, fs.ErrClosed) {
		c.dead = true
		if e, ok := l.open[c.id]; ok && e.Value == c {
			l.recent.Remove(e)
			delete(l.open, c.id)
		}
	}
	if c.dead && c.users == 0 && c.log != nil {
		_ = c.log.Close() // nothing that was acknowledged depends on it
	}
}

// activate opens the log of a conversation where the index has left off.
func (c *conversation) activate() error {
	path := c.ledger.home.LogPath(c.id)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%q: %w", c.id, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	s, ok := c.ledger.load(c.id)
	if !ok || !s.Tail.Suits(info) {
		s = snapshot{}
		c.ledger.learnImported() // it may be a log that has come just now
	}
	log, err := convlog.Open(path, s.Tail, c.observe, c.ledger.opts.Log)
	if err != nil {
		return err
	}
	c.work, c.state, c.noise, c.announced = s.State, s.State, s.Noise, s.State.LastSeq
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	c.log = log
	return nil
}

// evict takes off the conversations that nobody uses while there are too many. The
// caller holds the lock and shuts them without it.
func (l *Ledger) evict() (over []*conversation) {
	for e := l.recent.Back(); e != nil && l.recent.Len() > l.opts.MaxOpen; {
		c, previous := e.Value.(*conversation), e.Prev()
		if c.users == 0 {
			over = append(over, c)
			l.recent.Remove(e)
			delete(l.open, c.id)
		}
		e = previous
	}
	return over
}

// idle takes off the conversations that nobody has used since before.
func (l *Ledger) idle(before time.Time) (idle []*conversation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := l.recent.Back(); e != nil; {
		c, previous := e.Value.(*conversation), e.Prev()
		if c.users == 0 && c.used.Before(before) {
			idle = append(idle, c)
			l.recent.Remove(e)
			delete(l.open, c.id)
		}
		e = previous
	}
	return idle
}

// shut closes logs that were taken off.
func (l *Ledger) shut(list []*conversation) {
	for _, c := range list {
		if s, ok := c.unsaved(); ok {
			l.save(c.id, s)
		}
		if err := c.log.Close(); err != nil {
			l.opts.Logger.Warn("log does not close", "conv", c.id, "err", err)
		}
	}
}

const idleAfter = 30 * time.Second

// Checkpoint writes to the index what the open logs have come to, and closes those
// that nobody has used for a while.
func (l *Ledger) Checkpoint() {
	l.shut(l.idle(time.Now().Add(-idleAfter)))
	l.mu.Lock()
	var held []*conversation
	for e := l.recent.Front(); e != nil && !l.closed; e = e.Next() {
		if c := e.Value.(*conversation); c.log != nil {
			used := c.used
			held = append(held, l.use(e))
			c.used = used // this is no use
		}
	}
	l.mu.Unlock()
	for _, c := range held {
		if s, ok := c.unsaved(); ok {
			l.save(c.id, s)
		}
		l.release(c, nil)
	}
}

func (l *Ledger) now() time.Time {
	if l.opts.Log.Now != nil {
		return l.opts.Log.Now()
	}
	return time.Now()
}

package ledger

import (
	"container/list"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/convlog"
)

// snapshot is what the index keeps of a log: the state at a place in the file. It
// stays true for as long as the file is not replaced, since logs only grow.
type snapshot struct {
	State conv.State   `json:"state"`
	Tail  convlog.Tail `json:"tail"`
	Noise bool         `json:"noise,omitempty"` // there are lines that readers pass over
}

func indexKey(id string) string { return "conversation:" + id }

func (l *Ledger) load(id string) (snapshot, bool) {
	var s snapshot
	data, ok := l.index.Get(indexKey(id))
	if !ok || json.Unmarshal(data, &s) != nil {
		return snapshot{}, false
	}
	return s, true
}

func (l *Ledger) save(id string, s snapshot) {
	data, err := json.Marshal(s)
	if err == nil {
		err = l.index.Put(indexKey(id), data)
	}
	if err != nil {
		l.opts.Logger.Warn("index is not written", "conv", id, "err", err)
	}
}

// peek returns the conversation if its log is open. The caller releases it.
func (l *Ledger) peek(id string) *conversation {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.open[id]
	if !ok || l.closed {
		return nil
	}
	return l.use(e)
}

// use counts a user of an open log. The caller holds the lock, and the ledger is not
// closed: Close waits for the users.
func (l *Ledger) use(e *list.Element) *conversation {
	c := e.Value.(*conversation)
	c.users++
	l.work.Add(1)
	return c
}

// hold returns the conversation with its log open. The caller releases it.
func (l *Ledger) hold(id string) (*conversation, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	e, ok := l.open[id]
	if !ok {
		c, err := l.activate(id)
		if err != nil {
			return nil, err
		}
		e = l.recent.PushFront(c)
		l.open[id] = e
		l.evict()
	}
	l.recent.MoveToFront(e)
	return l.use(e), nil
}

// release ends a hold. After a failure the log is not used again: the next hold
// reads it anew.
func (l *Ledger) release(c *conversation, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.work.Done()
	c.users--
	if errors.Is(err, convlog.ErrFailed) || errors.Is(err, convlog.ErrReplaced) || errors.Is(err, fs.ErrClosed) {
		c.dead = true
		if e, ok := l.open[c.id]; ok && e.Value == c {
			l.recent.Remove(e)
			delete(l.open, c.id)
		}
	}
	if c.dead && c.users == 0 {
		_ = c.log.Close() // nothing that was acknowledged depends on it
	}
}

// activate opens the log of a conversation where the index has left off.
func (l *Ledger) activate(id string) (*conversation, error) {
	path := l.home.LogPath(id)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	s, ok := l.load(id)
	if !ok || !s.Tail.Suits(info) {
		s = snapshot{}
	}
	c := &conversation{ledger: l, id: id, work: s.State, state: s.State, noise: s.Noise, announced: s.State.LastSeq}
	c.log, err = convlog.Open(path, s.Tail, c.observe, l.opts.Log)
	return c, err
}

// evict closes logs that nobody uses while too many are open.
func (l *Ledger) evict() {
	for e := l.recent.Back(); e != nil && l.recent.Len() > l.opts.MaxOpen; {
		c, previous := e.Value.(*conversation), e.Prev()
		if c.users == 0 && e != l.recent.Front() {
			l.shut(c)
			l.recent.Remove(e)
			delete(l.open, c.id)
		}
		e = previous
	}
}

func (l *Ledger) shut(c *conversation) {
	if s, ok := c.snapshot(); ok {
		l.save(c.id, s)
	}
	if err := c.log.Close(); err != nil {
		l.opts.Logger.Warn("log does not close", "conv", c.id, "err", err)
	}
}

// Checkpoint writes to the index what the open logs have come to.
func (l *Ledger) Checkpoint() {
	l.mu.Lock()
	var held []*conversation
	for e := l.recent.Front(); e != nil && !l.closed; e = e.Next() {
		held = append(held, l.use(e))
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

// Open lists the conversations whose logs are open, the most recently used first.
func (l *Ledger) Open() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]string, 0, l.recent.Len())
	for e := l.recent.Front(); e != nil; e = e.Next() {
		ids = append(ids, e.Value.(*conversation).id)
	}
	return ids
}

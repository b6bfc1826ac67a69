package ledger

import (
	"context"
	"errors"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// ErrBehind means that lines of a conversation that this host has ordered before it was
// restored from a backup are on their way back from another host. Until they are here, no
// line gets a number. Trying again helps.
var ErrBehind = errors.New("its last lines are on their way back from another host")

// Pause makes Append refuse lines of a conversation with ErrBehind until a time. The zero
// time ends that. What is copied is taken all the same.
func (l *Ledger) Pause(id string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until.IsZero() {
		delete(l.paused, id)
		return
	}
	l.paused[id] = until
}

func (l *Ledger) behind(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, paused := l.paused[id]
	if paused && !l.now().Before(until) {
		delete(l.paused, id)
		paused = false
	}
	return paused
}

// Cut takes the lines behind keep off the copy of another host's log, which has gone
// another way there, and hands them to save; see convlog.Log.Cut. It reports ErrReplica
// for a log of this host.
func (l *Ledger) Cut(ctx context.Context, id string, keep int64, save func(line []byte) error) error {
	done := false
	err := l.once(id, func(c *conversation) error {
		if err := c.ready(ctx); err != nil {
			return err
		}
		c.turn.Lock()
		defer c.turn.Unlock()
		if !c.replica() {
			return ErrReplica
		}
		if err := l.forget(id, keep); err != nil {
			return err
		}
		if err := c.log.Cut(ctx, keep, save); err != nil {
			return err
		}
		done = true
		return convlog.ErrReplaced // for release: nobody uses this log any more
	})
	if done {
		return l.Refresh(ctx, id)
	}
	return err
}

// forget notes that of what was imported no more than the lines through one are history:
// what comes in the place of the others is news.
func (l *Ledger) forget(id string, keep int64) error {
	if l.Imported(id) <= keep {
		return nil
	}
	release, err := l.home.LockImport()
	if err != nil {
		return err
	}
	defer release() //nolint:errcheck // the lock ends with the file
	return l.home.NoteImported([]maildir.Imported{{Conversation: id, Through: keep, At: l.now().UnixMilli()}})
}

// elsewhere is a line as it counts where it stands now: an offset at which it has adopted
// something may be of another file.
func elsewhere(e *envelope.Envelope, offset int64) *envelope.Envelope {
	if e.Raw == nil || *e.Raw < offset {
		return e
	}
	here := *e
	here.Raw = nil
	return &here
}

package hook

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/claude-duo/duo/maildir/session"
)

const (
	lookEvery = 500 * time.Millisecond
	signEvery = 10 * time.Second
	waitFor   = 23 * time.Hour // less than the client lets it wait
	wakeExit  = 2              // which wakes Claude Code, with what stands on standard error
)

// wake waits until something asks for the session while it is idle. It ends without a
// word when a later one waits for the session, and with the session's client.
//
// It looks at the time of the inbox folder now and then, which works with a daemon and
// without, and does not take the place of the inbox as a stream would.
func (h *hooked) wake(ctx context.Context) (answer, error) {
	bound, err := session.Read(h.home, h.key)
	if err != nil || bound == nil {
		return answer{}, err
	}
	me := session.Self()
	err = session.Update(h.home, h.key, func(b *session.Binding) error {
		b.Waiter = me
		if !b.Lives() {
			b.Process = session.Client()
		}
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	folder := filepath.Join(h.home.AgentDir(bound.Agent), mailbox.InboxNew)
	began, signed, looked := h.Now(), time.Time{}, time.Time{}
	for ctx.Err() == nil && h.Now().Sub(began) < waitFor {
		b, err := session.Read(h.home, h.key)
		if err != nil || b == nil || b.Waiter != me || !b.Lives() || !strings.EqualFold(b.Agent, bound.Agent) {
			return answer{}, err
		}
		if h.Now().Sub(signed) >= signEvery {
			h.Here(ctx, h.home, b.Agent)
			signed = h.Now()
		}
		changed := changedAt(folder)
		if b.State == session.Idle && (looked.IsZero() || !changed.Equal(looked)) {
			told, left, err := h.rouse(me)
			if err != nil || told.exit != 0 {
				return told, err
			}
			if looked = changed; left {
				looked = time.Time{} // it may be woken for that later
			}
		}
		h.Pause(ctx, lookEvery)
	}
	return answer{}, nil
}

// changedAt is when a name in a folder has changed last. A time that is almost now may
// stand for a later change too.
func changedAt(folder string) time.Time {
	info, err := os.Stat(folder)
	if err != nil || time.Since(info.ModTime()) < time.Second {
		return time.Time{}
	}
	return info.ModTime()
}

// rouse tells for what the session is woken, and notes that it is. The answer is empty where
// there is nothing, or left is set and it may not be woken for that yet.
func (h *hooked) rouse(me session.Process) (told answer, left bool, err error) {
	err = session.UpdateTelling(h.home, h.key, func(b *session.Binding) error {
		if b.Waiter != me || b.State != session.Idle {
			return nil
		}
		o, err := h.occasion(b)
		if err != nil {
			return err
		}
		before := o.told()
		all, err := openInbox(h.home, b.Agent).waits(before)
		if err != nil {
			return err
		}
		calls := slices.DeleteFunc(slices.Clone(all), func(i Item) bool { return before(i) || !o.wakesFor(i) })
		left = len(calls) > 0
		mine, err := h.take(b, calls)
		if err != nil || len(mine) == 0 {
			return err
		}
		book := session.OpenBook(h.home, b.Agent)
		may, err := book.Wake(h.Now(), session.WakeGap)
		switch {
		case err != nil:
			return err
		case !may:
			return book.Return(b.Holder(), names(mine)...)
		}
		d := o.Decide(all, mine, 0)
		*b = d.Binding
		b.Waiter = session.Process{}
		told = answer{err: []byte(d.Text + "\n"), exit: wakeExit}
		return nil
	}, func() error { return h.print(told) })
	return told, left, err
}

// wakesFor reports whether an item is worth waking a model for: news of a call, and a
// message that means the agent.
func (o Occasion) wakesFor(i Item) bool {
	e := i.Envelope
	switch {
	case e == nil:
		return false
	case i.signal():
		return e.Type == envelope.Call || e.Type == envelope.Accept || e.Type == envelope.Reject
	case e.Type != envelope.Message:
		return false
	}
	return i.Direct || slices.ContainsFunc(e.To, o.Address.IsCalled) || o.Address.IsMentioned(e.Content)
}

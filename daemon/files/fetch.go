package files

import (
	"context"
	"errors"
	"time"

	"github.com/claude-duo/duo/maildir/blob"
)

// fetch asks for what the peer may have, piece by piece, and stores what comes, until ctx
// ends.
func (l *line) fetch(ctx context.Context) {
	for ctx.Err() == nil {
		again := l.askMore(ctx)
		if silence := l.hush(); !silence.IsZero() && (again.IsZero() || silence.Before(again)) {
			again = silence
		}
		if r, ok := l.await(ctx, again); ok {
			l.store(ctx, r)
		}
	}
}

// await waits for an answer, until a time that may be zero, or until there is something
// else to do.
func (l *line) await(ctx context.Context, until time.Time) (r answer, ok bool) {
	var due <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(max(until.Sub(l.wants.now()), time.Millisecond))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-l.wake:
	case <-due:
	case r = <-l.answers:
		ok = true
	}
	return r, ok
}

// askMore begins with as many blobs as there is room for. It says when there may be more
// to do.
func (l *line) askMore(ctx context.Context) (again time.Time) {
	for ctx.Err() == nil {
		w, later := l.wants.pick(l)
		if w == nil {
			return later
		}
		l.next(ctx, w)
	}
	return time.Time{}
}

// next asks for the piece behind what is here of a blob, or makes the blob where that is
// all of it.
func (l *line) next(ctx context.Context, w *want) {
	place, ok := l.place(ctx, w)
	if !ok {
		l.settle(w, func(now time.Time) { w.absent(l.host, true, now) })
		return
	}
	l.wants.mu.Lock()
	mixed := w.single && (w.by.more || w.by.host != "" && w.by.host != l.host)
	part, size := w.part, w.Size
	l.wants.mu.Unlock()
	if part > 0 && (mixed || part > size) {
		if !l.begin(w) {
			return
		}
		part = 0
	}
	if part > 0 && part == size {
		if l.finish(ctx, w, false) {
			return
		}
		part = 0
	}
	a := ask{
		SHA256: w.SHA256, From: part, To: part + pieceSize, Conversation: place.Conversation, Seq: place.Seq, Request: place.Request,
		want: w, at: l.wants.now(),
	}
	l.mu.Lock()
	l.asked[w.SHA256] = a
	l.mu.Unlock()
	_ = l.session.Send(ctx, a.frame()) // the link has ended where that fails
}

// place says where the peer can see that it may give a blob. A line that had no number
// when it was noted is looked for.
func (l *line) place(ctx context.Context, w *want) (blob.Source, bool) {
	l.wants.mu.Lock()
	places := w.places(l.host)
	turn := w.tried(l.host) % max(1, len(places)) // one after the other, where the peer says no
	l.wants.mu.Unlock()
	if len(places) == 0 {
		return blob.Source{}, false
	}
	s := places[turn]
	if s.Request != "" || s.Seq > 0 {
		return s, true
	}
	seq, err := l.exchange.sharer.Line(ctx, s.Conversation, w.SHA256)
	if err != nil || seq == 0 {
		return s, false
	}
	found := s
	found.Seq = seq
	l.wants.mu.Lock()
	defer l.wants.mu.Unlock()
	w.Sources = withSource(w.Sources, found) // the record can do without
	return found, true
}

// store takes an answer.
func (l *line) store(ctx context.Context, r answer) {
	w := r.ask.want
	l.wants.mu.Lock()
	mine, part, size := w.line == l, w.part, w.Size
	l.wants.mu.Unlock()
	switch {
	case !mine: // it was silent for too long, and another has the blob now
		l.spoke(w)
	case r.Missing:
		l.exchange.count("missing")
		l.settle(w, func(now time.Time) { w.absent(l.host, r.Later, now) })
	case r.Size > size || r.From > r.Size || r.From != part:
		l.wrong(w, "another size")
	default:
		l.keep(ctx, w, r)
	}
}

// keep writes a piece behind what is here, and goes on.
func (l *line) keep(ctx context.Context, w *want, r answer) {
	if err := l.exchange.keeper.store.Continue(w.SHA256, r.From, r.data, l.wants.now()); err != nil {
		l.pause(w, err)
		return
	}
	l.wants.mu.Lock()
	w.part += int64(len(r.data))
	if len(r.data) > 0 {
		w.by = w.by.gave(l.host)
	}
	l.wants.mu.Unlock()
	if r.From+int64(len(r.data)) < r.Size {
		l.next(ctx, w)
		return
	}
	l.finish(ctx, w, true)
}

// finish makes a blob of what is here. It reports whether the link has done with the blob;
// of what lies here from before it does not say that it is wrong, but begins again.
func (l *line) finish(ctx context.Context, w *want, last bool) bool {
	err := l.exchange.keeper.store.Finish(ctx, w.SHA256, l.wants.now())
	switch {
	case err == nil:
		l.done(w)
	case ctx.Err() != nil:
		l.settle(w, nil)
	case errors.Is(err, blob.ErrDamaged) && last:
		l.wrong(w, "another content")
	case errors.Is(err, blob.ErrDamaged):
		return !l.begin(w)
	default:
		l.pause(w, err)
	}
	return true
}

func (l *line) done(w *want) {
	l.exchange.count("fetched")
	l.wants.mu.Lock()
	defer l.wants.mu.Unlock()
	l.wants.drop(w)
	l.wants.leave(w, l)
}

// begin throws away what is here of a blob. It reports false where the disk does not let it.
func (l *line) begin(w *want) bool {
	if err := l.exchange.keeper.store.Begin(w.SHA256); err != nil {
		l.pause(w, err)
		return false
	}
	l.wants.mu.Lock()
	defer l.wants.mu.Unlock()
	w.part, w.by = 0, giver{}
	return true
}

// wrong throws away what has come of a blob, which another host may have right.
func (l *line) wrong(w *want, why string) {
	l.exchange.count("wrong")
	l.exchange.logger.Warn("file from another host is wrong and thrown away", "peer", l.host, "path", w.SHA256, "err", why)
	if err := l.exchange.keeper.store.Begin(w.SHA256); err != nil {
		l.pause(w, err)
		return
	}
	l.settle(w, func(now time.Time) { w.wrong(l.host, now) })
}

// pause stops all asking for a while: the disk takes nothing.
func (l *line) pause(w *want, err error) {
	l.exchange.count("paused")
	l.exchange.logger.Warn("file from another host is not stored", "peer", l.host, "path", w.SHA256, "err", err)
	part, _ := l.exchange.keeper.store.Part(w.SHA256)
	l.settle(w, func(now time.Time) {
		l.wants.pause = now.Add(diskRest)
		if w.part != part { // somebody has changed it
			w.part, w.by = part, giver{more: part > 0}
		}
	})
}

// settle notes how it went with a blob, and leaves it.
func (l *line) settle(w *want, note func(now time.Time)) {
	l.wants.mu.Lock()
	defer l.wants.mu.Unlock()
	if note != nil {
		note(l.wants.now())
	}
	l.wants.leave(w, l)
}

// hush leaves to others what the peer has not answered for long. It says when there may be
// more of that.
func (l *line) hush() (again time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wants.mu.Lock()
	defer l.wants.mu.Unlock()
	for sum, a := range l.asked {
		until := a.at.Add(answerTime)
		switch {
		case l.silent[sum]:
		case l.wants.now().Before(until):
			if again.IsZero() || until.Before(again) {
				again = until
			}
		default:
			l.exchange.count("silent")
			l.silent[sum] = true
			if a.want.line == l { // its place on this link stays taken
				a.want.line = nil
			}
			l.wants.wake()
		}
	}
	return again
}

// spoke notes that the peer has answered after all.
func (l *line) spoke(w *want) {
	l.wants.mu.Lock()
	defer l.wants.mu.Unlock()
	delete(l.silent, w.SHA256)
	l.wants.leave(w, l)
}

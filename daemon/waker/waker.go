// Package waker wakes agents of this host that nobody shows what comes for them, and
// knows how each of them learns of it.
//
// It is told that something lies in an inbox, waits a moment, and looks at the truth: what
// the agent was not shown, and who is there. Somebody who is reached already is left alone:
// a live stream, an attendant, a session that waits. So is a session that works: it is told
// at the end of its turn. Else the session's client program is asked to wake it, and where
// that cannot be or fails, the user's own command runs.
//
// It wakes for calls, direct messages and mentions that no live session of the agent has
// taken, for each once, also across a restart; an agent at most once in Every. Of what it wakes for it passes on references and a number,
// never what others wrote. To be woken is not to have seen: nothing is marked.
package waker

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/session"
	"golang.org/x/time/rate"
)

const (
	// Every is how often one agent is woken at most.
	Every = session.WakeGap

	settles   = 500 * time.Millisecond // until who is awake was shown what came
	whileBusy = 5 * time.Second        // a look at a session that works
	atOnce    = 16                     // programs that run
	perSecond = 5                      // programs that start in the long run
	maxTries  = 5                      // for what has come, in vain
	forgetIn  = time.Hour              // after the last try
)

// Parts are what a waker works with.
type Parts struct {
	Home     *maildir.Home
	Mail     Mail
	Lines    Lines
	Refs     Refs
	Index    Index
	Sessions Sessions
	Name     func(agent string) string // as its card spells it
	Programs Programs                  // default: real ones
	Changed  func(agent string)        // told, by the name of its folder, when Capability says something else; returns at once
	Count    func(by, outcome string)  // counts what was tried: client or command; ok, failed or timeout
	Logger   *slog.Logger
}

// Index remembers values by key; daemon/index is one.
type Index interface {
	Get(key string) (value []byte, ok bool)
	Put(key string, value []byte) error
}

// Waker wakes the agents of one home. Its methods may be used by several goroutines.
type Waker struct {
	Parts
	reach
	queue *work.Queue // agents for whom something may have come
	rate  *rate.Limiter

	mu    sync.Mutex
	tries map[string]try // by folder name, of the last hour
}

// try is what is known of the last wake of an agent.
type try struct {
	at       time.Time // when it began
	failures int       // since the last one that went well
	slot     time.Time // from then on the next one may begin, zero where none waits
}

// New returns a waker; Run starts it.
func New(parts Parts) *Waker {
	if parts.Programs == nil {
		parts.Programs = programs{}
	}
	return &Waker{
		Parts: parts, queue: work.New(), rate: rate.NewLimiter(perSecond, atOnce), tries: make(map[string]try),
		reach: reach{list: parts.Sessions},
	}
}

// Waits says that something lies in the inbox of an agent that it was not shown. It returns
// at once.
func (w *Waker) Waits(agent string) { w.queue.AddAfter(strings.ToLower(agent), settles) }

// Run wakes until ctx ends, and ends what it has started.
func (w *Waker) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { w.queue.Run(ctx, atOnce, w.look) })
	work.Every(ctx, whileBusy, func() (done bool) {
		w.watch()
		w.forget()
		return false
	})
	all.Wait()
	return nil
}

// Waiting counts the agents that the waker is to look at now.
func (w *Waker) Waiting() int { return w.queue.Len() }

// look wakes an agent, where there is something to wake it for and somebody to wake.
func (w *Waker) look(ctx context.Context, agent string) {
	ways, later := w.ways(agent)
	if later {
		w.queue.AddAfter(agent, whileBusy)
	}
	if len(ways) == 0 {
		return
	}
	was := w.mark(agent)
	news := w.news(ctx, agent, was)
	if len(news.refs) == 0 {
		w.note(agent, was, news.mark)
		return
	}
	now := time.Now()
	if wait := w.hold(agent, now); wait > 0 {
		w.queue.AddAfter(agent, wait)
		return
	}
	if may, err := session.OpenBook(w.Home, agent).Wake(now, Every); !may {
		if err != nil {
			w.Logger.Warn("wake is not noted", "agent", agent, "err", err)
		}
		w.queue.AddAfter(agent, whileBusy) // by its own session, or before the start
		return
	}
	w.wake(ctx, agent, ways, was, news)
}

// wake tries one way after the other. What it was for is noted when one has gone well: a
// crash before that wakes once more.
func (w *Waker) wake(ctx context.Context, agent string, ways []way, was mark, news news) {
	started := time.Now()
	err := errNoWay
	for _, way := range ways {
		if err = w.run(ctx, agent, way, news); err == nil || ctx.Err() != nil {
			break
		}
	}
	if ctx.Err() != nil && err != nil {
		return // the next start goes on
	}
	failures := w.tried(agent, started, err == nil)
	if err != nil && failures < maxTries {
		w.queue.AddAfter(agent, backoff(failures))
		return
	}
	if err != nil {
		w.Logger.Error("agent is not woken, and what has come so far is not tried again", "agent", agent, "tries", failures)
		w.tried(agent, started, true)
	}
	w.note(agent, was, news.mark)
	w.queue.AddAfter(agent, settles) // for what has come meanwhile
}

var errNoWay = errors.New("there is no way")

// run tries one way.
func (w *Waker) run(ctx context.Context, agent string, way way, news news) error {
	started := time.Now()
	err := w.Programs.Run(ctx, way.program(w.Home, w.Name(agent), news))
	took := time.Since(started)
	switch {
	case err == nil:
		w.Count(way.kind, "ok")
		w.Logger.Info("agent is woken", "agent", agent, "by", way.kind, "count", len(news.refs), "took", took)
		return nil
	case ctx.Err() != nil:
		return err
	case errors.Is(err, context.DeadlineExceeded):
		w.Count(way.kind, "timeout")
	default:
		w.Count(way.kind, "failed")
	}
	w.Logger.Warn("agent is not woken", "agent", agent, "by", way.kind, "err", err, "took", took)
	return err
}

// hold tells how long an agent is left alone yet: it was woken just now, or too many are
// woken at once.
func (w *Waker) hold(agent string, now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.tries[agent]
	if wait := t.at.Add(max(Every, backoff(t.failures))).Sub(now); wait > 0 {
		return wait
	}
	if t.slot.IsZero() {
		t.slot = now.Add(w.rate.ReserveN(now, 1).DelayFrom(now))
	}
	wait := t.slot.Sub(now)
	if wait <= 0 {
		t.slot = time.Time{}
	}
	w.tries[agent] = t
	return wait
}

// backoff is how long an agent is left alone after it was not woken some times.
func backoff(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	return Every << (failures - 1)
}

// tried notes how a wake has gone, and returns how many have failed in a row.
func (w *Waker) tried(agent string, started time.Time, well bool) (failures int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.tries[agent]
	t.at = started
	t.failures++
	if well {
		t.failures = 0
	}
	w.tries[agent] = t
	return t.failures
}

// forget drops what is known of wakes that are long over.
func (w *Waker) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for agent, t := range w.tries {
		if time.Since(t.at) > forgetIn && time.Since(t.slot) > forgetIn {
			delete(w.tries, agent)
		}
	}
}

// watch tells of those who learn of what comes in another way than before. Who has lost a
// session may have to be woken for what that has taken.
func (w *Waker) watch() {
	other, left := w.changes()
	for _, agent := range other {
		w.Changed(agent)
	}
	for _, agent := range left {
		w.Waits(agent)
	}
}

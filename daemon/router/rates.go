package router

import (
	"crypto/sha256"
	"maps"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/envelope"
	"golang.org/x/time/rate"
)

const manyBuckets = 4096

// rates bounds how much each agent says, over all doors: a token bucket for each.
type rates struct {
	mu      sync.Mutex
	buckets map[string]*rate.Limiter // by the key of an agent's address
	tidy    int                      // with so many buckets those that are full are dropped
}

// take takes one token of an agent. Where there is none, it says how long to wait.
func (r *rates) take(agent envelope.Address, perSecond float64, burst int, now time.Time) (wait time.Duration) {
	if perSecond <= 0 {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	bucket, ok := r.buckets[agent.Key()]
	if !ok {
		r.makeRoom(now)
		bucket = rate.NewLimiter(rate.Limit(perSecond), burst)
		r.buckets[agent.Key()] = bucket
	}
	reserved := bucket.ReserveN(now, 1)
	if wait = reserved.DelayFrom(now); wait > 0 {
		reserved.CancelAt(now)
	}
	return wait
}

// makeRoom drops buckets that are full when there are many: a new one is full too. The
// caller holds the lock.
func (r *rates) makeRoom(now time.Time) {
	if r.buckets == nil {
		r.buckets, r.tidy = make(map[string]*rate.Limiter), manyBuckets
	}
	if len(r.buckets) < r.tidy {
		return
	}
	maps.DeleteFunc(r.buckets, func(_ string, b *rate.Limiter) bool { return b.TokensAt(now) >= float64(b.Burst()) })
	r.tidy = max(manyBuckets, 2*len(r.buckets)) // so that this is rare, however many there are
}

// limit refuses what an agent says too fast.
func (r *Router) limit(agent envelope.Address) error {
	l := r.home.Config.Limits
	wait := r.rates.take(agent, l.Rate, l.Burst, r.now())
	if wait == 0 {
		return nil
	}
	return api.Errorf(api.RateLimited, "%s says too much: %g messages a second are the limit in the long run", agent.Name, l.Rate).WithRetry(wait)
}

// repeats remembers which automatic message was the last one in each conversation, so
// that a program which runs in circles is heard once. What is forgotten is said again.
type repeats struct {
	mu   sync.Mutex
	last map[string]said // by conversation
}

type said struct {
	agent string
	what  [sha256.Size]byte
	seq   int64
	turns int64 // of the conversation, with this one
	at    time.Time
}

const maxRepeats = 4096 // conversations

// of returns the line in which an agent has just said the same: nobody has said
// anything since, and it was after a time. It is 0 for none.
func (r *repeats) of(e *envelope.Envelope, turns int64, after time.Time) (seq int64) {
	r.mu.Lock()
	last, ok := r.last[e.Conversation]
	r.mu.Unlock()
	if !ok || last.turns != turns || last.agent != e.From.Key() || last.at.Before(after) || last.what != digest(e) {
		return 0
	}
	return last.seq
}

func (r *repeats) note(e *envelope.Envelope, state conv.State, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil || len(r.last) >= maxRepeats {
		r.last = make(map[string]said)
	}
	r.last[e.Conversation] = said{agent: e.From.Key(), what: digest(e), seq: e.Seq, turns: state.Turns, at: now}
}

// digest is what a message says, without when and under which id.
func digest(e *envelope.Envelope) [sha256.Size]byte {
	content := envelope.Envelope{
		Type: e.Type, Content: e.Content, Data: e.Data, Attachments: e.Attachments,
		ReplyTo: e.ReplyTo, To: e.To, Unknown: e.Unknown,
	}
	return sha256.Sum256(content.Append(nil))
}

package link

import (
	"math/rand/v2"
	"time"
)

const (
	firstWait = 500 * time.Millisecond
	maxWait   = time.Minute
	steady    = time.Minute // a link that was up for so long was good
)

// Backoff says how long to wait before a peer is dialled again. The zero value is
// ready. It is for one goroutine.
type Backoff struct {
	Random func() float64 // from 0 to less than 1; nil for a random one
	wait   time.Duration
}

// Next returns how long to wait when a link has ended that was up for some time, 0
// where there was none: half a second, then twice as long each time up to a minute,
// times 0.5 to 1.5. It begins anew only after a minute up, so that a peer that takes
// links and drops them is not stormed.
func (b *Backoff) Next(up time.Duration) time.Duration {
	if up >= steady {
		b.wait = 0
	}
	b.wait = max(firstWait, min(2*b.wait, maxWait))
	random := b.Random
	if random == nil {
		random = rand.Float64
	}
	return time.Duration(float64(b.wait) * (0.5 + random()))
}

// Reset begins anew: the peer is there, it has dialled itself.
func (b *Backoff) Reset() { b.wait = 0 }

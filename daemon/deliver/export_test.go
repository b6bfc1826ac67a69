package deliver

import (
	"context"
	"time"
)

// The limits that tests cross.
const (
	SliceLines    = sliceLines
	ConfirmWithin = confirmWithin
	RetryAfter    = retryAfter
	MaxEarly      = maxEarly
)

// SetClock makes the deliverer look at another clock. It is called before Run.
func (d *Deliverer) SetClock(now func() time.Time) { d.now = now }

// Expire is what Run does every second.
func (d *Deliverer) Expire(ctx context.Context) { d.expire(ctx) }

// TidyTo is Tidy with another limit.
func (d *Deliverer) TidyTo(agent string, kept int) error { return d.tidy(agent, kept) }

// Early counts the lines of a conversation that an agent was shown before the
// follower came to them.
func (d *Deliverer) Early(agent, conversation string) int {
	r, err := d.reader(agent)
	if err != nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mark(conversation).early)
}

// Readers counts the agents whose files were read.
func (d *Deliverer) Readers() int { return len(d.all()) }

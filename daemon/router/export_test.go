package router

import (
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
)

// Rates are the buckets of a router.
type Rates = rates

func (r *Rates) Take(agent envelope.Address, perSecond float64, burst int, now time.Time) time.Duration {
	return r.take(agent, perSecond, burst, now)
}

func (r *Rates) Len() int { return len(r.buckets) }

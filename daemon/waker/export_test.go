package waker

import "time"

// What tests measure against.
const (
	Settles   = settles
	WhileBusy = whileBusy
	AtOnce    = atOnce
	PerSecond = perSecond
	MaxTries  = maxTries
)

// Real runs real programs.
func Real() Programs { return programs{} }

// Backoff is how long an agent is left alone after some failures.
func Backoff(failures int) time.Duration { return max(Every, backoff(failures)) }

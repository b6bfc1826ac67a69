package main

import (
	"context"
	"time"

	"github.com/claude-duo/duo/daemon/client"
)

const (
	longPoll = 30 * time.Second
	backoff  = 100 * time.Millisecond
	maxPause = 2 * time.Second
)

// patiently asks again and again, each time letting the daemon wait for a step, until
// something came or the time is over. Once the daemon has answered, a restart of it
// does not end the wait.
func (a *app) patiently(ctx context.Context, total time.Duration, question func(step time.Duration) (bool, error)) (bool, error) {
	end := time.Now().Add(total)
	answered, rest := false, backoff
	for {
		left := max(0, time.Until(end))
		done, err := question(min(left, longPoll))
		switch {
		case done, err != nil && !(answered && client.Unreachable(err)):
			return done, err
		case err == nil:
			answered, rest = true, backoff
		default:
			pause(ctx, min(rest, left))
			rest = min(2*rest, maxPause)
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if left == 0 {
			return false, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

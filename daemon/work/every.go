package work

import (
	"context"
	"time"
)

// Every does something again and again after a time, until it says that it is done or
// ctx ends.
func Every(ctx context.Context, interval time.Duration, do func() (done bool)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if do() {
				return
			}
		}
	}
}

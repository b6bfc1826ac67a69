package router

import (
	"context"

	"github.com/claude-duo/duo/daemon/api"
)

// Door is where a draft came in.
type Door string

// The doors.
const (
	Socket Door = "socket"
	TCP    Door = "tcp"
	Stream Door = "stream"
	Drop   Door = "drop"
	Raw    Door = "raw"   // a line that was appended with the shell
	Other  Door = "other" // the daemon itself
)

type doorKey struct{}

// Through returns a context in which drafts come in at a door.
func Through(ctx context.Context, d Door) context.Context {
	return context.WithValue(ctx, doorKey{}, d)
}

func doorOf(ctx context.Context) Door {
	if d, ok := ctx.Value(doorKey{}).(Door); ok {
		return d
	}
	return Other
}

// Tally counts what becomes of drafts.
type Tally interface {
	Accepted(door string)
	Refused(door string, code api.Code)
}

// Count makes the router count, before anything is accepted.
func (r *Router) Count(t Tally) { r.tally = t }

// count counts a draft that came in, and is no repeat.
func (r *Router) count(ctx context.Context, out Outcome, refusal *api.Error) {
	switch {
	case r.tally == nil:
	case refusal != nil:
		r.tally.Refused(string(doorOf(ctx)), refusal.Code)
	case !out.Duplicate:
		r.tally.Accepted(string(doorOf(ctx)))
	}
}

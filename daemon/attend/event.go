package attend

import (
	"errors"
	"time"

	"github.com/claude-duo/duo/daemon/api"
)

// What happens to a message, a call or the attendant.
const (
	Listening = "listening" // the stream is open
	Lost      = "lost"      // the daemon; it is looked for
	Answered  = "answered"  // the reply is stored
	Before    = "before"    // it had been answered before
	Silent    = "silent"    // the command has printed nothing
	Passed    = "passed"    // it is not for the command, or cannot be answered
	Retrying  = "retrying"  // the command has failed, and is run again
	Failed    = "failed"    // it is set aside
	Left      = "left"      // the conversation, as the command has said
	Accepted  = "accepted"  // the call
	Rejected  = "rejected"  // the call
	Trouble   = "trouble"   // something else went wrong; it is tried again
)

// Event is one thing that has happened.
type Event struct {
	What     string        `json:"event"`
	Ref      string        `json:"ref,omitempty"`      // of the message or call
	From     string        `json:"from,omitempty"`     // its sender
	Reply    string        `json:"reply,omitempty"`    // reference of the reply
	Messages int           `json:"messages,omitempty"` // that the reply answers, up to this one
	Took     time.Duration `json:"-"`
	MS       int64         `json:"ms,omitempty"` // Took
	Why      string        `json:"why,omitempty"`
	Error    string        `json:"error,omitempty"`
}

func (a *Attendant) tell(e Event) {
	e.MS = e.Took.Milliseconds()
	a.parts.Tell(e)
}

// retryable reports whether asking the daemon the same again can help.
func retryable(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Retryable()
}

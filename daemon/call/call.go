// Package call is the life of a request to talk: who may do what with it when, and
// what it comes to. It is pure: a request is a value, the clock is given, and every
// change is one entry of one table. docs/calls.md states the states and events.
package call

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
)

// State is how far a request is with one callee.
type State string

// The states of requests.
const (
	Ringing   State = "ringing"
	Queued    State = "queued"
	Missed    State = "missed"
	Busy      State = "busy"
	Accepted  State = "accepted"
	Rejected  State = "rejected"
	Cancelled State = "cancelled"
)

// Event is something that happens to a request.
type Event string

// The events of requests.
const (
	Accept     Event = "accept"
	Reject     Event = "reject"
	RejectBusy Event = "reject as busy"
	Cancel     Event = "cancel"
	TimeOut    Event = "ring time over"
)

// table is what each event makes of each state. An event that a state does not know
// is refused, or where nobody is to blame for it, has no effect.
var table = map[State]map[Event]State{
	Ringing: {Accept: Accepted, Reject: Rejected, RejectBusy: Busy, Cancel: Cancelled, TimeOut: Missed},
	Queued:  {Accept: Accepted, Reject: Rejected, RejectBusy: Busy, Cancel: Cancelled},
	Missed:  {Accept: Accepted, Reject: Rejected, RejectBusy: Busy, Cancel: Cancelled},
	Busy:    {Accept: Accepted, Reject: Rejected, RejectBusy: Busy, Cancel: Cancelled},
}

// order ranks states: a request to several is what stands first with anybody.
var order = []State{Accepted, Ringing, Queued, Missed, Busy, Rejected, Cancelled}

// Open reports whether the callee can still accept.
func (s State) Open() bool { return len(table[s]) > 0 }

// Callee is how far a request is with one of those whom it asks.
type Callee struct {
	Agent  envelope.Address `json:"agent"`
	State  State            `json:"state"`
	Reason string           `json:"reason,omitempty"` // of a rejection
	At     int64            `json:"at"`               // of the last change, Unix milliseconds
}

// Request is a call as its record holds it. It is a value: Apply returns a new one and
// leaves the old one as it was.
type Request struct {
	ID           string                `json:"id"`
	From         envelope.Address      `json:"from"`
	To           []envelope.Address    `json:"to"`
	Topic        string                `json:"topic"`
	Mode         string                `json:"mode,omitempty"` // that the caller asks for, empty for live where that is possible
	TurnLimit    int64                 `json:"turnLimit,omitempty"`
	Content      string                `json:"content,omitempty"`
	Data         json.RawMessage       `json:"data,omitempty"`
	Attachments  []envelope.Attachment `json:"attachments,omitempty"`
	CreatedAt    int64                 `json:"createdAt"`           // Unix milliseconds
	RingUntil    int64                 `json:"ringUntil,omitempty"` // Unix milliseconds
	Callees      []Callee              `json:"callees"`
	Conversation string                `json:"conversation,omitempty"` // that came of it
	Over         bool                  `json:"over,omitempty"`         // nobody can accept any more: the conversation has ended, or the match has gone on
	Match        *Match                `json:"match,omitempty"`
	Next         string                `json:"next,omitempty"`  // id of the request to the next best one
	Met          string                `json:"met,omitempty"`   // id of the callee's own call to the caller, which accepted this one
	Meets        string                `json:"meets,omitempty"` // of such a call: id of the request that it accepted
	Far          *Far                  `json:"far,omitempty"`   // of a copy: the record is another host's
}

// Match says that the callee was picked by what it can do, and who is left to try.
type Match struct {
	Capabilities []string `json:"capabilities,omitempty"`
	Text         string   `json:"text,omitempty"`
	Rest         []string `json:"rest,omitempty"` // names, the best first
}

// Place makes the callees of a new request: each with the state that it is placed in.
func Place(r Request, with func(envelope.Address) State, now time.Time, ring time.Duration) Request {
	r.CreatedAt = now.UnixMilli()
	r.Callees = make([]Callee, len(r.To))
	for i, a := range r.To {
		r.Callees[i] = Callee{Agent: a, State: with(a), At: r.CreatedAt}
		if r.Callees[i].State == Ringing {
			r.RingUntil = now.Add(ring).UnixMilli()
		}
	}
	return r
}

// State is what the request has come to as a whole.
func (r Request) State() State {
	for _, s := range order {
		if slices.ContainsFunc(r.Callees, func(c Callee) bool { return c.State == s }) {
			return s
		}
	}
	return Cancelled
}

// Rings is when the ring time ends, in Unix milliseconds, and 0 where it rings nowhere.
func (r Request) Rings() int64 {
	if slices.ContainsFunc(r.Callees, func(c Callee) bool { return c.State == Ringing }) {
		return r.RingUntil
	}
	return 0
}

// Latest returns the callee who came to a state last.
func (r Request) Latest(s State) (latest Callee) {
	for _, c := range r.Callees {
		if c.State == s && c.At >= latest.At {
			latest = c
		}
	}
	return latest
}

// Open reports whether anybody can still accept.
func (r Request) Open() bool {
	return !r.Over && slices.ContainsFunc(r.Callees, func(c Callee) bool { return c.State.Open() })
}

// Callee returns how far the request is with an agent.
func (r Request) Callee(a envelope.Address) (Callee, bool) {
	if i := r.index(a); i >= 0 {
		return r.Callees[i], true
	}
	return Callee{}, false
}

func (r Request) index(a envelope.Address) int {
	return slices.IndexFunc(r.Callees, func(c Callee) bool { return c.Agent.Same(a) })
}

// Kind says why something is refused.
type Kind int

// The kinds of refusals.
const (
	NotCallee Kind = iota + 1 // only who is called can answer
	NotCaller                 // only the caller can cancel
	Answered                  // it was accepted, rejected or cancelled already
	Ended                     // the conversation that came of it is over
)

// Refusal is the error of Apply.
type Refusal struct {
	Kind Kind
	Text string
}

func (r *Refusal) Error() string { return r.Text }

func refuse(kind Kind, format string, args ...any) error {
	return &Refusal{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// Apply returns the request after an event that an agent has caused. What is so
// already stays as it is, and is no error. The error is a *Refusal.
func (r Request) Apply(event Event, by envelope.Address, reason string, now time.Time) (Request, error) {
	if event == Cancel {
		if !r.From.Same(by) {
			return r, refuse(NotCaller, "only %s, who called, can cancel", r.From)
		}
		return r.each(Cancel, now), nil
	}
	i := r.index(by)
	if i < 0 {
		return r, refuse(NotCallee, "%s was not called", by)
	}
	c := r.Callees[i]
	next, ok := table[c.State][event]
	switch {
	case !ok && (event == Accept && c.State == Accepted || event == Reject && c.State == Rejected):
		return r, nil
	case !ok:
		return r, refuse(Answered, "the request was %s before", c.State)
	case r.Over && event == Accept:
		return r, refuse(Ended, "the call is over")
	}
	r.Callees = slices.Clone(r.Callees)
	r.Callees[i] = Callee{Agent: c.Agent, State: next, Reason: reason, At: now.UnixMilli()}
	return r, nil
}

// Expire returns the request when the ring time is over.
func (r Request) Expire(now time.Time) Request { return r.each(TimeOut, now) }

// each applies an event to every callee that knows it.
func (r Request) each(event Event, now time.Time) Request {
	r.Callees = slices.Clone(r.Callees)
	for i, c := range r.Callees {
		if next, ok := table[c.State][event]; ok {
			r.Callees[i] = Callee{Agent: c.Agent, State: next, At: now.UnixMilli()}
		}
	}
	return r
}

package call

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
)

// Far is what the copy of a request has besides. The caller is of another host, which
// has the record and decides; agents of this host are called with it.
type Far struct {
	Host      string             `json:"host"`                // id of the host that has the record
	Answers   []Answer           `json:"answers,omitempty"`   // given here: the record does not show them yet
	Words     []Words            `json:"words,omitempty"`     // for the conversation, when its log is here
	Overruled []envelope.Address `json:"overruled,omitempty"` // whose answer came too late
	Unasked   []envelope.Address `json:"unasked,omitempty"`   // of this host, who do not take calls from the caller and are not told
}

// Answer is what a callee has said.
type Answer struct {
	Agent  envelope.Address `json:"agent"`
	Event  Event            `json:"event"` // Accept, Reject or RejectBusy
	Reason string           `json:"reason,omitempty"`
	There  bool             `json:"there,omitempty"` // of Accept: the agent is there
	Met    string           `json:"met,omitempty"`   // of Accept: id of its own call to the caller, which is why
}

// Words are the first ones of somebody who has accepted. They may be none.
type Words struct {
	Agent       envelope.Address      `json:"agent"`
	ID          string                `json:"id"`
	Content     string                `json:"content,omitempty"`
	Data        json.RawMessage       `json:"data,omitempty"`
	Attachments []envelope.Attachment `json:"attachments,omitempty"`
	Auto        bool                  `json:"auto,omitempty"`
	Hops        int64                 `json:"hops,omitempty"`
}

// Empty reports whether nothing is to be said.
func (w Words) Empty() bool {
	return w.Content == "" && len(w.Data) == 0 && len(w.Attachments) == 0
}

// shows reports whether a state of the callee is what the answer makes.
func (a Answer) shows(s State) bool {
	switch a.Event {
	case Accept:
		return s == Accepted
	case Reject:
		return s == Rejected
	}
	return s == Busy
}

// Waiting is the answer of an agent that the record does not show yet.
func (r Request) Waiting(a envelope.Address) (Answer, bool) {
	if r.Far == nil {
		return Answer{}, false
	}
	i := slices.IndexFunc(r.Far.Answers, func(w Answer) bool { return w.Agent.Same(a) })
	if i < 0 {
		return Answer{}, false
	}
	return r.Far.Answers[i], true
}

// Asks reports whether a callee of this host is told of the request.
func (r Request) Asks(a envelope.Address) bool {
	return r.Far == nil || !slices.ContainsFunc(r.Far.Unasked, a.Same)
}

// Overrules reports whether an agent has accepted, and the record has it otherwise.
func (r Request) Overrules(a envelope.Address) bool {
	return r.Far != nil && slices.ContainsFunc(r.Far.Overruled, a.Same)
}

// Answer returns a copy after a callee of this host has answered: it is so here, and has
// to be said to the host that has the record. The error is a *Refusal.
func (r Request) Answer(a Answer, words Words, now time.Time) (Request, error) {
	next, err := r.Apply(a.Event, a.Agent, a.Reason, now)
	if err != nil || slices.Equal(next.Callees, r.Callees) {
		return next, err
	}
	far := *r.Far
	far.Answers = append(without(far.Answers, a.Agent), a)
	if a.Event == Accept {
		far.Words = append(slices.Clip(far.Words), words)
	}
	next.Far = &far
	return next, nil
}

func without(list []Answer, a envelope.Address) []Answer {
	return slices.DeleteFunc(slices.Clone(list), func(w Answer) bool { return w.Agent.Same(a) })
}

// Spoken returns a copy when the words of an agent are said.
func (r Request) Spoken(a envelope.Address) Request {
	far := *r.Far
	far.Words = slices.DeleteFunc(slices.Clone(far.Words), func(w Words) bool { return w.Agent.Same(a) })
	r.Far = &far
	return r
}

// Follow returns a copy as the record has it, with the answers that were refused. What an
// agent of this host has said holds until the record shows it, refuses it or is over;
// that it has accepted nobody says but itself.
func (r Request) Follow(record Request, refused []Answer, ours func(envelope.Address) bool) Request {
	far := *r.Far
	r.Callees = slices.Clone(r.Callees)
	r.RingUntil, r.Over, r.Meets = record.RingUntil, r.Over || record.Over, record.Meets
	if record.Mode != "" {
		r.Mode = record.Mode
	}
	for i, c := range r.Callees {
		said, ok := record.Callee(c.Agent)
		if !ok {
			continue
		}
		if ours(c.Agent) {
			said = r.own(&far, c, said, refused)
		}
		r.Callees[i] = said
	}
	r.Far = &far
	r.Conversation = record.Conversation
	return r
}

// own is what the record makes of a callee of this host.
func (r Request) own(far *Far, c, said Callee, refused []Answer) Callee {
	waiting, ok := r.Waiting(c.Agent)
	isRefused := slices.ContainsFunc(refused, func(a Answer) bool { return a.Agent.Same(c.Agent) && a.Event == waiting.Event })
	switch {
	case !ok && (!c.State.Open() || said.State == Accepted):
		return c
	case !ok:
		return said
	case waiting.shows(said.State):
		far.Answers = without(far.Answers, c.Agent)
		return Callee{Agent: c.Agent, State: said.State, Reason: c.Reason, At: c.At}
	case !isRefused && said.State.Open() && !r.Over:
		return c
	}
	far.Answers = without(far.Answers, c.Agent)
	if said.State == Accepted || waiting.Event != Accept && said.State.Open() { // it stands by what it has said
		return c
	}
	if waiting.Event == Accept {
		far.Words = slices.DeleteFunc(slices.Clone(far.Words), func(w Words) bool { return w.Agent.Same(c.Agent) })
		far.Overruled = append(slices.Clip(far.Overruled), c.Agent)
	}
	return said
}

package text

import (
	"fmt"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
)

// Calls lists calls.
func (w *Writer) Calls(list []api.Request) {
	next := "duo who"
	for _, r := range list {
		line := w.Bold(r.Ref) + Title(r.Topic) + " from " + w.Local(r.From) + " to " + w.Callees(r) + ", " + w.clock(r.CreatedAt)
		if r.ConversationRef != "" {
			line += ", talk in " + r.ConversationRef
		}
		w.Say("%s", line)
		next = w.AfterCall(r)
	}
	if len(list) == 0 {
		w.Say("no calls")
	}
	w.Next("%s", next)
}

// Call describes a call without its text.
func (w *Writer) Call(r api.Request) {
	w.Say("%s%s from %s to %s", w.Bold(r.Ref), Title(r.Topic), w.Local(r.From), w.Callees(r))
	w.Field("placed", w.clock(r.CreatedAt))
	w.Field("mode", r.Mode)
	if r.Content != "" {
		w.Field("text", Size(len(r.Content)))
	}
	if r.Over {
		w.Say("over: nobody can accept it any more")
	}
	w.Field("conversation", r.ConversationRef)
	w.Field("next call of the match", r.Next)
	w.Field("id", r.ID)
	w.Next("%s", w.AfterCall(r))
}

// Placed tells that the reader has called, or that who it called was calling it.
func (w *Writer) Placed(called api.Called) {
	r := called.Request
	switch {
	case called.Conversation != nil && !w.isMine(r.From):
		w.Say("%s was calling you, %s: %s", w.Local(r.From), r.Ref, w.Summary(*called.Conversation))
		return
	case !w.isMine(r.From) && r.State == api.CallAccepted:
		w.Say("%s was calling you, %s: the conversation is on its way from there", w.Local(r.From), w.Bold(r.Ref))
		return
	case called.Duplicate:
		w.Say("was called before: %s%s to %s", w.Bold(r.Ref), Title(r.Topic), w.Callees(r))
	default:
		w.Say("call %s%s to %s", w.Bold(r.Ref), Title(r.Topic), w.Callees(r))
	}
	waits := slices.ContainsFunc(r.Callees, func(c api.Callee) bool {
		return c.State == api.CallQueued || c.State == api.CallBusy
	})
	if waits {
		w.Say("who is offline or busy finds it in the inbox, and can accept it later")
	}
}

// AfterPlacing tells what to run after a call was placed.
func (w *Writer) AfterPlacing(called api.Called) {
	switch {
	case called.Conversation != nil && called.Message != nil: // they were calling us, and our text is said
		w.Next("duo wait --conversation %s", called.Conversation.Ref)
	case called.Conversation != nil:
		w.Next(`duo send --to %s "..."`, called.Conversation.Ref)
	default:
		w.Next("%s", w.AfterCall(called.Request))
	}
}

// Answered says that a call of the reader's is accepted; all other outcomes are errors.
func (w *Writer) Answered(called api.Called) {
	if called.Conversation == nil {
		return
	}
	w.Say("%s accepted %s: %s", w.acceptedBy(called.Request), called.Request.Ref, w.Summary(*called.Conversation))
	if called.Request.Content != "" {
		w.Next("duo wait --conversation %s", called.Conversation.Ref)
		return
	}
	w.Next(`duo send --to %s "..."`, called.Conversation.Ref)
}

func (w *Writer) acceptedBy(r api.Request) string {
	var names []string
	for _, c := range r.Callees {
		if c.State == api.CallAccepted {
			names = append(names, c.Agent)
		}
	}
	return w.People(names)
}

// Declined is the error of a call of the reader's that was not accepted.
func (w *Writer) Declined(r api.Request) error {
	who := w.Callees(r)
	switch r.State {
	case api.CallAccepted:
		return nil
	case api.CallMissed:
		return api.Errorf(api.Pending, "nobody answered in time, which is not an error; %s waits: %s", r.Ref, who).
			WithNext("duo wait --for answer %s", r.Ref)
	case api.CallBusy:
		return api.Errorf(api.Declined, "%s is declined for now and waits: %s", r.Ref, who).
			WithNext("duo wait --for answer %s", r.Ref)
	case api.CallCancelled:
		return api.Errorf(api.RequestAnswered, "%s was cancelled", r.Ref).WithNext("duo show %s", r.Ref)
	}
	return api.Errorf(api.Declined, "%s is declined: %s", r.Ref, who).WithNext("duo who")
}

// Accepted tells that the reader has accepted a call.
func (w *Writer) Accepted(called api.Called) {
	r, verb := called.Request, "accepted"
	if called.Duplicate {
		verb = "accepted before:"
	}
	if called.Conversation == nil { // the caller is of another host, which makes it
		w.Say("%s %s from %s: the conversation is on its way from there", verb, w.Bold(r.Ref), w.Local(r.From))
		w.Next("duo show %s", r.Ref)
		return
	}
	c := *called.Conversation
	w.Say("%s %s from %s: %s", verb, r.Ref, w.Local(r.From), w.Summary(c))
	switch {
	case called.Message != nil:
		w.Say("said %s", w.Bold(called.Message.Ref))
		w.Next("duo wait --conversation %s", c.Ref)
	case r.Content != "":
		w.Next("duo read %s", c.Ref)
	default:
		w.Next(`duo send --to %s "..."`, c.Ref)
	}
}

// Rejected tells that the reader has said no to a call, or with busy that it is only not
// now.
func (w *Writer) Rejected(called api.Called, busy bool) {
	r := called.Request
	switch {
	case called.Duplicate:
		w.Say("was rejected before: %s%s from %s", w.Bold(r.Ref), Title(r.Topic), w.Local(r.From))
	case busy:
		w.Say("%s%s waits, %s is told that you are busy", w.Bold(r.Ref), Title(r.Topic), w.Local(r.From))
		w.Next("duo accept %s", r.Ref)
		return
	default:
		w.Say("rejected %s%s from %s", w.Bold(r.Ref), Title(r.Topic), w.Local(r.From))
	}
	w.Next("duo inbox")
}

// Cancelled tells that the reader has withdrawn a call.
func (w *Writer) Cancelled(called api.Called) {
	verb := "cancelled"
	if called.Duplicate {
		verb = "was over before:"
	}
	w.Say("%s %s%s to %s", verb, w.Bold(called.Request.Ref), Title(called.Request.Topic), w.Callees(called.Request))
	w.Next("duo who")
}

// Callees tells how far a call is with each of those who are called.
func (w *Writer) Callees(r api.Request) string {
	parts := make([]string, 0, len(r.Callees))
	for _, c := range r.Callees[:min(len(r.Callees), maxPeople)] {
		state := frame.Line(c.State)
		if c.State == api.CallRinging {
			state += w.ringsUntil(r.RingUntil)
		}
		parts = append(parts, fmt.Sprintf("%s (%s%s)", w.Local(c.Agent), state, because(c.Reason)))
	}
	if more := len(r.Callees) - maxPeople; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(parts, ", ")
}

// ringsUntil is when a call stops to ring.
func (w *Writer) ringsUntil(ms int64) string {
	if ms == 0 {
		return ""
	}
	return " until " + w.clock(ms)
}

// AfterCall is the command that makes sense for whoever looks at a call.
func (w *Writer) AfterCall(r api.Request) string {
	mine, called := w.callee(r)
	switch {
	case called && api.CanAccept(mine.State) && !r.Over:
		return "duo accept " + r.Ref
	case r.ConversationRef != "":
		return "duo log " + r.ConversationRef
	case w.isMine(r.From) && api.CanAccept(r.State) && !r.Over:
		return "duo wait --for answer " + r.Ref
	case r.Next != "":
		return "duo show " + r.Next
	}
	return "duo who"
}

// callee is how far a call is with the reader, where it is called.
func (w *Writer) callee(r api.Request) (api.Callee, bool) {
	i := slices.IndexFunc(r.Callees, func(c api.Callee) bool { return w.isMine(c.Agent) })
	if i < 0 {
		return api.Callee{}, false
	}
	return r.Callees[i], true
}

// Package sentence says in words what an envelope tells that is no message: who has come,
// was invited or muted, has closed the conversation or accepted a call. Inboxes,
// transcripts, hooks and exports take the words from here and add what is their own, such
// as a time or the topic. The page has its own, in daemon/web/static/sentence.js.
package sentence

import (
	"slices"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/standing"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Sentence is what an envelope tells, in its parts.
type Sentence struct {
	Deed string // what was done: "invited Nova". Where nobody has done it, all: "not delivered"
	By   bool   // Deed stands behind the name of the sender, who has given the reason; else a daemon has
	Why  string // the reason that was given, as it came: who shows it makes it fit for that
}

// Text is the sentence with who has done it before it, where somebody is named, and the
// reason behind it, as quote writes it.
func (s Sentence) Text(who string, quote func(why string) string) string {
	text := s.Deed
	if s.By && who != "" {
		text = who + " " + text
	}
	if s.Why != "" {
		text += ": " + quote(s.Why)
	}
	return text
}

// Reader is whom a sentence is told, and how agents and times are written for it.
type Reader struct {
	Is     func(address string) bool       // who is "you"; nil for nobody
	People func(addresses []string) string // names agents, who may be anything that fits a line
	Clock  func(ms int64) string           // else date and time of day in UTC
}

// Of is the sentence that an envelope tells, false where it has none: it is a message, is
// live only, or of a kind that is not known.
func (r Reader) Of(e *envelope.Envelope) (Sentence, bool) {
	switch e.Type {
	case envelope.Join:
		return did("joined"+byRight(e), "")
	case envelope.Leave:
		return did("left", e.Reason)
	case envelope.Call:
		return did("calls "+r.whom(e.To), "")
	case envelope.Accept:
		return did("accepted "+r.itsCall(e), "")
	case envelope.Reject:
		return did(r.rejected(e), e.Reason)
	case envelope.Cancel:
		return happened(r.itsCall(e)+" is cancelled", "")
	case envelope.System:
		return r.event(e)
	}
	return Sentence{}, false
}

func (r Reader) event(e *envelope.Envelope) (Sentence, bool) {
	switch e.Event {
	case envelope.EventCreate:
		return did("created the conversation"+r.with(e), "")
	case envelope.EventInvite:
		return did("invited "+r.whom(addresses(e.Participants)), "")
	case envelope.EventClose:
		return did("closed the conversation"+byRight(e), e.Reason)
	case envelope.EventStanding:
		return did(r.gave(e), e.Reason)
	case envelope.EventUndeliverable:
		return happened("not delivered", e.Why)
	case envelope.EventRestored:
		return happened("some lines are no longer here", e.Why)
	}
	return Sentence{}, false
}

func did(deed, why string) (Sentence, bool) { return Sentence{Deed: deed, By: true, Why: why}, true }

func happened(what, why string) (Sentence, bool) { return Sentence{Deed: what, Why: why}, true }

// byRight tells what somebody did by right of the operator.
func byRight(e *envelope.Envelope) string {
	if e.Operator {
		return " as operator"
	}
	return ""
}

func (r Reader) with(e *envelope.Envelope) string {
	others := slices.DeleteFunc(slices.Clone(e.Participants), e.From.Same)
	if len(others) == 0 {
		return ""
	}
	return " with " + r.whom(addresses(others))
}

// gave is the standing that an operator gave.
func (r Reader) gave(e *envelope.Envelope) string {
	whom := r.whom(addresses(e.Participants))
	switch e.Status {
	case standing.None:
		return "lets " + whom + " do all again"
	case standing.Muted, standing.Blocked:
		return e.Status + " " + whom + r.until(e.Until)
	}
	return "changed what " + whom + " may do" + r.until(e.Until)
}

func (r Reader) until(ms int64) string {
	switch {
	case ms == 0:
		return ""
	case r.Clock != nil:
		return " until " + r.Clock(ms)
	}
	return " until " + time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05Z")
}

func (r Reader) rejected(e *envelope.Envelope) string {
	switch e.Status {
	case api.CallMissed:
		return "did not answer " + r.itsCall(e) + " and can accept it later"
	case api.CallBusy:
		return "is busy and can accept " + r.itsCall(e) + " later"
	}
	return "rejected " + r.itsCall(e)
}

// itsCall is the call that an envelope answers, which goes to the caller.
func (r Reader) itsCall(e *envelope.Envelope) string {
	if whom := r.whom(e.To); whom != you {
		return "the call of " + whom
	}
	return "your call"
}

const you = "you"

func (r Reader) whom(list []string) string {
	switch {
	case len(list) == 0: // where it is not known
		return "somebody"
	case r.Is != nil && !slices.ContainsFunc(list, func(address string) bool { return !r.Is(address) }):
		return you
	}
	return r.People(list)
}

func addresses(list []envelope.Address) []string {
	texts := make([]string, len(list))
	for i, address := range list {
		texts[i] = address.String()
	}
	return texts
}

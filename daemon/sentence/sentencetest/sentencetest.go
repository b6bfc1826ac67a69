// Package sentencetest has an envelope of each kind that is told as a sentence, so that
// tests of whoever tells it can see that none is left out.
package sentencetest

import (
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/standing"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Case is an envelope that Nova of nyc has sent, and what its sentence says. Whom it
// concerns is Atlas of nyc.
type Case struct {
	Name     string
	Envelope envelope.Envelope // without what a log adds
	Says     string            // whoever reads it
}

// Kind is the type of the envelope, of a system event its name.
func (c Case) Kind() string {
	if c.Envelope.Type == envelope.System {
		return c.Envelope.Event
	}
	return string(c.Envelope.Type)
}

// InLog reports whether the envelope stands in logs: signals of calls do not.
func (c Case) InLog() bool {
	switch c.Envelope.Type {
	case envelope.Join, envelope.Leave, envelope.System:
		return true
	}
	return false
}

// Cases lists all of them.
func Cases() []Case {
	list := []Case{
		{"join", envelope.Envelope{Type: envelope.Join}, "joined"},
		{"join by right", envelope.Envelope{Type: envelope.Join, Operator: true}, "joined as operator"},
		{"leave", envelope.Envelope{Type: envelope.Leave}, "left"},
		{"create", envelope.Envelope{Type: envelope.System, Event: envelope.EventCreate, Participants: atlas}, "created the conversation with"},
		{"invite", envelope.Envelope{Type: envelope.System, Event: envelope.EventInvite, Participants: atlas}, "invited"},
		{"close", envelope.Envelope{Type: envelope.System, Event: envelope.EventClose}, "closed the conversation"},
		{"close by right", envelope.Envelope{Type: envelope.System, Event: envelope.EventClose, Operator: true}, "closed the conversation as operator"},
		given(standing.None, "do all again"),
		given(standing.Muted, "muted"),
		given(standing.Blocked, "blocked"),
		{"undeliverable", envelope.Envelope{Type: envelope.System, Event: envelope.EventUndeliverable, Why: "the disk is full"}, "ot delivered: "},
		{"restored", envelope.Envelope{Type: envelope.System, Event: envelope.EventRestored, Why: "a backup"}, "ome lines are no longer here: "},
		{"call", envelope.Envelope{Type: envelope.Call, Status: api.CallRinging}, "calls"},
		{"accept", envelope.Envelope{Type: envelope.Accept, Status: api.CallAccepted}, "accepted"},
		{"reject", envelope.Envelope{Type: envelope.Reject, Status: api.CallRejected}, "rejected"},
		{"reject as busy", envelope.Envelope{Type: envelope.Reject, Status: api.CallBusy}, "is busy and can accept"},
		{"reject as missed", envelope.Envelope{Type: envelope.Reject, Status: api.CallMissed}, "did not answer"},
		{"cancel", envelope.Envelope{Type: envelope.Cancel, Status: api.CallCancelled}, "is cancelled"},
	}
	for i := range list {
		e := &list[i].Envelope
		e.From = envelope.Address{Name: "Nova", Host: "nyc"}
		if !list[i].InLog() {
			e.To = []string{"Atlas@nyc"}
		}
	}
	return list
}

var atlas = []envelope.Address{{Name: "Atlas", Host: "nyc"}}

func given(word, says string) Case {
	e := envelope.Envelope{Type: envelope.System, Event: envelope.EventStanding, Participants: atlas, Status: word, Operator: true}
	return Case{"standing " + word, e, says}
}

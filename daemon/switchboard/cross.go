package switchboard

import (
	"slices"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Two agents of two hosts can call each other at the same moment, and neither host knows
// of the other's request yet. Both learn of it when the records cross. Then the request
// with the smaller id is the call. The host of the other one accepts it for the agent, who
// has called itself, and notes in its own request what that meets. Until the call has come
// about, or is over, the other request is told to nobody. If nothing comes of the call, the
// other request goes on as if there had been none.

// metElsewhere refuses to change a request that meets another one.
var metElsewhere = &call.Refusal{Kind: call.Answered, Text: "both have called each other: it is the other call that counts"}

// crosses reports whether a request to one agent is by whom another one calls, to its
// caller and nobody else.
func crosses(e *entry, r call.Request) bool {
	return len(r.To) == 1 && len(e.to) == 1 && e.from.Same(r.To[0]) && e.to[0].Same(r.From)
}

// rings reports whether a request rings, as it is written.
func rings(e *entry) bool { return ringing(*e.now.Load()) }

func ringing(r call.Request) bool { return !r.Over && r.Rings() > 0 }

// crossings lists the requests that cross one: those of other hosts where it is of this
// host, and the other way round.
func (s *Switchboard) crossings(r call.Request) (list []*entry) {
	if len(r.To) != 1 || s.isLocal(r.From) == s.isLocal(r.To[0]) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.open {
		if crosses(e, r) && e.copy == (r.Far == nil) {
			list = append(list, e)
		}
	}
	return list
}

// meets reports whether a copy is told to nobody, because its callee is calling the caller
// too.
func (s *Switchboard) meets(r call.Request) bool {
	if len(r.Callees) != 1 || !r.Callees[0].State.Open() {
		return false
	}
	return r.Meets != "" || slices.ContainsFunc(s.crossings(r), func(e *entry) bool {
		return rings(e) && (ringing(r) || e.now.Load().Meets == r.ID)
	})
}

// cross lets a request of this host meet the one of the callee's host that rings here, and
// goes on where it meets one. The caller holds the entry's lock.
func (s *Switchboard) cross(e *entry) error {
	r := e.request
	if e.copy || len(r.To) != 1 || s.isLocal(r.To[0]) || !r.Open() {
		return nil
	}
	if r.Meets == "" {
		if r.Meets = s.smaller(e); r.Meets == "" {
			return nil
		}
		if err := s.save(e, r); err != nil {
			return err
		}
	}
	return s.yield(e)
}

// smaller is the id of a copy that rings and crosses a request which rings, and counts in
// place of it.
func (s *Switchboard) smaller(e *entry) string {
	if !rings(e) {
		return ""
	}
	for _, x := range s.crossings(e.request) {
		if id := x.now.Load().ID; rings(x) && x.now.Load().Meets == "" && id < e.request.ID {
			return id
		}
	}
	return ""
}

// yield does what comes of a request that meets a copy: the copy is accepted, and when the
// record shows that, the request has come about too. The caller holds the entry's lock.
func (s *Switchboard) yield(e *entry) error {
	r := e.request
	x, err := s.locked(r.Meets)
	if unknown(err) {
		return s.part(e)
	}
	if err != nil {
		return err
	}
	defer x.mu.Unlock()
	c, _ := x.request.Callee(r.From)
	_, waiting := x.request.Waiting(r.From)
	switch {
	case c.State == call.Accepted && waiting: // for the record
		return nil
	case c.State == call.Accepted:
		r.Callees = []call.Callee{{Agent: r.To[0], State: call.Accepted, At: s.Now().UnixMilli()}}
		r.Conversation, r.Mode, r.Over = x.request.Conversation, x.request.Mode, true
		return s.save(e, r)
	case c.State.Open() && !x.request.Over && !x.gone && x.copy:
		answer := call.Answer{Agent: r.From, Event: call.Accept, There: s.Presence.There(r.From.Name), Met: r.ID}
		return s.putAnswer(x, answer, call.Words{
			ID: envelope.NamedID("call-text", r.ID), Content: r.Content, Data: r.Data, Attachments: r.Attachments,
		})
	}
	return s.part(e)
}

// part lets a request go on that has met one of which nothing came. The caller holds the
// entry's lock.
func (s *Switchboard) part(e *entry) error {
	r := e.request
	r.Meets = ""
	if r.Rings() > 0 {
		r.RingUntil = s.Now().Add(s.Home.Config.Call.Ring.Duration).UnixMilli()
	}
	return s.save(e, r)
}

// hasMet notes in a copy that it has met a request of this host: its caller has accepted
// that. The caller may hold the lock of the request.
func (s *Switchboard) hasMet(id string, own *entry) error {
	e := s.entry(id)
	if e == nil || !e.copy || !crosses(e, own.request) {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.request
	if e.gone || r.Meets == own.request.ID {
		return nil
	}
	r.Meets = own.request.ID
	return s.save(e, r)
}

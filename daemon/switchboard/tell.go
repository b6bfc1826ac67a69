package switchboard

import (
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// tell says to everybody what a request has come to. To say it again changes nothing. The
// caller holds the entry's lock.
func (s *Switchboard) tell(e *entry) error {
	r := e.request
	s.spread(e)
	meets := e.copy && s.meets(r)
	var failed []error
	for _, c := range r.Callees {
		if !s.isLocal(c.Agent) || !r.Asks(c.Agent) {
			continue
		}
		s.Presence.Ring(c.Agent.Name, r.ID, c.State == call.Ringing && !r.Over && !meets)
		if !meets || s.wasTold(c.Agent, r) {
			failed = append(failed, s.signal(c.Agent, r, forCallee(r, c), c.State.Open() && !r.Over || r.Overrules(c.Agent)))
		}
	}
	if told := forCaller(r); told != nil && s.isLocal(r.From) {
		failed = append(failed, s.signal(r.From, r, told, waits(r, told)))
	}
	watched := observed(r)
	if meets {
		return errors.Join(failed...)
	}
	if text := string(watched.Append(nil)); text != e.watched {
		e.watched = text
		s.Observed(watched)
	}
	return errors.Join(failed...)
}

// wasTold reports whether an agent finds a request in its inbox.
func (s *Switchboard) wasTold(a envelope.Address, r call.Request) bool {
	dir, name := s.Home.AgentDir(a.Name), mailbox.SignalOf(r.ID, r.CreatedAt).Name
	return !durable.Missing(filepath.Join(dir, mailbox.InboxNew, name)) || !durable.Missing(filepath.Join(dir, mailbox.InboxCur, name))
}

// waits reports whether the caller has to be shown what it is told.
func waits(r call.Request, told *envelope.Envelope) bool {
	return told.Type != envelope.Cancel && r.Next == ""
}

func (s *Switchboard) isLocal(a envelope.Address) bool { return a.Host == s.Home.Host.Name }

func (s *Switchboard) signal(a envelope.Address, r call.Request, e *envelope.Envelope, waits bool) error {
	err := s.Deliver.Signal(a.Name, r.ID, r.CreatedAt, e, waits)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody has removed the agent's folder
	}
	return err
}

// keepNotice makes durable what the caller is told of a request that is put away: nobody
// says it again after that.
func (s *Switchboard) keepNotice(r call.Request) error {
	told := forCaller(r)
	if told == nil || !s.isLocal(r.From) || !waits(r, told) {
		return nil
	}
	return mailbox.At(s.Home.AgentDir(r.From.Name)).KeepSignal(mailbox.SignalOf(r.ID, r.CreatedAt))
}

// For is what an agent is told of a call that it has placed or was called with, and for
// others what everybody may see.
func For(agent envelope.Address, r call.Request) *envelope.Envelope {
	if c, ok := r.Callee(agent); ok {
		return forCallee(r, c)
	}
	if e := forCaller(r); e != nil && r.From.Same(agent) {
		return e
	}
	return observed(r)
}

// forCallee is a request as one of those who are called finds it in its inbox.
func forCallee(r call.Request, c call.Callee) *envelope.Envelope {
	e := observed(r)
	e.Status, e.Reason, e.RingUntil = string(c.State), c.Reason, 0
	if c.State == call.Ringing {
		e.RingUntil = r.RingUntil
	}
	if r.Over && c.State.Open() {
		e.Reason = "the call is over"
	}
	return e
}

// observed is a request as those see it who watch.
func observed(r call.Request) *envelope.Envelope {
	e := &envelope.Envelope{
		ID: r.ID, Request: r.ID, Type: envelope.Call, From: r.From, Timestamp: r.CreatedAt, Topic: r.Topic, Mode: r.Mode,
		TurnLimit: r.TurnLimit, Content: r.Content, Data: r.Data, Attachments: r.Attachments, Conversation: r.Conversation,
		Status: string(r.State()), RingUntil: r.Rings(),
	}
	for _, a := range r.To {
		e.To = append(e.To, a.String())
	}
	return e
}

// forCaller is what the caller is told of the outcome, nil while there is none.
func forCaller(r call.Request) *envelope.Envelope {
	state := r.State()
	kind := envelope.Reject
	switch state {
	case call.Ringing, call.Queued:
		return nil
	case call.Accepted:
		kind = envelope.Accept
	case call.Cancelled:
		kind = envelope.Cancel
	}
	by := r.Latest(state)
	e := &envelope.Envelope{
		ID:      envelope.NamedID("outcome", r.ID, string(state), by.Agent.Key(), strconv.FormatInt(by.At, 10)),
		Request: r.ID, Type: kind, From: by.Agent, To: []string{r.From.String()}, Timestamp: by.At,
		Topic: r.Topic, Mode: r.Mode, Conversation: r.Conversation, Status: string(state), Reason: by.Reason,
	}
	if r.Next != "" {
		value, _ := json.Marshal(r.Next) // an id always has a JSON form
		e.Unknown = []envelope.Field{{Name: "next", Value: value}}
	}
	return e
}

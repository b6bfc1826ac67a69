package switchboard

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
)

// record is a request as the host that has the record tells it to those of the callees.
type record struct {
	call.Request
	RingLeft int64    `json:"ringLeft,omitempty"` // milliseconds; no clock of another host is asked
	Refused  []answer `json:"refused,omitempty"`  // answers that came too late
	Gone     bool     `json:"gone,omitempty"`     // there is no such request, for the host that asks
}

const maxRing = time.Hour

// recordOf is what another host is told of a request.
func (s *Switchboard) recordOf(r call.Request, refused []answer) record {
	got := record{Request: r, Refused: refused}
	if until := r.Rings(); until > 0 {
		got.RingLeft = max(1, until-s.Now().UnixMilli())
	}
	got.RingUntil, got.Match, got.Next, got.Met = 0, nil, "", ""
	return got
}

// refusedAnswers are the answers that a record refuses.
func (r record) refusedAnswers() (list []call.Answer) {
	for _, a := range r.Refused {
		list = append(list, call.Answer{Agent: a.Agent, Event: events[a.Event]})
	}
	return list
}

// readRecord reads and checks what another host says of a request. The error is a goodbye:
// a host that keeps to the rules does not say such things.
func (s *Switchboard) readRecord(from *peer.Session, text []byte) (record, error) {
	var got record
	if err := json.Unmarshal(text, &got); err != nil {
		return got, link.Fault("a call that cannot be read")
	}
	if id, err := envelope.ParseID(got.ID); err != nil || id != got.ID {
		return got, link.Fault("a call with the id %.40q", got.ID)
	}
	if got.Gone {
		return record{Request: call.Request{ID: got.ID}, Gone: true}, nil
	}
	if err := s.checkRecord(from, &got); err != nil {
		return got, err
	}
	got.RingUntil, got.Match, got.Next, got.Met, got.Far = 0, nil, "", "", nil
	if slices.ContainsFunc(got.Callees, func(c call.Callee) bool { return c.State == call.Ringing }) {
		left := min(max(0, time.Duration(got.RingLeft)), maxRing/time.Millisecond) * time.Millisecond
		got.RingUntil = s.Now().Add(left).UnixMilli()
	}
	return got, nil
}

var states = []call.State{call.Ringing, call.Queued, call.Missed, call.Busy, call.Accepted, call.Rejected, call.Cancelled}

func (s *Switchboard) checkRecord(from *peer.Session, got *record) error {
	if got.From.Host != from.Name {
		return link.Fault("a call from %s", got.From)
	}
	if len(got.Callees) == 0 || len(got.Callees) > envelope.MaxRecipients {
		return link.Fault("a call to %d agents", len(got.Callees))
	}
	got.To = nil
	here := false
	for _, c := range got.Callees {
		twice := slices.ContainsFunc(got.To, c.Agent.Same)
		reason := (&envelope.Envelope{Reason: c.Reason}).Check(0)
		if c.Agent.Host == "" || twice || !slices.Contains(states, c.State) || reason != nil || c.At < 0 || c.At > envelope.MaxInt {
			return link.Fault("a call that is not right about %s", c.Agent)
		}
		got.To = append(got.To, c.Agent)
		here = here || s.isLocal(c.Agent)
	}
	switch {
	case !here:
		return link.Fault("a call to nobody here")
	case got.Mode != "" && got.Mode != conv.Live && got.Mode != conv.Async:
		return link.Fault("a call of the mode %.40q", got.Mode)
	case got.Conversation != "" && got.Conversation != s.conversationAt(from.Host, got.Request):
		return link.Fault("a call with the conversation %.40q", got.Conversation)
	}
	shown := observed(got.Request)
	if shown.Timestamp = 1; len(got.Conversation) == 0 {
		shown.Conversation = s.conversationAt(from.Host, got.Request)
	}
	if e, err := envelope.Decode(shown.Append(nil)); err != nil || e.Check(envelope.MaxLine) != nil {
		return link.Fault("a call that cannot be shown")
	}
	return nil
}

// conversationAt is the id of the conversation that comes of a request of a host: where it
// meets one of this host, of that.
func (s *Switchboard) conversationAt(host string, r call.Request) string {
	r.Far = &call.Far{Host: host}
	if r.Meets != "" {
		r.Far.Host, r.ID = s.Home.Host.ID, r.Meets
	}
	return s.conversation(r)
}

// answeredFar takes the answer of a callee of another host, and reports whether it is
// refused. The error says that it has to be taken again later.
func (s *Switchboard) answeredFar(ctx context.Context, a answer, event call.Event) (refused bool, err error) {
	found, err := s.locked(a.Request)
	if unknown(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer found.mu.Unlock()
	switch {
	case found.request.Far != nil:
		return false, nil
	case found.request.Meets != "":
		return true, nil
	case event == call.Accept && s.Router.May(a.Agent, &envelope.Envelope{Type: envelope.Accept}) != nil:
		return true, nil
	case event == call.Accept:
		if err := s.hasMet(a.Met, found); err != nil {
			return false, err
		}
		_, err = s.answer(ctx, found, a.Agent, &envelope.Envelope{Type: envelope.Accept}, acceptance{there: a.There})
	default:
		if s.Router.Standing(a.Agent).Silent() {
			a.Reason = ""
		}
		err = s.rejected(ctx, found, a, event)
	}
	if err != nil && router.Translate(err, "").Retryable() {
		return false, err
	}
	return err != nil, nil
}

// rejected notes that a callee of another host does not want to talk. The caller holds the
// entry's lock.
func (s *Switchboard) rejected(ctx context.Context, e *entry, a answer, event call.Event) error {
	if c, _ := e.request.Callee(a.Agent); event == call.RejectBusy && c.State == call.Busy && c.Reason == a.Reason {
		return nil
	}
	r, err := e.request.Apply(event, a.Agent, a.Reason, s.Now())
	if err != nil || e.gone || slices.Equal(r.Callees, e.request.Callees) {
		return err
	}
	if err := s.save(e, next(r)); err != nil {
		return err
	}
	_, _ = s.follow(ctx, e) // the record holds: what fails is logged, and looked at again
	return nil
}

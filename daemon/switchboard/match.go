package switchboard

import (
	"context"
	"errors"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Match calls the first of some agents, the best first, and goes on to the next one
// when that one does not talk. Who is the last may find the call in its inbox later.
func (s *Switchboard) Match(ctx context.Context, from envelope.Address, e *envelope.Envelope, m call.Match, best []string) (router.Outcome, error) {
	id := e.ID
	if _, ok := envelope.MadeAt(id); !ok {
		id = envelope.NamedID("match", from.Key(), e.ID)
	}
	if err := s.Router.Vet(from, e); err != nil {
		return router.Outcome{}, err
	}
	m.Rest = best
	r := call.Request{
		From: from, Topic: topic(e, from), Mode: e.Mode, TurnLimit: e.TurnLimit, Content: e.Content, Data: e.Data,
		Attachments: e.Attachments, Match: &m, Next: id,
	}
	if !s.known(id) {
		first, err := s.nextOf(ctx, r)
		if errors.Is(err, errNobody) {
			err = api.Errorf(api.NobodyAvailable, "nobody who fits takes calls from %s", from.Name).WithNext("duo find")
		}
		if err == nil {
			err = s.callNext(ctx, first)
		}
		if err != nil {
			return router.Outcome{}, err
		}
	}
	placed, err := s.last(id)
	return router.Outcome{Envelope: e, Request: &placed}, err
}

// last is the request that a match has come to.
func (s *Switchboard) last(id string) (r call.Request, err error) {
	for next := id; next != "" && s.known(next); next = r.Next {
		if r, err = s.Get(next); err != nil {
			return r, err
		}
	}
	return r, nil
}

// next says that a match goes on where the one that was called does not talk.
func next(r call.Request) call.Request {
	if r.Match == nil || len(r.Match.Rest) == 0 || r.Next != "" {
		return r
	}
	switch r.State() {
	case call.Rejected, call.Busy, call.Missed, call.Queued:
		r.Next, r.Over = envelope.NamedID("next", r.ID), true
	}
	return r
}

// goOn calls the next one of a match. The caller holds the entry's lock.
func (s *Switchboard) goOn(ctx context.Context, e *entry) error {
	r := e.request
	if r.Next == "" || s.known(r.Next) {
		return nil
	}
	following, err := s.nextOf(ctx, r)
	if errors.Is(err, errNobody) { // it was the last one: this call stays as it is
		r.Next, r.Over, r.Match = "", false, lastOne(r.Match)
		return s.save(e, r)
	}
	if err != nil {
		return err
	}
	if err := s.tell(e); err != nil { // before the next one is heard of
		return err
	}
	return s.callNext(ctx, following)
}

func lastOne(m *call.Match) *call.Match {
	last := *m
	last.Rest = nil
	return &last
}

// nextOf makes the next request of a match: to the first who takes it.
func (s *Switchboard) nextOf(ctx context.Context, r call.Request) (call.Request, error) {
	for i, name := range r.Match.Rest {
		match := *r.Match
		match.Rest = r.Match.Rest[i+1:]
		following, err := s.asked(r.From, &envelope.Envelope{
			ID: r.Next, Type: envelope.Call, To: []string{name}, Topic: r.Topic, Mode: r.Mode, TurnLimit: r.TurnLimit,
			Content: r.Content, Data: r.Data, Attachments: r.Attachments,
		}, &match)
		if err == nil {
			err = s.Router.Admit(ctx, r.From, following.To...)
		}
		if err == nil || ctx.Err() != nil || router.Translate(err, "").Retryable() {
			return following, err
		}
		s.Logger.Info("match passes over an agent", "agent", name, "id", r.ID, "err", err)
	}
	return call.Request{}, errNobody
}

// callNext places the next request of a match.
func (s *Switchboard) callNext(ctx context.Context, r call.Request) error {
	s.catchUp(ctx, r.To)
	fresh, _, known := s.enter(r, false, nil)
	if known {
		return nil
	}
	_, err := s.begin(ctx, fresh, nil)
	return err
}

var errNobody = errors.New("nobody else takes the call")

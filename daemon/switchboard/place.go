package switchboard

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir/envelope"
)

// place asks agents to talk.
func (s *Switchboard) place(ctx context.Context, from envelope.Address, e *envelope.Envelope) (router.Outcome, error) {
	r, err := s.asked(from, e, nil)
	if err != nil {
		return router.Outcome{}, err
	}
	refusal := s.Router.Admit(ctx, from, r.To...)
	s.catchUp(ctx, r.To)
	for tried := []*entry(nil); ; {
		fresh, crossing, known := s.enter(r, refusal != nil, tried)
		switch {
		case known:
			return s.repeated(ctx, r, e)
		case crossing != nil: // to answer a call nobody's leave is needed
			if out, ok, err := s.meet(ctx, crossing, r, e); ok {
				return out, err
			}
			tried = append(tried, crossing)
		case refusal != nil:
			return router.Outcome{}, refusal
		default:
			return s.begin(ctx, fresh, e)
		}
	}
}

// asked makes a request of a draft.
func (s *Switchboard) asked(from envelope.Address, e *envelope.Envelope, match *call.Match) (call.Request, error) {
	people, err := s.Router.People(e.To, from)
	if err != nil {
		return call.Request{}, err
	}
	limit := s.Home.Config.Limits.Participants
	switch {
	case len(people) == 0:
		return call.Request{}, api.Errorf(api.BadRequest, "say in \"to\" who is called").WithNext("duo who")
	case len(people) >= limit:
		return call.Request{}, api.Errorf(api.TooMany, "%d who are called and the caller are over the limit of %d participants", len(people), limit)
	case e.Mode != "" && e.Mode != conv.Live && e.Mode != conv.Async:
		return call.Request{}, api.Errorf(api.BadRequest, "mode %q: want live or async", e.Mode)
	}
	id := e.ID
	if _, ok := envelope.MadeAt(id); !ok && match == nil {
		id = envelope.NamedID("request", from.Key(), e.ID)
	}
	return call.Request{
		ID: id, From: from, To: people, Topic: topic(e, from), Mode: e.Mode, TurnLimit: e.TurnLimit,
		Content: e.Content, Data: e.Data, Attachments: e.Attachments, Match: match,
	}, nil
}

// begin places a request that was entered, and unlocks it.
func (s *Switchboard) begin(ctx context.Context, fresh *entry, e *envelope.Envelope) (router.Outcome, error) {
	defer fresh.mu.Unlock()
	if err := s.save(fresh, next(fresh.request)); err != nil {
		s.forget(fresh)
		s.refs.Remove(fresh.request.ID) // it may be placed again
		return router.Outcome{}, err
	}
	_, _ = s.follow(ctx, fresh) // the record holds: what fails is logged, and looked at again
	r := fresh.request
	if r.Meets != "" { // what counts is the call that it meets
		met, err := s.Get(r.Meets)
		return router.Outcome{Envelope: e, Request: &met, Created: true}, err
	}
	return router.Outcome{Envelope: e, Request: &r, Created: true}, nil
}

const maxTopic = 60 // bytes, of one that is made of the text

// topic is what a call is about: what the caller says, else the beginning of its text.
func topic(e *envelope.Envelope, from envelope.Address) string {
	if e.Topic != "" {
		return e.Topic
	}
	text := strings.Join(strings.Fields(e.Content), " ")
	if text == "" {
		return "Call from " + from.Name
	}
	if len(text) > maxTopic {
		text = text[:maxTopic]
		for !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
		text += " ..."
	}
	return text
}

// enter takes a new request in and returns its entry, locked, unless it is known already,
// refused, or crosses a request that was not tried yet. All of this is one step, so that of
// two who call each other at once one finds the other's.
func (s *Switchboard) enter(r call.Request, refused bool, tried []*entry) (fresh, crossing *entry, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known(r.ID) {
		return nil, nil, true
	}
	crossing = s.crossing(r, tried)
	switch {
	case crossing != nil && crossing.copy:
		r.Meets = crossing.now.Load().ID
	case crossing != nil || refused:
		return nil, crossing, false
	}
	with := s.with
	if r.Meets != "" { // nobody is told before it is known what comes of that
		with = func(envelope.Address) call.State { return call.Ringing }
	}
	fresh = newEntry(call.Place(r, with, s.Now(), s.Home.Config.Call.Ring.Duration))
	fresh.mu.Lock()
	s.open[r.ID] = fresh
	s.refs.Add(r.ID)
	return fresh, nil, false
}

// crossing returns a request with which the callee is calling the caller, and nobody
// else. The caller holds the lock of the switchboard.
func (s *Switchboard) crossing(r call.Request, tried []*entry) *entry {
	if len(r.To) != 1 || r.Match != nil {
		return nil
	}
	for _, e := range s.open {
		if crosses(e, r) && !slices.Contains(tried, e) && (!e.copy || rings(e)) {
			return e
		}
	}
	return nil
}

// with is the state in which a request to an agent begins. The caller holds the lock of the
// switchboard.
func (s *Switchboard) with(a envelope.Address) call.State {
	p := presence.Presence{State: presence.Offline}
	if s.isLocal(a) {
		p = s.Presence.Of(a.Name)
	} else if h := s.hosts[a.Host]; h != nil && h.line != nil && s.Far != nil {
		p, _ = s.Far(a)
	}
	switch p.State {
	case presence.Available, presence.Ringing:
		return call.Ringing
	case presence.InCall, presence.Busy:
		return call.Busy
	}
	return call.Queued
}

// meet answers a call to somebody who is calling the caller: it accepts that call, and
// its own text is what it says. It reports false where that one does not ring.
func (s *Switchboard) meet(ctx context.Context, crossing *entry, own call.Request, e *envelope.Envelope) (out router.Outcome, ok bool, err error) {
	crossing.mu.Lock()
	defer crossing.mu.Unlock()
	if c, _ := crossing.request.Callee(own.From); c.State != call.Ringing || crossing.gone {
		return router.Outcome{}, false, nil
	}
	out, err = s.answer(ctx, crossing, own.From, e, acceptance{met: own.ID, there: s.Presence.There(own.From.Name)})
	return out, true, err
}

// keepMeeting leaves a record of the call that has met a request, so that it is known
// when it is placed again. The caller holds the entry's lock.
func (s *Switchboard) keepMeeting(r call.Request) error {
	if r.Met == "" || s.known(r.Met) {
		return nil
	}
	by := r.Latest(call.Accepted)
	err := s.records.write("done", call.Request{
		ID: r.Met, From: by.Agent, To: []envelope.Address{r.From}, Topic: r.Topic, CreatedAt: by.At,
		Callees: []call.Callee{{Agent: r.From, State: call.Accepted, At: by.At}}, Conversation: r.Conversation, Over: true, Meets: r.ID,
	})
	if err == nil {
		s.refs.Add(r.Met)
	}
	return err
}

// repeated answers a call that was placed before.
func (s *Switchboard) repeated(ctx context.Context, r call.Request, e *envelope.Envelope) (router.Outcome, error) {
	before, err := s.Get(r.ID)
	if err != nil {
		return router.Outcome{}, err
	}
	same := before.From.Same(r.From) && slices.EqualFunc(before.To, r.To, envelope.Address.Same)
	if same && before.Meets != "" {
		return s.accept(ctx, r.From, &envelope.Envelope{
			ID: e.ID, Type: envelope.Accept, Request: before.Meets, Content: e.Content, Data: e.Data, Attachments: e.Attachments,
		})
	}
	if !same || before.Content != r.Content || before.Topic != r.Topic {
		return router.Outcome{}, api.Errorf(api.KeyReused, "the key or id was used for another call; take another key").WithNext("duo list")
	}
	out := router.Outcome{Envelope: &envelope.Envelope{ID: r.ID, Type: envelope.Call}, Request: &before, Duplicate: true}
	if before.Conversation != "" {
		out.State, err = s.Ledger.State(ctx, before.Conversation)
	}
	return out, err
}

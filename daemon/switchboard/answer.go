package switchboard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir/envelope"
)

// find returns the entry of the request that an answer names, locked, or where it names
// none, of the only one that the agent can give such an answer to.
func (s *Switchboard) find(agent envelope.Address, e *envelope.Envelope) (*entry, error) {
	if e.Request == "" {
		return s.only(agent, e)
	}
	id, err := s.Resolve(e.Request)
	if err != nil {
		return nil, err
	}
	for {
		found, err := s.locked(id)
		if err != nil || e.Type != envelope.Cancel || found.request.Next == "" || !s.known(found.request.Next) {
			return found, err
		}
		id = found.request.Next // the match has gone on: what is said of it is meant for the last one
		found.mu.Unlock()
	}
}

// locked is the entry of a request, locked. One that is put away has a new entry, which
// is gone: nothing changes it any more, but to say again what was said before is no error.
func (s *Switchboard) locked(id string) (*entry, error) {
	if e := s.entry(id); e != nil {
		e.mu.Lock()
		if !e.gone {
			return e, nil
		}
		e.mu.Unlock()
	}
	r, err := s.done(id)
	if err != nil {
		return nil, err
	}
	e := newEntry(r)
	e.gone = true
	e.mu.Lock()
	return e, nil
}

// only finds the request that an agent means which names none: the only one that rings,
// or the only one of which it can say that. Where there are several, those that ring are
// told first, and of them the newest.
func (s *Switchboard) only(agent envelope.Address, e *envelope.Envelope) (*entry, error) {
	fits := func(r call.Request) bool {
		if e.Type == envelope.Cancel {
			return r.From.Same(agent) && r.Open()
		}
		c, _ := r.Callee(agent)
		return s.asks(r, agent) && c.State.Open() && !r.Over
	}
	list := slices.DeleteFunc(s.List(agent), func(r call.Request) bool { return !fits(r) })
	rank := func(r call.Request) int {
		if c, _ := r.Callee(agent); c.State == call.Ringing {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b call.Request) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.CreatedAt, a.CreatedAt))
	})
	if len(list) == 1 || len(list) > 1 && rank(list[0]) < rank(list[1]) {
		answer := *e
		answer.Request = list[0].ID
		return s.find(agent, &answer)
	}
	if len(list) == 0 {
		return nil, api.Errorf(api.RequestNotFound, "there is no call to %s", e.Type).WithNext("duo inbox")
	}
	near := make([]string, 0, len(list))
	for _, r := range list {
		near = append(near, s.refs.Short(r.ID))
	}
	return nil, api.Errorf(api.AmbiguousReference, "there are %d calls: say which one", len(list)).WithNear(near).WithNext("duo %s %s", e.Type, near[0])
}

// Resolve returns the id of a request that a reference or an id names.
func (s *Switchboard) Resolve(text string) (string, error) {
	switch ids := s.refs.Resolve(text); {
	case len(ids) == 1:
		return ids[0], nil
	case len(ids) > 1:
		near := make([]string, 0, len(ids))
		for _, id := range ids {
			near = append(near, s.refs.Short(id))
		}
		return "", api.Errorf(api.AmbiguousReference, "%q can mean %d calls", text, len(ids)).WithNear(near).WithNext("duo inbox")
	}
	return "", api.Errorf(api.RequestNotFound, "no call %q here", text).WithNext("duo inbox")
}

// change rejects or cancels.
func (s *Switchboard) change(ctx context.Context, agent envelope.Address, e *envelope.Envelope, event call.Event) (router.Outcome, error) {
	found, err := s.find(agent, e)
	if err != nil {
		return router.Outcome{}, err
	}
	defer found.mu.Unlock()
	if found.copy {
		return s.answerCopy(ctx, found, agent, e, event)
	}
	if found.request.Meets != "" && !found.gone {
		return router.Outcome{}, s.refused(found.request, metElsewhere)
	}
	r, err := found.request.Apply(event, agent, e.Reason, s.Now())
	if err != nil {
		return router.Outcome{}, s.refused(found.request, err)
	}
	waiting := r.Next != "" && !s.known(r.Next)
	if event == call.Cancel && waiting { // for the next one of a match, who does not know yet
		r.Next, r.Match = "", lastOne(r.Match)
	}
	if slices.Equal(r.Callees, found.request.Callees) && r.Next == found.request.Next || found.gone {
		return router.Outcome{Envelope: e, Request: &r, Duplicate: true}, nil
	}
	if err := s.save(found, next(r)); err != nil {
		return router.Outcome{}, err
	}
	_, _ = s.follow(ctx, found) // the record holds: what fails is logged, and looked at again
	r = found.request
	return router.Outcome{Envelope: e, Request: &r}, nil
}

func (s *Switchboard) accept(ctx context.Context, agent envelope.Address, e *envelope.Envelope) (router.Outcome, error) {
	found, err := s.find(agent, e)
	if err != nil {
		return router.Outcome{}, err
	}
	defer found.mu.Unlock()
	if found.copy {
		return s.answerCopy(ctx, found, agent, e, call.Accept)
	}
	return s.answer(ctx, found, agent, e, acceptance{there: s.Presence.There(agent.Name)})
}

// acceptance is how somebody has accepted.
type acceptance struct {
	met   string // id of its own call to the caller, which was its answer
	there bool   // it is there
}

// answer accepts a request: the record says so first, then there is a conversation, and
// what the callee says stands in it. The caller holds the entry's lock.
func (s *Switchboard) answer(ctx context.Context, e *entry, by envelope.Address, said *envelope.Envelope, how acceptance) (router.Outcome, error) {
	r, err := e.request.Apply(call.Accept, by, "", s.Now())
	if err != nil {
		return router.Outcome{}, s.refused(e.request, err)
	}
	fresh := !slices.Equal(r.Callees, e.request.Callees)
	first := r.Conversation == ""
	if fresh {
		if err := s.stillOpen(ctx, r, by); err != nil {
			return router.Outcome{}, err
		}
		if first {
			r.Conversation, r.Mode, r.Met = s.conversation(r), s.mode(r, how.there), how.met
		}
		if err := s.save(e, r); err != nil {
			return router.Outcome{}, err
		}
	}
	state, err := s.joined(ctx, e)
	if err != nil {
		return router.Outcome{}, err
	}
	if fresh {
		s.makeCurrent(r, by, first)
	}
	out := router.Outcome{Envelope: said, State: state, Request: &r, Created: fresh, Duplicate: !fresh}
	if said.Content == "" && len(said.Data) == 0 && len(said.Attachments) == 0 {
		return out, nil
	}
	stored, err := s.Router.Say(by, &envelope.Envelope{
		ID: said.ID, Type: envelope.Message, From: by, Conversation: r.Conversation, After: envelope.Int(int64(len(s.lines(r)))),
		Content: said.Content, Data: said.Data, Attachments: said.Attachments, Auto: said.Auto, Hops: said.Hops,
	})
	if err != nil {
		return router.Outcome{}, err
	}
	out.Envelope, out.State = stored.Envelope, stored.State
	return out, nil
}

// joined is the conversation of a request that was accepted.
func (s *Switchboard) joined(ctx context.Context, e *entry) (conv.State, error) {
	if e.gone { // all that follows from the record was done
		return s.Ledger.State(ctx, e.request.Conversation)
	}
	return s.follow(ctx, e)
}

// stillOpen refuses to accept where the conversation has ended just now, or takes nobody
// else.
func (s *Switchboard) stillOpen(ctx context.Context, r call.Request, by envelope.Address) error {
	if r.Conversation == "" {
		return nil
	}
	state, err := s.Ledger.State(ctx, r.Conversation)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil // it is about to begin
	}
	if err != nil {
		return err
	}
	if state.Closed || len(state.Present()) == 0 {
		return s.refused(r, &call.Refusal{Kind: call.Ended, Text: "the call is over"})
	}
	if _, was := state.Member(by); was {
		return nil
	}
	return state.Check(s.invite(r, state, by), conv.Limits{Members: s.Home.Config.Limits.Participants})
}

// mode is that of the conversation: live where both are there.
func (s *Switchboard) mode(r call.Request, there bool) string {
	switch {
	case r.Mode != "":
		return r.Mode
	case there && s.Presence.There(r.From.Name):
		return conv.Live
	}
	return conv.Async
}

// createID is the id of the line that makes the conversation of a request.
func createID(r call.Request) string { return envelope.NamedID("call", r.ID) }

// conversation is the id of the conversation that comes of a request.
func (s *Switchboard) conversation(r call.Request) string {
	origin := s.Home.Host.ID
	if r.Far != nil {
		origin = r.Far.Host
	}
	return envelope.ConversationID(origin, createID(r))
}

// connect makes the conversation of a request that was accepted, and brings in whoever
// has accepted since. The caller holds the entry's lock.
func (s *Switchboard) connect(ctx context.Context, e *entry) (conv.State, error) {
	r := e.request
	state, err := s.Ledger.State(ctx, r.Conversation)
	if errors.Is(err, ledger.ErrNotFound) {
		state, err = s.Router.Begin(ctx, s.lines(r))
	}
	if err != nil {
		return state, fmt.Errorf("conversation of a call: %w", err)
	}
	var refused error
	for _, c := range r.Callees {
		if _, was := state.Member(c.Agent); was || c.State != call.Accepted || len(state.Present()) == 0 {
			continue
		}
		e := s.invite(r, state, c.Agent)
		switch out, err := s.Router.Say(e.From, e); {
		case err == nil:
			state = out.State
		case errors.As(err, new(*conv.Refusal)):
			refused = err // the conversation has ended just now, or is full
		default:
			return state, err
		}
	}
	s.track(e, state)
	return state, refused
}

// speaker is in whose name this host says something in a conversation: somebody's, or
// where that one has left, of the first one of this host who is in it. For agents of
// others only their hosts speak.
func (s *Switchboard) speaker(state conv.State, first envelope.Address) envelope.Address {
	if state.Has(first) {
		return first
	}
	for _, a := range state.Parties() {
		if s.isLocal(a) {
			return a
		}
	}
	return first
}

// invite brings somebody in who has accepted when the conversation had begun.
func (s *Switchboard) invite(r call.Request, state conv.State, a envelope.Address) *envelope.Envelope {
	by := s.speaker(state, r.From)
	return &envelope.Envelope{
		ID: envelope.NamedID("call-join", r.ID, a.Key()), Type: envelope.System, Event: envelope.EventInvite,
		From: by, Conversation: r.Conversation, Participants: []envelope.Address{a}, Auto: true,
	}
}

// lines are those with which the conversation begins.
func (s *Switchboard) lines(r call.Request) []*envelope.Envelope {
	first := &envelope.Envelope{
		ID: createID(r), Type: envelope.System, Event: envelope.EventCreate, From: r.From, Conversation: r.Conversation,
		Origin: s.Home.Host.ID, Topic: r.Topic, Mode: r.Mode, TurnLimit: r.TurnLimit, Request: r.ID,
		Participants: []envelope.Address{r.From},
	}
	for _, c := range r.Callees {
		if c.State == call.Accepted {
			first.Participants = append(first.Participants, c.Agent)
		}
	}
	lines := []*envelope.Envelope{first}
	if r.Content != "" || len(r.Data) > 0 || len(r.Attachments) > 0 {
		lines = append(lines, &envelope.Envelope{
			ID: envelope.NamedID("call-text", r.ID), Type: envelope.Message, From: r.From, Conversation: r.Conversation,
			After: envelope.Int(0), Content: r.Content, Data: r.Data, Attachments: r.Attachments,
		})
	}
	return lines
}

// makeCurrent makes the conversation the one that both mean when they name none.
func (s *Switchboard) makeCurrent(r call.Request, by envelope.Address, first bool) {
	if s.isLocal(by) {
		s.Router.MakeCurrent(by, r.Conversation)
	}
	if first {
		s.Router.MakeCurrent(r.From, r.Conversation)
	}
}

// refused says of a refusal of the call machine what comes next.
func (s *Switchboard) refused(r call.Request, err error) error {
	var refusal *call.Refusal
	if !errors.As(err, &refusal) {
		return err
	}
	ref := s.refs.Short(r.ID)
	switch refusal.Kind {
	case call.NotCallee, call.NotCaller:
		return api.Errorf(api.NotAllowed, "%s: %w", ref, refusal).WithNext("duo show %s", ref)
	case call.Ended:
		return api.Errorf(api.CallOver, "%s: %w", ref, refusal).WithNext(`duo message %s "..."`, r.From.Name)
	}
	return api.Errorf(api.RequestAnswered, "%s: %w", ref, refusal).WithNext("duo show %s", ref)
}

package switchboard

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir/envelope"
)

// ringSlack is how much later than at the caller's host a request stops to ring here by
// itself, where that host has not said so.
const ringSlack = 2 * time.Second

// asks reports whether an agent is called with a request, and told of it.
func (s *Switchboard) asks(r call.Request, agent envelope.Address) bool {
	_, ok := r.Callee(agent)
	return ok && r.Asks(agent) && (r.Far == nil || !s.meets(r))
}

// answerCopy answers a request of another host: it is so here at once, and said to that
// host. The conversation comes later. The caller holds the entry's lock.
func (s *Switchboard) answerCopy(ctx context.Context, e *entry, by envelope.Address, said *envelope.Envelope, event call.Event) (router.Outcome, error) {
	r := e.request
	if event != call.Cancel && s.meets(r) {
		return router.Outcome{}, s.refused(r, metElsewhere)
	}
	if event == call.Cancel || !r.Asks(by) {
		_, err := call.Request{From: r.From}.Apply(event, by, "", s.Now())
		return router.Outcome{}, s.refused(r, err)
	}
	if event == call.Accept {
		if c, _ := r.Callee(by); c.State.Open() {
			if err := s.stillOpen(ctx, r, by); err != nil {
				return router.Outcome{}, err
			}
		}
	}
	answer := call.Answer{Agent: by, Event: event, Reason: said.Reason, There: event == call.Accept && s.Presence.There(by.Name)}
	if event == call.Accept {
		answer.Reason = ""
	}
	words := call.Words{
		ID: said.ID, Content: said.Content, Data: said.Data, Attachments: said.Attachments, Auto: said.Auto, Hops: said.Hops,
	}
	before := r.Callees
	if e.gone { // nothing changes it any more
		next, err := r.Apply(event, by, answer.Reason, s.Now())
		if err != nil {
			return router.Outcome{}, s.refused(r, err)
		}
		r = next
	} else if err := s.putAnswer(e, answer, words); err != nil {
		return router.Outcome{}, s.refused(e.request, err)
	} else {
		s.again(ctx, e, s.settle(e)) // the copy holds: what fails is looked at again
		r = e.request
	}
	out := router.Outcome{Envelope: said, Request: &r, Duplicate: e.gone || slices.Equal(before, r.Callees)}
	if event == call.Accept {
		out.State = s.here(ctx, r, by)
	}
	return out, nil
}

// here is the conversation of a call when its log is here, with the agent in it.
func (s *Switchboard) here(ctx context.Context, r call.Request, by envelope.Address) conv.State {
	if state, err := s.Ledger.State(ctx, r.Conversation); err == nil {
		if _, in := state.Member(by); in {
			return state
		}
	}
	return conv.State{}
}

// putAnswer writes what a callee of this host has answered into a copy. The caller holds
// the entry's lock.
func (s *Switchboard) putAnswer(e *entry, a call.Answer, words call.Words) error {
	words.Agent = a.Agent
	r, err := e.request.Answer(a, words, s.Now())
	if err != nil || slices.Equal(r.Callees, e.request.Callees) {
		return err
	}
	if a.Event == call.Accept {
		r.Conversation = s.conversation(r)
	}
	if err := s.save(e, r); err != nil {
		return err
	}
	s.expect(e)
	s.spread(e)
	return nil
}

// expect waits for the conversation of a copy. The caller holds the entry's lock.
func (s *Switchboard) expect(e *entry) {
	id := e.request.Conversation
	if id == "" || e.request.Meets != "" { // which is the other call's
		return
	}
	s.mu.Lock()
	s.calls[id] = e
	s.mu.Unlock()
	s.hangups.Add(id)
}

// ringCopy does what is due with a copy. The caller holds the entry's lock.
func (s *Switchboard) ringCopy(ctx context.Context, e *entry) {
	if until := e.request.Rings(); until > 0 && s.Now().Sub(time.UnixMilli(until)) >= ringSlack {
		if err := s.save(e, e.request.Expire(s.Now())); err != nil {
			s.again(ctx, e, err)
			return
		}
	}
	if state, err := s.Ledger.State(ctx, e.request.Conversation); err == nil {
		s.markCopy(e.request, state)
	}
	s.expect(e)
	s.again(ctx, e, s.settle(e))
}

// copyLives reports whether something can still come of a copy.
func (s *Switchboard) copyLives(r call.Request) bool {
	if len(r.Far.Answers) > 0 || r.Meets == "" && s.lasts(r.Conversation) {
		return true
	}
	if r.Over {
		return false
	}
	if len(r.Far.Words) > 0 {
		return true
	}
	return slices.ContainsFunc(r.Callees, func(c call.Callee) bool {
		return s.isLocal(c.Agent) && (c.State.Open() || c.State == call.Accepted && r.Mode != conv.Async)
	})
}

// lasts reports whether an agent of this host is in the call of a conversation.
func (s *Switchboard) lasts(conversation string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ids := range s.inCalls {
		if _, in := ids[conversation]; in {
			return true
		}
	}
	return false
}

// lookCopy does what is due in a call whose record is another host's: that host ends it.
// It returns when to look again, 0 for never. The caller holds the entry's lock.
func (s *Switchboard) lookCopy(ctx context.Context, e *entry) (again time.Duration, err error) {
	state, err := s.Ledger.State(ctx, e.request.Conversation)
	if errors.Is(err, ledger.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	e.move()
	if err := s.speak(e, state); err != nil {
		return 0, err
	}
	again = s.markCopy(e.request, state)
	if state.Mode == conv.Live && !state.Closed {
		left, err := s.allVanished(e.request, state)
		if err != nil {
			return 0, err
		}
		again = min(again, left)
	}
	r := e.request
	if r.Mode == "" || state.Closed && !r.Over {
		r.Mode, r.Over = state.Mode, r.Over || state.Closed
		if err := s.save(e, r); err != nil {
			return 0, err
		}
	}
	if again == forever {
		again = 0
	}
	return again, s.settle(e)
}

// markCopy notes who of this host is in a call. While the link is lost for too long nobody
// is. It returns when to look again.
func (s *Switchboard) markCopy(r call.Request, state conv.State) (again time.Duration) {
	again = forever
	if state.Mode != conv.Live {
		return again
	}
	left := s.outOfReach(r.From)
	for _, m := range state.Members {
		if s.isLocal(m.Address) {
			s.markOne(m.Address, state.ID, m.Present() && !state.Closed && left > 0)
		}
	}
	if left > 0 && !state.Closed {
		again = left
	}
	return again
}

// speak says the first words of those who are in the conversation by now.
func (s *Switchboard) speak(e *entry, state conv.State) error {
	for _, w := range e.request.Far.Words {
		switch in := state.Has(w.Agent); {
		case !in && !state.Closed:
			continue
		case in:
			s.Router.MakeCurrent(w.Agent, state.ID)
			if err := s.sayWords(e.request, state, w); err != nil {
				return err
			}
		}
		if err := s.save(e, e.request.Spoken(w.Agent)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Switchboard) sayWords(r call.Request, state conv.State, w call.Words) error {
	if w.Empty() {
		return nil
	}
	_, err := s.Router.Say(w.Agent, &envelope.Envelope{
		ID: w.ID, Type: envelope.Message, From: w.Agent, Conversation: state.ID,
		After:   envelope.Int(min(int64(len(s.lines(r))), state.LastSeq)),
		Content: w.Content, Data: w.Data, Attachments: w.Attachments, Auto: w.Auto, Hops: w.Hops,
	})
	if err == nil || router.Translate(err, "").Retryable() {
		return err
	}
	s.Logger.Info("first words of a call are refused", "id", r.ID, "conv", state.ID, "agent", w.Agent.Name, "err", err)
	return nil
}

// Await waits for what an agent has accepted: the conversation is here, or there is none
// after all. It returns what there is when ctx ends, and at once where there is no link.
func (s *Switchboard) Await(ctx context.Context, id string, by envelope.Address) (call.Request, conv.State, error) {
	for {
		e, err := s.locked(id)
		if err != nil {
			return call.Request{}, conv.State{}, err
		}
		if e.moved == nil {
			e.moved = make(chan struct{})
		}
		r, moved, gone := e.request, e.moved, e.gone
		e.mu.Unlock()
		state := s.here(context.WithoutCancel(ctx), r, by)
		if c, _ := r.Callee(by); gone || state.ID != "" || c.State != call.Accepted || s.lineTo(r.From.Host) == nil {
			return r, state, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return r, state, nil
		}
	}
}

// Agreed reports whether an agent of this host has accepted a call of another host, and the
// conversation is what comes of it.
func (s *Switchboard) Agreed(conversation, request string, agent envelope.Address) bool {
	r, err := call.Request{}, error(nil)
	if e := s.entry(request); e != nil { // its lock may be held by who waits for the log
		r = *e.now.Load()
	} else if r, err = s.done(request); err != nil {
		return false
	}
	c, _ := r.Callee(agent)
	return r.Far != nil && c.State == call.Accepted && s.conversation(r) == conversation
}

// receive takes what the host of a caller says of a request. The error says that it has to
// be taken again later.
func (s *Switchboard) receive(ctx context.Context, l *line, got record) error {
	for {
		known := s.entry(got.ID)
		fresh := known == nil
		switch {
		case got.Gone && fresh:
			return nil
		case fresh && s.isKnown(got.ID): // it is done here, and nothing changes it any more
			return nil
		case fresh:
			if known = s.newCopy(ctx, l, got); known == nil {
				return nil
			}
		default:
			known.mu.Lock()
		}
		if !known.gone {
			defer known.mu.Unlock()
			return s.update(ctx, l, known, got, fresh)
		}
		known.mu.Unlock()
	}
}

func (s *Switchboard) isKnown(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known(id)
}

// update brings a copy to what the record says. The caller holds the entry's lock.
func (s *Switchboard) update(ctx context.Context, l *line, e *entry, got record, fresh bool) error {
	before := e.request
	if !e.copy || before.Far.Host != l.session.Host {
		l.refuseAll(got, "another call has the same id")
		return nil
	}
	if got.Gone {
		got.Request = forgotten(before, s.Now())
	}
	r := before.Follow(got.Request, got.refusedAnswers(), s.isLocal)
	if d := r.RingUntil - before.RingUntil; d > -ringSlack.Milliseconds() && d < ringSlack.Milliseconds() {
		r.RingUntil = before.RingUntil // it took a little longer to come here
	}
	if !fresh && r.Rings() > 0 && before.Rings() == 0 && !s.mayRing(l) {
		r = r.Expire(s.Now())
	}
	if r.Conversation == "" && slices.ContainsFunc(r.Far.Answers, func(a call.Answer) bool { return a.Event == call.Accept }) {
		r.Conversation = s.conversation(r)
	}
	if fresh && len(r.Attachments) > 0 && s.Wanted != nil {
		if err := s.Wanted(l.session.Name, r.ID, r.Attachments); err != nil {
			s.Logger.Warn("files of a call are not asked for", "id", r.ID, "peer", l.session.Name, "err", err) // who gets them hears it
		}
	}
	if r = s.busy(r); fresh || !reflect.DeepEqual(r, before) {
		if err := s.save(e, r); err != nil {
			if fresh {
				s.forget(e)
				s.refs.Remove(r.ID)
			}
			return err
		}
	}
	s.expect(e)
	s.again(ctx, e, s.settle(e))
	return nil
}

// forgotten is the record of a request that its host does not know any more: nothing can
// come of it.
func forgotten(r call.Request, now time.Time) call.Request {
	r.Over, r.Callees = true, slices.Clone(r.Callees)
	for i, c := range r.Callees {
		if _, waiting := r.Waiting(c.Agent); waiting || c.State.Open() {
			r.Callees[i] = call.Callee{Agent: c.Agent, State: call.Cancelled, Reason: "the caller's host knows of no such call", At: now.UnixMilli()}
		}
	}
	return r
}

// busy answers for those who ring and are in a call or have said that they are busy.
func (s *Switchboard) busy(r call.Request) call.Request {
	for _, c := range r.Callees {
		if !s.isLocal(c.Agent) || c.State != call.Ringing || r.Over || s.meets(r) {
			continue
		}
		switch s.Presence.Of(c.Agent.Name).State {
		case presence.InCall, presence.Busy:
			r, _ = r.Answer(call.Answer{Agent: c.Agent, Event: call.RejectBusy}, call.Words{}, s.Now()) // who rings can
		}
	}
	return r
}

// newCopy enters a copy of a request that was not known, and returns its entry, locked and
// not written yet; nil where there is to be none.
func (s *Switchboard) newCopy(ctx context.Context, l *line, got record) *entry {
	asked := func(c call.Callee) bool { return s.isLocal(c.Agent) && c.State.Open() }
	if got.Over || got.Meets != "" || !slices.ContainsFunc(got.Callees, asked) {
		return nil
	}
	if n, limit := len(got.Content), s.Home.Config.Limits.Content; n > limit {
		l.refuseAll(got, fmt.Sprintf("%d bytes of text are over the limit of %d at %s", n, limit, s.Home.Host.Name))
		return nil
	}
	r := got.Request
	r.Far = &call.Far{Host: l.session.Host}
	r.CreatedAt = min(max(r.CreatedAt, 1), s.Now().UnixMilli()) // which names files: that is not for others to say
	r.Callees = slices.Clone(r.Callees)
	for i, c := range r.Callees {
		if s.isLocal(c.Agent) && !c.State.Open() { // nobody here has said so
			r.Callees[i].State = call.Missed
		}
	}
	if !s.admit(ctx, l, &r) {
		return nil
	}
	s.catchUp(ctx, r.To)
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hostOf(l.session.Name)
	if reason := h.full(r, s.Now()); reason != "" {
		l.refuseAll(got, reason)
		return nil
	}
	fresh := newEntry(r)
	fresh.mu.Lock()
	h.count(r)
	s.open[r.ID] = fresh
	s.refs.Add(r.ID)
	return fresh
}

// admit answers for those who do not take calls from the caller. It reports whether
// anybody is left who is told.
func (s *Switchboard) admit(ctx context.Context, l *line, r *call.Request) bool {
	left := false
	crossed := slices.ContainsFunc(s.crossings(*r), rings) // who is called has called itself
	for i, c := range r.Callees {
		if !s.isLocal(c.Agent) {
			continue
		}
		reason := ""
		if _, err := s.Router.People([]string{c.Agent.String()}, r.From); err != nil {
			reason = clip(router.Translate(err, "").Message)
		} else if err := s.Router.Admit(ctx, r.From, c.Agent); err != nil && !crossed {
			reason = clip(router.Translate(err, "").Message)
		}
		if reason == "" {
			left = left || c.State.Open()
			continue
		}
		r.Far.Unasked = append(r.Far.Unasked, c.Agent)
		r.Callees[i] = call.Callee{Agent: c.Agent, State: call.Rejected, Reason: reason, At: s.Now().UnixMilli()}
		r.Far.Answers = append(r.Far.Answers, call.Answer{Agent: c.Agent, Event: call.Reject, Reason: reason})
	}
	if !left {
		l.refuse(r.ID, r.Far.Answers)
	}
	return left
}

// clip makes a text a reason.
func clip(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), envelope.MaxTopic)], "")
}

package switchboard

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/envelope"
)

// track looks after a conversation while the call lasts, or others can accept. The caller
// holds the entry's lock.
func (s *Switchboard) track(e *entry, state conv.State) {
	if !s.lives(e.request) || e.request.Over {
		return
	}
	s.mu.Lock()
	s.calls[state.ID] = e
	s.mu.Unlock()
	if e.request.Mode == conv.Live {
		s.mark(state)
	}
	s.hangups.Add(state.ID)
}

// mark notes who is in a call and who is not any more.
func (s *Switchboard) mark(state conv.State) {
	for _, m := range state.Members {
		if !s.isLocal(m.Address) {
			continue
		}
		s.markOne(m.Address, state.ID, m.Present() && !m.Operator && !state.Closed)
	}
}

func (s *Switchboard) markOne(a envelope.Address, conversation string, in bool) {
	name := strings.ToLower(a.Name)
	s.mu.Lock()
	if in && s.inCalls[name] == nil {
		s.inCalls[name] = make(map[string]struct{})
	}
	if in {
		s.inCalls[name][conversation] = struct{}{}
	} else if delete(s.inCalls[name], conversation); len(s.inCalls[name]) == 0 {
		delete(s.inCalls, name)
	}
	s.mu.Unlock()
	s.Presence.Call(a.Name, conversation, in)
}

// catchUp notes which calls some agents have left, before it is asked whether they are in
// one: who has just hung up can be called at once.
func (s *Switchboard) catchUp(ctx context.Context, agents []envelope.Address) {
	for _, a := range agents {
		if !s.isLocal(a) {
			continue
		}
		s.mu.Lock()
		ids := slices.Collect(maps.Keys(s.inCalls[strings.ToLower(a.Name)]))
		s.mu.Unlock()
		for _, id := range ids {
			state, err := s.Ledger.State(ctx, id)
			if m, _ := state.Member(a); err == nil && (state.Closed || !m.Present()) {
				s.markOne(a, id, false)
			}
		}
	}
}

// hangup looks whether a call is over, and ends it where it is.
func (s *Switchboard) hangup(ctx context.Context, conversation string) {
	s.mu.Lock()
	e := s.calls[conversation]
	s.mu.Unlock()
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return
	}
	again, err := s.look(ctx, e)
	if err != nil && ctx.Err() == nil {
		s.Logger.Error("end of a call waits", "conv", conversation, "id", e.request.ID, "err", err)
		again = e.pause()
	}
	if again > 0 {
		s.hangups.AddAfter(conversation, again)
	}
}

// look does what is due in a call. It returns when to look again, 0 for never.
func (s *Switchboard) look(ctx context.Context, e *entry) (again time.Duration, err error) {
	if e.copy {
		return s.lookCopy(ctx, e)
	}
	r := e.request
	state, err := s.Ledger.State(ctx, r.Conversation)
	if err != nil {
		return 0, err
	}
	again, reason := s.idle(state)
	if left, lost := s.reached(state); lost != "" {
		reason = cmp.Or(reason, lost)
	} else {
		again = min(again, left)
	}
	if !state.Closed && reason != "" && r.Mode == conv.Live {
		if state, err = s.close(r, state, reason); err != nil {
			return 0, err
		}
	}
	switch {
	case state.Closed:
		return 0, s.end(e, state)
	case r.Mode != conv.Live: // nobody is in-call there, and it goes on without them
		return 0, nil
	}
	s.mark(state)
	left, err := s.allVanished(r, state)
	return min(again, left), err
}

// allVanished makes all leave whose stream was lost for too long, and returns how long the
// first of the others may still come back.
func (s *Switchboard) allVanished(r call.Request, state conv.State) (again time.Duration, err error) {
	again = forever
	for _, a := range state.Parties() {
		left, err := s.vanished(r, state, a)
		if err != nil {
			return 0, err
		}
		if left > 0 {
			again = min(again, left)
		}
	}
	return again, nil
}

const forever = time.Duration(math.MaxInt64)

// reached says why a call is over that links have broken: fewer than two are left who can
// hear each other. Else it returns when to look again.
func (s *Switchboard) reached(state conv.State) (again time.Duration, lost string) {
	again = forever
	here, away, grace := 0, "", s.Home.Config.Call.Grace.Duration
	for _, a := range state.Parties() {
		left := s.outOfReach(a)
		if left == 0 {
			away = a.Host
			continue
		}
		here++
		again = min(again, left)
	}
	if here < 2 && away != "" {
		return 0, fmt.Sprintf("the link with %s was lost for %s", away, grace)
	}
	return again, ""
}

// outOfReach is how long the link to an agent's host may still come back, 0 when that is
// over. The link of those who need none is never lost.
func (s *Switchboard) outOfReach(a envelope.Address) (left time.Duration) {
	if s.isLocal(a) {
		return forever
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	since := s.began
	if h := s.hosts[a.Host]; h != nil && h.line != nil {
		return forever
	} else if h != nil && h.lost.After(since) {
		since = h.lost
	}
	return max(0, since.Add(s.Home.Config.Call.Grace.Duration).Sub(s.Now()))
}

// idle says why a call is over, or how long it can go on without a word.
func (s *Switchboard) idle(state conv.State) (left time.Duration, reason string) {
	limit := s.Home.Config.Call.Idle.Duration
	left = time.UnixMilli(state.LastTime).Add(limit).Sub(s.Now())
	switch {
	case len(state.Parties()) < 2:
		return 0, "the others have left"
	case state.TurnLimit > 0 && state.Turns >= state.TurnLimit:
		return 0, fmt.Sprintf("the turn limit of %d messages is reached", state.TurnLimit)
	case left <= 0:
		return 0, fmt.Sprintf("nobody has said anything for %s", limit)
	}
	return left, ""
}

// close ends a conversation.
func (s *Switchboard) close(r call.Request, state conv.State, reason string) (conv.State, error) {
	by := s.speaker(state, state.Creator)
	out, err := s.Router.Say(by, &envelope.Envelope{
		ID: envelope.NamedID("hangup", r.ID), Type: envelope.System, Event: envelope.EventClose, From: by,
		Conversation: state.ID, Reason: reason, Auto: true,
	})
	return out.State, err
}

// vanished makes an agent leave whose stream was lost for too long. It returns how long
// it may still come back, 0 where it does not have to.
func (s *Switchboard) vanished(r call.Request, state conv.State, a envelope.Address) (left time.Duration, err error) {
	if !s.isLocal(a) {
		return 0, nil
	}
	since, lost := s.Presence.Lost(a.Name)
	if !lost {
		return 0, nil
	}
	grace := s.Home.Config.Call.Grace.Duration
	if left = since.Add(grace).Sub(s.Now()); left > 0 {
		return left, nil
	}
	m, _ := state.Member(a)
	_, err = s.Router.Say(a, &envelope.Envelope{
		ID: envelope.NamedID("vanished", r.ID, a.Key(), strconv.FormatInt(m.Joined, 10)), Type: envelope.Leave, From: a,
		Conversation: state.ID, Reason: fmt.Sprintf("its stream was lost for %s", grace), Auto: true,
	})
	return 0, err // the leave is looked at next
}

// end notes that a call is over.
func (s *Switchboard) end(e *entry, state conv.State) error {
	r := e.request
	r.Over = true
	if err := s.save(e, r); err != nil {
		return err
	}
	s.mark(state)
	return s.settle(e)
}

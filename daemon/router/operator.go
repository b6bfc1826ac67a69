package router

import (
	"errors"
	"fmt"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/standing"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Heed makes the router refuse what agents may not do by their standings, before anything
// is accepted. Without that they may do all.
func (r *Router) Heed(standings *standing.Book) { r.standings = standings }

// Standing is what an agent of this host or of a linked one may do here.
func (r *Router) Standing(a envelope.Address) standing.Standing {
	id, ok := r.HostID(a.Host)
	if r.standings == nil || !ok {
		return standing.Standing{}
	}
	return r.standings.Of(id, a.Name)
}

// May refuses what an agent's standing does not let it say: with the code api.Muted or
// api.Blocked, whichever door it comes through.
func (r *Router) May(agent envelope.Address, e *envelope.Envelope) error {
	s := r.Standing(agent)
	if !s.Silent() || quiet(e) && (s.Word == standing.Muted || !comes(e)) {
		return nil
	}
	return notSaid(s, agent)
}

// Present refuses an agent that is blocked.
func (r *Router) Present(agent envelope.Address) error {
	if s := r.Standing(agent); s.Word == standing.Blocked {
		return notSaid(s, agent)
	}
	return nil
}

// quiet reports whether an envelope comes, goes or answers a call without a word for
// others.
func quiet(e *envelope.Envelope) bool {
	bare := envelope.Envelope{
		ID: e.ID, Type: e.Type, From: e.From, Conversation: e.Conversation, After: e.After, Hosts: e.Hosts,
		Auto: e.Auto, Hops: e.Hops, Signature: e.Signature,
	}
	switch e.Type {
	case envelope.Join, envelope.Leave:
	case envelope.Accept, envelope.Reject, envelope.Cancel:
		bare.Request, bare.Busy = e.Request, e.Busy
	case envelope.Status:
		bare.Status = e.Status
	default:
		return false
	}
	return string(bare.Append(nil)) == string(e.Append(nil))
}

// comes reports whether an envelope brings its sender in where others are.
func comes(e *envelope.Envelope) bool { return e.Type == envelope.Join || e.Type == envelope.Accept }

// notSaid tells an agent what its standing is, from when to when, and why.
func notSaid(s standing.Standing, agent envelope.Address) *api.Error {
	if s.Word == standing.Blocked {
		return api.Errorf(api.Blocked, "%s is blocked here%s: it takes part in nothing", agent.Name, terms(s)).WithNext("duo read")
	}
	return api.Errorf(api.Muted, "%s is muted here%s: it can read, come and go, and say nothing", agent.Name, terms(s)).WithNext("duo read")
}

// terms says who has given a standing, until when it holds, and why.
func terms(s standing.Standing) string {
	text := " by " + s.By.String()
	if s.Until > 0 {
		text += " until " + time.UnixMilli(s.Until).UTC().Format("2006-01-02 15:04 UTC")
	}
	if s.Reason != "" {
		text += fmt.Sprintf(" (%q)", s.Reason)
	}
	return text
}

// together refuses that an agent calls, writes to or invites another one, where one of
// them is blocked, or the first one is not to be heard.
func (r *Router) together(from, to envelope.Address) error {
	if s := r.Standing(from); s.Silent() {
		return notSaid(s, from)
	}
	if s := r.Standing(to); s.Word == standing.Blocked {
		return api.Errorf(api.Blocked, "%s is blocked here%s: nobody calls, writes to or invites it", to.Name, terms(s)).WithNext("duo who")
	}
	return nil
}

// enterAsOperator brings the operator in before it says something where it is not in, so
// that everybody sees who has come. It does not where what it says is refused anyway.
func (r *Router) enterAsOperator(actor Actor, state conv.State, e *envelope.Envelope) error {
	if !actor.operator || state.Has(actor.Agent) || r.far(state) {
		return nil
	}
	join := &envelope.Envelope{
		ID: envelope.NamedID("operator", e.ID), Type: envelope.Join, From: actor.Agent, Conversation: state.ID,
		Seq: state.LastSeq + 1, After: envelope.Int(state.LastSeq), Operator: true,
	}
	if err := state.Apply(join).Check(e, conv.Limits{}); err != nil {
		return err
	}
	join.Seq = 0
	_, err := r.append(actor, join)
	if refusal := new(conv.Refusal); errors.As(err, &refusal) && refusal.Kind == conv.AlreadyIn { // just now
		return nil
	}
	return err
}

// elsewhere explains a refusal to the operator, whose right ends at this host.
func elsewhere(err error, state conv.State) error {
	refusal := new(conv.Refusal)
	if !errors.As(err, &refusal) {
		return err
	}
	switch refusal.Kind {
	case conv.NotParticipant, conv.NotOpen, conv.NotCreator:
		return &conv.Refusal{
			Kind: refusal.Kind, Join: refusal.Join,
			Text: fmt.Sprintf("%s; it is ordered by %s, whose operator alone may do that uninvited", refusal.Text, state.Creator.Host),
		}
	}
	return err
}

// Steer writes down, by right of the operator, that an agent has been given a standing. The
// same again changes nothing.
func (r *Router) Steer(s standing.Standing, conversation string) error {
	_, err := r.append(Actor{Agent: s.By, Made: time.UnixMilli(s.At)}, &envelope.Envelope{
		ID: envelope.NamedID("standing", s.Change, conversation), Type: envelope.System, Event: envelope.EventStanding,
		From: s.By, Conversation: conversation, Participants: []envelope.Address{s.Agent}, Status: s.Word,
		Until: s.Until, Reason: s.Reason, Operator: true,
	})
	return err
}

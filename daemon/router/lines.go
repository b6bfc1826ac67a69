package router

import (
	"context"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/envelope"
)

// What the switchboard needs of the router: to make the conversation of a call, and to
// say what has become of it.

// People resolves names of agents, each once. Who names itself is refused.
func (r *Router) People(names []string, self envelope.Address) ([]envelope.Address, error) {
	return r.people(names, self)
}

// Vet refuses what an agent says too fast, and what says too much, as Accept does. It is
// a sign of life.
func (r *Router) Vet(agent envelope.Address, e *envelope.Envelope) error {
	r.signs.Touch(agent.Name)
	return r.vet(agent, e)
}

// Begin makes a conversation of its first lines, the create event before the others.
// That it exists is no error.
func (r *Router) Begin(ctx context.Context, lines []*envelope.Envelope) (conv.State, error) {
	if err := r.introduce(lines[0], conv.State{}); err != nil {
		return conv.State{}, err
	}
	if _, err := r.ledger.Create(ctx, lines); err != nil {
		return conv.State{}, err
	}
	return r.ledger.State(ctx, lines[0].Conversation)
}

// MakeCurrent makes a conversation the one that an agent means when it names none.
func (r *Router) MakeCurrent(agent envelope.Address, conversation string) {
	r.setCurrent(Actor{Agent: agent}, conversation)
}

// Typing tells the others in a conversation that an agent is about to say something, or
// with off, that it is no more.
func (r *Router) Typing(ctx context.Context, agent envelope.Address, conversation string, off bool) error {
	state, err := r.ledger.State(ctx, conversation)
	if err != nil {
		return Translate(err, r.short(conversation))
	}
	e := &envelope.Envelope{Type: envelope.Message, From: agent}
	if err := r.May(agent, e); err != nil {
		return Translate(err, "")
	}
	if err := state.Check(e, conv.Limits{}); err != nil {
		return Translate(err, r.short(conversation))
	}
	notice := &envelope.Envelope{Type: envelope.Typing, From: agent, Conversation: conversation, Timestamp: r.now().UnixMilli()}
	if off {
		notice.Status = envelope.TypingOff
	}
	r.typing(notice, state.Present())
	return nil
}

// Say stores a line in the name of an agent, whom the rules of conversations bind but
// not its own limits: what it has said with something else, or what duo says for it.
func (r *Router) Say(agent envelope.Address, e *envelope.Envelope) (Outcome, error) {
	return r.append(Actor{Agent: agent}, e)
}

package router

import (
	"context"
	"fmt"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Admit refuses to let an agent call, write to or invite those who do not want that.
// Where it cannot be known what they want, the answer is no.
func (r *Router) Admit(ctx context.Context, from envelope.Address, to ...envelope.Address) error {
	for _, a := range to {
		if err := r.together(from, a); err != nil {
			return err
		}
		ok, err := r.admits(ctx, a, from)
		if err != nil {
			r.logger.Error("contacts are not known", "agent", a.Name, "err", err)
		}
		if !ok {
			return notAccepted(a, from)
		}
	}
	return nil
}

func notAccepted(a, from envelope.Address) error {
	return api.Errorf(api.NotAccepted, "%s does not accept this from %s", a.Name, from.Name).WithNext("duo who")
}

func (r *Router) admits(ctx context.Context, agent, from envelope.Address) (bool, error) {
	if agent.Host != r.home.Host.Name { // which asks its own files
		return true, nil
	}
	c, ok := r.roster.Get(agent.Name)
	if !ok {
		return false, fmt.Errorf("agent %q has no card", agent.Name)
	}
	contacts, err := card.ReadContacts(r.home.AgentDir(agent.Name))
	switch {
	case err != nil:
		return false, err
	case contacts.Blocks(from):
		return false, nil
	case contacts.Allows(from) || c.Accepts == "" || c.Accepts == card.Anyone:
		return true, nil
	case c.Accepts == card.Known:
		return r.hasWritten(ctx, agent, from)
	}
	return false, nil
}

// hasWritten reports whether an agent has said something where the other one is or was.
func (r *Router) hasWritten(ctx context.Context, agent, to envelope.Address) (bool, error) {
	ids, err := mailbox.At(r.home.AgentDir(agent.Name)).Conversations()
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		state, err := r.ledger.State(ctx, id)
		if err != nil {
			continue // a log that cannot be read proves nothing
		}
		member, _ := state.Member(agent)
		if _, shared := state.Member(to); shared && member.Spoke {
			return true, nil
		}
	}
	return false, nil
}

// notBlocked refuses a message in a conversation of two to somebody who has blocked the
// sender since. Among several a block is no reason: others are listening.
func (r *Router) notBlocked(state conv.State, from envelope.Address) error {
	parties := state.Parties()
	if len(parties) != 2 {
		return nil
	}
	for _, a := range parties {
		if a.Same(from) || a.Host != r.home.Host.Name {
			continue
		}
		contacts, err := card.ReadContacts(r.home.AgentDir(a.Name))
		if err != nil {
			r.logger.Error("contacts are not known", "agent", a.Name, "err", err)
		}
		if err != nil || contacts.Blocks(from) {
			return notAccepted(a, from)
		}
	}
	return nil
}

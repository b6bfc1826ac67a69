package httpd

import (
	"context"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/daemon/standing"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
)

type standingInput struct {
	withBody
	Name string `path:"name" doc:"a name or an address"`
}

// setStanding is for the operator.
func (s *Server) setStanding(ctx context.Context, _ caller, in standingInput) (api.Agent, error) {
	ask, err := decode[api.Standing](in.RawBody)
	if err != nil {
		return api.Agent{}, err
	}
	agent, err := s.Operator.Give(ctx, in.Name, ask)
	if err != nil {
		return api.Agent{}, err
	}
	s.showOut() // who is blocked has no stream
	return s.standingOf(agent), nil
}

func (s *Server) standings(context.Context, caller, none) (api.Agents, error) {
	list := api.Agents{Agents: []api.Agent{}}
	for _, given := range s.Operator.Book.All() {
		a := s.standingOf(given.Agent)
		if id, ok := s.Router.HostID(given.Agent.Host); !ok || id != given.Host { // of a host that is linked no more
			a = show.Standing(unlinked(given.Agent), given)
		}
		list.Agents = append(list.Agents, a)
	}
	return list, nil
}

// standingOf describes an agent that has, or had, a standing.
func (s *Server) standingOf(agent envelope.Address) api.Agent {
	a, err := s.Desk.AgentAt(agent)
	if err != nil {
		return unlinked(agent)
	}
	return a
}

// unlinked is an agent of a host that is linked with this one no more.
func unlinked(a envelope.Address) api.Agent {
	return api.Agent{Name: a.Name, Address: a.String(), Host: a.Host, Link: api.LinkDown, Capabilities: []string{}, Status: card.Offline, Standing: standing.None}
}

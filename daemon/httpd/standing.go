package httpd

import (
	"context"

	"github.com/claude-duo/duo/daemon/api"
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
	return s.Desk.AgentAt(agent)
}

func (s *Server) standings(context.Context, caller, none) (api.Agents, error) {
	list := api.Agents{Agents: []api.Agent{}}
	for _, given := range s.Operator.Book.All() {
		a, err := s.Desk.AgentAt(given.Agent)
		if id, ok := s.Router.HostID(given.Agent.Host); err != nil || !ok || id != given.Host { // of a host that is linked no more
			a = api.Agent{Name: given.Agent.Name, Address: given.Agent.String(), Host: given.Agent.Host, Capabilities: []string{}, Standing: given.Word}
			a.Terms = &api.Terms{Reason: given.Reason, Until: given.Until, By: given.By.String(), At: given.At}
		}
		list.Agents = append(list.Agents, a)
	}
	return list, nil
}

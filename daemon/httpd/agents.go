package httpd

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/auth"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) agentRoutes(door huma.API) {
	const group = "agents"
	serve(s, door, route{api.RouteRegister, writing, group, "register", "Register an agent, or change its card", api.Register{}}, s.register)
	serve(s, door, route{api.RouteAgents, reading, group, "listAgents", "Find agents", nil}, s.agents)
	serve(s, door, route{api.RouteAgent, reading, group, "getAgent", "Describe an agent", nil}, s.agent)
	serve(s, door, route{api.RouteUnregister, writing, group, "unregister", "Take an agent's name out of the lists", nil}, s.unregister)
	serve(s, door, route{api.RouteStandings, reading, group, "listStandings", "List the agents that may not do all", nil}, s.standings)
	serve(s, door, route{api.RouteSetStanding, steering, group, "setStanding", "Mute an agent, block it, or let it do all again", api.Standing{}}, s.setStanding)
	serve(s, door, route{api.RouteMe, speaking, group, "getMe", "Describe the agent that asks", nil}, s.me)
	serve(s, door, route{api.RoutePresence, speaking, group, "getPresence", "Tell whether the agent counts as there", nil}, s.presence)
	serve(s, door, route{api.RouteSetPresence, speaking, group, "setPresence", "Say whether the agent is busy", api.Presence{}}, s.setPresence)
	serve(s, door, route{api.RouteContacts, speaking, group, "getContacts", "List whom the agent blocks and lets in", nil}, s.contacts)
	serve(s, door, route{api.RouteSetContact, speaking, group, "setContact", "Block an agent, or let it in", api.Contact{}}, s.setContact)
	serve(s, door, route{api.RouteTokens, ruling, group, "listTokens", "List the tokens, without their secrets", nil}, s.tokens)
	serve(s, door, route{api.RouteNewToken, ruling, group, "createToken", "Make a token for an agent or an observer", api.NewToken{}}, s.newToken)
	serve(s, door, route{api.RouteRevokeToken, ruling, group, "revokeToken", "Make a token worth nothing", nil}, s.revokeToken)
}

func (s *Server) register(_ context.Context, who caller, in withBody) (api.Registered, error) {
	ask, err := decode[api.Register](in.RawBody)
	if err == nil {
		err = onlyItself(who, ask.Name)
	}
	if err == nil {
		err = s.mayDescribe(ask)
	}
	if err != nil {
		return api.Registered{}, err
	}
	c, created, err := s.Roster.Register(ask)
	if err != nil {
		return api.Registered{}, err
	}
	s.Presence.Touch(c.Name)
	if _, err := s.Auth.Own(c.Name); err != nil {
		s.Logger.Warn("agent has no token", "agent", c.Name, "err", err) // it can ask for one later
	}
	return api.Registered{Agent: s.Desk.Agent(c), Created: created}, nil
}

// mayDescribe refuses new words on a card, which everybody reads, to an agent that is to
// say nothing.
func (s *Server) mayDescribe(ask api.Register) error {
	c, ok := s.Roster.Get(ask.Name)
	differs := ask.Description != nil && *ask.Description != c.Description || ask.Platform != nil && *ask.Platform != c.Platform ||
		ask.Capabilities != nil && !slices.Equal(*ask.Capabilities, c.Capabilities)
	if !ok || !differs {
		return nil
	}
	return s.Router.May(s.Home.Address(c.Name), &envelope.Envelope{Type: envelope.Message})
}

// onlyItself refuses a caller who speaks for one agent to change another one.
func onlyItself(who caller, name string) error {
	if who.own && !strings.EqualFold(name, who.agent) {
		return api.Errorf(api.NotAllowed, "the token is of agent %q, and changes no other", who.agent)
	}
	return nil
}

type agentsInput struct {
	Paged
	Text         string   `query:"q" doc:"words that all stand in the card"`
	Capabilities []string `query:"capability,explode" doc:"that the agent all has"`
	Status       string   `query:"status" doc:"available, ringing, in-call, busy or offline"`
	Host         string   `query:"host" doc:"whose agents; of this host and all linked ones where it is absent"`
}

// Paged says which part of a list is wanted. It is exported, as what huma looks into has to be.
type Paged struct {
	Limit  int    `query:"limit" minimum:"0" doc:"at most so many: 20 where it is absent or 0, and at most 500"`
	Cursor string `query:"cursor" doc:"the next of the answer before"`
}

func (s *Server) agents(ctx context.Context, _ caller, in agentsInput) (api.Agents, error) {
	cursor, err := api.ParseCursor(in.Cursor)
	if err != nil {
		return api.Agents{}, err
	}
	return s.Desk.Agents(ctx, api.AgentQuery{
		Text: in.Text, Capabilities: in.Capabilities, Status: in.Status, Host: in.Host, Limit: in.Limit, Cursor: cursor,
	})
}

type nameInput struct {
	Name string `path:"name" doc:"a name or an address"`
}

func (s *Server) agent(ctx context.Context, who caller, in nameInput) (api.Agent, error) {
	found, err := s.Roster.Resolve(in.Name)
	if err != nil {
		return api.Agent{}, err
	}
	s.Desk.Settle(ctx)
	a, err := s.Desk.Who(found)
	if isOwn := onlyItself(who, found.Address.Name) == nil; err == nil && isOwn && found.Address.Host == s.Home.Host.Name {
		a.Waits = s.Desk.Waits(ctx, found.Address.Name) // which tells of conversations that may be none of others' business
	}
	return a, err
}

func (s *Server) unregister(_ context.Context, who caller, in nameInput) (api.Agent, error) {
	c, err := s.Roster.Local(in.Name)
	if err == nil {
		err = onlyItself(who, c.Name)
	}
	if err != nil {
		return api.Agent{}, err
	}
	if c, err = s.Roster.Unregister(in.Name); err != nil {
		return api.Agent{}, err
	}
	return s.Desk.Agent(c), nil
}

func (s *Server) me(ctx context.Context, who caller, _ none) (api.Agent, error) {
	c, err := s.Roster.Local(who.agent)
	if err != nil {
		return api.Agent{}, err
	}
	s.Desk.Settle(ctx)
	a := s.Desk.Agent(c)
	a.Waits = s.Desk.Waits(ctx, c.Name)
	return a, nil
}

func (s *Server) presence(_ context.Context, who caller, _ none) (api.Presence, error) {
	p := s.Presence.Of(who.agent)
	return api.Presence{
		Agent: s.Home.Address(who.agent).String(), Status: string(p.State), Note: p.Note, Since: p.Since, LastSeen: p.LastSeen,
	}, nil
}

func (s *Server) setPresence(ctx context.Context, who caller, in withBody) (api.Presence, error) {
	ask, err := decode[api.Presence](in.RawBody)
	if err != nil {
		return api.Presence{}, err
	}
	if err := s.sayPresence(ctx, who, ask.Status, ask.Note); err != nil {
		return api.Presence{}, err
	}
	return s.presence(ctx, who, none{})
}

func (s *Server) sayPresence(ctx context.Context, who caller, status, note string) error {
	_, err := s.Router.Accept(ctx, s.actor(who), &envelope.Envelope{Type: envelope.Status, Status: status, Content: note})
	return err
}

func (s *Server) actor(who caller) router.Actor {
	return router.Actor{Agent: s.Home.Address(who.agent)}
}

func (s *Server) contacts(_ context.Context, who caller, _ none) (api.Contacts, error) {
	c, err := card.ReadContacts(s.Home.AgentDir(who.agent))
	return contactsOf(c), err
}

func contactsOf(c card.Contacts) api.Contacts {
	return api.Contacts{Block: append([]string{}, c.Block...), Allow: append([]string{}, c.Allow...)}
}

func (s *Server) setContact(_ context.Context, who caller, in withBody) (api.Contacts, error) {
	ask, err := decode[api.Contact](in.RawBody)
	if err != nil {
		return api.Contacts{}, err
	}
	c, err := s.Roster.SetContact(who.agent, ask.Agent, ask.List)
	return contactsOf(c), err
}

func (s *Server) tokens(context.Context, caller, none) (api.Tokens, error) {
	var names []string
	for _, c := range s.Roster.All() {
		names = append(names, c.Name)
	}
	out := api.Tokens{Tokens: []api.Token{}}
	for _, t := range s.Auth.List(names) {
		out.Tokens = append(out.Tokens, describeToken(t, ""))
	}
	return out, nil
}

func describeToken(t auth.Token, text string) api.Token {
	return api.Token{
		ID: t.ID, Agent: t.Agent, Label: t.Label, Role: string(t.Role), CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt, Text: text,
	}
}

func (s *Server) newToken(_ context.Context, _ caller, in withBody) (api.Token, error) {
	ask, err := decode[api.NewToken](in.RawBody)
	if err != nil {
		return api.Token{}, err
	}
	if ask.Agent != "" {
		c, err := s.Roster.Local(ask.Agent)
		if err != nil {
			return api.Token{}, err
		}
		if c.Human {
			return api.Token{}, api.Errorf(api.NotAllowed, "%s is no program: who has a token of it would be taken for a person", c.Name).WithNext("duo open --operator")
		}
		ask.Agent = c.Name
	}
	text, t, err := s.Auth.Create(ask.Agent, ask.Label)
	if errors.Is(err, auth.ErrRefused) {
		return api.Token{}, api.Errorf(api.BadRequest, "%w", err)
	}
	if err != nil {
		return api.Token{}, err
	}
	return describeToken(t, text), nil
}

type idInput struct {
	ID string `path:"id" doc:"of a token; of an agent's own one the name of the agent"`
}

func (s *Server) revokeToken(_ context.Context, _ caller, in idInput) (none, error) {
	err := s.Auth.Revoke(in.ID)
	s.showOut()
	if errors.Is(err, auth.ErrNotFound) {
		err = api.Errorf(api.TokenNotFound, "no token %q here", in.ID).WithNext("duo token list")
	}
	return none{}, err
}

func (s *Server) current(_ context.Context, who caller, _ none) (api.Current, error) {
	id, err := mailbox.At(s.Home.AgentDir(who.agent)).Current()
	return api.Current{Conversation: id}, err
}

func (s *Server) setCurrent(ctx context.Context, who caller, in withBody) (api.Current, error) {
	ask, err := decode[api.Current](in.RawBody)
	if err != nil {
		return api.Current{}, err
	}
	id, err := s.conversationOf(ctx, who, ask.Conversation)
	if err != nil {
		return api.Current{}, err
	}
	return api.Current{Conversation: id}, mailbox.At(s.Home.AgentDir(who.agent)).SetCurrent(id)
}

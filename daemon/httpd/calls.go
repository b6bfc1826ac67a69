package httpd

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/desk"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) callRoutes(door huma.API) {
	const group = "calls"
	draft := envelope.Envelope{}
	serve(s, door, route{api.RouteRequests, reading, group, "listRequests", "List the agent's calls of which something can still come; where the request speaks for no agent, those of all, and those that ended in the last minute; or all of one agent", nil}, s.requests)
	serve(s, door, route{api.RouteRequest, reading, group, "getRequest", "Tell how far a call is", nil}, s.oneRequest)
	serve(s, door, route{api.RouteCall, speaking, group, "call", "Ask agents to talk now", draft}, say[Drafted](s, func(draft *envelope.Envelope, _ string) { draft.Type = envelope.Call }, s.signal))
	serve(s, door, route{api.RouteAccept, speaking, group, "acceptCall", "Accept a call", draft}, s.answerCall(envelope.Accept))
	serve(s, door, route{api.RouteReject, speaking, group, "rejectCall", "Reject a call", draft}, s.answerCall(envelope.Reject))
	serve(s, door, route{api.RouteCancel, speaking, group, "cancelCall", "Withdraw a call", draft}, s.answerCall(envelope.Cancel))
	serve(s, door, route{api.RouteMatch, speaking, group, "match", "Find the best agent for something, and call it", api.Match{}}, s.match)
}

type requestsInput struct {
	With  string `query:"with" doc:"a name or an address: all calls of this agent, those that are over too, the last one first"`
	Limit int    `query:"limit" minimum:"0" doc:"with with, at most so many: 20 where it is absent or 0, and at most 500"`
}

func (s *Server) requests(ctx context.Context, who caller, in requestsInput) (api.Requests, error) {
	switch {
	case in.With != "":
		return s.requestsWith(ctx, who, in)
	case who.agent != "":
		return s.listed(s.Switchboard.List(s.Home.Address(who.agent))), nil
	}
	return s.listed(s.Switchboard.All()), nil
}

// requestsWith lists the calls of one agent.
func (s *Server) requestsWith(ctx context.Context, who caller, in requestsInput) (api.Requests, error) {
	found, err := s.Roster.Resolve(in.With)
	if err == nil && who.own && !found.Address.Same(s.Home.Address(who.agent)) {
		err = api.Errorf(api.NotAllowed, "the token is of agent %q, and lists the calls of no other", who.agent)
	}
	if err != nil {
		return api.Requests{}, err
	}
	most := desk.Limit(in.Limit)
	list := s.Switchboard.List(found.Address) // first: what ends meanwhile is among the others
	past, more := s.Switchboard.Past(ctx, found.Address, most)
	list = append(list, past...)
	slices.SortFunc(list, func(a, b call.Request) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(b.ID, a.ID))
	})
	list = slices.CompactFunc(list, func(a, b call.Request) bool { return a.ID == b.ID })
	out := s.listed(list[:min(len(list), most)])
	out.More = more + len(list) - len(out.Requests)
	return out, nil
}

func (s *Server) listed(list []call.Request) api.Requests {
	out := api.Requests{Requests: []api.Request{}}
	for _, c := range list {
		out.Requests = append(out.Requests, s.request(c))
	}
	return out
}

func (s *Server) request(r call.Request) api.Request {
	return show.Request(r, s.Switchboard.Refs(), s.Ledger.Refs())
}

func (s *Server) oneRequest(_ context.Context, who caller, in Referred) (api.Request, error) {
	return s.requestOf(who, in.Ref)
}

// requestOf finds a call that the caller may know of.
func (s *Server) requestOf(who caller, ref string) (api.Request, error) {
	id, err := s.Switchboard.Resolve(ref)
	if err != nil {
		return api.Request{}, err
	}
	found, err := s.Switchboard.Get(id)
	if err != nil {
		return api.Request{}, err
	}
	me := s.Home.Address(who.agent)
	if _, asked := found.Callee(me); who.own && !asked && !found.From.Same(me) {
		return api.Request{}, api.Errorf(api.RequestNotFound, "no call %q of %s", ref, who.agent).WithNext("duo inbox")
	}
	return s.request(found), nil
}

// theOnly stands for the only call that can be answered so.
const theOnly = "-"

// answerCall says something of the call in the path.
func (s *Server) answerCall(kind envelope.Type) func(context.Context, caller, draftInRef) (api.Called, error) {
	return say[draftInRef](s, func(draft *envelope.Envelope, ref string) {
		draft.Type, draft.Request = kind, ref
		if ref == theOnly {
			draft.Request = ""
		}
	}, s.signal)
}

func (s *Server) signal(ctx context.Context, who caller, draft *envelope.Envelope) (api.Called, error) {
	out, err := s.Router.Accept(ctx, s.actor(who), draft)
	if err != nil {
		return api.Called{}, err
	}
	return s.called(ctx, who, s.arrived(ctx, who, out)), nil
}

// soon is how long the answer to an accept waits for a conversation that comes from
// another host.
const soon = 2 * time.Second

// arrived waits a little for the conversation of a call that was accepted and is another
// host's.
func (s *Server) arrived(ctx context.Context, who caller, out router.Outcome) router.Outcome {
	if out.State.ID != "" || out.Request.Far == nil || out.Request.State() != call.Accepted {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	if r, state, err := s.Switchboard.Await(ctx, out.Request.ID, s.Home.Address(who.agent)); err == nil {
		out.Request, out.State = &r, state
	}
	return out
}

func (s *Server) called(ctx context.Context, who caller, out router.Outcome) api.Called {
	answer := api.Called{Request: s.request(*out.Request), Duplicate: out.Duplicate}
	if out.State.ID != "" {
		c := s.Desk.Summary(who.agent, out.State)
		answer.Conversation = &c
		if out.Envelope.Seq > 0 {
			m := s.stored(ctx, out)
			answer.Message = &m
		}
	}
	return answer
}

// match calls the best agent for something.
func (s *Server) match(ctx context.Context, who caller, in withBody) (api.Matched, error) {
	ask, err := decode[api.Match](in.RawBody)
	if err != nil {
		return api.Matched{}, err
	}
	if len(ask.Capabilities) == 0 && ask.Text == "" && ask.Topic == "" {
		return api.Matched{}, api.Errorf(api.BadRequest, "say what the agent has to be able to do: \"capabilities\", \"text\" or \"topic\"")
	}
	out := api.Matched{Candidates: s.Desk.Best(ctx, who.agent, ask)}
	if len(out.Candidates) == 0 {
		return out, api.Errorf(api.NobodyAvailable, "nobody here fits").WithNext("duo who")
	}
	if ask.DryRun {
		return out, nil
	}
	best := make([]string, len(out.Candidates))
	for i, a := range out.Candidates {
		best[i] = a.Address
	}
	draft := &envelope.Envelope{
		ID: cmp.Or(ask.ID, envelope.NewID()), Type: envelope.Call, Topic: ask.Topic, Mode: ask.Mode, TurnLimit: ask.TurnLimit,
		Content: ask.Content, Data: ask.Data,
	}
	m := call.Match{Capabilities: ask.Capabilities, Text: ask.Text}
	placed, err := s.Switchboard.Match(ctx, s.Home.Address(who.agent), draft, m, best)
	if err != nil {
		return out, err
	}
	request := s.request(*placed.Request)
	out.Request = &request
	return out, nil
}

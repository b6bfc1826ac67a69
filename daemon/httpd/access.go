package httpd

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/auth"
	"github.com/gorilla/websocket"
)

// caller is on whose behalf a request comes.
type caller struct {
	agent    string // that it speaks for, empty for none
	own      bool   // it may only do what concerns its agent: it came with the agent's token
	watch    bool   // it may change nothing: it came with an observer's token
	operator bool   // it is the page of the one whom the host belongs to, who speaks as api.Human
	token    string // it came with; empty for the user of the home
}

// right is what a route asks of its caller.
type right int

const (
	anyone   right = iota // without a token
	reading               // what a token of any kind lets one do
	writing               // no observer's
	speaking              // for an agent
	steering              // agents, as the one does whom the host belongs to, there or on the page
	ruling                // over the host, as its user does on the local socket
)

const bearer = "Bearer "

// admit says on whose behalf a request comes, and refuses it where that one may not do
// what it asks for. On the local socket it is the user of the home, who may do
// everything, or with a token the bearer of the token. Elsewhere there has to be one.
func (s *Server) admit(r *http.Request, need right) (caller, error) {
	if need == anyone {
		return caller{}, nil
	}
	who, err := s.identify(r)
	if err != nil {
		return caller{}, err
	}
	switch {
	case who.watch && need == speaking:
		return caller{}, api.Errorf(api.ReadOnly, "the token is an observer's, which speaks for nobody")
	case who.watch && need != reading:
		return caller{}, api.Errorf(api.ReadOnly, "the token is an observer's, which changes nothing")
	case who.operator && need == writing:
		return caller{}, api.Errorf(api.NotAllowed, "the page registers and unregisters nobody").WithNext("duo register NAME")
	case who.token != "" && (need == ruling || need == steering && !who.operator):
		return caller{}, api.Errorf(api.NotAllowed, "only the user of the host may do that, on its own socket")
	case need == speaking && who.agent == "":
		return caller{}, api.Errorf(api.IdentityRequired, "header %s says for which agent the request speaks", api.AgentHeader).WithNext("duo register NAME")
	}
	return who, nil
}

func (s *Server) identify(r *http.Request) (caller, error) {
	var who caller
	token := tokenOf(r)
	switch {
	case token != "":
		grant, err := s.Auth.Check(token)
		if err != nil {
			return who, api.Errorf(api.Unauthorized, "the token is wrong, was revoked or has expired").WithNext("duo token list")
		}
		operator := grant.Role == auth.Operator
		who = caller{agent: grant.Agent, own: grant.Agent != "", watch: grant.Agent == "" && !operator, operator: operator, token: token}
	case !isLocal(r.Context()):
		return who, api.Errorf(api.Unauthorized, "want the header Authorization: Bearer TOKEN: an agent's token is in its folder, the user of the host makes others").
			WithNext("duo token create")
	}
	if err := s.speakAs(&who, r.Header.Get(api.AgentHeader)); err != nil || who.agent == "" {
		return who, err
	}
	if err := s.meetHuman(who); err != nil {
		return who, err
	}
	c, ok := s.Roster.Get(who.agent)
	if !ok || c.Unregistered {
		return who, api.Errorf(api.IdentityUnknown, "no agent named %q is registered here", who.agent).WithNext("duo register %s", who.agent)
	}
	who.agent = c.Name
	if err := s.notBlocked(who); err != nil {
		return who, err
	}
	s.Presence.Touch(c.Name)
	return who, nil
}

// speakAs makes the caller speak for the agent that the header names, where it may.
func (s *Server) speakAs(who *caller, named string) error {
	switch {
	case named == "":
	case who.watch:
		return api.Errorf(api.ReadOnly, "the token is an observer's, which speaks for nobody")
	case who.own && !strings.EqualFold(named, who.agent):
		return api.Errorf(api.NotAllowed, "the token is of agent %q, and does not speak for %q", who.agent, named)
	case who.operator && !strings.EqualFold(named, api.Human) && !strings.EqualFold(named, s.Home.Config.Operator.Name):
		return api.Errorf(api.NotAllowed, "the page speaks as %q alone, and not for %q", s.Home.Config.Operator.Name, named)
	case who.operator:
		who.agent = s.Home.Config.Operator.Name
	default:
		who.agent = named
	}
	return nil
}

// The WebSocket of a browser takes no headers, but a list of protocols: the stream's own,
// and one that is the token.
const (
	streamProtocol = "duo"
	tokenProtocol  = "bearer."
)

// tokenOf is the token that a request comes with, empty for none.
func tokenOf(r *http.Request) string {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), bearer); ok {
		return cmp.Or(strings.TrimSpace(token), "-") // to say nothing is to have a wrong one
	}
	for _, protocol := range websocket.Subprotocols(r) {
		if token, ok := strings.CutPrefix(protocol, tokenProtocol); ok {
			return cmp.Or(token, "-")
		}
	}
	return ""
}

// meetHuman makes the agent of the person who runs the host where it is spoken for and is
// not there yet. No token of an agent speaks for it.
func (s *Server) meetHuman(who caller) error {
	if !strings.EqualFold(who.agent, s.Home.Config.Operator.Name) {
		return nil
	}
	c, ok := s.Roster.Get(who.agent)
	switch {
	case ok && !c.Human && !who.operator:
		return nil // an agent like others has the name, and no person speaks as it
	case who.own:
		return api.Errorf(api.NotAllowed, "%s is no program, and no token of an agent speaks for it", who.agent)
	case ok && c.Human && !c.Unregistered:
		return nil
	}
	_, err := s.Roster.Human()
	return err
}

// notBlocked refuses who comes with a token for an agent that is blocked. The user of the
// home reads what agents have, whatever they may do.
func (s *Server) notBlocked(who caller) error {
	if who.token == "" {
		return nil
	}
	return s.Router.Present(s.Home.Address(who.agent))
}

// mayRead refuses a conversation that does not concern the agent of a caller who sees
// only what does: it was never in it, and the conversation is not open.
func (s *Server) mayRead(ctx context.Context, who caller, conversation string) error {
	if !who.own {
		return nil
	}
	state, err := s.Ledger.State(ctx, conversation)
	if _, in := state.Member(s.Home.Address(who.agent)); err != nil || in || state.Open {
		return err
	}
	return api.Errorf(api.NotParticipant, "%s is not in conversation %s, which is not open", who.agent, s.Ledger.Refs().Short(state.ID)).
		WithNext("duo list")
}

// conversationOf resolves a reference to a conversation that the caller may read.
func (s *Server) conversationOf(ctx context.Context, who caller, ref string) (string, error) {
	id, err := s.Router.Conversation(ref)
	if err == nil {
		err = s.mayRead(ctx, who, id)
	}
	return id, err
}

// fromHere refuses a request that a web page of another site has made a browser send:
// with the name of another host, behind which a page can put our address, or from
// another origin. Programs send no Origin.
func fromHere(r *http.Request) error {
	origin := r.Header.Get("Origin")
	if isLocal(r.Context()) {
		if origin != "" {
			return api.Errorf(api.WrongHost, "no web page opens the local socket: Origin %q", origin)
		}
		return nil
	}
	if !isOurs(r.Host) {
		return api.Errorf(api.WrongHost, "Host %q is not this host: use 127.0.0.1 or localhost", r.Host)
	}
	if origin == "" {
		return nil
	}
	if u, err := url.Parse(origin); err != nil || u.Scheme != "http" || !strings.EqualFold(u.Host, r.Host) {
		return api.Errorf(api.WrongHost, "a page of %q has no business here", origin)
	}
	return nil
}

// isOurs reports whether a Host header can only mean this host: it is an address, or
// the name that every machine has for itself.
func isOurs(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	at, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && at.IsLoopback() || strings.EqualFold(host, "localhost")
}

type localKey struct{}

// isLocal reports whether a request came over the local socket.
func isLocal(ctx context.Context) bool {
	local, _ := ctx.Value(localKey{}).(bool)
	return local
}

// origins notes of each connection where it comes from.
func origins(ctx context.Context, conn net.Conn) context.Context {
	_, local := conn.(*net.UnixConn)
	return context.WithValue(ctx, localKey{}, local)
}

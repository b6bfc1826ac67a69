package httpd

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/auth"
	"github.com/claude-duo/duo/maildir"
	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) sessionRoutes(door huma.API) {
	const group = "page"
	serve(s, door, route{api.RouteNewLogin, ruling, group, "createLogin", "Make a link by which one person signs in on the page", api.NewLogin{}}, s.newLogin)
	serve(s, door, route{api.RouteSignIn, anyone, group, "signIn", "Give the code of a link in exchange for a token", api.SignIn{}}, s.signIn)
	serve(s, door, route{api.RouteSession, reading, group, "getSession", "Tell who asks, and whom", nil}, s.session)
	serve(s, door, route{api.RouteSignOut, reading, group, "signOut", "Make the token that the request comes with worth nothing", nil}, s.signOut)
}

func (s *Server) newLogin(_ context.Context, _ caller, in withBody) (api.Login, error) {
	ask, err := decode[api.NewLogin](in.RawBody)
	if err != nil {
		return api.Login{}, err
	}
	page, err := s.pageAddress()
	if err != nil {
		return api.Login{}, err
	}
	role := auth.Observer
	if ask.Operator {
		role = auth.Operator
	}
	code, ends := s.Auth.NewLogin(role)
	return api.Login{Code: code, URL: page + "/#login=" + code, ExpiresAt: ends.UnixMilli()}, nil
}

// pageAddress is where a browser on this machine finds the page.
func (s *Server) pageAddress() (string, error) {
	address := s.Address()
	switch {
	case s.Home.Config.HTTP.Listen == maildir.Off:
		return "", api.Errorf(api.BadConfig, "the page has no address: http.listen is off").WithNext("duo config set http.listen 127.0.0.1:7600")
	case address == "":
		return "", api.Errorf(api.Busy, "the page has no address: another program listens at %s", s.Home.Config.HTTP.Listen).WithNext("duo config set http.listen 127.0.0.1:0")
	}
	if at, err := netip.ParseAddrPort(address); err == nil && at.Addr().IsUnspecified() {
		_, port, _ := net.SplitHostPort(address)
		address = net.JoinHostPort("127.0.0.1", port)
	}
	return "http://" + address, nil
}

func (s *Server) signIn(_ context.Context, _ caller, in withBody) (api.SignedIn, error) {
	ask, err := decode[api.SignIn](in.RawBody)
	if err != nil {
		return api.SignedIn{}, err
	}
	text, t, err := s.Auth.SignIn(ask.Code)
	switch {
	case errors.Is(err, auth.ErrLoginUsed):
		err = api.Errorf(api.LoginUsed, "somebody has signed in with this link before: each link is good once. Make another one, and if it was not you, revoke what duo token list shows").
			WithNext("duo open")
	case errors.Is(err, auth.ErrGuessing):
		err = api.Errorf(api.RateLimited, "%w", err).WithRetry(time.Minute).WithNext("duo open")
	case errors.Is(err, auth.ErrBadLogin):
		err = api.Errorf(api.Unauthorized, "this login link is wrong, older than five minutes, or from before the daemon was started").WithNext("duo open")
	}
	if err != nil {
		return api.SignedIn{}, err
	}
	s.showOut() // of too many sessions the oldest has ended
	return api.SignedIn{Token: text, Role: string(t.Role), ExpiresAt: t.ExpiresAt}, nil
}

func (s *Server) session(_ context.Context, who caller, _ none) (api.Session, error) {
	status := s.Status()
	out := api.Session{Role: api.RoleOperator, Host: status.Host, HostID: status.HostID, Version: status.Version}
	switch {
	case who.own:
		out.Role, out.Agent = api.RoleAgent, who.agent
	case who.watch:
		out.Role = api.RoleObserver
	default:
		out.Human = s.Home.Address(s.Home.Config.Operator.Name).String()
	}
	return out, nil
}

func (s *Server) signOut(_ context.Context, who caller, _ none) (none, error) {
	grant, err := s.Auth.Check(who.token)
	switch {
	case err != nil || grant.Role == "":
		return none{}, api.Errorf(api.NotAllowed, "only who has signed in on the page can sign out").WithNext("duo token revoke ID")
	default:
		err = s.Auth.Revoke(grant.ID)
	}
	s.showOut()
	return none{}, err
}

package httpd

import (
	"context"
	"sync"

	"github.com/claude-duo/duo/daemon/api"
)

// guests are the streams and waits of callers who came with a token. They end when that is
// revoked.
type guests struct {
	mu   sync.Mutex
	open map[*guest]struct{}
}

type guest struct {
	token string
	end   context.CancelCauseFunc
}

// stay returns a context that ends, with the reason, when the caller's token is not good any
// more. The caller calls leave.
func (s *Server) stay(ctx context.Context, who caller) (staying context.Context, leave func()) {
	if who.token == "" {
		return ctx, func() {}
	}
	ctx, end := context.WithCancelCause(ctx)
	g := &guest{who.token, end}
	s.guests.mu.Lock()
	s.guests.open[g] = struct{}{}
	s.guests.mu.Unlock()
	if err := s.stillMay(who); err != nil { // it was revoked just now
		end(err)
	}
	return ctx, func() {
		s.guests.mu.Lock()
		delete(s.guests.open, g)
		s.guests.mu.Unlock()
		end(nil)
	}
}

// stillMay refuses a caller whose token is not good any more.
func (s *Server) stillMay(who caller) error {
	if who.token == "" {
		return nil
	}
	grant, err := s.Auth.Check(who.token)
	if err != nil {
		return &revokedError{api.Errorf(api.Unauthorized, "the token was revoked").WithNext("duo token list")}
	}
	if grant.Agent == "" {
		return nil
	}
	if err := s.Router.Present(s.Home.Address(grant.Agent)); err != nil {
		return &revokedError{err}
	}
	return nil
}

// showOut ends what goes on for callers whose tokens are not good any more.
func (s *Server) showOut() {
	s.guests.mu.Lock()
	defer s.guests.mu.Unlock()
	for g := range s.guests.open {
		if err := s.stillMay(caller{token: g.token}); err != nil {
			g.end(err)
		}
	}
}

// revokedError tells a caller who was let in that its token is not good any more.
type revokedError struct{ error }

func (e *revokedError) Unwrap() error { return e.error }

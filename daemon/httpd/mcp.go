package httpd

import (
	"net/http"

	"github.com/claude-duo/duo/daemon/api"
)

// mcpPath takes every method, as the protocol wants.
const mcpPath = "/mcp"

// mcp lets models in. Whom a request speaks for stands in its header from here on,
// whatever stood there before.
func (s *Server) mcp(w http.ResponseWriter, r *http.Request) {
	who, err := s.admit(r, reading)
	if err == nil && who.operator {
		err = api.Errorf(api.NotAllowed, "who has signed in on the page is a person, and no model").WithNext("duo token create")
	}
	if err == nil && s.MCP == nil {
		err = api.Errorf(api.RouteNotFound, "there is no route %s %s", r.Method, r.URL.Path)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	r.Header.Del(api.AgentHeader)
	if who.agent != "" {
		r.Header.Set(api.AgentHeader, who.agent)
	}
	ctx, leave := s.stay(r.Context(), who)
	defer leave()
	s.MCP.ServeHTTP(w, r.WithContext(ctx))
}

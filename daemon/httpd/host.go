package httpd

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/docs"
	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) hostRoutes(door huma.API) {
	const group = "host"
	serve(s, door, route{api.RouteStatus, reading, group, "getStatus", "Describe the daemon", nil}, s.status)
	serve(s, door, route{api.RouteStop, ruling, group, "stop", "End the daemon", nil}, s.stop)
}

func (s *Server) status(context.Context, caller, none) (api.Status, error) {
	status := s.Status()
	status.HTTP = s.Address()
	if shut := s.shut.Load(); shut != nil && *shut != nil {
		status.Problems = append(status.Problems, fmt.Sprintf("no page, and nobody with a token is let in: %v", *shut))
	}
	return status, nil
}

func (s *Server) stop(context.Context, caller, none) (none, error) {
	s.Stop()
	return none{}, nil
}

// plain answers what anyone may know.
func plain(kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, text)
	}
}

func (s *Server) publicRoutes(mux *http.ServeMux) {
	const yaml = "application/yaml" // RFC 9512
	mux.HandleFunc(api.RouteHealth, plain("text/plain; charset=utf-8", "ok\n"))
	mux.HandleFunc(api.RouteOpenAPI, plain(yaml, docs.OpenAPI))
	mux.HandleFunc(api.RouteAsyncAPI, plain(yaml, docs.AsyncAPI))
}

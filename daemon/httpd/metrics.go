package httpd

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/router"
)

// Metrics counts requests, and shows what the daemon has counted.
type Metrics interface {
	http.Handler
	Request(door, route, code string)
}

// counted adds the route of the metrics to a mux, and counts what the mux answers. What
// a request says is accepted through the door that it came in by.
func (s *Server) counted(mux *http.ServeMux) http.Handler {
	if s.Metrics == nil {
		return mux
	}
	mux.HandleFunc(api.RouteMetrics, func(w http.ResponseWriter, r *http.Request) {
		_, err := s.admit(r, reading)
		if err == nil {
			err = checkQuery(r)
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.Metrics.ServeHTTP(w, r)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		door := router.Socket
		if !isLocal(r.Context()) {
			door = router.TCP
		}
		r = r.WithContext(router.Through(r.Context(), door))
		out := &answer{ResponseWriter: w, code: http.StatusOK}
		defer func() { s.Metrics.Request(string(door), r.Pattern, strconv.Itoa(out.code)) }()
		mux.ServeHTTP(out, r)
	})
}

// answer notes the status of what is answered, and leaves to the ResponseWriter what
// else that can do.
type answer struct {
	http.ResponseWriter
	code int
}

func (a *answer) WriteHeader(code int) {
	a.code = code
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) ReadFrom(r io.Reader) (int64, error) { return io.Copy(a.ResponseWriter, r) }

func (a *answer) Flush() { _ = a.FlushError() } // one that cannot sends later

func (a *answer) FlushError() error { return http.NewResponseController(a.ResponseWriter).Flush() }

func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a.code = http.StatusSwitchingProtocols
	return http.NewResponseController(a.ResponseWriter).Hijack()
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Package httpd is the door for programs: HTTP and WebSocket on the local socket.
// Who can open the socket is the user that the home belongs to; the header Duo-Agent
// says for which of its agents a request speaks.
package httpd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/desk"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	maxBody       = envelope.MaxLine
	maxHeader     = 64 << 10
	headerTimeout = 10 * time.Second
	maxWait       = 10 * time.Minute
	stopGrace     = 3 * time.Second
)

// Parts are what the door opens to.
type Parts struct {
	Home    *maildir.Home
	Ledger  *ledger.Ledger
	Router  *router.Router
	Deliver *deliver.Deliverer
	Desk    *desk.Desk
	Roster  *roster.Roster
	Logger  *slog.Logger
	Status  func() api.Status
	Stop    func() // asks the daemon to end
}

// Server answers requests for one home.
type Server struct {
	Parts
	http    *http.Server
	ending  context.Context // ends streams and waits
	end     context.CancelFunc
	streams sync.WaitGroup
}

// New returns a server; Serve starts it.
func New(parts Parts) *Server {
	s := &Server{Parts: parts}
	s.ending, s.end = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(parts.Logger.Handler(), slog.LevelDebug),
	}
	return s
}

// Listen opens the socket of the home. A socket that is left of a daemon that died is
// replaced; one that answers is not.
func Listen(home *maildir.Home) (net.Listener, error) {
	path := home.SocketPath()
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close() // it has told us what we wanted to know
		return nil, fmt.Errorf("socket %q: %w", path, maildir.ErrRunning)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	if err := maildir.CheckSafe(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // the path may be another listener's by then
	err = os.Chmod(path, 0o600)
	if err == nil {
		err = home.LinkSocket(path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open socket: %w", err), listener.Close())
	}
	return listener, nil
}

// Serve answers requests until ctx ends, and then lets those that are under way
// finish for a bounded time. A socket file that somebody has deleted is made again.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	defer s.end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	serve := func(l net.Listener) {
		all.Go(func() {
			if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				cancel(fmt.Errorf("serve: %w", err))
			}
		})
	}
	serve(listener)
	s.watchSocket(ctx, serve)
	s.end()
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer stop()
	err := s.http.Shutdown(grace)
	if err != nil {
		err = s.http.Close()
	}
	all.Wait()
	s.streams.Wait()
	_ = os.Remove(s.Home.SocketPath()) // who finds one asks whether it answers
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

const lookForSocket = time.Second

// watchSocket makes the socket again whenever it is missing, until ctx ends.
func (s *Server) watchSocket(ctx context.Context, serve func(net.Listener)) {
	tick := time.NewTicker(lookForSocket)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := os.Lstat(s.Home.SocketPath()); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		listener, err := Listen(s.Home)
		if err != nil {
			s.Logger.Warn("socket is missing", "path", s.Home.SocketPath(), "err", err)
			continue
		}
		s.Logger.Warn("socket was deleted and is made again", "path", s.Home.SocketPath())
		serve(listener)
	}
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(api.RouteHealth, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	for route, h := range map[string]handler{
		api.RouteStatus:        s.status,
		api.RouteStop:          s.stop,
		api.RouteRegister:      s.register,
		api.RouteAgents:        s.agents,
		api.RouteAgent:         s.agent,
		api.RouteUnregister:    s.unregister,
		api.RouteConversation:  s.conversation,
		api.RouteReceipts:      s.receipts,
		api.RouteFind:          s.find,
		api.RouteMe:            s.asAgent(s.me),
		api.RouteInbox:         s.asAgent(s.inbox),
		api.RouteRead:          s.asAgent(s.read),
		api.RouteShown:         s.asAgent(s.shown),
		api.RouteEvents:        s.asAgent(s.events),
		api.RouteGetCurrent:    s.asAgent(s.current),
		api.RouteSetCurrent:    s.asAgent(s.setCurrent),
		api.RouteConversations: s.asAgent(s.conversations),
		api.RouteMessage:       s.asAgent(s.post(envelope.Message, false)),
		api.RouteCreate:        s.asAgent(s.post(envelope.Create, false)),
		api.RouteSend:          s.asAgent(s.post(envelope.Message, true)),
		api.RouteInvite:        s.asAgent(s.participants),
		api.RouteLeave:         s.asAgent(s.post(envelope.Leave, true)),
		api.RouteClose:         s.asAgent(s.post(envelope.Close, true)),
	} {
		mux.Handle(route, s.funnel(h))
	}
	mux.Handle("/", s.funnel(noRoute))
	mux.HandleFunc(api.RouteTranscript, s.transcript)
	mux.HandleFunc(api.RouteStream, s.stream)
	return mux
}

func noRoute(r *request) (any, error) {
	return nil, api.Errorf(api.RouteNotFound, "there is no route %s %s", r.Method, r.URL.Path)
}

// request is one request with what all handlers need of it.
type request struct {
	*http.Request
	agent string // the name of the agent that it speaks for
}

// handler answers a request with something that is sent as JSON, nil for nothing.
type handler func(r *request) (any, error)

// funnel turns a handler's answer or error into HTTP.
func (s *Server) funnel(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		answer, err := h(&request{Request: r})
		switch {
		case err != nil:
			s.fail(w, r, err)
		case answer == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			s.reply(w, http.StatusOK, "application/json", answer)
		}
	})
}

func (s *Server) reply(w http.ResponseWriter, status int, kind string, answer any) {
	data, err := json.Marshal(answer)
	if err != nil {
		s.Logger.Error("answer has no JSON form", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // a client that is gone needs no answer
}

// fail sends an error as a problem of RFC 9457.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := router.Translate(err, "")
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		e = api.Errorf(api.TooLarge, "the request is over the limit of %d bytes", large.Limit)
	}
	if e.Code == api.Internal {
		s.Logger.Error("request failed", "path", r.URL.Path, "err", err)
	}
	s.reply(w, e.Status(), "application/problem+json", e.Problem())
}

// asAgent lets a handler know for which agent the request speaks.
func (s *Server) asAgent(h handler) handler {
	return func(r *request) (any, error) {
		name, err := s.speaker(r.Request)
		if err != nil {
			return nil, err
		}
		r.agent = name
		return h(r)
	}
}

func (s *Server) speaker(r *http.Request) (string, error) {
	name := r.Header.Get(api.AgentHeader)
	if name == "" {
		return "", api.Errorf(api.IdentityRequired, "header %s says for which agent the request speaks", api.AgentHeader).WithNext("duo register NAME")
	}
	c, ok := s.Roster.Get(name)
	if !ok || c.Unregistered {
		return "", api.Errorf(api.IdentityUnknown, "no agent named %q is registered here", name).WithNext("duo register %s", name)
	}
	return c.Name, nil
}

// optionalSpeaker is speaker where a request may speak for nobody.
func (s *Server) optionalSpeaker(r *http.Request) string {
	name, err := s.speaker(r)
	if err != nil {
		return ""
	}
	return name
}

// waiting returns a context that ends with the request, the daemon, or the time that
// the query's wait gives.
func (s *Server) waiting(r *http.Request) (context.Context, context.CancelFunc, error) {
	wait := time.Duration(0)
	if text := r.URL.Query().Get("wait"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 {
			return nil, nil, api.Errorf(api.BadRequest, "wait: want a duration like 30s, got %q", text)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(wait, maxWait))
	stop := context.AfterFunc(s.ending, cancel)
	return ctx, func() { stop(); cancel() }, nil
}

// number reads an integer of the query, 0 where it is absent.
func number(r *http.Request, name string) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, api.Errorf(api.BadRequest, "%s: want a number, got %q", name, text)
	}
	return n, nil
}

// body reads the request's body as a JSON value of a type. An empty body is the zero
// value.
func body[T any](r *request) (value T, err error) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return value, err
	}
	if len(data) == 0 {
		return value, nil
	}
	if err := json.Unmarshal(data, &value); err != nil {
		return value, api.Errorf(api.BadRequest, "body: %w", err)
	}
	return value, nil
}

// Package httpd is the door for programs: HTTP and WebSocket, on the local socket and
// over TCP. Who can open the socket is the user that the home belongs to, and the header
// Duo-Agent says for which of its agents a request speaks. Over TCP a token says it.
package httpd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/auth"
	"github.com/claude-duo/duo/daemon/copies"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/desk"
	"github.com/claude-duo/duo/daemon/files"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/markdown"
	"github.com/claude-duo/duo/daemon/operator"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/daemon/search"
	"github.com/claude-duo/duo/daemon/switchboard"
	"github.com/claude-duo/duo/daemon/web"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/danielgtaylor/huma/v2"
	"github.com/gorilla/websocket"
)

const (
	maxAnswer     = 8 << 20 // bytes of the messages in one answer, but for one message more
	maxHeader     = 64 << 10
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	writeTimeout  = 30 * time.Second // of an answer that the client does not take
	maxWait       = 10 * time.Minute
	stopGrace     = 3 * time.Second
)

// Parts are what the door opens to.
type Parts struct {
	Home        *maildir.Home
	Ledger      *ledger.Ledger
	Router      *router.Router
	Deliver     *deliver.Deliverer
	Desk        *desk.Desk
	Roster      *roster.Roster
	Presence    *presence.Book
	Auth        *auth.Keeper
	Switchboard *switchboard.Switchboard
	Files       *files.Keeper
	Operator    *operator.Operator
	Search      *search.Index
	Peers       *peer.Manager
	Copies      *copies.Service
	Door        peer.Door // where other hosts find this one
	Logger      *slog.Logger
	Metrics     Metrics      // may be nil
	MCP         http.Handler // for models; may be nil
	Page        *web.Page    // for people; may be nil
	Status      func() api.Status
	Stop        func() // asks the daemon to end
}

// Server answers requests for one home.
type Server struct {
	Parts
	http     *http.Server
	ending   context.Context // ends streams and waits
	end      context.CancelFunc
	streams  sync.WaitGroup
	guests   guests
	upgrader *websocket.Upgrader
	markdown *markdown.Renderer
	address  atomic.Pointer[string] // of the door for programs with a token
	shut     atomic.Pointer[error]  // why that door is not open yet, nil for nothing
}

// New returns a server; Serve starts it.
func New(parts Parts) *Server {
	s := &Server{Parts: parts, upgrader: newUpgrader(), markdown: markdown.New(), guests: guests{open: make(map[*guest]struct{})}}
	s.ending, s.end = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler: s.routes(), ConnContext: origins, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(parts.Logger.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve answers requests until ctx ends, and then lets those that are under way
// finish for a bounded time. A socket file that somebody has deleted is made again.
func (s *Server) Serve(ctx context.Context, socket *Socket) error {
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
	s.serveTCP(ctx, all.Go, serve)
	serve(guarded{socket.Listener, s.Logger})
	s.watchSocket(ctx, socket, func(l net.Listener) { serve(guarded{l, s.Logger}) })
	s.end()
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer stop()
	err := s.http.Shutdown(grace)
	if err != nil {
		err = s.http.Close()
	}
	all.Wait()
	s.streams.Wait()
	_ = socket.Close() // Shutdown has closed the listener
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

const lookForSocket = time.Second

// watchSocket makes the socket again whenever it is missing, until ctx ends.
func (s *Server) watchSocket(ctx context.Context, socket *Socket, serve func(net.Listener)) {
	work.Every(ctx, lookForSocket, func() (done bool) {
		fresh, err := socket.restore()
		switch {
		case err != nil:
			s.Logger.Warn("socket is missing", "path", socket.path, "err", err)
		case fresh:
			s.Logger.Warn("socket was deleted and is made again", "path", socket.path)
			serve(socket.Listener)
		}
		return false
	})
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	s.describedRoutes(mux)
	s.publicRoutes(mux)
	mux.HandleFunc(api.RouteTranscript, s.transcript)
	mux.HandleFunc(api.RouteExport, s.export)
	mux.HandleFunc(api.RouteStream, s.stream)
	mux.HandleFunc(mcpPath, s.mcp)
	mux.HandleFunc(api.RouteAttach, s.attach)
	mux.HandleFunc(api.RouteAttachment, s.attachment)
	if s.Page != nil {
		s.Page.Routes(mux, s.noRoute)
	}
	mux.HandleFunc("/", s.noRoute)
	answered := s.counted(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.dontGoOn(r)
		if err := fromHere(r); err != nil {
			s.fail(w, r, err)
			return
		}
		answered.ServeHTTP(w, r)
	})
}

func (s *Server) noRoute(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, api.Errorf(api.RouteNotFound, "there is no route %s %s", r.Method, r.URL.Path))
}

func (s *Server) describedRoutes(mux *http.ServeMux) huma.API {
	door := newDoor(mux)
	s.hostRoutes(door)
	s.sessionRoutes(door)
	s.agentRoutes(door)
	s.mailRoutes(door)
	s.conversationRoutes(door)
	s.searchRoutes(door)
	s.callRoutes(door)
	s.peerRoutes(door)
	return door
}

// Describe writes the description of the routes as docs/openapi.yaml has it.
func Describe() ([]byte, error) {
	door := new(Server).describedRoutes(http.NewServeMux())
	describeOthers(door.OpenAPI())
	loosen(door.OpenAPI())
	return door.OpenAPI().YAML()
}

// dontGoOn ends the daemon where a handler has panicked: what it has left behind, a lock
// or half a change, is not known. The next start reads everything anew.
func (s *Server) dontGoOn(r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if cause != http.ErrAbortHandler {
		s.Logger.Error("request panicked, the daemon stops", "path", r.URL.Path, "err", cause, "stack", string(debug.Stack()))
		s.Stop()
	}
	panic(cause) // net/http hangs up
}

func (s *Server) reply(w http.ResponseWriter, status int, kind string, answer any) {
	data, err := json.Marshal(answer)
	if err != nil {
		s.Logger.Error("answer has no JSON form", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // a connection without deadlines is not ours
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // a client that is gone needs no answer
}

// fail sends an error as a problem of RFC 9457.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := router.Translate(err, r.PathValue("ref"))
	if e.Code == api.StorageFailed && r.Method == http.MethodGet {
		e.Message = fmt.Sprintf("the log cannot be read: %v", err)
	}
	if e.Code == api.Internal {
		s.Logger.Error("request failed", "path", r.URL.Path, "err", err)
	}
	if e.Retry > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64(math.Ceil(e.Retry.Seconds())), 10))
	}
	if e.Code == api.Unauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer") // RFC 6750
	}
	s.reply(w, e.Status(), problemType, e.Problem())
}

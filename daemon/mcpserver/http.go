package mcpserver

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/session"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	maxSessions  = 256
	maxOfOne     = 32 // sessions of one agent
	sessionIdle  = 30 * time.Minute
	lookEvery    = 30 * time.Second
	writeWithin  = 30 * time.Second // that a client has to take what it asked for
	sessionID    = "Mcp-Session-Id"
	version      = "Mcp-Protocol-Version"
	sessionless  = "2026-07-28" // the first version of the protocol without sessions
	bearer       = "Bearer "
	clientOfHTTP = "mcp"
)

// Handler serves clients over HTTP. Who calls was admitted before: the request names its
// agent in the header api.AgentHeader, and an observer's names none.
type Handler struct {
	home   *maildir.Home
	logger *slog.Logger
	server *server
	agents way
	others way // observers

	ending context.Context // ends requests
	end    context.CancelFunc

	mu       sync.Mutex
	sessions map[string]string // the agents that have begun them
	starting map[string]int    // by agent, those that are begun now
}

// way is for one kind of callers.
type way struct {
	server   *mcp.Server
	sessions http.Handler // for clients that begin a session
	single   http.Handler // for those of which each request stands alone
}

// NewHandler makes a handler for a home whose daemon this process is.
func NewHandler(home *maildir.Home, version string, logger *slog.Logger) *Handler {
	h := &Handler{home: home, logger: logger, sessions: make(map[string]string), starting: make(map[string]int)}
	h.ending, h.end = context.WithCancel(context.Background())
	h.server = &server{Parts: Parts{Speaker: h.speaker, Version: version, Logger: logger}, results: newResults()}
	h.agents, h.others = h.way(false), h.way(true)
	return h
}

func (h *Handler) way(observer bool) way {
	w := way{server: h.server.newMCP(observer)}
	get := func(*http.Request) *mcp.Server { return w.server }
	opts := mcp.StreamableHTTPOptions{Logger: h.logger, SessionTimeout: sessionIdle, MaxRequestBodyBytes: maxRequest}
	w.sessions = mcp.NewStreamableHTTPHandler(get, &opts)
	opts.Stateless, opts.PropagateRequestCancellation = true, true
	w.single = mcp.NewStreamableHTTPHandler(get, &opts)
	return w
}

// speaker is whom a request speaks for. It may do no more than its token may.
func (h *Handler) speaker(_ context.Context, header http.Header) (Speaker, error) {
	agent := header.Get(api.AgentHeader)
	link := client.New(h.home.SocketPath(), agent)
	if token, ok := strings.CutPrefix(header.Get("Authorization"), bearer); ok {
		link = client.WithToken(h.home.SocketPath(), strings.TrimSpace(token))
	}
	s := Speaker{
		Host: reach.Over(link, h.home, agent), Source: "its token",
		Holder: holder(header.Get(sessionID), agent),
	}
	if agent == "" {
		s.Observes = true
		s.Nobody = api.Errorf(api.ReadOnly, "an observer speaks for nobody").WithNext("duo who")
	}
	return s, nil
}

// holder is of the leases of a session, or of an agent's requests that stand alone. It
// lives as long as this process.
func holder(id, agent string) session.Holder {
	if id == "" {
		id = "of " + agent
	}
	return session.Holder{Key: session.Key{Client: clientOfHTTP, ID: id}, Process: session.Self()}
}

// Run forgets sessions that are over, until ctx ends. Then all end.
func (h *Handler) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			h.forget()
		case <-ctx.Done():
			h.end()
			for _, w := range []way{h.agents, h.others} {
				for s := range w.server.Sessions() {
					_ = s.Close() // its client sees the end of the connection
				}
			}
			h.forget()
			return nil
		}
	}
}

// forget gives back what sessions hold that are over.
func (h *Handler) forget() {
	h.mu.Lock()
	known := maps.Clone(h.sessions) // one that begins from now on is not among the live ones below
	h.mu.Unlock()
	live := make(map[string]bool)
	for _, w := range []way{h.agents, h.others} {
		for s := range w.server.Sessions() {
			live[s.ID()] = true
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, agent := range known {
		if _, there := h.sessions[id]; !there || live[id] {
			continue
		}
		delete(h.sessions, id)
		if agent == "" {
			continue
		}
		if err := session.OpenBook(h.home, agent).Leave(holder(id, agent)); err != nil {
			h.logger.Warn("leases are not given back", "agent", agent, "err", err)
		}
	}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	agent := r.Header.Get(api.AgentHeader)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(h.ending, cancel)()
	key := h.server.results.add(ctx, agent)
	r = r.Clone(ctx)
	r.Header.Set(resultHeader, key)
	out := &writer{ResponseWriter: w, control: http.NewResponseController(w)}
	h.serve(out, r, agent)
	h.server.results.end(key, out.failed == nil && r.Context().Err() == nil)
}

func (h *Handler) serve(w *writer, r *http.Request, agent string) {
	way := h.agents
	if agent == "" {
		way = h.others
	}
	id := r.Header.Get(sessionID)
	switch {
	case r.Header.Get(version) >= sessionless:
		r.Header.Del(sessionID)
		way.single.ServeHTTP(w, r)
		return
	case id != "" && !h.begunBy(id, agent):
		http.Error(w, "session not found", http.StatusNotFound) // a client begins another one
		return
	case id != "":
		way.sessions.ServeHTTP(w, r)
		if r.Method == http.MethodDelete {
			h.forget()
		}
		return
	}
	if err := h.room(agent); err != nil {
		refuse(w, err)
		return
	}
	start := sync.OnceFunc(func() { h.started(agent) }) // or it comes to nothing
	defer start()
	w.begun = func(id string) {
		h.mu.Lock()
		h.sessions[id] = agent
		h.mu.Unlock()
		start()
	}
	way.sessions.ServeHTTP(w, r)
}

// started gives back the room that was taken for a session.
func (h *Handler) started(agent string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.starting[agent]--; h.starting[agent] == 0 {
		delete(h.starting, agent)
	}
}

func (h *Handler) begunBy(id, agent string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	owner, ok := h.sessions[id]
	return ok && owner == agent
}

// room takes room for a session, and refuses one that would be one too many.
func (h *Handler) room(agent string) error {
	h.forget()
	h.mu.Lock()
	defer h.mu.Unlock()
	all, mine := len(h.sessions), h.starting[agent]
	for _, n := range h.starting {
		all += n
	}
	for _, owner := range h.sessions {
		if owner == agent {
			mine++
		}
	}
	if all >= maxSessions || mine >= maxOfOne {
		return api.Errorf(api.Busy, "there are %d sessions, %d of them yours: end one, or try again later", all, mine)
	}
	h.starting[agent]++
	return nil
}

// refuse answers with a problem, as the other routes do.
func refuse(w http.ResponseWriter, err error) {
	p := asError(err).Problem()
	data, err := json.Marshal(p)
	if err != nil {
		data = fmt.Appendf(nil, `{"status":%d}`, p.Status)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(data) // a client that is gone needs no answer
}

// writer gives a client a bounded time to take each piece of an answer, and notes where
// one was not taken.
type writer struct {
	http.ResponseWriter
	control *http.ResponseController
	begun   func(session string) // called before the client learns of a session that it begins
	failed  error
}

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(code int) {
	if id := w.Header().Get(sessionID); id != "" && w.begun != nil {
		w.begun(id)
		w.begun = nil
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *writer) Write(data []byte) (int, error) {
	if w.begun != nil {
		w.WriteHeader(http.StatusOK)
	}
	_ = w.control.SetWriteDeadline(time.Now().Add(writeWithin)) // a connection without deadlines is not ours
	n, err := w.ResponseWriter.Write(data)
	if err != nil {
		w.failed = err
	}
	return n, err
}

// FlushError implements what http.ResponseController looks for.
func (w *writer) FlushError() error {
	err := w.control.Flush()
	if err != nil {
		w.failed = err
	}
	return err
}

// Flush implements http.Flusher.
func (w *writer) Flush() { _ = w.FlushError() } // it is noted

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

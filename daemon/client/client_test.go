package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/gorilla/websocket"
)

// serve answers at a socket until the test ends.
func serve(t *testing.T, h http.HandlerFunc) (socket string, server *httptest.Server) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "duo.sock")
	return socket, serveAt(t, socket, h)
}

func serveAt(t *testing.T, socket string, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func reply(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func wantCode(t *testing.T, err error, want api.Code) *api.Error {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != want {
		t.Fatalf("got error %v, want one with the code %s", err, want)
	}
	return e
}

func TestRequests(t *testing.T) {
	var got string
	socket, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get(api.AgentHeader) + " " + string(body)
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte("{}"))
	})
	c := client.New(socket, "Atlas")
	ctx := t.Context()
	seq := int64(0)
	draft := func(e envelope.Envelope) *envelope.Envelope { e.ID = "01993c5e-7d1a-7cc2-a5a0-1f2e3d4c5b6a"; return &e }
	post := func(e envelope.Envelope) func() error {
		return func() error {
			_, err := c.Post(ctx, draft(e))
			if err != nil && strings.Contains(err.Error(), "read the daemon's answer") {
				return nil // {} is no message
			}
			return err
		}
	}
	for want, call := range map[string]func() error{
		"GET /v1/me Atlas ":               func() error { _, err := c.Me(ctx); return err },
		"GET /v1/me/inbox?limit=7 Atlas ": func() error { _, err := c.Inbox(ctx, 7); return err },
		"GET /v1/agents?capability=a+b&capability=c&q=x%26y Atlas ": func() error {
			_, err := c.Agents(ctx, api.AgentQuery{Text: "x&y", Capabilities: []string{"a b", "c"}})
			return err
		},
		"GET /v1/refs/a%2Fb%3Fc Atlas ": func() error { _, err := c.Find(ctx, "a/b?c"); return err },
		"GET /v1/me/events?after=0&conversation=c1234&limit=1&wait=30s Atlas ": func() error {
			_, err := c.Events(ctx, client.Events{Conversation: "c1234", After: &seq, Limit: 1, Wait: 30 * time.Second})
			return err
		},
		`POST /v1/me/seen Atlas {"messages":[{"conversation":"x","seq":3}]}`: func() error {
			return c.Shown(ctx, []api.Place{{Conversation: "x", Seq: 3}})
		},
		`POST /v1/messages Atlas {"id":"01993c5e-7d1a-7cc2-a5a0-1f2e3d4c5b6a","type":"message","to":["Nova"],"content":"hi"}`: post(
			envelope.Envelope{Type: envelope.Message, To: []string{"Nova"}, Content: "hi"}),
		`POST /v1/conversations/c1234/messages Atlas {"id":"01993c5e-7d1a-7cc2-a5a0-1f2e3d4c5b6a","type":"message","content":"hi"}`: post(
			envelope.Envelope{Type: envelope.Message, Conversation: "c1234", Content: "hi"}),
		`DELETE /v1/conversations/c1234/participants/me Atlas {"id":"01993c5e-7d1a-7cc2-a5a0-1f2e3d4c5b6a","type":"leave"}`: post(
			envelope.Envelope{Type: envelope.Leave, Conversation: "c1234"}),
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestProblemsBecomeErrors(t *testing.T) {
	socket, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/status":
			http.Error(w, "what?", http.StatusTeapot)
			return
		case strings.HasSuffix(r.URL.Path, "/long"):
			http.Error(w, "431", http.StatusRequestHeaderFieldsTooLarge) // as net/http answers itself
			return
		}
		e := api.Errorf(api.AgentNotFound, "no agent named %q", "Bob").WithNear([]string{"Bo"}).WithNext("duo who")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(e.Status())
		reply(w, e.Problem())
	})
	c := client.New(socket, "")
	_, err := c.Find(t.Context(), "Bob")
	e := wantCode(t, err, api.AgentNotFound)
	if e.Exit() != api.ExitNotFound || e.Next != "duo who" || len(e.Near) != 1 || e.Message != `no agent named "Bob"` {
		t.Errorf("got %+v", e)
	}
	_, err = c.Status(t.Context())
	wantCode(t, err, api.Internal)
	if client.Unreachable(err) {
		t.Error("an answer that is no problem is called unreachable")
	}
	_, err = c.Find(t.Context(), "long")
	wantCode(t, err, api.TooLarge)
}

func TestNoDaemonAndBrokenConnections(t *testing.T) {
	missing := client.New(filepath.Join(t.TempDir(), "none.sock"), "")
	_, err := missing.Status(t.Context())
	wantCode(t, err, api.DaemonUnreachable)
	if !errors.Is(err, client.ErrNoDaemon) || errors.Is(err, client.ErrBroken) || !client.Unreachable(err) {
		t.Errorf("nobody listens: got %v", err)
	}
	socket, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/me" { // half an answer
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(`{"id":`))
		}
		panic(http.ErrAbortHandler)
	})
	c := client.New(socket, "Atlas")
	for _, call := range []func() error{
		func() error { _, err := c.Status(t.Context()); return err },
		func() error { _, err := c.Me(t.Context()); return err },
	} {
		if err := call(); !errors.Is(err, client.ErrBroken) || !client.Unreachable(err) {
			t.Errorf("the connection broke: got %v", err)
		}
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var peers sync.Map
	socket := filepath.Join(t.TempDir(), "duo.sock")
	answer := func(w http.ResponseWriter, r *http.Request) {
		peers.Store(r.Context().Value(http.LocalAddrContextKey), nil)
		reply(w, api.Status{PID: 1})
	}
	server := serveAt(t, socket, answer)
	c := client.New(socket, "")
	for range 10 {
		if s, err := c.Status(t.Context()); err != nil || s.PID != 1 {
			t.Fatalf("got %+v, %v", s, err)
		}
	}
	opened := 0
	peers.Range(func(any, any) bool { opened++; return true })
	if opened != 1 {
		t.Errorf("ten requests opened %d connections", opened)
	}
	server.Close() // another daemon takes its place: the client notices by itself
	serveAt(t, socket, answer)
	_, err := c.Status(t.Context())
	if errors.Is(err, client.ErrBroken) { // it was written just before the old one closed
		_, err = c.Status(t.Context())
	}
	if err != nil {
		t.Errorf("after a restart of the daemon: %v", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	arrived := make(chan struct{})
	socket, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done() // a client that gives up is noticed
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := client.New(socket, "Atlas").Events(ctx, client.Events{Wait: time.Minute})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// stream serves one WebSocket with what talk does after the subscription.
func stream(t *testing.T, talk func(*websocket.Conn, api.StreamRequest)) *client.Client {
	t.Helper()
	var upgrader websocket.Upgrader
	socket, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		var hello api.StreamRequest
		if err := conn.ReadJSON(&hello); err != nil {
			t.Error(err)
			return
		}
		talk(conn, hello)
	})
	return client.New(socket, "Nova")
}

func TestStream(t *testing.T) {
	confirmed := make(chan api.StreamRequest, 1)
	c := stream(t, func(conn *websocket.Conn, hello api.StreamRequest) {
		if hello.Op != api.OpSubscribe || !hello.Own || hello.After["x"] != 3 {
			t.Errorf("got %+v", hello)
		}
		_ = conn.WriteJSON(api.StreamReady{Op: "ready", Agent: "Nova"})
		_ = conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
		e := &envelope.Envelope{Seq: 4, Type: envelope.Message, Conversation: "x", Content: "hi"}
		_ = conn.WriteJSON(api.Message{Envelope: e, Ref: "c1234.4"})
		var confirm api.StreamRequest
		if err := conn.ReadJSON(&confirm); err != nil {
			t.Error(err)
		}
		confirmed <- confirm
		frame := websocket.FormatCloseMessage(websocket.CloseServiceRestart, "the daemon is stopping")
		_ = conn.WriteControl(websocket.CloseMessage, frame, time.Now().Add(time.Second))
	})
	s, err := c.Stream(t.Context(), api.StreamRequest{Own: true, After: map[string]int64{"x": 3}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m, err := s.Next(t.Context())
	if err != nil || m.Ref != "c1234.4" || m.Envelope.Content != "hi" {
		t.Fatalf("got %+v, %v", m, err)
	}
	if err := s.Confirm(api.Place{Conversation: "x", Seq: 4}, api.Seen); err != nil {
		t.Fatal(err)
	}
	if got := <-confirmed; got.Op != api.OpConfirm || got.Seq != 4 || got.State != api.Seen {
		t.Errorf("got %+v", got)
	}
	if _, err := s.Next(t.Context()); !errors.Is(err, client.ErrBroken) || !client.Unreachable(err) {
		t.Errorf("the daemon stops: got %v, want one that asks to come again", err)
	}
}

func TestStreamThatIsRefused(t *testing.T) {
	c := stream(t, func(conn *websocket.Conn, _ api.StreamRequest) {
		frame := websocket.FormatCloseMessage(websocket.ClosePolicyViolation, "no conversation c9")
		_ = conn.WriteControl(websocket.CloseMessage, frame, time.Now().Add(time.Second))
	})
	_, err := c.Stream(t.Context(), api.StreamRequest{})
	wantCode(t, err, api.BadRequest)
	socket, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		e := api.Errorf(api.IdentityUnknown, "nobody")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(e.Status())
		reply(w, e.Problem())
	})
	_, err = client.New(socket, "X").Stream(t.Context(), api.StreamRequest{})
	wantCode(t, err, api.IdentityUnknown)
}

func TestStreamEndsWithItsContext(t *testing.T) {
	c := stream(t, func(conn *websocket.Conn, _ api.StreamRequest) {
		_ = conn.WriteJSON(api.StreamReady{Op: "ready"})
		_, _, _ = conn.ReadMessage()
	})
	ctx, cancel := context.WithCancel(t.Context())
	s, err := c.Stream(ctx, api.StreamRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

package httpd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/gorilla/websocket"
)

type draft = envelope.Envelope

// host is a host that is spoken to without the project's own client.
type host struct {
	*daemontest.Host
	t    *testing.T
	http *http.Client
}

func newHost(t *testing.T, agents ...string) *host {
	t.Helper()
	return newHostWith(t, "http.listen = 'off'", agents...)
}

func newHostWith(t *testing.T, config string, agents ...string) *host {
	t.Helper()
	h := &host{Host: daemontest.NewWith(t, config, agents...), t: t}
	h.http = &http.Client{Transport: &http.Transport{DialContext: h.dial}}
	t.Cleanup(h.http.CloseIdleConnections)
	return h
}

func (h *host) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", h.Home().SocketPath())
}

// ask sends a request of "METHOD /path" and returns the answer with its body.
func (h *host) ask(route, agent, body string) (*http.Response, []byte) {
	h.t.Helper()
	req := h.request("duo", route, body)
	if agent != "" {
		req.Header.Set(api.AgentHeader, agent)
	}
	return h.do(req)
}

// request makes a request of "METHOD /path" to a host.
func (h *host) request(to, route, body string) *http.Request {
	h.t.Helper()
	method, path, _ := strings.Cut(route, " ")
	req, err := http.NewRequest(method, "http://"+to+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	return req
}

func (h *host) do(req *http.Request) (*http.Response, []byte) {
	h.t.Helper()
	route := req.Method + " " + req.URL.Path
	resp, err := h.http.Do(req)
	if err != nil {
		h.t.Fatalf("%s: %v", route, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatalf("%s: %v", route, err)
	}
	return resp, data
}

// get asks and reads the answer into a T.
func get[T any](h *host, route, agent string) T {
	h.t.Helper()
	var value T
	resp, data := h.ask(route, agent, "")
	if err := json.Unmarshal(data, &value); err != nil || resp.StatusCode != http.StatusOK {
		h.t.Fatalf("%s: got %s %s, %v", route, resp.Status, data, err)
	}
	return value
}

func (h *host) create(agent, topic string, others ...string) string {
	h.t.Helper()
	return h.Post(agent, &draft{Type: envelope.Create, Topic: topic, To: others}).Conversation.ID
}

func (h *host) send(agent, conversation, content string) api.Posted {
	h.t.Helper()
	return h.Post(agent, &draft{Conversation: conversation, Content: content})
}

// state waits until a message is in this state with its only recipient.
func (h *host) state(conversation string, seq int64, want string) {
	h.t.Helper()
	daemontest.Eventually(h.t, func() (bool, string) {
		r, err := h.As("").Receipts(context.Background(), conversation, seq, "", 0)
		return err == nil && len(r.Recipients) == 1 && r.Recipients[0].State == want,
			fmt.Sprintf("line %d: %s, %v, want %s", seq, daemontest.JSON(r), err, want)
	})
}

// files counts what waits in an agent's inbox.
func (h *host) files(agent string) int {
	h.t.Helper()
	items, err := h.Box(agent).Unseen()
	if err != nil {
		h.t.Fatal(err)
	}
	return len(items)
}

// stream is a WebSocket of a test.
type stream struct {
	*websocket.Conn
	t *testing.T
}

// connect opens a WebSocket. Where that is refused it returns the answer.
func (h *host) connect(agent string, header http.Header) (*stream, *http.Response) {
	h.t.Helper()
	if header == nil {
		header = make(http.Header)
	}
	if agent != "" {
		header.Set(api.AgentHeader, agent)
	}
	dialer := websocket.Dialer{NetDialContext: h.dial}
	conn, resp, err := dialer.Dial("ws://duo/v1/stream", header)
	if err != nil && resp == nil {
		h.t.Fatalf("dial: %v", err)
	}
	if err != nil {
		return nil, resp
	}
	h.t.Cleanup(func() { conn.Close() })
	s := &stream{conn, h.t}
	if err := conn.SetReadDeadline(time.Now().Add(daemontest.Patience)); err != nil {
		h.t.Fatal(err)
	}
	return s, nil
}

// subscribe opens a stream and waits until it is ready.
func (h *host) subscribe(agent string, ask api.StreamRequest) *stream {
	h.t.Helper()
	s, _ := h.connect(agent, nil)
	ask.Op = api.OpSubscribe
	s.say(daemontest.JSON(ask))
	var ready api.StreamReady
	if err := s.ReadJSON(&ready); err != nil || ready.Op != "ready" || ready.Agent != agent {
		h.t.Fatalf("ready: got %+v, %v", ready, err)
	}
	return s
}

func (s *stream) say(frame string) {
	s.t.Helper()
	if err := s.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		s.t.Fatalf("write %s: %v", frame, err)
	}
}

func (s *stream) confirm(conversation string, seq int64, state string) {
	s.t.Helper()
	s.say(daemontest.JSON(api.StreamRequest{Op: api.OpConfirm, Conversation: conversation, Seq: seq, State: state}))
}

// next reads the next message.
func (s *stream) next() api.Message {
	s.t.Helper()
	var m api.Message
	if err := s.ReadJSON(&m); err != nil {
		s.t.Fatalf("next: %v", err)
	}
	return m
}

func (s *stream) wantNext(conversation string, seqs ...int64) {
	s.t.Helper()
	for _, seq := range seqs {
		if m := s.next(); m.Envelope.Conversation != conversation || m.Envelope.Seq != seq {
			s.t.Fatalf("next: got %s, want line %d of %s", m.Ref, seq, conversation)
		}
	}
}

// wantClosed checks how the daemon ends the stream.
func (s *stream) wantClosed(what string, code int, text string) {
	s.t.Helper()
	_, data, err := s.ReadMessage()
	end, ok := err.(*websocket.CloseError)
	if !ok || end.Code != code || !strings.Contains(end.Text, text) {
		s.t.Errorf("%s: got %q, %v, want the close code %d with %q", what, data, err, code, text)
	}
}

package httpd_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/gorilla/websocket"
)

// TestStreamsThatAreRefused: before the connection is a WebSocket the answer is HTTP.
func TestStreamsThatAreRefused(t *testing.T) {
	h := newHost(t, "Atlas")
	for what, test := range map[string]struct {
		agent  string
		header http.Header
		want   int
	}{
		"unknown agent": {"Nobody", nil, http.StatusUnauthorized},
		"a page":        {"Atlas", http.Header{"Origin": {"http://localhost:7600"}}, http.StatusForbidden},
		"another page":  {"Atlas", http.Header{"Origin": {"null"}}, http.StatusForbidden},
	} {
		if s, resp := h.connect(test.agent, test.header); s != nil || resp.StatusCode != test.want {
			t.Errorf("%s: got it open, or %v, want %d", what, resp, test.want)
		}
	}
}

// TestFramesThatAreRefused: afterwards it is a close frame with duo's code.
func TestFramesThatAreRefused(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Nova", "a", "Atlas")
	for first, want := range map[string]string{
		`hello`:       string(api.BadRequest),
		`{"op":"hi"}`: `want op "subscribe"`,
		`{"op":"confirm","conversation":"` + id + `","seq":1}`: `want op "subscribe"`,
		`{"op":"subscribe","conversations":["cffff"]}`:         string(api.ConversationNotFound),
		`{"op":"subscribe","after":{"nowhere":1}}`:             string(api.BadReference),
		`{"op":"subscribe","after":{"` + id + `":"1"}}`:        string(api.BadRequest),
	} {
		s, _ := h.connect("Atlas", nil)
		s.say(first)
		s.wantClosed(first, websocket.ClosePolicyViolation, want)
	}
	for frame, want := range map[string]string{
		`hello`:              string(api.BadRequest),
		`{"op":"subscribe"}`: `op "subscribe"`,
		`{"op":"confirm","conversation":"cffff","seq":1}`: string(api.ConversationNotFound),
	} {
		s := h.subscribe("Atlas", api.StreamRequest{Conversations: []string{id}})
		s.wantNext(id, 1)
		s.say(frame)
		s.wantClosed(frame, websocket.ClosePolicyViolation, want)
	}
	s := h.subscribe("Atlas", api.StreamRequest{})
	s.wantNext(id, 1)
	s.say(`{"op":"` + strings.Repeat("x", envelope.MaxLine+64<<10) + `"}`) // the last bytes are over the limit
	s.wantClosed("a frame over the limit", websocket.CloseMessageTooBig, "")
}

func TestStream(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	s := h.subscribe("Nova", api.StreamRequest{})
	s.wantNext(id, 1)
	s.confirm(id, 1, api.Seen)
	posted := h.send("Atlas", id, "hi")
	m := s.next()
	if m.Ref != posted.Message.Ref || m.Topic != "a" || m.Envelope.Content != "hi" || m.Envelope.Timestamp == 0 {
		t.Errorf("next: got %s, want %s with its topic", daemontest.JSON(m), posted.Message.Ref)
	}
	h.state(id, 2, api.Stored)
	s.confirm(posted.Conversation.Ref, 2, api.Delivered)
	h.state(id, 2, api.Delivered)
	s.confirm(id, 2, api.Seen)
	h.state(id, 2, api.Seen)
	h.state(id, 1, api.Seen)
	h.send("Nova", id, "my own") // 3: not for it
	h.send("Atlas", id, "more")  // 4
	s.wantNext(id, 4)
	if n := h.files("Nova"); n != 0 {
		t.Errorf("files: got %d, want none while the stream lives", n)
	}
	if err := s.Close(); err != nil { // without a word
		t.Fatal(err)
	}
	h.state(id, 4, api.Delivered)
	if n := h.files("Nova"); n != 1 {
		t.Errorf("files: got %d, want the one that was not shown", n)
	}
}

func TestStreamOptions(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	one, two := h.create("Atlas", "one", "Nova"), h.create("Atlas", "two", "Nova")
	for range 3 {
		h.send("Atlas", one, "hi")
	}
	h.send("Nova", one, "mine") // 5
	s := h.subscribe("Nova", api.StreamRequest{Conversations: []string{one}, After: map[string]int64{one: 2}, Own: true})
	s.wantNext(one, 3, 4, 5)
	h.send("Atlas", two, "elsewhere")
	h.send("Atlas", one, "here")
	s.wantNext(one, 6)
	h.state(two, 2, api.Delivered)
}

// TestStreamSaysWhatCrossed: a message tells what its sender had not been shown.
func TestStreamSaysWhatCrossed(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	s := h.subscribe("Atlas", api.StreamRequest{})
	h.send("Atlas", id, "one") // 2
	h.Post("Nova", &draft{Conversation: id, Content: "two", After: envelope.Int(1)})
	if m := s.next(); m.Envelope.Seq != 3 || fmt.Sprint(m.Crossed) != "[2]" {
		t.Errorf("next: got %s crossed by %v, want line 3 crossed by line 2", m.Ref, m.Crossed)
	}
}

func TestStreamAnswersPings(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Nova", "a", "Atlas")
	s := h.subscribe("Atlas", api.StreamRequest{})
	s.wantNext(id, 1)
	pong := false
	s.SetPongHandler(func(data string) error {
		pong = data == "are you there"
		return nil
	})
	if err := s.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	s.confirm(id, 1, api.Seen)
	h.state(id, 1, api.Seen) // the ping came before that
	h.send("Nova", id, "hi")
	s.wantNext(id, 2)
	if !pong {
		t.Error("pong: got none, want one")
	}
}

// TestStreamsEndWithTheDaemon: each is told to come back, and none holds up the end.
func TestStreamsEndWithTheDaemon(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	idle := h.subscribe("Atlas", api.StreamRequest{})
	busy := h.subscribe("Nova", api.StreamRequest{})
	busy.wantNext(id, 1)
	silent, _ := h.connect("Nova", nil) // has not subscribed
	deaf := h.subscribe("Nova", api.StreamRequest{Conversations: []string{id}})
	text := strings.Repeat("x", 1<<20)
	for range 3 { // more than a socket holds: deaf does not read
		h.send("Atlas", id, text)
	}
	began := time.Now()
	h.Stop()
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("Stop: took %s, want it bounded", took)
	}
	idle.wantClosed("idle", websocket.CloseServiceRestart, string(api.Stopping))
	if _, _, err := silent.ReadMessage(); err == nil {
		t.Error("silent: got a message, want the end")
	}
	_ = deaf.Close()
	h.Start()
	h.state(id, 4, api.Delivered)
	if n := h.files("Nova"); n != 4 {
		t.Errorf("files: got %d, want 4: nothing was confirmed", n)
	}
}

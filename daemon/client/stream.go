package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/gorilla/websocket"
)

const (
	silence       = 45 * time.Second // the daemon pings every 15 s
	streamPath    = "/v1/stream"
	handshakeTime = 10 * time.Second
	writeTime     = 10 * time.Second
	maxFrame      = envelope.MaxLine + 64<<10
)

// Stream is a live connection of an agent. One goroutine may read while another
// one confirms.
type Stream struct {
	conn   *websocket.Conn
	socket string
	stop   func() bool
}

// Stream opens a live connection and subscribes. It ends when ctx does.
func (c *Client) Stream(ctx context.Context, subscribe api.StreamRequest) (*Stream, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) }
	dialer := websocket.Dialer{NetDialContext: dial, HandshakeTimeout: handshakeTime}
	conn, resp, err := dialer.DialContext(ctx, "ws://duo"+streamPath, c.header())
	if errors.Is(err, websocket.ErrBadHandshake) && resp != nil {
		defer resp.Body.Close()
		return nil, problem(resp)
	}
	if err != nil {
		return nil, c.failure(ctx, err)
	}
	s := &Stream{conn: conn, socket: c.socket}
	s.stop = context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the read that waits
	conn.SetReadLimit(maxFrame)
	conn.SetPingHandler(s.pong)
	subscribe.Op = api.OpSubscribe
	if err := s.open(ctx, subscribe); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// header says on whose behalf the stream is opened.
func (c *Client) header() http.Header {
	h := make(http.Header)
	if c.agent != "" {
		h.Set(api.AgentHeader, c.agent)
	}
	if c.token != "" {
		h.Set("Authorization", "Bearer "+c.token)
	}
	return h
}

func (s *Stream) pong(data string) error {
	if err := s.conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return err
	}
	return s.conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(writeTime))
}

func (s *Stream) open(ctx context.Context, subscribe api.StreamRequest) error {
	if err := s.write(subscribe); err != nil {
		return err
	}
	data, err := s.read(ctx)
	if err != nil {
		return err
	}
	var ready api.StreamReady
	if err := json.Unmarshal(data, &ready); err != nil || ready.Op != "ready" {
		return api.Errorf(api.Internal, "open stream: want {\"op\":\"ready\"}, got %.100q", data)
	}
	return nil
}

// Next waits for the next message. After an error the stream is over.
func (s *Stream) Next(ctx context.Context) (api.Message, error) {
	data, err := s.read(ctx)
	if err != nil {
		return api.Message{}, err
	}
	var m api.Message
	if err := json.Unmarshal(data, &m); err != nil {
		return api.Message{}, api.Errorf(api.Internal, "read stream: %w", err)
	}
	return m, nil
}

// Confirm tells how far a message got with this agent.
func (s *Stream) Confirm(place api.Place, state string) error {
	return s.write(api.StreamRequest{
		Op: api.OpConfirm, Conversation: place.Conversation, Seq: place.Seq, Request: place.Request, Status: place.Status, State: state,
	})
}

// Close ends the stream. What was confirmed before is known to the daemon.
func (s *Stream) Close() error {
	s.stop()
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	err := s.conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second))
	if errors.Is(err, websocket.ErrCloseSent) {
		err = nil
	}
	return errors.Join(err, s.conn.Close())
}

func (s *Stream) read(ctx context.Context) ([]byte, error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return nil, s.failure(ctx, err)
	}
	_, data, err := s.conn.ReadMessage()
	if err != nil {
		return nil, s.failure(ctx, err)
	}
	return data, nil
}

func (s *Stream) write(r api.StreamRequest) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return unreachable(ErrBroken, err, s.socket)
	}
	if err := s.conn.WriteJSON(r); err != nil {
		return unreachable(ErrBroken, err, s.socket)
	}
	return nil
}

// failure tells a stream that the daemon has refused from one that broke.
func (s *Stream) failure(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var end *websocket.CloseError
	if !errors.As(err, &end) {
		return unreachable(ErrBroken, err, s.socket)
	}
	switch end.Code {
	case websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseServiceRestart,
		websocket.CloseTryAgainLater, websocket.CloseAbnormalClosure:
		return unreachable(ErrBroken, err, s.socket)
	case websocket.CloseInternalServerErr:
		return api.Errorf(api.Internal, "the daemon ended the stream: %s", end.Text)
	}
	return &api.Error{Code: api.BadRequest, Message: fmt.Sprintf("the daemon ended the stream: %s", end.Text)}
}

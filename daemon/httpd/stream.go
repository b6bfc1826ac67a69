package httpd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/gorilla/websocket"
)

const (
	pingEvery      = 15 * time.Second
	pongWithin     = 40 * time.Second
	writeWithin    = 10 * time.Second
	lastWithin     = time.Second // for what is being written when the daemon stops
	subscribeSoon  = 10 * time.Second
	maxClientFrame = 64 << 10
	maxReason      = 120 // bytes of text in a close frame
)

var upgrader = websocket.Upgrader{
	ReadBufferSize: 4 << 10, WriteBufferSize: 16 << 10,
	CheckOrigin: func(r *http.Request) bool { return r.Header.Get("Origin") == "" }, // no page opens a local socket
}

// gather collects what a stream has that the query asks for, and waits for the first.
func (s *Server) gather(r *request, stream *deliver.Stream, ctx context.Context, limit int) (any, error) {
	out := api.Messages{Messages: []api.Message{}}
	for len(out.Messages) < limit {
		line, ok, err := stream.TryNext(r.Context())
		if err == nil && !ok {
			if len(out.Messages) > 0 {
				break
			}
			line, err = stream.Next(ctx)
		}
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			out.TimedOut = true
			break
		}
		if err != nil {
			return nil, err
		}
		if wanted(r.Request, line.Envelope) {
			m, err := s.show(r.Context(), line)
			if err != nil {
				return nil, err
			}
			out.Messages = append(out.Messages, m)
		}
	}
	return out, nil
}

// wanted applies the query's type and from.
func wanted(r *http.Request, e *envelope.Envelope) bool {
	q := r.URL.Query()
	if kind := q.Get("type"); kind != "" && kind != string(e.Type) {
		return false
	}
	from := q.Get("from")
	return from == "" || strings.EqualFold(from, e.From.Name) || strings.EqualFold(from, e.From.String())
}

func (s *Server) show(ctx context.Context, line deliver.Line) (m api.Message, err error) {
	err = s.Ledger.Read(ctx, line.Conversation, func(v ledger.View) error {
		m = s.Desk.Show(v, line.Envelope)
		return nil
	})
	return m, err
}

// stream is a live connection: the client subscribes, gets a frame for each message,
// and confirms.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	s.streams.Add(1) // while the server still knows of the connection
	defer s.streams.Done()
	agent, err := s.speaker(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	defer conn.Close()
	over := make(chan struct{})
	defer close(over)
	defer context.AfterFunc(s.ending, func() { // a client that takes nothing holds up nobody
		select {
		case <-over:
		case <-time.After(lastWithin):
			_ = conn.NetConn().Close()
		}
	})()
	conn.SetReadLimit(maxClientFrame)
	if err := s.converse(conn, agent); err != nil {
		s.hangUp(conn, err)
	}
}

func (s *Server) converse(conn *websocket.Conn, agent string) error {
	var hello api.StreamRequest
	if err := conn.SetReadDeadline(time.Now().Add(subscribeSoon)); err != nil {
		return err
	}
	if err := conn.ReadJSON(&hello); err != nil {
		return api.Errorf(api.BadRequest, "first frame: %w", err)
	}
	if hello.Op != api.OpSubscribe {
		return api.Errorf(api.BadRequest, "first frame: want op %q, got %q", api.OpSubscribe, hello.Op)
	}
	filter, err := s.streamFilter(hello)
	if err != nil {
		return err
	}
	s.Desk.Settle(s.ending) // what was stored before is old, however busy we are
	stream, err := s.Deliver.Attach(agent, filter)
	if err != nil {
		return err
	}
	defer stream.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	listening, finish := context.WithCancel(context.Background())
	defer finish()
	done := make(chan struct{})
	go func() {
		defer close(done)
		cancel(s.listen(listening, conn, stream))
	}()
	err = s.talk(ctx, conn, stream, agent)
	finish()
	_ = conn.SetReadDeadline(time.Now()) // ends listen where it waits
	<-done
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

func (s *Server) streamFilter(hello api.StreamRequest) (deliver.Filter, error) {
	filter := deliver.Filter{Own: hello.Own}
	for _, ref := range hello.Conversations {
		id, err := s.Router.Conversation(ref)
		if err != nil {
			return filter, err
		}
		filter.Conversations = append(filter.Conversations, id)
	}
	for ref, seq := range hello.After {
		id, err := s.Router.Conversation(ref)
		if err != nil {
			return filter, err
		}
		if filter.After == nil {
			filter.After = make(map[string]int64)
		}
		filter.After[id] = seq
	}
	return filter, nil
}

// listen reads what the client confirms, until ctx ends and the deadline for reading
// was set to the past. It returns why it ended.
func (s *Server) listen(ctx context.Context, conn *websocket.Conn, stream *deliver.Stream) error {
	extend := func(string) error {
		err := conn.SetReadDeadline(time.Now().Add(pongWithin))
		return cmp.Or(err, ctx.Err()) // in this order: who ends ctx sets the deadline after it
	}
	conn.SetPongHandler(extend)
	for {
		if err := extend(""); err != nil {
			return err
		}
		_, frame, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		var ask api.StreamRequest
		if err := json.Unmarshal(frame, &ask); err != nil {
			return api.Errorf(api.BadRequest, "frame: %w", err)
		}
		if ask.Op != api.OpConfirm {
			return api.Errorf(api.BadRequest, "op %q: want %q", ask.Op, api.OpConfirm)
		}
		id, err := s.Router.Conversation(ask.Conversation)
		if err == nil {
			err = stream.Confirm(id, ask.Seq, ask.State == api.Seen)
		}
		if err != nil {
			return err
		}
	}
}

// talk writes messages and pings; no other goroutine writes.
func (s *Server) talk(ctx context.Context, conn *websocket.Conn, stream *deliver.Stream, agent string) error {
	if err := s.write(conn, api.StreamReady{Op: "ready", Agent: agent}); err != nil {
		return err
	}
	pinged := time.Now()
	for {
		if time.Since(pinged) >= pingEvery { // however much there is to send
			if err := conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeWithin)); err != nil {
				return err
			}
			pinged = time.Now()
		}
		next, cancel := context.WithDeadline(ctx, pinged.Add(pingEvery))
		stop := context.AfterFunc(s.ending, cancel)
		line, err := stream.Next(next)
		stop()
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.ending.Err() != nil:
			return api.Errorf(api.Stopping, "the daemon is stopping")
		case err == nil:
			m, err := s.show(ctx, line)
			if err != nil {
				return err
			}
			if err := s.write(conn, m); err != nil {
				return err
			}
		case !errors.Is(err, context.DeadlineExceeded):
			return err
		}
	}
}

// encode is json.Marshal, which would read once more what a message has written.
func encode(frame any) ([]byte, error) {
	if m, ok := frame.(api.Message); ok {
		return m.MarshalJSON()
	}
	return json.Marshal(frame)
}

func (s *Server) write(conn *websocket.Conn, frame any) error {
	data, err := encode(frame)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	return conn.WriteMessage(websocket.TextMessage, data)
}

// hangUp tells the client why the stream ends, if it is still there.
func (s *Server) hangUp(conn *websocket.Conn, err error) {
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		return
	}
	code := websocket.CloseInternalServerErr
	e := router.Translate(err, "")
	switch e.Code {
	case api.Stopping:
		code = websocket.CloseServiceRestart
	case api.Internal, api.StorageFailed:
	default:
		code = websocket.ClosePolicyViolation
	}
	text := string(e.Code) + ": " + e.Message
	text = text[:min(len(text), maxReason)]
	frame := websocket.FormatCloseMessage(code, strings.ToValidUTF8(text, ""))
	_ = conn.WriteControl(websocket.CloseMessage, frame, time.Now().Add(time.Second)) // it may be gone
}

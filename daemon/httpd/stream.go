package httpd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/deliver"
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
	maxClientFrame = envelope.MaxLine + 64<<10
	maxReason      = 120 // bytes of text in a close frame
	writeBuffer    = 16 << 10
	lingerFor      = time.Second
	lingerForSlow  = 30 * time.Second
)

// newUpgrader makes what opens WebSockets. A connection has a buffer for writing only
// while it writes; fromHere has checked the origin.
func newUpgrader() *websocket.Upgrader {
	return &websocket.Upgrader{
		WriteBufferSize: writeBuffer, WriteBufferPool: new(sync.Pool), Subprotocols: []string{streamProtocol},
		CheckOrigin: func(*http.Request) bool { return true },
	}
}

// session is a live connection: the client subscribes, gets a frame for each message,
// confirms, and says things. One goroutine reads from it, another one tells what is new.
type session struct {
	*Server
	conn  *websocket.Conn
	who   caller
	lines source
	live  *deliver.Stream // nil for an observer
	flow  *flow

	writing sync.Mutex
}

// source is where the lines of a session come from.
type source interface {
	Next(ctx context.Context) (deliver.Line, error)
	Close()
}

// stream opens a session. It goes on when the request is over, so that it costs no more
// than it needs.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	who, err := s.admit(r, reading)
	if err == nil {
		err = checkQuery(r)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.streams.Add(1) // while the server still knows of the connection
	conn, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		s.streams.Done()
		return // Upgrade has answered
	}
	conn.SetReadLimit(maxClientFrame)
	ses := &session{Server: s, conn: conn, who: who, flow: newFlow()}
	go func() {
		defer s.streams.Done()
		ses.run()
	}()
}

func (ses *session) run() {
	defer ses.fatal()
	defer ses.conn.Close()
	over := make(chan struct{})
	defer close(over)
	defer context.AfterFunc(ses.ending, func() { // a client that takes nothing holds up nobody
		select {
		case <-over:
		case <-time.After(lastWithin):
			_ = ses.conn.NetConn().Close()
		}
	})()
	if err := ses.converse(); err != nil {
		ses.hangUp(err)
		ses.linger(err)
	}
}

// linger waits until the client has read why the stream ends, and has hung up. Were the
// connection closed while the client still writes, its system would throw away what it
// has not read.
func (ses *session) linger(err error) {
	patience := lingerFor
	if errors.Is(err, errSlow) {
		patience = lingerForSlow
	}
	conn := ses.conn.NetConn()
	if conn.SetReadDeadline(time.Now().Add(patience)) == nil {
		_, _ = io.Copy(io.Discard, conn)
	}
}

// fatal is dontGoOn of a session.
func (ses *session) fatal() {
	if cause := recover(); cause != nil {
		ses.Logger.Error("stream panicked, the daemon stops", "agent", ses.who.agent, "err", cause, "stack", string(debug.Stack()))
		ses.Stop()
	}
}

func (ses *session) converse() error {
	hello, err := ses.hello()
	if err != nil {
		return err
	}
	if err := ses.attach(hello); err != nil {
		return err
	}
	defer ses.lines.Close()
	if ses.live != nil {
		defer ses.Presence.Attach(ses.who.agent, true)()
	}
	ctx, leave := ses.stay(context.Background(), ses.who)
	defer leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	listening, finish := context.WithCancel(context.Background())
	defer finish()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer ses.fatal()
		cancel(ses.listen(listening))
	}()
	err = ses.talk(ctx)
	finish()
	_ = ses.conn.SetReadDeadline(time.Now()) // ends listen where it waits
	<-done
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

// hello reads the first frame.
func (ses *session) hello() (hello api.StreamRequest, err error) {
	if err := ses.conn.SetReadDeadline(time.Now().Add(subscribeSoon)); err != nil {
		return hello, err
	}
	if err := ses.conn.ReadJSON(&hello); err != nil {
		return hello, api.Errorf(api.BadRequest, "first frame: %w", err)
	}
	if hello.Op != api.OpSubscribe {
		return hello, api.Errorf(api.BadRequest, "first frame: want op %q, got %.40q", api.OpSubscribe, hello.Op)
	}
	return hello, nil
}

// attach begins to carry what the client has asked for.
func (ses *session) attach(hello api.StreamRequest) error {
	filter, err := ses.filter(hello)
	if err != nil {
		return err
	}
	ses.Desk.Settle(ses.ending) // what was stored before is old, however busy we are
	if ses.who.agent == "" {
		ses.lines = ses.Deliver.Observe(filter)
		return nil
	}
	ses.live, err = ses.Deliver.Attach(ses.who.agent, filter)
	ses.lines = ses.live
	return err
}

func (ses *session) filter(hello api.StreamRequest) (deliver.Filter, error) {
	filter := deliver.Filter{Own: hello.Own, Typing: hello.Typing, Presence: hello.Presence, Receipts: hello.Receipts}
	if ses.who.agent != "" && hello.Receipts {
		return filter, api.Errorf(api.BadRequest, "receipts: only a stream that speaks for no agent carries them")
	}
	for _, ref := range hello.Conversations {
		id, err := ses.conversationOf(ses.ending, ses.who, ref)
		if err != nil {
			return filter, err
		}
		filter.Conversations = append(filter.Conversations, id)
	}
	for ref, seq := range hello.After {
		id, err := ses.conversationOf(ses.ending, ses.who, ref)
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

// listen reads what the client says, until ctx ends and the deadline for reading was set
// to the past. It returns why it ended.
func (ses *session) listen(ctx context.Context) error {
	extend := func() error {
		if ses.live != nil {
			ses.Presence.Touch(ses.who.agent)
		}
		err := ses.conn.SetReadDeadline(time.Now().Add(pongWithin))
		return cmp.Or(err, ctx.Err()) // in this order: who ends ctx sets the deadline after it
	}
	ses.conn.SetPongHandler(func(data string) error {
		ses.flow.taken(data)
		return extend()
	})
	for {
		if err := extend(); err != nil {
			return err
		}
		_, frame, err := ses.conn.ReadMessage()
		if err != nil {
			return err
		}
		var ask api.StreamRequest
		if err := json.Unmarshal(frame, &ask); err != nil {
			return api.Errorf(api.BadRequest, "frame: %w", err)
		}
		if err := ses.do(ctx, ask); err != nil {
			return err
		}
	}
}

// talk writes messages and pings.
func (ses *session) talk(ctx context.Context) error {
	if _, err := ses.write(api.StreamReady{Op: "ready", Agent: ses.who.agent}); err != nil {
		return err
	}
	pinged, checked := time.Now(), time.Now()
	for {
		if ses.flow.pingDue() || time.Since(pinged) >= pingEvery { // however much there is to send
			if err := ses.conn.WriteControl(websocket.PingMessage, ses.flow.mark(), time.Now().Add(writeWithin)); err != nil {
				return err
			}
			pinged = time.Now()
		}
		if time.Since(checked) >= pingEvery { // somebody may have taken the token's file away
			if err := ses.stillMay(ses.who); err != nil {
				return err
			}
			checked = time.Now()
		}
		line, err := ses.next(ctx, pinged.Add(pingEvery))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case ses.ending.Err() != nil:
			return api.Errorf(api.Stopping, "the daemon is stopping")
		case err == nil:
			if err := ses.tell(ctx, line); err != nil {
				return err
			}
		case !errors.Is(err, context.DeadlineExceeded):
			return err
		}
	}
}

func (ses *session) next(ctx context.Context, deadline time.Time) (deliver.Line, error) {
	if err := ses.flow.wait(ctx, ses.ending.Done()); err != nil {
		return deliver.Line{}, err
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	defer context.AfterFunc(ses.ending, cancel)()
	return ses.lines.Next(ctx)
}

func (ses *session) tell(ctx context.Context, line deliver.Line) error {
	frame, err := ses.frame(ctx, line)
	if err != nil {
		return err
	}
	n, err := ses.write(frame)
	ses.flow.sent(n)
	return err
}

func (ses *session) frame(ctx context.Context, line deliver.Line) (any, error) {
	if r := line.Receipt; r != nil {
		return api.StreamReceipt{
			Type: api.TypeReceipt, Conversation: r.Conversation, Agent: r.Agent.String(), Delivered: r.Delivered, Seen: r.Seen,
		}, nil
	}
	return ses.show(ctx, line)
}

// write sends a frame, and returns how long it is.
func (ses *session) write(frame any) (int, error) {
	data, err := encode(frame)
	if err != nil {
		return 0, err
	}
	ses.writing.Lock()
	defer ses.writing.Unlock()
	if err := ses.conn.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return 0, err
	}
	return len(data), ses.conn.WriteMessage(websocket.TextMessage, data)
}

// encode is json.Marshal, which would read once more what a message has written.
func encode(frame any) ([]byte, error) {
	if m, ok := frame.(api.Message); ok {
		return m.MarshalJSON()
	}
	return json.Marshal(frame)
}

// The codes of streams that end because their token was revoked, or their client takes
// nothing. Codes from 4000 on are an application's own (RFC 6455, section 7.4.2).
const (
	closeRevoked = 4001
	closeSlow    = 4008
)

// hangUp tells the client why the stream ends, if it is still there.
func (ses *session) hangUp(err error) {
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		return
	}
	code := websocket.CloseInternalServerErr
	e := router.Translate(err, "")
	var revoked *revokedError
	switch {
	case errors.As(err, &revoked):
		code = closeRevoked
	case errors.Is(err, errSlow):
		code = closeSlow
		e = api.Errorf(api.TooSlow, "%w", err)
	case e.Code == api.Stopping:
		code = websocket.CloseServiceRestart
	case e.Code == api.Internal || e.Code == api.StorageFailed:
	default:
		code = websocket.ClosePolicyViolation
	}
	text := string(e.Code) + ": " + e.Message
	text = text[:min(len(text), maxReason)]
	frame := websocket.FormatCloseMessage(code, strings.ToValidUTF8(text, ""))
	_ = ses.conn.WriteControl(websocket.CloseMessage, frame, time.Now().Add(time.Second)) // it may be gone
}

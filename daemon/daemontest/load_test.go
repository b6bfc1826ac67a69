package daemontest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestLoad: many agents talk in live calls, while others connect and say nothing, stop
// reading, or break off in the middle. Nothing is lost, each gets every message once and
// in order, and those who behave do not notice the others. DUO_LOAD=60s runs it as make
// load does, with more of everything.
func TestLoad(t *testing.T) {
	pairs, silent, lasts := 10, 100, time.Second
	if text := os.Getenv("DUO_LOAD"); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		pairs, silent = 100, 1000
	}
	h := daemontest.NewWith(t, "http.listen = '127.0.0.1:0'\nlimits.rate = 0")
	ctx, cancel := context.WithTimeout(context.Background(), lasts+time.Minute)
	defer cancel()
	status, err := h.As("").Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	l := &load{t: t, Host: h, until: time.Now().Add(lasts)}
	stop := l.disturb(status.HTTP, silent)
	var all sync.WaitGroup
	for i := range pairs {
		all.Go(func() { l.pair(ctx, fmt.Sprintf("caller%d", i), fmt.Sprintf("callee%d", i)) })
	}
	all.Wait()
	stop()
	slices.Sort(l.took)
	if len(l.took) == 0 {
		t.Fatal("no message was received")
	}
	at := func(part float64) time.Duration { return l.took[int(part*float64(len(l.took)-1))] }
	t.Logf("%d calls, %d messages in %s: %.0f a second; from send until received p50 %s, p99 %s, max %s",
		pairs, len(l.took), lasts, float64(len(l.took))/lasts.Seconds(), at(0.5), at(0.99), at(1))
}

// load is a host under load.
type load struct {
	*daemontest.Host
	t     *testing.T
	until time.Time

	mu   sync.Mutex
	took []time.Duration // from before each send until the other one has it
}

const atLeast = 10 // messages of a pair, however little time there is

// pair lets two agents talk in a call until the time is over: each says the next thing
// when it has heard the other.
func (l *load) pair(ctx context.Context, caller, callee string) {
	l.Register(caller)
	l.Register(callee)
	conversation := l.call(ctx, caller, callee)
	if conversation == "" {
		return
	}
	a, b := l.listen(ctx, caller, conversation), l.listen(ctx, callee, conversation)
	if a == nil || b == nil {
		return
	}
	defer a.Close()
	defer b.Close()
	said := 0
	clients := []*client.Client{l.As(caller), l.As(callee)}
	for ; said < atLeast || time.Now().Before(l.until); said++ {
		hearer := b
		if said%2 == 1 {
			hearer = a
		}
		if !l.exchange(ctx, conversation, clients[said%2], hearer, fmt.Sprint(caller, " ", said)) {
			return
		}
	}
	messages := 0
	for _, e := range l.Log(conversation) {
		if e.Type == envelope.Message {
			messages++
		}
	}
	if messages != said {
		l.t.Errorf("%s and %s: got %d messages in the log, want %d", caller, callee, messages, said)
	}
	if _, err := l.As(caller).Post(ctx, &envelope.Envelope{Type: envelope.Leave, Conversation: conversation}); err != nil {
		l.t.Errorf("%s leaves: %v", caller, err)
	}
}

// call lets an agent call another one, which accepts.
func (l *load) call(ctx context.Context, caller, callee string) string {
	l.t.Helper()
	called, err := l.As(caller).Call(ctx, &envelope.Envelope{Type: envelope.Call, To: []string{callee}, Topic: "load"})
	if err != nil {
		l.t.Errorf("%s calls %s: %v", caller, callee, err)
		return ""
	}
	accepted, err := l.As(callee).Answer(ctx, &envelope.Envelope{Type: envelope.Accept, Request: called.Request.ID})
	if err != nil || accepted.Request.State != string(call.Accepted) {
		l.t.Errorf("%s accepts: got %s, %v", callee, daemontest.JSON(accepted), err)
		return ""
	}
	return accepted.Request.Conversation
}

func (l *load) listen(ctx context.Context, agent, conversation string) *client.Stream {
	s, err := l.As(agent).Stream(ctx, api.StreamRequest{Conversations: []string{conversation}})
	if err != nil {
		l.t.Errorf("%s: stream: %v", agent, err)
		return nil
	}
	return s
}

// exchange sends a message and waits until the other one has it.
func (l *load) exchange(ctx context.Context, conversation string, speaker *client.Client, hearer *client.Stream, text string) bool {
	began := time.Now()
	posted, err := speaker.Post(ctx, &envelope.Envelope{Type: envelope.Message, Conversation: conversation, Content: text})
	if err != nil {
		l.t.Errorf("%s: %v", text, err)
		return false
	}
	for {
		m, err := hearer.Next(ctx)
		if err != nil {
			l.t.Errorf("%s: not received: %v", text, err)
			return false
		}
		err = hearer.Confirm(api.Place{Conversation: conversation, Seq: m.Envelope.Seq}, api.Seen)
		switch {
		case err != nil:
			l.t.Errorf("%s: confirm: %v", text, err)
			return false
		case m.Envelope.Type != envelope.Message:
		case m.Envelope.Content != text || m.Envelope.Seq != posted.Message.Envelope.Seq:
			l.t.Errorf("received %s %q, want %q", m.Ref, m.Envelope.Content, text)
			return false
		default:
			l.mu.Lock()
			l.took = append(l.took, time.Since(began))
			l.mu.Unlock()
			return true
		}
	}
}

// disturb opens connections that no well-behaved program opens, and returns what closes
// them. They are told off or cut in the end; whatever happens to them is right as long
// as the others do not notice.
func (l *load) disturb(address string, silent int) (stop func()) {
	l.t.Helper()
	l.Register("deaf")
	token, err := os.ReadFile(l.Home().AgentDir("deaf") + "/token")
	if err != nil {
		l.t.Fatal(err)
	}
	upgrade := "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + strings.TrimSpace(string(token)) +
		"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
	var conns []net.Conn
	open := func(say string) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conns = append(conns, conn)
			_, err = io.WriteString(conn, say)
		}
		if err != nil && !errors.Is(err, net.ErrClosed) {
			l.t.Errorf("disturb: %v", err)
		}
	}
	for range silent {
		open("")
	}
	for range 10 {
		open("GET /v1/me HTTP/1.1\r\nHost: local")                                       // half a head
		open("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n{") // half a body
		open(upgrade)                                                                    // never subscribes
		open(upgrade + "\x81\xfe\x7f")                                                   // half a frame
		open(upgrade + "\x81\x93\x00\x00\x00\x00" + `{"op":"subscribe"}` + " ")          // never reads
	}
	return func() {
		for _, conn := range conns {
			_ = conn.Close() // many are cut already
		}
	}
}

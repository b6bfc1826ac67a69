package link_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/sync/link"
	"github.com/gorilla/websocket"
)

// wire is one end of a connection in memory, with faults. Everything on it happens in
// the bubble of a synctest.
type wire struct {
	net.Conn
	mu   sync.Mutex
	lost bool          // what is written goes nowhere
	left int           // bytes until the connection is cut; negative for never
	slow time.Duration // for each 32 KiB and what is less
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	lost, left, slow := w.lost, w.left, w.slow
	if left >= 0 {
		w.left = max(0, left-len(b))
	}
	w.mu.Unlock()
	time.Sleep(slow * time.Duration(1+len(b)>>15))
	switch {
	case lost:
		return len(b), nil
	case left >= 0 && len(b) > left:
		n, _ := w.Conn.Write(b[:left])
		_ = w.Conn.Close()
		return n, errors.New("cut")
	}
	return w.Conn.Write(b)
}

func (w *wire) set(change func(*wire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

func newWire() (near, far *wire) {
	a, b := net.Pipe()
	return &wire{Conn: a, left: -1}, &wire{Conn: b, left: -1}
}

var (
	lon = link.Options{Host: "id-of-lon", Name: "lon", Peer: "id-of-nyc"}
	nyc = link.Options{Host: "id-of-nyc", Name: "nyc", Peer: "id-of-lon"}
)

// accept serves one connection as a host that takes links, and gives the link.
func accept(t *testing.T, conn net.Conn, o link.Options) (*link.Link, error) {
	t.Helper()
	var l *link.Link
	var err error
	done := make(chan struct{})
	finish := sync.OnceFunc(func() { close(done) })
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer finish()
		l, err = link.Accept(w, r, o)
	})}
	one := &listener{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	one.conn <- conn
	server.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateHijacked || s == http.StateClosed {
			_ = one.Close()
		}
		if s == http.StateClosed { // it may not have come to the handler
			finish()
		}
	}
	_ = server.Serve(one)
	<-done
	return l, err
}

// listener gives one connection.
type listener struct {
	conn   chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }
func (l *listener) Addr() net.Addr {
	return &net.IPAddr{}
}

// end is one side of a link that runs.
type end struct {
	*link.Link
	wire *wire
	hold bool // acknowledge nothing

	mu    sync.Mutex
	taken []link.Frame
	err   error // why Run has ended
	done  chan struct{}
}

func (e *end) Take(f link.Frame) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.taken = append(e.taken, f)
	if f.Number > 0 && !e.hold {
		e.Done(f.Lane, f.Number)
	}
	return nil
}

func (e *end) types() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var types []string
	for _, f := range e.taken {
		types = append(types, f.Type)
	}
	return strings.Join(types, " ")
}

func (e *end) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.taken)
}

func (e *end) send(t *testing.T, f link.Frame) {
	t.Helper()
	if err := e.Send(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// ended waits for the end of the link, and tells why it has ended. A link that goes on
// for ten minutes is ended here.
func (e *end) ended() error {
	select {
	case <-e.done:
	case <-time.After(10 * time.Minute):
		e.Close(&link.Bye{Code: "still up"})
		<-e.done
	}
	return e.err
}

// run carries frames until ctx ends.
func (e *end) run(ctx context.Context) *end {
	e.done = make(chan struct{})
	go func() {
		defer close(e.done)
		e.err = e.Run(ctx, e)
	}()
	return e
}

// connect makes a link between two hosts, without running it.
func connect(t *testing.T, a, b link.Options) (near, far *end, nearErr, farErr error) {
	t.Helper()
	near, far = &end{}, &end{}
	near.wire, far.wire = newWire()
	done := make(chan struct{})
	go func() {
		defer close(done)
		far.Link, farErr = accept(t, far.wire, b)
	}()
	near.Link, nearErr = link.Dial(t.Context(), near.wire, a)
	<-done
	return near, far, nearErr, farErr
}

// bubble runs a test of two hosts with a link that is up, in time that passes at once.
// At the end no goroutine of it may be left.
func bubble(t *testing.T, test func(t *testing.T, near, far *end)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far, nearErr, farErr := connect(t, lon, nyc)
		if nearErr != nil || farErr != nil {
			t.Fatal(nearErr, farErr)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer func() { <-near.done; <-far.done }()
		defer cancel()
		near.run(ctx)
		far.run(ctx)
		test(t, near, far)
	})
}

// raw is a peer that says what it likes.
type raw struct {
	t  *testing.T
	ws *websocket.Conn
}

// hostile connects to a host as a peer that says hello, and then what it likes.
func hostile(t *testing.T, hello string) (*raw, *end, error) {
	t.Helper()
	a, b := newWire()
	far := &end{wire: b}
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		far.Link, err = accept(t, b, nyc)
	}()
	dialer := websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) { return a, nil }}
	ws, _, dialErr := dialer.DialContext(t.Context(), "ws://duo"+link.Path, nil)
	if dialErr != nil {
		t.Fatal(dialErr)
	}
	r := &raw{t: t, ws: ws}
	heard := make(chan struct{})
	go func() { // both write first
		defer close(heard)
		_, _, _ = ws.ReadMessage()
	}()
	r.say(hello)
	<-heard
	<-done
	return r, far, err
}

const goodHello = `{"t":"hello","versions":[1],"host":"id-of-lon","name":"lon","credit":{"mail":65536,"bulk":65536}}`

func (r *raw) say(text string) {
	_ = r.ws.WriteMessage(websocket.TextMessage, []byte(text)) // the other may have closed
}

// bye reads until the other side says goodbye, and returns the code.
func (r *raw) bye() string {
	for {
		_, data, err := r.ws.ReadMessage()
		if err != nil {
			return fmt.Sprint(err)
		}
		if _, rest, ok := strings.Cut(string(data), `{"t":"bye","code":"`); ok {
			code, _, _ := strings.Cut(rest, `"`)
			return code
		}
	}
}

func lines(texts ...string) (ls [][]byte) {
	for _, text := range texts {
		ls = append(ls, []byte(text))
	}
	return ls
}

// isBye reports whether err is a goodbye with a code, from one side or the other.
func isBye(err error, code link.Code, received bool) bool {
	var b *link.Bye
	return errors.As(err, &b) && b.Code == code && b.Received == received
}

// isTimeout reports whether a deadline has ended a link.
func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

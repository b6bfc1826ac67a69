// Package link is the connection between two hosts: frames over a WebSocket, in lanes
// of which the urgent ones go first, with credit for what is stored.
//
// A link orders and bounds what is in flight and nothing more. It keeps no state that
// outlives it, knows nothing of conversations, and promises nothing of a frame until
// the other side has acknowledged it. It takes a connection on which TLS has proved
// who the other is. docs/link.md states the protocol.
//
// [Link.Run] is two goroutines: one reads and hands frames to the [Taker], one writes.
// The reader never waits for the writer: what it has to say lies in a slot, of which
// the newest is sent.
package link

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/websocket"
)

const (
	// Path is where a host takes links.
	Path = "/v1/link"
	// Version is the version of the protocol that is spoken here.
	Version = 1
	// StatusHeld is how a host answers that takes no link until a person there says so.
	StatusHeld = http.StatusLocked
	// MinCredit is the least that a host may allow the other in a lane.
	MinCredit = 64 << 10

	defaultMailCredit = 1 << 20
	defaultBulkCredit = 256 << 10

	helloTime = 10 * time.Second // from the connection to both hellos
	pingEvery = 15 * time.Second
	silence   = 40 * time.Second // without a byte
	writeTime = 10 * time.Second // in which nothing goes out
	byeTime   = time.Second

	maxHello  = 16 << 10
	maxReason = 500     // bytes of a goodbye's text
	keepBytes = 1 << 20 // of a buffer between frames
	maxCalls  = 64      // frames of calls that wait
)

// ErrHeld means that the other host takes no link of this one until a person there says so.
var ErrHeld = errors.New("the other host has seen this one break the rules again and again, and takes no link of it until a person there has looked at it: duo peer ping")

// The frames of the link itself.
const (
	typeHello = "hello"
	typeAck   = "ack"
	typeBye   = "bye"
)

// Options are settings of one link.
type Options struct {
	Host       string // id of this host
	Name       string // what it calls itself
	Address    string // where it can be dialled, empty for nowhere
	Peer       string // id of the host at the other end, as TLS has proved it
	MailCredit int64  // bytes that the peer may have unacknowledged, 0 for 1 MiB
	BulkCredit int64  // 0 for 256 KiB
}

// Taker is what frames are for.
type Taker interface {
	// Take is given the frames in the order in which they come, by the reader of the
	// link, and must not wait: not for a disk, and not for this link. What it has to
	// keep is bounded by the credit, for the lanes that have one; the others it bounds
	// itself. When a numbered frame is dealt with, also one that it does not know,
	// somebody calls [Link.Done]. An error ends the link; a *Bye is said to the peer.
	Take(Frame) error
}

// Link is a connection to another host on which both have said hello.
type Link struct {
	ws   *websocket.Conn
	conn *paced
	peer hello

	ctx    context.Context // ends with the link; its cause is why
	cancel context.CancelCauseFunc
	queues [lanes]chan Frame
	wake   chan struct{} // a token when a slot has something or credit has come

	mu       sync.Mutex
	outgoing [lanes]outgoing
	incoming [lanes]incoming
	ackDue   bool
	pong     *string
}

// hello is the first frame of each side.
type hello struct {
	Versions []int  `json:"versions"`
	Host     string `json:"host"`
	Name     string `json:"name"`
	Address  string `json:"address,omitempty"`
	Credit   credit `json:"credit"`
}

// credit is how many bytes may be unacknowledged, in each lane that has some.
type credit struct {
	Mail int64 `json:"mail"`
	Bulk int64 `json:"bulk"`
}

// Dial makes a link of a connection to a host that takes links. The connection is
// closed when that fails, and when the link has ended.
func Dial(ctx context.Context, conn net.Conn, o Options) (*Link, error) {
	p := &paced{Conn: conn}
	dialer := websocket.Dialer{
		NetDialContext:  func(context.Context, string, string) (net.Conn, error) { return p, nil },
		ReadBufferSize:  piece,
		WriteBufferSize: piece,
	}
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	ws, resp, err := dialer.DialContext(ctx, "ws://duo"+Path, nil)
	if err != nil {
		_ = conn.Close()
		switch {
		case resp != nil && resp.StatusCode == StatusHeld:
			err = ErrHeld
		case resp != nil:
			err = fmt.Errorf("%w: %s", err, resp.Status)
		}
		return nil, fmt.Errorf("open link: %w", errors.Join(context.Cause(ctx), err))
	}
	return open(ctx, ws, p, o)
}

// Accept makes a link of a request to Path, and answers the request where it is none.
// The caller has checked who asks.
func Accept(w http.ResponseWriter, r *http.Request, o Options) (*Link, error) {
	upgrader := websocket.Upgrader{
		HandshakeTimeout: helloTime,
		ReadBufferSize:   piece,
		WriteBufferSize:  piece,
		CheckOrigin:      func(r *http.Request) bool { return len(r.Header["Origin"]) == 0 }, // no browser is a host
	}
	h := &hijacker{ResponseWriter: w}
	ws, err := upgrader.Upgrade(h, r, nil)
	if err != nil {
		return nil, fmt.Errorf("open link: %w", err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), helloTime)
	defer cancel()
	return open(ctx, ws, h.conn, o)
}

// hijacker hands out a connection that is paced.
type hijacker struct {
	http.ResponseWriter
	conn *paced
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn = &paced{Conn: conn}
	return h.conn, buffers, nil
}

func open(ctx context.Context, ws *websocket.Conn, conn *paced, o Options) (*Link, error) {
	if o.MailCredit == 0 {
		o.MailCredit = defaultMailCredit
	}
	if o.BulkCredit == 0 {
		o.BulkCredit = defaultBulkCredit
	}
	l := &Link{ws: ws, conn: conn, wake: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	for lane := range l.queues {
		l.queues[lane] = make(chan Frame, 1)
	}
	l.queues[Call] = make(chan Frame, maxCalls)
	l.incoming[Mail].credit, l.incoming[Bulk].credit = o.MailCredit, o.BulkCredit
	l.ws.SetPingHandler(l.pinged)
	l.ws.SetCloseHandler(func(int, string) error { return nil }) // the goodbye is a frame
	if err := l.greet(ctx, o); err != nil {
		l.cancel(err)
		return nil, fmt.Errorf("open link: %w", err)
	}
	l.ws.SetReadLimit(MaxFrame)
	return l, nil
}

// greet exchanges hellos. Both sides write first, so it writes beside it reads.
func (l *Link) greet(ctx context.Context, o Options) error {
	stop := context.AfterFunc(ctx, func() { _ = l.conn.Close() })
	defer stop()
	header, err := json.Marshal(hello{Versions: []int{Version}, Host: o.Host, Name: o.Name, Address: o.Address, Credit: credit{o.MailCredit, o.BulkCredit}})
	if err != nil {
		return fmt.Errorf("encode hello: %w", err)
	}
	wrote := make(chan error, 1)
	go func() {
		f := Frame{Type: typeHello, Header: header}
		wrote <- l.ws.WriteMessage(websocket.TextMessage, f.encode(nil))
	}()
	heardErr := l.hearHello(o.Peer)
	var bye *Bye
	isBye := errors.As(heardErr, &bye)
	if heardErr != nil && !isBye {
		_ = l.conn.Close() // ends the write
	}
	wroteErr := <-wrote
	if isBye && wroteErr == nil && !bye.Received {
		l.say(bye)
	}
	err = errors.Join(heardErr, wroteErr)
	if err != nil {
		err = errors.Join(context.Cause(ctx), err, ignoreClosed(l.conn.Close()))
	}
	return err
}

func (l *Link) hearHello(peer string) error {
	l.ws.SetReadLimit(maxHello)
	f, _, err := l.next(new(bytes.Buffer))
	if err != nil {
		return err
	}
	switch f.Type {
	case typeBye:
		return heardBye(f)
	case typeHello:
	default:
		return fault(CodeFrame, "%.40q before hello", f.Type)
	}
	h := &l.peer
	if err := json.Unmarshal(f.Header, h); err != nil {
		return fault(CodeFrame, "a hello that cannot be read")
	}
	switch {
	case !slices.Contains(h.Versions, Version):
		return fault(CodeVersion, "this host speaks version %d", Version)
	case h.Host != peer:
		return fault(CodeHost, "not the host that TLS has proved")
	case h.Credit.Mail < MinCredit || h.Credit.Bulk < MinCredit:
		return fault(CodeFrame, "too little credit")
	}
	l.outgoing[Mail].credit, l.outgoing[Bulk].credit = h.Credit.Mail, h.Credit.Bulk
	return nil
}

// Peer is the id of the host at the other end.
func (l *Link) Peer() string { return l.peer.Host }

// PeerName is what the host at the other end calls itself: a text of its own.
func (l *Link) PeerName() string { return l.peer.Name }

// Conn is the connection that the link was made of. It is the link's.
func (l *Link) Conn() net.Conn { return l.conn.Conn }

// PeerAddress is where the host at the other end says it can be dialled: a text of its
// own, empty for nowhere.
func (l *Link) PeerAddress() string { return l.peer.Address }

// Context ends with the link.
func (l *Link) Context() context.Context { return l.ctx }

// Run carries frames until the link ends, and returns why: a *Bye when one side has
// said so, else what has broken. The end of ctx is a goodbye with CodeShutdown.
func (l *Link) Run(ctx context.Context, taker Taker) error {
	stop := context.AfterFunc(ctx, func() { l.Close(&Bye{Code: CodeShutdown}) })
	defer stop()
	written := make(chan struct{})
	go func() {
		defer close(written)
		l.write()
	}()
	err := l.read(taker)
	l.cancel(err)
	<-written
	return fmt.Errorf("link: %w", context.Cause(l.ctx))
}

// Close ends the link with a goodbye, which Run says and returns. It does not wait.
func (l *Link) Close(b *Bye) { l.cancel(b) }

// Send hands a frame to the writer. It waits until the lane has room, and returns why
// the link has ended where it has. The frame and what it holds belong to the link then.
func (l *Link) Send(ctx context.Context, f Frame) error {
	if err := f.check(); err != nil {
		return err
	}
	select {
	case <-l.ctx.Done(): // first of all: a queue may still have room
		return fmt.Errorf("send frame: %w", context.Cause(l.ctx))
	default:
	}
	select {
	case l.queues[f.Lane] <- f:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.ctx.Done():
		return fmt.Errorf("send frame: %w", context.Cause(l.ctx))
	}
}

// TrySend is Send where the lane has room, and else says no at once.
func (l *Link) TrySend(f Frame) bool {
	if f.check() != nil || l.ctx.Err() != nil {
		return false
	}
	select {
	case l.queues[f.Lane] <- f:
		return true
	default:
		return false
	}
}

// Done says that the frames of a lane through number are dealt with: what they bring is
// on disk, or was refused and that is on disk. The peer is told so.
func (l *Link) Done(lane Lane, number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.incoming[lane].finish(number) {
		l.ackDue = true
		l.nudge()
	}
}

// nudge makes the writer look again.
func (l *Link) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Link) pinged(data string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pong = &data
	l.nudge()
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// clip makes a text of the other side one line that is not too long and does nothing to a
// terminal.
func clip(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxReason)], "")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

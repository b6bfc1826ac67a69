package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/sync/link"
)

const joinTime = 15 * time.Second // from an ask to a connection

// Conn is a connection with another host that a relay carries. Nothing is proved of who
// is at the other end, and nothing on it is secret, until TLS is spoken inside.
type Conn struct {
	net.Conn
	Peer string // id of the host at the other end, as the relay says
	Via  string // id of the relay
}

// Dial connects to a host by a relay. It returns when the two ends are connected.
func (r *Relay) Dial(ctx context.Context, via, to string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	conn, err := r.dial(ctx, via, to)
	if err != nil {
		return nil, fmt.Errorf("dial %q by a relay: %w", to, err)
	}
	return conn, nil
}

func (r *Relay) dial(ctx context.Context, via, to string) (*Conn, error) {
	l, err := r.relayLine(via)
	if err != nil {
		return nil, err
	}
	answer, err := l.ask(ctx, to)
	if err != nil {
		return nil, err
	}
	if answer.Refused != "" {
		return nil, &Refused{word(answer.Refused)}
	}
	return r.connect(ctx, via, to, answer.Token)
}

// ask asks the peer for a splice, and returns its answer.
func (l *line) ask(ctx context.Context, to string) (spliceAnswer, error) {
	answers := make(chan spliceAnswer, 1)
	l.mu.Lock()
	l.lastAsk++
	number := l.lastAsk
	l.answers[number] = answers
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.answers, number)
		l.mu.Unlock()
	}()
	if err := l.say(ctx, typeTunnel, tunnelAsk{Ask: number, To: to}); err != nil {
		return spliceAnswer{}, err
	}
	select {
	case a := <-answers:
		return a, nil
	case <-ctx.Done():
		return spliceAnswer{}, context.Cause(ctx)
	case <-l.ctx.Done():
		return spliceAnswer{}, context.Cause(l.ctx)
	}
}

// takeSplice takes an answer, or an invitation. What is from no relay of this host is
// passed over, as is what nobody has asked for, and too many invitations at once.
func (l *line) takeSplice(f link.Frame) error {
	var a spliceAnswer
	if err := read(f, &a); err != nil {
		return err
	}
	defer l.session.Done(f)
	if a.Ask > 0 {
		l.answered(a)
		return nil
	}
	if !isID(a.Host) {
		return fault(f, errors.New("it invites for nobody"))
	}
	select {
	case l.invited <- struct{}{}:
		l.group.Go(func() {
			defer func() { <-l.invited }()
			l.accept(a)
		})
	default:
	}
	return nil
}

func (l *line) answered(a spliceAnswer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if answers := l.answers[a.Ask]; answers != nil {
		delete(l.answers, a.Ask)
		answers <- a
	}
}

// accept follows an invitation and hands the connection to who takes them.
func (l *line) accept(a spliceAnswer) {
	r, via := l.relay, l.session.Host
	if _, known := r.o.Book.Keys(a.Host); !known || a.Host == via || !r.o.Book.Relay(via) {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, joinTime)
	defer cancel()
	conn, err := r.connect(ctx, via, a.Host, a.Token)
	if err != nil {
		r.o.Log.Warn("an invitation by a relay led nowhere", "peer", a.Host, "err", err)
		return
	}
	select {
	case r.incoming <- conn:
	case <-ctx.Done(): // nobody takes it
		_ = conn.Close()
	case <-r.ctx.Done():
		_ = conn.Close()
	}
}

// connect makes the second connection to a relay, and shows the token.
func (r *Relay) connect(ctx context.Context, via, other, shown string) (*Conn, error) {
	if _, err := parseToken(shown); err != nil {
		return nil, fmt.Errorf("the relay %q gives %w", via, err)
	}
	raw, err := r.o.Dial(ctx, via)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	conn := tls.Client(raw, r.o.Host().SpliceConfig(via, r.o.Trust))
	err = show(ctx, conn, shown)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return &Conn{Conn: conn, Peer: other, Via: via}, nil
}

// show shows the token and hears what the relay says to it.
func show(ctx context.Context, conn *tls.Conn, shown string) error {
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, shown+"\n"); err != nil {
		return err
	}
	answer, err := hearWord(conn)
	if err != nil {
		return err
	}
	if answer != strings.TrimSuffix(okLine, "\n") {
		return &Refused{answer}
	}
	return nil
}

// hearWord reads a line of one word, and nothing behind it.
func hearWord(conn net.Conn) (string, error) {
	var text []byte
	for b := make([]byte, 1); len(text) <= maxWord; text = append(text, b[0]) {
		if _, err := io.ReadFull(conn, b); err != nil {
			return "", fmt.Errorf("hear the relay: %w", err)
		}
		if b[0] == '\n' {
			return word(string(text)), nil
		}
	}
	return "", errors.New("hear the relay: too long a word")
}

// word is a code that the other side has said, or what stands for one that is none.
func word(s string) string {
	if s == "" || len(s) > maxWord || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") != "" {
		return "unreadable"
	}
	return s
}

// Listener gives the connections that other hosts make to this one by a relay, each a
// *Conn. It ends with the Relay.
func (r *Relay) Listener() net.Listener { return &listener{relay: r, closed: make(chan struct{})} }

type listener struct {
	relay  *Relay
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.relay.incoming:
		return c, nil
	case <-l.closed:
	case <-l.relay.ctx.Done():
	}
	return nil, net.ErrClosed
}

func (l *listener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *listener) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "duo" }
func (addr) String() string  { return "relay" }

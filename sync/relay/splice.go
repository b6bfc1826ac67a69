package relay

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/claude-duo/duo/sync/identity"
)

// Serve takes a connection on which the listener for hosts has agreed on
// identity.SpliceProtocol, and returns when the splice has ended. It closes the connection.
func (r *Relay) Serve(conn *tls.Conn) error {
	defer conn.Close()
	leave, err := r.enter()
	if err != nil {
		return err
	}
	defer leave()
	stop := context.AfterFunc(r.ctx, func() { _ = conn.NetConn().Close() })
	defer stop()
	h, err := r.admit(conn)
	if err != nil {
		return fmt.Errorf("splice: %w", errors.Join(err, refuse(conn, err)))
	}
	defer r.leave(h)
	if err := r.meet(h); err != nil {
		return fmt.Errorf("splice: %w", errors.Join(err, refuse(conn, err)))
	}
	return r.carry(h)
}

// enter counts a call of Serve, for the end of the Relay.
func (r *Relay) enter() (leave func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return nil, net.ErrClosed
	}
	r.splicing.Add(1)
	return r.splicing.Done, nil
}

// admit finds the half to which a connection belongs.
func (r *Relay) admit(conn *tls.Conn) (*half, error) {
	if err := conn.SetDeadline(time.Now().Add(tokenTime)); err != nil {
		return nil, err
	}
	if err := conn.HandshakeContext(r.ctx); err != nil {
		return nil, err
	}
	state := conn.ConnectionState()
	keys, err := identity.PeerKeys(state)
	if err != nil {
		return nil, err
	}
	if state.NegotiatedProtocol != identity.SpliceProtocol {
		return nil, fmt.Errorf("the other speaks %q, want %q", state.NegotiatedProtocol, identity.SpliceProtocol)
	}
	shown, err := r.hearToken(conn, keys.ID())
	switch { // only now: who has not said all may not hear what is said to it
	case err != nil:
		return nil, err
	case Spliced(conn):
		return nil, &Refused{CodeLoop}
	case !r.carries(keys.ID()):
		return nil, &Refused{CodeUnknown}
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return r.redeem(shown, keys.ID(), conn)
}

// hearToken reads the token that a host shows.
func (r *Relay) hearToken(conn *tls.Conn, host string) (token, error) {
	if !r.join(host) {
		return token{}, errors.New("too many connections that show no token")
	}
	defer r.joined(host)
	text := make([]byte, tokenLine)
	if _, err := io.ReadFull(conn, text); err != nil {
		return token{}, fmt.Errorf("read token: %w", err)
	}
	shown, err := parseToken(string(text[:tokenLine-1]))
	if err != nil || text[tokenLine-1] != '\n' {
		return token{}, &Refused{CodeToken}
	}
	return shown, nil
}

func (r *Relay) join(host string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.account(host)
	if a.joining >= r.o.Limits.Joining {
		return false
	}
	a.joining++
	return true
}

func (r *Relay) joined(host string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.account(host).joining--
}

// redeem gives the half for which a token was made. The token of another host stays good.
func (r *Relay) redeem(shown token, host string, conn *tls.Conn) (*half, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(time.Now())
	sum := sha256.Sum256(shown[:])
	h := r.halves[sum]
	if h == nil || h.host != host {
		return nil, &Refused{CodeToken}
	}
	delete(r.halves, sum)
	a := r.account(host)
	if a.splices >= r.o.Limits.Splices || r.sides >= 2*r.o.Limits.AllSplices {
		return nil, &Refused{CodeLimited}
	}
	h.conn = conn
	if h.last = h.other.conn != nil; h.last {
		r.begin(h.splice)
	}
	a.splices++
	r.sides++
	return h, nil
}

// begin makes a splice of two halves that are both here.
func (r *Relay) begin(s *splice) {
	s.ctx, s.cancel = context.WithTimeout(r.ctx, r.o.Limits.Life)
	s.idle = time.AfterFunc(r.o.Limits.Idle, s.cancel)
}

// leave counts a side of a splice that has ended.
func (r *Relay) leave(h *half) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.account(h.host).splices--
	r.sides--
}

// meet waits for the other half. Who comes last says to both that they are connected.
func (r *Relay) meet(h *half) error {
	if h.last {
		defer close(h.met)
		return errors.Join(welcome(h.other.conn), welcome(h.conn))
	}
	late := time.NewTimer(time.Until(h.ends))
	defer late.Stop()
	select {
	case <-h.met:
		return nil
	case <-r.ctx.Done():
		return net.ErrClosed
	case <-late.C:
		return r.giveUp(h)
	}
}

// giveUp ends the wait for the other half, unless it has come in this moment.
func (r *Relay) giveUp(h *half) error {
	r.mu.Lock()
	r.expire(time.Now())
	came := h.ctx != nil
	r.mu.Unlock()
	if !came {
		return &Refused{CodeAway}
	}
	<-h.met
	return nil
}

func welcome(conn *tls.Conn) error {
	if err := conn.SetWriteDeadline(time.Now().Add(tokenTime)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, okLine); err != nil {
		return err
	}
	return conn.SetWriteDeadline(time.Time{})
}

// refuse says why a connection is not carried, where that is for the other to know.
func refuse(conn *tls.Conn, why error) error {
	var refused *Refused
	if !errors.As(why, &refused) {
		return nil
	}
	if err := conn.SetWriteDeadline(time.Now().Add(tokenTime)); err != nil {
		return err
	}
	_, err := io.WriteString(conn, refused.Code+"\n")
	return err
}

// carry copies what one side says to the other, until the splice ends.
func (r *Relay) carry(h *half) error {
	defer h.cancel()
	stop := context.AfterFunc(h.ctx, func() { _ = h.conn.NetConn().Close() })
	defer stop()
	err := r.copy(h)
	close(h.ended)
	if err != nil {
		return fmt.Errorf("splice: %w", errors.Join(context.Cause(h.ctx), err))
	}
	over := time.NewTimer(linger)
	defer over.Stop()
	select {
	case <-h.other.ended:
	case <-h.ctx.Done():
	case <-over.C:
	}
	return nil
}

// copy carries what a half says, until it has said all. It reads no more before the
// other has taken what was read.
func (r *Relay) copy(h *half) error {
	defer h.idle.Stop()
	r.mu.Lock()
	allowed := r.account(h.host).bytes
	r.mu.Unlock()
	buf := make([]byte, spliceBuffer)
	for {
		n, err := h.conn.Read(buf)
		if n > 0 {
			h.idle.Reset(r.o.Limits.Idle)
			if err := allowed.WaitN(h.ctx, n); err != nil {
				return err
			}
			if r.tap != nil {
				r.tap(buf[:n])
			}
			if _, err := h.other.conn.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return h.other.conn.CloseWrite()
		}
		if err != nil {
			return err
		}
	}
}

// Spliced reports whether a connection, or the one below it, comes through a relay.
func Spliced(conn net.Conn) bool {
	for conn != nil {
		switch c := conn.(type) {
		case *Conn:
			return true
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return false
		}
	}
	return false
}

package identity

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/go-json-experiment/json"
)

const (
	pairTime  = 10 * time.Second // for all that is said
	maxPair   = 16 << 10         // bytes of what one side says
	maxReason = 500              // bytes of a reason
	maxOffers = 8
	maxTries  = 5
)

// What the two sides prove, so that neither can send back what it has heard.
const (
	joining   = "join"
	admitting = "admit"
)

// ErrCode means that no code is open that the other has proved to know: it is
// expired, used by another host, burnt by wrong attempts, or was never printed.
var ErrCode = errors.New("the pairing code is expired, used or wrong; ask for a new one: duo pair")

// Refused is why a host does not take another one, in words for the person there.
type Refused struct{ Why string }

func (r *Refused) Error() string { return r.Why }

// Peer is another host, as pairing has brought it.
type Peer struct {
	Name string // what it calls itself
	Keys Keys
}

// Pinner keeps what pairing has brought.
type Pinner interface {
	// Pin makes the peer known, durably. To pin one that is known already changes
	// nothing. A *Refused is told to the other side as well.
	Pin(Peer) error
}

// Offers are the codes that are open. They live in memory, by the monotonic clock.
type Offers struct {
	now func() time.Time

	mu   sync.Mutex
	open []*offer
}

type offer struct {
	code  Code
	ends  time.Time
	tries int    // wrong proofs since it is open
	host  string // id of the one that has used it
}

// NewOffers returns no offers. The clock is for tests; nil is time.Now.
func NewOffers(now func() time.Time) *Offers {
	if now == nil {
		now = time.Now
	}
	return &Offers{now: now}
}

// Open makes a code for one host, that finds h at address, for some time.
func (o *Offers) Open(h *Host, address string, life time.Duration) (Code, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expire()
	if len(o.open) >= maxOffers {
		return Code{}, fmt.Errorf("%d pairing codes are open already; wait until one ends", maxOffers)
	}
	ends := o.now().Add(life)
	code, err := newCode(address, h.keys.Newest(), ends)
	if err != nil {
		return Code{}, err
	}
	o.open = append(o.open, &offer{code: code, ends: ends})
	return code, nil
}

// Any reports whether a code is open.
func (o *Offers) Any() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expire()
	return len(o.open) > 0
}

// redeem gives the open code whose proof the host with this id has shown. It looks at
// all of them, so that the time it takes tells nothing.
func (o *Offers) redeem(id string, shown []byte, prove func(Code) []byte) (Code, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expire()
	var found *offer
	for _, f := range o.open {
		if hmac.Equal(shown, prove(f.code)) {
			found = f
		}
	}
	switch {
	case found == nil:
		for _, f := range o.open {
			f.tries++
		}
		return Code{}, ErrCode
	case found.host != "" && found.host != id:
		return Code{}, ErrCode
	}
	found.host = id
	return found.code, nil
}

func (o *Offers) expire() {
	now := o.now()
	o.open = slices.DeleteFunc(o.open, func(f *offer) bool { return f.tries >= maxTries || !now.Before(f.ends) })
}

// pairLine is all that a side says.
type pairLine struct {
	Name    string `json:"name,omitempty"`
	Proof   string `json:"proof,omitempty"`
	Refused string `json:"refused,omitempty"`
}

// Join makes h known to the host that has printed code, over a connection to its
// address, and pins that one. It closes the connection.
func (h *Host) Join(ctx context.Context, raw net.Conn, code Code, pin Pinner) (Peer, error) {
	conn := tls.Client(raw, h.pairConfig(code))
	defer conn.Close()
	p, err := h.pair(ctx, conn, func(peer Keys, binding []byte) (Peer, error) {
		proof := prove(code, joining, h.ID(), peer.ID(), binding)
		if err := say(conn, pairLine{Name: h.name, Proof: base64.StdEncoding.EncodeToString(proof)}); err != nil {
			return Peer{}, err
		}
		name, shown, err := hear(conn)
		if err != nil {
			return Peer{}, err
		}
		if !hmac.Equal(shown, prove(code, admitting, h.ID(), peer.ID(), binding)) {
			return Peer{}, errors.New("the other does not know the code that it has printed")
		}
		p := Peer{Name: name, Keys: peer}
		return p, pin.Pin(p)
	})
	if RefusedByPeer(err) { // a host without an open code lets nobody in to hear so
		err = errors.Join(ErrCode, err)
	}
	return p, err
}

// Admit answers a host that joins with one of the open codes, over a connection that
// speaks PairProtocol, and pins it. It closes the connection.
func (h *Host) Admit(ctx context.Context, conn *tls.Conn, offers *Offers, pin Pinner) (Peer, error) {
	defer conn.Close()
	return h.pair(ctx, conn, func(peer Keys, binding []byte) (Peer, error) {
		name, shown, err := hear(conn)
		if err != nil {
			return Peer{}, err
		}
		code, err := offers.redeem(peer.ID(), shown, func(c Code) []byte {
			return prove(c, joining, peer.ID(), h.ID(), binding)
		})
		if err != nil {
			return Peer{}, errors.Join(err, say(conn, pairLine{Refused: "code"}))
		}
		p := Peer{Name: name, Keys: peer}
		if err := pin.Pin(p); err != nil {
			return Peer{}, errors.Join(err, say(conn, pairLine{Refused: reason(err)}))
		}
		proof := prove(code, admitting, peer.ID(), h.ID(), binding)
		return p, say(conn, pairLine{Name: h.name, Proof: base64.StdEncoding.EncodeToString(proof)})
	})
}

// pair does the handshake and then talk, within the time for both.
func (h *Host) pair(ctx context.Context, conn *tls.Conn, talk func(Keys, []byte) (Peer, error)) (Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, pairTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.NetConn().Close() })
	defer stop()
	p, err := func() (Peer, error) {
		if err := conn.HandshakeContext(ctx); err != nil {
			return Peer{}, err
		}
		state := conn.ConnectionState()
		keys, err := PeerKeys(state)
		if err != nil {
			return Peer{}, err
		}
		if state.NegotiatedProtocol != PairProtocol {
			return Peer{}, fmt.Errorf("the other speaks %q, want %q", state.NegotiatedProtocol, PairProtocol)
		}
		if keys.ID() == h.ID() {
			return Peer{}, &Refused{Why: "this is the same host"}
		}
		binding, err := state.ExportKeyingMaterial("EXPORTER-duo-pair-1", nil, 32)
		if err != nil {
			return Peer{}, err
		}
		return talk(keys, binding)
	}()
	if err != nil {
		return Peer{}, fmt.Errorf("pair: %w", errors.Join(context.Cause(ctx), err))
	}
	return p, nil
}

// prove makes what only a host that knows the code can make, on this connection.
func prove(code Code, role, joinID, admitID string, binding []byte) []byte {
	mac := hmac.New(sha256.New, code.secret[:])
	fmt.Fprintf(mac, "duo/pair/1\n%s\n%s\n%s\n", role, joinID, admitID)
	mac.Write(binding)
	return mac.Sum(nil)
}

func say(conn net.Conn, l pairLine) error {
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("say: %w", err)
	}
	_, err = conn.Write(append(data, '\n'))
	return err
}

// hear reads the name and the proof of the other side, or why it refuses.
func hear(conn net.Conn) (name string, proof []byte, err error) {
	data, err := bufio.NewReader(io.LimitReader(conn, maxPair)).ReadBytes('\n')
	if err != nil {
		return "", nil, fmt.Errorf("hear the other side: %w", err)
	}
	var l pairLine
	if err := json.Unmarshal(data, &l); err != nil {
		return "", nil, fmt.Errorf("hear the other side: %w", err)
	}
	switch {
	case l.Refused == "code":
		return "", nil, ErrCode
	case l.Refused != "":
		return "", nil, &Refused{Why: strings.ToValidUTF8(l.Refused[:min(len(l.Refused), maxReason)], "")}
	}
	if err := envelope.CheckHost(l.Name); err != nil {
		return "", nil, err
	}
	proof, err = base64.StdEncoding.DecodeString(l.Proof)
	if err != nil {
		return "", nil, fmt.Errorf("hear the other side: %w", err)
	}
	return l.Name, proof, nil
}

// reason is what the other side is told: only what was meant for it.
func reason(err error) string {
	var refused *Refused
	if errors.As(err, &refused) {
		return refused.Why
	}
	return "the other host could not keep this one; see its log"
}

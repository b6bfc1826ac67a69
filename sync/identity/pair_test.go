package identity_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/sync/identity"
)

const life = 15 * time.Minute

// meeting is a host that has printed codes, and whom it has let in.
type meeting struct {
	t      *testing.T
	host   *identity.Host
	book   *book
	offers *identity.Offers
	clock  atomic.Int64 // seconds
}

func newMeeting(t *testing.T) *meeting {
	m := &meeting{t: t, host: newHost(t, "nyc"), book: knows()}
	m.offers = identity.NewOffers(func() time.Time { return time.Unix(1_800_000_000+m.clock.Load(), 0) })
	return m
}

func (m *meeting) code() identity.Code {
	m.t.Helper()
	c, err := m.offers.Open(m.host, "127.0.0.1:7601", life)
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// join has a host join with a code, and returns what comes of it on both sides.
func (m *meeting) join(h *identity.Host, code identity.Code) (joined *book, joinErr, admitErr error) {
	m.t.Helper()
	dialled, accepted := pipe(m.t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn := tls.Server(accepted, m.host.ServerConfig(m.book, m.offers.Any))
		_, admitErr = m.host.Admit(context.Background(), conn, m.offers, m.book)
	}()
	joined = knows()
	_, joinErr = h.Join(context.Background(), dialled, code, joined)
	<-done
	return joined, joinErr, admitErr
}

func TestPair(t *testing.T) {
	m, lon := newMeeting(t), newHost(t, "lon")
	code := m.code()
	joined, joinErr, admitErr := m.join(lon, code)
	if joinErr != nil || admitErr != nil {
		t.Fatalf("got %v and %v", joinErr, admitErr)
	}
	if p, ok := m.book.peer(lon.ID()); !ok || p.Name != "lon" || p.Keys.Follow(lon.Keys()) != nil {
		t.Errorf("nyc has pinned %+v, want lon", p)
	}
	if p, ok := joined.peer(m.host.ID()); !ok || p.Name != "nyc" {
		t.Errorf("lon has pinned %+v, want nyc", p)
	}
	if clientErr, serverErr := shake(t, lon.ClientConfig(m.host.ID(), joined), m.host.ServerConfig(m.book, nil)); clientErr != nil || serverErr != nil {
		t.Errorf("the two cannot link: %v, %v", clientErr, serverErr)
	}
	// The answer was lost: the same host comes again.
	if joined, joinErr, _ := m.join(lon, code); joinErr != nil || len(joined.pinned) != 1 {
		t.Errorf("the same host again: got %v, want to be let in", joinErr)
	}
	if joined, joinErr, admitErr := m.join(newHost(t, "paris"), code); !errors.Is(joinErr, identity.ErrCode) || !errors.Is(admitErr, identity.ErrCode) || len(joined.pinned) != 0 {
		t.Errorf("another host with a used code: got %v and %v, want %v", joinErr, admitErr, identity.ErrCode)
	}
	if len(m.book.pinned) != 1 {
		t.Errorf("nyc has pinned %d hosts, want 1", len(m.book.pinned))
	}
}

func TestCodesEnd(t *testing.T) {
	m, lon := newMeeting(t), newHost(t, "lon")
	code := m.code()
	m.clock.Add(int64(life/time.Second) - 1)
	if !m.offers.Any() {
		t.Error("the code has ended too early")
	}
	m.clock.Add(1)
	if m.offers.Any() {
		t.Error("the code has not ended")
	}
	if _, joinErr, _ := m.join(lon, code); !errors.Is(joinErr, identity.ErrCode) {
		t.Errorf("got %v, want %v", joinErr, identity.ErrCode)
	}
	fresh := m.code() // opens the door, but for another code
	if _, joinErr, _ := m.join(lon, code); !errors.Is(joinErr, identity.ErrCode) {
		t.Errorf("beside a fresh code: got %v, want %v", joinErr, identity.ErrCode)
	}
	if _, joinErr, admitErr := m.join(lon, fresh); joinErr != nil || admitErr != nil {
		t.Errorf("the fresh code: got %v and %v", joinErr, admitErr)
	}
}

func TestWrongProofsBurnTheCode(t *testing.T) {
	m, lon := newMeeting(t), newHost(t, "lon")
	code, wrong := m.code(), identity.WithSecret(m.code(), "0123456789")
	for range 4 {
		if _, joinErr, _ := m.join(lon, wrong); !errors.Is(joinErr, identity.ErrCode) {
			t.Fatalf("wrong secret: got %v, want %v", joinErr, identity.ErrCode)
		}
	}
	if !m.offers.Any() {
		t.Error("burnt after four")
	}
	_, _, _ = m.join(lon, wrong)
	if _, joinErr, _ := m.join(lon, code); m.offers.Any() || !errors.Is(joinErr, identity.ErrCode) {
		t.Errorf("after five wrong proofs: got %v, want %v", joinErr, identity.ErrCode)
	}
}

func TestOffersAreFew(t *testing.T) {
	m := newMeeting(t)
	for range 8 {
		m.code()
	}
	if _, err := m.offers.Open(m.host, "127.0.0.1:7601", life); err == nil {
		t.Error("opened a ninth")
	}
}

func TestPairingIsRefusedInWords(t *testing.T) {
	m, lon := newMeeting(t), newHost(t, "lon")
	m.book.refuse = &identity.Refused{Why: "there is another lon already"}
	joined, joinErr, admitErr := m.join(lon, m.code())
	if !says(joinErr, "another lon") || !says(admitErr, "another lon") || len(joined.pinned) != 0 {
		t.Errorf("got %v and %v, want why", joinErr, admitErr)
	}
	m.book.refuse = errors.New("disk full at /secret/place")
	if _, joinErr, admitErr = m.join(lon, m.code()); says(joinErr, "secret") || !says(admitErr, "secret") {
		t.Errorf("got %v and %v, want the cause on its own side only", joinErr, admitErr)
	}
	m.book.refuse = nil
	if _, joinErr, _ = m.join(m.host, m.code()); !says(joinErr, "same host") {
		t.Errorf("with itself: got %v", joinErr)
	}
}

// TestOnlyThePrinterHears puts another host where the code leads to.
func TestOnlyThePrinterHears(t *testing.T) {
	m, lon, paris := newMeeting(t), newHost(t, "lon"), newHost(t, "paris")
	code := m.code()
	dialled, accepted := pipe(t)
	heard := make(chan int, 1)
	go func() {
		conn := tls.Server(accepted, paris.ServerConfig(knows(), func() bool { return true }))
		n, _ := conn.Read(make([]byte, 100))
		conn.Close()
		heard <- n
	}()
	joined := knows()
	if _, err := lon.Join(context.Background(), dialled, code, joined); !errors.Is(err, identity.ErrChangedKey) {
		t.Errorf("got %v, want %v", err, identity.ErrChangedKey)
	}
	if n := <-heard; n != 0 || len(joined.pinned) != 0 {
		t.Errorf("the wrong host has heard %d bytes", n)
	}
}

// TestAnAnswerIsProved has a host answer with what it has heard.
func TestAnAnswerIsProved(t *testing.T) {
	m, lon := newMeeting(t), newHost(t, "lon")
	code := m.code()
	dialled, accepted := pipe(t)
	go func() {
		conn := tls.Server(accepted, m.host.ServerConfig(m.book, m.offers.Any))
		heard := make([]byte, 1000)
		n, _ := conn.Read(heard)
		_, _ = conn.Write(heard[:n])
		conn.Close()
	}()
	joined := knows()
	if _, err := lon.Join(context.Background(), dialled, code, joined); !says(err, "does not know the code") || len(joined.pinned) != 0 {
		t.Errorf("got %v, want the answer refused", err)
	}
}

// TestAdmitRefusesHostileJoiners says things that no host says.
func TestAdmitRefusesHostileJoiners(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":      "",
		"no JSON":      "hello\n",
		"no end":       `{"name":"lon","proof":"AAAA"}`,
		"no proof":     `{"name":"lon"}` + "\n",
		"a bad name":   `{"name":"../lon","proof":"AAAA"}` + "\n",
		"no base64":    `{"name":"lon","proof":"!"}` + "\n",
		"a name twice": `{"name":"lon","name":"lon","proof":"AAAA"}` + "\n",
		"far too much": strings.Repeat("x", 1<<20),
	} {
		m, lon := newMeeting(t), newHost(t, "lon")
		m.code()
		dialled, accepted := pipe(t)
		go func() {
			config := lon.ClientConfig(m.host.ID(), knows(m.host))
			config.NextProtos, config.VerifyConnection = []string{identity.PairProtocol}, nil
			conn := tls.Client(dialled, config)
			_, _ = conn.Write([]byte(text))
			conn.Close()
		}()
		conn := tls.Server(accepted, m.host.ServerConfig(m.book, m.offers.Any))
		if _, err := m.host.Admit(context.Background(), conn, m.offers, m.book); err == nil || len(m.book.pinned) != 0 {
			t.Errorf("%s: let in", name)
		}
	}
}

func TestPairingDoesNotWaitForEver(t *testing.T) {
	nyc, lon := newHost(t, "nyc"), newHost(t, "lon")
	synctest.Test(t, func(t *testing.T) {
		offers := identity.NewOffers(nil)
		code, err := offers.Open(nyc, "127.0.0.1:7601", life)
		if err != nil {
			t.Fatal(err)
		}
		near, silent := net.Pipe()
		defer silent.Close()
		start := time.Now()
		if _, err := lon.Join(t.Context(), near, code, knows()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("join: got %v, want %v", err, context.DeadlineExceeded)
		}
		near, silent = net.Pipe()
		defer silent.Close()
		conn := tls.Server(near, nyc.ServerConfig(knows(), offers.Any))
		if _, err := nyc.Admit(t.Context(), conn, offers, knows()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("admit: got %v, want %v", err, context.DeadlineExceeded)
		}
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("both took %v, want 10 s each", took)
		}
	})
}

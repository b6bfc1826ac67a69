package relay_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/relay"
)

// introduced links both hosts with nyc, which tells them of each other.
func introduced(t *testing.T, w *world) {
	t.Helper()
	w.link(t, w.lon)
	w.link(t, w.ber)
	synctest.Wait()
}

// TestLinkThroughASplice runs the whole of a link inside what nyc carries, over TCP.
func TestLinkThroughASplice(t *testing.T) {
	w := newWorld(t, relay.Limits{})
	w.loopback()
	w.lon.pin(w.ber)
	w.ber.pin(w.lon)
	var mu sync.Mutex
	var seen bytes.Buffer
	w.nyc.Tap(func(b []byte) { mu.Lock(); defer mu.Unlock(); seen.Write(b) })
	w.link(t, w.lon)
	w.link(t, w.ber)

	secret := strings.Repeat("nobody else may read this. ", 5000)
	taken := &sink{frames: make(chan link.Frame, 1)}
	ended := make(chan error, 2)
	ctx := t.Context()
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		keys, err := identity.PeerKeys(*r.TLS)
		if err == nil {
			taken.Link, err = link.Accept(rw, r, link.Options{Host: w.ber.ID(), Name: "ber", Peer: keys.ID()})
		}
		if err == nil {
			if !relay.Spliced(taken.Conn()) || keys.ID() != w.lon.ID() {
				t.Errorf("the link is with %s, want one with lon that is spliced", keys.ID())
			}
			err = taken.Run(ctx, taken)
		}
		ended <- err
	})}
	listener := w.ber.Listener()
	go func() { _ = server.Serve(tls.NewListener(listener, w.ber.ServerConfig(w.ber.book, nil))) }()
	defer server.Close()

	conn, err := w.lon.Dial(ctx, w.nyc.ID(), w.ber.ID())
	if err != nil {
		t.Fatal(err)
	}
	if conn.Via != w.nyc.ID() || conn.Peer != w.ber.ID() {
		t.Errorf("got a connection with %s by %s", conn.Peer, conn.Via)
	}
	from, err := link.Dial(ctx, tls.Client(conn, w.lon.ClientConfig(w.ber.ID(), w.lon.book)), link.Options{Host: w.lon.ID(), Name: "lon", Peer: w.ber.ID()})
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- from.Run(ctx, &sink{}) }()
	if err := from.Send(ctx, frame(secret)); err != nil {
		t.Fatal(err)
	}
	if got := <-taken.frames; len(got.Lines) != 1 || string(got.Lines[0]) != secret {
		t.Errorf("got %d lines, want what was sent", len(got.Lines))
	}
	mu.Lock()
	if seen.Len() < len(secret) || bytes.Contains(seen.Bytes(), []byte("nobody")) || bytes.Contains(seen.Bytes(), []byte("hello")) {
		t.Errorf("nyc has carried %d bytes, and can read them", seen.Len())
	}
	mu.Unlock()
	w.nyc.stop() // R1: as if the relay were cut
	for range 2 {
		if err := <-ended; err == nil {
			t.Error("a link goes on without its relay")
		}
	}
}

// sink acknowledges frames and hands them on.
type sink struct {
	*link.Link
	frames chan link.Frame
}

func (s *sink) Take(f link.Frame) error {
	s.Done(f.Lane, f.Number)
	s.frames <- f
	return nil
}

// TestWhoIsNotCarried asks nyc for splices that it does not make.
func TestWhoIsNotCarried(t *testing.T) {
	through := func(c net.Conn) net.Conn { return &relay.Conn{Conn: c} }
	for name, test := range map[string]struct {
		prepare func(t *testing.T, w *world)
		want    string
	}{
		"both are there":      {func(t *testing.T, w *world) { introduced(t, w) }, "ok"},
		"the other is away":   {func(t *testing.T, w *world) { w.link(t, w.lon) }, "away"},
		"the other is gone":   {func(t *testing.T, w *world) { introduced(t, w); w.cut(w.ber) }, "away"},
		"not for the other":   {func(t *testing.T, w *world) { introduced(t, w); w.nyc.book.carried = w.nyc.book.carried[:1] }, "unknown"},
		"not for who asks":    {func(t *testing.T, w *world) { introduced(t, w); w.nyc.book.carried = w.nyc.book.carried[1:] }, "unknown"},
		"no link":             {func(t *testing.T, w *world) { w.link(t, w.ber) }, "no link"},
		"no relay of it":      {func(t *testing.T, w *world) { introduced(t, w); w.lon.book.relays = nil }, "no link"},
		"asked by a splice":   {func(t *testing.T, w *world) { w.linkOver(t, w.lon, through); w.link(t, w.ber) }, "loop"},
		"other by a splice":   {func(t *testing.T, w *world) { w.link(t, w.lon); w.linkOver(t, w.ber, through) }, "loop"},
		"no relay for it":     {func(t *testing.T, w *world) { introduced(t, w); w.ber.book.relays = nil }, "away"},
		"not pinned there":    {func(t *testing.T, w *world) { introduced(t, w); delete(w.ber.book.pinned, w.lon.ID()) }, "away"},
		"token over a splice": {throughSplice, "loop"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, relay.Limits{})
				test.prepare(t, w)
				synctest.Wait()
				far := accepted(w.ber)
				conn, err := w.lon.Dial(t.Context(), w.nyc.ID(), w.ber.ID())
				if got := code(err); !strings.Contains(got, test.want) {
					t.Errorf("got %q, want %q", got, test.want)
				}
				if err == nil {
					conn.Close()
					(<-far).Close()
				}
				w.ber.stop()
			})
		})
	}
}

// throughSplice makes the second connections come through a splice.
func throughSplice(t *testing.T, w *world) {
	introduced(t, w)
	w.net.dial[w.nyc.ID()] = func() (net.Conn, error) {
		near, far := net.Pipe()
		w.serve(&relay.Conn{Conn: far})
		return near, nil
	}
}

// TestNobodyComes has a host that is invited and does not come.
func TestNobodyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		w.link(t, w.lon)
		linkMute(t, w.ber, w.nyc)
		synctest.Wait()
		begun := time.Now()
		_, err := w.lon.Dial(t.Context(), w.nyc.ID(), w.ber.ID())
		if code(err) != "away" || time.Since(begun) != 10*time.Second {
			t.Errorf("got %v after %v, want away after 10s", err, time.Since(begun))
		}
	})
}

// invited has nyc make a splice of lon and ber, and returns both tokens.
func invited(t *testing.T, w *world) (asker, other string) {
	t.Helper()
	lon, _ := linkMute(t, w.lon, w.nyc)
	ber, _ := linkMute(t, w.ber, w.nyc)
	lon.say(t, link.Frame{Type: "tunnel", Lane: link.Call, Header: []byte(`{"ask":1,"to":"` + w.ber.ID() + `"}`)})
	synctest.Wait()
	return tokenOf(t, lon), tokenOf(t, ber)
}

func tokenOf(t *testing.T, m *mute) string {
	t.Helper()
	said := m.of("splice")
	if len(said) != 1 {
		t.Fatalf("heard %d frames, want one with a token", len(said))
	}
	_, rest, _ := strings.Cut(string(said[0].Header), `"token":"`)
	token, _, _ := strings.Cut(rest, `"`)
	if len(token) != relay.TokenLine-1 {
		t.Fatalf("got %s, want a token", said[0].Header)
	}
	return token
}

// show connects to nyc as a host and says a line. It returns the answer to it.
func show(t *testing.T, w *world, h *host, line string) <-chan string {
	t.Helper()
	raw, err := w.pipe()
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, h.SpliceConfig(w.nyc.ID(), h.book))
	t.Cleanup(func() { raw.Close() })
	got := make(chan string, 1)
	go func() {
		if _, err := io.WriteString(conn, line); err != nil {
			got <- err.Error()
			return
		}
		answer := make([]byte, 3)
		n, _ := io.ReadFull(conn, answer)
		rest := ""
		if n == 3 && string(answer) != "ok\n" {
			data, _ := io.ReadAll(conn)
			rest = string(data)
		}
		got <- string(answer[:n]) + rest
	}()
	return got
}

// TestTokens shows nyc tokens that are no good. What they were made for is not touched.
func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		lons, bers := invited(t, w)
		guess := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
		for name, test := range map[string]struct {
			by   *host
			line string
		}{
			"a guess":          {w.lon, guess + "\n"},
			"another host's":   {w.lon, bers + "\n"},
			"no token":         {w.lon, strings.Repeat("x", 44)},
			"no line":          {w.lon, lons + "x"},
			"other characters": {w.lon, lons[:42] + "!\n"},
		} {
			if got := <-show(t, w, test.by, test.line); got != "token\n" {
				t.Errorf("%s: got %q, want token", name, got)
			}
		}
		one, two := show(t, w, w.lon, lons+"\n"), show(t, w, w.ber, bers+"\n")
		if a, b := <-one, <-two; a != "ok\n" || b != "ok\n" {
			t.Errorf("got %q and %q, want both connected", a, b)
		}
		if got := <-show(t, w, w.lon, lons+"\n"); got != "token\n" {
			t.Errorf("a used one: got %q, want token", got)
		}
	})
}

func TestTokensEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		lons, _ := invited(t, w)
		time.Sleep(10 * time.Second)
		if got := <-show(t, w, w.lon, lons+"\n"); got != "token\n" {
			t.Errorf("got %q, want token", got)
		}
	})
}

// TestTokenIsNotShown: who says nothing is not waited for, and cannot keep others out.
func TestTokenIsNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{Joining: 2})
		lons, _ := invited(t, w)
		idle := []<-chan string{show(t, w, w.lon, "x"), show(t, w, w.lon, "x")}
		synctest.Wait()
		if got := <-show(t, w, w.lon, lons+"\n"); got == "ok\n" || got == "away\n" {
			t.Errorf("got %q, want nothing", got)
		}
		if got := <-show(t, w, w.ber, "x"+strings.Repeat("y", 43)); got != "token\n" {
			t.Errorf("another host got %q, want token", got)
		}
		begun := time.Now()
		for _, i := range idle {
			<-i
		}
		if waited := time.Since(begun); waited > 20*time.Second {
			t.Errorf("nyc has waited %v for a token", waited)
		}
	})
}

// TestManyAsks has a host ask for a thousand splices with another.
func TestManyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		lon, _ := linkMute(t, w.lon, w.nyc)
		ber, _ := linkMute(t, w.ber, w.nyc)
		begun := time.Now()
		for range 1000 {
			lon.say(t, link.Frame{Type: "tunnel", Lane: link.Call, Header: []byte(`{"ask":1,"to":"` + w.ber.ID() + `"}`)})
		}
		synctest.Wait()
		if got := len(ber.of("splice")); got != 8 || time.Since(begun) > time.Second {
			t.Errorf("the other is invited %d times after %v, want 8", got, time.Since(begun))
		}
		for range 100 { // and as soon as there is room again
			time.Sleep(time.Second)
			for range 10 {
				lon.say(t, link.Frame{Type: "tunnel", Lane: link.Call, Header: []byte(`{"ask":1,"to":"` + w.ber.ID() + `"}`)})
			}
		}
		synctest.Wait()
		if got := len(ber.of("splice")); got > 8*11 {
			t.Errorf("the other is invited %d times in 100 s, want 8 in 10 s", got)
		}
		if lon.ended || ber.ended {
			t.Error("a link has ended")
		}
	})
}

// TestFalseInvitations: a host follows none of a host that is no relay of it, or for one
// that it has not pinned, and eight at once.
func TestFalseInvitations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		w.ber.pin(w.lon)
		nyc, _ := linkMute(t, w.nyc, w.ber)
		invite := func(id string, times int) int {
			before := w.net.count()
			token := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
			for range times {
				nyc.say(t, link.Frame{Type: "splice", Lane: link.Call, Header: []byte(`{"host":"` + id + `","token":"` + token + `"}`)})
			}
			synctest.Wait()
			return w.net.count() - before
		}
		w.net.dial[w.nyc.ID()] = func() (net.Conn, error) { // there, and silent
			near, _ := net.Pipe()
			return near, nil
		}
		if got := invite(strings.Repeat("a", 52), 1); got != 0 {
			t.Errorf("invited by a host that is unknown: dials %d times", got)
		}
		if got := invite(w.lon.ID(), 100); got != 8 {
			t.Errorf("invited 100 times: dials %d times, want 8", got)
		}
		time.Sleep(time.Minute)
		w.ber.book.change(func(b *book) { b.relays = nil })
		if got := invite(w.lon.ID(), 1); got != 0 {
			t.Errorf("invited by no relay: dials %d times", got)
		}
	})
}

// spliced connects lon and ber.
func spliced(t *testing.T, w *world) (near, far net.Conn) {
	t.Helper()
	introduced(t, w)
	accept := accepted(w.ber)
	near, err := w.lon.Dial(t.Context(), w.nyc.ID(), w.ber.ID())
	if err != nil {
		t.Fatal(err)
	}
	far = <-accept
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// TestSlowReader: nyc keeps little of what nobody reads, and ends what does not move.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		near, far := spliced(t, w)
		written := make(chan int, 1)
		begun := time.Now()
		go func() {
			total := 0
			for {
				n, err := near.Write(make([]byte, 16<<10))
				if total += n; err != nil {
					written <- total
					return
				}
			}
		}()
		if total := <-written; total > 256<<10 {
			t.Errorf("nyc has taken %d bytes that nobody reads", total)
		}
		if took := time.Since(begun); took < 59*time.Second || took > 70*time.Second {
			t.Errorf("ended after %v, want about a minute", took)
		}
		<-readAll(far) // ends
	})
}

// TestSpliceEnds looks at when a splice ends on which all goes well.
func TestSpliceEnds(t *testing.T) {
	for name, test := range map[string]struct {
		limits relay.Limits
		every  time.Duration // one side says something
		want   time.Duration
	}{
		"nothing is said": {relay.Limits{Idle: 30 * time.Second}, time.Hour, 30 * time.Second},
		"after its life":  {relay.Limits{Idle: 30 * time.Second, Life: 10 * time.Minute}, 15 * time.Second, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, test.limits)
				near, far := spliced(t, w)
				begun := time.Now()
				heard := readAll(near)
				done := make(chan struct{})
				go func() {
					tick := time.NewTicker(test.every)
					defer tick.Stop()
					for {
						select {
						case <-done:
							return
						case <-tick.C:
							_, _ = far.Write([]byte("x"))
						}
					}
				}()
				<-heard
				close(done)
				if took := time.Since(begun); took != test.want {
					t.Errorf("ended after %v, want %v", took, test.want)
				}
			})
		})
	}
}

// TestLastWords: what a side has said before it ends comes to the other, and the other
// may still answer.
func TestLastWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		near, far := spliced(t, w)
		said := strings.Repeat("goodbye ", 10000)
		heard := readAll(far)
		if _, err := io.WriteString(near, said); err != nil {
			t.Fatal(err)
		}
		if err := near.(*relay.Conn).Conn.(*tls.Conn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := <-heard; got != said {
			t.Errorf("got %d bytes, want %d", len(got), len(said))
		}
		answer := readAll(near)
		if _, err := io.WriteString(far, "and you"); err != nil {
			t.Fatal(err)
		}
		far.Close()
		if got := <-answer; got != "and you" {
			t.Errorf("got %q as an answer", got)
		}
	})
}

// TestRate: a host sends no more than it may, and the others are not slower for it.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{Rate: 1 << 20})
		near, far := spliced(t, w)
		begun := time.Now()
		go func() {
			_, _ = near.Write(make([]byte, 10<<20))
			near.Close()
		}()
		if got := <-readAll(far); len(got) != 10<<20 {
			t.Errorf("got %d bytes", len(got))
		}
		if took := time.Since(begun); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("10 MiB took %v at 1 MiB/s", took)
		}
	})
}

// TestSplicesAreCounted: a host has no more than it may, and may again when one has ended.
func TestSplicesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{Splices: 1})
		near, far := spliced(t, w)
		if _, err := w.lon.Dial(t.Context(), w.nyc.ID(), w.ber.ID()); code(err) != "limited" {
			t.Errorf("got %v, want limited", err)
		}
		if _, err := w.ber.Dial(t.Context(), w.nyc.ID(), w.lon.ID()); code(err) != "limited" {
			t.Errorf("the other way: got %v, want limited", err)
		}
		near.Close()
		far.Close()
		synctest.Wait()
		again, _ := spliced2(t, w)
		again.Close()
	})
}

// spliced2 is spliced, where the links are there.
func spliced2(t *testing.T, w *world) (near, far net.Conn) {
	t.Helper()
	accept := accepted(w.ber)
	near, err := w.lon.Dial(t.Context(), w.nyc.ID(), w.ber.ID())
	if err != nil {
		t.Fatal(err)
	}
	far = <-accept
	t.Cleanup(func() { far.Close() })
	return near, far
}

// TestFalsePeer: who is at the other end is proved inside, whatever the relay says.
func TestFalsePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		near, far := spliced(t, w)
		done := make(chan error, 1)
		go func() { // nyc itself answers in the place of ber
			done <- tls.Server(far, w.nyc.ServerConfig(w.nyc.book, nil)).HandshakeContext(t.Context())
		}()
		err := tls.Client(near, w.lon.ClientConfig(w.ber.ID(), w.lon.book)).HandshakeContext(t.Context())
		if !errors.Is(err, identity.ErrChangedKey) {
			t.Errorf("got %v, want a changed key", err)
		}
		near.Close()
		<-done
	})
}

// TestBrokenFrames: a peer that breaks a rule loses its link, and nobody else does.
func TestBrokenFrames(t *testing.T) {
	for _, f := range []link.Frame{
		{Type: "tunnel", Lane: link.Call},
		{Type: "tunnel", Lane: link.Call, Header: []byte(`{"ask":-1}`)},
		{Type: "tunnel", Lane: link.Call, Header: []byte(`{"ask":1,"to":"../../etc"}`)},
		{Type: "splice", Lane: link.Call, Header: []byte(`{"host":"ber"}`)},
		{Type: "introduce", Lane: link.Call},
		{Type: "recipient", Lane: link.Bulk},
		{Type: "hold", Lane: link.Bulk, Lines: [][]byte{[]byte("x")}},
		{Type: "hold", Lane: link.Mail, Data: []byte("x")},
		{Type: "hold", Lane: link.Bulk, Data: []byte("x")},
		{Type: "held", Lane: link.Presence, Data: []byte("x")},
		{Type: "unheld", Lane: link.Call, Header: []byte(`{"id":"x"}`)},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, relay.Limits{})
			w.link(t, w.ber)
			lon, _ := linkMute(t, w.lon, w.nyc)
			lon.say(t, f)
			time.Sleep(5 * time.Second) // for goodbyes
			synctest.Wait()
			if lon.mu.Lock(); !lon.ended {
				t.Errorf("%s %s: the link goes on", f.Type, f.Header)
			}
			lon.mu.Unlock()
			if err := w.sessions[w.ber].Context().Err(); err != nil {
				t.Errorf("%s %s: the link of another has ended", f.Type, f.Header)
			}
		})
	}
}

// TestRelayEnds: when the daemon of the relay ends, nothing of it is left.
func TestRelayEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		near, far := spliced(t, w)
		one, two := readAll(near), readAll(far)
		w.nyc.stop()
		w.serving.Wait()
		<-one
		<-two
		raw, err := w.pipe()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := tls.Client(raw, w.lon.SpliceConfig(w.nyc.ID(), w.lon.book)).HandshakeContext(ctx); err == nil {
			t.Error("a relay that has ended takes connections")
		}
	})
}

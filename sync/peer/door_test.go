package peer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/sync/peer"
)

func addressed(ip string) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 4000))
}

// connect opens connections from an address, which say nothing. It returns a function
// that tells how many of them have ended.
func (w *world) connect(n int, ip string) (ended func() int) {
	w.t.Helper()
	w.mu.Lock()
	before := w.from
	w.from = addressed(ip)
	w.mu.Unlock()
	var mu sync.Mutex
	gone := 0
	for range n {
		conn, err := w.dial(context.Background(), "tcp", "nyc:1")
		if err != nil {
			w.t.Fatal(err)
		}
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			mu.Lock()
			gone++
			mu.Unlock()
			_ = conn.Close()
		}()
	}
	w.mu.Lock()
	w.from = before
	w.mu.Unlock()
	return func() int {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return gone
	}
}

func wantGone(t *testing.T, what string, ended func() int, want int) {
	t.Helper()
	if got := ended(); got != want {
		t.Errorf("%s: %d were turned away, want %d", what, got, want)
	}
}

// TestSilentStrangers: one address cannot take all places of those that have said nothing,
// and whoever says nothing has its place for 10 s.
func TestSilentStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host("nyc", "nyc:1")
		first := w.connect(20, "203.0.113.7")
		wantGone(t, "of one address", first, 4)
		wantGone(t, "of another", w.connect(3, "203.0.113.8"), 0)
		wantGone(t, "of one network", w.connect(20, "2001:db8::1"), 4)
		wantGone(t, "of the same network", w.connect(1, "2001:db8::2:3"), 1)
		wantGone(t, "of the next network", w.connect(1, "2001:db8:0:1::2"), 0)
		wantGone(t, "of the first, as IPv6", w.connect(1, "::ffff:203.0.113.7"), 1)
		time.Sleep(12 * time.Second)
		wantGone(t, "after their time", first, 20)
		wantGone(t, "again", w.connect(16, "203.0.113.7"), 0)
	})
}

// TestPeersGetIn: strangers from everywhere do not keep out whom is known, and leave no
// more connections open than they may.
func TestPeersGetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.from = addressed("198.51.100.1")
		nyc, lon := w.host("nyc", "nyc:1"), w.host("lon", "")
		pair(t, nyc, lon)
		wantState(t, lon, "nyc", peer.Up)
		w.mu.Lock()
		own := slices.Clone(w.open)
		w.mu.Unlock()
		gone := 0
		for n := range 100 {
			gone += w.connect(1, fmt.Sprintf("203.0.113.%d", n))()
		}
		if gone != 100-48 {
			t.Errorf("%d of 100 strangers were turned away, want 52", gone)
		}
		for _, c := range own {
			_ = c.Close()
		}
		synctest.Wait()
		time.Sleep(3 * time.Second) // it dials
		wantState(t, lon, "nyc", peer.Up)
	})
}

// TestStorm: who connects again and again is let in now and then.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host("nyc", "nyc:1")
		in := 0
		for range 50 {
			ended := w.connect(10, "203.0.113.7")
			in += 10 - ended()
			w.cut()
			synctest.Wait()
		}
		if in != 100 {
			t.Errorf("%d of 500 at once were let in, want 100", in)
		}
		time.Sleep(time.Second)
		ended := w.connect(16, "203.0.113.7")
		wantGone(t, "a second later", ended, 6)
	})
}

// failing is a listener that cannot accept at first.
type failing struct {
	*port
	mu   sync.Mutex
	errs []error
}

func (f *failing) Accept() (net.Conn, error) {
	f.mu.Lock()
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		f.mu.Unlock()
		return nil, err
	}
	f.mu.Unlock()
	return f.port.Accept()
}

// TestAcceptFails: a lack of file descriptors passes, and does not end the door; another
// failure does.
func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nyc, lon := w.host("nyc", ""), w.host("lon", "")
		lack := &net.OpError{Op: "accept", Err: syscall.EMFILE}
		listener := &failing{port: w.at("nyc:1"), errs: []error{lack, lack, lack, lack, lack, lack, lack, lack, lack, lack}}
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		nyc.SetAddress("nyc:1")
		go func() { served <- nyc.Serve(ctx, listener) }()
		time.Sleep(10 * time.Second)
		pair(t, nyc, lon)
		wantState(t, lon, "nyc", peer.Up)
		cancel()
		<-served

		broken := errors.New("broken")
		if err := nyc.Serve(context.Background(), &failing{port: w.at("nyc:2"), errs: []error{lack, broken}}); !errors.Is(err, broken) {
			t.Errorf("got %v, want it to end", err)
		}
		ctx, cancel = context.WithCancel(context.Background())
		many := make([]error, 1000)
		for i := range many {
			many[i] = lack
		}
		go func() { served <- nyc.Serve(ctx, &failing{port: w.at("nyc:3"), errs: many}) }()
		time.Sleep(10 * time.Second)
		cancel()
		if err := <-served; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want it closed", err)
		}
	})
}

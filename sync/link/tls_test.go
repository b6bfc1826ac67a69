package link_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
)

// trust is the one host that another trusts.
type trust struct{ keys identity.Keys }

func (p trust) Check(shown identity.Keys) error { return shown.Follow(p.keys) }

func newHost(t testing.TB, name string) *identity.Host {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	h, err := identity.Open(home)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// sink acknowledges what it is given, and tells when the last frame is there.
type sink struct {
	*link.Link
	left atomic.Int64
	all  chan struct{}
}

func (s *sink) Take(f link.Frame) error {
	s.Done(f.Lane, f.Number)
	if s.left.Add(-1) == 0 {
		close(s.all)
	}
	return nil
}

// overTLS sends frames of some lines from one host to another over loopback, the whole
// way: TCP, TLS with pinned keys, HTTP, the link.
func overTLS(t testing.TB, frames, lines int) {
	lon, nyc := newHost(t, "lon"), newHost(t, "nyc")
	ctx, cancel := context.WithCancel(context.Background())
	got := &sink{all: make(chan struct{})}
	got.left.Store(int64(frames))
	ended := make(chan error, 2)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys, err := identity.PeerKeys(*r.TLS)
		if err == nil {
			got.Link, err = link.Accept(w, r, link.Options{Host: nyc.ID(), Name: "nyc", Peer: keys.ID()})
		}
		if err == nil {
			err = got.Run(ctx, got)
		}
		ended <- err
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(tls.NewListener(l, nyc.ServerConfig(trust{lon.Keys()}, nil)))
	}()
	defer func() { server.Close(); <-served }()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := link.Tune(raw); err != nil {
		t.Fatal(err)
	}
	from, err := link.Dial(ctx, tls.Client(raw, lon.ClientConfig(nyc.ID(), trust{nyc.Keys()})), link.Options{Host: lon.ID(), Name: "lon", Peer: nyc.ID()})
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- from.Run(ctx, &sink{}) }()
	batch := make([][]byte, lines)
	for i := range batch {
		batch[i] = []byte(`{"seq":1,"content":"` + strings.Repeat("x", 340) + `"}`)
	}
	if b, ok := t.(*testing.B); ok {
		b.ResetTimer()
	}
	for range frames {
		if err := from.Send(ctx, link.Frame{Type: "lines", Lane: link.Mail, Lines: batch}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-got.all:
	case <-time.After(30 * time.Second):
		t.Errorf("%d frames of %d have not come", got.left.Load(), frames)
	}
	cancel()
	for range 2 {
		if err := <-ended; !isBye(err, link.CodeShutdown, false) && !isBye(err, link.CodeShutdown, true) {
			t.Errorf("ended with %v, want a goodbye", err)
		}
	}
}

func TestOverTLS(t *testing.T) { overTLS(t, 200, 100) }

// BenchmarkCatchUp sends lines of 365 bytes in frames of 64 KiB, and b.N of them.
func BenchmarkCatchUp(b *testing.B) {
	const inFrame = 180
	frames := max(1, b.N/inFrame)
	overTLS(b, frames, inFrame)
	b.ReportMetric(float64(frames*inFrame)/b.Elapsed().Seconds(), "lines/s")
}

package relay_test

import (
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
	"github.com/claude-duo/duo/sync/relay"
	"golang.org/x/time/rate"
)

// ways are how lon and ber are connected over loopback, with TLS between them: directly,
// and by nyc.
func ways(b *testing.B, run func(b *testing.B, near, far net.Conn)) {
	b.Run("direct", func(b *testing.B) {
		w := newWorld(b, relay.Limits{})
		w.lon.pin(w.ber)
		w.ber.pin(w.lon)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		near, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		within(b, w, near, far, run)
	})
	b.Run("spliced", func(b *testing.B) {
		w := newWorld(b, relay.Limits{Rate: rate.Limit(1 << 40)})
		w.loopback()
		w.lon.pin(w.ber)
		w.ber.pin(w.lon)
		for _, h := range []*host{w.lon, w.ber} {
			l, _, _ := peertest.Connect(b, peertest.Side{ID: h.ID(), Name: h.Name(), Services: []peer.Service{h.Relay}},
				peertest.Side{ID: w.nyc.ID(), Name: "nyc", Services: []peer.Service{w.nyc.Relay}})
			w.links[h] = l
		}
		accept := accepted(w.ber)
		near, err := w.lon.Dial(b.Context(), w.nyc.ID(), w.ber.ID())
		if err != nil {
			b.Fatal(err)
		}
		within(b, w, near, <-accept, run)
	})
}

// within speaks TLS on a connection of lon and ber.
func within(b *testing.B, w *world, near, far net.Conn, run func(b *testing.B, near, far net.Conn)) {
	defer near.Close()
	defer far.Close()
	for _, c := range []net.Conn{near, far} {
		if err := link.Tune(c); err != nil {
			b.Fatal(err)
		}
	}
	client, server := tls.Client(near, w.lon.ClientConfig(w.ber.ID(), w.lon.book)), tls.Server(far, w.ber.ServerConfig(w.ber.book, nil))
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	run(b, client, server)
}

// BenchmarkRoundTrip sends 400 bytes there and back.
func BenchmarkRoundTrip(b *testing.B) {
	ways(b, func(b *testing.B, near, far net.Conn) {
		go func() { _, _ = io.Copy(far, far) }()
		text := make([]byte, 400)
		for b.Loop() {
			if _, err := near.Write(text); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(near, text); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkThroughput sends pieces of 32 KiB.
func BenchmarkThroughput(b *testing.B) {
	ways(b, func(b *testing.B, near, far net.Conn) {
		piece := make([]byte, 32<<10)
		b.SetBytes(int64(len(piece)))
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.CopyN(io.Discard, far, int64(b.N*len(piece)))
		}()
		b.ResetTimer()
		for range b.N {
			if _, err := near.Write(piece); err != nil {
				b.Fatal(err)
			}
		}
		<-done
	})
}

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
)

// pair is two hosts that are linked, with Atlas on the first and Nova on the second.
type pair struct {
	nyc, lon *host
	wire     *wire // through which lon dials nyc
}

// wire carries connections to an address and counts what goes through.
type wire struct {
	net.Listener
	bytes atomic.Int64
}

func newWire(to string) (*wire, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{Listener: l}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			go w.carry(near, far)
			go w.carry(far, near)
		}
	}()
	return w, nil
}

func (w *wire) carry(to, from net.Conn) {
	_, _ = io.Copy(counted{to, &w.bytes}, from) // ends with the connection
	_, _ = to.Close(), from.Close()
}

type counted struct {
	io.Writer
	bytes *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.bytes.Add(int64(n))
	return n, err
}

// namedHost starts a host with a name, that listens for links at an address or, for an
// empty one, does not.
func (b *bench) namedHost(ctx context.Context, name, listen, advertise, agent string) (*host, error) {
	dir, err := b.folder(name)
	if err != nil {
		return nil, err
	}
	if listen == "" {
		listen = maildir.Off
	}
	config := fmt.Sprintf("[host]\nname = %q\n[http]\nlisten = \"off\"\n[limits]\nrate = 0\n[link]\nlisten = %q\nadvertise = %q\n", name, listen, advertise)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	home, err := maildir.Init(dir)
	if err != nil {
		return nil, err
	}
	h, err := b.startIn(ctx, home)
	if err != nil {
		return nil, err
	}
	if _, err := h.as("").Register(ctx, api.Register{Name: agent}); err != nil {
		return nil, errors.Join(err, h.stop())
	}
	return h, nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (b *bench) startPair(ctx context.Context) (*pair, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	w, err := newWire(address)
	if err != nil {
		return nil, err
	}
	p := &pair{wire: w}
	if p.nyc, err = b.namedHost(ctx, "nyc", address, w.Addr().String(), "Atlas"); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	if p.lon, err = b.namedHost(ctx, "lon", "", "", "Nova"); err != nil {
		return nil, errors.Join(err, w.Close(), p.nyc.stop())
	}
	code, err := p.nyc.as("").NewCode(ctx, "")
	if err == nil {
		_, err = p.lon.as("").Join(ctx, api.Join{Code: code.Code})
	}
	if err == nil {
		err = p.linked(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// inPair measures something with two linked hosts and a conversation that both have.
func (b *bench) inPair(ctx context.Context, measure func(context.Context, *pair, string) (result, error)) (result, error) {
	p, err := b.startPair(ctx)
	if err != nil {
		return result{}, err
	}
	defer p.stop() //nolint:errcheck // the homes are removed
	id, err := p.create(ctx)
	if err != nil {
		return result{}, err
	}
	return measure(ctx, p, id)
}

func (p *pair) stop() error { return errors.Join(p.lon.stop(), p.nyc.stop(), p.wire.Close()) }

const patience = time.Minute

// linked waits until the link is up.
func (p *pair) linked(ctx context.Context) error {
	return eventually(ctx, func() bool {
		if s, err := p.lon.as("").Peer(ctx, "nyc"); err == nil && s.State != "up" {
			_, _ = p.lon.as("").PingPeer(ctx, "nyc") // dials at once
		}
		s, err := p.nyc.as("").Peer(ctx, "lon")
		return err == nil && s.State == "up"
	})
}

func eventually(ctx context.Context, is func() bool) error {
	for start := time.Now(); !is(); {
		if time.Since(start) > patience {
			return errors.New("it does not happen within a minute")
		}
		if err := sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// create makes a conversation of Atlas with Nova, and waits until both hosts have it.
func (p *pair) create(ctx context.Context) (string, error) {
	posted, err := p.nyc.as("Atlas").Post(ctx, &envelope.Envelope{Type: envelope.Create, Topic: "across", To: []string{"Nova@lon"}})
	if err != nil {
		return "", err
	}
	id := posted.Conversation.ID
	return id, p.same(ctx, id)
}

// same waits until both hosts have the same log.
func (p *pair) same(ctx context.Context, id string) error {
	return eventually(ctx, func() bool {
		a, errA := os.Stat(p.nyc.home.LogPath(id))
		b, errB := os.Stat(p.lon.home.LogPath(id))
		return errA == nil && errB == nil && a.Size() == b.Size()
	})
}

// untilFarStream compares a send until an agent of another host has it with twice the same
// on one host and a raw round trip.
func untilFarStream(ctx context.Context, b *bench) (result, error) {
	return b.inPair(ctx, b.untilFarStream)
}

func (b *bench) untilFarStream(ctx context.Context, p *pair, id string) (result, error) {
	across, closeFar, err := p.nyc.sendUntil(ctx, "Atlas", id, p.lon, "Nova")
	if err != nil {
		return result{}, err
	}
	defer closeFar()
	if _, err := p.nyc.as("").Register(ctx, api.Register{Name: "Nova"}); err != nil {
		return result{}, err
	}
	near, err := p.nyc.create(ctx, "near")
	if err != nil {
		return result{}, err
	}
	local, closeNear, err := p.nyc.sendUntil(ctx, "Atlas", near, p.nyc, "Nova")
	if err != nil {
		return result{}, err
	}
	defer closeNear()
	trip, closeTrip, err := b.roundTrip()
	if err != nil {
		return result{}, err
	}
	defer closeTrip()
	m, err := inTurns(b.times(1000), across, local, trip)
	if err != nil {
		return result{}, err
	}
	floor := 2*m[1].quantile(0.5) + m[2].quantile(0.5)
	r := atMost(m[0].quantile(0.5), floor, 1)
	r.ratio += fmt.Sprintf(", p99 %s", round(m[0].quantile(0.99)))
	return r, nil
}

// sendUntil makes what sends a message and waits until a stream of an agent has it.
func (h *host) sendUntil(ctx context.Context, from, id string, there *host, agent string) (one func() error, end func(), err error) {
	stream, err := there.as(agent).Stream(ctx, api.StreamRequest{Op: api.OpSubscribe, Conversations: []string{id}})
	if err != nil {
		return nil, nil, err
	}
	arrived, failed := arrivals(ctx, stream)
	<-arrived // the invitation
	c := h.as(from)
	return func() error {
		sent := make(chan error, 1)
		go func() { sent <- send(ctx, c, id) }()
		select {
		case <-arrived:
			return <-sent
		case err := <-failed:
			return err
		}
	}, func() { stream.Close() }, nil
}

// anybody lets every host in: what is measured is the wire.
type anybody struct{}

func (anybody) Check(identity.Keys) error { return nil }

// roundTrip makes what sends a line over a raw connection with the TLS of a link, and waits
// for it to come back.
func (b *bench) roundTrip() (one func() error, end func(), err error) {
	conn, end, err := b.rawLink(func(c net.Conn) {
		buf := make([]byte, len(line))
		for {
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	})
	if err != nil {
		return nil, nil, err
	}
	buf := make([]byte, len(line))
	return func() error {
		if _, err := conn.Write(line); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, buf)
		return err
	}, end, nil
}

// rawLink is a connection over loopback with the TLS of a link, and nothing else; serve
// has its other end.
func (b *bench) rawLink(serve func(net.Conn)) (net.Conn, func(), error) {
	var hosts [2]*identity.Host
	for i := range hosts {
		dir, err := b.folder("wire")
		if err != nil {
			return nil, nil, err
		}
		home, err := maildir.Init(dir)
		if err != nil {
			return nil, nil, err
		}
		if hosts[i], err = identity.Open(home); err != nil {
			return nil, nil, err
		}
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", hosts[0].ServerConfig(anybody{}, nil))
	if err != nil {
		return nil, nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), hosts[1].ClientConfig(hosts[0].ID(), anybody{}))
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return conn, func() { _, _ = conn.Close(), l.Close() }, nil
}

const catchUpLines = 100_000

// catchUp compares how fast a replica that was away gets a long log with what a receiver
// can do at best: read the same batches over TLS, append and sync each.
func catchUp(ctx context.Context, b *bench) (result, error) { return b.inPair(ctx, b.catchUp) }

func (b *bench) catchUp(ctx context.Context, p *pair, id string) (result, error) {
	if err := errors.Join(p.lon.stop(), p.nyc.stop()); err != nil {
		return result{}, err
	}
	n := b.times(catchUpLines)
	if err := fill(p.nyc.home.LogPath(id), id, n); err != nil {
		return result{}, err
	}
	for _, h := range []**host{&p.nyc, &p.lon} {
		again, err := b.startIn(ctx, (*h).home)
		if err != nil {
			return result{}, err
		}
		*h = again
	}
	if err := p.linked(ctx); err != nil {
		return result{}, err
	}
	before := p.wire.bytes.Load()
	start := time.Now()
	if err := p.same(ctx, id); err != nil {
		return result{}, err
	}
	took := time.Since(start)
	info, err := os.Stat(p.nyc.home.LogPath(id))
	if err != nil {
		return result{}, err
	}
	floor, err := b.receive(info.Size())
	if err != nil {
		return result{}, err
	}
	r := atLeast(float64(n)/took.Seconds(), float64(n)/floor.Seconds(), 0.5)
	r.ratio += fmt.Sprintf(", %.2f B a byte", float64(p.wire.bytes.Load()-before)/float64(info.Size()))
	return r, nil
}

// fill appends messages of Atlas to a log.
func fill(path, id string, n int) error {
	log, err := convlog.Open(path, convlog.Tail{}, nil, convlog.Options{})
	if err != nil {
		return err
	}
	from := envelope.Address{Name: "Atlas", Host: "nyc"}
	for n > 0 && err == nil {
		err = log.Update(context.Background(), func(tx *convlog.Tx) error {
			for range min(n, 1000) {
				e := &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, From: from, Conversation: id, Content: body}
				if err := tx.Add(e); err != nil {
					return err
				}
			}
			return nil
		})
		n -= 1000
	}
	return errors.Join(err, log.Close())
}

// receive takes how long it is to send so many bytes over a raw link in frames of the size
// of a link's, where each is appended to a file and synced.
func (b *bench) receive(size int64) (time.Duration, error) {
	dir, err := b.folder("received")
	if err != nil {
		return 0, err
	}
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	done := make(chan error, 1)
	conn, end, err := b.rawLink(func(c net.Conn) {
		buf := make([]byte, link.Full)
		for left := size; left > 0; left -= link.Full {
			part := buf[:min(left, link.Full)]
			_, err := io.ReadFull(c, part)
			if err == nil {
				_, err = f.Write(part)
			}
			if err == nil {
				err = durable.Sync(f)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	})
	if err != nil {
		return 0, err
	}
	defer end()
	start := time.Now()
	buf := make([]byte, link.Full)
	for left := size; left > 0; left -= link.Full {
		if _, err := conn.Write(buf[:min(left, link.Full)]); err != nil {
			return 0, err
		}
	}
	err = <-done
	return time.Since(start), err
}

// bytesOnTheWire compares what crosses for messages that are sent one at a time with the
// lines themselves.
func bytesOnTheWire(ctx context.Context, b *bench) (result, error) {
	return b.inPair(ctx, b.bytesOnTheWire)
}

func (b *bench) bytesOnTheWire(ctx context.Context, p *pair, id string) (result, error) {
	const warm = 20
	n := b.times(500)
	var before, logged int64
	for i := range n + warm {
		if i == warm {
			before = p.wire.bytes.Load()
			info, err := os.Stat(p.nyc.home.LogPath(id))
			if err != nil {
				return result{}, err
			}
			logged = info.Size()
		}
		if err := send(ctx, p.nyc.as("Atlas"), id); err != nil {
			return result{}, err
		}
		if err := p.same(ctx, id); err != nil {
			return result{}, err
		}
	}
	info, err := os.Stat(p.nyc.home.LogPath(id))
	if err != nil {
		return result{}, err
	}
	crossed, lines := float64(p.wire.bytes.Load()-before)/float64(n), float64(info.Size()-logged)/float64(n)
	return result{
		duo: fmt.Sprintf("%.0f B", crossed), floor: fmt.Sprintf("%.0f B", lines), ratio: fmt.Sprintf("%.2f ×", crossed/lines), ok: true,
	}, nil
}

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
)

const (
	manyPeers  = 100
	manyAgents = 1000
	flapEvery  = 10 * time.Millisecond // somebody changes its note
	flapFor    = 10 * time.Second
)

// manyLinks measures a host with a hundred links while its thousand agents change what they
// say of themselves: what that costs, what each link carries, and how late a change is seen.
func manyLinks(ctx context.Context, b *bench) (result, error) {
	address, err := freeAddress()
	if err != nil {
		return result{}, err
	}
	h, err := b.namedHost(ctx, "nyc", address, address, "Agent0")
	if err != nil {
		return result{}, err
	}
	says := body[:60]
	for i := 1; i < manyAgents; i++ {
		if _, err := h.as("").Register(ctx, api.Register{Name: crowdName(i), Description: &says}); err != nil {
			return result{}, errors.Join(err, h.stop())
		}
	}
	if err := h.stop(); err != nil {
		return result{}, err
	}
	peers, err := b.makePeers(h.home)
	if err != nil {
		return result{}, err
	}
	if h, err = b.startIn(ctx, h.home); err != nil {
		return result{}, err
	}
	defer h.stop() //nolint:errcheck // its home is removed
	before, err := h.resident()
	if err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for _, p := range peers {
		if err := p.dial(ctx, address, h.home.Host.ID, &running); err != nil {
			return result{}, err
		}
	}
	if err := eventually(ctx, func() bool { return all(peers, func(p *listener) bool { return p.whole() }) }); err != nil {
		return result{}, fmt.Errorf("snapshots: %w", err)
	}
	after, err := h.resident()
	if err != nil {
		return result{}, err
	}
	return flap(ctx, h, peers, after-before)
}

// flap lets agents change for a while.
func flap(ctx context.Context, h *host, peers []*listener, memory int64) (result, error) {
	for _, p := range peers {
		p.reset()
	}
	cpu, err := h.cpu()
	if err != nil {
		return result{}, err
	}
	start := time.Now()
	for i := 0; time.Since(start) < flapFor; i++ {
		note := strconv.FormatInt(time.Now().UnixMilli(), 10)
		if _, err := h.as(crowdName(i%manyAgents)).SetPresence(ctx, card.Busy, note); err != nil {
			return result{}, err
		}
		if err := sleep(ctx, flapEvery); err != nil {
			return result{}, err
		}
	}
	took := time.Since(start)
	spent, err := h.cpu()
	if err != nil {
		return result{}, err
	}
	var bytes int64
	var late samples
	for _, p := range peers {
		p.mu.Lock()
		bytes += p.bytes
		late = append(late, p.late...)
		p.mu.Unlock()
	}
	if len(late) == 0 {
		return result{}, errors.New("no change was seen")
	}
	p50, p99 := late.quantile(0.5), late.quantile(0.99)
	return result{
		duo:   fmt.Sprintf("%.0f %% CPU", 100*(spent-cpu).Seconds()/took.Seconds()),
		floor: fmt.Sprintf("%d KiB a link", memory>>10/manyPeers),
		ratio: fmt.Sprintf("%.1f KB/s a link, p50 %s p99 %s", float64(bytes)/1000/took.Seconds()/manyPeers,
			p50.Round(10*time.Millisecond), p99.Round(10*time.Millisecond)),
		ok: true,
	}, nil
}

func all[T any](list []T, is func(T) bool) bool {
	for _, one := range list {
		if !is(one) {
			return false
		}
	}
	return true
}

// listener is a peer that hears what a host says, and says nothing.
type listener struct {
	host *identity.Host
	name string
	link *link.Link

	mu    sync.Mutex
	known bool // the snapshot has come
	bytes int64
	late  samples
}

// makePeers makes hosts that a home trusts.
func (b *bench) makePeers(home *maildir.Home) ([]*listener, error) {
	book, _, err := peer.OpenBook(home)
	if err != nil {
		return nil, err
	}
	var list []*listener
	for i := range manyPeers {
		dir, err := b.folder("peer")
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("peer%d", i)
		if err := os.WriteFile(filepath.Join(dir, "config.toml"), fmt.Appendf(nil, "[host]\nname = %q\n", name), 0o600); err != nil {
			return nil, err
		}
		own, err := maildir.Init(dir)
		if err != nil {
			return nil, err
		}
		who, err := identity.Open(own)
		if err != nil {
			return nil, err
		}
		if err := book.Admit(peer.Peer{ID: who.ID(), Name: name, Keys: who.Keys()}); err != nil {
			return nil, err
		}
		list = append(list, &listener{host: who, name: name})
	}
	return list, nil
}

func (l *listener) dial(ctx context.Context, address, id string, running *sync.WaitGroup) error {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	l.link, err = link.Dial(ctx, tls.Client(raw, l.host.ClientConfig(id, anybody{})), link.Options{Host: l.host.ID(), Name: l.name, Peer: id})
	if err != nil {
		return err
	}
	running.Go(func() { _ = l.link.Run(ctx, l) }) // ends with ctx
	return nil
}

// Take is given what the host says.
func (l *listener) Take(f link.Frame) error {
	if f.Number > 0 {
		l.link.Done(f.Lane, f.Number)
	}
	if f.Type != "presence" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = l.known || strings.Contains(string(f.Header), `"last":true`)
	l.bytes += int64(len(f.Header))
	for _, line := range f.Lines {
		l.bytes += int64(len(line)) + 1
		_, note, ok := strings.Cut(string(line), `"note":"`)
		note, _, _ = strings.Cut(note, `"`)
		if at, err := strconv.ParseInt(note, 10, 64); ok && err == nil {
			l.late = append(l.late, time.Since(time.UnixMilli(at)))
		}
	}
	return nil
}

func (l *listener) whole() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known
}

func (l *listener) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes, l.late = 0, nil
}

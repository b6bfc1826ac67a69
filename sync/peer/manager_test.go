package peer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
)

func bubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

func TestPairAndLink(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nyc, lon := w.host("nyc", "nyc:1"), w.host("lon", "")
		pair(t, nyc, lon)
		wantState(t, nyc, "lon", peer.Up)
		wantState(t, lon, "nyc", peer.Up)
		if s, _ := lon.Get("nyc"); s.Address != "nyc:1" || !s.Dialled || s.ID != nyc.home.Host.ID {
			t.Errorf("got %+v", s)
		}
		if took, err := lon.Ping(context.Background(), "nyc"); err != nil || took < 0 {
			t.Errorf("ping: %v, %v", took, err)
		}
	})
}

// TestLinkComesBack: after a cut the host that knows an address dials again; after a
// restart, too.
func TestLinkComesBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nyc, lon := w.host("nyc", "nyc:1"), w.host("lon", "")
		pair(t, nyc, lon)
		for range 3 {
			w.cut()
			synctest.Wait()
			wantState(t, nyc, "lon", peer.Down)
			time.Sleep(10 * time.Second)
			wantState(t, nyc, "lon", peer.Up)
		}
		nyc.stop()
		synctest.Wait()
		if s, _ := lon.Get("nyc"); s.State != peer.Down || !strings.Contains(s.Problem, "shutdown") {
			t.Errorf("got %s, %q", s.State, s.Problem)
		}
		time.Sleep(10 * time.Minute)
		if s, _ := lon.Get("nyc"); time.Until(s.DialAt) > 90*time.Second {
			t.Errorf("it is dialled in %s, want 90 s at most", time.Until(s.DialAt))
		}
		nyc = w.start(nyc.home, "nyc:1")
		time.Sleep(2 * time.Minute)
		wantState(t, lon, "nyc", peer.Up)
		wantState(t, nyc, "lon", peer.Up)
	})
}

// TestDialledWhenAsked: who asks for a host gets it dialled at once, also while the last
// link is being cleared away, and however often links have broken.
func TestDialledWhenAsked(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		slow := &slowService{}
		nyc, lon := w.host("nyc", "nyc:1"), w.host("lon", "", slow)
		pair(t, nyc, lon)
		for range 8 { // else it is dialled in half a minute at the earliest in the end
			w.cut()
			synctest.Wait()
			if err := lon.Kick("nyc"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(8 * time.Second)
			wantState(t, lon, "nyc", peer.Up)
		}
	})
}

// TestPingOverALinkThatEnds: a ping that finds the link cut makes another one.
func TestPingOverALinkThatEnds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nyc, lon := w.host("nyc", "nyc:1"), w.host("lon", "")
		pair(t, nyc, lon)
		for round := range 8 {
			w.cut()
			if _, err := lon.Ping(context.Background(), "nyc"); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
			synctest.Wait()
		}
	})
}

// TestOneLink: hosts that dial each other at once end with one link, the same for both.
func TestOneLink(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		kept := map[string]*keeper{"nyc": {types: []string{"x"}}, "lon": {types: []string{"x"}}}
		nyc, lon := w.host("nyc", "nyc:1", kept["nyc"]), w.host("lon", "lon:1", kept["lon"])
		pair(t, nyc, lon) // nyc hears in hello where lon is
		for round := range 20 {
			w.cut()
			_, _ = nyc.Kick("lon"), lon.Kick("nyc") // both at once
			time.Sleep(20 * time.Second)
			a, b := nyc.Session(lon.home.Host.ID), lon.Session(nyc.home.Host.ID)
			if a == nil || b == nil {
				t.Fatalf("round %d: no link", round)
			}
			var acked bool
			err := a.Send(context.Background(), link.Frame{Type: "x", Lane: link.Mail, Acked: func() { acked = true }})
			synctest.Wait()
			last := kept["lon"].taken[len(kept["lon"].taken)-1]
			b.Done(last) // on another session it would do nothing
			synctest.Wait()
			if err != nil || !acked {
				t.Fatalf("round %d: the hosts mean different links: %v", round, err)
			}
		}
	})
}

// TestOneApplier: what a link has brought is dealt with before the next one begins.
func TestOneApplier(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		slow := &slowService{}
		nyc, lon := w.host("nyc", "nyc:1", slow), w.host("lon", "")
		pair(t, nyc, lon)
		for range 5 {
			w.cut()
			_ = lon.Kick("nyc")
			time.Sleep(30 * time.Second)
		}
		synctest.Wait()
		if slow.most != 1 || slow.opened != 6 {
			t.Errorf("%d lines of one peer at once, %d in all, want 1 and 6", slow.most, slow.opened)
		}
	})
}

// slowService takes long to end.
type slowService struct{ opened, now, most int }

func (s *slowService) Types() []string { return []string{"slow"} }
func (s *slowService) Open(*peer.Session) peer.Line {
	s.opened++
	s.now++
	s.most = max(s.most, s.now)
	return s
}
func (s *slowService) Take(link.Frame) error { return nil }
func (s *slowService) Close()                { time.Sleep(7 * time.Second); s.now-- }

func TestRemove(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nyc, lon := w.host("nyc", "nyc:1"), w.host("lon", "")
		pair(t, nyc, lon)
		if _, err := nyc.Remove("lon"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := nyc.Get("lon"); !errors.Is(err, peer.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if s, _ := lon.Get("nyc"); s.State != peer.Held || !strings.Contains(s.Problem, "removed this host") {
			t.Errorf("got %s, %q", s.State, s.Problem)
		}
		pair(t, nyc, lon)
		wantState(t, lon, "nyc", peer.Up)
		if _, err := nyc.Remove("tok"); !errors.Is(err, peer.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

// TestRemovedUnseen: a host that was removed while the link was down hears so when it
// dials.
func TestRemovedUnseen(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nyc, lon := w.host("nyc", "nyc:1"), w.host("lon", "")
		pair(t, nyc, lon)
		lon.stop()
		if _, err := nyc.Remove("lon"); err != nil {
			t.Fatal(err)
		}
		lon = w.start(lon.home, "")
		time.Sleep(5 * time.Second)
		if s, _ := lon.Get("nyc"); s.State != peer.Down || !strings.Contains(s.Problem, "does not know this host") {
			t.Errorf("got %s, %q", s.State, s.Problem)
		}
	})
}

func TestNames(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nyc, lon, other, same := w.host("nyc", "nyc:1"), w.host("lon", ""), w.host("lon", ""), w.host("nyc", "")
		pair(t, nyc, lon)
		for who, want := range map[*host]string{other: "another host called \"lon\"", same: "both hosts are called \"nyc\""} {
			code, err := nyc.Offer("nyc:1", time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			_, err = who.Join(context.Background(), code, false)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		}
		if list := nyc.List(); len(list) != 1 || list[0].ID != lon.home.Host.ID {
			t.Errorf("got %+v", list)
		}
	})
}

// TestRemovedName: another host may take the name of one that was removed, and gets
// nothing of what waits for that one.
func TestRemovedName(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nyc, lon, other := w.host("nyc", "nyc:1"), w.host("lon", ""), w.host("lon", "")
		pair(t, nyc, lon)
		waits := filepath.Join(nyc.home.PeerDir("lon"), "spool", "new")
		if err := os.MkdirAll(waits, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(waits, "1.json"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := nyc.Remove("lon"); err != nil {
			t.Fatal(err)
		}
		pair(t, nyc, other)
		if s, err := nyc.Get("lon"); err != nil || s.ID != other.home.Host.ID || s.Waiting != 0 {
			t.Errorf("got %+v, %v", s, err)
		}
		aside, _ := filepath.Glob(filepath.Join(nyc.home.PeersDir(), ".removed-lon-*", "spool", "new", "1.json"))
		if len(aside) != 1 {
			t.Error("what waited for the removed host is gone")
		}
	})
}

// TestChangedKey: where a host was made anew at an address, the other does not take it for
// the one that it knows, and says what to do.
func TestChangedKey(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nyc, lon := w.host("nyc", "nyc:1"), w.host("lon", "")
		pair(t, nyc, lon)
		nyc.stop()
		fresh := w.host("nyc", "nyc:1")
		time.Sleep(2 * time.Minute)
		if s, _ := lon.Get("nyc"); s.State == peer.Up || !strings.Contains(s.Problem, "duo peer remove nyc") {
			t.Errorf("got %s, %q", s.State, s.Problem)
		}
		if list := fresh.List(); len(list) != 0 {
			t.Errorf("got %+v", list)
		}
	})
}

// TestRotation: a peer follows to a new key that the old one has signed, and takes no old
// one after that.
func TestRotation(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nyc, lon := w.host("nyc", "nyc:1"), w.host("lon", "")
		pair(t, nyc, lon)
		old, err := os.ReadFile(nyc.home.KeyPath())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nyc.Rotate(); err != nil {
			t.Fatal(err)
		}
		w.cut()
		time.Sleep(10 * time.Second)
		wantState(t, lon, "nyc", peer.Up)
		if s, _ := lon.Get("nyc"); s.Keys.Len() != 2 {
			t.Errorf("%d keys are pinned, want 2", s.Keys.Len())
		}
		nyc.stop()
		if err := os.Remove(nyc.home.KeysPath()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(nyc.home.KeyPath(), old, 0o600); err != nil {
			t.Fatal(err)
		}
		w.start(nyc.home, "nyc:1")
		time.Sleep(2 * time.Minute)
		if s, _ := lon.Get("nyc"); s.State == peer.Up || !strings.Contains(s.Problem, "replaced since") {
			t.Errorf("got %s, %q", s.State, s.Problem)
		}
	})
}

// TestHeld: a peer that breaks the rules again and again is dialled no more, and not let in,
// until a person says so.
func TestHeld(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		bad := &faulty{}
		nyc, lon := w.host("nyc", "nyc:1", bad), w.host("lon", "")
		bad.on = true
		pair(t, nyc, lon)
		time.Sleep(10 * time.Minute)
		wantState(t, lon, "nyc", peer.Held)
		if bad.links != 3 {
			t.Errorf("%d links, want 3", bad.links)
		}
		bad.on = false
		if err := lon.Kick("nyc"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s, _ := lon.Get("nyc"); s.State != peer.Down || !strings.Contains(s.Problem, "until a person there") {
			t.Errorf("got %s, %q, want a refusal by nyc, which holds lon as well", s.State, s.Problem)
		}
		if err := errors.Join(nyc.Kick("lon"), lon.Kick("nyc")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		wantState(t, lon, "nyc", peer.Up)
	})
}

// faulty ends each link as after a broken rule.
type faulty struct {
	on    bool
	links int
}

func (f *faulty) Types() []string { return nil }
func (f *faulty) Open(s *peer.Session) peer.Line {
	f.links++
	if f.on {
		s.End(&link.Bye{Code: link.CodeFrame, Text: "planted"})
	}
	return f
}
func (f *faulty) Take(link.Frame) error { return nil }
func (f *faulty) Close()                {}

func TestExpiredCode(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		nyc, lon := w.host("nyc", "nyc:1"), w.host("lon", "")
		code, err := nyc.Offer("nyc:1", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := lon.Join(context.Background(), code, false); !errors.Is(err, identity.ErrCode) {
			t.Errorf("got %v", err)
		}
	})
}

package peer_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/peer"
)

func hostOf(t *testing.T, home *maildir.Home) *identity.Host {
	t.Helper()
	h, err := identity.Open(home)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestIntroduce: whom a relay may make known, and as whom.
func TestIntroduce(t *testing.T) {
	hub, rio, other := hostOf(t, newHome(t, "hub")), hostOf(t, newHome(t, "rio")), hostOf(t, newHome(t, "rio"))
	parHome := newHome(t, "par")
	par := hostOf(t, parHome)
	later, err := par.Rotate(parHome)
	if err != nil {
		t.Fatal(err)
	}
	as := func(name string, h *identity.Host) identity.Peer { return identity.Peer{Name: name, Keys: h.Keys()} }
	admit := func(t *testing.T, b *peer.Book, name string, h *identity.Host, relay bool) {
		t.Helper()
		if err := b.Admit(peer.Peer{ID: h.ID(), Name: name, Keys: h.Keys(), Address: "there:1", Relay: relay}); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		prepare func(t *testing.T, b *peer.Book)
		fresh   identity.Peer
		refused string // empty where it is taken
		via     string
	}{
		"a host":               {nil, as("rio", rio), "", "hub"},
		"it is known":          {func(t *testing.T, b *peer.Book) { admit(t, b, "rio", rio, false) }, as("rio", rio), "", ""},
		"it has a newer key":   {func(t *testing.T, b *peer.Book) { admit(t, b, "par", par, false) }, as("par", later), "", ""},
		"it has an old key":    {func(t *testing.T, b *peer.Book) { admit(t, b, "par", later, false) }, as("par", par), "does not follow", ""},
		"another has the name": {func(t *testing.T, b *peer.Book) { admit(t, b, "rio", other, false) }, as("rio", rio), "another host called", ""},
		"the own name":         {nil, as("lon", rio), "keeps its name", ""},
		"no name":              {nil, as("R/../o", rio), "host name", ""},
		"it was removed": {func(t *testing.T, b *peer.Book) {
			admit(t, b, "rio", rio, false)
			if _, err := b.Remove("rio"); err != nil {
				t.Fatal(err)
			}
		}, as("rio", rio), "was removed", ""},
		"by no relay": {func(t *testing.T, b *peer.Book) {
			if _, err := b.Change("hub", func(p *peer.Peer) { p.Relay = false }); err != nil {
				t.Fatal(err)
			}
		}, as("rio", rio), "no relay", ""},
	} {
		t.Run(name, func(t *testing.T) {
			home := newHome(t, "lon")
			b, _, err := peer.OpenBook(home)
			if err != nil {
				t.Fatal(err)
			}
			admit(t, b, "hub", hub, true)
			if test.prepare != nil {
				test.prepare(t, b)
			}
			_, err = b.Introduce(hub.ID(), test.fresh)
			var refused *identity.Refused
			if test.refused != "" {
				if !errors.As(err, &refused) || !strings.Contains(refused.Why, test.refused) {
					t.Errorf("got %v, want %q", err, test.refused)
				}
				return
			}
			p, ok := b.ByID(test.fresh.Keys.ID())
			if err != nil || !ok || p.Via != test.via || p.Keys.Len() != test.fresh.Keys.Len() || p.Relay {
				t.Errorf("got %+v, %v, want it by %q", p, err, test.via)
			}
			news, err := b.Introduce(hub.ID(), test.fresh)
			if news || err != nil {
				t.Errorf("the same again is news (%t, %v)", news, err)
			}
		})
	}
}

// TestIntroduceMany: one relay does not fill the book.
func TestIntroduceMany(t *testing.T) {
	home := newHome(t, "lon")
	hub := hostOf(t, newHome(t, "hub"))
	record := func(name string, more string) {
		t.Helper()
		public, _, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		keys := identity.FirstKeys(public)
		dir := home.PeerDir(name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf(`{"version":1,"id":%q,"name":%q,"keys":[%s]%s}`, keys.ID(), name, strings.TrimSpace(string(keys.Text())), more)
		if err := os.WriteFile(filepath.Join(dir, "peer.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 500 {
		record(fmt.Sprint("host-", i), `,"via":"hub"`)
	}
	b, bad, err := peer.OpenBook(home)
	if err != nil || len(bad) != 0 {
		t.Fatal(err, bad)
	}
	if err := b.Admit(peer.Peer{ID: hub.ID(), Name: "hub", Keys: hub.Keys(), Relay: true}); err != nil {
		t.Fatal(err)
	}
	rio := hostOf(t, newHome(t, "rio"))
	if _, err := b.Introduce(hub.ID(), identity.Peer{Name: "rio", Keys: rio.Keys()}); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("got %v, want that these are too many", err)
	}
}

// Why a host that only a relay can reach is not dialled is told.
func TestUncarried(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		hub, lon := w.host("hub", "hub:1"), w.host("lon", "")
		pair(t, hub, lon)
		if err := lon.SetRelay("hub", true); err != nil {
			t.Fatal(err)
		}
		rio := hostOf(t, newHome(t, "rio"))
		if err := lon.Introduced(hub.home.Host.ID, identity.Peer{Name: "rio", Keys: rio.Keys()}); err != nil {
			t.Fatal(err)
		}
		wantProblem := func(want string) {
			t.Helper()
			synctest.Wait()
			s, err := lon.Get("rio")
			if err != nil || s.State == peer.Up || !strings.Contains(s.Problem, want) || s.At.IsZero() {
				t.Errorf("got %s %q at %s, %v, want %q", s.State, s.Problem, s.At, err, want)
			}
		}
		hub.stop()
		wantProblem("there is no link with hub, which carries for it")
		if err := lon.SetRelay("hub", false); err != nil {
			t.Fatal(err)
		}
		wantProblem("run duo peer relay hub on")
		if _, err := lon.Remove("hub"); err != nil {
			t.Fatal(err)
		}
		wantProblem("is not linked with this host any more")
	})
}

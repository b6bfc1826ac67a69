package presence_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// cache is an index that survives the books of one test.
type cache struct {
	mu     sync.Mutex
	values map[string][]byte
	writes int
}

func (c *cache) Get(key string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, ok := c.values[key]
	return value, ok
}

func (c *cache) Put(key string, value []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.values[key] = value
	c.writes++
	return nil
}

// host is a home whose daemon can be started again.
type host struct {
	t     *testing.T
	home  *maildir.Home
	cache *cache

	*presence.Book
	stop context.CancelFunc
	mu   sync.Mutex
	told []string
}

func newHost(t *testing.T, names ...string) *host {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := mailbox.Open(home.AgentDir(name)); err != nil {
			t.Fatal(err)
		}
	}
	h := &host{t: t, home: home, cache: &cache{values: make(map[string][]byte)}}
	h.start()
	return h
}

func (h *host) start() {
	changed := func(agent string, p presence.Presence) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.told = append(h.told, fmt.Sprintf("%s %s", agent, p.State))
	}
	ctx, cancel := context.WithCancel(context.Background())
	lost := func(agent string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.told = append(h.told, agent+" lost")
	}
	h.Book, h.stop = presence.New(h.home, h.cache, time.Now, presence.Hooks{Changed: changed, Lost: lost}, slog.New(slog.DiscardHandler)), cancel
	go h.Book.Run(ctx) //nolint:errcheck // it ends with ctx
}

func (h *host) restart() {
	h.stop()
	synctest.Wait()
	h.start()
}

func (h *host) wantTold(want ...string) {
	h.t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.told, want) {
		h.t.Errorf("told: got %q, want %q", h.told, want)
	}
	h.told = nil
}

func (h *host) want(what string, state presence.State) {
	h.t.Helper()
	if got := h.Of("Atlas").State; got != state {
		h.t.Errorf("%s: got %s, want %s", what, got, state)
	}
}

// pass lets time go by, and one look more.
func pass(d time.Duration) { time.Sleep(d + 1100*time.Millisecond) }

func scene(t *testing.T, do func(h *host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, "Atlas", "Nova")
		defer func() { h.stop() }() // of the last start
		do(h)
	})
}

func TestASignOfLife(t *testing.T) {
	scene(t, func(h *host) {
		h.want("before", presence.Offline)
		if p := h.Of("Atlas"); p.LastSeen != 0 {
			t.Errorf("last seen: got %d, want never", p.LastSeen)
		}
		h.Touch("Atlas")
		seen := time.Now().UnixMilli()
		h.want("at once", presence.Available)
		pass(28 * time.Second)
		h.want("29 s later", presence.Available)
		h.wantTold("atlas available")
		pass(time.Second)
		h.want("30 s later", presence.Offline)
		h.wantTold("atlas offline")
		if p := h.Of("ATLAS"); p.LastSeen != seen {
			t.Errorf("last seen: got %d, want %d", p.LastSeen, seen)
		}
		if p, err := card.ReadPresence(h.home.AgentDir("atlas")); err != nil || p.LastSeen != seen {
			t.Errorf("in the folder: got %+v, %v, want %d", p, err, seen)
		}
	})
}

// TestSignsAreNotWritten: a hundred signs of life in ten seconds are few writes to the
// index, and none to the folder.
func TestSignsAreNotWritten(t *testing.T) {
	scene(t, func(h *host) {
		for range 100 {
			h.Touch("Atlas")
			time.Sleep(100 * time.Millisecond)
		}
		if h.cache.writes > 2 {
			t.Errorf("got %d writes to the index, want 1 or 2", h.cache.writes)
		}
		if _, err := os.Stat(h.home.AgentDir("atlas") + "/" + card.PresenceFile); !os.IsNotExist(err) {
			t.Errorf("the folder: got %v, want no file", err)
		}
	})
}

func TestStreams(t *testing.T) {
	scene(t, func(h *host) {
		first, second := h.Attach("Atlas", true), h.Attach("Atlas", false)
		pass(time.Hour)
		h.want("an hour later", presence.Available)
		first()
		first()
		if since, ok := h.Lost("Atlas"); !ok || !since.Equal(time.Now()) {
			t.Errorf("Lost: got %v %v, want now", since, ok)
		}
		pass(time.Minute)
		h.want("with a stream that is not live", presence.Available)
		second()
		if _, ok := h.Lost("Atlas"); ok {
			t.Error("Lost: the end of the second stream was a sign of life")
		}
		pass(30 * time.Second)
		h.wantTold("atlas available", "atlas lost", "atlas offline")
	})
}

// TestOrder: of all that is so the first that fits is shown.
func TestOrder(t *testing.T) {
	scene(t, func(h *host) {
		say := func(status string) {
			t.Helper()
			if err := h.Say("Atlas", status, "because"); err != nil {
				t.Fatal(err)
			}
		}
		h.Ring("Atlas", "r1", true)
		h.want("rings where nobody is", presence.Offline)
		h.Touch("Atlas")
		h.want("rings", presence.Ringing)
		say(card.Busy)
		h.want("rings while it is busy", presence.Ringing)
		h.Ring("Atlas", "r1", false)
		h.want("busy", presence.Busy)
		if p := h.Of("Atlas"); p.Note != "because" {
			t.Errorf("note: got %q", p.Note)
		}
		h.Call("Atlas", "c1", true)
		h.want("in a call while it is busy", presence.InCall)
		say(card.Offline)
		h.want("in a call that it has gone from", presence.InCall)
		h.Call("Atlas", "c1", false)
		h.want("gone", presence.Offline)
		h.Touch("Atlas")
		h.want("what it has said holds", presence.Offline)
		h.Attach("Atlas", true)
		h.want("back", presence.Available)
		h.wantTold("atlas ringing", "atlas ringing", "atlas busy", "atlas in-call", "atlas offline", "atlas available") // the second one with another note
	})
}

// TestAnotherNote: what an agent says with its status is news too.
func TestAnotherNote(t *testing.T) {
	scene(t, func(h *host) {
		h.Touch("Atlas")
		for _, note := range []string{"builds", "builds", "still builds"} {
			if err := h.Say("Atlas", card.Busy, note); err != nil {
				t.Fatal(err)
			}
		}
		h.wantTold("atlas available", "atlas busy", "atlas busy")
	})
}

// TestRestart: it neither invents nor loses anybody.
func TestRestart(t *testing.T) {
	scene(t, func(h *host) {
		h.Touch("Nova")
		detach := h.Attach("Atlas", true)
		defer detach()
		time.Sleep(5 * time.Second)
		h.Touch("Atlas")
		if err := h.Say("Nova", card.Busy, "builds"); err != nil {
			t.Fatal(err)
		}
		before := h.Of("Nova")
		seen := before.LastSeen
		h.wantTold("nova available", "atlas available", "nova busy")
		h.restart()
		if p := h.Of("Nova"); p != before || p.State != presence.Busy || p.Note != "builds" {
			t.Errorf("Nova: got %+v, want %+v, busy", p, before)
		}
		h.want("a moment after the start", presence.Available)
		if since, ok := h.Lost("Atlas"); !ok || time.Since(since) > time.Second {
			t.Errorf("Lost: got %v %v, want since the start", since, ok)
		}
		pass(30 * time.Second)
		h.wantTold("atlas offline", "nova offline")
		h.restart()
		h.want("after another start", presence.Offline)
		if p := h.Of("Nova"); p.State != presence.Offline || p.LastSeen != seen {
			t.Errorf("Nova after another start: got %+v, want offline since %d", p, seen)
		}
	})
}

// TestSince: an agent is in a state since that began, and not since the last sign of life.
func TestSince(t *testing.T) {
	scene(t, func(h *host) {
		if p := h.Of("Atlas"); p.Since != 0 {
			t.Errorf("never seen: got since %d, want nothing", p.Since)
		}
		came := h.now()
		for range 5 {
			h.Touch("Atlas")
			time.Sleep(10 * time.Second)
		}
		h.wantSince("with signs of life", presence.Available, came)
		busy := h.now()
		h.say(card.Busy, "builds")
		time.Sleep(10 * time.Second)
		h.say(card.Busy, "still builds")
		h.wantSince("with another note", presence.Busy, busy)
		called := h.now()
		h.Call("Atlas", "c1", true)
		time.Sleep(5 * time.Second)
		h.Call("Atlas", "c2", true)
		h.Call("Atlas", "c1", false)
		h.wantSince("in a second call", presence.InCall, called)
		h.Touch("Atlas")
		time.Sleep(40 * time.Second)
		hungUp := h.now()
		h.Call("Atlas", "c2", false)
		h.wantSince("when the call is over, and nobody there", presence.Offline, hungUp)
		time.Sleep(500 * time.Millisecond) // between two looks
		h.Touch("Atlas")
		gone := h.now() + 30_000
		time.Sleep(30*time.Second + 10*time.Millisecond)
		h.wantSince("before anybody has looked", presence.Offline, gone)
		pass(time.Hour)
		h.wantSince("an hour later", presence.Offline, gone)
		detach := h.Attach("Atlas", true)
		defer detach()
		left := h.now()
		h.say(card.Offline, "")
		pass(time.Minute)
		h.wantSince("when it has said so", presence.Offline, left)
	})
}

// TestSinceOverARestart: what is known of before the start holds, and nothing else.
func TestSinceOverARestart(t *testing.T) {
	scene(t, func(h *host) {
		h.Touch("Atlas")
		came := h.now()
		time.Sleep(20 * time.Second)
		h.Touch("Atlas")
		seen := h.now()
		h.restart()
		h.wantSince("available all the time", presence.Available, came)
		called := h.now()
		h.Call("Atlas", "c1", true)
		time.Sleep(time.Second)
		h.restart()
		h.wantSince("before the calls are found", presence.Available, 0)
		h.Call("Atlas", "c1", true)
		h.wantSince("in the same call", presence.InCall, called)
		time.Sleep(time.Second)
		h.Call("Atlas", "c1", false)
		available := h.now()
		h.wantSince("after it", presence.Available, available)
		pass(time.Minute)
		h.wantSince("gone", presence.Offline, seen+30_000)

		h.Touch("Atlas")
		seen = h.now()
		h.stop()
		time.Sleep(time.Hour)
		h.start()
		h.wantSince("the daemon was away for longer", presence.Offline, seen+30_000)
		came = h.now()
		h.Touch("Atlas")
		h.wantSince("back within a moment", presence.Available, came)

		h.Ring("Atlas", "r1", true)
		h.restart()
		h.want("of the ring nothing is left", presence.Available)
		h.Touch("Atlas")
		time.Sleep(29 * time.Second)
		h.Touch("Atlas")
		time.Sleep(2 * time.Second)
		again := h.now()
		h.Ring("Atlas", "r2", true)
		h.wantSince("another one", presence.Ringing, again)

		clear(h.cache.values)
		h.say(card.Offline, "")
		h.restart()
		h.wantSince("with an index", presence.Offline, again)
		clear(h.cache.values)
		h.restart()
		h.wantSince("without", presence.Offline, 0)
	})
}

func (h *host) now() int64 { return time.Now().UnixMilli() }

func (h *host) say(status, note string) {
	h.t.Helper()
	if err := h.Say("Atlas", status, note); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) wantSince(what string, state presence.State, since int64) {
	h.t.Helper()
	if p := h.Of("Atlas"); p.State != state || p.Since != since {
		h.t.Errorf("%s: got %s since %d, want %s since %d", what, p.State, p.Since, state, since)
	}
}

// TestDamage: what cannot be read is as if nothing had been said.
func TestDamage(t *testing.T) {
	scene(t, func(h *host) {
		if err := os.WriteFile(h.home.AgentDir("atlas")+"/"+card.PresenceFile, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		h.cache.values["presence atlas"] = []byte("[")
		h.Touch("Atlas")
		h.want("with damaged notes", presence.Available)
	})
}

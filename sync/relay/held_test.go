package relay_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
	"github.com/claude-duo/duo/sync/relay"
)

// away links both hosts with nyc, and cuts the link of ber.
func away(t *testing.T, w *world) {
	t.Helper()
	introduced(t, w)
	w.cut(w.ber)
	synctest.Wait()
}

func (w *world) hold(f link.Frame) error {
	return w.lon.Hold(w.t.Context(), w.nyc.ID(), w.ber.ID(), f)
}

func (w *world) mustHold(f link.Frame) {
	w.t.Helper()
	if err := w.hold(f); err != nil {
		w.t.Fatal(err)
	}
}

// TestIntroduced: two hosts that have the same relay come to know each other, and the
// relay learns nothing else of it.
func TestIntroduced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		w.link(t, w.lon)
		synctest.Wait()
		w.link(t, w.ber)
		synctest.Wait()
		for _, pair := range [][2]*host{{w.lon, w.ber}, {w.ber, w.lon}} {
			at, of := pair[0], pair[1]
			if keys, ok := at.book.Keys(of.ID()); !ok || keys.ID() != of.ID() || at.book.via[of.ID()] != w.nyc.ID() {
				t.Errorf("%s does not know %s by nyc", at.Name(), of.Name())
			}
		}
		if err := w.hold(frame("x")); err != nil {
			t.Errorf("lon does not know where to seal for ber: %v", err)
		}
	})
}

// TestIntroducedLater: who is carried for from now on is known to the others at once.
func TestIntroducedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		w.nyc.book.carried = w.nyc.book.carried[:1]
		introduced(t, w)
		if len(w.lon.book.via)+len(w.ber.book.via) != 0 {
			t.Error("hosts are introduced for which nyc does not carry")
		}
		w.nyc.book.change(func(b *book) { b.carried = []string{w.lon.ID(), w.ber.ID()} })
		w.nyc.Changed()
		synctest.Wait()
		if len(w.lon.book.via) != 1 || len(w.ber.book.via) != 1 {
			t.Errorf("got %d and %d introductions, want one each", len(w.lon.book.via), len(w.ber.book.via))
		}
		if err := w.hold(frame("x")); err != nil { // ber has said where before anybody carried for it
			t.Errorf("lon does not know where to seal for ber: %v", err)
		}
	})
}

// TestFalseIntroductions: what a host says of others is believed as far as it may.
func TestFalseIntroductions(t *testing.T) {
	other := newHost(t, "rio")
	line := func(name string, keys identity.Keys, more string) []byte {
		text := strings.ReplaceAll(strings.ReplaceAll(string(keys.Text()), `"`, `\"`), "\n", `\n`)
		return fmt.Appendf(nil, `{"name":%q,"keys":"%s"%s}`, name, text, more)
	}
	for name, test := range map[string]struct {
		prepare func(w *world)
		line    func(w *world) []byte
		want    bool // rio is known then
	}{
		"a host":         {nil, func(*world) []byte { return line("rio", other.Keys(), `,"later":1`) }, true},
		"no relay":       {func(w *world) { w.lon.book.relays = nil }, func(*world) []byte { return line("rio", other.Keys(), "") }, false},
		"a name twice":   {nil, func(*world) []byte { return line("nyc", other.Keys(), "") }, false},
		"its own name":   {nil, func(*world) []byte { return line("lon", other.Keys(), "") }, false},
		"no name":        {nil, func(*world) []byte { return line("R I O", other.Keys(), "") }, false},
		"no keys":        {nil, func(*world) []byte { return []byte(`{"name":"rio","keys":"{}"}`) }, false},
		"no JSON":        {nil, func(*world) []byte { return []byte(`rio`) }, false},
		"bad recipient":  {nil, func(*world) []byte { return line("rio", other.Keys(), `,"recipient":"age1x","sig":"AAAA"`) }, true},
		"its own keys":   {nil, func(w *world) []byte { return line("rio", w.lon.Keys(), "") }, false},
		"the relay's":    {nil, func(w *world) []byte { return line("rio", w.nyc.Keys(), "") }, false},
		"a pinned host":  {func(w *world) { w.lon.pin(other) }, func(*world) []byte { return line("rio", other.Keys(), "") }, true},
		"by a new name":  {func(w *world) { w.lon.pin(other) }, func(*world) []byte { return line("par", other.Keys(), "") }, true},
		"far too many":   {nil, nil, false},
		"and the others": {nil, func(*world) []byte { return append([]byte("junk\n"), line("rio", other.Keys(), "")...) }, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, relay.Limits{})
			if test.prepare != nil {
				test.prepare(w)
			}
			nyc, _ := linkMute(t, w.nyc, w.lon)
			send := func(lines ...[]byte) {
				nyc.say(t, link.Frame{Type: "introduce", Lane: link.Mail, Lines: lines})
			}
			if test.line == nil {
				for range 1000 {
					send([]byte("junk"))
				}
				send(line("rio", other.Keys(), ""))
			} else {
				send(bytes.Split(test.line(w), []byte("\n"))...)
			}
			synctest.Wait()
			if _, known := w.lon.book.Keys(other.ID()); known != test.want {
				t.Errorf("%s: rio is known: %t, want %t", name, known, test.want)
			}
			if nyc.ended {
				t.Errorf("%s: the link has ended", name)
			}
		})
	}
}

// TestRecipientChanges: a host that says every moment that something else seals for it
// makes its relay say so to the others a few times only.
func TestRecipientChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		ber, _ := linkMute(t, w.ber, w.nyc)
		lon, _ := linkMute(t, w.lon, w.nyc)
		synctest.Wait()
		before := len(lon.of("introduce"))
		for range 20 {
			h := newHost(t, "ber")
			h.start(w.net)
			key, err := os.ReadFile(h.home.AgeKeyPath())
			if err != nil {
				t.Fatal(err)
			}
			ber.say(t, link.Frame{Type: "recipient", Lane: link.Mail, Lines: [][]byte{relay.RecipientLine(w.ber.Host, string(key))}})
			synctest.Wait()
		}
		if got := len(lon.of("introduce")) - before; got != 3 || ber.ended {
			t.Errorf("lon has heard of %d changes, want 3", got)
		}
	})
}

// TestHeld: what is said to a host that is away comes when it is back, in order and once,
// also after the relay has started anew, which can read nothing of it.
func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		away(t, w)
		w.mustHold(frame("one", "more"))
		w.mustHold(frame("two"))
		w.mustHold(frame("one", "more")) // again: the same item
		files := w.held(w.ber)
		if len(files) != 2 {
			t.Fatalf("nyc holds %q, want two", files)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil || bytes.Contains(data, []byte("more")) || bytes.Contains(data, []byte("submit")) {
				t.Errorf("%q can be read (%v)", file, err)
			}
		}
		w.restart()
		w.link(t, w.ber)
		synctest.Wait()
		if got := w.ber.saw(); got != "submit onemore|submit two" || !strings.HasPrefix(w.ber.applied[0], w.lon.ID()[:4]) {
			t.Errorf("got %q", got)
		}
		if files := w.held(w.ber); len(files) != 0 {
			t.Errorf("nyc still holds %q", files)
		}
		w.link(t, w.lon)
		synctest.Wait()
		w.mustHold(frame("three")) // while it is there
		synctest.Wait()
		if got := w.ber.saw(); !strings.HasSuffix(got, "|submit three") {
			t.Errorf("got %q", got)
		}
	})
}

// TestNotHeld looks at what is refused.
func TestNotHeld(t *testing.T) {
	limits := relay.Limits{PairItems: 3, PairBytes: 1 << 30, SenderBytes: 5 << 12, HeldBytes: 6 << 12}
	big := strings.Repeat("x", 700_000)
	for name, test := range map[string]struct {
		do   func(t *testing.T, w *world) error
		want string
	}{
		"an unknown host": {func(_ *testing.T, w *world) error {
			return w.lon.Hold(t.Context(), w.nyc.ID(), strings.Repeat("a", 52), frame("x"))
		}, "not known"},
		"no relay": {func(_ *testing.T, w *world) error {
			return w.lon.Hold(t.Context(), w.ber.ID(), w.ber.ID(), frame("x"))
		}, "no link"},
		"carried no more": {func(_ *testing.T, w *world) error {
			w.nyc.book.change(func(b *book) { b.carried = b.carried[:1] })
			return w.hold(frame("x"))
		}, "unknown"},
		"too large": {func(_ *testing.T, w *world) error { return w.hold(frame(big, big)) }, "large"},
		"too many of one pair": {func(t *testing.T, w *world) error {
			for i := range 3 {
				w.mustHold(frame(fmt.Sprint(i)))
			}
			w.mustHold(frame("1")) // is held already
			return w.hold(frame("4"))
		}, "full"},
		"too much of one host": {func(_ *testing.T, w *world) error {
			w.mustHold(frame("x"))
			return w.hold(frame(strings.Repeat("x", 5<<12)))
		}, "full"},
		"no disk": {func(t *testing.T, w *world) error {
			if err := os.WriteFile(filepath.Join(w.nyc.folder(w.ber.ID()), "held"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return w.hold(frame("x"))
		}, "storage"},
		"no frame": {func(_ *testing.T, w *world) error { return w.hold(frame("")) }, "not a line"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, limits)
				away(t, w)
				if got := code(test.do(t, w)); !strings.Contains(got, test.want) {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
}

// TestRoomAgain: what was refused for one limit or another is held when there is room.
func TestRoomAgain(t *testing.T) {
	for _, limits := range []relay.Limits{{PairItems: 1}, {PairBytes: 5000}, {SenderBytes: 5000}, {HeldBytes: 5000}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, limits)
			away(t, w)
			w.mustHold(frame("one"))
			if err := w.hold(frame("two")); code(err) != "full" {
				t.Errorf("%+v: got %v, want full", limits, err)
			}
			w.link(t, w.ber)
			synctest.Wait()
			w.cut(w.ber)
			w.mustHold(frame("two"))
		})
	}
}

// TestHeldAfterIntroduction: an item of a host that the receiver does not know waits until
// it was introduced.
func TestHeldAfterIntroduction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		key, err := os.ReadFile(w.ber.home.AgeKeyPath())
		if err != nil {
			t.Fatal(err)
		}
		ber, l := linkMute(t, w.ber, w.nyc)
		ber.say(t, link.Frame{Type: "recipient", Lane: link.Mail, Lines: [][]byte{relay.RecipientLine(w.ber.Host, string(key))}})
		w.link(t, w.lon)
		synctest.Wait()
		l.Cut()
		w.mustHold(frame("hello"))
		w.ber.book.slow = time.Second // to pin
		w.link(t, w.ber)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.ber.saw(); got != "submit hello" {
			t.Errorf("got %q", got)
		}
	})
}

// TestClockIsLost: without its file the clock goes on from the newest item.
func TestClockIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{HeldTime: 3 * time.Hour})
		away(t, w)
		w.mustHold(frame("one"))
		time.Sleep(2 * time.Hour)
		w.mustHold(frame("two"))
		w.restart()
		if err := os.Remove(w.nyc.home.HeldClockPath()); err != nil {
			t.Fatal(err)
		}
		w.restart()
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		if files := w.held(w.ber); len(files) != 1 {
			t.Errorf("nyc holds %q, want the second", files)
		}
	})
}

// capture returns the frame with which nyc would give ber an item of lon, and a peer
// that can give it in nyc's place.
func capture(t *testing.T, w *world) (*mute, link.Frame) {
	t.Helper()
	away(t, w)
	w.mustHold(frame("secret"))
	ber, l := linkMute(t, w.ber, w.nyc)
	synctest.Wait()
	held := ber.of("held")
	if len(held) != 1 {
		t.Fatalf("nyc gives %d items, want one", len(held))
	}
	l.Cut()
	nyc, _ := linkMute(t, w.nyc, w.ber)
	f := held[0]
	_, header, _ := bytes.Cut(f.Header, []byte(`,"from"`)) // behind its number
	return nyc, link.Frame{Type: "held", Lane: link.Bulk, Header: append([]byte(`{"from"`), header...), Data: f.Data}
}

// TestForgedItems has a relay that lies. What it says is acknowledged, so that it does
// not stand in the way, and changes nothing.
func TestForgedItems(t *testing.T) {
	for name, test := range map[string]struct {
		change func(w *world, f *link.Frame)
		want   string
	}{
		"as it is": {func(*world, *link.Frame) {}, "submit secret"},
		"from another": {func(w *world, f *link.Frame) {
			f.Header = bytes.Replace(f.Header, []byte(w.lon.ID()), []byte(w.nyc.ID()), 1)
		}, ""},
		"from nobody": {func(w *world, f *link.Frame) {
			f.Header = bytes.Replace(f.Header, []byte(w.lon.ID()), []byte(strings.Repeat("a", 52)), 1)
		}, ""},
		"from itself": {func(w *world, f *link.Frame) {
			f.Header = bytes.Replace(f.Header, []byte(w.lon.ID()), []byte(w.ber.ID()), 1)
		}, ""},
		"another id": {func(_ *world, f *link.Frame) {
			f.Header = bytes.Replace(f.Header, []byte(`"id":"`), []byte(`"id":"0`), 1)
		}, ""},
		"other bytes": {func(_ *world, f *link.Frame) { f.Data = bytes.Clone(f.Data); f.Data[len(f.Data)-1] ^= 1 }, ""},
		"fewer bytes": {func(_ *world, f *link.Frame) { f.Data = f.Data[:len(f.Data)-1] }, ""},
		"no bytes":    {func(_ *world, f *link.Frame) { f.Data = []byte{} }, ""},
		"no signature": {func(_ *world, f *link.Frame) {
			head, _, _ := bytes.Cut(f.Header, []byte(`,"sig"`))
			f.Header = append(bytes.Clone(head), '}')
		}, ""},
		"signed by another": { // who has not sealed it
			func(w *world, f *link.Frame) {
				var row struct{ ID string }
				if err := json.Unmarshal(f.Header, &row); err != nil {
					panic(err)
				}
				sum := sha256.Sum256(f.Data)
				text := fmt.Appendf(nil, "duo/held/1\n%s\n%s\n%s\n%s\n", w.nyc.ID(), w.ber.ID(), row.ID, hex.EncodeToString(sum[:]))
				f.Header = fmt.Appendf(nil, `{"from":%q,"id":%q,"sig":%q}`, w.nyc.ID(), row.ID, base64.StdEncoding.EncodeToString(w.nyc.Sign(text)))
			}, ""},
		"its sender is gone": {func(w *world, _ *link.Frame) { w.ber.book.change(func(b *book) { delete(b.pinned, w.lon.ID()) }) }, ""},
		"it is no relay":     {func(w *world, _ *link.Frame) { w.ber.book.change(func(b *book) { b.relays = nil }) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, relay.Limits{})
				nyc, f := capture(t, w)
				test.change(w, &f)
				acked := false
				f.Acked = func() { acked = true }
				nyc.say(t, f)
				synctest.Wait()
				if got := w.ber.saw(); got != test.want || !acked {
					t.Errorf("got %q, acknowledged %t; want %q", got, acked, test.want)
				}
			})
		})
	}
}

// TestForAnother gives an item to a host for which it was not sealed.
func TestForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		rio := newHost(t, "rio")
		rio.pin(w.nyc, w.lon)
		rio.book.relays = []string{w.nyc.ID()}
		rio.start(w.net)
		_, f := capture(t, w)
		nyc, _ := linkMute(t, w.nyc, rio)
		nyc.say(t, f)
		synctest.Wait()
		if got := rio.saw(); got != "" {
			t.Errorf("got %q", got)
		}
	})
}

// TestReplay: the same item again is the same frame again; who applies it knows its ids.
func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		nyc, f := capture(t, w)
		for range 3 {
			nyc.say(t, f)
		}
		synctest.Wait()
		if got := w.ber.saw(); got != "submit secret|submit secret|submit secret" {
			t.Errorf("got %q", got)
		}
	})
}

// TestNotAppliedYet: an item that cannot be stored now is not acknowledged, and stored
// when it can be; one that never can is dropped.
func TestNotAppliedYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		away(t, w)
		w.mustHold(frame("one"))
		w.mustHold(frame("two"))
		w.ber.refuse = errors.New("no space left on device")
		w.link(t, w.ber)
		time.Sleep(time.Minute)
		synctest.Wait()
		if files := w.held(w.ber); len(files) != 2 || w.ber.saw() != "" {
			t.Errorf("nyc holds %q, and %q is applied", files, w.ber.saw())
		}
		w.ber.set(func() { w.ber.refuse = nil })
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if files := w.held(w.ber); len(files) != 0 || w.ber.saw() != "submit one|submit two" {
			t.Errorf("nyc holds %q, and %q is applied", files, w.ber.saw())
		}
		w.ber.set(func() { w.ber.refuse = fmt.Errorf("%w: no such frame", relay.ErrBad) })
		w.mustHold(frame("three"))
		synctest.Wait()
		if files := w.held(w.ber); len(files) != 0 || w.ber.saw() != "submit one|submit two" {
			t.Errorf("nyc holds %q, and %q is applied", files, w.ber.saw())
		}
	})
}

// TestKilledBetween ends the daemon of the relay after each step, and starts it again.
func TestKilledBetween(t *testing.T) {
	for name, test := range map[string]struct {
		kill func(t *testing.T, w *world)
		want string
	}{
		"before the item has its name": {func(t *testing.T, w *world) {
			files := w.held(w.ber)
			if err := os.Rename(files[0], filepath.Join(filepath.Dir(files[0]), ".tmp-1")); err != nil {
				t.Fatal(err)
			}
		}, ""},
		"after that, before it is acknowledged": {func(*testing.T, *world) {}, "submit one"},
		"after it was taken, before it is deleted": {func(t *testing.T, w *world) {
			data, err := os.ReadFile(w.held(w.ber)[0])
			name := w.held(w.ber)[0]
			w.link(t, w.ber)
			synctest.Wait()
			if err = errors.Join(err, os.WriteFile(name, data, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "submit one|submit one"}, // the same id
		"and something else lies there": {func(t *testing.T, w *world) {
			dir := filepath.Dir(w.held(w.ber)[0])
			if err := os.WriteFile(filepath.Join(dir, "0.held"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "submit one"},
		"and the file is damaged": {func(t *testing.T, w *world) {
			if err := os.Truncate(w.held(w.ber)[0], 100); err != nil {
				t.Fatal(err)
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, relay.Limits{})
				away(t, w)
				w.mustHold(frame("one"))
				test.kill(t, w)
				w.restart()
				w.link(t, w.ber)
				synctest.Wait()
				if got := w.ber.saw(); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
				for _, file := range w.held(w.ber) {
					if filepath.Base(file) != "0.held" {
						t.Errorf("%q is left", file)
					}
				}
				w.link(t, w.lon)
				synctest.Wait()
				w.mustHold(frame("two"))
				synctest.Wait()
				if got := w.ber.saw(); !strings.HasSuffix(got, "submit two") {
					t.Errorf("after that got %q", got)
				}
			})
		})
	}
}

// TestExpiry: an item is deleted after a time in which the daemon of the relay runs, and
// its sender hears so.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{HeldTime: 7 * time.Hour})
		away(t, w)
		w.mustHold(frame("one"))
		time.Sleep(4 * time.Hour)
		w.restart()
		time.Sleep(2 * time.Hour)
		w.link(t, w.lon)
		synctest.Wait()
		w.mustHold(frame("two"))
		if files := w.held(w.ber); len(files) != 2 {
			t.Errorf("after six hours nyc holds %q, want both", files)
		}
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		if files := w.held(w.ber); len(files) != 1 {
			t.Errorf("after seven hours nyc holds %q, want the second", files)
		}
		w.lon.mu.Lock()
		if len(w.lon.expired) != 1 || w.lon.expired[0] != w.ber.ID() {
			t.Errorf("lon has heard %q, want that one for ber has expired", w.lon.expired)
		}
		w.lon.mu.Unlock()
		w.mustHold(frame("one")) // which it then may hold again
		if files := w.held(w.ber); len(files) != 2 {
			t.Errorf("nyc holds %q, want both", files)
		}
	})
}

// TestLinkEndsWhileHolding: what was not acknowledged is not held, as far as the sender knows.
func TestLinkEndsWhileHolding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, relay.Limits{})
		away(t, w)
		w.cut(w.lon)
		deaf := &deaf{newMute()}
		l, _, _ := peertest.Connect(t, peertest.Side{ID: w.nyc.ID(), Name: "nyc", Services: []peer.Service{deaf}},
			peertest.Side{ID: w.lon.ID(), Name: "lon", Services: []peer.Service{w.lon.Relay}})
		held := make(chan error, 1)
		go func() { held <- w.hold(frame("x")) }()
		synctest.Wait()
		if err := w.hold(frame("x")); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("the same at the same time: got %v", err)
		}
		l.Cut()
		if err := <-held; err == nil {
			t.Error("held without an acknowledgement")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w.link(t, w.lon)
		if err := w.lon.Hold(ctx, w.nyc.ID(), w.ber.ID(), frame("x")); err != nil {
			t.Errorf("on the next link: %v", err)
		}
	})
}

// deaf acknowledges nothing.
type deaf struct{ *mute }

func (d *deaf) Open(s *peer.Session) peer.Line { d.session = s; return d }
func (d *deaf) Take(link.Frame) error          { return nil }

// TestAgeKey: the key is made once, is for nobody else to read, and a damaged one is no
// reason to make another.
func TestAgeKey(t *testing.T) {
	h := newHost(t, "nyc")
	n := &network{}
	if _, err := relay.New(h.options(n)); err != nil {
		t.Fatal(err)
	}
	path := h.home.AgeKeyPath()
	first, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(first, []byte("AGE-SECRET-KEY-1")) {
		t.Fatalf("no key in %q: %v", path, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	if _, err := relay.New(h.options(n)); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(path); !bytes.Equal(again, first) {
		t.Error("there is another key")
	}
	if err := os.WriteFile(path, first[:30], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := relay.New(h.options(n)); err == nil || strings.Contains(err.Error(), string(first[:30])) {
		t.Errorf("a damaged key: got %v", err)
	}
}

// FuzzHeld gives a host items with whatever a relay may say, and whatever a sender may
// seal.
func FuzzHeld(f *testing.F) {
	home, err := maildir.Init(filepath.Join(f.TempDir(), "ber"))
	if err != nil {
		f.Fatal(err)
	}
	id, err := identity.Open(home)
	if err != nil {
		f.Fatal(err)
	}
	o := relay.NewOpener(f, id, home.AgeKeyPath())
	good := o.Plain("{\"t\":\"submit\"}\nline")
	f.Add(good, true, true)
	f.Add(good, true, false)
	f.Add(bytes.Replace(good, []byte("from"), []byte("to"), 1), true, true)
	f.Add(o.Plain("{\"t\":\"submit\",\"mail\":1}\nline"), true, true)
	f.Add([]byte("age-encryption.org/v1\n-> X25519 "), false, true)
	f.Add(o.Seal(good), false, true)
	f.Fuzz(func(t *testing.T, data []byte, seal, signed bool) {
		plain := data
		if seal {
			data = o.Seal(data)
		}
		got, err := o.Open(data, signed)
		if err == nil && (!signed || len(got.Lines) > link.MaxLines || got.Number != 0 || got.Type == "") {
			t.Errorf("opened %q", plain)
		}
		if bytes.Equal(plain, good) && seal && signed && (err != nil || got.Type != "submit") {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add(strings.Repeat("A", 43))
	f.Add(strings.Repeat("A", 42) + "B") // the same bytes, written another way
	f.Add(strings.Repeat("A", 40) + "\nAAA")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := relay.ParseToken(text); err == nil && got != text {
			t.Errorf("%q is read as %q", text, got)
		}
	})
}

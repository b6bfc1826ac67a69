package courier_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/relay"
)

func (h *host) peer() peer.Peer { return peer.Peer{ID: h.me.ID(), Name: h.me.Name()} }

// given is what a relay gets for another host, all of it.
func (h *host) given(to *host) (frames []link.Frame) {
	h.t.Helper()
	for {
		f, settle, found := h.courier.Away(ctx, to.peer())
		if !found {
			return frames
		}
		settle(true)
		frames = append(frames, f)
	}
}

// take applies a frame that a relay has held.
func (h *host) take(from *host, f link.Frame) error { return h.courier.Held(ctx, from.me.ID(), f) }

// says makes Bob say something, and gives the frame that a relay gets of it.
func says(t *testing.T, nyc, lon *host, id, text string) link.Frame {
	t.Helper()
	lon.say("Bob", &draft{Conversation: id, Content: text})
	frames := lon.given(nyc)
	if len(frames) != 1 || len(frames[0].Lines) != 1 {
		t.Fatalf("got %d frames, want one with %q", len(frames), text)
	}
	return frames[0]
}

// TestHeldSubmissions: what a relay loses, repeats or exchanges changes nothing but when
// it comes: what Bob says is there once, in the order in which he has said it.
func TestHeldSubmissions(t *testing.T) {
	for name, disturb := range map[string]func([]link.Frame) []link.Frame{
		"as they are":   func(f []link.Frame) []link.Frame { return f },
		"twice":         func(f []link.Frame) []link.Frame { return append(slices.Clone(f), f...) },
		"backwards":     func(f []link.Frame) []link.Frame { slices.Reverse(f); return f },
		"not all":       func(f []link.Frame) []link.Frame { return slices.Delete(f, 1, 2) },
		"not the first": func(f []link.Frame) []link.Frame { return f[1:] },
		"anyhow": func(f []link.Frame) []link.Frame {
			f = append(f, f...)
			rand.Shuffle(len(f), func(i, j int) { f[i], f[j] = f[j], f[i] })
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				nyc, lon, id := two(t)
				want := []string{"Atlas@nyc system create"}
				var frames []link.Frame
				for i := range 5 {
					text := fmt.Sprint("number ", i)
					want = append(want, "Bob@lon message "+text)
					frames = append(frames, says(t, nyc, lon, id, text))
				}
				for _, f := range disturb(frames) {
					if err := nyc.take(lon, f); err != nil && !errors.Is(err, relay.ErrBad) {
						t.Errorf("got %v", err)
					}
				}
				got := nyc.said(id)
				if !slices.Equal(got, want[:len(got)]) {
					t.Errorf("got %q", got)
				}
				if (name == "as they are" || name == "twice") && len(got) != 6 {
					t.Errorf("got %d lines, want 6", len(got))
				}
				lon.wantSpooled(nyc, 5) // until they are in the copy
				connect(t, nyc, lon)
				synctest.Wait()
				nyc.want(id, want...)
				ship(nyc, lon, id)
				lon.wantSpooled(nyc, 0)
			})
		})
	}
}

// TestHeldInOne: what waits together is given together, once, and again when relays may
// have lost it; behind what no relay takes, the others wait.
func TestHeldInOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		for i := range 3 {
			lon.say("Bob", &draft{Conversation: id, Content: fmt.Sprint(i)})
		}
		first := lon.given(nyc)
		if len(first) != 1 || len(first[0].Lines) != 3 || len(lon.given(nyc)) != 0 {
			t.Fatalf("got %d frames, want one, once", len(first))
		}
		lon.courier.Lost(nyc.peer())
		again := lon.given(nyc)
		if len(again) != 1 || string(again[0].Header) != string(first[0].Header) || len(again[0].Lines) != 3 {
			t.Errorf("got %d frames, want the same again", len(again))
		}
		lon.say("Bob", &draft{Conversation: id, Content: "large"})
		if _, settle, found := lon.courier.Away(ctx, nyc.peer()); !found {
			t.Error("nothing is given")
		} else {
			settle(false)
		}
		lon.say("Bob", &draft{Conversation: id, Content: "behind it"})
		if got := lon.given(nyc); len(got) != 0 {
			t.Errorf("got %d frames behind one that no relay takes", len(got))
		}
	})
}

// TestHeldRefused: Bob hears by a relay that what a relay has brought is refused, and a
// repeat of it changes nothing.
func TestHeldRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		f := says(t, nyc, lon, id, "hi")
		nyc.restart(func() {
			if err := errors.Join(os.Remove(nyc.home.LogPath(id)), os.Remove(nyc.home.IndexPath())); err != nil {
				t.Fatal(err)
			}
		})
		for range 2 {
			if err := nyc.take(lon, f); err != nil {
				t.Error(err)
			}
		}
		answers := nyc.given(lon)
		if len(answers) != 1 || answers[0].Type != "refused" {
			t.Fatalf("got %d frames, want one that refuses", len(answers))
		}
		for range 2 {
			if err := lon.take(nyc, answers[0]); err != nil {
				t.Error(err)
			}
		}
		lon.wantSpooled(nyc, 0)
		if got := lon.failed("Bob"); len(got) != 1 || !strings.Contains(got[0], "no such conversation") {
			t.Errorf("got %q", got)
		}
	})
}

// TestHeldOnAFullDisk: what cannot be stored now is for another time.
func TestHeldOnAFullDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		f := says(t, nyc, lon, id, "hi")
		nyc.full.Store(true)
		if err := nyc.take(lon, f); err == nil || errors.Is(err, relay.ErrBad) {
			t.Errorf("got %v, want an error that passes", err)
		}
		nyc.full.Store(false)
		if err := nyc.take(lon, f); err != nil {
			t.Error(err)
		}
		nyc.want(id, "Atlas@nyc system create", "Bob@lon message hi")
	})
}

// TestHeldForged: a host says what is not its to say.
func TestHeldForged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		rio := newHost(t, "rio")
		pair(t, nyc, lon, rio)
		f := says(t, nyc, lon, id, "hi")
		if err := nyc.take(rio, f); err != nil {
			t.Errorf("of another host: got %v, want it refused and answered", err)
		}
		for name, f := range map[string]link.Frame{
			"no predecessor": {Type: "submit", Lines: f.Lines, Header: []byte(`{}`)},
			"junk":           {Type: "submit", Header: f.Header, Lines: [][]byte{[]byte("junk")}},
			"receipts":       {Type: "receipts", Lines: [][]byte{[]byte("{}")}},
			"no refusal":     {Type: "refused", Lines: [][]byte{[]byte("junk")}},
		} {
			if err := nyc.take(lon, f); !errors.Is(err, relay.ErrBad) {
				t.Errorf("%s: got %v, want that it can never be taken", name, err)
			}
		}
		nyc.want(id, "Atlas@nyc system create")
	})
}

// TestHeldAnswered: what was refused in the log is not taken later, when a relay repeats it.
func TestHeldAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		f := says(t, nyc, lon, id, "hi")
		contact := func(list string) {
			if _, err := nyc.roster.SetContact("Atlas", "Bob@lon", list); err != nil {
				t.Fatal(err)
			}
		}
		contact("block")
		if err := nyc.take(lon, f); err != nil {
			t.Error(err)
		}
		want := nyc.said(id)
		if len(want) != 2 || !strings.Contains(want[1], "undeliverable") {
			t.Fatalf("got %q, want a line that says why not", want)
		}
		contact("")
		if err := nyc.take(lon, f); err != nil {
			t.Error(err)
		}
		nyc.want(id, want...)
	})
}

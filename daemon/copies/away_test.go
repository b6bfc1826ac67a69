package copies_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/relay"
)

func (h *host) peer() peer.Peer { return peer.Peer{ID: h.home.Host.ID, Name: h.home.Host.Name} }

// given is what a relay gets for another host, all of it.
func (h *host) given(to *host) (frames []link.Frame) {
	h.Helper()
	for {
		f, settle, found := h.service.Away(context.Background(), to.peer())
		if !found {
			return frames
		}
		settle(true)
		frames = append(frames, f)
	}
}

// take applies a frame that a relay has held.
func (h *host) take(from *host, f link.Frame) error {
	return h.service.Held(context.Background(), from.peer(), f)
}

// held is a conversation of which lon knows three lines, and frames of one line each for
// the six behind them.
func held(t *testing.T, nyc, lon *host) (id string, frames []link.Frame) {
	t.Helper()
	id = nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
	nyc.say(id, nyc.address("Atlas"), "before the link")
	l := connect(t, nyc, lon)
	nyc.say(id, nyc.address("Atlas"), "on the link")
	synctest.Wait()
	lon.wantCopy(nyc, id, 3)
	l.Cut()
	synctest.Wait()
	if got := nyc.given(lon); len(got) > 0 {
		t.Errorf("got %d frames for a host that lacks nothing", len(got))
	}
	for range 6 {
		nyc.say(id, nyc.address("Atlas"), "while it is away")
		got := nyc.given(lon)
		if len(got) != 1 || len(got[0].Lines) != 1 {
			t.Fatalf("got %d frames, want one with the new line", len(got))
		}
		frames = append(frames, got...)
	}
	return id, frames
}

// TestHeldLines: what a relay has held comes into the replica as from a link, and what it
// loses, repeats or exchanges changes nothing but when it comes.
func TestHeldLines(t *testing.T) {
	for name, disturb := range map[string]func([]link.Frame) []link.Frame{
		"as they are": func(f []link.Frame) []link.Frame { return f },
		"twice":       func(f []link.Frame) []link.Frame { return append(slices.Clone(f), f...) },
		"backwards":   func(f []link.Frame) []link.Frame { slices.Reverse(f); return f },
		"not all":     func(f []link.Frame) []link.Frame { return slices.Delete(f, 2, 3) },
		"anyhow": func(f []link.Frame) []link.Frame {
			f = append(f, f...)
			rand.Shuffle(len(f), func(i, j int) { f[i], f[j] = f[j], f[i] })
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, nyc, lon *host) {
				id, frames := held(t, nyc, lon)
				for _, f := range disturb(frames) {
					if err := lon.take(nyc, f); err != nil && !errors.Is(err, relay.ErrBad) {
						t.Errorf("got %v", err)
					}
					want, got := nyc.lines(id), lon.lines(id)
					if len(got) > len(want) || !slices.EqualFunc(got, want[:len(got)], bytes.Equal) {
						t.Fatalf("the replica has %d lines that are not those of its origin", len(got))
					}
				}
				if n := len(lon.lines(id)); (name == "as they are" || name == "twice") && n != 9 {
					t.Errorf("got %d lines, want 9", n)
				}
				connect(t, nyc, lon)
				lon.wantCopy(nyc, id, 9)
				nyc.wantNoProblems(lon)
				lon.wantNoProblems(nyc)
			})
		})
	}
}

// TestHeldBesideALink: a relay and a link bring the same at the same moment.
func TestHeldBesideALink(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id, frames := held(t, nyc, lon)
		goOn := lon.hold()
		connect(t, nyc, lon)
		taken := make(chan error, 1)
		go func() {
			for _, f := range frames {
				if err := lon.take(nyc, f); err != nil {
					taken <- err
					return
				}
			}
			taken <- nil
		}()
		synctest.Wait()
		goOn()
		if err := <-taken; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		lon.wantCopy(nyc, id, 9)
		lon.wantNoProblems(nyc)
	})
}

// TestNothingIsKnown: for a replica of which nobody knows how far it is, nothing is given;
// a conversation that is new is given from its first line.
func TestNothingIsKnown(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id, _ := held(t, nyc, lon)
		nyc.restart()
		nyc.say(id, nyc.address("Atlas"), "after the restart")
		if got := nyc.given(lon); len(got) > 0 {
			t.Errorf("got %d frames for a replica that may be anywhere", len(got))
		}
		fresh := nyc.create("b", nyc.address("Atlas"), lon.address("Bob"))
		nyc.create("c", nyc.address("Atlas"), nyc.address("Nova"))
		nyc.say(fresh, nyc.address("Atlas"), "hi")
		frames := nyc.given(lon)
		if len(frames) != 1 || len(frames[0].Lines) != 2 {
			t.Fatalf("got %d frames, want one", len(frames))
		}
		if err := lon.take(nyc, frames[0]); err != nil {
			t.Error(err)
		}
		lon.wantCopy(nyc, fresh, 2)

		nyc.service.Has("lon", id, 3) // it has said so in another way
		for _, f := range nyc.given(lon) {
			if err := lon.take(nyc, f); err != nil {
				t.Error(err)
			}
		}
		lon.wantCopy(nyc, id, 10)
	})
}

// TestHeldAcrossARestore: the origin was restored and has gone another way. What it gives
// to a relay then is not put behind what the replica has.
func TestHeldAcrossARestore(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id, frames := held(t, nyc, lon)
		for _, f := range frames {
			if err := lon.take(nyc, f); err != nil {
				t.Fatal(err)
			}
		}
		before := lon.lines(id)
		nyc.restart(func() { truncate(t, nyc, id, 4) })
		for range 8 {
			nyc.say(id, nyc.address("Atlas"), "another way")
		}
		nyc.service.Has("lon", id, 9)
		frames = nyc.given(lon)
		if len(frames) == 0 {
			t.Fatal("nothing is given")
		}
		for _, f := range frames {
			if err := lon.take(nyc, f); !errors.Is(err, relay.ErrBad) {
				t.Errorf("got %v, want that it can never be taken", err)
			}
		}
		if got := lon.lines(id); !slices.EqualFunc(got, before, bytes.Equal) {
			t.Errorf("got %d lines, want the %d that were there", len(got), len(before))
		}
	})
}

// TestNeverHeld: behind a line that no relay takes there is nothing that fits.
func TestNeverHeld(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id, _ := held(t, nyc, lon)
		nyc.say(id, nyc.address("Atlas"), "large")
		_, settle, found := nyc.service.Away(context.Background(), lon.peer())
		if !found {
			t.Fatal("nothing is given")
		}
		settle(false)
		nyc.say(id, nyc.address("Atlas"), "behind it")
		if got := nyc.given(lon); len(got) > 0 {
			t.Errorf("got %d frames", len(got))
		}
		connect(t, nyc, lon)
		lon.wantCopy(nyc, id, 11)
	})
}

// TestForgedHeldLines: a host says what is not its to say.
func TestForgedHeldLines(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id, frames := held(t, nyc, lon)
		rio := newHost(t, t.TempDir(), "rio")
		t.Cleanup(rio.close)
		for name, f := range map[string]link.Frame{
			"of another host": frames[0],
			"no lines":        {Type: "lines", Header: frames[0].Header},
			"no header":       {Type: "lines", Header: []byte(`{}`), Lines: frames[0].Lines},
			"junk":            {Type: "lines", Header: frames[0].Header, Lines: [][]byte{[]byte("junk")}},
			"a fork":          {Type: "lines", Header: []byte(`{"conversation":"` + id + `","fork":2}`), Lines: frames[0].Lines},
			"heads":           {Type: "heads", Header: []byte(`{"all":true}`)},
		} {
			from := nyc
			if name == "of another host" {
				from = rio
			}
			if err := lon.take(from, f); !errors.Is(err, relay.ErrBad) {
				t.Errorf("%s: got %v, want that it can never be taken", name, err)
			}
		}
		lon.wantCopy(nyc, id, 3)
	})
}

// truncate leaves the first lines of a log.
func truncate(t *testing.T, h *host, id string, lines int) {
	t.Helper()
	size := 0
	for _, line := range h.lines(id)[:lines] {
		size += len(line) + 1
	}
	if err := os.Truncate(h.home.LogPath(id), int64(size)); err != nil {
		t.Fatal(err)
	}
}

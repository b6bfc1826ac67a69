package away_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/away"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/relay"
)

// scene is a host with a peer and a relay, and a source that has some frames.
type scene struct {
	now    time.Time
	linked bool
	via    string
	refuse error
	waits  []string // what the source has to give
	next   int
	never  []string
	lost   int
	held   []string
	giver  *away.Giver
}

func newScene() *scene {
	s := &scene{now: time.Unix(1, 0), via: "hub"}
	s.giver = away.New(away.Parts{
		Peers: func() []peer.Peer { return []peer.Peer{{ID: "lon", Name: "lon"}} }, Linked: func(string) bool { return s.linked },
		Relay: s, Sources: []away.Source{s}, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return s.now },
	})
	return s
}

func (s *scene) Way(string) (string, bool) { return s.via, s.via != "" }

func (s *scene) Hold(_ context.Context, via, to string, f link.Frame) error {
	if s.refuse != nil {
		return fmt.Errorf("hold: %w", s.refuse)
	}
	s.held = append(s.held, via+" "+to+" "+string(f.Lines[0]))
	return nil
}

func (s *scene) Away(context.Context, peer.Peer) (f link.Frame, settle func(bool), found bool) {
	if s.next == len(s.waits) {
		return f, nil, false
	}
	f.Lines = [][]byte{[]byte(s.waits[s.next])}
	return f, func(held bool) {
		if !held {
			s.never = append(s.never, s.waits[s.next])
		}
		s.next++
	}, true
}

func (s *scene) Lost(peer.Peer) { s.lost++; s.next = 0 }

// look lets time pass, and looks then.
func (s *scene) look(d time.Duration) {
	s.now = s.now.Add(d)
	s.giver.Look(context.Background())
}

func (s *scene) want(t *testing.T, when string, want ...string) {
	t.Helper()
	if !slices.Equal(s.held, want) {
		t.Errorf("%s: the relay has %q, want %q", when, s.held, want)
	}
}

// TestAway: what waits is given once, when a host is away for a while.
func TestAway(t *testing.T) {
	s := newScene()
	s.waits = []string{"one", "two"}
	s.linked = true
	s.look(time.Hour)
	s.linked = false
	s.look(0)
	s.look(3 * time.Second)
	s.want(t, "after a moment")
	s.look(time.Second)
	s.want(t, "after a while", "hub lon one", "hub lon two")
	s.look(time.Minute)
	s.waits = append(s.waits, "three")
	s.look(0)
	s.want(t, "when there is more", "hub lon one", "hub lon two", "hub lon three")
	s.linked, s.held = true, nil
	s.look(0)
	s.linked = false
	s.waits = append(s.waits, "four")
	s.look(3 * time.Second)
	s.want(t, "away again for a moment")
}

// TestNoWay: without a link with a relay nothing is given, and another relay gets all.
func TestNoWay(t *testing.T) {
	s := newScene()
	s.via, s.waits = "", []string{"one"}
	s.look(0)
	s.look(time.Minute)
	s.want(t, "without a relay")
	s.via = "hub"
	s.look(0)
	s.via = "pop"
	s.look(0)
	s.want(t, "with another one", "hub lon one", "pop lon one")
}

// TestExpired: what a relay has given up is given again.
func TestExpired(t *testing.T) {
	s := newScene()
	s.waits = []string{"one"}
	s.look(0)
	s.look(time.Minute)
	s.giver.Expired("lon")
	s.giver.Expired("rio")
	s.look(time.Minute)
	s.look(time.Minute)
	s.want(t, "after that", "hub lon one", "hub lon one")
}

// TestRefused looks at what a relay does not hold.
func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		refuse error
		never  int           // things that are never tried again
		rest   time.Duration // before which nothing is tried again
	}{
		"full":      {&relay.Refused{Code: relay.CodeFull}, 0, time.Minute},
		"unknown":   {&relay.Refused{Code: relay.CodeUnknown}, 0, time.Minute},
		"large":     {&relay.Refused{Code: relay.CodeLarge}, 2, 0},
		"link ends": {errors.New("closed"), 0, 5 * time.Second},
	} {
		s := newScene()
		s.waits = []string{"one", "two"}
		s.look(0)
		s.refuse = test.refuse
		s.look(time.Minute)
		s.refuse = nil
		s.waits = append(s.waits, "three")
		if len(s.never) != test.never {
			t.Errorf("%s: %q are never tried again, want %d", name, s.never, test.never)
		}
		if test.rest > 0 {
			s.look(test.rest - 1)
			s.want(t, name)
			s.look(1)
		} else {
			s.look(0)
		}
		if want := 3 - test.never; len(s.held) != want {
			t.Errorf("%s: the relay has %q, want %d", name, s.held, want)
		}
	}
}

// TestBounded: one look gives so much for a host, the next one more.
func TestBounded(t *testing.T) {
	s := newScene()
	for i := range 40 {
		s.waits = append(s.waits, fmt.Sprint(i))
	}
	s.look(0)
	for _, want := range []int{16, 32, 40} {
		s.look(time.Minute)
		if len(s.held) != want {
			t.Errorf("the relay has %d, want %d", len(s.held), want)
		}
	}
}

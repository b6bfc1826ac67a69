package bus_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/maildir/envelope"
)

func address(name string) envelope.Address { return envelope.Address{Name: name, Host: "nyc"} }

// woken reports whether a subscriber has a token, and takes it.
func woken(s *bus.Sub) bool {
	select {
	case <-s.Wake():
		return true
	default:
		return false
	}
}

func wantGrown(t *testing.T, who string, s *bus.Sub, want ...string) {
	t.Helper()
	if got := woken(s); got != (len(want) > 0) {
		t.Errorf("%s: got woken %v, want %v", who, got, len(want) > 0)
	}
	got := s.Grown()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", who, got, want)
	}
}

func TestPublishWakesWhoIsIn(t *testing.T) {
	b := bus.New()
	atlas, twin, nova := b.Subscribe(address("Atlas")), b.Subscribe(address("ATLAS")), b.Subscribe(address("Nova"))
	b.Publish("c1", []envelope.Address{address("atlas"), address("Sage")})
	wantGrown(t, "Atlas", atlas, "c1")
	wantGrown(t, "the second subscription of Atlas", twin, "c1")
	wantGrown(t, "Nova", nova)
	b.Publish("c1", []envelope.Address{{Name: "Atlas", Host: "tokyo"}})
	wantGrown(t, "Atlas, after news for another host's", atlas)
}

func TestNewsAreGathered(t *testing.T) {
	b := bus.New()
	s := b.Subscribe(address("Atlas"))
	for _, conversation := range []string{"c2", "c1", "c2", "c3", "c2"} {
		b.Publish(conversation, []envelope.Address{address("Atlas")})
	}
	wantGrown(t, "after five", s, "c1", "c2", "c3")
	wantGrown(t, "after taking them", s)
}

// TestAnEmptyWake: a subscriber that took the news before the token is woken once
// more, to find nothing.
func TestAnEmptyWake(t *testing.T) {
	b := bus.New()
	s := b.Subscribe(address("Atlas"))
	b.Publish("c1", []envelope.Address{address("Atlas")})
	if got := s.Grown(); !slices.Equal(got, []string{"c1"}) {
		t.Errorf("Grown: got %q, want c1", got)
	}
	if !woken(s) || s.Grown() != nil {
		t.Errorf("after that: want one token and nothing new")
	}
}

func TestClose(t *testing.T) {
	b := bus.New()
	s, other := b.Subscribe(address("Atlas")), b.Subscribe(address("Atlas"))
	s.Close()
	s.Close()
	b.Publish("c1", []envelope.Address{address("Atlas")})
	wantGrown(t, "the closed one", s)
	wantGrown(t, "the other one", other, "c1")
	other.Close()
	b.Publish("c1", []envelope.Address{address("Atlas")})
	wantGrown(t, "the other one, closed", other)
}

// TestNothingIsMissed: whoever reads the truth after each wake ends with all of it.
func TestNothingIsMissed(t *testing.T) {
	const writers, lines = 4, 300
	b := bus.New()
	var mu sync.Mutex
	length := 0 // the log
	var all sync.WaitGroup
	for range 3 {
		s := b.Subscribe(address("Atlas"))
		all.Go(func() {
			defer s.Close()
			for seen := 0; seen < writers*lines; {
				<-s.Wake()
				if len(s.Grown()) == 0 {
					continue
				}
				mu.Lock()
				seen = length
				mu.Unlock()
			}
		})
	}
	for range writers {
		all.Go(func() {
			for range lines {
				mu.Lock()
				length++
				mu.Unlock()
				b.Publish("c1", []envelope.Address{address("Atlas")})
			}
		})
	}
	all.Wait()
}

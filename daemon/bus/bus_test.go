package bus_test

import (
	"maps"
	"strconv"
	"sync"
	"testing"

	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/maildir/envelope"
)

func address(name string) envelope.Address { return envelope.Address{Name: name, Host: "nyc"} }

func addresses(names ...string) (list []envelope.Address) {
	for _, name := range names {
		list = append(list, address(name))
	}
	return list
}

func follow(b *bus.Bus, name string) *bus.Sub { return b.Subscribe(bus.Agent(address(name))) }

// woken reports whether a subscriber has a token, and takes it.
func woken(s *bus.Sub) bool {
	select {
	case <-s.Wake():
		return true
	default:
		return false
	}
}

func wantGrown(t *testing.T, who string, s *bus.Sub, want map[string]int64) {
	t.Helper()
	if got := woken(s); got != (len(want) > 0) {
		t.Errorf("%s: got woken %v, want %v", who, got, len(want) > 0)
	}
	if got := s.Grown(); !maps.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", who, got, want)
	}
}

func TestPublishWakesWhoIsIn(t *testing.T) {
	b := bus.New()
	atlas, twin, nova, all := follow(b, "Atlas"), follow(b, "ATLAS"), follow(b, "Nova"), b.Subscribe(bus.All)
	b.Publish("c1", 7, addresses("atlas", "Sage"))
	wantGrown(t, "Atlas", atlas, map[string]int64{"c1": 7})
	wantGrown(t, "the second subscription of Atlas", twin, map[string]int64{"c1": 7})
	wantGrown(t, "Nova", nova, nil)
	wantGrown(t, "who follows all", all, map[string]int64{"c1": 7})
	b.Publish("c1", 8, []envelope.Address{{Name: "Atlas", Host: "tokyo"}})
	wantGrown(t, "Atlas, after news for another host's", atlas, nil)
	wantGrown(t, "who follows all, after that", all, map[string]int64{"c1": 8})
}

func TestNewsAreGathered(t *testing.T) {
	b := bus.New()
	s := follow(b, "Atlas")
	for i, conversation := range []string{"c2", "c1", "c2", "c3", "c2"} {
		b.Publish(conversation, int64(10-i), addresses("Atlas"))
	}
	wantGrown(t, "after five", s, map[string]int64{"c1": 9, "c2": 6, "c3": 7})
	wantGrown(t, "after taking them", s, nil)
}

// TestAnEmptyWake: a subscriber that took the news before the token is woken once
// more, to find nothing.
func TestAnEmptyWake(t *testing.T) {
	b := bus.New()
	s := follow(b, "Atlas")
	b.Publish("c1", 1, addresses("Atlas"))
	if got := s.Grown(); len(got) != 1 {
		t.Errorf("Grown: got %v, want c1", got)
	}
	if !woken(s) || s.Grown() != nil {
		t.Errorf("after that: want one token and nothing new")
	}
}

func TestClose(t *testing.T) {
	b := bus.New()
	s, other := follow(b, "Atlas"), follow(b, "Atlas")
	s.Close()
	s.Close()
	b.Publish("c1", 1, addresses("Atlas"))
	wantGrown(t, "the closed one", s, nil)
	wantGrown(t, "the other one", other, map[string]int64{"c1": 1})
	other.Close()
	b.Publish("c1", 2, addresses("Atlas"))
	wantGrown(t, "the other one, closed", other, nil)
}

func TestNoticesAreBounded(t *testing.T) {
	b := bus.New()
	atlas := b.Subscribe(bus.Agent(address("Atlas")), bus.Presence)
	nova, all := follow(b, "Nova"), b.Subscribe(bus.All)
	for i := range 300 {
		b.Notify(&envelope.Envelope{ID: strconv.Itoa(i)}, bus.Presence)
	}
	b.Notify(&envelope.Envelope{ID: "last"}, bus.Agent(address("Atlas")))
	for who, s := range map[string]*bus.Sub{"Atlas": atlas, "who follows all": all} {
		got := s.Notices()
		if len(got) != 256 || got[0].ID != "45" || got[255].ID != "last" {
			t.Errorf("%s: got %d notices, want the newest 256", who, len(got))
		}
		if got := s.Notices(); got != nil {
			t.Errorf("%s, after taking them: got %d", who, len(got))
		}
	}
	if woken(nova) || nova.Notices() != nil {
		t.Error("Nova was told what is not hers")
	}
}

func TestPoke(t *testing.T) {
	b := bus.New()
	atlas, nova := follow(b, "Atlas"), follow(b, "Nova")
	b.Poke(bus.Agent(address("Atlas")))
	if !woken(atlas) || woken(nova) {
		t.Error("want Atlas woken, and nobody else")
	}
}

// TestNothingIsMissed: whoever reads the truth after each wake ends with all of it.
func TestNothingIsMissed(t *testing.T) {
	const writers, lines = 4, 300
	b := bus.New()
	var mu sync.Mutex
	length := 0 // the log
	var all sync.WaitGroup
	for range 3 {
		s := follow(b, "Atlas")
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
				n := length
				mu.Unlock()
				b.Publish("c1", int64(n), addresses("Atlas"))
			}
		})
	}
	all.Wait()
}

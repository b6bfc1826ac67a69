package neighbors_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer/peertest"
	"github.com/google/go-cmp/cmp"
)

// pass lets time go by until a frame of changes may have come.
func pass(t *testing.T) {
	t.Helper()
	time.Sleep(2100 * time.Millisecond)
	synctest.Wait()
}

func TestBothSeeEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, lon := newHost(t, "nyc", "Atlas"), newHost(t, "lon", "Bob", "Carla", "Dora")
		lon.say("Bob", card.Busy)
		lon.unregister("Dora")
		l, _, _ := peertest.Connect(t, nyc.side(), lon.side())
		nyc.want("at the start", "lon", "Bob@lon busy up", "Carla@lon offline up")
		lon.want("at the start", "nyc", "Atlas@nyc offline up")
		nyc.wantTold("Bob@lon busy")
		bob := nyc.seen("lon")[0].Far
		if bob.ID != lon.cards["bob"].ID || bob.Description != "card of Bob" || bob.Folder != "" || bob.Host != "lon" || !slices.Equal(bob.Capabilities, []string{"go"}) {
			t.Errorf("Bob: got %+v, want what its card says, without a folder", bob)
		}

		lon.set("Bob", api.Agent{Status: card.Available, Since: 12345})
		lon.near.Changed("Bob")
		lon.register("Emil", "new")
		nyc.say("Atlas", card.Available)
		pass(t)
		nyc.want("after changes", "lon", "Bob@lon available up", "Carla@lon offline up", "Emil@lon offline up")
		lon.want("after changes", "nyc", "Atlas@nyc available up")
		nyc.wantTold("Bob@lon available")
		if since := nyc.seen("lon")[0].Far.Since; since != 12345 {
			t.Errorf("Bob: got available since %d, want what its host says", since)
		}

		lon.unregister("Bob")
		lon.register("Carla", "another text")
		pass(t)
		nyc.want("when Bob is gone", "lon", "Carla@lon offline up", "Emil@lon offline up")
		nyc.wantTold("Bob@lon offline")
		if got := nyc.seen("lon")[0].Far.Description; got != "another text" {
			t.Errorf("card of Carla: got %q, want the new one", got)
		}

		lon.say("Carla", card.Available)
		pass(t)
		l.Cut()
		nyc.want("when the link is cut", "lon", "Carla@lon offline down", "Emil@lon offline down")
		nyc.wantTold("Carla@lon available", "Carla@lon offline")

		lon.unregister("Emil")
		peertest.Connect(t, lon.side(), nyc.side())
		nyc.want("after the second link", "lon", "Carla@lon available up")
		nyc.wantTold("Carla@lon available")
	})
}

// TestFlappingAgents: however often a thousand agents come and go, a peer gets a frame in
// two seconds, and in the end knows the newest state of each.
func TestFlappingAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc := newHost(t, "nyc")
		for i := range 1000 {
			nyc.register(fmt.Sprintf("a%03d", i), "flaps")
		}
		lon, _ := meet(t, nyc)
		if err := lon.say(whole); err != nil {
			t.Fatal(err)
		}
		for second := range 60 {
			for i := range 1000 {
				nyc.say(fmt.Sprintf("a%03d", i), []string{card.Available, card.Busy}[second%2])
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		lon.mu.Lock()
		during := len(lon.took)
		lon.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		state, changes := make(map[string]any), 0
		for i, f := range lon.took {
			if !strings.Contains(string(f.Header), "snapshot") {
				changes++
				if len(f.Lines) > 50 {
					t.Errorf("frame %d: got %d agents, want at most 50", i, len(f.Lines))
				}
			}
			for _, line := range f.Lines {
				m := fields(t, line)
				state[m["name"].(string)] = m["status"]
			}
		}
		if during > 1000*200/link.Full+1+31 {
			t.Errorf("got %d frames in the minute, want the snapshot and at most one in two seconds", during)
		}
		if changes < 20 || changes > 60 {
			t.Errorf("got %d frames of changes, want each agent told", changes)
		}
		for name, status := range state {
			if status != card.Busy {
				t.Errorf("%s: got %v, want the newest state", name, status)
			}
		}
		if len(state) != 1000 {
			t.Errorf("got %d agents, want all", len(state))
		}
	})
}

// TestNothingNewIsNotTold: who has come back to the state that the peer knows is not told
// of, and the hour of its last sign of life is no news.
func TestNothingNewIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc := newHost(t, "nyc", "Atlas", "Nova")
		lon, _ := meet(t, nyc)
		synctest.Wait()
		nyc.say("Nova", card.Available)
		pass(t)
		nyc.say("Atlas", card.Available)
		nyc.say("Atlas", card.Offline)
		nyc.set("Nova", api.Agent{Status: card.Available, LastSeen: 12345})
		nyc.near.Changed("Nova")
		nyc.near.Changed("nobody")
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(lon.took) != 2 {
			t.Errorf("got %d frames, want the snapshot and one change", len(lon.took))
		}
	})
}

// TestDepth: how much somebody has to do is told when it is double or half, and only of
// those who are there.
func TestDepth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc := newHost(t, "nyc", "Atlas", "Nova")
		nyc.say("Atlas", card.Available)
		lon, _ := meet(t, nyc)
		synctest.Wait()
		step := func(unread, want int) {
			t.Helper()
			nyc.set("Atlas", api.Agent{Status: card.Available, Unread: unread})
			nyc.set("Nova", api.Agent{Unread: unread})
			nyc.further()
			time.Sleep(40 * time.Second)
			synctest.Wait()
			if len(lon.took) != want {
				t.Errorf("with %d unread: got %d frames, want %d", unread, len(lon.took), want)
			}
		}
		step(4, 2)
		step(5, 2)
		step(7, 2)
		step(8, 3)
		step(0, 4)
		if m := fields(t, lon.took[2].Lines[0]); len(lon.took[2].Lines) != 1 || m["unread"] != 8.0 {
			t.Errorf("third frame: got %v, want Atlas with 8 unread", m)
		}
	})
}

func TestLargeSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, lon := newHost(t, "nyc"), newHost(t, "lon")
		for i := range roster.MaxCrowd + 5 {
			nyc.register(fmt.Sprintf("a%05d", i), strings.Repeat("x", 100))
		}
		peertest.Connect(t, nyc.side(), lon.side())
		synctest.Wait()
		if n := len(lon.seen("nyc")); n != roster.MaxCrowd {
			t.Errorf("got %d agents, want %d", n, roster.MaxCrowd)
		}
		nyc.register("a00007", "changed")
		nyc.register("b", "one too many")
		pass(t)
		if who, err := lon.roster.Resolve("a00007@nyc"); err != nil || who.Far.Description != "changed" {
			t.Errorf("a00007: got %+v, %v, want the new card", who.Far, err)
		}
	})
}

func wantFault(t *testing.T, what string, s interface{ Fault() error }) {
	t.Helper()
	var bye *link.Bye
	if err := s.Fault(); !errors.As(err, &bye) || bye.Code != link.CodeFrame {
		t.Errorf("%s: got %v, want a goodbye with %s", what, err, link.CodeFrame)
	}
}

// Fault is why the link has ended, nil while it is up.
func (s *stranger) Fault() error {
	synctest.Wait()
	time.Sleep(5 * time.Second) // until the goodbye is there
	synctest.Wait()
	if s.Context().Err() == nil {
		return nil
	}
	return cause(s)
}

// TestWhatBreaksARule ends the link, and nothing of it stays listed as there.
func TestWhatBreaksARule(t *testing.T) {
	endless := slices.Repeat([][]string{{part}}, 4097)
	many := slices.Repeat([]string{`{"name":"Bob"}`}, 51)
	for what, frames := range map[string][][]string{
		"an agent of another host": {{whole, `{"name":"Bob@tok"}`}},
		"a name that is none":      {{whole, `{"name":"../Bob"}`}},
		"no name":                  {{whole, `{}`}},
		"not an object":            {{whole, `[]`}},
		"not JSON":                 {{part, `Bob`}},
		"another type":             {{whole, `{"name":7}`}},
		"a huge agent":             {{whole, `{"name":"Bob","description":"` + strings.Repeat("x", 16<<10) + `"}`}},
		"changes before it":        {{`{}`, `{"name":"Bob"}`}},
		"a second snapshot":        {{whole}, {whole}},
		"a snapshot without end":   endless,
		"many in a frame":          {{whole}, append([]string{`{}`}, many...)},
		"a header of another type": {{`{"snapshot":"yes"}`}},
		"a bad name that is gone":  {{whole}, {`{}`, `{"name":"Bob@tok","gone":true}`}},
	} {
		synctest.Test(t, func(t *testing.T) {
			nyc := newHost(t, "nyc")
			lon, _ := meet(t, nyc)
			for _, f := range frames {
				_ = lon.say(f[0], f[1:]...) // the link may have ended at the one before
			}
			wantFault(t, what, lon)
			nyc.want(what, "lon")
		})
	}
}

// TestFloodOfChanges: bursts are taken, more than the rate for long is not.
func TestFloodOfChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc := newHost(t, "nyc")
		lon, _ := meet(t, nyc)
		if err := lon.say(whole); err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			if err := lon.say(`{}`, fmt.Sprintf(`{"name":"Bob","status":"busy","note":"%d"}`, i)); err != nil {
				t.Fatal(err)
			}
		}
		nyc.want("after a burst", "lon", "Bob@lon busy up")
		for range 100 {
			_ = lon.say(`{}`, `{"name":"Bob"}`)
		}
		wantFault(t, "a flood", lon)
		nyc.want("after the flood", "lon", "Bob@lon offline down")
	})
}

// TestTooManyAgents: of a hundred thousand that a host shows, ten thousand are known, and
// their texts are bounded together.
func TestTooManyAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc := newHost(t, "nyc")
		lon, _ := meet(t, nyc)
		var lines []string
		for i := range 100_000 {
			about := strings.Repeat("x", 1000)
			if i > roster.MaxCrowd {
				about = ""
			}
			lines = append(lines, fmt.Sprintf(`{"name":"a%06d","status":"available","description":"%s"}`, i, about))
			if len(lines) == 1000 {
				if err := lon.say(part, lines...); err != nil {
					t.Fatal(err)
				}
				lines = nil
			}
		}
		if err := lon.say(whole, lines...); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		texts := 0
		seen := nyc.seen("lon")
		for _, w := range seen {
			texts += len(w.Far.Description)
		}
		if len(seen) != roster.MaxCrowd || texts > 8<<20 || seen[len(seen)-1].Far.Status != card.Available {
			t.Errorf("got %d agents with %d bytes of texts, want %d and 8 MiB at most, and all available", len(seen), texts, roster.MaxCrowd)
		}
		if lon.Context().Err() != nil {
			t.Errorf("the link has ended: %v", cause(lon))
		}
	})
}

func TestWhatAnotherHostSaysIsMadeToFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc := newHost(t, "nyc")
		lon, _ := meet(t, nyc)
		bob := `{"name":"Bob","id":"../../x","address":"Atlas@nyc","host":"nyc","link":"up","folder":"/etc","unregistered":true,` +
			`"capabilities":["go","two words","","sql"],"description":"` + strings.Repeat("é", 1001) + `","platform":"a\nb","accepts":"everything",` +
			`"status":"godlike","note":"x\ny","lastSeen":99999999999999,"since":12345,"open":-5,"unread":7,"listening":true,"wake":"at once"}`
		err := lon.say(whole, bob, `{"name":"carla","status":"ringing","open":-5,"unread":99999999999,"lastSeen":-1,"since":-1,"accepts":"nobody","wake":"manual"}`)
		if err != nil {
			t.Fatal(err)
		}
		nyc.want("seen", "lon", "Bob@lon offline up", "carla@lon ringing up")
		list := nyc.seen("lon")
		want := api.Agent{
			Name: "Bob", Address: "Bob@lon", Host: "lon", Link: "up", Capabilities: []string{"go", "sql"}, Description: strings.Repeat("é", 1000),
			Platform: "a b", Accepts: "anyone", Status: card.Offline, Note: "x y", LastSeen: time.Now().UnixMilli(),
		}
		if diff := cmp.Diff(want, *list[0].Far); diff != "" {
			t.Errorf("Bob (-want +got):\n%s", diff)
		}
		want = api.Agent{Name: "carla", Address: "carla@lon", Host: "lon", Link: "up", Capabilities: []string{}, Accepts: "nobody", Status: "ringing", Unread: 1_000_000, Wake: "manual"}
		if diff := cmp.Diff(want, *list[1].Far); diff != "" {
			t.Errorf("carla (-want +got):\n%s", diff)
		}
	})
}

// TestTwoPeers: each is told of this host only, and the end of one link is no end of the other.
func TestTwoPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nyc, lon, tok := newHost(t, "nyc", "Atlas"), newHost(t, "lon", "Bob"), newHost(t, "tok", "Bob")
		peertest.Connect(t, nyc.side(), lon.side())
		l, _, _ := peertest.Connect(t, nyc.side(), tok.side())
		synctest.Wait()
		nyc.want("lon", "lon", "Bob@lon offline up")
		nyc.want("tok", "tok", "Bob@tok offline up")
		var refusal *api.Error
		if _, err := nyc.roster.Resolve("bob"); !errors.As(err, &refusal) || !slices.Equal(refusal.Near, []string{"Bob@lon", "Bob@tok"}) {
			t.Errorf("bob: got %v, want that both are named", err)
		}
		l.Cut()
		nyc.say("Atlas", card.Busy)
		pass(t)
		lon.want("what lon sees", "nyc", "Atlas@nyc busy up")
		tok.want("what tok sees", "nyc", "Atlas@nyc offline down")
	})
}

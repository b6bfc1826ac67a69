package courier_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
)

// states are how far a line got, as "Bob@lon seen".
func (h *host) states(id string, seq int64) string {
	h.t.Helper()
	state, err := h.ledger.State(ctx, id)
	if err != nil {
		h.t.Fatal(err)
	}
	e, err := envelope.Decode(h.lines(id)[seq-1])
	if err != nil {
		h.t.Fatal(err)
	}
	var list []string
	for _, r := range h.deliver.Recipients(state, e) {
		list = append(list, r.Agent+" "+r.State)
	}
	return strings.Join(list, ", ")
}

// soon is when what has changed was told.
func soon() { time.Sleep(3 * time.Second); synctest.Wait() }

func (h *host) wantStates(what, id string, seq int64, want string) {
	h.t.Helper()
	if got := h.states(id, seq); got != want {
		h.t.Errorf("%s, line %d at %s: got %q, want %q", what, seq, h.me.Name(), got, want)
	}
}

// TestReceipts: each host knows how far a message got with the agents of the others.
func TestReceipts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon := newHost(t, "nyc", "Atlas", "Sage"), newHost(t, "lon", "Bob")
		par := newHost(t, "par", "Carol")
		pair(t, nyc, lon)
		pair(t, nyc, par)
		id := nyc.create("Atlas", []string{"Sage", "Bob@lon", "Carol@par"})
		nyc.say("Atlas", &draft{Conversation: id, Content: "hello"})
		link := connect(t, nyc, lon)
		connect(t, nyc, par)
		soon()
		nyc.wantStates("before it is there", id, 2, "Sage@nyc delivered, Bob@lon stored, Carol@par stored")
		ship(nyc, lon, id)
		ship(nyc, par, id)
		soon()
		const delivered = "Sage@nyc delivered, Bob@lon delivered, Carol@par delivered"
		for _, h := range []*host{nyc, lon, par} {
			h.wantStates("when it is there", id, 2, delivered)
		}
		if err := lon.deliver.Seen("Bob", id, 2); err != nil {
			t.Fatal(err)
		}
		soon()
		const seen = "Sage@nyc delivered, Bob@lon seen, Carol@par delivered"
		for _, h := range []*host{nyc, lon, par} {
			h.wantStates("when Bob has seen it", id, 2, seen)
			h.wantStates("the line before", id, 1, delivered)
		}
		if err := nyc.deliver.Seen("Sage", id, 2); err != nil {
			t.Fatal(err)
		}
		soon()
		lon.wantStates("when Sage has seen it", id, 2, "Sage@nyc seen, Bob@lon seen, Carol@par delivered")
		link.Cut()
		if err := nyc.deliver.Seen("Sage", id, 1); err != nil {
			t.Fatal(err)
		}
		lon.restart(func() {
			if err := os.Remove(lon.home.IndexPath()); err != nil {
				t.Fatal(err)
			}
		})
		lon.deliver.Recover(ctx, id)
		synctest.Wait()
		lon.wantStates("when it is forgotten", id, 2, "Sage@nyc stored, Bob@lon seen, Carol@par stored")
		connect(t, nyc, lon)
		soon()
		lon.wantStates("when it was said again", id, 2, "Sage@nyc seen, Bob@lon seen, Carol@par delivered")
		lon.wantStates("what was seen meanwhile", id, 1, "Sage@nyc seen, Bob@lon delivered, Carol@par delivered")
	})
}

// TestReceiptsAreFew: however much happens, there is at most one frame a second.
func TestReceiptsAreFew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		seen := &counter{}
		side := nyc.side()
		side.Services = []peer.Service{seen}
		peertest.Connect(t, side, lon.side())
		for i := range 200 {
			nyc.say("Atlas", &draft{Conversation: id, Content: fmt.Sprint(i)})
			ship(nyc, lon, id)
			synctest.Wait()
			time.Sleep(10 * time.Millisecond)
		}
		soon()
		seen.mu.Lock()
		defer seen.mu.Unlock()
		if seen.frames < 2 || seen.frames > 5 || !strings.Contains(seen.last, `"passed":201,`) {
			t.Errorf("got %d frames in 5 s, the last is %s, want a few, and the newest at the end", seen.frames, seen.last)
		}
	})
}

// counter counts frames with receipts.
type counter struct {
	session *peer.Session
	mu      sync.Mutex
	frames  int
	last    string
}

func (c *counter) Types() []string                { return []string{"receipts"} }
func (c *counter) Open(s *peer.Session) peer.Line { c.session = s; return c }
func (c *counter) Close()                         {}
func (c *counter) Take(f link.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frames++
	c.last = string(f.Lines[len(f.Lines)-1])
	c.session.Done(f)
	return nil
}

// TestForgedReceipts: a host speaks for its own agents only, unless it is the origin.
func TestForgedReceipts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, _ := two(t)
		par := newHost(t, "par", "Carol")
		pair(t, nyc, par)
		id := nyc.create("Atlas", []string{"Sage", "Bob@lon", "Carol@par"})
		l := lie(t, nyc, lon)
		say := func(agent string, more string) {
			t.Helper()
			l.send(t, "receipts", fmt.Sprintf(`{"conversation":%q,"agent":%q,"passed":9%s}`, id, agent, more))
			synctest.Wait()
		}
		say("Carol@par", "")
		say("Sage@nyc", "")
		say("Nobody@lon", "")
		say("Bob", "")
		say("Bob@lon", `,"offered":[3,2]`)
		say("Bob@lon", `,"delivered":[`+strings.Repeat("1,", 300)+`1]`)
		nyc.wantStates("lies", id, 1, "Sage@nyc delivered, Bob@lon stored, Carol@par stored")
		say("Bob@lon", "")
		nyc.wantStates("the truth", id, 1, "Sage@nyc delivered, Bob@lon seen, Carol@par stored")
		if l.ended {
			t.Error("the link has ended")
		}
	})
}

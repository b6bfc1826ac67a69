package call_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestRandomRequests plays random events and looks whether the rules hold after each.
func TestRandomRequests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		begin := []call.State{call.Ringing, call.Queued, call.Busy}
		r := placed(rapid.SampledFrom(begin).Draw(t, "nova"), rapid.SampledFrom(begin).Draw(t, "sage"))
		now := start
		for range rapid.IntRange(1, 20).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second)
			event := rapid.SampledFrom(events).Draw(t, "event")
			by := rapid.SampledFrom([]envelope.Address{atlas, nova, sage, address("Rune")}).Draw(t, "by")
			written := text(t, r)
			after, err := r.Expire(now), error(nil)
			if event != call.TimeOut {
				after, err = r.Apply(event, by, "why", now)
			}
			if text(t, r) != written {
				t.Fatalf("%s by %s changed the old value", event, by)
			}
			checkRules(t, r, event, by, after, err)
			r = after
		}
	})
}

func checkRules(t *rapid.T, before call.Request, event call.Event, by envelope.Address, after call.Request, err error) {
	if err != nil && cmp.Diff(before, after) != "" {
		t.Fatalf("%s by %s was refused and changed something: %s", event, by, cmp.Diff(before, after))
	}
	for i, c := range after.Callees {
		was := before.Callees[i]
		switch {
		case c.State == was.State:
		case !was.State.Open():
			t.Fatalf("%s by %s: %s came back from %s to %s", event, by, c.Agent, was.State, c.State)
		case c.State == call.Ringing || c.State == call.Queued:
			t.Fatalf("%s by %s: %s went from %s back to %s", event, by, c.Agent, was.State, c.State)
		case event == call.TimeOut && was.State != call.Ringing:
			t.Fatalf("the ring time ran out for %s, which was %s", c.Agent, was.State)
		case event == call.Cancel && !by.Same(atlas), event != call.Cancel && event != call.TimeOut && !by.Same(c.Agent):
			t.Fatalf("%s by %s changed %s", event, by, c.Agent)
		}
		if c.At < was.At {
			t.Fatalf("%s by %s: the time of %s went back", event, by, c.Agent)
		}
	}
	if before.State() == call.Accepted && after.State() != call.Accepted {
		t.Fatalf("%s by %s undid an acceptance", event, by)
	}
}

// text is the JSON of a request, which comes back as the same request.
func text(t *rapid.T, r call.Request) string {
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back call.Request
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Fatalf("through JSON (-want +got):\n%s", diff)
	}
	return string(data)
}

package call_test

import (
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var bob = envelope.Address{Name: "Bob", Host: "lon"}

// copied is a request of Atlas's to Bob, as Bob's host has it, and the record.
func copied(state call.State) (copied, record call.Request) {
	record = call.Place(call.Request{ID: "01993c5e-7d1a-7cc2-a5a0-1f2e3d4c5b6a", From: atlas, To: []envelope.Address{bob}}, func(envelope.Address) call.State { return state }, start, ring)
	copied = record
	copied.Far = &call.Far{Host: "id-of-nyc"}
	return copied, record
}

func atLon(a envelope.Address) bool { return a.Host == "lon" }

// TestFollow: what a copy comes to when the callee has answered, or not, and a record says
// something, the same or otherwise.
func TestFollow(t *testing.T) {
	for _, test := range []struct {
		what      string
		says      call.Event // Bob, or nobody
		record    call.State
		over      bool
		refused   bool
		want      call.State
		waits     bool // for the record still
		overruled bool
	}{
		{what: "nothing new", record: call.Ringing, want: call.Ringing},
		{what: "missed", record: call.Missed, want: call.Missed},
		{what: "cancelled", record: call.Cancelled, want: call.Cancelled},
		{what: "accepted, by nobody", record: call.Accepted, want: call.Ringing},
		{what: "accepted, the record comes", says: call.Accept, record: call.Accepted, want: call.Accepted},
		{what: "accepted, the record crosses", says: call.Accept, record: call.Ringing, want: call.Accepted, waits: true},
		{what: "accepted, missed before", says: call.Accept, record: call.Missed, want: call.Accepted, waits: true},
		{what: "accepted, refused", says: call.Accept, record: call.Missed, refused: true, want: call.Missed, overruled: true},
		{what: "accepted, withdrawn", says: call.Accept, record: call.Cancelled, want: call.Cancelled, overruled: true},
		{what: "accepted, over", says: call.Accept, record: call.Missed, over: true, want: call.Missed, overruled: true},
		{what: "rejected, the record comes", says: call.Reject, record: call.Rejected, want: call.Rejected},
		{what: "rejected, over", says: call.Reject, record: call.Missed, over: true, want: call.Rejected},
		{what: "rejected, accepted by nobody", says: call.Reject, record: call.Accepted, want: call.Rejected},
		{what: "busy, the record crosses", says: call.RejectBusy, record: call.Ringing, want: call.Busy, waits: true},
		{what: "busy, withdrawn", says: call.RejectBusy, record: call.Cancelled, want: call.Cancelled},
	} {
		t.Run(test.what, func(t *testing.T) {
			here, record := copied(call.Ringing)
			if test.says != "" {
				var err error
				if here, err = here.Answer(call.Answer{Agent: bob, Event: test.says}, call.Words{Agent: bob}, start); err != nil {
					t.Fatal(err)
				}
			}
			record.Callees = []call.Callee{{Agent: bob, State: test.record, At: 1}}
			record.Over = test.over
			var refused []call.Answer
			if test.refused {
				refused = append(refused, call.Answer{Agent: bob, Event: test.says})
			}
			got := here.Follow(record, refused, atLon)
			_, waits := got.Waiting(bob)
			if c, _ := got.Callee(bob); c.State != test.want || waits != test.waits || got.Overrules(bob) != test.overruled {
				t.Errorf("got %s, waits %v, overruled %v, want %s, %v, %v", c.State, waits, got.Overrules(bob), test.want, test.waits, test.overruled)
			}
			if words := len(got.Far.Words) > 0; words != (test.says == call.Accept && !test.overruled) {
				t.Errorf("words are kept: %v", words)
			}
			if again := got.Follow(record, refused, atLon); cmp.Diff(got, again) != "" {
				t.Errorf("the same once more changes something: %s", cmp.Diff(got, again))
			}
		})
	}
}

// TestRandomCopies: whatever is said at both hosts, in whatever order it crosses, the copy
// comes to what the record has, once all has crossed.
func TestRandomCopies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		here, record := copied(rapid.SampledFrom([]call.State{call.Ringing, call.Queued, call.Busy}).Draw(t, "begin"))
		now := start
		tell := func() {
			var refused []call.Answer
			for _, a := range here.Far.Answers { // what has come to the host of the record
				next, err := record.Apply(a.Event, a.Agent, a.Reason, now)
				if err != nil {
					refused = append(refused, a)
				}
				record = next
			}
			here = here.Follow(record, refused, atLon)
		}
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			now = now.Add(time.Second)
			switch step := rapid.SampledFrom([]string{"answer", "answer", "cancel", "time out", "over", "tell", "an old record"}).Draw(t, "step"); step {
			case "answer":
				event := rapid.SampledFrom([]call.Event{call.Accept, call.Reject, call.RejectBusy}).Draw(t, "event")
				if next, err := here.Answer(call.Answer{Agent: bob, Event: event}, call.Words{Agent: bob}, now); err == nil {
					here = next
				}
			case "cancel":
				record, _ = record.Apply(call.Cancel, atlas, "", now) // the caller can
			case "time out":
				record = record.Expire(now)
			case "over":
				record.Over = true
			case "tell":
				tell()
			case "an old record":
				here = here.Follow(record, nil, atLon)
			}
		}
		tell()
		there, _ := record.Callee(bob)
		got, _ := here.Callee(bob)
		if got.State != there.State && !(record.Over && got.State == call.Rejected) {
			t.Fatalf("got %s here and %s there, %+v", got.State, there.State, here.Far)
		}
		if len(here.Far.Answers) > 0 {
			t.Fatalf("still waits: %+v", here.Far)
		}
	})
}

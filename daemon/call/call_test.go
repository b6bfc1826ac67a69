package call_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
)

var (
	atlas = address("Atlas")
	nova  = address("Nova")
	sage  = address("Sage")
	start = time.UnixMilli(1739654400000)
)

const ring = 30 * time.Second

func address(name string) envelope.Address { return envelope.Address{Name: name, Host: "nyc"} }

// placed is a request of Atlas's, placed with each callee in a state.
func placed(states ...call.State) call.Request {
	r := call.Request{ID: "01993c5e-7d1a-7cc2-a5a0-1f2e3d4c5b6a", From: atlas, To: []envelope.Address{nova, sage}[:len(states)], Topic: "Review"}
	return call.Place(r, func(a envelope.Address) call.State {
		if a.Same(nova) {
			return states[0]
		}
		return states[1]
	}, start, ring)
}

var (
	states = []call.State{call.Ringing, call.Queued, call.Missed, call.Busy, call.Accepted, call.Rejected, call.Cancelled}
	events = []call.Event{call.Accept, call.Reject, call.RejectBusy, call.Cancel, call.TimeOut}
)

// TestEveryPair is the whole table, said once more: what each event makes of each
// state, "same" where nothing changes, and "refused".
func TestEveryPair(t *testing.T) {
	want := map[call.State][]string{ //  accept      reject      busy      cancel       time out
		call.Ringing:   {"accepted", "rejected", "busy", "cancelled", "missed"},
		call.Queued:    {"accepted", "rejected", "busy", "cancelled", "same"},
		call.Missed:    {"accepted", "rejected", "busy", "cancelled", "same"},
		call.Busy:      {"accepted", "rejected", "same", "cancelled", "same"},
		call.Accepted:  {"same", "refused", "refused", "same", "same"},
		call.Rejected:  {"refused", "same", "refused", "same", "same"},
		call.Cancelled: {"refused", "refused", "refused", "same", "same"},
	}
	for _, state := range states {
		for i, event := range events {
			t.Run(fmt.Sprintf("%s, %s", state, event), func(t *testing.T) {
				r := placed(state)
				later := start.Add(time.Minute)
				var got call.Request
				var err error
				switch event {
				case call.TimeOut:
					got = r.Expire(later)
				case call.Cancel:
					got, err = r.Apply(event, atlas, "", later)
				default:
					got, err = r.Apply(event, nova, "because", later)
				}
				outcome := string(got.Callees[0].State)
				var refusal *call.Refusal
				switch {
				case errors.As(err, &refusal):
					outcome = "refused"
					if refusal.Kind != call.Answered {
						t.Errorf("kind of refusal: got %d, want %d", refusal.Kind, call.Answered)
					}
				case got.Callees[0].State == state:
					outcome = "same"
				}
				if outcome != want[state][i] {
					t.Errorf("got %s, want %s", outcome, want[state][i])
				}
				if err != nil && cmp.Diff(r, got) != "" {
					t.Errorf("refused, yet it changed: %s", cmp.Diff(r, got))
				}
			})
		}
	}
}

func TestPlaced(t *testing.T) {
	r := placed(call.Ringing, call.Queued)
	if r.CreatedAt != start.UnixMilli() || r.RingUntil != start.Add(ring).UnixMilli() || r.State() != call.Ringing || !r.Open() {
		t.Errorf("got %+v, want it ringing until %v", r, start.Add(ring))
	}
	if r := placed(call.Queued); r.RingUntil != 0 || r.State() != call.Queued {
		t.Errorf("queued: got %+v, want it to ring never", r)
	}
}

func TestWhoMay(t *testing.T) {
	r := placed(call.Ringing)
	for _, test := range []struct {
		event call.Event
		by    envelope.Address
		want  call.Kind
	}{
		{call.Accept, atlas, call.NotCallee}, {call.Reject, sage, call.NotCallee}, {call.Cancel, nova, call.NotCaller},
	} {
		_, err := r.Apply(test.event, test.by, "", start)
		var refusal *call.Refusal
		if !errors.As(err, &refusal) || refusal.Kind != test.want || refusal.Error() == "" {
			t.Errorf("%s by %s: got %v, want a refusal of kind %d", test.event, test.by, err, test.want)
		}
	}
	if _, err := r.Apply(call.Accept, address("NOVA"), "", start); err != nil {
		t.Errorf("another spelling: got %v, want no error", err)
	}
}

func TestOver(t *testing.T) {
	r := placed(call.Missed, call.Ringing)
	r.Over = true
	_, err := r.Apply(call.Accept, nova, "", start)
	var refusal *call.Refusal
	if !errors.As(err, &refusal) || refusal.Kind != call.Ended || r.Open() {
		t.Errorf("accept when the call is over: got %v, open %v, want it refused", err, r.Open())
	}
	if r, err := r.Apply(call.Reject, nova, "too late", start); err != nil || r.Callees[0].Reason != "too late" {
		t.Errorf("reject when the call is over: got %+v, %v, want it noted", r, err)
	}
}

// TestAsAWhole: a request to several is what stands first with anybody.
func TestAsAWhole(t *testing.T) {
	order := []call.State{call.Accepted, call.Ringing, call.Queued, call.Missed, call.Busy, call.Rejected, call.Cancelled}
	for i, first := range order {
		for _, second := range order[i:] {
			for _, r := range []call.Request{placed(first, second), placed(second, first)} {
				if r.State() != first {
					t.Errorf("%s and %s: got %s, want %s", first, second, r.State(), first)
				}
				if want := first.Open() || second.Open(); r.Open() != want {
					t.Errorf("%s and %s: got open %v, want %v", first, second, r.Open(), want)
				}
			}
		}
	}
}

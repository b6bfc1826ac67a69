package switchboard_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestPlaced: what a call begins as follows from what the callee is doing, and both find
// it in the answer and in their inboxes.
func TestPlaced(t *testing.T) {
	for _, test := range []struct {
		state          string
		caller, callee string
		prepare        func(t *testing.T, x *exchange)
	}{
		{"ringing", "", "new call ringing", func(_ *testing.T, x *exchange) { x.come("Nova") }},
		{"queued", "", "new call queued", func(*testing.T, *exchange) {}},
		{"busy", "new reject busy", "new call busy", func(t *testing.T, x *exchange) {
			x.must(t, "Nova", &draft{Type: envelope.Status, Status: "busy"})
		}},
		{"queued", "", "new call queued", func(t *testing.T, x *exchange) {
			x.must(t, "Nova", &draft{Type: envelope.Status, Status: "offline"})
		}},
	} {
		scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
			test.prepare(t, x)
			out := x.must(t, "Atlas", &draft{Type: envelope.Call, To: []string{"Nova"}, Content: "Line 40 looks wrong."})
			if got := string(out.Request.State()); got != test.state || !out.Created {
				t.Errorf("answer: got %s, created %v, want %s", got, out.Created, test.state)
			}
			if out.Request.Topic != "Line 40 looks wrong." {
				t.Errorf("topic: got %q, want the text", out.Request.Topic)
			}
			x.wantInbox(t, test.state, "Nova", test.callee)
			if test.caller == "" {
				x.wantInbox(t, test.state, "Atlas")
			} else {
				x.wantInbox(t, test.state, "Atlas", test.caller)
			}
		})
	}
}

// TestACall from its first ring to its end.
func TestACall(t *testing.T) {
	scene(t, []string{"Atlas", "Nova", "Sage"}, func(t *testing.T, x *exchange) {
		x.come("Nova", "Sage")
		id := x.call(t, "Atlas", "Line 40 looks wrong.", "Nova")
		x.wantPresence(t, "rings", "Atlas available", "Nova ringing")
		out := x.must(t, "Nova", &draft{Type: envelope.Accept, Request: id, Content: "I am here."})
		if !out.Created || out.Envelope.Seq != 3 || out.State.Mode != "live" || out.State.Request != id {
			t.Errorf("accept: got %+v in %+v, want line 3 of a live conversation", out.Envelope, out.State)
		}
		x.wantLog(t, out.State.ID, "Atlas create Atlas Nova", "Atlas: Line 40 looks wrong.", "Nova: I am here.")
		x.wantPresence(t, "accepted", "Atlas in-call", "Nova in-call")
		x.wantInbox(t, "accepted", "Atlas", "new accept accepted")
		x.wantInbox(t, "accepted", "Nova", "seen call accepted")

		if again := x.must(t, "Nova", &draft{Type: envelope.Accept, Request: id}); !again.Duplicate || again.State.ID != out.State.ID {
			t.Errorf("accept again: got %+v, want the same conversation", again)
		}
		x.refuse(t, "reject after accept", "Nova", &draft{Type: envelope.Reject, Request: id}, api.RequestAnswered)
		x.refuse(t, "accept by somebody else", "Sage", &draft{Type: envelope.Accept, Request: id}, api.NotAllowed)
		if busy := x.must(t, "Sage", &draft{Type: envelope.Call, To: []string{"Nova"}}); busy.Request.State() != "busy" {
			t.Errorf("a call to somebody in a call: got %s, want busy", busy.Request.State())
		}

		x.must(t, "Nova", &draft{Type: envelope.Leave, Conversation: out.State.ID})
		pass(0)
		x.wantLog(t, out.State.ID, "Atlas create Atlas Nova", "Atlas: Line 40 looks wrong.", "Nova: I am here.", "Nova leave", "close: the others have left")
		x.wantPresence(t, "over", "Atlas available", "Nova available")
		if r := x.get(t, id); !r.Over || len(x.records(t, "done")) != 1 {
			t.Errorf("over: got %+v, %q in done, want it put away", r, x.records(t, "done"))
		}
		x.must(t, "Nova", &draft{Type: envelope.Accept, Request: id}) // what was so stays so
	})
}

func TestRingTime(t *testing.T) {
	scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
		defer x.live("Nova")()
		id := x.call(t, "Atlas", "", "Nova")
		pass(ring - 50*time.Millisecond)
		x.wantInbox(t, "just before", "Nova", "new call ringing")
		pass(50 * time.Millisecond)
		x.wantInbox(t, "missed", "Nova", "new call missed")
		x.wantInbox(t, "missed", "Atlas", "new reject missed")
		x.wantPresence(t, "missed", "Nova available")
		pass(ring) // Atlas is not there any more
		out := x.accept(t, "Nova", id)
		if out.State.Mode != "async" || len(x.records(t, "open")) != 0 {
			t.Errorf("accepted later: got mode %s, %q open, want an async conversation", out.State.Mode, x.records(t, "open"))
		}
		x.wantInbox(t, "accepted later", "Atlas", "new accept accepted")
		x.wantPresence(t, "async", "Nova available")
		x.wantLog(t, out.State.ID, "Atlas create Atlas Nova")
	})
}

// TestRingTimeOfAClockThatJumps: no call rings for hours because the clock was set back, and
// one that was set on by hours ends it at most.
func TestRingTimeOfAClockThatJumps(t *testing.T) {
	for _, jump := range []time.Duration{-6 * time.Hour, 6 * time.Hour} {
		scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
			defer x.live("Nova")()
			id := x.call(t, "Atlas", "", "Nova")
			x.ahead.Store(int64(jump))
			pass(ring)
			x.wantInbox(t, jump.String(), "Nova", "new call missed")
			x.wantInbox(t, jump.String(), "Atlas", "new reject missed")
			x.wantPresence(t, jump.String(), "Nova available")
			x.accept(t, "Nova", id)
			x.wantInbox(t, "accepted later", "Atlas", "new accept accepted")
		})
	}
}

// TestAnswers: what else can be said of a call, and what both are told.
func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		by             string
		say            draft
		caller, callee string
	}{
		"reject":         {"Nova", draft{Type: envelope.Reject, Reason: "in a release"}, "new reject rejected: in a release", "seen call rejected: in a release"},
		"reject as busy": {"Nova", draft{Type: envelope.Reject, Busy: true}, "new reject busy", "new call busy"},
		"cancel":         {"Atlas", draft{Type: envelope.Cancel}, "seen cancel cancelled", "seen call cancelled"},
	} {
		for _, named := range []bool{true, false} {
			scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
				x.come("Nova")
				id := x.call(t, "Atlas", "", "Nova")
				say := test.say
				if named {
					say.Request = id
				}
				out := x.must(t, test.by, &say)
				if out.Request.ID != id || out.Duplicate {
					t.Errorf("%s: got %+v", name, out)
				}
				x.wantInbox(t, name, "Atlas", test.caller)
				x.wantInbox(t, name, "Nova", test.callee)
				x.wantPresence(t, name, "Nova available")
				say.Request = id
				if out := x.must(t, test.by, &say); !out.Duplicate {
					t.Errorf("%s again: got %+v, want that nothing changes", name, out)
				}
				pass(ring)
				x.wantInbox(t, name+", when the ring time is over", "Atlas", test.caller)
				if len(x.conversations(t)) != 0 {
					t.Errorf("%s: got %q, want no conversation", name, x.conversations(t))
				}
			})
		}
	}
}

func TestWhichCall(t *testing.T) {
	scene(t, []string{"Atlas", "Nova", "Sage"}, func(t *testing.T, x *exchange) {
		x.refuse(t, "none", "Nova", &draft{Type: envelope.Accept}, api.RequestNotFound)
		x.refuse(t, "unknown", "Nova", &draft{Type: envelope.Accept, Request: "r0000"}, api.RequestNotFound)
		first := x.call(t, "Atlas", "one", "Nova")
		x.call(t, "Sage", "two", "Nova")
		x.refuse(t, "two", "Nova", &draft{Type: envelope.Accept}, api.AmbiguousReference)
		x.must(t, "Nova", &draft{Type: envelope.Reject, Request: x.board.Refs().Short(first)})
		if out := x.must(t, "Nova", &draft{Type: envelope.Accept}); out.Request.From.Name != "Sage" {
			t.Errorf("the only one: got %+v, want Sage's", out.Request)
		}
	})
}

// TestEnds: how a call ends beside that everybody leaves.
func TestEnds(t *testing.T) {
	agents := []string{"Atlas", "Nova"}
	begin := func(t *testing.T, x *exchange, d draft) (conversation string) {
		x.come("Nova")
		d.Type, d.To = envelope.Call, []string{"Nova"}
		id := x.must(t, "Atlas", &d).Request.ID
		return x.accept(t, "Nova", id).State.ID
	}
	over := func(t *testing.T, x *exchange, want ...string) {
		t.Helper()
		x.wantLog(t, x.conversations(t)[0], want...)
		if n := x.board.Calls(); n != 0 || len(x.records(t, "open")) != 0 {
			t.Errorf("got %d calls that last, %q open, want none", n, x.records(t, "open"))
		}
	}
	t.Run("closed by its creator", func(t *testing.T) {
		scene(t, agents, func(t *testing.T, x *exchange) {
			id := begin(t, x, draft{})
			x.must(t, "Atlas", &draft{Type: envelope.Close, Conversation: id, Reason: "done"})
			over(t, x, "Atlas create Atlas Nova", "close: done")
		})
	})
	t.Run("turn limit", func(t *testing.T) {
		scene(t, agents, func(t *testing.T, x *exchange) {
			id := begin(t, x, draft{TurnLimit: 2, Content: "one"})
			x.must(t, "Nova", &draft{Conversation: id, Content: "two"})
			over(t, x, "Atlas create Atlas Nova", "Atlas: one", "Nova: two", "close: the turn limit of 2 messages is reached")
		})
	})
	t.Run("nobody says anything", func(t *testing.T) {
		scene(t, agents, func(t *testing.T, x *exchange) {
			id := begin(t, x, draft{})
			pass(idle - ring)
			x.must(t, "Nova", &draft{Conversation: id, Content: "still here"})
			pass(idle - ring)
			x.wantPresence(t, "in time", "Nova in-call", "Atlas in-call")
			pass(ring)
			over(t, x, "Atlas create Atlas Nova", "Nova: still here", "close: nobody has said anything for 30m0s")
			x.wantPresence(t, "over", "Nova offline", "Atlas offline")
		})
	})
	t.Run("a stream is lost", func(t *testing.T) {
		scene(t, agents, func(t *testing.T, x *exchange) {
			end := x.live("Nova")
			begin(t, x, draft{})
			end()
			pass(grace - 10*time.Second)
			end = x.live("Nova")
			pass(grace)
			x.wantPresence(t, "back in time", "Nova in-call", "Atlas in-call")
			end()
			pass(grace - 10*time.Second)
			x.wantPresence(t, "almost", "Nova in-call", "Atlas in-call")
			pass(10 * time.Second)
			over(t, x, "Atlas create Atlas Nova", "Nova leave", "close: the others have left")
		})
	})
	t.Run("a sign of life without a stream", func(t *testing.T) {
		scene(t, agents, func(t *testing.T, x *exchange) {
			end := x.live("Nova")
			begin(t, x, draft{})
			end()
			pass(grace / 2)
			x.come("Nova")
			pass(grace)
			x.wantPresence(t, "it goes on without", "Nova in-call", "Atlas in-call")
		})
	})
	t.Run("a stream that was lost before a restart", func(t *testing.T) {
		scene(t, agents, func(t *testing.T, x *exchange) {
			x.live("Nova")()
			begin(t, x, draft{})
			x.live("Nova")()
			pass(grace / 2)
			x.restart(t)
			x.wantPresence(t, "after the start", "Nova in-call", "Atlas in-call")
			pass(grace)
			over(t, x, "Atlas create Atlas Nova", "Nova leave", "close: the others have left")
		})
	})
}

// TestCalledAtOnce: who has just hung up is called again before anybody has looked.
func TestCalledAtOnce(t *testing.T) {
	scene(t, []string{"Atlas", "Nova", "Sage"}, func(t *testing.T, x *exchange) {
		x.come("Atlas", "Nova", "Sage")
		for n := range 50 {
			id := x.call(t, "Atlas", fmt.Sprint("one ", n), "Nova")
			conversation := x.accept(t, "Nova", id).State.ID
			say := func(agent string, d *draft) (router.Outcome, error) { // without a wait
				return x.router.Accept(context.Background(), router.Actor{Agent: x.home.Address(agent)}, d)
			}
			if _, err := say("Nova", &draft{Type: envelope.Leave, Conversation: conversation}); err != nil {
				t.Fatal(err)
			}
			out, err := say("Sage", &draft{Type: envelope.Call, To: []string{"Nova"}, Content: fmt.Sprint("two ", n)})
			if err != nil || out.Request.State() != call.Ringing {
				t.Fatalf("call %d to Nova, who has left: got %v, %v, want that it rings", n, out.Request, err)
			}
			x.must(t, "Sage", &draft{Type: envelope.Cancel, Request: out.Request.ID})
		}
	})
}

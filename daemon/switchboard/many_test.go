package switchboard_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestSeveral: a call to several rings all, and whoever accepts while it lasts comes in.
func TestSeveral(t *testing.T) {
	scene(t, []string{"Atlas", "Nova", "Sage", "Echo", "Rune"}, func(t *testing.T, x *exchange) {
		x.come("Nova", "Sage", "Echo")
		id := x.call(t, "Atlas", "Who has time?", "Nova", "Sage", "Echo", "Rune")
		x.wantPresence(t, "rings", "Nova ringing", "Sage ringing", "Echo ringing", "Rune offline")
		talk := x.accept(t, "Nova", id).State.ID
		x.wantInbox(t, "accepted", "Atlas", "new accept accepted")
		x.wantInbox(t, "accepted by another", "Sage", "new call ringing")
		x.accept(t, "Sage", id)
		x.must(t, "Atlas", &draft{Type: envelope.Leave, Conversation: talk})
		if out := x.accept(t, "Echo", id); !out.State.Has(x.home.Address("Echo")) {
			t.Errorf("Echo is not in: %+v", out.State)
		}
		x.wantLog(t, talk, "Atlas create Atlas Nova", "Atlas: Who has time?", "Atlas invite Sage", "Atlas leave", "Nova invite Echo")
		x.wantPresence(t, "they talk", "Atlas available", "Nova in-call", "Sage in-call", "Echo in-call")
		for _, name := range []string{"Nova", "Sage"} {
			x.must(t, name, &draft{Type: envelope.Leave, Conversation: talk})
		}
		x.wantInbox(t, "over", "Rune", "seen call queued: the call is over")
		x.refuse(t, "accept when it is over", "Rune", &draft{Type: envelope.Accept, Request: id}, api.CallOver)
		if got := x.records(t, "open"); len(got) != 0 {
			t.Errorf("over: %q are open", got)
		}
	})
}

// TestSeveralAsync: also what began as async is over for the others when it is closed.
func TestSeveralAsync(t *testing.T) {
	scene(t, []string{"Atlas", "Nova", "Sage"}, func(t *testing.T, x *exchange) {
		id := x.must(t, "Atlas", &draft{Type: envelope.Call, To: []string{"Nova", "Sage"}, Mode: "async"}).Request.ID
		talk := x.accept(t, "Nova", id).State.ID
		pass(2 * idle)
		x.wantPresence(t, "async", "Nova offline")
		x.restart(t)
		x.wantInbox(t, "it waits", "Sage", "new call queued")
		x.must(t, "Atlas", &draft{Type: envelope.Close, Conversation: talk})
		x.wantInbox(t, "closed", "Sage", "seen call queued: the call is over")
		x.wantInbox(t, "closed", "Atlas", "new accept accepted")
	})
}

// TestNoRoom: who does not fit in is refused, and nothing is tried for ever.
func TestNoRoom(t *testing.T) {
	settings := func(c *maildir.Config) { c.Limits.Participants = 3 }
	sceneWith(t, settings, []string{"Atlas", "Nova", "Sage", "Echo"}, func(t *testing.T, x *exchange) {
		x.refuse(t, "too many", "Atlas", &draft{Type: envelope.Call, To: []string{"Nova", "Sage", "Echo"}}, api.TooMany)
		id := x.call(t, "Atlas", "", "Nova", "Sage")
		talk := x.accept(t, "Nova", id).State.ID
		x.must(t, "Nova", &draft{Type: envelope.Invite, Conversation: talk, To: []string{"Echo"}})
		x.refuse(t, "no room", "Sage", &draft{Type: envelope.Accept, Request: id}, api.TooMany)
		x.must(t, "Echo", &draft{Type: envelope.Leave, Conversation: talk})
		x.accept(t, "Sage", id)
	})
}

// TestAtOnce: two who call each other at the same moment meet in one conversation.
func TestAtOnce(t *testing.T) {
	scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
		for round := range 20 {
			x.come("Atlas", "Nova")
			outs := atOnce(x, map[string]*draft{
				"Atlas": {ID: envelope.NewID(), Type: envelope.Call, To: []string{"Nova"}, Content: "from Atlas"},
				"Nova":  {ID: envelope.NewID(), Type: envelope.Call, To: []string{"Atlas"}, Content: "from Nova"},
			})
			talks := x.conversations(t)
			if len(talks) != round+1 {
				t.Fatalf("round %d: %d conversations; answers: %+v", round, len(talks), outs)
			}
			var talk string
			for name, out := range outs {
				if out.err != nil {
					t.Fatalf("%s: %v", name, out.err)
				}
				if out.State.ID != "" {
					talk = out.State.ID
				}
			}
			got, err := x.log(talk)
			slices.Sort(got[1:])
			if want := []string{"Atlas: from Atlas", "Nova: from Nova"}; err != nil || !slices.Equal(got[1:], want) {
				t.Errorf("round %d: log %q, %v, want both texts", round, got, err)
			}
			x.wantPresence(t, "met", "Atlas in-call", "Nova in-call")
			x.must(t, "Atlas", &draft{Type: envelope.Leave, Conversation: talk})
			pass(0)
			if got := x.records(t, "open"); len(got) != 0 {
				t.Errorf("round %d: %q are open", round, got)
			}
		}
	})
}

// TestACallBack: who calls back when it has missed the call calls anew.
func TestACallBack(t *testing.T) {
	scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
		x.come("Nova")
		x.call(t, "Atlas", "", "Nova")
		pass(ring)
		x.come("Atlas", "Nova")
		if out := x.must(t, "Nova", &draft{Type: envelope.Call, To: []string{"Atlas"}}); !out.Created || out.State.ID != "" {
			t.Errorf("got %+v, want another call", out)
		}
		x.wantInbox(t, "called back", "Atlas", "new reject missed", "new call ringing")
	})
}

type said struct {
	router.Outcome
	err error
}

// atOnce lets agents say something at the same moment.
func atOnce(x *exchange, drafts map[string]*draft) map[string]said {
	var mu sync.Mutex
	var all sync.WaitGroup
	outs := make(map[string]said)
	for name, d := range drafts {
		all.Go(func() {
			out, err := x.router.Accept(context.Background(), router.Actor{Agent: x.home.Address(name)}, d)
			mu.Lock()
			defer mu.Unlock()
			outs[name] = said{out, err}
		})
	}
	all.Wait()
	synctest.Wait()
	return outs
}

// TestTheMeetingAgain: a call that has met another one is known when it is placed again,
// at once, after a restart, and when all is over.
func TestTheMeetingAgain(t *testing.T) {
	scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
		x.come("Atlas", "Nova")
		first := x.call(t, "Atlas", "from Atlas", "Nova")
		d := draft{ID: envelope.NewID(), Type: envelope.Call, To: []string{"Atlas"}, Content: "from Nova"}
		out := x.must(t, "Nova", &d)
		again := func(what string) {
			t.Helper()
			got := x.must(t, "Nova", &d)
			if !got.Duplicate || got.Request.ID != first || got.State.ID != out.State.ID || got.Envelope.Seq != 3 {
				t.Errorf("%s: got %+v, want line 3 of %s again", what, got, out.State.ID)
			}
		}
		again("at once")
		x.restart(t)
		again("after a restart")
		x.must(t, "Nova", &draft{Type: envelope.Leave, Conversation: out.State.ID})
		pass(0)
		x.come("Atlas", "Nova")
		again("when it is over")
		if other := d; true {
			other.Content = "something else"
			x.refuse(t, "another text", "Nova", &other, api.KeyReused)
		}
		if len(x.conversations(t)) != 1 || len(x.records(t, "open")) != 0 {
			t.Errorf("got %q, open %q, want one conversation", x.conversations(t), x.records(t, "open"))
		}
	})
}

// TestRepeats: the same call placed again is the same call.
func TestRepeats(t *testing.T) {
	scene(t, []string{"Atlas", "Nova", "Sage"}, func(t *testing.T, x *exchange) {
		d := draft{ID: envelope.NewID(), Type: envelope.Call, To: []string{"Nova"}, Content: "hi"}
		first := x.must(t, "Atlas", &d)
		if again := x.must(t, "Atlas", &d); !again.Duplicate || again.Request.ID != first.Request.ID {
			t.Errorf("again: got %+v", again)
		}
		other := d
		other.To = []string{"Sage"}
		x.refuse(t, "to somebody else", "Atlas", &other, api.KeyReused)
		x.refuse(t, "by somebody else", "Nova", &draft{ID: d.ID, Type: envelope.Call, To: []string{"Sage"}, Content: "hi"}, api.KeyReused)
		talk := x.accept(t, "Nova", d.ID).State.ID
		x.must(t, "Nova", &draft{Type: envelope.Call, To: []string{"Atlas"}, Content: "later"}) // it rings
		if again := x.must(t, "Atlas", &d); !again.Duplicate || again.State.ID != talk {
			t.Errorf("again, when it was accepted: got %+v, want conversation %s", again, talk)
		}
	})
}

// TestAfterAFailure: what the disk did not take can be said again.
func TestAfterAFailure(t *testing.T) {
	scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
		x.come("Nova")
		folder := x.home.RequestsDir() + "/open"
		broken := func(do func()) {
			t.Helper()
			if err := os.Rename(folder, folder+"-away"); err != nil {
				t.Fatal(err)
			}
			do()
			if err := os.Rename(folder+"-away", folder); err != nil {
				t.Fatal(err)
			}
		}
		d := draft{ID: envelope.NewID(), Type: envelope.Call, To: []string{"Nova"}, Content: "hi"}
		broken(func() {
			if out, err := x.say("Atlas", &d); err == nil {
				t.Fatalf("placed with a broken disk: %+v", out)
			}
			x.wantInbox(t, "not placed", "Nova")
		})
		if out := x.must(t, "Atlas", &d); out.Duplicate || out.Request.State() != "ringing" {
			t.Errorf("placed again: got %+v", out)
		}
		broken(func() {
			if out, err := x.say("Nova", &draft{Type: envelope.Accept}); err == nil {
				t.Fatalf("accepted with a broken disk: %+v", out)
			}
			x.wantInbox(t, "not accepted", "Atlas")
			pass(ring)
		})
		x.wantInbox(t, "before the next try", "Nova", "new call ringing")
		pass(time.Minute)
		x.wantInbox(t, "the ring time was over", "Nova", "new call missed")
		x.accept(t, "Nova", d.ID)
		if n := len(x.conversations(t)); n != 1 {
			t.Errorf("got %d conversations, want 1", n)
		}
	})
}

// TestAnswersRaceTheClock: of an accept, a cancel and the end of the ring time in the same
// moment one comes first, and all hear the same.
func TestAnswersRaceTheClock(t *testing.T) {
	scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
		for range 30 {
			x.come("Atlas", "Nova")
			id := x.call(t, "Atlas", "", "Nova")
			time.Sleep(ring) // the timer fires with the answers
			outs := atOnce(x, map[string]*draft{
				"Atlas": {Type: envelope.Cancel, Request: id}, "Nova": {Type: envelope.Accept, Request: id},
			})
			r, last := x.get(t, id), len(x.inbox(t, "Nova"))-1
			caller, callee := x.inbox(t, "Atlas")[last], x.inbox(t, "Nova")[last]
			switch r.State() {
			case call.Accepted:
				if outs["Nova"].err != nil || !outs["Atlas"].Duplicate || caller != "new accept accepted" || callee != "seen call accepted" {
					t.Errorf("accepted: answers %+v, told %q and %q", outs, caller, callee)
				}
				x.must(t, "Nova", &draft{Type: envelope.Leave, Conversation: r.Conversation})
			case call.Cancelled:
				if outs["Nova"].err == nil || caller != "seen cancel cancelled" || callee != "seen call cancelled" {
					t.Errorf("cancelled: answers %+v, told %q and %q", outs, caller, callee)
				}
			default:
				t.Errorf("got %s", r.State())
			}
		}
		accepted := 0
		for _, told := range x.inbox(t, "Nova") {
			if told == "seen call accepted" {
				accepted++
			}
		}
		if n := len(x.conversations(t)); n != accepted {
			t.Errorf("%d conversations, %d accepted", n, accepted)
		}
	})
}

// TestConsent: who can call whom.
func TestConsent(t *testing.T) {
	scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
		accepts := func(agent, whom string) {
			t.Helper()
			if _, _, err := x.roster.Register(api.Register{Name: agent, Accepts: &whom}); err != nil {
				t.Fatal(err)
			}
		}
		contact := func(list string) {
			t.Helper()
			if _, err := x.roster.SetContact("Nova", "Atlas", list); err != nil {
				t.Fatal(err)
			}
		}
		ask := &draft{Type: envelope.Call, To: []string{"Nova"}}
		accepts("Nova", card.Nobody)
		x.refuse(t, "nobody", "Atlas", ask, api.NotAccepted)
		contact("allow")
		x.must(t, "Atlas", ask)
		contact("")
		accepts("Nova", card.Known)
		x.refuse(t, "known, who is not", "Atlas", ask, api.NotAccepted)
		x.must(t, "Nova", &draft{Type: envelope.Message, To: []string{"Atlas"}, Content: "hi"})
		x.must(t, "Atlas", ask)
		accepts("Nova", card.Anyone)
		contact("block")
		x.refuse(t, "blocked", "Atlas", ask, api.NotAccepted)
		if err := os.WriteFile(x.home.AgentDir("Nova")+"/"+card.ContactsFile, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		x.refuse(t, "who is blocked cannot be read", "Atlas", ask, api.NotAccepted)
		if n := len(x.records(t, "open")); n != 2 {
			t.Errorf("%d calls were placed, want 2", n)
		}
	})
}

// TestAnswersNeedNoLeave: who calls can be answered by a call, whomever it accepts.
func TestAnswersNeedNoLeave(t *testing.T) {
	scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
		nobody := card.Nobody
		if _, _, err := x.roster.Register(api.Register{Name: "Atlas", Accepts: &nobody}); err != nil {
			t.Fatal(err)
		}
		x.come("Atlas", "Nova")
		x.call(t, "Atlas", "", "Nova")
		if out := x.must(t, "Nova", &draft{Type: envelope.Call, To: []string{"Atlas"}}); out.State.ID == "" {
			t.Errorf("got %+v, want a conversation", out)
		}
	})
}

// match calls the best of some agents.
func (x *exchange) match(t *testing.T, d *draft, best ...string) call.Request {
	t.Helper()
	out, err := x.board.Match(context.Background(), x.home.Address("Atlas"), d, call.Match{Text: "go"}, best)
	synctest.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return *out.Request
}

func TestMatch(t *testing.T) {
	agents := []string{"Atlas", "Nova", "Sage", "Echo", "Rune"}
	t.Run("it goes on", func(t *testing.T) {
		scene(t, agents, func(t *testing.T, x *exchange) {
			x.come("Nova", "Sage", "Echo")
			x.must(t, "Sage", &draft{Type: envelope.Status, Status: "busy"})
			if _, err := x.roster.SetContact("Rune", "Atlas", "block"); err != nil {
				t.Fatal(err)
			}
			first := x.match(t, &draft{ID: envelope.NewID(), Content: "Who knows go?"}, "Nova", "Rune", "Sage", "Echo")
			if first.To[0].Name != "Nova" {
				t.Errorf("called: %v, want Nova", first.To)
			}
			s := x.attach(t, "Atlas")
			defer s.Close()
			x.must(t, "Nova", &draft{Type: envelope.Reject, Reason: "no"})
			if got, want := lines(t, s), []string{"reject rejected", "reject busy"}; !slices.Equal(got, want) {
				t.Errorf("told: got %q, want %q in this order", got, want)
			}
			x.wantInbox(t, "the next two", "Atlas", "seen reject rejected next: no", "seen reject busy next")
			x.wantInbox(t, "passed over", "Sage", "seen call busy: the call is over")
			x.wantInbox(t, "blocked", "Rune")
			x.refuse(t, "accept when it has gone on", "Sage", &draft{Type: envelope.Accept, Request: x.get(t, first.ID).Next}, api.CallOver)
			x.wantPresence(t, "the last one", "Echo ringing", "Nova available")
			pass(ring)
			x.wantInbox(t, "nobody", "Atlas", "seen reject rejected next: no", "seen reject busy next", "new reject missed")
			x.wantInbox(t, "the last one", "Echo", "new call missed")
			x.accept(t, "Echo", "")
			x.wantInbox(t, "accepted", "Atlas", "seen reject rejected next: no", "seen reject busy next", "new accept accepted")
		})
	})
	t.Run("the last one takes no calls", func(t *testing.T) {
		scene(t, agents, func(t *testing.T, x *exchange) {
			x.come("Nova")
			if _, err := x.roster.SetContact("Rune", "Atlas", "block"); err != nil {
				t.Fatal(err)
			}
			x.match(t, &draft{ID: envelope.NewID()}, "Nova", "Rune")
			pass(ring)
			x.wantInbox(t, "missed", "Atlas", "new reject missed")
			x.wantInbox(t, "missed", "Nova", "new call missed")
			x.accept(t, "Nova", "")
		})
	})
	t.Run("cancelled", func(t *testing.T) {
		scene(t, agents, func(t *testing.T, x *exchange) {
			x.come("Sage", "Echo")
			d := &draft{ID: envelope.NewID()}
			first := x.match(t, d, "Nova", "Sage", "Echo")
			if first.To[0].Name != "Sage" {
				t.Errorf("called: %v, want Sage, who is there", first.To)
			}
			if again := x.match(t, d, "Nova", "Sage", "Echo"); again.ID != first.ID {
				t.Errorf("again: got %+v, want %s", again, first.ID)
			}
			x.must(t, "Atlas", &draft{Type: envelope.Cancel, Request: d.ID})
			pass(ring)
			x.wantInbox(t, "cancelled", "Sage", "seen call cancelled")
			x.wantInbox(t, "cancelled", "Echo")
			if got := x.records(t, "open"); len(got) != 0 {
				t.Errorf("cancelled: %q are open", got)
			}
		})
	})
	t.Run("nobody", func(t *testing.T) {
		scene(t, agents, func(t *testing.T, x *exchange) {
			_, err := x.board.Match(context.Background(), x.home.Address("Atlas"), &draft{ID: envelope.NewID()}, call.Match{}, nil)
			var refusal *api.Error
			if !errors.As(err, &refusal) || refusal.Code != api.NobodyAvailable {
				t.Errorf("got %v, want %s", err, api.NobodyAvailable)
			}
		})
	})
	t.Run("limits hold", func(t *testing.T) {
		settings := func(c *maildir.Config) { c.Limits.Rate, c.Limits.Burst = 1, 2 }
		sceneWith(t, settings, agents, func(t *testing.T, x *exchange) {
			x.come("Nova")
			bad := &draft{ID: envelope.NewID(), Topic: "two\nlines"}
			if _, err := x.board.Match(context.Background(), x.home.Address("Atlas"), bad, call.Match{}, []string{"Nova"}); !errors.Is(err, envelope.ErrInvalid) {
				t.Errorf("a topic of two lines: got %v, want it refused", err)
			}
			x.match(t, &draft{ID: envelope.NewID()}, "Nova")
			_, err := x.board.Match(context.Background(), x.home.Address("Atlas"), &draft{ID: envelope.NewID()}, call.Match{}, []string{"Nova"})
			var refusal *api.Error
			if !errors.As(err, &refusal) || refusal.Code != api.RateLimited || refusal.Retry <= 0 {
				t.Errorf("the third one: got %v, want %s with a time", err, api.RateLimited)
			}
		})
	})
}

// TestWatched: those who watch are told every change of a call once.
func TestWatched(t *testing.T) {
	scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
		o := x.deliver.Observe(deliver.Filter{})
		defer o.Close()
		x.come("Nova")
		id := x.call(t, "Atlas", "hi", "Nova")
		x.accept(t, "Nova", id)
		x.accept(t, "Nova", id)
		x.must(t, "Nova", &draft{Type: envelope.Leave, Conversation: x.get(t, id).Conversation})
		pass(0)
		var got []string
		for {
			line, ok, err := o.TryNext(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if line.Live {
				got = append(got, fmt.Sprintf("%s %s", line.Envelope.Type, line.Envelope.Status))
			}
		}
		if want := []string{"call ringing", "call accepted"}; !slices.Equal(got, want) {
			t.Errorf("got %s, want %s", strings.Join(got, ", "), strings.Join(want, ", "))
		}
	})
}

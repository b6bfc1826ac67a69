package switchboard_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestAFarCall from its first ring to its end.
func TestAFarCall(t *testing.T) {
	linked(t, func(p *pair) {
		p.come("Atlas", "Nova")
		id := p.call("Atlas", "Line 40 looks wrong.", "Nova@lon")
		p.want("rings", id, "ringing", "Atlas", "Nova new call ringing")
		p.wantPresence("rings", "Atlas available", "Nova ringing")
		out := p.must("Nova", &draft{Type: envelope.Accept, Request: id, Content: "I am here."})
		if out.Request.State() != call.Accepted || out.Duplicate {
			t.Errorf("accept: got %+v, want it accepted at once", out)
		}
		talk := out.Request.Conversation
		p.want("accepted", id, "accepted", "Atlas new accept accepted", "Nova seen call accepted")
		p.wantLog(talk, "Atlas create Atlas Nova", "Atlas: Line 40 looks wrong.", "Nova: I am here.")
		p.wantPresence("accepted", "Atlas in-call", "Nova in-call")
		if again := p.must("Nova", &draft{Type: envelope.Accept, Request: id}); !again.Duplicate || again.State.ID != talk {
			t.Errorf("accept again: got %+v, want the same conversation", again)
		}
		if busy := p.must("Sage", &draft{Type: envelope.Call, To: []string{"Nova@lon"}}); busy.Request.State() != call.Busy {
			t.Errorf("a call to somebody in a call: got %s, want busy", busy.Request.State())
		}
		p.must("Nova", &draft{Type: envelope.Leave, Conversation: talk})
		p.pass(0)
		p.wantLog(talk, "Atlas create Atlas Nova", "Atlas: Line 40 looks wrong.", "Nova: I am here.", "Nova leave", "close: the others have left")
		p.wantPresence("over", "Atlas available", "Nova available")
		p.wantOpen("over, but for Sage's", 1, 1)
	})
}

// TestFarPlaced: what a call begins as follows from what the callee's host says.
func TestFarPlaced(t *testing.T) {
	for _, test := range []struct {
		state, caller, callee string
		prepare               func(p *pair)
	}{
		{"ringing", "Atlas", "Nova new call ringing", func(p *pair) { p.come("Nova") }},
		{"queued", "Atlas", "Nova new call queued", func(*pair) {}},
		{"busy", "Atlas new reject busy", "Nova new call busy", func(p *pair) { p.must("Nova", &draft{Type: envelope.Status, Status: "busy"}) }},
		{"busy", "Atlas new reject busy", "Nova new call busy", func(p *pair) { // which nyc does not know yet
			p.come("Nova")
			p.slow = true
			p.must("Nova", &draft{Type: envelope.Status, Status: "busy"})
		}},
		{"queued", "Atlas", "Nova new call queued", func(p *pair) { p.come("Nova"); p.cut() }},
	} {
		linked(t, func(p *pair) {
			test.prepare(p)
			id := p.call("Atlas", "hi", "Nova@lon")
			p.connect()
			p.want(test.state, id, test.state, test.caller, test.callee)
		})
	}
}

// TestFarAnswers: what is said of a call, at either host, is so at both.
func TestFarAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		by             string
		say            draft
		state          string
		caller, callee string
		open           int
	}{
		"reject":         {"Nova", draft{Type: envelope.Reject, Reason: "in a release"}, "rejected", "Atlas new reject rejected: in a release", "Nova seen call rejected: in a release", 0},
		"reject as busy": {"Nova", draft{Type: envelope.Reject, Busy: true}, "busy", "Atlas new reject busy", "Nova new call busy", 1},
		"cancel":         {"Atlas", draft{Type: envelope.Cancel}, "cancelled", "Atlas seen cancel cancelled", "Nova seen call cancelled", 0},
	} {
		for _, away := range []bool{false, true} {
			linked(t, func(p *pair) {
				p.come("Nova")
				id := p.call("Atlas", "", "Nova@lon")
				if away {
					p.cut()
				}
				say := test.say
				out := p.must(test.by, &say)
				if out.Request.ID != id || out.Duplicate || string(out.Request.State()) != test.state {
					t.Errorf("%s: got %+v", name, out)
				}
				p.connect()
				p.want(name, id, test.state, test.caller, test.callee)
				p.wantPresence(name, "Nova available")
				p.wantOpen(name, test.open, test.open)
				say.Request = id
				if out := p.must(test.by, &say); !out.Duplicate {
					t.Errorf("%s again: got %+v, want that nothing changes", name, out)
				}
				p.pass(ring)
				p.wantTold(name+", when the ring time is over", test.caller, test.callee)
				if len(p.nyc.conversations(t)) != 0 {
					t.Errorf("%s: got a conversation", name)
				}
			})
		}
	}
}

func TestFarMissed(t *testing.T) {
	linked(t, func(p *pair) {
		defer p.lon.live("Nova")()
		p.settle()
		id := p.call("Atlas", "", "Nova@lon")
		p.pass(ring)
		p.want("missed", id, "missed", "Atlas new reject missed", "Nova new call missed")
		p.wantPresence("missed", "Nova available")
		p.pass(ring) // Atlas is not there any more
		out := p.must("Nova", &draft{Type: envelope.Accept, Request: id, Content: "late"})
		p.want("accepted later", id, "accepted", "Atlas new accept accepted", "Nova seen call accepted")
		p.wantLog(out.Request.Conversation, "Atlas create Atlas Nova", "Nova: late")
		p.wantPresence("async", "Nova available")
		p.wantOpen("async", 0, 0)
	})
}

// TestRingsWithoutALink: who is called at a host that cannot be reached any more is not
// called for ever, and the caller's host decides.
func TestRingsWithoutALink(t *testing.T) {
	linked(t, func(p *pair) {
		defer p.lon.live("Nova")()
		p.settle()
		id := p.call("Atlas", "", "Nova@lon")
		p.cut()
		p.pass(ring + 3*time.Second)
		p.want("missed", id, "missed", "Atlas new reject missed", "Nova new call missed")
		p.wantPresence("missed", "Nova available")
		p.must("Atlas", &draft{Type: envelope.Cancel, Request: id})
		out := p.must("Nova", &draft{Type: envelope.Accept, Request: id, Content: "I am here."})
		if out.Request.State() != call.Accepted {
			t.Errorf("accepted at once: got %s", out.Request.State())
		}
		p.connect()
		p.want("too late", id, "cancelled", "Atlas seen cancel cancelled", "Nova new call cancelled")
		p.wantOpen("too late", 0, 0)
		if len(p.lon.conversations(t)) != 0 {
			t.Error("too late: got a conversation")
		}
	})
}

// TestAcceptedWithoutALink: what is accepted while the link is down comes about when it is
// back, with what was said.
func TestAcceptedWithoutALink(t *testing.T) {
	linked(t, func(p *pair) {
		p.come("Nova")
		id := p.call("Atlas", "hi", "Nova@lon")
		p.cut()
		talk := p.must("Nova", &draft{Type: envelope.Accept, Request: id, Content: "I am here."}).Request.Conversation
		p.restart(p.lon)
		p.restart(p.nyc)
		p.connect()
		p.want("accepted", id, "accepted", "Atlas new accept accepted", "Nova seen call accepted")
		p.wantLog(talk, "Atlas create Atlas Nova", "Atlas: hi", "Nova: I am here.")
	})
}

// TestAwait: who accepts can wait for the conversation.
func TestAwait(t *testing.T) {
	linked(t, func(p *pair) {
		p.come("Atlas", "Nova")
		id := p.call("Atlas", "hi", "Nova@lon")
		p.slow = true
		p.must("Nova", &draft{Type: envelope.Accept, Request: id})
		nova := p.lon.home.Address("Nova")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, state, err := p.lon.board.Await(ctx, id, nova); err != nil || state.ID != "" {
			t.Errorf("before the log is here: got %+v, %v, want nothing", state, err)
		}
		got := make(chan string, 1)
		go func() {
			_, state, _ := p.lon.board.Await(context.Background(), id, nova)
			got <- state.ID
		}()
		p.slow = false
		p.settle()
		if talk := <-got; talk == "" || talk != p.request(p.nyc, id).Conversation {
			t.Errorf("got the conversation %q", talk)
		}
	})
}

// TestFarLinkBreaks: a call goes on for a while when its link breaks, and ends when it does
// not come back.
func TestFarLinkBreaks(t *testing.T) {
	linked(t, func(p *pair) {
		defer p.nyc.live("Atlas")()
		defer p.lon.live("Nova")()
		p.settle()
		talk := p.must("Nova", &draft{Type: envelope.Accept, Request: p.call("Atlas", "hi", "Nova@lon")}).Request.Conversation
		p.cut()
		p.pass(grace - 10*time.Second)
		p.connect()
		p.pass(2 * grace)
		p.wantPresence("the link was back in time", "Atlas in-call", "Nova in-call")
		p.cut()
		p.pass(grace - 10*time.Second)
		p.wantPresence("in time", "Atlas in-call", "Nova in-call")
		p.pass(20 * time.Second)
		p.wantPresence("too late", "Atlas available", "Nova available")
		p.connect()
		p.wantLog(talk, "Atlas create Atlas Nova", "Atlas: hi", "close: the link with lon was lost for 1m0s")
		p.wantPresence("it is over", "Atlas available", "Nova available")
		p.wantOpen("it is over", 0, 0)
	})
}

// TestFarEnds: a call ends at both hosts, whoever ends it.
func TestFarEnds(t *testing.T) {
	for name, end := range map[string]func(p *pair, talk string){
		"the callee leaves": func(p *pair, talk string) { p.must("Nova", &draft{Type: envelope.Leave, Conversation: talk}) },
		"the caller leaves": func(p *pair, talk string) { p.must("Atlas", &draft{Type: envelope.Leave, Conversation: talk}) },
		"the caller closes": func(p *pair, talk string) { p.must("Atlas", &draft{Type: envelope.Close, Conversation: talk}) },
		"nobody says anything": func(p *pair, _ string) {
			for range 40 {
				p.pass(time.Minute)
			}
		},
	} {
		linked(t, func(p *pair) {
			defer p.nyc.live("Atlas")()
			defer p.lon.live("Nova")()
			p.settle()
			id := p.call("Atlas", "hi", "Nova@lon")
			talk := p.must("Nova", &draft{Type: envelope.Accept, Request: id}).Request.Conversation
			p.wantPresence(name, "Atlas in-call", "Nova in-call")
			end(p, talk)
			p.pass(0)
			p.wantPresence(name, "Atlas available", "Nova available")
			p.wantOpen(name, 0, 0)
		})
	}
	t.Run("the callee's stream is lost", func(t *testing.T) {
		linked(t, func(p *pair) {
			defer p.nyc.live("Atlas")()
			lose := p.lon.live("Nova")
			p.settle()
			talk := p.must("Nova", &draft{Type: envelope.Accept, Request: p.call("Atlas", "hi", "Nova@lon")}).Request.Conversation
			lose()
			p.pass(grace + time.Second)
			p.wantLog(talk, "Atlas create Atlas Nova", "Atlas: hi", "Nova leave", "close: the others have left")
			p.wantPresence("over", "Atlas available", "Nova offline")
		})
	})
}

// TestOnlyOthersAreLeft: when the caller has left, and agents of another host talk on, the
// caller's host still ends the call, and brings nobody in for them.
func TestOnlyOthersAreLeft(t *testing.T) {
	linked(t, func(p *pair) {
		p.come("Atlas", "Sage")
		defer p.lon.live("Nova")()
		defer p.lon.live("Rune")()
		p.settle()
		id := p.call("Atlas", "hi", "Sage", "Nova@lon", "Rune@lon")
		talk := p.must("Nova", &draft{Type: envelope.Accept, Request: id}).Request.Conversation
		p.must("Rune", &draft{Type: envelope.Accept, Request: id})
		p.must("Atlas", &draft{Type: envelope.Leave, Conversation: talk})
		p.nyc.refuse(t, "accept", "Sage", &draft{Type: envelope.Accept, Request: id}, api.NotParticipant)
		p.wantPresence("they talk on", "Atlas available", "Nova in-call", "Rune in-call")
		for range 35 {
			p.pass(time.Minute)
		}
		p.wantLog(talk, "Atlas create Atlas Nova", "Atlas: hi", "Atlas invite Rune", "Atlas leave", "close: nobody has said anything for 30m0s")
		p.wantPresence("over", "Nova available", "Rune available")
		p.wantOpen("over", 0, 0)
	})
}

// TestFarConsent: who is asked decides from whom it takes calls, at its own host.
func TestFarConsent(t *testing.T) {
	linked(t, func(p *pair) {
		p.come("Nova", "Rune")
		if _, err := p.lon.roster.SetContact("Nova", "Atlas@nyc", "block"); err != nil {
			t.Fatal(err)
		}
		id := p.call("Atlas", "hi", "Nova@lon")
		if r := p.request(p.nyc, id); r.State() != call.Rejected || r.Callees[0].Reason == "" {
			t.Errorf("blocked: got %+v, want it rejected with a reason", r)
		}
		p.wantTold("blocked", "Nova")
		p.wantOpen("blocked", 0, 0)
		id = p.call("Atlas", "hi", "Nova@lon", "Rune@lon")
		p.wantTold("one of two", "Nova", "Rune new call ringing")
		p.lon.refuse(t, "who is not asked", "Nova", &draft{Type: envelope.Accept, Request: id}, api.NotAllowed)
		p.settle()
		p.must("Rune", &draft{Type: envelope.Accept, Request: id})
		p.want("one of two accepts", id, "accepted", "Nova", "Rune seen call accepted")
	})
	linked(t, func(p *pair) { // and that there is no such agent
		p.cut()
		id := p.call("Atlas", "hi", "Nobody@lon")
		p.connect()
		if r := p.request(p.nyc, id); r.State() != call.Rejected {
			t.Errorf("nobody: got %+v, want it rejected", r)
		}
	})
}

// TestSeveralFar: agents of two hosts are called, and who accepts later is brought in.
func TestSeveralFar(t *testing.T) {
	linked(t, func(p *pair) {
		p.come("Atlas", "Sage", "Nova", "Rune")
		id := p.call("Atlas", "all of you", "Sage", "Nova@lon", "Rune@lon")
		talk := p.must("Rune", &draft{Type: envelope.Accept, Request: id, Content: "one"}).Request.Conversation
		p.must("Sage", &draft{Type: envelope.Accept, Request: id, Content: "two"})
		p.must("Nova", &draft{Type: envelope.Accept, Request: id, Content: "three"})
		p.wantLog(talk, "Atlas create Atlas Rune", "Atlas: all of you", "Rune: one", "Atlas invite Sage", "Sage: two", "Atlas invite Nova", "Nova: three")
		p.wantPresence("all", "Atlas in-call", "Sage in-call", "Nova in-call", "Rune in-call")
		p.want("all", id, "accepted", "Nova seen call accepted", "Rune seen call accepted")
		for _, name := range []string{"Nova", "Rune", "Sage"} {
			p.must(name, &draft{Type: envelope.Leave, Conversation: talk})
		}
		p.pass(0)
		p.wantPresence("over", "Atlas available", "Sage available", "Nova available", "Rune available")
		p.wantOpen("over", 0, 0)
	})
}

// TestAcceptedTooLate: the conversation has ended when somebody accepts.
func TestAcceptedTooLate(t *testing.T) {
	linked(t, func(p *pair) {
		p.come("Atlas", "Sage", "Nova")
		id := p.call("Atlas", "hi", "Sage", "Nova@lon")
		talk := p.must("Sage", &draft{Type: envelope.Accept, Request: id}).State.ID
		p.cut()
		p.must("Atlas", &draft{Type: envelope.Close, Conversation: talk})
		p.must("Nova", &draft{Type: envelope.Accept, Request: id})
		p.pass(0)
		p.connect()
		p.wantTold("too late", "Nova new call ringing: the call is over")
		p.wantOpen("too late", 0, 0)
	})
}

// TestFarMatch: a match goes on across hosts.
func TestFarMatch(t *testing.T) {
	linked(t, func(p *pair) {
		p.come("Nova", "Rune")
		out := p.nyc.match(t, &draft{ID: envelope.NewID(), Content: "hi"}, "Nova@lon", "Sage", "Rune@lon")
		p.settle()
		p.want("the first", out.ID, "ringing", "Nova new call ringing")
		p.must("Nova", &draft{Type: envelope.Reject})
		p.wantTold("the third, as the second is offline", "Nova seen call rejected", "Rune new call ringing")
		p.pass(ring)
		p.wantTold("the third is the last", "Rune new call missed")
	})
	linked(t, func(p *pair) {
		p.come("Nova", "Rune")
		p.nyc.match(t, &draft{ID: envelope.NewID(), Content: "hi"}, "Nova@lon", "Rune@lon")
		p.settle()
		p.pass(ring)
		p.wantTold("the second, as the first was missed", "Nova seen call missed: the call is over", "Rune new call ringing")
		p.lon.refuse(t, "too late", "Nova", &draft{Type: envelope.Accept}, api.RequestNotFound)
	})
}

func TestFarTyping(t *testing.T) {
	linked(t, func(p *pair) {
		p.come("Atlas", "Nova")
		talk := p.must("Nova", &draft{Type: envelope.Accept, Request: p.call("Atlas", "hi", "Nova@lon")}).Request.Conversation
		for _, x := range []*exchange{p.nyc, p.lon} {
			name := x.agents[0]
			if err := x.router.Typing(t.Context(), x.home.Address(name), talk, false); err != nil {
				t.Fatal(err)
			}
			p.settle()
		}
		if got := p.nyc.typed; len(got) != 1 || got[0] != "Atlas hears Nova@lon " {
			t.Errorf("at nyc: got %q", got)
		}
		if got := p.lon.typed; len(got) != 1 || got[0] != "Nova hears Atlas@nyc " {
			t.Errorf("at lon: got %q", got)
		}
		for range 1000 {
			_ = p.lon.router.Typing(t.Context(), p.lon.home.Address("Nova"), talk, true)
		}
		p.settle()
		if n := len(p.nyc.typed); n < 2 || n > 50 {
			t.Errorf("after 1000: %d are heard, want few", n)
		}
	})
}

// TestFarCrash: wherever the callee's daemon is killed between the copy of a change and the
// end of what follows from it, the next one comes to the same.
func TestFarCrash(t *testing.T) {
	for name, play := range map[string]func(p *pair){
		"ringing": func(p *pair) { p.call("Atlas", "hi", "Nova@lon") },
		"missed":  func(p *pair) { p.call("Atlas", "hi", "Nova@lon"); p.pass(ring) },
		"rejected": func(p *pair) {
			p.must("Nova", &draft{Type: envelope.Reject, Request: p.call("Atlas", "hi", "Nova@lon")})
		},
		"accepted": func(p *pair) {
			p.must("Nova", &draft{Type: envelope.Accept, Request: p.call("Atlas", "hi", "Nova@lon"), Content: "yes"})
		},
		"accepted, not sent": func(p *pair) {
			id := p.call("Atlas", "hi", "Nova@lon")
			p.cut()
			p.must("Nova", &draft{Type: envelope.Accept, Request: id, Content: "yes"})
		},
		"too late": func(p *pair) {
			id := p.call("Atlas", "hi", "Nova@lon")
			p.cut()
			p.must("Atlas", &draft{Type: envelope.Cancel, Request: id})
			p.must("Nova", &draft{Type: envelope.Accept, Request: id, Content: "yes"})
			p.connect()
		},
	} {
		linked(t, func(p *pair) {
			p.come("Atlas", "Nova")
			play(p)
			want := p.nyc.dump(t) + p.lon.dump(t)
			p.restart(p.lon, func() {
				untell(t, p.lon)
				far := filepath.Join(p.lon.home.RequestsDir(), "far", "nyc")
				for _, id := range p.lon.records(t, "far/nyc/done") {
					if err := os.Rename(filepath.Join(far, "done", id+".json"), filepath.Join(far, "open", id+".json")); err != nil {
						t.Fatal(err)
					}
				}
			})
			if got := p.nyc.dump(t) + p.lon.dump(t); got != want {
				t.Errorf("%s:\ngot\n%swant\n%s", name, got, want)
			}
		})
	}
}

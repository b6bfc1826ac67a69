package waker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/waker"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/claude-duo/duo/maildir/session"
)

var (
	idle    = waker.Session{Agent: "Nova", Client: "codex", ID: "t1", Hooks: true}
	works   = waker.Session{Agent: "Nova", Client: "codex", ID: "t1", Hooks: true, Works: true}
	bare    = waker.Session{Agent: "Nova", Client: "codex", ID: "t1"}
	claude  = waker.Session{Agent: "Nova", Client: "claude-code", ID: "s1", Hooks: true}
	waiting = waker.Session{Agent: "Nova", Client: "claude-code", ID: "s1", Hooks: true, Waits: true}
	attends = waker.Session{Agent: "Nova", Client: session.Attendant, ID: "a1"}
)

// TestLadder: who is reached is left alone, a client wakes its session, else the user's own
// command does.
func TestLadder(t *testing.T) {
	codex, command := "nova 1 codex t1", "nova 1 sh"
	t.Setenv("PATH", fakeCodex(t)) // Capability looks whether it is there
	for name, test := range map[string]struct {
		sessions  []waker.Session
		command   string
		listening bool
		says      string
		want      []string
	}{
		"nobody":                        {says: "none"},
		"a command":                     {command: "true", says: "push", want: []string{command}},
		"a stream":                      {command: "true", listening: true, says: "push"},
		"codex":                         {sessions: []waker.Session{idle}, says: "push", want: []string{codex}},
		"codex rather than a command":   {sessions: []waker.Session{idle}, command: "true", says: "push", want: []string{codex}},
		"codex that works":              {sessions: []waker.Session{works}, says: "turn-end"},
		"codex that works, a command":   {sessions: []waker.Session{works}, command: "true", says: "push"},
		"codex without hooks":           {sessions: []waker.Session{bare}, says: "manual"},
		"the same with a command":       {sessions: []waker.Session{bare}, command: "true", says: "push", want: []string{command}},
		"claude that waits":             {sessions: []waker.Session{waiting}, says: "push"},
		"claude that waits, a command":  {sessions: []waker.Session{waiting}, command: "true", says: "push"},
		"claude without a waiter":       {sessions: []waker.Session{claude}, says: "turn-end"},
		"an attendant":                  {sessions: []waker.Session{attends}, says: "push"},
		"an attendant beside codex":     {sessions: []waker.Session{idle, attends}, command: "true", says: "push"},
		"one that works beside an idle": {sessions: []waker.Session{idle, {Agent: "nova", Client: "gemini", Works: true}}, says: "push"},
		"another agent's":               {sessions: []waker.Session{{Agent: "Atlas", Client: "codex", ID: "t2", Hooks: true}}, says: "none"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, h *host) {
				h.be(test.sessions...)
				h.home.Config.Wake = maildir.WakeConfig{"Nova": test.command}
				h.streams["nova"] = test.listening
				if got := h.waker.Capability("Nova"); got != test.says {
					t.Errorf("got %q, want %q", got, test.says)
				}
				h.message("nova", 1)
				time.Sleep(time.Minute)
				h.wantRan(test.want...)
			})
		})
	}
}

// TestWhatWakes: calls, direct messages and mentions do, the rest does not.
func TestWhatWakes(t *testing.T) {
	message := func(e envelope.Envelope, members ...string) func(*host) {
		return func(h *host) {
			e.From = h.home.Address("Sage")
			h.file("nova", "c1", 5, e, members...)
		}
	}
	signal := func(kind envelope.Type, status string) func(*host) {
		return func(h *host) {
			h.set(func() {
				h.signals["nova"] = append(h.signals["nova"], &envelope.Envelope{Type: kind, Request: "r1", Status: status})
			})
			h.waker.Waits("nova")
		}
	}
	for name, test := range map[string]struct {
		comes func(*host)
		ref   string // empty where nobody is woken
	}{
		"a direct message":       {message(envelope.Envelope{}, "Sage"), "c1.5"},
		"one to many":            {message(envelope.Envelope{Content: "hello"}, "Sage", "Atlas"), ""},
		"a mention":              {message(envelope.Envelope{Content: "what does @nova say?"}, "Sage", "Atlas"), "c1.5"},
		"one that is named":      {message(envelope.Envelope{To: []string{"Nova@nyc"}}, "Sage", "Atlas"), "c1.5"},
		"another one is named":   {message(envelope.Envelope{To: []string{"Nova@lon"}}, "Sage", "Atlas"), ""},
		"a call":                 {signal(envelope.Call, "ringing"), "r1"},
		"a call that was missed": {signal(envelope.Call, "missed"), "r1"},
		"a call that is over":    {signal(envelope.Call, "cancelled"), ""},
		"an answer":              {signal(envelope.Accept, "accepted"), "r1"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, h *host) {
				h.home.Config.Wake = maildir.WakeConfig{"Nova": "true"}
				test.comes(h)
				time.Sleep(waker.Settles)
				synctest.Wait()
				got := ""
				if len(h.ran) > 0 {
					got = h.ran[0].env("DUO_REF")
				}
				if got != test.ref || len(h.ran) > 1 {
					t.Errorf("got %v for %q, want %q", h.ran, got, test.ref)
				}
				if test.ref == "" && len(h.index) == 0 {
					t.Error("nothing is noted: it is looked at again for ever")
				}
			})
		})
	}
}

// TestOneWakeForManyItems: what comes within Every waits, and is in the next wake.
func TestOneWakeForManyItems(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.be(idle)
		h.message("nova", 1)
		time.Sleep(waker.Settles)
		h.wantRan("nova 1 codex t1")
		for seq := int64(2); seq < 9; seq++ {
			h.message("nova", seq)
			time.Sleep(time.Second)
		}
		time.Sleep(waker.Every - 7*time.Second - time.Millisecond)
		h.wantRan()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if len(h.ran) == 1 {
			if got, want := h.ran[0].Args[5], "duo: 7 items wait for agent nova: cnova.2, cnova.3, cnova.4, cnova.5, cnova.6 and 2 more. duo inbox lists what waits."; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		h.wantRan("nova 7 codex t1")
		time.Sleep(time.Hour)
		h.wantRan()
		h.wantCounted(map[string]int{"client ok": 2})
	})
}

// TestNobodyIsWokenForWhatWasSeen, however soon.
func TestNobodyIsWokenForWhatWasSeen(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.be(idle)
		h.message("nova", 1)
		time.Sleep(waker.Settles / 2)
		h.see("nova")
		time.Sleep(time.Minute)
		h.wantRan()
	})
}

// TestAWorkingSessionIsNotWoken: its hook tells at the end of the turn. What came after that
// hook wakes.
func TestAWorkingSessionIsNotWoken(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.be(works)
		h.message("nova", 1)
		time.Sleep(time.Hour)
		h.wantRan()
		h.see("nova")
		h.message("nova", 2)
		h.be(idle)
		time.Sleep(waker.WhileBusy + waker.Settles)
		h.wantRan("nova 1 codex t1")
	})
}

// TestTheUsersCommandIsNext where the client cannot wake.
func TestTheUsersCommandIsNext(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.be(idle)
		h.home.Config.Wake = maildir.WakeConfig{"nova": "true"}
		h.answer = func(p waker.Program) error {
			if p.Args[0] == "codex" {
				return errors.New("no rollout found")
			}
			return nil
		}
		h.message("nova", 1)
		time.Sleep(time.Hour)
		h.wantRan("nova 1 codex t1", "nova 1 sh")
		h.wantCounted(map[string]int{"client failed": 1, "command ok": 1})
	})
}

// TestAFailedWakeIsTriedAgain, later each time, and not for ever. What comes then is a new
// beginning.
func TestAFailedWakeIsTriedAgain(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.be(idle)
		h.answer = func(waker.Program) error { return errors.New("exit code 1") }
		h.message("nova", 1)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if len(h.ran) != waker.MaxTries {
			t.Fatalf("got %d tries, want %d", len(h.ran), waker.MaxTries)
		}
		for i := range waker.MaxTries - 1 {
			if gap, want := h.ran[i+1].after-h.ran[i].after, waker.Backoff(i+1); gap < want || gap > want+time.Second {
				t.Errorf("after try %d: got %s, want %s", i+1, gap, want)
			}
		}
		h.ran, h.answer = nil, nil
		h.message("nova", 2)
		time.Sleep(waker.Settles)
		h.wantRan("nova 1 codex t1")
		h.wantCounted(map[string]int{"client failed": waker.MaxTries, "client ok": 1})
	})
}

// TestARestart: nobody is woken twice for one thing, and for what nobody was woken for
// somebody is, once.
func TestARestart(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.be(idle)
		h.message("nova", 1)
		time.Sleep(waker.Settles)
		h.wantRan("nova 1 codex t1")
		h.message("nova", 2)
		h.stop() // before it is told of
		h.start()
		h.waker.Waits("nova")
		time.Sleep(time.Hour)
		h.wantRan("nova 1 codex t1")
		h.stop()
		h.start()
		h.waker.Waits("nova")
		time.Sleep(time.Hour)
		h.wantRan()
	})
}

// TestAStopEndsPrograms. What was not done is done after the next start.
func TestAStopEndsPrograms(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.be(idle)
		h.takes = time.Hour
		h.message("nova", 1)
		time.Sleep(time.Minute)
		before := time.Now()
		h.stop()
		if took := time.Since(before); took > time.Second {
			t.Errorf("stop: took %s, want it at once", took)
		}
		h.wantRan("nova 1 codex t1")
		h.takes = 0
		h.start()
		h.waker.Waits("nova")
		time.Sleep(time.Hour)
		h.wantRan("nova 1 codex t1")
	})
}

// TestOneProgramAtATime for one agent.
func TestOneProgramAtATime(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.be(idle)
		h.takes = 5 * time.Minute
		for seq := range int64(5) {
			h.message("nova", seq+1)
			time.Sleep(time.Minute)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if h.most != 1 {
			t.Errorf("got %d at once, want 1", h.most)
		}
		h.wantRan("nova 1 codex t1", "nova 4 codex t1")
	})
}

// TestAStorm: thousands of agents with mail after a start do not start thousands of programs.
func TestAStorm(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		const agents = 1000
		h.takes = 2 * time.Second
		for i := range agents {
			name := fmt.Sprintf("a%d", i)
			h.home.Config.Wake[name] = "true"
			h.message(name, 1)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(h.ran) != agents || h.most > waker.AtOnce {
			t.Errorf("got %d programs, %d at once, want %d, at most %d at once", len(h.ran), h.most, agents, waker.AtOnce)
		}
		woken := make(map[string]bool)
		for i, r := range h.ran {
			woken[r.env("DUO_AGENT")] = true
			if limit := waker.AtOnce + waker.PerSecond*(r.after.Seconds()+1); float64(i) > limit {
				t.Fatalf("program %d: got it after %s, want at most %.0f by then", i, r.after, limit)
			}
		}
		if len(woken) != agents {
			t.Errorf("got %d agents woken, want all %d", len(woken), agents)
		}
	})
}

// TestManyWithNobodyCostNothing: an agent whom nothing can wake is not looked into.
func TestManyWithNobodyCostNothing(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		for i := range 1000 {
			h.message(fmt.Sprintf("a%d", i), 1)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(h.index) > 0 || h.waker.Waiting() > 0 {
			t.Errorf("got %d notes, %d waiting, want none", len(h.index), h.waker.Waiting())
		}
	})
}

// TestWhoWakesSaysNothingOfBodies: neither programs nor the log.
func TestWhoWakesSaysNothingOfBodies(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.be(idle)
		h.home.Config.Wake = maildir.WakeConfig{"nova": "true"}
		h.answer = func(waker.Program) error { return errors.New("exit code 1") }
		h.message("nova", 1)
		time.Sleep(time.Hour)
		h.stop()
		if len(h.ran) == 0 || !strings.Contains(h.log.String(), "agent=nova") {
			t.Fatalf("got %d programs, log %q, want some of both", len(h.ran), h.log.String())
		}
		if got := fmt.Sprint(h.ran, h.index, h.log.String()); strings.Contains(got, secret) {
			t.Errorf("got %s, want nothing of what was written", got)
		}
	})
}

// TestWhenSomebodyElseGoes, who was reached until now is woken.
func TestWhenSomebodyElseGoes(t *testing.T) {
	t.Setenv("PATH", fakeCodex(t))
	in(t, func(t *testing.T, h *host) {
		h.be(attends, bare)
		time.Sleep(2 * waker.WhileBusy)
		h.message("nova", 1)
		time.Sleep(time.Minute)
		h.wantRan()
		synctest.Wait()
		if !slices.Equal(h.changed, []string{"nova"}) {
			t.Errorf("told of %q, want nova once", h.changed)
		}
		h.be(idle) // still push
		time.Sleep(2 * waker.WhileBusy)
		h.wantRan("nova 1 codex t1")
		h.be(claude)
		time.Sleep(2 * waker.WhileBusy)
		h.be()
		time.Sleep(2 * waker.WhileBusy)
		synctest.Wait()
		if !slices.Equal(h.changed, []string{"nova", "nova", "nova"}) {
			t.Errorf("told of %q, want nova for push, turn-end, none", h.changed)
		}
	})
}

// TestWhatASessionHasTaken is left to it, until it is gone.
func TestWhatASessionHasTaken(t *testing.T) {
	in(t, func(t *testing.T, h *host) {
		h.home.Config.Wake = maildir.WakeConfig{"nova": "true"}
		other := session.Holder{Key: session.Key{Client: "claude-code", ID: "s1"}, Process: session.Self()}
		book := session.OpenBook(h.home, "nova")
		one := mailbox.ItemOf(talk, 1, 1).Name
		if _, err := book.Take(other, []string{one}); err != nil {
			t.Fatal(err)
		}
		h.be(claude)
		time.Sleep(2 * waker.WhileBusy)
		h.file("nova", talk, 1, envelope.Envelope{From: h.home.Address("Sage")}, "Sage")
		time.Sleep(time.Minute)
		h.wantRan()
		if err := book.Leave(other); err != nil {
			t.Fatal(err)
		}
		h.be()
		time.Sleep(2 * waker.WhileBusy)
		h.wantRan("nova 1 sh")
	})
}

const talk = "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3"

package hook_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/cmd/duo/internal/hook"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/session"
)

// waiter is a hook that waits to wake a session.
type waiter struct {
	scene *scene
	out   bytes.Buffer
	err   bytes.Buffer
	ended chan int
	looks chan struct{} // it has looked, and waits
}

func (s *scene) waiter(id string) *waiter {
	s.t.Helper()
	w := &waiter{scene: s, ended: make(chan int, 1), looks: make(chan struct{})}
	ctx, cancel := context.WithCancel(s.t.Context())
	h := s.host(input(id), &w.out, &w.err)
	h.Pause = func(ctx context.Context, _ time.Duration) {
		select {
		case <-ctx.Done():
		case w.looks <- struct{}{}:
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.ended <- hook.Run(ctx, h, "claude", "wake")
	}()
	s.t.Cleanup(func() { cancel(); <-done })
	w.look()
	return w
}

const patience = 30 * time.Second

// look lets it look once more, to the end, or reports that it has ended.
func (w *waiter) look() (ended bool, exit int) {
	w.scene.t.Helper()
	for range 2 { // the first may be of the look before
		select {
		case <-w.looks:
		case exit := <-w.ended:
			return true, exit
		case <-time.After(patience):
			w.scene.t.Fatal("the waiter neither looks nor ends")
		}
	}
	return false, 0
}

func (w *waiter) wantWaiting(what string) {
	w.scene.t.Helper()
	if ended, exit := w.look(); ended {
		w.scene.t.Fatalf("%s: it ended with %d and %q, want it waiting", what, exit, &w.err)
	}
}

// wantWoken wants that it wakes the session, with some parts in what it says.
func (w *waiter) wantWoken(what string, parts ...string) {
	w.scene.t.Helper()
	for {
		ended, exit := w.look()
		if !ended {
			continue // look fails when nothing comes of it, and the clock of the test goes on
		}
		if exit != 2 || w.out.Len() > 0 {
			w.scene.t.Errorf("%s: got %d and %q on standard output, want 2 and nothing", what, exit, &w.out)
		}
		for _, part := range parts {
			unwanted, not := strings.CutPrefix(part, "!")
			if not && strings.Contains(w.err.String(), unwanted) || !not && !strings.Contains(w.err.String(), part) {
				w.scene.t.Errorf("%s: got %q, want %q", what, &w.err, part)
			}
		}
		return
	}
}

func (w *waiter) wantEnded(what string) {
	w.scene.t.Helper()
	if ended, exit := w.look(); !ended || exit != 0 || w.err.Len() > 0 {
		w.scene.t.Errorf("%s: got ended %v, %d and %q, want it ended with 0 and nothing", what, ended, exit, &w.err)
	}
}

// TestWake plays the life of an idle session.
func TestWake(t *testing.T) {
	s := newScene(t)
	s.allow("Nova@nyc")
	direct := s.converse(1, "", "Nova@nyc")
	group := s.converse(2, "all", "Nova@nyc", "Sage@nyc")
	s.tells("a", "session-start")
	s.tells("a", "prompt")
	w := s.waiter("a")
	name := s.say(direct, "Nova@nyc", "hello")
	w.wantWaiting("while the turn goes on")
	if b := s.binding("a"); !b.Waits() {
		t.Error("nobody waits for the session, want that it is seen")
	}
	wantTold(t, "the end of the turn", s.tells("a", "stop"), "| hello")
	s.wantUnseen(name)
	wantSilence(t, "the end of what followed", s.tells("a", "stop", `"stop_hook_active":true`))
	s.wantUnseen()
	w.wantWaiting("nothing is new")

	s.say(group, "Nova@nyc", "Is anybody here? Ask @Atlasian, @Atlas@lon or ann@atlas.example.")
	w.wantWaiting("a message to all")
	s.deliver(direct, envelope.Envelope{Type: envelope.Leave, From: address("Nova@nyc")})
	w.wantWaiting("somebody has left")
	s.deliver(group, envelope.Envelope{From: address("Sage@nyc"), Content: "secret: @atlas, please"})
	w.wantWoken("a mention", "1 new item for Atlas.\nc0002.3 message from Sage", "!secret", "!c0002.2")
	if b := s.binding("a"); b.Waits() || b.State != session.Working {
		t.Errorf("woken: got %+v, want it working and nobody waiting", b)
	}
	wantTold(t, "woken, it is told of the others", s.tells("a", "prompt"), "c0002.2", "c0001.3", "!c0002.3")
}

// TestWakesForThem: calls, what is between two, and what names the agent.
func TestWakesForThem(t *testing.T) {
	for name, arrive := range map[string]func(s *scene){
		"a call":            func(s *scene) { s.call(1, "Nova@nyc", "now", "ringing") },
		"a call that waits": func(s *scene) { s.call(1, "Nova@nyc", "now", "queued") },
		"an accept": func(s *scene) {
			s.ring(1, envelope.Envelope{Type: envelope.Accept, From: address("Nova@nyc"), Status: "accepted"})
		},
		"a direct message": func(s *scene) { s.say(s.converse(1, "", "Nova@nyc"), "Nova@nyc", "hello") },
		"a mention with a host": func(s *scene) {
			s.say(s.converse(1, "", "Nova@nyc", "Sage@nyc"), "Nova@nyc", "Well,@ATLAS@nyc?")
		},
		"a recipient among several": func(s *scene) {
			s.deliver(s.converse(1, "", "Nova@nyc", "Sage@nyc"), envelope.Envelope{From: address("Nova@nyc"), To: []string{"atlas"}, Content: "x"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.tells("a", "session-start")
			w := s.waiter("a")
			arrive(s)
			w.wantWoken(name, "1 new item for Atlas.")
		})
	}
}

// TestWakesNowAndThen: an agent is woken once in 30 s, whichever of its sessions.
func TestWakesNowAndThen(t *testing.T) {
	s := newScene(t)
	c := s.converse(1, "", "Nova@nyc")
	s.tells("a", "session-start")
	s.tells("b", "session-start")
	one := s.waiter("a")
	s.say(c, "Nova@nyc", "one")
	one.wantWoken("the first", "c0001.2")
	other := s.waiter("b")
	s.say(c, "Nova@nyc", "two")
	other.wantWaiting("too soon")
	s.later(29 * time.Second)
	other.wantWaiting("29 s later")
	s.later(time.Second)
	other.wantWoken("30 s later", "c0001.3", "!c0001.2")
}

// TestOneWaiter: a later one takes the place of the one before.
func TestOneWaiter(t *testing.T) {
	s := newScene(t)
	s.tells("a", "session-start")
	other, _ := child(t)
	w := s.waiter("a")
	must(t, session.Update(s.home, session.Key{Client: session.Claude, ID: "a"}, func(b *session.Binding) error {
		b.Waiter = other
		return nil
	}))
	w.wantEnded("another one waits")
}

// TestAWaiterEnds with what it waits for.
func TestAWaiterEnds(t *testing.T) {
	t.Run("session", func(t *testing.T) {
		s := newScene(t)
		s.tells("a", "session-start")
		w := s.waiter("a")
		s.tells("a", "session-end")
		w.wantEnded("the session")
	})
	t.Run("home", func(t *testing.T) {
		s := newScene(t)
		s.tells("a", "session-start")
		w := s.waiter("a")
		must(t, os.Rename(s.home.Dir, s.home.Dir+".gone")) // at once: the waiter writes there
		w.wantEnded("the home")
	})
	t.Run("time", func(t *testing.T) {
		s := newScene(t)
		s.tells("a", "session-start")
		w := s.waiter("a")
		s.later(24 * time.Hour)
		w.wantEnded("the time")
	})
	t.Run("unbound", func(t *testing.T) {
		s := newScene(t)
		var out bytes.Buffer
		if exit := hook.Run(t.Context(), s.host(input("a"), &out, io.Discard), "claude", "wake"); exit != 0 || out.Len() > 0 {
			t.Errorf("got %d and %q, want 0 and nothing", exit, &out)
		}
	})
}

// TestSigns: while it waits, the agent is there.
func TestSigns(t *testing.T) {
	s := newScene(t)
	s.tells("a", "session-start")
	w := s.waiter("a")
	w.wantWaiting("a moment")
	s.later(time.Minute)
	w.wantWaiting("later")
	w.scene.tells("a", "session-end")
	w.wantEnded("the session")
	if n := s.signs(); n != 2 {
		t.Errorf("got %d signs of life, want 2", n)
	}
}

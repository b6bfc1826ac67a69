package deliver_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/deliver"
)

// TestAStreamTakes: what a stream confirms gets no file while the stream lives.
func TestAStreamTakes(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Nova", "Atlas")
	p.settle()
	s := p.attach("Atlas", deliver.Filter{})
	defer s.Close()
	if !p.Listening("atlas") || p.Streams() != 1 || p.Listening("Nova") {
		t.Errorf("got listening %v, %d streams, Nova %v, want true, 1, false", p.Listening("atlas"), p.Streams(), p.Listening("Nova"))
	}
	p.carries("what was not shown", s, id, 1)
	seq := p.say(id, "Nova", "hi")
	p.carries("a new message", s, id, seq)
	p.settle()
	p.states("carried, not confirmed", id, seq, "Atlas stored")
	confirm(t, s, id, seq, "delivered")
	p.states("confirmed", id, seq, "Atlas delivered")
	p.waits("confirmed is not shown", "Atlas", id, 1, seq)
	confirm(t, s, id, seq, "seen")
	confirm(t, s, id, seq, "delivered") // late: it does not go back
	p.states("shown", id, seq, "Atlas seen")
	p.files("only the create, of before the stream", "Atlas", id, []int64{1}, none)
	confirm(t, s, id, 1, "seen")
	p.files("shown by the stream", "Atlas", id, none, []int64{1})
	p.idle("at the end", s)
}

// TestAStreamEnds: what it did not show goes to the inbox.
func TestAStreamEnds(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Atlas", "Nova")
	p.settle()
	s := p.attach("Atlas", deliver.Filter{})
	for range 3 {
		p.say(id, "Nova", "hi")
	}
	p.carries("three", s, id, 2, 3, 4)
	p.settle()
	confirm(t, s, id, 3, "seen")
	confirm(t, s, id, 4, "delivered")
	p.files("while it lives", "Atlas", id, none, none)
	s.Close()
	p.files("after it", "Atlas", id, []int64{2, 4}, none)
	p.states("after it", id, 2, "Atlas delivered")
	p.states("after it", id, 3, "Atlas seen")
	s.Close()
	if p.Streams() != 0 || p.Listening("Atlas") {
		t.Errorf("got %d streams, want none", p.Streams())
	}
}

// TestASlowStream: what is not confirmed in time goes to the inbox, and the stream may
// still confirm it.
func TestASlowStream(t *testing.T) {
	p := newPost(t, "Atlas", "Nova")
	id := p.create("a", "Atlas", "Nova")
	s := p.attach("Atlas", deliver.Filter{})
	defer s.Close()
	p.run()
	p.say(id, "Nova", "slow")
	p.say(id, "Nova", "confirmed")
	p.carries("both", s, id, 2, 3)
	p.settle()
	confirm(t, s, id, 3, "delivered")
	p.clock.pass(deliver.ConfirmWithin)
	p.Expire(context.Background())
	p.files("just in time", "Atlas", id, none, none)
	p.clock.pass(1)
	p.Expire(context.Background())
	p.files("too late", "Atlas", id, []int64{2}, none)
	p.states("too late", id, 2, "Atlas delivered")
	confirm(t, s, id, 2, "delivered")
	p.files("confirmed later", "Atlas", id, []int64{2}, none)
	confirm(t, s, id, 2, "seen")
	p.files("shown later", "Atlas", id, none, []int64{2})
}

// TestRunExpires: it is Run that looks for slow streams.
func TestRunExpires(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Atlas", "Nova")
	s := p.attach("Atlas", deliver.Filter{})
	defer s.Close()
	seq := p.say(id, "Nova", "slow")
	p.carries("it", s, id, seq)
	p.settle()
	p.clock.pass(2 * deliver.ConfirmWithin)
	p.until(id, seq, "Atlas delivered")
	p.files("too late", "Atlas", id, []int64{seq}, none)
}

// TestEarlyConfirm: a stream may read a line before the follower comes to it.
func TestEarlyConfirm(t *testing.T) {
	p := newPost(t, "Atlas", "Nova")
	id := p.create("a", "Atlas", "Nova")
	s := p.attach("Atlas", deliver.Filter{})
	for range 3 {
		p.say(id, "Nova", "hi")
	}
	p.carries("before the follower", s, id, 2, 3, 4)
	confirm(t, s, id, 2, "seen")
	confirm(t, s, id, 2, "delivered") // late: it does not go back
	confirm(t, s, id, 3, "delivered")
	p.states("before the follower", id, 2, "Atlas stored")
	if got := p.Shown("Atlas", id); got != 2 {
		t.Errorf("Shown before the follower: got %d, want 2", got)
	}
	p.run()
	p.settle()
	p.states("shown early", id, 2, "Atlas seen")
	p.states("confirmed early", id, 3, "Atlas delivered")
	p.states("not confirmed", id, 4, "Atlas stored")
	p.files("while the stream lives", "Atlas", id, none, none)
	s.Close()
	p.files("after it", "Atlas", id, []int64{3, 4}, none)
	if got := p.Shown("Atlas", id); got != 2 {
		t.Errorf("Shown: got %d, want 2", got)
	}
}

// TestEarlyConfirmWithoutStream: what was shown early is not put into the inbox as new
// when the stream has ended before the follower came.
func TestEarlyConfirmWithoutStream(t *testing.T) {
	p := newPost(t, "Atlas", "Nova")
	id := p.create("a", "Atlas", "Nova")
	s := p.attach("Atlas", deliver.Filter{})
	p.say(id, "Nova", "shown")
	p.say(id, "Nova", "confirmed")
	p.carries("both", s, id, 2, 3)
	confirm(t, s, id, 2, "seen")
	confirm(t, s, id, 3, "delivered")
	s.Close()
	p.run()
	p.settle()
	p.files("after the stream", "Atlas", id, []int64{3}, []int64{2})
	p.states("shown", id, 2, "Atlas seen")
}

// TestEarlyIsBounded: a client that confirms ahead of a follower that stands fills no
// memory.
func TestEarlyIsBounded(t *testing.T) {
	p := newPost(t, "Atlas", "Nova")
	id := p.create("a", "Atlas", "Nova")
	s := p.attach("Atlas", deliver.Filter{})
	defer s.Close()
	const over = 50
	var all sync.WaitGroup
	for range deliver.MaxEarly + over {
		all.Go(func() { p.offer(id, "Nova") })
	}
	all.Wait()
	for seq := range int64(deliver.MaxEarly + over) {
		confirm(t, s, id, seq+2, "seen")
	}
	if got := p.Early("Atlas", id); got != deliver.MaxEarly {
		t.Errorf("remembered: got %d, want %d", got, deliver.MaxEarly)
	}
	p.run()
	last := int64(deliver.MaxEarly + over + 1)
	daemontest.Eventually(t, func() (bool, string) {
		items, err := p.Unseen("Atlas", id)
		return err == nil && len(items) == over && p.Early("Atlas", id) == 0,
			fmt.Sprintf("got %d not shown, %v, and %d remembered, want %d and none", len(items), err, p.Early("Atlas", id), over)
	})
	p.states("the first", id, 2, "Atlas seen")
	p.states("the last", id, last, "Atlas stored") // forgotten: the stream has to confirm it again
	confirm(t, s, id, last, "seen")
	p.states("the last, confirmed again", id, last, "Atlas seen")
}

// TestTwoStreams: each carries everything, and one that confirms is enough.
func TestTwoStreams(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Atlas", "Nova")
	p.settle()
	one, two := p.attach("Atlas", deliver.Filter{}), p.attach("Atlas", deliver.Filter{})
	seq := p.say(id, "Nova", "hi")
	p.carries("the first", one, id, seq)
	p.carries("the second", two, id, seq)
	p.settle()
	confirm(t, two, id, seq, "seen")
	p.states("shown by one", id, seq, "Atlas seen")
	next := p.say(id, "Nova", "there")
	p.carries("the first", one, id, next)
	p.settle()
	one.Close()
	p.files("one is left", "Atlas", id, none, none)
	p.states("one is left", id, next, "Atlas stored")
	two.Close()
	p.files("none is left", "Atlas", id, []int64{next}, none)
}

// TestAStreamOfOneConversation: mail of others goes to the inbox.
func TestAStreamOfOneConversation(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id, other := p.create("a", "Atlas", "Nova"), p.create("b", "Atlas", "Nova")
	p.settle()
	s := p.attach("Atlas", deliver.Filter{Conversations: []string{id}})
	defer s.Close()
	p.say(other, "Nova", "not for the stream")
	seq := p.say(id, "Nova", "for the stream")
	p.carries("its conversation", s, id, seq)
	p.idle("and nothing else", s)
	p.files("the other one", "Atlas", other, []int64{2}, none)
	p.files("its own", "Atlas", id, none, none)
}

// TestWhereAStreamBegins: with what was not shown, or where the client says.
func TestWhereAStreamBegins(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Atlas", "Nova")
	for range 4 { // lines 2 to 5
		p.say(id, "Nova", "hi")
	}
	own := p.say(id, "Atlas", "mine") // 6
	p.settle()
	for _, seq := range []int64{2, 4} {
		if err := p.Seen("Atlas", id, seq); err != nil {
			t.Fatal(err)
		}
	}
	begins := func(what string, filter deliver.Filter, want ...int64) {
		t.Helper()
		s := p.attach("Atlas", filter)
		defer s.Close()
		p.carries(what, s, id, want...)
		p.idle(what, s)
	}
	begins("what was not shown", deliver.Filter{}, 3, 5)
	begins("behind a line", deliver.Filter{After: map[string]int64{id: 3}}, 4, 5)
	begins("from the start", deliver.Filter{After: map[string]int64{id: 0}}, 2, 3, 4, 5)
	begins("from the start, with its own lines", deliver.Filter{After: map[string]int64{id: 0}, Own: true}, 1, 2, 3, 4, 5, own)
	begins("behind the end", deliver.Filter{After: map[string]int64{id: 99}})
	begins("of one conversation", deliver.Filter{Conversations: []string{id}}, 3, 5)
	begins("of another conversation", deliver.Filter{Conversations: []string{"7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3"}})
	p.files("and nothing has changed", "Atlas", id, []int64{3, 5}, []int64{2, 4})
}

// TestAStreamOfAnOutsider: who is not in a conversation sees it only by name.
func TestAStreamOfAnOutsider(t *testing.T) {
	p := newPost(t, "Atlas", "Nova", "Sage").run()
	id := p.create("a", "Atlas", "Nova")
	p.settle()
	s := p.attach("Sage", deliver.Filter{After: map[string]int64{id: 0}, Conversations: []string{id}})
	defer s.Close()
	p.carries("by name", s, id, 1)
	everything := p.attach("Sage", deliver.Filter{})
	defer everything.Close()
	p.say(id, "Nova", "hi")
	p.idle("all of its own", everything)
}

// TestAStreamOfOneWhoComesAndGoes: it carries what its agent was there for.
func TestAStreamOfOneWhoComesAndGoes(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Atlas")
	p.settle()
	s := p.attach("Nova", deliver.Filter{})
	defer s.Close()
	p.say(id, "Atlas", "before") // 2
	p.join(id, "Nova")
	p.say(id, "Atlas", "with") // 4
	p.carries("while it is in", s, id, 4)
	p.leave(id, "Nova")           // 5
	p.say(id, "Atlas", "without") // 6
	p.idle("while it is out", s)
	p.join(id, "Nova")         // 7
	p.say(id, "Atlas", "with") // 8
	p.carries("back", s, id, 8)
	p.idle("at the end", s)
}

// TestNothingFallsBetween: a line that is in its log but not delivered yet when a
// stream begins is carried by it.
func TestNothingFallsBetween(t *testing.T) {
	for name, filter := range map[string]func(id string) deliver.Filter{
		"everything":       func(string) deliver.Filter { return deliver.Filter{} },
		"one conversation": func(id string) deliver.Filter { return deliver.Filter{Conversations: []string{id}} },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPost(t, "Atlas", "Nova")
			id := p.create("a", "Atlas", "Nova")
			seq := p.say(id, "Nova", "just now")
			elsewhere := p.create("b", "Nova")
			p.say(elsewhere, "Nova", "not for Atlas")
			s := p.attach("Atlas", filter(id))
			defer s.Close()
			p.run()
			p.carries("just before it began", s, id, seq)
			p.idle("and nothing else", s)
			p.files("it is the stream's", "Atlas", id, none, none)
		})
	}
}

// TestStreamsComeAndGo: whatever the moment at which streams begin and end, every
// message is carried by the stream of that time or waits in the inbox.
func TestStreamsComeAndGo(t *testing.T) {
	const lines = 300
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Atlas", "Nova")
	last := int64(lines + 1)
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() {
		for range lines {
			p.offer(id, "Nova")
		}
	})
	shown := make(map[int64]bool)
	ctx, cancel := context.WithTimeout(context.Background(), daemontest.Patience)
	defer cancel()
	for round := 0; len(shown) < lines && ctx.Err() == nil; round++ {
		s := p.attach("Atlas", deliver.Filter{})
		line, err := s.Next(ctx)
		for more, ok := round%5, true; err == nil && ok; more-- {
			if shown[line.Envelope.Seq] {
				t.Errorf("line %d: got it after it was shown", line.Envelope.Seq)
			}
			if round%3 > 0 { // sometimes it hangs up without a word
				shown[line.Envelope.Seq] = true
				confirm(t, s, id, line.Envelope.Seq, "seen")
			}
			if ok = more > 0; ok {
				line, ok, err = s.TryNext(ctx)
			}
		}
		s.Close()
		if err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
	if len(shown) != lines {
		t.Fatalf("shown: got %d lines, want %d", len(shown), lines)
	}
	p.settle()
	p.states("the last", id, last, "Atlas seen")
	p.waits("at the end", "Atlas", id)
	if unseen, err := p.box("Atlas").Unseen(); err != nil || len(unseen) != 0 {
		t.Errorf("files in new: got %v, %v, want none", unseen, err)
	}
}

// TestALongStream: a stream reads in batches and gives other conversations their turn.
func TestALongStream(t *testing.T) {
	const lines = 200
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Atlas", "Nova")
	for range lines {
		p.say(id, "Nova", "hi")
	}
	p.settle()
	s := p.attach("Atlas", deliver.Filter{})
	defer s.Close()
	p.carries("all of them", s, id, seqs(2, lines+1)...)
	p.idle("at the end", s)
}

// TestNextEnds with its context.
func TestNextEnds(t *testing.T) {
	p := newPost(t, "Atlas").run()
	s := p.attach("Atlas", deliver.Filter{})
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if line, err := s.Next(ctx); err == nil {
		t.Errorf("Next: got line %+v, want the end of the context", line)
	}
}

// TestStreamsAtTheEnd: what they still hold when the daemon stops is for the next
// start.
func TestStreamsAtTheEnd(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Atlas", "Nova")
	s := p.attach("Atlas", deliver.Filter{})
	for range 2 {
		p.say(id, "Nova", "hi")
	}
	p.carries("both", s, id, 2, 3)
	p.settle()
	confirm(t, s, id, 2, "seen")
	p.Ending()
	s.Close()
	p.files("at the end", "Atlas", id, none, none)
	p.halt()
	p.recover(id)
	p.run()
	p.settle()
	p.files("after the next start", "Atlas", id, []int64{3}, none)
	p.states("after the next start", id, 2, "Atlas seen")
}

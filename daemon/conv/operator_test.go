package conv_test

import (
	"slices"
	"testing"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/envelope"
)

var human = address("human")

// byRight is a line that is said by right of the operator.
func byRight(e *envelope.Envelope) *envelope.Envelope {
	e.Operator = true
	return e
}

func standingOf(who envelope.Address) *envelope.Envelope {
	e := byRight(event(envelope.EventStanding, human, who))
	e.Status = "muted"
	return e
}

// TestOperatorMay is the table of what is said by right of the operator against every
// kind of conversation.
func TestOperatorMay(t *testing.T) {
	far := envelope.Address{Name: "human", Host: "lon"}
	for _, test := range []struct {
		name string
		line *envelope.Envelope
		open conv.Kind // in those that are not closed; in the others it is always refused
	}{
		{"join", byRight(join(human)), 0},
		{"join of somebody who is in", byRight(join(atlas)), conv.AlreadyIn},
		{"close", byRight(closing(human)), 0},
		{"standing", standingOf(nova), 0},
		{"standing without the right", event(envelope.EventStanding, atlas, nova), conv.NotOperator},
		{"message", byRight(message(human)), conv.NotOperator},
		{"leave", byRight(leave(human)), conv.NotOperator},
		{"invite", byRight(invite(human, sage)), conv.NotOperator},
		{"join of another host", byRight(join(far)), conv.NotOperator},
		{"close of another host", byRight(closing(far)), conv.NotOperator},
	} {
		for _, s := range states {
			want := test.open
			if s.state.Closed && want == 0 {
				want = conv.Closed
			}
			if test.open == conv.AlreadyIn && !s.state.Has(atlas) {
				want = 0
			}
			if got := kind(s.state.Check(test.line, limits)); got != want {
				t.Errorf("%s, %s: got %s, want %s", test.name, s.name, kindName(got), kindName(want))
			}
		}
	}
}

// TestOperatorDoesNotCount: who is in by right of the operator is heard, but it is not one
// of those whose conversation it is, until somebody wants it there.
func TestOperatorDoesNotCount(t *testing.T) {
	s := fold(create(nil, nova), byRight(join(human)))
	wantPeople := func(what string, s conv.State, present, parties int) {
		t.Helper()
		if p, q := len(s.Present()), len(s.Parties()); p != present || q != parties {
			t.Errorf("%s: got %d who are in, of whom %d count, want %d and %d", what, p, q, present, parties)
		}
	}
	wantPeople("it has come in", s, 3, 2)
	if err := s.Check(message(human), limits); err != nil {
		t.Errorf("it says something: got %v, want it taken", err)
	}
	invited := s.Apply(at(s, invite(atlas, human)))
	wantPeople("nobody is invited who is in", invited, 3, 3)
	left := s.Apply(at(s, leave(human)))
	wantPeople("it has left", left, 2, 2)
	back := left.Apply(at(left, byRight(join(human))))
	wantPeople("it is back", back, 3, 2)
	wantPeople("it was invited, has left and is invited", fold(create(nil, nova, human), leave(human), invite(atlas, human)), 3, 3)
	wantPeople("it was invited and comes back by right", fold(create(nil, nova, human), leave(human), byRight(join(human))), 3, 2)
	if m, _ := back.Member(human); !slices.Equal(m.Earlier, []conv.Stay{{Joined: 2, Left: 3}}) {
		t.Errorf("its stays: got %v, want lines 2 to 3 before", m.Earlier)
	}
	alone := fold(create(nil, nova), byRight(join(human)), leave(nova))
	last := closing(atlas)
	last.Auto = true
	if err := alone.Check(last, limits); err != nil {
		t.Errorf("the call is over when the others have left: got %v", err)
	}
}

// at is a line as it stands behind a state.
func at(s conv.State, e *envelope.Envelope) *envelope.Envelope {
	e.Seq, e.Timestamp = s.LastSeq+1, s.LastTime
	return e
}

// TestStandingChangesNothing: what an agent may do on a host is no matter of the
// conversation.
func TestStandingChangesNothing(t *testing.T) {
	for _, s := range states {
		after := s.state.Apply(at(s.state, standingOf(nova)))
		after.LastSeq, after.LastTime = s.state.LastSeq, s.state.LastTime
		if got, want := text(t, after), text(t, s.state); got != want {
			t.Errorf("%s: got %s, want %s", s.name, got, want)
		}
	}
}

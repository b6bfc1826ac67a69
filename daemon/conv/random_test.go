package conv_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// names hold two spellings of each agent.
var names = []string{"Atlas", "nova", "Nova", "Sage", "SAGE", "Rune", "atlas"}

func drawAddress(t *rapid.T) envelope.Address {
	return address(rapid.SampledFrom(names).Draw(t, "agent"))
}

func drawLine(t *rapid.T) *envelope.Envelope {
	from := drawAddress(t)
	if rapid.IntRange(0, 5).Draw(t, "operator") == 0 {
		return byRight(rapid.SampledFrom([]*envelope.Envelope{join(human), closing(human), standingOf(from)}).Draw(t, "its doing"))
	}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0, 1, 2, 3:
		return message(from)
	case 4, 5:
		return join(from)
	case 6:
		return leave(from)
	case 7, 8:
		return invite(from, rapid.SliceOfN(rapid.Custom(drawAddress), 0, 3).Draw(t, "invited")...)
	}
	return closing(from)
}

// TestRandomConversations puts random lines through Check and, where it lets them
// pass, through Apply, and looks whether the rules hold after each.
func TestRandomConversations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := create(func(e *envelope.Envelope) {
			e.Open = rapid.Bool().Draw(t, "open")
			e.TurnLimit = rapid.Int64Range(0, 4).Draw(t, "turn limit")
		}, address("Nova"))
		log := []*envelope.Envelope{first}
		states := []conv.State{fold(first)}
		written := []string{text(t, states[0])} // the states as they were when they were new
		for range rapid.IntRange(0, 30).Draw(t, "lines") {
			before, e := states[len(states)-1], drawLine(t)
			if before.Check(e, limits) != nil {
				continue
			}
			e.Seq, e.Timestamp = int64(len(log)+1), int64(1000+len(log))
			after := before.Apply(e)
			checkRules(t, before, e, after)
			log = append(log, e)
			states = append(states, after)
			written = append(written, text(t, after))
		}
		for i, s := range states {
			if got := text(t, s); got != written[i] {
				t.Fatalf("state after line %d: got %s later, want it unchanged %s", i+1, got, written[i])
			}
			checkPresence(t, states, int64(i+1))
		}
		if diff := cmp.Diff(states[len(states)-1], fold(log...)); diff != "" {
			t.Fatalf("fold from scratch against one line after the other:\n%s", diff)
		}
		checkJSON(t, states[len(states)-1])
	})
}

// checkRules looks at one line that Check let pass.
func checkRules(t *rapid.T, before conv.State, e *envelope.Envelope, after conv.State) {
	seen := make(map[string]bool)
	for _, m := range after.Members {
		if seen[m.Address.Key()] {
			t.Fatalf("members: got %s twice in %v", m.Address, after.Members)
		}
		seen[m.Address.Key()] = true
	}
	if n := len(after.Parties()); n > limits.Members {
		t.Fatalf("present: got %d, want at most %d", n, limits.Members)
	}
	if after.TurnLimit > 0 && after.Turns > after.TurnLimit {
		t.Fatalf("turns: got %d, want at most %d", after.Turns, after.TurnLimit)
	}
	if before.Closed && e.Type != envelope.Leave {
		t.Fatalf("after the close: got %s %s, want leave only", e.Type, e.Event)
	}
	if e.Type != envelope.Join && !before.Has(e.From) && !e.Operator {
		t.Fatalf("%s of %s: got it through, want only who is in", e.Type, e.From)
	}
	if after.LastSeq != e.Seq || after.LastTime != e.Timestamp {
		t.Fatalf("last: got line %d at %d, want line %d at %d", after.LastSeq, after.LastTime, e.Seq, e.Timestamp)
	}
}

// checkPresence looks whether the last state still tells who was in at a line. Who
// leaves is in until its last line.
func checkPresence(t *rapid.T, states []conv.State, seq int64) {
	last, then := states[len(states)-1], states[seq-1]
	for _, m := range last.Members {
		was := then.Has(m.Address)
		if old, ok := then.Member(m.Address); ok && old.Left == seq {
			was = true
		}
		if m.At(seq) != was {
			t.Fatalf("%s at line %d: got %v, want %v", m.Address, seq, m.At(seq), was)
		}
		if m.First() > seq && m.At(seq) {
			t.Fatalf("%s at line %d: got in, want it to come with line %d", m.Address, seq, m.First())
		}
	}
}

func checkJSON(t *rapid.T, s conv.State) {
	var back conv.State
	if err := json.Unmarshal([]byte(text(t, s)), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, back); diff != "" {
		t.Fatalf("state through JSON (-want +got):\n%s", diff)
	}
}

func text(t rapid.TB, s conv.State) string {
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestStatesDoNotShareMembers: two lines applied to the same state do not meet.
func TestStatesDoNotShareMembers(t *testing.T) {
	base := fold(create(opened, nova), leave(nova))
	base.Members = slices.Grow(base.Members, 8)
	one := base.Apply(&envelope.Envelope{Seq: 3, Type: envelope.Join, From: sage})
	two := base.Apply(&envelope.Envelope{Seq: 3, Type: envelope.Join, From: nova})
	if one.Has(nova) || two.Has(sage) || base.Has(nova) || base.Has(sage) {
		t.Errorf("got %v, %v and %v, want Sage in the first, Nova in the second, neither in the last", one.Members, two.Members, base.Members)
	}
}

package switchboard_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"pgregory.net/rapid"
)

// step is one thing that happens in a random play.
type step struct {
	what  string
	who   string
	whom  []string
	which int // of the calls, the newest first
}

var moves = []string{
	"come", "come", "come", "live", "lose", "busy", "call", "call", "call", "call", "accept", "accept", "accept", "reject",
	"reject as busy", "cancel", "leave", "say", "wait for the ring time", "wait for the grace", "restart",
}

func drawStep(t *rapid.T) step {
	who := rapid.SampledFrom(players).Draw(t, "who")
	others := slices.DeleteFunc(slices.Clone(players), func(name string) bool { return name == who })
	whom := rapid.SampledFrom([][]string{others[:1], others[1:2], others[:2], others}).Draw(t, "whom")
	return step{rapid.SampledFrom(moves).Draw(t, "what"), who, whom, rapid.IntRange(0, 3).Draw(t, "which")}
}

var players = []string{"Atlas", "Nova", "Sage", "Echo"}

// TestRandomCalls lets agents call, answer, come and go at random, and looks whether what
// they were told, the records, the conversations and the presence fit each other.
func TestRandomCalls(t *testing.T) {
	fewChecks(t)
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.Custom(drawStep), 1, 25).Draw(rt, "plan")
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		notes, err := index.OpenMemory()
		if err != nil {
			rt.Fatal(err)
		}
		defer notes.Close() //nolint:errcheck // it is in memory
		problem := ""
		synctest.Test(t, func(t *testing.T) {
			x, err := newExchange(filepath.Join(dir, "home"), notes, func(*maildir.Config) {}, players)
			if err != nil {
				problem = err.Error()
				return
			}
			defer x.halt()
			problem = x.play(t, plan)
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

// fewChecks makes rapid check less than it does by itself, where nobody has said how much:
// each check has a home on the disk.
func fewChecks(t *testing.T) {
	t.Helper()
	checks := flag.Lookup("rapid.checks")
	if checks.Value.String() != checks.DefValue {
		return
	}
	if err := checks.Value.Set("12"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = checks.Value.Set(checks.DefValue) })
}

// play plays a plan and says what is wrong after it.
func (x *exchange) play(t *testing.T, plan []step) string {
	before := make(map[string]call.Request)
	streams := make(map[string]func())
	for _, s := range plan {
		x.step(t, s, streams)
		for _, check := range []func(*testing.T) []string{x.checkTold, x.checkPresence, func(t *testing.T) []string { return x.checkRecords(t, before) }} {
			if wrong := check(t); len(wrong) > 0 {
				return fmt.Sprintf("after %+v: %s", s, strings.Join(wrong, "\n"))
			}
		}
	}
	for _, end := range streams {
		end()
	}
	for range 3 {
		pass(idle)
	}
	if n := x.board.Calls(); n > 0 {
		return fmt.Sprintf("%d calls do not end", n)
	}
	return strings.Join(append(append(x.checkTold(t), x.checkPresence(t)...), x.checkRecords(t, before)...), "\n")
}

// step does one thing, which may be refused.
func (x *exchange) step(t *testing.T, s step, streams map[string]func()) {
	signal := func(d *draft) {
		ids := x.known(t)
		if len(ids) == 0 {
			return
		}
		d.Request = ids[max(0, len(ids)-1-s.which)]
		_, _ = x.say(s.who, d)
	}
	switch s.what {
	case "come":
		x.come(s.who)
	case "live":
		if streams[s.who] == nil {
			streams[s.who] = x.live(s.who)
		}
	case "lose":
		if end := streams[s.who]; end != nil {
			end()
			delete(streams, s.who)
		}
	case "busy":
		_, _ = x.say(s.who, &draft{Type: envelope.Status, Status: "busy"})
	case "call":
		_, _ = x.say(s.who, &draft{Type: envelope.Call, To: s.whom, Content: "hi"})
	case "accept":
		signal(&draft{Type: envelope.Accept})
	case "reject":
		signal(&draft{Type: envelope.Reject})
	case "reject as busy":
		signal(&draft{Type: envelope.Reject, Busy: true})
	case "cancel":
		signal(&draft{Type: envelope.Cancel})
	case "leave", "say":
		for _, id := range x.conversations(t) {
			d := &draft{Conversation: id, Content: "well"}
			if s.what == "leave" {
				d = &draft{Type: envelope.Leave, Conversation: id}
			}
			_, _ = x.say(s.who, d)
		}
	case "wait for the ring time":
		pass(ring)
	case "wait for the grace":
		pass(grace)
	case "restart":
		clear(streams)
		x.restart(t)
	}
	pass(time.Millisecond)
}

// known are the ids of all requests, oldest first.
func (x *exchange) known(t *testing.T) []string {
	ids := append(x.records(t, "open"), x.records(t, "done")...)
	slices.SortFunc(ids, func(a, b string) int {
		return int(x.get(t, a).CreatedAt - x.get(t, b).CreatedAt)
	})
	return ids
}

// checkTold checks that everybody was told once of each call, what has come of it.
func (x *exchange) checkTold(t *testing.T) (wrong []string) {
	want := make(map[string][]string)
	for _, id := range x.known(t) {
		r := x.get(t, id)
		if r.Meets != "" {
			continue
		}
		for _, c := range r.Callees {
			want[c.Agent.Name] = append(want[c.Agent.Name], "call "+string(c.State))
		}
		switch s := r.State(); s {
		case call.Ringing, call.Queued:
		case call.Accepted:
			want[r.From.Name] = append(want[r.From.Name], "accept accepted")
		case call.Cancelled:
			want[r.From.Name] = append(want[r.From.Name], "cancel cancelled")
		default:
			want[r.From.Name] = append(want[r.From.Name], "reject "+string(s))
		}
	}
	for _, name := range players {
		got, err := x.signals(name)
		if err != nil {
			wrong = append(wrong, err.Error())
		}
		for i, told := range got {
			words := strings.Fields(strings.TrimSuffix(told, ": the call is over"))
			got[i] = strings.Join(words[1:], " ")
		}
		slices.Sort(got)
		slices.Sort(want[name])
		if !slices.Equal(got, want[name]) {
			wrong = append(wrong, fmt.Sprintf("%s was told %q, want %q", name, got, want[name]))
		}
	}
	return wrong
}

// checkPresence checks who is in a call, and who is there and called.
func (x *exchange) checkPresence(t *testing.T) (wrong []string) {
	inCall, ringing := make(map[string]bool), make(map[string]bool)
	for _, id := range x.known(t) {
		r := x.get(t, id)
		for _, c := range r.Callees {
			if c.State == call.Ringing && !r.Over {
				ringing[c.Agent.Name] = true
			}
		}
		if r.Conversation == "" || r.Mode != "live" {
			continue
		}
		state, err := x.ledger.State(t.Context(), r.Conversation)
		if err != nil {
			wrong = append(wrong, err.Error())
		}
		for _, a := range state.Present() {
			inCall[a.Name] = inCall[a.Name] || !state.Closed
		}
	}
	for _, name := range players {
		got := string(x.presence.Of(name).State)
		switch {
		case (got == "in-call") != inCall[name]:
			wrong = append(wrong, fmt.Sprintf("%s is %s, in a call %v", name, got, inCall[name]))
		case got == "ringing" && !ringing[name], (got == "available" || got == "busy") && ringing[name]:
			wrong = append(wrong, fmt.Sprintf("%s is %s, called %v", name, got, ringing[name]))
		}
	}
	return wrong
}

// checkRecords checks that nothing was taken back, that who has accepted is in the one
// conversation of the call, and that a request stays open as long as something can come
// of it.
func (x *exchange) checkRecords(t *testing.T, before map[string]call.Request) (wrong []string) {
	problem := func(r call.Request, text string) { wrong = append(wrong, fmt.Sprintf("%s: %+v", text, r)) }
	open, talks := x.records(t, "open"), 0
	for _, id := range x.known(t) {
		r := x.get(t, id)
		for i, c := range before[id].Callees {
			if !c.State.Open() && r.Callees[i].State != c.State {
				problem(r, fmt.Sprintf("%s was %s", c.Agent, c.State))
			}
		}
		before[id] = r
		if r.Meets != "" {
			continue
		}
		if (r.State() == call.Accepted) != (r.Conversation != "") {
			problem(r, "accepted without a conversation, or the other way round")
		}
		lasts := false
		if r.Conversation != "" {
			talks++
			state, err := x.ledger.State(t.Context(), r.Conversation)
			if err != nil || state.Request != id {
				problem(r, fmt.Sprintf("its conversation is %+v, %v", state, err))
			}
			for _, c := range r.Callees {
				if _, in := state.Member(c.Agent); in != (c.State == call.Accepted) {
					problem(r, fmt.Sprintf("%s in the conversation: %v", c.Agent, in))
				}
			}
			lasts = !state.Closed && r.Mode == "live"
			if r.Over != state.Closed && (r.Over || slices.Contains(open, id)) {
				problem(r, fmt.Sprintf("the conversation is closed: %v", state.Closed))
			}
		}
		if want := r.Open() || lasts; slices.Contains(open, id) != want {
			problem(r, fmt.Sprintf("open: want %v", want))
		}
	}
	if n := len(x.conversations(t)); n != talks {
		wrong = append(wrong, fmt.Sprintf("%d conversations of %d calls", n, talks))
	}
	return wrong
}

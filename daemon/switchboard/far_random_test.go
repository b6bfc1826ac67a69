package switchboard_test

import (
	"fmt"
	"os"
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

var farPlayers = []string{"Atlas@nyc", "Sage@nyc", "Nova@lon", "Rune@lon"}

var farMoves = []string{
	"come", "come", "live", "lose", "busy", "call", "call", "call", "call", "call", "accept", "accept", "accept", "reject",
	"reject as busy", "cancel", "leave", "say", "wait for the ring time", "wait for the grace", "wait",
	"cut", "connect", "connect", "hold", "release", "nyc takes", "lon takes", "restart nyc", "restart lon", "slow", "fast",
}

func drawFarStep(t *rapid.T) step {
	who := rapid.SampledFrom(farPlayers).Draw(t, "who")
	others := slices.DeleteFunc(slices.Clone(farPlayers), func(name string) bool { return name == who })
	whom := rapid.SampledFrom([][]string{others[:1], others[1:2], others[2:], others[2:], others[1:], others}).Draw(t, "whom")
	return step{rapid.SampledFrom(farMoves).Draw(t, "what"), who, whom, rapid.IntRange(0, 3).Draw(t, "which")}
}

// TestRandomFarCalls lets agents of two hosts call and answer at random, with a link that
// breaks and is slow, and daemons that end. In the end both hosts have the same outcome,
// nobody rings, and of each call there is one conversation at most.
func TestRandomFarCalls(t *testing.T) {
	fewChecks(t)
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.Custom(drawFarStep), 1, 30).Draw(rt, "plan")
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		notes := []*index.Index{memory(t), memory(t)}
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			p, err := newPair(t, dir, notes, func(*maildir.Config) {})
			if err != nil {
				wrong = append(wrong, err.Error())
				return
			}
			defer p.halt()
			p.connect()
			wrong = p.play(plan)
		})
		if len(wrong) > 0 {
			rt.Fatal(strings.Join(wrong, "\n"))
		}
	})
}

func (p *pair) play(plan []step) []string {
	streams := make(map[string]func())
	for _, s := range plan {
		p.step(s, streams)
	}
	p.release()
	p.slow = false
	p.connect()
	p.settle()
	for _, end := range streams {
		end()
	}
	for range 3 {
		p.pass(time.Second)
		pass(idle)
		p.settle()
	}
	var wrong []string
	for _, x := range []*exchange{p.nyc, p.lon} {
		wrong = append(wrong, p.check(x)...)
	}
	return wrong
}

// step does one thing, which may be refused.
func (p *pair) step(s step, streams map[string]func()) {
	name, _, _ := strings.Cut(s.who, "@")
	x := p.at(name)
	signal := func(d *draft) {
		if ids := p.refs(x); len(ids) > 0 {
			d.Request = ids[max(0, len(ids)-1-s.which)]
			_, _ = p.say(name, d)
		}
	}
	switch s.what {
	case "live":
		if streams[name] == nil {
			streams[name] = x.live(name)
		}
	case "lose":
		if end := streams[name]; end != nil {
			end()
			delete(streams, name)
		}
	case "come":
		p.come(name)
	case "busy":
		_, _ = p.say(name, &draft{Type: envelope.Status, Status: "busy"})
	case "call":
		_, _ = p.say(name, &draft{Type: envelope.Call, To: s.whom, Content: "hi"})
	case "accept":
		signal(&draft{Type: envelope.Accept, Content: "yes"})
	case "reject":
		signal(&draft{Type: envelope.Reject})
	case "reject as busy":
		signal(&draft{Type: envelope.Reject, Busy: true})
	case "cancel":
		signal(&draft{Type: envelope.Cancel})
	case "leave", "say":
		for _, id := range x.conversations(p.t) {
			d := &draft{Conversation: id, Content: "well"}
			if s.what == "leave" {
				d = &draft{Type: envelope.Leave, Conversation: id}
			}
			_, _ = p.say(name, d)
		}
	case "wait for the ring time":
		p.pass(ring)
	case "wait for the grace":
		p.pass(grace)
	case "cut":
		p.cut()
	case "connect":
		p.connect()
	case "hold":
		p.hold()
	case "release":
		p.release()
	case "nyc takes":
		p.releaseOne(p.nyc)
	case "lon takes":
		p.releaseOne(p.lon)
	case "slow", "fast":
		p.slow = s.what == "slow"
	case "restart nyc", "restart lon":
		x := p.nyc
		if s.what == "restart lon" {
			x = p.lon
		}
		for _, name := range x.agents {
			delete(streams, name)
		}
		p.restart(x)
	}
	p.pass(time.Millisecond)
}

// refs are the ids of all requests and copies of a host, oldest first.
func (p *pair) refs(x *exchange) []string {
	ids := x.board.Refs().All()
	slices.SortFunc(ids, func(a, b string) int {
		return int(p.request(x, a).CreatedAt - p.request(x, b).CreatedAt)
	})
	return ids
}

// check says what is wrong at a host at the end.
func (p *pair) check(x *exchange) (wrong []string) {
	problem := func(r call.Request, format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("at %s: %s: %+v far %+v", x.home.Host.Name, fmt.Sprintf(format, args...), r, r.Far))
	}
	other := p.other(x)
	talks := make(map[string]string)
	for _, id := range p.refs(x) {
		r := p.request(x, id)
		if r.Rings() > 0 && !r.Over {
			problem(r, "it rings for ever")
		}
		if r.Far != nil {
			p.checkCopy(r, p.request(other, id), problem)
			continue
		}
		if r.Conversation == "" || r.Meets != "" {
			continue
		}
		if talks[r.Conversation] != "" {
			problem(r, "%s has the same conversation", talks[r.Conversation])
		}
		talks[r.Conversation] = id
		lines, err := x.log(r.Conversation)
		if err != nil {
			problem(r, "its conversation: %v", err)
		}
		for _, c := range r.Callees {
			in := slices.ContainsFunc(lines, func(text string) bool {
				return (strings.Contains(text, " create ") || strings.Contains(text, " invite ")) && strings.Contains(text, " "+c.Agent.Name)
			})
			if in != (c.State == call.Accepted) {
				problem(r, "%s in %q: %v", c.Agent, lines, in)
			}
		}
	}
	if own := p.origins(x); len(own) != len(talks) {
		wrong = append(wrong, fmt.Sprintf("at %s: %d conversations of %d calls", x.home.Host.Name, len(own), len(talks)))
	}
	if n := x.board.Calls(); n > 0 {
		wrong = append(wrong, fmt.Sprintf("at %s: %d calls do not end", x.home.Host.Name, n))
	}
	for _, name := range x.agents {
		for _, told := range x.inbox(p.t, name) {
			if strings.Contains(told, "ringing") && !strings.Contains(told, "over") {
				wrong = append(wrong, fmt.Sprintf("%s is told %q", name, told))
			}
		}
	}
	return wrong
}

// checkCopy compares a copy with the record.
func (p *pair) checkCopy(r, record call.Request, problem func(call.Request, string, ...any)) {
	if record.Meets != "" { // to which nobody has answered
		return
	}
	if len(r.Far.Answers) > 0 || len(r.Far.Words) > 0 {
		problem(r, "something was not said")
	}
	here := func(c call.Callee) bool { return c.State == call.Accepted && c.Agent.Host != r.From.Host }
	if r.Over != record.Over && record.Mode == "live" && slices.ContainsFunc(record.Callees, here) {
		problem(r, "over there: %v", record.Over)
	}
	if r.Conversation != record.Conversation {
		problem(r, "the conversation there is %q", record.Conversation)
	}
	for _, c := range record.Callees {
		if c.Agent.Host == r.From.Host {
			continue
		}
		if here, ok := r.Callee(c.Agent); !ok || here.State != c.State {
			problem(r, "%s there: %s", c.Agent, c.State)
		}
	}
}

// origins are the conversations to which a host gives their order.
func (p *pair) origins(x *exchange) (ids []string) {
	for _, id := range x.conversations(p.t) {
		if state, err := x.ledger.State(p.t.Context(), id); err == nil && state.Origin == x.home.Host.ID {
			ids = append(ids, id)
		}
	}
	return ids
}

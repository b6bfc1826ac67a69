package switchboard_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/maildir/envelope"
)

// ids are two ids of requests, in order.
func ids() []string {
	list := []string{envelope.NewID(), envelope.NewID()}
	slices.Sort(list)
	return list
}

func calling(id, to, content string) *draft {
	return &draft{ID: id, Type: envelope.Call, To: []string{to}, Content: content}
}

// talks lists the conversations of a host.
func (p *pair) talks(x *exchange) []string { return x.conversations(p.t) }

// wantOneTalk checks that two who have called each other are in one conversation, in
// which both have said what they wanted, and that nothing rings any more.
func (p *pair) wantOneTalk(what string) {
	p.t.Helper()
	nyc, lon := p.talks(p.nyc), p.talks(p.lon)
	if len(nyc) != 1 || !slices.Equal(nyc, lon) {
		p.t.Errorf("%s: conversations: got %q and %q, want the same one", what, nyc, lon)
		return
	}
	lines, err := p.nyc.log(nyc[0])
	if all := strings.Join(lines, " "); err != nil || !strings.Contains(all, "Atlas: from Atlas") || !strings.Contains(all, "Nova: from Nova") || len(lines) != 3 {
		p.t.Errorf("%s: log: got %q, %v, want what both have said", what, lines, err)
	}
	p.wantPresence(what, "Atlas in-call", "Nova in-call")
	for _, x := range []*exchange{p.nyc, p.lon} {
		for _, told := range x.inbox(p.t, x.agents[0]) {
			if strings.HasPrefix(told, "new call") || strings.Contains(told, "ringing") {
				p.t.Errorf("%s: %s is told %q of a call that it has met", what, x.agents[0], told)
			}
		}
	}
}

// TestCross: two who call each other meet in one conversation, whoever is first, and
// wherever the link breaks or a daemon ends meanwhile.
func TestCross(t *testing.T) {
	for what, between := range map[string]func(p *pair){
		"nothing happens":    func(*pair) {},
		"the link breaks":    func(p *pair) { p.cut(); p.connect() },
		"nyc restarts":       func(p *pair) { p.restart(p.nyc) },
		"lon restarts":       func(p *pair) { p.restart(p.lon) },
		"time passes":        func(p *pair) { p.pass(ring / 2) },
		"the link is slow":   func(p *pair) { p.slow = true; p.release(); p.hold(); p.pass(time.Second); p.slow = false },
		"nyc's word crosses": func(p *pair) { p.releaseOne(p.nyc) },
		"lon's word crosses": func(p *pair) { p.releaseOne(p.lon) },
	} {
		for order := range 2 {
			t.Run(fmt.Sprintf("%s, %d", what, order), func(t *testing.T) {
				linked(t, func(p *pair) {
					p.come("Atlas", "Nova")
					list := ids()
					p.hold()
					p.must("Atlas", calling(list[order], "Nova@lon", "from Atlas"))
					p.must("Nova", calling(list[1-order], "Atlas@nyc", "from Nova"))
					between(p)
					p.come("Atlas", "Nova")
					p.release()
					p.wantOneTalk(what)
					p.wantOpen(what, 1, 1) // the one that lasts
					for i, agent := range []string{"Atlas", "Nova"} {
						id := list[(order+i)%2]
						if r := p.request(p.at(agent), id); r.State() != call.Accepted {
							t.Errorf("the call of %s: got %+v, want it accepted", agent, r)
						}
						if out := p.must(agent, calling(id, []string{"Nova@lon", "Atlas@nyc"}[i], "from "+agent)); !out.Duplicate {
							t.Errorf("the call of %s again: got %+v", agent, out)
						}
					}
					talk := p.nyc.conversations(t)[0]
					p.must("Atlas", &draft{Type: envelope.Leave, Conversation: talk})
					p.pass(0)
					p.wantOpen("over", 0, 0)
				})
			})
		}
	}
}

// TestCrossingSecond: who calls somebody whose own call rings here accepts that one.
func TestCrossingSecond(t *testing.T) {
	for what, between := range map[string]func(p *pair){
		"nothing happens": func(*pair) {},
		"the link breaks": func(p *pair) { p.cut(); p.connect() },
		"nyc restarts":    func(p *pair) { p.restart(p.nyc) },
		"lon restarts":    func(p *pair) { p.restart(p.lon) },
	} {
		for order := range 2 {
			linked(t, func(p *pair) {
				p.come("Atlas", "Nova")
				list := ids()
				p.must("Atlas", calling(list[order], "Nova@lon", "from Atlas"))
				p.hold()
				out := p.must("Nova", calling(list[1-order], "Atlas@nyc", "from Nova"))
				if out.Request.ID != list[order] || out.Request.State() != call.Accepted {
					t.Errorf("%s: got %+v, want the first call accepted", what, out.Request)
				}
				if again := p.must("Nova", calling(list[1-order], "Atlas@nyc", "from Nova")); !again.Duplicate {
					t.Errorf("%s, again: got %+v", what, again)
				}
				between(p)
				p.release()
				p.wantOneTalk(what)
				p.wantOpen(what, 1, 1)
				if again := p.must("Nova", calling(list[1-order], "Atlas@nyc", "from Nova")); !again.Duplicate || again.Request.ID != list[order] {
					t.Errorf("%s, again at the end: got %+v", what, again)
				}
			})
		}
	}
}

// TestCrossingParts: the call that counts is withdrawn at the last moment, and the other
// one rings after all.
func TestCrossingParts(t *testing.T) {
	for order := range 2 {
		linked(t, func(p *pair) {
			p.come("Atlas", "Nova")
			list := ids()
			first, second := "Atlas", "Nova" // the first one's call has the smaller id
			if order == 1 {
				first, second = second, first
			}
			p.hold()
			p.must(first, calling(list[0], p.address(second), "one"))
			p.must(second, calling(list[1], p.address(first), "two"))
			p.must(first, &draft{Type: envelope.Cancel, Request: list[0]})
			p.release()
			p.want("withdrawn", list[0], "cancelled")
			p.want("withdrawn", list[1], "ringing")
			p.wantTold("the other one rings", first+" new call ringing, seen cancel cancelled")
			p.must(first, &draft{Type: envelope.Accept})
			p.want("accepted", list[1], "accepted")
			if n := len(p.talks(p.nyc)); n != 1 {
				t.Errorf("got %d conversations", n)
			}
		})
	}
}

// TestCrossingSecondParts: the same for who has called second.
func TestCrossingSecondParts(t *testing.T) {
	linked(t, func(p *pair) {
		p.come("Atlas", "Nova")
		list := ids()
		p.must("Atlas", calling(list[0], "Nova@lon", "one"))
		p.hold()
		p.must("Nova", calling(list[1], "Atlas@nyc", "two"))
		p.must("Atlas", &draft{Type: envelope.Cancel, Request: list[0]})
		p.release()
		p.want("the second one rings", list[1], "ringing", "Atlas new call ringing, seen cancel cancelled")
		p.pass(ring)
		p.want("it is missed", list[1], "missed", "Atlas new call missed, seen cancel cancelled")
		p.wantOpen("missed", 1, 1)
	})
}

// TestNobodyIsThereToMeet: calls to those who are away cross and do not meet.
func TestNobodyIsThereToMeet(t *testing.T) {
	linked(t, func(p *pair) {
		p.cut()
		list := ids()
		p.must("Atlas", calling(list[0], "Nova@lon", "one"))
		p.must("Nova", calling(list[1], "Atlas@nyc", "two"))
		p.connect()
		p.want("both wait", list[0], "queued", "Atlas new call queued", "Nova new call queued")
		p.want("both wait", list[1], "queued")
	})
}

func (p *pair) address(agent string) string { return p.at(agent).home.Address(agent).String() }

package switchboard_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
)

// liar is the end of a link that says what it wants.
type liar struct {
	t       *testing.T
	x       *exchange
	session *peer.Session
	heard   []string
	id      string
}

func (*liar) Types() []string                  { return []string{"call", "answer", "typing"} }
func (l *liar) Open(s *peer.Session) peer.Line { return l }
func (l *liar) Close()                         {}

func (l *liar) Take(f link.Frame) error {
	for _, line := range f.Lines {
		l.heard = append(l.heard, f.Type+" "+string(line))
	}
	return nil
}

// lying plays with lon's switchboard and a liar at its link, called nyc.
func lying(t *testing.T, do func(p *pair, l *liar)) {
	t.Helper()
	linked(t, func(p *pair) {
		p.come("Nova", "Rune")
		p.cut()
		do(p, p.lie())
	})
}

func (p *pair) lie() *liar {
	p.t.Helper()
	l := &liar{t: p.t, x: p.lon, id: p.nyc.home.Host.ID}
	_, session, _ := peertest.Connect(p.t, peertest.Side{ID: l.id, Name: "nyc", Services: []peer.Service{l}},
		peertest.Side{ID: p.lon.home.Host.ID, Name: "lon", Services: []peer.Service{p.lon.board.Service()}})
	l.session = session
	return l
}

func (l *liar) say(kind string, lines ...string) {
	l.t.Helper()
	f := link.Frame{Type: kind, Lane: link.Call}
	for _, line := range lines {
		f.Lines = append(f.Lines, []byte(line))
	}
	_ = l.session.Send(context.Background(), f) // the link may have ended
	synctest.Wait()
}

// ended is the goodbye that the liar was told, "" while the link is up.
func (l *liar) ended() string {
	var bye *link.Bye
	if errors.As(context.Cause(l.session.Context()), &bye) {
		return string(bye.Code)
	}
	return ""
}

// record is a request of Atlas's as nyc tells it, with something changed.
func (l *liar) record(change func(m map[string]any)) string {
	m := map[string]any{
		"id": envelope.NewID(), "from": "Atlas@nyc", "to": []string{"Nova@lon"}, "topic": "hi", "content": "hi", "createdAt": 1, "ringLeft": 30000,
		"callees": []any{map[string]any{"agent": "Nova@lon", "state": "ringing", "at": 1}},
	}
	if change != nil {
		change(m)
	}
	text, err := json.Marshal(m)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(text)
}

func callees(list ...string) []any {
	var out []any
	for _, one := range list {
		agent, state, _ := strings.Cut(one, " ")
		out = append(out, map[string]any{"agent": agent, "state": state, "at": 1})
	}
	return out
}

// TestLies: what no host says that keeps to the rules ends the link as a fault, and leaves
// nothing behind.
func TestLies(t *testing.T) {
	set := func(name string, value any) func(*liar) string {
		return func(l *liar) string { return l.record(func(m map[string]any) { m[name] = value }) }
	}
	type lie struct {
		what string
		say  func(l *liar) string
	}
	var lies []lie
	for what, say := range map[string]func(l *liar) string{
		"no JSON":                      func(*liar) string { return "hi" },
		"no id":                        set("id", ""),
		"an id with a path":            set("id", "../../x"),
		"an id in capitals":            set("id", "0199AAAA-0000-7000-8000-000000000000"),
		"a caller of another host":     set("from", "Atlas@tok"),
		"a caller of this host":        set("from", "Rune@lon"),
		"a caller of no host":          set("from", "Atlas"),
		"nobody who is called":         set("callees", []any{}),
		"nobody here who is called":    set("callees", callees("Bob@tok ringing")),
		"somebody called twice":        set("callees", callees("Nova@lon ringing", "nova@lon queued")),
		"a state that is none":         set("callees", callees("Nova@lon dancing")),
		"a callee of no host":          set("callees", callees("Nova@lon ringing", "Rune ringing")),
		"a mode that is none":          set("mode", "dead"),
		"another conversation":         set("conversation", envelope.NewID()),
		"a topic that is too long":     set("topic", strings.Repeat("x", 1000)),
		"a topic of two lines":         set("topic", "a\nb"),
		"a text with a NUL":            set("content", "a\x00b"),
		"an attachment that is a path": set("attachments", []any{map[string]any{"name": "../x", "size": 1, "sha256": strings.Repeat("a", 64)}}),
		"more callees than there can be": func(l *liar) string {
			return l.record(func(m map[string]any) {
				list := callees("Nova@lon ringing")
				for i := range 2000 {
					list = append(list, callees(fmt.Sprintf("A%d@tok ringing", i))...)
				}
				m["callees"] = list
			})
		},
	} {
		lies = append(lies, lie{what, say})
	}
	lying(t, func(p *pair, l *liar) {
		for _, lie := range lies {
			l.say("call", lie.say(l))
			if got := l.ended(); got != string(link.CodeFrame) {
				t.Errorf("%s: got %q, want the link to end as a fault; heard %q", lie.what, got, l.heard)
			}
			p.wantTold(lie.what, "Nova", "Rune")
			if n := len(p.open(p.lon)); n != 0 {
				t.Errorf("%s: %d records are left", lie.what, n)
			}
			l = p.lie()
		}
	})
}

// TestLyingAnswers: nobody answers for others, or what was not asked.
func TestLyingAnswers(t *testing.T) {
	for what, test := range map[string]struct {
		answer string // with the id of a request of Nova's to Atlas and Rune
		fault  bool
	}{
		"for an agent of this host":       {`{"request":%q,"event":"accept","agent":"Rune@lon"}`, true},
		"for an agent of another host":    {`{"request":%q,"event":"accept","agent":"Bob@tok"}`, true},
		"for an agent of no host":         {`{"request":%q,"event":"accept","agent":"Atlas"}`, true},
		"a reason of two lines":           {`{"request":%q,"event":"reject","agent":"Atlas@nyc","reason":"a\nb"}`, true},
		"no JSON":                         {`%q`, true},
		"for somebody who was not called": {`{"request":%q,"event":"accept","agent":"Sage@nyc"}`, false},
		"an event of a later version":     {`{"request":%q,"event":"sing","agent":"Atlas@nyc"}`, false},
	} {
		t.Run(what, func(t *testing.T) {
			lying(t, func(p *pair, l *liar) {
				id := p.lon.call(t, "Nova", "hi", "Atlas@nyc", "Rune")
				l.say("answer", fmt.Sprintf(test.answer, id))
				if got := l.ended() != ""; got != test.fault {
					t.Errorf("the link has ended: %v, want %v", got, test.fault)
				}
				for _, c := range p.request(p.lon, id).Callees {
					if c.State == call.Accepted || c.State == call.Rejected {
						t.Errorf("%s has %s", c.Agent, c.State)
					}
				}
			})
		})
	}
}

// TestForgedAcceptance: that somebody has accepted nobody says but itself, and what a
// record once was it stays.
func TestForgedAcceptance(t *testing.T) {
	lying(t, func(p *pair, l *liar) {
		id := envelope.NewID()
		say := func(state string) {
			l.say("call", l.record(func(m map[string]any) { m["id"], m["callees"] = id, callees("Nova@lon "+state) }))
		}
		say("ringing")
		say("accepted")
		p.wantTold("an acceptance", "Nova new call ringing")
		say("cancelled")
		p.wantTold("the end", "Nova seen call cancelled")
		say("ringing")
		p.wantTold("it does not come back", "Nova seen call cancelled")
		p.wantPresence("it does not ring", "Nova available")
	})
}

// TestForgedOwner: one host cannot change what another one's request has come to, nor
// what is this host's own, by knowing its id.
func TestForgedOwner(t *testing.T) {
	linked(t, func(p *pair) {
		p.come("Nova", "Rune")
		theirs, ours := p.call("Atlas", "hi", "Nova@lon"), p.lon.call(t, "Rune", "hi", "Nova")
		l := &liar{t: t, x: p.lon}
		_, session, _ := peertest.Connect(p.t, peertest.Side{ID: "id-of-tok", Name: "tok", Services: []peer.Service{l}},
			peertest.Side{ID: p.lon.home.Host.ID, Name: "lon", Services: []peer.Service{p.lon.board.Service()}})
		l.session = session
		for _, id := range []string{theirs, ours} {
			l.say("call", l.record(func(m map[string]any) {
				m["id"], m["from"], m["callees"] = id, "Bob@tok", callees("Nova@lon cancelled")
			}))
			l.say("call", fmt.Sprintf(`{"id":%q,"gone":true}`, id))
			l.say("answer", fmt.Sprintf(`{"request":%q,"event":"ask"}`, id))
		}
		p.settle()
		if l.ended() != "" {
			t.Error("the link has ended: it could be a mistake")
		}
		for _, text := range l.heard {
			if strings.Contains(text, "Atlas") || strings.Contains(text, `"from":"Rune`) {
				t.Errorf("it is told of what is not its own: %s", text)
			}
		}
		p.want("what nyc has placed", theirs, "ringing")
		if r := p.request(p.lon, ours); r.State() != call.Ringing {
			t.Errorf("what lon has placed: got %+v", r)
		}
	})
}

// TestManyCalls: a host that calls without end does not fill the disk, and its callers
// hear why.
func TestManyCalls(t *testing.T) {
	lying(t, func(p *pair, l *liar) {
		for range 100 {
			for range 100 {
				l.say("call", l.record(nil))
			}
			pass(time.Second)
		}
		if l.ended() != "" {
			t.Errorf("ended: %s", l.ended())
		}
		if n := len(p.open(p.lon)); n < 60 || n > 300 {
			t.Errorf("%d copies are kept", n)
		}
		busy := 0
		for _, text := range l.heard {
			if strings.Contains(text, `"busy"`) && strings.Contains(text, "too many calls from nyc") {
				busy++
			}
		}
		if busy != 64 { // to which no record has come
			t.Errorf("%d are told that there are too many", busy)
		}
	})
	lying(t, func(p *pair, l *liar) { // all at once
		for range 10_000 {
			if l.ended() != "" {
				break
			}
			text := l.record(nil)
			_ = l.session.Send(context.Background(), link.Frame{Type: "call", Lane: link.Call, Lines: [][]byte{[]byte(text)}})
		}
		synctest.Wait()
		if got := l.ended(); got != string(link.CodeFrame) {
			t.Errorf("at once: got %q, want the link to end as a fault", got)
		}
	})
}

// TestLyingTyping: nobody types for others.
func TestLyingTyping(t *testing.T) {
	lying(t, func(p *pair, l *liar) {
		talk := p.lon.must(t, "Nova", &draft{Type: envelope.Create, Topic: "x", To: []string{"Rune"}}).State.ID
		for _, from := range []string{"Atlas@nyc", "Bob@tok"} { // who are not in it
			l.say("typing", fmt.Sprintf(`{"type":"typing","from":%q,"conversation":%q}`, from, talk))
		}
		if len(p.lon.typed) != 0 || l.ended() != "" {
			t.Errorf("got %q, ended %q", p.lon.typed, l.ended())
		}
		l.say("typing", fmt.Sprintf(`{"type":"typing","from":"Nova@lon","conversation":%q}`, talk))
		if len(p.lon.typed) != 0 || l.ended() == "" {
			t.Errorf("for an agent of this host: got %q, want the link to end", p.lon.typed)
		}
	})
}

// TestFarRepeats: what comes twice changes nothing.
func TestFarRepeats(t *testing.T) {
	lying(t, func(p *pair, l *liar) {
		text := l.record(nil)
		for range 5 {
			l.say("call", text)
		}
		p.wantTold("five times", "Nova new call ringing")
		var got struct{ ID string }
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		id := p.lon.call(t, "Rune", "hi", "Atlas@nyc")
		for range 5 {
			l.say("answer", fmt.Sprintf(`{"request":%q,"event":"accept","agent":"Atlas@nyc","there":true}`, id))
		}
		if n := len(p.lon.conversations(t)); n != 1 {
			t.Errorf("accepted five times: %d conversations", n)
		}
	})
}

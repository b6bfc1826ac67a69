package daemontest_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/fsck"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
)

// scene is a host, an honest one with which it exchanges messages all the time, and a
// liar.
type scene struct {
	*liar
	nyc, tok *remote
	fleet    *fleet
	ids      map[string]string // of the hosts, by name
	shared   string            // a conversation of Atlas@nyc, Mallory@evil and Cleo@tok
}

const (
	maxStall  = 30 * time.Second // of the honest host's messages, on a machine that is busy
	maxMemory = 200              // MiB, of the victim
)

func newScene(t *testing.T) *scene {
	t.Helper()
	address := daemontest.FreeAddress(t)
	s := &scene{
		nyc: newRemote(t, "nyc", "", fmt.Sprintf("link.listen = %q\nlink.advertise = %q\n", address, address)),
		tok: newRemote(t, "tok", "", hidden),
	}
	s.fleet = newFleet(t, []string{"Atlas", "Cleo"}, s.nyc, s.tok)
	s.liar = newLiar(t, "evil", s.nyc)
	s.ids = map[string]string{"nyc": s.nyc.home().Host.ID, "tok": s.tok.home().Host.ID, "evil": s.who.ID()}
	v := s.speak()
	v.present("Mallory")
	v.wantUp()
	draft := &envelope.Envelope{Type: envelope.Create, Topic: "with the liar", Mode: "async", To: []string{"Mallory@evil", "Cleo@tok"}}
	posted, err := s.nyc.as("Atlas").Post(t.Context(), draft)
	if err != nil {
		t.Fatal(err)
	}
	s.shared = posted.Conversation.ID
	v.hangUp()
	return s
}

// TestLiars: whatever a linked host says, nobody is shown a lie, and the messages of an
// honest host come and go all the time.
func TestLiars(t *testing.T) {
	long(t)
	t.Parallel()
	s := newScene(t)
	s.fleet.write(20 * time.Millisecond)
	for _, lie := range slices.Concat(framed(), greetings(), submissions(), accomplices(), origins(), presences(), calls(), floods(), strangers()) {
		t.Run(lie.name, func(t *testing.T) {
			s.liar.t = t
			there, back := newPulse(s.nyc.home().LogPath(s.fleet.convs[0])), newPulse(s.tok.home().LogPath(s.fleet.convs[0]))
			lie.tell(s)
			a, b, memory := there.end(), back.end(), s.nyc.rss()
			if max(a, b) > maxStall {
				t.Errorf("the honest host waits: %s, %s", a, b)
			}
			if memory > maxMemory {
				t.Errorf("got %d MiB of memory, want at most %d", memory, maxMemory)
			}
			t.Logf("the honest host waits for %s at most, the victim has %d MiB", max(a, b), memory)
		})
	}
	s.liar.t = t
	s.fleet.quiet()
	s.fleet.check()
	for _, p := range []*remote{s.nyc, s.tok} {
		p.wantNoLie()
		s.wantSound(t, p)
	}
}

// wantSound wants nothing in a home that is not right.
func (s *scene) wantSound(t *testing.T, p *remote) {
	t.Helper()
	report, err := fsck.Home(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.Severity == fsck.Error {
			t.Errorf("%s: %+v", p.name, f)
		}
	}
}

type lie struct {
	name string
	tell func(*scene)
}

// ending is a lie of one message, and the goodbye that it gets.
func ending(name string, code link.Code, message func(*scene) string) lie {
	return lie{name, func(s *scene) {
		s.t.Helper()
		v := s.speak()
		if err := v.raw(message(s)); err != nil {
			v.lost(err)
		}
		v.wantBye(code)
	}}
}

func text(message string) func(*scene) string { return func(*scene) string { return message } }

// framed are messages that are no frames, or break the rules of the link.
func framed() (lies []lie) {
	for name, message := range map[string]string{
		"rubbish":               "\x00\x01\x02",
		"no JSON":               "hello?",
		"a list":                `["t"]`,
		"a name twice":          `{"t":"heads","t":"lines"}`,
		"broken UTF-8":          "{\"t\":\"a\xff\"}",
		"no type":               `{"mail":1}`,
		"an empty line":         "{\"t\":\"heads\",\"mail\":1}\n\n",
		"too many lines":        `{"t":"heads","mail":1}` + strings.Repeat("\nx", 1025),
		"a long header":         `{"t":"x","y":"` + strings.Repeat("y", 17<<10) + `"}`,
		"hello again":           `{"t":"hello"}`,
		"two lanes":             `{"t":"heads","mail":1,"bulk":1}`,
		"the number 0":          `{"t":"heads","mail":0}`,
		"heads without credit":  `{"t":"heads","all":true}`,
		"a submission too":      `{"t":"submit"}`,
		"an ack that is none":   `{"t":"ack","mail":"x"}`,
		"a head that is none":   "{\"t\":\"heads\",\"mail\":1}\n[]",
		"lines of nothing":      `{"t":"lines","mail":1,"conversation":"../../x"}` + "\nx",
		"a get of too much":     `{"t":"get","mail":1,"sha256":"` + strings.Repeat("a", 64) + `","from":0,"to":65537}`,
		"a blob nobody wants":   `{"t":"blob","bulk":1,"sha256":"` + strings.Repeat("a", 64) + `","missing":true}`,
		"who has another host":  `{"t":"presence","snapshot":true,"last":true}` + "\n" + `{"name":"Cleo@tok","status":"busy"}`,
		"an answer of another":  `{"t":"answer"}` + "\n" + `{"request":"` + envelope.NewID() + `","event":"accept","agent":"Cleo@tok"}`,
		"an answer of its own":  `{"t":"answer"}` + "\n" + `{"request":"` + envelope.NewID() + `","event":"accept","agent":"Atlas@nyc"}`,
		"a receipt that is not": "{\"t\":\"receipts\",\"mail\":1}\nx",
	} {
		lies = append(lies, ending(name, link.CodeFrame, text(message)))
	}
	slices.SortFunc(lies, func(a, b lie) int { return strings.Compare(a.name, b.name) })
	return append(lies,
		ending("a number is skipped", link.CodeNumber, text(`{"t":"x","mail":2}`)),
		ending("an ack of what was never sent", link.CodeAck, text(`{"t":"ack","mail":999999}`)),
		lie{"a number twice", func(s *scene) {
			v := s.speak()
			v.tell("mail", "x", "")
			_ = v.raw(`{"t":"x","mail":1}`)
			v.wantBye(link.CodeNumber)
		}},
		lie{"half a frame", func(s *scene) {
			v := s.speak()
			w, err := v.ws.NextWriter(1)
			if err == nil {
				_, err = w.Write([]byte(`{"t":"lines","mail":1,"conv`))
			}
			if err != nil {
				s.t.Fatal(err)
			}
			v.hangUp()
		}},
		lie{"a huge frame", func(s *scene) {
			v := s.speak()
			_ = v.raw(`{"t":"x"}` + "\n" + strings.Repeat("x", 16<<20)) // it may end before all is written
			select {
			case <-v.ended:
			case <-time.After(daemontest.Patience):
				s.t.Error("the link does not end")
			}
		}},
		lie{"held", func(s *scene) {
			for range 3 {
				v, err := s.open(s.hello())
				if err != nil {
					break
				}
				_ = v.raw("rubbish")
				v.wantBye(link.CodeFrame)
			}
			daemontest.Eventually(s.t, func() (bool, string) {
				p := s.peerState()
				return p.State == "held", daemontest.JSON(p)
			})
			if v, err := s.open(s.hello()); err == nil {
				s.t.Error("a host that is held is let in")
				v.hangUp()
			}
			s.speak().wantUp() // a person has released it
		}},
		lie{"a goodbye for a terminal", func(s *scene) {
			v := s.speak()
			_ = v.raw(`{"t":"bye","code":"frame","text":"\u001b]0;FORGED\u0007\nok"}`)
			<-v.ended
			daemontest.Eventually(s.t, func() (bool, string) {
				p := s.peerState()
				return p.Problem != "", daemontest.JSON(p)
			})
			if p := s.peerState(); strings.ContainsAny(p.Problem, "\x1b\x07\n") {
				s.t.Errorf("problem: got %q, want one line of text", p.Problem)
			}
		}},
	)
}

// greetings are hellos.
func greetings() (lies []lie) {
	for name, test := range map[string]struct {
		hello func(*scene) string
		want  link.Code
	}{
		"another host's hello": {func(s *scene) string {
			return strings.Replace(s.hello(), s.who.ID(), s.ids["tok"], 1)
		}, link.CodeHost},
		"a version that nobody has": {func(s *scene) string { return strings.Replace(s.hello(), "[1]", "[9]", 1) }, link.CodeVersion},
		"no versions":               {func(s *scene) string { return strings.Replace(s.hello(), "[1]", "null", 1) }, link.CodeVersion},
		"no credit":                 {func(s *scene) string { return strings.Replace(s.hello(), "1048576", "1", 1) }, link.CodeFrame},
		"something before hello":    {text(`{"t":"lines","mail":1}`), link.CodeFrame},
	} {
		lies = append(lies, lie{name, func(s *scene) {
			s.release()
			v, err := s.open(test.hello(s))
			if err != nil {
				s.t.Fatal(err)
			}
			v.wantBye(test.want)
		}})
	}
	return lies
}

// message is what Mallory says in the shared conversation.
func (s *scene) message(change func(*envelope.Envelope)) *envelope.Envelope {
	e := &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, From: s.agent("Mallory"), Conversation: s.shared, Content: forged}
	if change != nil {
		change(e)
	}
	return e
}

// submissions are lies to the origin of a conversation.
func submissions() (lies []lie) {
	for name, test := range map[string]struct {
		change func(*scene, *envelope.Envelope)
		want   string
	}{
		"from an agent of the origin": {func(_ *scene, e *envelope.Envelope) { e.From = envelope.Address{Name: "Atlas", Host: "nyc"} }, "forged"},
		"from an agent of a third":    {func(_ *scene, e *envelope.Envelope) { e.From = envelope.Address{Name: "Cleo", Host: "tok"} }, "forged"},
		"where nobody of it is":       {func(s *scene, e *envelope.Envelope) { e.Conversation = s.fleet.convs[0] }, "not_participant"},
		"in a conversation of a third": {func(s *scene, e *envelope.Envelope) {
			e.Conversation = s.fleet.convs[1]
		}, "conversation_not_found"},
		"a join where it may not": {func(s *scene, e *envelope.Envelope) {
			e.Type, e.Content, e.Conversation = envelope.Join, "", s.fleet.convs[0]
		}, ""},
		"by an agent that is not in it": {func(s *scene, e *envelope.Envelope) { e.From.Name = "Eve" }, "not_participant"},
	} {
		lies = append(lies, lie{"a message " + name, func(s *scene) {
			v := s.speak()
			e := s.message(nil)
			test.change(s, e)
			if !v.submit(e) {
				s.t.Fatal("the link ends")
			}
			if test.want != "" {
				v.refused(e.ID, test.want)
			}
			v.wantUp()
		}})
	}
	return append(lies,
		lie{"a message again, behind another after", func(s *scene) {
			v := s.speak()
			e := s.message(func(e *envelope.Envelope) { e.Content = "said once" })
			for _, after := range []int64{1, 2, 1 << 40, envelope.MaxInt} {
				e.After = envelope.Int(after)
				v.submit(e)
			}
			v.wantUp()
			count := 0
			for _, line := range validLines(s.nyc.home().LogPath(s.shared)) {
				if strings.Contains(string(line), e.ID) && strings.Contains(string(line), "said once") {
					count++
				}
			}
			if count != 1 {
				s.t.Errorf("it stands %d times in the log, want once", count)
			}
		}},
		lie{"restored from a backup", func(s *scene) {
			e := s.message(func(e *envelope.Envelope) { e.Content = "said before the backup" })
			for range 3 {
				v := s.speak()
				v.tell("mail", "heads", `,"all":true`, fmt.Sprintf(`{"conversation":%q,"seq":1,"hash":"%064x"}`, s.shared, 7), fmt.Sprintf(`{"conversation":%q,"seq":0}`, s.shared))
				v.submit(e)
				v.wantUp()
				v.hangUp()
			}
			count := 0
			for _, line := range validLines(s.nyc.home().LogPath(s.shared)) {
				if strings.Contains(string(line), "said before the backup") {
					count++
				}
			}
			if count != 1 {
				s.t.Errorf("it stands %d times in the log, want once", count)
			}
		}},
		lie{"heads of conversations of others", func(s *scene) {
			v := s.speak()
			v.tell("mail", "heads", `,"all":true`, fmt.Sprintf(`{"conversation":%q,"seq":0}`, s.fleet.convs[0]), fmt.Sprintf(`{"conversation":%q,"seq":0}`, s.fleet.convs[1]))
			v.until("the shared conversation", func(f string) bool { return strings.HasPrefix(f, `{"t":"lines"`) && strings.Contains(f, s.shared) })
			v.wantUp()
			v.mu.Lock()
			defer v.mu.Unlock()
			for _, f := range v.heard {
				if strings.Contains(f, s.fleet.convs[0]) || strings.Contains(f, s.fleet.convs[1]) {
					s.t.Errorf("it is sent what it is not in: %.200s", f)
				}
			}
		}},
		lie{"receipts of others", func(s *scene) {
			v := s.speak()
			last := int64(len(validLines(s.nyc.home().LogPath(s.shared))))
			for _, c := range []string{s.fleet.convs[0], s.fleet.convs[1], s.shared} {
				for _, a := range []string{"Cleo@tok", "Atlas@nyc"} {
					v.tell("mail", "receipts", "", fmt.Sprintf(`{"conversation":%q,"agent":%q,"passed":1000000}`, c, a))
				}
			}
			v.wantUp()
			got, err := s.nyc.as("Atlas").Receipts(context.Background(), s.shared, 1, "", 0)
			if err != nil {
				s.t.Fatal(err)
			}
			for _, r := range got.Recipients {
				if r.State == api.Seen && r.Agent != "Mallory@evil" {
					s.t.Errorf("of %d lines: %s", last, daemontest.JSON(got))
				}
			}
		}},
		lie{"refusals of what was never sent to it", func(s *scene) {
			v := s.speak()
			for range 100 {
				v.tell("mail", "refused", "", fmt.Sprintf(`{"id":%q,"code":"forged","text":"no"}`, envelope.NewID()))
			}
			v.wantUp()
		}},
		lie{"a file of others", func(s *scene) {
			a, err := s.nyc.as("Atlas").Upload(context.Background(), "a.txt", "", strings.NewReader("secret"), 6)
			if err != nil {
				s.t.Fatal(err)
			}
			draft := &envelope.Envelope{Type: envelope.Message, To: []string{"Cleo@tok"}, Content: "with a file", Attachments: []envelope.Attachment{a}}
			posted, err := s.nyc.as("Atlas").Post(context.Background(), draft)
			if err != nil {
				s.t.Fatal(err)
			}
			v := s.speak()
			for _, place := range []string{
				fmt.Sprintf(`"conversation":%q,"seq":%d`, posted.Conversation.ID, posted.Message.Envelope.Seq),
				fmt.Sprintf(`"conversation":%q,"seq":1`, s.shared),
				fmt.Sprintf(`"request":%q`, envelope.NewID()),
			} {
				v.tell("mail", "get", fmt.Sprintf(`,"sha256":%q,"from":0,"to":6,%s`, a.SHA256, place))
			}
			v.until("no file", func(f string) bool { return strings.Contains(f, `"missing":true`) })
			v.wantUp()
			v.mu.Lock()
			defer v.mu.Unlock()
			for _, f := range v.heard {
				if strings.Contains(f, "\nsecret") {
					s.t.Errorf("it is given a file of others: %q", f)
				}
			}
		}},
	)
}

// origins are lies about conversations that the liar says it is the origin of.
func origins() []lie {
	atlas, cleo := envelope.Address{Name: "Atlas", Host: "nyc"}, envelope.Address{Name: "Cleo", Host: "tok"}
	// own begins a conversation with Atlas that is as it should be.
	own := func(s *scene, v *voice, with ...envelope.Address) string {
		s.t.Helper()
		id, first := s.begin(s.agent("Mallory"), s.hosts(with...), append([]envelope.Address{atlas}, with...)...)
		if !v.lines(id, first) {
			s.t.Fatal("the link ends")
		}
		return id
	}
	second := func(s *scene, id string, change func(*envelope.Envelope)) string {
		e := &envelope.Envelope{Seq: 2, Type: envelope.Message, From: s.agent("Mallory"), Conversation: id, Content: forged}
		change(e)
		return s.line(e)
	}
	return []lie{
		ending("lines of a conversation of the victim", link.CodeFrame, func(s *scene) string {
			return fmt.Sprintf(`{"t":"lines","mail":1,"conversation":%q}`, s.fleet.convs[0]) + "\n" + second(s, s.fleet.convs[0], func(*envelope.Envelope) {})
		}),
		ending("lines of a conversation of a third", link.CodeFrame, func(s *scene) string {
			return fmt.Sprintf(`{"t":"lines","mail":1,"conversation":%q}`, s.fleet.convs[1]) + "\n" + second(s, s.fleet.convs[1], func(*envelope.Envelope) {})
		}),
		ending("lines that begin in the middle", link.CodeFrame, func(s *scene) string {
			id := envelope.ConversationID(s.who.ID(), envelope.NewID())
			return fmt.Sprintf(`{"t":"lines","mail":1,"conversation":%q}`, id) + "\n" + second(s, id, func(*envelope.Envelope) {})
		}),
		ending("a conversation that another is the origin of", link.CodeFrame, func(s *scene) string {
			e := &envelope.Envelope{Seq: 1, ID: envelope.NewID(), Type: envelope.System, Event: envelope.EventCreate, From: cleo, Origin: s.ids["tok"], Mode: "async", Topic: forged, Participants: []envelope.Address{cleo, atlas}}
			e.Conversation = envelope.ConversationID(e.Origin, e.ID)
			return fmt.Sprintf(`{"t":"lines","mail":1,"conversation":%q}`, e.Conversation) + "\n" + s.line(e)
		}),
		{"a conversation made by an agent of a third", func(s *scene) {
			v := s.speak()
			id, first := s.begin(cleo, s.hosts(cleo), atlas)
			v.lines(id, strings.Replace(first, "of the liar", forged, 1))
			v.wantUp()
		}},
		{"what agents of others have not said", func(s *scene) {
			v := s.speak()
			stolen := ""
			_, err := stubborn(func(ctx context.Context) (api.Posted, error) {
				return s.tok.as("Cleo").Post(ctx, &envelope.Envelope{Type: envelope.Message, Conversation: s.shared, Content: "said by Cleo"})
			})
			if err != nil {
				s.t.Fatal(err)
			}
			v.tell("mail", "heads", `,"all":true`)
			v.until("what Cleo says", func(f string) bool {
				_, after, ok := strings.Cut(f, `"signature":"`)
				stolen, _, _ = strings.Cut(after, `"`)
				return ok
			})
			for name, change := range map[string]func(*envelope.Envelope){
				"of this host":            func(e *envelope.Envelope) { e.From = atlas },
				"of a third":              func(e *envelope.Envelope) { e.From = cleo },
				"signed by the liar":      func(e *envelope.Envelope) { e.From, e.Signature = cleo, "AAAA" },
				"with a stolen signature": func(e *envelope.Envelope) { e.From, e.Signature = cleo, stolen },
				"a leave":                 func(e *envelope.Envelope) { e.Type, e.Content, e.From = envelope.Leave, "", atlas },
				"an undeliverable": func(e *envelope.Envelope) {
					e.Type, e.Event, e.From, e.About, e.Content, e.Why = envelope.System, envelope.EventUndeliverable, cleo, e.ID, "", forged
				},
				"the end of a call": func(e *envelope.Envelope) {
					e.Type, e.Event, e.From, e.Auto, e.Content, e.Reason = envelope.System, envelope.EventClose, atlas, true, "", forged
				},
			} {
				id := own(s, v, cleo)
				if !v.lines(id, second(s, id, change)) {
					s.t.Errorf("%s: the link ends", name)
				}
				if n := len(validLines(s.nyc.home().LogPath(id))); n != 1 {
					s.t.Errorf("%s: got %d lines, want the first only", name, n)
				}
			}
			v.wantUp()
		}},
		{"what was said once, again", func(s *scene) {
			v := s.speak()
			id := own(s, v)
			draft := &envelope.Envelope{Type: envelope.Message, Conversation: id, Content: "said by Atlas"}
			if _, err := s.nyc.as("Atlas").Post(context.Background(), draft); err != nil {
				s.t.Fatal(err)
			}
			var said struct {
				Sig      string
				Envelope *envelope.Envelope
			}
			v.until("what Atlas says", func(f string) bool {
				return strings.HasPrefix(f, `{"t":"submit"`) && slices.ContainsFunc(strings.Split(f, "\n"), func(line string) bool {
					return strings.Contains(line, id) && json.Unmarshal([]byte(line), &said) == nil
				})
			})
			for _, seq := range []int64{2, 3} {
				e := *said.Envelope
				e.Seq, e.Signature = seq, said.Sig
				v.lines(id, s.line(&e))
			}
			v.wantUp()
			if n := len(validLines(s.nyc.home().LogPath(id))); n != 2 {
				s.t.Errorf("got %d lines, want the first and what Atlas has said", n)
			}
		}},
		{"another host by the name of a peer", func(s *scene) {
			v := s.speak()
			hosts := s.hosts(cleo)
			hosts["tok"] = strings.Repeat("a", 52)
			id, first := s.begin(s.agent("Mallory"), hosts, atlas, cleo)
			v.lines(id, first, second(s, id, func(e *envelope.Envelope) { e.From = cleo }))
			v.wantUp()
		}},
		{"another line under a seq", func(s *scene) {
			v := s.speak()
			id := own(s, v)
			v.lines(id, second(s, id, func(e *envelope.Envelope) { e.Content = "the first" }))
			v.lines(id, second(s, id, func(*envelope.Envelope) {}))
			v.until("a search for where the logs part", func(f string) bool { return strings.Contains(f, `"probe":true`) })
			v.wantUp()
		}},
		{"a seq that is skipped", func(s *scene) {
			v := s.speak()
			id := own(s, v)
			for seq := int64(5); seq < 25; seq++ {
				v.lines(id, second(s, id, func(e *envelope.Envelope) { e.Seq = seq }))
			}
			v.wantUp()
			said := 0
			v.mu.Lock()
			defer v.mu.Unlock()
			for _, f := range v.heard {
				if strings.HasPrefix(f, `{"t":"heads"`) && strings.Contains(f, id) {
					said++
				}
			}
			if said != 1 {
				s.t.Errorf("heads is said %d times, want once", said)
			}
		}},
		{"a time at the end of time", func(s *scene) {
			v := s.speak()
			id := own(s, v)
			v.lines(id, second(s, id, func(e *envelope.Envelope) { e.Timestamp, e.Content = envelope.MaxInt, "late" }))
			v.wantUp()
			if _, err := s.nyc.as("Atlas").Inbox(context.Background(), 1000); err != nil {
				s.t.Error(err)
			}
			if _, err := s.nyc.as("Atlas").Conversations(context.Background(), "", "", 100); err != nil {
				s.t.Error(err)
			}
		}},
		{"too many conversations of nobody", func(s *scene) {
			v := s.speak()
			for range 70 {
				id, first := s.begin(s.agent("Mallory"), nil)
				if !v.lines(id, first) {
					break
				}
			}
			v.wantBye(link.CodeFrame)
		}},
	}
}

// hosts are those of agents in a conversation of the liar with the victim.
func (s *scene) hosts(with ...envelope.Address) map[string]string {
	hosts := map[string]string{"evil": s.ids["evil"], "nyc": s.ids["nyc"]}
	for _, a := range with {
		hosts[a.Host] = s.ids[a.Host]
	}
	return hosts
}

// presences are lies about who is there.
func presences() []lie {
	return []lie{
		{"too many changes", func(s *scene) {
			v := s.speak()
			v.present("Mallory")
			for range 1000 {
				if v.raw(`{"t":"presence"}`+"\n"+`{"name":"Mallory","status":"busy"}`) != nil {
					break
				}
			}
			v.wantBye(link.CodeFrame)
		}},
		{"100,000 agents", func(s *scene) {
			v := s.speak()
			for part := range 100 {
				text := fmt.Appendf(nil, `{"t":"presence","snapshot":true,"last":%t}`, part == 99)
				for n := range 1000 {
					text = fmt.Appendf(text, "\n"+`{"name":"M%d","status":"available","description":%q}`, 1000*part+n, strings.Repeat("x", 400))
				}
				if err := v.raw(string(text)); err != nil {
					v.lost(err)
				}
			}
			v.wantUp()
			agents, err := s.nyc.as("Atlas").Agents(context.Background(), api.AgentQuery{Host: "evil"})
			if err != nil || len(agents.Agents) > 10_000 || len(agents.Agents) == 0 {
				s.t.Errorf("got %d agents, %v", len(agents.Agents), err)
			}
			if _, err := s.nyc.as("Atlas").Agents(context.Background(), api.AgentQuery{Host: "tok"}); err != nil {
				s.t.Error(err)
			}
			v.hangUp()
			for range 20 { // who comes and goes with all of them
				v := s.speak()
				v.present("Mallory")
				v.hangUp()
			}
		}},
	}
}

// callOf is a call to Atlas.
func callOf(from envelope.Address, topic string) string {
	return fmt.Sprintf(`{"id":%q,"from":%q,"topic":%q,"callees":[{"agent":"Atlas@nyc","state":"ringing","at":1}],"ringLeft":1000,"createdAt":1}`, envelope.NewID(), from, topic)
}

// calls are lies about calls.
func calls() []lie {
	return []lie{
		ending("a call from an agent of a third", link.CodeFrame, func(s *scene) string {
			return `{"t":"call"}` + "\n" + callOf(envelope.Address{Name: "Cleo", Host: "tok"}, forged)
		}),
		ending("a call to nobody here", link.CodeFrame, func(s *scene) string {
			return `{"t":"call"}` + "\n" + strings.Replace(callOf(s.agent("Mallory"), "a call"), "Atlas@nyc", "Cleo@tok", 1)
		}),
		{"10,000 calls", func(s *scene) {
			v := s.speak()
			for range 10_000 {
				if v.raw(`{"t":"call"}`+"\n"+callOf(s.agent("Mallory"), "a call")) != nil {
					break
				}
			}
			v.wantBye(link.CodeFrame)
			requests, err := s.nyc.as("Atlas").Requests(context.Background())
			if err != nil || len(requests.Requests) > 200 {
				s.t.Errorf("got %d requests, %v", len(requests.Requests), err)
			}
		}},
		{"150,000 answers", func(s *scene) {
			v := s.speak()
			before := s.nyc.rss()
			for range 150 {
				text := []byte(`{"t":"answer"}`)
				for range 1024 {
					text = fmt.Appendf(text, "\n"+`{"request":%q,"event":"ask"}`, envelope.NewID())
				}
				if err := v.raw(string(text)); err != nil {
					v.lost(err)
				}
			}
			v.wantUp()
			if after := s.nyc.rss(); after > before+40 {
				s.t.Errorf("got %d MiB, %d before", after, before)
			}
		}},
	}
}

// accomplices are two liars that help each other: what is the one's the other cannot touch.
func accomplices() []lie {
	return []lie{{"two that help each other", func(s *scene) {
		aide := newLiar(s.t, "aide", s.nyc)
		s.ids["aide"] = aide.who.ID()
		atlas, eve := envelope.Address{Name: "Atlas", Host: "nyc"}, aide.agent("Eve")
		v := s.speak()
		id, first := s.begin(s.agent("Mallory"), s.hosts(eve), atlas, eve)
		v.lines(id, first)
		forgery := func() string {
			return s.line(&envelope.Envelope{Seq: 2, Type: envelope.Message, From: eve, Conversation: id, Content: forged})
		}
		v.lines(id, forgery()) // in the name of its aide, which has not signed it
		for what, message := range map[string]string{
			"a conversation of the other goes on": fmt.Sprintf(`{"t":"lines","mail":1,"conversation":%q}`, id) + "\n" + forgery(),
			"a call of the other":                 `{"t":"call"}` + "\n" + callOf(s.agent("Mallory"), forged),
			"an answer of the other":              fmt.Sprintf(`{"t":"answer"}`+"\n"+`{"request":%q,"event":"accept","agent":"Mallory@evil"}`, envelope.NewID()),
		} {
			w := aide.speak()
			if err := w.raw(message); err != nil {
				s.t.Fatalf("%s: %v", what, err)
			}
			w.wantBye(link.CodeFrame)
		}
		w := aide.speak()
		w.present("Eve")
		for _, c := range []string{id, s.shared} {
			for _, a := range []string{"Mallory@evil", "Cleo@tok"} {
				w.tell("mail", "receipts", "", fmt.Sprintf(`{"conversation":%q,"agent":%q,"passed":1000000}`, c, a))
			}
		}
		w.tell("mail", "heads", `,"all":true`, fmt.Sprintf(`{"conversation":%q,"seq":0}`, id), fmt.Sprintf(`{"conversation":%q,"seq":0}`, s.shared))
		w.wantUp()
		w.mu.Lock()
		defer w.mu.Unlock()
		if i := slices.IndexFunc(w.heard, func(f string) bool { return strings.HasPrefix(f, `{"t":"lines"`) }); i >= 0 {
			s.t.Errorf("it is sent what another orders, or it is not in: %.200s", w.heard[i])
		}
		if n := len(validLines(s.nyc.home().LogPath(id))); n != 1 {
			s.t.Errorf("got %d lines, want the first only", n)
		}
		for _, c := range []string{id, s.shared} {
			got, err := s.nyc.as("Atlas").Receipts(context.Background(), c, 1, "", 0)
			if err != nil {
				s.t.Fatal(err)
			}
			if slices.ContainsFunc(got.Recipients, func(r api.Recipient) bool { return r.State == api.Seen && r.Agent != "Atlas@nyc" }) {
				s.t.Errorf("receipts: got %s, want none of what others have not said", daemontest.JSON(got))
			}
		}
	}}}
}

// floods are of what is allowed.
func floods() []lie {
	return []lie{
		{"unknown frames", func(s *scene) {
			v := s.speak()
			for range 20_000 {
				if err := v.raw(`{"t":"later","x":1}`); err != nil {
					v.lost(err)
				}
			}
			for range 40 {
				if err := v.raw(`{"t":"later"}` + "\n" + strings.Repeat("x", 4<<20)); err != nil {
					v.lost(err)
				}
			}
			v.wantUp()
		}},
		{"echoes, typing and what relays say", func(s *scene) {
			v := s.speak()
			for n := 1; n <= 5_000; n++ {
				for _, text := range []string{
					fmt.Sprintf(`{"t":"echo","n":%d}`, n),
					`{"t":"typing"}` + "\n" + fmt.Sprintf(`{"type":"typing","from":"Mallory@evil","conversation":%q}`, s.shared),
					fmt.Sprintf(`{"t":"tunnel","ask":%d,"to":%q}`, n, s.ids["tok"]),
					fmt.Sprintf(`{"t":"splice","host":%q,"token":"%043d"}`, s.ids["tok"], n),
				} {
					if err := v.raw(text); err != nil {
						v.lost(err)
					}
				}
			}
			v.until("no tunnel", func(f string) bool { return strings.HasPrefix(f, `{"t":"splice"`) && strings.Contains(f, `"refused"`) })
			for n := range 100 {
				v.tell("mail", "introduce", "", fmt.Sprintf(`{"name":"x%d","keys":"x","sig":"x"}`, n))
				v.tell("mail", "recipient", "", `{"recipient":"age1x","sig":"x"}`)
			}
			v.wantUp()
		}},
		{"it never acknowledges", func(s *scene) {
			v := s.speak()
			v.mu.Lock()
			v.deaf = true
			v.mu.Unlock()
			if err := v.raw(`{"t":"heads","mail":1,"all":true}`); err != nil {
				v.lost(err)
			}
			s.fill(100, 20_000)
			v.wantUp() // calls and echoes go on
		}},
		{"it never reads", func(s *scene) {
			conn, err := s.connect()
			if err != nil {
				s.t.Fatal(err)
			}
			defer conn.Close()
			request := "GET /v1/link HTTP/1.1\r\nHost: duo\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
			if _, err := conn.Write([]byte(request)); err != nil {
				s.t.Fatal(err)
			}
			s.fill(100, 20_000)
		}},
		{"200 links at once", func(s *scene) {
			s.release()
			var all []*voice
			for range 200 {
				if v, err := s.open(s.hello()); err == nil {
					all = append(all, v)
				}
			}
			if len(all) == 0 {
				s.t.Fatal("nobody is let in")
			}
			up := func() (list []*voice) {
				for _, v := range all {
					select {
					case <-v.ended:
					default:
						list = append(list, v)
					}
				}
				return list
			}
			daemontest.Eventually(s.t, func() (bool, string) { // the others may end in any order, and a goodbye may be lost
				n := len(up())
				return n <= 1, fmt.Sprintf("%d links are up, want one", n)
			})
			left := up()
			if len(left) == 0 {
				s.t.Fatal("no link stays")
			}
			left[0].wantUp()
		}},
		{"200 connections that say nothing", func(s *scene) {
			var all []net.Conn
			for range 200 {
				if conn, err := s.connect(); err == nil {
					all = append(all, conn)
				}
			}
			s.speak().wantUp()
			for _, conn := range all {
				_ = conn.SetReadDeadline(time.Now().Add(daemontest.Patience))
				if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
					s.t.Fatal("a connection that says nothing stays")
				}
				_ = conn.Close()
			}
		}},
		{"connections that ask for pages", func(s *scene) {
			var conn net.Conn
			var err error
			daemontest.Eventually(s.t, func() (bool, string) { // its address has connected too often, and is turned away for a while
				conn, err = s.connect()
				return err == nil, fmt.Sprint(err)
			})
			defer conn.Close()
			if _, err := conn.Write([]byte("GET /../../key HTTP/1.1\r\nHost: duo\r\n\r\n")); err != nil {
				s.t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(daemontest.Patience))
			buf := make([]byte, 4096)
			for err == nil {
				_, err = conn.Read(buf)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.t.Error("a connection that is no link stays")
			}
		}},
	}
}

// fill makes Atlas say a lot in the shared conversation.
func (s *scene) fill(messages, size int) {
	s.t.Helper()
	for n := range messages {
		draft := &envelope.Envelope{Type: envelope.Message, Conversation: s.shared, Content: strings.Repeat("x", size) + fmt.Sprintf(" %d", n)}
		if _, err := s.nyc.as("Atlas").Post(context.Background(), draft); err != nil {
			s.t.Fatal(err)
		}
	}
}

// strangers are those who have not paired.
func strangers() []lie {
	return []lie{
		{"guessed codes", func(s *scene) {
			code := s.nyc.code()
			for range 5 {
				if got := s.guess(code.Address); !strings.Contains(got, `"refused":"code"`) {
					s.t.Errorf("a guess: got %q, want a refusal", got)
				}
			}
			if _, err := s.tok.as("").Join(context.Background(), api.Join{Code: code.String()}); err == nil {
				s.t.Error("a code is good that was guessed at five times")
			}
		}},
		{"handshakes that never end", func(s *scene) {
			var all []net.Conn
			for range 150 {
				conn, err := dial(s.address)
				if err != nil {
					s.t.Fatal(err)
				}
				defer conn.Close()
				all = append(all, conn)
			}
			s.tok.kill()
			began := time.Now()
			s.tok.start()
			daemontest.Eventually(s.t, func() (bool, string) {
				p, err := s.nyc.as("").Peer(context.Background(), "tok")
				return err == nil && p.State == "up", daemontest.JSON(p)
			})
			s.t.Logf("the honest host is back after %s, beside %d connections", time.Since(began), len(all))
		}},
	}
}

// guess tries to pair with a proof that is none, and returns the answer. It tries again
// as long as its address is turned away.
func (s *scene) guess(address string) string {
	s.t.Helper()
	config := s.who.ClientConfig(s.id, credulous{}).Clone()
	config.NextProtos, config.VerifyConnection = []string{identity.PairProtocol}, nil
	var answer []byte
	daemontest.Eventually(s.t, func() (bool, string) {
		raw, err := dial(address)
		if err != nil {
			return false, err.Error()
		}
		conn := tls.Client(raw, config)
		defer conn.Close()
		if _, err := conn.Write([]byte(`{"name":"evil","proof":"AAAA"}` + "\n")); err != nil {
			return false, err.Error()
		}
		answer, err = io.ReadAll(conn)
		return err == nil, fmt.Sprint(err)
	})
	return string(answer)
}

package courier_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/courier"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
)

// liar is the courier of a host that sends whatever the test says.
type liar struct {
	session *peer.Session
	mu      sync.Mutex
	refused map[string]string // code by id
	begun   int               // how often it was sent a spool from the front
	ended   bool
}

func (l *liar) Types() []string                { return []string{"submit", "refused", "receipts"} }
func (l *liar) Open(s *peer.Session) peer.Line { l.session = s; return l }
func (l *liar) Close()                         { l.mu.Lock(); l.ended = true; l.mu.Unlock() }
func (l *liar) Take(f link.Frame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.Type == "submit" && strings.Contains(string(f.Header), `"first":true`) {
		l.begun++
	}
	for _, line := range f.Lines {
		var r struct{ ID, Code string }
		if f.Type == "refused" && json.Unmarshal(line, &r) == nil {
			l.refused[r.ID] = r.Code
		}
	}
	l.session.Done(f)
	return nil
}

func (l *liar) send(t *testing.T, kind string, lines ...string) {
	t.Helper()
	f := link.Frame{Type: kind, Lane: link.Mail}
	for _, line := range lines {
		f.Lines = append(f.Lines, []byte(line))
	}
	if err := l.session.Send(ctx, f); err != nil {
		t.Fatal(err)
	}
}

func (l *liar) code(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused[id]
}

// lie links nyc with a host that has lon's key and lies.
func lie(t *testing.T, nyc, lon *host) *liar {
	t.Helper()
	l := &liar{refused: make(map[string]string)}
	side := lon.side()
	side.Services = []peer.Service{l}
	peertest.Connect(t, nyc.side(), side)
	return l
}

// submission is a line that a host signs.
func submission(who *identity.Host, host string, e *envelope.Envelope) string {
	text, _ := e.AppendDraft(nil)
	return fmt.Sprintf(`{"host":%q,"sig":%q,"envelope":%s}`, host, base64.StdEncoding.EncodeToString(who.Sign(e.Signed())), text)
}

func TestLies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		par := newHost(t, "par", "Carol")
		pair(t, nyc, par)
		other := nyc.create("Atlas", []string{"Sage"})
		replica := lon.create("Bob", []string{"Atlas@nyc"}, nyc)
		both := nyc.create("Atlas", []string{"Bob@lon", "Carol@par"})
		open := nyc.say("Atlas", &draft{Type: envelope.Create, Topic: "Open", Open: true}).State.ID
		said := nyc.say("Atlas", &draft{Conversation: id, Content: "to all"}).Envelope
		first, err := envelope.Decode(nyc.lines(id)[0])
		if err != nil {
			t.Fatal(err)
		}
		l := lie(t, nyc, lon)
		message := func(change func(*draft)) *draft {
			e := &draft{ID: envelope.NewID(), Type: envelope.Message, From: lon.address("Bob"), Conversation: id, After: envelope.Int(1), Content: "hi"}
			if change != nil {
				change(e)
			}
			return e
		}
		for name, test := range map[string]struct {
			change func(*draft)
			by     *host               // who signs, lon where it is nil
			host   string              // what the line says
			text   func(string) string // changes the line
			want   string
		}{
			"an agent of the origin": {change: func(e *draft) { e.From = nyc.address("Atlas") }, want: "forged"},
			"an agent of a third":    {change: func(e *draft) { e.From, e.Conversation = par.address("Carol"), both }, want: "forged"},
			"signed by a third":      {by: par, want: "signature"},
			"in a third's name":      {by: par, host: par.me.ID(), want: "forged"},
			"another text":           {text: func(s string) string { return strings.Replace(s, `"hi"`, `"ho"`, 1) }, want: "signature"},
			"another form":           {text: func(s string) string { return strings.Replace(s, `"hi"`, `"\u0068i"`, 1) }, want: "form"},
			"no signature":           {text: func(s string) string { return strings.Replace(s, `"sig":"`, `"nosig":"`, 1) }, want: "signature"},
			"what cannot be read":    {text: func(s string) string { return strings.Replace(s, `"message"`, `7`, 1) }, want: "form"},
			"a seq":                  {text: func(s string) string { return strings.Replace(s, `"envelope":{`, `"envelope":{"seq":2,`, 1) }, want: "form"},
			"without after":          {change: func(e *draft) { e.After = nil }, want: "form"},
			"a place in a file":      {change: func(e *draft) { e.Raw = envelope.Int(7) }, want: "form"},
			"who is not in it":       {change: func(e *draft) { e.From.Name = "Eve" }, want: "not_participant"},
			"where nobody of it is":  {change: func(e *draft) { e.Conversation = other }, want: "not_participant"},
			"no conversation":        {change: func(e *draft) { e.Conversation = envelope.ConversationID("x", e.ID) }, want: "conversation_not_found"},
			"one of its own":         {change: func(e *draft) { e.Conversation = replica }, want: "conversation_not_found"},
			"a create":               {change: func(e *draft) { e.Type, e.Event = envelope.System, envelope.EventCreate }, want: ""},
			"an event of its own":    {change: func(e *draft) { e.Type, e.Event = envelope.System, "boo" }, want: ""},
			"a type of a stream":     {change: func(e *draft) { e.Type = envelope.Typing }, want: "form"},
			"an invite with no hosts": {change: func(e *draft) {
				e.Type, e.Event, e.Participants = envelope.System, envelope.EventInvite, []envelope.Address{par.address("Carol")}
			}, want: ""},
			"an invite with another host's id": {change: func(e *draft) {
				e.Type, e.Event, e.Participants = envelope.System, envelope.EventInvite, []envelope.Address{par.address("Carol")}
				e.Hosts = map[string]string{"nyc": nyc.me.ID(), "par": lon.me.ID()}
			}, want: ""},
			"a join with another host's id": {change: func(e *draft) {
				e.Type, e.From.Name, e.Conversation, e.Content = envelope.Join, "Eve", open, ""
				e.Hosts = map[string]string{"nyc": nyc.me.ID(), "lon": par.me.ID()}
			}, want: "bad_request"},
			"a join with no hosts": {change: func(e *draft) {
				e.Type, e.From.Name, e.Conversation, e.Content = envelope.Join, "Eve", open, ""
			}, want: "bad_request"},
			"a join by right of the operator": {change: func(e *draft) {
				e.Type, e.From.Name, e.Conversation, e.Content, e.Operator = envelope.Join, "Eve", open, "", true
				e.Hosts = map[string]string{"nyc": nyc.me.ID(), "lon": lon.me.ID()}
			}, want: "not_allowed"},
			"a close by right of the operator": {change: func(e *draft) {
				e.Type, e.Event, e.Content, e.Operator = envelope.System, envelope.EventClose, "", true
			}, want: ""},
			"a standing": {change: func(e *draft) {
				e.Type, e.Event, e.Content, e.Participants, e.Status = envelope.System, envelope.EventStanding, "", []envelope.Address{nyc.address("Atlas")}, "blocked"
			}, want: ""},
			"a message by right of the operator": {change: func(e *draft) { e.Operator = true }, want: ""},
			"an answer to nothing": {change: func(e *draft) {
				e.Type, e.Event, e.From.Name, e.About, e.To = envelope.System, envelope.EventUndeliverable, "Eve", "x", []string{"Atlas@nyc"}
			}, want: "not_participant"},
			"an answer to what was not for it": {change: func(e *draft) {
				e.Type, e.Event, e.Content, e.Why, e.About, e.To = envelope.System, envelope.EventUndeliverable, "", "ha", said.ID, []string{"Atlas@nyc"}
			}, want: "not_participant"},
			"an answer to nobody who has brought it in": {change: func(e *draft) {
				e.Type, e.Event, e.Content, e.Why, e.About, e.To = envelope.System, envelope.EventUndeliverable, "", "ha", first.ID, []string{"Sage@nyc"}
			}, want: "not_participant"},
			"a line that is not there yet": {change: func(e *draft) { e.After = envelope.Int(1000) }, want: ""},
		} {
			before := len(nyc.lines(id))
			e := message(test.change)
			by, host := lon.me, lon.me.ID()
			if test.by != nil {
				by = test.by.me
			}
			if test.host != "" {
				host = test.host
			}
			line := submission(by, host, e)
			if test.text != nil {
				line = test.text(line)
			}
			l.send(t, "submit", line)
			synctest.Wait()
			after := nyc.said(id)
			if got := l.code(e.ID); got != test.want {
				t.Errorf("%s: got code %q, want %q", name, got, test.want)
			}
			switch added := after[before:]; {
			case test.want != "" && len(added) > 0, test.want == "" && len(added) != 1:
				t.Errorf("%s: got %q in the log", name, added)
			case test.want == "" && !strings.HasPrefix(added[0], "Atlas@nyc system undeliverable"):
				t.Errorf("%s: got %q, want only why it is refused", name, added)
			}
		}
		honest := message(nil)
		l.send(t, "submit", submission(lon.me, lon.me.ID(), honest), submission(lon.me, lon.me.ID(), honest))
		synctest.Wait()
		if n := len(nyc.lines(id)); nyc.said(id)[n-1] != "Bob@lon message hi" || nyc.said(id)[n-2] == "Bob@lon message hi" {
			t.Errorf("got %q, want the honest one once, last", nyc.said(id))
		}
		nyc.want(other, "Atlas@nyc system create")
		nyc.want(both, "Atlas@nyc system create")
		nyc.want(open, "Atlas@nyc system create")
	})
}

// TestFaults: what is no frame of the courier ends the link.
func TestFaults(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		for name, f := range map[string]link.Frame{
			"a line that is no JSON":  {Type: "submit", Lane: link.Mail, Lines: [][]byte{[]byte("hello")}},
			"a line without envelope": {Type: "submit", Lane: link.Mail, Lines: [][]byte{[]byte(`{"host":"x"}`)}},
			"an envelope without id":  {Type: "submit", Lane: link.Mail, Lines: [][]byte{[]byte(`{"host":"x","envelope":{}}`)}},
			"outside of the lane":     {Type: "submit", Lane: link.Call},
			"in bulk":                 {Type: "submit", Lane: link.Bulk},
			"a refusal of nothing":    {Type: "refused", Lane: link.Mail, Lines: [][]byte{[]byte(`[]`)}},
			"a receipt of nothing":    {Type: "receipts", Lane: link.Mail, Lines: [][]byte{[]byte(`{"passed":"x"}`)}},
			"bytes":                   {Type: "receipts", Lane: link.Mail, Data: []byte{1}},
		} {
			l := lie(t, nyc, lon)
			if err := l.session.Send(ctx, f); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second) // for the goodbye
			l.mu.Lock()
			if !l.ended {
				t.Errorf("%s: the link is still up", name)
			}
			l.mu.Unlock()
		}
		nyc.want(id, "Atlas@nyc system create")
	})
}

// TestFlood: 10,000 submissions of who is not in it change nothing and stop nobody.
func TestFlood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		par := newHost(t, "par", "Carol")
		pair(t, nyc, par)
		both := nyc.create("Atlas", []string{"Carol@par"}, par)
		l := lie(t, nyc, lon)
		connect(t, nyc, par)
		var lines []string
		for i := range 10_000 {
			e := &draft{ID: envelope.NamedID("flood", fmt.Sprint(i)), Type: envelope.Message, From: lon.address("Eve"), Conversation: id, After: envelope.Int(0), Content: "hi"}
			text, _ := e.AppendDraft(nil)
			lines = append(lines, fmt.Sprintf(`{"host":%q,"sig":"AAAA","envelope":%s}`, lon.me.ID(), text))
		}
		par.say("Carol", &draft{Conversation: both, Content: "still here"})
		for chunk := range slices.Chunk(lines, 100) {
			l.send(t, "submit", chunk...)
		}
		synctest.Wait()
		nyc.want(id, "Atlas@nyc system create")
		nyc.want(both, "Atlas@nyc system create", "Carol@par message still here")
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.refused) == 0 || l.ended {
			t.Errorf("got %d refusals, ended %v, want to be told and the link up", len(l.refused), l.ended)
		}
	})
}

// TestNoticesAreBounded: who is in a conversation cannot fill its log with refusals.
func TestNoticesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		nyc.say("Atlas", &draft{Type: envelope.Close, Conversation: id})
		l := lie(t, nyc, lon)
		for range 300 {
			e := &draft{ID: envelope.NewID(), Type: envelope.Message, From: lon.address("Bob"), Conversation: id, After: envelope.Int(1), Content: "hi"}
			l.send(t, "submit", submission(lon.me, lon.me.ID(), e))
		}
		synctest.Wait()
		if n := len(nyc.lines(id)); n > 110 {
			t.Errorf("got %d lines, want at most about 100 refusals", n)
		}
		if len(l.refused) < 190 {
			t.Errorf("got %d refusals, want the others told", len(l.refused))
		}
	})
}

// TestLyingOrigin: lines in the name of a host that has not said them do not come into the
// copy of a log.
func TestLyingOrigin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, _ := two(t)
		par, far := newHost(t, "par", "Carol"), newHost(t, "far", "Dan")
		pair(t, nyc, par, lon)
		pair(t, nyc, far)
		id := nyc.create("Atlas", []string{"Bob@lon", "Carol@par", "Dan@far"}, lon, par, far)
		connect(t, nyc, lon)
		connect(t, nyc, par)
		connect(t, nyc, far)
		lon.say("Bob", &draft{Conversation: id, Content: "mine"})
		synctest.Wait()
		good := nyc.lines(id)
		stamp := func(e *draft, signer *identity.Host) []byte {
			e.Seq, e.Timestamp, e.Conversation = 3, 1, id
			e.ID, e.After = envelope.NewID(), envelope.Int(1)
			if signer != nil {
				e.Signature = base64.StdEncoding.EncodeToString(signer.Sign(e.Signed()))
			}
			return e.Append(nil)
		}
		hosts := func(name, id string) map[string]string { return map[string]string{"nyc": nyc.me.ID(), name: id} }
		for name, test := range map[string]struct {
			line   *draft
			signer *identity.Host
			ok     bool
		}{
			"of the origin":                      {&draft{Type: envelope.Message, From: nyc.address("Atlas"), Content: "x"}, nil, true},
			"of a third that signed":             {&draft{Type: envelope.Message, From: par.address("Carol"), Content: "x"}, par.me, true},
			"of a host that is not known here":   {&draft{Type: envelope.Message, From: far.address("Dan"), Content: "x"}, nil, true},
			"of this host, signed":               {&draft{Type: envelope.Message, From: lon.address("Bob"), Content: "x"}, lon.me, true},
			"of this host":                       {&draft{Type: envelope.Message, From: lon.address("Bob"), Content: "x"}, nil, false},
			"of this host, signed by the origin": {&draft{Type: envelope.Message, From: lon.address("Bob"), Content: "x"}, nyc.me, false},
			"a leave of this host":               {&draft{Type: envelope.Leave, From: lon.address("Bob")}, nil, false},
			"of a third":                         {&draft{Type: envelope.Message, From: par.address("Carol"), Content: "x"}, nil, false},
			"of a third, signed by another":      {&draft{Type: envelope.Message, From: par.address("Carol"), Content: "x"}, lon.me, false},
			"an answer of a third":               {&draft{Type: envelope.System, Event: envelope.EventUndeliverable, From: par.address("Carol"), About: "x"}, nil, false},
			"of a host that nothing tells of":    {&draft{Type: envelope.Message, From: envelope.Address{Name: "Zed", Host: "zzz"}, Content: "x"}, nil, false},
			"another host with this one's name":  {&draft{Type: envelope.System, Event: envelope.EventInvite, From: nyc.address("Atlas"), Participants: []envelope.Address{{Name: "Eve", Host: "lon"}}, Hosts: hosts("lon", par.me.ID())}, nil, false},
			"this host by another name":          {&draft{Type: envelope.System, Event: envelope.EventInvite, From: nyc.address("Atlas"), Participants: []envelope.Address{{Name: "Eve", Host: "dub"}}, Hosts: hosts("dub", lon.me.ID())}, nil, false},
			"the origin by another name":         {&draft{Type: envelope.System, Event: envelope.EventInvite, From: nyc.address("Atlas"), Participants: []envelope.Address{{Name: "Eve", Host: "dub"}}, Hosts: hosts("dub", nyc.me.ID())}, nil, false},
			"the operator of the origin comes":   {&draft{Type: envelope.Join, From: nyc.address("human"), Operator: true}, nil, true},
			"and says what agents may do":        {&draft{Type: envelope.System, Event: envelope.EventStanding, From: nyc.address("human"), Participants: []envelope.Address{lon.address("Bob")}, Status: "muted", Operator: true}, nil, true},
			"that of a third that signed":        {&draft{Type: envelope.Join, From: par.address("human"), Operator: true, Hosts: hosts("par", par.me.ID())}, par.me, false},
			"that of this host, signed":          {&draft{Type: envelope.System, Event: envelope.EventClose, From: lon.address("human"), Operator: true}, lon.me, false},
			"an end of a call by this host":      {&draft{Type: envelope.System, Event: envelope.EventClose, From: lon.address("Bob"), Reason: "agreed", Auto: true}, nil, false},
			"by a third":                         {&draft{Type: envelope.System, Event: envelope.EventClose, From: par.address("Carol"), Reason: "agreed", Auto: true}, nil, false},
			"by the origin":                      {&draft{Type: envelope.System, Event: envelope.EventClose, From: nyc.address("Atlas"), Reason: "the others have left", Auto: true}, nil, true},
			"of a third, with an automatic end":  {&draft{Type: envelope.System, Event: envelope.EventClose, From: par.address("Carol"), Operator: true, Auto: true}, par.me, false},
			"a new host":                         {&draft{Type: envelope.System, Event: envelope.EventInvite, From: nyc.address("Atlas"), Participants: []envelope.Address{{Name: "Eve", Host: "dub"}}, Hosts: hosts("dub", "someid")}, nil, true},
		} {
			state, _ := lon.ledger.State(ctx, id)
			var lines []ledger.Stored
			for _, text := range append(slices.Clone(good[state.LastSeq:2]), stamp(test.line, test.signer)) {
				e, err := envelope.Decode(text)
				if err != nil {
					t.Fatal(err)
				}
				lines = append(lines, ledger.Stored{Envelope: e, Bytes: text})
			}
			err := lon.courier.Check(nyc.me.ID(), id, state, lines)
			if (err == nil) != test.ok || err != nil && !errors.Is(err, courier.ErrForged) {
				t.Errorf("%s: got %v, want fine %v", name, err, test.ok)
			}
		}
		for name, first := range map[string]*draft{
			"made by an agent of a third":    {From: par.address("Carol"), Participants: []envelope.Address{par.address("Carol"), lon.address("Bob")}, Hosts: map[string]string{"par": nyc.me.ID(), "lon": lon.me.ID()}},
			"made by an agent of ours":       {From: lon.address("Bob"), Participants: []envelope.Address{lon.address("Bob")}},
			"which says less than it has to": {From: nyc.address("Atlas"), Participants: []envelope.Address{nyc.address("Atlas"), lon.address("Bob")}, Hosts: map[string]string{"lon": par.me.ID()}},
		} {
			first.Seq, first.Timestamp, first.ID, first.Type, first.Event = 1, 1, envelope.NewID(), envelope.System, envelope.EventCreate
			first.Origin, first.Mode = nyc.me.ID(), conv.Live
			first.Conversation = envelope.ConversationID(first.Origin, first.ID)
			if err := lon.copy(nyc.me.ID(), first.Conversation, first.Append(nil)); !errors.Is(err, courier.ErrForged) {
				t.Errorf("a conversation %s: got %v, want ErrForged", name, err)
			}
		}
	})
}

// TestRefusalsOfOthers: a peer takes nothing out of the spool of another one, and cannot
// make an agent's folder fill.
func TestRefusalsOfOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		par := third(t, nyc, lon)
		e := lon.say("Bob", &draft{Conversation: id, Content: "for nyc"}).Envelope
		l := &liar{refused: make(map[string]string)}
		side := par.side()
		side.Services = []peer.Service{l}
		peertest.Connect(t, lon.side(), side)
		l.send(t, "refused", fmt.Sprintf(`{"id":%q,"code":"forged","text":"ha"}`, e.ID))
		synctest.Wait()
		lon.wantSpooled(nyc, 1)
		if got := lon.failed("Bob"); len(got) > 0 {
			t.Errorf("failed: got %q, want nothing", got)
		}
	})
}

// TestLinesOfOthers: what waits for one host goes when that one has it or refuses it, and
// nobody else can say so.
func TestLinesOfOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, _ := two(t)
		par := third(t, nyc, lon)
		id := nyc.create("Atlas", []string{"Bob@lon", "Carol@par"}, lon)
		own := par.create("Carol", []string{"Bob@lon"}, lon)
		e := lon.say("Bob", &draft{Conversation: id, Content: "for nyc"}).Envelope
		take := func(origin *host, in string, seq int64, e draft) {
			e.Seq, e.Timestamp, e.From, e.Conversation, e.After = seq, 1, par.address("Carol"), in, envelope.Int(1)
			e.Signature = base64.StdEncoding.EncodeToString(par.me.Sign(e.Signed()))
			if err := lon.copy(origin.me.ID(), in, e.Append(nil)); err != nil {
				t.Fatal(err)
			}
		}
		no := draft{ID: envelope.NewID(), Type: envelope.System, Event: envelope.EventUndeliverable, To: []string{"Bob@lon"}, About: e.ID, Why: "ha"}
		same := draft{ID: e.ID, Type: envelope.Message, Content: "ha"}
		take(par, own, 2, same)
		take(par, own, 3, no)
		take(nyc, id, 2, same) // as a guest of the origin
		take(nyc, id, 3, no)
		lon.wantSpooled(nyc, 1)
	})
}

// TestPutOffAndBack: what its origin has put off can come back all the same, where the disk
// there has failed behind the line. What waits behind it is sent again.
func TestPutOffAndBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		lon.say("Bob", &draft{Conversation: id, Content: "behind it"})
		l := &liar{refused: make(map[string]string)}
		side := nyc.side()
		side.Services = []peer.Service{l}
		peertest.Connect(t, lon.side(), side)
		synctest.Wait()
		before := l.begun
		l.send(t, "refused", fmt.Sprintf(`{"id":%q,"code":"later","text":"the disk"}`, envelope.NewID()))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if before != 1 || l.begun != 2 {
			t.Errorf("the spool was sent %d times, then %d times, want once more", before, l.begun-before)
		}
		lon.wantSpooled(nyc, 1)
	})
}

// TestRotatedKey: what was signed with an older key is taken.
func TestRotatedKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		lon.say("Bob", &draft{Conversation: id, Content: "before"})
		var err error
		if lon.me, err = lon.me.Rotate(lon.home); err != nil {
			t.Fatal(err)
		}
		if _, err := nyc.book.Prove(lon.me.Keys()); err != nil {
			t.Fatal(err)
		}
		lon.say("Bob", &draft{Conversation: id, Content: "after"})
		connect(t, nyc, lon)
		synctest.Wait()
		ship(nyc, lon, id)
		nyc.want(id, "Atlas@nyc system create", "Bob@lon message before", "Bob@lon message after")
		lon.wantSpooled(nyc, 0)
	})
}

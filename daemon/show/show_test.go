package show_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/sentence/sentencetest"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/google/go-cmp/cmp"
)

const id = "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3"

var (
	home  = &maildir.Home{Dir: "/home", Host: maildir.Host{Name: "nyc"}}
	atlas = home.Address("Atlas")
	nova  = home.Address("Nova")
)

func TestLimit(t *testing.T) {
	for n, want := range map[int]int{-1: 20, 0: 20, 1: 1, 20: 20, 500: 500, 501: 500, math.MaxInt: 500} {
		if got := show.Limit(n); got != want {
			t.Errorf("Limit(%d): got %d, want %d", n, got, want)
		}
	}
}

func TestAgents(t *testing.T) {
	cards := []card.Card{{Name: "Atlas", Capabilities: []string{"go"}}, {Name: "Nova", Capabilities: []string{"Go"}}, {Name: "Sage"}}
	list := func(text string, capabilities []string, limit, more int, want ...string) {
		t.Helper()
		answer := show.Agents(show.Locals(home, cards), api.AgentQuery{Text: text, Capabilities: capabilities, Limit: limit}, func(w show.Who) api.Agent { return show.Agent(home, w.Card, 3) })
		got := []string{}
		for _, a := range answer.Agents {
			got = append(got, a.Name)
		}
		if !slices.Equal(got, want) || answer.More != more {
			t.Errorf("Agents(%q, %q, %d): got %q and %d more, want %q and %d", text, capabilities, limit, got, answer.More, want, more)
		}
	}
	list("", nil, 0, 0, "Atlas", "Nova", "Sage")
	list("", []string{"GO"}, 1, 1, "Atlas")
	list("nov", nil, 0, 0, "Nova")
	want := api.Agent{Name: "Sage", Address: "Sage@nyc", Host: "nyc", Capabilities: []string{}, Accepts: card.Anyone, Status: card.Offline, Unread: 3, Folder: "/home/agents/sage"}
	if diff := cmp.Diff(want, show.Agent(home, cards[2], 3)); diff != "" {
		t.Errorf("Agent (-want +got):\n%s", diff)
	}
}

func TestRegistered(t *testing.T) {
	text := "Reads Go"
	c, err := show.Registered(home, card.Card{}, api.Register{Name: "Nova", Description: &text})
	if err != nil || c.ID == "" || c.Name != "Nova" || c.Description != text {
		t.Errorf("a new agent: got %+v, %v", c, err)
	}
	c.Unregistered, c.Unknown = true, []envelope.Field{{Name: "mood", Value: []byte(`"calm"`)}}
	again, err := show.Registered(home, c, api.Register{Name: "NOVA", Capabilities: &[]string{"go"}})
	want := c
	want.Capabilities, want.Unregistered = []string{"go"}, false
	if diff := cmp.Diff(want, again); diff != "" || err != nil {
		t.Errorf("again: got %v (-want +got):\n%s", err, diff)
	}
	if found, err := show.Registered(home, card.Card{Name: "nova"}, api.Register{Name: "Nova"}); err != nil || found.Name != "Nova" {
		t.Errorf("of a folder that was made by hand: got %q, %v, want Nova", found.Name, err)
	}
	var refused *api.Error
	if _, err := show.Registered(home, c, api.Register{Name: "Nova", Capabilities: &[]string{"two words"}}); !errors.As(err, &refused) || refused.Code != api.BadRequest {
		t.Errorf("a bad capability: got %v, want %s", err, api.BadRequest)
	}
}

func TestConversation(t *testing.T) {
	var state conv.State
	for _, e := range []envelope.Envelope{
		{Type: envelope.System, Event: envelope.EventCreate, Conversation: id, From: atlas, Topic: "a", Mode: conv.Live, Participants: []envelope.Address{atlas, nova}},
		{Type: envelope.Message, From: nova, Content: "hi"},
		{Type: envelope.Leave, From: nova},
		{Type: envelope.System, Event: envelope.EventClose, From: atlas, Reason: "done"},
	} {
		e.Seq, e.Timestamp = state.LastSeq+1, 10+state.LastSeq
		state = state.Apply(&e)
	}
	want := api.Conversation{
		ID: id, Ref: "c92a3", Topic: "a", Mode: "live", Turns: 1, Creator: "Atlas@nyc", Participants: []string{"Atlas@nyc"}, Left: []string{"Nova@nyc"},
		Status: "closed", Reason: "done", LastSeq: 4, LastTime: 13, CreatedAt: 10, Unread: 2, Log: "/home/conversations/" + id + ".jsonl",
	}
	got := show.Conversation(home, "c92a3", state, 2)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got = show.Damaged(got, errors.New("line 5 is missing")); got.Status != "damaged" || got.Reason != "line 5 is missing" || got.Topic != "a" {
		t.Errorf("damaged: got %+v", got)
	}
}

func TestConversations(t *testing.T) {
	conversation := func(topic, status string, at int64, people ...string) api.Conversation {
		return api.Conversation{Topic: topic, Status: status, LastTime: at, Participants: people}
	}
	all := []api.Conversation{
		conversation("a", "active", -2, "Atlas@nyc", "Nova@nyc"),
		conversation("b", "closed", math.MaxInt64, "Atlas@nyc", "Nova@moon"),
		conversation("c", "damaged", 7, "Atlas@nyc"),
	}
	all[2].Left = []string{"Sage@nyc"}
	for _, test := range []struct {
		query show.Query
		more  int
		want  []string
	}{
		{show.Query{}, 0, []string{"b", "c", "a"}},
		{show.Query{Limit: 1}, 2, []string{"b"}},
		{show.Query{Status: "damaged"}, 0, []string{"c"}},
		{show.Query{With: "nova"}, 0, []string{"b", "a"}},
		{show.Query{With: "Nova@nyc"}, 0, []string{"a"}},
		{show.Query{With: "SAGE"}, 0, []string{"c"}},
		{show.Query{With: "Sage", Status: "active"}, 0, []string{}},
		{show.Query{With: "No"}, 0, []string{}},
	} {
		answer := show.Conversations(slices.Clone(all), test.query)
		got := []string{}
		for _, c := range answer.Conversations {
			got = append(got, c.Topic)
		}
		if !slices.Equal(got, test.want) || answer.More != test.more {
			t.Errorf("%+v: got %q and %d more, want %q and %d", test.query, got, answer.More, test.want, test.more)
		}
	}
}

func TestFailed(t *testing.T) {
	box, err := mailbox.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 21 {
		path := filepath.Join(box.Dir(), mailbox.Failed, fmt.Sprintf("%02d.json", i))
		if err := os.WriteFile(path, []byte(`{"error":"nobody"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := show.Failed(box)
	if len(got) != 20 || got[0].File != filepath.Join(box.Dir(), mailbox.Failed, "00.json") || got[0].Error != "nobody" {
		t.Errorf("got %d: %+v, want the first 20 of 21", len(got), got)
	}
	if got := show.Failed(mailbox.At(t.TempDir())); got != nil {
		t.Errorf("without the folder: got %+v, want none", got)
	}
}

func TestText(t *testing.T) {
	for want, e := range map[string]envelope.Envelope{
		"hi":                            {Type: envelope.Message, Content: "hi"},
		"invited you":                   {Type: envelope.System, Event: envelope.EventInvite, Participants: []envelope.Address{atlas, nova}},
		"closed the conversation":       {Type: envelope.System, Event: envelope.EventClose},
		"closed the conversation: done": {Type: envelope.System, Event: envelope.EventClose, Reason: "done"},
		"not delivered: too late":       {Type: envelope.System, Event: envelope.EventUndeliverable, Why: "too late"},
		"joined":                        {Type: envelope.Join},
		"left: lunch":                   {Type: envelope.Leave, Reason: "lunch"},
		"left: bye":                     {Type: envelope.Leave, Content: "bye"},
		"joined: blocked you":           {Type: envelope.Join, Content: "blocked you"},
		"can you look?":                 {Type: envelope.Call, Content: "can you look?"},
	} {
		if got := show.Text(&e); got != want {
			t.Errorf("%s %s: got %q, want %q", e.Type, e.Event, got, want)
		}
	}
	for _, c := range sentencetest.Cases() {
		if got := show.Text(&c.Envelope); !strings.Contains(got, c.Says) {
			t.Errorf("%s: got %q, want %q in it", c.Name, got, c.Says)
		}
	}
}

// TestCrossed looks back a hundred lines and no further.
func TestCrossed(t *testing.T) {
	said := func(seq int64, from envelope.Address) *envelope.Envelope {
		return &envelope.Envelope{Seq: seq, Type: envelope.Message, From: from}
	}
	others := func(from int64) iter.Seq2[*envelope.Envelope, error] {
		return func(yield func(*envelope.Envelope, error) bool) {
			for seq := from + 1; yield(said(seq, nova), nil); seq++ {
			}
		}
	}
	for _, test := range []struct {
		seq, after int64
		replyTo    int64
		want       []int64
	}{
		{seq: 5, after: 4},
		{seq: 5, after: 9},
		{seq: 5, after: 2, want: []int64{3, 4}},
		{seq: 5, after: 2, replyTo: 3, want: []int64{4}},
	} {
		e := said(test.seq, atlas)
		e.After, e.ReplyTo.Seq = &test.after, test.replyTo
		var got []int64
		if behind, ok := show.CrossedBehind(e); ok {
			got = show.Crossed(e, others(behind))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%+v: got %v", test, got)
		}
	}
	far := said(1000, atlas)
	if _, ok := show.CrossedBehind(far); ok {
		t.Error("a message that does not tell what its sender was shown: got lines, want none")
	}
	far.After = envelope.Int(1)
	behind, ok := show.CrossedBehind(far)
	if got := show.Crossed(far, others(behind)); !ok || len(got) != 100 || got[0] != 900 || got[99] != 999 {
		t.Errorf("of long ago: got %d of %v, want the hundred before it", len(got), got)
	}
	broken := func(yield func(*envelope.Envelope, error) bool) {
		_ = yield(said(998, nova), nil) && yield(nil, errors.New("the disk failed"))
	}
	if got := show.Crossed(far, broken); !slices.Equal(got, []int64{998}) {
		t.Errorf("of a log that cannot be read on: got %v, want what was read", got)
	}
}

// newLog makes a log of so many messages, with a line of noise in the middle.
func newLog(t *testing.T, n int) *convlog.Reader {
	t.Helper()
	path := filepath.Join(t.TempDir(), id+".jsonl")
	var lines []*envelope.Envelope
	for i := range n {
		lines = append(lines, &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, From: nova, Conversation: id, Content: fmt.Sprint("number ", i+1)})
	}
	if err := convlog.Create(path, lines, time.Now()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	half := bytes.Index(data, []byte(fmt.Sprintf(`{"seq":%d,`, n/2+1)))
	data = slices.Concat(data[:half], []byte("noise\n"), data[half:])
	return convlog.NewReader(bytes.NewReader(data), int64(len(data)))
}

func TestSpan(t *testing.T) {
	log := newLog(t, 6)
	for _, test := range []struct {
		span show.Span
		want []int
	}{
		{show.Span{}, []int{1, 2, 3, 4, 5, 6}},
		{show.Span{After: 3}, []int{4, 5, 6}},
		{show.Span{After: 99}, nil},
		{show.Span{Before: 3}, []int{1, 2}},
		{show.Span{Before: 1}, nil},
		{show.Span{After: 1, Before: 4}, []int{2, 3}},
		{show.Span{Last: 2}, []int{5, 6}},
		{show.Span{Last: 99}, []int{1, 2, 3, 4, 5, 6}},
		{show.Span{Last: math.MaxInt, Before: 2}, []int{1}},
		{show.Span{Last: 2, Before: 4}, []int{2, 3}},
		{show.Span{Limit: 2}, []int{1, 2}},
		{show.Span{After: 2, Limit: 1}, []int{3}},
		{show.Span{Last: 4, Limit: 1}, []int{3}},
		{show.Span{Last: 2, After: 5}, []int{6}},
	} {
		var out strings.Builder
		n, err := test.span.Write(&out, log, 6)
		var got []int
		for line := range strings.Lines(out.String()) {
			e, err := envelope.Decode([]byte(line))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, int(e.Seq))
		}
		if !slices.Equal(got, test.want) || n != len(got) || err != nil {
			t.Errorf("%+v: got %v, %d, %v, want %v", test.span, got, n, err, test.want)
		}
	}
}

// failing is a file of which the next read beyond some byte fails: because the disk does,
// or because it was cut there.
type failing struct {
	data []byte
	err  error
}

func (f failing) ReadAt(p []byte, at int64) (int, error) {
	n := copy(p, f.data[min(at, int64(len(f.data))):])
	switch {
	case n == len(p):
		return n, nil
	case n > 0:
		return n, io.EOF
	}
	return 0, f.err
}

// TestSpanOfABrokenLog writes what is whole, and then says that it is not all.
func TestSpanOfABrokenLog(t *testing.T) {
	line := func(seq int) string { return fmt.Sprintf(`{"seq":%d,"id":"%s","type":"message"}`, seq, id) + "\n" }
	whole := line(1) + line(2)
	for what, test := range map[string]struct {
		span show.Span
		read string // what can be read
		size int    // how long the log was
		err  error  // of reading behind that
		want error
	}{
		"whole":                        {show.Span{}, whole, len(whole), io.EOF, nil},
		"a line that is not there yet": {show.Span{}, whole + "{", len(whole) + 1, io.EOF, nil},
		"damage":                       {show.Span{}, whole + line(9) + line(10), len(whole + line(9) + line(10)), io.EOF, nil},
		"a disk that fails":            {show.Span{}, whole + "{", len(whole) + 99, syscall.EIO, syscall.EIO},
		"a log that was cut":           {show.Span{}, whole + "{", len(whole) + 99, io.EOF, io.ErrUnexpectedEOF},
		"cut behind what is asked for": {show.Span{Limit: 2}, whole + "{", len(whole) + 99, io.EOF, nil},
	} {
		var out strings.Builder
		log := convlog.NewReader(failing{[]byte(test.read), test.err}, int64(test.size))
		n, err := test.span.Write(&out, log, 9)
		if out.String() != whole || n != 2 || !errors.Is(err, test.want) {
			t.Errorf("%s: got %q, %d, %v, want two lines and %v", what, out.String(), n, err, test.want)
		}
	}
}

// TestRankOfOtherHosts: agents of other hosts are ranked as those here are, a little
// behind equal ones, and who is out of reach stands behind all.
func TestRankOfOtherHosts(t *testing.T) {
	here := func(name, status string, load int) show.Who {
		return show.Who{
			Card: card.Card{Name: name, Capabilities: []string{"go"}, Platform: status, Description: strings.Repeat("x", load)}, Address: home.Address(name),
		}
	}
	far := func(name, host, link, status string, load int) show.Who {
		a := api.Agent{Name: name, Address: name + "@" + host, Host: host, Link: link, Capabilities: []string{"go"}, Status: status, Unread: load}
		return show.Who{Card: card.Card{Name: name, Capabilities: []string{"go"}}, Address: envelope.Address{Name: name, Host: host}, Far: &a}
	}
	describe := func(w show.Who) api.Agent {
		if w.Far != nil {
			return *w.Far
		}
		a := show.Agent(home, w.Card, len(w.Card.Description))
		a.Status = w.Card.Platform
		return a
	}
	all := func() []show.Who {
		return []show.Who{
			here("Idle", "available", 3), here("Zed", "available", 0), here("Off", "offline", 0), here("Work", "busy", 0),
			far("Ann", "lon", "up", "available", 0), far("Ann", "tok", "up", "available", 0), far("Ben", "lon", "up", "available", 2),
			far("Cut", "far", "down", "offline", 0), far("Dot", "lon", "up", "busy", 0), far("Ezra", "lon", "up", "offline", 0),
		}
	}
	want := []string{
		"Zed@nyc", "Ann@lon", "Ann@tok", "Ben@lon", "Idle@nyc", "Work@nyc", "Dot@lon", "Off@nyc", "Ezra@lon", "Cut@far",
	}
	got := func(list []api.Agent) (addresses []string) {
		for _, a := range list {
			addresses = append(addresses, a.Address)
		}
		return addresses
	}
	if diff := cmp.Diff(want, got(show.Best(all(), api.Match{Capabilities: []string{"go"}}, describe))); diff != "" {
		t.Errorf("Best (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, got(show.Agents(all(), api.AgentQuery{Capabilities: []string{"go"}}, describe).Agents)); diff != "" {
		t.Errorf("Agents that can go (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"Ann@lon", "Ben@lon", "Dot@lon", "Ezra@lon"}, got(show.Agents(all(), api.AgentQuery{Host: "lon"}, describe).Agents)); diff != "" {
		t.Errorf("Agents of lon (-want +got):\n%s", diff)
	}

	// Two agents of one name are two places in a list that is given in parts.
	var parts []string
	for q := (api.AgentQuery{Limit: 1}); ; {
		answer := show.Agents(all(), q, describe)
		parts = append(parts, got(answer.Agents)...)
		if answer.Next == "" {
			break
		}
		var err error
		if q.Cursor, err = api.ParseCursor(answer.Next); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(got(show.Agents(all(), api.AgentQuery{}, describe).Agents), parts); diff != "" {
		t.Errorf("in parts (-want +got):\n%s", diff)
	}
}

// TestOfEqualOnesWhoLearnsSooner stands first; what one has to do counts before that.
func TestOfEqualOnesWhoLearnsSooner(t *testing.T) {
	var all []show.Who
	for _, name := range []string{"A-none", "B-manual", "C-turn-end", "D-push", "E-push", "F-"} {
		all = append(all, show.Who{Card: card.Card{Name: name, Capabilities: []string{"go"}}, Address: home.Address(name)})
	}
	describe := func(w show.Who) api.Agent {
		a := show.Agent(home, w.Card, 0)
		a.Status = card.Available
		_, a.Wake, _ = strings.Cut(a.Name, "-")
		if a.Name == "E-push" {
			a.Unread = 1
		}
		return a
	}
	var got []string
	for _, a := range show.Best(all, api.Match{Capabilities: []string{"go"}}, describe) {
		got = append(got, a.Name)
	}
	if diff := cmp.Diff([]string{"D-push", "C-turn-end", "B-manual", "A-none", "F-", "E-push"}, got); diff != "" {
		t.Errorf("Best (-want +got):\n%s", diff)
	}
}

// TestLastIsToldToAnybody: who lists conversations is not who was invited or muted.
func TestLastIsToldToAnybody(t *testing.T) {
	from, nova := envelope.Address{Name: "Atlas", Host: "nyc"}, envelope.Address{Name: "Nova", Host: "nyc"}
	for want, e := range map[string]envelope.Envelope{
		"created the conversation with Nova@nyc": {Event: envelope.EventCreate, Participants: []envelope.Address{from, nova}},
		"created the conversation":               {Event: envelope.EventCreate, Participants: []envelope.Address{from}},
		"muted Nova@nyc: it is loud":             {Event: envelope.EventStanding, Status: "muted", Reason: "it is loud", Participants: []envelope.Address{nova}},
		"lets Nova@nyc do all again":             {Event: envelope.EventStanding, Status: "none", Participants: []envelope.Address{nova}},
		"closed the conversation: end":           {Event: envelope.EventClose, Reason: "end"},
	} {
		e.Type, e.From = envelope.System, from
		if got := show.Last(&e).Preview; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

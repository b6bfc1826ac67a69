package conv_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
)

var (
	atlas = address("Atlas")
	nova  = address("Nova")
	sage  = address("Sage")
)

func address(name string) envelope.Address { return envelope.Address{Name: name, Host: "nyc"} }

var limits = conv.Limits{Members: 3}

func message(from envelope.Address) *envelope.Envelope {
	return &envelope.Envelope{Type: envelope.Message, From: from, Content: "hi"}
}

func join(from envelope.Address) *envelope.Envelope {
	return &envelope.Envelope{Type: envelope.Join, From: from}
}

func leave(from envelope.Address) *envelope.Envelope {
	return &envelope.Envelope{Type: envelope.Leave, From: from}
}

func event(name string, from envelope.Address, who ...envelope.Address) *envelope.Envelope {
	return &envelope.Envelope{Type: envelope.System, Event: name, From: from, Participants: who}
}

func invite(from envelope.Address, who ...envelope.Address) *envelope.Envelope {
	return event(envelope.EventInvite, from, who...)
}

func closing(from envelope.Address) *envelope.Envelope {
	e := event(envelope.EventClose, from)
	e.Reason = "done"
	return e
}

// create makes a conversation of Atlas with these other members.
func create(change func(*envelope.Envelope), others ...envelope.Address) *envelope.Envelope {
	e := event(envelope.EventCreate, atlas, append([]envelope.Address{atlas}, others...)...)
	e.Conversation, e.Topic, e.Mode, e.Origin = "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3", "Cogito", conv.Live, "host"
	if change != nil {
		change(e)
	}
	return e
}

// fold is the state after lines, which it numbers.
func fold(lines ...*envelope.Envelope) conv.State {
	var s conv.State
	for i, e := range lines {
		e.Seq, e.Timestamp = int64(i+1), int64(1000+i)
		s = s.Apply(e)
	}
	return s
}

func opened(e *envelope.Envelope)  { e.Open = true }
func limited(e *envelope.Envelope) { e.TurnLimit = 2 }

// states are the kinds of conversations that a line can meet.
var states = []struct {
	name  string
	state conv.State
}{
	{"of two", fold(create(nil, nova))},
	{"alone", fold(create(nil))},
	{"open", fold(create(opened, nova))},
	{"open and full", fold(create(opened, nova, address("Rune")))},
	{"full", fold(create(nil, nova, address("Rune")))},
	{"Nova left", fold(create(nil, nova), leave(nova))},
	{"open, Nova left", fold(create(opened, nova), leave(nova))},
	{"Atlas left", fold(create(nil, nova), leave(atlas))},
	{"turns used up", fold(create(limited, nova), message(atlas), message(nova))},
	{"closed", fold(create(nil, nova), closing(atlas))},
	{"open and closed", fold(create(opened, nova), closing(atlas))},
	{"closed, Nova left", fold(create(nil, nova), closing(atlas), leave(nova))},
}

// TestCheck is the table of every line against every kind of conversation. Atlas has
// created it, Nova is in it where it is not alone, Sage is not.
func TestCheck(t *testing.T) {
	const ok = conv.Kind(0)
	lines := []struct {
		name string
		line *envelope.Envelope
		want []conv.Kind // for each of states
	}{
		{"message of Atlas", message(atlas), []conv.Kind{
			ok, ok, ok, ok, ok, conv.NobodyElse, ok, conv.NotParticipant, conv.TurnLimit, conv.Closed, conv.Closed, conv.Closed}},
		{"message of Nova", message(nova), []conv.Kind{
			ok, conv.NotParticipant, ok, ok, ok, conv.NotParticipant, conv.NotParticipant, conv.NobodyElse, conv.TurnLimit, conv.Closed, conv.Closed, conv.NotParticipant}},
		{"message of Sage", message(sage), []conv.Kind{
			conv.NotParticipant, conv.NotParticipant, conv.NotParticipant, conv.NotParticipant, conv.NotParticipant, conv.NotParticipant,
			conv.NotParticipant, conv.NotParticipant, conv.NotParticipant, conv.NotParticipant, conv.NotParticipant, conv.NotParticipant}},
		{"join of Atlas", join(atlas), []conv.Kind{
			conv.AlreadyIn, conv.AlreadyIn, conv.AlreadyIn, conv.AlreadyIn, conv.AlreadyIn, conv.AlreadyIn,
			conv.AlreadyIn, conv.NotOpen, conv.AlreadyIn, conv.AlreadyIn, conv.AlreadyIn, conv.AlreadyIn}},
		{"join of Sage", join(sage), []conv.Kind{
			conv.NotOpen, conv.NotOpen, ok, conv.TooMany, conv.NotOpen, conv.NotOpen, ok, conv.NotOpen, conv.NotOpen, conv.Closed, conv.Closed, conv.Closed}},
		{"join of Nova", join(nova), []conv.Kind{
			conv.AlreadyIn, conv.NotOpen, conv.AlreadyIn, conv.AlreadyIn, conv.AlreadyIn, conv.NotOpen, ok, conv.AlreadyIn,
			conv.AlreadyIn, conv.AlreadyIn, conv.AlreadyIn, conv.Closed}},
		{"leave of Nova", leave(nova), []conv.Kind{
			ok, conv.NotParticipant, ok, ok, ok, conv.NotParticipant, conv.NotParticipant, ok, ok, ok, ok, conv.NotParticipant}},
		{"leave of Sage", leave(sage), []conv.Kind{
			conv.NotParticipant, conv.NotParticipant, conv.NotParticipant, conv.NotParticipant, conv.NotParticipant, conv.NotParticipant,
			conv.NotParticipant, conv.NotParticipant, conv.NotParticipant, conv.NotParticipant, conv.NotParticipant, conv.NotParticipant}},
		{"invite of Sage by Atlas", invite(atlas, sage), []conv.Kind{
			ok, ok, ok, conv.TooMany, conv.TooMany, ok, ok, conv.NotParticipant, ok, conv.Closed, conv.Closed, conv.Closed}},
		{"invite of Nova and Sage by Nova", invite(nova, nova, sage), []conv.Kind{
			ok, conv.NotParticipant, ok, conv.TooMany, conv.TooMany, conv.NotParticipant, conv.NotParticipant, ok, ok, conv.Closed, conv.Closed, conv.NotParticipant}},
		{"invite of Nova by Atlas", invite(atlas, nova), []conv.Kind{
			conv.AlreadyIn, ok, conv.AlreadyIn, conv.AlreadyIn, conv.AlreadyIn, ok, ok, conv.NotParticipant, conv.AlreadyIn, conv.Closed, conv.Closed, conv.Closed}},
		{"close by Atlas", closing(atlas), []conv.Kind{
			ok, ok, ok, ok, ok, ok, ok, conv.NotParticipant, ok, conv.Closed, conv.Closed, conv.Closed}},
		{"close by Nova", closing(nova), []conv.Kind{
			conv.NotCreator, conv.NotParticipant, conv.NotCreator, conv.NotCreator, conv.NotCreator, conv.NotParticipant,
			conv.NotParticipant, ok, conv.NotCreator, conv.Closed, conv.Closed, conv.NotParticipant}},
		{"undeliverable", event(envelope.EventUndeliverable, sage), make([]conv.Kind, len(states))},
	}
	for _, l := range lines {
		for i, s := range states {
			err := s.state.Check(l.line, limits)
			if got := kindOf(err); got != l.want[i] {
				t.Errorf("%s, %s: got %s (%v), want %s", s.name, l.name, kindName(got), err, kindName(l.want[i]))
			}
		}
	}
}

func kindOf(err error) conv.Kind {
	var refusal *conv.Refusal
	if errors.As(err, &refusal) {
		return refusal.Kind
	}
	if err != nil {
		return -1
	}
	return 0
}

func kindName(k conv.Kind) string {
	names := []string{"ok", "NotParticipant", "NotOpen", "NotCreator", "AlreadyIn", "Closed", "TurnLimit", "NobodyElse", "TooMany"}
	if k < 0 || int(k) >= len(names) {
		return fmt.Sprintf("kind %d", k)
	}
	return names[k]
}

func TestRefusalsSayWhy(t *testing.T) {
	for want, err := range map[string]error{
		`the conversation is closed: "done"`:                                           states[9].state.Check(message(atlas), limits),
		"Nova@nyc has left the conversation at line 2":                                 states[5].state.Check(message(nova), limits),
		"Sage@nyc is not in the conversation":                                          states[0].state.Check(message(sage), limits),
		"only Atlas@nyc, who created the conversation, can close it; you can leave it": states[0].state.Check(closing(nova), limits),
		"the conversation is not open: a participant has to invite Sage@nyc":           states[0].state.Check(join(sage), limits),
		"the turn limit of 2 messages is reached":                                      states[8].state.Check(message(nova), limits),
		"4 participants are over the limit of 3":                                       states[4].state.Check(invite(atlas, sage), limits),
		"the conversation has 3 participants, the most it can have":                    states[3].state.Check(join(sage), limits),
		"everyone invited is in the conversation already":                              states[0].state.Check(invite(atlas, nova), limits),
		"everyone else has left the conversation":                                      states[5].state.Check(message(atlas), limits),
		"the conversation is closed":                                                   fold(create(nil, nova), event(envelope.EventClose, atlas)).Check(message(nova), limits),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestApply tells what each line makes of a conversation.
func TestApply(t *testing.T) {
	base := func() conv.State { return fold(create(nil, nova)) }
	next := func(e *envelope.Envelope) *envelope.Envelope {
		e.Seq, e.Timestamp = 2, 2000
		return e
	}
	for name, test := range map[string]struct {
		line   *envelope.Envelope
		change func(*conv.State)
	}{
		"message":          {message(nova), func(s *conv.State) { s.Turns, s.Members[1].Spoke = 1, true }},
		"empty invite":     {invite(atlas), func(*conv.State) {}},
		"unknown event":    {event("rename", atlas), func(*conv.State) {}},
		"unknown type":     {&envelope.Envelope{Type: "weather", From: sage}, func(*conv.State) {}},
		"second create":    {create(func(e *envelope.Envelope) { e.Topic = "stolen" }, sage), func(*conv.State) {}},
		"close":            {closing(atlas), func(s *conv.State) { s.Closed, s.Reason = true, "done" }},
		"leave of a guest": {leave(sage), func(*conv.State) {}},
		"join of a member": {join(address("NOVA")), func(*conv.State) {}},
		"leave":            {leave(address("nova")), func(s *conv.State) { s.Members[1].Left = 2 }},
		"join":             {join(sage), func(s *conv.State) { s.Members = append(s.Members, conv.Member{Address: sage, Joined: 2}) }},
		"invite":           {invite(nova, sage, sage), func(s *conv.State) { s.Members = append(s.Members, conv.Member{Address: sage, Joined: 2}) }},
		"adopted line":     {&envelope.Envelope{Type: envelope.Message, From: nova, Raw: envelope.Int(77)}, func(s *conv.State) { s.Turns, s.Adopted, s.Members[1].Spoke = 1, 78, true }},
		"refused raw line": {&envelope.Envelope{Type: envelope.System, Event: envelope.EventUndeliverable, From: sage, Raw: envelope.Int(0)}, func(s *conv.State) { s.Adopted = 1 }},
	} {
		want := base()
		test.change(&want)
		want.LastSeq, want.LastTime = 2, 2000
		if diff := cmp.Diff(want, base().Apply(next(test.line))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestCreateSaysWhatTheConversationIs(t *testing.T) {
	got := fold(create(func(e *envelope.Envelope) { e.Open, e.TurnLimit, e.Auto = true, 7, true }, nova))
	want := conv.State{
		ID: "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3", Topic: "Cogito", Mode: conv.Live, Open: true, Auto: true, TurnLimit: 7,
		Origin: "host", Creator: atlas, CreatedAt: 1000, LastSeq: 1, LastTime: 1000,
		Members: []conv.Member{{Address: atlas, Joined: 1}, {Address: nova, Joined: 1}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("state after create (-want +got):\n%s", diff)
	}
}

// TestMessageIsApply: the shortcut for plain messages counts as Apply does.
func TestMessageIsApply(t *testing.T) {
	e := message(nova)
	e.Seq, e.Timestamp = 2, 2000
	want := states[0].state.Apply(e)
	got := states[0].state.Message(2, "nova@NYC")
	got.LastTime = 2000 // it does not look at the line
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Message against Apply (-want +got):\n%s", diff)
	}
}

// TestAutomaticMessages: so many in a row are taken, and a message by somebody resets
// the count.
func TestAutomaticMessages(t *testing.T) {
	auto := func(from envelope.Address, hops int64) *envelope.Envelope {
		e := message(from)
		e.Auto, e.Hops = true, hops
		return e
	}
	rules := conv.Limits{Hops: 2}
	s := fold(create(nil, nova), message(atlas), auto(nova, 0))
	if err := s.Check(auto(atlas, 0), rules); err != nil {
		t.Errorf("the second in a row: got %v, want it taken", err)
	}
	if err := s.Check(auto(atlas, 2), rules); kind(err) != conv.Hops {
		t.Errorf("one that others led to: got %v, want it refused", err)
	}
	s = fold(create(nil, nova), message(atlas), auto(nova, 0), auto(atlas, 0))
	if err := s.Check(auto(nova, 0), rules); kind(err) != conv.Hops {
		t.Errorf("the third in a row: got %v, want it refused", err)
	}
	if err := s.Check(message(nova), rules); err != nil {
		t.Errorf("one by a model: got %v, want it taken", err)
	}
	s = fold(create(nil, nova), auto(nova, 0), auto(atlas, 0), message(nova))
	if err := s.Check(auto(atlas, 0), rules); err != nil {
		t.Errorf("after one by a model: got %v, want it taken", err)
	}
	if err := s.Check(auto(atlas, 0), conv.Limits{}); err != nil {
		t.Errorf("without a limit: got %v, want it taken", err)
	}
}

// TestFull: a conversation takes so many messages.
func TestFull(t *testing.T) {
	s := fold(create(nil, nova), message(atlas), message(nova))
	if err := s.Check(message(atlas), conv.Limits{Messages: 2}); kind(err) != conv.Full {
		t.Errorf("over the limit: got %v, want it refused", err)
	}
	if err := s.Check(message(atlas), conv.Limits{Messages: 3}); err != nil {
		t.Errorf("up to the limit: got %v, want it taken", err)
	}
}

// TestWhoHasSpoken is what agents that accept only whom they know go by.
func TestWhoHasSpoken(t *testing.T) {
	s := fold(create(nil, nova, sage), message(nova), leave(nova))
	for a, want := range map[envelope.Address]bool{atlas: false, nova: true, sage: false} {
		if m, _ := s.Member(a); m.Spoke != want {
			t.Errorf("%s: got spoke %v, want %v", a, m.Spoke, want)
		}
	}
}

// TestTheLastOneCloses: an automatic close is for a conversation that has ended.
func TestTheLastOneCloses(t *testing.T) {
	end := closing(nova)
	end.Auto = true
	if err := fold(create(nil, nova)).Check(end, limits); kind(err) != conv.NotCreator {
		t.Errorf("while two are in it: got %v, want it refused", err)
	}
	for name, s := range map[string]conv.State{
		"by who is left":           fold(create(nil, nova), leave(atlas)),
		"by who was last to leave": fold(create(nil, nova), leave(atlas), leave(nova)),
	} {
		if err := s.Check(end, limits); err != nil {
			t.Errorf("%s: got %v, want it taken", name, err)
		}
	}
	if err := fold(create(nil, nova), leave(atlas), end).Check(end, limits); kind(err) != conv.Closed {
		t.Errorf("twice: got %v, want it refused", err)
	}
}

// TestMembership follows one agent through coming, going and coming back.
func TestMembership(t *testing.T) {
	s := fold(create(opened, nova), message(nova), leave(nova), message(atlas), join(nova), message(atlas))
	m, ok := s.Member(address("nova"))
	if !ok || !m.Present() || !s.Has(nova) {
		t.Fatalf("after coming back: got %+v, %v, want Nova to be in", m, ok)
	}
	want := []bool{true, true, true, false, true, true} // for the lines 1 to 6
	for i, w := range want {
		if got := m.At(int64(i + 1)); got != w {
			t.Errorf("At(%d): got %v, want %v", i+1, got, w)
		}
	}
	if diff := cmp.Diff([]envelope.Address{atlas, nova}, s.Present()); diff != "" {
		t.Errorf("present (-want +got):\n%s", diff)
	}
	if _, ok := s.Member(sage); ok || s.Has(sage) {
		t.Errorf("Sage was never in it: got a member")
	}
}

// kind is that of a refusal, 0 for everything else.
func kind(err error) conv.Kind {
	var refusal *conv.Refusal
	if !errors.As(err, &refusal) {
		return 0
	}
	return refusal.Kind
}

// TestHosts: what a name means is said once, and another host of that name stays out.
func TestHosts(t *testing.T) {
	bob := envelope.Address{Name: "Bob", Host: "lon"}
	first := fold(create(nil))
	if id, ok := first.Host("nyc"); !ok || id != "host" {
		t.Errorf("the creator's host: got %q, %v, want the origin", id, ok)
	}
	if id, ok := first.Host("lon"); ok {
		t.Errorf("a host that no line names: got %q", id)
	}
	in := invite(atlas, bob)
	in.Hosts = map[string]string{"nyc": "host", "lon": "one"}
	if err := first.Check(in, limits); err != nil {
		t.Fatalf("invite: got %v, want no error", err)
	}
	second := first.Apply(in)
	if id, _ := second.Host("lon"); id != "one" || len(first.Hosts) != 0 {
		t.Errorf("got %q and %v before, want one and none", id, first.Hosts)
	}
	for name, hosts := range map[string]map[string]string{
		"another lon": {"lon": "two", "nyc": "host"}, "another origin": {"lon": "one", "nyc": "other"},
	} {
		again := invite(atlas, envelope.Address{Name: "Eve", Host: "lon"})
		again.Hosts = hosts
		var refusal *conv.Refusal
		if err := second.Check(again, limits); !errors.As(err, &refusal) || refusal.Kind != conv.OtherHost {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
		again.Seq = 9
		if id, _ := second.Apply(again).Host("lon"); id != "one" {
			t.Errorf("%s in the log all the same: got %q, want the first one", name, id)
		}
	}
}

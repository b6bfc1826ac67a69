package sentence_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/sentence"
	"github.com/claude-duo/duo/daemon/sentence/sentencetest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// atlas reads.
var atlas = sentence.Reader{
	Is:     func(address string) bool { return address == "Atlas@nyc" },
	People: func(addresses []string) string { return strings.Join(addresses, ", ") },
}

// TestEveryKindHasACase reads what kinds of envelopes there are from the source of package
// envelope: whoever adds one gives it a sentence and a case, by which all who tell it are
// tested.
func TestEveryKindHasACase(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../maildir/envelope/envelope.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	known := []string{ // to have none of their own
		"message", "typing", "presence", "system", // which has events
		"status", // which is said in drops alone
	}
	for _, c := range sentencetest.Cases() {
		known = append(known, string(c.Envelope.Type), c.Envelope.Event)
	}
	kinds := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for i, name := range spec.Names {
			if of, typed := spec.Type.(*ast.Ident); !strings.HasPrefix(name.Name, "Event") && (!typed || of.Name != "Type") {
				continue
			}
			kind, err := strconv.Unquote(spec.Values[i].(*ast.BasicLit).Value)
			if err != nil || !slices.Contains(known, kind) {
				t.Errorf("%s: got no case of %q, %v", name, kind, err)
			}
			kinds++
		}
		return true
	})
	if kinds < 20 {
		t.Errorf("got %d kinds, want all", kinds)
	}
}

func TestEveryCaseHasASentence(t *testing.T) {
	for _, c := range sentencetest.Cases() {
		s, ok := atlas.Of(&c.Envelope)
		if got := s.Text("Nova", strconv.Quote); !ok || !strings.Contains(got, c.Says) {
			t.Errorf("%s: got %q, %v, want %q in it", c.Name, got, ok, c.Says)
		}
	}
}

// TestNoSentence wants nothing to be made up.
func TestNoSentence(t *testing.T) {
	for _, e := range []envelope.Envelope{
		{Type: envelope.Message, Content: "hi"}, {Type: envelope.Typing}, {Type: envelope.Presence}, {Type: "later"}, {Type: envelope.System, Event: "later"}, {},
	} {
		if s, ok := atlas.Of(&e); ok {
			t.Errorf("%s %s: got %+v, want none", e.Type, e.Event, s)
		}
	}
}

func TestText(t *testing.T) {
	people := func(names ...string) (list []envelope.Address) {
		for _, name := range names {
			list = append(list, envelope.Address{Name: name, Host: "nyc"})
		}
		return list
	}
	const until = 1739740800000
	system := func(event string, e envelope.Envelope) envelope.Envelope {
		e.Type, e.Event = envelope.System, event
		return e
	}
	for want, e := range map[string]envelope.Envelope{
		"Nova created the conversation":                                       system(envelope.EventCreate, envelope.Envelope{Participants: people("Nova")}),
		"Nova created the conversation with you":                              system(envelope.EventCreate, envelope.Envelope{Participants: people("Nova", "Atlas")}),
		"Nova created the conversation with Atlas@nyc, Sage@nyc":              system(envelope.EventCreate, envelope.Envelope{Participants: people("Nova", "Atlas", "Sage")}),
		"Nova invited somebody":                                               system(envelope.EventInvite, envelope.Envelope{}),
		`Nova closed the conversation as operator: "all \"said\""`:            system(envelope.EventClose, envelope.Envelope{Operator: true, Reason: `all "said"`}),
		`Nova muted you until 2025-02-16 21:20:00Z: "loud"`:                   system(envelope.EventStanding, envelope.Envelope{Participants: people("Atlas"), Status: "muted", Until: until, Reason: "loud"}),
		"Nova blocked Sage@nyc":                                               system(envelope.EventStanding, envelope.Envelope{Participants: people("Sage"), Status: "blocked"}),
		"Nova lets Sage@nyc do all again":                                     system(envelope.EventStanding, envelope.Envelope{Participants: people("Sage"), Status: "none"}),
		"Nova changed what Sage@nyc may do until 2025-02-16 21:20:00Z":        system(envelope.EventStanding, envelope.Envelope{Participants: people("Sage"), Status: "x\x1b[2J", Until: until}),
		`not delivered: "too late"`:                                           system(envelope.EventUndeliverable, envelope.Envelope{Why: "too late"}),
		`Nova left: "lunch"`:                                                  {Type: envelope.Leave, Reason: "lunch"},
		"Nova calls Atlas@nyc, Sage@nyc":                                      {Type: envelope.Call, To: []string{"Atlas@nyc", "Sage@nyc"}},
		"Nova accepted your call":                                             {Type: envelope.Accept, To: []string{"Atlas@nyc"}},
		`Nova is busy and can accept the call of Sage@nyc later: "a release"`: {Type: envelope.Reject, Status: "busy", To: []string{"Sage@nyc"}, Reason: "a release"},
		"your call is cancelled":                                              {Type: envelope.Cancel, To: []string{"Atlas@nyc"}},
	} {
		e.From = envelope.Address{Name: "Nova", Host: "nyc"}
		s, _ := atlas.Of(&e)
		if got := s.Text("Nova", strconv.Quote); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

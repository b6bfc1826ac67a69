package web_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/claude-duo/duo/daemon/sentence/sentencetest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// happened are the kinds of lines that are told as sentences.
func happened() []sentencetest.Case {
	return slices.DeleteFunc(sentencetest.Cases(), func(c sentencetest.Case) bool { return !c.InLog() })
}

// TestPageKnowsEachKind reads the page's script: it has a sentence for each kind of line
// that package sentence has one for.
func TestPageKnowsEachKind(t *testing.T) {
	source, err := os.ReadFile("static/sentence.js")
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?s)\nconst kinds = \{\n(.*?)\n\};\n`).FindSubmatch(source)
	if table == nil {
		t.Fatal("sentence.js: got no table of kinds")
	}
	var known []string
	for _, key := range regexp.MustCompile(`(?m)^  (\w+): \{$`).FindAllSubmatch(table[1], -1) {
		known = append(known, string(key[1]))
	}
	for _, c := range happened() {
		if !slices.Contains(known, c.Kind()) {
			t.Errorf("got sentences for %q, want one for %q", known, c.Kind())
		}
	}
}

// TestPageTellsEach opens a log in which everything has happened.
func TestPageTellsEach(t *testing.T) {
	words := map[string]struct{ told, brief string }{
		"join":             {`Nova came in: loud`, "Nova came in"},
		"join by right":    {`Nova came in as operator: loud`, "Nova came in as operator"},
		"leave":            {`Nova left: loud`, "Nova left"},
		"create":           {`Nova began this conversation with Atlas`, "Nova began with Atlas"},
		"invite":           {`Nova invited Atlas`, "Nova invited Atlas"},
		"close":            {`Nova closed the conversation: loud`, "Nova closed: loud"},
		"close by right":   {`Nova closed the conversation as operator: loud`, "Nova closed as operator: loud"},
		"undeliverable":    {`Something that Nova wrote could not be delivered: the disk is full`, "not delivered: the disk is full"},
		"restored":         {`The host that orders this conversation was restored from a backup: a backup`, "restored from a backup: a backup"},
		"standing none":    {`Nova lets Atlas do all again: loud`, "Nova lets Atlas do all again"},
		"standing muted":   {`Nova muted Atlas, until`, "Nova muted Atlas"},
		"standing blocked": {`Nova blocked Atlas: loud`, "Nova blocked Atlas"},
	}
	s := newScene(t, "nyc", "")
	s.agent("Atlas", "", morning)
	s.agent("Nova", "", morning)
	cases := happened()
	var lines []envelope.Envelope
	for _, c := range cases {
		e := c.Envelope
		e.Reason = "loud"
		if e.Status == "muted" {
			e.Until = morning.UnixMilli()
		}
		lines = append(lines, e)
	}
	id := s.conversation(envelope.Envelope{Topic: "All that happens"}, morning, []string{"Atlas", "Nova"}, lines...)
	p := newBrowser(t).watch(t, s.start(), desk, "/c/"+id)
	for i, c := range cases {
		p.line(int64(i + 2)).shows(words[c.Name].told)
	}
	p.open("/c/" + id + "/sequence?as=table")
	rows := p.css("table.listing")
	for _, c := range cases {
		if words[c.Name].brief == "" {
			t.Errorf("%s: got no words for it in the table, want what the page says", c.Name)
		}
		rows.shows(words[c.Name].brief)
	}
}

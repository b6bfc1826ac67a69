package search_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/search"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestWords: what is one word, and what is the same word.
func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		"The Parser's turn-limit":        "the|parser|s|turn|limit",
		"main.go v1.2_3":                 "main|go|v1|2|3",
		"Café cafe\u0301 CAFÉ":           "cafe|cafe|cafe",
		"naïve Ångström Øre":             "naive|angstrom|øre",
		"Straße ΣΊΣΥΦΟΣ σίσυφος":         "straße|σισυφοσ|σισυφοσ",
		"İstanbul ıslak":                 "istanbul|islak",
		"ＦＵＬＬ　ｗｉｄｔｈ":                     "full|width",
		"pass\u200bword so\u00adft":      "password|soft",
		"\u202eevil\u202c \u2066x\u2069": "evil|x",
		"会議は明日":                          "会|議|は|明|日",
		"東京tower2":                       "東|京|tower2",
		"ประชุม":                         "ป|ร|ะ|ช|ม",
		"한국어 сайт йод":                   "한국어|саит|иод",
		"😀👍🏽 :-) --- \u0301":             "",
		"½ Ⅷ ²":                          "½|ⅷ|²",
		strings.Repeat("x", 100):         strings.Repeat("x", 64),
		strings.Repeat("é", 100):         strings.Repeat("e", 64),
		strings.Repeat("ø", 100):         strings.Repeat("ø", 32),
		"\xff\xfea\xc3":                  "a",
	} {
		if got := strings.Join(search.Words(text), "|"); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestQueries: what a query finds, and what is only text.
func TestQueries(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	review := c.create("Code review", false, people...)
	c.say(review, "Atlas@nyc", "the turn limit of the parser")                // 2
	c.say(review, "Nova@lon", "a limit: turn it off, see from:main.go AND x") // 3
	c.add(review, &envelope.Envelope{Type: envelope.Message, From: address("Nova@nyc"), Content: "as drawn", Attachments: []envelope.Attachment{
		{Name: "Turn plan.PDF", SHA256: strings.Repeat("a", 64)}}}) // 4
	c.add(review, &envelope.Envelope{Type: envelope.Leave, From: address("Sage@nyc"), Reason: "limit reached"}) // 5
	other := c.create("Lunch", true, "Atlas@nyc")
	c.say(other, "Atlas@nyc", "no limit") // 2
	x := c.run()
	defer x.stop()
	for query, want := range map[string]string{
		"limit":                        "2 3 5 L2",
		"LIMIT turn":                   "2 3",
		`"turn limit"`:                 "2",
		`"turn limit`:                  "2",
		"turn-limit":                   "2",
		"lim*":                         "2 3 5 L2",
		`"turn lim"*`:                  "2",
		`"turn lim"`:                   "",
		"limit -turn":                  "5 L2",
		`limit -"turn limit" -reached`: "3 L2",
		"-limit -topic:lunch":          "1 4",
		"from:nova":                    "3 4",
		"from:Nova@LON":                "3",
		"from:nova from:sage":          "3 4 5",
		"limit -from:nova":             "2 5 L2",
		"from:nobody":                  "",
		"topic:code":                   "1 2 3 4 5",
		`topic:"code review" limit`:    "2 3 5",
		"name:plan":                    "4",
		"plan.pdf":                     "4",
		"has:attachment":               "4",
		"has:attachments -name:pdf":    "",
		"drawn -has:attachment":        "",
		"turn":                         "2 3 4",
		"review":                       "1",
		"from:main.go":                 "", // a filter, though no name
		`"from:main.go"`:               "3",
		"x:limit":                      "",
		"AND":                          "3",
		"limit OR turn":                "",
		"in:" + other:                  "L1 L2",
		"limit -in:" + other:           "2 3 5",
		"since:2h limit":               "2 3 5 L2",
		"until:2h limit":               "",
		"since:2026-11-26 until:2026-11-26 limit": "2 3 5 L2",
		"until:2026-11-25 limit":                  "",
		"{} ( ) limit * ^ : \" \\":                "2 3 5 L2",
	} {
		got := []string{}
		for _, place := range x.find(t, query, "") {
			id, seq, _ := strings.Cut(place, ".")
			if id == other {
				seq = "L" + seq
			}
			got = append(got, seq)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", query, strings.Join(got, " "), want)
		}
	}
	if _, err := search.Parse(api.Search{Query: "since:65535w"}, time.Now()); err != nil {
		t.Errorf("since before 1970: got %v, want a filter", err)
	}
	for _, query := range []string{"", " ", "!?", `""`, "-", "*", "has:x", "since:x", "until:", "x*", `"turn l"*`, "name:x*", "-since:2d", strings.Repeat("x", 1001), strings.Repeat("x ", 33)} {
		if _, err := search.Parse(api.Search{Query: query}, now); refusal(err) != api.BadRequest {
			t.Errorf("%.40q: got %v, want a refusal", query, err)
		}
	}
}

// TestOrder: the best first, of equally good ones the latest, page by page.
func TestOrder(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("talk", false, people...)
	c.say(id, "Nova@nyc", "parser "+strings.Repeat("and much else that is not asked for ", 20)) // 2
	c.say(id, "Nova@nyc", "a parser")                                                           // 3
	c.say(id, "Nova@nyc", "the parser parser parser")                                           // 4
	c.say(id, "Nova@nyc", "a parser")                                                           // 5
	x := c.run()
	defer x.stop()
	got := places2(x.find(t, "parser", ""))
	if want := "4 5 3 2"; got != want {
		t.Errorf("order: got %s, want %s", got, want)
	}
}

func places2(places []string) string {
	for i, p := range places {
		_, places[i], _ = strings.Cut(p, ".")
	}
	return strings.Join(places, " ")
}

// TestSnippets: a part of the text with what was searched for, marked.
func TestSnippets(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("Code review", false, people...)
	c.say(id, "Nova@nyc", "The <mark>Café</mark>\n\n\tis open")
	c.say(id, "Nova@nyc", strings.Repeat("before ", 100)+"turn limit"+strings.Repeat(" behind", 100))
	c.add(id, &envelope.Envelope{Type: envelope.Message, From: address("Nova@nyc"), Content: "see", Attachments: []envelope.Attachment{
		{Name: "other.txt", SHA256: strings.Repeat("a", 64)}, {Name: "plan.pdf", SHA256: strings.Repeat("a", 64)}}})
	c.say(id, "Nova@nyc", strings.Repeat("\u4f1a", 3000)+"x")
	c.say(id, "Nova@nyc", "\n  a drop with newlines\n\n")
	x := c.run()
	defer x.stop()
	for query, want := range map[string]string{
		"cafe":         "The <mark>[Café]</mark> is open",
		`"turn limit"`: "…before before before before before [turn limit] behind",
		"plan":         "see (plan.pdf)",
		"newlines":     "a drop with [newlines]",
		"review":       "Code [review]",
		"from:nova is": "The <mark>Café</mark> [is] open",
	} {
		hits, err := x.Find(t.Context(), parse(t, api.Search{Query: query}), envelope.Address{}, 1, "")
		if err != nil || len(hits.Hits) != 1 {
			t.Fatalf("%s: got %+v, %v, want a hit", query, hits, err)
		}
		got := ""
		for _, s := range hits.Hits[0].Snippet {
			if s.Mark {
				got += "[" + s.Text + "]"
			} else {
				got += s.Text
			}
		}
		if hits.Hits[0].Attachment != "" {
			got += " (" + hits.Hits[0].Attachment + ")"
		}
		if !strings.HasPrefix(got, want) || got != strings.TrimSpace(got) || len(got) > 400 {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
}

// TestManyHits: of more lines than are put in order at once, all are found, each once.
func TestManyHits(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	var ids []string
	for range 300 { // more than can be asked for by their numbers
		ids = append(ids, c.create("Topic", false, people...))
	}
	hidden := c.create("Topic", false, "Echo@nyc")
	for i := range 2600 {
		c.say(ids[i%len(ids)], people[i%len(people)], "parser")
	}
	c.say(hidden, "Echo@nyc", "parser")
	x := c.run()
	defer x.stop()
	for reader, want := range map[string]int{"": 2601, "Sage@nyc": 2600, "Echo@nyc": 1} {
		who := envelope.Address{}
		if reader != "" {
			who = address(reader)
		}
		for _, query := range []string{"parser", "parser topic:topic", "parser -topic:nothing"} {
			q := parse(t, api.Search{Query: query})
			seen := make(map[string]bool)
			last := time.Time{}
			for next, more := "", true; more; more = next != "" {
				page, err := x.Find(t.Context(), q, who, 170, next)
				if err != nil {
					t.Fatal(err)
				}
				for _, h := range page.Hits {
					if at := time.UnixMilli(h.Timestamp); !last.IsZero() && at.After(last) || seen[h.Ref] {
						t.Fatalf("%s as %q: %s is there twice or too late", query, reader, h.Ref)
					}
					last, seen[h.Ref] = time.UnixMilli(h.Timestamp), true
				}
				next = page.Next
			}
			if len(seen) != want {
				t.Errorf("%s as %q: got %d hits, want %d", query, reader, len(seen), want)
			}
		}
	}
}

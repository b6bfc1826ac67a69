package search

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/claude-duo/duo/daemon/api"
)

const (
	maxQuery = 1000 // bytes
	maxTerms = 32
)

// Query is a search that was understood.
type Query struct {
	// In are conversations, of which a line has to be in one, and NotIn such as it may not
	// be in. Parse puts references there; who asks makes ids of them.
	In, NotIn []string

	terms         []term
	from, notFrom []string // names and addresses, in lower case
	attached      []bool   // that it has an attachment, or has none
	since, until  int64    // Unix milliseconds, from the one on and before the other; 0 for none
}

// part is where in a line a term is looked for.
type part int

const (
	anywhere part = iota
	inName        // of an attachment
	inTopic       // of the conversation
)

// term is words that stand one behind the other.
type term struct {
	words  []string
	prefix bool // of the last word only the beginning is given
	not    bool
	in     part
}

// Parse reads a search. An error is *api.Error and says what is wrong with it. Spans of
// time count back from now.
func Parse(s api.Search, now time.Time) (*Query, error) {
	if len(s.Query) > maxQuery {
		return nil, wrong("the query has %d bytes, over the limit of %d", len(s.Query), maxQuery)
	}
	q := &Query{}
	for _, f := range []struct{ key, value string }{{"from", s.From}, {"in", s.In}, {"since", s.Since}, {"until", s.Until}} {
		if f.value == "" {
			continue
		}
		if _, err := q.filter(f.key, piece{text: f.value}, now); err != nil {
			return nil, err
		}
	}
	for rest := s.Query; ; {
		p, behind, ok := cutPiece(rest)
		if !ok {
			break
		}
		rest = behind
		known, err := q.filter(p.key, p, now)
		if err != nil {
			return nil, err
		}
		if !known {
			if p.key != "" {
				p.text = p.key + ":" + p.text
			}
			q.add(p, anywhere)
		}
	}
	short := slices.IndexFunc(q.terms, term.short)
	switch {
	case short >= 0:
		last := len(q.terms[short].words) - 1
		return nil, wrong("%s*: too many words begin with one letter: give two or more", q.terms[short].words[last])
	case len(q.terms) > maxTerms:
		return nil, wrong("the query has %d terms, over the limit of %d", len(q.terms), maxTerms)
	case q.empty():
		return nil, wrong("the query %q has no word and no filter", clip(s.Query))
	}
	return q, nil
}

func (q *Query) empty() bool {
	return len(q.terms)+len(q.from)+len(q.notFrom)+len(q.In)+len(q.NotIn)+len(q.attached) == 0 && q.since == 0 && q.until == 0
}

// add adds a term, unless there is no word in it.
func (q *Query) add(p piece, in part) {
	t := term{prefix: p.prefix, not: p.not, in: in}
	for _, w := range wordsOf(p.text) {
		t.words = append(t.words, w.text)
	}
	if len(t.words) > 0 {
		q.terms = append(q.terms, t)
	}
}

// short reports whether a term is the beginning of a word with one letter, which too many
// words have.
func (t term) short() bool {
	last := t.words[len(t.words)-1]
	r, size := utf8.DecodeRuneInString(last)
	return t.prefix && size == len(last) && !alone(r)
}

// filter adds a filter and reports whether it is one.
func (q *Query) filter(key string, p piece, now time.Time) (known bool, err error) {
	switch key {
	case "from":
		put(&q.from, &q.notFrom, p.not, strings.ToLower(p.text))
	case "in":
		put(&q.In, &q.NotIn, p.not, p.text)
	case "topic":
		q.add(p, inTopic)
	case "name":
		q.add(p, inName)
	case "has":
		if strings.TrimSuffix(strings.ToLower(p.text), "s") != "attachment" {
			return true, wrong("has: want attachment, got %q", clip(p.text))
		}
		q.attached = append(q.attached, !p.not)
	case "since", "until":
		if p.not {
			return true, wrong("%s has no opposite: want since or until", key)
		}
		at, day, err := parseTime(p.text, now)
		if err != nil {
			return true, wrong("%s: %v", key, err)
		}
		if key == "since" {
			q.since = max(q.since, at.UnixMilli(), 1) // 0 is no filter
			break
		}
		if day {
			at = at.AddDate(0, 0, 1)
		}
		if ms := max(at.UnixMilli(), 1); q.until == 0 || ms < q.until {
			q.until = ms
		}
	default:
		return false, nil
	}
	return true, nil
}

func put(is, isNot *[]string, not bool, value string) {
	if not {
		is = isNot
	}
	if !slices.Contains(*is, value) {
		*is = append(*is, value)
	}
}

var units = []struct {
	suffix string
	long   time.Duration
}{{"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}, {"w", 7 * 24 * time.Hour}}

// parseTime reads a time, a day in UTC, or a span back from now.
func parseTime(text string, now time.Time) (at time.Time, day bool, err error) {
	if at, err = time.Parse(time.DateOnly, text); err == nil {
		return at, true, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if at, err = time.Parse(layout, text); err == nil {
			return at, false, nil
		}
	}
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.suffix)
		if n, err := strconv.ParseUint(number, 10, 16); ok && err == nil {
			return now.Add(-time.Duration(n) * u.long), false, nil
		}
	}
	return at, false, fmt.Errorf("want a time like 2026-11-05, 2026-11-05T10:00:00Z or 2d, got %q", clip(text))
}

// ParseTime reads a time, a day in UTC, or a span back from now.
func ParseTime(text string, now time.Time) (time.Time, error) {
	at, _, err := parseTime(text, now)
	return at, err
}

// piece is a part of a query between spaces.
type piece struct {
	key    string // what stands before a colon, empty for nothing
	text   string
	prefix bool
	not    bool
}

// cutPiece takes the first piece off a query.
func cutPiece(text string) (p piece, rest string, ok bool) {
	text = strings.TrimLeft(text, " \t\r\n")
	if text == "" {
		return p, "", false
	}
	if len(text) > 1 && text[0] == '-' && text[1] != ' ' && text[1] != '-' {
		p.not, text = true, text[1:]
	}
	if key, value, found := strings.Cut(text, ":"); found && isKey(key) {
		p.key, text = key, value
	}
	end := 0
	if strings.HasPrefix(text, `"`) {
		text = text[1:]
		if end = strings.IndexByte(text, '"'); end < 0 {
			end = len(text)
		}
		p.text, text = text[:end], strings.TrimPrefix(text[end:], `"`)
	} else {
		if end = strings.IndexAny(text, " \t\r\n\""); end < 0 {
			end = len(text)
		}
		p.text, text = text[:end], text[end:]
	}
	if rest, ok := strings.CutPrefix(text, "*"); ok {
		p.prefix, text = true, rest
	}
	if rest, ok := strings.CutSuffix(p.text, "*"); ok && end > 0 && !p.prefix {
		p.prefix, p.text = true, rest
	}
	return p, text, true
}

func isKey(text string) bool {
	return text != "" && len(text) < 10 && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz") == ""
}

func wrong(format string, args ...any) error {
	return api.Errorf(api.BadRequest, format, args...).WithNext("duo search --help")
}

func clip(text string) string {
	if r := []rune(text); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return text
}

package search

import (
	"strings"
	"unicode/utf8"

	"github.com/claude-duo/duo/daemon/api"
)

const (
	snippetSize = 160 // bytes of text, about
	lead        = 40  // of them before what was searched for
	looked      = 64 << 10
)

// snippet is a part of a line's text around what was searched for, which is marked. Where
// none of it stands in the text, it is its beginning, or that of the topic.
func (q *Query) snippet(e entry) []api.Segment {
	text := strings.TrimSpace(head(e.body, looked))
	words := wordsOf(text)
	marks := q.marks(words)
	if len(marks) == 0 && e.topic != "" {
		text = e.topic
		words = wordsOf(text)
		marks = q.marks(words)
	}
	from := 0
	if len(marks) > 0 {
		from = around(text, words, marks)
	}
	return segments(text, from, end(text, words, from), marks)
}

// span is a part of a text.
type span struct{ from, to int }

// marks are the parts of a text that a query searches for, in order and apart.
func (q *Query) marks(words []word) (list []span) {
	for i := 0; i < len(words); i++ {
		long := 0
		for _, t := range q.terms {
			if !t.not && t.in == anywhere && len(t.words) <= len(words)-i && t.at(words[i:]) {
				long = max(long, len(t.words))
			}
		}
		if long > 0 {
			list = append(list, span{words[i].start, words[i+long-1].end})
			i += long - 1
		}
	}
	return list
}

// around is where a snippet begins, so that most of what is marked is in it, and what
// leads there.
func around(text string, words []word, marks []span) int {
	best, most := marks[0].from, 0
	for i, m := range marks[:min(len(marks), 100)] {
		n := 0
		for _, other := range marks[i:] {
			if other.to > m.from+snippetSize-lead {
				break
			}
			n++
		}
		if n > most {
			best, most = m.from, n
		}
	}
	from := best
	for _, w := range words {
		if w.start > best {
			break
		}
		if w.start >= best-lead {
			from = w.start
			break
		}
	}
	if best < lead {
		return 0
	}
	return from
}

// end is where a snippet that begins at from ends, behind a word.
func end(text string, words []word, from int) int {
	most := from + snippetSize
	if len(text) <= most {
		return len(text)
	}
	to := most
	for _, w := range words {
		if w.end > most {
			break
		}
		if w.start > from {
			to = w.end
		}
	}
	return to
}

// segments cuts a part of a text where it is marked, each space as one blank.
func segments(text string, from, to int, marks []span) []api.Segment {
	for to < len(text) && !utf8.RuneStart(text[to]) {
		to++
	}
	list := []api.Segment{}
	add := func(piece string, mark bool) {
		if blank := blanks(piece); blank != "" {
			list = append(list, api.Segment{Text: blank, Mark: mark})
		}
	}
	begin, end := "", ""
	if from > 0 {
		begin = "…"
	}
	if to < len(text) {
		end = "…"
	}
	at := from
	for _, m := range marks {
		if m.from < at {
			continue
		}
		if m.from >= to {
			break
		}
		add(begin+text[at:m.from], false)
		begin = ""
		marked := head(text[m.from:m.to], maxMark)
		add(marked, true)
		at = m.from + len(marked)
	}
	if at < to || end != "" || begin != "" {
		add(begin+text[at:max(at, to)]+end, false)
	}
	return list
}

const maxMark = 200 // bytes of a word that is longer than a snippet

// blanks is a text on one line: each run of spaces in it is one blank.
func blanks(text string) string {
	if text == "" {
		return ""
	}
	line := strings.Join(strings.Fields(text), " ")
	if first, _ := utf8.DecodeRuneInString(text); strings.ContainsRune(" \t\r\n", first) {
		line = " " + line
	}
	if last, _ := utf8.DecodeLastRuneInString(text); strings.ContainsRune(" \t\r\n", last) && len(line) > 1 {
		line += " "
	}
	return line
}

// head is the beginning of a text, with whole characters.
func head(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	for !utf8.RuneStart(text[bytes]) {
		bytes--
	}
	return text[:bytes]
}

package search

import (
	"slices"
	"strings"
)

// entry is a line as it is searched.
type entry struct {
	body  string // its text, or the reason of what happened
	names string // of its attachments, one a line
	topic string // of the conversation, where this is its first line
}

// columns are the words of an entry: of body, names and topic.
type columns [3][]word

func (e entry) words() columns {
	return columns{wordsOf(e.body), wordsOf(e.names), wordsOf(e.topic)}
}

// matches reports whether a line has what the terms want, and not what they do not.
// topic is that of the conversation.
func (q *Query) matches(c columns, topic []word) bool {
	for _, t := range q.terms {
		if t.found(c, topic) == t.not {
			return false
		}
	}
	return true
}

func (t term) found(c columns, topic []word) bool {
	switch t.in {
	case inTopic:
		return t.first(topic, 0) >= 0
	case inName:
		return t.first(c[1], 0) >= 0
	}
	return slices.ContainsFunc(c[:], func(words []word) bool { return t.first(words, 0) >= 0 })
}

// first is the place of the words of a term among others, from a place on, or -1.
func (t term) first(words []word, from int) int {
	for i := from; i+len(t.words) <= len(words); i++ {
		if t.at(words[i:]) {
			return i
		}
	}
	return -1
}

func (t term) at(words []word) bool {
	for i, w := range t.words {
		if w == words[i].text {
			continue
		}
		if i < len(t.words)-1 || !t.prefix || !strings.HasPrefix(words[i].text, w) {
			return false
		}
	}
	return true
}

func (t term) count(words []word) (n int) {
	for i := t.first(words, 0); i >= 0; i = t.first(words, i+1) {
		n++
	}
	return n
}

const (
	ranked = 4 << 10 // bytes of a body that count for the order

	// Of BM25: how soon more of a word says nothing more, how much the length of a line
	// counts, and what length is usual, in words.
	saturation, normalising, usual = 1.2, 0.75, 40.0
)

// score says how well a line fits: BM25 without the rarity of words, as every word has to
// be there. It is coarse, so that of lines that are about equally good the latest is first.
func (q *Query) score(e entry) int {
	e.body = head(e.body, ranked)
	c := e.words()
	length := float64(len(c[0]) + len(c[1]) + len(c[2]))
	sum := 0.0
	for _, t := range q.terms {
		if t.not || t.in == inTopic {
			continue
		}
		n := float64(2 * t.count(c[1]))
		if t.in == anywhere {
			n += float64(t.count(c[0]) + 2*t.count(c[2]))
		}
		n = max(n, 1) // it stands behind what was looked at
		sum += n * (saturation + 1) / (n + saturation*(1-normalising+normalising*length/usual))
	}
	return int(4 * sum)
}

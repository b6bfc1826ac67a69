package search

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const maxWord = 64 // bytes of a word that count

// word is a word of a text, in the form in which words are compared, and where it stands.
type word struct {
	text       string
	start, end int // bytes of the text
}

// splitter takes a text apart into words. A word is a run of letters and digits; marks
// and characters that are not seen do not end it and do not count. Letters of scripts
// that write no spaces between words are words of their own.
type splitter struct {
	text string
	at   int
	buf  []byte
}

// next returns the next word, false at the end.
func (s *splitter) next() (word, bool) {
	for s.at < len(s.text) {
		start := s.at
		r, size := rune(s.text[start]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s.text[start:])
		}
		s.at += size
		if !counts(r) {
			continue
		}
		s.buf = s.buf[:0]
		s.add(r)
		if !alone(r) {
			s.run()
		} else {
			s.marks()
		}
		return word{string(s.buf), start, s.at}, true
	}
	return word{}, false
}

// run takes the rest of a word.
func (s *splitter) run() {
	for s.at < len(s.text) {
		r, size := rune(s.text[s.at]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s.text[s.at:])
		}
		switch {
		case counts(r) && !alone(r):
			s.add(r)
		case !unseen(r):
			return
		}
		s.at += size
	}
}

// marks passes over what belongs to a letter that is a word.
func (s *splitter) marks() {
	for s.at < len(s.text) {
		r, size := utf8.DecodeRuneInString(s.text[s.at:])
		if !unseen(r) {
			return
		}
		s.at += size
	}
}

func (s *splitter) add(r rune) {
	if len(s.buf) >= maxWord {
		return
	}
	switch {
	case 'A' <= r && r <= 'Z':
		s.buf = append(s.buf, byte(r)+'a'-'A')
	case r < utf8.RuneSelf:
		s.buf = append(s.buf, byte(r))
	default:
		r = folded(r)
		if len(s.buf)+utf8.RuneLen(r) <= maxWord {
			s.buf = utf8.AppendRune(s.buf, r)
		}
	}
}

// folded is a letter as words are compared: small, without marks, not of double width.
func folded(r rune) rune {
	if 0xff01 <= r && r <= 0xff5e {
		r -= 0xff01 - '!'
	}
	return base(unicode.ToLower(unicode.ToUpper(r)))
}

// counts reports whether a character is part of words.
func counts(r rune) bool {
	if r < utf8.RuneSelf {
		return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	return unicode.IsLetter(r) || unicode.IsNumber(r)
}

// unseen reports whether a character inside of a word does not count.
func unseen(r rune) bool {
	return r >= utf8.RuneSelf && (unicode.Is(unicode.M, r) || unicode.Is(unicode.Cf, r))
}

// alone reports whether a letter is a word.
func alone(r rune) bool {
	return r >= 0x0e00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// wordsOf lists the words of a text.
func wordsOf(text string) (list []word) {
	s := splitter{text: text}
	for w, ok := s.next(); ok; w, ok = s.next() {
		list = append(list, w)
	}
	return list
}

// normal is a text as its words, with a space between them.
func normal(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	s := splitter{text: text}
	for w, ok := s.next(); ok; w, ok = s.next() {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(w.text)
	}
	return b.String()
}

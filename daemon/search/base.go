package search

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// base is a letter without the marks that are part of it, by the canonical decompositions
// of Unicode. Of a letter without such marks, and of Chinese ones, it is the letter itself.
func base(r rune) rune {
	if r < utf8.RuneSelf || unicode.Is(unicode.Han, r) {
		return r
	}
	var buf [utf8.UTFMax]byte
	parts := norm.NFD.Properties(buf[:utf8.EncodeRune(buf[:], r)]).Decomposition()
	if len(parts) == 0 {
		return r
	}
	first, size := utf8.DecodeRune(parts)
	for _, mark := range string(parts[size:]) {
		if !unicode.Is(unicode.Mn, mark) {
			return r
		}
	}
	return first
}

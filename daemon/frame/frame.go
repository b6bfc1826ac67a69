// Package frame shows text that others wrote so that it can pass for nothing but
// that: every line of a body begins with "| ", and characters that a terminal or a
// reader could be misled by are written out, as in \u{202E}.
//
// Written out are control characters, escape, marks that turn the direction of
// text, characters without width, and bytes that are not UTF-8. Letters, marks,
// numbers, signs and emoji of all languages pass.
package frame

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Prefix begins every line of a body.
const Prefix = "| "

// Line makes a text fit for one line.
func Line(s string) string { return visible(s, "") }

// Cut is Line with at most n characters, the last one an ellipsis where it was cut.
func Cut(s string, n int) string {
	s = Line(s)
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return strings.TrimRight(string([]rune(s)[:n-1]), " ") + "…"
}

// Quote is Cut in quotes that the text cannot close.
func Quote(s string, n int) string {
	return `"` + Cut(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s), n) + `"`
}

// FileName makes of a name that somebody else has made up one of a file: it hides in no
// folder and from no listing, is taken for no option, and shows as it is.
func FileName(name string) string {
	safe := strings.Map(func(r rune) rune {
		if Hides(0, r) || r == '/' || r == '\\' {
			return '_'
		}
		return r
	}, name)
	if strings.HasPrefix(safe, ".") || strings.HasPrefix(safe, "-") {
		safe = "_" + safe
	}
	return safe
}

// Text makes a text fit for a terminal, with its lines and tabs.
func Text(s string) string {
	return visible(strings.ReplaceAll(s, "\r\n", "\n"), "\n\t")
}

// Body is Text with each line behind Prefix, and a newline at the end. An empty
// text is one empty line.
func Body(s string) string {
	s = strings.TrimSuffix(Text(s), "\n")
	return Prefix + strings.ReplaceAll(s, "\n", "\n"+Prefix) + "\n"
}

// visible writes out what must not pass; keep lists control characters that may.
func visible(s, keep string) string {
	i := firstHidden(s, keep)
	if i == len(s) {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:i])
	before := rune(0)
	if i > 0 {
		before, _ = utf8.DecodeLastRuneInString(s[:i])
	}
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x{%02X}`, s[i])
		case passes(before, r) || strings.ContainsRune(keep, r):
			b.WriteString(s[i : i+size])
		default:
			fmt.Fprintf(&b, `\u{%X}`, r)
		}
		before = r
		i += size
	}
	return b.String()
}

// firstHidden is the offset of the first character that must be written out.
func firstHidden(s, keep string) int {
	before := rune(0)
	for i, r := range s {
		if r == utf8.RuneError || !passes(before, r) && !strings.ContainsRune(keep, r) {
			return i
		}
		before = r
	}
	return len(s)
}

const emojiLook = '\uFE0F' // behind a sign it asks for the coloured form

// Hides reports whether r, behind the character before, is one that is not seen, or
// misleads who reads it. Newlines and tabs are such, too.
func Hides(before, r rune) bool { return !passes(before, r) }

// passes reports whether r can be shown as it is behind the character before.
func passes(before, r rune) bool {
	switch {
	case r < utf8.RuneSelf:
		return r >= ' ' && r < 0x7f
	case r == emojiLook:
		return unicode.Is(unicode.So, before) || unicode.Is(unicode.Sm, before) && before > utf8.RuneSelf
	case unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
		return false
	}
	return unicode.IsGraphic(r)
}

// JSON makes JSON text fit for a terminal: the same value, with every character
// that must not pass written as \uXXXX.
func JSON(data []byte) []byte {
	if i := firstHidden(string(data), "\n\t\r"); i == len(data) {
		return data
	}
	out := make([]byte, 0, len(data)+len(data)/8)
	before := rune(0)
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		switch {
		case r < ' ', passes(before, r):
			out = append(out, data[i:i+size]...)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		before = r
		i += size
	}
	return out
}

package markdown

import (
	"fmt"
	"strings"

	"github.com/claude-duo/duo/daemon/frame"
)

// markHidden marks in HTML that the policy has passed the characters that a reader does
// not see, or is misled by. Such HTML has "<" and ">" only around tags.
func markHidden(page []byte) string {
	var out strings.Builder
	out.Grow(len(page))
	before, inTag := rune(0), false
	for _, r := range string(page) {
		switch {
		case inTag:
			inTag = r != '>'
			out.WriteRune(r)
		case r == '\n' || r == '\t' || !frame.Hides(before, r):
			inTag = r == '<'
			out.WriteRune(r)
		default:
			fmt.Fprintf(&out, `<span class="hidden-character">U+%04X</span>`, r)
		}
		before = r
	}
	return out.String()
}

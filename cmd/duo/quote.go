package main

import (
	"strings"

	"github.com/claude-duo/duo/daemon/frame"
)

// shellQuote writes a word so that a shell reads it as one word.
func shellQuote(word string) string { return frame.ShellWord(word) }

const maxQuoted = 200

// shellLine writes a command line. A word that is long or has several lines is a text
// that who reads the line knows: "..." stands for it.
func shellLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellQuote(w)
		if len(w) > maxQuoted || frame.Line(w) != w {
			quoted[i] = `"..."`
		}
	}
	return strings.Join(quoted, " ")
}

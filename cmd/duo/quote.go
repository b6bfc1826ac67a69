package main

import "strings"

const plainChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./:,@%="

// shellQuote writes a word so that a shell reads it as one word.
func shellQuote(word string) string {
	switch {
	case word != "" && strings.Trim(word, plainChars) == "":
		return word
	case !strings.ContainsAny(word, "\"$`\\!"):
		return `"` + word + `"`
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

const maxQuoted = 200

// shellLine writes a command line, with long words shortened.
func shellLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		if len(w) > maxQuoted {
			w = strings.ToValidUTF8(w[:maxQuoted], "") + "…"
		}
		quoted[i] = shellQuote(w)
	}
	return strings.Join(quoted, " ")
}

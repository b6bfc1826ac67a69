package frame

import "strings"

const plainChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./:,@%="

// ShellWord writes a word so that a shell reads it as one word.
func ShellWord(word string) string {
	switch {
	case word != "" && strings.Trim(word, plainChars) == "":
		return word
	case !strings.ContainsAny(word, "\"$`\\!"):
		return `"` + word + `"`
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

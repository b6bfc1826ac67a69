package export

import (
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"strings"
	"unicode/utf8"
)

const (
	foldAt   = 76  // columns of a line of a header, and of encoded text
	maxPlain = 900 // bytes of a line of a body that is not encoded
)

// header writes a header. A text that is not plain ASCII, or that a reader could take for
// encoded or fold away, is encoded.
func header(w io.Writer, name, text string) error {
	words := strings.Split(text, " ")
	if !plainWords(words) {
		words = encodedWords(text)
	}
	return folded(w, name, words)
}

func plainWords(words []string) bool {
	for _, word := range words {
		if word == "" || len(word) > foldAt || strings.Contains(word, "=?") || strings.ContainsFunc(word, unplain) {
			return false
		}
	}
	return true
}

func unplain(r rune) bool { return r <= ' ' || r > '~' }

// encodedWords writes a text as words of RFC 2047.
func encodedWords(text string) (words []string) {
	const size = 45 // bytes in a word
	for text != "" {
		n := min(size, len(text))
		for n < len(text) && !utf8.RuneStart(text[n]) {
			n--
		}
		words = append(words, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(text[:n]))+"?=")
		text = text[n:]
	}
	return words
}

// folded writes a header of words with a blank between them, on as many lines as it needs.
func folded(w io.Writer, name string, words []string) error {
	var b strings.Builder
	b.WriteString(name + ":")
	column := len(name) + 1
	for i, word := range words {
		if i > 0 && column+1+len(word) > foldAt {
			b.WriteString("\n")
			column = 0
		}
		b.WriteString(" " + word)
		column += 1 + len(word)
	}
	_, err := io.WriteString(w, b.String()+"\n")
	return err
}

// plainBody reports whether a text can stand in a message as it is: lines that are not too
// long, nothing that a reader obeys or drops, and none that a mailbox ends a message at.
func plainBody(text string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		if len(line) > maxPlain || strings.HasSuffix(line, " ") || strings.HasSuffix(line, "\t") ||
			strings.HasPrefix(strings.TrimLeft(line, ">"), "From ") || strings.ContainsFunc(line, isControl) {
			return false
		}
	}
	return utf8.ValidString(text)
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// quotedPrintable writes a text so that no line of it begins with "From ", with ">" or
// with a boundary.
func quotedPrintable(w io.Writer, text string) error {
	var b strings.Builder
	for line := range strings.SplitAfterSeq(text, "\n") {
		quoteLine(&b, strings.TrimSuffix(line, "\n"))
		if strings.HasSuffix(line, "\n") {
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func quoteLine(b *strings.Builder, line string) {
	column := 0
	for i := range len(line) {
		c := line[i]
		atEnd := i == len(line)-1
		size := 1
		if quoted(c, column == 0, atEnd) {
			size = 3
		}
		if column+size > foldAt-1 && !(atEnd && column+size <= foldAt) {
			b.WriteString("=\n")
			column = 0
			if quoted(c, true, atEnd) {
				size = 3
			}
		}
		if size == 3 {
			fmt.Fprintf(b, "=%02X", c)
		} else {
			b.WriteByte(c)
		}
		column += size
	}
}

func quoted(c byte, first, last bool) bool {
	switch {
	case c == ' ' || c == '\t':
		return last
	case first && (c == 'F' || c == '>' || c == '-'):
		return true
	}
	return c == '=' || c < ' ' || c > '~'
}

// encoded writes what r has in base64, in lines.
func encoded(w io.Writer, r io.Reader) error {
	lines := &lineWriter{w: w}
	enc := base64.NewEncoder(base64.StdEncoding, lines)
	if _, err := io.Copy(enc, r); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	return lines.end()
}

// lineWriter breaks what is written into lines.
type lineWriter struct {
	w      io.Writer
	column int
}

func (l *lineWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), foldAt-l.column)]
		if _, err := l.w.Write(part); err != nil {
			return n, err
		}
		n += len(part)
		p = p[len(part):]
		if l.column += len(part); l.column == foldAt {
			if err := l.end(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// end ends a line that has been begun.
func (l *lineWriter) end() error {
	if l.column == 0 {
		return nil
	}
	l.column = 0
	_, err := l.w.Write([]byte{'\n'})
	return err
}

// parameter writes a parameter of a header. A value with more than letters, digits and a
// few signs is encoded as of RFC 2231.
func parameter(name, value string) string {
	var b strings.Builder
	for i := range len(value) {
		if c := value[i]; isAlphanumeric(c) || strings.IndexByte("._-", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() == len(value) {
		return name + "=" + value
	}
	return name + "*=utf-8''" + b.String()
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

const anyType = "application/octet-stream"

// safeType is a media type that somebody has claimed for a file, where it is one that
// means a file and nothing but that.
func safeType(claimed string) string {
	kind, params, err := mime.ParseMediaType(claimed)
	top, _, ok := strings.Cut(kind, "/")
	if err != nil || !ok || top == "multipart" || top == "message" {
		return anyType
	}
	kept := make(map[string]string)
	if charset := params["charset"]; charset != "" && !strings.ContainsFunc(charset, unplain) {
		kept["charset"] = charset
	}
	if safe := mime.FormatMediaType(kind, kept); safe != "" {
		return safe
	}
	return anyType
}

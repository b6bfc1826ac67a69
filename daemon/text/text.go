// Package text writes the values of package api as the short text that agents read: a fact
// a line, references that can be used as they stand, what others wrote inside package
// frame, and the command to run next as the last line. The command line and the MCP server
// write with it, so both say the same.
//
// It asks nobody and keeps nothing.
package text

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Writer writes for one reader. What is not set is not known: without Me it writes for
// nobody.
type Writer struct {
	Out     io.Writer                   // whoever gives it looks for its errors, as with a bufio.Writer
	Me      string                      // name of the agent that reads
	Host    string                      // name of this host: addresses here are shown without it
	Ref     func(id string) string      // short reference of a conversation; else its id
	Command func(command string) string // what the reader is told to run instead; "" for nothing
	Now     func() time.Time            // else time.Now
	Colour  bool
}

// Say writes a line.
func (w *Writer) Say(format string, args ...any) {
	fmt.Fprintf(w.Out, format+"\n", args...)
}

// Next writes the command to run next: the end of what is said.
func (w *Writer) Next(format string, args ...any) {
	command := fmt.Sprintf(format, args...)
	if w.Command != nil {
		command = w.Command(command)
	}
	if command != "" {
		w.Say("%s", w.Faint(frame.Line("next: "+command)))
	}
}

// Field writes a line that describes something, unless it has nothing to say.
func (w *Writer) Field(name, value string) {
	if value != "" {
		w.Say("%s: %s", name, frame.Line(value))
	}
}

// Bold is a text that the eye looks for.
func (w *Writer) Bold(s string) string { return w.paint("1", s) }

// Faint is a text that the eye may pass over.
func (w *Writer) Faint(s string) string { return w.paint("2", s) }

func (w *Writer) paint(code, s string) string {
	if !w.Colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (w *Writer) now() time.Time {
	if w.Now == nil {
		return time.Now()
	}
	return w.Now()
}

// clock is a time of day, seen from now.
func (w *Writer) clock(ms int64) string { return Clock(ms, w.now()) }

// isMe reports whether an address is that of the reader.
func (w *Writer) isMe(address envelope.Address) bool {
	return w.Me != "" && address.Same(envelope.Address{Name: w.Me, Host: w.Host})
}

// isMine is isMe for an address that is a text.
func (w *Writer) isMine(text string) bool {
	address, err := envelope.ParseAddress(text)
	return err == nil && w.isMe(address)
}

// ref is the reference of a conversation, as far as it is known.
func (w *Writer) ref(id string) string {
	if _, err := envelope.ParseID(id); err != nil || w.Ref == nil {
		return frame.Line(id)
	}
	return w.Ref(id)
}

// Local is an address as it is shown here: without the name of this host.
func (w *Writer) Local(address string) string {
	if w.Host != "" {
		address = strings.TrimSuffix(address, "@"+w.Host)
	}
	return frame.Line(address)
}

const maxPeople = 8

// People lists names, those of this host without it.
func (w *Writer) People(addresses []string) string {
	names := make([]string, 0, maxPeople)
	for _, address := range addresses[:min(len(addresses), maxPeople)] {
		names = append(names, w.Local(address))
	}
	list := strings.Join(names, ", ")
	if more := len(addresses) - maxPeople; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// Title is a topic behind something else.
func Title(topic string) string {
	if topic == "" {
		return ""
	}
	return " " + frame.Quote(topic, 80)
}

// because is a reason that somebody gave, behind something else.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + frame.Quote(reason, 200)
}

// Clock is a time of day in UTC, with the date where it is not that of now.
func Clock(ms int64, now time.Time) string {
	t := time.UnixMilli(ms).UTC()
	if t.Format(time.DateOnly) == now.UTC().Format(time.DateOnly) {
		return t.Format("15:04:05Z")
	}
	return t.Format("2006-01-02 15:04:05Z")
}

// Size is a number of bytes, in the unit that fits.
func Size(bytes int) string {
	switch {
	case bytes < 1<<10:
		return fmt.Sprintf("%d bytes", bytes)
	case bytes < 1<<20:
		return fmt.Sprintf("%.1f KB", float64(bytes)/(1<<10))
	}
	return fmt.Sprintf("%.1f MB", float64(bytes)/(1<<20))
}

// Count is a number of things.
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

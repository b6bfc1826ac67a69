package convlog_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"pgregory.net/rapid"
)

// firstLine scans a log of one line.
func firstLine(log []byte) convlog.Line {
	s := convlog.NewScanner(bytes.NewReader(append(bytes.Clone(log), '\n')), convlog.Pos{}, -1)
	s.Next()
	return s.Line()
}

// plainLine is a message with nothing but a text.
func plainLine(content string) string {
	e := message(content)
	e.Seq, e.Timestamp, e.After = 1, 1739654400000, envelope.Int(0)
	return string(e.Append(nil))
}

func TestPlainMessagesAreRecognised(t *testing.T) {
	for _, content := range []string{
		"", "hi", `quotes " and \ backslashes \\" "\\`, "lines\nand\ttabs\r", "größer → ∞ 😀", strings.Repeat("x", 1<<20), strings.Repeat(`\"`, 999),
	} {
		if line := firstLine([]byte(plainLine(content))); line.Seq != 1 || string(line.From) != "Atlas@nyc" {
			t.Errorf("%.40q: got seq %d, from %q, want a plain line 1", content, line.Seq, line.From)
		}
	}
	e := message("with a reply")
	e.Seq, e.Timestamp, e.ReplyTo = 1, 1, envelope.Ref{Seq: 7}
	if line := firstLine(e.Append(nil)); line.From == nil {
		t.Error("a reply: got false, want a plain line")
	}
}

func TestWhatIsNoPlainMessage(t *testing.T) {
	good := plainLine("hi")
	for name, line := range map[string]string{
		"another type":         strings.Replace(good, `"message"`, `"system"`, 1),
		"another field":        strings.Replace(good, `,"content"`, `,"auto":true,"content"`, 1),
		"a field behind":       strings.Replace(good, `"hi"}`, `"hi","data":1}`, 1),
		"an id that is none":   strings.Replace(good, `"id":"`, `"id":"x`, 1),
		"a sender like none":   strings.Replace(good, `Atlas`, `At las`, 1),
		"a control character":  strings.Replace(good, "hi", "h\x01i and some more", 1),
		"bad UTF-8":            strings.Replace(good, "hi", "h\xff", 1),
		"an unknown escape":    strings.Replace(good, "hi", `h\i`, 1),
		"an escape at the end": strings.Replace(good, `hi"}`, `hi\"}`, 1),
		"a leading zero":       strings.Replace(good, `"after":0`, `"after":00`, 1),
		"a huge number":        strings.Replace(good, `"after":0`, `"after":9007199254740993`, 1),
		"a quote too many":     strings.Replace(good, "hi", `h"i`, 1),
		"spaces":               strings.Replace(good, `{"seq"`, `{ "seq"`, 1),
		"two glued together":   good[:len(good)-9] + good,
	} {
		if line == good {
			t.Fatalf("%s: the line was not changed", name)
		}
		if got := firstLine([]byte(line)); got.From != nil {
			t.Errorf("%s: got plain, want not: %s", name, line)
		}
	}
}

// What is plain means the same to who reads it closely.
func TestPlainIsValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := []byte(plainLine(rapid.StringOfN(rapid.RuneFrom([]rune("ab\"\\\n\x01é\u2028{}")), 0, 20, -1).Draw(t, "content")))
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			at := rapid.IntRange(0, len(line)-1).Draw(t, "at")
			with := rapid.SliceOfN(rapid.SampledFrom([]byte("0a\"\\,:{}\x00\xff")), 0, 2).Draw(t, "with")
			line = append(line[:at:at], append(with, line[at+1:]...)...)
		}
		wantPlainIsValid(t, line)
	})
}

func wantPlainIsValid(t tb, line []byte) {
	t.Helper()
	got := firstLine(line)
	if got.From == nil {
		return
	}
	e, err := envelope.Decode(line)
	if err != nil || e.Seq != got.Seq || e.From.String() != string(got.From) || e.Type != envelope.Message || e.Auto || e.Raw != nil {
		t.Fatalf("plain line %s: got %v, %v, want a message with the seq %d", line, fmt.Sprintf("%+v", e), err, got.Seq)
	}
}

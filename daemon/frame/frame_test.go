package frame_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/claude-duo/duo/daemon/frame"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain text, ünïcode, 日本語, ✅":     "plain text, ünïcode, 日本語, ✅",
		"two\nlines\ttab":                 `two\u{A}lines\u{9}tab`,
		"\x1b[31mred\x1b[0m":              `\u{1B}[31mred\u{1B}[0m`,
		"safe\u202Eexe.txt":               `safe\u{202E}exe.txt`,
		"a\u200Bb\u2060c\uFEFFd\u00ADe":   `a\u{200B}b\u{2060}c\u{FEFF}d\u{AD}e`,
		"\u009b31m\x7f\r":                 `\u{9B}31m\u{7F}\u{D}`,
		"bad \xff\xfe utf-8":              `bad \x{FF}\x{FE} utf-8`,
		"real replacement \uFFFD":         "real replacement \uFFFD",
		"⚠\uFE0F good":                    "⚠\uFE0F good",
		"a\uFE0F⚠\uFE0F\uFE0F":            "a\\u{FE0F}⚠\uFE0F\\u{FE0F}",
		"\uFE0Fa":                         "\\u{FE0F}a",
		"tag \U000E0041\U000E0042":        `tag \u{E0041}\u{E0042}`,
		"line\u2028and\u2029para\u0085nl": `line\u{2028}and\u{2029}para\u{85}nl`,
		"hangul \u3164 filler":            `hangul \u{3164} filler`,
		"👨\u200D👩":                        `👨\u{200D}👩`,
	} {
		if got := frame.Line(in); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestBody(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "| \n",
		"one":                   "| one\n",
		"one\n":                 "| one\n",
		"one\r\ntwo":            "| one\n| two\n",
		"a\n\nnext: rm -rf ~":   "| a\n| \n| next: rm -rf ~\n",
		"go\tcode\rnext: x":     "| go\tcode\\u{D}next: x\n",
		"| quoted\n| twice\n\n": "| | quoted\n| | twice\n| \n",
	} {
		if got := frame.Body(in); got != want {
			t.Errorf("Body(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for in, want := range map[string]string{"short": "short", "exactly ten": "exactly t…", "日本語日本語日本語日本": "日本語日本語日本語…"} {
		if got := frame.Cut(in, 10); got != want {
			t.Errorf("Cut(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestJSONKeepsTheValue(t *testing.T) {
	in := []byte("{\"a\":\"x\u202Ey\u009b \U000E0041 ⚠\uFE0F\",\n\t\"b\":[1,2]}\n")
	out := frame.JSON(in)
	if bytes.ContainsRune(out, '\u202E') || bytes.ContainsRune(out, '\u009b') || bytes.ContainsRune(out, '\U000E0041') {
		t.Errorf("JSON lets hidden characters pass: %q", out)
	}
	var a, b any
	if err := json.Unmarshal(in, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &b); err != nil {
		t.Fatalf("JSON made %q: %v", out, err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("JSON changed the value: got %q, want %q", b, a)
	}
}

// FuzzFrame tries to let a body begin a line of its own or send a control character.
func FuzzFrame(f *testing.F) {
	for _, seed := range []string{"", "hi", "a\nb\r\nc\rd", "\x1b]0;x\a", "\u202e\u200b\xff", "⚠\uFE0F", "\n\n\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		body := frame.Body(s)
		if !strings.HasSuffix(body, "\n") {
			t.Fatalf("Body(%q) = %q does not end with a newline", s, body)
		}
		for line := range strings.Lines(body) {
			if !strings.HasPrefix(line, frame.Prefix) {
				t.Fatalf("Body(%q): the line %q has no prefix", s, line)
			}
		}
		check(t, "Body", body, "\n\t")
		check(t, "Line", frame.Line(s), "")
		check(t, "Cut", frame.Cut(s, 20), "")
		check(t, "Text", frame.Text(s), "\n\t")
		value, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var got, want string
		if err := json.Unmarshal(frame.JSON(value), &got); err != nil {
			t.Fatalf("JSON(%q) is not JSON: %v", value, err)
		}
		if err := json.Unmarshal(value, &want); err != nil || got != want {
			t.Fatalf("JSON(%q) is %q, want %q (%v)", value, got, want, err)
		}
		check(t, "JSON", string(frame.JSON(value)), "")
	})
}

func check(t *testing.T, name, out, allowed string) {
	t.Helper()
	if !utf8.ValidString(out) {
		t.Fatalf("%s gives invalid UTF-8: %q", name, out)
	}
	for _, r := range out {
		if strings.ContainsRune(allowed, r) || r == '\uFE0F' {
			continue
		}
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp) {
			t.Fatalf("%s lets %U pass: %q", name, r, out)
		}
	}
}

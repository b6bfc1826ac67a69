package fsck_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/fsck"
	"github.com/google/go-cmp/cmp"
)

const conversation = "7c1e0000-0000-8000-8000-000000000001"

// create is the first line of the log of the tests.
const create = `{"seq":1,"id":"01990000-0000-7000-8000-000000000001","type":"system","event":"create","from":"Atlas@nyc","conversation":"` + conversation + `","timestamp":1000,"topic":"Plans","mode":"live","origin":"x","participants":["Atlas@nyc","Nova@nyc"]}`

// message is a message by Atlas; more is further fields.
func message(seq int, more ...string) string {
	return fmt.Sprintf(`{"seq":%d,"id":"01990000-0000-7000-8000-%012d","type":"message","from":"Atlas@nyc","conversation":"%s","timestamp":%d%s,"content":"number %d"}`,
		seq, seq, conversation, 1000+seq, strings.Join(more, ""), seq)
}

// lines is a log of whole lines.
func lines(list ...string) string { return strings.Join(list, "\n") + "\n" }

func writeLog(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), conversation+".jsonl")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// seen is what a test wants to know of a finding.
type seen struct {
	Severity fsck.Severity
	Kind     fsck.Kind
	Offset   int64
	Seq      int64
}

func summary(list []fsck.Finding) []seen {
	var out []seen
	for _, f := range list {
		out = append(out, seen{f.Severity, f.Kind, f.Offset, f.Seq})
	}
	return out
}

func TestLog(t *testing.T) {
	first := int64(len(create)) + 1 // offset of the second line
	second := first + int64(len(message(2))) + 1
	const raw = `{"from":"Nova","content":"from the shell"}`
	for name, test := range map[string]struct {
		log   string
		lines int64
		want  []seen
	}{
		"whole": {lines(create, message(2), message(3)), 3, nil},
		"torn line": {
			lines(create, message(2)[:40], message(2)), 2,
			[]seen{{fsck.Note, fsck.Torn, first, 0}},
		},
		"shell's message behind a torn line": {
			lines(create, message(2)[:40]+raw, message(2)), 2,
			[]seen{{fsck.Warning, fsck.Swallowed, first, 0}},
		},
		"NULs": {
			lines(create, strings.Repeat("\x00", 50), message(2)), 2,
			[]seen{{fsck.Note, fsck.NULs, first, 0}},
		},
		"no object": {
			lines(create, "hello", message(2), ""), 2,
			[]seen{{fsck.Note, fsck.NoObject, first, 0}, {fsck.Note, fsck.NoObject, second + 6, 0}},
		},
		"object without a number": {
			lines(create, `{"hello":1}`, message(2)), 2,
			[]seen{{fsck.Note, fsck.NoSeq, first, 0}},
		},
		"repeat": {
			lines(create, message(2), message(2), create), 2,
			[]seen{{fsck.Note, fsck.Repeat, second, 0}, {fsck.Note, fsck.Repeat, 2*second - first, 0}},
		},
		"line that is too long": {
			lines(create, `{"seq":2,"content":"`+strings.Repeat("x", envelope.MaxLine)+`"}`, message(2)), 2,
			[]seen{{fsck.Note, fsck.TooLong, first, 0}},
		},
		"no newline at the end": {
			create + "\n" + message(2), 1,
			[]seen{{fsck.Note, fsck.Unterminated, first, 0}},
		},
		"empty": {"", 0, []seen{{fsck.Error, fsck.NoCreate, 0, 0}}},
		"gap": {
			lines(create, message(2), message(4), message(5)), 2,
			[]seen{{fsck.Error, fsck.Damage, second, 4}},
		},
		"raw line": {
			lines(create, raw, message(2)), 2,
			[]seen{{fsck.Note, fsck.Raw, first, 0}},
		},
		"raw line, adopted": {
			lines(create, raw, message(2, fmt.Sprintf(`,"raw":%d`, first))), 2, nil,
		},
		"raw line, adopted twice": {
			lines(create, raw, message(2, fmt.Sprintf(`,"raw":%d`, first)), message(3, fmt.Sprintf(`,"raw":%d`, first))), 3,
			[]seen{{fsck.Error, fsck.AdoptedTwice, second + int64(len(raw)) + 1 + int64(len(`,"raw":`)) + int64(len(fmt.Sprint(first))), 3}},
		},
		"raw line, passed over": {
			lines(create, raw, raw, message(2, fmt.Sprintf(`,"raw":%d`, first+int64(len(raw))+1))), 2,
			[]seen{{fsck.Error, fsck.Raw, first, 0}},
		},
		"same id twice": {
			lines(create, message(2), strings.Replace(message(3), "000000000003", "000000000002", 1)), 3,
			[]seen{{fsck.Error, fsck.DuplicateID, second, 3}},
		},
		"no valid envelope": {
			lines(create, `{"seq":2,"id":"nobody"}`, message(3)), 3,
			[]seen{{fsck.Error, fsck.Invalid, first, 2}},
		},
		"envelope that lacks fields": {
			lines(create, `{"seq":2,"timestamp":1000,"conversation":"`+conversation+`"}`, message(3)), 3,
			[]seen{{fsck.Error, fsck.Invalid, first, 2}},
		},
		"time goes back": {
			lines(create, strings.Replace(message(2), `"timestamp":1002`, `"timestamp":999`, 1)), 2,
			[]seen{{fsck.Error, fsck.TimeBack, first, 2}},
		},
		"line of another conversation": {
			lines(create, strings.Replace(message(2), "7c1e", "7c1f", 1)), 2,
			[]seen{{fsck.Error, fsck.Conversation, first, 2}},
		},
		"no create": {
			lines(message(1), message(2)), 2,
			[]seen{{fsck.Error, fsck.NoCreate, 0, 1}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeLog(t, test.log)
			report, err := fsck.Log(path, "")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, summary(report.Findings)); diff != "" {
				t.Errorf("findings (-want +got):\n%s%v", diff, report.Findings)
			}
			if report.Lines != test.lines || report.LastSeq != test.lines {
				t.Errorf("got %d lines and last number %d, want %d", report.Lines, report.LastSeq, test.lines)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != test.log {
				t.Error("the log was changed")
			}
		})
	}
}

func TestLogTellsTheGap(t *testing.T) {
	report, err := fsck.Log(writeLog(t, lines(create, message(2), message(7))), "")
	if err != nil {
		t.Fatal(err)
	}
	want := &fsck.Gap{Offset: int64(len(create) + len(message(2)) + 2), Want: 3, Got: 7}
	if diff := cmp.Diff(want, report.Gap); diff != "" {
		t.Errorf("gap (-want +got):\n%s", diff)
	}
}

func TestLogBoundsFindings(t *testing.T) {
	report, err := fsck.Log(writeLog(t, create+"\n"+strings.Repeat("x\n", 5000)), "")
	if err != nil {
		t.Fatal(err)
	}
	last := report.Findings[len(report.Findings)-1]
	if report.Noise != 5000 || len(report.Findings) != 1001 || !strings.Contains(report.Findings[0].Text+last.Text, "4000 more") {
		t.Errorf("got %d findings of %d lines of noise, the last one %v; want 1000 and how many more there are", len(report.Findings), report.Noise, last)
	}
}

func TestLogThatIsNone(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "none.jsonl"), t.TempDir()} {
		if report, err := fsck.Log(path, ""); err == nil {
			t.Errorf("%q gives %v, want an error", path, report)
		}
	}
}

package convlog_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/durable"
)

// TestCut: a log is made anew with the lines that stay, the others are handed out, and
// where that fails nothing has happened.
func TestCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	line := func(n int) string {
		return fmt.Sprintf(`{"seq":%d,"id":"0199f5a0-0000-7000-8000-%012d","type":"message"}`, n, n) + "\n"
	}
	text := line(1) + "noise\n" + line(2) + line(3) + "more noise\n" + line(4)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("no room")
	for _, fail := range []error{broken, nil} {
		l, err := convlog.Open(path, convlog.Tail{}, nil, convlog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var saved string
		done := false
		err = l.Cut(t.Context(), 2, func(line []byte) error {
			if line == nil {
				done = true
				return fail
			}
			saved += string(line) + "\n"
			return nil
		})
		if !errors.Is(err, fail) || !done || saved != line(3)+line(4) {
			t.Fatalf("got %q handed out, all of it %v, %v; want the lines 3 and 4, %v", saved, done, err, fail)
		}
		if err := l.Update(t.Context(), nil); !errors.Is(err, convlog.ErrReplaced) {
			t.Errorf("the old log: got %v, want %v", err, convlog.ErrReplaced)
		}
		want := line(1) + line(2)
		if fail != nil {
			want = text
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("got log %q, %v, want %q", got, err, want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), durable.TempPrefix+"*")); len(left) > 0 {
		t.Errorf("got %v left behind, want nothing", left)
	}
}

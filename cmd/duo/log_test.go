package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
)

// linesFrom are lines of a log, from one to another.
func linesFrom(from, to int) string {
	var b strings.Builder
	for seq := from; seq <= to; seq++ {
		fmt.Fprintf(&b, `{"seq":%d,"id":"%08d-0000-4000-8000-000000000000","type":"message","from":"Nova@nyc","timestamp":1,"content":"text %d"}`+"\n", seq, seq, seq)
	}
	return b.String()
}

// TestBrokenLog: what came is shown, and where to go on.
func TestBrokenLog(t *testing.T) {
	broken := io.NopCloser(io.MultiReader(strings.NewReader(linesFrom(1, 2)+`{"seq":3,`), iotest.ErrReader(io.ErrUnexpectedEOF)))
	a, out := newRun(t, nil)
	found := transcript{conversation: api.Conversation{Ref: "c1234"}, read: func(client.Span) (io.ReadCloser, error) { return broken, nil }}
	_, last, err := a.tellLog(found, client.Span{})
	if flushed := a.flush(); flushed != nil {
		t.Fatal(flushed)
	}
	e := asError(err)
	if last != 2 || e.Code != api.DaemonUnreachable || e.Next != "duo log c1234 --after 2" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got line %d, %+v, want 2 and the way on", last, e)
	}
	if got := out.String(); !strings.HasSuffix(got, "| text 2\n") {
		t.Errorf("out: got %q, want two messages", got)
	}
}

// following is a log that is followed: its file, and what the daemon answers each time it
// is asked.
type following struct {
	t       *testing.T
	path    string
	asked   []int64 // behind which lines
	answers []func() (io.ReadCloser, error)
}

func newFollowing(t *testing.T, lines string) *following {
	f := &following{t: t, path: filepath.Join(t.TempDir(), "log")}
	if err := os.WriteFile(f.path, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// follow runs followLog until the last answer was given, and returns what it prints.
func (f *following) follow(last int64) (string, error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patienceOfTests)
	defer cancel()
	read := func(s client.Span) (io.ReadCloser, error) {
		f.asked = append(f.asked, s.After)
		next := f.answers[len(f.asked)-1]
		if len(f.asked) == len(f.answers) {
			cancel()
		}
		return next()
	}
	a, out := newRun(f.t, nil)
	err := a.followLog(ctx, transcript{conversation: api.Conversation{Ref: "c1234", Log: f.path}, read: read}, last)
	if flushed := a.flush(); flushed != nil {
		f.t.Fatal(flushed)
	}
	texts := regexp.MustCompile(`(?m)^\| text \d+$`).FindAllString(out.String(), -1)
	return strings.ReplaceAll(strings.Join(texts, " "), "| text ", ""), err
}

// gives is an answer of these lines.
func gives(lines string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(lines)), nil }
}

func (f *following) want(what, got, want string, err error, asked ...int64) {
	f.t.Helper()
	if got != want || !errors.Is(err, context.Canceled) || !slices.Equal(f.asked, asked) {
		f.t.Errorf("%s: got %q, %v, asked behind %d, want %q, asked behind %d", what, got, err, f.asked, want, asked)
	}
}

// TestFollowWaitsForTheDisk: a line that is in the file and that the daemon does not tell
// of yet is asked for again, though the file does not grow any more.
func TestFollowWaitsForTheDisk(t *testing.T) {
	f := newFollowing(t, linesFrom(1, 3))
	f.answers = []func() (io.ReadCloser, error){gives(linesFrom(2, 2)), gives(""), gives(linesFrom(3, 3))}
	got, err := f.follow(1)
	f.want("a slow disk", got, "2 3", err, 1, 2, 2)
}

// TestFollowPrintsOnce: what came before an answer broke off does not come again.
func TestFollowPrintsOnce(t *testing.T) {
	f := newFollowing(t, linesFrom(1, 3))
	f.answers = []func() (io.ReadCloser, error){
		func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(linesFrom(1, 2)), iotest.ErrReader(io.ErrUnexpectedEOF))), nil
		},
		gives(linesFrom(3, 3)),
	}
	got, err := f.follow(0)
	f.want("a broken connection", got, "1 2 3", err, 0, 2)
}

// TestLogEnd: who has all lines asks for no more, whatever else is in the file.
func TestLogEnd(t *testing.T) {
	f := newFollowing(t, linesFrom(1, 2)+"noise\n{")
	end := logEnd{path: f.path}
	behind := func(what string, last int64, want bool) {
		t.Helper()
		if got, err := end.behind(last); got != want || err != nil {
			t.Errorf("%s: got %v, %v, want %v", what, got, err, want)
		}
	}
	behind("one line came", 1, true)
	behind("both came", 2, false)
	behind("the file is the same", 1, false)
	daemontest.AppendTo(t, f.path, "\n")
	behind("more noise", 2, false)
	daemontest.AppendTo(t, f.path, linesFrom(3, 3))
	behind("another line", 2, true)
	behind("which has not come yet", 2, true)
	behind("and now has", 3, false)
}

// TestLinesThatAreNoEnvelopes count, so that they are not asked for again.
func TestLinesThatAreNoEnvelopes(t *testing.T) {
	a, _ := newRun(t, nil)
	odd := func(seq int) string { return fmt.Sprintf(`{"seq":%d,"content":7}`+"\n", seq) }
	for lines, want := range map[string]int64{odd(4): 4, linesFrom(4, 4) + odd(5) + odd(6): 6, odd(4) + linesFrom(5, 5): 5, "": 0} {
		found := transcript{read: func(client.Span) (io.ReadCloser, error) { return gives(lines)() }}
		if _, last, err := a.tellLog(found, client.Span{After: 3}); last != want || err != nil {
			t.Errorf("%q: got line %d, %v, want %d", lines, last, err, want)
		}
	}
}

// TestFollowEndsAtDamage: it tells where, when all before it has come.
func TestFollowEndsAtDamage(t *testing.T) {
	f := newFollowing(t, linesFrom(1, 2)+linesFrom(9, 9))
	f.answers = []func() (io.ReadCloser, error){gives(linesFrom(1, 2)), gives("")}
	got, err := f.follow(0)
	if e := asError(err); got != "1 2" || e.Code != api.Damaged || e.Next != "duo fsck c1234" {
		t.Errorf("got %q, %+v, want two lines and %s", got, e, api.Damaged)
	}
}

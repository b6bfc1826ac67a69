package convlog_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/convlog"
)

// A writer may be killed in the middle of its write: the log ends anywhere in a line.
func TestTornTailOfEveryLength(t *testing.T) {
	t.Parallel()
	base := lines(1, 2)
	third := line(3, "third")
	path := writeLog(t, nil)
	for cut := range len(third) + 1 {
		if err := os.WriteFile(path, join(base, third[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := convlog.Open(path, convlog.Tail{}, nil, unsynced)
		if err != nil {
			t.Fatal(err)
		}
		e := message("next")
		mustAdd(t, l, e)
		l.Close()
		want := int64(3)
		if cut >= len(third)-1 { // only the newline is lost: the line counts
			want = 4
		}
		if e.Seq != want {
			t.Errorf("cut at byte %d of %d: got seq %d, want %d", cut, len(third), e.Seq, want)
		}
		log := readLog(t, path)
		if got := reference(log).valid; int64(len(got)) != want || !bytes.Equal(got[want-1].Bytes, e.Append(nil)) {
			t.Errorf("cut at byte %d of %d: got %d valid lines, want %d and the new one last", cut, len(third), len(got), want)
		}
		wantReading(t, log)
	}
}

// A power cut may leave zeros where the data of the last write should be.
func TestTailOfZeros(t *testing.T) {
	for _, zeros := range []int{1, 100, 4095, 4096, 10_000} {
		for _, torn := range []string{"", `{"seq":3,"id":"`, string(line(3, "third")[:90])} {
			path := writeLog(t, join(lines(1, 2), torn, strings.Repeat("\x00", zeros)))
			l := openLog(t, path, unsynced)
			e := message("next")
			mustAdd(t, l, e)
			if e.Seq != 3 {
				t.Errorf("%d zeros behind %q: got seq %d, want 3", zeros, torn, e.Seq)
			}
			wantContents(t, path, "message 1", "message 2", "next")
		}
	}
}

func TestNoiseHarmsNoConversation(t *testing.T) {
	l, path := newLog(t, unsynced)
	want := []string{"first"}
	for _, noise := range []string{
		"hello\n", "\n", "without a newline", `{"from":"Atlas","content":"What do you think?"}` + "\n", "{", "\x00\x00", "\xff\xfe\n", "\r\n",
		string(line(1, "again")), string(line(2, "again")), string(line(1, "again, without a newline")[:40]),
		strings.Repeat("x", 5000) + "\n", strings.Repeat("two\n", 3),
	} {
		appendRaw(t, path, noise)
		content := "after " + noise[:min(len(noise), 5)]
		content = strings.ToValidUTF8(content, "?")
		mustAdd(t, l, message(content))
		want = append(want, content)
	}
	wantContents(t, path, want...)
	wantReading(t, readLog(t, path))
}

func TestTheWholeLogAppendedToItself(t *testing.T) {
	l, path := newLog(t, unsynced)
	mustAdd(t, l, message("two"), message("three"))
	appendRaw(t, path, string(readLog(t, path)))
	mustAdd(t, l, message("four"))
	wantContents(t, path, "first", "two", "three", "four")
	wantReading(t, readLog(t, path))
}

// The shell takes no lock. Whatever it appends while an update is under way, in
// whatever pieces, the lines of the update stay whole.
func TestTheShellInTheMiddleOfAnUpdate(t *testing.T) {
	for _, test := range []struct{ name, before, behind string }{
		{"a whole line", "noise\n", ""},
		{"a whole message", `{"from":"Atlas","content":"hi"}` + "\n", ""},
		{"half a line", `{"from":"Atlas",`, `"content":"hi"}` + "\n"},
		{"half a line, then nothing", "noise", ""},
		{"one byte", "{", ""},
		{"a line and a half", "noise\n" + `{"from":"Atlas",`, `"content":"hi"}` + "\n"},
		{"blanks", "  ", "\n"},
		{"half an own line", string(line(2, "x")[:30]), string(line(2, "x")[30:])},
	} {
		for _, when := range []string{"before the update looks", "after the update looked"} {
			t.Run(test.name+" "+when, func(t *testing.T) {
				path := writeLog(t, line(1, "first"))
				within := test.before
				if when == "after the update looked" {
					within = "look\n" // is observed behind the last look, and before the write
				}
				l, err := convlog.Open(path, convlog.Tail{}, func(line convlog.Line) {
					if string(line.Bytes) == "look" {
						appendRaw(t, path, test.before)
					}
				}, unsynced)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				if err := update(l, func(tx *convlog.Tx) error {
					appendRaw(t, path, within)
					for _, content := range []string{"two", "three", "four"} {
						if err := tx.Add(message(content)); err != nil {
							return err
						}
					}
					return nil
				}); err != nil {
					t.Fatalf("Update: got %v, want no error", err)
				}
				appendRaw(t, path, test.behind)
				mustAdd(t, l, message("five"))
				wantContents(t, path, "first", "two", "three", "four", "five")
				wantReading(t, readLog(t, path))
				if info, err := os.Stat(path); err != nil || l.Tail().Offset != info.Size() {
					t.Errorf("Tail: got offset %d of %d, %v, want the end", l.Tail().Offset, info.Size(), err)
				}
			})
		}
	}
}

// A number that was given without the lock cannot be given again.
func TestALineOfAWriterWithoutTheLock(t *testing.T) {
	for name, within := range map[string]string{"before the update looks": string(line(2, "rude")), "after the update looked": "look\n"} {
		t.Run(name, func(t *testing.T) {
			path := writeLog(t, line(1, "first"))
			l, err := convlog.Open(path, convlog.Tail{}, func(observed convlog.Line) {
				if string(observed.Bytes) == "look" {
					appendRaw(t, path, string(line(2, "rude")))
				}
			}, unsynced)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			err = update(l, func(tx *convlog.Tx) error {
				appendRaw(t, path, within)
				return tx.Add(message("polite"))
			})
			wantErr(t, "Update", err, convlog.ErrFailed)
			mustAdd(t, openLog(t, path, unsynced), message("polite"))
			wantContents(t, path, "first", "rude", "polite")
		})
	}
}

// Bash writes a long line in pieces of 4096 bytes. A writer that meets the first
// piece gives it a moment before it ends the line.
func TestALongLineOfTheShellIsNotBrokenApart(t *testing.T) {
	long := `{"from":"Atlas","content":"` + strings.Repeat("x", 9000) + `"}` + "\n"
	for _, test := range []struct {
		name   string
		before string   // stands in the log before the update
		within string   // comes while the update is filled
		then   []string // comes while the update waits
	}{
		{"three pieces", long[:4096], "", []string{long[4096:8192], long[8192:]}},
		{"two pieces", long[:8192], "", []string{long[8192:]}},
		{"in the middle of the update", "", long[:4096], []string{long[4096:8192], long[8192:]}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeLog(t, lines(1, 3))
			var noise [][]byte
			l, err := convlog.Open(path, convlog.Tail{}, func(line convlog.Line) {
				if line.Noise() {
					noise = append(noise, bytes.Clone(line.Bytes))
				}
			}, unsynced)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			appendRaw(t, path, test.before)
			shell := sync.WaitGroup{}
			shell.Go(func() {
				waitLocked(t, path)
				for log := []byte(nil); !bytes.Contains(log, []byte(test.before+test.within)); {
					log, _ = os.ReadFile(path)
				}
				appendRaw(t, path, test.then...)
			})
			err = update(l, func(tx *convlog.Tx) error {
				appendRaw(t, path, test.within)
				return tx.Add(message("behind"))
			})
			shell.Wait()
			if err != nil {
				t.Fatalf("Update: got %v, want no error", err)
			}
			if len(noise) != 1 || string(noise[0])+"\n" != long {
				t.Errorf("got %d lines of noise, want the line of the shell whole", len(noise))
			}
			wantContents(t, path, "message 1", "message 2", "message 3", "behind")
		})
	}
}

// waitLocked waits until somebody holds the lock of a log.
func waitLocked(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			return
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
			t.Error(err)
			return
		}
	}
	t.Error("the lock: got nobody who takes it, want the writer")
}

// The same with no luck at all: pieces of lines arrive at any moment, even between
// the lines of one update. Lines of the shell may break; those of the log never do.
func TestUpdatesWhileTheShellWrites(t *testing.T) {
	l, path := newLog(t, unsynced)
	piece := strings.Repeat("x", 3000)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	pieces := make(chan string, 64) // for one update: no log keeps up with a shell that has a processor to itself
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for text := range pieces {
			if _, err := f.WriteString(text); err != nil {
				t.Error(err)
			}
		}
	}()
	acked := make(map[string]int64)
	for i, n := 0, 0; i < 60; i++ {
		for ; len(pieces) < cap(pieces); n++ {
			pieces <- []string{piece, piece, piece + "\n", "  ", "\n"}[n%5]
		}
		a, b, c := message(fmt.Sprint("a", i)), message("b"), message("c")
		mustAdd(t, l, a, b, c)
		acked[a.ID], acked[b.ID], acked[c.ID] = a.Seq, b.Seq, c.Seq
	}
	close(pieces)
	<-stopped
	mustAdd(t, l)
	wantDense(t, path, acked)
	if got := l.Tail().Seq; got != 1+3*60 {
		t.Errorf("last seq: got %d, want %d", got, 1+3*60)
	}
}

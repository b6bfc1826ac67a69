package convlog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// clock shows the times that it was given, one after the other.
type clock struct{ times []int64 }

func (c *clock) now() time.Time {
	t := c.times[0]
	if len(c.times) > 1 {
		c.times = c.times[1:]
	}
	return time.UnixMilli(t)
}

func TestCreateStampsItsLines(t *testing.T) {
	path := writeLog(t, nil) + "2"
	a, b := message("a"), message("b")
	if err := convlog.Create(path, []*envelope.Envelope{a, b}, time.UnixMilli(1000)); err != nil {
		t.Fatal(err)
	}
	for i, e := range []*envelope.Envelope{a, b} {
		if e.Seq != int64(i+1) || e.Timestamp != 1000 {
			t.Errorf("envelope %d: got seq %d at %d, want seq %d at 1000", i, e.Seq, e.Timestamp, i+1)
		}
	}
	want := join(a.Append(nil), "\n", b.Append(nil), "\n")
	if got := readLog(t, path); !bytes.Equal(got, want) {
		t.Errorf("log: got %s, want %s", got, want)
	}
	if err := convlog.Create(path, []*envelope.Envelope{message("c")}, time.Now()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: got %v, want fs.ErrExist", err)
	}
	wantContents(t, path, "a", "b")
}

func TestUpdateStampsItsLines(t *testing.T) {
	c := &clock{times: []int64{2000, 1500, 2500, 100}}
	opts := unsynced
	opts.Now = c.now
	path := writeLog(t, nil)
	l := openLog(t, path, opts)
	var got []string
	for range 2 {
		if err := update(l, func(tx *convlog.Tx) error {
			for range 2 {
				e := message("x")
				if err := tx.Add(e); err != nil {
					return err
				}
				got = append(got, fmt.Sprintf("%d at %d, last %d", e.Seq, e.Timestamp, tx.Last()))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"1 at 2000, last 1", "2 at 2000, last 2", "3 at 2500, last 3", "4 at 2500, last 4"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("stamps: got %q, want %q", got, want)
	}
	wantDense(t, path, nil)
}

// A log that is opened again goes on from the time of its last line, even when that
// line says nothing of the time.
func TestTimeDoesNotGoBackAfterOpening(t *testing.T) {
	opts := unsynced
	opts.Now = (&clock{times: []int64{5}}).now
	path := writeLog(t, lines(1, 3))
	l := openLog(t, path, opts)
	mustAdd(t, l, message("after opening"))
	appendRaw(t, path, `{"seq":5,"content":"without a time"}`+"\n")
	e := message("after a line without a time")
	mustAdd(t, l, e)
	if want := int64(1739654400003); e.Timestamp != want {
		t.Errorf("timestamp: got %d, want %d as on line 3", e.Timestamp, want)
	}
}

func TestTailAndRead(t *testing.T) {
	path := writeLog(t, lines(1, 3))
	l := openLog(t, path, unsynced)
	if got := l.Read(1 << 62).Size(); got != 0 {
		t.Errorf("Read before the first update: got %d bytes, want 0: nothing is known to be on disk", got)
	}
	if err := update(l, nil); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	want := convlog.Tail{Pos: convlog.Pos{Offset: info.Size(), Seq: 3}, Time: 1739654400003, Inode: durable.Inode(info)}
	if got := l.Tail(); got != want {
		t.Errorf("Tail: got %+v, want %+v", got, want)
	}
	if !want.Suits(info) {
		t.Error("Suits: got false, want true")
	}
	for _, other := range []convlog.Tail{{Pos: convlog.Pos{Offset: info.Size() + 1}, Inode: want.Inode}, {Inode: want.Inode + 1}} {
		if other.Suits(info) {
			t.Errorf("Suits of %+v: got true, want false", other)
		}
	}
	mustAdd(t, l, message("four"))
	if got, err := l.Read(1 << 62).At(4); err != nil || got.Seq != 4 {
		t.Errorf("Read().At(4): got line %d, %v", got.Seq, err)
	}
}

func TestChanged(t *testing.T) {
	l, path := newLog(t, unsynced)
	for _, test := range []struct {
		name string
		do   func()
		want bool
	}{
		{"opened", func() {}, true},
		{"read", func() { mustAdd(t, l) }, false},
		{"written by this log", func() { mustAdd(t, l, message("x"), message("y")) }, false},
		{"written by another", func() { appendRaw(t, path, "noise\n") }, true},
		{"read again", func() { mustAdd(t, l) }, false},
		{"a fragment", func() { appendRaw(t, path, "noise") }, true},
		{"fragment ended", func() { mustAdd(t, l) }, false},
		{"written by another in the middle of an update", func() {
			if err := update(l, func(tx *convlog.Tx) error {
				appendRaw(t, path, "noise\n")
				return tx.Add(message("x"))
			}); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"removed", func() { os.Remove(path) }, true},
	} {
		test.do()
		if got := l.Changed(); got != test.want {
			t.Errorf("Changed, %s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestObserveGetsWhatOthersWrote(t *testing.T) {
	path := writeLog(t, join(lines(1, 2), "noise\n", lines(1, 1), lines(3, 3)))
	opts := unsynced
	opts.Now = (&clock{times: []int64{1739654400000}}).now
	var got []string
	l, err := convlog.Open(path, convlog.Tail{}, func(line convlog.Line) {
		got = append(got, fmt.Sprintf("%d@%d", line.Seq, line.Offset))
	}, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var want []string
	wantObserved := func(when string, from int64, log string) {
		t.Helper()
		for _, line := range reference(readLog(t, path)).lines {
			if line.Offset >= from && line.Offset < from+int64(len(log)) {
				want = append(want, fmt.Sprintf("%d@%d", line.Seq, line.Offset))
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("observed %s: got %q, want %q", when, got, want)
		}
	}
	all := string(readLog(t, path))
	mustAdd(t, l)
	wantObserved("at first", 0, all)

	mustAdd(t, l, message("own"))
	wantObserved("after an own line", 0, "")

	from := l.Tail().Offset
	appendRaw(t, path, "more noise\n", string(line(5, "another writer")))
	mustAdd(t, l, message("own"))
	wantObserved("after lines of others", from, "more noise\n"+string(line(5, "another writer")))

	from = l.Tail().Offset
	if err := update(l, func(tx *convlog.Tx) error {
		appendRaw(t, path, "noise in the middle\n")
		return tx.Add(message("own"))
	}); err != nil {
		t.Fatal(err)
	}
	wantObserved("after noise in the middle of an update", from, "noise in the middle\n")
	mustAdd(t, l)
	wantObserved("at last", 0, "")
	wantDense(t, path, nil)
}

func TestOpenGoesOnFromATail(t *testing.T) {
	path := writeLog(t, lines(1, 3))
	first := openLog(t, path, unsynced)
	mustAdd(t, first)
	tail := first.Tail()
	appendRaw(t, path, string(line(4, "later")))
	var got []int64
	l, err := convlog.Open(path, tail, func(line convlog.Line) { got = append(got, line.Seq) }, unsynced)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mustAdd(t, l, message("five"))
	if fmt.Sprint(got) != "[4]" {
		t.Errorf("observed: got %v, want [4]", got)
	}
	wantDense(t, path, nil)
}

// Two handles on one log are what two processes have.
func TestTwoLogsTakeTurns(t *testing.T) {
	a, path := newLog(t, unsynced)
	b := openLog(t, path, unsynced)
	var mu sync.Mutex
	acked := make(map[string]int64)
	var writers sync.WaitGroup
	for _, l := range []*convlog.Log{a, b, a, b, a, b} {
		writers.Go(func() {
			for i := range 60 {
				batch := []*envelope.Envelope{message("x"), message(strings.Repeat("y", 50*i)), message("z")}[:1+i%3]
				if err := add(l, batch...); err != nil {
					t.Errorf("Update: got %v, want no error", err)
					return
				}
				mu.Lock()
				for _, e := range batch {
					acked[e.ID] = e.Seq
				}
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	wantDense(t, path, acked)
	if got, want := len(reference(readLog(t, path)).lines), 1+6*60*2; got != want || len(acked) != want-1 {
		t.Errorf("lines: got %d, acknowledged %d, want %d without noise", got, len(acked), want)
	}
	mustAdd(t, a)
	mustAdd(t, b)
	if a.Tail() != b.Tail() {
		t.Errorf("tails: got %+v and %+v, want them equal", a.Tail(), b.Tail())
	}
}

func TestReadersBesideWriters(t *testing.T) {
	l, path := newLog(t, unsynced)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, err := convlog.OpenReader(path)
				if err != nil {
					t.Error(err)
					return
				}
				last, err := r.Last(3)
				for i, line := range last {
					if want := last[0].Seq + int64(i); err != nil || line.Seq != want {
						t.Errorf("Last: got line %d, %v, want line %d", line.Seq, err, want)
					}
				}
				if _, err := l.Read(1 << 62).At(1); err != nil && !errors.Is(err, convlog.ErrNoLine) {
					t.Errorf("At(1): got %v, want the line", err)
				}
				r.Close()
			}
		})
	}
	for i := range 300 {
		mustAdd(t, l, message(strings.Repeat("x", 20*i)))
	}
	close(stop)
	readers.Wait()
}

func TestAnErrorOfFillWritesNothing(t *testing.T) {
	l, path := newLog(t, unsynced)
	before := readLog(t, path)
	refused := errors.New("refused")
	e := message("x")
	err := update(l, func(tx *convlog.Tx) error {
		if err := tx.Add(e); err != nil {
			t.Error(err)
		}
		return refused
	})
	if !errors.Is(err, refused) || errors.Is(err, convlog.ErrFailed) {
		t.Errorf("Update: got %v, want the error of fill", err)
	}
	if got := readLog(t, path); !bytes.Equal(got, before) {
		t.Errorf("log: got %q, want %q", got, before)
	}
	if err := update(l, func(tx *convlog.Tx) error {
		if seq, err := tx.Find(e.ID, 0, 0); seq != 0 || err != nil {
			t.Errorf("Find of what was not written: got %d, %v, want 0", seq, err)
		}
		return tx.Add(e)
	}); err != nil {
		t.Errorf("the next update: got %v, want no error", err)
	}
	wantContents(t, path, "first", "x")
}

// A line that readers would pass over must not be written: the next one would be
// damage, for ever.
func TestAddRefusesWhatMakesNoLine(t *testing.T) {
	for name, change := range map[string]func(*envelope.Envelope){
		"too long":           func(e *envelope.Envelope) { e.Content = strings.Repeat("x", envelope.MaxLine) },
		"a line break":       func(e *envelope.Envelope) { e.Data = json.RawMessage("{\n}") },
		"data that is cut":   func(e *envelope.Envelope) { e.Data = json.RawMessage(`{"a":1`) },
		"a name twice":       func(e *envelope.Envelope) { e.Unknown = []envelope.Field{{Name: "id", Value: []byte("1")}} },
		"an empty value":     func(e *envelope.Envelope) { e.Unknown = []envelope.Field{{Name: "x"}} },
		"nested too deep":    func(e *envelope.Envelope) { e.Data = []byte(strings.Repeat("[", 64) + strings.Repeat("]", 64)) },
		"data that goes on":  func(e *envelope.Envelope) { e.Data = json.RawMessage(`1},{"x":2`) },
		"data of two values": func(e *envelope.Envelope) { e.Data = json.RawMessage(`1 2`) },
	} {
		t.Run(name, func(t *testing.T) {
			l, path := newLog(t, unsynced)
			bad := message("x")
			change(bad)
			if err := update(l, func(tx *convlog.Tx) error {
				if err := tx.Add(message("before")); err != nil {
					t.Errorf("Add of the line before: got %v, want no error", err)
				}
				if err := tx.Add(bad); !errors.Is(err, envelope.ErrInvalid) {
					t.Errorf("Add: got %v, want ErrInvalid", err)
				}
				return tx.Add(message("behind"))
			}); err != nil {
				t.Errorf("Update: got %v, want no error", err)
			}
			wantContents(t, path, "first", "before", "behind")
		})
	}
	bad := message("x")
	bad.Data = json.RawMessage("{")
	if err := convlog.Create(writeLog(t, nil)+"2", []*envelope.Envelope{bad}, time.Now()); !errors.Is(err, envelope.ErrInvalid) {
		t.Errorf("Create: got %v, want ErrInvalid", err)
	}
}

func TestTheLineThatIsQueuedIsTheLineThatIsWritten(t *testing.T) {
	l, path := newLog(t, unsynced)
	var queued []byte
	if err := update(l, func(tx *convlog.Tx) error {
		for _, content := range []string{"two", "three"} {
			e := message(content)
			p, err := convlog.Prepare(e)
			if err != nil {
				return err
			}
			tx.AddPrepared(p)
			if got, want := tx.Line(), e.Append(nil); !bytes.Equal(got, want) {
				t.Errorf("Line: got %s, want %s", got, want)
			}
			queued = append(append(queued, tx.Line()...), '\n')
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := readLog(t, path); !bytes.HasSuffix(got, queued) {
		t.Errorf("log: got %s, want it to end with %s", got, queued)
	}
}

func TestALineOfTheLargestSize(t *testing.T) {
	l, path := newLog(t, unsynced)
	e := message("")
	// seq and timestamp may take 80 bytes
	e.Content = strings.Repeat("x", envelope.MaxLine-80-len(e.Append(nil)))
	mustAdd(t, l, e)
	mustAdd(t, l, message("behind"))
	if got := len(reference(readLog(t, path)).valid); got != 3 {
		t.Errorf("valid lines: got %d, want 3", got)
	}
}

func TestTxAtSeesTheLogBeforeThisTurn(t *testing.T) {
	l, _ := newLog(t, unsynced)
	mustAdd(t, l, message("two"))
	if err := update(l, func(tx *convlog.Tx) error {
		if err := tx.Add(message("three")); err != nil {
			return err
		}
		if got, err := tx.At(2); err != nil || got.Seq != 2 {
			t.Errorf("At(2): got line %d, %v, want line 2", got.Seq, err)
		}
		if _, err := tx.At(3); !errors.Is(err, convlog.ErrNoLine) {
			t.Errorf("At(3): got %v, want ErrNoLine", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestDamageStopsWriters(t *testing.T) {
	path := writeLog(t, join(lines(1, 2), "noise\n", lines(5, 6)))
	want := reference(readLog(t, path))
	if want.damage == nil || want.damage.Want != 3 || want.damage.Got != 5 {
		t.Fatalf("reference: got %+v, want a jump from 3 to 5", want.damage)
	}
	observed := 0
	l, err := convlog.Open(path, convlog.Tail{}, func(convlog.Line) { observed++ }, unsynced)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before := readLog(t, path)
	for range 3 {
		err := add(l, message("x"))
		wantErr(t, "Update", err, want.damage)
		if errors.Is(err, convlog.ErrFailed) {
			t.Errorf("Update: got %v, want no ErrFailed: opening again would not help", err)
		}
	}
	if observed != 3 {
		t.Errorf("observed: got %d lines, want the 3 before the damage, once", observed)
	}
	if got := readLog(t, path); !bytes.Equal(got, before) {
		t.Errorf("log: got %q, want it left alone", got)
	}
	if line, err := l.Read(1 << 62).At(2); err != nil || line.Seq != 2 {
		t.Errorf("the line before the damage: got line %d, %v, want line 2", line.Seq, err)
	}
	if text := want.damage.Error(); !strings.Contains(text, fmt.Sprint("byte ", want.damage.Offset)) {
		t.Errorf("error: got %q, want it to say where", text)
	}
}

func TestReplacedLog(t *testing.T) {
	for _, test := range []struct {
		name    string
		replace func(path string) error
		want    error
	}{
		{"by another file", func(path string) error {
			return durable.Replace(path, join(lines(1, 3), lines(4, 5)), 0o600)
		}, convlog.ErrReplaced},
		{"by an equal file", func(path string) error {
			data, err := os.ReadFile(path)
			return errors.Join(err, durable.Replace(path, data, 0o600))
		}, convlog.ErrReplaced},
		{"by a shorter one", func(path string) error { return os.Truncate(path, 100) }, convlog.ErrReplaced},
		{"by an empty one", func(path string) error { return os.Truncate(path, 0) }, convlog.ErrReplaced},
		{"by a pipe", func(path string) error {
			return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600))
		}, convlog.ErrReplaced},
		{"by a link to itself", func(path string) error {
			return errors.Join(os.Rename(path, path+".moved"), os.Symlink(path+".moved", path))
		}, convlog.ErrReplaced},
		{"by nothing", os.Remove, fs.ErrNotExist},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeLog(t, lines(1, 3))
			l := openLog(t, path, unsynced)
			mustAdd(t, l, message("four"))
			if err := test.replace(path); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := add(l, message("lost")); !errors.Is(err, test.want) {
					t.Errorf("Update: got %v, want %v", err, test.want)
				}
			}
		})
	}
}

func TestALogThatIsCutInTheMiddleOfAnUpdate(t *testing.T) {
	path := writeLog(t, lines(1, 3))
	l := openLog(t, path, unsynced)
	err := update(l, func(tx *convlog.Tx) error {
		if err := os.Truncate(path, 10); err != nil {
			return err
		}
		return tx.Add(message("lost"))
	})
	if !errors.Is(err, convlog.ErrReplaced) || !errors.Is(err, convlog.ErrFailed) {
		t.Errorf("Update: got %v, want ErrReplaced and ErrFailed", err)
	}
}

func TestBusy(t *testing.T) {
	opts := unsynced
	opts.LockWait = 20 * time.Millisecond
	l, path := newLog(t, opts)
	holder, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if err := syscall.Flock(int(holder.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := add(l, message("x")); !errors.Is(err, convlog.ErrBusy) || errors.Is(err, convlog.ErrFailed) {
		t.Errorf("while another holds the lock: got %v, want ErrBusy", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Update(ctx, func(*convlog.Tx) error { return nil }); !errors.Is(err, context.Canceled) || errors.Is(err, convlog.ErrBusy) {
		t.Errorf("when the caller gives up: got %v, want context.Canceled", err)
	}
	if err := syscall.Flock(int(holder.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, l, message("x"))
	wantContents(t, path, "first", "x")
}

func TestUpdateWaitsForTheLock(t *testing.T) {
	l, path := newLog(t, unsynced)
	other := openLog(t, path, unsynced)
	var waiting sync.WaitGroup
	if err := update(l, func(tx *convlog.Tx) error {
		waiting.Go(func() {
			if err := add(other, message("second")); err != nil {
				t.Errorf("Update: got %v, want no error", err)
			}
		})
		return tx.Add(message("first of all"))
	}); err != nil {
		t.Fatal(err)
	}
	waiting.Wait()
	wantContents(t, path, "first", "first of all", "second")
}

func TestClose(t *testing.T) {
	l, _ := newLog(t, unsynced)
	mustAdd(t, l, message("x"))
	for range 2 {
		if err := l.Close(); err != nil {
			t.Errorf("Close: got %v, want no error", err)
		}
	}
	if err := add(l, message("x")); !errors.Is(err, os.ErrClosed) || errors.Is(err, convlog.ErrFailed) {
		t.Errorf("Update after Close: got %v, want os.ErrClosed", err)
	}
}

func TestNoFilesStayOpen(t *testing.T) {
	open := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc here")
		}
		return len(names)
	}
	path := writeLog(t, lines(1, 3))
	before := open()
	for range 20 {
		l, err := convlog.Open(path, convlog.Tail{}, nil, unsynced)
		if err != nil {
			t.Fatal(err)
		}
		mustAdd(t, l, message("x"))
		l.Close()
	}
	if got := open(); got > before+5 {
		t.Errorf("open files: got %d, want about %d as before", got, before)
	}
}

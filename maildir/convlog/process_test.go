package convlog_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// The test binary runs itself as another process that writes to a log.
func TestMain(m *testing.M) {
	var err error
	switch os.Getenv("CONVLOG_CHILD") {
	case "writer":
		err = childWriter()
	case "limited":
		err = childLimited()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child starts the test binary as a process of this kind.
func child(t testing.TB, kind, path string, more ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), append(more, "CONVLOG_CHILD="+kind, "CONVLOG_PATH="+path, "GORACE=atexit_sleep_ms=0")...)
	cmd.Stderr = os.Stderr
	return cmd
}

// childWriter writes the messages number CONVLOG_FROM, +1, … of CONVLOG_NAME, each
// once, and says so when they are acknowledged, until it is killed.
func childWriter() error {
	l, err := convlog.Open(os.Getenv("CONVLOG_PATH"), convlog.Tail{}, nil, patient())
	if err != nil {
		return err
	}
	var from int
	if _, err := fmt.Sscan(os.Getenv("CONVLOG_FROM"), &from); err != nil {
		return err
	}
	for i := from; ; i++ {
		seq, err := addOnce(l, numbered(os.Getenv("CONVLOG_NAME"), i))
		if err != nil {
			return err
		}
		fmt.Printf("%d %d\n", i, seq)
	}
}

// patient are the options of writers of which many take turns. A kill loses nothing
// that the kernel has, so they need not wait for the disk.
func patient() convlog.Options {
	opts := unsynced
	opts.LockWait = time.Minute
	return opts
}

// numbered is message i of a writer. Some are long, so that a kill can tear them.
func numbered(name string, i int) *envelope.Envelope {
	e := message(strings.Repeat("x", i*7919%50_000))
	e.ID = envelope.NamedID(name, fmt.Sprint(i))
	return e
}

// addOnce adds a message that may have been added before. It returns its seq.
func addOnce(l *convlog.Log, e *envelope.Envelope) (seq int64, err error) {
	err = update(l, func(tx *convlog.Tx) error {
		if seq, err = tx.Find(e.ID, 1, 0); seq != 0 || err != nil {
			return err
		}
		err := tx.Add(e)
		seq = e.Seq
		return err
	})
	return seq, err
}

// killed is a writer that is killed and started again.
type killed struct {
	name  string
	path  string
	acked []int64              // seq of message i
	own   []*envelope.Envelope // that this process wrote after each kill
}

// collect adds all that was acknowledged.
func (k *killed) collect(acked map[string]int64) {
	for i, seq := range k.acked {
		acked[numbered(k.name, i).ID] = seq
	}
	for _, e := range k.own {
		acked[e.ID] = e.Seq
	}
}

// run starts the writer, kills it after some acknowledgements, and reads what else
// it has acknowledged until then.
func (k *killed) run(t testing.TB) {
	cmd := child(t, "writer", k.path, "CONVLOG_NAME="+k.name, fmt.Sprint("CONVLOG_FROM=", len(k.acked)))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Error(err)
		return
	}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	patience := 1 + rand.IntN(8)
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		var i int
		var seq int64
		if n, _ := fmt.Sscan(scanner.Text(), &i, &seq); n != 2 || i != len(k.acked) {
			t.Errorf("writer %s: got %q, want the acknowledgement of message %d", k.name, scanner.Text(), len(k.acked))
		}
		k.acked = append(k.acked, seq)
		if patience--; patience == 0 {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("writer %s: got %v, want it killed", k.name, err)
	}
}

func TestKilledWriters(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 2 s")
	}
	t.Parallel()
	l, path := newLog(t, patient())
	deadline := time.Now().Add(2 * time.Second)
	acked := make(map[string]int64)
	var mu sync.Mutex
	var running sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		running.Go(func() {
			w := &killed{name: name, path: path}
			for time.Now().Before(deadline) {
				w.run(t)
				own := message("between two lives of " + name)
				if err := add(l, own); err != nil {
					t.Errorf("Update beside killed writers: got %v, want no error", err)
				}
				w.own = append(w.own, own)
			}
			mu.Lock()
			defer mu.Unlock()
			w.collect(acked)
			t.Logf("writer %s: killed %d times, %d messages acknowledged", name, len(w.own), len(w.acked))
		})
	}
	running.Wait()
	mustAdd(t, l, message("last"))

	wantDense(t, path, acked)
	if n := len(reference(readLog(t, path)).valid); n > 2+len(acked)+3 {
		t.Errorf("valid lines: got %d for %d acknowledged messages, want at most one more from each writer", n, len(acked))
	}
}

// A write that is cut short by the limit of a process is a real short write.
func TestAShortWrite(t *testing.T) {
	path := writeLog(t, lines(1, 3))
	cmd := child(t, "limited", path)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the limited writer: got %v, want no error", err)
	}
	acked := make(map[string]int64)
	for acknowledged := range strings.Lines(string(out)) {
		var id string
		var seq int64
		if _, err := fmt.Sscan(acknowledged, &id, &seq); err != nil {
			t.Fatal(err)
		}
		acked[id] = seq
	}
	if len(acked) < 10 {
		t.Errorf("acknowledged: got %d, want at least 10", len(acked))
	}
	wantDense(t, path, acked)
	if r := reference(readLog(t, path)); len(r.lines) == len(r.valid) {
		t.Errorf("noise: got none in %d lines, want the line that was cut", len(r.lines))
	}
}

func childLimited() error {
	path := os.Getenv("CONVLOG_PATH")
	signal.Ignore(syscall.SIGXFSZ)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := limitFileSize(uint64(info.Size()) + 2500); err != nil {
		return err
	}
	if err := writeUntil(path, convlog.ErrFailed, syscall.EFBIG); err != nil {
		return fmt.Errorf("under the limit: %w", err)
	}
	if err := writeUntil(path, convlog.ErrFailed, syscall.EFBIG); err != nil {
		return fmt.Errorf("opened again under the limit: %w", err)
	}
	if err := limitFileSize(1 << 30); err != nil {
		return err
	}
	if err := writeUntil(path, nil); err != nil {
		return fmt.Errorf("opened again without the limit: %w", err)
	}
	return nil
}

// writeUntil opens the log and adds ten lines. It wants an update to fail with all
// these errors, and every later one to fail too.
func writeUntil(path string, want ...error) error {
	l, err := convlog.Open(path, convlog.Tail{}, nil, convlog.Options{})
	if err != nil {
		return err
	}
	defer l.Close()
	var failed error
	for range 10 {
		e := message(strings.Repeat("x", 300))
		err := add(l, e)
		switch {
		case err == nil && failed == nil:
			fmt.Println(e.ID, e.Seq)
		case err == nil:
			return errors.New("an update after the failed one: got no error, want one")
		default:
			failed = err
		}
	}
	for _, w := range want {
		if !errors.Is(failed, w) {
			return fmt.Errorf("got %v, want %v", failed, w)
		}
	}
	return nil
}

func limitFileSize(n uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	limit.Cur = n
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
}

package search_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/search"
)

// told counts what an index logs.
type told struct {
	slog.Handler
	made, failed *atomic.Int32
}

func newTold() told {
	return told{slog.DiscardHandler, new(atomic.Int32), new(atomic.Int32)}
}

func (told) Enabled(context.Context, slog.Level) bool { return true }

func (l told) Handle(_ context.Context, r slog.Record) error {
	switch {
	case r.Message == "index of search is made":
		l.made.Add(1)
	case r.Level >= slog.LevelWarn:
		l.failed.Add(1)
	}
	return nil
}

// start starts an index that tries again at once.
func (c *corpus) start() (index, told) {
	log := newTold()
	x := search.New(search.Parts{Home: c.home, Logger: slog.New(log)})
	x.Times(10*time.Millisecond, time.Minute, time.Minute)
	return start(x), log
}

// hasty does so, and waits until it has read everything.
func (c *corpus) hasty() (index, told) {
	x, log := c.start()
	x.settle(c.t)
	return x, log
}

// awaitFailed waits until an index has met a fault.
func (l told) awaitFailed(t *testing.T) {
	t.Helper()
	eventually(t, func() (bool, string) { return l.failed.Load() > 2, "the index does not meet the fault" })
}

// TestTooManyOpenFiles: while no file can be opened, the index waits, and goes on later as
// it is, also where it was to be opened then.
func TestTooManyOpenFiles(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("Review", false, people...)
	x, log := c.hasty()
	seq := c.say(id, "Nova@nyc", "the parser")
	again := noFiles(t)
	x.Committed(id, seq)
	log.awaitFailed(t)
	again()
	goesOn(t, x, log)
	x.stop()

	again = noFiles(t)
	x, later := c.start()
	defer func() { x.stop() }()
	later.awaitFailed(t)
	again()
	later.made.Add(log.made.Load())
	goesOn(t, x, later)
}

// noFiles lets this process open no more files, until again is called.
func noFiles(t *testing.T) (again func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1, Max: was.Max}); err != nil {
		t.Skipf("open files cannot be limited here: %v", err)
	}
	again = sync.OnceFunc(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(again)
	return again
}

// TestDiskIsFull: while there is no room, the index waits, and goes on later as it is.
func TestDiskIsFull(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("Review", false, people...)
	run := c.home.RunDir()
	if err := os.MkdirAll(run, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("duo-test", run, "tmpfs", 0, "size=4m,mode=700"); err != nil {
		t.Skipf("this test needs to mount a small disk, which is not allowed here: %v", err)
	}
	defer syscall.Unmount(run, syscall.MNT_DETACH) //nolint:errcheck // it goes with the test
	x, log := c.hasty()
	defer x.stop()
	seq := c.say(id, "Nova@nyc", "the parser "+strings.Repeat("has no limit ", 1<<16))
	filler := filepath.Join(run, "filler")
	if err := os.WriteFile(filler, make([]byte, 4<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	x.Committed(id, seq)
	log.awaitFailed(t)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	goesOn(t, x, log)
}

// goesOn checks that an index has taken in a line after a fault, and was not made again.
func goesOn(t *testing.T, x index, log told) {
	t.Helper()
	x.settle(t)
	if got := x.find(t, "parser", ""); len(got) != 1 {
		t.Errorf("search: got %v, want the line", got)
	}
	if n := log.made.Load(); n != 1 {
		t.Errorf("the index was made %d times, want once", n)
	}
}

// TestTableIsGone: an index without one of its tables is made again.
func TestTableIsGone(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("Review", false, people...)
	x, log := c.hasty()
	defer x.stop()
	c.exec("DROP TABLE t")
	x.Committed(id, c.say(id, "Nova@nyc", "the parser"))
	eventually(t, func() (bool, string) { return log.made.Load() == 2, "the index is not made again" })
	x.settle(t)
	if talk, err := x.Talk(t.Context(), time.UnixMilli(0), address("Nova@nyc")); err != nil || len(talk.Pairs) != len(people)-1 {
		t.Errorf("talk: got %+v, %v, want with %d", talk.Pairs, err, len(people)-1)
	}
}

// TestRests: an index that nobody asks and nothing comes to has no file open, and is as good as before.
func TestRests(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("Review", false, people...)
	c.say(id, "Nova@nyc", "the first parser")
	log := newTold()
	i := search.New(search.Parts{Home: c.home, Logger: slog.New(log)})
	i.Times(time.Minute, time.Minute, time.Millisecond)
	x := start(i)
	defer func() { x.stop() }()
	x.settle(t)
	atRest := func() (bool, string) {
		open := openFiles(t, c.home.RunDir())
		return len(open) == 0, fmt.Sprintf("open at rest: got %q, want none", open)
	}
	eventually(t, atRest)
	if got := x.find(t, "parser", ""); len(got) != 1 {
		t.Errorf("search: got %v, want the line", got)
	}
	x.Committed(id, c.say(id, "Nova@nyc", "the second parser"))
	x.settle(t)
	eventually(t, atRest)
	if rows, err := x.SQL(t.Context(), api.SQL{Query: "SELECT count(*) FROM messages"}); err != nil || fmt.Sprint(rows.Rows) != "[[3]]" {
		t.Errorf("sql: got %v, %v, want 3 lines", rows.Rows, err)
	}
	eventually(t, atRest)
	if got := x.find(t, "parser", ""); len(got) != 2 {
		t.Errorf("search: got %v, want both lines", got)
	}
	x.stop()
	if left, _ := filepath.Glob(dbPath(c.home) + "-*"); len(left) != 0 {
		t.Errorf("beside the index that is closed: got %q, want nothing", left)
	}
	x, again := c.hasty()
	if n := log.failed.Load() + again.failed.Load() + again.made.Load(); n != 0 {
		t.Errorf("the index failed or was made again %d times, want never", n)
	}
}

// openFiles lists the files in a folder that this process has open.
func openFiles(t *testing.T, dir string) (list []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(links) == 0 {
		t.Skipf("the system does not tell which files are open: %v", err)
	}
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && filepath.Dir(path) == dir {
			list = append(list, filepath.Base(path))
		}
	}
	return list
}

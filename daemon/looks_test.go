package daemon_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// watched is a file with times that the test chooses.
type watched struct {
	t    *testing.T
	path string
	*daemon.Looks
}

func newWatched(t *testing.T) *watched {
	w := &watched{t: t, path: filepath.Join(t.TempDir(), "file"), Looks: daemon.NewLooks()}
	w.write("x", time.Now())
	return w
}

func (w *watched) write(content string, changed time.Time) {
	w.t.Helper()
	if err := os.WriteFile(w.path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chtimes(w.path, time.Time{}, changed); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) look() durable.Look {
	w.t.Helper()
	dir, err := os.Open(filepath.Dir(w.path))
	if err != nil {
		w.t.Fatal(err)
	}
	defer dir.Close()
	look, err := durable.LookAt(dir, filepath.Base(w.path))
	if err != nil {
		w.t.Fatal(err)
	}
	return look
}

// want checks what a sweep at a time says.
func (w *watched) want(what string, at time.Duration, polling, want bool) {
	w.t.Helper()
	look := w.look()
	daemon.Begin(w.Looks, at, polling)
	if got := daemon.Changed(w.Looks, "key", look); got != want {
		w.t.Errorf("%s: got changed %v, want %v", what, got, want)
	}
}

// Whatever the clock of a file system says, a change is one.
func TestChangesByAnyClock(t *testing.T) {
	w := newWatched(t)
	now := time.Now()
	w.want("at first", time.Second, false, true)
	w.want("again", 2*time.Second, false, false)
	for what, changed := range map[string]time.Time{"an hour ago": now.Add(-time.Hour), "in an hour": now.Add(time.Hour), "in 1970": time.Unix(0, 1)} {
		w.write("x", changed)
		w.want(what, 3*time.Second, false, true)
		w.want(what+", again", 4*time.Second, false, false)
	}
	info, err := os.Stat(w.path)
	if err != nil {
		t.Fatal(err)
	}
	w.write("longer", info.ModTime())
	w.want("of another size", 5*time.Second, false, true)
	if err := os.Rename(w.path, w.path+".old"); err != nil {
		t.Fatal(err)
	}
	w.write("longer", info.ModTime())
	w.want("another file", 6*time.Second, false, true)
	w.want("another file, again", 7*time.Second, false, false)
}

// Two changes can have one time, as coarse as the clock of a file system is. While
// nothing else tells of the second one, looking goes on for a while.
func TestChangesOfOneTick(t *testing.T) {
	w := newWatched(t)
	w.want("at first", time.Second, true, true)
	w.want("a moment later", 1500*time.Millisecond, true, true)
	w.want("just before", 2999*time.Millisecond, true, true)
	w.want("when the clock has moved on", 3500*time.Millisecond, true, true)
	w.want("after that look", 3600*time.Millisecond, true, false)
	w.write("x", time.Unix(1, 0))
	w.want("a change", 10*time.Second, true, true)
	w.want("long after", time.Minute, true, true)
	w.want("after that look", time.Minute, true, false)
}

// In so many routine sweeps each log has its turn once.
func TestTurns(t *testing.T) {
	const parts, logs = 10, 1000
	l := daemon.NewLooks()
	counts := make(map[string]int)
	ids := make([]string, logs)
	for i := range ids {
		ids[i] = envelope.NamedID("log", string(rune('a'+i)))
	}
	for turn := range parts {
		daemon.Begin(l, time.Duration(turn), false)
		n := 0
		for _, id := range ids {
			if daemon.IsTurnOf(l, id) {
				counts[id]++
				n++
			}
		}
		if n > 2*logs/parts {
			t.Errorf("turn %d: got %d logs, want about a tenth of %d", turn, n, logs)
		}
	}
	for id, n := range counts {
		if n != 1 {
			t.Errorf("log %s: got %d turns, want 1", id, n)
		}
	}
	if len(counts) != logs {
		t.Errorf("got turns of %d logs, want %d", len(counts), logs)
	}
}

func TestForgetWhatIsGone(t *testing.T) {
	w := newWatched(t)
	look := w.look()
	keys := []string{"atlas/", "atlas/inbox/new", "atlas/outbox/new", "atlas/agent.json", "nova/", "nova/inbox/new", "a-log", "b-log", "c-log"}
	for _, key := range keys {
		daemon.Changed(w.Looks, key, look)
	}
	daemon.Forget(w.Looks, []string{"atlas"}, []string{"b-log"})
	for i, key := range keys {
		if got, want := daemon.Known(w.Looks, key), i < 4 || key == "b-log"; got != want {
			t.Errorf("known(%q): got %v, want %v", key, got, want)
		}
	}
}

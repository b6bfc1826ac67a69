package daemontest_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// appendTo appends a line with the shell's means.
func appendTo(t *testing.T, path, line string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	prepare(t, err)
	_, err = f.WriteString(line + "\n")
	prepare(t, errors.Join(err, f.Close()))
}

// TestTimesOfAnotherClock: while polling, a change is noticed whatever the clock of the
// file system says, as that of a server may.
func TestTimesOfAnotherClock(t *testing.T) {
	t.Parallel()
	h := daemontest.NewWith(t, "watch.poll = true\nwatch.poll-interval = '20ms'\n", "Atlas", "Nova", "Sage")
	id := create(h, "Clocks", "Nova")
	wantFiles(t, h, "Nova", mailbox.InboxNew, 1)
	h.Stop()
	behind := time.Now().Add(-time.Hour)
	prepare(t, filepath.WalkDir(h.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(path, time.Time{}, behind)
	}))
	h.Start()
	appendTo(t, h.Home().LogPath(id), `{"from":"Atlas","content":"a line"}`)
	prepare(t, os.Chtimes(h.Home().LogPath(id), time.Time{}, behind.Add(time.Second)))
	h.Drop("Sage", "a.json", `{"to":"Nova","topic":"Drops","content":"a drop"}`)
	prepare(t, os.Chtimes(filepath.Join(h.Box("Sage").Dir(), mailbox.OutboxNew), time.Time{}, behind.Add(time.Second)))
	wantFiles(t, h, "Nova", mailbox.InboxNew, 3)
	wantGiven(t, h, "Nova", id, "a line")
	stopSound(t, h)
}

// TestChangesWithoutEvents: what no event tells of is found by the sweeps, also in the
// logs, of which each looks at a part.
func TestChangesWithoutEvents(t *testing.T) {
	t.Parallel()
	h := daemontest.NewWith(t, "watch.rescan = '10ms'\n", "Atlas", "Nova")
	for n := range 20 {
		id := create(h, fmt.Sprint("Topic ", n), "Nova")
		other := filepath.Join(h.Dir, "other") // a name in a folder that nobody watches
		prepare(t, os.Link(h.Home().LogPath(id), other))
		appendTo(t, other, `{"from":"Atlas","content":"unheard"}`)
		prepare(t, os.Remove(other))
		wantGiven(t, h, "Nova", id, "unheard")
	}
	stopSound(t, h)
}

// TestSweepsDuringTheStart: sweeps that are due before the start is over wait for it.
func TestSweepsDuringTheStart(t *testing.T) {
	t.Parallel()
	h := daemontest.NewWith(t, "watch.poll = true\nwatch.poll-interval = '10ms'\n", "Atlas", "Nova")
	id := create(h, "Hello", "Nova")
	h.Stop()
	for n := range 300 {
		prepare(t, os.MkdirAll(filepath.Join(h.Home().AgentDir(fmt.Sprint("a", n)), mailbox.OutboxNew), 0o700))
	}
	for n := range 3 {
		h.Start()
		h.Post("Atlas", say(id, fmt.Sprint("text ", n)))
		h.Stop()
	}
}

// TestFolderWithNoAgentsName: what cannot be an agent's folder is left alone.
func TestFolderWithNoAgentsName(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t)
	names := []string{"foo.bar", "Upper", "1st", "with blank"}
	for n := range 20 {
		for _, name := range names {
			prepare(t, os.MkdirAll(filepath.Join(h.Home().AgentsDir(), name), 0o700))
		}
		agent := fmt.Sprint("agent", n)
		prepare(t, os.Mkdir(h.Home().AgentDir(agent), 0o700))
		daemontest.Eventually(t, func() (bool, string) { // so the folders before were looked at
			_, err := os.Stat(filepath.Join(h.Box(agent).Dir(), mailbox.OutboxNew))
			return err == nil, fmt.Sprint(err)
		})
		for _, name := range names {
			entries, err := os.ReadDir(filepath.Join(h.Home().AgentsDir(), name))
			if err != nil || len(entries) > 0 {
				t.Fatalf("%q: got %v, %v, want an empty folder", name, entries, err)
			}
			prepare(t, os.RemoveAll(filepath.Join(h.Home().AgentsDir(), name)))
		}
	}
}

package maildir_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/claude-duo/duo/maildir"
)

const (
	id1 = "0f9d1a52-91aa-8b7c-9c1d-5e6f70829f3a"
	id2 = "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3"
)

func TestPaths(t *testing.T) {
	h := &maildir.Home{Dir: "/h"}
	for got, want := range map[string]string{
		h.AgentsDir():           "/h/agents",
		h.AgentDir("Atlas"):     "/h/agents/atlas",
		h.ConversationsDir():    "/h/conversations",
		h.LogPath(id1):          "/h/conversations/" + id1 + ".jsonl",
		h.ConfigPath():          "/h/config.toml",
		h.RunDir():              "/h/run",
		h.IndexPath():           "/h/run/index.db",
		h.PidPath():             "/h/run/daemon.pid",
		h.DaemonLogPath():       "/h/run/daemon.log",
		h.SessionsDir():         "/h/run/sessions",
		h.SocketPath():          "/h/run/duo.sock",
		h.Address("Nova").Key(): "nova",
	} {
		if got != want {
			t.Errorf("path: got %q, want %q", got, want)
		}
	}
}

func TestSocketPathOfALongHome(t *testing.T) {
	long := func(n int) *maildir.Home { // whose own socket has n bytes
		return &maildir.Home{Dir: "/" + strings.Repeat("h", n-len("//run/duo.sock"))}
	}
	uid := fmt.Sprintf("/tmp/duo-%d/", os.Getuid())
	for name, c := range map[string]struct {
		home    *maildir.Home
		runtime string
		under   string
	}{
		"fits":                {long(100), "/run/user/1", long(100).RunDir() + "/duo.sock"},
		"one byte too long":   {long(101), "/run/user/1", "/run/user/1/duo-"},
		"no runtime folder":   {long(101), "", uid},
		"relative folder":     {long(101), "run/user/1", uid},
		"long runtime folder": {long(101), "/" + strings.Repeat("r", 90), uid},
		"very long":           {long(4000), "/run/user/1", "/run/user/1/duo-"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_RUNTIME_DIR", c.runtime)
			got := c.home.SocketPath()
			if !strings.HasPrefix(got, c.under) || len(got) > 100 {
				t.Errorf("got %q of %d bytes, want %q… of at most 100", got, len(got), c.under)
			}
			if again := c.home.SocketPath(); again != got {
				t.Errorf("asked again: got %q, want %q", again, got)
			}
		})
	}
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/1")
	if a, b := long(101).SocketPath(), long(102).SocketPath(); a == b {
		t.Errorf("two homes: both got %q, want two sockets", a)
	}
}

// A path that SocketPath gives can be listened on.
func TestSocketPathWorks(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	h, err := maildir.Init(dir)
	must(t, err)
	listener, err := net.Listen("unix", h.SocketPath())
	if err != nil {
		t.Fatalf("listen on %q: got %v, want no error", h.SocketPath(), err)
	}
	listener.Close()
}

func TestSocketPathFollowsTheDaemonsLink(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	h, err := maildir.Init(dir)
	must(t, err)
	must(t, os.Symlink("/run/user/7/duo.sock", filepath.Join(h.RunDir(), "duo.sock")))
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/1")
	if got, want := h.SocketPath(), "/run/user/7/duo.sock"; got != want {
		t.Errorf("got %q, want where the daemon listens, %q", got, want)
	}
}

// shortDir is a temporary folder with a short path.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "d")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestLockDaemon(t *testing.T) {
	h := newHome(t)
	for range 3 {
		release, err := h.LockDaemon()
		if err != nil {
			t.Fatalf("LockDaemon: got %v, want no error", err)
		}
		if _, err := h.LockDaemon(); !errors.Is(err, maildir.ErrRunning) {
			t.Errorf("LockDaemon while it is held: got %v, want ErrRunning", err)
		}
		if err := release(); err != nil {
			t.Errorf("release: got %v, want no error", err)
		}
	}
	wantPerm(t, filepath.Join(h.RunDir(), "daemon.lock"), 0o600)
}

func TestLockDaemonOfAnotherProcess(t *testing.T) {
	h := newHome(t)
	other := lockingProcess(t, h.Dir)
	if _, err := h.LockDaemon(); !errors.Is(err, maildir.ErrRunning) {
		t.Errorf("while another process has it: got %v, want ErrRunning", err)
	}
	must(t, other.Process.Kill())
	_ = other.Wait() // it was killed
	release, err := h.LockDaemon()
	if err != nil {
		t.Fatalf("after that process was killed: got %v, want no error", err)
	}
	must(t, release())
}

func TestLockDaemonWithoutItsFolder(t *testing.T) {
	h := newHome(t)
	must(t, os.Remove(h.RunDir()))
	if _, err := h.LockDaemon(); err == nil || errors.Is(err, maildir.ErrRunning) {
		t.Errorf("got %v, want an error that is not ErrRunning", err)
	}
}

func TestAgentsAreFoldersWithANameOfAnAgent(t *testing.T) {
	h := newHome(t)
	for _, name := range []string{"nova", "atlas", "a-1_b", "Upper", "1st", "-x", "né", "with space", ".hidden", strings.Repeat("x", 33)} {
		must(t, os.Mkdir(filepath.Join(h.AgentsDir(), name), 0o700))
	}
	write(t, filepath.Join(h.AgentsDir(), "file"), "")
	must(t, os.Symlink(t.TempDir(), filepath.Join(h.AgentsDir(), "link")))
	got, err := h.Agents()
	if want := []string{"a-1_b", "atlas", "nova"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Agents: got %q, %v, want %q", got, err, want)
	}
	must(t, os.RemoveAll(h.AgentsDir()))
	if _, err := h.Agents(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Agents without their folder: got %v, want fs.ErrNotExist", err)
	}
}

func TestConversationsAreFilesWithAnId(t *testing.T) {
	h := newHome(t)
	path := func(name string) string { return filepath.Join(h.ConversationsDir(), name) }
	for _, name := range []string{
		id2 + ".jsonl", id1 + ".jsonl", strings.ToUpper(id1) + ".jsonl", id1, id1 + ".json", id1 + ".jsonl~",
		".tmp-1", "notes.jsonl", ".jsonl", "x" + id1 + ".jsonl",
	} {
		write(t, path(name), "")
	}
	third := strings.Replace(id1, "0f", "1f", 1)
	must(t, os.Mkdir(path(third+".jsonl"), 0o700))
	must(t, os.Symlink(path(id1+".jsonl"), path(strings.Replace(id1, "0f", "2f", 1)+".jsonl")))
	must(t, syscall.Mkfifo(path(strings.Replace(id1, "0f", "3f", 1)+".jsonl"), 0o600))
	got, err := h.Conversations()
	if want := []string{id1, id2}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Conversations: got %q, %v, want %q", got, err, want)
	}
	must(t, os.RemoveAll(h.ConversationsDir()))
	if _, err := h.Conversations(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Conversations without their folder: got %v, want fs.ErrNotExist", err)
	}
}

func TestLogID(t *testing.T) {
	if id, ok := maildir.LogID(id1 + ".jsonl"); !ok || id != id1 {
		t.Errorf("got %q, %v, want %q", id, ok, id1)
	}
	for _, name := range []string{
		"", ".jsonl", id1, id1 + ".json", id1 + ".jsonl.jsonl", strings.ToUpper(id1) + ".jsonl",
		strings.ReplaceAll(id1, "-", "") + ".jsonl", "{" + id1 + "}.jsonl", "urn:uuid:" + id1 + ".jsonl", "../" + id1 + ".jsonl",
	} {
		if id, ok := maildir.LogID(name); ok {
			t.Errorf("LogID(%q): got %q, want none", name, id)
		}
	}
}

func TestRemoveTemps(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".tmp-1", ".tmp-", ".tmp-abc.json", "tmp-1", "a.tmp-1", ".tmpx", "file"} {
		write(t, filepath.Join(dir, name), "content")
	}
	must(t, os.Mkdir(filepath.Join(dir, ".tmp-folder"), 0o700))
	must(t, os.Symlink(filepath.Join(dir, "file"), filepath.Join(dir, ".tmp-link")))
	for range 2 {
		if err := maildir.RemoveTemps(dir); err != nil {
			t.Fatalf("RemoveTemps: got %v, want no error", err)
		}
		entries, err := os.ReadDir(dir)
		must(t, err)
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if want := []string{".tmp-folder", ".tmp-link", ".tmpx", "a.tmp-1", "file", "tmp-1"}; !slices.Equal(got, want) {
			t.Errorf("what stays: got %q, want %q", got, want)
		}
	}
	if err := maildir.RemoveTemps(filepath.Join(dir, "missing")); err != nil {
		t.Errorf("a folder that is missing: got %v, want no error", err)
	}
	if err := maildir.RemoveTemps(filepath.Join(dir, "file")); err == nil {
		t.Error("a file: got no error, want one")
	}
}

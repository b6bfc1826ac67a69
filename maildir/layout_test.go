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
	"time"

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
		h.HostPath():            "/h/host.json",
		h.KeyPath():             "/h/key",
		h.NewKeyPath():          "/h/key.new",
		h.KeysPath():            "/h/keys.jsonl",
		h.LockPath():            "/h/run/daemon.lock",
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

// longHome is a home whose own path is too long for a socket.
func longHome(t *testing.T) *maildir.Home {
	t.Helper()
	h, err := maildir.Init(filepath.Join(t.TempDir(), strings.Repeat("d", 100)))
	must(t, err)
	return h
}

// Clients with another environment find the daemon by the link that it has made. The
// daemon itself listens where its own environment says.
func TestClientsFollowTheDaemonsLink(t *testing.T) {
	h := longHome(t)
	theirs, ours := filepath.Join(shortDir(t), "duo.sock"), shortDir(t)
	write(t, theirs, "")
	must(t, h.LinkSocket(theirs))
	t.Setenv("XDG_RUNTIME_DIR", ours)
	if got := h.SocketPath(); got != theirs {
		t.Errorf("SocketPath: got %q, want where the daemon listens, %q", got, theirs)
	}
	listen := h.ListenPath()
	if filepath.Dir(listen) != ours {
		t.Errorf("ListenPath: got %q, want a socket in %q", listen, ours)
	}
	must(t, os.Remove(theirs))
	if got := h.SocketPath(); got != listen {
		t.Errorf("SocketPath with a link to nowhere: got %q, want %q", got, listen)
	}
}

func TestLinkSocket(t *testing.T) {
	h := longHome(t)
	link := filepath.Join(h.RunDir(), "duo.sock")
	for what, put := range map[string]func() error{
		"nothing":  func() error { return nil },
		"a link":   func() error { return os.Symlink("elsewhere", link) },
		"a file":   func() error { return os.WriteFile(link, nil, 0o600) },
		"the link": func() error { return h.LinkSocket("/x/duo.sock") },
		"a folder": func() error { return os.Mkdir(link, 0o700) },
	} {
		must(t, put())
		must(t, h.LinkSocket("/x/duo.sock"))
		if got, err := os.Readlink(link); err != nil || got != "/x/duo.sock" {
			t.Errorf("in place of %s: got %q, %v, want the link", what, got, err)
		}
		must(t, h.UnlinkSocket("/y/duo.sock"))
		if _, err := os.Lstat(link); err != nil {
			t.Errorf("UnlinkSocket of another socket: %v, want the link left alone", err)
		}
		must(t, h.UnlinkSocket("/x/duo.sock"))
		if _, err := os.Lstat(link); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("UnlinkSocket: got %v, want no link", err)
		}
	}
	short := newHome(t)
	must(t, short.LinkSocket(short.ListenPath()))
	if _, err := os.Lstat(short.ListenPath()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a home with its own socket: got %v, want no link", err)
	}
}

// A home has one socket, by whichever path it is known.
func TestSocketPathThroughALink(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
	for _, h := range []*maildir.Home{longHome(t), newHome(t)} {
		short := filepath.Join(shortDir(t), "home")
		must(t, os.Symlink(h.Dir, short))
		again, err := maildir.Open(short)
		must(t, err)
		if got, want := again.ListenPath(), h.ListenPath(); got != want {
			t.Errorf("ListenPath: got %q, want %q", got, want)
		}
		if got, want := again.SocketPath(), h.SocketPath(); got != want {
			t.Errorf("SocketPath: got %q, want %q", got, want)
		}
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

func TestLockThatIsNoFile(t *testing.T) {
	for what, put := range map[string]func(path string) error{
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"link":   func(path string) error { return os.Symlink("elsewhere", path) },
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		h := newHome(t)
		path := filepath.Join(h.RunDir(), "daemon.lock")
		must(t, put(path))
		result := make(chan error, 1)
		go func() {
			_, err := h.LockDaemon()
			result <- err
		}()
		select {
		case err := <-result:
			if err == nil || errors.Is(err, maildir.ErrRunning) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: got %v, want an error that tells it", what, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: LockDaemon hangs", what)
		}
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

func TestRemoveTempsBefore(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{".tmp-old": time.Hour, ".tmp-young": time.Second, ".tmp-future": -time.Hour, "file": time.Hour} {
		path := filepath.Join(dir, name)
		write(t, path, "content")
		must(t, os.Chtimes(path, time.Time{}, now.Add(-age)))
	}
	must(t, maildir.RemoveTempsBefore(dir, now.Add(-time.Minute)))
	got, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	want := []string{filepath.Join(dir, ".tmp-future"), filepath.Join(dir, ".tmp-young"), filepath.Join(dir, "file")}
	if !slices.Equal(got, want) {
		t.Errorf("what stays: got %q, want %q", got, want)
	}
	must(t, maildir.RemoveTempsBefore(filepath.Join(dir, "missing"), now))
}

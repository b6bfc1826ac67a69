package watch_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/watch"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const conversation = "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3"

// told counts the hints by their text: "outbox atlas", "everything".
type told struct {
	mu    sync.Mutex
	hints map[string]int
	marks map[string]bool // hints of settle
}

func (h *told) add(hint string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hints[hint]++
}

func (h *told) Agent(name string)  { h.add("agent " + name) }
func (h *told) Outbox(name string) { h.add("outbox " + name) }
func (h *told) Inbox(name string)  { h.add("inbox " + name) }
func (h *told) Log(id string)      { h.add("log " + id) }
func (h *told) Everything()        { h.add("everything") }
func (h *told) Routine()           { h.add("routine") }

func (h *told) count(hint string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hints[hint]
}

// forget begins to count anew.
func (h *told) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.hints)
}

func (h *told) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for hint := range h.hints {
		if !h.marks[hint] {
			list = append(list, hint)
		}
	}
	slices.Sort(list)
	return list
}

// watched is a home with the agents atlas and nova and a watcher on it.
type watched struct {
	*watch.Watcher
	*told
	t    *testing.T
	home *maildir.Home
}

// newWatched starts a watcher; run begins to read its events.
func newWatched(t *testing.T, config string) *watched {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	home, err := maildir.Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{told: &told{hints: make(map[string]int), marks: make(map[string]bool)}, t: t, home: home}
	w.Watcher = watch.New(home, w.told, daemontest.Logger(t))
	for _, name := range []string{"atlas", "nova"} {
		w.open(name)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	w.Agent("atlas")
	w.Agent("nova")
	return w
}

// Agent is the watcher's, not the hint.
func (w *watched) Agent(name string) { w.Watcher.Agent(name) }

func (w *watched) open(name string) {
	w.t.Helper()
	if _, err := mailbox.Open(w.home.AgentDir(name)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) run() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			w.t.Errorf("Run: got %v, want nil", err)
		}
	})
}

func (w *watched) path(parts ...string) string {
	return filepath.Join(append([]string{w.home.Dir}, parts...)...)
}

func (w *watched) write(content string, parts ...string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(parts...), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) rename(from, to string) {
	w.t.Helper()
	if err := os.Rename(w.path(from), w.path(to)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) remove(parts ...string) {
	w.t.Helper()
	if err := os.RemoveAll(w.path(parts...)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) wait(hint string) {
	w.t.Helper()
	daemontest.Eventually(w.t, func() (bool, string) {
		return w.count(hint) > 0, fmt.Sprintf("want %q, got %q", hint, w.list())
	})
}

// settle waits until the watcher has told of all that was done before.
func (w *watched) settle() {
	w.t.Helper()
	mark := envelope.NewID()
	w.write("x", "conversations", mark+".jsonl")
	w.mu.Lock()
	w.marks["log "+mark] = true
	w.mu.Unlock()
	w.wait("log " + mark) // events come in order
}

// only checks that these hints were given, and no others, since the last forget.
func (w *watched) only(what string, want ...string) {
	w.t.Helper()
	w.settle()
	if got := w.list(); !slices.Equal(got, want) {
		w.t.Errorf("%s: got %q, want %q", what, got, want)
	}
	w.forget()
}

func TestWhatIsTold(t *testing.T) {
	w := newWatched(t, "")
	w.run()
	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"a drop that is renamed into place", func() {
			w.write("{}", "agents/atlas/outbox/tmp/a.json")
			w.rename("agents/atlas/outbox/tmp/a.json", "agents/atlas/outbox/new/a.json")
		}, []string{"outbox atlas"}},
		{"a drop that is written in place", func() { w.write("{}", "agents/nova/outbox/new/b.json") }, []string{"outbox nova"}},
		{"a drop that is written on", func() { w.write("{ }", "agents/nova/outbox/new/b.json") }, []string{"outbox nova"}},
		{"an item that arrives", func() { w.write("{}", "agents/atlas/inbox/new/1.json") }, nil},
		{"an item that is read", func() { w.rename("agents/atlas/inbox/new/1.json", "agents/atlas/inbox/cur/1.json") }, []string{"inbox atlas"}},
		{"an item that is deleted", func() {
			w.write("{}", "agents/atlas/inbox/new/2.json")
			w.remove("agents/atlas/inbox/new/2.json")
		}, []string{"inbox atlas"}},
		{"a log that grows", func() { w.write("{}\n", "conversations", conversation+".jsonl") }, []string{"log " + conversation}},
		{"a log that is removed", func() { w.remove("conversations", conversation+".jsonl") }, []string{"log " + conversation}},
		{"a new agent", func() {
			if err := os.Mkdir(w.path("agents/sage"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{"agent sage"}},
		{"hidden files", func() {
			w.write("{}", "agents/atlas/outbox/new/.hidden.json")
			w.write("{}", "conversations/.tmp-123")
			w.write("{}", "agents/.DS_Store")
		}, nil},
		{"files that are no logs", func() {
			w.write("{}", "conversations/notes.txt")
			w.write("{}", "conversations/"+strings.ToUpper(conversation)+".jsonl")
			w.write("{}", "conversations/x.jsonl")
		}, nil},
		{"modes and times", func() {
			if err := os.Chmod(w.path("agents/nova/outbox/new/b.json"), 0o400); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(w.path("agents/nova/outbox/new/b.json"), time.Now(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}, nil},
	} {
		step.do()
		w.only(step.name, step.want...)
	}
	if w.Polling() {
		t.Error("Polling: got true, want false")
	}
}

// TestFolderMadeAgain: whoever is told of an agent asks for it to be watched again.
func TestFolderMadeAgain(t *testing.T) {
	w := newWatched(t, "")
	w.run()
	for _, gone := range []string{"agents/atlas/outbox/new", "agents/atlas/outbox", "agents/atlas"} {
		w.forget()
		w.remove(gone)
		w.wait("agent atlas")
		w.open("atlas")
		w.Agent("atlas")
		w.settle()
		w.forget()
		w.write("{}", "agents/atlas/outbox/new/a.json")
		w.wait("outbox atlas")
		w.write("{}", "agents/atlas/inbox/new/1.json")
		w.remove("agents/atlas/inbox/new/1.json")
		w.wait("inbox atlas")
	}
	if w.Polling() {
		t.Error("Polling: got true, want false")
	}
}

// TestFolderMovedAway: an outbox that was renamed is not the outbox any more.
func TestFolderMovedAway(t *testing.T) {
	w := newWatched(t, "")
	w.run()
	w.rename("agents/atlas/outbox/new", "agents/atlas/outbox/old")
	w.wait("agent atlas")
	w.open("atlas")
	w.Agent("atlas")
	w.settle()
	w.forget()
	w.write("{}", "agents/atlas/outbox/new/a.json")
	w.wait("outbox atlas")
}

// TestFolderAboveMovedAway: nothing tells of that, so it is noticed by a rescan.
func TestFolderAboveMovedAway(t *testing.T) {
	w := newWatched(t, "")
	w.run()
	w.rename("agents/atlas/outbox", "agents/atlas/old")
	w.open("atlas")
	w.Agent("atlas")
	w.settle()
	w.forget()
	w.write("{}", "agents/atlas/outbox/new/a.json")
	w.wait("outbox atlas")
}

// TestAgentAtTheEnd: an agent that comes while the daemon stops is no failure.
func TestAgentAtTheEnd(t *testing.T) {
	w := newWatched(t, "")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := w.Run(ctx); err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
	w.Agent("atlas")
	if w.Polling() {
		t.Error("Polling: got true, want false")
	}
}

func TestAgentWithoutFolders(t *testing.T) {
	w := newWatched(t, "")
	w.run()
	w.Agent("nobody")
	if w.Polling() {
		t.Error("Polling: got true, want false: a missing folder is no failure")
	}
}

func TestPolling(t *testing.T) {
	w := newWatched(t, "watch.poll = true\nwatch.poll-interval = '10ms'\nwatch.rescan = '1h'")
	w.run()
	w.Agent("atlas")
	daemontest.Eventually(t, func() (bool, string) { return w.count("everything") >= 3, "fewer than three looks at everything" })
	if !w.Polling() {
		t.Error("Polling: got false, want true")
	}
}

func TestRescan(t *testing.T) {
	w := newWatched(t, "watch.rescan = '10ms'\nwatch.poll-interval = '1h'")
	w.run()
	daemontest.Eventually(t, func() (bool, string) { return w.count("routine") >= 3, "fewer than three looks" })
	if w.Polling() || w.count("everything") > 0 {
		t.Errorf("got polling %v, %q, want neither that nor a look at everything", w.Polling(), w.list())
	}
}

// TestOverflow: when the kernel has dropped events, everything is looked at.
func TestOverflow(t *testing.T) {
	limit := kernelLimit(t, "max_queued_events")
	if limit > 1<<16 {
		t.Skipf("the kernel queues %d events, too many to fill", limit)
	}
	w := newWatched(t, "watch.rescan = '1h'")
	files := []string{w.path("conversations", "a.txt"), w.path("conversations", "b.txt")}
	for _, path := range files {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range limit + 8192 { // the watcher buffers some itself
		if err := os.Chmod(files[i%2], 0o600); err != nil { // no hint by itself
			t.Fatal(err)
		}
	}
	w.run()
	w.wait("everything")
}

func kernelLimit(t *testing.T, name string) int {
	t.Helper()
	data, err := os.ReadFile("/proc/sys/fs/inotify/" + name)
	if err != nil {
		t.Skipf("no inotify here: %v", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestStartWithoutAHome(t *testing.T) {
	w := newWatched(t, "")
	w.run()
	other := watch.New(w.home, w.told, daemontest.Logger(t))
	w.remove("conversations")
	if err := other.Start(); err == nil {
		t.Error("Start without the folder of logs: got no error, want one")
	}
}

package daemontest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestTempsOfKillsAreRemoved: what a kill has left unfinished goes at the next start.
// What the command is writing just now stays.
func TestTempsOfKillsAreRemoved(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas")
	h.Stop()
	home := h.Home()
	prepare(t, os.MkdirAll(home.SessionsDir(), 0o700))
	dirs := []string{home.Dir, home.RunDir(), home.SessionsDir(), home.ConversationsDir(), home.AgentDir("Atlas")}
	for _, dir := range dirs {
		for name, age := range map[string]time.Duration{".tmp-old": 2 * time.Minute, ".tmp-young": 0} {
			path := filepath.Join(dir, name)
			prepare(t, os.WriteFile(path, []byte("{"), 0o600))
			prepare(t, os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
		}
	}
	h.Start()
	for _, dir := range dirs {
		daemontest.Eventually(t, func() (bool, string) {
			_, err := os.Lstat(filepath.Join(dir, ".tmp-old"))
			return errors.Is(err, os.ErrNotExist), fmt.Sprintf("old file in %q: got %v, want it gone", dir, err)
		})
		if _, err := os.Lstat(filepath.Join(dir, ".tmp-young")); err != nil && dir != home.ConversationsDir() {
			t.Errorf("young file: %v, want it left alone", err)
		}
	}
}

// TestPipesInRun: a pipe in place of a file of the daemon's does not make it wait.
func TestPipesInRun(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]bool{"daemon.lock": true, "daemon.pid": true, "index.db": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := daemontest.New(t, "Atlas", "Nova")
			h.Stop()
			path := filepath.Join(h.Home().RunDir(), name)
			prepare(t, os.RemoveAll(path))
			prepare(t, syscall.Mkfifo(path, 0o600))
			result := make(chan error, 1)
			go func() { result <- start(h.Dir) }()
			select {
			case err := <-result:
				if refused != (err != nil) || refused && !strings.Contains(err.Error(), path) {
					t.Errorf("start: got %v, want refused %v, with the path", err, refused)
				}
			case <-time.After(daemontest.Patience):
				t.Fatal("the daemon hangs")
			}
			if refused {
				prepare(t, os.Remove(path))
			}
			h.Start()
			create(h, "Hello", "Nova")
		})
	}
}

// runs starts a daemon that is expected to end by itself.
func runs(t *testing.T, dir string) (ended <-chan error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- daemon.Run(ctx, daemon.Options{Dir: dir, Logger: daemontest.Logger(t), Ready: sync.OnceFunc(func() { close(ready) })})
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("daemon does not start: %v", err)
	}
	return done
}

func wantEnd(t *testing.T, what string, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%s: the daemon ends with %v, want nil", what, err)
		}
	case <-time.After(daemontest.Patience):
		t.Fatalf("%s: the daemon goes on", what)
	}
}

// removeAll removes a folder in which somebody may still be writing.
func removeAll(t *testing.T, path string) {
	t.Helper()
	daemontest.Eventually(t, func() (bool, string) {
		err := os.RemoveAll(path)
		return err == nil, fmt.Sprint(err)
	})
}

// TestDeletedHome: a daemon whose home is deleted, in full or in part, ends, and makes
// nothing of it again.
func TestDeletedHome(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"", "run", "host.json", "run/daemon.lock"} {
		t.Run("home/"+part, func(t *testing.T) {
			t.Parallel()
			h := daemontest.New(t, "Atlas", "Nova")
			id := create(h, "Hello", "Nova")
			h.Stop()
			ended := runs(t, h.Dir)
			client := h.As("Atlas")
			var load sync.WaitGroup
			load.Go(func() { // the daemon has something to write all the time
				for err := error(nil); err == nil; {
					_, err = client.Post(context.Background(), say(id, envelope.NewID()))
				}
			})
			gone := filepath.Join(h.Dir, part)
			removeAll(t, gone)
			daemontest.Eventually(t, func() (bool, string) {
				if _, err := os.Lstat(gone); err == nil {
					t.Fatalf("%q is there again, want it gone", gone)
				}
				select {
				case err := <-ended:
					return err == nil, fmt.Sprintf("the daemon ends with %v", err)
				default:
					return false, "the daemon goes on"
				}
			})
			load.Wait()
		})
	}
}

// TestReplacedHome: a daemon ends when another home stands in the place of its own, and
// leaves that one alone.
func TestReplacedHome(t *testing.T) {
	t.Parallel()
	for what, replace := range map[string]func(t *testing.T, dir string){
		"moved away": func(t *testing.T, dir string) { prepare(t, os.Rename(dir, dir+".old")) },
		"deleted":    func(t *testing.T, dir string) { removeAll(t, dir) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := daemontest.New(t, "Atlas", "Nova")
			h.Stop()
			ended := runs(t, h.Dir)
			replace(t, h.Dir)
			again, err := maildir.Init(h.Dir)
			prepare(t, err)
			release, err := again.LockDaemon()
			prepare(t, err)
			prepare(t, os.WriteFile(again.PidPath(), []byte("1\n"), 0o600))
			prepare(t, os.WriteFile(again.ListenPath(), nil, 0o600))
			wantEnd(t, what, ended)
			for _, path := range []string{again.PidPath(), again.ListenPath()} {
				if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
					t.Errorf("%q of the other home: got %v, %v, want it left alone", path, info, err)
				}
			}
			prepare(t, release())
		})
	}
}

// prepare fails the test on an error of preparing it.
func prepare(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

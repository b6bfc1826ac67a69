package httpd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/httpd"
	"github.com/claude-duo/duo/maildir"
)

// shortDir is a folder with a path that is short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// longHome is a home whose own path is too long for a socket.
func longHome(t *testing.T) *maildir.Home {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), strings.Repeat("d", 100)))
	if err != nil {
		t.Fatal(err)
	}
	return home
}

func linkOf(home *maildir.Home) string { return filepath.Join(home.RunDir(), "duo.sock") }

// wantHealth waits until a daemon answers at a path.
func wantHealth(t *testing.T, socket string) {
	t.Helper()
	daemontest.Eventually(t, func() (bool, string) {
		err := client.New(socket, "").Health(context.Background())
		return err == nil, fmt.Sprintf("health at %q: %v", socket, err)
	})
}

// TestLinkOfAnotherEnvironment: what a daemon with another environment has left says
// nothing about where this one listens.
func TestLinkOfAnotherEnvironment(t *testing.T) {
	left := filepath.Join(shortDir(t), "duo.sock")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, target := range map[string]string{"vanished": "/run/user/nobody/vanished/duo.sock", "left behind": left} {
		t.Run(what, func(t *testing.T) {
			t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
			home := longHome(t)
			if err := os.Symlink(target, linkOf(home)); err != nil {
				t.Fatal(err)
			}
			h := daemontest.NewAt(t, home.Dir)
			socket := home.ListenPath()
			wantHealth(t, socket)
			t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
			wantHealth(t, home.SocketPath()) // by the link
			h.Stop()
			for _, path := range []string{socket, linkOf(home)} {
				if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%q after the end: got %v, want none", path, err)
				}
			}
		})
	}
}

// TestDeletedLink: a link that somebody has removed is made again, and so is the socket
// that it leads to.
func TestDeletedLink(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
	home := longHome(t)
	daemontest.NewAt(t, home.Dir)
	want := home.ListenPath()
	for range 2 {
		if err := os.Remove(linkOf(home)); err != nil {
			t.Fatal(err)
		}
		daemontest.Eventually(t, func() (bool, string) {
			got, err := os.Readlink(linkOf(home))
			return got == want, fmt.Sprintf("link: got %q, %v, want %q", got, err, want)
		})
		if err := os.Remove(want); err != nil {
			t.Fatal(err)
		}
		wantHealth(t, want)
	}
}

// TestHomeByAnotherPath: a daemon that was started through a short link to its home is
// found by the long path.
func TestHomeByAnotherPath(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
	home := longHome(t)
	short := filepath.Join(shortDir(t), "home")
	if err := os.Symlink(home.Dir, short); err != nil {
		t.Fatal(err)
	}
	h := daemontest.NewAt(t, short)
	wantHealth(t, home.SocketPath())
	wantHealth(t, h.Home().SocketPath())
}

// TestLinkToAnotherHome: a home that was copied with the link to a socket in it does
// not take the other one's daemon for its own.
func TestLinkToAnotherHome(t *testing.T) {
	other := newHost(t)
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other.Home().SocketPath(), linkOf(home)); err != nil {
		t.Fatal(err)
	}
	socket, err := httpd.Listen(home)
	if err != nil {
		t.Fatalf("Listen: got %v, want no error", err)
	}
	defer socket.Close()
	if info, err := os.Lstat(linkOf(home)); err != nil || info.Mode()&os.ModeSocket == 0 {
		t.Errorf("got %v, %v, want a socket of its own", info, err)
	}
	wantHealth(t, other.Home().SocketPath())
}

// TestSocketOfAHomeThatIsGone: who closes a socket leaves one alone that another daemon
// has made in its place.
func TestSocketOfAHomeThatIsGone(t *testing.T) {
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	old, err := httpd.Listen(home)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(home.Dir, home.Dir+".old"); err != nil {
		t.Fatal(err)
	}
	if _, err := httpd.Listen(home); err == nil {
		t.Error("Listen without a home: got no error, want one")
	}
	if _, err := os.Lstat(home.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the home: got %v, want none", err)
	}
	again, err := maildir.Init(home.Dir)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := httpd.Listen(again)
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if err := old.Close(); err != nil {
		t.Errorf("Close: got %v, want no error", err)
	}
	if _, err := os.Lstat(again.ListenPath()); err != nil {
		t.Errorf("the other daemon's socket: %v", err)
	}
}

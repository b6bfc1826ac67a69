package session_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/claude-duo/duo/maildir/session"
)

// child is a process that runs until it is killed.
type child struct {
	process session.Process
	kill    func() // and wait for its end
}

func start(t *testing.T) child {
	t.Helper()
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	must(t, err)
	if err := cmd.Start(); err != nil {
		t.Skipf("no cat: %v", err)
	}
	kill := func() {
		_ = cmd.Process.Kill() // it may have been killed before
		_ = cmd.Wait()
		_ = stdin.Close()
	}
	t.Cleanup(kill)
	return child{session.Find(cmd.Process.Pid), kill}
}

func TestAlive(t *testing.T) {
	if p := session.Self(); !p.Alive() || p.PID != os.Getpid() || p != session.Find(os.Getpid()) {
		t.Errorf("this process: got %v, want it alive", p)
	}
	if (session.Process{}).Alive() || (session.Process{PID: -1}).Alive() {
		t.Error("no process is alive")
	}
	c := start(t)
	if !c.process.Alive() {
		t.Errorf("a child: got %v, want it alive", c.process)
	}
	if other := (session.Process{PID: c.process.PID, Start: c.process.Start + "1"}); c.process.Start != "" && other.Alive() {
		t.Error("one that had the number before is alive")
	}
	c.kill()
	if c.process.Alive() {
		t.Error("one that was killed is alive")
	}
}

// TestAZombieIsNotAlive: it was killed, and nobody has waited for it.
func TestAZombieIsNotAlive(t *testing.T) {
	cmd := exec.Command("cat")
	out, err := cmd.StdoutPipe()
	must(t, err)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	if err := cmd.Start(); err != nil {
		t.Skipf("no cat: %v", err)
	}
	p := session.Find(cmd.Process.Pid)
	must(t, stdin.Close())
	_, err = io.ReadAll(out) // ends when the process has
	must(t, err)
	waitUntil(t, "it is a zombie", func() bool { return !p.Alive() })
	must(t, cmd.Wait())
}

// TestNearest: of the sessions of two programs, one of which has started the other, the
// inner one is meant.
func TestNearest(t *testing.T) {
	parent, other := session.Find(os.Getppid()), start(t).process
	grand := session.Binding{Key: session.Key{ID: "grand"}, Process: session.Client()}
	inner := session.Binding{Key: session.Key{ID: "inner"}, Process: parent}
	beside := session.Binding{Key: session.Key{ID: "beside"}, Process: other}
	if got := session.Nearest([]session.Binding{beside, inner}); got == nil || got.ID != "inner" {
		t.Errorf("one is above: got %+v, want it", got)
	}
	if got := session.Nearest([]session.Binding{beside, {}}); got != nil {
		t.Errorf("none is above: got %+v, want none", got)
	}
	if got := session.Nearest([]session.Binding{inner, inner}); got != nil {
		t.Errorf("both are the same: got %+v, want none", got)
	}
	if grand.Process != parent {
		if got := session.Nearest([]session.Binding{grand, inner}); got == nil || got.ID != "inner" {
			t.Errorf("both are above: got %+v, want the nearest", got)
		}
	}
}

// TestClientPassesShells: what runs in a shell of this process runs in this process.
func TestClientPassesShells(t *testing.T) {
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command("sh", "-c", `sh -c '"$0"; true' "$0"; true`, exe)
	cmd.Env = append(os.Environ(), actVar+"=client")
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("no shell: %v", err)
	}
	if got, want := string(out), session.Self().String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestFirstProcess: a client program may be the first process of a container. Another one
// that is first is no client.
func TestFirstProcess(t *testing.T) {
	exe, err := os.Executable()
	must(t, err)
	for name, want := range map[string]bool{"codex": true, "server": false} {
		path := filepath.Join(t.TempDir(), name)
		must(t, os.Symlink(exe, path))
		cmd := exec.Command("unshare", "--pid", "--fork", "--mount-proc", path)
		cmd.Env = append(os.Environ(), actVar+"=first")
		out, err := cmd.Output()
		if err != nil {
			t.Skipf("no processes of its own: %v", err)
		}
		if got := string(out) == "process 1"; got != want {
			t.Errorf("%s is first: got %s, want that it is the client: %v", name, out, want)
		}
	}
}

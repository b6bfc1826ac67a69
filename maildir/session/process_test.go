package session_test

import (
	"io"
	"os"
	"os/exec"
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

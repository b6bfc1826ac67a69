package waker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/waker"
)

// fakeCodex is a PATH with a codex in it that writes its arguments and surroundings.
func fakeCodex(t *testing.T) (path string) {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\nprintf '%s\\n' \"$@\" >\"$DUO_HOME/args\"\nenv >\"$DUO_HOME/env\"\n"
	if err := os.WriteFile(filepath.Join(dir, "codex"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir + ":" + os.Getenv("PATH")
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestARealProgram is found in PATH, gets its arguments as they are, and nothing of the
// session that the daemon was started from.
func TestARealProgram(t *testing.T) {
	t.Setenv("PATH", fakeCodex(t))
	t.Setenv("CODEX_THREAD_ID", "another")
	t.Setenv("CLAUDE_CODE_SESSION_ID", "another")
	t.Setenv("DUO_SESSION", "another")
	t.Setenv("CODEX_HOME", "/its/home")
	home := t.TempDir()
	args := []string{"codex", "queue", "--message", "two words; $(touch x) `y` \"z\""}
	err := waker.Real().Run(t.Context(), waker.Program{Args: args, Env: []string{"DUO_HOME=" + home, "DUO_AS=Nova"}, Time: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, filepath.Join(home, "args")), strings.Join(args[1:], "\n")+"\n"; got != want {
		t.Errorf("arguments: got %q, want %q", got, want)
	}
	env := read(t, filepath.Join(home, "env"))
	if strings.Contains(env, "another") || !strings.Contains(env, "DUO_AS=Nova\n") || !strings.Contains(env, "CODEX_HOME=/its/home\n") {
		t.Errorf("environment: got %q, want DUO_AS and CODEX_HOME, and no session", env)
	}
}

func TestAProgramThatFails(t *testing.T) {
	run := func(args ...string) error {
		return waker.Real().Run(t.Context(), waker.Program{Args: args, Time: time.Minute})
	}
	if err := run("sh", "-c", "echo "+secret+"; echo "+secret+" >&2; exit 7"); err == nil || err.Error() != `run "sh": exit code 7` {
		t.Errorf("got %v, want the exit code and nothing that was printed", err)
	}
	if err := run("no-such-program-here"); err == nil || !strings.Contains(err.Error(), "no-such-program-here") {
		t.Errorf("got %v, want that there is none", err)
	}
	if err := run("sh", "-c", "read line || exit 3"); err == nil || !strings.Contains(err.Error(), "code 3") {
		t.Errorf("got %v, want nothing to read from standard input", err)
	}
}

// TestAHangingProgramIsEnded with all that it has started.
func TestAHangingProgramIsEnded(t *testing.T) {
	dir := t.TempDir()
	program := func(limit time.Duration) waker.Program {
		return waker.Program{Args: []string{"sh", "-c", `sleep 1000 & echo $! >"$DUO_HOME/pid.tmp"; mv "$DUO_HOME/pid.tmp" "$DUO_HOME/pid"; wait`}, Env: []string{"DUO_HOME=" + dir}, Time: limit}
	}
	for limit := time.Second; ; limit *= 2 { // until the machine is fast enough to start anything
		if err := waker.Real().Run(t.Context(), program(limit)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want that its time is over", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "pid")); err == nil {
			break
		}
	}
	wantEnded(t, filepath.Join(dir, "pid"))

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- waker.Real().Run(ctx, program(time.Hour)) }()
	until(t, func() bool { _, err := os.Stat(filepath.Join(dir, "pid")); return err == nil })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want that it was cancelled", err)
	}
	wantEnded(t, filepath.Join(dir, "pid"))
}

// wantEnded waits until the process of a file is gone, and removes the file.
func wantEnded(t *testing.T, path string) {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || isZombie(pid) })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// isZombie reports whether a process has ended and only nobody has asked for how.
func isZombie(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(data), ") Z ")
}

func until(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}

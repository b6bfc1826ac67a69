package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"duo": main, "client": clientProgram})
}

// clientProgram is a program that runs the hooks of its session: the shell command that it is
// given. Then it makes client.ready, and runs until it is killed.
func clientProgram() {
	cmd := exec.Command("sh", "-c", os.Args[1])
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := os.WriteFile("client.ready", nil, 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	time.Sleep(time.Hour)
}

// TestScripts plays the scenes of testdata/script. Each has a home of its own, and
// its daemon ends with it.
//
//	exits CODE COMMAND...  runs a command and wants its exit code
//	grab NAME REGEXP       sets a variable to the group of a match in the last stdout
//	until COMMAND...       runs a command until it succeeds, for at most a minute
//	appear PATTERN...      waits until files are there, or with ! gone, for at most a minute
//
// In config.toml of a home, FREE is a port on which nobody listens.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               func(env *testscript.Env) error { return setup(t, env) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "grab": grab, "until": until, "appear": appear,
		},
	})
}

func setup(t *testing.T, env *testscript.Env) error {
	work := env.WorkDir
	for name, value := range map[string]string{
		"HOME": work, "DUO_HOME": filepath.Join(work, "home"), "XDG_DATA_HOME": filepath.Join(work, "data"),
		"XDG_RUNTIME_DIR": "", "XDG_CONFIG_HOME": filepath.Join(work, "config"), "NO_COLOR": "",
		"DUO_AS": "", "DUO_CONVERSATION": "", "DUO_AUTOSTART": "", "DUO_FORMAT": "", "DUO_SESSION": "",
		"CLAUDE_CODE_SESSION_ID": "", "CODEX_THREAD_ID": "", "GEMINI_SESSION_ID": "",
		"GORACE": "atexit_sleep_ms=0", // else each command of a race build ends with a second of sleep
	} {
		env.Setenv(name, value)
	}
	programs, _, _ := strings.Cut(env.Getenv("PATH"), string(filepath.ListSeparator))
	env.Setenv("BIN", programs) // with nothing in it but duo
	for _, name := range []string{"home", "lon", "hub"} {
		home := &maildir.Home{Dir: filepath.Join(work, name)}
		env.Defer(func() { stopDaemon(env.T(), home) })
		if err := fillPort(t, filepath.Join(home.Dir, "config.toml")); err != nil {
			return err
		}
	}
	return nil
}

// fillPort writes a port of its own into the configuration of a home, where it asks for one.
func fillPort(t *testing.T, path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes.ReplaceAll(text, []byte("127.0.0.1:FREE"), []byte(daemontest.FreeAddress(t))), 0o600)
}

const patienceOfTests = time.Minute

// stopDaemon ends the daemon of a home, if there is one, and waits for its end.
func stopDaemon(t testscript.T, home *maildir.Home) {
	if _, err := os.Stat(home.RunDir()); err != nil {
		return
	}
	for end := time.Now().Add(patienceOfTests); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		release, err := home.LockDaemon()
		if err == nil {
			_ = release() // nobody else is left
			return
		}
		if !errors.Is(err, maildir.ErrRunning) {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(home.PidPath()); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
				_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended just now
			}
		}
	}
	t.Fatal("the daemon does not end")
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s: got exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

func grab(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: grab NAME REGEXP")
	}
	match := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(match) < 2 {
		ts.Fatalf("no match for %q with a group in stdout", args[1])
	}
	ts.Setenv(args[0], match[1])
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: until COMMAND...")
	}
	var err error
	for end := time.Now().Add(patienceOfTests); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = ts.Exec(args[0], args[1:]...); err == nil {
			return
		}
	}
	ts.Fatalf("%s: %v", strings.Join(args, " "), err)
}

func appear(ts *testscript.TestScript, neg bool, args []string) {
	for _, pattern := range args {
		end := time.Now().Add(patienceOfTests)
		for {
			found, err := filepath.Glob(ts.MkAbs(pattern))
			ts.Check(err)
			if len(found) > 0 != neg {
				break
			}
			if time.Now().After(end) {
				ts.Fatalf("%s: found %q", pattern, found)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

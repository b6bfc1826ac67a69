package daemontest_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir"
)

// program answers every line of its standard input with a line of its own. It is
// started when it is asked something, and may be killed at any time. One goroutine
// asks.
type program struct {
	make func() *exec.Cmd

	mu      sync.Mutex // guards proc
	proc    *os.Process
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
	failure bytes.Buffer // what it has said on standard error
}

// errEnded means that the program was killed before it answered.
var errEnded = errors.New("killed")

// ask sends one line and returns the answer. It returns errEnded where the program was
// killed.
func (p *program) ask(line string) (string, error) {
	if p.cmd == nil {
		if err := p.start(); err != nil {
			return "", err
		}
	}
	if _, err := io.WriteString(p.in, line+"\n"); err == nil && p.out.Scan() {
		return p.out.Text(), nil
	}
	return "", p.close()
}

func (p *program) start() error {
	p.failure.Reset()
	cmd := p.make()
	leash(cmd)
	cmd.Stderr = &p.failure
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.proc, p.in, p.out = cmd, cmd.Process, in, bufio.NewScanner(out)
	return nil
}

// close lets the program end, and says how it ended.
func (p *program) close() error {
	if p.cmd == nil {
		return nil
	}
	_ = p.in.Close() // it may be gone
	for p.out.Scan() {
		// what nobody waits for any more
	}
	err := p.cmd.Wait()
	p.mu.Lock()
	p.cmd, p.proc = nil, nil
	p.mu.Unlock()
	return ended(err, p.failure.String())
}

// ended tells a program that was killed from one that has failed.
func ended(err error, stderr string) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled():
		return errEnded
	}
	return fmt.Errorf("%w: %s", err, stderr)
}

func (p *program) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proc != nil {
		_ = p.proc.Kill() // it may have ended just now
	}
}

// role is a command that runs this test program in one of its roles.
func role(name, home string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, envRole+"="+name, "DUO_HOME="+home)...)
	return cmd
}

// process is a daemon in a process of its own.
type process struct {
	t    testing.TB
	home string
	log  *os.File // what it has said
	cmd  *exec.Cmd
	done chan error // what Wait has said
}

// runDaemon starts a daemon and waits until it answers. It is killed when the test ends.
func runDaemon(t testing.TB, home string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, home: home, done: make(chan error, 1), cmd: cmd}
	var err error
	if p.log, err = os.CreateTemp(t.TempDir(), "daemon-*.log"); err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	leash(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- cmd.Wait() }()
	t.Cleanup(p.kill)
	daemontest.Eventually(t, func() (bool, string) {
		select {
		case err := <-p.done:
			p.done <- err
			t.Fatalf("the daemon ended with %v:\n%s", err, p.said())
		default:
		}
		opened, err := maildir.Open(home)
		if err == nil {
			err = client.New(opened.SocketPath(), "").Health(t.Context())
		}
		return err == nil, fmt.Sprint("the daemon does not answer: ", err)
	})
	return p
}

// kill ends the daemon the hard way. It may be called twice.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended just now
	err := <-p.done
	p.done <- err
	p.checkRaces()
}

const stopsWithin = 30 * time.Second // on a machine that is busy

// term ends the daemon in order, which has to work and not to take too long.
func (p *process) term() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("the daemon had ended before it was asked to:\n%s", p.said())
	}
	select {
	case err := <-p.done:
		p.done <- err
		if err != nil {
			p.t.Errorf("the daemon stops with %v:\n%s", err, p.said())
		}
	case <-time.After(stopsWithin):
		p.t.Errorf("the daemon does not stop within %s:\n%s", stopsWithin, p.dump())
	}
	p.checkRaces()
}

// dump ends the daemon, and returns what all its goroutines were doing.
func (p *process) dump() string {
	_ = p.cmd.Process.Signal(syscall.SIGQUIT) // it may have ended just now
	err := <-p.done
	p.done <- err
	return p.said()
}

const maxSaid = 100_000

// said is the end of the daemon's log.
func (p *process) said() string {
	data, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-maxSaid):])
}

func (p *process) checkRaces() {
	p.t.Helper()
	data, err := os.ReadFile(p.log.Name())
	if err == nil && bytes.Contains(data, []byte("DATA RACE")) {
		p.t.Errorf("the daemon has a data race:\n%s", data)
	}
}

var buildDir string // where duo was built, empty where it was not

var buildDuo = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("DUO_CRASH_BIN"); path != "" {
		return filepath.Abs(path)
	}
	var err error
	if buildDir, err = os.MkdirTemp("", "duo-crash-"); err != nil {
		return "", err
	}
	path := filepath.Join(buildDir, "duo")
	out, err := exec.Command("go", "build", "-o", path, "github.com/claude-duo/duo/cmd/duo").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build duo: %w: %s", err, out)
	}
	return path, nil
})

// duo is the path of the real program, built of this tree unless DUO_CRASH_BIN names one.
func duo(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil && os.Getenv("DUO_CRASH_BIN") == "" {
		t.Skip("there is no go command to build duo with, and DUO_CRASH_BIN is not set")
	}
	path, err := buildDuo()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// duoEnv is the environment of the real program for a home, without anything of the
// machine's that could change what it does.
func duoEnv(home string, more ...string) []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "DUO_") && !strings.HasPrefix(pair, "CLAUDE") {
			env = append(env, pair)
		}
	}
	return append(env, append(more, "DUO_HOME="+home, "DUO_AUTOSTART=0")...)
}

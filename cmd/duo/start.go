package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/maildir"
)

// Between two tries to come back to a daemon: doubled each time, from the one to the other.
const (
	backoff  = 100 * time.Millisecond
	maxPause = 2 * time.Second
)

const (
	startTime = 30 * time.Second // on a machine that is busy; a daemon that ends is noticed at once
	startPoll = 5 * time.Millisecond
	otherTime = 200 * time.Millisecond
	logTail   = 4 << 10
	logLines  = 5 // of daemon.log that an error shows
)

// autostart reports whether this run may start a daemon.
func (a *app) autostart() bool { return a.env("DUO_AUTOSTART") != "0" && !a.quiet }

// starter starts a daemon for a home, nil where this run may not.
func (a *app) starter(home *maildir.Home) func(context.Context) error {
	if !a.autostart() {
		return nil
	}
	return func(ctx context.Context) error { return start(ctx, home) }
}

// ask asks the daemon, as reach.Ask does.
func ask[T any](ctx context.Context, a *app, question func(*client.Client) (T, error)) (T, error) {
	h, err := a.host()
	if err != nil {
		var none T
		return none, err
	}
	return reach.Ask(ctx, h, question)
}

// start starts a daemon in the background and waits until one answers. Several
// programs may do so at once: one daemon gets the home, the others end, and all
// programs wait for that one.
func start(ctx context.Context, home *maildir.Home) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, errTooSlow)
	defer cancel()
	for {
		child, err := spawn(home)
		if err != nil { // the log has nothing of it
			return api.Errorf(api.DaemonUnreachable, "start the daemon: %w", err).WithNext("duo daemon")
		}
		err = await(ctx, home, child)
		if err == nil {
			return nil
		}
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return context.Canceled
		}
		if !errors.Is(err, maildir.ErrRunning) {
			return cannotStart(home, err)
		}
		if awaitOther(ctx, home) {
			return nil
		}
	}
}

// awaitOther waits for the daemon that has the home: one that starts answers soon,
// one that is ending does not, and then it is time to start another one.
func awaitOther(ctx context.Context, home *maildir.Home) bool {
	ctx, cancel := context.WithTimeout(ctx, otherTime)
	defer cancel()
	return await(ctx, home, nil) == nil
}

var errTooSlow = errors.New("no answer within " + startTime.String())

func cannotStart(home *maildir.Home, cause error) error {
	return api.Errorf(api.DaemonUnreachable, "start the daemon: %w%s", cause, lastLines(home.DaemonLogPath())).WithNext("duo daemon")
}

// spawn starts "duo daemon" in a session of its own, with nothing of this program's
// environment that the daemon has no use for.
func spawn(home *maildir.Home) (ended <-chan error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the duo program: %w", err)
	}
	log, err := os.OpenFile(home.DaemonLogPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the daemon's log: %w", err)
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path: self, Args: []string{"duo", "daemon"}, Dir: home.Dir,
		Env: daemonEnvironment(os.Environ(), home.Dir), Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }() // ends with the daemon, or with this program
	return done, nil
}

func daemonEnvironment(environ []string, home string) []string {
	env := []string{"DUO_HOME=" + home}
	for _, pair := range environ {
		switch name, _, _ := strings.Cut(pair, "="); {
		case name == "PATH", name == "HOME", name == "USER", name == "LANG", name == "TZ", name == "TMPDIR", name == "CODEX_HOME",
			strings.HasPrefix(name, "LC_"), strings.HasPrefix(name, "XDG_"):
			env = append(env, pair)
		}
	}
	return env
}

// await waits until a daemon answers. It returns maildir.ErrRunning when the one
// that was started has found another one in the home, and nobody answers yet.
func await(ctx context.Context, home *maildir.Home, ended <-chan error) error {
	for {
		if client.New(home.SocketPath(), "").Health(ctx) == nil { // where it listens, it says when it starts
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-ended:
			return endedEarly(err)
		case <-time.After(startPoll):
		}
	}
}

func endedEarly(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == api.ExitConflict {
		return maildir.ErrRunning
	}
	if err == nil {
		return errors.New("it ended at once")
	}
	return fmt.Errorf("it ended at once: %w", err)
}

// lastLines is the end of a log as further lines of an error.
func lastLines(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > logTail {
		_, _ = f.Seek(-logTail, io.SeekEnd) // from the start, where this fails
	}
	data, err := io.ReadAll(io.LimitReader(f, logTail))
	if err != nil || len(data) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return "\n" + strings.Join(lines[max(0, len(lines)-logLines):], "\n")
}

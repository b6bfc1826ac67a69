package waker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/session"
)

const (
	clientTime  = time.Minute
	commandTime = 10 * time.Minute
	endsWithin  = 5 * time.Second // after it was killed
	shownRefs   = 5
)

// The kinds of ways.
const (
	byClient  = "client"
	byCommand = "command"
)

// way is how an agent can be woken.
type way struct {
	kind    string
	thread  string // of byClient
	command string // of byCommand
}

// Program is what runs to wake an agent.
type Program struct {
	Args []string // the first one is looked for in PATH
	Env  []string // beside the daemon's own
	Time time.Duration
}

// Programs runs a program, and ends it and all that it has started when its time or ctx is
// over: then the error is that of the context.
type Programs interface {
	Run(ctx context.Context, p Program) error
}

// program is what wakes an agent. Of what has come it says only how much it is and where.
func (y way) program(home *maildir.Home, agent string, n news) Program {
	p := Program{Env: []string{
		"DUO_AGENT=" + agent, "DUO_AS=" + agent, "DUO_HOME=" + home.Dir,
		"DUO_REF=" + n.refs[0], "DUO_COUNT=" + strconv.Itoa(len(n.refs)),
	}}
	if y.kind == byClient {
		p.Args = []string{session.Codex, "queue", "--thread", y.thread, "--message", says(agent, n.refs), "--resume"}
		p.Time = clientTime
		return p
	}
	p.Args, p.Time = []string{"sh", "-c", y.command}, commandTime
	return p
}

// says is what a woken session reads: a statement, not an order.
func says(agent string, refs []string) string {
	list := strings.Join(refs[:min(len(refs), shownRefs)], ", ")
	if more := len(refs) - shownRefs; more > 0 {
		list = fmt.Sprintf("%s and %d more", list, more)
	}
	items := "1 item waits"
	if len(refs) != 1 {
		items = fmt.Sprintf("%d items wait", len(refs))
	}
	return frame.Line(fmt.Sprintf("duo: %s for agent %s: %s. duo inbox lists what waits.", items, agent, list))
}

// programs runs real ones.
type programs struct{}

// foreign are variables of a session that the daemon was started from, which is not the one
// that is woken.
var foreign = []string{"CLAUDE", "CLAUDECODE", "CLAUDE_CODE_", "CODEX_THREAD_ID", "CODEX_SANDBOX", "GEMINI_SESSION_ID", "GEMINI_CLI", "CURSOR_", "DUO_"}

func environment(environ, more []string) []string {
	env := make([]string, 0, len(environ)+len(more))
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		ours := false
		for _, f := range foreign {
			ours = ours || name == f || strings.HasSuffix(f, "_") && strings.HasPrefix(name, f)
		}
		if !ours {
			env = append(env, pair)
		}
	}
	return append(env, more...)
}

// Run runs a program in a group of its own. What it prints is thrown away: it may be what
// others wrote.
func (programs) Run(ctx context.Context, p Program) error {
	path, err := exec.LookPath(p.Args[0])
	if err != nil {
		return fmt.Errorf("find %q: %w", p.Args[0], err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.Time)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, p.Args[1:]...)
	cmd.Env = environment(os.Environ(), p.Env)
	cmd.Dir, _ = os.UserHomeDir() // else where the daemon is
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = endsWithin
	err = cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("run %q: %w", p.Args[0], context.Cause(ctx))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("run %q: exit code %d", p.Args[0], exit.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("run %q: %w", p.Args[0], err)
	}
	return nil
}

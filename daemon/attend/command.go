package attend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ExitLeave is the exit code with which a command says that its reply is its last word: the
// attendant leaves the conversation then.
const ExitLeave = 10

const (
	termTime  = 2 * time.Second // between the request to end and the end
	drainTime = time.Second     // for what was printed, when the command has ended and its children are killed
	maxReason = 300             // bytes of standard error that an error quotes
)

var (
	// errForGood means that running the command again would not help.
	errForGood = errors.New("it is not run again")
	errTime    = errors.New("time is up")
	errMuch    = errors.New("too much output")
)

// Result is what came of a command that has ended well.
type Result struct {
	Text  string // that it has printed, without newlines at the end; UTF-8 without NULs
	Leave bool   // it exited with ExitLeave
}

// Command is a program on this machine. It runs in a process group of its own, which is
// killed when it has ended or its time is up, so that nothing of it stays.
type Command struct {
	Args    []string // the program, and what it is given
	Env     []string // as os.Environ
	Timeout time.Duration
	Limit   int       // bytes that it may print
	Stderr  io.Writer // gets what it prints there; nil for nobody
}

// Run runs the command once.
func (c *Command) Run(ctx context.Context, input []byte, env []string) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Env = append(withoutSessions(c.Env), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	printed := &limited{limit: c.Limit + 1, over: func() { cancel(errMuch) }} // with the newline at its end
	said := &tail{to: c.Stderr}
	pipes, err := connect(cmd, input, printed, said)
	if err != nil {
		return Result{}, err
	}
	defer pipes.close()
	if err := cmd.Start(); err != nil {
		return Result{}, fmt.Errorf("start the command: %w", err)
	}
	timer := time.AfterFunc(c.Timeout, func() { cancel(errTime) })
	defer timer.Stop()
	pipes.start()
	err = wait(ctx, cmd)
	cause := context.Cause(ctx)
	pipes.close()
	switch {
	case printed.cut:
		return Result{}, tooMuch(c.Limit)
	case errors.Is(cause, errTime):
		return Result{}, fmt.Errorf("it did not end within %s", c.Timeout)
	case cause != nil:
		return Result{}, cause
	}
	r, err := result(err, printed, said)
	if err == nil && len(r.Text) > c.Limit {
		return Result{}, tooMuch(c.Limit)
	}
	return r, err
}

func tooMuch(limit int) error {
	return fmt.Errorf("it printed more than %d bytes: %w", limit, errForGood)
}

func result(err error, printed *limited, said *tail) (Result, error) {
	var exit *exec.ExitError
	leave := errors.As(err, &exit) && exit.ExitCode() == ExitLeave
	if err != nil && !leave {
		if line := said.lastLine(); line != "" {
			return Result{}, fmt.Errorf("%w: %s", err, line)
		}
		return Result{}, err
	}
	text := strings.ReplaceAll(strings.ToValidUTF8(printed.kept.String(), "\uFFFD"), "\x00", "\uFFFD")
	if strings.TrimSpace(text) == "" {
		text = ""
	}
	return Result{Text: strings.TrimRight(text, "\r\n"), Leave: leave}, nil
}

// withoutSessions is an environment without the sessions of client programs that the
// attendant was started from: the command is not part of them.
func withoutSessions(environ []string) []string {
	var env []string
	for _, pair := range environ {
		switch name, _, _ := strings.Cut(pair, "="); name {
		case "CLAUDE_CODE_SESSION_ID", "CLAUDE_CODE_MESSAGING_TOKEN", "CODEX_THREAD_ID", "GEMINI_SESSION_ID", "DUO_SESSION":
		default:
			env = append(env, pair)
		}
	}
	return env
}

// wait waits until a command ends, or ends it with ctx: it is asked first. What is left of
// its group is killed.
func wait(ctx context.Context, cmd *exec.Cmd) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // the pipes are ours: it ends with the process
	group := -cmd.Process.Pid
	defer func() { _ = syscall.Kill(group, syscall.SIGKILL) }() // mostly nobody is left
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	_ = syscall.Kill(group, syscall.SIGTERM) // it may have ended just now
	select {
	case err := <-ended:
		return err
	case <-time.After(termTime):
	}
	_ = syscall.Kill(group, syscall.SIGKILL)
	return <-ended
}

// pipes carry what a command reads and prints. They are not left to os/exec, which waits
// for every child that keeps one open.
type pipes struct {
	in       *os.File   // our end of standard input
	outs     []*os.File // our ends of what it prints
	theirs   []*os.File
	input    []byte
	sinks    []io.Writer
	reading  sync.WaitGroup
	writing  sync.WaitGroup
	finished sync.Once
}

func connect(cmd *exec.Cmd, input []byte, stdout, stderr io.Writer) (*pipes, error) {
	p := &pipes{input: input, sinks: []io.Writer{stdout, stderr}}
	stdin, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	p.in, p.theirs = in, []*os.File{stdin}
	cmd.Stdin = stdin
	for _, to := range []*io.Writer{&cmd.Stdout, &cmd.Stderr} {
		out, w, err := os.Pipe()
		if err != nil {
			p.close()
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
		p.outs, p.theirs = append(p.outs, out), append(p.theirs, w)
		*to = w
	}
	return p, nil
}

// start carries, when the command has its ends.
func (p *pipes) start() {
	closeAll(p.theirs)
	p.theirs = nil
	p.writing.Go(func() {
		_, _ = p.in.Write(p.input) // who does not read all of it does not need it
		_ = p.in.Close()
	})
	for i, out := range p.outs {
		p.reading.Go(func() { _, _ = io.Copy(p.sinks[i], out) }) // until it is closed on the other side, or here
	}
}

// close ends the carrying: soon, when somebody still keeps a pipe open.
func (p *pipes) close() {
	p.finished.Do(func() {
		closeAll(p.theirs)
		drained := make(chan struct{})
		go func() { p.reading.Wait(); close(drained) }() // ends below, at the latest when the pipes are closed
		select {
		case <-drained:
		case <-time.After(drainTime):
		}
		closeAll(append(p.outs, p.in))
		<-drained
		p.writing.Wait()
	})
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // nothing is lost by it
	}
}

// limited keeps what is written to it, up to a limit. What is over that is not kept. The
// buffer is not embedded: io.Copy would fill it by its ReadFrom, past the limit.
type limited struct {
	kept  bytes.Buffer
	limit int
	over  func()
	cut   bool // something was over the limit
}

// Write takes everything, so that its writer does not stop.
func (l *limited) Write(p []byte) (int, error) {
	room := max(0, l.limit-l.kept.Len())
	if len(p) > room {
		l.cut = true
		l.over()
	}
	_, _ = l.kept.Write(p[:min(len(p), room)]) // which cannot fail
	return len(p), nil
}

// tail passes on what is written to it, and keeps the end.
type tail struct {
	to   io.Writer
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if n := len(t.kept); n > 4*maxReason {
		t.kept = append(t.kept[:0], t.kept[n-2*maxReason:]...)
	}
	if t.to != nil {
		_, _ = t.to.Write(p) // a terminal that is gone is no reason to stop the command
	}
	return len(p), nil
}

func (t *tail) lastLine() string {
	lines := bytes.Split(bytes.TrimSpace(t.kept), []byte("\n"))
	line := lines[len(lines)-1]
	return strings.ToValidUTF8(string(line[max(0, len(line)-maxReason):]), "")
}

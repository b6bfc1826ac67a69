package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/attend"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/claude-duo/duo/maildir/session"
	"github.com/spf13/cobra"
)

type attendOptions struct {
	exec        string
	input       string
	each        bool
	history     int
	timeout     span
	retries     int
	backoff     span
	concurrency int
	calls       string
	from        []string
	grace       span
	once        bool
	quiet       bool
}

func newAttend(a *app) *cobra.Command {
	o := attendOptions{
		input: string(attend.Text), calls: attend.Accept,
		timeout: span(10 * time.Minute), backoff: span(time.Second), grace: span(10 * time.Second),
	}
	cmd := &cobra.Command{
		Use: "attend [NAME] --exec COMMAND | attend [NAME] -- PROGRAM [ARG...]", Short: "Let a program answer for an agent",
		Long: `Let a program answer for an agent. When a message comes, the command runs: it gets what is
new in the conversation on standard input, and what it prints is the reply. Printing nothing
is no reply. It does not have to wait or listen: any program that reads and prints will do.

--exec runs a line of sh; behind -- stands a program with its arguments, without a shell.
Exit code 0 is a reply, 10 a reply after which the conversation is left, anything else a
failure: the command runs again, --retries times. Then the message is set aside in
outbox/failed, which duo inbox shows, and its sender is told.

--input text   for each message From:, Topic: and other header lines, an empty line, and the
               body with "| " before each of its lines (the default)
--input json   each message as one line of JSON
--input body   one body alone, as it was written

DUO_AS, DUO_FROM, DUO_REF, DUO_CONVERSATION, DUO_TOPIC, DUO_HOPS and others are in its
environment. Calls are accepted, as --calls and --accept-from say, and what is said in them is
answered like any message. Replies are automatic: of them at most limits.hops come in a
row. No message is answered twice, also by several attendants of one agent.

It runs until it is interrupted, also while the daemon restarts, and says on standard
error what it does; with --json as JSON lines on standard output.`,
		Example: `  duo attend Nova --exec 'claude -p "Answer this message, briefly."'
  duo attend Counter --input body -- wc -w
  duo attend Nova --exec ./review.sh --calls accept --accept-from Atlas,known
  duo attend Nova --exec ./review.sh --once`,
		ValidArgsFunction: a.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			name, program, err := o.split(cmd, args)
			if err != nil {
				return err
			}
			return a.runAttend(cmd.Context(), o, name, program)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.exec, "exec", "", "the command, a line of sh")
	f.Var(choice{&o.input, []string{string(attend.Text), string(attend.JSON), string(attend.Body)}}, "input", "what it gets on standard input")
	f.BoolVar(&o.each, "each", false, "run it for each message alone, also where several wait")
	f.IntVar(&o.history, "history", 0, "so many earlier messages of the conversation before it")
	f.Var(&o.timeout, "timeout", "how long it may run")
	f.IntVar(&o.retries, "retries", 3, "how often it runs again when it fails")
	f.Var(&o.backoff, "backoff", "before the first retry, doubled before each other one")
	f.IntVar(&o.concurrency, "concurrency", 4, "so many conversations at once; in each it is one message after the other")
	f.Var(choice{&o.calls, []string{attend.Accept, attend.Reject, attend.Ignore}}, "calls", "what to do with calls")
	f.StringSliceVar(&o.from, "accept-from", []string{attend.Anyone}, "whose calls are accepted: anyone, known, or names; others are rejected")
	f.Var(&o.grace, "grace", "how long what runs may take when attend is to end")
	f.BoolVar(&o.once, "once", false, "answer what waits, and end")
	f.BoolVar(&o.quiet, "quiet", false, "say nothing of what it does")
	_ = cmd.RegisterFlagCompletionFunc("accept-from", a.completeAgents) // the flag is there
	return cmd
}

const attendHelp = "duo attend --help"

// check refuses what the flags themselves cannot.
func (o attendOptions) check(cmd *cobra.Command) error {
	for _, n := range []struct {
		flag       string
		value, min int
	}{{"retries", o.retries, 0}, {"concurrency", o.concurrency, 1}, {"history", o.history, 0}} {
		if n.value < n.min {
			return usage(attendHelp, "--%s: want %d or more, got %d", n.flag, n.min, n.value)
		}
	}
	if o.timeout == 0 {
		return usage(attendHelp, "--timeout: want some time for the command")
	}
	for _, who := range o.from {
		if err := attend.CheckCaller(who); err != nil {
			return usage(attendHelp, "--accept-from: %w", err)
		}
	}
	if o.calls != attend.Accept && cmd.Flags().Changed("accept-from") {
		return usage(attendHelp, "--accept-from says nothing with --calls %s", o.calls)
	}
	if o.history > 0 && o.input == string(attend.Body) {
		return usage(attendHelp, "--history needs --input text or json: a body alone does not tell where it ends")
	}
	return nil
}

// split takes the command line apart: who is attended, and what runs.
func (o attendOptions) split(cmd *cobra.Command, args []string) (name string, program []string, err error) {
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		args, program = args[:dash], args[dash:]
	}
	switch {
	case len(args) > 1:
		return "", nil, usage(attendHelp, "attend takes one name; write -- before a program, or put a command into --exec '...'")
	case len(args) == 1:
		name = args[0]
	}
	switch {
	case strings.TrimSpace(o.exec) == "" && len(program) == 0:
		return "", nil, usage(shellLine("duo", "attend", orName(name), "--exec", "COMMAND"), "say what runs: --exec 'COMMAND', or -- PROGRAM ARG...")
	case o.exec != "" && len(program) > 0:
		return "", nil, usage(attendHelp, "--exec and -- PROGRAM say the same: one of them")
	case o.exec != "":
		return name, []string{"sh", "-c", o.exec}, nil
	}
	if _, err := exec.LookPath(program[0]); err != nil {
		return "", nil, usage(attendHelp, "there is no program %q: %w", program[0], err)
	}
	return name, program, nil
}

func orName(name string) string {
	if name == "" {
		return "NAME"
	}
	return name
}

func (a *app) runAttend(ctx context.Context, o attendOptions, name string, program []string) (err error) {
	home, err := a.attended(name)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	box, err := mailbox.Open(home.AgentDir(a.self.Name))
	if err != nil {
		return err
	}
	present, err := enroll(home, a.self.Name)
	if err != nil {
		return err
	}
	defer func() {
		if ended := present.end(); err == nil {
			err = ended
		}
	}()
	told := &telling{app: a, quiet: o.quiet}
	attendant := attend.New(o.options(home, a.self.Name), attend.Parts{
		Dial:   a.dialer(home),
		Leases: present,
		Runner: o.command(home, program),
		Box:    box, Tell: told.event, Now: time.Now, Pause: reach.Pause,
	})
	if !o.once {
		return attendant.Run(ctx)
	}
	failed, err := attendant.Once(ctx)
	if err != nil {
		return err
	}
	return told.end(failed)
}

// attended makes this run act as the agent that is attended.
func (a *app) attended(name string) (*maildir.Home, error) {
	home, err := a.openHome(maildir.Open)
	if err != nil {
		return nil, err
	}
	if name != "" {
		if a.as != "" && !strings.EqualFold(a.as, name) {
			return nil, usage(attendHelp, "--as %s and %s are two agents: attend takes one", a.as, name)
		}
		if a.self, err = a.named(home, name, identity{Source: "attend"}); err != nil {
			return nil, err
		}
		a.as = a.self.Name // in the commands that make sense next
	}
	self, err := a.me()
	if err == nil {
		err = self.program()
	}
	return home, err
}

func (o attendOptions) options(home *maildir.Home, name string) attend.Options {
	return attend.Options{
		Agent: home.Address(name), Input: attend.Input(o.input), Each: o.each || o.input == string(attend.Body), History: o.history,
		Retries: o.retries, Backoff: time.Duration(o.backoff), Workers: o.concurrency,
		Calls: attend.Calls{Do: o.calls, From: o.from}, Hops: home.Config.Limits.Hops,
		Grace: time.Duration(o.grace), Yield: yield,
	}
}

// yield is how long an answer is left to a command of the same agent that waits for it.
const yield = 3 * time.Second

func (o attendOptions) command(home *maildir.Home, program []string) *attend.Command {
	c := &attend.Command{
		Args: program, Timeout: time.Duration(o.timeout), Limit: home.Config.Limits.Content, Stderr: os.Stderr,
		Env: append(os.Environ(), "DUO_HOME="+home.Dir),
	}
	if o.quiet {
		c.Stderr = nil
	}
	return c
}

// dialer returns what finds the daemon, and starts one where there is none and this run
// may. It may be used by several goroutines.
func (a *app) dialer(home *maildir.Home) func(context.Context) (*client.Client, error) {
	name, start := a.self.Name, a.starter(home)
	return func(ctx context.Context) (*client.Client, error) {
		return reach.Ask(ctx, reach.New(home, name, start), func(c *client.Client) (*client.Client, error) {
			_, err := c.Me(ctx)
			return c, err
		})
	}
}

// telling says what an attendant does: a line for each event.
type telling struct {
	app   *app
	quiet bool

	mu       sync.Mutex
	answered int
}

func (t *telling) event(e attend.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Contains([]string{attend.Answered, attend.Silent}, e.What) {
		t.answered++
	}
	switch {
	case t.app.json:
		if err := errors.Join(t.app.printJSON(e), t.app.flush()); err != nil {
			t.app.note("%v", err)
		}
	case !t.quiet:
		fmt.Fprintln(t.app.stderr, frame.Line(text.Clock(time.Now().UnixMilli(), time.Now())+" "+t.line(e)))
	}
}

func (t *telling) line(e attend.Event) string {
	about := e.Ref
	if e.Messages > 1 {
		about += fmt.Sprintf(" and %d before it", e.Messages-1)
	}
	if e.From != "" {
		about += " from " + t.app.text().Local(e.From)
	}
	took := ""
	if e.Took > 0 {
		took = " in " + e.Took.Round(time.Millisecond).String()
	}
	switch e.What {
	case attend.Listening:
		return t.app.self.Name + " is attended"
	case attend.Lost:
		return "the daemon is gone, and looked for: " + e.Error
	case attend.Answered:
		return about + ": answered by " + e.Reply + took
	case attend.Before:
		return about + ": was answered before"
	case attend.Silent:
		return about + ": the command printed nothing" + took
	case attend.Passed:
		return about + ": passed over, " + e.Why
	case attend.Retrying:
		return about + ": the command failed, and runs again: " + e.Error
	case attend.Failed:
		return about + ": set aside in outbox/failed" + took + ": " + e.Error
	case attend.Left:
		return about + ": the conversation is left"
	case attend.Accepted:
		return about + ": call accepted"
	case attend.Rejected:
		return about + ": call rejected"
	}
	return e.What + ": " + e.Error
}

// end tells what came of all that waited.
func (t *telling) end(failed int) error {
	if failed > 0 {
		return api.Errorf(api.NotSent, "%s could not be answered: outbox/failed has why", text.Count(failed, "message")).WithNext("duo inbox")
	}
	if !t.app.json && !t.quiet {
		t.app.say("%s answered for %s", text.Count(t.answered, "message"), t.app.self.Name)
		t.app.next("duo list")
	}
	return nil
}

// attendance is an attendant as a session of its agent, which can have leases and which
// others find.
type attendance struct {
	home   *maildir.Home
	book   *session.Book
	holder session.Holder
}

// enroll makes this run a session of an agent.
func enroll(home *maildir.Home, agent string) (*attendance, error) {
	self := session.Self()
	key := session.Key{Client: session.Attendant, ID: envelope.NewID()}
	err := session.Update(home, key, func(b *session.Binding) error {
		b.Agent, b.BoundAt, b.Process, b.Waiter, b.State = agent, time.Now().UnixMilli(), self, self, session.Idle
		return nil
	})
	return &attendance{home, session.OpenBook(home, agent), session.Holder{Key: key, Process: self}}, err
}

// end gives back what the session has, and forgets it.
func (s *attendance) end() error {
	return errors.Join(s.book.Leave(s.holder), session.Remove(s.home, s.holder.Key))
}

// Take takes items of the inbox.
func (s *attendance) Take(items ...string) ([]string, error) { return s.book.Take(s.holder, items) }

// Return gives items back.
func (s *attendance) Return(items ...string) error { return s.book.Return(s.holder, items...) }

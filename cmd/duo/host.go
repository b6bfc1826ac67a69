package main

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir"
	"github.com/spf13/cobra"
)

func newUp(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "up", Short: "Start the daemon in the background",
		Long:    "Start the daemon in the background unless it runs already.",
		Example: "  duo up", Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runUp(cmd.Context()) },
	}
}

func (a *app) runUp(ctx context.Context) error {
	home, err := a.makeHome()
	if err != nil {
		return err
	}
	c := a.client(home)
	verb := "running"
	status, err := c.Status(ctx)
	if client.Unreachable(err) {
		if err := start(ctx, home); err != nil {
			return err
		}
		verb = "started"
		status, err = c.Status(ctx)
	}
	if err != nil {
		return err
	}
	return a.print(status, func() {
		a.say("%s: pid %d, home %s, socket %s", verb, status.PID, status.Home, home.SocketPath())
		a.next("duo status")
	})
}

func newDown(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "Stop the daemon",
		Long: `Stop the daemon and wait until it has ended. Nothing is lost: what is sent meanwhile
waits in the outboxes.`,
		Example: "  duo down", Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDown(cmd.Context()) },
	}
}

// stopped says whether a daemon ran, as --json tells it.
type stopped struct {
	Stopped bool   `json:"stopped"`
	Home    string `json:"home"`
}

func (a *app) runDown(ctx context.Context) error {
	home, err := a.openHome(maildir.Open)
	if err != nil {
		return err
	}
	c := a.client(home)
	status, err := c.Status(ctx)
	if err == nil {
		err = c.Stop(ctx)
	}
	ran := err == nil
	if err != nil && !client.Unreachable(err) {
		return err
	}
	if err := awaitEnd(ctx, home, status.PID); err != nil {
		return err
	}
	return a.print(stopped{ran, home.Dir}, func() {
		if ran {
			a.say("stopped: %s", home.Dir)
		} else {
			a.say("no daemon was running: %s", home.Dir)
		}
		a.next("duo up")
	})
}

const (
	endTime = 30 * time.Second
	endPoll = 10 * time.Millisecond
)

// awaitEnd waits until no daemon has the home, or the one with the process id is
// gone: a command that was waiting may have started the next one already.
func awaitEnd(ctx context.Context, home *maildir.Home, pid int) error {
	for end := time.Now().Add(endTime); ; reach.Pause(ctx, endPoll) {
		release, err := home.LockDaemon()
		switch {
		case err == nil:
			return release()
		case !errors.Is(err, maildir.ErrRunning):
			return err
		case pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(end):
			return api.Errorf(api.Busy, "the daemon has not ended within %s", endTime).WithNext("kill $(cat %s)", shellQuote(home.PidPath()))
		}
	}
}

func newStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Tell whether the daemon runs, and how it is",
		Long:    "Tell whether the daemon runs, and how it is. Exit code 6 when it does not run.",
		Example: "  duo status", Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runStatus(cmd.Context()) },
	}
}

func (a *app) runStatus(ctx context.Context) error {
	home, err := a.openHome(maildir.Open)
	if errors.Is(err, maildir.ErrNoHome) {
		return api.Errorf(api.DaemonUnreachable, "%w", err).WithNext("duo up")
	}
	if err != nil {
		return err
	}
	status, err := a.client(home).Status(ctx)
	if err != nil {
		return err
	}
	return a.print(status, func() { a.tellStatus(status) })
}

func (a *app) tellStatus(s api.Status) {
	a.say("running: pid %d, version %s, since %s", s.PID, s.Version, text.Clock(s.StartedAt, time.Now()))
	a.say("home: %s, host: %s", s.Home, s.Host)
	if s.HTTP != "" {
		a.say("http: %s, for programs with a token", s.HTTP)
	}
	a.say("%s, %s, %s, %s waiting, watching by %s", text.Count(s.Agents, "agent"), text.Count(s.Conversations, "conversation"),
		text.Count(s.Streams, "stream"), text.Count(s.Drops, "drop"), s.Watching)
	for _, problem := range s.Problems {
		a.say("problem: %s", frame.Line(problem))
	}
	a.next("duo who")
}

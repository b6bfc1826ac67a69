package main

import (
	"context"
	"fmt"
	"time"

	"github.com/claude-duo/duo/cmd/duo/internal/clients"
	"github.com/claude-duo/duo/cmd/duo/internal/doctor"
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir"
	"github.com/spf13/cobra"
)

func newDoctor(a *app) *cobra.Command {
	client := ""
	cmd := &cobra.Command{
		Use: "doctor", Short: "Tell what is wrong with this host, and what to do",
		Long: `Look at this host and tell, in a line for each check, what is well and what is not: the
home and who can read it, the daemon and its version, the disk, the clock, drops that were
not sent, sessions, links with other hosts, and the daemon's last errors. It changes
nothing and starts nothing. What the logs themselves say, duo fsck checks.

With --client it asks a client program instead whether it sees duo, and tells what is
missing there: what duo install would write, and what only the user can do.

ok    it is as it should be
warn  it works, and could be better
fail  something does not work: the exit code is 1`,
		Example: "  duo doctor\n  duo doctor --client codex", Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if client != "" {
				return a.checkClient(cmd.Context(), client)
			}
			return a.runDoctor(cmd.Context())
		},
	}
	cmd.Flags().Var(choice{&client, clients.Names()}, "client", "ask a client program whether it sees duo")
	return cmd
}

func (a *app) checkClient(ctx context.Context, name string) error {
	env, err := a.clientsEnv()
	if err != nil {
		return err
	}
	return a.tellFound(clients.Check(ctx, env, name))
}

// checkup is what the checks have found, as --json tells it.
type checkup struct {
	Findings []doctor.Finding `json:"findings"`
	Failed   int              `json:"failed"`
	Warned   int              `json:"warned"`
	Next     string           `json:"next"`
}

func (a *app) runDoctor(ctx context.Context) error {
	dir, err := maildir.DefaultDir()
	if err != nil {
		return err
	}
	home, err := a.openHome(maildir.Open)
	if err != nil {
		return a.tellFound(doctor.NoHome(dir, err))
	}
	return a.tellFound(doctor.Look(a.examined(ctx, home)))
}

const answerTime = 5 * time.Second // of a daemon that is well

// examined is what a daemon says of this host, without one being started.
func (a *app) examined(ctx context.Context, home *maildir.Home) doctor.Host {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	h := doctor.Host{Home: home, Version: built().Version, Autostart: a.autostart(), Now: time.Now()}
	c := a.client(home)
	status, err := c.Status(ctx)
	if err != nil {
		h.Silence = err
		return h
	}
	h.Status = &status
	if peers, err := c.Peers(ctx); err == nil { // what cannot be asked is not known
		h.Peers = peers.Peers
	}
	return h
}

// tellFound tells what checks have found. That something does not work is an error.
func (a *app) tellFound(list []doctor.Finding) error {
	c := checkup{Findings: list}
	worst := doctor.Finding{Level: doctor.OK, Next: "duo who"}
	for _, f := range list {
		switch {
		case f.Level == doctor.Fail:
			c.Failed++
		case f.Level == doctor.Warn:
			c.Warned++
		}
		if f.Worse(worst) {
			worst = f
		}
	}
	c.Next = worst.Next
	if err := a.print(c, func() { a.tellCheckup(c) }); err != nil {
		return err
	}
	if c.Failed == 0 {
		return nil
	}
	return api.Errorf(api.CheckFailed, "%s, first %s: %s", text.Count(c.Failed, "check")+" failed", worst.What, worst.Detail).WithNext("%s", c.Next)
}

func (a *app) tellCheckup(c checkup) {
	for _, f := range c.Findings {
		level := fmt.Sprintf("%-4s", f.Level)
		if f.Level != doctor.OK {
			level = a.text().Bold(level)
		}
		a.say("%s  %s - %s", level, frame.Line(f.What), frame.Line(f.Detail))
	}
	if c.Failed == 0 { // else the error has it
		a.next("%s", c.Next)
	}
}

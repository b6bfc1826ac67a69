package main

import (
	"errors"
	"fmt"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/fsck"
	"github.com/spf13/cobra"
)

type fsckOptions struct {
	limit int
	notes bool
}

func newFsck(a *app) *cobra.Command {
	var o fsckOptions
	cmd := &cobra.Command{
		Use: "fsck [CONV]", Short: "Check the files of the home",
		Long: `Check all logs, inboxes and cursors of the home, or the log of one conversation, and
tell what is wrong. It reads and changes nothing, and works with a daemon and without.

note     how things look at times: a torn line that readers pass over
warning  worth a look
error    a promise is broken: the exit code is 1`,
		Example: `  duo fsck
  duo fsck c9f3a --notes`,
		Args: atMost(1), ValidArgsFunction: a.completeConversations,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkLimit(cmd, o.limit); err != nil {
				return err
			}
			if len(args) == 1 {
				return a.checkLog(o, args[0])
			}
			return a.checkHome(o)
		},
	}
	cmd.Flags().BoolVar(&o.notes, "notes", false, "list notes too")
	addLimit(cmd, &o.limit, "findings")
	return cmd
}

func (a *app) checkHome(o fsckOptions) error {
	home, err := a.openHome(maildir.Open)
	if err != nil {
		return err
	}
	report, err := fsck.Home(home.Dir)
	if err != nil {
		return err
	}
	err = a.print(report, func() {
		a.tellFindings(report.Findings, o)
		a.say("checked %s: %s, %s, %s", home.Dir, text.Count(report.Agents, "agent"), text.Count(report.Logs, "conversation"), text.Count(int(report.Lines), "line"))
	})
	next := "duo list"
	if !a.json {
		next = "duo fsck --json"
	}
	return errors.Join(err, a.verdict(report.Findings, next))
}

func (a *app) checkLog(o fsckOptions, ref string) error {
	home, err := a.openHome(maildir.Open)
	if err != nil {
		return err
	}
	files, err := a.filesOf(home)
	if err != nil {
		return err
	}
	id, err := files.Resolve(ref)
	if err != nil {
		return err
	}
	report, err := fsck.Log(home.LogPath(id), home.Host.ID)
	if err != nil {
		return err
	}
	err = a.print(report, func() {
		a.tellFindings(report.Findings, o)
		a.say("checked %s: %s, last %d", report.Path, text.Count(int(report.Lines), "line"), report.LastSeq)
	})
	return errors.Join(err, a.verdict(report.Findings, "duo show "+shellQuote(ref)))
}

// tellFindings lists what was found; the text of a finding may quote a log.
func (a *app) tellFindings(list []fsck.Finding, o fsckOptions) {
	listed, left := 0, 0
	for _, f := range list {
		switch {
		case f.Severity == fsck.Note && !o.notes:
		case listed == o.limit:
			left++
		default:
			listed++
			a.say("%s", frame.Line(f.String()))
		}
	}
	if left > 0 {
		a.say("%d more: duo fsck --limit %d", left, listed+left)
	}
}

// verdict ends a check: an error where a promise is broken, and then the command to
// run next.
func (a *app) verdict(list []fsck.Finding, next string) error {
	var counts [fsck.Error + 1]int
	for _, f := range list {
		counts[f.Severity]++
	}
	summary := fmt.Sprintf("%s, %s, %s", text.Count(counts[fsck.Error], "error"), text.Count(counts[fsck.Warning], "warning"), text.Count(counts[fsck.Note], "note"))
	if counts[fsck.Error] > 0 {
		return api.Errorf(api.Damaged, "%s", summary).WithNext("%s", next)
	}
	if !a.json {
		a.say("%s", summary)
		a.next("duo status")
	}
	return nil
}

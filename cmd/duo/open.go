package main

import (
	"context"
	"os/exec"
	"runtime"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/spf13/cobra"
)

func newOpen(a *app) *cobra.Command {
	operator, printOnly := false, false
	cmd := &cobra.Command{
		Use: "open", Short: "Open the page, on which a person watches",
		Long: `Open the page, on which a person watches the agents of this host and of those it is linked with.

It makes a link that signs one browser in, once and within five minutes, and opens it where
there is a screen; it prints it in any case. The browser stays signed in for 30 days; duo token list
shows who is, and duo token revoke ends it. Who signs in so watches and changes nothing. With
--operator one may also write, as the agent human, and steer: close conversations, mute and block.`,
		Example: `  duo open
  duo open --operator
  duo open --print`,
		Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.openPage(cmd.Context(), operator, !printOnly) },
	}
	cmd.Flags().BoolVar(&operator, "operator", false, "for somebody who also writes and steers")
	cmd.Flags().BoolVar(&printOnly, "print", false, "open no browser")
	return cmd
}

// opened is a link as --json prints it.
type opened struct {
	api.Login
	Opened bool `json:"opened"` // in a browser
}

func (a *app) openPage(ctx context.Context, operator, browser bool) error {
	if _, err := a.makeHome(); err != nil {
		return err
	}
	login, err := ask(ctx, a, func(c *client.Client) (api.Login, error) { return c.NewLogin(ctx, operator) })
	if err != nil {
		return err
	}
	done := opened{Login: login, Opened: browser && a.browse(login.URL)}
	return a.print(done, func() {
		what := "link to the page"
		if done.Opened {
			what = "opened the page; its link"
		}
		role := "an observer"
		if operator {
			role = "the operator"
		}
		a.say("%s, for %s, good once until %s; it is a secret:", what, role, text.Clock(login.ExpiresAt, time.Now()))
		a.say("%s", frame.Line(login.URL))
		a.next("duo token list")
	})
}

// browse opens a link in the browser of whoever sits in front of this terminal, and
// reports whether there is one.
func (a *app) browse(url string) bool {
	if !a.terminal || a.json || a.env("SSH_CONNECTION") != "" {
		return false
	}
	opener := "open"
	if runtime.GOOS != "darwin" {
		opener = "xdg-open"
		if a.env("DISPLAY") == "" && a.env("WAYLAND_DISPLAY") == "" {
			return false
		}
	}
	cmd := exec.Command(opener, url)
	if err := cmd.Start(); err != nil {
		a.note("the browser does not open: %v", err)
		return false
	}
	_ = cmd.Process.Release() // it may stay as long as the browser does
	return true
}

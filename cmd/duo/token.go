package main

import (
	"context"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/spf13/cobra"
)

func newToken(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "Make, list and revoke tokens",
		Long: `Make, list and revoke tokens: what a program shows that does not come through the
socket of this user. An agent's own token lies in its folder. Whoever signs in on the page
(duo open) gets one, too, which is good for 30 days.`,
		Example: "  duo token list", Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenCreate(a), newTokenList(a), newTokenRevoke(a))
	return cmd
}

func newTokenCreate(a *app) *cobra.Command {
	var label string
	observer := false
	cmd := &cobra.Command{
		Use: "create", Short: "Make a token and show it once",
		Long: `Make a token and show it, once: only its hash is kept. It speaks for the agent that you
are, or with --observer for nobody: who has it can watch everything and change nothing.`,
		Example: `  duo token create --as Nova --label "CI runner"
  duo token create --observer --label dashboard`,
		Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.createToken(cmd.Context(), observer, label) },
	}
	cmd.Flags().BoolVar(&observer, "observer", false, "for somebody who only watches")
	cmd.Flags().StringVar(&label, "label", "", "what it is for")
	return cmd
}

func (a *app) createToken(ctx context.Context, observer bool, label string) error {
	name := ""
	if !observer {
		self, err := a.me()
		if err != nil {
			return err
		}
		name = self.Name
	}
	made, err := ask(ctx, a, func(c *client.Client) (api.Token, error) { return c.NewToken(ctx, name, label) })
	if err != nil {
		return err
	}
	return a.print(made, func() {
		a.say("created %s, shown this once:", tokenLine(made))
		a.say("%s", frame.Line(made.Text))
		a.next("duo token list")
	})
}

// tokenLine describes a token.
func tokenLine(t api.Token) string {
	who := "an observer"
	switch {
	case t.Agent != "":
		who = frame.Line(t.Agent)
	case t.Role != "":
		who = "the page, signed in as " + frame.Line(t.Role)
	}
	line := frame.Line(t.ID) + " for " + who
	if t.Label != "" {
		line += " " + frame.Quote(t.Label, descriptionLength)
	}
	return line
}

func newTokenList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the tokens", Long: "List the tokens of this host, without their secrets.",
		Example: "  duo token list", Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.listTokens(cmd.Context()) },
	}
}

func (a *app) listTokens(ctx context.Context) error {
	_, _ = a.makeHome() // which ask opens; its errors are told there
	list, err := ask(ctx, a, func(c *client.Client) (api.Tokens, error) { return c.Tokens(ctx) })
	if err != nil {
		return err
	}
	return a.print(list, func() {
		for _, t := range list.Tokens {
			line := tokenLine(t)
			if t.CreatedAt > 0 {
				line += ", " + text.Clock(t.CreatedAt, time.Now())
			}
			if t.ExpiresAt > 0 {
				line += ", until " + text.Clock(t.ExpiresAt, time.Now())
			}
			a.say("%s", line)
		}
		if len(list.Tokens) == 0 {
			a.say("no tokens")
		}
		a.next("duo token create")
	})
}

func newTokenRevoke(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Make a token worth nothing",
		Long: `Make a token worth nothing, at once. The name of an agent means its own token, which lies
in its folder; registering the agent again makes another one.`,
		Example: "  duo token revoke 3f2a9c", Args: exactly(1), ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, args []string) error { return a.revokeToken(cmd.Context(), args[0]) },
	}
}

// revoked names a token that is worth nothing, as --json tells it.
type revoked struct {
	Revoked string `json:"revoked"`
}

func (a *app) revokeToken(ctx context.Context, id string) error {
	_, err := ask(ctx, a, func(c *client.Client) (struct{}, error) { return struct{}{}, c.RevokeToken(ctx, id) })
	if err != nil {
		return err
	}
	return a.print(revoked{id}, func() {
		a.say("revoked %s", frame.Line(id))
		a.next("duo token list")
	})
}

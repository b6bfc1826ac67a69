package main

import (
	"context"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

type matchOptions struct {
	callOptions
	capabilities []string
	dryRun       bool
}

func newMatch(a *app) *cobra.Command {
	var o matchOptions
	cmd := &cobra.Command{
		Use: "match (--capability WORD | --topic TOPIC) [BODY]", Short: "Call the best agent for something",
		Long: `Find who fits best and call that agent: by capability and topic, by whether it is
there, and by how much it has to do. When it is busy, says no or does not answer, the next
one is called; the last one finds the call in its inbox.

With --wait it follows the match until somebody accepts.`,
		Example: `  duo match --capability review --topic "auth.go" "Line 40 looks wrong." --wait
  duo match --capability go,sql --dry-run`,
		ValidArgsFunction: noCompletion,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runMatch(cmd, o, args) },
	}
	o.addCallFlags(a, cmd)
	cmd.Flags().StringSliceVar(&o.capabilities, "capability", nil, "only agents that can do this; may be repeated")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "tell who fits, and call nobody")
	return cmd
}

func (a *app) runMatch(cmd *cobra.Command, o matchOptions, args []string) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	if len(o.capabilities) == 0 && o.topic == "" {
		return usage("duo match --capability WORD", "say what the agent has to be able to do, with --capability or --topic")
	}
	_, text, err := o.optional(cmd, args, 0)
	if err != nil {
		return err
	}
	draft, err := a.draft(envelope.Call, o.key) // for its id
	if err != nil {
		return err
	}
	want := api.Match{
		ID: draft.ID, Capabilities: o.capabilities, Topic: o.topic, Mode: o.mode, TurnLimit: o.turnLimit, Content: text, DryRun: o.dryRun,
	}
	ctx := cmd.Context()
	found, err := ask(ctx, a, func(c *client.Client) (api.Matched, error) { return c.Match(ctx, want) })
	if err != nil {
		return err
	}
	return a.tellMatch(ctx, found, time.Duration(o.wait))
}

func (a *app) tellMatch(ctx context.Context, found api.Matched, wait time.Duration) error {
	switch {
	case found.Request == nil:
		return a.print(found, func() { a.text().Candidates(found.Candidates, defaultLimit) })
	case wait > 0:
		return a.tellCall(ctx, api.Called{Request: *found.Request}, wait)
	}
	return a.print(found, func() {
		a.text().Placed(api.Called{Request: *found.Request})
		a.next("%s", a.text().AfterCall(*found.Request))
	})
}

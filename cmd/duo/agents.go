package main

import (
	"context"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir"
	"github.com/spf13/cobra"
)

// agentOptions say which agents are listed.
type agentOptions struct {
	api.AgentQuery
	here bool
}

func newWho(a *app) *cobra.Command {
	var o agentOptions
	cmd := &cobra.Command{
		Use: "who", Short: "List the agents here and at linked hosts",
		Long: `List the agents of this host, and behind them those of the hosts that are linked with it,
as NAME@HOST: whether they are there, what they say of it, since when who is busy or in a
call is so, whether they listen (have a live stream open), how much they have not seen, how
they learn of what comes, and what they can do. With push they are reached at once, with
turn-end at the end of their turn, with manual when they look, with none nobody is there.
Who is out of reach is at a host with which the link is down.`,
		Example: `  duo who
  duo who --here
  duo who --host lon --status available`,
		Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runWho(cmd, o) },
	}
	o.addFlags(cmd)
	return cmd
}

func newFind(a *app) *cobra.Command {
	var o agentOptions
	cmd := &cobra.Command{
		Use: "find [TEXT...]", Short: "Find agents by what they can do",
		Long: `Find agents that have all the capabilities, and all the words in their name, capabilities,
description or platform, here and at linked hosts. Who fits best, is there and has least to
do stands first, of equal ones who learns of it soonest (see duo who --help).`,
		Example: `  duo find --capability review
  duo find postgres --status available`,
		ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, words []string) error {
			o.Text = strings.Join(words, " ")
			return a.runWho(cmd, o)
		},
	}
	cmd.Flags().StringSliceVar(&o.Capabilities, "capability", nil, "only agents that can do this; may be repeated")
	o.addFlags(cmd)
	return cmd
}

func (o *agentOptions) addFlags(cmd *cobra.Command) {
	states := []string{"available", "ringing", "in-call", "busy", "offline"}
	f := cmd.Flags()
	f.Var(choice{&o.Status, states}, "status", "only agents of whom this is so")
	f.StringVar(&o.Host, "host", "", "only agents of this host")
	f.BoolVar(&o.here, "here", false, "only agents of the host that this is")
	addLimit(cmd, &o.Limit, "agents")
}

func (a *app) runWho(cmd *cobra.Command, o agentOptions) error {
	if err := checkLimit(cmd, o.Limit); err != nil {
		return err
	}
	if o.here && o.Host != "" {
		return usage(cmd.CommandPath()+" --here", "--here and --host are two hosts")
	}
	if o.here {
		home, err := a.openHome(maildir.Open)
		if err != nil {
			return err
		}
		o.Host = home.Host.Name
	}
	list, err := a.agents(cmd.Context(), o.AgentQuery)
	if err != nil {
		return err
	}
	_, _ = a.me() // it may be nobody
	return a.print(list, func() { a.text().Agents(list, cmd.Name() == "find" || o.Status != "" || o.Host != "") })
}

// agents lists agents, with the daemon or from their cards.
func (a *app) agents(ctx context.Context, q api.AgentQuery) (api.Agents, error) {
	list, err := ask(ctx, a, func(c *client.Client) (api.Agents, error) { return c.Agents(ctx, q) })
	if !client.Unreachable(err) {
		return list, err
	}
	files, err := a.offline(err)
	if err != nil {
		return list, err
	}
	return files.Agents(q)
}

const descriptionLength = 80

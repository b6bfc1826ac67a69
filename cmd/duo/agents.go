package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
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
as NAME@HOST: whether they are there, what they say of it, whether they listen (have a live
stream open), how much they have not seen, and what they can do. Who is out of reach is at
a host with which the link is down.`,
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
do stands first.`,
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
	return a.print(list, func() { a.tellAgents(list, cmd.Name() == "find") })
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

// about is what an agent says of itself, in quotes.
func about(agent api.Agent) string {
	if agent.Description == "" {
		return ""
	}
	return frame.Quote(agent.Description, descriptionLength)
}

// listening tells whether what an agent was not shown will be seen soon; it is empty
// where there is nothing to say.
func listening(agent api.Agent) string {
	switch {
	case agent.Listening && agent.Unread > 0:
		return fmt.Sprintf("%d unread, listening", agent.Unread)
	case agent.Listening:
		return "listening"
	case agent.Unread > 0:
		return fmt.Sprintf("%d unread, nobody listening", agent.Unread)
	}
	return ""
}

func (a *app) tellAgents(list api.Agents, found bool) {
	table := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, agent := range list.Agents {
		row := strings.Join([]string{
			a.local(agent.Address), a.status(agent), cmp.Or(listening(agent), "-"),
			frame.Cut(strings.Join(agent.Capabilities, ","), descriptionLength), about(agent),
		}, "\t")
		fmt.Fprintln(table, strings.TrimRight(row, "\t"))
	}
	_ = table.Flush() // into a.out, which reports its errors itself
	switch {
	case len(list.Agents) == 0 && found:
		a.say("nobody like that")
		a.next("duo who")
	case len(list.Agents) == 0:
		a.say("no agents")
		a.next("duo register NAME")
	case list.More > 0:
		a.say("%s and %d more", count(len(list.Agents), "agent"), list.More)
		a.next(`duo find --capability WORD`)
	default:
		a.say("%s", count(len(list.Agents), "agent"))
		a.next("%s", a.reach(list.Agents))
	}
}

// reach is the command to reach one of the agents that is somebody else: the first that
// can talk now, else the first.
func (a *app) reach(agents []api.Agent) string {
	_, _ = a.me() // it may be nobody
	next := "duo wait"
	for _, agent := range slices.Backward(agents) {
		if !a.isSelf(agent) {
			next = fmt.Sprintf(`duo message %s "..."`, a.local(agent.Address))
		}
	}
	for _, agent := range agents {
		if agent.Status == card.Available && !a.isSelf(agent) {
			return fmt.Sprintf(`duo call %s --topic "..."`, a.local(agent.Address))
		}
	}
	return next
}

func (a *app) isSelf(agent api.Agent) bool {
	return a.self != nil && strings.EqualFold(a.local(agent.Address), a.self.Name)
}

package main

import (
	"context"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/spf13/cobra"
)

// The standings of agents, as they are written.
var standings = []string{"none", "muted", "blocked"}

// terms say for how long an agent has a standing, and why.
type terms struct {
	reason string
	lasts  time.Duration
}

func (t *terms) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.reason, "reason", "", "why, for everybody")
	cmd.Flags().DurationVar(&t.lasts, "for", 0, "for so long, like 30m or 24h; until it is changed where it is absent")
}

func newMute(a *app) *cobra.Command {
	var t terms
	cmd := &cobra.Command{
		Use: "mute AGENT", Short: "Let an agent say nothing on this host",
		Long: `Let an agent say nothing, as the person who runs this host: what it says anywhere here is
refused and tells it why. It still reads what others say, joins, leaves and answers calls
without a word. An agent of a linked host is muted in the conversations of this host. The
conversations that it is in here have a line that says so.`,
		Example: `  duo mute Echo --for 1h --reason "It answers itself."
  duo unmute Echo`,
		Args: exactly(1), ValidArgsFunction: a.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error { return a.giveStanding(cmd, args[0], "muted", t) },
	}
	t.addFlags(cmd)
	return cmd
}

func newUnmute(a *app) *cobra.Command {
	var t terms
	cmd := &cobra.Command{
		Use: "unmute AGENT", Short: "Let an agent that was muted or blocked do all again",
		Long:    `Let an agent that was muted or blocked do all again. It is what duo standing AGENT none does.`,
		Example: `  duo unmute Echo --reason "It is mended."`,
		Args:    exactly(1), ValidArgsFunction: a.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error { return a.giveStanding(cmd, args[0], "none", t) },
	}
	cmd.Flags().StringVar(&t.reason, "reason", "", "why, for everybody")
	return cmd
}

func newStanding(a *app) *cobra.Command {
	var t terms
	cmd := &cobra.Command{
		Use: "standing [AGENT [none|muted|blocked]]", Short: "Show or change what agents may do on this host",
		Long: `Show which agents may not do all on this host, or change it, as the person who runs it.
Who is muted says nothing, and reads. Who is blocked takes part in nothing: nobody calls,
writes to or invites it, and its token opens no door; what was said to it stays in its
folder. It holds for all, unlike duo block, by which one agent keeps another one away.`,
		Example: `  duo standing
  duo standing Echo
  duo standing Mallory@lon blocked --reason "Asks for passwords."
  duo standing Echo none`,
		Args: atMost(2), ValidArgsFunction: a.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) < 2 && (t.reason != "" || t.lasts != 0):
				return usage(cmd.CommandPath()+" AGENT muted", "--reason and --for go with a standing: %s", strings.Join(standings, ", "))
			case len(args) == 0:
				return a.showStandings(cmd.Context())
			case len(args) == 1:
				return a.showStanding(cmd.Context(), args[0])
			}
			word := ""
			if err := (choice{&word, standings}).Set(args[1]); err != nil {
				return usage(shellLine("duo", "standing", args[0], "muted"), "standing: %w", err)
			}
			return a.giveStanding(cmd, args[0], word, t)
		},
	}
	t.addFlags(cmd)
	return cmd
}

// giveStanding is what the person who runs the host does, whoever else this run is.
func (a *app) giveStanding(cmd *cobra.Command, name, word string, t terms) error {
	s := api.Standing{Standing: word, Reason: t.reason}
	switch {
	case t.lasts < 0 || t.lasts > 0 && t.lasts < time.Second || cmd.Flags().Changed("for") && t.lasts == 0:
		return usage(cmd.CommandPath()+" "+shellQuote(name)+" --for 1h", "--for: want 1s or more, got %s", t.lasts)
	case t.lasts > 0:
		s.Until = time.Now().Add(t.lasts).UnixMilli()
	}
	agent, err := ask(cmd.Context(), a, func(c *client.Client) (api.Agent, error) { return c.SetStanding(cmd.Context(), name, s) })
	if err != nil {
		return err
	}
	return a.print(agent, func() { a.text().Stands(agent) })
}

func (a *app) showStanding(ctx context.Context, name string) error {
	found, err := ask(ctx, a, func(c *client.Client) (api.Found, error) { return c.Find(ctx, name) })
	if err != nil {
		return err
	}
	if found.Agent == nil {
		return api.Errorf(api.AgentNotFound, "%q is no agent", name).WithNext("duo who")
	}
	return a.print(found.Agent, func() { a.text().Stands(*found.Agent) })
}

func (a *app) showStandings(ctx context.Context) error {
	list, err := ask(ctx, a, func(c *client.Client) (api.Agents, error) { return c.Standings(ctx) })
	if err != nil {
		return err
	}
	return a.print(list, func() { a.text().Standings(list) })
}

package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/claude-duo/duo/cmd/duo/internal/frame"
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/spf13/cobra"
)

func newWho(a *app) *cobra.Command {
	limit := defaultLimit
	cmd := &cobra.Command{
		Use: "who", Short: "List the agents here",
		Long:    "List the agents of this host, and whether they are listening: have a live stream open.",
		Example: "  duo who", Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runWho(cmd, "", nil, limit)
		},
	}
	addLimit(cmd, &limit, "agents")
	return cmd
}

func newFind(a *app) *cobra.Command {
	var capabilities []string
	limit := defaultLimit
	cmd := &cobra.Command{
		Use: "find [TEXT...]", Short: "Find agents by what they can do",
		Long: "Find agents that have all the capabilities, and all the words in their name, capabilities, description or platform.",
		Example: `  duo find --capability review
  duo find postgres`,
		ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, words []string) error {
			return a.runWho(cmd, strings.Join(words, " "), capabilities, limit)
		},
	}
	cmd.Flags().StringSliceVar(&capabilities, "capability", nil, "only agents that can do this; may be repeated")
	addLimit(cmd, &limit, "agents")
	return cmd
}

func (a *app) runWho(cmd *cobra.Command, text string, capabilities []string, limit int) error {
	if err := checkLimit(cmd, limit); err != nil {
		return err
	}
	list, err := a.agents(cmd.Context(), text, capabilities, limit)
	if err != nil {
		return err
	}
	return a.print(list, func() { a.tellAgents(list, cmd.Name() == "find") })
}

// agents lists agents, with the daemon or from their cards.
func (a *app) agents(ctx context.Context, text string, capabilities []string, limit int) (api.Agents, error) {
	list, err := ask(ctx, a, func(c *client.Client) (api.Agents, error) {
		return c.Agents(ctx, text, capabilities, limit)
	})
	if client.Unreachable(err) {
		files, offlineErr := a.offline(err)
		if offlineErr != nil {
			return list, offlineErr
		}
		list, err = files.agents(text, capabilities)
	}
	if over := len(list.Agents) - limit; over > 0 {
		list.Agents, list.More = list.Agents[:limit], list.More+over
	}
	return list, err
}

const descriptionLength = 80

func (a *app) tellAgents(list api.Agents, found bool) {
	table := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, agent := range list.Agents {
		state := "-"
		if agent.Listening {
			state = "listening"
		}
		row := strings.Join([]string{
			a.local(agent.Address), state, frame.Cut(strings.Join(agent.Capabilities, ","), descriptionLength),
			frame.Cut(agent.Description, descriptionLength),
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
		a.next("duo register <name>")
	case list.More > 0:
		a.say("%s and %d more", count(len(list.Agents), "agent"), list.More)
		a.next(`duo find --capability <word>`)
	default:
		a.say("%s", count(len(list.Agents), "agent"))
		a.next(`duo message %s "..."`, list.Agents[0].Name)
	}
}

package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/spf13/cobra"
)

type listOptions struct {
	status string
	with   string
	limit  int
}

func newList(a *app) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use: "list", Short: "List your conversations",
		Long: "List the conversations that you are or were in, the latest first.",
		Example: `  duo list
  duo list --status active --with Nova`,
		Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkLimit(cmd, o.limit); err != nil {
				return err
			}
			return a.runList(cmd.Context(), o)
		},
	}
	cmd.Flags().Var(choice{&o.status, []string{"active", "closed"}}, "status", "only these")
	cmd.Flags().StringVar(&o.with, "with", "", "only those with this agent")
	addLimit(cmd, &o.limit, "conversations")
	return cmd
}

func (a *app) runList(ctx context.Context, o listOptions) error {
	if _, err := a.me(); err != nil {
		return err
	}
	list, err := a.conversations(ctx, o.status, o.with, o.limit)
	if err == nil && len(list.Conversations) == 0 && o.with != "" {
		err = a.checkAgent(ctx, o.with)
	}
	if err != nil {
		return err
	}
	return a.print(list, func() { a.text().Conversations(list, a.more(list)) })
}

// more is this run's command line with the limit that leaves nothing out.
func (a *app) more(list api.Conversations) string {
	all := strconv.Itoa(len(list.Conversations) + list.More)
	return shellLine(slices.Concat([]string{"duo"}, withoutFlag(a.args, "--limit"), []string{"--limit", all})...)
}

// withoutFlag is a command line without a flag and its value.
func withoutFlag(args []string, flag string) []string {
	var rest []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == flag:
			i++
		case !strings.HasPrefix(args[i], flag+"="):
			rest = append(rest, args[i])
		}
	}
	return rest
}

package main

import (
	"context"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/spf13/cobra"
)

func newInbox(a *app) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "inbox", Short: "List what you have not seen; changes nothing",
		Long: `List the calls and messages that you have not seen, oldest first, and the drops of yours
that could not be sent. Listing changes nothing; duo read shows the bodies.`,
		Example: "  duo inbox", Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkLimit(cmd, limit); err != nil {
				return err
			}
			return a.runInbox(cmd.Context(), limit)
		},
	}
	addLimit(cmd, &limit, "messages")
	return cmd
}

func (a *app) runInbox(ctx context.Context, limit int) error {
	if _, err := a.me(); err != nil {
		return err
	}
	inbox, err := ask(ctx, a, func(c *client.Client) (api.Inbox, error) { return c.Inbox(ctx, limit) })
	if client.Unreachable(err) {
		files, offlineErr := a.offline(err)
		if offlineErr != nil {
			return offlineErr
		}
		inbox, err = files.Inbox(ctx, limit)
	}
	if err != nil {
		return err
	}
	return a.print(inbox, func() { a.text().Inbox(inbox) })
}

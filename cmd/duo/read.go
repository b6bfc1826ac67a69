package main

import (
	"context"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/spf13/cobra"
)

type readOptions struct {
	raw   bool
	keep  bool
	limit int
}

func newRead(a *app) *cobra.Command {
	var o readOptions
	cmd := &cobra.Command{
		Use: "read [REF...]", Short: "Show bodies and mark them seen",
		Long: `Show the bodies of messages and calls and mark them seen: of those that are named, of what
is unseen in a conversation that is named, or of all that is unseen, calls first.

The body of a message is its text or, where it has none, its data as JSON. Every line of
it begins with "| ": it was written by somebody else. A message that cannot be read stays
unseen; the others are shown all the same, and the exit code is 1.`,
		Example: `  duo read
  duo read c9f3a.42
  duo read c9f3a.42 --raw > patch.diff`,
		ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, refs []string) error {
			if err := checkLimit(cmd, o.limit); err != nil {
				return err
			}
			return a.runRead(cmd.Context(), o, refs)
		},
	}
	cmd.Flags().BoolVar(&o.raw, "raw", false, "print the bodies and nothing else")
	cmd.Flags().BoolVar(&o.keep, "keep-unread", false, "do not mark them seen")
	addLimit(cmd, &o.limit, "messages")
	return cmd
}

func (a *app) runRead(ctx context.Context, o readOptions, refs []string) error {
	if _, err := a.me(); err != nil {
		return err
	}
	for _, ref := range refs {
		if isRequest(ref) {
			continue
		}
		if _, _, err := splitRef(ref); err != nil {
			return err
		}
	}
	what := api.Read{Refs: refs, Limit: o.limit}
	list, err := ask(ctx, a, func(c *client.Client) (api.Messages, error) { return c.Read(ctx, what) })
	if client.Unreachable(err) {
		files, offlineErr := a.offline(err)
		if offlineErr != nil {
			return offlineErr
		}
		list, err = files.Read(ctx, what)
	}
	if err != nil {
		return err
	}
	if len(list.Messages) == 0 && !a.json && !o.raw {
		a.say("nothing unread")
		if len(refs) > 0 && !isRequest(refs[0]) {
			a.next("duo log %s", refs[0])
		} else {
			a.next("duo wait")
		}
		return nil
	}
	return a.reveal(ctx, list, revealOptions{raw: o.raw, keep: o.keep, whole: len(refs) > 0})
}

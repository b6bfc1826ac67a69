package main

import (
	"context"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/spf13/cobra"
)

type pollOptions struct {
	conversation string
	wait         span
	limit        int
	peek         bool
}

func newPoll(a *app) *cobra.Command {
	var o pollOptions
	cmd := &cobra.Command{
		Use: "poll", Short: "Show what is new now",
		Long: `Show what you have not seen and mark it seen. With --wait it waits until there is
something; a wait that ends empty is exit code 8, which is not an error.`,
		Example: `  duo poll
  duo poll --wait 100s
  duo poll --conversation c9f3a --peek`,
		Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkLimit(cmd, o.limit); err != nil {
				return err
			}
			return a.runPoll(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.conversation, "conversation", "", "only of this conversation")
	cmd.Flags().Var(&o.wait, "wait", "wait this long for something new")
	cmd.Flags().BoolVar(&o.peek, "peek", false, "do not mark it seen")
	addLimit(cmd, &o.limit, "messages")
	a.completeFlag(cmd, "conversation")
	return cmd
}

func (a *app) runPoll(ctx context.Context, o pollOptions) error {
	if _, err := a.me(); err != nil {
		return err
	}
	query := client.Events{Conversation: o.conversation, Limit: o.limit}
	lease := a.lease(o.peek)
	list, err := a.events(ctx, query, time.Duration(o.wait), lease.take)
	if client.Unreachable(err) && o.wait == 0 {
		files, offlineErr := a.offline(err)
		if offlineErr != nil {
			return offlineErr
		}
		if list, err = files.Fresh(ctx, o.conversation, o.limit); err == nil {
			list.Messages, err = lease.take(list.Messages)
		}
	}
	if err != nil {
		return err
	}
	lease.tell()
	if len(list.Messages) > 0 {
		return a.reveal(ctx, list, revealOptions{keep: o.peek})
	}
	if o.wait > 0 {
		return a.nothing(list, api.Errorf(api.Pending, "nothing new in %s, which is not an error", &o.wait).WithNext("duo poll --wait %s", &o.wait))
	}
	list.TimedOut = false // nobody has waited
	return a.print(list, func() {
		a.say("nothing new")
		a.next("duo wait")
	})
}

// nothing is the end of a wait in which nothing came.
func (a *app) nothing(list api.Messages, pending *api.Error) error {
	list.TimedOut = true
	if a.json {
		if list.Messages == nil {
			list.Messages = []api.Message{}
		}
		if err := a.printJSON(list); err != nil {
			return err
		}
	}
	return pending
}

// events asks for what is new, as reach.Host.Events does.
func (a *app) events(ctx context.Context, query client.Events, wait time.Duration, take func([]api.Message) ([]api.Message, error)) (api.Messages, error) {
	h, err := a.host()
	if err != nil {
		return api.Messages{}, err
	}
	return h.Events(ctx, query, wait, take)
}

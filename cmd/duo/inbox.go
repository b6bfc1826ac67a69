package main

import (
	"context"
	"fmt"
	"time"

	"github.com/claude-duo/duo/cmd/duo/internal/frame"
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/spf13/cobra"
)

func newInbox(a *app) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "inbox", Short: "List what you have not seen; changes nothing",
		Long: `List the messages that you have not seen, oldest first, and the drops of yours that
could not be sent. Listing changes nothing; duo read shows the bodies.`,
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
		inbox, err = files.inbox(limit)
	}
	if err != nil {
		return err
	}
	return a.print(inbox, func() { a.tellInbox(inbox) })
}

func (a *app) tellInbox(inbox api.Inbox) {
	for _, i := range inbox.Items {
		what := i.Type
		if i.Event != "" {
			what = i.Event
		}
		if what == "message" {
			what = ""
		} else {
			what = " " + frame.Cut(what, 40)
		}
		line := fmt.Sprintf("%s from %s%s %s%s", a.bold(i.Ref), a.local(i.From), what, clock(i.Timestamp, time.Now()), title(i.Topic))
		if i.Preview != "" {
			line += " " + frame.Prefix + frame.Cut(i.Preview, previewLength)
		}
		a.say("%s", line)
	}
	for _, f := range inbox.Failed {
		a.say("not sent: %s: %s", frame.Line(f.File), frame.Cut(f.Error, 300))
	}
	unread := len(inbox.Items) + inbox.More
	switch {
	case unread > 0:
		a.say("%d unread", unread)
		a.next("duo read")
	case len(inbox.Failed) > 0:
		a.next("cat %s", shellQuote(inbox.Failed[0].File))
	default:
		a.say("nothing unread")
		a.next("duo wait")
	}
}

const previewLength = 100

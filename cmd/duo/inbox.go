package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir/envelope"
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
	return a.print(inbox, func() { a.tellInbox(inbox) })
}

func (a *app) tellInbox(inbox api.Inbox) {
	for _, i := range inbox.Items {
		if i.Error != "" {
			a.say("%s %s cannot be read: %s", a.bold(i.Ref), clock(i.Timestamp, time.Now()), frame.Cut(i.Error, maxFailure))
			continue
		}
		what := i.Type
		if i.Event != "" {
			what = i.Event
		}
		if what == "message" {
			what = ""
		} else {
			what = " " + frame.Cut(what, 40)
		}
		if i.Type == string(envelope.Call) {
			what += ", " + frame.Line(i.Status) + ringsUntil(i.RingUntil) + ","
		}
		line := fmt.Sprintf("%s from %s%s %s%s", a.bold(i.Ref), a.local(i.From), what, clock(i.Timestamp, time.Now()), title(i.Topic))
		if i.Preview != "" && (i.Type == string(envelope.Message) || isRequest(i.Ref)) {
			line += " " + frame.Prefix + frame.Cut(i.Preview, previewLength)
		}
		a.say("%s", line)
		a.tellAttached(i.Ref, i.Attachments)
	}
	for _, f := range inbox.Failed {
		a.say("not sent: %s: %s", frame.Line(f.File), frame.Cut(f.Error, maxFailure))
	}
	unread := len(inbox.Items) + inbox.More
	switch {
	case unread > 0:
		a.say("%d unread", unread)
		a.next("%s", cmp.Or(callIn(inbox.Items), "duo read"))
	case len(inbox.Failed) > 0:
		a.next("cat %s", shellQuote(inbox.Failed[0].File))
	default:
		a.say("nothing unread")
		a.next("duo wait")
	}
}

// callIn is the command to accept a call of an inbox, one that rings first. It is empty
// where there is none.
func callIn(items []api.InboxItem) (next string) {
	for _, i := range slices.Backward(items) {
		if i.Type == string(envelope.Call) && isOpen(i.Status) {
			next = "duo accept " + i.Ref
		}
	}
	for _, i := range items {
		if i.Type == string(envelope.Call) && i.Status == api.CallRinging {
			return "duo accept " + i.Ref
		}
	}
	return next
}

const previewLength = 100

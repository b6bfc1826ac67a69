package main

import (
	"context"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/spf13/cobra"
)

type watchOptions struct {
	own   bool
	count int
	peek  bool
}

func newWatch(a *app) *cobra.Command {
	var o watchOptions
	cmd := &cobra.Command{
		Use: "watch [CONV...]", Short: "Stream what comes, one JSON object a line",
		Long: `Stream what comes in the conversations that are named, or in all of yours, beginning
with what you have not seen. What was printed is marked seen.

On a terminal it prints text, else one JSON object a line. It goes on by itself when
the daemon restarts, and ends after --count messages or with an interrupt.`,
		Example: `  duo watch | jq -r .content
  duo watch c9f3a --count 1`,
		ValidArgsFunction: a.completeConversations,
		RunE: func(cmd *cobra.Command, refs []string) error {
			if o.count < 0 {
				return usage("duo watch --count 1", "--count: want 0 or more, got %d", o.count)
			}
			return a.runWatch(cmd.Context(), o, refs)
		},
	}
	cmd.Flags().BoolVar(&o.own, "own", false, "your own messages too")
	cmd.Flags().IntVar(&o.count, "count", 0, "end after so many messages, 0 for never")
	cmd.Flags().BoolVar(&o.peek, "peek", false, "do not mark them seen")
	return cmd
}

// watching is one run of duo watch.
type watching struct {
	app  *app
	opts watchOptions
	ask  api.StreamRequest
	last map[string]int64 // highest seq that was printed, by conversation
	left int              // messages until the end
	live bool             // a stream has been open
}

func (a *app) runWatch(ctx context.Context, o watchOptions, refs []string) error {
	if _, err := a.me(); err != nil {
		return err
	}
	for _, ref := range refs {
		if !isConversation(ref) {
			return usage("duo list", "%q is no reference to a conversation: want one like c9f3a", ref)
		}
		if _, err := ask(ctx, a, func(c *client.Client) (api.Found, error) { return c.Find(ctx, ref) }); err != nil {
			return err
		}
	}
	w := &watching{
		app: a, opts: o, last: make(map[string]int64), left: o.count,
		ask: api.StreamRequest{Conversations: refs, Own: o.own},
	}
	return w.run(ctx)
}

// run keeps a stream open. Once one was open, it comes back after every end of it.
func (w *watching) run(ctx context.Context) error {
	rest := backoff
	for {
		opened := time.Now()
		done, err := w.stream(ctx)
		switch {
		case done:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !client.Unreachable(err) || !w.live:
			return err
		}
		if time.Since(opened) > maxPause {
			rest = backoff
		}
		pause(ctx, rest)
		rest = min(2*rest, maxPause)
	}
}

// stream prints what one stream brings. It reports true when that was enough.
func (w *watching) stream(ctx context.Context) (done bool, err error) {
	w.ask.After = w.last // nil entries: the daemon begins with what was not seen
	stream, err := ask(ctx, w.app, func(c *client.Client) (*client.Stream, error) { return c.Stream(ctx, w.ask) })
	if err != nil {
		return false, err
	}
	defer stream.Close() //nolint:errcheck // what was confirmed is known to the daemon
	w.live = true
	for {
		m, err := stream.Next(ctx)
		if err != nil {
			return false, err
		}
		if m.Envelope.Seq <= w.last[m.Envelope.Conversation] {
			continue
		}
		if err := w.show(stream, m); err != nil {
			return false, err
		}
		if w.left--; w.left == 0 {
			return true, nil
		}
	}
}

// show prints a message and then confirms that it was shown.
func (w *watching) show(stream *client.Stream, m api.Message) error {
	place := api.Place{Conversation: m.Envelope.Conversation, Seq: m.Envelope.Seq}
	if w.app.json || !w.app.terminal {
		if err := w.app.printJSON(m); err != nil {
			return err
		}
	} else {
		w.app.tellMessage(m, true, 0)
	}
	if err := w.app.flush(); err != nil {
		return err
	}
	w.last[place.Conversation] = place.Seq
	if w.opts.peek || w.app.isMe(m.Envelope.From) {
		return nil
	}
	return stream.Confirm(place, api.Seen)
}

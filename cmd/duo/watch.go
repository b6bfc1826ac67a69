package main

import (
	"context"
	"slices"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

type watchOptions struct {
	all      bool
	own      bool
	typing   bool
	presence bool
	text     bool
	count    int
	peek     bool
}

func newWatch(a *app) *cobra.Command {
	var o watchOptions
	cmd := &cobra.Command{
		Use: "watch [CONV...]", Short: "Stream what comes, one JSON object a line",
		Long: `Stream what comes in the conversations that are named, or in all of yours and of calls,
beginning with what you have not seen. What was printed is marked seen. While it runs you
are there: calls ring at once, as lines of the type call, again whenever the state of the
call changes.

On a terminal or with --text it prints text, else one JSON object a line. It goes on by
itself when the daemon restarts, and ends after --count lines or with an interrupt.

With --all you watch everybody: what is new in all conversations and calls of this host.
You act as nobody then, and nothing is marked seen.`,
		Example: `  duo watch | jq -r .content
  duo watch --text --presence
  duo watch c9f3a --count 1`,
		ValidArgsFunction: a.completeConversations,
		RunE: func(cmd *cobra.Command, refs []string) error {
			if o.count < 0 {
				return usage("duo watch --count 1", "--count: want 0 or more, got %d", o.count)
			}
			return a.runWatch(cmd.Context(), o, refs)
		},
	}
	cmd.Flags().BoolVar(&o.all, "all", false, "what everybody says and does, as nobody")
	cmd.Flags().BoolVar(&o.own, "own", false, "your own messages too")
	cmd.Flags().BoolVar(&o.typing, "typing", false, "who is typing, too")
	cmd.Flags().BoolVar(&o.presence, "presence", false, "who comes and goes, too")
	cmd.Flags().BoolVar(&o.text, "text", false, "text, also where the output is no terminal")
	cmd.Flags().IntVar(&o.count, "count", 0, "end after so many lines, 0 for never")
	cmd.Flags().BoolVar(&o.peek, "peek", false, "do not mark them seen")
	return cmd
}

// watching is one run of duo watch.
type watching struct {
	app   *app
	opts  watchOptions
	lease *lease
	ask   api.StreamRequest
	last  map[string]int64  // highest seq that was printed, by conversation
	told  map[string]string // what was printed last of each call: its type and state
	left  int               // messages until the end
	live  bool              // a stream has been open
}

func (a *app) runWatch(ctx context.Context, o watchOptions, refs []string) error {
	if o.all && (a.as != "" || o.own || o.peek) {
		return usage("duo watch --all", "with --all you act as nobody: --as, --own and --peek say nothing then")
	}
	if err := a.checkWatched(ctx, o.all, refs); err != nil {
		return err
	}
	w := &watching{
		app: a, opts: o, lease: a.lease(o.peek || o.all), last: make(map[string]int64), told: make(map[string]string), left: o.count,
		ask: api.StreamRequest{Conversations: refs, Own: o.own, Typing: o.typing, Presence: o.presence},
	}
	return w.run(ctx)
}

// checkWatched is an error where there is nothing to watch for this run's agent, or for
// nobody.
func (a *app) checkWatched(ctx context.Context, all bool, refs []string) error {
	check := a.checkMine
	if all {
		check = func(ctx context.Context, ref string) error {
			_, err := a.conversation(ctx, ref)
			return err
		}
	} else if _, err := a.me(); err != nil {
		return err
	}
	for _, ref := range refs {
		if !isConversation(ref) {
			return usage("duo list", "%q is no reference to a conversation: want one like c9f3a", ref)
		}
		if err := check(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}

// checkMine is an error where a conversation brings this run's agent nothing.
func (a *app) checkMine(ctx context.Context, ref string) error {
	c, err := a.conversation(ctx, ref)
	if err != nil {
		return err
	}
	if !slices.Contains(c.Participants, a.opened.Address(a.self.Name).String()) {
		return api.Errorf(api.NotParticipant, "%s: you are not in the conversation", c.Ref).WithNext("duo log %s", c.Ref)
	}
	return damaged(c)
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
		reach.Pause(ctx, rest)
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
		mine, err := w.mine(m)
		if err != nil {
			return false, err
		}
		if !mine || !w.fresh(m.Envelope) {
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

// mine reports whether a line is for this session of the agent to act on.
func (w *watching) mine(m api.Message) (bool, error) {
	if !w.acts(m) {
		return true, nil
	}
	mine, err := w.lease.take([]api.Message{m})
	return len(mine) > 0, err
}

// acts reports whether a line is one that is marked seen when it was printed.
func (w *watching) acts(m api.Message) bool {
	kept := m.Envelope.Seq > 0 || m.Envelope.Request != ""
	return !w.opts.peek && !w.opts.all && kept && !w.app.isMine(m.Envelope)
}

// fresh reports whether a line was not printed yet, and notes that it is now. A stream
// that was opened again says once more what nobody was shown.
func (w *watching) fresh(e *envelope.Envelope) bool {
	switch {
	case e.Seq > 0:
		fresh := e.Seq > w.last[e.Conversation]
		w.last[e.Conversation] = max(e.Seq, w.last[e.Conversation])
		return fresh
	case e.Request != "":
		state := string(e.Type) + " " + e.Status + " " + e.ID
		fresh := state != w.told[e.Request]
		w.told[e.Request] = state
		return fresh
	}
	return true
}

// show prints a line and then confirms that it was shown.
func (w *watching) show(stream *client.Stream, m api.Message) error {
	if w.app.json || !w.app.terminal && !w.opts.text {
		if err := w.app.printJSON(m); err != nil {
			return err
		}
	} else {
		w.tell(m)
	}
	if err := w.app.flush(); err != nil {
		return err
	}
	if !w.acts(m) {
		return nil
	}
	return stream.Confirm(placeOf(m), api.Seen)
}

func (w *watching) tell(m api.Message) {
	w.app.text().Message(m)
	if next := w.app.text().AfterSignal(m); next != "" && !w.opts.all && m.Envelope.Seq == 0 {
		w.app.next("%s", next)
	}
}

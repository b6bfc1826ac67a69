package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

type logOptions struct {
	client.Span
	follow bool
}

func newLog(a *app) *cobra.Command {
	var o logOptions
	cmd := &cobra.Command{
		Use: "log REF", Short: "Print the transcript of a conversation",
		Long: `Print lines of a conversation's log, by default the last 20; with a message as REF,
from that message on. It changes nothing: duo read marks messages seen.

With --json it prints one envelope a line.`,
		Example: `  duo log c9f3a
  duo log c9f3a --after 40 --limit 10
  duo log c9f3a.42
  duo log c9f3a --follow --json`,
		Args: exactly(1), ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.After < 0 || o.Before < 0 || o.Last < 0 || o.Limit < 0 {
				return usage("duo log "+shellQuote(args[0]), "--after, --before, --last and --limit are not negative")
			}
			return a.runLog(cmd.Context(), o, args[0])
		},
	}
	f := cmd.Flags()
	f.Int64Var(&o.After, "after", 0, "only behind this seq")
	f.Int64Var(&o.Before, "before", 0, "only before this seq")
	f.IntVar(&o.Last, "last", 0, "only the last so many")
	f.IntVar(&o.Limit, "limit", 0, "at most so many, default 20")
	f.BoolVar(&o.follow, "follow", false, "go on with what comes")
	return cmd
}

// transcript is where the lines of one conversation come from.
type transcript struct {
	conversation api.Conversation
	read         func(client.Span) (io.ReadCloser, error)
}

func (a *app) runLog(ctx context.Context, o logOptions, ref string) error {
	conversation, seq, err := splitRef(ref)
	if err != nil {
		return err
	}
	if seq > 0 {
		o.After = seq - 1
	}
	if o.Limit == 0 {
		o.Limit = defaultLimit
	}
	if o.After == 0 && o.Last == 0 {
		o.Last = o.Limit
	}
	t, err := a.transcript(ctx, conversation)
	if err != nil {
		return err
	}
	first, last, err := a.tellLog(t, o.Span)
	if err != nil {
		return err
	}
	if o.follow {
		return a.followLog(ctx, t, max(last, o.After))
	}
	if a.json {
		return nil
	}
	switch ref := t.conversation.Ref; {
	case last > 0 && last < t.conversation.LastSeq && o.Before == 0:
		a.next("duo log %s --after %d", ref, last)
	case first > 1:
		a.next("duo log %s --before %d", ref, first)
	default:
		a.next("duo list")
	}
	return nil
}

// transcript finds a conversation, with the daemon or in the files.
func (a *app) transcript(ctx context.Context, ref string) (transcript, error) {
	if _, err := a.home(); err != nil {
		return transcript{}, err
	}
	found, err := ask(ctx, a, func(c *client.Client) (api.Found, error) { return c.Find(ctx, ref) })
	if client.Unreachable(err) {
		files, offlineErr := a.offline(err)
		if offlineErr != nil {
			return transcript{}, offlineErr
		}
		return files.transcript(ref)
	}
	if err != nil {
		return transcript{}, err
	}
	if found.Conversation == nil {
		return transcript{}, usage("duo list", "%q names no conversation", ref)
	}
	id := found.Conversation.ID
	return transcript{conversation: *found.Conversation, read: func(s client.Span) (io.ReadCloser, error) {
		return ask(ctx, a, func(c *client.Client) (io.ReadCloser, error) { return c.Transcript(ctx, id, s) })
	}}, nil
}

// tellLog prints lines, and returns the numbers of the first and the last one.
func (a *app) tellLog(t transcript, s client.Span) (first, last int64, err error) {
	lines, err := t.read(s)
	if err != nil {
		return 0, 0, err
	}
	defer lines.Close()
	in := bufio.NewReaderSize(lines, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return first, last, nil
		}
		if err != nil {
			return first, last, fmt.Errorf("read log: %w", err)
		}
		e, err := envelope.Decode(line)
		if err != nil {
			continue // a line that says nothing to us
		}
		if first == 0 {
			first = e.Seq
		}
		last = e.Seq
		m := api.Message{Envelope: e, Ref: fmt.Sprintf("%s.%d", t.conversation.Ref, e.Seq), Topic: t.conversation.Topic}
		if err := a.print(m, func() { a.tellLine(m) }); err != nil {
			return first, last, err
		}
	}
}

// tellLine prints a line of a log: long bodies are cut, as a transcript has many.
func (a *app) tellLine(m api.Message) { a.tellMessage(m, m.Envelope.Seq == 1, beginning) }

const followEvery = 100 * time.Millisecond

// followLog prints what is added to a log, until ctx ends. That the file has grown is
// the hint to ask again.
func (a *app) followLog(ctx context.Context, t transcript, last int64) error {
	size := int64(-1)
	for ctx.Err() == nil {
		if err := a.flush(); err != nil {
			return err
		}
		info, err := os.Stat(t.conversation.Log)
		if err != nil {
			return fmt.Errorf("follow log: %w", err)
		}
		if info.Size() == size {
			pause(ctx, followEvery)
			continue
		}
		_, newest, err := a.tellLog(t, client.Span{After: last})
		switch {
		case client.Unreachable(err):
			pause(ctx, maxPause)
			continue
		case err != nil:
			return err
		}
		size, last = info.Size(), max(last, newest)
	}
	return ctx.Err()
}

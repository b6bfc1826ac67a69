package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/maildir/convlog"
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

// damaged is the error of a conversation whose log cannot be read to its end.
func damaged(c api.Conversation) error {
	if c.Status != "damaged" {
		return nil
	}
	return api.Errorf(api.Damaged, "conversation %s: %s", c.Ref, c.Reason).WithNext("duo fsck %s", c.Ref)
}

// damage tells damage of a log from what else can fail.
func damage(ref string, err error) error {
	var found *convlog.DamageError
	if !errors.As(err, &found) {
		return err
	}
	return damaged(api.Conversation{Ref: ref, Status: "damaged", Reason: found.Error()})
}

// transcript is where the lines of one conversation come from.
type transcript struct {
	conversation api.Conversation
	read         func(client.Span) (io.ReadCloser, error) // an error beside lines: they are not all
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
	if err := cmp.Or(ctx.Err(), err); err != nil {
		return err
	}
	if err := damaged(t.conversation); err != nil {
		return errors.Join(a.flush(), err)
	}
	if o.follow {
		return a.followLog(ctx, t, max(last, o.After))
	}
	if a.json {
		return nil
	}
	if last == 0 {
		a.say("no lines there; the last is %d", t.conversation.LastSeq)
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

// transcript finds a conversation, with the daemon or in the files. Where the daemon
// ends meanwhile, the files have the rest.
func (a *app) transcript(ctx context.Context, ref string) (transcript, error) {
	if _, err := a.home(); err != nil {
		return transcript{}, err
	}
	conversation, err := a.conversation(ctx, ref)
	if client.Unreachable(err) {
		files, offlineErr := a.offline(err)
		if offlineErr != nil {
			return transcript{}, offlineErr
		}
		id, err := files.Resolve(ref)
		if err != nil {
			return transcript{}, err
		}
		conversation, err = files.Conversation(id)
		read := func(s client.Span) (io.ReadCloser, error) { return files.Lines(conversation, s) }
		return transcript{conversation: conversation, read: read}, err
	}
	if err != nil {
		return transcript{}, err
	}
	return transcript{conversation: conversation, read: func(s client.Span) (io.ReadCloser, error) {
		lines, err := ask(ctx, a, func(c *client.Client) (io.ReadCloser, error) { return c.Transcript(ctx, conversation.ID, s) })
		if !client.Unreachable(err) {
			return lines, err
		}
		files, err := a.offline(err)
		if err != nil {
			return nil, err
		}
		return files.Lines(conversation, s)
	}}, nil
}

// tellLog prints lines, and returns the numbers of the first and the last one.
func (a *app) tellLog(t transcript, s client.Span) (first, last int64, err error) {
	lines, failed := t.read(s)
	if lines == nil {
		return 0, 0, failed
	}
	defer lines.Close()
	in := bufio.NewReaderSize(lines, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return first, last, failed
		}
		if err != nil {
			return first, last, brokenOff(t.conversation.Ref, last, err)
		}
		e, err := envelope.Decode(line)
		if err != nil { // a line that says nothing to us; its number counts
			last = max(last, s.After) + 1
			continue
		}
		if first == 0 {
			first = e.Seq
		}
		last = e.Seq
		m := api.Message{Envelope: e, Ref: fmt.Sprintf("%s.%d", t.conversation.Ref, e.Seq), Topic: t.conversation.Topic}
		if err := a.print(m, func() { a.text().Line(m) }); err != nil {
			return first, last, err
		}
	}
}

// brokenOff is the error of a transcript of which only lines up to last have come.
func brokenOff(ref string, last int64, cause error) error {
	next := "duo log " + ref
	if last > 0 {
		next += fmt.Sprintf(" --after %d", last)
	}
	return api.Errorf(api.DaemonUnreachable, "the transcript breaks off: %w: %w", client.ErrBroken, cause).WithNext("%s", next)
}

const followEvery = 100 * time.Millisecond

// followLog prints what is added to a log, until ctx ends. Lines are in the file before
// they are on disk, and until then the daemon does not tell of them: as long as the file
// has more of them than came, they are asked for again.
func (a *app) followLog(ctx context.Context, t transcript, last int64) error {
	end := logEnd{path: t.conversation.Log}
	rest := backoff
	for ctx.Err() == nil {
		if err := a.flush(); err != nil {
			return err
		}
		more, err := end.behind(last)
		if err != nil {
			return fmt.Errorf("follow log: %w", damage(t.conversation.Ref, err))
		}
		newest := int64(0)
		if more {
			_, newest, err = a.tellLog(t, client.Span{After: last})
			last = max(last, newest) // an answer that broke off has been printed too
		}
		switch {
		case client.Unreachable(err):
			reach.Pause(ctx, rest)
			rest = min(2*rest, maxPause)
			continue
		case err != nil:
			return err
		case newest == 0:
			reach.Pause(ctx, followEvery)
		}
		rest = backoff
	}
	return ctx.Err()
}

// logEnd looks at the end of a log's file.
type logEnd struct {
	path    string
	size    int64 // that the file had when its lines were known to have come
	damaged int   // looks that have found damage, in a row
}

// surelyDamaged is how many looks find damage before it is believed: a writer that mends
// a torn line leaves what looks like it for a moment.
const surelyDamaged = 5

// behind reports whether the file has a line behind one that has come.
func (l *logEnd) behind(last int64) (bool, error) {
	info, err := os.Stat(l.path)
	if err != nil || info.Size() == l.size {
		return false, err
	}
	log, err := convlog.OpenReader(l.path)
	if err != nil {
		return false, err
	}
	defer log.Close()
	lines, err := log.Last(1)
	if len(lines) > 0 && lines[0].Seq > last {
		return true, nil
	}
	if err == nil {
		l.size, l.damaged = log.Size(), 0
	} else if l.damaged++; l.damaged < surelyDamaged {
		err = nil
	}
	return false, err
}

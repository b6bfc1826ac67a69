package mcpserver

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	lastLines = 20
	maxLog    = 24 << 10 // bytes of text
)

func (c *call) log(ctx context.Context) error {
	ref := c.args.text("ref")
	if query := c.args.text("search"); query != "" {
		return c.search(ctx, query, ref)
	}
	switch {
	case ref == "" && c.as.Agent == "":
		return api.Errorf(api.BadRequest, "argument ref is missing: an observer has no conversations of its own").WithNext("duo log c9f3a")
	case ref == "":
		return c.list(ctx)
	}
	conversation, seq, err := offline.SplitRef(ref)
	if err != nil {
		return err
	}
	span := client.Span{Last: c.args.whole("last", lastLines), Before: int64(c.args.whole("before", 0))}
	if seq > 0 { // what stands around it
		span = client.Span{After: max(0, seq-lastLines/2), Limit: lastLines}
	}
	found, messages, err := c.transcript(ctx, conversation, span)
	if err != nil {
		return err
	}
	first := c.lines(messages)
	if len(messages) == 0 {
		c.Say("no lines there: %s has %d", found.Ref, found.LastSeq)
	}
	c.value = api.Messages{Messages: messages}
	if first > 1 {
		c.Next("duo log %s --before %d", found.Ref, first)
	} else {
		c.Next(`duo send --to %s "..."`, found.Ref)
	}
	return nil
}

// search finds lines in a conversation, or for an empty ref in all that may be read.
func (c *call) search(ctx context.Context, query, ref string) error {
	if ref != "" {
		conversation, _, err := offline.SplitRef(ref)
		if err != nil {
			return err
		}
		ref = conversation
	}
	ask := api.Search{Query: query, In: ref, Limit: c.args.whole("last", lastLines)}
	found, away, err := reach.AskOrRead(ctx, c.as.Host,
		func(d *client.Client) (api.Hits, error) { return d.Search(ctx, ask) },
		func(f *offline.Files) (api.Hits, error) { return f.Search(ctx, ask) })
	if err != nil {
		return err
	}
	c.away(away)
	c.Hits(found, "duo search "+frame.ShellWord(query)+" --limit "+strconv.Itoa(min(500, len(found.Hits)+found.More)))
	c.value = found
	return nil
}

// lines writes lines of a log, as many of the last ones as there is room for, and returns
// the number of the first.
func (c *call) lines(messages []api.Message) (first int64) {
	size, from := 0, len(messages)
	for from > 0 && size < maxLog {
		from--
		size += min(len(messages[from].Envelope.Content), 4<<10) + 100
	}
	for i, m := range messages[from:] {
		if i == 0 {
			first = m.Envelope.Seq
		}
		c.Line(m)
	}
	return first
}

// transcript reads lines of a conversation.
func (c *call) transcript(ctx context.Context, ref string, span client.Span) (found api.Conversation, list []api.Message, err error) {
	lines, away, err := reach.AskOrRead(ctx, c.as.Host,
		func(d *client.Client) (io.ReadCloser, error) {
			what, err := d.Find(ctx, ref)
			if err != nil {
				return nil, err
			}
			if what.Conversation == nil {
				return nil, api.Errorf(api.ConversationNotFound, "%q names no conversation", ref).WithNext("duo list")
			}
			found = *what.Conversation
			return d.Transcript(ctx, found.ID, span)
		},
		func(f *offline.Files) (io.ReadCloser, error) {
			id, err := f.Resolve(ref)
			if err == nil {
				found, err = f.Conversation(id)
			}
			if err != nil {
				return nil, err
			}
			return f.Lines(found, span)
		})
	if lines == nil {
		return found, nil, err
	}
	c.away(away)
	defer lines.Close()
	in := bufio.NewReaderSize(lines, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if e, bad := envelope.Decode(line); bad == nil && e.Seq > 0 {
			list = append(list, api.Message{Envelope: e, Ref: show.Ref(found.Ref, e.Seq), Topic: found.Topic})
		}
		if errors.Is(err, io.EOF) {
			return found, list, nil
		}
		if err != nil {
			return found, list, err
		}
	}
}

// list lists the conversations of the speaker.
func (c *call) list(ctx context.Context) error {
	found, away, err := c.conversations(ctx, "")
	if err != nil {
		return err
	}
	c.away(away)
	c.Conversations(found, "duo list --limit "+strconv.Itoa(len(found.Conversations)+found.More))
	c.value = found
	return nil
}

func (c *call) conversations(ctx context.Context, status string) (api.Conversations, error, error) {
	return reach.AskOrRead(ctx, c.as.Host,
		func(d *client.Client) (api.Conversations, error) {
			return d.Conversations(ctx, status, "", c.args.whole("last", 0))
		},
		func(f *offline.Files) (api.Conversations, error) {
			return f.Conversations(show.Query{Status: status, Limit: c.args.whole("last", 0)})
		})
}

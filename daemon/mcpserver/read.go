package mcpserver

import (
	"context"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/session"
)

func (c *call) inbox(ctx context.Context) error {
	limit := c.args.whole("limit", 0)
	inbox, away, err := reach.AskOrRead(ctx, c.as.Host,
		func(d *client.Client) (api.Inbox, error) { return d.Inbox(ctx, limit) },
		func(f *offline.Files) (api.Inbox, error) { return f.Inbox(ctx, limit) })
	if err != nil {
		return err
	}
	c.away(away)
	c.Inbox(inbox)
	c.value = inbox
	return nil
}

func (c *call) read(ctx context.Context) error {
	refs := c.args.words("refs")
	for _, ref := range refs {
		if !maildir.NamesRequest(ref) {
			if _, _, err := offline.SplitRef(ref); err != nil {
				return err
			}
		}
	}
	what := api.Read{Refs: refs, Limit: c.args.whole("limit", 0)}
	list, away, err := reach.AskOrRead(ctx, c.as.Host,
		func(d *client.Client) (api.Messages, error) { return d.Read(ctx, what) },
		func(f *offline.Files) (api.Messages, error) { return f.Read(ctx, what) })
	if err != nil {
		return err
	}
	c.away(away)
	keep := c.args.flag("keepUnread")
	others := 0
	if refs == nil && !keep { // to act on, not only to look at
		mine, err := c.take(list.Messages)
		if err != nil {
			return err
		}
		others = len(list.Messages) - len(mine)
		list.Messages = mine
	}
	if others > 0 {
		c.Say("%s not shown: another session of yours has it to act on", text.Count(others, "item"))
	}
	if len(list.Messages) > 0 {
		return c.show(list, text.Bodies{Whole: refs != nil}, keep)
	}
	c.value = list
	c.Say("nothing unread")
	if len(refs) > 0 && !maildir.NamesRequest(refs[0]) {
		c.Next("duo log %s", refs[0])
	} else {
		c.Next("duo wait")
	}
	return nil
}

// show shows the bodies of messages. They are seen when the result was handed over: those
// that were shown whole, and no others.
func (c *call) show(list api.Messages, how text.Bodies, keep bool) error {
	shown := c.Messages(list.Messages, how)
	if !keep {
		c.see(shown)
	}
	c.value = list
	var bad []api.Message
	for _, m := range list.Messages {
		if m.Error != "" {
			bad = append(bad, m)
		}
	}
	left := len(list.Messages) - len(shown) - len(bad) + list.More
	if len(shown)+len(bad) < len(list.Messages) { // what is left is not given in another form either
		list.Messages, list.More = list.Messages[:len(shown)+len(bad)], left
		c.value = list
	}
	if len(bad) > 0 {
		return api.Errorf(api.Damaged, "%s cannot be read, %s: %s", text.Count(len(bad), "message"), bad[0].Ref, bad[0].Error).WithNext("duo fsck")
	}
	c.AfterReading(shown, left)
	return nil
}

// see has messages marked as seen when the result was handed over.
func (c *call) see(shown []api.Message) {
	var places []api.Place
	var messages []api.Message
	for _, m := range shown {
		if c.as.Wrote(m.Envelope) {
			continue
		}
		messages = append(messages, m)
		place := api.Place{Conversation: m.Envelope.Conversation, Seq: m.Envelope.Seq}
		if m.Envelope.Seq == 0 {
			place = api.Place{Request: m.Envelope.Request, Status: m.Envelope.Status}
		}
		places = append(places, place)
	}
	c.seen(places, messages)
}

const noteTime = 10 * time.Second

// seen has places marked as seen when the result was handed over; messages are the same
// ones for the files.
func (c *call) seen(places []api.Place, messages []api.Message) {
	if len(places) == 0 {
		return
	}
	host, logger := c.as.Host, c.server.Logger
	c.then = append(c.then, func(handed bool) {
		if !handed {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), noteTime)
		defer cancel()
		_, _, err := reach.AskOrRead(ctx, host,
			func(d *client.Client) (struct{}, error) { return struct{}{}, d.Shown(ctx, places) },
			func(f *offline.Files) (struct{}, error) { return struct{}{}, f.Shown(messages) })
		if err != nil {
			logger.Warn("what was shown stays unread", "agent", host.Agent, "err", err)
		}
	})
}

// take leases messages to the speaker's session, and returns those that no other session
// has. They are given back where the result cannot be handed over.
func (c *call) take(messages []api.Message) ([]api.Message, error) {
	mine, items, err := c.as.Take(c.as.Holder, messages)
	if err != nil {
		return nil, err
	}
	host, holder, logger := c.as.Host, c.as.Holder, c.server.Logger
	c.then = append(c.then, func(handed bool) {
		if handed {
			return
		}
		if err := session.OpenBook(host.Home, host.Agent).Return(holder, items...); err != nil {
			logger.Warn("leases are not given back", "agent", host.Agent, "err", err)
		}
	})
	return mine, nil
}

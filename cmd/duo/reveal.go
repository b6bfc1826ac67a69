package main

import (
	"context"
	"slices"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir/envelope"
)

// revealOptions says how messages are shown.
type revealOptions struct {
	raw     bool // bodies only
	keep    bool // they stay unseen
	whole   bool // however long they are
	printed bool // they were shown already, as JSON
}

// reveal shows the bodies of messages and then marks them seen: those that were
// written to stdout whole, and no others. That some cannot be read is an error in the
// end.
func (a *app) reveal(ctx context.Context, list api.Messages, o revealOptions) error {
	shown := slices.DeleteFunc(slices.Clone(list.Messages), func(m api.Message) bool { return m.Error != "" })
	if !o.printed && a.json {
		if err := a.printJSON(list); err != nil {
			return err
		}
	} else if !o.printed {
		shown = a.text().Messages(list.Messages, text.Bodies{Raw: o.raw, Terminal: a.terminal, Whole: o.whole})
	}
	if err := a.flush(); err != nil {
		return err
	}
	if !o.keep {
		if err := a.seen(ctx, shown); err != nil {
			return err
		}
	}
	bad := unreadable(list.Messages)
	left := len(list.Messages) - len(shown) - len(bad) + list.More
	switch {
	case len(bad) > 0:
		if left > 0 {
			a.note("%d more unread", left)
		}
		return api.Errorf(api.Damaged, "%s cannot be read, %s: %s", text.Count(len(bad), "message"), bad[0].Ref, bad[0].Error).WithNext("duo fsck")
	case !a.json && !o.raw:
		a.text().AfterReading(shown, left)
	}
	return nil
}

// unreadable are the messages of which only the place is known.
func unreadable(messages []api.Message) []api.Message {
	return slices.DeleteFunc(slices.Clone(messages), func(m api.Message) bool { return m.Error == "" })
}

// isMe reports whether an address is that of the agent this run acts as.
func (a *app) isMe(address envelope.Address) bool {
	return a.self != nil && a.opened != nil && address.Same(a.opened.Address(a.self.Name))
}

// isMine reports whether the agent that this run acts as has written a line itself.
func (a *app) isMine(e *envelope.Envelope) bool { return a.isMe(e.From) && e.By(e.From) }

// placeOf is what names a message to the daemon: its line, or the call that it tells of.
func placeOf(m api.Message) api.Place {
	if m.Envelope.Seq == 0 {
		return api.Place{Request: m.Envelope.Request, Status: m.Envelope.Status}
	}
	return api.Place{Conversation: m.Envelope.Conversation, Seq: m.Envelope.Seq}
}

// seen marks messages seen that were shown: with the daemon, or in the inbox itself.
func (a *app) seen(ctx context.Context, messages []api.Message) error {
	places := make([]api.Place, 0, len(messages))
	for _, m := range messages {
		if !a.isMine(m.Envelope) {
			places = append(places, placeOf(m))
		}
	}
	if len(places) == 0 {
		return nil
	}
	_, err := ask(ctx, a, func(c *client.Client) (struct{}, error) { return struct{}{}, c.Shown(ctx, places) })
	if !client.Unreachable(err) {
		return err
	}
	files, err := a.files()
	if err != nil {
		return err
	}
	return files.Shown(messages)
}

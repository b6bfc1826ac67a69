package main

import (
	"context"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

// replyOptions says what a command that has sent a message waits for.
type replyOptions struct {
	wait span
	what string
}

const (
	forReply     = "reply"
	forCall      = "call"
	forAnswer    = "answer"
	forSeen      = api.Seen
	forDelivered = api.Delivered
)

func (o *replyOptions) addFlags(cmd *cobra.Command) {
	o.what = forReply
	addWait(cmd, &o.wait, "wait for the reply, 100s or --wait=DURATION")
	cmd.Flags().Var(choice{&o.what, []string{forReply, forSeen, forDelivered}}, "for", "what to wait for; it implies --wait")
}

// answered is a posted message and what came of waiting, as --json tells it.
type answered struct {
	api.Posted
	Reply    *api.Message  `json:"reply,omitempty"`
	Receipts *api.Receipts `json:"receipts,omitempty"`
	TimedOut bool          `json:"timedOut"`
}

// awaitReply tells that a message was sent, waits, and tells what came.
func (a *app) awaitReply(ctx context.Context, p api.Posted, o replyOptions) error {
	if !a.json {
		a.text().Sent(p)
		if err := a.flush(); err != nil {
			return err
		}
	}
	began := time.Now()
	if p.Queued {
		if err := a.awaitStored(ctx, &p, time.Duration(o.wait)); err != nil {
			return err
		}
		o.wait = max(0, o.wait-span(time.Since(began)))
	}
	if o.what != forReply {
		return a.awaitState(ctx, p, o)
	}
	reply, err := a.nextReply(ctx, p.Message.Envelope.Conversation, p.Message.Envelope.Seq, time.Duration(o.wait))
	if err != nil {
		return err
	}
	if a.json {
		if err := a.printJSON(answered{Posted: p, Reply: reply, TimedOut: reply == nil}); err != nil {
			return err
		}
	}
	if reply == nil {
		return a.noReply(ctx, p.Message, time.Duration(o.wait))
	}
	return a.reveal(ctx, api.Messages{Messages: []api.Message{*reply}}, revealOptions{printed: a.json})
}

// awaitStored waits until a message that was queued for another host has a place in its
// conversation.
func (a *app) awaitStored(ctx context.Context, p *api.Posted, wait time.Duration) error {
	r, err := a.receipts(ctx, p.Message.Ref, 0, api.Stored, wait)
	if err != nil {
		return err
	}
	if r.Seq == 0 {
		if err := a.print(answered{Posted: *p, Receipts: &r, TimedOut: true}, func() {}); err != nil {
			return err
		}
		return api.Errorf(api.Pending, "after %s it still waits%s, which is not an error", brief(wait), text.QueuedFor(r.For)).
			WithNext("duo receipts %s --wait", p.Message.Ref)
	}
	stored := *p.Message.Envelope
	stored.Seq = r.Seq
	p.Message.Envelope, p.Message.Ref, p.Recipients, p.Queued = &stored, r.Ref, r.Recipients, false
	return nil
}

// nextReply waits for a reply, as reach.Host.Reply does. When the conversation comes to its
// end before one comes, that is an error.
func (a *app) nextReply(ctx context.Context, conversation string, asked int64, wait time.Duration) (*api.Message, error) {
	h, err := a.host()
	if err != nil {
		return nil, err
	}
	reply, err := h.Reply(ctx, conversation, asked, wait)
	if reply != nil && reply.Envelope.Type != envelope.Message {
		return nil, api.Errorf(api.ConversationClosed, "no reply: %s", a.text().Headline(*reply)).WithNext("duo read %s", reply.Ref)
	}
	return reply, err
}

// noReply is the end of a wait in which nothing came.
func (a *app) noReply(ctx context.Context, m api.Message, wait time.Duration) error {
	r, err := ask(ctx, a, func(c *client.Client) (api.Receipts, error) {
		return c.Receipts(ctx, m.Envelope.Conversation, m.Envelope.Seq, "", 0)
	})
	if err != nil {
		return err
	}
	return api.Errorf(api.Pending, "no reply in %s, which is not an error; %s: %s", brief(wait), m.Ref, a.text().Recipients(r.Recipients)).
		WithNext("duo wait --for reply %s", m.Ref)
}

// awaitState waits until all recipients have come to a state.
func (a *app) awaitState(ctx context.Context, p api.Posted, o replyOptions) error {
	r, err := a.receipts(ctx, p.Message.Envelope.Conversation, p.Message.Envelope.Seq, o.what, time.Duration(o.wait))
	if err != nil {
		return err
	}
	if err := a.print(answered{Posted: p, Receipts: &r, TimedOut: r.TimedOut}, func() { a.text().Receipts(r) }); err != nil {
		return err
	}
	return a.pendingState(r, o.what, time.Duration(o.wait))
}

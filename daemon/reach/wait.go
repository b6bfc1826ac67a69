package reach

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Events asks for what is new, and waits until there is something that is wanted: wanted
// returns what it takes of a list. The rest is passed over, until nothing new has come
// for a while.
func (h *Host) Events(ctx context.Context, query client.Events, wait time.Duration, wanted func([]api.Message) ([]api.Message, error)) (list api.Messages, err error) {
	_, err = Patiently(ctx, wait, func(step time.Duration) (bool, error) {
		query.Wait = step
		list, err = Ask(ctx, h, func(c *client.Client) (api.Messages, error) { return c.Events(ctx, query) })
		if err != nil {
			return false, err
		}
		query.Cursor = list.Next
		if len(list.Messages) == 0 {
			query.Cursor = ""
		}
		list.Messages, err = wanted(list.Messages)
		return len(list.Messages) > 0, err
	})
	return list, err
}

// Request asks for a call.
func (h *Host) Request(ctx context.Context, ref string) (api.Request, error) {
	return Ask(ctx, h, func(c *client.Client) (api.Request, error) { return c.Request(ctx, ref) })
}

// answerEvery bounds one step of a wait for an answer: the answer may have been shown to
// another session of the same agent in between, and is then told no more.
const answerEvery = 5 * time.Second

// Answer waits until it is decided what comes of a call, or its caller is told that
// nothing came yet. A match that has gone on is followed; moved tells of it.
func (h *Host) Answer(ctx context.Context, r api.Request, wait time.Duration, moved func(from, to api.Request)) (api.Request, bool, error) {
	done, err := Patiently(ctx, wait, func(step time.Duration) (bool, error) {
		fresh, err := h.Request(ctx, r.ID)
		for err == nil && fresh.Next != "" && fresh.State != api.CallAccepted {
			before := fresh
			if fresh, err = h.Request(ctx, before.Next); err == nil {
				moved(before, fresh)
			}
		}
		if err != nil {
			return false, err
		}
		if r = fresh; !api.CanAccept(r.State) {
			return true, nil
		}
		query := client.Events{Request: r.ID, Wait: min(step, answerEvery), Limit: 1}
		told, err := Ask(ctx, h, func(c *client.Client) (api.Messages, error) { return c.Events(ctx, query) })
		if err != nil || len(told.Messages) == 0 {
			return false, err
		}
		if fresh, err = h.Request(ctx, r.ID); err != nil {
			return false, err
		}
		r = fresh
		return r.Next == "", nil
	})
	return r, done, err
}

// Reply waits for the next message by somebody else in a conversation who had been
// shown the line asked. It returns nil when none came in time. When the conversation is
// closed before one comes, or the others have left, it is a line that says so.
func (h *Host) Reply(ctx context.Context, conversation string, asked int64, wait time.Duration) (*api.Message, error) {
	var reply *api.Message
	seq := asked
	_, err := Patiently(ctx, wait, func(step time.Duration) (bool, error) {
		query := client.Events{Conversation: conversation, After: &seq, Wait: step, Limit: 1}
		found, err := Ask(ctx, h, func(c *client.Client) (api.Messages, error) { return c.Events(ctx, query) })
		if err != nil {
			return false, err
		}
		for _, m := range found.Messages {
			seq = m.Envelope.Seq
			last, err := h.ends(ctx, m.Envelope, asked)
			if err != nil {
				return false, err
			}
			if last {
				reply = &m
				return true, nil
			}
		}
		return false, nil
	})
	return reply, err
}

// ends reports whether a line ends the wait for a reply to the line asked.
func (h *Host) ends(ctx context.Context, e *envelope.Envelope, asked int64) (bool, error) {
	switch {
	case h.Is(e.From):
		return false, nil
	case e.Type == envelope.Message:
		return answersTo(e, asked), nil
	case e.Type == envelope.Leave:
		return h.alone(ctx, e.Conversation)
	}
	return e.Event == envelope.EventClose, nil
}

// alone reports whether all others have left a conversation. Then it is closed, or will be,
// in the name of the agent: nobody tells it that.
func (h *Host) alone(ctx context.Context, conversation string) (bool, error) {
	found, err := Ask(ctx, h, func(c *client.Client) (api.Found, error) { return c.Find(ctx, conversation) })
	if err != nil || found.Conversation == nil {
		return false, err
	}
	me := h.Home.Address(h.Agent).String()
	return !slices.ContainsFunc(found.Conversation.Participants, func(other string) bool { return !strings.EqualFold(other, me) }), nil
}

// answersTo reports whether a message can be an answer to a line: its writer had been
// shown the line, or names it. A writer that tells neither is believed.
func answersTo(e *envelope.Envelope, seq int64) bool {
	return e.After == nil || *e.After >= seq || e.ReplyTo.Seq == seq
}

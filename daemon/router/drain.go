package router

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const retryAfter = time.Second

// Drain takes the drops of an agent out of its outbox, in the order in which they
// were written. What has to wait is queued again.
//
// A crash between storing a message and moving its file leaves the file in the
// outbox. The next Drain finds the message by its id and moves the file.
func (r *Router) Drain(ctx context.Context, agent string, queue *work.Queue) {
	c, ok := r.roster.Get(agent)
	if !ok {
		return
	}
	box := mailbox.At(r.home.AgentDir(c.Name))
	drops, err := box.Drops()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		r.logger.Error("outbox is not read", "agent", c.Name, "err", err)
		queue.AddAfter(agent, retryAfter)
		return
	}
	for _, drop := range drops {
		if ctx.Err() != nil {
			return
		}
		wait, block := r.drop(ctx, box, r.home.Address(c.Name), drop)
		if wait > 0 {
			queue.AddAfter(agent, wait)
		}
		if block {
			return
		}
	}
}

// drop takes one drop. It returns how long to wait before the drop is tried again, 0
// when it is done with, and whether those behind it wait too, so that what was said
// first stays first.
func (r *Router) drop(ctx context.Context, box *mailbox.Box, agent envelope.Address, drop mailbox.Drop) (wait time.Duration, block bool) {
	loaded, err := box.Load(drop, agent.Name, time.Now())
	var unfinished *mailbox.WaitError
	switch {
	case errors.As(err, &unfinished):
		return unfinished.For, false
	case errors.Is(err, fs.ErrNotExist):
		return 0, false
	case err != nil && isDisk(err) && !errors.Is(err, mailbox.ErrForeign):
		r.logger.Error("drop is not read", "agent", agent.Name, "path", drop.Name, "err", err)
		return retryAfter, false
	case err != nil:
		return r.failDrop(box, agent, loaded, api.Errorf(api.BadRequest, "%w", err)), false
	}
	if c, _ := r.roster.Get(agent.Name); c.Unregistered {
		return r.failDrop(box, agent, loaded, api.Errorf(api.IdentityUnknown, "agent %q has unregistered", agent.Name)), false
	}
	out, err := r.Accept(ctx, Actor{Agent: agent, Made: drop.Changed}, loaded.Draft)
	var refusal *api.Error
	if errors.As(err, &refusal) {
		if refusal.Retryable() {
			r.logger.Warn("drop waits", "agent", agent.Name, "path", drop.Name, "err", err)
			return retryAfter, true
		}
		return r.failDrop(box, agent, loaded, refusal), false
	}
	stamp := mailbox.Stamp{Conversation: out.State.ID, Seq: out.Envelope.Seq, ID: loaded.Draft.ID}
	if err := box.Done(loaded, stamp); err != nil {
		r.logger.Error("sent drop is not moved", "agent", agent.Name, "path", drop.Name, "err", err)
		return retryAfter, false
	}
	r.logger.Info("drop sent", "agent", agent.Name, "conv", stamp.Conversation, "seq", stamp.Seq, "id", stamp.ID)
	return 0, false
}

func (r *Router) failDrop(box *mailbox.Box, agent envelope.Address, loaded *mailbox.Loaded, why *api.Error) time.Duration {
	r.logger.Warn("drop failed", "agent", agent.Name, "path", loaded.Name, "err", why)
	if err := box.Fail(loaded, mailbox.Stamp{Error: why.Message, Near: why.Near}); err != nil {
		r.logger.Error("failed drop is not moved", "agent", agent.Name, "path", loaded.Name, "err", err)
		return retryAfter
	}
	return 0
}

// Adopt stores the lines that were appended to a log with the shell, each once. One
// that is refused is answered in the log, so that it is not tried again.
func (r *Router) Adopt(ctx context.Context, conversation string, queue *work.Queue) {
	for ctx.Err() == nil {
		more, err := r.adoptNext(ctx, conversation)
		if err != nil {
			r.logger.Warn("raw line waits", "conv", conversation, "err", err)
			if err.Retryable() {
				queue.AddAfter(conversation, retryAfter)
			}
		}
		if err != nil || !more {
			return
		}
	}
}

func (r *Router) adoptNext(ctx context.Context, conversation string) (more bool, problem *api.Error) {
	raw, err := r.ledger.Raw(conversation)
	if err != nil {
		return false, Translate(err, r.short(conversation))
	}
	if raw == nil {
		return false, nil
	}
	return true, r.adopt(ctx, conversation, raw)
}

func (r *Router) adopt(ctx context.Context, conversation string, raw *envelope.Envelope) *api.Error {
	agent := r.home.Address(raw.From.Name)
	raw.Type, raw.Conversation, raw.To = envelope.Message, conversation, nil
	if raw.ID == "" {
		raw.ID = envelope.NamedID("raw", conversation, strconv.FormatInt(*raw.Raw, 10))
	}
	var out Outcome
	c, err := r.roster.Resolve(raw.From.String())
	if err == nil {
		agent = r.home.Address(c.Name)
		out, err = r.Accept(ctx, Actor{Agent: agent, Shell: true}, raw)
	}
	if out.Duplicate {
		err = api.Errorf(api.KeyReused, "a message with this id is in the log already, at line %d", out.Envelope.Seq)
	}
	if err == nil {
		return nil
	}
	why := Translate(err, r.short(conversation))
	if why.Retryable() || why.Code == api.Damaged {
		return why
	}
	notice := &envelope.Envelope{
		ID: envelope.NamedID("undeliverable", conversation, strconv.FormatInt(*raw.Raw, 10)), Type: envelope.System, Event: envelope.EventUndeliverable,
		From: agent, Conversation: conversation, To: []string{agent.String()}, About: raw.ID, Why: why.Message, Raw: raw.Raw,
	}
	if _, err := r.append(Actor{Agent: agent}, notice); err != nil {
		return Translate(err, r.short(conversation))
	}
	return nil
}

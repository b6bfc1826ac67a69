package router

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
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
	if err := r.takeFiles(box, agent, loaded); err != nil {
		return r.refuseDrop(box, agent, loaded, Translate(err, ""))
	}
	out, err := r.Accept(Through(ctx, Drop), Actor{Agent: agent, Made: drop.Changed}, loaded.Draft)
	var refusal *api.Error
	if errors.As(err, &refusal) {
		return r.refuseDrop(box, agent, loaded, refusal)
	}
	stamp := mailbox.Stamp{Conversation: out.State.ID, Seq: out.Envelope.Seq, ID: loaded.Draft.ID, Queued: out.Queued}
	if out.Request != nil {
		stamp.Request, stamp.Status = out.Request.ID, string(out.Request.State())
	}
	if err := box.Done(loaded, stamp); err != nil {
		r.logger.Error("sent drop is not moved", "agent", agent.Name, "path", drop.Name, "err", err)
		return retryAfter, false
	}
	r.logger.Info("drop sent", "agent", agent.Name, "conv", stamp.Conversation, "seq", stamp.Seq, "id", stamp.ID)
	return 0, false
}

// takeFiles stores the files that a drop names. After a crash they are there still, and
// are taken again.
func (r *Router) takeFiles(box *mailbox.Box, agent envelope.Address, loaded *mailbox.Loaded) error {
	if len(loaded.Files) > 0 && r.files == nil {
		return api.Errorf(api.BadRequest, "attachments are not taken here")
	}
	for _, file := range loaded.Files {
		f, err := box.OpenFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return api.Errorf(api.AttachmentNotFound, "attach %q: there is no such file in outbox/tmp", file.File)
		}
		if err != nil {
			return attachFailed(file, err)
		}
		a, err := r.files.Take(agent.Name, file.Name, file.MediaType, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return attachFailed(file, err)
		}
		loaded.Draft.Attachments = append(loaded.Draft.Attachments, a)
	}
	return nil
}

// attachFailed is final unless the disk has failed.
func attachFailed(file mailbox.DropFile, err error) error {
	var known *api.Error
	switch {
	case errors.As(err, &known):
		return known
	case isDisk(err) && !errors.Is(err, mailbox.ErrForeign):
		return api.Errorf(api.StorageFailed, "attach %q: %w", file.File, err)
	}
	return api.Errorf(api.BadRequest, "attach %q: %w", file.File, err)
}

// refuseDrop fails a drop, or lets it wait where trying again can help.
func (r *Router) refuseDrop(box *mailbox.Box, agent envelope.Address, loaded *mailbox.Loaded, refusal *api.Error) (wait time.Duration, block bool) {
	if refusal.Retryable() {
		r.logger.Warn("drop waits", "agent", agent.Name, "path", loaded.Name, "err", refusal)
		return cmp.Or(refusal.Retry, retryAfter), true
	}
	return r.failDrop(box, agent, loaded, refusal), false
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
	state, err := r.ledger.State(ctx, conversation)
	if err != nil {
		return false, Translate(err, r.short(conversation))
	}
	if raw.Draft.ID == "" {
		raw.Draft.ID = r.rawID(state, conversation, *raw.Draft.Raw)
	}
	if r.far(state) && (r.Answered(conversation, raw.Draft.ID, 0) || r.hasFailed(raw.Draft.From.Name, raw.Draft.ID)) {
		return true, r.adopted(conversation, raw.Draft)
	}
	if err = raw.Problem; err == nil {
		err = r.adopt(ctx, conversation, raw.Draft)
	}
	if err == nil && r.far(state) {
		return true, r.adopted(conversation, raw.Draft)
	}
	if err == nil {
		return true, nil
	}
	why := Translate(err, r.short(conversation))
	if why.Retryable() || why.Code == api.Damaged {
		return false, why
	}
	if r.far(state) {
		return true, r.refuseFarRaw(conversation, raw.Draft, why)
	}
	return true, r.refuseRaw(ctx, conversation, raw.Draft, err)
}

// rawID is the id of a line that was appended with the shell at an offset. In copies of a
// log, which are alike, several may have one there.
func (r *Router) rawID(state conv.State, conversation string, offset int64) string {
	at := strconv.FormatInt(offset, 10)
	if r.far(state) {
		return envelope.NamedID("raw", r.home.Host.ID, conversation, at)
	}
	return envelope.NamedID("raw", conversation, at)
}

// adopt stores a line that was appended with the shell.
func (r *Router) adopt(ctx context.Context, conversation string, raw *envelope.Envelope) error {
	c, err := r.roster.Local(raw.From.String())
	if err != nil {
		return err
	}
	draft := *raw
	draft.Type, draft.Conversation, draft.To = envelope.Message, conversation, nil
	out, err := r.Accept(Through(ctx, Raw), Actor{Agent: r.home.Address(c.Name), Shell: true}, &draft)
	if err == nil && out.Duplicate && !r.far(out.State) {
		err = api.Errorf(api.KeyReused, "a message with this id is in the log already, at line %d", out.Envelope.Seq)
	}
	return err
}

// refuseRaw answers a line that was appended with the shell and cannot be adopted. The
// answer is its sender's, or where it has none, the creator's.
func (r *Router) refuseRaw(ctx context.Context, conversation string, raw *envelope.Envelope, cause error) *api.Error {
	notice := &envelope.Envelope{
		ID: envelope.NewID(), Type: envelope.System, Event: envelope.EventUndeliverable, Conversation: conversation,
		About: raw.ID, Why: cause.Error(), Raw: raw.Raw,
	}
	if refusal := new(conv.Refusal); errors.As(cause, &refusal) {
		notice.Why = refusal.Text // without a reference, which holds on this host only
	}
	notice.Why = clipLine(notice.Why, maxWhy)
	if raw.From.IsZero() {
		state, _ := r.ledger.State(ctx, conversation) // it has one, or append says what is wrong
		notice.From = state.Creator
	} else {
		notice.From = r.home.Address(raw.From.Name)
		notice.To = []string{notice.From.String()}
	}
	if _, err := r.append(Actor{Agent: notice.From}, notice); err != nil {
		return Translate(err, r.short(conversation))
	}
	return nil
}

const maxWhy = 1000

// clipLine makes of a text one line of at most max bytes that an event can hold.
func clipLine(s string, max int) string {
	const more = " ..."
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) > max {
		s = strings.ToValidUTF8(s[:max-len(more)], "") + more
	}
	return s
}

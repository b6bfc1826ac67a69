package main

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// draft begins what this run's agent says. With a key the id follows from it, so
// that running the same command again changes nothing.
func (a *app) draft(kind envelope.Type, key string) (*envelope.Envelope, error) {
	self, err := a.me()
	if err != nil {
		return nil, err
	}
	e := &envelope.Envelope{ID: envelope.NewID(), Type: kind}
	if key != "" {
		e.ID = envelope.NamedID("key", strings.ToLower(self.Name), key)
	}
	if hops, err := strconv.ParseUint(a.env(hopsVariable), 10, 31); err == nil && kind == envelope.Message {
		e.Auto, e.Hops = true, int64(hops)+1
	}
	return e, nil
}

// hopsVariable tells a command of duo attend how many automatic messages led to the one
// that it runs for. What it says is automatic, too.
const hopsVariable = "DUO_HOPS"

// outcome is what became of a draft: it was posted, or it waits as a drop.
type outcome struct {
	api.Posted
	dropped *dropped
}

// dropped is a draft that waits in the outbox, as --json tells it.
type dropped struct {
	Message    *envelope.Envelope `json:"message"`
	Recipients []api.Recipient    `json:"recipients"`
	Queued     bool               `json:"queued"`
	File       string             `json:"file"`
	Why        string             `json:"why"`
}

// post sends a draft. Where no daemon can be reached it leaves a drop, which the
// next daemon sends: the id is the same, so it is stored once even if the draft
// arrived after all.
func (a *app) post(ctx context.Context, draft *envelope.Envelope) (outcome, error) {
	posted, err := insist(ctx, a, draft, func(c *client.Client) (api.Posted, error) { return c.Post(ctx, draft) })
	if !client.Unreachable(err) {
		return outcome{Posted: posted}, err
	}
	left, dropErr := a.drop(draft, err)
	if dropErr != nil {
		return outcome{}, dropErr
	}
	return outcome{dropped: left}, nil
}

const maxTries = 4 // within about a second

// insist sends a draft, and while the disk fails it does so again: the draft has an id,
// so that it is stored once. Another run of the command would make another draft.
func insist[T any](ctx context.Context, a *app, draft *envelope.Envelope, send func(*client.Client) (T, error)) (T, error) {
	if a.unsent.why != nil {
		var none T
		return none, a.unsent.why
	}
	rest := backoff
	for try := 1; ; try++ {
		answer, err := ask(ctx, a, send)
		var failed *api.Error
		switch {
		case !errors.As(err, &failed) || failed.Code != api.StorageFailed:
			return answer, err
		case try == maxTries:
			return answer, a.unknown(draft, failed)
		}
		pause(ctx, rest)
		rest *= 2
		if ctx.Err() != nil {
			return answer, ctx.Err()
		}
	}
}

// unknown is the error where nobody knows whether a draft is stored, and the draft is
// given up. With a key the next run has the same draft.
func (a *app) unknown(draft *envelope.Envelope, failed *api.Error) error {
	cause := failed.Message
	if _, behind, found := strings.Cut(cause, ": "); found { // the daemon speaks of sending the same draft again
		cause = behind
	}
	const failure = "the disk failed %d times, and it is not known whether this is stored; %s: %s"
	if _, fresh := envelope.MadeAt(draft.ID); !fresh {
		next := shellLine(append([]string{"duo"}, a.args...)...)
		return api.Errorf(api.StorageFailed, failure, maxTries, "with the same key it does no harm to run it again", cause).WithNext("%s", next)
	}
	next := "duo list"
	if draft.Conversation != "" {
		next = "duo log " + draft.Conversation
	}
	return api.Errorf(api.StorageFailed, failure, maxTries, "look before you run it again", cause).WithNext("%s", next)
}

// drop leaves a draft in the outbox, because of why.
func (a *app) drop(draft *envelope.Envelope, why error) (*dropped, error) {
	files, err := a.files()
	if err != nil {
		return nil, err
	}
	if err := files.Complete(draft); err != nil {
		return nil, err
	}
	drop := draft
	if len(a.unsent.paths) > 0 {
		box, err := mailbox.Open(files.Box().Dir())
		if err == nil {
			drop, err = a.leaveFiles(box, draft)
		}
		if err != nil {
			return nil, api.Errorf(api.DaemonUnreachable, "%w; and its files cannot be left: %w", why, err).WithNext("duo up")
		}
	}
	name := draft.ID + ".json"
	left := &dropped{
		Message: drop, Recipients: []api.Recipient{}, Queued: true, Why: why.Error(),
		File: filepath.Join(files.Box().Dir(), mailbox.OutboxNew, name),
	}
	for _, to := range draft.To {
		left.Recipients = append(left.Recipients, api.Recipient{Agent: to, State: api.Queued})
	}
	err = files.Leave(name, left.Message)
	var reused *api.Error
	switch {
	case errors.As(err, &reused):
		return nil, reused
	case err != nil:
		return nil, api.Errorf(api.DaemonUnreachable, "%w; and a drop cannot be left: %w", why, err).WithNext("duo up")
	}
	return left, nil
}

// tell says what became of a draft; done says it for one that was posted.
func (a *app) tell(o outcome, done func(api.Posted)) error {
	if o.dropped == nil {
		return a.print(o.Posted, func() { done(o.Posted) })
	}
	return a.tellDropped(o.dropped, "duo receipts "+o.dropped.Message.ID)
}

// tellDropped says that a draft waits in the outbox.
func (a *app) tellDropped(d *dropped, next string) error {
	a.note("no daemon can be reached (%s)", firstLine(d.Why))
	a.note("it waits in %s and is sent when a daemon runs", d.File)
	return a.print(d, func() { a.text().Dropped(d.Message, next) })
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

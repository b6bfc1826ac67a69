package reach

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Draft begins what the agent says. With a key the id follows from it, so that saying the
// same again changes nothing.
func (h *Host) Draft(kind envelope.Type, key string) *envelope.Envelope {
	e := &envelope.Envelope{ID: envelope.NewID(), Type: kind}
	if key != "" {
		e.ID = envelope.NamedID("key", strings.ToLower(h.Agent), key)
	}
	if h.Hops > 0 && kind == envelope.Message {
		e.Auto, e.Hops = true, h.Hops
	}
	return e
}

// Dropped is a draft that waits in the outbox, and why.
type Dropped struct {
	Message    *envelope.Envelope `json:"message"`
	Recipients []api.Recipient    `json:"recipients"`
	Queued     bool               `json:"queued"`
	File       string             `json:"file"`
	Why        string             `json:"why"`
}

// Post sends a draft to a conversation or to agents. Where no daemon can be had it leaves
// a drop, which the next daemon sends: the id is the same, so it is stored once even if
// the draft arrived after all. The drop is nil where the daemon has the draft.
func (h *Host) Post(ctx context.Context, draft *envelope.Envelope) (api.Posted, *Dropped, error) {
	return post(ctx, h, draft, (*client.Client).Post)
}

// Signal places, answers or withdraws a call, as Post posts.
func (h *Host) Signal(ctx context.Context, draft *envelope.Envelope) (api.Called, *Dropped, error) {
	send := (*client.Client).Answer
	if draft.Type == envelope.Call {
		send = (*client.Client).Call
	}
	return post(ctx, h, draft, send)
}

func post[T any](ctx context.Context, h *Host, draft *envelope.Envelope, send func(*client.Client, context.Context, *envelope.Envelope) (T, error)) (T, *Dropped, error) {
	answer, err := insist(ctx, h, draft, func(c *client.Client) (T, error) { return send(c, ctx, draft) })
	if !client.Unreachable(err) || h.live {
		return answer, nil, err
	}
	left, err := h.Drop(draft, err)
	return answer, left, err
}

const maxTries = 4 // within about a second

// insist sends a draft, and while the disk fails it does so again: the draft has an id,
// so that it is stored once.
func insist[T any](ctx context.Context, h *Host, draft *envelope.Envelope, send func(*client.Client) (T, error)) (T, error) {
	rest := backoff
	for try := 1; ; try++ {
		answer, err := Ask(ctx, h, send)
		var failed *api.Error
		switch {
		case !errors.As(err, &failed) || failed.Code != api.StorageFailed:
			return answer, err
		case try == maxTries:
			return answer, unknown(draft, failed)
		}
		Pause(ctx, rest)
		rest *= 2
		if ctx.Err() != nil {
			return answer, ctx.Err()
		}
	}
}

// unknown is the error where nobody knows whether a draft is stored, and the draft is
// given up. With a key, who says the same again has the same draft.
func unknown(draft *envelope.Envelope, failed *api.Error) error {
	cause := failed.Message
	if _, behind, found := strings.Cut(cause, ": "); found { // the daemon speaks of sending the same draft again
		cause = behind
	}
	const text = "the disk failed %d times, and it is not known whether this is stored; %s: %s"
	if _, fresh := envelope.MadeAt(draft.ID); !fresh {
		return api.Errorf(api.StorageFailed, text, maxTries, "with the same key it does no harm to run it again", cause)
	}
	next := "duo list"
	if draft.Conversation != "" {
		next = "duo log " + draft.Conversation
	}
	return api.Errorf(api.StorageFailed, text, maxTries, "look before you run it again", cause).WithNext("%s", next)
}

// Drop leaves a draft in the outbox, because of why.
func (h *Host) Drop(draft *envelope.Envelope, why error) (*Dropped, error) {
	files, err := h.Files()
	if err != nil {
		return nil, err
	}
	if err := files.Complete(draft); err != nil {
		return nil, err
	}
	drop := draft
	if h.Carry != nil {
		box, err := mailbox.Open(files.Box().Dir())
		if err == nil {
			drop, err = h.Carry(box, draft)
		}
		if err != nil {
			return nil, api.Errorf(api.DaemonUnreachable, "%w; and its files cannot be left: %w", why, err).WithNext("duo up")
		}
	}
	name := draft.ID + ".json"
	left := &Dropped{
		Message: drop, Recipients: []api.Recipient{}, Queued: true, Why: why.Error(),
		File: filepath.Join(files.Box().Dir(), mailbox.OutboxNew, name),
	}
	for _, to := range draft.To {
		left.Recipients = append(left.Recipients, api.Recipient{Agent: to, State: api.Queued})
	}
	err = files.Leave(name, drop)
	var reused *api.Error
	switch {
	case errors.As(err, &reused):
		return nil, reused
	case err != nil:
		return nil, api.Errorf(api.DaemonUnreachable, "%w; and a drop cannot be left: %w", why, err).WithNext("duo up")
	}
	return left, nil
}

const (
	longPoll = 30 * time.Second
	backoff  = 100 * time.Millisecond
	maxPause = 2 * time.Second
)

// Patiently asks again and again, each time letting the daemon wait for a step, until
// something came or the time is over. Once the daemon has answered, a restart of it
// does not end the wait.
func Patiently(ctx context.Context, total time.Duration, question func(step time.Duration) (bool, error)) (bool, error) {
	end := time.Now().Add(total)
	answered, rest := false, backoff
	for {
		left := max(0, time.Until(end))
		done, err := question(min(left, longPoll))
		switch {
		case done, err != nil && !(answered && client.Unreachable(err)):
			return done, err
		case err == nil:
			answered, rest = true, backoff
		default:
			Pause(ctx, min(rest, left))
			rest = min(2*rest, maxPause)
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if left == 0 {
			return false, err
		}
	}
}

// Pause waits, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

package main

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/maildir/envelope"
)

// draft begins what this run's agent says. With a key the id follows from it, so
// that running the same command again changes nothing.
func (a *app) draft(kind envelope.Type, key string) (*envelope.Envelope, error) {
	if _, err := a.me(); err != nil {
		return nil, err
	}
	h, err := a.host()
	if err != nil {
		return nil, err
	}
	return h.Draft(kind, key), nil
}

// hopsVariable tells a command of duo attend how many automatic messages led to the one
// that it runs for. What it says is automatic, too.
const hopsVariable = "DUO_HOPS"

// hops are those of what this run says, 0 where nothing says that it is automatic.
func (a *app) hops() int64 {
	hops, err := strconv.ParseUint(a.env(hopsVariable), 10, 31)
	if err != nil {
		return 0
	}
	return int64(hops) + 1
}

// outcome is what became of a draft: it was posted, or it waits as a drop.
type outcome struct {
	api.Posted
	dropped *reach.Dropped
}

// post sends a draft, or leaves it as a drop, as reach.Host.Post does.
func (a *app) post(ctx context.Context, draft *envelope.Envelope) (outcome, error) {
	posted, left, err := hand(ctx, a, draft, (*reach.Host).Post)
	return outcome{posted, left}, err
}

// hand gives a draft to a host. A draft of which no daemon has taken the files is left as
// a drop beside them.
func hand[T any](ctx context.Context, a *app, draft *envelope.Envelope, send func(*reach.Host, context.Context, *envelope.Envelope) (T, *reach.Dropped, error)) (answer T, left *reach.Dropped, err error) {
	h, err := a.host()
	if err != nil {
		return answer, nil, err
	}
	if why := a.unsent.why; why != nil {
		h.Carry = a.leaveFiles
		left, err = h.Drop(draft, why)
		return answer, left, err
	}
	answer, left, err = send(h, ctx, draft)
	var failed *api.Error
	if errors.As(err, &failed) && failed.Code == api.StorageFailed && failed.Next == "" {
		err = failed.WithNext("%s", shellLine(append([]string{"duo"}, a.args...)...))
	}
	return answer, left, err
}

// tell says what became of a draft; done says it for one that was posted.
func (a *app) tell(o outcome, done func(api.Posted)) error {
	if o.dropped == nil {
		return a.print(o.Posted, func() { done(o.Posted) })
	}
	return a.tellDropped(o.dropped, "duo receipts "+o.dropped.Message.ID)
}

// tellDropped says that a draft waits in the outbox.
func (a *app) tellDropped(d *reach.Dropped, next string) error {
	a.note("no daemon can be reached (%s)", firstLine(d.Why))
	a.note("it waits in %s and is sent when a daemon runs", d.File)
	return a.print(d, func() { a.text().Dropped(d.Message, next) })
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

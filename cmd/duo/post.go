package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/claude-duo/duo/cmd/duo/internal/frame"
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
	return e, nil
}

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
	posted, err := ask(ctx, a, func(c *client.Client) (api.Posted, error) { return c.Post(ctx, draft) })
	if !client.Unreachable(err) {
		return outcome{Posted: posted}, err
	}
	left, dropErr := a.drop(draft, err)
	if dropErr != nil {
		return outcome{}, dropErr
	}
	return outcome{dropped: left}, nil
}

// drop leaves a draft in the outbox, because of why.
func (a *app) drop(draft *envelope.Envelope, why error) (*dropped, error) {
	files, err := a.files()
	if err != nil {
		return nil, err
	}
	if err := files.complete(draft); err != nil {
		return nil, err
	}
	name := draft.ID + ".json"
	left := &dropped{
		Message: draft, Recipients: []api.Recipient{}, Queued: true, Why: why.Error(),
		File: filepath.Join(files.box.Dir(), mailbox.OutboxNew, name),
	}
	for _, to := range draft.To {
		left.Recipients = append(left.Recipients, api.Recipient{Agent: to, State: api.Queued})
	}
	if files.box.Waiting(draft.ID) { // the same key before
		return left, nil
	}
	box, err := mailbox.Open(files.box.Dir())
	if err == nil {
		err = box.Leave(name, draft)
	}
	if err != nil {
		return nil, api.Errorf(api.DaemonUnreachable, "%w; and a drop cannot be left: %w", why, err).WithNext("duo up")
	}
	return left, nil
}

// tell says what became of a draft; done says it for one that was posted.
func (a *app) tell(o outcome, done func(api.Posted)) error {
	if o.dropped == nil {
		return a.print(o.Posted, func() { done(o.Posted) })
	}
	a.note("no daemon can be reached (%s)", firstLine(o.dropped.Why))
	a.note("it waits in %s and is sent when a daemon runs", o.dropped.File)
	return a.print(o.dropped, func() {
		e := o.dropped.Message
		a.say("queued %s: %s%s", e.ID, e.Type, a.destination(e))
		a.next("duo receipts %s", e.ID)
	})
}

func (a *app) destination(e *envelope.Envelope) string {
	switch {
	case len(e.To) > 0:
		return " to " + a.people(e.To)
	case e.Conversation != "":
		return " in " + e.Conversation
	}
	return ""
}

// tellSent is what tell says of a message.
func (a *app) tellSent(p api.Posted) {
	verb := "sent"
	if p.Duplicate {
		verb = "was sent before:"
	}
	line := fmt.Sprintf("%s %s%s to %s", verb, a.bold(p.Message.Ref), title(p.Conversation.Topic), a.recipients(p.Recipients))
	if len(p.Recipients) == 0 {
		line = fmt.Sprintf("%s %s%s; nobody else is in the conversation yet", verb, a.bold(p.Message.Ref), title(p.Conversation.Topic))
	}
	a.say("%s", line)
	if len(p.Message.Crossed) > 0 {
		a.say("%s: you had not been shown this when you wrote", a.crossed(p.Message))
	}
}

// recipients tells each recipient's state, those with the same state together.
func (a *app) recipients(list []api.Recipient) string {
	var parts []string
	for _, state := range []string{api.Seen, api.Delivered, api.Stored, api.Queued} {
		var names []string
		for _, r := range list {
			if r.State == state {
				names = append(names, r.Agent)
			}
		}
		if len(names) > 0 {
			parts = append(parts, fmt.Sprintf("%s (%s)", a.people(names), state))
		}
	}
	return strings.Join(parts, ", ")
}

const maxPeople = 8

// people lists names, those of this host without it.
func (a *app) people(addresses []string) string {
	names := make([]string, 0, maxPeople)
	for _, address := range addresses[:min(len(addresses), maxPeople)] {
		names = append(names, a.local(address))
	}
	list := strings.Join(names, ", ")
	if more := len(addresses) - maxPeople; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// local is an address as it is shown here: without the name of this host.
func (a *app) local(address string) string {
	if a.opened != nil {
		address = strings.TrimSuffix(address, "@"+a.opened.Host.Name)
	}
	return frame.Line(address)
}

// title is a topic behind something else.
func title(topic string) string {
	if topic == "" {
		return ""
	}
	return ` "` + frame.Cut(topic, 80) + `"`
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

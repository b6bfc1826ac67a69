package attend

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const callMark = "call " // before a call in the queue

// What is done with calls.
const (
	Accept = "accept"
	Reject = "reject"
	Ignore = "ignore" // they ring, and wait for somebody else
)

// Who may call, beside agents by their names.
const (
	Anyone = "anyone"
	Known  = "known" // who is always let in, or to whom the agent has written
)

// Calls is a rule for calls. The zero value lets them be.
type Calls struct {
	Do   string   // Accept, Reject or Ignore
	From []string // of Accept: Anyone, Known, names or addresses; others are rejected
}

// CheckCaller is an error where a text is none of what stands in Calls.From.
func CheckCaller(text string) error {
	if text == Anyone || text == Known {
		return nil
	}
	if _, err := envelope.ParseAddress(text); err != nil {
		return fmt.Errorf("want %s, %s, or the name of an agent: %w", Anyone, Known, err)
	}
	return nil
}

// lookCall answers a call where it can still be answered.
func (a *Attendant) lookCall(ref string) (again time.Duration, err error) {
	if a.Calls.Do != Accept && a.Calls.Do != Reject {
		return 0, nil
	}
	r, err := a.request(ref)
	if err != nil || !a.open(r) {
		return 0, err
	}
	item := mailbox.SignalOf(r.ID, r.CreatedAt).Name
	mine, err := a.parts.Leases.Take(item)
	if err != nil {
		return 0, err
	}
	if len(mine) == 0 {
		return lookAgain, nil
	}
	defer func() {
		if returned := a.parts.Leases.Return(item); err == nil {
			err = returned
		}
	}()
	if r, err = a.request(ref); err != nil || !a.open(r) { // it was answered by who has had the lease before
		return 0, err
	}
	return 0, a.pickUp(a.runs, r)
}

func (a *Attendant) request(ref string) (api.Request, error) {
	r, err := insist(a.runs, a, func(ctx context.Context, c *client.Client) (api.Request, error) { return c.Request(ctx, ref) })
	if hasCode(err, api.RequestNotFound) {
		return api.Request{Over: true}, nil
	}
	return r, err
}

// open reports whether the agent can still accept a call.
func (a *Attendant) open(r api.Request) bool {
	return !r.Over && slices.ContainsFunc(r.Callees, func(c api.Callee) bool {
		return a.Agent.IsCalled(c.Agent) && api.CanAccept(c.State)
	})
}

// pickUp accepts or rejects a call, as the rule says. The text of a call that is accepted
// comes as a message.
func (a *Attendant) pickUp(ctx context.Context, r api.Request) error {
	draft := &envelope.Envelope{ID: envelope.NamedID("attend answers", a.Agent.Key(), r.ID), Type: envelope.Accept, Request: r.ID}
	about := Event{What: Accepted, Ref: r.Ref, From: r.From}
	welcome, err := a.welcome(ctx, r.From)
	if err != nil {
		return err
	}
	if !welcome {
		draft.Type, draft.Reason = envelope.Reject, a.Agent.Name+" takes no calls from you"
		about.What = Rejected
	}
	called, err := insist(ctx, a, func(ctx context.Context, c *client.Client) (api.Called, error) { return c.Answer(ctx, draft) })
	if hasCode(err, api.CallOver) || hasCode(err, api.RequestAnswered) {
		return nil
	}
	if err != nil {
		return err
	}
	if called.Conversation != nil {
		a.queue.Add(called.Conversation.ID)
	}
	a.tell(about)
	return nil
}

// welcome reports whether calls from somebody are accepted.
func (a *Attendant) welcome(ctx context.Context, from string) (bool, error) {
	caller, err := envelope.ParseAddress(from)
	if err != nil || a.Calls.Do != Accept {
		return false, nil
	}
	for _, who := range a.Calls.From {
		if who == Anyone {
			return true, nil
		}
		if address, err := envelope.ParseAddress(who); err == nil && who != Known {
			if address.Host == "" {
				address.Host = a.Agent.Host
			}
			if address.Same(caller) {
				return true, nil
			}
		}
	}
	if !slices.Contains(a.Calls.From, Known) {
		return false, nil
	}
	return insist(ctx, a, func(ctx context.Context, c *client.Client) (bool, error) { return a.knows(ctx, c, from) })
}

// maxShared and maxLines bound what is looked through for a word to somebody: who is not
// found to be known is not known.
const (
	maxShared = 50
	maxLines  = 500
)

// knows reports whether the agent always lets somebody in, or has written to it.
func (a *Attendant) knows(ctx context.Context, c *client.Client, other string) (bool, error) {
	contacts, err := c.Contacts(ctx)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(contacts.Allow, func(s string) bool { return strings.EqualFold(s, other) }) {
		return true, nil
	}
	shared, err := c.Conversations(ctx, "", other, maxShared)
	if err != nil {
		return false, err
	}
	for _, conversation := range shared.Conversations {
		if spoke, err := a.spoke(ctx, c, conversation.ID); spoke || err != nil {
			return spoke, err
		}
	}
	return false, nil
}

// spoke reports whether the agent has said something in a conversation of late.
func (a *Attendant) spoke(ctx context.Context, c *client.Client, id string) (bool, error) {
	lines, err := c.Transcript(ctx, id, client.Span{Last: maxLines})
	if err != nil {
		return false, err
	}
	defer lines.Close()
	messages, err := messagesOf(lines, maxLines)
	return slices.ContainsFunc(messages, func(m api.Message) bool { return m.Envelope.From.Same(a.Agent) }), err
}

// messagesOf reads the last messages among the lines of a log.
func messagesOf(lines io.Reader, last int) ([]api.Message, error) {
	data, err := io.ReadAll(io.LimitReader(lines, maxHistory))
	if err != nil {
		return nil, fmt.Errorf("read transcript: %w", err)
	}
	var list []api.Message
	for line := range bytes.Lines(data) {
		e, err := envelope.Decode(bytes.TrimSuffix(line, []byte("\n")))
		if err == nil && e.Type == envelope.Message { // what cannot be read was never said
			list = append(list, api.Message{Envelope: e})
		}
	}
	return list[max(0, len(list)-last):], nil
}

const maxHistory = 16 << 20 // bytes of a log that are looked through

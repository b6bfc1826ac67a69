package mcpserver

import (
	"context"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// place places a call.
func (c *call) place(ctx context.Context) error {
	draft := c.as.Draft(envelope.Call, c.args.text("key"))
	draft.To, draft.Topic, draft.Content = c.args.words("to"), c.args.text("topic"), c.args.text("text")
	draft.Mode, draft.TurnLimit = c.args.text("mode"), int64(c.args.whole("turnLimit", 0))
	called, dropped, err := c.as.Signal(ctx, draft)
	if err != nil {
		return err
	}
	if dropped != nil {
		return c.dropped(dropped)
	}
	c.value = called
	c.Placed(called)
	if wait := c.seconds("wait", 0); wait > 0 {
		return c.awaitAnswer(ctx, called, wait)
	}
	c.AfterPlacing(called)
	return nil
}

// outcome is what a wait for the answer to a call has found.
type outcome struct {
	api.Called
	TimedOut bool `json:"timedOut"`
}

// awaitAnswer waits for the answer to a call, and tells it. What is no acceptance is an
// error.
func (c *call) awaitAnswer(ctx context.Context, called api.Called, wait time.Duration) error {
	defer c.progress(ctx, "an answer", wait)()
	moved := func(from, to api.Request) {
		c.Say("%s %s; going on with %s to %s", from.Ref, c.Callees(from), to.Ref, c.Callees(to))
	}
	r, done, err := c.as.Answer(ctx, called.Request, wait, moved)
	if err != nil {
		return err
	}
	called.Request = r
	if r.Conversation != "" && called.Conversation == nil {
		found, err := ask(ctx, c, func(d *client.Client) (api.Found, error) { return d.Find(ctx, r.Conversation) })
		if err != nil {
			return err
		}
		called.Conversation = found.Conversation
	}
	c.value = outcome{called, !done}
	c.Answered(called)
	if !done {
		return api.Errorf(api.Pending, "no answer in %s, which is not an error; %s: %s", brief(wait), r.Ref, c.Callees(r)).
			WithNext("duo wait --for answer %s", r.Ref)
	}
	c.seen([]api.Place{{Request: r.ID}}, nil)
	return c.Declined(r)
}

func (c *call) answer(ctx context.Context) error {
	ref, kind := c.args.text("ref"), c.args.text("answer")
	if ref != "" && !maildir.NamesRequest(ref) {
		return api.Errorf(api.BadReference, "argument ref: %q is no reference to a call: want one like r77b2", ref).WithNext("duo inbox")
	}
	accept := kind == "accept"
	switch {
	case accept && c.args.has("reason"):
		return api.Errorf(api.BadRequest, "argument reason goes with reject and busy; text is the first message").WithNext("duo accept %s", ref)
	case !accept && c.args.has("text"):
		return api.Errorf(api.BadRequest, `argument text goes with accept; reason tells the caller why`).WithNext("duo reject %s", ref)
	}
	draft := c.as.Draft(envelope.Reject, c.args.text("key"))
	if accept {
		draft.Type = envelope.Accept
	}
	draft.Request, draft.Content, draft.Reason, draft.Busy = ref, c.args.text("text"), c.args.text("reason"), kind == "busy"
	called, dropped, err := c.as.Signal(ctx, draft)
	switch {
	case err != nil:
		return err
	case dropped != nil:
		return c.dropped(dropped)
	case accept:
		c.Accepted(called)
	default:
		c.Rejected(called, draft.Busy)
	}
	c.value = called
	return nil
}

func (c *call) send(ctx context.Context) error {
	draft := c.as.Draft(envelope.Message, c.args.text("key"))
	draft.Content, draft.Conversation = c.args.text("text"), c.args.text("conversation")
	if ref := draft.Conversation; ref != "" {
		if err := checkConversation(ref); err != nil {
			return err
		}
	}
	if ref := c.args.text("replyTo"); ref != "" {
		conversation, seq, err := offline.SplitRef(ref)
		switch {
		case err != nil:
			return err
		case draft.Conversation != "" && !sameConversation(draft.Conversation, conversation):
			return api.Errorf(api.BadRequest, "%s is not in the conversation %s", ref, draft.Conversation).WithNext(`duo reply %s "..."`, ref)
		}
		draft.Conversation, draft.ReplyTo.Seq = conversation, seq
	}
	if draft.Conversation == "" {
		var err error
		if draft.Conversation, err = c.current(ctx, true, `duo send --to %s "..."`); err != nil {
			return err
		}
	}
	return c.post(ctx, draft)
}

// sameConversation reports whether two references can mean one conversation: the digits
// of one end those of the other.
func sameConversation(a, b string) bool {
	a, b = strings.TrimPrefix(strings.ToLower(a), "c"), strings.TrimPrefix(strings.ToLower(b), "c")
	a, b = strings.ReplaceAll(a, "-", ""), strings.ReplaceAll(b, "-", "")
	return strings.HasSuffix(a, b) || strings.HasSuffix(b, a)
}

// checkConversation is an error where a text is no reference to a conversation.
func checkConversation(ref string) error {
	_, seq, err := offline.SplitRef(ref)
	if err == nil && seq > 0 {
		return api.Errorf(api.BadReference, "%q names a message, not a conversation", ref).WithNext(`duo reply %s "..."`, ref)
	}
	return err
}

func (c *call) message(ctx context.Context) error {
	draft := c.as.Draft(envelope.Message, c.args.text("key"))
	draft.To, draft.Topic, draft.Content = c.args.words("to"), c.args.text("topic"), c.args.text("text")
	return c.post(ctx, draft)
}

// answered is a message that was sent, and what came of waiting.
type answered struct {
	api.Posted
	Reply    *api.Message `json:"reply,omitempty"`
	TimedOut bool         `json:"timedOut"`
}

// post sends a message, says so, and waits for the reply where that is asked for.
func (c *call) post(ctx context.Context, draft *envelope.Envelope) error {
	posted, dropped, err := c.as.Post(ctx, draft)
	if err != nil {
		return err
	}
	if dropped != nil {
		return c.dropped(dropped)
	}
	c.goOnIn(posted.Conversation.ID)
	c.value = posted
	c.Sent(posted)
	wait := c.seconds("wait", 0)
	if wait == 0 || posted.Queued {
		c.AfterSending(posted)
		return nil
	}
	reply, err := c.awaitReply(ctx, posted.Message, wait)
	if reply != nil || err == nil {
		c.value = answered{posted, reply, reply == nil}
	}
	return err
}

// awaitReply waits for the reply to a message, and shows it.
func (c *call) awaitReply(ctx context.Context, m api.Message, wait time.Duration) (*api.Message, error) {
	defer c.progress(ctx, "a reply", wait)()
	reply, err := c.as.Reply(ctx, m.Envelope.Conversation, m.Envelope.Seq, wait)
	switch {
	case err != nil:
		return nil, err
	case reply == nil:
		return nil, c.noReply(ctx, m, wait)
	case reply.Envelope.Type != envelope.Message:
		return reply, api.Errorf(api.ConversationClosed, "no reply: %s", c.Headline(*reply)).WithNext("duo read %s", reply.Ref)
	}
	if _, err := c.take([]api.Message{*reply}); err != nil { // it is for who asked
		return nil, err
	}
	return reply, c.show(api.Messages{Messages: []api.Message{*reply}}, text.Bodies{}, false)
}

// noReply is the end of a wait in which nothing came.
func (c *call) noReply(ctx context.Context, m api.Message, wait time.Duration) error {
	r, err := ask(ctx, c, func(d *client.Client) (api.Receipts, error) {
		return d.Receipts(ctx, m.Envelope.Conversation, m.Envelope.Seq, "", 0)
	})
	if err != nil {
		return err
	}
	return api.Errorf(api.Pending, "no reply in %s, which is not an error; %s: %s", brief(wait), m.Ref, c.Recipients(r.Recipients)).
		WithNext("duo wait --for reply %s", m.Ref)
}

// current is the conversation that is meant where none is named: the agent's current one
// or, with guess, the only active one. Where there are several, name is the command that
// names one.
func (c *call) current(ctx context.Context, guess bool, name string) (string, error) {
	id, err := c.box().Current()
	if err != nil || id != "" {
		return id, err
	}
	list, _, err := c.conversations(ctx, "active")
	if err != nil {
		return "", err
	}
	var refs, ids []string
	for _, conversation := range list.Conversations {
		if c.isIn(conversation) {
			refs = append(refs, conversation.Ref+text.Title(conversation.Topic))
			ids = append(ids, conversation.Ref)
		}
	}
	switch {
	case len(ids) == 0:
		return "", api.Errorf(api.ConversationNotFound, "you are in no conversation").WithNext(`duo message AGENT "..."`)
	case len(ids) == 1 && guess:
		return ids[0], nil
	}
	return "", api.Errorf(api.BadRequest, "say which conversation: %s", frame.Cut(strings.Join(refs, ", "), 1000)).WithNext(name, ids[0])
}

// isIn reports whether the speaker is in a conversation, and has not left it.
func (c *call) isIn(conversation api.Conversation) bool {
	for _, text := range conversation.Participants {
		if address, err := envelope.ParseAddress(text); err == nil && c.as.Is(address) {
			return true
		}
	}
	return false
}

// goOnIn makes a conversation the current one. That it is not noted harms nothing.
func (c *call) goOnIn(id string) {
	if current, err := c.box().Current(); err == nil && current != id {
		_ = c.box().SetCurrent(id)
	}
}

func (c *call) box() *mailbox.Box { return mailbox.At(c.as.Home.AgentDir(c.as.Agent)) }

func (c *call) leave(ctx context.Context) error {
	ref := c.args.text("ref")
	if ref != "" && maildir.IsRequest(ref) {
		return c.cancel(ctx, ref)
	}
	if ref == "" {
		var err error
		if ref, err = c.current(ctx, false, "duo leave %s"); err != nil { // none that is guessed: who leaves twice leaves one
			return err
		}
	} else if err := checkConversation(ref); err != nil {
		return err
	}
	draft := c.as.Draft(envelope.Leave, "")
	draft.Conversation, draft.Content = ref, c.args.text("text")
	left, dropped, err := c.as.Post(ctx, draft)
	if err != nil {
		return err
	}
	if dropped != nil {
		return c.dropped(dropped)
	}
	c.value = left
	c.Changed(left, "left", "duo list")
	return nil
}

// cancel withdraws a call of the speaker's.
func (c *call) cancel(ctx context.Context, ref string) error {
	if c.args.has("text") {
		return api.Errorf(api.BadRequest, "argument text: a call is withdrawn without words").WithNext("duo cancel %s", ref)
	}
	draft := c.as.Draft(envelope.Cancel, "")
	draft.Request = ref
	called, dropped, err := c.as.Signal(ctx, draft)
	switch {
	case err != nil:
		return err
	case dropped != nil:
		return c.dropped(dropped)
	case called.Request.State == api.CallAccepted:
		return api.Errorf(api.RequestAnswered, "%s was accepted before: there is nothing to withdraw", called.Request.Ref).WithNext("duo leave %s", called.Request.ConversationRef)
	}
	c.value = called
	c.Cancelled(called)
	return nil
}

package mcpserver

import (
	"bufio"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/claude-duo/duo/maildir/session"
)

func (c *call) inbox(ctx context.Context) error {
	limit := c.args.whole("limit", 0)
	inbox, away, err := reach.AskOrRead(ctx, c.as.Host,
		func(d *client.Client) (api.Inbox, error) { return d.Inbox(ctx, limit) },
		func(f *offline.Files) (api.Inbox, error) { return f.Inbox(ctx, limit) })
	if err != nil {
		return err
	}
	c.away(away)
	c.Inbox(inbox)
	c.value = inbox
	return nil
}

func (c *call) read(ctx context.Context) error {
	refs := c.args.words("refs")
	for _, ref := range refs {
		if !namesRequest(ref) {
			if _, _, err := offline.SplitRef(ref); err != nil {
				return err
			}
		}
	}
	what := api.Read{Refs: refs, Limit: c.args.whole("limit", 0)}
	list, away, err := reach.AskOrRead(ctx, c.as.Host,
		func(d *client.Client) (api.Messages, error) { return d.Read(ctx, what) },
		func(f *offline.Files) (api.Messages, error) { return f.Read(ctx, what) })
	if err != nil {
		return err
	}
	c.away(away)
	keep := c.args.flag("keepUnread")
	others := 0
	if refs == nil && !keep { // to act on, not only to look at
		mine, err := c.take(list.Messages)
		if err != nil {
			return err
		}
		others = len(list.Messages) - len(mine)
		list.Messages = mine
	}
	if others > 0 {
		c.Say("%s not shown: another session of yours has it to act on", text.Count(others, "item"))
	}
	if len(list.Messages) > 0 {
		return c.show(list, text.Bodies{Whole: refs != nil}, keep)
	}
	c.value = list
	c.Say("nothing unread")
	if len(refs) > 0 && !namesRequest(refs[0]) {
		c.Next("duo log %s", refs[0])
	} else {
		c.Next("duo wait")
	}
	return nil
}

// show shows the bodies of messages. They are seen when the result was handed over: those
// that were shown whole, and no others.
func (c *call) show(list api.Messages, how text.Bodies, keep bool) error {
	shown := c.Messages(list.Messages, how)
	if !keep {
		c.see(shown)
	}
	c.value = list
	var bad []api.Message
	for _, m := range list.Messages {
		if m.Error != "" {
			bad = append(bad, m)
		}
	}
	left := len(list.Messages) - len(shown) - len(bad) + list.More
	if len(shown)+len(bad) < len(list.Messages) { // what is left is not given in another form either
		list.Messages, list.More = list.Messages[:len(shown)+len(bad)], left
		c.value = list
	}
	if len(bad) > 0 {
		return api.Errorf(api.Damaged, "%s cannot be read, %s: %s", text.Count(len(bad), "message"), bad[0].Ref, bad[0].Error).WithNext("duo fsck")
	}
	c.AfterReading(shown, left)
	return nil
}

// see has messages marked as seen when the result was handed over.
func (c *call) see(shown []api.Message) {
	var places []api.Place
	var messages []api.Message
	for _, m := range shown {
		if c.as.Is(m.Envelope.From) {
			continue
		}
		messages = append(messages, m)
		place := api.Place{Conversation: m.Envelope.Conversation, Seq: m.Envelope.Seq}
		if m.Envelope.Seq == 0 {
			place = api.Place{Request: m.Envelope.Request, Status: m.Envelope.Status}
		}
		places = append(places, place)
	}
	c.seen(places, messages)
}

const noteTime = 10 * time.Second

// seen has places marked as seen when the result was handed over; messages are the same
// ones for the files.
func (c *call) seen(places []api.Place, messages []api.Message) {
	if len(places) == 0 {
		return
	}
	host, logger := c.as.Host, c.server.Logger
	c.then = append(c.then, func(handed bool) {
		if !handed {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), noteTime)
		defer cancel()
		_, _, err := reach.AskOrRead(ctx, host,
			func(d *client.Client) (struct{}, error) { return struct{}{}, d.Shown(ctx, places) },
			func(f *offline.Files) (struct{}, error) { return struct{}{}, f.Shown(messages) })
		if err != nil {
			logger.Warn("what was shown stays unread", "agent", host.Agent, "err", err)
		}
	})
}

// take leases messages to the speaker's session, and returns those that no other session
// has. They are given back where the result cannot be handed over.
func (c *call) take(messages []api.Message) ([]api.Message, error) {
	taken := []api.Message{}
	if len(messages) == 0 {
		return taken, nil
	}
	names := make([]string, len(messages))
	signals := c.signalNames(messages)
	for i, m := range messages {
		names[i] = mailbox.ItemOf(m.Envelope.Conversation, m.Envelope.Seq, m.Envelope.Timestamp).Name
		if m.Envelope.Seq == 0 {
			names[i] = signals[m.Envelope.Request]
		}
	}
	book := session.OpenBook(c.as.Home, c.as.Agent)
	mine, err := book.Take(c.as.Holder, names)
	if err != nil {
		return nil, err
	}
	holder, logger := c.as.Holder, c.server.Logger
	c.then = append(c.then, func(handed bool) {
		if handed {
			return
		}
		if err := book.Return(holder, mine...); err != nil {
			logger.Warn("leases are not given back", "agent", c.as.Agent, "err", err)
		}
	})
	for i, m := range messages {
		if slices.Contains(mine, names[i]) {
			taken = append(taken, m)
		}
	}
	return taken, nil
}

// signalNames are the files of what the inbox tells of calls.
func (c *call) signalNames(messages []api.Message) map[string]string {
	names := make(map[string]string)
	for _, m := range messages {
		if m.Envelope.Seq == 0 {
			names[m.Envelope.Request] = mailbox.SignalOf(m.Envelope.Request, m.Envelope.Timestamp).Name
		}
	}
	if len(names) == 0 {
		return nil
	}
	signals, _ := c.box().Signals() // or it is the call's own time
	for _, s := range signals {
		names[s.Request] = s.Name
	}
	return names
}

func (c *call) wait(ctx context.Context) error {
	what, ref := c.args.text("for"), c.args.text("ref")
	wait := c.seconds("timeout", defaultWait)
	switch {
	case ref != "" && what == "" && namesRequest(ref):
		what = "answer"
	case ref != "" && what == "":
		what = "reply"
	}
	switch {
	case what == "answer":
		return c.waitAnswer(ctx, ref, wait)
	case what == "reply" && ref == "":
		return api.Errorf(api.BadRequest, "argument ref is missing: for reply needs a message like c9f3a.42").WithNext("duo wait --for reply c9f3a.42")
	case what == "reply":
		return c.waitReply(ctx, ref, wait)
	case ref != "":
		return api.Errorf(api.BadRequest, "argument ref goes with for answer and for reply; conversation names a conversation").WithNext("duo wait --conversation %s", ref)
	}
	if ref := c.args.text("conversation"); ref != "" {
		if err := checkConversation(ref); err != nil {
			return err
		}
	}
	return c.waitAny(ctx, what, wait)
}

func (c *call) waitAny(ctx context.Context, what string, wait time.Duration) error {
	query := client.Events{Conversation: c.args.text("conversation"), From: c.args.text("from"), Limit: show.Limit(0)}
	if query.From != "" {
		if err := c.checkAgent(ctx, query.From); err != nil {
			return err
		}
	}
	wanted := c.take
	switch what {
	case "message":
		query.Types = []envelope.Type{envelope.Message}
	case "call":
		query.Types = []envelope.Type{envelope.Call}
		wanted = func(list []api.Message) ([]api.Message, error) {
			return c.take(slices.DeleteFunc(list, func(m api.Message) bool { return !api.CanAccept(m.Envelope.Status) })) // not what became of one
		}
	}
	defer c.progress(ctx, "mail", wait)()
	list, err := c.as.Events(ctx, query, wait, wanted)
	switch {
	case client.Unreachable(err):
		return c.waitFiles(ctx, query, err)
	case err != nil:
		return err
	case len(list.Messages) == 0:
		return c.nothing("nothing came", wait)
	}
	list.Next = ""
	return c.show(list, text.Bodies{}, false)
}

// waitFiles shows what the files have where there is nobody who could wait.
func (c *call) waitFiles(ctx context.Context, query client.Events, why error) error {
	_, away, err := reach.AskOrRead(ctx, c.as.Host,
		func(*client.Client) (struct{}, error) { return struct{}{}, why },
		func(f *offline.Files) (struct{}, error) {
			list, err := f.Fresh(ctx, query.Conversation, query.Limit)
			if err == nil {
				list.Messages, err = c.take(list.Messages)
			}
			if err == nil && len(list.Messages) == 0 {
				err = why
			}
			if err != nil {
				return struct{}{}, err
			}
			c.away(why)
			return struct{}{}, c.show(list, text.Bodies{}, false)
		})
	_ = away
	return err
}

// nothing is the end of a wait in which nothing came.
func (c *call) nothing(what string, wait time.Duration) error {
	c.value = api.Messages{Messages: []api.Message{}, TimedOut: true}
	return api.Errorf(api.Pending, "%s in %s, which is not an error", what, brief(wait)).WithNext("duo wait")
}

// checkAgent is an error where there is no agent of that name. It asks for the address,
// which is no reference to a conversation.
func (c *call) checkAgent(ctx context.Context, name string) error {
	if !strings.Contains(name, "@") {
		name = c.as.Home.Address(name).String()
	}
	found, err := ask(ctx, c, func(d *client.Client) (api.Found, error) { return d.Find(ctx, name) })
	if err == nil && found.Agent == nil {
		return api.Errorf(api.BadRequest, "%q is no agent", name).WithNext("duo who")
	}
	if client.Unreachable(err) {
		return nil // the files tell of this host only
	}
	return err
}

// waitAnswer waits for the answer to the call that is named, or to any.
func (c *call) waitAnswer(ctx context.Context, ref string, wait time.Duration) error {
	if ref != "" && !namesRequest(ref) {
		return api.Errorf(api.BadReference, "argument ref: %q is no reference to a call: want one like r77b2", ref).WithNext("duo inbox")
	}
	if ref == "" {
		defer c.progress(ctx, "an answer", wait)()
		query := client.Events{From: c.args.text("from"), Types: []envelope.Type{envelope.Accept, envelope.Reject}, Limit: 1}
		list, err := c.as.Events(ctx, query, wait, c.take)
		if err != nil {
			return err
		}
		if len(list.Messages) == 0 {
			return c.nothing("no answer", wait)
		}
		ref = list.Messages[0].Envelope.Request
	}
	r, err := c.as.Request(ctx, ref)
	if err != nil {
		return err
	}
	if !c.as.Placed(r) {
		return api.Errorf(api.NotAllowed, "%s is not a call of yours", r.Ref).WithNext("%s", c.AfterCall(r))
	}
	return c.awaitAnswer(ctx, api.Called{Request: r}, wait)
}

func (c *call) waitReply(ctx context.Context, ref string, wait time.Duration) error {
	asked, err := c.lookUp(ctx, ref)
	if err != nil {
		return err
	}
	_, err = c.awaitReply(ctx, asked, wait)
	return err
}

// lookUp asks for the message that a reference names; a conversation means its last one.
func (c *call) lookUp(ctx context.Context, ref string) (api.Message, error) {
	if _, _, err := offline.SplitRef(ref); err != nil {
		return api.Message{}, err
	}
	found, err := ask(ctx, c, func(d *client.Client) (api.Found, error) { return d.Find(ctx, ref) })
	switch {
	case err != nil:
		return api.Message{}, err
	case found.Message != nil:
		return *found.Message, nil
	case found.Conversation != nil && found.Conversation.LastSeq > 0:
		return c.lookUp(ctx, found.Conversation.Ref+"."+strconv.FormatInt(found.Conversation.LastSeq, 10))
	}
	return api.Message{}, api.Errorf(api.BadReference, "%q names no message: want one like c9f3a.42", ref).WithNext("duo list")
}

const (
	lastLines = 20
	maxLog    = 24 << 10 // bytes of text
)

func (c *call) log(ctx context.Context) error {
	ref := c.args.text("ref")
	switch {
	case ref == "" && c.as.Agent == "":
		return api.Errorf(api.BadRequest, "argument ref is missing: an observer has no conversations of its own").WithNext("duo log c9f3a")
	case ref == "":
		return c.list(ctx)
	}
	conversation, seq, err := offline.SplitRef(ref)
	if err != nil {
		return err
	}
	span := client.Span{Last: c.args.whole("last", lastLines), Before: int64(c.args.whole("before", 0))}
	if seq > 0 { // what stands around it
		span = client.Span{After: max(0, seq-lastLines/2), Limit: lastLines}
	}
	found, messages, err := c.transcript(ctx, conversation, span)
	if err != nil {
		return err
	}
	first := c.lines(messages)
	if len(messages) == 0 {
		c.Say("no lines there: %s has %d", found.Ref, found.LastSeq)
	}
	c.value = api.Messages{Messages: messages}
	if first > 1 {
		c.Next("duo log %s --before %d", found.Ref, first)
	} else {
		c.Next(`duo send --to %s "..."`, found.Ref)
	}
	return nil
}

// lines writes lines of a log, as many of the last ones as there is room for, and returns
// the number of the first.
func (c *call) lines(messages []api.Message) (first int64) {
	size, from := 0, len(messages)
	for from > 0 && size < maxLog {
		from--
		size += min(len(messages[from].Envelope.Content), 4<<10) + 100
	}
	for i, m := range messages[from:] {
		if i == 0 {
			first = m.Envelope.Seq
		}
		c.Line(m)
	}
	return first
}

// transcript reads lines of a conversation.
func (c *call) transcript(ctx context.Context, ref string, span client.Span) (found api.Conversation, list []api.Message, err error) {
	lines, away, err := reach.AskOrRead(ctx, c.as.Host,
		func(d *client.Client) (io.ReadCloser, error) {
			what, err := d.Find(ctx, ref)
			if err != nil {
				return nil, err
			}
			if what.Conversation == nil {
				return nil, api.Errorf(api.ConversationNotFound, "%q names no conversation", ref).WithNext("duo list")
			}
			found = *what.Conversation
			return d.Transcript(ctx, found.ID, span)
		},
		func(f *offline.Files) (io.ReadCloser, error) {
			id, err := f.Resolve(ref)
			if err == nil {
				found, err = f.Conversation(id)
			}
			if err != nil {
				return nil, err
			}
			return f.Lines(found, span)
		})
	if lines == nil {
		return found, nil, err
	}
	c.away(away)
	defer lines.Close()
	in := bufio.NewReaderSize(lines, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if e, bad := envelope.Decode(line); bad == nil && e.Seq > 0 {
			list = append(list, api.Message{Envelope: e, Ref: show.Ref(found.Ref, e.Seq), Topic: found.Topic})
		}
		if errors.Is(err, io.EOF) {
			return found, list, nil
		}
		if err != nil {
			return found, list, err
		}
	}
}

// list lists the conversations of the speaker.
func (c *call) list(ctx context.Context) error {
	found, away, err := c.conversations(ctx, "")
	if err != nil {
		return err
	}
	c.away(away)
	c.Conversations(found, "duo list --limit "+strconv.Itoa(len(found.Conversations)+found.More))
	c.value = found
	return nil
}

func (c *call) conversations(ctx context.Context, status string) (api.Conversations, error, error) {
	return reach.AskOrRead(ctx, c.as.Host,
		func(d *client.Client) (api.Conversations, error) {
			return d.Conversations(ctx, status, "", c.args.whole("last", 0))
		},
		func(f *offline.Files) (api.Conversations, error) {
			return f.Conversations(show.Query{Status: status, Limit: c.args.whole("last", 0)})
		})
}

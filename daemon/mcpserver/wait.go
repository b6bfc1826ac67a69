package mcpserver

import (
	"context"
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
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
)

func (c *call) wait(ctx context.Context) error {
	what, ref := c.args.text("for"), c.args.text("ref")
	wait := c.seconds("timeout", defaultWait)
	switch {
	case ref != "" && what == "" && maildir.NamesRequest(ref):
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
	_, _, err := reach.AskOrRead(ctx, c.as.Host,
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
	if ref != "" && !maildir.NamesRequest(ref) {
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

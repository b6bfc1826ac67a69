package main

import (
	"context"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

func newShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show REF", Short: "Describe an agent, a call, a conversation or a message",
		Long: `Describe an agent, a call, a conversation, or a message without its body. It changes
nothing: duo read shows a body and marks it seen.`,
		Example: `  duo show Nova
  duo show r77b2
  duo show c9f3a
  duo show c9f3a.42`,
		Args: exactly(1), ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runShow(cmd.Context(), args[0]) },
	}
}

func (a *app) runShow(ctx context.Context, ref string) error {
	if strings.TrimSpace(ref) == "" {
		return usage("duo list", "the reference is empty")
	}
	_, _ = a.me() // unread counts are of the agent, where this run is one
	found, err := ask(ctx, a, func(c *client.Client) (api.Found, error) { return c.Find(ctx, ref) })
	if client.Unreachable(err) {
		files, offlineErr := a.offline(err)
		if offlineErr != nil {
			return offlineErr
		}
		found, err = files.Find(ctx, ref)
	}
	switch {
	case err != nil:
		return err
	case found.Agent != nil:
		return a.print(found.Agent, func() { a.tellAgent(*found.Agent) })
	case found.Request != nil:
		r := *found.Request
		r.Content, r.Data = "", nil
		return a.print(r, func() { a.tellRequest(*found.Request) })
	case found.Conversation != nil:
		return a.print(found.Conversation, func() { a.tellConversation(*found.Conversation) })
	case found.Message != nil:
		return a.print(withoutBody(*found.Message), func() { a.tellAbout(*found.Message) })
	}
	return api.Errorf(api.Internal, "the daemon found nothing for %q", ref)
}

func (a *app) tellAgent(agent api.Agent) {
	a.say("%s", a.bold(a.local(agent.Address)))
	a.field("capabilities", strings.Join(agent.Capabilities, ","))
	a.field("description", agent.Description)
	a.field("platform", agent.Platform)
	if agent.Unregistered {
		a.field("state", "unregistered")
	} else {
		a.say("state: %s", a.status(agent))
		a.field("mail", listening(agent))
	}
	if agent.Link != "" {
		a.say("host: %s, link %s", frame.Line(agent.Host), frame.Line(agent.Link))
	}
	a.field("accepts", agent.Accepts)
	a.say("open: %s", count(agent.Open, "conversation"))
	a.field("id", agent.ID)
	a.field("folder", agent.Folder)
	a.next("%s", a.reach([]api.Agent{agent}))
}

// field prints a line that describes something, unless it has nothing to say.
func (a *app) field(name, value string) {
	if value != "" {
		a.say("%s: %s", name, frame.Line(value))
	}
}

func (a *app) tellConversation(c api.Conversation) {
	a.say("%s", a.summary(c))
	a.field("creator", a.local(c.Creator)+", "+clock(c.CreatedAt, time.Now()))
	if len(c.Left) > 0 {
		a.field("left", a.people(c.Left))
	}
	a.say("messages: %d, last line %d, %s", c.Turns, c.LastSeq, clock(c.LastTime, time.Now()))
	if c.Unread > 0 {
		a.say("unread: %d", c.Unread)
	}
	a.field("id", c.ID)
	a.field("log", c.Log)
	a.next("duo log %s", c.Ref)
}

// withoutBody is a message without what only its being read shows.
func withoutBody(m api.Message) api.Message {
	e := *m.Envelope
	e.Content, e.Data, e.Unknown = "", nil, nil
	m.Envelope = &e
	return m
}

func (a *app) tellAbout(m api.Message) {
	e := m.Envelope
	a.say("%s%s", a.headline(m), title(m.Topic))
	if e.Type == envelope.Message {
		a.field("text", size(len(e.Content)))
	}
	if len(e.Data) > 0 {
		a.field("data", size(len(e.Data))+" of JSON")
	}
	a.tellAttached(m.Ref, e.Attachments)
	a.field("id", e.ID)
	a.field("conversation", e.Conversation)
	a.next("duo read %s", m.Ref)
}

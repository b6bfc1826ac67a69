package client

import (
	"context"
	"io"
	"strconv"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Health reports whether the daemon answers.
func (c *Client) Health(ctx context.Context) error {
	body, err := c.open(ctx, request{route: api.RouteHealth})
	if err != nil {
		return err
	}
	return body.Close()
}

// Status describes the daemon.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	return call[api.Status](ctx, c, request{route: api.RouteStatus})
}

// Stop asks the daemon to end. It answers before it has ended.
func (c *Client) Stop(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, request{route: api.RouteStop})
	return err
}

// Register makes an agent, or changes its card.
func (c *Client) Register(ctx context.Context, r api.Register) (api.Registered, error) {
	return call[api.Registered](ctx, c, request{route: api.RouteRegister, body: r})
}

// Unregister ends that an agent takes mail.
func (c *Client) Unregister(ctx context.Context, name string) (api.Agent, error) {
	return call[api.Agent](ctx, c, request{route: api.RouteUnregister, arg: name})
}

// Agents lists agents that match a text and have all the capabilities.
func (c *Client) Agents(ctx context.Context, text string, capabilities []string, limit int) (api.Agents, error) {
	query := values("q", text, "limit", number(limit))
	for _, s := range capabilities {
		query.Add("capability", s)
	}
	return call[api.Agents](ctx, c, request{route: api.RouteAgents, query: query})
}

// Me describes the agent that the client speaks for.
func (c *Client) Me(ctx context.Context) (api.Agent, error) {
	return call[api.Agent](ctx, c, request{route: api.RouteMe})
}

// Inbox lists what the agent has not seen.
func (c *Client) Inbox(ctx context.Context, limit int) (api.Inbox, error) {
	return call[api.Inbox](ctx, c, request{route: api.RouteInbox, query: values("limit", number(limit))})
}

// Read returns the messages that are named, or all unseen ones.
func (c *Client) Read(ctx context.Context, r api.Read) (api.Messages, error) {
	return call[api.Messages](ctx, c, request{route: api.RouteRead, body: r})
}

// Shown says that the agent was shown the bodies of messages.
func (c *Client) Shown(ctx context.Context, places []api.Place) error {
	_, err := call[struct{}](ctx, c, request{route: api.RouteShown, body: api.Shown{Messages: places}})
	return err
}

// Events says which events are asked for, and how long to wait for one.
type Events struct {
	Conversation string // reference, empty for all of the agent's
	After        *int64 // behind this seq of the conversation; nil for what is unseen
	From         string
	Type         envelope.Type
	Wait         time.Duration
	Limit        int
}

// Events returns what is new for the agent.
func (c *Client) Events(ctx context.Context, e Events) (api.Messages, error) {
	query := values("conversation", e.Conversation, "from", e.From, "type", string(e.Type),
		"wait", span(e.Wait), "limit", number(e.Limit))
	if e.After != nil {
		query.Set("after", strconv.FormatInt(*e.After, 10))
	}
	return call[api.Messages](ctx, c, request{route: api.RouteEvents, query: query, wait: e.Wait})
}

// Conversations lists conversations of the agent.
func (c *Client) Conversations(ctx context.Context, status, with string, limit int) (api.Conversations, error) {
	query := values("status", status, "with", with, "limit", number(limit))
	return call[api.Conversations](ctx, c, request{route: api.RouteConversations, query: query})
}

// Find says what a reference or a name means.
func (c *Client) Find(ctx context.Context, ref string) (api.Found, error) {
	return call[api.Found](ctx, c, request{route: api.RouteFind, arg: ref})
}

// Post sends a draft to where its type and conversation belong. With an id in the
// draft it may be repeated when the connection broke.
func (c *Client) Post(ctx context.Context, draft *envelope.Envelope) (api.Posted, error) {
	r, err := route(draft)
	if err != nil {
		return api.Posted{}, err
	}
	return call[api.Posted](ctx, c, r)
}

// Span names a part of a transcript; zero fields bound nothing.
type Span struct {
	After, Before int64
	Last, Limit   int
}

// Transcript returns lines of a conversation's log as they stand there. The caller
// closes it.
func (c *Client) Transcript(ctx context.Context, ref string, s Span) (io.ReadCloser, error) {
	query := values("after", number(s.After), "before", number(s.Before), "last", number(s.Last), "limit", number(s.Limit))
	return c.open(ctx, request{route: api.RouteTranscript, arg: ref, query: query})
}

// Receipts tells how far a message got, and waits until all recipients have come to
// the state until, or the time is over. Seq 0 is the last message of the conversation.
func (c *Client) Receipts(ctx context.Context, ref string, seq int64, until string, wait time.Duration) (api.Receipts, error) {
	query := values("seq", number(seq), "until", until, "wait", span(wait))
	return call[api.Receipts](ctx, c, request{route: api.RouteReceipts, arg: ref, query: query, wait: wait})
}

package client

import (
	"cmp"
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

// Agents lists the agents that a query selects.
func (c *Client) Agents(ctx context.Context, q api.AgentQuery) (api.Agents, error) {
	query := values("q", q.Text, "status", q.Status, "host", q.Host, "limit", number(q.Limit))
	for _, s := range q.Capabilities {
		query.Add("capability", s)
	}
	return call[api.Agents](ctx, c, request{route: api.RouteAgents, query: query})
}

// Standings lists the agents that may not do all.
func (c *Client) Standings(ctx context.Context) (api.Agents, error) {
	return call[api.Agents](ctx, c, request{route: api.RouteStandings})
}

// SetStanding gives an agent a standing, on behalf of the operator.
func (c *Client) SetStanding(ctx context.Context, name string, s api.Standing) (api.Agent, error) {
	return call[api.Agent](ctx, c, request{route: api.RouteSetStanding, arg: name, body: s})
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
	Cursor       string // instead of After: the next of an answer before
	From         string
	Types        []envelope.Type // none for all
	Request      string          // id of a call: only what is told of it
	Wait         time.Duration
	Limit        int
}

// Events returns what is new for the agent.
func (c *Client) Events(ctx context.Context, e Events) (api.Messages, error) {
	query := values("conversation", e.Conversation, "from", e.From, "request", e.Request,
		"wait", span(e.Wait), "limit", number(e.Limit))
	for _, kind := range e.Types {
		query.Add("type", string(kind))
	}
	switch {
	case e.Cursor != "":
		query.Set("after", e.Cursor)
	case e.After != nil:
		query.Set("after", strconv.FormatInt(*e.After, 10))
	}
	return call[api.Messages](ctx, c, request{route: api.RouteEvents, query: query, wait: e.Wait})
}

// Call places a call: a draft with those who are called in "to".
func (c *Client) Call(ctx context.Context, draft *envelope.Envelope) (api.Called, error) {
	return call[api.Called](ctx, c, request{route: api.RouteCall, body: draft})
}

// Answer accepts, rejects or cancels a call, as the type of the draft says. Without a
// request in the draft the only call is meant that can be answered so.
func (c *Client) Answer(ctx context.Context, draft *envelope.Envelope) (api.Called, error) {
	routes := map[envelope.Type]string{
		envelope.Accept: api.RouteAccept, envelope.Reject: api.RouteReject, envelope.Cancel: api.RouteCancel,
	}
	body := *draft
	body.Request = ""
	return call[api.Called](ctx, c, request{route: routes[draft.Type], arg: cmp.Or(draft.Request, "-"), body: &body})
}

// Requests lists the agent's calls of which something can still come.
func (c *Client) Requests(ctx context.Context) (api.Requests, error) {
	return call[api.Requests](ctx, c, request{route: api.RouteRequests})
}

// Request describes a call.
func (c *Client) Request(ctx context.Context, ref string) (api.Request, error) {
	return call[api.Request](ctx, c, request{route: api.RouteRequest, arg: ref})
}

// Match finds who fits best, and calls it.
func (c *Client) Match(ctx context.Context, m api.Match) (api.Matched, error) {
	return call[api.Matched](ctx, c, request{route: api.RouteMatch, body: m})
}

// Presence tells whether the agent is there.
func (c *Client) Presence(ctx context.Context) (api.Presence, error) {
	return call[api.Presence](ctx, c, request{route: api.RoutePresence})
}

// SetPresence says what the agent is doing.
func (c *Client) SetPresence(ctx context.Context, status, note string) (api.Presence, error) {
	return call[api.Presence](ctx, c, request{route: api.RouteSetPresence, body: api.Presence{Status: status, Note: note}})
}

// Typing tells the others in a conversation that the agent is about to say something,
// or with off, that it is no more.
func (c *Client) Typing(ctx context.Context, ref string, off bool) error {
	_, err := call[struct{}](ctx, c, request{route: api.RouteTyping, arg: ref, body: api.Typing{Off: off}})
	return err
}

// Contacts lists whom the agent blocks and whom it always lets in.
func (c *Client) Contacts(ctx context.Context) (api.Contacts, error) {
	return call[api.Contacts](ctx, c, request{route: api.RouteContacts})
}

// SetContact puts another agent on one of these lists: "block", "allow", or "" for none.
func (c *Client) SetContact(ctx context.Context, agent, list string) (api.Contacts, error) {
	return call[api.Contacts](ctx, c, request{route: api.RouteSetContact, body: api.Contact{Agent: agent, List: list}})
}

// Upload stores a file of so many bytes, and returns how a message mentions it. Where no
// media type is said, the daemon guesses it.
func (c *Client) Upload(ctx context.Context, name, mediaType string, file io.Reader, size int64) (envelope.Attachment, error) {
	return call[envelope.Attachment](ctx, c, request{
		route: api.RouteAttach, query: values("name", name), file: file, size: size, kind: mediaType,
		wait: time.Duration(size/slowest) * time.Second,
	})
}

const slowest = 1 << 20 // bytes a second, of a disk that is worth waiting for

// Attachment opens a file that a message brings. The caller closes it.
func (c *Client) Attachment(ctx context.Context, sum, message string) (io.ReadCloser, error) {
	return c.open(ctx, request{route: api.RouteAttachment, arg: sum, query: values("message", message)})
}

// Tokens lists the tokens of the home, without their secrets.
func (c *Client) Tokens(ctx context.Context) (api.Tokens, error) {
	return call[api.Tokens](ctx, c, request{route: api.RouteTokens})
}

// NewToken makes a token for an agent, or for an empty name an observer's.
func (c *Client) NewToken(ctx context.Context, agent, label string) (api.Token, error) {
	return call[api.Token](ctx, c, request{route: api.RouteNewToken, body: api.NewToken{Agent: agent, Label: label}})
}

// NewLogin makes a link by which one person signs in on the page.
func (c *Client) NewLogin(ctx context.Context, operator bool) (api.Login, error) {
	return call[api.Login](ctx, c, request{route: api.RouteNewLogin, body: api.NewLogin{Operator: operator}})
}

// RevokeToken makes a token worth nothing.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, request{route: api.RouteRevokeToken, arg: id})
	return err
}

// Conversations lists conversations of the agent.
func (c *Client) Conversations(ctx context.Context, status, with string, limit int) (api.Conversations, error) {
	query := values("status", status, "with", with, "limit", number(limit))
	return call[api.Conversations](ctx, c, request{route: api.RouteConversations, query: query})
}

// Search searches the conversations that the agent, or the operator, may read.
func (c *Client) Search(ctx context.Context, s api.Search) (api.Hits, error) {
	query := values("q", s.Query, "from", s.From, "in", s.In, "since", s.Since, "until", s.Until, "limit", number(s.Limit), "cursor", s.Cursor)
	return call[api.Hits](ctx, c, request{route: api.RouteSearch, query: query})
}

// SQL answers a question to the tables of the index.
func (c *Client) SQL(ctx context.Context, ask api.SQL) (api.Rows, error) {
	return call[api.Rows](ctx, c, request{route: api.RouteSQL, body: ask})
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

package httpd

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/desk"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) conversationRoutes(door huma.API) {
	const group = "conversations"
	draft := envelope.Envelope{}
	serve(s, door, route{api.RouteMessage, speaking, group, "sendMessage", "Write to agents", draft}, s.post(envelope.Message))
	serve(s, door, route{api.RouteCreate, speaking, group, "createConversation", "Begin a conversation about a topic", draft}, s.post(envelope.Create))
	serve(s, door, route{api.RouteConversations, reading, group, "listConversations", "List the agent's conversations; where the request speaks for no agent, all", nil}, s.conversations)
	serve(s, door, route{api.RouteConversation, reading, group, "getConversation", "Summarise a conversation", nil}, s.conversation)
	serve(s, door, route{api.RouteView, reading, group, "viewConversation", "Show a part of a conversation to a person, with its texts as HTML", nil}, s.view)
	serve(s, door, route{api.RouteSend, speaking, group, "send", "Say something in a conversation", draft}, s.postIn(envelope.Message))
	serve(s, door, route{api.RouteInvite, speaking, group, "inviteOrJoin", "Invite whom the draft names, or join where it names nobody", draft}, say[draftInRef](s, inviteOrJoin, s.accept))
	serve(s, door, route{api.RouteLeave, speaking, group, "leave", "Leave a conversation", draft}, s.postIn(envelope.Leave))
	serve(s, door, route{api.RouteClose, speaking, group, "closeConversation", "Close a conversation", draft}, s.postIn(envelope.Close))
	serve(s, door, route{api.RouteTyping, speaking, group, "typing", "Tell the others that the agent is about to say something", api.Typing{}}, s.typing)
	serve(s, door, route{api.RouteReceipts, reading, group, "getReceipts", "Tell how far a message got, and wait until it got further", nil}, s.receipts)
	serve(s, door, route{api.RouteFind, reading, group, "resolve", "Tell what a reference or a name means", nil}, s.find)
}

type listInput struct {
	Paged
	Status string `query:"status" doc:"active, closed or damaged"`
	With   string `query:"with" doc:"a participant besides the agent"`
	Text   string `query:"q" maxLength:"200" doc:"words that all stand in the topic, the reference or the addresses of participants"`
}

func (s *Server) conversations(ctx context.Context, who caller, in listInput) (api.Conversations, error) {
	cursor, err := api.ParseCursor(in.Cursor)
	if err != nil {
		return api.Conversations{}, err
	}
	q := desk.Query{Status: in.Status, With: in.With, Text: in.Text, Limit: in.Limit, Cursor: cursor}
	if who.agent == "" {
		return s.Desk.All(ctx, q)
	}
	return s.Desk.Conversations(ctx, who.agent, q)
}

// Referred names a conversation, a message, a call or an agent in its path.
type Referred struct {
	Ref string `path:"ref" doc:"a reference or a full id"`
}

func (s *Server) conversation(ctx context.Context, who caller, in Referred) (api.Conversation, error) {
	id, err := s.conversationOf(ctx, who, in.Ref)
	if err != nil {
		return api.Conversation{}, err
	}
	c, err := s.Desk.Conversation(ctx, who.agent, id)
	if err != nil {
		return api.Conversation{}, err
	}
	return s.Desk.WithLast(ctx, c), nil
}

// Drafted is the input of what an agent says.
type Drafted struct {
	withBody
	Key string `header:"Idempotency-Key" maxLength:"255" doc:"the same one again is the same message, where the draft has no id"`
}

// draftInRef is Drafted of what is said in a conversation or of a call.
type draftInRef struct {
	Drafted
	Ref string `path:"ref" doc:"a reference or a full id"`
}

// saying is the input of the routes by which an agent says something; those without a
// reference in their path have none.
type saying interface {
	parts() (d Drafted, ref string)
}

func (d Drafted) parts() (Drafted, string) { return d, "" }

func (d draftInRef) parts() (Drafted, string) { return d.Drafted, d.Ref }

// say makes a handler that reads a draft, lets aim put into it what the route says, and
// sends it.
func say[In saying, Out any](
	s *Server, aim func(draft *envelope.Envelope, ref string), send func(context.Context, caller, *envelope.Envelope) (Out, error),
) func(context.Context, caller, In) (Out, error) {
	return func(ctx context.Context, who caller, in In) (out Out, err error) {
		d, ref := in.parts()
		draft := new(envelope.Envelope)
		if len(d.RawBody) > 0 {
			draft, err = envelope.Decode(slices.Clone(d.RawBody)) // the bytes are used again for another request
		}
		if err == nil {
			err = s.identified(who, draft, d.Key)
		}
		if err != nil {
			return out, err
		}
		aim(draft, ref)
		return send(ctx, who, draft)
	}
}

// identified gives a draft the id that its key means, and refuses one that mentions files
// which its sender does not have.
func (s *Server) identified(who caller, draft *envelope.Envelope, key string) error {
	if draft.ID == "" && key != "" {
		draft.ID = envelope.NamedID("key", strings.ToLower(who.agent), key)
	}
	return s.mayAttach(who, draft)
}

// post accepts drafts of a type.
func (s *Server) post(kind envelope.Type) func(context.Context, caller, Drafted) (api.Posted, error) {
	return say[Drafted](s, func(draft *envelope.Envelope, _ string) { draft.Type = kind }, s.accept)
}

// postIn accepts drafts of a type in the conversation of the path.
func (s *Server) postIn(kind envelope.Type) func(context.Context, caller, draftInRef) (api.Posted, error) {
	return say[draftInRef](s, func(draft *envelope.Envelope, ref string) { draft.Type, draft.Conversation = kind, ref }, s.accept)
}

// inviteOrJoin makes of a draft an invitation of those whom it names, and where it names
// nobody, joining.
func inviteOrJoin(draft *envelope.Envelope, ref string) {
	draft.Type, draft.Conversation = envelope.Join, ref
	if len(draft.To)+len(draft.Participants) > 0 {
		draft.Type = envelope.Invite
	}
}

func (s *Server) accept(ctx context.Context, who caller, draft *envelope.Envelope) (api.Posted, error) {
	out, err := s.Router.Accept(ctx, s.actor(who), draft)
	if err != nil {
		return api.Posted{}, err
	}
	return s.posted(ctx, who, out), nil
}

func (s *Server) posted(ctx context.Context, who caller, out router.Outcome) api.Posted {
	p := api.Posted{
		Message:      s.stored(ctx, out),
		Conversation: s.Desk.Summary(who.agent, out.State),
		Recipients:   s.Deliver.Recipients(out.State, out.Envelope),
		Created:      out.Created, Duplicate: out.Duplicate, Queued: out.Queued,
	}
	if out.Queued {
		p.For = out.State.Creator.Host
	}
	return p
}

// stored is the message as it stands in the log, with what has crossed it. What cannot
// be told of it is left out.
func (s *Server) stored(ctx context.Context, out router.Outcome) api.Message {
	e := out.Envelope
	if out.Queued {
		return api.Message{Envelope: e, Ref: e.ID, Topic: out.State.Topic}
	}
	if out.Duplicate || e.Type == envelope.Message && e.After != nil && *e.After < e.Seq-1 {
		m, err := s.Desk.Message(ctx, out.State.ID, e.Seq)
		if err == nil {
			return m
		}
		s.Logger.Warn("stored message is not read", "conv", out.State.ID, "seq", e.Seq, "err", err)
	}
	ref := show.Ref(s.Ledger.Refs().Short(out.State.ID), e.Seq)
	return api.Message{Envelope: e, Ref: ref, Topic: out.State.Topic}
}

type typingInput struct {
	withBody
	Ref string `path:"ref" doc:"a reference or a full id"`
}

func (s *Server) typing(ctx context.Context, who caller, in typingInput) (none, error) {
	ask, err := decode[api.Typing](in.RawBody)
	if err != nil {
		return none{}, err
	}
	return none{}, s.sayTyping(ctx, who, in.Ref, ask.Off)
}

func (s *Server) sayTyping(ctx context.Context, who caller, ref string, off bool) error {
	id, err := s.conversationOf(ctx, who, ref)
	if err != nil {
		return err
	}
	return s.Router.Typing(ctx, s.Home.Address(who.agent), id, off)
}

type receiptsInput struct {
	Referred
	Waited
	Seq   int64  `query:"seq" minimum:"0" doc:"of the message; the last one where it is absent"`
	Until string `query:"until" doc:"stored, delivered or seen: wait until every recipient has got so far"`
}

func (s *Server) receipts(ctx context.Context, who caller, in receiptsInput) (api.Receipts, error) {
	switch in.Until {
	case "", api.Stored, api.Delivered, api.Seen:
	default:
		return api.Receipts{}, api.Errorf(api.BadRequest, "until: want stored, delivered or seen, got %q", in.Until)
	}
	waiting, cancel, err := s.waiting(ctx, who, in.Wait)
	if err != nil {
		return api.Receipts{}, err
	}
	defer cancel()
	text, seq, ok := maildir.SplitRef(in.Ref)
	if !ok {
		return api.Receipts{}, notMessage(in.Ref)
	}
	if in.Seq > 0 {
		seq = in.Seq
	}
	id, err := s.conversationOf(ctx, who, text)
	if message, parsed := envelope.ParseID(in.Ref); err != nil && parsed == nil && who.agent != "" {
		return s.sent(ctx, waiting, who, message, in.Until, err)
	}
	switch {
	case err != nil:
		return api.Receipts{}, err
	case in.Until == "":
		return s.Desk.Receipts(ctx, id, seq)
	}
	return s.Desk.Await(waiting, id, seq, in.Until)
}

// sent is receipts for the id of a message that the agent has sent to another host.
// Otherwise is the error where there is none.
func (s *Server) sent(ctx, waiting context.Context, who caller, id, until string, otherwise error) (r api.Receipts, err error) {
	if until == "" {
		r, err = s.Desk.Sent(ctx, who.agent, id)
	} else {
		r, err = s.Desk.AwaitSent(waiting, who.agent, id, until)
	}
	var unknown *api.Error
	if errors.As(err, &unknown) && unknown.Code == api.MessageNotFound {
		return r, otherwise
	}
	return r, err
}

func notMessage(ref string) error {
	return api.Errorf(api.BadReference, "%q is no reference to a message: want c9f3a.42", ref)
}

// find tells what a reference names: a call, a conversation, a message or an agent. An
// agent that is named like a conversation that there is, is found by its address.
func (s *Server) find(ctx context.Context, who caller, in Referred) (api.Found, error) {
	if found, err := s.requestOf(who, in.Ref); err == nil {
		return api.Found{Request: &found}, nil
	}
	name, seq, ok := maildir.SplitRef(in.Ref)
	id, err := s.conversationOf(ctx, who, name)
	var refusal *api.Error
	switch {
	case errors.As(err, &refusal) && (refusal.Code == api.ConversationNotFound || refusal.Code == api.BadReference):
		return s.findAgent(in.Ref, refusal)
	case err == nil && !ok:
		err = notMessage(in.Ref)
	}
	if err != nil {
		return api.Found{}, err
	}
	if seq > 0 {
		m, err := s.Desk.Message(ctx, id, seq)
		return api.Found{Message: &m}, err
	}
	c, err := s.Desk.Conversation(ctx, who.agent, id)
	return api.Found{Conversation: &c}, err
}

// findAgent finds the agent that a text names that names no conversation. Where it looks
// like the reference of one, otherwise is the error.
func (s *Server) findAgent(text string, otherwise *api.Error) (api.Found, error) {
	if c, ok := s.Roster.Get(strings.TrimSuffix(text, "@"+s.Home.Host.Name)); ok { // also who has unregistered
		a := s.Desk.Agent(c)
		return api.Found{Agent: &a}, nil
	}
	who, err := s.Roster.Resolve(text)
	if err != nil && otherwise.Code == api.ConversationNotFound && !strings.Contains(text, "@") {
		return api.Found{}, otherwise
	}
	if err != nil { // which says what is like it
		return api.Found{}, err
	}
	a, err := s.Desk.Who(who)
	return api.Found{Agent: &a}, err
}

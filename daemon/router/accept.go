// Package router is the one way in: whatever an agent says, through a file, the
// command, or a socket, becomes a line of a log by [Router.Accept] or is refused
// there. It also takes drops out of the outboxes and adopts lines that were appended
// to a log with the shell, both through Accept.
package router

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Reading tells what an agent was shown.
type Reading interface {
	// Shown is the highest line of a conversation that an agent was shown.
	Shown(agent, conversation string) int64
}

// Router accepts what the agents of one home say.
type Router struct {
	home    *maildir.Home
	ledger  *ledger.Ledger
	roster  *roster.Roster
	reading Reading
	logger  *slog.Logger
}

// New returns a router.
func New(home *maildir.Home, l *ledger.Ledger, agents *roster.Roster, reading Reading, logger *slog.Logger) *Router {
	return &Router{home: home, ledger: l, roster: agents, reading: reading, logger: logger}
}

// Actor is who says something.
type Actor struct {
	Agent envelope.Address
	Made  time.Time // when the draft was made, where its id does not tell
	Shell bool      // the draft stands in the log already, as a raw line
}

// Outcome is what became of a draft.
type Outcome struct {
	Envelope  *envelope.Envelope // as it stands in the log
	State     conv.State         // of the conversation after it
	Created   bool               // the conversation is new
	Duplicate bool               // the line had been there before
}

// Accept stores what an agent says, durably, or refuses it. The draft is what a drop
// says: its type, its text, and where it goes. Errors are of type *api.Error.
func (r *Router) Accept(ctx context.Context, actor Actor, draft *envelope.Envelope) (Outcome, error) {
	e := *draft
	e.From = actor.Agent
	e.Seq, e.Timestamp, e.Event, e.Origin = 0, 0, "", ""
	if !actor.Shell {
		e.Raw = nil
	}
	if e.ID == "" {
		e.ID = envelope.NewID()
	}
	out, err := r.dispatch(ctx, actor, &e)
	if err != nil {
		return Outcome{}, Translate(err, r.short(e.Conversation))
	}
	return out, nil
}

func (r *Router) dispatch(ctx context.Context, actor Actor, e *envelope.Envelope) (Outcome, error) {
	if e.Conversation != "" {
		id, err := r.Conversation(e.Conversation)
		if err != nil {
			return Outcome{}, err
		}
		e.Conversation = id
	}
	if n, limit := len(e.Content), r.home.Config.Limits.Content; n > limit {
		return Outcome{}, api.Errorf(api.TooLarge, "%d bytes of text are over the limit of %d; send a file instead", n, limit)
	}
	if err := e.Check(r.home.Config.Limits.Content); err != nil {
		return Outcome{}, err
	}
	switch e.Type {
	case envelope.Message, "":
		e.Type = envelope.Message
		return r.message(ctx, actor, e)
	case envelope.Create:
		return r.create(ctx, actor, e)
	case envelope.Join, envelope.Leave:
		return r.come(ctx, actor, e)
	case envelope.Invite:
		return r.invite(ctx, actor, e)
	case envelope.Close:
		e.Type, e.Event = envelope.System, envelope.EventClose
		return r.append(actor, e)
	}
	return Outcome{}, api.Errorf(api.BadRequest, "type %q cannot be sent; want message, create, join, invite, leave or close", e.Type)
}

func (r *Router) message(ctx context.Context, actor Actor, e *envelope.Envelope) (Outcome, error) {
	if e.Content == "" && len(e.Data) == 0 && len(e.Attachments) == 0 {
		return Outcome{}, api.Errorf(api.BadRequest, "the message is empty: field \"content\" has no text")
	}
	if e.Conversation != "" {
		return r.append(actor, e)
	}
	people, err := r.people(e.To, actor.Agent)
	if err != nil {
		return Outcome{}, err
	}
	if len(people) == 0 {
		return Outcome{}, api.Errorf(api.BadRequest, "say where it goes: \"to\" an agent, or a \"conversation\"").WithNext("duo who")
	}
	e.To = nil
	members := append([]envelope.Address{actor.Agent}, people...)
	if e.Topic != "" {
		return r.begin(ctx, actor, e, members)
	}
	return r.direct(ctx, actor, e, members)
}

// begin stores a message as the first one of a new conversation.
func (r *Router) begin(ctx context.Context, actor Actor, e *envelope.Envelope, members []envelope.Address) (Outcome, error) {
	first := r.createEvent(envelope.NamedID("topic", actor.Agent.Key(), e.ID), actor.Agent, members)
	first.Auto, first.Topic, first.Mode, first.TurnLimit = true, e.Topic, mode(e.Mode, conv.Async), e.TurnLimit
	e.Topic, e.Mode, e.TurnLimit = "", "", 0
	return r.start(ctx, actor, first, e)
}

// direct stores a message in the untitled conversation of exactly these people. Its
// id follows from who they are, so that two who write at once meet in one. When it
// was closed, or somebody has left, the next one begins.
func (r *Router) direct(ctx context.Context, actor Actor, e *envelope.Envelope, members []envelope.Address) (Outcome, error) {
	keys := make([]string, len(members))
	for i, m := range members {
		keys[i] = m.Key()
	}
	slices.Sort(keys)
	var before conv.State // the generation that is over
	for generation := 0; ; generation++ {
		names := append([]string{"direct", strconv.Itoa(generation)}, keys...)
		first := r.createEvent(envelope.NamedID(names...), actor.Agent, members)
		first.Auto, first.Mode = true, conv.Async
		state, err := r.ledger.State(ctx, first.Conversation)
		switch {
		case err == nil && (state.Closed || !exactly(state, members)):
			before = state
			continue
		case before.ID != "":
			e.Conversation = before.ID
			if out, found, err := r.stored(actor, e); found || err != nil {
				return out, err
			}
		}
		if err != nil { // there is none yet, or it is damaged and start says so
			return r.start(ctx, actor, first, e)
		}
		e.Conversation = state.ID
		return r.appendCurrent(actor, e)
	}
}

// exactly reports whether these people are in the conversation, and nobody else.
func exactly(state conv.State, people []envelope.Address) bool {
	missing := func(a envelope.Address) bool { return !state.Has(a) }
	return len(state.Present()) == len(people) && !slices.ContainsFunc(people, missing)
}

// stored looks for a message that was sent before, without sending it.
func (r *Router) stored(actor Actor, e *envelope.Envelope) (Outcome, bool, error) {
	result, state, err := r.ledger.Find(r.line(actor, e))
	if err != nil || result.Seq == 0 {
		return Outcome{}, false, err
	}
	e.Seq = result.Seq
	return Outcome{Envelope: e, State: state, Duplicate: true}, true, nil
}

// start makes a conversation with its create event and first message.
func (r *Router) start(ctx context.Context, actor Actor, first, message *envelope.Envelope) (Outcome, error) {
	message.Conversation = first.Conversation
	lines := []*envelope.Envelope{first}
	if message != first {
		lines = append(lines, message)
		if message.After == nil {
			message.After = envelope.Int(0)
		}
	}
	if n, limit := len(first.Participants), r.home.Config.Limits.Participants; n > limit {
		return Outcome{}, api.Errorf(api.TooMany, "%d participants are over the limit of %d", n, limit)
	}
	existed, err := r.ledger.Create(ctx, lines)
	if err != nil {
		return Outcome{}, err
	}
	if existed {
		message.Seq, message.Timestamp = 0, 0
		if message == first { // a repeat of a create is recognised by the conversation's id
			return r.repeated(ctx, message)
		}
		return r.appendCurrent(actor, message)
	}
	r.setCurrent(actor, first.Conversation)
	state, err := r.ledger.State(ctx, first.Conversation)
	return Outcome{Envelope: message, State: state, Created: true}, err
}

func (r *Router) repeated(ctx context.Context, first *envelope.Envelope) (Outcome, error) {
	state, err := r.ledger.State(ctx, first.Conversation)
	if err != nil {
		return Outcome{}, err
	}
	if state.Topic != first.Topic || !state.Creator.Same(first.From) {
		return Outcome{}, ledger.ErrReused
	}
	first.Seq, first.Timestamp = 1, state.CreatedAt
	return Outcome{Envelope: first, State: state, Duplicate: true}, nil
}

func (r *Router) create(ctx context.Context, actor Actor, e *envelope.Envelope) (Outcome, error) {
	if e.Topic == "" {
		return Outcome{}, api.Errorf(api.BadRequest, "a conversation needs a topic")
	}
	if e.Mode = mode(e.Mode, conv.Live); e.Mode != conv.Live && e.Mode != conv.Async {
		return Outcome{}, api.Errorf(api.BadRequest, "mode %q: want live or async", e.Mode)
	}
	people, err := r.people(e.To, actor.Agent)
	if err != nil {
		return Outcome{}, err
	}
	more, err := r.people(texts(e.Participants), actor.Agent)
	if err != nil {
		return Outcome{}, err
	}
	for _, a := range more {
		if !slices.ContainsFunc(people, a.Same) {
			people = append(people, a)
		}
	}
	first := r.createEvent(e.ID, actor.Agent, append([]envelope.Address{actor.Agent}, people...))
	first.Topic, first.Mode, first.Open, first.TurnLimit = e.Topic, e.Mode, e.Open, e.TurnLimit
	first.Unknown, first.Data = e.Unknown, e.Data
	message := first
	if e.Content != "" {
		message = &envelope.Envelope{
			ID: envelope.NamedID("first", e.ID), Type: envelope.Message, From: e.From, Content: e.Content,
		}
	}
	return r.start(ctx, actor, first, message)
}

func (r *Router) createEvent(id string, creator envelope.Address, members []envelope.Address) *envelope.Envelope {
	return &envelope.Envelope{
		ID: id, Type: envelope.System, Event: envelope.EventCreate, From: creator,
		Conversation: envelope.ConversationID(r.home.Host.ID, id), Origin: r.home.Host.ID, Participants: members,
	}
}

func mode(asked, otherwise string) string {
	if asked == "" {
		return otherwise
	}
	return asked
}

func texts(list []envelope.Address) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return out
}

// come joins or leaves. To join where one is already is no error.
func (r *Router) come(ctx context.Context, actor Actor, e *envelope.Envelope) (Outcome, error) {
	if e.Type == envelope.Leave {
		return r.append(actor, e)
	}
	out, err := r.appendCurrent(actor, e)
	var refusal *conv.Refusal
	if !errors.As(err, &refusal) || refusal.Kind != conv.AlreadyIn {
		return out, err
	}
	state, err := r.ledger.State(ctx, e.Conversation)
	member, _ := state.Member(actor.Agent)
	e.Seq = member.Joined
	return Outcome{Envelope: e, State: state, Duplicate: true}, err
}

func (r *Router) invite(ctx context.Context, actor Actor, e *envelope.Envelope) (Outcome, error) {
	people, err := r.people(append(e.To, texts(e.Participants)...), actor.Agent)
	if err != nil {
		return Outcome{}, err
	}
	if len(people) == 0 {
		return Outcome{}, api.Errorf(api.BadRequest, "say in \"to\" who is invited")
	}
	if state, err := r.ledger.State(ctx, e.Conversation); err == nil {
		if fresh := slices.DeleteFunc(slices.Clone(people), state.Has); len(fresh) > 0 {
			people = fresh
		}
	}
	e.Type, e.Event, e.To, e.Participants = envelope.System, envelope.EventInvite, nil, people
	return r.append(actor, e)
}

// people resolves names of agents, each once and without the sender.
func (r *Router) people(names []string, self envelope.Address) ([]envelope.Address, error) {
	if limit := r.home.Config.Limits.Participants; len(names) > limit {
		return nil, api.Errorf(api.TooMany, "%d recipients are over the limit of %d participants", len(names), limit)
	}
	var list []envelope.Address
	for _, name := range names {
		c, err := r.roster.Resolve(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		a := r.home.Address(c.Name)
		if a.Same(self) {
			return nil, api.Errorf(api.BadRequest, "%s cannot write to itself", self.Name).WithNext("duo who")
		}
		if !slices.ContainsFunc(list, a.Same) {
			list = append(list, a)
		}
	}
	return list, nil
}

func (r *Router) appendCurrent(actor Actor, e *envelope.Envelope) (Outcome, error) {
	out, err := r.append(actor, e)
	if err == nil {
		r.setCurrent(actor, e.Conversation)
	}
	return out, err
}

const repeatWindow = 24 * time.Hour

// append asks the ledger for a place in the log.
func (r *Router) append(actor Actor, e *envelope.Envelope) (Outcome, error) {
	if e.Conversation == "" {
		return Outcome{}, api.Errorf(api.BadRequest, "say which \"conversation\"").WithNext("duo list")
	}
	line := r.line(actor, e)
	if e.After == nil {
		e.After = envelope.Int(r.reading.Shown(actor.Agent.Name, e.Conversation))
	}
	result, state, err := r.ledger.Append(line)
	if err != nil {
		return Outcome{}, err
	}
	e.Seq, e.Timestamp = result.Seq, max(e.Timestamp, result.Timestamp)
	return Outcome{Envelope: e, State: state, Duplicate: result.Duplicate}, nil
}

// line asks for a place in the log, and says where a repeat is looked for.
func (r *Router) line(actor Actor, e *envelope.Envelope) ledger.Line {
	if e.After != nil {
		return ledger.Line{Envelope: e, After: *e.After}
	}
	return ledger.Line{Envelope: e, Since: since(actor, e.ID)}
}

// since is the time behind which a repeat of the message can stand: a day before it
// was made, in case the clock was set meanwhile.
func since(actor Actor, id string) int64 {
	made := time.Now()
	if at, ok := envelope.MadeAt(id); ok && at.Before(made) {
		made = at
	} else if !actor.Made.IsZero() && actor.Made.Before(made) {
		made = actor.Made
	}
	return made.Add(-repeatWindow).UnixMilli()
}

// setCurrent makes the conversation the one that the agent means when it names none.
func (r *Router) setCurrent(actor Actor, conversation string) {
	box := mailbox.At(r.home.AgentDir(actor.Agent.Name))
	if current, err := box.Current(); err == nil && current == conversation {
		return
	}
	if err := box.SetCurrent(conversation); err != nil {
		r.logger.Warn("current conversation is not noted", "agent", actor.Agent.Name, "conv", conversation, "err", err)
	}
}

// Conversation resolves a reference or an id.
func (r *Router) Conversation(text string) (string, error) {
	switch ids := r.ledger.Refs().Resolve(text); {
	case len(ids) == 1:
		return ids[0], nil
	case len(ids) > 1:
		near := make([]string, 0, 5)
		for _, id := range ids[:min(len(ids), 5)] {
			near = append(near, r.short(id))
		}
		return "", api.Errorf(api.AmbiguousReference, "%q can mean %d conversations", text, len(ids)).WithNear(near).WithNext("duo list")
	case len(text) != 36 && (len(text) < 5 || text[0]|0x20 != 'c'):
		return "", api.Errorf(api.BadReference, "%q is no reference to a conversation: want c and four or more hex digits, or an id", text).WithNext("duo list")
	}
	return "", api.Errorf(api.ConversationNotFound, "no conversation %q here", text).WithNext("duo list")
}

func (r *Router) short(id string) string {
	if id == "" {
		return ""
	}
	return r.ledger.Refs().Short(id)
}

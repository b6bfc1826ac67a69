// Package router is the one way in: whatever an agent says, through a file, the
// command, or a socket, becomes a line of a log by [Router.Accept] or is refused
// there. It also takes drops out of the outboxes and adopts lines that were appended
// to a log with the shell, both through Accept.
package router

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/standing"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Reading tells what an agent was shown.
type Reading interface {
	// Shown is the highest line of a conversation that an agent was shown.
	Shown(agent, conversation string) int64
}

// Switchboard takes what agents say of calls: drafts of the types call, accept, reject
// and cancel.
type Switchboard interface {
	Signal(ctx context.Context, actor Actor, e *envelope.Envelope) (Outcome, error)
}

// Signs takes signs of life.
type Signs interface {
	// Touch notes that an agent has done something.
	Touch(agent string)
	// Say notes what an agent says of itself; see card.Presence.
	Say(agent, status, note string) error
}

// Files keeps what messages bring.
type Files interface {
	// Claim refuses a message that mentions a file that is not here, and keeps the others.
	Claim(list []envelope.Attachment) error
	// Expect is Claim for a message of another host, which sends the files later.
	Expect(host, conversation string, list []envelope.Attachment) error
	// Take stores a file of an agent.
	Take(agent, name, mediaType string, from io.Reader) (envelope.Attachment, error)
}

// Router accepts what the agents of one home say.
type Router struct {
	home      *maildir.Home
	ledger    *ledger.Ledger
	roster    *roster.Roster
	reading   Reading
	signs     Signs
	typing    func(e *envelope.Envelope, to []envelope.Address)
	calls     Switchboard
	files     Files
	standings *standing.Book // nil for none
	hosts     Hosts          // nil where there are no others
	courier   Courier        // nil where there are no other hosts
	logger    *slog.Logger
	tally     Tally // may be nil
	now       func() time.Time
	directs   generations
	rates     rates
	repeats   repeats
}

// New returns a router. What is said of calls is refused until Connect.
func New(home *maildir.Home, l *ledger.Ledger, agents *roster.Roster, reading Reading, signs Signs, logger *slog.Logger) *Router {
	return &Router{home: home, ledger: l, roster: agents, reading: reading, signs: signs, logger: logger, now: time.Now}
}

// Connect gives the router a switchboard, and who passes on that somebody is typing,
// before anything is accepted.
func (r *Router) Connect(calls Switchboard, typing func(e *envelope.Envelope, to []envelope.Address)) {
	r.calls, r.typing = calls, typing
}

// Attach gives the router who keeps files. Without that it takes no message with any.
func (r *Router) Attach(files Files) { r.files = files }

// Actor is who says something.
type Actor struct {
	Agent envelope.Address
	Made  time.Time // when the draft was made, where its id does not tell
	Shell bool      // the draft stands in the log already, as a raw line

	operator bool // it is the person who runs the host
}

// Outcome is what became of a draft.
type Outcome struct {
	Envelope  *envelope.Envelope // as it stands in the log
	State     conv.State         // of the conversation after it
	Request   *call.Request      // what was said of a call
	Created   bool               // the conversation is new
	Duplicate bool               // the line had been there before
	Folded    bool               // it says the same as that line, under another id
	Queued    bool               // it waits for the host that orders the conversation, and has no line yet
}

// Accept stores what an agent says, durably, or refuses it. The draft is what a drop
// says: its type, its text, and where it goes. Errors are of type *api.Error.
func (r *Router) Accept(ctx context.Context, actor Actor, draft *envelope.Envelope) (Outcome, error) {
	e := *draft
	e.From = actor.Agent
	e.Seq, e.Timestamp, e.Event, e.Origin, e.Hosts, e.Signature = 0, 0, "", "", nil, ""
	e.Operator, e.Until = false, 0
	if actor.operator = r.roster.IsHuman(actor.Agent); actor.operator {
		e.Auto, e.Hops = false, 0
	}
	if !actor.Shell {
		e.Raw = nil
	}
	if e.ID == "" {
		e.ID = envelope.NewID()
	}
	r.signs.Touch(actor.Agent.Name)
	out, err := r.dispatch(ctx, actor, &e)
	if err != nil {
		refusal := Translate(err, r.short(e.Conversation))
		r.count(ctx, out, refusal)
		return Outcome{}, refusal
	}
	r.count(ctx, out, nil)
	return out, nil
}

func (r *Router) dispatch(ctx context.Context, actor Actor, e *envelope.Envelope) (Outcome, error) {
	if id, host, ok := splitFar(e.Conversation); ok {
		if _, err := r.ledger.State(ctx, id); e.Type == envelope.Join && errors.Is(err, ledger.ErrNotFound) {
			return r.joinFar(ctx, actor, e, id, host)
		}
		e.Conversation = id
	}
	if id, err := envelope.ParseID(e.Conversation); err == nil {
		e.Conversation = id // the ledger knows whether it is here
	} else if e.Conversation != "" {
		id, err := r.Conversation(e.Conversation)
		if err != nil {
			return Outcome{}, err
		}
		e.Conversation = id
	}
	if err := r.vet(actor.Agent, e); err != nil {
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
		return r.appendLast(actor, e)
	case envelope.Call, envelope.Accept, envelope.Reject, envelope.Cancel:
		if e.Type == envelope.Reject && e.Reason == "" { // there is no other place for a text
			e.Reason = clipLine(e.Content, envelope.MaxTopic)
		}
		return r.calls.Signal(ctx, actor, e)
	case envelope.Status:
		return r.status(actor, e)
	}
	return Outcome{}, api.Errorf(api.BadRequest, "type %q cannot be sent; want message, create, join, invite, leave, close, call, accept, reject, cancel or status", e.Type)
}

// vet refuses what an agent says too fast, and what says too much.
func (r *Router) vet(agent envelope.Address, e *envelope.Envelope) error {
	if err := r.limit(agent); err != nil {
		return err
	}
	if err := r.May(agent, e); err != nil {
		return err
	}
	if n, limit := len(e.Content), r.home.Config.Limits.Content; n > limit {
		return api.Errorf(api.TooLarge, "%d bytes of text are over the limit of %d; send a file instead", n, limit)
	}
	if err := e.Check(r.home.Config.Limits.Content); err != nil {
		return err
	}
	switch {
	case len(e.Attachments) == 0:
		return nil
	case r.files == nil:
		return api.Errorf(api.BadRequest, "attachments are not taken here")
	}
	return r.files.Claim(e.Attachments)
}

// status notes what an agent says of itself.
func (r *Router) status(actor Actor, e *envelope.Envelope) (Outcome, error) {
	note := strings.TrimRight(e.Content, "\r\n") // with which the body of a text drop ends
	if err := (card.Presence{Said: e.Status, Note: note}).Check(); err != nil || e.Status == "" {
		return Outcome{}, api.Errorf(api.BadRequest, "%w", cmp.Or(err, errors.New(`say in "status" whether you are available, busy or offline`)))
	}
	if err := r.signs.Say(actor.Agent.Name, e.Status, note); err != nil {
		return Outcome{}, err
	}
	return Outcome{Envelope: e}, nil
}

func (r *Router) message(ctx context.Context, actor Actor, e *envelope.Envelope) (Outcome, error) {
	if e.Content == "" && len(e.Data) == 0 && len(e.Attachments) == 0 {
		return Outcome{}, api.Errorf(api.BadRequest, "the message is empty: field \"content\" has no text")
	}
	if e.Conversation != "" {
		return r.say(ctx, actor, e)
	}
	people, err := r.people(e.To, actor.Agent)
	if err != nil {
		return Outcome{}, err
	}
	if len(people) == 0 {
		return Outcome{}, api.Errorf(api.BadRequest, "say where it goes: \"to\" an agent, or a \"conversation\"").WithNext("duo who")
	}
	if err := r.Admit(ctx, actor.Agent, people...); err != nil {
		return Outcome{}, err
	}
	e.To = nil
	members := append([]envelope.Address{actor.Agent}, people...)
	if e.Topic != "" {
		return r.begin(ctx, actor, e, members)
	}
	return r.direct(ctx, actor, e, members)
}

// say stores a message in a conversation. Whom it is directed to must be in it: others
// would never see it.
func (r *Router) say(ctx context.Context, actor Actor, e *envelope.Envelope) (Outcome, error) {
	state, err := r.ledger.State(ctx, e.Conversation)
	if err != nil {
		return Outcome{}, err
	}
	if err := r.notBlocked(state, actor.Agent); err != nil {
		return Outcome{}, err
	}
	if err := r.enterAsOperator(actor, state, e); err != nil {
		return Outcome{}, err
	}
	if len(e.To) == 0 {
		return r.append(actor, e)
	}
	people, err := r.people(e.To, actor.Agent)
	if err != nil {
		return Outcome{}, err
	}
	for _, a := range people {
		if !state.Has(a) {
			ref := r.short(e.Conversation)
			return Outcome{}, api.Errorf(api.NotParticipant, "%s: %s is not in the conversation", ref, a).WithNext("duo invite %s %s", ref, a.Name)
		}
	}
	if len(people)+1 >= len(state.Present()) { // all of them: it is directed to nobody
		e.To = nil
	}
	return r.append(actor, e)
}

// begin stores a message as the first one of a new conversation.
func (r *Router) begin(ctx context.Context, actor Actor, e *envelope.Envelope, members []envelope.Address) (Outcome, error) {
	first := r.createEvent(envelope.NamedID("topic", actor.Agent.Key(), e.ID), actor.Agent, members)
	first.Auto, first.Topic, first.Open, first.TurnLimit = true, e.Topic, e.Open, e.TurnLimit
	var err error
	if first.Mode, err = mode(e.Mode, conv.Async); err != nil {
		return Outcome{}, err
	}
	return r.start(ctx, actor, first, withoutTerms(e))
}

// withoutTerms is the message in an envelope that says how a conversation shall be, too.
func withoutTerms(e *envelope.Envelope) *envelope.Envelope {
	message := *e
	message.Type, message.Topic, message.Mode, message.Open, message.TurnLimit = envelope.Message, "", "", false, 0
	message.To, message.Participants = nil, nil
	return &message
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
	current := func(state conv.State) error {
		if state.Closed || !exactly(state, members) {
			return errOver
		}
		return nil
	}
	people := strings.Join(keys, " ")
	elsewhere := r.farDirect(ctx, keys, members, current)
	var before string // the generation that is over
	for generation := r.directs.last(people); ; generation++ {
		first := r.createEvent(directID(generation, keys), actor.Agent, members)
		first.Auto, first.Mode = true, conv.Async
		state, err := r.ledger.State(ctx, first.Conversation)
		if err == nil && current(state) != nil {
			before = state.ID
			continue
		}
		r.directs.note(people, generation)
		if elsewhere.ID != "" && (err != nil || elsewhere.Origin < r.home.Host.ID) {
			e.Conversation = elsewhere.ID
			return r.appendIf(actor, e, nil)
		}
		if before != "" {
			e.Conversation = before
			if out, found, err := r.stored(actor, e); found || err != nil {
				return out, err
			}
		}
		var out Outcome
		if err != nil { // there is none yet, or it is damaged and start says so
			out, err = r.start(ctx, actor, first, e)
		} else {
			e.Conversation = state.ID
			out, err = r.appendIf(actor, e, current)
		}
		if !errors.Is(err, errOver) { // by somebody who has left or closed it in this moment
			return out, err
		}
		before = first.Conversation
	}
}

var errOver = errors.New("the direct conversation of these agents is over")

// generations remembers which conversation of the same people is the current one, so
// that those before it need not be looked at. It only saves time.
type generations struct {
	mu    sync.Mutex
	known map[string]int
}

const maxGenerations = 4096

func (g *generations) last(people string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(0, g.known[people]-1) // a repeat of a message may stand in the one before
}

func (g *generations) note(people string, generation int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known == nil || len(g.known) >= maxGenerations {
		g.known = make(map[string]int)
	}
	if generation > 0 {
		g.known[people] = generation
	}
}

// exactly reports whether these people are in the conversation, and nobody else.
func exactly(state conv.State, people []envelope.Address) bool {
	missing := func(a envelope.Address) bool { return !state.Has(a) }
	return len(state.Parties()) == len(people) && !slices.ContainsFunc(people, missing)
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
		message.After = envelope.Int(0)
	}
	if n, limit := len(first.Participants), r.home.Config.Limits.Participants; n > limit {
		return Outcome{}, api.Errorf(api.TooMany, "%d participants are over the limit of %d", n, limit)
	}
	if err := r.introduce(first, conv.State{}); err != nil {
		return Outcome{}, err
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
		return r.appendIf(actor, message, nil)
	}
	r.enter(actor, first.Conversation)
	var state conv.State
	for _, line := range lines {
		state = state.Apply(line)
	}
	if r.folds(actor, message) {
		r.repeats.note(message, state, r.now())
	}
	return Outcome{Envelope: message, State: state, Created: true}, nil
}

// repeated answers a create that was there before.
func (r *Router) repeated(ctx context.Context, first *envelope.Envelope) (Outcome, error) {
	e := *first
	result, state, err := r.ledger.Find(ledger.Line{Envelope: &e})
	if err == nil && result.Seq != 1 {
		err = ledger.ErrReused
	}
	if err != nil {
		return Outcome{}, err
	}
	e.Seq, e.Timestamp = 1, state.CreatedAt
	return Outcome{Envelope: &e, State: state, Duplicate: true}, nil
}

func (r *Router) create(ctx context.Context, actor Actor, e *envelope.Envelope) (Outcome, error) {
	if e.Topic == "" {
		return Outcome{}, api.Errorf(api.BadRequest, "a conversation needs a topic")
	}
	terms, err := mode(e.Mode, conv.Live)
	if err != nil {
		return Outcome{}, err
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
	if err := r.Admit(ctx, actor.Agent, people...); err != nil {
		return Outcome{}, err
	}
	first := r.createEvent(createID(actor, e.ID), actor.Agent, append([]envelope.Address{actor.Agent}, people...))
	first.Topic, first.Mode, first.Open, first.TurnLimit = e.Topic, terms, e.Open, e.TurnLimit
	if e.Content == "" && len(e.Attachments) == 0 {
		first.Unknown, first.Data = e.Unknown, e.Data
		return r.start(ctx, actor, first, first)
	}
	message := withoutTerms(e)
	message.ID = envelope.NamedID("first", actor.Agent.Key(), e.ID)
	return r.start(ctx, actor, first, message)
}

// createID is the id of the line that makes a conversation, whose own id follows from
// it. One of version 7 is the sender's. Others are made anew, because ids of version 8
// are those that the conversations of others follow from.
func createID(actor Actor, id string) string {
	if _, ok := envelope.MadeAt(id); ok {
		return id
	}
	return envelope.NamedID("create", actor.Agent.Key(), id)
}

func (r *Router) createEvent(id string, creator envelope.Address, members []envelope.Address) *envelope.Envelope {
	return &envelope.Envelope{
		ID: id, Type: envelope.System, Event: envelope.EventCreate, From: creator,
		Conversation: envelope.ConversationID(r.home.Host.ID, id), Origin: r.home.Host.ID, Participants: members,
	}
}

func mode(asked, otherwise string) (string, error) {
	switch asked {
	case "":
		return otherwise, nil
	case conv.Live, conv.Async:
		return asked, nil
	}
	return "", api.Errorf(api.BadRequest, "mode %q: want live or async", asked)
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
		return r.appendLast(actor, e)
	}
	out, err := r.appendIf(actor, e, nil)
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
	if err := r.Admit(ctx, actor.Agent, people...); err != nil {
		return Outcome{}, err
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
		who, err := r.roster.Resolve(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		a := who.Address
		if a.Same(self) {
			return nil, api.Errorf(api.BadRequest, "%s is you: name somebody else", self.Name).WithNext("duo who")
		}
		if !slices.ContainsFunc(list, a.Same) {
			list = append(list, a)
		}
	}
	return list, nil
}

// appendIf is append on a condition, nil for none, for what makes the conversation the
// agent's current one.
func (r *Router) appendIf(actor Actor, e *envelope.Envelope, only func(conv.State) error) (Outcome, error) {
	return r.meaning(actor, e.Conversation, func() (Outcome, error) { return r.store(actor, e, only) })
}

// meaning says something in what becomes the agent's current conversation with it. It is
// that before: another host may refuse what was said, and take it back, at once.
func (r *Router) meaning(actor Actor, conversation string, say func() (Outcome, error)) (Outcome, error) {
	box := mailbox.At(r.home.AgentDir(actor.Agent.Name))
	before, err := box.Current()
	if err != nil {
		before = ""
	}
	if conversation != before {
		r.setCurrent(actor, conversation)
	}
	out, err := say()
	if err != nil && before != conversation {
		if current, err := box.Current(); err == nil && current == conversation {
			r.setCurrent(actor, before)
		}
	}
	return out, err
}

// appendLast is append for what an agent says last in a conversation.
func (r *Router) appendLast(actor Actor, e *envelope.Envelope) (Outcome, error) {
	out, err := r.append(actor, e)
	if err != nil {
		return out, err
	}
	r.forgetCurrent(actor, e.Conversation)
	return out, nil
}

// forgetCurrent makes an agent mean no conversation when it names none, where it meant this
// one.
func (r *Router) forgetCurrent(actor Actor, conversation string) {
	box := mailbox.At(r.home.AgentDir(actor.Agent.Name))
	if current, err := box.Current(); err == nil && current == conversation {
		r.setCurrent(actor, "")
	}
}

const repeatWindow = 24 * time.Hour

func (r *Router) append(actor Actor, e *envelope.Envelope) (Outcome, error) {
	return r.store(actor, e, nil)
}

// store asks the ledger for a place in the log.
func (r *Router) store(actor Actor, e *envelope.Envelope, only func(conv.State) error) (Outcome, error) {
	if e.Conversation == "" {
		return Outcome{}, api.Errorf(api.BadRequest, "say which \"conversation\"").WithNext("duo list")
	}
	folds := r.folds(actor, e)
	if folds {
		if out, ok := r.fold(e, only); ok {
			return out, nil
		}
	}
	state, err := r.ledger.State(context.Background(), e.Conversation)
	if err == nil && r.far(state) {
		return r.submit(context.Background(), actor, e, only)
	}
	e.Operator = e.Operator || actor.operator && (e.Type == envelope.Join || e.Event == envelope.EventClose)
	if err := r.introduce(e, state); err != nil {
		return Outcome{}, err
	}
	line := r.line(actor, e)
	line.Only = only
	if e.After == nil {
		e.After = envelope.Int(r.shown(actor, state))
	}
	result, state, err := r.ledger.Append(line)
	if err != nil {
		return Outcome{}, err
	}
	if e.Type == envelope.Message {
		r.link(actor, e.Conversation)
	}
	if result.Duplicate { // else it is stamped, and shared
		e.Seq = result.Seq
	} else if folds {
		r.repeats.note(e, state, r.now())
	}
	return Outcome{Envelope: e, State: state, Duplicate: result.Duplicate}, nil
}

// shown is the highest line of a conversation that an agent was shown. The operator, who
// watches, has chosen when to come in.
func (r *Router) shown(actor Actor, state conv.State) int64 {
	seq := r.reading.Shown(actor.Agent.Name, state.ID)
	if m, ok := state.Member(actor.Agent); ok && m.Operator {
		seq = max(seq, m.Joined)
	}
	return seq
}

// folds reports whether a message that says the same again is taken for this one.
func (r *Router) folds(actor Actor, e *envelope.Envelope) bool {
	return e.Auto && e.Type == envelope.Message && !actor.Shell && r.home.Config.Limits.Repeat.Duration > 0
}

// fold finds the line in which the sender has just said the same. What would not be
// taken is not folded: the append says what is wrong.
func (r *Router) fold(e *envelope.Envelope, only func(conv.State) error) (Outcome, bool) {
	state, err := r.ledger.State(context.Background(), e.Conversation)
	if err != nil || state.Closed || !state.Has(e.From) || only != nil && only(state) != nil {
		return Outcome{}, false
	}
	seq := r.repeats.of(e, state.Turns, r.now().Add(-r.home.Config.Limits.Repeat.Duration))
	if seq == 0 {
		return Outcome{}, false
	}
	e.Seq = seq
	return Outcome{Envelope: e, State: state, Duplicate: true, Folded: true}, true
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

// enter links an agent with a conversation that it has begun, and makes that its current
// one.
func (r *Router) enter(actor Actor, conversation string) {
	r.link(actor, conversation)
	r.setCurrent(actor, conversation)
}

// link links an agent with a conversation in which it has said something. Delivery makes
// the link too, but perhaps later, and consent asks whom the agent has written to.
func (r *Router) link(actor Actor, conversation string) {
	if err := mailbox.At(r.home.AgentDir(actor.Agent.Name)).Link(conversation); err != nil {
		r.logger.Warn("conversation is not linked yet", "agent", actor.Agent.Name, "conv", conversation, "err", err)
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

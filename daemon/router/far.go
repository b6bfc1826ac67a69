package router

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Hosts knows which host a name means here: one that this one is linked with, or itself.
type Hosts interface {
	HostID(name string) (id string, ok bool)
}

// Courier brings what is said to the host that gives a conversation its order.
type Courier interface {
	// Post queues a draft for the origin of its conversation, durably. It reports whether
	// the same one waits already.
	Post(ctx context.Context, origin string, e *envelope.Envelope) (waits bool, err error)
	// Leaving reports whether it waits for the origin that an agent leaves a conversation.
	Leaving(origin, conversation string, agent envelope.Address) bool
}

// Link gives the router other hosts, before anything is accepted. Without that there are
// none.
func (r *Router) Link(hosts Hosts, courier Courier) { r.hosts, r.courier = hosts, courier }

// far reports whether another host gives the conversation its order.
func (r *Router) far(state conv.State) bool {
	return state.Origin != "" && state.Origin != r.home.Host.ID
}

// introduce notes in a line that brings agents in which host each of their names means,
// where one is not of the origin. The state is that of the conversation before it.
func (r *Router) introduce(e *envelope.Envelope, state conv.State) error {
	var people []envelope.Address
	switch {
	case e.Type == envelope.Join:
		people = []envelope.Address{e.From}
	case e.Event == envelope.EventCreate || e.Event == envelope.EventInvite:
		people = e.Participants
	default:
		return nil
	}
	origin, id := r.home.Host.Name, r.home.Host.ID
	if r.far(state) {
		origin, id = state.Creator.Host, state.Origin
	}
	if !slices.ContainsFunc(people, func(a envelope.Address) bool { return a.Host != origin }) {
		return nil
	}
	e.Hosts = map[string]string{origin: id}
	for _, a := range people {
		if a.Host == origin {
			continue
		}
		id, ok := r.HostID(a.Host)
		if !ok {
			return noHost(a.Host, r.home.Host.Name)
		}
		e.Hosts[a.Host] = id
	}
	return nil
}

// HostID is the id of the host that a name means here.
func (r *Router) HostID(name string) (string, bool) {
	switch {
	case name == r.home.Host.Name:
		return r.home.Host.ID, true
	case r.hosts == nil:
		return "", false
	}
	return r.hosts.HostID(name)
}

func noHost(name, here string) *api.Error {
	return api.Errorf(api.HostNotFound, "no host named %q is linked with this one, which is %q", name, here).WithNext("duo who")
}

// submit queues what an agent says in a conversation to which another host gives its
// order. What the copy of the log here says is refused there too, is refused here.
func (r *Router) submit(ctx context.Context, actor Actor, e *envelope.Envelope, only func(conv.State) error) (Outcome, error) {
	e.Raw = nil // a place in the file that is here
	result, state, err := r.ledger.Find(r.line(actor, e))
	if err != nil {
		return Outcome{}, err
	}
	if result.Seq > 0 {
		e.Seq = result.Seq
		return Outcome{Envelope: e, State: state, Duplicate: true}, nil
	}
	if e.After == nil {
		e.After = envelope.Int(min(state.LastSeq, r.reading.Shown(actor.Agent.Name, e.Conversation)))
	}
	if r.Answered(e.Conversation, e.ID, *e.After) {
		return Outcome{}, api.Errorf(api.NotSent, "the host that orders this conversation has refused this before").WithNext("duo log %s", r.short(state.ID))
	}
	if only != nil {
		if err := only(state); err != nil {
			return Outcome{}, err
		}
	}
	if err := r.introduce(e, state); err != nil {
		return Outcome{}, err
	}
	if err := state.Check(e, conv.Limits{}); err != nil && !r.comesBack(e, state, err) { // whose limits are those of the origin
		if actor.operator {
			err = elsewhere(err, state)
		}
		return Outcome{}, err
	}
	return r.postTo(ctx, state.Origin, e, state)
}

// comesBack reports whether a join is refused only because that the agent has left before
// is still on its way to the origin.
func (r *Router) comesBack(e *envelope.Envelope, state conv.State, err error) bool {
	var refusal *conv.Refusal
	return e.Type == envelope.Join && errors.As(err, &refusal) && refusal.Kind == conv.AlreadyIn &&
		r.courier != nil && r.courier.Leaving(state.Origin, state.ID, e.From)
}

func (r *Router) postTo(ctx context.Context, origin string, e *envelope.Envelope, state conv.State) (Outcome, error) {
	if r.courier == nil {
		return Outcome{}, api.Errorf(api.HostNotFound, "the host that orders this conversation is not linked with this one").WithNext("duo peer list")
	}
	waits, err := r.courier.Post(ctx, origin, e)
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Envelope: e, State: state, Duplicate: waits, Queued: true}, nil
}

// joinFar joins an open conversation of which nothing is here: "ID@host" says where it is.
func (r *Router) joinFar(ctx context.Context, actor Actor, e *envelope.Envelope, id, host string) (Outcome, error) {
	e.Conversation, e.After = id, envelope.Int(0)
	if err := r.vet(actor.Agent, e); err != nil {
		return Outcome{}, err
	}
	origin, ok := r.HostID(host)
	switch {
	case !ok:
		return Outcome{}, noHost(host, r.home.Host.Name)
	case origin == r.home.Host.ID:
		return Outcome{}, api.Errorf(api.ConversationNotFound, "no conversation %q here", id).WithNext("duo list")
	}
	state := conv.State{ID: id, Origin: origin, Creator: envelope.Address{Host: host}}
	if err := r.introduce(e, state); err != nil {
		return Outcome{}, err
	}
	return r.meaning(actor, id, func() (Outcome, error) { return r.postTo(ctx, origin, e, state) })
}

// farDirect is the untitled conversation of exactly these people that one of their other
// hosts has begun and that is not over; its ID is empty for none. Where two hosts have
// begun one, all of them take that of the host with the smaller id.
func (r *Router) farDirect(ctx context.Context, keys []string, members []envelope.Address, current func(conv.State) error) (found conv.State) {
	tried := []string{r.home.Host.ID}
	for _, a := range members {
		origin, ok := r.HostID(a.Host)
		if !ok || slices.Contains(tried, origin) {
			continue
		}
		tried = append(tried, origin)
		for generation := 0; ; generation++ {
			state, err := r.ledger.State(ctx, envelope.ConversationID(origin, directID(generation, keys)))
			if err != nil {
				break
			}
			if current(state) == nil && (found.ID == "" || origin < found.Origin) {
				found = state
			}
		}
	}
	return found
}

// directID is the id of the line that begins an untitled conversation of people.
func directID(generation int, keys []string) string {
	return envelope.NamedID(append([]string{"direct", strconv.Itoa(generation)}, keys...)...)
}

// splitFar reads "ID@host", as a conversation is named that is not here.
func splitFar(text string) (id, host string, ok bool) {
	text, host, ok = strings.Cut(text, "@")
	id, err := envelope.ParseID(text)
	return id, host, ok && err == nil && envelope.CheckHost(host) == nil
}

// Receive stores what an agent of another host says in a conversation to which this one
// gives its order. Who calls it knows that the agent's host has said so. What its own
// agents do not want, and what the rules of the conversation refuse, is refused here.
func (r *Router) Receive(ctx context.Context, e *envelope.Envelope) (ledger.Result, conv.State, error) {
	state, err := r.ledger.State(ctx, e.Conversation)
	if err != nil {
		return ledger.Result{}, state, err
	}
	if state.ID == "" || r.far(state) {
		return ledger.Result{}, state, ledger.ErrNotFound
	}
	if n, limit := len(e.Content), r.home.Config.Limits.Content; n > limit {
		return ledger.Result{}, state, api.Errorf(api.TooLarge, "%d bytes of text are over the limit of %d", n, limit)
	}
	if result, _, err := r.ledger.Find(ledger.Line{Envelope: e, After: *e.After}); err != nil || result.Seq > 0 {
		return result, state, err
	}
	if err := r.receivable(ctx, e, state); err != nil {
		return ledger.Result{}, state, err
	}
	if err := r.expect(e); err != nil {
		return ledger.Result{}, state, err
	}
	return r.ledger.Append(ledger.Line{Envelope: e, After: *e.After})
}

// expect sees to it that the files come that a message of another host brings.
func (r *Router) expect(e *envelope.Envelope) error {
	switch {
	case len(e.Attachments) == 0:
		return nil
	case r.files == nil:
		return api.Errorf(api.BadRequest, "attachments are not taken here")
	}
	return r.files.Expect(e.From.Host, e.Conversation, e.Attachments)
}

// receivable refuses what an agent of another host cannot say.
func (r *Router) receivable(ctx context.Context, e *envelope.Envelope, state conv.State) error {
	if err := r.May(e.From, e); err != nil {
		return err
	}
	switch {
	case e.Type == envelope.Message:
		return r.notBlocked(state, e.From)
	case e.Type == envelope.Leave, e.Event == envelope.EventClose:
		return nil
	case e.Type == envelope.Join:
		return r.introduced(e, []envelope.Address{e.From})
	case e.Event == envelope.EventInvite:
		if err := r.introduced(e, e.Participants); err != nil {
			return err
		}
		for _, a := range e.Participants {
			if err := r.Accepts(ctx, a, e.From); err != nil && !state.Has(a) {
				return err
			}
		}
		return nil
	case e.Event == envelope.EventUndeliverable:
		return r.declines(ctx, e)
	}
	return api.Errorf(api.BadRequest, "type %q, event %q cannot be said by an agent of another host", e.Type, e.Event)
}

// declines refuses an undeliverable that is not by somebody whom the line in front of it,
// which it is about, has brought in, and to who has done that: an agent of another host
// has nothing else to say of what comes to nobody.
func (r *Router) declines(ctx context.Context, e *envelope.Envelope) error {
	return r.ledger.Read(ctx, e.Conversation, func(v ledger.View) error {
		line, err := v.At(*e.After)
		if err != nil && !errors.Is(err, convlog.ErrNoLine) {
			return err
		}
		said := line.Envelope
		if err != nil || said.ID != e.About || !slices.ContainsFunc(said.Participants, e.From.Same) || len(e.To) != 1 || !strings.EqualFold(e.To[0], said.From.String()) {
			return &conv.Refusal{Kind: conv.NotParticipant, Text: "it answers nothing that has brought it in"}
		}
		return nil
	})
}

// OneLine makes of a text by another host one line of bounded length, of characters that
// can be seen.
func OneLine(s string) string {
	return clipLine(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || unicode.IsSpace(r) {
			return r
		}
		return '?'
	}, s), maxWhy)
}

// Accepts refuses to bring an agent of this host into a conversation where it is not
// here, or does not want that from an agent. What those of other hosts want, their hosts
// know.
func (r *Router) Accepts(ctx context.Context, agent, from envelope.Address) error {
	if agent.Host == r.home.Host.Name {
		if c, ok := r.roster.Get(agent.Name); !ok || c.Unregistered {
			return api.Errorf(api.AgentNotFound, "no agent named %q at %s", agent.Name, agent.Host)
		}
	}
	return r.Admit(ctx, from, agent)
}

// introduced reports whether a line says of the hosts of those whom it brings in what is
// known of them here.
func (r *Router) introduced(e *envelope.Envelope, people []envelope.Address) error {
	want := map[string]string{r.home.Host.Name: r.home.Host.ID}
	far := false
	for _, a := range people {
		id, ok := r.HostID(a.Host)
		if !ok {
			return noHost(a.Host, r.home.Host.Name)
		}
		far = far || a.Host != r.home.Host.Name
		want[a.Host] = id
	}
	if far && !maps.Equal(want, e.Hosts) || !far && len(e.Hosts) > 0 {
		return api.Errorf(api.BadRequest, "field \"hosts\" says something else than this host knows")
	}
	return nil
}

// adopted notes that a line that was appended with the shell to a copy of a log is dealt
// with. Nothing in the log tells that; where it is forgotten, the same is found again by
// its id.
func (r *Router) adopted(conversation string, raw *envelope.Envelope) *api.Error {
	if err := r.ledger.Adopted(conversation, *raw.Raw); err != nil {
		return Translate(err, r.short(conversation))
	}
	return nil
}

// refuseFarRaw tells the sender of a line that was appended with the shell to a copy of
// a log why it cannot be adopted.
func (r *Router) refuseFarRaw(conversation string, raw *envelope.Envelope, why *api.Error) *api.Error {
	r.logger.Warn("raw line is refused", "agent", raw.From.Name, "conv", conversation, "err", why)
	if who, err := r.roster.Resolve(raw.From.String()); err == nil && who.Far == nil {
		if err := r.bounce(who.Card.Name, raw, why); err != nil {
			return Translate(err, r.short(conversation))
		}
	}
	return r.adopted(conversation, raw)
}

// UndeliverableID is the id of the line that says why a message was refused.
func UndeliverableID(message string) string { return envelope.NamedID("undeliverable", message) }

// Answered reports whether the log says, behind a line, why a message was refused.
func (r *Router) Answered(conversation, message string, after int64) bool {
	seq, err := r.ledger.Seq(conversation, UndeliverableID(message), after)
	return err == nil && seq > 0
}

// hasFailed reports whether an agent was told already that a message was not sent.
func (r *Router) hasFailed(agent, id string) bool {
	_, failed := r.box(agent).Bounced(id)
	return failed
}

// Bounce tells an agent of this host that what it has said was refused elsewhere: it
// finds it in outbox/failed. Doing it twice changes nothing.
func (r *Router) Bounce(agent string, e *envelope.Envelope, why *api.Error) error {
	if _, ok := r.roster.Get(agent); !ok {
		return nil
	}
	if e.Type == envelope.Join {
		r.forgetCurrent(Actor{Agent: e.From}, e.Conversation)
	}
	return r.bounce(agent, e, why)
}

func (r *Router) bounce(agent string, e *envelope.Envelope, why *api.Error) error {
	return r.box(agent).Bounce(e, mailbox.Stamp{ID: e.ID, Error: why.Message, Near: why.Near})
}

func (r *Router) box(agent string) *mailbox.Box { return mailbox.At(r.home.AgentDir(agent)) }

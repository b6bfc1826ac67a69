// Package desk answers what agents ask: what is in my inbox, what was said, who is
// there. Asking changes nothing.
package desk

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/daemon/standing"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	settleWithin = 2 * time.Second
	maxLooks     = 2000 // at conversations, for one page
)

// Calls tells how far calls are; daemon/switchboard does.
type Calls interface {
	Refs() *maildir.Refs
	// Told is what an agent is told of the call that a reference means.
	Told(agent envelope.Address, ref string) (*envelope.Envelope, error)
	// List is the requests of an agent of which something can still come, oldest first.
	List(agent envelope.Address) []call.Request
}

// Queue tells of what was queued for other hosts; daemon/courier does.
type Queue interface {
	// Find tells what is known of a message that was queued here: the envelope while it
	// waits, else where it stands.
	Find(id string) (waiting *envelope.Envelope, conversation string, seq int64, ok bool)
}

// Link gives the desk what was queued for other hosts, before it is asked anything.
func (d *Desk) Link(q Queue) { d.queue = q }

// Parts are what a desk knows from.
type Parts struct {
	Home     *maildir.Home
	Ledger   *ledger.Ledger
	Deliver  *deliver.Deliverer
	Roster   *roster.Roster
	Presence *presence.Book
	Calls    Calls
	Wake     func(agent string) string                // how an agent learns of what comes; nil where nobody knows
	Standing func(envelope.Address) standing.Standing // what agents may do; nil where they may do all
}

// Desk answers questions about one home.
type Desk struct {
	home     *maildir.Home
	ledger   *ledger.Ledger
	deliver  *deliver.Deliverer
	roster   *roster.Roster
	presence *presence.Book
	calls    Calls
	wake     func(agent string) string
	standing func(envelope.Address) standing.Standing
	queue    Queue // nil where there are no other hosts
}

// New returns a desk.
func New(p Parts) *Desk {
	return &Desk{home: p.Home, ledger: p.Ledger, deliver: p.Deliver, roster: p.Roster, presence: p.Presence, calls: p.Calls, wake: p.Wake, standing: p.Standing}
}

// Settle waits, for a bounded time, until what was stored before is delivered, so
// that whoever asks after a send finds its effect.
func (d *Desk) Settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	_ = d.deliver.Settle(ctx) // late answers are better than none
}

// Agent describes an agent.
func (d *Desk) Agent(c card.Card) api.Agent {
	a := show.Agent(d.home, c, d.deliver.Unread(c.Name, ""))
	a.Listening = d.deliver.Listening(c.Name)
	p := d.presence.Of(c.Name)
	a.Status, a.Note, a.Since, a.LastSeen = string(p.State), p.Note, p.Since, p.LastSeen
	a.Open = d.deliver.Open(c.Name)
	if d.wake != nil {
		a.Wake = d.wake(c.Name)
	}
	return d.stand(a, d.home.Address(c.Name))
}

// AgentAt describes the agent with an address, also one that has unregistered.
func (d *Desk) AgentAt(a envelope.Address) (api.Agent, error) {
	if c, ok := d.roster.Get(a.Name); ok && a.Host == d.home.Host.Name {
		return d.Agent(c), nil
	}
	who, err := d.roster.Resolve(a.String())
	if err != nil {
		return api.Agent{}, err
	}
	return d.describe(who), nil
}

// stand adds what an agent may do.
func (d *Desk) stand(a api.Agent, address envelope.Address) api.Agent {
	if d.standing == nil {
		return show.Standing(a, standing.Standing{})
	}
	return show.Standing(a, d.standing(address))
}

// Who describes an agent of this host or of another one. Of one that its host has not
// told of there is nothing to say.
func (d *Desk) Who(w show.Who) (api.Agent, error) {
	if w.Untold {
		return api.Agent{}, api.Errorf(api.HostUnreachable, "host %q has told of no agent %q, and is out of reach now", w.Address.Host, w.Address.Name).
			WithNext("duo who --host %s", w.Address.Host)
	}
	return d.describe(w), nil
}

func (d *Desk) describe(w show.Who) api.Agent {
	if w.Far != nil {
		return d.stand(*w.Far, w.Address)
	}
	if w.Untold {
		return d.stand(api.Agent{Name: w.Address.Name, Address: w.Address.String(), Host: w.Address.Host, Link: api.LinkDown, Capabilities: []string{}}, w.Address)
	}
	return d.Agent(w.Card)
}

// Agents lists the agents that a query selects: those of this host, then those of others.
func (d *Desk) Agents(ctx context.Context, q api.AgentQuery) (api.Agents, error) {
	d.Settle(ctx)
	all, err := d.roster.At(q.Host)
	return show.Agents(all, q, d.describe), err
}

// Best lists whom a match of an agent can call, the best first.
func (d *Desk) Best(ctx context.Context, agent string, ask api.Match) []api.Agent {
	d.Settle(ctx)
	self := d.home.Address(agent)
	others := slices.DeleteFunc(d.roster.Everybody(), func(w show.Who) bool { return w.Address.Same(self) })
	return show.Best(others, ask, d.describe)
}

// Conversation summarises a conversation, for an agent that may be nobody.
func (d *Desk) Conversation(ctx context.Context, agent, id string) (api.Conversation, error) {
	state, err := d.ledger.State(ctx, id)
	var damage *convlog.DamageError
	if err != nil && !errors.As(err, &damage) {
		return api.Conversation{}, err
	}
	state.ID = id // which the state does not know where the first line is damaged
	c := d.Summary(agent, state)
	if damage != nil {
		c = show.Damaged(c, damage)
	}
	return c, nil
}

// Summary is Conversation for a state that is known.
func (d *Desk) Summary(agent string, state conv.State) api.Conversation {
	unread := 0
	if agent != "" {
		unread = d.deliver.Unread(agent, state.ID)
	}
	return show.Conversation(d.home, d.ledger.Refs().Short(state.ID), state, unread)
}

// Query selects conversations.
type Query = show.Query

// Conversations lists the conversations of an agent, the latest first.
func (d *Desk) Conversations(ctx context.Context, agent string, q Query) (api.Conversations, error) {
	d.Settle(ctx)
	box := mailbox.At(d.home.AgentDir(agent))
	ids, err := box.Conversations()
	if err != nil {
		return api.Conversations{}, err
	}
	current, err := box.Current()
	if err != nil {
		return api.Conversations{}, err
	}
	list := []api.Conversation{}
	for _, id := range ids {
		c, err := d.Conversation(ctx, agent, id)
		if err != nil { // a link to a log that is not there
			continue
		}
		c.Current = c.ID == current
		list = append(list, c)
	}
	out := show.Conversations(list, q)
	d.addLast(ctx, out.Conversations)
	return out, nil
}

// addLast adds their last lines to conversations.
func (d *Desk) addLast(ctx context.Context, list []api.Conversation) {
	for i, c := range list {
		list[i] = d.WithLast(ctx, c)
	}
}

// WithLast adds its last line to a conversation. Of one that cannot be read nothing is
// told.
func (d *Desk) WithLast(ctx context.Context, c api.Conversation) api.Conversation {
	if c.LastSeq == 0 {
		return c
	}
	if e, err := d.line(ctx, c.ID, c.LastSeq); err == nil {
		c.Last = show.Last(e)
	}
	return c
}

// All lists the conversations of the host, those first whose logs have changed last. It
// looks at no more of them than the page needs, and gives a page that is not full rather
// than look at very many of which none fits; more counts those that it has not looked at.
func (d *Desk) All(ctx context.Context, q Query) (api.Conversations, error) {
	ids, err := d.ledger.Latest()
	if err != nil {
		return api.Conversations{}, err
	}
	at := api.Behind(ids, q.Cursor, func(id string) string { return id })
	ids = ids[at:]
	limit, looked := Limit(q.Limit), 0
	list := []api.Conversation{}
	for ; looked < min(len(ids), maxLooks) && len(list) < limit; looked++ {
		c, err := d.Conversation(ctx, "", ids[looked])
		switch {
		case ctx.Err() != nil:
			return api.Conversations{}, ctx.Err()
		case err == nil && q.Takes(c): // else its log cannot be opened, or is gone
			list = append(list, c)
		}
	}
	d.addLast(ctx, list)
	out := api.Conversations{Conversations: list, More: len(ids) - looked}
	if out.More > 0 {
		out.Next = api.Cursor{Passed: at + looked, Key: ids[looked-1]}.String()
	}
	return out, nil
}

// Limit is show.Limit, for those who gather themselves.
func Limit(n int) int { return show.Limit(n) }

// source is where the messages of an agent come from.
func (d *Desk) source(agent string, resolve func(string) (string, error)) show.Source {
	unseen := func(conversation string) ([]mailbox.Item, error) { return d.deliver.Unseen(agent, conversation) }
	return show.Source{
		Refs: d.ledger.Refs(), Line: d.Message, Unseen: unseen, Resolve: resolve,
		Calls: func() ([]api.Message, error) { return d.signals(agent) },
		Call: func(ref string) (api.Message, error) {
			e, err := d.calls.Told(d.home.Address(agent), ref)
			if err != nil {
				return api.Message{}, err
			}
			return show.Call(e, d.calls.Refs()), nil
		},
	}
}

// signals lists what an agent was not shown of calls.
func (d *Desk) signals(agent string) ([]api.Message, error) {
	list, err := d.deliver.Signals(agent)
	messages := make([]api.Message, len(list))
	for i, e := range list {
		messages[i] = show.Call(e, d.calls.Refs())
	}
	return messages, err
}

// Inbox lists what an agent was not shown, oldest first.
func (d *Desk) Inbox(ctx context.Context, agent string, limit int, cursor api.Cursor) (api.Inbox, error) {
	d.Settle(ctx)
	inbox, err := d.source(agent, nil).Inbox(ctx, limit, cursor)
	if err != nil {
		return api.Inbox{}, err
	}
	inbox.Failed = show.Failed(mailbox.At(d.home.AgentDir(agent)))
	return inbox, nil
}

// Message reads one line as it is shown to somebody.
func (d *Desk) Message(ctx context.Context, conversation string, seq int64) (m api.Message, err error) {
	err = d.ledger.Read(ctx, conversation, func(v ledger.View) error {
		line, err := v.At(seq)
		if errors.Is(err, convlog.ErrNoLine) {
			return show.NoLine(d.ledger.Refs().Short(conversation), seq, v.State.LastSeq)
		}
		if err == nil {
			m = d.Show(v, line.Envelope)
		}
		return err
	})
	return m, err
}

// line reads a line as it stands in the log.
func (d *Desk) line(ctx context.Context, conversation string, seq int64) (e *envelope.Envelope, err error) {
	err = d.ledger.Read(ctx, conversation, func(v ledger.View) error {
		line, err := v.At(seq)
		e = line.Envelope
		return err
	})
	return e, err
}

// Show makes of a line what a reader is shown, with the messages that crossed it.
func (d *Desk) Show(v ledger.View, e *envelope.Envelope) api.Message {
	ref := show.Ref(d.ledger.Refs().Short(v.State.ID), e.Seq)
	return api.Message{Envelope: e, Ref: ref, Topic: v.State.Topic, Crossed: crossed(v, e)}
}

func crossed(v ledger.View, e *envelope.Envelope) []int64 {
	behind, ok := show.CrossedBehind(e)
	if !ok {
		return nil
	}
	return show.Crossed(e, func(yield func(*envelope.Envelope, error) bool) {
		for line, err := range v.Since(behind) {
			if !yield(line.Envelope, err) {
				return
			}
		}
	})
}

// Read returns the bodies of messages: of the references, or of all that the agent
// was not shown.
func (d *Desk) Read(ctx context.Context, agent string, ask api.Read, resolve func(string) (string, error)) (api.Messages, error) {
	d.Settle(ctx)
	return d.source(agent, resolve).Read(ctx, ask)
}

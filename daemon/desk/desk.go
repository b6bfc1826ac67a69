// Package desk answers what agents ask: what is in my inbox, what was said, who is
// there. Asking changes nothing.
package desk

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	defaultLimit = 20
	maxLimit     = 500
	previewRunes = 100
	settleWithin = 2 * time.Second
)

// Desk answers questions about one home.
type Desk struct {
	home    *maildir.Home
	ledger  *ledger.Ledger
	deliver *deliver.Deliverer
	roster  *roster.Roster
}

// New returns a desk.
func New(home *maildir.Home, l *ledger.Ledger, d *deliver.Deliverer, agents *roster.Roster) *Desk {
	return &Desk{home: home, ledger: l, deliver: d, roster: agents}
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
	a := api.Agent{
		ID: c.ID, Name: c.Name, Address: d.home.Address(c.Name).String(),
		Capabilities: append([]string{}, c.Capabilities...), Description: c.Description, Platform: c.Platform,
		Unregistered: c.Unregistered, Folder: d.home.AgentDir(c.Name),
	}
	if items, err := d.deliver.Unseen(c.Name, ""); err == nil {
		a.Unread = len(items)
	}
	a.Listening = d.deliver.Listening(c.Name)
	return a
}

// Agents lists the agents that have all the capabilities and, for a text that is not
// empty, its words in name, capabilities, description or platform.
func (d *Desk) Agents(ctx context.Context, text string, capabilities []string, limit int) api.Agents {
	d.Settle(ctx)
	cards := slices.DeleteFunc(d.roster.All(), func(c card.Card) bool {
		return !hasAll(c, capabilities) || !mentions(c, text)
	})
	limit = Limit(limit)
	list := []api.Agent{}
	for _, c := range cards[:min(limit, len(cards))] {
		list = append(list, d.Agent(c))
	}
	return api.Agents{Agents: list, More: len(cards) - len(list)}
}

func hasAll(c card.Card, capabilities []string) bool {
	for _, want := range capabilities {
		if !slices.ContainsFunc(c.Capabilities, func(has string) bool { return strings.EqualFold(has, want) }) {
			return false
		}
	}
	return true
}

func mentions(c card.Card, text string) bool {
	about := strings.ToLower(strings.Join(append([]string{c.Name, c.Description, c.Platform}, c.Capabilities...), " "))
	for _, word := range strings.Fields(strings.ToLower(text)) {
		if !strings.Contains(about, word) {
			return false
		}
	}
	return true
}

// Conversation summarises a conversation, for an agent that may be nobody.
func (d *Desk) Conversation(ctx context.Context, agent, id string) (api.Conversation, error) {
	state, err := d.ledger.State(ctx, id)
	var damage *convlog.DamageError
	if err != nil && !errors.As(err, &damage) {
		return api.Conversation{}, err
	}
	c := d.Summary(agent, state)
	if damage != nil {
		c.ID, c.Status, c.Reason = id, "damaged", damage.Error()
	}
	return c, nil
}

// Summary is Conversation for a state that is known.
func (d *Desk) Summary(agent string, state conv.State) api.Conversation {
	c := api.Conversation{
		ID: state.ID, Ref: d.ledger.Refs().Short(state.ID), Topic: state.Topic, Mode: state.Mode, Open: state.Open,
		TurnLimit: state.TurnLimit, Turns: state.Turns, Creator: state.Creator.String(), Participants: []string{},
		Status: "active", Reason: state.Reason, LastSeq: state.LastSeq, LastTime: state.LastTime,
		CreatedAt: state.CreatedAt, Log: d.home.LogPath(state.ID),
	}
	if state.Closed {
		c.Status = "closed"
	}
	for _, m := range state.Members {
		if m.Present() {
			c.Participants = append(c.Participants, m.Address.String())
		} else {
			c.Left = append(c.Left, m.Address.String())
		}
	}
	if agent != "" {
		if items, err := d.deliver.Unseen(agent, state.ID); err == nil {
			c.Unread = len(items)
		}
	}
	return c
}

// Query selects conversations.
type Query struct {
	Status string // "active", "closed", "damaged", empty for all
	With   string // a participant besides the agent
	Limit  int
}

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
		if c.Current = c.ID == current; q.takes(c) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b api.Conversation) int { return int(b.LastTime - a.LastTime) })
	limit := Limit(q.Limit)
	return api.Conversations{Conversations: list[:min(limit, len(list))], More: max(0, len(list)-limit)}, nil
}

func (q Query) takes(c api.Conversation) bool {
	if q.Status != "" && q.Status != c.Status {
		return false
	}
	return q.With == "" || slices.ContainsFunc(slices.Concat(c.Participants, c.Left), func(a string) bool {
		name, _, _ := strings.Cut(a, "@")
		return strings.EqualFold(a, q.With) || strings.EqualFold(name, q.With)
	})
}

// Limit is how many things a list has at most, when n are asked for and 0 means the
// usual number.
func Limit(n int) int {
	if n <= 0 {
		return defaultLimit
	}
	return min(n, maxLimit)
}

// Inbox lists what an agent was not shown, oldest first.
func (d *Desk) Inbox(ctx context.Context, agent string, limit int) (api.Inbox, error) {
	d.Settle(ctx)
	items, err := d.deliver.Unseen(agent, "")
	if err != nil {
		return api.Inbox{}, err
	}
	limit = Limit(limit)
	inbox := api.Inbox{Items: []api.InboxItem{}, More: max(0, len(items)-limit), Failed: d.failedDrops(agent)}
	for _, item := range items[:min(limit, len(items))] {
		m, err := d.Message(ctx, item.Conversation, item.Seq)
		if err != nil {
			return api.Inbox{}, err
		}
		inbox.Items = append(inbox.Items, inboxItem(m))
	}
	return inbox, nil
}

func inboxItem(m api.Message) api.InboxItem {
	e := m.Envelope
	return api.InboxItem{
		Ref: m.Ref, Conversation: e.Conversation, Seq: e.Seq, Topic: m.Topic, Type: string(e.Type), Event: e.Event,
		From: e.From.String(), Timestamp: e.Timestamp, Preview: preview(Text(e)), Size: len(e.Content),
	}
}

// Text is what there is to read in an envelope: its text, or what happened.
func Text(e *envelope.Envelope) string {
	switch {
	case e.Type == envelope.System && e.Event == envelope.EventCreate:
		return "invited you"
	case e.Type == envelope.System && e.Event == envelope.EventInvite:
		return "invited you"
	case e.Type == envelope.System && e.Event == envelope.EventClose && e.Reason != "":
		return "closed the conversation: " + e.Reason
	case e.Type == envelope.System && e.Event == envelope.EventClose:
		return "closed the conversation"
	case e.Type == envelope.System && e.Event == envelope.EventUndeliverable:
		return "not delivered: " + e.Why
	case e.Type == envelope.Join && e.Content == "":
		return "joined"
	case e.Type == envelope.Leave && e.Content == "":
		return "left"
	}
	return e.Content
}

func preview(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) <= previewRunes {
		return text
	}
	return string([]rune(text)[:previewRunes]) + "…"
}

func (d *Desk) failedDrops(agent string) []api.FailedDrop {
	box := mailbox.At(d.home.AgentDir(agent))
	names, err := box.FailedDrops()
	if err != nil {
		return nil
	}
	var list []api.FailedDrop
	for _, name := range names[:min(len(names), defaultLimit)] {
		list = append(list, api.FailedDrop{
			File:  filepath.Join(d.home.AgentDir(agent), mailbox.Failed, name),
			Error: box.FailureOf(name),
		})
	}
	return list
}

// Message reads one line as it is shown to somebody.
func (d *Desk) Message(ctx context.Context, conversation string, seq int64) (m api.Message, err error) {
	err = d.ledger.Read(ctx, conversation, func(v ledger.View) error {
		line, err := v.At(seq)
		if errors.Is(err, convlog.ErrNoLine) {
			ref := d.ledger.Refs().Short(conversation)
			return api.Errorf(api.MessageNotFound, "conversation %s has no line %d; its last is %d", ref, seq, v.State.LastSeq).WithNext("duo log %s", ref)
		}
		if err == nil {
			m = d.Show(v, line.Envelope)
		}
		return err
	})
	return m, err
}

// Show makes of a line what a reader is shown, with the messages that crossed it.
func (d *Desk) Show(v ledger.View, e *envelope.Envelope) api.Message {
	ref := fmt.Sprintf("%s.%d", d.ledger.Refs().Short(v.State.ID), e.Seq)
	return api.Message{Envelope: e, Ref: ref, Topic: v.State.Topic, Crossed: crossed(v, e)}
}

const maxCrossed = 100

// crossed lists the messages by others that stand between what the sender had been
// shown and what it wrote.
func crossed(v ledger.View, e *envelope.Envelope) []int64 {
	if e.Type != envelope.Message || e.After == nil || *e.After >= e.Seq-1 {
		return nil
	}
	var list []int64
	for line, err := range v.Since(max(*e.After, e.Seq-1-maxCrossed)) {
		other := line.Envelope
		if err != nil || other.Seq >= e.Seq {
			break
		}
		if other.Type == envelope.Message && !other.From.Same(e.From) && other.Seq != e.ReplyTo.Seq {
			list = append(list, other.Seq)
		}
	}
	return list
}

// Read returns the bodies of messages: of the references, or of all that the agent
// was not shown.
func (d *Desk) Read(ctx context.Context, agent string, ask api.Read, resolve func(string) (string, error)) (api.Messages, error) {
	d.Settle(ctx)
	items, err := d.choose(agent, ask.Refs, resolve)
	if err != nil {
		return api.Messages{}, err
	}
	limit := Limit(ask.Limit)
	out := api.Messages{Messages: []api.Message{}, More: max(0, len(items)-limit)}
	for _, item := range items[:min(limit, len(items))] {
		m, err := d.Message(ctx, item.Conversation, item.Seq)
		if err != nil {
			return api.Messages{}, err
		}
		out.Messages = append(out.Messages, m)
	}
	return out, nil
}

func (d *Desk) choose(agent string, refs []string, resolve func(string) (string, error)) ([]api.Place, error) {
	if len(refs) == 0 {
		items, err := d.deliver.Unseen(agent, "")
		return places(items), err
	}
	var list []api.Place
	for _, ref := range refs {
		text, seq, ok := maildir.SplitRef(ref)
		if !ok {
			return nil, api.Errorf(api.BadReference, "%q is no reference to a message: want c9f3a.42", ref)
		}
		id, err := resolve(text)
		if err != nil {
			return nil, err
		}
		if seq > 0 {
			list = append(list, api.Place{Conversation: id, Seq: seq})
			continue
		}
		items, err := d.deliver.Unseen(agent, id)
		if err != nil {
			return nil, err
		}
		list = append(list, places(items)...)
	}
	return list, nil
}

func places(items []mailbox.Item) []api.Place {
	list := make([]api.Place, len(items))
	for i, item := range items {
		list[i] = api.Place{Conversation: item.Conversation, Seq: item.Seq}
	}
	return list
}

// Receipts tells how far a message got, or with seq 0 the last one.
func (d *Desk) Receipts(ctx context.Context, conversation string, seq int64) (api.Receipts, error) {
	state, err := d.ledger.State(ctx, conversation)
	if err != nil {
		return api.Receipts{}, err
	}
	if seq == 0 {
		seq = state.LastSeq
	}
	m, err := d.Message(ctx, conversation, seq)
	if err != nil {
		return api.Receipts{}, err
	}
	return api.Receipts{Ref: m.Ref, Recipients: d.deliver.Recipients(state, m.Envelope)}, nil
}

// Await is Receipts when every recipient has got as far as until, or when ctx ends.
func (d *Desk) Await(ctx context.Context, conversation string, seq int64, until string) (api.Receipts, error) {
	if seq == 0 { // the last one of now, whatever comes while we wait
		state, err := d.ledger.State(ctx, conversation)
		if err != nil {
			return api.Receipts{}, err
		}
		seq = state.LastSeq
	}
	for {
		progress := d.deliver.Progress()
		r, err := d.Receipts(context.WithoutCancel(ctx), conversation, seq)
		if err != nil || reached(r.Recipients, until) {
			return r, err
		}
		select {
		case <-ctx.Done():
			r.TimedOut = true
			return r, nil
		case <-progress:
		}
	}
}

func reached(list []api.Recipient, until string) bool {
	order := []string{api.Queued, api.Stored, api.Delivered, api.Seen}
	want := slices.Index(order, until)
	return !slices.ContainsFunc(list, func(r api.Recipient) bool { return slices.Index(order, r.State) < want })
}

// Package show makes what an agent is shown of cards, states, envelopes and lines. The
// daemon shows what it knows, the command what the files say where no daemon can be
// reached; because both do it here, both say the same.
//
// It keeps nothing and asks nobody: what has to be read is given to it, or comes from
// the functions of a [Source].
package show

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/standing"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	defaultLimit = 20
	maxLimit     = 500
)

// Limit is how many things a list has at most, when n are asked for and 0 means the
// usual number.
func Limit(n int) int {
	if n <= 0 {
		return defaultLimit
	}
	return min(n, maxLimit)
}

// Who is an agent of this host, or of one that is linked with it.
type Who struct {
	Card    card.Card
	Address envelope.Address
	Far     *api.Agent // how the host of the agent describes it; nil for an agent of this host
	Untold  bool       // its host cannot be reached, and has not said that there is such an agent
}

// Locals are agents of this host, by their cards.
func Locals(home *maildir.Home, cards []card.Card) []Who {
	list := make([]Who, len(cards))
	for i, c := range cards {
		list[i] = Who{Card: c, Address: home.Address(c.Name)}
	}
	return list
}

// Agent describes an agent by its card.
func Agent(home *maildir.Home, c card.Card, unread int) api.Agent {
	return api.Agent{
		ID: c.ID, Name: c.Name, Address: home.Address(c.Name).String(), Host: home.Host.Name,
		Capabilities: append([]string{}, c.Capabilities...), Description: c.Description, Platform: c.Platform,
		Accepts: cmp.Or(c.Accepts, card.Anyone), Status: card.Offline,
		Unread: unread, Unregistered: c.Unregistered, Human: c.Human, Folder: home.AgentDir(c.Name),
	}
}

// Standing adds to the description of an agent what it may do.
func Standing(a api.Agent, s standing.Standing) api.Agent {
	a.Standing, a.Terms = standing.None, nil
	if s.Word != "" {
		a.Note = "" // which is a word to others
		a.Standing, a.Terms = s.Word, &api.Terms{Reason: s.Reason, Until: s.Until, By: s.By.String(), At: s.At}
	}
	return a
}

// Registered is the card of who registers: what is asked for replaces what the card
// says. The card of a new agent has nothing yet. A name keeps its capital letters.
func Registered(home *maildir.Home, c card.Card, ask api.Register) (card.Card, error) {
	if operator := home.Config.Operator.Name; c.Human || c.ID == "" && strings.EqualFold(ask.Name, operator) {
		return card.Card{}, api.Errorf(api.NotAllowed, "%q is the name of the person who runs this host", ask.Name).WithNext("duo register NAME")
	}
	if c.Name == strings.ToLower(c.Name) { // as that of a folder which was made by hand
		c.Name = ask.Name
	}
	c.Unregistered = false
	c.ID = cmp.Or(c.ID, envelope.NewID())
	set(&c.Capabilities, ask.Capabilities)
	set(&c.Description, ask.Description)
	set(&c.Platform, ask.Platform)
	set(&c.Accepts, ask.Accepts)
	if err := c.Check(); err != nil {
		return card.Card{}, api.Errorf(api.BadRequest, "%w", err)
	}
	return c, nil
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

// Conversation summarises a conversation for somebody who has not seen so many of its
// messages.
func Conversation(home *maildir.Home, ref string, state conv.State, unread int) api.Conversation {
	c := api.Conversation{
		ID: state.ID, Ref: ref, Topic: state.Topic, Mode: state.Mode, Open: state.Open,
		TurnLimit: state.TurnLimit, Turns: state.Turns, Creator: state.Creator.String(), Participants: []string{},
		Status: "active", Reason: state.Reason, LastSeq: state.LastSeq, LastTime: state.LastTime,
		CreatedAt: state.CreatedAt, Request: state.Request, Unread: unread, Log: home.LogPath(state.ID),
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
	return c
}

// Request describes a call. The references are of requests and of conversations.
func Request(r call.Request, requests, conversations *maildir.Refs) api.Request {
	out := api.Request{
		ID: r.ID, Ref: requests.Short(r.ID), From: r.From.String(), To: []string{}, Topic: r.Topic, Mode: r.Mode,
		TurnLimit: r.TurnLimit, Content: r.Content, Data: r.Data, State: string(r.State()), CreatedAt: r.CreatedAt,
		RingUntil: r.Rings(), Callees: []api.Callee{}, Conversation: r.Conversation, Over: r.Over, Next: r.Next,
	}
	for _, a := range r.To {
		out.To = append(out.To, a.String())
	}
	for _, c := range r.Callees {
		out.Callees = append(out.Callees, api.Callee{Agent: c.Agent.String(), State: string(c.State), Reason: c.Reason, At: c.At})
	}
	if len(conversations.Resolve(r.Conversation)) > 0 { // of a call of another host it may be on its way
		out.ConversationRef = conversations.Short(r.Conversation)
	}
	return out
}

// Call is what is told of a call, as a message.
func Call(e *envelope.Envelope, requests *maildir.Refs) api.Message {
	m := api.Message{Envelope: e, Topic: e.Topic}
	if e.Request != "" { // not that somebody is typing, comes or goes
		m.Ref = requests.Short(e.Request)
	}
	return m
}

// Damaged is the summary of a conversation whose log cannot be read to its end.
func Damaged(c api.Conversation, damage error) api.Conversation {
	c.Status, c.Reason = "damaged", damage.Error()
	return c
}

// Query selects conversations.
type Query struct {
	Status string // "active", "closed", "damaged", empty for all
	With   string // a participant besides the agent: a name or an address
	Text   string // words that all stand in the topic or in the addresses of participants
	Limit  int
	Cursor api.Cursor
}

// Conversations lists those that a query selects, the latest first.
func Conversations(list []api.Conversation, q Query) api.Conversations {
	list = slices.DeleteFunc(list, func(c api.Conversation) bool { return !q.Takes(c) })
	slices.SortFunc(list, func(a, b api.Conversation) int { return cmp.Compare(b.LastTime, a.LastTime) })
	var out api.Conversations
	out.Conversations, out.More, out.Next = api.Page(list, q.Cursor, Limit(q.Limit), func(c api.Conversation) string { return c.ID })
	return out
}

// Takes reports whether a query selects a conversation.
func (q Query) Takes(c api.Conversation) bool {
	if q.Status != "" && q.Status != c.Status || !q.names(c) {
		return false
	}
	return q.With == "" || slices.ContainsFunc(slices.Concat(c.Participants, c.Left), func(a string) bool {
		name, _, _ := strings.Cut(a, "@")
		return strings.EqualFold(a, q.With) || strings.EqualFold(name, q.With)
	})
}

// names reports whether the words of a query stand in what a conversation is called by.
func (q Query) names(c api.Conversation) bool {
	called := strings.ToLower(strings.Join(append([]string{c.Topic, c.Ref}, slices.Concat(c.Participants, c.Left)...), "\n"))
	for word := range strings.FieldsSeq(strings.ToLower(q.Text)) {
		if !strings.Contains(called, word) {
			return false
		}
	}
	return true
}

// Failed lists drops of an agent that could not be sent.
func Failed(box *mailbox.Box) []api.FailedDrop {
	names, err := box.FailedDrops()
	if err != nil {
		return nil
	}
	var list []api.FailedDrop
	for _, name := range names[:min(len(names), defaultLimit)] {
		path := filepath.Join(box.Dir(), mailbox.Failed, name)
		list = append(list, api.FailedDrop{File: path, Error: box.FailureOf(name)})
	}
	return list
}

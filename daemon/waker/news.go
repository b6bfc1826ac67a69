package waker

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/claude-duo/duo/maildir/session"
)

const (
	maxNews = 1000 // messages, and as many calls, that one look is at: the newest
)

// Mail tells what agents were not shown; deliver.Deliverer does.
type Mail interface {
	Unseen(agent, conversation string) ([]mailbox.Item, error)
	Signals(agent string) ([]*envelope.Envelope, error)
	Listening(agent string) bool
}

// Lines reads a line of a conversation, and how the conversation is now.
type Lines func(ctx context.Context, conversation string, seq int64) (*envelope.Envelope, conv.State, error)

// Refs writes references to messages and calls.
type Refs struct {
	Message func(conversation string, seq int64) string
	Call    func(request string) string
}

// mark is what an agent was woken for, or did not have to be, of what it was not shown yet.
type mark struct {
	Lines map[string]int64 `json:"lines,omitempty"` // the last line, by conversation
	Calls []string         `json:"calls,omitempty"`
}

// news are what an agent is to be woken for, and the mark when it was.
type news struct {
	refs []string // calls, then messages; the oldest first
	mark mark
}

func markKey(agent string) string { return "woken:" + agent }

// mark reads what an agent was woken for. Where that is lost, it is woken once more.
func (w *Waker) mark(agent string) (m mark) {
	if data, ok := w.Index.Get(markKey(agent)); ok {
		_ = json.Unmarshal(data, &m)
	}
	return m
}

// note remembers a mark, unless it is as it was.
func (w *Waker) note(agent string, was, is mark) {
	if maps.Equal(is.Lines, was.Lines) && slices.Equal(is.Calls, was.Calls) {
		return
	}
	data, err := json.Marshal(is)
	if err == nil {
		err = w.Index.Put(markKey(agent), data)
	}
	if err != nil {
		w.Logger.Warn("wake is not noted", "agent", agent, "err", err)
	}
}

// news looks for what an agent was neither shown nor woken for. What a session has taken is
// left to it as long as it lives.
func (w *Waker) news(ctx context.Context, agent string, was mark) (n news) {
	self := w.Home.Address(agent)
	signals, err := w.Mail.Signals(agent)
	items, err2 := w.Mail.Unseen(agent, "")
	if err != nil || err2 != nil {
		w.Logger.Warn("agent is not woken, its mailbox cannot be read", "agent", agent, "err", err, "also", err2)
		return n
	}
	taken := w.taken(agent)
	for _, e := range newest(signals) {
		key := callKey(e)
		if taken[e.Request] {
			continue
		}
		n.mark.Calls = append(n.mark.Calls, key)
		if !slices.Contains(was.Calls, key) && callWakes(e) {
			n.refs = append(n.refs, w.Refs.Call(e.Request))
		}
	}
	n.mark.Lines = make(map[string]int64)
	for _, item := range newest(items) {
		known := was.Lines[item.Conversation]
		if taken[item.Name] {
			continue
		}
		n.mark.Lines[item.Conversation] = max(n.mark.Lines[item.Conversation], item.Seq, known)
		if item.Seq > known && w.lineWakes(ctx, item, self) {
			n.refs = append(n.refs, w.Refs.Message(item.Conversation, item.Seq))
		}
	}
	return n
}

// taken are the items that a live session of the agent is to act on, as it was told of them:
// names of files, and ids of calls.
func (w *Waker) taken(agent string) map[string]bool {
	leases, err := session.OpenBook(w.Home, agent).Leases()
	if err != nil {
		w.Logger.Warn("leases are not read", "agent", agent, "err", err)
	}
	taken := make(map[string]bool)
	for _, l := range leases {
		for _, item := range l.Items {
			if call, ok := mailbox.ParseSignal(item); ok {
				item = call.Request
			}
			taken[item] = true
		}
	}
	return taken
}

func newest[T any](list []T) []T { return list[max(0, len(list)-maxNews):] }

// callKey is what an agent is woken for once: that it is called, or each outcome of a call
// that it has placed.
func callKey(e *envelope.Envelope) string {
	if e.Type == envelope.Call {
		return e.Request
	}
	return e.Request + " " + e.Status
}

// callWakes reports whether a call still asks for an answer, or has got one.
func callWakes(e *envelope.Envelope) bool {
	return e.Type != envelope.Call || api.CanAccept(e.Status)
}

// lineWakes reports whether a line is a message to the agent alone, or mentions it. One that
// cannot be read wakes nobody: it is told of where it is looked at.
func (w *Waker) lineWakes(ctx context.Context, item mailbox.Item, self envelope.Address) bool {
	e, state, err := w.Lines(ctx, item.Conversation, item.Seq)
	if err != nil || e.Type != envelope.Message || e.From.Same(self) {
		return false
	}
	return len(state.Present()) <= 2 || slices.ContainsFunc(e.To, self.IsCalled) || self.IsMentioned(e.Content)
}

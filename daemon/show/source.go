package show

import (
	"context"
	"errors"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Source is where an agent's messages come from.
type Source struct {
	Refs *maildir.Refs
	// Line reads one line of a conversation.
	Line func(ctx context.Context, conversation string, seq int64) (api.Message, error)
	// Unseen lists what the agent was not shown, oldest first, of one conversation or,
	// for an empty name, of all.
	Unseen func(conversation string) ([]mailbox.Item, error)
	// Resolve returns the id of the conversation that a reference means.
	Resolve func(ref string) (string, error)
	// Calls lists what the agent was not shown of calls, oldest first.
	Calls func() ([]api.Message, error)
	// Call returns how far the call is that a reference means.
	Call func(ref string) (api.Message, error)
}

// Inbox lists what the agent was not shown, oldest first, behind a cursor.
func (s Source) Inbox(ctx context.Context, limit int, cursor api.Cursor) (api.Inbox, error) {
	places, err := s.all()
	if err != nil {
		return api.Inbox{}, err
	}
	places = places[api.Behind(places, cursor, place.key):]
	inbox := api.Inbox{Items: []api.InboxItem{}}
	last := ""
	inbox.More, err = s.each(ctx, places, Limit(limit), func(m api.Message) bool {
		inbox.Items = append(inbox.Items, inboxItem(m))
		last = keyOf(m)
		return true
	})
	if inbox.More > 0 {
		inbox.Next = api.Cursor{Passed: cursor.Passed + len(inbox.Items), Key: last}.String()
	}
	return inbox, err
}

// maxAnswer is about how many bytes of envelopes stand in one answer, which is made in
// memory. A line may be as long.
const maxAnswer = envelope.MaxLine

// Read returns the messages of the references, or all that the agent was not shown, as
// many as fit into an answer: one at least.
func (s Source) Read(ctx context.Context, ask api.Read) (api.Messages, error) {
	places, err := s.choose(ask.Refs)
	if err != nil {
		return api.Messages{}, err
	}
	out := api.Messages{Messages: []api.Message{}}
	var line []byte
	spent := 0
	out.More, err = s.each(ctx, places, Limit(ask.Limit), func(m api.Message) bool {
		line = m.Envelope.Append(line[:0])
		if spent > 0 && spent+len(line) > maxAnswer {
			return false
		}
		if m.Error == "" { // else there is nothing that could be too long
			spent += len(line)
		}
		out.Messages = append(out.Messages, m)
		return true
	})
	return out, err
}

// place is where a message stands, as an inbox tells it or, without the time, as
// somebody has named it. What is told of a call stands in no log.
type place struct {
	mailbox.Item
	named bool
	call  *api.Message
}

func (p place) key() string {
	if p.call != nil {
		return keyOf(*p.call)
	}
	return Ref(p.Conversation, p.Seq)
}

// keyOf is the key of the place where a message stands.
func keyOf(m api.Message) string {
	if m.Envelope.Seq == 0 {
		return m.Envelope.Request
	}
	return Ref(m.Envelope.Conversation, m.Envelope.Seq)
}

// each hands over the messages at places in order, until there are as many as limit or
// take refuses one, and tells how many it leaves out. Those that cannot be read do not
// count, or they would stand before all others for ever; of them there are as many again.
func (s Source) each(ctx context.Context, places []place, limit int, take func(api.Message) bool) (more int, err error) {
	read, failed := 0, 0
	for i, p := range places {
		if read == limit {
			return more + len(places) - i, nil
		}
		m, err := s.message(ctx, p)
		switch {
		case err != nil:
			return 0, err
		case m.Error == "":
			read++
		case failed == limit:
			more++
			continue
		default:
			failed++
		}
		if !take(m) {
			return more + len(places) - i, nil
		}
	}
	return more, nil
}

// message reads a line. One that cannot be read says so itself and holds up no other;
// a line that somebody names and that there is not is an error.
func (s Source) message(ctx context.Context, p place) (api.Message, error) {
	if p.call != nil {
		return *p.call, nil
	}
	m, err := s.Line(ctx, p.Conversation, p.Seq)
	var refusal *api.Error
	switch {
	case err == nil:
		return m, nil
	case ctx.Err() != nil, p.named && errors.As(err, &refusal):
		return api.Message{}, err
	}
	e := &envelope.Envelope{Seq: p.Seq, Conversation: p.Conversation, Timestamp: p.Time}
	return api.Message{Envelope: e, Ref: Ref(s.Refs.Short(p.Conversation), p.Seq), Error: err.Error()}, nil
}

func (s Source) choose(refs []string) ([]place, error) {
	if len(refs) == 0 {
		return s.all()
	}
	var list []place
	for _, ref := range refs {
		if isCall(ref) {
			m, err := s.Call(ref)
			if err != nil {
				return nil, err
			}
			list = append(list, place{named: true, call: &m})
			continue
		}
		text, seq, ok := maildir.SplitRef(ref)
		if !ok {
			return nil, api.Errorf(api.BadReference, "%q is no reference to a message: want c9f3a.42", ref)
		}
		id, err := s.Resolve(text)
		if m, ok := s.callOf(ref, err); ok {
			list = append(list, place{named: true, call: &m})
			continue
		}
		if err != nil {
			return nil, err
		}
		if seq > 0 {
			list = append(list, place{Item: mailbox.Item{Conversation: id, Seq: seq}, named: true})
			continue
		}
		places, err := s.unseen(id)
		if err != nil {
			return nil, err
		}
		list = append(list, places...)
	}
	return list, nil
}

// callOf finds the call whose full id a text is that names no conversation.
func (s Source) callOf(ref string, noConversation error) (api.Message, bool) {
	if _, err := envelope.ParseID(ref); noConversation == nil || err != nil {
		return api.Message{}, false
	}
	m, err := s.Call(ref)
	return m, err == nil
}

// isCall reports whether a reference means a call: r77b2.
func isCall(ref string) bool { return len(ref) > 4 && ref[0]|0x20 == 'r' && len(ref) < 36 }

// all lists what the agent was not shown: calls first, which may be ringing.
func (s Source) all() ([]place, error) {
	calls, err := s.Calls()
	if err != nil {
		return nil, err
	}
	list := make([]place, 0, len(calls))
	for _, m := range calls {
		list = append(list, place{call: &m})
	}
	messages, err := s.unseen("")
	return append(list, messages...), err
}

func (s Source) unseen(conversation string) ([]place, error) {
	items, err := s.Unseen(conversation)
	list := make([]place, len(items))
	for i, item := range items {
		list[i] = place{Item: item}
	}
	return list, err
}

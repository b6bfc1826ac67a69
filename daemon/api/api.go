// Package api holds the words that the daemon and its clients exchange over HTTP:
// requests, replies and errors. It has no logic beyond their JSON form.
package api

import (
	"encoding/json"
	"slices"

	"github.com/claude-duo/duo/maildir/envelope"
)

// AgentHeader says on the local socket which agent a request speaks for.
const AgentHeader = "Duo-Agent"

// The states of a message with one recipient, in their order.
const (
	Queued    = "queued"    // not yet at its origin
	Stored    = "stored"    // has a seq and is on disk
	Delivered = "delivered" // in the inbox, or confirmed by a live stream
	Seen      = "seen"      // the recipient was shown the body
)

// Agent describes an agent.
type Agent struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Address      string   `json:"address"`
	Capabilities []string `json:"capabilities"`
	Description  string   `json:"description,omitempty"`
	Platform     string   `json:"platform,omitempty"`
	Unread       int      `json:"unread"`
	Listening    bool     `json:"listening"` // has a live stream
	Unregistered bool     `json:"unregistered,omitempty"`
	Folder       string   `json:"folder"` // absolute path
}

// Register asks for an agent with a name. The same name again is the same agent;
// fields that are not nil replace those of its card.
type Register struct {
	Name         string    `json:"name"`
	Capabilities *[]string `json:"capabilities,omitempty"`
	Description  *string   `json:"description,omitempty"`
	Platform     *string   `json:"platform,omitempty"`
}

// Registered answers Register.
type Registered struct {
	Agent   Agent `json:"agent"`
	Created bool  `json:"created"`
}

// Agents is a list of agents.
type Agents struct {
	Agents []Agent `json:"agents"`
	More   int     `json:"more"` // how many the limit left out
}

// Conversation summarises a conversation.
type Conversation struct {
	ID           string   `json:"id"`
	Ref          string   `json:"ref"`
	Topic        string   `json:"topic"`
	Mode         string   `json:"mode"`
	Open         bool     `json:"open"`
	TurnLimit    int64    `json:"turnLimit,omitempty"`
	Turns        int64    `json:"turns"`
	Creator      string   `json:"creator"`
	Participants []string `json:"participants"`
	Left         []string `json:"left,omitempty"`
	Status       string   `json:"status"` // "active", "closed" or "damaged"
	Reason       string   `json:"reason,omitempty"`
	LastSeq      int64    `json:"lastSeq"`
	LastTime     int64    `json:"lastTimestamp"`
	CreatedAt    int64    `json:"createdAt"` // Unix milliseconds
	Unread       int      `json:"unread"`
	Current      bool     `json:"current,omitempty"`
	Log          string   `json:"log"` // absolute path
}

// Conversations is a list of conversations.
type Conversations struct {
	Conversations []Conversation `json:"conversations"`
	More          int            `json:"more"` // how many the limit left out
}

// Message is an envelope as it is shown to somebody. Its JSON form is that of the
// envelope with the other fields beside the envelope's own.
type Message struct {
	Envelope *envelope.Envelope
	Ref      string  // c9f3a.42
	Topic    string  // of the conversation
	Crossed  []int64 // messages by others that the sender had not been shown
}

var messageFields = []string{"ref", "conversationTopic", "crossed"}

// MarshalJSON writes the envelope with the fields of Message added. Fields of the
// sender's with the same names are left out.
func (m Message) MarshalJSON() ([]byte, error) {
	e := *m.Envelope
	e.Unknown = slices.DeleteFunc(slices.Clone(e.Unknown), func(f envelope.Field) bool {
		return slices.Contains(messageFields, f.Name)
	})
	for i, v := range []any{m.Ref, m.Topic, m.Crossed} {
		value, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		if string(value) != "null" {
			e.Unknown = append(e.Unknown, envelope.Field{Name: messageFields[i], Value: value})
		}
	}
	return e.Append(nil), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Message) UnmarshalJSON(data []byte) error {
	e, err := envelope.Decode(data)
	if err != nil {
		return err
	}
	targets := []any{&m.Ref, &m.Topic, &m.Crossed}
	var rest []envelope.Field
	for _, f := range e.Unknown {
		i := slices.Index(messageFields, f.Name)
		if i < 0 {
			rest = append(rest, f)
		} else if err := json.Unmarshal(f.Value, targets[i]); err != nil {
			return err
		}
	}
	e.Unknown = rest
	m.Envelope = e
	return nil
}

// Recipient tells how far a message got with one agent.
type Recipient struct {
	Agent string `json:"agent"` // address
	State string `json:"state"`
}

// Posted answers everything that appends to a conversation.
type Posted struct {
	Message      Message      `json:"message"`
	Conversation Conversation `json:"conversation"`
	Recipients   []Recipient  `json:"recipients"`
	Created      bool         `json:"created"`   // the conversation is new
	Duplicate    bool         `json:"duplicate"` // the message had been stored before
}

// Receipts tells how far one message got.
type Receipts struct {
	Ref        string      `json:"ref"`
	Recipients []Recipient `json:"recipients"`
	TimedOut   bool        `json:"timedOut,omitempty"` // the wait ended before the state was reached
}

// Inbox lists what an agent has not seen. Listing changes nothing.
type Inbox struct {
	Items  []InboxItem  `json:"items"`
	More   int          `json:"more"` // how many the limit left out
	Failed []FailedDrop `json:"failed,omitempty"`
}

// InboxItem is one line of an inbox.
type InboxItem struct {
	Ref          string `json:"ref"`
	Conversation string `json:"conversation"`
	Seq          int64  `json:"seq"`
	Topic        string `json:"topic"`
	Type         string `json:"type"`
	Event        string `json:"event,omitempty"`
	From         string `json:"from"`
	Timestamp    int64  `json:"timestamp"`
	Preview      string `json:"preview"` // the beginning of the text, on one line
	Size         int    `json:"size"`    // bytes of the text
}

// FailedDrop is a file in outbox/failed.
type FailedDrop struct {
	File  string `json:"file"` // absolute path
	Error string `json:"error"`
}

// Read asks for the bodies of messages: of those that are named, or of all unseen
// ones. It changes nothing; Shown does.
type Read struct {
	Refs  []string `json:"refs,omitempty"` // conversations or messages
	Limit int      `json:"limit,omitempty"`
}

// Messages is a list of messages.
type Messages struct {
	Messages []Message `json:"messages"`
	More     int       `json:"more"`               // how many the limit left out
	TimedOut bool      `json:"timedOut,omitempty"` // a wait ended with nothing
}

// Shown says that an agent was shown the bodies of messages.
type Shown struct {
	Messages []Place `json:"messages"`
}

// Place names a line of a log.
type Place struct {
	Conversation string `json:"conversation"`
	Seq          int64  `json:"seq"`
}

// Current names the conversation that is meant when none is named.
type Current struct {
	Conversation string `json:"conversation"` // id or reference, empty for none
}

// Found is what a reference names: one of the three is set.
type Found struct {
	Agent        *Agent        `json:"agent,omitempty"`
	Conversation *Conversation `json:"conversation,omitempty"`
	Message      *Message      `json:"message,omitempty"`
}

// Status describes the daemon.
type Status struct {
	Version       string   `json:"version"`
	PID           int      `json:"pid"`
	StartedAt     int64    `json:"startedAt"` // Unix milliseconds
	Home          string   `json:"home"`
	Host          string   `json:"host"`
	HostID        string   `json:"hostId"`
	Agents        int      `json:"agents"`
	Conversations int      `json:"conversations"`
	Watching      string   `json:"watching"` // "events" or "polling"
	Streams       int      `json:"streams"`
	Drops         int      `json:"drops"` // files waiting in outboxes
	Problems      []string `json:"problems,omitempty"`
}

// The operations of a stream's client.
const (
	OpSubscribe = "subscribe" // Conversations, After, Own; must be the first
	OpConfirm   = "confirm"   // Conversation, Seq, State
)

// StreamRequest is a frame from the client of a stream.
type StreamRequest struct {
	Op            string           `json:"op"`
	Conversations []string         `json:"conversations,omitempty"` // references; none means all of the agent's
	After         map[string]int64 `json:"after,omitempty"`         // by reference: begin behind this seq
	Own           bool             `json:"own,omitempty"`           // the agent's own messages too
	Conversation  string           `json:"conversation,omitempty"`
	Seq           int64            `json:"seq,omitempty"`
	State         string           `json:"state,omitempty"` // Delivered or Seen
}

// StreamReady answers OpSubscribe.
type StreamReady struct {
	Op    string `json:"op"` // "ready"
	Agent string `json:"agent"`
}

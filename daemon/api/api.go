// Package api holds the words that the daemon and its clients exchange over HTTP:
// requests, replies and errors. It has no logic beyond their JSON form.
package api

import (
	"encoding/json"
	"maps"
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

// How the link with the host of an agent is. While it is not up, the agent is offline.
const (
	LinkUp   = "up"
	LinkDown = "down"
)

// Agent describes an agent.
type Agent struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Address      string   `json:"address"`
	Host         string   `json:"host"`           // of the agent
	Link         string   `json:"link,omitempty"` // with its host: up or down; empty for agents of this host
	Capabilities []string `json:"capabilities"`
	Description  string   `json:"description,omitempty"`
	Platform     string   `json:"platform,omitempty"`
	Accepts      string   `json:"accepts"`            // who may call and write: anyone, known or nobody
	Status       string   `json:"status"`             // available, ringing, in-call, busy or offline
	Note         string   `json:"note,omitempty"`     // what the agent says with it
	Since        int64    `json:"since,omitempty"`    // of the status, Unix milliseconds; absent where that is not known
	LastSeen     int64    `json:"lastSeen,omitempty"` // Unix milliseconds
	Open         int      `json:"open"`               // conversations that are not closed
	Unread       int      `json:"unread"`
	Listening    bool     `json:"listening"`       // has a live stream
	Wake         string   `json:"wake,omitempty"`  // how it learns of what comes: push, turn-end, manual or none; empty where that is not known
	Waits        []Wait   `json:"waits,omitempty"` // for what it waits, the latest first; not in lists
	Unregistered bool     `json:"unregistered,omitempty"`
	Human        bool     `json:"human,omitempty"`    // it is the person who runs this host
	Standing     string   `json:"standing,omitempty"` // what it may do here: none (it may do all), muted or blocked
	Terms        *Terms   `json:"terms,omitempty"`    // of a standing that is not none
	Folder       string   `json:"folder"`             // absolute path; empty for agents of other hosts
}

// Terms say who has given an agent its standing, why, and until when it holds.
type Terms struct {
	Reason string `json:"reason,omitempty"`
	Until  int64  `json:"until,omitempty"` // Unix milliseconds; absent where it holds until it is changed
	By     string `json:"by"`              // address
	At     int64  `json:"at"`              // when it was given, Unix milliseconds
}

// Standing gives an agent a standing: none, muted or blocked.
type Standing struct {
	Standing string `json:"standing"`
	Reason   string `json:"reason,omitempty"` // one line for everybody, at most 500 bytes
	Until    int64  `json:"until,omitempty"`  // Unix milliseconds, 0 for until it is changed
}

// Wait tells that an agent waits for others: that its call is answered, or its last word in
// a conversation.
type Wait struct {
	For          []string `json:"for"`                    // addresses, at most 5
	Conversation string   `json:"conversation,omitempty"` // reference
	Request      string   `json:"request,omitempty"`      // reference of a call, instead of a conversation
	Since        int64    `json:"since"`                  // Unix milliseconds
}

// How an agent learns of what comes for it.
const (
	WakePush    = "push"     // it is reached now, without its doing
	WakeTurnEnd = "turn-end" // it is told at the end of its turn, or at the next prompt
	WakeManual  = "manual"   // its session has to look
	WakeNone    = "none"     // nobody is there
)

// Register asks for an agent with a name. The same name again is the same agent;
// fields that are not nil replace those of its card.
type Register struct {
	Name         string    `json:"name"`
	Capabilities *[]string `json:"capabilities,omitempty"`
	Description  *string   `json:"description,omitempty"`
	Platform     *string   `json:"platform,omitempty"`
	Accepts      *string   `json:"accepts,omitempty"`
}

// Registered answers Register.
type Registered struct {
	Agent   Agent `json:"agent"`
	Created bool  `json:"created"`
}

// AgentQuery selects agents.
type AgentQuery struct {
	Text         string   // words that all stand in the card
	Capabilities []string // that it all has
	Status       string   // empty for any
	Host         string   // whose agents, empty for all hosts
	Limit        int
	Cursor       Cursor
}

// Agents is a list of agents.
type Agents struct {
	Agents []Agent `json:"agents"`
	More   int     `json:"more"`           // how many the limit left out
	Next   string  `json:"next,omitempty"` // the cursor for them
}

// NextPage is the cursor for what was left out, empty for nothing.
func (a Agents) NextPage() string { return a.Next }

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
	CreatedAt    int64    `json:"createdAt"`         // Unix milliseconds
	Request      string   `json:"request,omitempty"` // id of the call that it came of
	Unread       int      `json:"unread"`
	Current      bool     `json:"current,omitempty"`
	Last         *Last    `json:"last,omitempty"` // its last line, where one asks for conversations
	Log          string   `json:"log"`            // absolute path
}

// Last tells of the last line of a conversation.
type Last struct {
	Seq       int64  `json:"seq"`
	From      string `json:"from"` // address
	Type      string `json:"type"`
	Event     string `json:"event,omitempty"`
	Preview   string `json:"preview"`   // the beginning of the text, on one line
	Timestamp int64  `json:"timestamp"` // Unix milliseconds
}

// Conversations is a list of conversations.
type Conversations struct {
	Conversations []Conversation `json:"conversations"`
	More          int            `json:"more"`           // how many the limit left out
	Next          string         `json:"next,omitempty"` // the cursor for them
}

// NextPage is the cursor for what was left out, empty for nothing.
func (c Conversations) NextPage() string { return c.Next }

// Message is an envelope as it is shown to somebody. Its JSON form is that of the
// envelope with the other fields beside the envelope's own.
type Message struct {
	Envelope *envelope.Envelope
	Ref      string  // c9f3a.42; empty for what nobody keeps
	Topic    string  // of the conversation
	Crossed  []int64 // messages by others that the sender had not been shown
	Error    string  // why it cannot be read: the envelope has only its place then
}

// messageFields are the fields of our own in what is shown to somebody, in their order.
var messageFields = []string{"ref", "conversationTopic", "crossed", "error", "html", "recipients"}

// MarshalJSON writes the envelope with the fields of Message added. Fields of the
// sender's with names of ours are left out: nobody takes for ours what a sender has said.
func (m Message) MarshalJSON() ([]byte, error) { return m.marshal(nil) }

// marshal writes the envelope with our fields and more of them.
func (m Message) marshal(more map[string]any) ([]byte, error) {
	e := *m.Envelope
	e.Unknown = slices.DeleteFunc(slices.Clone(e.Unknown), func(f envelope.Field) bool {
		return slices.Contains(messageFields, f.Name)
	})
	values := map[string]any{"conversationTopic": m.Topic}
	if m.Ref != "" { // who types, comes or goes has none
		values["ref"] = m.Ref
	}
	if m.Crossed != nil {
		values["crossed"] = m.Crossed
	}
	if m.Error != "" {
		values["error"] = m.Error
	}
	maps.Copy(values, more)
	for _, name := range messageFields {
		v, ok := values[name]
		if !ok {
			continue
		}
		value, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		e.Unknown = append(e.Unknown, envelope.Field{Name: name, Value: value})
	}
	return e.Append(nil), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Message) UnmarshalJSON(data []byte) error { return m.unmarshal(data, nil) }

// unmarshal reads what marshal writes.
func (m *Message) unmarshal(data []byte, more map[string]any) error {
	e, err := envelope.Decode(data)
	if err != nil {
		return err
	}
	targets := map[string]any{"ref": &m.Ref, "conversationTopic": &m.Topic, "crossed": &m.Crossed, "error": &m.Error}
	maps.Copy(targets, more)
	var rest []envelope.Field
	for _, f := range e.Unknown {
		target, ok := targets[f.Name]
		if !ok {
			rest = append(rest, f)
		} else if err := json.Unmarshal(f.Value, target); err != nil {
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
	Why   string `json:"why,omitempty"` // it gets no further: the recipient's host takes it not
}

// Posted answers everything that appends to a conversation.
type Posted struct {
	Message      Message      `json:"message"`
	Conversation Conversation `json:"conversation"`
	Recipients   []Recipient  `json:"recipients"`
	Created      bool         `json:"created"`   // the conversation is new
	Duplicate    bool         `json:"duplicate"` // the message had been stored before
	// The message waits for another host, which orders the conversation and is named by For.
	// It has no seq, and its ref is its id.
	Queued bool   `json:"queued,omitempty"`
	For    string `json:"for,omitempty"`
}

// Receipts tells how far one message got.
type Receipts struct {
	Ref        string      `json:"ref"`
	Seq        int64       `json:"seq,omitempty"` // of the message; absent while it waits for another host
	For        string      `json:"for,omitempty"` // that host
	Recipients []Recipient `json:"recipients"`
	TimedOut   bool        `json:"timedOut,omitempty"` // the wait ended before the state was reached
}

// Inbox lists what an agent has not seen. Listing changes nothing.
type Inbox struct {
	Items  []InboxItem  `json:"items"`
	More   int          `json:"more"`           // how many the limit left out
	Next   string       `json:"next,omitempty"` // the cursor for them
	Failed []FailedDrop `json:"failed,omitempty"`
}

// NextPage is the cursor for what was left out, empty for nothing.
func (i Inbox) NextPage() string { return i.Next }

// InboxItem is one line of an inbox.
type InboxItem struct {
	Ref          string                `json:"ref"`
	Conversation string                `json:"conversation"`
	Seq          int64                 `json:"seq"`
	Topic        string                `json:"topic"`
	Type         string                `json:"type"`
	Event        string                `json:"event,omitempty"`
	From         string                `json:"from"`
	Timestamp    int64                 `json:"timestamp"`
	Preview      string                `json:"preview"`             // the beginning of the text, on one line
	Size         int                   `json:"size"`                // bytes of the text
	Error        string                `json:"error,omitempty"`     // why it cannot be read: only its place is known then
	Status       string                `json:"status,omitempty"`    // of a call
	RingUntil    int64                 `json:"ringUntil,omitempty"` // of a call that rings, Unix milliseconds
	Attachments  []envelope.Attachment `json:"attachments,omitempty"`
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
	Next     string    `json:"next,omitempty"`     // of events: the cursor behind them
	TimedOut bool      `json:"timedOut,omitempty"` // a wait ended with nothing
}

// Shown says that an agent was shown the bodies of messages.
type Shown struct {
	Messages []Place `json:"messages"`
}

// Place names a line of a log, or what was told of a call.
type Place struct {
	Conversation string `json:"conversation,omitempty"`
	Seq          int64  `json:"seq,omitempty"`
	Request      string `json:"request,omitempty"` // instead of a line
	Status       string `json:"status,omitempty"`  // of the call, as it was shown: what has come since stays unseen
}

// Current names the conversation that is meant when none is named.
type Current struct {
	Conversation string `json:"conversation"` // id or reference, empty for none
}

// Found is what a reference names: one of them is set.
type Found struct {
	Agent        *Agent        `json:"agent,omitempty"`
	Request      *Request      `json:"request,omitempty"`
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
	HTTP          string   `json:"http,omitempty"` // address for programs that have a token
	Watching      string   `json:"watching"`       // "events" or "polling"
	Streams       int      `json:"streams"`
	Drops         int      `json:"drops"` // files waiting in outboxes
	Problems      []string `json:"problems,omitempty"`
}

// The operations of a stream's client.
const (
	OpSubscribe = "subscribe" // Conversations, After, Own; must be the first
	OpConfirm   = "confirm"   // Conversation and Seq, or Request; State
	OpSend      = "send"      // Message, Key; answered with "sent" or "refused"
	OpTyping    = "typing"    // Conversation
	OpPresence  = "presence"  // Status, Note
	OpPing      = "ping"      // answered with "pong"
)

// StreamRequest is a frame from the client of a stream.
type StreamRequest struct {
	Op            string           `json:"op"`
	Conversations []string         `json:"conversations,omitempty"` // references; none means all of the agent's
	After         map[string]int64 `json:"after,omitempty"`         // by reference: begin behind this seq
	Own           bool             `json:"own,omitempty"`           // the agent's own messages too
	Conversation  string           `json:"conversation,omitempty"`
	Seq           int64            `json:"seq,omitempty"`
	Request       string           `json:"request,omitempty"`  // of OpConfirm, instead of a line
	Typing        bool             `json:"typing,omitempty"`   // who is typing, too
	Presence      bool             `json:"presence,omitempty"` // who comes and goes, too
	Receipts      bool             `json:"receipts,omitempty"` // who got further, too; for observers
	State         string           `json:"state,omitempty"`    // Delivered or Seen
	Message       json.RawMessage  `json:"message,omitempty"`  // a draft, as a drop is
	Key           string           `json:"key,omitempty"`      // comes back with the answer; the same one again is the same message
	Status        string           `json:"status,omitempty"`   // of OpPresence: available, busy or offline; of OpConfirm: as in Place
	Note          string           `json:"note,omitempty"`
	Off           bool             `json:"off,omitempty"` // of OpTyping: no more
}

// StreamReply answers a frame of the client.
type StreamReply struct {
	Op      string   `json:"op"` // "sent", "refused" or "pong"
	Key     string   `json:"key,omitempty"`
	Posted  *Posted  `json:"posted,omitempty"`  // of what stands in a log now
	Called  *Called  `json:"called,omitempty"`  // of what concerns a call
	Problem *Problem `json:"problem,omitempty"` // why it is refused
}

// TypeReceipt is the type of a StreamReceipt.
const TypeReceipt = "receipt"

// StreamReceipt tells an observer how far an agent is in a conversation: all that was for
// it through a line was delivered, or seen.
type StreamReceipt struct {
	Type         string `json:"type"` // TypeReceipt
	Conversation string `json:"conversation"`
	Agent        string `json:"agent"` // address
	Delivered    int64  `json:"delivered"`
	Seen         int64  `json:"seen"`
}

// StreamReady answers OpSubscribe.
type StreamReady struct {
	Op    string `json:"op"`              // "ready"
	Agent string `json:"agent,omitempty"` // empty for an observer
}

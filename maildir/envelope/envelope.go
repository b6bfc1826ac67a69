// Package envelope is the one message format of duo: a JSON object on one line.
//
// An envelope stands in logs, in inbox files and on live streams; a drop is an
// envelope that is not stamped yet. [Decode] is strict, so that every program
// that accepts a line understands the same thing by it: exact field names, no
// name twice, valid UTF-8, bounded depth and size. Fields that it does not know
// are kept. [Envelope.Append] writes seq first and id second, which lets readers
// find message N of a log without an index. docs/envelope.md states the format.
package envelope

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits that hold everywhere, whatever the configuration says.
const (
	MaxLine         = 8 << 20 // bytes of an encoded envelope, without the newline
	MaxContent      = 1 << 20 // bytes of content, the default of limits.content
	MaxData         = 1 << 20 // bytes of data, and of all unknown fields together, as JSON text
	MaxTopic        = 500     // bytes of a topic or a reason
	MaxRecipients   = 1024    // entries in "to" or "participants", before limits.participants is asked
	MaxAttachments  = 32
	MaxDepth        = 64
	MaxInt          = 1<<53 - 1 // the largest integer that every JSON reader keeps exact
	maxUnknown      = 64        // unknown fields
	maxShortText    = 200       // mode, event, origin, media types
	maxSignature    = 128       // bytes of a signature as text
	maxAttachedName = 255
)

// ErrInvalid is what every error of Decode and Validate wraps.
var ErrInvalid = errors.New("invalid envelope")

// Type says what an envelope is for.
type Type string

// The types of envelopes. Message, Join, Leave and System stand in logs; Typing
// and Presence are live only; the others are signals. Create, Invite and Close
// are what a drop says to ask for the system event of that name; Status is what it says
// to be shown as busy or available.
const (
	Message  Type = "message"
	Join     Type = "join"
	Leave    Type = "leave"
	System   Type = "system"
	Typing   Type = "typing"
	Presence Type = "presence"
	Call     Type = "call"
	Accept   Type = "accept"
	Reject   Type = "reject"
	Cancel   Type = "cancel"
	Create   Type = "create"
	Invite   Type = "invite"
	Close    Type = "close"
	Status   Type = "status" // what an agent says of its own presence
)

// TypingOff is the status of a Typing envelope whose sender is typing no more.
const TypingOff = "off"

// The events of System envelopes.
const (
	EventCreate        = "create"
	EventInvite        = "invite"
	EventClose         = "close"
	EventUndeliverable = "undeliverable"
	EventRestored      = "restored" // the log of another host was cut, and follows this one again
	EventStanding      = "standing" // the operator of the origin has changed what an agent may do
)

// Envelope is one message, or one event of a conversation. The zero value of a
// field means that the field is absent, but for After and Raw, where nil does.
type Envelope struct {
	Seq          int64
	ID           string
	Type         Type
	Event        string // of System
	From         Address
	Conversation string
	Timestamp    int64 // Unix milliseconds
	After        *int64
	To           []string // names or addresses
	ReplyTo      Ref
	Topic        string
	Mode         string
	Open         bool
	TurnLimit    int64 // messages, 0 for no limit
	Origin       string
	Participants []Address
	Hosts        map[string]string // ids of hosts by the names that addresses have, of what brings agents in
	About        string            // id of what an undeliverable event speaks of
	Why          string
	Reason       string
	Request      string // id or reference of the call that this answers or came of
	Status       string // of a call, or of the sender; of a standing, which one
	Busy         bool   // of a Reject: the callee may still accept later
	RingUntil    int64  // of a Call, Unix milliseconds
	Until        int64  // when a standing ends by itself, Unix milliseconds
	Operator     bool   // by right of the operator of the origin, whatever the rules of the conversation say
	Auto         bool
	Hops         int64
	Raw          *int64 // byte offset of the adopted line
	Content      string
	Data         json.RawMessage
	Attachments  []Attachment
	Unknown      []Field
	Signature    string // of the author's host, where that is not the origin; see Signed
}

// Ref names another envelope of the same conversation, by seq or by id.
type Ref struct {
	Seq int64
	ID  string
}

// IsZero reports whether the reference names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// Attachment describes a file that goes with an envelope.
type Attachment struct {
	Name      string `json:"name"`
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"`
	SHA256    string `json:"sha256"`
}

// Field is a member of the JSON object that this version has no meaning for.
type Field struct {
	Name  string
	Value json.RawMessage
}

// Int returns a pointer to n, for After and Raw.
func Int(n int64) *int64 { return &n }

// Validate checks what holds for an envelope in a log: stamped, addressed, and
// within the limits of this package. Errors wrap ErrInvalid.
func (e *Envelope) Validate() error {
	switch {
	case e.Seq < 1:
		return invalid("seq", "is missing")
	case e.ID == "":
		return invalid("id", "is missing")
	case e.From.IsZero() || e.From.Host == "":
		return invalid("from", "want Name@host, got %q", e.From)
	case e.Conversation == "":
		return invalid("conversation", "is missing")
	case e.Timestamp < 1:
		return invalid("timestamp", "is missing")
	}
	switch e.Type {
	case Message, Join, Leave:
		if e.Event != "" {
			return invalid("event", "goes with type \"system\" only, got type %q", e.Type)
		}
	case System:
		if e.Event == "" {
			return invalid("event", "is missing")
		}
	default:
		return invalid("type", "%q does not stand in a log", e.Type)
	}
	return e.Check(MaxLine)
}

// By reports whether an agent has said or done itself what a line tells. What a host says in
// its name, as that something was not delivered, is news to the agent as to others.
func (e *Envelope) By(agent Address) bool {
	return e.From.Same(agent) && e.Event != EventUndeliverable && e.Event != EventRestored
}

// Check checks the limits of one field after the other, and content against
// maxContent bytes. It asks nothing of fields that are absent, so it suits
// drafts. Errors wrap ErrInvalid.
func (e *Envelope) Check(maxContent int) error {
	if e.ID != "" {
		if _, err := ParseID(e.ID); err != nil {
			return invalid("id", "%v", err)
		}
	}
	if e.Conversation != "" {
		if _, err := ParseID(e.Conversation); err != nil {
			return invalid("conversation", "%v", err)
		}
	}
	if len(e.Content) > maxContent {
		return invalid("content", "%d bytes are over the limit of %d; send a file instead", len(e.Content), maxContent)
	}
	if len(e.Data) > MaxData {
		return invalid("data", "%d bytes are over the limit of %d", len(e.Data), MaxData)
	}
	if n := e.unknownSize(); n > MaxData {
		return fmt.Errorf("%w: fields that are unknown: %d bytes are over the limit of %d", ErrInvalid, n, MaxData)
	}
	if len(e.To) > MaxRecipients {
		return invalid("to", "%d recipients are over the limit of %d", len(e.To), MaxRecipients)
	}
	if len(e.Participants) > MaxRecipients {
		return invalid("participants", "%d are over the limit of %d", len(e.Participants), MaxRecipients)
	}
	if len(e.Attachments) > MaxAttachments {
		return invalid("attachments", "%d are over the limit of %d", len(e.Attachments), MaxAttachments)
	}
	for _, a := range e.Attachments {
		if err := a.check(); err != nil {
			return err
		}
	}
	for _, to := range e.To {
		if err := checkLine("to", to, maxShortText); err != nil {
			return err
		}
	}
	if err := e.checkHosts(); err != nil {
		return err
	}
	if e.TurnLimit < 0 || e.Hops < 0 {
		return invalid("turnLimit", "and hops are not negative")
	}
	for _, f := range []struct {
		name, value string
		max         int
	}{
		{"topic", e.Topic, MaxTopic}, {"reason", e.Reason, MaxTopic}, {"why", e.Why, 4 * MaxTopic},
		{"type", string(e.Type), maxShortText}, {"replyTo", e.ReplyTo.ID, maxShortText}, {"about", e.About, maxShortText},
		{"request", e.Request, maxShortText}, {"status", e.Status, maxShortText},
		{"mode", e.Mode, maxShortText}, {"event", e.Event, maxShortText}, {"origin", e.Origin, maxShortText},
		{"signature", e.Signature, maxSignature},
	} {
		if err := checkLine(f.name, f.value, f.max); err != nil {
			return err
		}
	}
	if !utf8.ValidString(e.Content) {
		return invalid("content", "is not valid UTF-8")
	}
	if strings.IndexByte(e.Content, 0) >= 0 {
		return invalid("content", "holds the character U+0000")
	}
	return nil
}

func (e *Envelope) checkHosts() error {
	if len(e.Hosts) > MaxRecipients {
		return invalid("hosts", "%d are over the limit of %d", len(e.Hosts), MaxRecipients)
	}
	for name, id := range e.Hosts {
		if err := CheckHost(name); err != nil {
			return invalid("hosts", "%v", err)
		}
		if id == "" {
			return invalid("hosts", "host %q has no id", name)
		}
		if err := checkLine("hosts", id, maxShortText); err != nil {
			return err
		}
	}
	return nil
}

func (e *Envelope) unknownSize() (n int) {
	for _, f := range e.Unknown {
		n += len(f.Name) + len(f.Value)
	}
	return n
}

// check wants a name and a sum that are safe as names of files.
func (a Attachment) check() error {
	if a.Name == "" || a.Name == "." || a.Name == ".." || strings.ContainsAny(a.Name, "/\\") {
		return invalid("attachments", "want a plain file name, got %q", clip(a.Name))
	}
	if a.Size < 0 || len(a.SHA256) != 64 || strings.Trim(a.SHA256, "0123456789abcdef") != "" {
		return invalid("attachments", "%q wants a size and a sha256 of 64 lower-case hex digits", clip(a.Name))
	}
	if err := checkLine("attachments", a.Name, maxAttachedName); err != nil {
		return err
	}
	return checkLine("attachments", a.MediaType, maxShortText)
}

func checkLine(name, value string, max int) error {
	switch {
	case len(value) > max:
		return invalid(name, "%d bytes are over the limit of %d", len(value), max)
	case !utf8.ValidString(value):
		return invalid(name, "is not valid UTF-8")
	case strings.ContainsAny(value, "\x00\n\r"):
		return invalid(name, "is one line of text")
	}
	return nil
}

func invalid(field, format string, args ...any) error {
	return fmt.Errorf("%w: field %q: %s", ErrInvalid, field, fmt.Sprintf(format, args...))
}

package api

import (
	"encoding/json"
	"slices"
)

// The states of a call with one callee, and of the whole; see docs/calls.md.
const (
	CallRinging   = "ringing"
	CallQueued    = "queued"
	CallMissed    = "missed"
	CallBusy      = "busy"
	CallAccepted  = "accepted"
	CallRejected  = "rejected"
	CallCancelled = "cancelled"
)

// Request is a call; see docs/calls.md.
type Request struct {
	ID              string          `json:"id"`
	Ref             string          `json:"ref"`
	From            string          `json:"from"`
	To              []string        `json:"to"`
	Topic           string          `json:"topic"`
	Mode            string          `json:"mode,omitempty"` // of the conversation
	TurnLimit       int64           `json:"turnLimit,omitempty"`
	Content         string          `json:"content,omitempty"`
	Data            json.RawMessage `json:"data,omitempty"`
	State           string          `json:"state"`     // of the whole
	CreatedAt       int64           `json:"createdAt"` // Unix milliseconds
	RingUntil       int64           `json:"ringUntil,omitempty"`
	Callees         []Callee        `json:"callees"`
	Conversation    string          `json:"conversation,omitempty"` // id, when it was accepted
	ConversationRef string          `json:"conversationRef,omitempty"`
	Over            bool            `json:"over,omitempty"` // nobody can accept any more
	Next            string          `json:"next,omitempty"` // id of the call to the next one of a match
}

// Callee is how far a call is with one of those whom it asks.
type Callee struct {
	Agent  string `json:"agent"` // address
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	At     int64  `json:"at"` // Unix milliseconds
}

// Requests is a list of calls.
type Requests struct {
	Requests []Request `json:"requests"`
	More     int       `json:"more,omitempty"` // of those of one agent: how many more there are at most
}

// Called answers everything that places, answers or withdraws a call.
type Called struct {
	Request      Request       `json:"request"`
	Conversation *Conversation `json:"conversation,omitempty"` // when it was accepted
	Message      *Message      `json:"message,omitempty"`      // what was said with the answer
	Duplicate    bool          `json:"duplicate"`              // nothing has changed
}

// Match asks for the best agent for something, and calls it.
type Match struct {
	ID           string          `json:"id,omitempty"`           // of the call, as in a draft
	Capabilities []string        `json:"capabilities,omitempty"` // that it has to have
	Text         string          `json:"text,omitempty"`         // words that its card has to have
	Topic        string          `json:"topic,omitempty"`
	Mode         string          `json:"mode,omitempty"`
	TurnLimit    int64           `json:"turnLimit,omitempty"`
	Content      string          `json:"content,omitempty"`
	Data         json.RawMessage `json:"data,omitempty"`
	DryRun       bool            `json:"dryRun,omitempty"` // call nobody
}

// Matched answers Match: who fits, the best first, and the call to the first of them.
type Matched struct {
	Candidates []Agent  `json:"candidates"`
	Request    *Request `json:"request,omitempty"`
}

// Presence is whether an agent is there. PUT takes Status and Note.
type Presence struct {
	Agent    string `json:"agent,omitempty"` // address
	Status   string `json:"status"`
	Note     string `json:"note,omitempty"`
	Since    int64  `json:"since,omitempty"`    // of the status, Unix milliseconds; absent where that is not known
	LastSeen int64  `json:"lastSeen,omitempty"` // Unix milliseconds
}

// Typing says that an agent is about to say something, or with Off, that it is no more.
type Typing struct {
	Off bool `json:"off,omitempty"`
}

// Contacts are those whom an agent blocks and those whom it always lets in.
type Contacts struct {
	Block []string `json:"block"` // addresses
	Allow []string `json:"allow"`
}

// Contact puts an agent on a list of Contacts, or with an empty list on none.
type Contact struct {
	Agent string `json:"agent"` // name or address
	List  string `json:"list"`  // "block", "allow" or ""
}

// Token describes a token; Text is its secret, which is told once.
type Token struct {
	ID        string `json:"id"`
	Agent     string `json:"agent,omitempty"` // empty for an observer
	Label     string `json:"label,omitempty"`
	Role      string `json:"role,omitempty"`      // of a person who has signed in on the page: RoleObserver or RoleOperator
	CreatedAt int64  `json:"createdAt"`           // Unix milliseconds
	ExpiresAt int64  `json:"expiresAt,omitempty"` // Unix milliseconds; 0 for never
	Text      string `json:"token,omitempty"`
}

// Tokens is a list of tokens.
type Tokens struct {
	Tokens []Token `json:"tokens"`
}

// NewToken asks for a token: for an agent, or an observer.
type NewToken struct {
	Agent string `json:"agent,omitempty"` // its name; empty for an observer
	Label string `json:"label,omitempty"`
}

// CanAccept reports whether a call of that state can still be accepted.
func CanAccept(state string) bool {
	return slices.Contains([]string{CallRinging, CallQueued, CallMissed, CallBusy}, state)
}

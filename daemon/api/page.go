package api

// What the bearer of a token may.
const (
	RoleObserver = "observer" // sees everything, changes nothing
	RoleOperator = "operator" // the one whom the host belongs to
	RoleAgent    = "agent"    // what concerns one agent
)

// Human is the name of the agent as which an operator speaks on the page.
const Human = "human"

// NewLogin asks for a link by which one person signs in on the page.
type NewLogin struct {
	Operator bool `json:"operator,omitempty"` // who may write and steer; otherwise an observer
}

// Login is a link by which one person signs in, once.
type Login struct {
	Code      string `json:"code"`
	URL       string `json:"url"`       // of the page, with the code in its fragment, which no browser sends
	ExpiresAt int64  `json:"expiresAt"` // of the code, Unix milliseconds
}

// SignIn gives the code of a link in exchange for a token.
type SignIn struct {
	Code string `json:"code"`
}

// SignedIn is the token of a person who has signed in. It is told once.
type SignedIn struct {
	Token     string `json:"token"`
	Role      string `json:"role"`      // RoleObserver or RoleOperator
	ExpiresAt int64  `json:"expiresAt"` // Unix milliseconds
}

// Session tells who asks, and whom.
type Session struct {
	Role    string `json:"role"`            // RoleObserver, RoleOperator or RoleAgent
	Agent   string `json:"agent,omitempty"` // name, of RoleAgent
	Human   string `json:"human,omitempty"` // address as which an operator speaks
	Host    string `json:"host"`
	HostID  string `json:"hostId"`
	Version string `json:"version"`
}

// View is a part of a conversation as the page shows it.
type View struct {
	Conversation Conversation  `json:"conversation"`
	Messages     []ViewMessage `json:"messages"` // in their order, without a gap
	First        int64         `json:"first"`    // line of the conversation, 0 where there is none
	Last         int64         `json:"last"`     // line of the conversation, 0 where there is none
}

// ViewMessage is a message as the page shows it. Its JSON form is that of Message with the
// other fields beside them.
type ViewMessage struct {
	Message
	HTML       string      // of the text, safe to show; empty where there is no text
	Recipients []Recipient // how far it got with each of those whom it was for
}

// MarshalJSON writes the message with the fields of ViewMessage added.
func (m ViewMessage) MarshalJSON() ([]byte, error) {
	more := map[string]any{"recipients": m.Recipients}
	if m.HTML != "" {
		more["html"] = m.HTML
	}
	return m.Message.marshal(more)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *ViewMessage) UnmarshalJSON(data []byte) error {
	return m.Message.unmarshal(data, map[string]any{"html": &m.HTML, "recipients": &m.Recipients})
}

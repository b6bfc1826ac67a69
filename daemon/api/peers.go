package api

// Peer describes a host that this one is linked with.
type Peer struct {
	Name      string `json:"name"`
	ID        string `json:"id"`
	Key       string `json:"key"`                 // the newest one that is pinned
	Address   string `json:"address,omitempty"`   // where it is dialled; empty where it only dials
	Via       string `json:"via,omitempty"`       // the peer that has introduced it and carries for it
	Relay     bool   `json:"relay,omitempty"`     // may introduce others, and carries for this host
	Carry     bool   `json:"carry,omitempty"`     // this host carries for it, and introduces it to others
	State     string `json:"state"`               // down, dialing, hello, up or held
	Since     int64  `json:"since,omitempty"`     // of the state, Unix milliseconds
	Problem   string `json:"problem,omitempty"`   // why there is no link, and what to do
	ProblemAt int64  `json:"problemAt,omitempty"` // Unix milliseconds
	DialAt    int64  `json:"dialAt,omitempty"`    // when it is dialled next, Unix milliseconds
	Dialled   bool   `json:"dialled,omitempty"`   // the link that is up was dialled by this host
	Delay     int64  `json:"delay,omitempty"`     // of a frame there and back, microseconds
	Waiting   int    `json:"waiting"`             // envelopes that wait for it
	// Conversations that the link carries no more, until the next one: a person has to look.
	Resting []Resting `json:"resting,omitempty"`
}

// Resting is a conversation that a link carries no more.
type Resting struct {
	Conversation string `json:"conversation"`
	Seq          int64  `json:"seq,omitempty"`  // where it stands
	Fork         bool   `json:"fork,omitempty"` // both hosts have a line there, and not the same one
	Why          string `json:"why"`
}

// Peers is a list of hosts.
type Peers struct {
	Peers []Peer `json:"peers"`
}

// NewCode asks for a pairing code.
type NewCode struct {
	Address string `json:"address,omitempty"` // host:port where the other host finds this one; empty is found out
}

// PairingCode is for one other host, for a while. It is a secret.
type PairingCode struct {
	Code    string `json:"code"`
	Address string `json:"address"`
	Ends    int64  `json:"ends"` // Unix milliseconds
}

// Join asks to pair this host with the one that has printed a code.
type Join struct {
	Code  string `json:"code"`
	Relay bool   `json:"relay,omitempty"` // it may introduce others, and carries for this host
}

// Ping tells how long a frame takes to a peer and back.
type Ping struct {
	Peer  string `json:"peer"`
	Delay int64  `json:"delay"` // microseconds
}

// ChangePeer says what a peer may do.
type ChangePeer struct {
	Relay *bool `json:"relay,omitempty"`
	Carry *bool `json:"carry,omitempty"`
}

// HostKey describes the key of this host.
type HostKey struct {
	ID     string `json:"id"`
	Key    string `json:"key"`
	Number int    `json:"number"` // 1 for the first one
}

// Package conv holds the rules of conversations: who is in one, what it takes, and
// when it is over. It is pure: a state is a fold over the lines of the log and
// nothing else, so every host that reads the same log has the same state.
package conv

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/claude-duo/duo/maildir/envelope"
)

// The modes of conversations. They share everything but what agents expect of each
// other: to be there, or to answer when they are.
const (
	Live  = "live"
	Async = "async"
)

// State is what a conversation has come to. It is a value: Apply returns a new one
// and leaves the old one as it was.
type State struct {
	ID        string           `json:"id"`
	Topic     string           `json:"topic,omitempty"`
	Mode      string           `json:"mode,omitempty"`
	Open      bool             `json:"open,omitempty"` // anyone may join
	Auto      bool             `json:"auto,omitempty"` // made by the first message, not by a create
	TurnLimit int64            `json:"turnLimit,omitempty"`
	Origin    string           `json:"origin,omitempty"`
	Creator   envelope.Address `json:"creator"`
	CreatedAt int64            `json:"createdAt,omitempty"`
	Members   []Member         `json:"members,omitempty"` // in the order in which they came
	// Ids of hosts by the names that addresses have here. The first line that tells one
	// counts. There are none where all are of one host.
	Hosts    map[string]string `json:"hosts,omitempty"`
	Request  string            `json:"request,omitempty"` // id of the call that it came of
	Turns    int64             `json:"turns,omitempty"`   // messages so far
	Autos    int64             `json:"autos,omitempty"`   // automatic ones at the end, in a row
	Closed   bool              `json:"closed,omitempty"`
	Reason   string            `json:"reason,omitempty"`
	LastSeq  int64             `json:"lastSeq,omitempty"`
	LastTime int64             `json:"lastTime,omitempty"`
	Adopted  int64             `json:"adopted,omitempty"` // raw lines that begin before this byte are dealt with
}

// Member is somebody who is or was in a conversation.
type Member struct {
	Address envelope.Address `json:"address"`
	Joined  int64            `json:"joined"`            // seq of the line that brought it in
	Left    int64            `json:"left,omitempty"`    // seq of its leave, 0 while it is in
	Spoke   bool             `json:"spoke,omitempty"`   // it has sent a message
	Earlier []Stay           `json:"earlier,omitempty"` // of one that has left and come back
	// It is in by right of the operator, and not because somebody wanted it: where it counts
	// who talks with whom, it does not.
	Operator bool `json:"operator,omitempty"`
}

// Stay is a time in a conversation, from one line to another.
type Stay struct {
	Joined int64 `json:"joined"`
	Left   int64 `json:"left"`
}

// Present reports whether the member is in the conversation.
func (m Member) Present() bool { return m.Left == 0 }

// At reports whether the member was in the conversation at the line seq.
func (m Member) At(seq int64) bool {
	if m.Joined <= seq {
		return m.Left == 0 || seq <= m.Left
	}
	return slices.ContainsFunc(m.Earlier, func(s Stay) bool { return s.Joined <= seq && seq <= s.Left })
}

// First is the seq of the line that brought the member in for the first time.
func (m Member) First() int64 {
	if len(m.Earlier) > 0 {
		return m.Earlier[0].Joined
	}
	return m.Joined
}

// Member returns the member with an address.
func (s State) Member(a envelope.Address) (Member, bool) {
	i := s.index(a)
	if i < 0 {
		return Member{}, false
	}
	return s.Members[i], true
}

// Has reports whether the agent is in the conversation.
func (s State) Has(a envelope.Address) bool {
	m, ok := s.Member(a)
	return ok && m.Present()
}

// Present lists who is in the conversation.
func (s State) Present() []envelope.Address {
	var list []envelope.Address
	for _, m := range s.Members {
		if m.Present() {
			list = append(list, m.Address)
		}
	}
	return list
}

// Parties lists who is in the conversation but for those who are by right of the operator.
func (s State) Parties() []envelope.Address {
	return slices.DeleteFunc(s.Present(), func(a envelope.Address) bool {
		m, _ := s.Member(a)
		return m.Operator
	})
}

// Host is the id of the host that a name means here, where the lines tell it. The creator
// is always of the origin.
func (s State) Host(name string) (id string, ok bool) {
	if id, ok = s.Hosts[name]; !ok && name == s.Creator.Host {
		return s.Origin, s.Origin != ""
	}
	return id, ok
}

func (s State) index(a envelope.Address) int {
	return slices.IndexFunc(s.Members, func(m Member) bool { return m.Address.Same(a) })
}

// Message is Apply for a message with nothing but a text, by an agent with an address.
func (s State) Message(seq int64, from string) State {
	s.LastSeq = seq
	s.Turns++
	s.Autos = 0
	if i := slices.IndexFunc(s.Members, func(m Member) bool { return !m.Spoke && strings.EqualFold(m.Address.String(), from) }); i >= 0 {
		s = s.spoken(i)
	}
	return s
}

func (s State) spoken(i int) State {
	s.Members = slices.Clone(s.Members)
	s.Members[i].Spoke = true
	return s
}

// Apply returns the state after a line of the log.
func (s State) Apply(e *envelope.Envelope) State {
	s.LastSeq, s.LastTime = e.Seq, e.Timestamp
	if e.Raw != nil {
		s.Adopted = max(s.Adopted, *e.Raw+1)
	}
	switch e.Type {
	case envelope.Message:
		s = s.message(e)
	case envelope.Join:
		s = s.learn(e.Hosts).enter(e.From, e.Seq, e.Operator)
	case envelope.Leave:
		s = s.exit(e.From, e.Seq)
	case envelope.System:
		s = s.event(e)
	}
	return s
}

func (s State) message(e *envelope.Envelope) State {
	s.Turns++
	s.Autos++
	if !e.Auto {
		s.Autos = 0
	}
	if i := s.index(e.From); i >= 0 && !s.Members[i].Spoke {
		s = s.spoken(i)
	}
	return s
}

func (s State) event(e *envelope.Envelope) State {
	switch e.Event {
	case envelope.EventCreate:
		if e.Seq != 1 {
			return s
		}
		s.ID, s.Topic, s.Mode, s.Open, s.Auto = e.Conversation, e.Topic, e.Mode, e.Open, e.Auto
		s.TurnLimit, s.Origin, s.Creator, s.CreatedAt = e.TurnLimit, e.Origin, e.From, e.Timestamp
		s.Request = e.Request
		s = s.learn(e.Hosts)
		for _, a := range e.Participants {
			s = s.enter(a, e.Seq, false)
		}
	case envelope.EventInvite:
		s = s.learn(e.Hosts)
		for _, a := range e.Participants {
			s = s.enter(a, e.Seq, false)
		}
	case envelope.EventClose:
		s.Closed, s.Reason = true, e.Reason
	}
	return s
}

// learn notes which host each name means.
func (s State) learn(hosts map[string]string) State {
	if len(hosts) == 0 {
		return s
	}
	all := maps.Clone(hosts)
	maps.Copy(all, s.Hosts)
	s.Hosts = all
	return s
}

func (s State) enter(a envelope.Address, seq int64, operator bool) State {
	s.Members = slices.Clone(s.Members)
	i := s.index(a)
	if i < 0 {
		s.Members = append(s.Members, Member{Address: a, Joined: seq, Operator: operator})
		return s
	}
	m := &s.Members[i]
	if !m.Present() {
		m.Earlier = append(slices.Clip(m.Earlier), Stay{m.Joined, m.Left})
		m.Joined, m.Left, m.Operator = seq, 0, operator
	}
	m.Operator = m.Operator && operator // who is invited too is wanted
	return s
}

func (s State) exit(a envelope.Address, seq int64) State {
	if i := s.index(a); i >= 0 && s.Members[i].Present() {
		s.Members = slices.Clone(s.Members)
		s.Members[i].Left = seq
	}
	return s
}

// Kind says why a line is refused.
type Kind int

// The kinds of refusals.
const (
	NotParticipant Kind = iota + 1
	NotOpen
	NotCreator
	AlreadyIn
	Closed
	TurnLimit
	NobodyElse
	TooMany
	NoLine
	Full
	Hops
	OtherHost
	NotOperator
)

// Refusal is the error of Check.
type Refusal struct {
	Kind Kind
	Text string
	Join bool // of NotParticipant: joining would help
}

func (r *Refusal) Error() string { return r.Text }

func refuse(kind Kind, format string, args ...any) error {
	return &Refusal{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// Limits are what a host allows in its conversations; 0 allows everything.
type Limits struct {
	Members  int   // agents in a conversation
	Messages int64 // of a conversation
	Hops     int64 // automatic messages in a row
}

// Check reports whether the conversation takes a line. The error is a *Refusal.
// Whatever Check lets pass, Apply understands.
func (s State) Check(e *envelope.Envelope, limits Limits) error {
	if e.After != nil && *e.After > s.LastSeq {
		return refuse(NoLine, "field \"after\": there is no line %d yet; the last is %d", *e.After, s.LastSeq)
	}
	if e.Operator || e.Event == envelope.EventStanding {
		return s.checkOperator(e)
	}
	switch e.Type {
	case envelope.Message:
		return s.checkMessage(e, limits)
	case envelope.Join:
		return s.checkJoin(e, limits.Members)
	case envelope.Leave:
		return s.checkMember(e.From)
	case envelope.System:
		return s.checkEvent(e, limits.Members)
	}
	return nil
}

// checkOperator is Check for what is said by right of the operator of the origin: it can
// come in, close, and write down what an agent may do, as long as the conversation goes on.
func (s State) checkOperator(e *envelope.Envelope) error {
	switch {
	case !e.Operator || e.From.Host != s.Creator.Host:
		return refuse(NotOperator, "only the operator of %s, which orders the conversation, can do that", s.Creator.Host)
	case e.Type != envelope.Join && e.Event != envelope.EventClose && e.Event != envelope.EventStanding:
		return refuse(NotOperator, "the right of the operator is to come in, to close, and to say what agents may do")
	case e.Type == envelope.Join && s.Has(e.From):
		return refuse(AlreadyIn, "%s is in the conversation already", e.From)
	case s.Closed:
		return s.closed()
	}
	return nil
}

func (s State) checkMessage(e *envelope.Envelope, limits Limits) error {
	if err := s.checkActive(e.From); err != nil {
		return err
	}
	if e.ReplyTo.Seq > s.LastSeq {
		return refuse(NoLine, "there is no line %d to reply to; the last is %d", e.ReplyTo.Seq, s.LastSeq)
	}
	if s.TurnLimit > 0 && s.Turns >= s.TurnLimit {
		return refuse(TurnLimit, "the turn limit of %d messages is reached", s.TurnLimit)
	}
	if !s.Open && len(s.Members) > 1 && len(s.Present()) == 1 {
		return refuse(NobodyElse, "everyone else has left the conversation")
	}
	if limits.Messages > 0 && s.Turns >= limits.Messages {
		return refuse(Full, "the conversation has %d messages, the most it can have: begin another one", s.Turns)
	}
	if limits.Hops > 0 && e.Auto && max(s.Autos, e.Hops) >= limits.Hops {
		return refuse(Hops, "%d automatic messages in a row are the most: a model or a human has to say something", limits.Hops)
	}
	return nil
}

func (s State) checkJoin(e *envelope.Envelope, maxMembers int) error {
	if err := s.checkHosts(e.Hosts); err != nil {
		return err
	}
	switch {
	case s.Has(e.From):
		return refuse(AlreadyIn, "%s is in the conversation already", e.From)
	case s.Closed:
		return s.closed()
	case !s.Open:
		return refuse(NotOpen, "the conversation is not open: a participant has to invite %s", e.From)
	case maxMembers > 0 && len(s.Present()) >= maxMembers:
		return refuse(TooMany, "the conversation has %d participants, the most it can have", maxMembers)
	}
	return nil
}

func (s State) checkEvent(e *envelope.Envelope, maxMembers int) error {
	switch e.Event {
	case envelope.EventInvite:
		return s.checkInvite(e, maxMembers)
	case envelope.EventClose:
		return s.checkClose(e)
	}
	return nil
}

func (s State) checkInvite(e *envelope.Envelope, maxMembers int) error {
	if err := s.checkActive(e.From); err != nil {
		return err
	}
	if err := s.checkHosts(e.Hosts); err != nil {
		return err
	}
	fresh := slices.DeleteFunc(slices.Clone(e.Participants), s.Has)
	if len(fresh) == 0 {
		return refuse(AlreadyIn, "everyone invited is in the conversation already")
	}
	if n := len(s.Present()) + len(fresh); maxMembers > 0 && n > maxMembers {
		return refuse(TooMany, "%d participants are over the limit of %d", n, maxMembers)
	}
	return nil
}

// checkHosts refuses a name that means another host here already.
func (s State) checkHosts(hosts map[string]string) error {
	for name, id := range hosts {
		if known, ok := s.Host(name); ok && known != id {
			return refuse(OtherHost, "another host is called %q in this conversation", name)
		}
	}
	return nil
}

func (s State) checkClose(e *envelope.Envelope) error {
	if _, was := s.Member(e.From); was && e.Auto && !s.Closed && (len(s.Parties()) < 2 || e.From.Same(s.Creator)) {
		return nil // whoever is left of a call, was the last to leave it, or has begun it
	}
	if err := s.checkActive(e.From); err != nil {
		return err
	}
	if !e.From.Same(s.Creator) && s.Has(s.Creator) {
		return refuse(NotCreator, "only %s, who created the conversation, can close it; you can leave it", s.Creator)
	}
	return nil
}

func (s State) checkActive(a envelope.Address) error {
	if err := s.checkMember(a); err != nil {
		return err
	}
	if s.Closed {
		return s.closed()
	}
	return nil
}

func (s State) checkMember(a envelope.Address) error {
	if s.Has(a) {
		return nil
	}
	text := fmt.Sprintf("%s is not in the conversation", a)
	if m, was := s.Member(a); was {
		text = fmt.Sprintf("%s has left the conversation at line %d", a, m.Left)
	}
	return &Refusal{Kind: NotParticipant, Text: text, Join: s.Open && !s.Closed}
}

func (s State) closed() error {
	if s.Reason != "" {
		return refuse(Closed, "the conversation is closed: %q", s.Reason)
	}
	return refuse(Closed, "the conversation is closed")
}

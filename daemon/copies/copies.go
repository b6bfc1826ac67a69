// Package copies keeps the logs of conversations the same on the hosts of all who are in
// them. The origin ships the lines of its logs to the hosts that they concern; a replica
// appends them as they stand. docs/link.md states what both say to each other.
//
// The log is the queue: nothing is kept for a peer but how far it is, and that it says
// itself at the start of each link. So all that is in memory here may be lost at any
// time. A replica acknowledges lines when they are on disk, and one goroutine at a time
// appends to one log.
package copies

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/peer"
)

// Parts is what the service works with.
type Parts struct {
	Home   *maildir.Home
	Ledger *ledger.Ledger
	Logger *slog.Logger // nil for none
	// Check is asked before lines from their origin are appended to the replica, with the
	// state before them. It may be asked again about the same lines. Where it returns an
	// error, the conversation takes nothing more on this link, unless that is the disk's or
	// an *api.Error that may pass: then it is asked again after a while. It may be nil.
	Check func(origin, conversation string, state conv.State, lines []ledger.Stored) error
	// Copied is told of lines that are in the replica, on disk, perhaps again. The lines
	// are acknowledged when it returns. It may be nil.
	Copied func(origin, conversation string, lines []ledger.Stored)
	// Sign signs with the key of this host; without it no log is given back to it.
	Sign func(message []byte) []byte
	// Signed reports whether a host, by its id, has signed a message; the signature is in
	// base64, as lines have it. It may be this host.
	Signed func(host string, message []byte, signature string) bool
	// Cut is told of lines that were cut off a replica behind one, since their origin has
	// gone another way: those by agents of this host, as they were. It may be told twice.
	// Where it returns an error, it is told again. It may be nil.
	Cut func(ctx context.Context, origin, conversation string, keep int64, lines []*envelope.Envelope) error
}

// Service ships and takes the lines of conversations on all links.
type Service struct {
	Parts
	marks  marks
	proofs proofs

	mu     sync.Mutex
	topics map[string]*topic          // the conversations between hosts
	unused map[string]map[string]bool // by id of the origin: replicas that have no reason to be here yet
	lines  map[string]*line           // by id of the host, the links that are up
	rests  map[string][]Problem       // by id of the host, of its last link
	fars   map[string]*far            // by name of the host
	old    map[string]bool            // conversations that were there at the start, of which nothing is known yet
	busy   map[string]chan struct{}   // by conversation to which somebody appends; closed after that
	cuts   map[string][]int           // replicas that were cut, where that is not finished
}

// topic is a conversation that concerns other hosts.
type topic struct {
	origin string   // id of a host; empty while nobody has looked
	hosts  []string // names of other hosts that have or had somebody in it
}

// Problem is a conversation of which a link carries nothing more.
type Problem struct {
	Conversation string
	Seq          int64 // where it stands
	Fork         bool  // both hosts have a line there, and not the same one
	Text         string
}

// New returns the service. It learns of conversations by Learn and Committed.
func New(parts Parts) *Service {
	if parts.Logger == nil {
		parts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{
		Parts: parts, marks: marks{byID: make(map[string][]mark)}, proofs: proofs{home: parts.Home, tops: make(map[string]*top)},
		topics: make(map[string]*topic), unused: make(map[string]map[string]bool),
		lines: make(map[string]*line), rests: make(map[string][]Problem),
		fars: make(map[string]*far), old: make(map[string]bool), busy: make(map[string]chan struct{}),
	}
}

// Recover learns of a conversation that was there at the start.
func (s *Service) Recover(ctx context.Context, conversation string) {
	s.Learn(conversation, conv.State{}) // to read it may be told as if it had grown
	state, err := s.Ledger.State(ctx, conversation)
	if err != nil {
		s.Logger.Warn("conversation is not read", "conv", conversation, "err", err)
	}
	s.Learn(conversation, state)
}

// Learn is Recover for somebody who knows what the conversation has come to, or that it
// is there at least.
func (s *Service) Learn(conversation string, state conv.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state.ID != conversation {
		s.old[conversation] = true
		return
	}
	delete(s.old, conversation)
	ours := false
	for _, m := range state.Members {
		ours = ours || s.here(m.Address)
		s.concern(conversation, m.Address)
	}
	if !s.own(state) {
		s.topic(conversation)
		s.use(state.Origin, conversation, ours || s.Ledger.Imported(conversation) > 0)
	}
	if t := s.topics[conversation]; t != nil {
		t.origin = state.Origin
		s.nudge(conversation, t)
	}
}

// Committed says that a conversation has grown, and who is in it; see ledger.Follower.
func (s *Service) Committed(conversation string, present []envelope.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range present {
		if s.concern(conversation, a) && !s.old[conversation] {
			s.far(a.Host).known[conversation] = 0 // it cannot have a line yet
		}
	}
	if t := s.topics[conversation]; t != nil {
		s.nudge(conversation, t)
	}
}

// Problems lists the conversations that the link with a host carries no more.
func (s *Service) Problems(host string) []Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.rests[host])
	slices.SortFunc(list, func(a, b Problem) int { return strings.Compare(a.Conversation, b.Conversation) })
	return list
}

func (s *Service) here(a envelope.Address) bool { return a.Host == s.Home.Host.Name }

// own reports whether this host gives the conversation its numbers.
func (s *Service) own(state conv.State) bool {
	return state.Origin == "" || state.Origin == s.Home.Host.ID
}

// concern notes that somebody is or was in a conversation, and reports whether that is the
// first one of another host. The caller holds the lock, as with what follows.
func (s *Service) concern(conversation string, a envelope.Address) bool {
	if s.here(a) {
		return false
	}
	t := s.topic(conversation)
	if slices.Contains(t.hosts, a.Host) {
		return false
	}
	t.hosts = append(t.hosts, a.Host)
	return true
}

func (s *Service) topic(conversation string) *topic {
	t := s.topics[conversation]
	if t == nil {
		t = &topic{}
		s.topics[conversation] = t
	}
	return t
}

// use notes whether a replica has a reason to be here: an agent of this host is or was in
// it, or it was imported.
func (s *Service) use(origin, conversation string, used bool) {
	if used {
		delete(s.unused[origin], conversation)
		return
	}
	if s.unused[origin] == nil {
		s.unused[origin] = make(map[string]bool)
	}
	s.unused[origin][conversation] = true
}

// nudge has the links look at a conversation that may have something for them, and who
// gives to relays.
func (s *Service) nudge(conversation string, t *topic) {
	for _, host := range t.hosts {
		s.far(host).look[conversation] = true
	}
	for _, l := range s.lines {
		if t.mayShip(s.Home.Host.ID, l.session.Name) {
			l.mail.Add(conversation)
		}
	}
}

// mayShip reports whether lines may have to go from the host with an id to the one with
// a name.
func (t *topic) mayShip(from, to string) bool {
	return (t.origin == "" || t.origin == from) && slices.Contains(t.hosts, to)
}

// ships reports whether this host may have lines of a conversation for another one.
func (s *Service) ships(conversation, to string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[conversation]
	return t != nil && t.mayShip(s.Home.Host.ID, to)
}

// list lists the conversations of which something holds.
func (s *Service) list(is func(*topic) bool) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, t := range s.topics {
		if is(t) {
			ids = append(ids, id)
		}
	}
	return ids
}

// shipped lists the conversations of this host that concern the one with a name.
func (s *Service) shipped(to string) []string {
	return s.list(func(t *topic) bool { return t.mayShip(s.Home.Host.ID, to) })
}

// Shared lists the conversations of this host that concern the one with a name.
func (s *Service) Shared(host string) []string { return s.shipped(host) }

// replicas lists the conversations whose origin is a host.
func (s *Service) replicas(origin string) []string {
	return s.list(func(t *topic) bool { return t.origin == origin })
}

// origin tells the origin of a conversation that is known; else it is empty.
func (s *Service) origin(conversation string) (origin string, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[conversation]
	if t == nil {
		return "", false
	}
	return t.origin, true
}

// maxUnused is how many conversations a host may fill here in which no agent of this
// host is. The line that brings one in may be any number of frames behind the first.
const maxUnused = 64

// full reports whether a host may begin no other conversation here.
func (s *Service) full(origin string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unused[origin]) >= maxUnused
}

func (s *Service) report(host string, p Problem) {
	s.Logger.Error("conversation rests on a link", "conv", p.Conversation, "seq", p.Seq, "peer", host, "err", p.Text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rests[host] = append(s.rests[host], p)
}

// Types are the frames of the service; see peer.Service.
func (s *Service) Types() []string { return []string{typeHeads, typeLines} }

// Open begins with a link that is up. The lines of an earlier link with the same host are
// closed.
func (s *Service) Open(session *peer.Session) peer.Line {
	l := newLine(s, session)
	s.mu.Lock()
	s.lines[session.Host] = l
	delete(s.rests, session.Host)
	s.far(session.Name).back()
	s.mu.Unlock()
	l.start()
	return l
}

func (s *Service) closed(l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines[l.session.Host] == l {
		delete(s.lines, l.session.Host)
	}
	s.far(l.session.Name).lookAll()
}

// Package bus wakes those who follow conversations. It carries no messages: a
// subscriber learns which conversations have grown, and from which line on, and reads
// their logs from where it was, so a slow one delays nobody and misses nothing.
//
// Beside that it carries what has no log, such as that somebody is typing. Of these
// notices a slow subscriber loses the oldest.
package bus

import (
	"maps"
	"slices"
	"sync"

	"github.com/claude-duo/duo/maildir/envelope"
)

// Topic is what a subscriber may follow.
type Topic string

const (
	All      Topic = "all"      // everything
	Presence Topic = "presence" // notices of who comes and goes
	Receipts Topic = "receipts" // which agents get further in which conversations
)

// Agent is what concerns one agent.
func Agent(a envelope.Address) Topic { return Topic("agent " + a.Key()) }

// Bus connects the writers of logs with their followers.
type Bus struct {
	mu   sync.RWMutex
	subs map[Topic]map[*Sub]struct{}
}

// New returns a bus without subscribers.
func New() *Bus { return &Bus{subs: make(map[Topic]map[*Sub]struct{})} }

// Sub is one subscription. Its owner calls Close.
type Sub struct {
	bus    *Bus
	topics []Topic
	wake   chan struct{}

	mu      sync.Mutex
	grown   map[string]int64
	notices []*envelope.Envelope
	moved   map[Stay]struct{}
}

// Stay is an agent in a conversation.
type Stay struct {
	Conversation string
	Agent        envelope.Address
}

// Subscribe wakes the subscriber for some topics.
func (b *Bus) Subscribe(topics ...Topic) *Sub {
	s := &Sub{bus: b, topics: topics, wake: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range topics {
		if b.subs[t] == nil {
			b.subs[t] = make(map[*Sub]struct{})
		}
		b.subs[t][s] = struct{}{}
	}
	return s
}

// Close ends the subscription.
func (s *Sub) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	for _, t := range s.topics {
		delete(s.bus.subs[t], s)
		if len(s.bus.subs[t]) == 0 {
			delete(s.bus.subs, t)
		}
	}
}

// Wake receives a token when there may be something to take.
func (s *Sub) Wake() <-chan struct{} { return s.wake }

// Grown returns the conversations that have grown since the last call, each with the
// first line that is new.
func (s *Sub) Grown() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	grown := s.grown
	s.grown = nil
	return grown
}

// Notices returns the notices since the last call, oldest first.
func (s *Sub) Notices() []*envelope.Envelope {
	s.mu.Lock()
	defer s.mu.Unlock()
	notices := s.notices
	s.notices = nil
	return notices
}

// Moved returns who got further, and where, since the last call, in no order.
func (s *Sub) Moved() []Stay {
	s.mu.Lock()
	defer s.mu.Unlock()
	moved := slices.Collect(maps.Keys(s.moved))
	clear(s.moved)
	return moved
}

const maxMoved = 4096 // that wait for one subscriber; of more it is not told

// Move tells the subscribers of receipts that an agent got further in a conversation. It
// may be called with locks held.
func (b *Bus) Move(stay Stay) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	b.tell(Receipts, func(s *Sub) {
		if s.moved == nil {
			s.moved = make(map[Stay]struct{})
		}
		if len(s.moved) < maxMoved {
			s.moved[stay] = struct{}{}
		}
	})
}

// Poke wakes the subscriber to look again.
func (s *Sub) Poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Publish tells the subscribers of some agents that a conversation has new lines, from
// one on.
func (b *Bus) Publish(conversation string, from int64, agents []envelope.Address) {
	grow := func(s *Sub) {
		if s.grown == nil {
			s.grown = make(map[string]int64)
		}
		if first, ok := s.grown[conversation]; !ok || from < first {
			s.grown[conversation] = from
		}
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if len(b.subs) == 0 {
		return
	}
	b.tell(All, grow)
	for _, a := range agents {
		b.tell(Agent(a), grow)
	}
}

// Poke wakes the subscribers of a topic to look elsewhere.
func (b *Bus) Poke(t Topic) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	b.tell(t, func(*Sub) {})
}

const maxNotices = 256 // that wait for one subscriber

// Notify gives a notice to the subscribers of some topics. It is shared, and nobody
// changes it.
func (b *Bus) Notify(e *envelope.Envelope, topics ...Topic) {
	note := func(s *Sub) {
		if len(s.notices) == maxNotices {
			s.notices = slices.Delete(s.notices, 0, 1)
		}
		s.notices = append(s.notices, e)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	b.tell(All, note)
	for _, t := range topics {
		b.tell(t, note)
	}
}

// tell does something for the subscribers of a topic and wakes them. The caller holds
// the lock.
func (b *Bus) tell(t Topic, do func(*Sub)) {
	for s := range b.subs[t] {
		s.mu.Lock()
		do(s)
		s.mu.Unlock()
		s.Poke()
	}
}

// Package bus wakes those who follow conversations. It carries no messages: a
// subscriber learns which conversations have grown and reads their logs from where
// it was, so a slow one delays nobody and misses nothing.
package bus

import (
	"sync"

	"github.com/claude-duo/duo/maildir/envelope"
)

// Bus connects the writers of logs with their followers.
type Bus struct {
	mu   sync.RWMutex
	subs map[string]map[*Sub]struct{} // by the key of an agent's address
}

// New returns a bus without subscribers.
func New() *Bus { return &Bus{subs: make(map[string]map[*Sub]struct{})} }

// Sub is one subscription. Its owner calls Close.
type Sub struct {
	bus   *Bus
	agent string
	wake  chan struct{}

	mu    sync.Mutex
	grown map[string]struct{}
}

// Subscribe wakes the subscriber for the conversations that an agent is in.
func (b *Bus) Subscribe(agent envelope.Address) *Sub {
	s := &Sub{bus: b, agent: agent.Key(), wake: make(chan struct{}, 1), grown: make(map[string]struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs[s.agent] == nil {
		b.subs[s.agent] = make(map[*Sub]struct{})
	}
	b.subs[s.agent][s] = struct{}{}
	return s
}

// Close ends the subscription.
func (s *Sub) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	delete(s.bus.subs[s.agent], s)
	if len(s.bus.subs[s.agent]) == 0 {
		delete(s.bus.subs, s.agent)
	}
}

// Wake receives a token when Grown has something to tell.
func (s *Sub) Wake() <-chan struct{} { return s.wake }

// Grown returns the conversations that have grown since the last call.
func (s *Sub) Grown() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.grown) == 0 {
		return nil
	}
	list := make([]string, 0, len(s.grown))
	for id := range s.grown {
		list = append(list, id)
	}
	clear(s.grown)
	return list
}

// Publish wakes the subscribers of the agents that are in a conversation.
func (b *Bus) Publish(conversation string, agents []envelope.Address) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if len(b.subs) == 0 {
		return
	}
	for _, a := range agents {
		for s := range b.subs[a.Key()] {
			s.add(conversation)
		}
	}
}

func (s *Sub) add(conversation string) {
	s.mu.Lock()
	s.grown[conversation] = struct{}{}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

package deliver

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Filter says what a stream carries.
type Filter struct {
	Conversations []string         // none means all that the agent is in
	After         map[string]int64 // begin behind this line; else with what was not shown yet
	Own           bool             // the agent's own lines too
}

// Stream is a live connection of an agent. It reads the logs from its own place, so
// it may be as slow as it likes. Next is for one goroutine, the other methods for all.
type Stream struct {
	d      *Deliverer
	reader *reader
	agent  envelope.Address
	filter Filter
	sub    *bus.Sub
	places map[string]int64 // the line up to which the stream has read each conversation
	begin  map[string]begin // where it begins, for those that had lines when it began
	queue  []string         // conversations to read
	ready  []Line
}

// begin is where a stream begins in a conversation: behind the line seen. Of the
// lines up to passed it carries what the agent was not shown, and all behind but the
// ones that it was shown early.
type begin struct {
	seen, passed int64
	early        map[int64]how
}

// Line is what a stream carries.
type Line struct {
	ledger.Stored
	Conversation string
	State        conv.State
}

// Attach begins a stream. From now on the agent's mail in the conversations of the
// filter is left to the stream, which has to confirm it. The caller calls Close.
func (d *Deliverer) Attach(agent string, filter Filter) (*Stream, error) {
	r, err := d.reader(agent)
	if err != nil {
		return nil, fmt.Errorf("mailbox of %q: %w", agent, err)
	}
	address := d.home.Address(r.name)
	s := &Stream{d: d, reader: r, agent: address, filter: filter, places: make(map[string]int64), begin: make(map[string]begin)}
	s.sub = d.bus.Subscribe(address)
	behind := d.behind(address) // what was published before that and is not in the marks yet
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams[s] = struct{}{}
	for id := range filter.After {
		s.queue = append(s.queue, id)
	}
	for id, m := range r.marks {
		if _, named := filter.After[id]; named || !s.covers(id) {
			continue
		}
		s.begin[id] = begin{seen: m.seen(), passed: m.passed, early: maps.Clone(m.early)}
		if len(m.pending) > 0 {
			s.queue = append(s.queue, id)
		}
	}
	s.queue = append(s.queue, slices.DeleteFunc(behind, func(id string) bool { return !s.covers(id) })...)
	slices.Sort(s.queue)
	s.queue = slices.Compact(s.queue)
	return s, nil
}

// behind lists the conversations of an agent that have lines which nobody has dealt
// with yet.
func (d *Deliverer) behind(agent envelope.Address) []string {
	return slices.DeleteFunc(d.queue.Names(), func(id string) bool {
		state, err := d.ledger.State(context.Background(), id)
		return err != nil || !state.Has(agent)
	})
}

func (s *Stream) covers(conversation string) bool {
	return len(s.filter.Conversations) == 0 || slices.Contains(s.filter.Conversations, conversation)
}

// Close ends the stream. What it did not confirm goes to the inbox.
func (s *Stream) Close() {
	s.sub.Close()
	s.reader.mu.Lock()
	delete(s.reader.streams, s)
	s.reader.mu.Unlock()
	s.d.toInbox(context.Background(), s.reader, func(_ unseen, covered bool) bool { return !covered })
}

// Confirm notes that the client has a message, or, with seen, that its agent was
// shown the body.
func (s *Stream) Confirm(conversation string, seq int64, seen bool) error {
	if seen {
		return s.d.Seen(s.reader.name, conversation, seq)
	}
	if s.d.has(s.reader, conversation, seq) {
		s.reader.settle(conversation, seq, confirmed)
		s.d.notify()
	}
	return nil
}

// TryNext returns the next line, and false when there is none now.
func (s *Stream) TryNext(ctx context.Context) (Line, bool, error) {
	for len(s.ready) == 0 {
		if len(s.queue) == 0 {
			return Line{}, false, nil
		}
		id := s.queue[0]
		s.queue = s.queue[1:]
		if err := s.readMore(ctx, id); err != nil {
			return Line{}, false, err
		}
	}
	line := s.ready[0]
	s.ready = s.ready[1:]
	return line, true, nil
}

// Next returns the next line, and waits for one until ctx ends.
func (s *Stream) Next(ctx context.Context) (Line, error) {
	for {
		if line, ok, err := s.TryNext(ctx); ok || err != nil {
			return line, err
		}
		select {
		case <-ctx.Done():
			return Line{}, ctx.Err()
		case <-s.sub.Wake():
			s.queue = append(s.queue, slices.DeleteFunc(s.sub.Grown(), func(id string) bool { return !s.covers(id) })...)
		}
	}
}

const streamBatch = 64

// readMore reads the next lines of a conversation.
func (s *Stream) readMore(ctx context.Context, id string) error {
	return s.d.ledger.Read(ctx, id, func(v ledger.View) error {
		place, known := s.places[id]
		if !known {
			place = s.start(id, v.State)
		}
		for line, err := range v.Since(place) {
			if err != nil {
				return err
			}
			if len(s.ready) == streamBatch {
				s.queue = append([]string{id}, s.queue...)
				break
			}
			place = line.Envelope.Seq
			if s.takes(id, line.Envelope, v.State) {
				s.ready = append(s.ready, Line{Stored: line, Conversation: id, State: v.State})
			}
		}
		s.places[id] = place
		return nil
	})
}

// start is the line behind which the stream begins to read a conversation: the one
// that the client names, else the last one before what the agent was not shown.
func (s *Stream) start(id string, state conv.State) int64 {
	if after, ok := s.filter.After[id]; ok {
		return after
	}
	if b, ok := s.begin[id]; ok {
		return b.seen
	}
	if m, ok := state.Member(s.agent); ok {
		return m.First() - 1
	}
	return 0
}

// takes reports whether the client is to get a line.
func (s *Stream) takes(id string, e *envelope.Envelope, state conv.State) bool {
	if e.Type == "" { // no envelope
		return false
	}
	if e.From.Same(s.agent) && !s.filter.Own && e.Event != envelope.EventUndeliverable {
		return false
	}
	if m, ok := state.Member(s.agent); ok && !m.At(e.Seq) {
		return false
	}
	return !s.skipSeen(id, e.Seq)
}

// skipSeen reports whether a line had been dealt with when the stream began, and the
// agent is not waiting for it.
func (s *Stream) skipSeen(id string, seq int64) bool {
	begin := s.begin[id]
	if seq > begin.passed {
		how, ok := begin.early[seq]
		return ok && how == shown
	}
	s.reader.mu.Lock()
	defer s.reader.mu.Unlock()
	_, pending := s.reader.mark(id).pending[seq]
	return !pending
}

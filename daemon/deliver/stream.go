package deliver

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Filter says what a stream carries.
type Filter struct {
	Conversations []string         // none means all that the agent is in, and calls
	After         map[string]int64 // begin behind this line; else with what was not shown yet
	Own           bool             // the agent's own lines too
	Typing        bool             // who is typing
	Presence      bool             // who comes and goes, on this host
	Receipts      bool             // who got further where; for observers
}

func (f Filter) covers(conversation string) bool {
	return len(f.Conversations) == 0 || slices.Contains(f.Conversations, conversation)
}

// carries reports whether a notice is wanted.
func (f Filter) carries(e *envelope.Envelope) bool {
	switch e.Type {
	case envelope.Typing:
		return f.Typing && f.covers(e.Conversation)
	case envelope.Presence:
		return f.Presence
	}
	return len(f.Conversations) == 0
}

// Stream is a live connection of an agent. Next and TryNext are for one goroutine, the
// other methods for all.
type Stream struct {
	feed
	d         *Deliverer
	reader    *reader
	agent     envelope.Address
	filter    Filter
	begin     map[string]begin // where it begins, for those that had lines when it began
	signalled uint64           // version of the newest signal that it has taken
}

// begin is where a stream begins in a conversation: behind the line seen. Of the
// lines up to passed it carries what the agent was not shown, and all behind but the
// ones that it was shown early.
type begin struct {
	seen, passed int64
	early        map[int64]how
	also         [][2]int64
}

// Attach begins a stream. From now on the agent's mail in the conversations of the
// filter is left to the stream, which has to confirm it. The caller calls Close.
func (d *Deliverer) Attach(agent string, filter Filter) (*Stream, error) {
	r, err := d.reader(agent)
	if err != nil {
		return nil, fmt.Errorf("mailbox of %q: %w", agent, err)
	}
	address := d.home.Address(r.name)
	topics := []bus.Topic{bus.Agent(address)}
	if filter.Presence {
		topics = append(topics, bus.Presence)
	}
	s := &Stream{d: d, reader: r, agent: address, filter: filter, begin: make(map[string]begin)}
	s.feed = newFeed(d.ledger, d.bus.Subscribe(topics...), s)
	behind := d.behind(address) // what was published before that and is not in the marks yet
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams[s] = struct{}{}
	if d.listens != nil && len(r.streams) == 1 {
		d.listens(r.name)
	}
	for id := range filter.After {
		s.queue = append(s.queue, id)
	}
	for id, m := range r.marks {
		if _, named := filter.After[id]; named || !s.covers(id) {
			continue
		}
		s.begin[id] = begin{seen: m.seen(), passed: m.passed, early: maps.Clone(m.early), also: m.also}
		if len(m.pending) > 0 {
			s.queue = append(s.queue, id)
		}
	}
	s.queue = append(s.queue, slices.DeleteFunc(behind, func(id string) bool { return !s.covers(id) })...)
	slices.Sort(s.queue)
	s.queue = slices.Compact(s.queue)
	if s.carriesSignals() {
		s.ready = s.signals()
	}
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

func (s *Stream) covers(conversation string) bool { return s.filter.covers(conversation) }

func (s *Stream) carriesSignals() bool { return len(s.filter.Conversations) == 0 }

// Close ends the stream. What it did not confirm goes to the inbox.
func (s *Stream) Close() {
	s.sub.Close()
	s.reader.mu.Lock()
	delete(s.reader.streams, s)
	if s.d.listens != nil && len(s.reader.streams) == 0 {
		s.d.listens(s.reader.name)
	}
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

// live returns the signals and notices that are new.
func (s *Stream) live() (lines []Line) {
	if s.carriesSignals() {
		s.reader.mu.Lock()
		lines = s.signals()
		s.reader.mu.Unlock()
	}
	for _, e := range s.sub.Notices() {
		if s.filter.carries(e) {
			lines = append(lines, liveLine(e))
		}
	}
	return lines
}

// Next returns the next line, and waits for one until ctx ends.
func (s *Stream) Next(ctx context.Context) (Line, error) {
	line, err := s.feed.Next(ctx)
	if err == nil {
		s.count(line)
	}
	return line, err
}

// TryNext returns the next line, and false when there is none now.
func (s *Stream) TryNext(ctx context.Context) (Line, bool, error) {
	line, ok, err := s.feed.TryNext(ctx)
	if ok {
		s.count(line)
	}
	return line, ok, err
}

// count counts a line that is new since the stream began.
func (s *Stream) count(line Line) {
	if !line.Live && line.Envelope.Seq > s.begin[line.Conversation].passed {
		s.d.count("stream", line.Envelope.Timestamp)
	}
}

// signals returns the signals that are new for the stream. The caller holds the
// reader's lock.
func (s *Stream) signals() (lines []Line) {
	for _, signal := range s.reader.signalsAfter(s.signalled) {
		if s.signalled > 0 || signal.waits {
			lines = append(lines, liveLine(signal.envelope))
		}
	}
	s.signalled = s.reader.version
	return lines
}

// start is the line behind which the stream begins to read a conversation: the one
// that the client names, else the last one before what the agent was not shown.
func (s *Stream) start(id string, state conv.State, _ int64) int64 {
	if after, ok := s.filter.After[id]; ok {
		return after
	}
	behind := max(s.begin[id].seen, s.d.ledger.Imported(id))
	if m, ok := state.Member(s.agent); ok {
		behind = max(behind, m.First()-1)
	}
	return behind
}

// takes reports whether the client is to get a line.
func (s *Stream) takes(id string, e *envelope.Envelope, state conv.State) bool {
	if e.Type == "" { // no envelope
		return false
	}
	if e.By(s.agent) && !s.filter.Own {
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
		return (&mark{early: begin.early, also: begin.also}).wasShown(seq)
	}
	s.reader.mu.Lock()
	defer s.reader.mu.Unlock()
	_, pending := s.reader.mark(id).pending[seq]
	return !pending
}

package deliver

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/claude-duo/duo/maildir/mailbox"
)

// how says where an unseen message is for its recipient.
type how int

const (
	shown     how = iota // it is not unseen any more
	offered              // a live stream covers it and has not confirmed it
	confirmed            // a live stream has it, the body was not shown yet
	inInbox              // a file in inbox/new
)

// away counts messages that are with streams.
func (h how) away() int {
	if h == offered || h == confirmed {
		return 1
	}
	return 0
}

// unseen is a message that its recipient was not shown yet.
type unseen struct {
	timestamp int64
	how       how
	since     time.Time
}

// mark is how far an agent is in one conversation.
type mark struct {
	passed  int64            // the follower has dealt with the lines up to here
	pending map[int64]unseen // lines up to passed that the agent was not shown
	early   map[int64]how    // what a stream confirmed before the follower came there; 0 for seen
	top     int64            // highest line that was shown
}

// seen is the last line up to which the agent was shown everything.
func (m *mark) seen() int64 {
	seen := m.passed
	for seq := range m.pending {
		seen = min(seen, seq-1)
	}
	return seen
}

func (m *mark) delivered() int64 {
	delivered := m.passed
	for seq, u := range m.pending {
		if u.how == offered {
			delivered = min(delivered, seq-1)
		}
	}
	return delivered
}

// reader is what is known of one agent.
type reader struct {
	name string // of the folder
	box  *mailbox.Box

	mu      sync.Mutex
	marks   map[string]*mark // by conversation
	streams map[*Stream]struct{}
	away    int       // messages that are with streams and not in the inbox
	changed bool      // since the cursors were written
	rest    time.Time // until then the folder, which took no files, is left alone
}

func newReader(name, dir string) (*reader, error) {
	box, err := mailbox.Open(dir)
	if err != nil {
		return nil, err
	}
	cursors, err := box.Cursors()
	if err != nil {
		return nil, fmt.Errorf("agent %q: %w", name, err)
	}
	r := &reader{name: name, box: box, marks: make(map[string]*mark, len(cursors)), streams: make(map[*Stream]struct{})}
	for id, c := range cursors {
		r.marks[id] = &mark{passed: c.Seen, top: c.Seen}
	}
	return r, nil
}

func (r *reader) restUntil(t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest = t
}

func (r *reader) resting(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Before(r.rest)
}

// mark returns the mark of a conversation. The caller holds the lock.
func (r *reader) mark(conversation string) *mark {
	m, ok := r.marks[conversation]
	if !ok {
		m = &mark{}
		r.marks[conversation] = m
	}
	return m
}

// pass notes that the follower has dealt with a line that needs no delivery.
func (r *reader) pass(conversation string, seq int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.mark(conversation)
	m.passed = max(m.passed, seq)
	delete(m.early, seq)
	r.changed = true
}

// offer leaves a line to the live streams of the agent, where one covers the
// conversation. It reports that, and whether the agent is still to see the line.
func (r *reader) offer(conversation string, seq, timestamp int64, now time.Time) (covered, waits bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.covered(conversation) {
		return false, true
	}
	return true, r.owe(conversation, seq, unseen{timestamp: timestamp, how: offered, since: now})
}

// keep notes that a line is a file in inbox/new. It reports false where the agent was
// shown the line meanwhile.
func (r *reader) keep(item mailbox.Item) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.mark(item.Conversation); item.Seq > m.passed {
		return r.owe(item.Conversation, item.Seq, unseen{timestamp: item.Time, how: inInbox})
	}
	return r.move(item.Conversation, item.Seq, inInbox)
}

// owe notes that the follower has dealt with a line that the agent is still to see,
// and reports false where it has seen it already. The caller holds the lock.
func (r *reader) owe(conversation string, seq int64, u unseen) bool {
	m := r.mark(conversation)
	m.passed = max(m.passed, seq)
	r.changed = true
	if early, ok := m.early[seq]; ok {
		delete(m.early, seq)
		if early == shown {
			m.top = max(m.top, seq)
			return false
		}
		u.how = max(u.how, early)
	}
	if m.pending == nil {
		m.pending = make(map[int64]unseen)
	}
	m.pending[seq] = u
	r.away += u.how.away()
	return true
}

// move notes that an unseen line is somewhere else now, and reports whether the line
// was unseen. The caller holds the lock.
func (r *reader) move(conversation string, seq int64, to how) bool {
	m := r.mark(conversation)
	u, ok := m.pending[seq]
	if !ok {
		return false
	}
	r.changed = true
	r.away += to.away() - u.how.away()
	if to == shown {
		delete(m.pending, seq)
		m.top = max(m.top, seq)
	} else {
		u.how = to
		m.pending[seq] = u
	}
	return true
}

// covered reports whether a live stream of the agent carries the conversation.
// The caller holds the lock.
func (r *reader) covered(conversation string) bool {
	for s := range r.streams {
		if s.covers(conversation) {
			return true
		}
	}
	return false
}

const maxEarly = 4096

// settle notes that the agent was shown a line, or that a stream has it. It returns
// what was known of the line before. What the follower has not come to yet is
// remembered until it does.
func (r *reader) settle(conversation string, seq int64, to how) (before unseen, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.mark(conversation)
	if to == shown {
		m.top = max(m.top, seq)
	}
	if seq > m.passed {
		if m.early == nil {
			m.early = make(map[int64]how)
		}
		if _, known := m.early[seq]; known && to == shown || !known && len(m.early) < maxEarly {
			m.early[seq] = to
		}
		return unseen{}, false
	}
	before, ok = m.pending[seq]
	if ok && (to == shown || before.how == offered) {
		r.move(conversation, seq, to)
	}
	return before, ok
}

// cursors is what cursors.json says of the agent, and whether that has changed.
func (r *reader) cursors() (map[string]mailbox.Cursor, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.changed {
		return nil, false
	}
	r.changed = false
	cursors := make(map[string]mailbox.Cursor, len(r.marks))
	for id, m := range r.marks {
		if m.passed > 0 {
			cursors[id] = mailbox.Cursor{Delivered: m.delivered(), Seen: m.seen()}
		}
	}
	return cursors, true
}

// waiting lists what the agent was not shown, oldest first, of one conversation or,
// for an empty name, of all.
func (r *reader) waiting(conversation string) []mailbox.Item {
	r.mu.Lock()
	defer r.mu.Unlock()
	var items []mailbox.Item
	for id, m := range r.marks {
		if conversation != "" && id != conversation {
			continue
		}
		for seq, u := range m.pending {
			items = append(items, mailbox.ItemOf(id, seq, u.timestamp))
		}
	}
	slices.SortFunc(items, mailbox.Item.Compare)
	return items
}

// onlySeen returns the items up to which the agent was shown everything.
func (r *reader) onlySeen(items []mailbox.Item) []mailbox.Item {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := make(map[string]int64, len(r.marks))
	for id, m := range r.marks {
		seen[id] = m.seen()
	}
	return slices.DeleteFunc(items, func(i mailbox.Item) bool { return i.Seq > seen[i.Conversation] })
}

// held lists what is with streams and expired. A conversation is covered while a live
// stream carries it.
func (r *reader) held(expired func(u unseen, covered bool) bool) []mailbox.Item {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away == 0 {
		return nil
	}
	var items []mailbox.Item
	for id, m := range r.marks {
		covered := r.covered(id)
		for seq, u := range m.pending {
			if u.how != inInbox && expired(u, covered) {
				items = append(items, mailbox.ItemOf(id, seq, u.timestamp))
			}
		}
	}
	return items
}

func (r *reader) hasAway() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away > 0
}

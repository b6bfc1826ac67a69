package deliver

import (
	"fmt"
	"maps"
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
	order   []int64          // of pending, ascending; those that are not pending any more come off in front
	early   map[int64]how    // what a stream confirmed before the follower came there; 0 for seen
	also    [][2]int64       // lines behind passed that were shown before the daemon started, from and to
	top     int64            // highest line that was shown
	over    bool             // the conversation is closed, or the agent has left it
}

// seen is the last line up to which the agent was shown everything.
func (m *mark) seen() int64 {
	for len(m.order) > 0 {
		if _, ok := m.pending[m.order[0]]; ok {
			return m.order[0] - 1
		}
		m.order = m.order[1:]
	}
	return m.passed
}

// wait notes that a line, the last one so far, was not shown yet.
func (m *mark) wait(seq int64, u unseen) {
	if m.pending == nil {
		m.pending = make(map[int64]unseen)
	}
	if _, ok := m.pending[seq]; !ok {
		i, _ := slices.BinarySearch(m.order, seq) // at the end, as a rule
		m.order = slices.Insert(m.order, i, seq)
	}
	m.pending[seq] = u
}

// wasShown reports whether the agent was shown a line that the follower has not come to.
func (m *mark) wasShown(seq int64) bool {
	if how, ok := m.early[seq]; ok {
		return how == shown
	}
	return slices.ContainsFunc(m.also, func(r [2]int64) bool { return r[0] <= seq && seq <= r[1] })
}

const maxAlso = 1000

// shownBehind lists what was shown behind the line seen, from and to: what is not
// pending there.
func (m *mark) shownBehind(seen int64) (list [][2]int64) {
	last := seen
	for _, seq := range append(slices.Clone(m.order), m.passed+1) {
		if _, ok := m.pending[seq]; !ok && seq <= m.passed {
			continue
		}
		if seq > last+1 && len(list) < maxAlso {
			list = append(list, [2]int64{last + 1, seq - 1})
		}
		last = seq
	}
	return list
}

// cut forgets what is behind the end of a log. The log has another end than it had: it
// was restored from a backup, or somebody has changed the cursors. It returns how much
// of that was with streams.
func (m *mark) cut(end int64) (away int) {
	m.passed, m.top, m.also = min(m.passed, end), min(m.top, end), nil
	maps.DeleteFunc(m.early, func(seq int64, _ how) bool { return seq > end })
	maps.DeleteFunc(m.pending, func(seq int64, u unseen) bool {
		if seq > end {
			away += u.how.away()
		}
		return seq > end
	})
	return away
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
	left map[string]struct{} // what lay in inbox/new when the reader was made; never changed

	filing sync.Mutex // of one file of a signal after the other; before mu

	mu      sync.Mutex
	marks   map[string]*mark // by conversation
	fitted  bool             // all that cursors.json tells of was compared with the logs
	streams map[*Stream]struct{}
	away    int                // messages that are with streams and not in the inbox
	signals map[string]*signal // by id of the request
	version uint64             // of the newest signal
	changed bool               // since the cursors were written
	moved   func(agent, conversation string)
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
	files, err := box.Unseen()
	if err != nil {
		return nil, fmt.Errorf("agent %q: %w", name, err)
	}
	left := make(map[string]struct{}, len(files))
	for _, item := range files {
		left[item.Name] = struct{}{}
	}
	r := &reader{name: name, box: box, left: left, marks: make(map[string]*mark, len(cursors)), streams: make(map[*Stream]struct{})}
	r.signals, r.version = make(map[string]*signal), 1
	for id, c := range cursors {
		m := &mark{passed: c.Seen, also: c.Also, top: c.Seen}
		for _, shown := range c.Also {
			m.top = max(m.top, shown[1])
		}
		r.marks[id] = m
	}
	return r, r.loadSignals()
}

// at is the line of a conversation up to which the follower has dealt with it.
func (r *reader) at(conversation string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, ok := r.marks[conversation]; ok {
		return m.passed
	}
	return 0
}

// cut makes the mark of a conversation, which was at a line, fit a log that ended at
// another one after that, and reports whether it was ahead. Then it is not to be
// believed: what lies in inbox/new was not seen, whatever it says. A mark that has gone
// on meanwhile is right.
func (r *reader) cut(conversation string, was, end int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.marks[conversation]
	if !ok || m.passed <= end || m.passed != was {
		return false
	}
	r.away -= m.cut(end)
	for name := range r.left {
		if item, ok := mailbox.ParseItem(name); ok && item.Conversation == conversation && item.Seq <= end {
			m.passed = min(m.passed, item.Seq-1)
		}
	}
	r.touch(conversation)
	return true
}

// clear moves the file of a line that the agent was shown out of inbox/new, where it
// has one: a line that was with a stream has none but from before a crash.
func (r *reader) clear(item mailbox.Item, was how) error {
	if _, left := r.left[item.Name]; !left && was != inInbox {
		return nil
	}
	_, err := r.box.MarkSeen(item.Name)
	return err
}

// places are how far the agent is everywhere, where it was shown all that it has to get
// and nothing is on its way.
func (r *reader) places() (list []place, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed || r.away > 0 || len(r.streams) > 0 || len(r.signals) > 0 {
		return nil, false
	}
	for id, m := range r.marks {
		if m.seen() != m.passed || len(m.pending) > 0 || len(m.early) > 0 || len(m.also) > 0 {
			return nil, false
		}
		list = append(list, place{id, m.passed})
	}
	return list, true
}

// behind is the line behind which the agent still has to get lines of a conversation,
// in which it was from a line on, and for 0 still is.
func (r *reader) behind(conversation string, first, left int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	passed := first - 1
	if m, ok := r.marks[conversation]; ok {
		passed = max(passed, m.passed)
	}
	if left > 0 && passed >= left {
		passed = 1<<62 - 1 // nothing more comes for it
	}
	return passed
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

// skip notes that the agent has nothing to get of the lines through one. It tells nobody:
// the agent has not got further.
func (r *reader) skip(conversation string, through int64) {
	if through == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.mark(conversation); m.passed < through {
		m.passed, m.top = through, max(m.top, through)
	}
}

// shownBefore reports whether the agent was shown a line before the daemon started,
// behind one that it was not shown.
func (r *reader) shownBefore(conversation string, seq int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.marks[conversation]
	return ok && len(m.also) > 0 && m.wasShown(seq)
}

// pass notes that the follower has dealt with a line that needs no delivery.
func (r *reader) pass(conversation string, seq int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.mark(conversation)
	m.passed = max(m.passed, seq)
	delete(m.early, seq)
	r.touch(conversation)
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
	r.touch(conversation)
	if m.wasShown(seq) {
		delete(m.early, seq)
		m.top = max(m.top, seq)
		return false
	}
	if early, ok := m.early[seq]; ok {
		delete(m.early, seq)
		u.how = max(u.how, early)
	}
	m.wait(seq, u)
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
	r.touch(conversation)
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
			seen := m.seen()
			cursors[id] = mailbox.Cursor{Delivered: m.delivered(), Seen: seen, Also: m.shownBehind(seen)}
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
	for id, m := range r.among(conversation) {
		for seq, u := range m.pending {
			items = append(items, mailbox.ItemOf(id, seq, u.timestamp))
		}
	}
	slices.SortFunc(items, mailbox.Item.Compare)
	return items
}

// fit notes whether a conversation still goes on for the agent.
func (r *reader) fit(conversation string, over bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mark(conversation).over = over
}

// open counts the conversations that go on.
func (r *reader) open() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.marks {
		if !m.over {
			n++
		}
	}
	return n
}

// goingOn lists conversations that go on, at most so many.
func (r *reader) goingOn(most int) (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, m := range r.marks {
		if len(ids) == most {
			break
		}
		if !m.over {
			ids = append(ids, id)
		}
	}
	return ids
}

// unread counts what waiting lists, and for an empty name the signals that wait.
func (r *reader) unread(conversation string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.among(conversation) {
		n += len(m.pending)
	}
	if conversation == "" {
		for _, s := range r.signals {
			if s.waits {
				n++
			}
		}
	}
	return n
}

// among is the mark of a conversation, or for an empty name all marks. The caller holds
// the lock.
func (r *reader) among(conversation string) map[string]*mark {
	if conversation == "" {
		return r.marks
	}
	if m, ok := r.marks[conversation]; ok {
		return map[string]*mark{conversation: m}
	}
	return nil
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

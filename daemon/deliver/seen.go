package deliver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Seen notes that an agent was shown the body of a message, and moves its file from
// new to cur. Of a line that it cannot have been shown nothing is noted.
func (d *Deliverer) Seen(agent, conversation string, seq int64) error {
	r, err := d.reader(agent)
	if err != nil {
		return fmt.Errorf("mailbox of %q: %w", agent, err)
	}
	if !d.has(r, conversation, seq) {
		return nil
	}
	u, ok := r.settle(conversation, seq, shown)
	if ok {
		if err := r.clear(mailbox.ItemOf(conversation, seq, u.timestamp), u.how); err != nil {
			return err // it stays in new, and is listed again after a restart
		}
	}
	d.notify()
	return nil
}

// has reports whether a conversation of the agent has a line.
func (d *Deliverer) has(r *reader, conversation string, seq int64) bool {
	state, _ := d.ledger.State(context.Background(), conversation) // of a log that cannot be read, what is known
	_, member := state.Member(d.home.Address(r.name))
	return member && seq >= 1 && seq <= state.LastSeq
}

// InboxChanged looks which files the agent has moved from new to cur itself.
func (d *Deliverer) InboxChanged(agent string) {
	r, err := d.reader(agent)
	if err != nil {
		d.logger.Warn("inbox is not read", "agent", agent, "err", err)
		return
	}
	items, err := r.box.Unseen()
	if err != nil {
		d.logger.Warn("inbox is not read", "agent", agent, "err", err)
		return
	}
	unseenNames := make(map[string]bool, len(items))
	for _, item := range items {
		unseenNames[item.Name] = true
	}
	for _, item := range r.waiting("") {
		if unseenNames[item.Name] {
			continue
		}
		// Only cur tells that it was seen: a file that was deleted was not.
		if _, err := os.Lstat(filepath.Join(r.box.Dir(), mailbox.InboxCur, item.Name)); err == nil {
			r.settle(item.Conversation, item.Seq, shown)
		}
	}
	r.signalsMoved()
	d.notify()
}

// Tidy moves files of seen messages to cur, where a crash has left them in new, and
// removes those in cur that are many and old; the logs have them.
func (d *Deliverer) Tidy(agent string) error { return d.tidy(agent, keptSeen) }

func (d *Deliverer) tidy(agent string, kept int) error {
	box := mailbox.At(d.home.AgentDir(agent))
	left, err := box.Unseen()
	if err != nil {
		return err
	}
	if err := box.TidySignals(kept); err != nil {
		return err
	}
	items, err := box.Seen()
	if err != nil || len(left) == 0 && len(items) <= kept {
		return err
	}
	r, err := d.reader(agent)
	if err != nil {
		return err
	}
	for _, item := range r.onlySeen(left) {
		if _, err := box.MarkSeen(item.Name); err != nil {
			return err
		}
	}
	if len(items) <= kept {
		return nil
	}
	return box.Discard(r.onlySeen(items[:len(items)-kept]))
}

// Unseen lists what an agent was not shown, oldest first, of one conversation or,
// for an empty name, of all.
func (d *Deliverer) Unseen(agent, conversation string) ([]mailbox.Item, error) {
	r, err := d.reader(agent)
	if err != nil {
		return nil, fmt.Errorf("mailbox of %q: %w", agent, err)
	}
	return r.waiting(conversation), nil
}

// Unread counts what Unseen lists, and for an empty name what Signals lists, too.
func (d *Deliverer) Unread(agent, conversation string) int {
	r, err := d.reader(agent)
	if err != nil {
		return 0
	}
	return r.unread(conversation)
}

// Open counts the conversations of an agent that are not over for it.
func (d *Deliverer) Open(agent string) int {
	r, err := d.reader(agent)
	if err != nil {
		return 0
	}
	d.fitAll(r)
	return r.open()
}

// GoingOn lists conversations of an agent that are not over for it, at most so many.
func (d *Deliverer) GoingOn(agent string, most int) []string {
	r, err := d.reader(agent)
	if err != nil {
		return nil
	}
	d.fitAll(r)
	return r.goingOn(most)
}

// Shown is the highest line of a conversation that an agent was shown.
func (d *Deliverer) Shown(agent, conversation string) int64 {
	r, err := d.reader(agent)
	if err != nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.marks[conversation]
	if !ok {
		return 0
	}
	return max(m.top, m.seen())
}

// Recipients tells how far a line got with everybody it was for. One without a number waits
// for the host that gives it one.
func (d *Deliverer) Recipients(state conv.State, e *envelope.Envelope) []api.Recipient {
	list := []api.Recipient{}
	for _, m := range state.Members {
		if e.Seq == 0 && m.Present() && concerns(e, m.Address) {
			list = append(list, api.Recipient{Agent: m.Address.String(), State: api.Queued})
		} else if m.At(e.Seq) && concerns(e, m.Address) {
			list = append(list, api.Recipient{Agent: m.Address.String(), State: d.stateWith(m.Address, state.ID, e.Seq)})
		}
	}
	return list
}

func (d *Deliverer) stateWith(a envelope.Address, conversation string, seq int64) string {
	if a.Host != d.home.Host.Name && d.far != nil {
		return d.far.State(conversation, a, seq)
	}
	r, err := d.local(a)
	if r == nil || err != nil {
		return api.Stored
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.marks[conversation]
	if !ok || seq > m.passed {
		return api.Stored
	}
	u, pending := m.pending[seq]
	switch {
	case !pending:
		return api.Seen
	case u.how == offered:
		return api.Stored
	default:
		return api.Delivered
	}
}

// Tell gives the deliverer who is told when an agent, by the name of its folder, has its
// first live stream, or none any more; before Run. It returns at once and asks nothing here.
func (d *Deliverer) Tell(listens func(agent string)) { d.listens = listens }

// Filed gives the deliverer who is told when something lies in the inbox of an agent, by the
// name of its folder, that it was not shown; before Run. It returns at once and asks nothing
// here.
func (d *Deliverer) Filed(waits func(agent string)) { d.waits = waits }

// Listening reports whether an agent has a live stream.
func (d *Deliverer) Listening(agent string) bool {
	d.mu.Lock()
	r, ok := d.readers[strings.ToLower(agent)]
	d.mu.Unlock()
	if !ok { // a stream has made one
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.streams) > 0
}

// Streams counts the live streams, those of observers too.
func (d *Deliverer) Streams() (n int) {
	n = int(d.observers.Load())
	for _, r := range d.all() {
		r.mu.Lock()
		n += len(r.streams)
		r.mu.Unlock()
	}
	return n
}

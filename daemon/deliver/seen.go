package deliver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

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
	if ok { // even where a stream has shown it: there may be a file from before a crash
		if _, err := r.box.MarkSeen(mailbox.ItemOf(conversation, seq, u.timestamp).Name); err != nil {
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
	d.notify()
}

// Tidy moves files of seen messages to cur, where a crash has left them in new, and
// removes those in cur that are many and old; the logs have them.
func (d *Deliverer) Tidy(agent string) error { return d.tidy(agent, keptSeen) }

func (d *Deliverer) tidy(agent string, kept int) error {
	r, err := d.reader(agent)
	if err != nil {
		return err
	}
	left, err := r.box.Unseen()
	if err != nil {
		return err
	}
	for _, item := range r.onlySeen(left) {
		if _, err := r.box.MarkSeen(item.Name); err != nil {
			return err
		}
	}
	items, err := r.box.Seen()
	if err != nil || len(items) <= kept {
		return err
	}
	return r.box.Discard(r.onlySeen(items[:len(items)-kept]))
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

// Recipients tells how far a line got with everybody it was for.
func (d *Deliverer) Recipients(state conv.State, e *envelope.Envelope) []api.Recipient {
	list := []api.Recipient{}
	for _, m := range state.Members {
		if m.At(e.Seq) && concerns(e, m.Address) {
			list = append(list, api.Recipient{Agent: m.Address.String(), State: d.stateWith(m.Address, state.ID, e.Seq)})
		}
	}
	return list
}

func (d *Deliverer) stateWith(a envelope.Address, conversation string, seq int64) string {
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

// Listening reports whether an agent has a live stream.
func (d *Deliverer) Listening(agent string) bool {
	r, err := d.reader(agent)
	if err != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.streams) > 0
}

// Streams counts the live streams.
func (d *Deliverer) Streams() (n int) {
	for _, r := range d.all() {
		r.mu.Lock()
		n += len(r.streams)
		r.mu.Unlock()
	}
	return n
}

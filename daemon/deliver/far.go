package deliver

import (
	"slices"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Mark is how far an agent is in a conversation: it was shown the lines through Passed, or
// they were not for it, but for those that are listed, in order.
type Mark struct {
	Passed    int64
	Offered   []int64 // handed to a stream, which has not confirmed them
	Delivered []int64 // in the inbox, or confirmed
}

// State is how far a line has got with the agent.
func (m Mark) State(seq int64) string {
	listed := func(list []int64) bool { _, ok := slices.BinarySearch(list, seq); return ok }
	switch {
	case seq > m.Passed, listed(m.Offered):
		return api.Stored
	case listed(m.Delivered):
		return api.Delivered
	}
	return api.Seen
}

// MaxListed is how many lines a mark lists. Of an agent that has more to see it says less
// than is known.
const MaxListed = 256

// Far tells how far lines got with the agents of other hosts.
type Far interface {
	State(conversation string, agent envelope.Address, seq int64) string
	// Mark is what was told of an agent of another host, and whether anything was.
	Mark(conversation string, agent envelope.Address) (Mark, bool)
	// Declines reports whether an agent of this host wants nothing of a conversation.
	Declines(conversation string, agent envelope.Address) bool
}

// Link gives the deliverer what other hosts tell, before Run. From then on moved is told
// when an agent of this host, by the name of its folder, got further in a conversation. It
// returns at once and calls nothing here.
func (d *Deliverer) Link(far Far, moved func(agent, conversation string)) {
	d.far, d.moved = far, moved
}

// Mark is how far an agent is in a conversation, and whether that is known.
func (d *Deliverer) Mark(agent, conversation string) (Mark, bool) {
	r, err := d.reader(agent)
	if err != nil {
		return Mark{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.marks[conversation]
	if !ok || m.passed == 0 {
		return Mark{}, false
	}
	m.seen() // drops from the front of the order what is not pending any more
	mark := Mark{Passed: m.passed}
	for _, seq := range m.order {
		u, pending := m.pending[seq]
		if !pending {
			continue
		}
		if len(mark.Offered)+len(mark.Delivered) == MaxListed {
			mark.Passed = seq - 1
			break
		}
		if u.how == offered {
			mark.Offered = append(mark.Offered, seq)
		} else {
			mark.Delivered = append(mark.Delivered, seq)
		}
	}
	return mark, true
}

// Wake tells those who wait for progress that there may be some: a message got further
// elsewhere.
func (d *Deliverer) Wake() { d.notify() }

// touch notes that the agent got further in a conversation. The caller holds the lock.
func (r *reader) touch(conversation string) {
	r.changed = true
	r.moved(r.name, conversation)
}

// hasMoved tells those who follow it that an agent of this host, by the name of its folder,
// got further in a conversation. It may be called with locks held.
func (d *Deliverer) hasMoved(agent, conversation string) {
	d.bus.Move(bus.Stay{Conversation: conversation, Agent: d.home.Address(agent)})
	if d.moved != nil {
		d.moved(agent, conversation)
	}
}

// FarMoved is told that an agent of another host got further in a conversation.
func (d *Deliverer) FarMoved(agent envelope.Address, conversation string) {
	d.bus.Move(bus.Stay{Conversation: conversation, Agent: agent})
}

package courier

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
)

const (
	tellEvery = time.Second // at most one frame of receipts
	maxMoved  = 100_000     // of a link; what is beyond is said at the start of the next one
	maxEarly  = 1024
)

// receipt says how far an agent is in a conversation; see deliver.Mark.
type receipt struct {
	Conversation string  `json:"conversation"`
	Agent        string  `json:"agent"`
	Passed       int64   `json:"passed"`
	Offered      []int64 `json:"offered,omitempty"`
	Delivered    []int64 `json:"delivered,omitempty"`
}

func (r receipt) mark() deliver.Mark {
	return deliver.Mark{Passed: r.Passed, Offered: r.Offered, Delivered: r.Delivered}
}

// stay is an agent in a conversation.
type stay struct{ conversation, agent string } // the agent by the key of its address

// receipts is what a link has still to tell of receipts. It is guarded by the line.
type receipts struct {
	moved map[stay]struct{}
	next  time.Time        // no frame before
	early map[stay]receipt // told by the peer before the lines with which they make sense
}

func newReceipts() receipts {
	return receipts{moved: make(map[stay]struct{}), early: make(map[stay]receipt)}
}

// Moved is told that an agent of this host got further in a conversation. It may be called
// with locks held.
func (c *Courier) Moved(agent, conversation string) {
	for _, l := range c.up() {
		l.move(stay{conversation, c.Home.Address(agent).Key()})
	}
}

func (l *line) move(s stay) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.moved) < maxMoved {
		l.moved[s] = struct{}{}
	}
	signal(l.answers)
}

// gather notes, at the start of a link, all that the peer may want to know.
func (l *line) gather() {
	c := l.courier
	for _, id := range c.Ledger.Refs().All() {
		if l.ctx.Err() != nil {
			return
		}
		state, err := c.Ledger.State(l.ctx, id)
		if err != nil || state.Closed || len(state.Hosts) == 0 || !l.concerns(state) {
			continue
		}
		for _, m := range state.Members {
			if m.Address.Host != l.session.Name {
				l.move(stay{id, m.Address.Key()})
			}
		}
	}
}

// concerns reports whether the peer wants receipts of a conversation from this host: it is
// the origin, or this host is and has to tell all.
func (l *line) concerns(state conv.State) bool {
	if state.Origin != l.courier.Home.Host.ID {
		return state.Origin == l.session.Host
	}
	id, ok := state.Hosts[l.session.Name]
	return ok && id == l.session.Host && slices.ContainsFunc(state.Members, func(m conv.Member) bool {
		return m.Present() && m.Address.Host == l.session.Name
	})
}

// tellReceipts sends a frame with the newest receipts, where one is due. It returns when
// the next one is, 0 for never.
func (l *line) tellReceipts() (time.Duration, error) {
	now := l.courier.Now()
	l.mu.Lock()
	if wait := l.next.Sub(now); wait > 0 || len(l.moved) == 0 {
		more := len(l.moved) > 0
		l.mu.Unlock()
		if !more {
			return 0, nil
		}
		return wait, nil
	}
	var batch []stay
	for s := range l.moved {
		if len(batch) == link.MaxLines {
			break
		}
		batch = append(batch, s)
		delete(l.moved, s)
	}
	l.mu.Unlock()
	var texts [][]byte
	size := 0
	for i, s := range batch {
		if size >= link.Full {
			for _, rest := range batch[i:] {
				l.move(rest)
			}
			break
		}
		if text := l.receipt(s); text != nil {
			texts = append(texts, text)
			size += len(text)
		}
	}
	l.mu.Lock()
	l.next = now.Add(tellEvery)
	l.mu.Unlock()
	if err := l.sendLines(typeReceipts, texts); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.moved) == 0 {
		return 0, nil
	}
	return max(time.Millisecond, l.next.Sub(now)), nil
}

// receipt is what the peer is told of an agent, nil for nothing.
func (l *line) receipt(s stay) []byte {
	c := l.courier
	state, err := c.Ledger.State(l.ctx, s.conversation)
	if err != nil || !l.concerns(state) {
		return nil
	}
	i := slices.IndexFunc(state.Members, func(m conv.Member) bool { return m.Address.Key() == s.agent })
	if i < 0 {
		return nil
	}
	agent := state.Members[i].Address
	var mark deliver.Mark
	known := false
	switch {
	case agent.Host == c.Home.Host.Name && c.Declines(s.conversation, agent):
		// what it does not want is passed over, not seen
	case agent.Host == c.Home.Host.Name:
		mark, known = c.Deliver.Mark(agent.Name, s.conversation)
	case state.Origin == c.Home.Host.ID && agent.Host != l.session.Name:
		mark, known = c.mark(s)
	}
	if !known {
		return nil
	}
	text, err := json.Marshal(receipt{s.conversation, agent.String(), mark.Passed, mark.Offered, mark.Delivered})
	if err != nil {
		return nil
	}
	return text
}

// takeReceipts keeps what the peer may say of receipts: of its own agents, and where it is
// the origin, of all but ours.
func (l *line) takeReceipts(f link.Frame) error {
	for _, text := range f.Lines {
		var r receipt
		if err := json.Unmarshal(text, &r); err != nil {
			return link.Fault("a receipt that cannot be read")
		}
		l.keep(r)
	}
	l.courier.Deliver.Wake()
	return nil
}

func (l *line) keep(r receipt) {
	c := l.courier
	agent, err := envelope.ParseAddress(r.Agent)
	if err != nil || agent.Host == "" || agent.Host == c.Home.Host.Name || r.Passed < 0 || len(r.Offered)+len(r.Delivered) > deliver.MaxListed || !slices.IsSorted(r.Offered) || !slices.IsSorted(r.Delivered) {
		return
	}
	s := stay{r.Conversation, agent.Key()}
	state, err := c.Ledger.State(l.ctx, r.Conversation)
	if _, member := state.Member(agent); err != nil || !member {
		l.keepEarly(s, r)
		return
	}
	here := state.Origin == c.Home.Host.ID
	id, _ := state.Host(agent.Host)
	if here && (agent.Host != l.session.Name || id != l.session.Host) || !here && state.Origin != l.session.Host {
		return
	}
	data, err := json.Marshal(r)
	if err == nil {
		err = c.Index.Put(receiptKey(s), data)
	}
	if err != nil {
		c.Logger.Warn("receipt is not kept", "peer", l.session.Name, "conv", r.Conversation, "err", err)
	}
	c.Deliver.FarMoved(agent, r.Conversation)
	if !here {
		return
	}
	for _, other := range c.up() {
		if other != l {
			other.move(s)
		}
	}
}

// keepEarly keeps what the peer says of somebody who may be in a conversation soon.
func (l *line) keepEarly(s stay, r receipt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.early) < maxEarly {
		l.early[s] = r
	}
}

// grown takes up what was kept early of a conversation, which has grown.
func (l *line) grown(conversation string) {
	l.mu.Lock()
	var list []receipt
	for s, r := range l.early {
		if s.conversation == conversation {
			list = append(list, r)
			delete(l.early, s)
		}
	}
	l.mu.Unlock()
	for _, r := range list {
		l.keep(r)
	}
}

func receiptKey(s stay) string { return "receipt:" + s.conversation + ":" + s.agent }

// mark is what was told of an agent of another host.
func (c *Courier) mark(s stay) (deliver.Mark, bool) {
	data, ok := c.Index.Get(receiptKey(s))
	if !ok {
		return deliver.Mark{}, false
	}
	var r receipt
	if json.Unmarshal(data, &r) != nil {
		return deliver.Mark{}, false
	}
	return r.mark(), true
}

// Mark is what was told of an agent of another host; see deliver.Far.
func (c *Courier) Mark(conversation string, agent envelope.Address) (deliver.Mark, bool) {
	return c.mark(stay{conversation, agent.Key()})
}

// State is how far a line got with an agent of another host; see deliver.Far.
func (c *Courier) State(conversation string, agent envelope.Address, seq int64) string {
	mark, ok := c.Mark(conversation, agent)
	if !ok {
		return api.Stored
	}
	return mark.State(seq)
}

package deliver

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Index remembers values by key; daemon/index is one.
type Index interface {
	Get(key string) (value []byte, ok bool)
	Put(key string, value []byte) error
}

// Remember lets the deliverer note which agents have nothing to get, before Run: at the
// next start their files need not be read.
func (d *Deliverer) Remember(x Index) { d.index = x }

// Stay is that an agent is or was in a conversation.
type Stay struct {
	Conversation string
	Last         int64 // line of the conversation
	First        int64 // line that brought the agent in
	Left         int64 // line of its leave, 0 while it is in
	Over         bool  // the conversation does not go on for the agent
}

// RecoverAgent is Recover for the conversations of one agent, which are those given,
// sorted.
func (d *Deliverer) RecoverAgent(agent string, stays []Stay) {
	if d.settled(agent, stays) {
		return
	}
	r, err := d.reader(agent)
	if err != nil {
		for _, s := range stays { // it is tried again there, as long as the agent is there
			d.queue.Add(s.Conversation)
		}
		return
	}
	ids, err := r.box.Conversations()
	for _, s := range stays {
		was := r.at(s.Conversation)
		if was > s.Last { // what has come since may be delivered already
			if state, err := d.ledger.State(context.Background(), s.Conversation); err == nil {
				s.Last = state.LastSeq
			}
		}
		d.fit(r, s.Conversation, was, s.Last, s.Over)
		linked := err == nil
		if linked {
			_, linked = slices.BinarySearch(ids, s.Conversation)
		}
		if !linked {
			if err := r.box.Link(s.Conversation); err != nil {
				d.logger.Warn("agent has no link to a conversation", "agent", agent, "conv", s.Conversation, "err", err)
				d.queue.Add(s.Conversation)
			}
		}
		if r.behind(s.Conversation, s.First, s.Left) < s.Last {
			d.queue.Add(s.Conversation)
		}
	}
	r.mu.Lock()
	r.fitted = true
	r.mu.Unlock()
}

// settledParts are what of an agent's folder tells, where it looks as it did, that
// nothing has changed for it: how far it is, its links, and what waits, which is nothing.
var settledParts = []string{mailbox.CursorFile, mailbox.Links, mailbox.InboxNew}

// settled reports whether an agent has got and seen all that is in its conversations, as
// it was when the daemon had to do with it last.
func (d *Deliverer) settled(agent string, stays []Stay) bool {
	if d.index == nil {
		return false
	}
	was, ok := d.index.Get(settledKey(agent))
	if !ok {
		return false
	}
	places := make([]place, len(stays))
	for i, s := range stays {
		places[i] = place{s.Conversation, s.Last}
		if s.Left > 0 {
			places[i].line = min(s.Last, s.Left)
		}
	}
	is, err := d.picture(agent, places)
	return err == nil && string(is) == string(was)
}

// note remembers the agents that have nothing to get and nothing unseen.
func (d *Deliverer) note() {
	if d.index == nil {
		return
	}
	for _, r := range d.all() {
		places, ok := r.places()
		if !ok {
			continue
		}
		files, err := r.box.Unseen()
		if err != nil || len(files) > 0 {
			continue
		}
		is, err := d.picture(r.name, places)
		if err == nil {
			err = d.index.Put(settledKey(r.name), is)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			d.logger.Warn("agent is not noted", "agent", r.name, "err", err)
		}
	}
}

func settledKey(agent string) string { return "settled:" + strings.ToLower(agent) }

// place is the line up to which an agent was shown a conversation.
type place struct {
	conversation string
	line         int64
}

// picture is what an agent's folder looks like, and where the agent is.
func (d *Deliverer) picture(agent string, places []place) ([]byte, error) {
	dir, err := os.Open(d.home.AgentDir(agent))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var out []byte
	for _, part := range settledParts {
		look, err := durable.LookAt(dir, part)
		if err != nil && !(part == mailbox.CursorFile && len(places) == 0 && errors.Is(err, os.ErrNotExist)) {
			return nil, fmt.Errorf("agent %q: %w", agent, err)
		}
		for _, n := range []uint64{look.Inode, uint64(look.Size), uint64(look.Modified)} {
			out = binary.AppendUvarint(out, n)
		}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.conversation, b.conversation) })
	sum := fnv.New64a()
	for _, p := range places {
		fmt.Fprintf(sum, "%s.%s ", p.conversation, strconv.FormatInt(p.line, 10))
	}
	return sum.Sum(out), nil
}

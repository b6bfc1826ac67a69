package desk

import (
	"cmp"
	"context"
	"slices"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	maxWaits      = 5
	maxAwaited    = 5    // of those whom one thing is waited for
	maxWaitStates = 1000 // conversations that are looked at
	maxWaitLines  = 50   // of these, the latest ones whose last line is read
)

// Waits tells what an agent of this host waits for, the latest first: that its call is
// answered, and that somebody replies where the last word is its own.
func (d *Desk) Waits(ctx context.Context, agent string) []api.Wait {
	self := d.home.Address(agent)
	list := d.waitsForCalls(self)
	for _, state := range d.latestOf(ctx, agent) {
		e, err := d.line(ctx, state.ID, state.LastSeq)
		if err != nil || e.Type != envelope.Message || !e.From.Same(self) {
			continue
		}
		others := slices.DeleteFunc(state.Parties(), self.Same)
		list = append(list, api.Wait{For: addresses(others), Conversation: d.ledger.Refs().Short(state.ID), Since: e.Timestamp})
	}
	list = slices.DeleteFunc(list, func(w api.Wait) bool { return len(w.For) == 0 })
	slices.SortFunc(list, func(a, b api.Wait) int { return cmp.Compare(b.Since, a.Since) })
	return list[:min(len(list), maxWaits)]
}

func (d *Desk) waitsForCalls(self envelope.Address) (list []api.Wait) {
	for _, r := range d.calls.List(self) {
		var ringing []envelope.Address
		for _, c := range r.Callees {
			if c.State == call.Ringing {
				ringing = append(ringing, c.Agent)
			}
		}
		if r.From.Same(self) {
			list = append(list, api.Wait{For: addresses(ringing), Request: d.calls.Refs().Short(r.ID), Since: r.CreatedAt})
		}
	}
	return list
}

// latestOf are those of an agent's conversations that go on and that something was said in
// last.
func (d *Desk) latestOf(ctx context.Context, agent string) (list []conv.State) {
	for _, id := range d.deliver.GoingOn(agent, maxWaitStates) {
		if state, err := d.ledger.State(ctx, id); err == nil && !state.Closed && state.Has(d.home.Address(agent)) {
			list = append(list, state)
		}
	}
	slices.SortFunc(list, func(a, b conv.State) int { return cmp.Compare(b.LastTime, a.LastTime) })
	return list[:min(len(list), maxWaitLines)]
}

func addresses(list []envelope.Address) (texts []string) {
	for _, a := range list[:min(len(list), maxAwaited)] {
		texts = append(texts, a.String())
	}
	return texts
}

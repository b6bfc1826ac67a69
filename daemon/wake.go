package daemon

import (
	"context"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/daemon/waker"
	"github.com/claude-duo/duo/maildir/envelope"
)

// openWaker makes what wakes the agents of this host.
func (h *host) openWaker() {
	h.waker = waker.New(waker.Parts{
		Home: h.home, Mail: h.deliver, Lines: h.line, Index: h.index, Logger: h.logger, Name: h.spelled,
		Refs: waker.Refs{
			Message: func(conversation string, seq int64) string { return show.Ref(h.ledger.Refs().Short(conversation), seq) },
			Call:    func(request string) string { return h.switchboard.Refs().Short(request) },
		},
		Sessions: func() []waker.Session { return waker.Live(h.home) },
		Changed:  func(agent string) { h.neighbors.Changed(agent) },
		Count:    func(by, outcome string) { h.counts.wakes.Inc(by, outcome) },
	})
	h.deliver.Filed(h.waker.Waits)
}

// line reads a line of a conversation.
func (h *host) line(ctx context.Context, conversation string, seq int64) (e *envelope.Envelope, state conv.State, err error) {
	err = h.ledger.Read(ctx, conversation, func(v ledger.View) error {
		line, err := v.At(seq)
		e, state = line.Envelope, v.State
		return err
	})
	return e, state, err
}

// lastLine is the number of the last line of a conversation, 0 where it cannot be told.
func (h *host) lastLine(conversation string) int64 {
	state, err := h.ledger.State(context.Background(), conversation)
	if err != nil {
		return 0
	}
	return state.LastSeq
}

// spelled is the name of an agent as its card spells it.
func (h *host) spelled(agent string) string {
	if c, ok := h.roster.Get(agent); ok {
		return c.Name
	}
	return agent
}

// listens is told when an agent has its first live stream, or none any more.
func (h *host) listens(agent string) {
	h.neighbors.Changed(agent)
	h.waker.Waits(agent)
}

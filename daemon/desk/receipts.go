package desk

import (
	"context"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Receipts tells how far a message got, or with seq 0 the last one.
func (d *Desk) Receipts(ctx context.Context, conversation string, seq int64) (api.Receipts, error) {
	state, err := d.ledger.State(ctx, conversation)
	if err != nil {
		return api.Receipts{}, err
	}
	if seq == 0 {
		seq = state.LastSeq
	}
	m, err := d.Message(ctx, conversation, seq)
	if err != nil {
		return api.Receipts{}, err
	}
	list := d.deliver.Recipients(state, m.Envelope)
	return api.Receipts{Ref: m.Ref, Seq: seq, Recipients: list}, d.refusals(ctx, conversation, seq, list)
}

// Sent is Receipts for a message with an id that an agent has sent to another host.
func (d *Desk) Sent(ctx context.Context, agent, id string) (api.Receipts, error) {
	if d.queue == nil {
		return api.Receipts{}, notSent(id)
	}
	waiting, conversation, seq, ok := d.queue.Find(id)
	if waiting != nil && strings.EqualFold(waiting.From.Name, agent) {
		state, _ := d.ledger.State(ctx, conversation) // which may not be here yet
		return api.Receipts{Ref: id, For: state.Creator.Host, Recipients: d.deliver.Recipients(state, waiting)}, nil
	}
	if !ok || conversation == "" { // it waits no more, but is in no log
		conversation, seq = d.find(ctx, agent, id)
	}
	state, err := d.ledger.State(ctx, conversation)
	if _, member := state.Member(d.home.Address(agent)); err == nil && member && seq > 0 {
		return d.Receipts(ctx, conversation, seq)
	}
	if reason, failed := mailbox.At(d.home.AgentDir(agent)).Bounced(id); failed {
		return api.Receipts{}, api.Errorf(api.NotSent, "the message was not sent: %s", reason).WithNext("duo inbox")
	}
	if conversation, seq := d.find(ctx, agent, router.UndeliverableID(id)); seq > 0 {
		told, err := d.Message(ctx, conversation, seq)
		if err != nil {
			return api.Receipts{}, err
		}
		return api.Receipts{}, api.Errorf(api.NotSent, "the message was not sent: %s", told.Envelope.Why).WithNext("duo read %s", told.Ref)
	}
	return api.Receipts{}, notSent(id)
}

func notSent(id string) error {
	return api.Errorf(api.MessageNotFound, "no message %q of yours here", id).WithNext("duo list")
}

// find looks for the line with an id in the conversations of an agent that other hosts order.
func (d *Desk) find(ctx context.Context, agent, id string) (conversation string, seq int64) {
	ids, _ := mailbox.At(d.home.AgentDir(agent)).Conversations() // an agent with none has sent nothing
	for _, conversation := range ids {
		state, err := d.ledger.State(ctx, conversation)
		if err != nil || state.Origin == d.home.Host.ID {
			continue
		}
		if seq, err := d.ledger.Seq(conversation, id, 0); err == nil && seq > 0 {
			return conversation, seq
		}
	}
	return "", 0
}

// Await is Receipts when every recipient has got as far as until, or when ctx ends.
func (d *Desk) Await(ctx context.Context, conversation string, seq int64, until string) (api.Receipts, error) {
	if seq == 0 { // the last one of now, whatever comes while we wait
		state, err := d.ledger.State(ctx, conversation)
		if err != nil {
			return api.Receipts{}, err
		}
		seq = state.LastSeq
	}
	return d.await(ctx, until, func(ctx context.Context) (api.Receipts, error) { return d.Receipts(ctx, conversation, seq) })
}

// AwaitSent is Sent when every recipient has got as far as until, or when ctx ends.
func (d *Desk) AwaitSent(ctx context.Context, agent, id, until string) (api.Receipts, error) {
	return d.await(ctx, until, func(ctx context.Context) (api.Receipts, error) { return d.Sent(ctx, agent, id) })
}

func (d *Desk) await(ctx context.Context, until string, look func(context.Context) (api.Receipts, error)) (api.Receipts, error) {
	for {
		progress := d.deliver.Progress()
		r, err := look(context.WithoutCancel(ctx))
		if err != nil || r.Seq > 0 && reached(r.Recipients, until) {
			return r, err
		}
		select {
		case <-ctx.Done():
			r.TimedOut = true
			return r, nil
		case <-progress:
		}
	}
}

// reached reports whether everybody has come to a state, or comes no further.
func reached(list []api.Recipient, until string) bool {
	order := []string{api.Queued, api.Stored, api.Delivered, api.Seen}
	want := slices.Index(order, until)
	return !slices.ContainsFunc(list, func(r api.Recipient) bool { return r.Why == "" && slices.Index(order, r.State) < want })
}

// soon is how many lines behind a message the host of a recipient says that it takes
// nothing: it does so when it first hears of the conversation.
const soon = 200

// refusals notes of recipients at other hosts why they are told nothing, where their host
// has said so behind a message.
func (d *Desk) refusals(ctx context.Context, conversation string, seq int64, list []api.Recipient) error {
	open := slices.ContainsFunc(list, d.mayRefuse)
	if !open {
		return nil
	}
	return d.ledger.Read(ctx, conversation, func(v ledger.View) error {
		for line, err := range v.Since(seq) {
			if err != nil || line.Envelope.Seq > seq+soon {
				return err
			}
			if line.Envelope.Event == envelope.EventUndeliverable {
				d.refusedBy(line.Envelope, list)
			}
		}
		return nil
	})
}

func (d *Desk) mayRefuse(r api.Recipient) bool {
	a, err := envelope.ParseAddress(r.Agent)
	return err == nil && a.Host != d.home.Host.Name && r.State == api.Stored
}

func (d *Desk) refusedBy(e *envelope.Envelope, list []api.Recipient) {
	for i, r := range list {
		if a, err := envelope.ParseAddress(r.Agent); err == nil && a.Same(e.From) && d.mayRefuse(r) {
			list[i].Why = e.Why
		}
	}
}

package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

type receiptOptions struct {
	wait  span
	until string
}

func newReceipts(a *app) *cobra.Command {
	o := receiptOptions{until: api.Seen}
	cmd := &cobra.Command{
		Use: "receipts REF", Short: "Tell how far a message got",
		Long: `Tell how far a message got with each recipient. REF is a message, a conversation for
its last message, or the id of a message that was queued.

queued     it waits in your outbox, or for the host that orders the conversation
stored     it is in the conversation's log, on disk
delivered  it is in the recipient's inbox, or a live stream has confirmed it
seen       the recipient was shown the body

Whose host takes it not gets no further, and the reason is told: a wait then ends with exit
code 1.`,
		Example: `  duo receipts c9f3a.42
  duo receipts c9f3a.42 --wait --for seen`,
		Args: exactly(1), ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error {
			forWaits(cmd, &o.wait)
			return a.runReceipts(cmd.Context(), o, args[0])
		},
	}
	addWait(cmd, &o.wait, "wait until everybody has come to the state of --for, 100s or --wait=DURATION")
	cmd.Flags().Var(choice{&o.until, []string{forDelivered, forSeen}}, "for", "the state to wait for; it implies --wait")
	return cmd
}

func (a *app) runReceipts(ctx context.Context, o receiptOptions, ref string) error {
	if _, err := a.me(); err != nil {
		return err
	}
	conversation, seq, err := a.lineOf(ctx, ref)
	if err != nil {
		return err
	}
	if conversation == "" && seq == 0 {
		waiting := api.Receipts{Ref: ref, Recipients: []api.Recipient{}}
		return a.print(waiting, func() {
			a.say("%s is queued: it is sent when a daemon runs", ref)
			a.next("duo up")
		})
	}
	r, err := a.receipts(ctx, conversation, seq, o.until, time.Duration(o.wait))
	if err != nil {
		return err
	}
	if err := a.print(r, func() { a.text().Receipts(r) }); err != nil {
		return err
	}
	if o.wait == 0 {
		return nil
	}
	return a.pendingState(r, o.until, time.Duration(o.wait))
}

// lineOf finds the line that a reference names: seq 0 is the last one. A message
// that still waits in the outbox has no place. One that was queued for another host is
// named by its id, which stands for the conversation then.
func (a *app) lineOf(ctx context.Context, ref string) (conversation string, seq int64, err error) {
	if _, notID := envelope.ParseID(ref); notID != nil {
		return splitRef(ref)
	}
	files, err := a.files()
	if err != nil {
		return "", 0, err
	}
	conversation, seq, left, err := files.Left(ref)
	switch {
	case err != nil:
		return "", 0, err
	case left && conversation != "" && seq == 0:
		return ref, 0, nil
	case left:
		return conversation, seq, nil
	}
	found, err := ask(ctx, a, func(c *client.Client) (api.Found, error) { return c.Find(ctx, ref) })
	if err == nil && found.Message != nil {
		return found.Message.Envelope.Conversation, found.Message.Envelope.Seq, nil
	}
	if known := (*api.Error)(nil); errors.As(err, &known) && known.Code == api.ConversationNotFound {
		err = nil // it may be the id of a message
	}
	return ref, 0, err
}

// receipts asks how far a message got, and waits for a state.
func (a *app) receipts(ctx context.Context, conversation string, seq int64, until string, wait time.Duration) (r api.Receipts, err error) {
	_, err = reach.Patiently(ctx, wait, func(step time.Duration) (bool, error) {
		state := until
		if wait == 0 {
			state = ""
		}
		r, err = ask(ctx, a, func(c *client.Client) (api.Receipts, error) {
			return c.Receipts(ctx, conversation, seq, state, step)
		})
		return err == nil && reached(r, until), err
	})
	if err == nil && wait > 0 {
		r.TimedOut = !reached(r, until)
	}
	return r, err
}

// reached reports whether every recipient has come to a state, or comes no further.
func reached(r api.Receipts, until string) bool {
	order := []string{api.Queued, api.Stored, api.Delivered, api.Seen}
	want := slices.Index(order, until)
	return r.Seq > 0 && !slices.ContainsFunc(r.Recipients, func(one api.Recipient) bool {
		return one.Why == "" && slices.Index(order, one.State) < want
	})
}

// pendingState is the end of a wait for a state, or nil where it was reached by everybody.
func (a *app) pendingState(r api.Receipts, until string, wait time.Duration) error {
	if i := slices.IndexFunc(r.Recipients, func(one api.Recipient) bool { return one.Why != "" }); i >= 0 {
		one := r.Recipients[i]
		return api.Errorf(api.NotSent, "%s does not reach %s: %s", r.Ref, a.text().Local(one.Agent), one.Why).WithNext("duo show %s", one.Agent)
	}
	if reached(r, until) {
		return nil
	}
	return api.Errorf(api.Pending, "not %s by everybody in %s, which is not an error", until, brief(wait)).
		WithNext("duo receipts %s --wait --for %s", r.Ref, until)
}

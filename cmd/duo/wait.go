package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

type waitOptions struct {
	what         string
	conversation string
	from         string
	after        place
	timeout      span
	peek         bool
}

func newWait(a *app) *cobra.Command {
	o := waitOptions{what: "any", timeout: span(defaultWait)}
	cmd := &cobra.Command{
		Use: "wait [REF]", Short: "Block until one thing happens",
		Long: `Block until there is something that you have not seen, show it and mark it seen.

--for any      anything (the default)
--for message  a message, not a join, leave or close
--for call     a call that you can accept
--for answer   the answer to a call of yours: to REF, or to any. Exit code 0 is accepted,
               9 declined or busy, 8 missed
--for reply    the next message by somebody else who had been shown REF
--for seen     REF was seen by everybody it was for

A wait that ends empty is exit code 8, which is not an error: run it again, or go on.`,
		Example: `  duo wait
  duo wait --for message --from Nova --timeout 5m
  duo wait --for call --timeout 10m
  duo wait --for answer r77b2
  duo wait --for reply c9f3a.42
  duo wait --for seen c9f3a.42`,
		Args: atMost(1), ValidArgsFunction: a.completeRefs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runWait(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.Var(choice{&o.what, []string{"any", "message", forCall, forAnswer, forReply, forSeen}}, "for", "what to wait for")
	f.StringVar(&o.conversation, "conversation", "", "only in this conversation")
	f.StringVar(&o.from, "from", "", "only from this agent")
	f.Var(&o.after, "after", "only behind this seq of the conversation, seen or not")
	f.Var(&o.timeout, "timeout", "how long at most")
	f.BoolVar(&o.peek, "peek", false, "do not mark it seen")
	a.completeFlag(cmd, "conversation")
	return cmd
}

func (a *app) runWait(ctx context.Context, o waitOptions, args []string) error {
	if _, err := a.me(); err != nil {
		return err
	}
	if o.what == forAnswer {
		return a.waitForAnswer(ctx, o, args)
	}
	named := o.what == forReply || o.what == forSeen
	switch {
	case !named && len(args) == 1 && isConversation(args[0]):
		return usage("duo wait --conversation "+shellQuote(args[0]), "wait takes a conversation with --conversation")
	case named && len(args) == 0:
		return usage("duo wait --for "+o.what+" REF", "wait --for %s needs a message: one like c9f3a.42", o.what)
	case !named && len(args) == 1 && isRequest(args[0]):
		return usage("duo wait --for answer "+args[0], "the answer to a call is waited for with --for answer")
	case !named && len(args) == 1:
		return usage("duo wait --for reply "+shellQuote(args[0]), "a message is waited for with --for reply or --for seen")
	case o.after.seq != nil && o.conversation == "":
		return usage("duo wait --after "+o.after.String()+" --conversation REF", "--after counts in one conversation: name it")
	case o.what == forReply:
		return a.waitReply(ctx, o, args[0])
	case o.what == forSeen:
		return a.runReceipts(ctx, receiptOptions{wait: o.timeout, until: api.Seen}, args[0])
	}
	return a.waitAny(ctx, o)
}

// checkAgent is an error where there is no agent of that name. It asks for the address,
// which is no reference to a conversation.
func (a *app) checkAgent(ctx context.Context, name string) error {
	if !strings.Contains(name, "@") {
		name = a.opened.Address(name).String()
	}
	found, err := ask(ctx, a, func(c *client.Client) (api.Found, error) { return c.Find(ctx, name) })
	if err == nil && found.Agent == nil {
		return usage("duo who", "%q is no agent", name)
	}
	return err
}

func (a *app) waitAny(ctx context.Context, o waitOptions) error {
	if o.from != "" {
		if err := a.checkAgent(ctx, o.from); err != nil {
			return err
		}
	}
	query := client.Events{Conversation: o.conversation, After: o.after.seq, From: o.from, Limit: defaultLimit}
	wanted := func(api.Message) bool { return true }
	switch o.what {
	case "message":
		query.Types = []envelope.Type{envelope.Message}
	case forCall:
		query.Types = []envelope.Type{envelope.Call}
		wanted = func(m api.Message) bool { return api.CanAccept(m.Envelope.Status) } // not what became of one
	}
	lease := a.lease(o.peek || o.after.seq != nil) // seen or not is asked for to look at
	list, err := a.events(ctx, query, time.Duration(o.timeout), func(list []api.Message) ([]api.Message, error) {
		return lease.take(slices.DeleteFunc(list, func(m api.Message) bool { return !wanted(m) }))
	})
	if err != nil {
		return err
	}
	lease.tell()
	if len(list.Messages) == 0 {
		return a.nothing(list, api.Errorf(api.Pending, "nothing came in %s, which is not an error", brief(time.Duration(o.timeout))).WithNext("%s", shellLine(append([]string{"duo"}, a.args...)...)))
	}
	return a.reveal(ctx, list, revealOptions{keep: o.peek})
}

// waitForAnswer waits for the answer to the call that is named, or to any.
func (a *app) waitForAnswer(ctx context.Context, o waitOptions, args []string) error {
	ref := ""
	if len(args) == 1 {
		ref = args[0]
		if err := checkRequest(ref); err != nil {
			return err
		}
	}
	if ref == "" {
		query := client.Events{From: o.from, Types: []envelope.Type{envelope.Accept, envelope.Reject}, Limit: 1}
		list, err := a.events(ctx, query, time.Duration(o.timeout), a.lease(o.peek).take)
		if err != nil {
			return err
		}
		if len(list.Messages) == 0 {
			return a.nothing(list, api.Errorf(api.Pending, "no answer in %s, which is not an error", brief(time.Duration(o.timeout))).WithNext("duo call"))
		}
		ref = list.Messages[0].Envelope.Request
	}
	r, err := a.request(ctx, ref)
	if err != nil {
		return err
	}
	if caller, err := envelope.ParseAddress(r.From); err != nil || !a.isMe(caller) {
		return api.Errorf(api.NotAllowed, "%s is not a call of yours", r.Ref).WithNext("%s", a.text().AfterCall(r))
	}
	return a.waitAnswer(ctx, api.Called{Request: r}, time.Duration(o.timeout))
}

func (a *app) waitReply(ctx context.Context, o waitOptions, ref string) error {
	found, err := a.message(ctx, ref)
	if err != nil {
		return err
	}
	reply, err := a.nextReply(ctx, found.Envelope.Conversation, found.Envelope.Seq, time.Duration(o.timeout))
	if err != nil {
		return err
	}
	if reply == nil {
		return a.nothing(api.Messages{}, asError(a.noReply(ctx, found, time.Duration(o.timeout))))
	}
	return a.reveal(ctx, api.Messages{Messages: []api.Message{*reply}}, revealOptions{keep: o.peek})
}

// message asks for the message that a reference names; a conversation means its last
// message.
func (a *app) message(ctx context.Context, ref string) (api.Message, error) {
	found, err := ask(ctx, a, func(c *client.Client) (api.Found, error) { return c.Find(ctx, ref) })
	switch {
	case err != nil:
		return api.Message{}, err
	case found.Message != nil:
		return *found.Message, nil
	case found.Conversation != nil && found.Conversation.LastSeq > 0:
		return a.message(ctx, found.Conversation.Ref+"."+strconv.FormatInt(found.Conversation.LastSeq, 10))
	}
	return api.Message{}, usage("duo list", "%q names no message: want one like c9f3a.42", ref)
}

package main

import (
	"strings"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

type sendOptions struct {
	body
	reply   replyOptions
	to      string
	replyTo string
	key     string
}

func newSend(a *app) *cobra.Command {
	var o sendOptions
	cmd := &cobra.Command{
		Use: "send BODY", Short: "Say something in a conversation",
		Long: `Send a message to everybody in a conversation: the one of --to, else that of
DUO_CONVERSATION, else your current one (that you created, joined or wrote to last),
else the only active one. The answer names the conversation and its people.`,
		Example: `  duo send "I agree, let us ship it."
  duo send "Which file?" --to c9f3a --wait
  duo send --body-file report.md --reply-to c9f3a.42`,
		ValidArgsFunction: noCompletion,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runSend(cmd, o, args) },
	}
	o.addFlags(a, cmd)
	o.addAttach(cmd)
	o.reply.addFlags(cmd)
	cmd.Flags().StringVar(&o.to, "to", "", "conversation")
	cmd.Flags().StringVar(&o.replyTo, "reply-to", "", "message that this answers")
	addKey(cmd, &o.key)
	a.completeFlag(cmd, "to")
	return cmd
}

func (a *app) runSend(cmd *cobra.Command, o sendOptions, args []string) error {
	_, said, err := o.textOrFiles(cmd, args, 0)
	if err != nil {
		return err
	}
	draft, err := a.draft(envelope.Message, o.key)
	if err != nil {
		return err
	}
	draft.Content, draft.Conversation = said, o.to
	if cmd.Flags().Changed("to") {
		if err := checkConversation(o.to, "duo reply "+shellQuote(o.to)+` "..."`); err != nil {
			return err
		}
	}
	if cmd.Flags().Changed("reply-to") {
		if err := answer(draft, o.replyTo); err != nil {
			return err
		}
	}
	if draft.Conversation == "" {
		name := func(ref string) string { return shellLine(append([]string{"duo"}, a.args...)...) + " --to " + ref }
		if draft.Conversation, err = a.current(cmd.Context(), true, name); err != nil {
			return err
		}
	}
	return a.sendAndWait(cmd, draft, o.attach, o.reply)
}

// answer makes a draft the answer to a message, in the conversation of that message.
// Where the draft names a conversation too, the reference with more digits counts: it can
// mean no other one than both do.
func answer(draft *envelope.Envelope, ref string) error {
	conversation, seq, err := splitRef(ref)
	if err != nil {
		return err
	}
	switch to, of := digits(draft.Conversation), digits(conversation); {
	case strings.HasSuffix(of, to):
		draft.Conversation = conversation
	case !strings.HasSuffix(to, of):
		return usage("duo reply "+shellQuote(ref)+` "..."`, "%s is not in the conversation %s", ref, draft.Conversation)
	}
	draft.ReplyTo.Seq = seq
	return nil
}

type replyToOptions struct {
	body
	reply replyOptions
	key   string
}

func newReply(a *app) *cobra.Command {
	var o replyToOptions
	cmd := &cobra.Command{
		Use: "reply REF BODY", Short: "Answer a message",
		Long: `Answer a message in its conversation. REF is a message, or a conversation to answer
without naming a message.`,
		Example: `  duo reply c9f3a.42 "Fixed in main.go, line 12."
  go test ./... 2>&1 | duo reply c9f3a.42 -`,
		ValidArgsFunction: a.completeRefs,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runReply(cmd, o, args) },
	}
	o.addFlags(a, cmd)
	o.addAttach(cmd)
	o.reply.addFlags(cmd)
	addKey(cmd, &o.key)
	return cmd
}

func (a *app) runReply(cmd *cobra.Command, o replyToOptions, args []string) error {
	refs, text, err := o.textOrFiles(cmd, args, 1)
	if err != nil {
		return err
	}
	draft, err := a.draft(envelope.Message, o.key)
	if err != nil {
		return err
	}
	draft.Content = text
	if err := answer(draft, refs[0]); err != nil {
		return err
	}
	return a.sendAndWait(cmd, draft, o.attach, o.reply)
}

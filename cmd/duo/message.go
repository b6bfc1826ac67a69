package main

import (
	"errors"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

type messageOptions struct {
	body
	reply replyOptions
	topic string
	key   string
}

func newMessage(a *app) *cobra.Command {
	var o messageOptions
	cmd := &cobra.Command{
		Use: "message AGENT... BODY", Short: "Write to an agent",
		Long: `Write to one or more agents. The message goes on in the untitled conversation with
exactly these agents; --topic begins a new conversation instead.

It is on disk when the command returns. The agents need not be there: they find it
in their inbox whenever they look.`,
		Example: `  duo message Nova "Can you look at main.go?"
  duo message Nova Sage "Who wants this?" --topic "Flaky test" --wait
  git diff | duo message Nova - --topic "Review this diff"`,
		ValidArgsFunction: a.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runMessage(cmd, o, args)
		},
	}
	o.addFlags(a, cmd)
	o.addAttach(cmd)
	o.reply.addFlags(cmd)
	cmd.Flags().StringVar(&o.topic, "topic", "", "begin a conversation with this topic")
	addKey(cmd, &o.key)
	return cmd
}

func addKey(cmd *cobra.Command, key *string) {
	cmd.Flags().Var((*keyFlag)(key), "key", "name this message: with the same key again nothing is sent twice")
}

func (a *app) runMessage(cmd *cobra.Command, o messageOptions, args []string) error {
	agents, text, err := o.split(cmd, args, -1)
	if err != nil {
		return err
	}
	draft, err := a.draft(envelope.Message, o.key)
	if err != nil {
		return err
	}
	if cmd.Flags().Changed("topic") && strings.TrimSpace(o.topic) == "" {
		return usage(cmd.CommandPath()+" --help", "--topic: the topic is empty")
	}
	draft.To, draft.Topic, draft.Content = splitNames(agents), o.topic, text
	err = a.sendAndWait(cmd, draft, o.attach, o.reply)
	if hint := a.unquoted("message", err, args); hint != nil && o.file == "" {
		return hint
	}
	return err
}

// splitNames takes "Nova,Sage" for two names.
func splitNames(words []string) []string {
	var names []string
	for _, word := range words {
		names = append(names, strings.FieldsFunc(word, func(r rune) bool { return r == ',' })...)
	}
	return names
}

// unquoted recognises a text of several words that was not put in quotes, so that
// its words look like agents, after a command that takes both.
func (a *app) unquoted(command string, err error, args []string) error {
	var e *api.Error
	home, openErr := a.openHome(maildir.Open)
	if !errors.As(err, &e) || e.Code != api.AgentNotFound && e.Code != api.BadReference || openErr != nil {
		return nil
	}
	if isConversation(args[0]) {
		return usage(shellLine(append([]string{"duo", "send", "--to", args[0], "--"}, args[1:]...)...), "%q is a conversation: send talks in one, %s is for agents", args[0], command)
	}
	for i, word := range args {
		address, err := envelope.ParseAddress(word)
		if err == nil {
			_, err = offline.ReadCard(home, address.Name)
		}
		if err != nil && i > 0 && i < len(args)-1 {
			return usage("duo "+command+" "+shellLine(append(args[:i:i], strings.Join(args[i:], " "))...),
				"%w; put a text of several words in quotes", e)
		}
		if err != nil {
			return nil
		}
	}
	return nil
}

// sendAndWait posts a message with files, says so, and waits for what the options ask.
func (a *app) sendAndWait(cmd *cobra.Command, draft *envelope.Envelope, files []string, o replyOptions) error {
	ctx := cmd.Context()
	forWaits(cmd, &o.wait)
	if err := a.upload(ctx, draft, files); err != nil {
		return err
	}
	sent, err := a.post(ctx, draft)
	if err != nil {
		return err
	}
	if sent.dropped == nil {
		a.goOnIn(sent.Conversation.ID)
	}
	if o.wait == 0 {
		return a.tell(sent, func(p api.Posted) {
			a.text().Sent(p)
			a.text().AfterSending(p)
		})
	}
	if sent.dropped != nil {
		if err := a.tell(sent, nil); err != nil {
			return err
		}
		return api.Errorf(api.Pending, "nothing to wait for yet: the message is queued, which is not an error").
			WithNext("duo receipts %s", draft.ID)
	}
	return a.awaitReply(ctx, sent.Posted, o)
}

package main

import (
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

type createOptions struct {
	topic     string
	mode      string
	open      bool
	invite    []string
	turnLimit int64
	key       string
}

func newCreate(a *app) *cobra.Command {
	var o createOptions
	cmd := &cobra.Command{
		Use: "create --topic TOPIC", Short: "Begin a conversation",
		Long: `Begin a conversation with a topic and invite agents to it. It becomes your current
one: duo send talks in it.`,
		Example: `  duo create --topic "Release 1.2" --invite Nova,Sage
  duo create --topic "Debate" --open --turn-limit 20`,
		Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runCreate(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.topic, "topic", "", "what it is about (required)")
	f.Var(choice{&o.mode, []string{"live", "async"}}, "mode", "whether answers are expected at once; default live")
	f.BoolVar(&o.open, "open", false, "anybody may join")
	f.StringSliceVar(&o.invite, "invite", nil, "agents to invite: A,B")
	f.Int64Var(&o.turnLimit, "turn-limit", 0, "at most so many messages, 0 for no limit")
	addKey(cmd, &o.key)
	return cmd
}

func (a *app) runCreate(cmd *cobra.Command, o createOptions) error {
	if strings.TrimSpace(o.topic) == "" {
		return usage(`duo create --topic "..."`, "a conversation needs a topic")
	}
	if o.turnLimit < 0 {
		return usage("duo create --topic "+shellQuote(o.topic)+" --turn-limit 20", "--turn-limit: want 0 or more, got %d", o.turnLimit)
	}
	draft, err := a.draft(envelope.Create, o.key)
	if err != nil {
		return err
	}
	draft.Topic, draft.Mode, draft.Open, draft.TurnLimit, draft.To = o.topic, o.mode, o.open, o.turnLimit, o.invite
	made, err := a.post(cmd.Context(), draft)
	if err != nil {
		return err
	}
	return a.tell(made, func(p api.Posted) {
		verb := "created"
		if p.Duplicate {
			verb = "was created before:"
		}
		a.say("%s %s", verb, a.summary(p.Conversation))
		a.next(`duo send "..."`)
	})
}

func newJoin(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "join CONV", Short: "Enter an open conversation",
		Long:    "Enter an open conversation. It becomes your current one.",
		Example: "  duo join c9f3a",
		Args:    exactly(1), ValidArgsFunction: a.completeConversations,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd, envelope.Join, args[0], nil, "joined", "duo log REF")
		},
	}
}

func newInvite(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "invite CONV AGENT...", Short: "Bring agents into a conversation",
		Long:    "Bring agents into a conversation. They see what is said from then on in their inbox.",
		Example: "  duo invite c9f3a Sage Echo",
		Args:    atLeast(2), ValidArgsFunction: a.completeInvite,
		RunE: func(cmd *cobra.Command, args []string) error {
			set := func(e *envelope.Envelope) { e.To = args[1:] }
			return a.change(cmd, envelope.Invite, args[0], set, "invited "+strings.Join(args[1:], ", ")+" to", "duo show REF")
		},
	}
}

// change posts a draft that changes a conversation, and tells the new state.
func (a *app) change(cmd *cobra.Command, kind envelope.Type, ref string, set func(*envelope.Envelope), verb, next string) error {
	if !isConversation(ref) {
		_, _, err := splitRef(ref)
		if err == nil {
			err = usage(cmd.CommandPath()+" --help", "%q names a message, not a conversation", ref)
		}
		return err
	}
	draft, err := a.draft(kind, "")
	if err != nil {
		return err
	}
	draft.Conversation = ref
	if set != nil {
		set(draft)
	}
	changed, err := a.post(cmd.Context(), draft)
	if err != nil {
		return err
	}
	return a.tell(changed, func(p api.Posted) {
		a.say("%s %s", verb, a.summary(p.Conversation))
		a.next("%s", strings.ReplaceAll(next, "REF", p.Conversation.Ref))
	})
}

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
		ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, words []string) error {
			if len(words) > 0 {
				topic := strings.Join(append([]string{o.topic}, words...), " ")
				return usage(shellLine("duo", "create", "--topic", strings.TrimSpace(topic)), "create takes the topic with --topic, in quotes")
			}
			return a.runCreate(cmd, o)
		},
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
		return usage(`duo create --topic "..."`, "a conversation needs a topic, with --topic")
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
		a.say("%s %s", verb, a.text().Summary(p.Conversation))
		a.next(`duo send "..."`)
	})
}

func newJoin(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "join CONV", Short: "Enter an open conversation",
		Long: `Enter an open conversation. It becomes your current one. One that is ordered by a linked
host, and is not here yet, is named by its full id and that host.`,
		Example: `  duo join c9f3a
  duo join 7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3@nyc`,
		Args: exactly(1), ValidArgsFunction: a.completeConversations,
		RunE: func(cmd *cobra.Command, args []string) error {
			if id, host, ok := strings.Cut(args[0], "@"); ok && isConversation(id) && envelope.CheckHost(host) == nil {
				return a.changeIn(cmd, envelope.Join, args[0], nil, "joined", "duo log REF")
			}
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
			names := splitNames(args[1:])
			set := func(e *envelope.Envelope) { e.To = names }
			return a.change(cmd, envelope.Invite, args[0], set, "invited "+strings.Join(names, ", ")+" to", "duo show REF")
		},
	}
}

// change posts a draft that changes a conversation, and tells the new state.
func (a *app) change(cmd *cobra.Command, kind envelope.Type, ref string, set func(*envelope.Envelope), verb, next string) error {
	if err := checkConversation(ref, cmd.CommandPath()+" --help"); err != nil {
		return err
	}
	return a.changeIn(cmd, kind, ref, set, verb, next)
}

// changeIn is change for a reference that is one.
func (a *app) changeIn(cmd *cobra.Command, kind envelope.Type, ref string, set func(*envelope.Envelope), verb, next string) error {
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
	return a.tell(changed, func(p api.Posted) { a.text().Changed(p, verb, next) })
}

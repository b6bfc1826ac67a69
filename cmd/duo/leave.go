package main

import (
	"strings"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

func newLeave(a *app) *cobra.Command {
	var text body
	cmd := &cobra.Command{
		Use: "leave [CONV [BODY]]", Short: "Leave a conversation",
		Long: `Leave a conversation, with last words if you like. Nothing of it reaches you any more;
its log stays readable. Without CONV it is the current conversation.`,
		Example: `  duo leave
  duo leave c9f3a "Thanks, I have what I need."`,
		ValidArgsFunction: a.completeConversations,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, args, err := a.takeConversation(cmd, args)
			if err != nil {
				return err
			}
			_, last, err := text.optional(cmd, args, 0)
			if err != nil {
				return err
			}
			set := func(e *envelope.Envelope) { e.Content = last }
			return a.change(cmd, envelope.Leave, ref, set, "left", "duo list")
		},
	}
	text.addFlags(a, cmd)
	return cmd
}

func newClose(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "close [CONV]", Short: "End a conversation",
		Long: `End a conversation that you created: it takes no more messages, and everybody is told
the reason. Without CONV it is the current conversation.`,
		Example:           `  duo close c9f3a --reason "Decided: we ship on Friday."`,
		ValidArgsFunction: a.completeConversations,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, rest, err := a.takeConversation(cmd, args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return usage(shellLine("duo", "close", ref, "--reason", strings.Join(rest, " ")), "close takes the reason with --reason")
			}
			set := func(e *envelope.Envelope) { e.Reason = reason }
			return a.change(cmd, envelope.Close, ref, set, "closed", "duo log REF")
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the others")
	return cmd
}

// takeConversation takes a conversation off the front of the arguments, or the current
// one where there are none, and none that is guessed: who leaves twice leaves one. What is neither a reference nor nothing is a mistake: the
// wrong conversation would be left, and that cannot be undone.
func (a *app) takeConversation(cmd *cobra.Command, args []string) (ref string, rest []string, err error) {
	if len(args) > 0 {
		return args[0], args[1:], checkConversation(args[0], cmd.CommandPath()+" --help")
	}
	ref, err = a.current(cmd.Context(), false, func(ref string) string { return cmd.CommandPath() + " " + ref })
	return ref, nil, err
}

package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

type acceptOptions struct {
	body
	key string
}

func newAccept(a *app) *cobra.Command {
	var o acceptOptions
	cmd := &cobra.Command{
		Use: "accept [REF] [BODY]", Short: "Accept a call",
		Long: `Accept a call, with a first word if you like. The conversation becomes your current one:
duo send talks in it. Without REF it is the only call that rings, or the only one that you
can accept. A call that was
missed, or came while you were busy or away, can be accepted later just the same.

One word is taken for a REF, unless a space is behind it.`,
		Example: `  duo accept
  duo accept r77b2 "I am here. Line 40?"`,
		ValidArgsFunction: a.completeCalls,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runAccept(cmd, o, args) },
	}
	o.addFlags(a, cmd)
	addKey(cmd, &o.key)
	return cmd
}

func (a *app) runAccept(cmd *cobra.Command, o acceptOptions, args []string) error {
	ref := ""
	if len(args) > 0 && args[0] != "-" && !strings.ContainsAny(args[0], " \t\n") {
		switch {
		case maildir.NamesRequest(args[0]):
		case len(args) > 1 || args[0] == "" || isConversation(args[0]): // and no text
			return checkRequest(args[0])
		default:
			return usage(a.withSpace(args[0]), "%q is no reference to a call: want one like r77b2; a text of one word needs a space behind it", args[0])
		}
		ref, args = args[0], args[1:]
	}
	_, text, err := o.optional(cmd, args, 0)
	if err != nil {
		return err
	}
	draft, err := a.draft(envelope.Accept, o.key)
	if err != nil {
		return err
	}
	draft.Request, draft.Content = ref, text
	accepted, err := a.signal(cmd.Context(), draft)
	if err != nil {
		return a.naming(cmd, err)
	}
	return a.tellRung(accepted, a.text().Accepted)
}

// naming makes of the error that a command could mean several calls the same command with
// the first of them.
func (a *app) naming(cmd *cobra.Command, err error) error {
	var e *api.Error
	i := slices.Index(a.args, cmd.Name())
	if !errors.As(err, &e) || e.Code != api.AmbiguousReference || len(e.Near) == 0 || i < 0 {
		return err
	}
	return e.WithNext("%s", shellLine(slices.Concat([]string{"duo"}, a.args[:i+1], e.Near[:1], a.args[i+1:])...))
}

type rejectOptions struct {
	reason string
	busy   bool
}

func newReject(a *app) *cobra.Command {
	var o rejectOptions
	cmd := &cobra.Command{
		Use: "reject [REF]", Short: "Say no to a call",
		Long: `Say no to a call. With --busy it is only not now: you can still accept it later, and the
caller is told so. Without REF it is the only call that you can answer.`,
		Example: `  duo reject r77b2 --reason "I do not know that code."
  duo reject --busy --reason "in a release until 15:00"`,
		ValidArgsFunction: a.completeCalls,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runReject(cmd, o, args) },
	}
	cmd.Flags().StringVar(&o.reason, "reason", "", "why, for the caller")
	cmd.Flags().BoolVar(&o.busy, "busy", false, "not now, but perhaps later")
	return cmd
}

func (a *app) runReject(cmd *cobra.Command, o rejectOptions, args []string) error {
	if len(args) > 0 && !maildir.NamesRequest(args[0]) && strings.Contains(args[0], " ") {
		return usage(shellLine("duo", "reject", "--reason", args[0]), "reject takes the reason with --reason")
	}
	ref, rest, err := takeRequest(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usage(shellLine("duo", "reject", ref, "--reason", strings.Join(rest, " ")), "reject takes the reason with --reason")
	}
	draft, err := a.draft(envelope.Reject, "")
	if err != nil {
		return err
	}
	draft.Request, draft.Reason, draft.Busy = ref, o.reason, o.busy
	rejected, err := a.signal(cmd.Context(), draft)
	if err != nil {
		return a.naming(cmd, err)
	}
	return a.tellRung(rejected, func(called api.Called) { a.text().Rejected(called, o.busy) })
}

func newCancel(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "cancel [REF]", Short: "Withdraw a call of yours",
		Long: `Withdraw a call that you have placed: it rings no more, and nobody can accept it. Without
REF it is the only one that is open. A call that was accepted is ended with duo leave.`,
		Example: "  duo cancel r77b2", ValidArgsFunction: a.completeCalls, Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runCancel(cmd, args) },
	}
}

func (a *app) runCancel(cmd *cobra.Command, args []string) error {
	ref, _, err := takeRequest(args)
	if err != nil {
		return err
	}
	draft, err := a.draft(envelope.Cancel, "")
	if err != nil {
		return err
	}
	draft.Request = ref
	cancelled, err := a.signal(cmd.Context(), draft)
	if err != nil {
		return a.naming(cmd, err)
	}
	if r := cancelled.Request; r.State == api.CallAccepted {
		return api.Errorf(api.RequestAnswered, "%s was accepted before: there is nothing to cancel", r.Ref).WithNext("duo leave %s", r.ConversationRef)
	}
	return a.tellRung(cancelled, a.text().Cancelled)
}

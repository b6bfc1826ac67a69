package main

import (
	"context"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

func newPresence(a *app) *cobra.Command {
	var note string
	words := []string{card.Available, card.Busy, card.Offline}
	cmd := &cobra.Command{
		Use: "presence [available|busy|offline]", Short: "Say whether you can talk, or show it",
		Long: `Say whether you can talk. Calls ring at who is available; who is busy or offline finds
them in the inbox, and is shown so to the others. Every command is a sign of life: without
one, and without a stream, an agent is offline after 30 s, whatever it has said.

Without a word it shows what the others see, and since when that is so.`,
		Example: `  duo presence busy --note "in a release until 15:00"
  duo presence available
  duo presence`,
		Args: atMost(1), ValidArgs: words,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && cmd.Flags().Changed("note") {
				return usage(shellLine("duo", "presence", card.Available, "--note", note), "--note goes with a word: available, busy or offline")
			}
			if len(args) == 0 {
				return a.showPresence(cmd.Context())
			}
			if err := (choice{new(string), words}).Set(args[0]); err != nil {
				return usage("duo presence "+card.Busy, "presence: %w", err)
			}
			return a.setPresence(cmd.Context(), args[0], note)
		},
	}
	cmd.Flags().StringVar(&note, "note", "", "a line for the others")
	return cmd
}

func (a *app) showPresence(ctx context.Context) error {
	if _, err := a.me(); err != nil {
		return err
	}
	p, err := ask(ctx, a, func(c *client.Client) (api.Presence, error) { return c.Presence(ctx) })
	if err != nil {
		return err
	}
	return a.print(p, func() { a.text().Presence(p) })
}

func (a *app) setPresence(ctx context.Context, status, note string) error {
	draft, err := a.draft(envelope.Status, "")
	if err != nil {
		return err
	}
	p, err := ask(ctx, a, func(c *client.Client) (api.Presence, error) { return c.SetPresence(ctx, status, note) })
	if !client.Unreachable(err) {
		if err != nil {
			return err
		}
		return a.print(p, func() { a.text().Presence(p) })
	}
	draft.Status, draft.Content = status, note
	h, hostErr := a.host()
	if hostErr != nil {
		return hostErr
	}
	left, err := h.Drop(draft, err)
	if err != nil {
		return err
	}
	return a.tellDropped(left, "duo up")
}

func newTyping(a *app) *cobra.Command {
	off := false
	cmd := &cobra.Command{
		Use: "typing CONV", Short: "Tell the others that you are about to say something",
		Long: `Tell the others in a conversation that you are about to say something: those who
watch with --typing see it at once. It is kept nowhere.`,
		Example: `  duo typing c9f3a
  duo typing c9f3a --off`,
		Args: exactly(1), ValidArgsFunction: a.completeConversations,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runTyping(cmd, args[0], off) },
	}
	cmd.Flags().BoolVar(&off, "off", false, "you are not, after all")
	return cmd
}

// typed says what others were told, as --json tells it.
type typed struct {
	Conversation string `json:"conversation"`
	Typing       bool   `json:"typing"`
}

func (a *app) runTyping(cmd *cobra.Command, ref string, off bool) error {
	if err := checkConversation(ref, cmd.CommandPath()+" --help"); err != nil {
		return err
	}
	if _, err := a.me(); err != nil {
		return err
	}
	ctx := cmd.Context()
	_, err := ask(ctx, a, func(c *client.Client) (struct{}, error) { return struct{}{}, c.Typing(ctx, ref, off) })
	if err != nil {
		return err
	}
	return a.print(typed{Conversation: ref, Typing: !off}, func() {
		if off {
			a.say("you are not typing in %s any more", ref)
		} else {
			a.say("you are typing in %s", ref)
		}
		a.next(`duo send --to %s "..."`, ref)
	})
}

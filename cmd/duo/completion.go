package main

import (
	"context"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/text"
	"github.com/claude-duo/duo/maildir/near"
	"github.com/spf13/cobra"
)

const completionTime = 300 * time.Millisecond

func newCompletion(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use: "completion bash|zsh|fish|powershell", Short: "Print a completion script for your shell",
		Long: "Print a script that completes commands, agents and conversations in your shell.",
		Example: `  source <(duo completion bash)
  duo completion fish > ~/.config/fish/completions/duo.fish`,
		Args: exactly(1), ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.out)
			case "fish":
				return cmd.Root().GenFishCompletion(a.out, true)
			case "powershell":
				return cmd.Root().GenPowerShellCompletionWithDesc(a.out)
			}
			return usage("duo completion bash", "%q is no shell that duo knows: want %s", args[0], strings.Join(shells, ", ")).
				WithNear(near.Names(args[0], shells))
		},
	}
}

func noCompletion(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// completeAgents completes names of agents.
func (a *app) completeAgents(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	var words []string
	a.hurry(cmd, func(ctx context.Context) {
		list, err := a.agents(ctx, api.AgentQuery{Limit: maxCompletions})
		if err != nil {
			return
		}
		for _, agent := range list.Agents {
			words = append(words, a.text().Local(agent.Address)+"\t"+frame.Cut(strings.Join(agent.Capabilities, ","), descriptionLength))
		}
	})
	return matching(words, begun), cobra.ShellCompDirectiveNoFileComp
}

// completeConversations completes references to conversations, the latest first.
func (a *app) completeConversations(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	var words []string
	a.hurry(cmd, func(ctx context.Context) {
		if _, err := a.me(); err != nil {
			return
		}
		list, err := a.conversations(ctx, "", "", maxCompletions)
		if err != nil {
			return
		}
		for _, c := range list.Conversations {
			words = append(words, c.Ref+"\t"+strings.TrimSpace(text.Title(c.Topic)+" "+a.text().People(c.Participants)))
		}
	})
	return matching(words, begun), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeRefs completes references to messages that were not seen, and to
// conversations.
func (a *app) completeRefs(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	words, directive := a.completeConversations(cmd, args, begun)
	if cmd.Name() == "show" || cmd.Name() == "read" {
		calls, _ := a.completeCalls(cmd, args, begun)
		words = append(calls, words...)
	}
	if cmd.Name() == "show" {
		agents, _ := a.completeAgents(cmd, args, begun)
		words = append(words, agents...)
	}
	return words, directive
}

// completeInvite completes a conversation and then agents.
func (a *app) completeInvite(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeConversations(cmd, args, begun)
	}
	return a.completeAgents(cmd, args, begun)
}

func (a *app) completeFlag(cmd *cobra.Command, name string) {
	if err := cmd.RegisterFlagCompletionFunc(name, a.completeConversations); err != nil {
		panic(err) // a flag of that name was not added above
	}
}

const maxCompletions = 100

// hurry gathers completions for a bounded time, without a word on stderr and without
// starting a daemon.
func (a *app) hurry(cmd *cobra.Command, gather func(context.Context)) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	a.quiet = true
	gather(ctx)
}

func matching(words []string, begun string) []string {
	var list []string
	for _, w := range words {
		if strings.HasPrefix(strings.ToLower(w), strings.ToLower(begun)) {
			list = append(list, w)
		}
	}
	return list
}

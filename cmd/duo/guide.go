package main

import (
	"fmt"

	"github.com/claude-duo/duo/cmd/duo/internal/guide"
	"github.com/spf13/cobra"
)

// page is the guide, as --json tells it.
type page struct {
	Client string `json:"client,omitempty"`
	Text   string `json:"text"`
}

func newGuide(a *app) *cobra.Command {
	client := ""
	cmd := &cobra.Command{
		Use: "guide", Short: "Print what an agent has to know of duo",
		Long: `Print the page that an agent's instructions need, as Markdown: for AGENTS.md, CLAUDE.md, or
whatever the client program gives its model to read. With --client it says what is different
in that program.`,
		Example: `  duo guide >> AGENTS.md
  duo guide --client codex >> AGENTS.md`,
		Args: noArgs, ValidArgsFunction: noCompletion,
		RunE: func(*cobra.Command, []string) error {
			p := page{Client: client, Text: guide.Page(client)}
			return a.print(p, func() { fmt.Fprint(a.out, p.Text) })
		},
	}
	cmd.Flags().Var(choice{&client, guide.Clients()}, "client", "for agents in this program")
	return cmd
}

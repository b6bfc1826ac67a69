package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write docs/cli.md")

const cliPage = "../../docs/cli.md"

func TestDocsCurrent(t *testing.T) {
	t.Setenv("DUO_FORMAT", "")
	got := reference(newRoot(newApp()))
	if *update {
		if err := os.WriteFile(cliPage, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what the program says of itself; run: go test ./cmd/duo -run TestDocsCurrent -update", cliPage)
	}
}

// Every command explains itself: a model reads nothing else.
func TestHelpIsWhole(t *testing.T) {
	t.Setenv("DUO_FORMAT", "")
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s: short %q, long %q, example %q: want all three", cmd.CommandPath(), cmd.Short, cmd.Long, cmd.Example)
		}
		if cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 && cmd.HasParent() {
			t.Errorf("%s: its arguments are completed with file names", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	check(newRoot(newApp()))
}

// reference writes docs/cli.md: all commands as their help tells them.
func reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# The `duo` command\n\nMade by the program: `go test ./cmd/duo -run TestDocsCurrent -update`.\n\n")
	fmt.Fprintf(&b, "```text\n%s\n```\n\nEvery command takes `--as AGENT`, `--json` and `--help`.\n", root.Long)
	for _, group := range root.Groups() {
		fmt.Fprintf(&b, "\n## %s\n", group.Title[:1]+strings.ToLower(group.Title[1:]))
		for _, cmd := range root.Commands() {
			if cmd.GroupID == group.ID && cmd.IsAvailableCommand() {
				describe(&b, cmd)
			}
		}
	}
	return b.String()
}

// describe writes a command and those below it.
func describe(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n### %s\n\n", cmd.CommandPath())
	if cmd.Runnable() {
		use := strings.TrimSuffix(cmd.UseLine(), " [flags]")
		if cmd.HasAvailableLocalFlags() && cmd.LocalNonPersistentFlags().HasAvailableFlags() {
			use += " [flags]"
		}
		fmt.Fprintf(b, "```text\n%s\n```\n\n", use)
	}
	fmt.Fprintf(b, "%s\n", block(cmd.Long))
	if flags := cmd.LocalNonPersistentFlags(); flags.HasAvailableFlags() {
		fmt.Fprintf(b, "\n```text\n%s```\n", flags.FlagUsages())
	}
	if cmd.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", undent(cmd.Example))
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			describe(b, sub)
		}
	}
}

// block is a help text as Markdown: a paragraph that lists things keeps its lines.
func block(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		if strings.Contains(p, "  ") {
			paragraphs[i] = "```text\n" + p + "\n```"
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

func undent(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "  ")
	}
	return strings.Join(lines, "\n")
}

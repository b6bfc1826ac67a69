package main

import (
	"fmt"
	"strings"

	"github.com/claude-duo/duo/maildir/near"
	"github.com/spf13/cobra"
)

// exactly wants so many arguments.
func exactly(count int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > count {
			return tooMany(cmd, args, count)
		}
		return tooFew(cmd, args, count)
	}
}

// atMost wants no more than so many arguments.
func atMost(count int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > count {
			return tooMany(cmd, args, count)
		}
		return nil
	}
}

func atLeast(count int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error { return tooFew(cmd, args, count) }
}

// noArgs wants no arguments; a word after a command that has commands below it is
// one of those, mistyped.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && cmd.HasSubCommands() {
		like := near.Names(args[0], commandNames(cmd))
		next := cmd.CommandPath() + " --help"
		if len(like) > 0 {
			next = cmd.CommandPath() + " " + like[0]
		}
		return usage(next, "%s has no command %q", cmd.CommandPath(), args[0]).WithNear(like)
	}
	return atMost(0)(cmd, args)
}

// asSomebody is noArgs for what would be done to the wrong agent if it were run again
// without the argument.
func asSomebody(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd.CommandPath()+" --help", "%s takes the agent with --as NAME, not as an argument", cmd.CommandPath())
	}
	return nil
}

func tooMany(cmd *cobra.Command, args []string, count int) error {
	next := strings.TrimSpace(cmd.CommandPath() + " " + shellLine(args[:count]...))
	return usage(next, "%s takes %s, got %d", cmd.CommandPath(), arguments(count), len(args))
}

func tooFew(cmd *cobra.Command, args []string, count int) error {
	if len(args) >= count {
		return nil
	}
	return usage(cmd.CommandPath()+" --help", "%s needs %s: %s", cmd.CommandPath(), arguments(count), cmd.Use)
}

func arguments(n int) string {
	switch n {
	case 0:
		return "no arguments"
	case 1:
		return "one argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

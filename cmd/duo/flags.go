package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const defaultWait = 100 * time.Second // less than what harnesses let a command run

// span is a flag for a time: "30s", "2m", or a number of seconds.
type span time.Duration

func (s *span) String() string { return time.Duration(*s).String() }

func (s *span) Type() string { return "duration" }

func (s *span) Set(text string) error {
	d, err := time.ParseDuration(text)
	if n, e := strconv.ParseFloat(text, 64); e == nil {
		d, err = time.Duration(n*float64(time.Second)), nil
	}
	if err != nil || d < 0 {
		return fmt.Errorf("want a time like 30s or 2m, got %q", text)
	}
	*s = span(d)
	return nil
}

// choice is a flag for one word of a few.
type choice struct {
	value *string
	words []string
}

func (c choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

func (c choice) Type() string { return strings.Join(c.words, "|") }

func (c choice) Set(word string) error {
	if !slices.Contains(c.words, word) {
		return fmt.Errorf("want %s, got %q", strings.Join(c.words, " or "), word)
	}
	*c.value = word
	return nil
}

// addWait adds --wait[=DUR] to a command that writes a message.
func addWait(cmd *cobra.Command, wait *span, help string) {
	cmd.Flags().Var(wait, "wait", help)
	flag := cmd.Flags().Lookup("wait")
	flag.NoOptDefVal, flag.DefValue = defaultWait.String(), "0s"
}

func addLimit(cmd *cobra.Command, limit *int, what string) {
	cmd.Flags().IntVar(limit, "limit", defaultLimit, "at most so many "+what)
}

const defaultLimit = 20

// checkLimit refuses limits that list nothing.
func checkLimit(cmd *cobra.Command, limit int) error {
	if limit < 1 {
		return usage(cmd.CommandPath()+" --limit "+strconv.Itoa(defaultLimit), "--limit: want 1 or more, got %d", limit)
	}
	return nil
}

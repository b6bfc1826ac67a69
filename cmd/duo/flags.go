package main

import (
	"errors"
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

// String is empty for 0, which the help then does not show as a default.
func (s *span) String() string {
	if *s == 0 {
		return ""
	}
	return brief(time.Duration(*s))
}

// brief writes a time as a person would: 100s rather than 1m40s.
func brief(d time.Duration) string {
	if d%time.Second == 0 && d < 10*time.Minute {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return d.String()
}

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

// place is a flag for a seq, nil where it was not given.
type place struct{ seq *int64 }

func (p *place) String() string {
	if p.seq == nil {
		return ""
	}
	return strconv.FormatInt(*p.seq, 10)
}

func (p *place) Type() string { return "seq" }

func (p *place) Set(text string) error {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("want a seq like 42, got %q", text)
	}
	p.seq = &n
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
	cmd.Flags().Lookup("wait").NoOptDefVal = brief(defaultWait)
}

// forWaits lets --for wait without --wait too: it says what for.
func forWaits(cmd *cobra.Command, wait *span) {
	if cmd.Flags().Changed("for") && !cmd.Flags().Changed("wait") {
		*wait = span(defaultWait)
	}
}

// keyFlag is a flag for the key of a message. A blank one, as of a variable that is not
// set, would name nothing.
type keyFlag string

func (k *keyFlag) String() string { return string(*k) }

func (k *keyFlag) Type() string { return "string" }

func (k *keyFlag) Set(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("want a text that is not blank")
	}
	*k = keyFlag(text)
	return nil
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

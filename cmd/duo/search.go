package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/spf13/cobra"
)

func newSearch(a *app) *cobra.Command {
	var o api.Search
	cmd := &cobra.Command{
		Use: "search QUERY...", Short: "Find what was said in all conversations",
		Long: `Find lines in all conversations: messages by their text and the names of their
attachments, conversations by their topic, and what happened by its reason.

word another      both words, in any order; capitals and accents do not matter
"turn limit"      one behind the other, as main.go or turn-limit too
pars*             words that begin so
-draft            not that
from:Nova in:c9f3a topic:review name:report* has:attachment
since:2d until:2026-11-05

AND and OR are words like others. The flags do the same as the filters of the same names; write -- before a query that
begins with a dash. The best is first: where the words stand often in a short line,
of equally good ones the latest. Where the index is still being made, the
answer says what was not searched yet; without a daemon the logs are read.`,
		Example: `  duo search parser limit
  duo search '"turn limit" -draft' --from Nova --since 2d
  duo search has:attachment in:c9f3a --json`,
		ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, words []string) error {
			if err := checkLimit(cmd, o.Limit); err != nil {
				return err
			}
			o.Query = strings.Join(words, " ")
			return a.runSearch(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.From, "from", "", "only by this agent")
	f.StringVar(&o.In, "in", "", "only in this conversation")
	f.StringVar(&o.Since, "since", "", "only from then on: a day, a time, or a span like 2d")
	f.StringVar(&o.Until, "until", "", "only up to then")
	f.StringVar(&o.Cursor, "cursor", "", "go on behind an answer: the next of --json")
	addLimit(cmd, &o.Limit, "lines")
	return cmd
}

func (a *app) runSearch(ctx context.Context, o api.Search) error {
	if _, err := a.home(); err != nil {
		return err
	}
	_, _ = a.me() // it may be nobody
	hits, err := ask(ctx, a, func(c *client.Client) (api.Hits, error) { return c.Search(ctx, o) })
	if client.Unreachable(err) {
		files, offlineErr := a.offline(err)
		if offlineErr != nil {
			return offlineErr
		}
		hits, err = files.Search(ctx, o)
	}
	if err != nil {
		return err
	}
	more := slices.Concat([]string{"duo"}, withoutFlag(a.args, "--limit"), []string{"--limit", strconv.Itoa(min(500, len(hits.Hits)+hits.More))})
	if len(hits.Hits) >= 500 || o.Cursor != "" {
		more = slices.Concat([]string{"duo"}, withoutFlag(a.args, "--cursor"), []string{"--cursor", hits.Next})
	}
	return a.print(hits, func() { a.text().Hits(hits, shellLine(more...)) })
}

package main

import (
	"context"
	"encoding/csv"
	"fmt"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/spf13/cobra"
)

type sqlOptions struct {
	limit       int
	schema, csv bool
}

func newSQL(a *app) *cobra.Command {
	var o sqlOptions
	cmd := &cobra.Command{
		Use: "sql [SELECT]", Short: "Ask the tables of all conversations with SQL",
		Long: `Ask the index of all conversations with a SELECT of SQLite. The tables are agents,
conversations, participants, messages, attachments and requests; without a question, or
with --schema, it lists their columns. Times are Unix milliseconds:
datetime(sent_at/1000, 'unixepoch'). It is for the user of the host, and can change
nothing. A question has 10 seconds. SELECT is one argument, or - for standard input.`,
		Example: `  duo sql --schema
  duo sql "SELECT sender, count(*) FROM messages WHERE type = 'message' GROUP BY sender"
  duo sql "SELECT ref, content FROM messages WHERE content LIKE '%TODO%'" --csv
  duo sql - < question.sql`,
		Args: atMost(1), ValidArgsFunction: noCompletion,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.limit < 0 {
				return checkLimit(cmd, o.limit)
			}
			query, err := o.question(cmd, args)
			if err != nil {
				return err
			}
			return a.runSQL(cmd.Context(), o, query)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.schema, "schema", false, "list the tables and their columns")
	f.BoolVar(&o.csv, "csv", false, "print comma-separated values")
	f.IntVar(&o.limit, "limit", 0, "at most so many rows, default 10000")
	return cmd
}

// question is what is asked, empty for the tables there are.
func (o sqlOptions) question(cmd *cobra.Command, args []string) (string, error) {
	switch {
	case o.schema || len(args) == 0:
		return "", nil
	case args[0] != "-":
		return args[0], nil
	}
	text, err := readBody(cmd, "-")
	if err == nil {
		err = checkBody(cmd, text)
	}
	return text, err
}

func (a *app) runSQL(ctx context.Context, o sqlOptions, query string) error {
	if _, err := a.home(); err != nil {
		return err
	}
	question := api.SQL{Query: query, Limit: o.limit}
	if query == "" {
		question.Query = api.SchemaSQL
	}
	rows, err := ask(ctx, a, func(c *client.Client) (api.Rows, error) { return c.SQL(ctx, question) })
	if client.Unreachable(err) {
		files, offlineErr := a.offline(err)
		if offlineErr != nil {
			return offlineErr
		}
		rows, err = files.SQL(ctx, question)
	}
	if err != nil {
		return err
	}
	if o.csv {
		return a.printCSV(rows)
	}
	return a.print(rows, func() {
		a.text().Table(rows)
		if query == "" {
			a.next(`duo sql "SELECT ref, topic, status FROM conversations ORDER BY last_at DESC LIMIT 10"`)
		}
	})
}

// printCSV prints rows as RFC 4180 has them: NULL is an empty value.
func (a *app) printCSV(rows api.Rows) error {
	w := csv.NewWriter(a.out)
	lines := [][]string{rows.Columns}
	for _, row := range rows.Rows {
		line := make([]string, len(row))
		for i, v := range row {
			if v != nil {
				line[i] = fmt.Sprint(v)
			}
		}
		lines = append(lines, line)
	}
	if err := w.WriteAll(lines); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if rows.More {
		a.note("there are more rows: --limit, or LIMIT and OFFSET")
	}
	return nil
}

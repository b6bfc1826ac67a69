package text

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Hits lists what a search has found; more is the command that lists that, too, which a
// limit left out.
func (w *Writer) Hits(list api.Hits, more string) {
	for _, h := range list.Hits {
		line := w.Bold(h.Ref) + " " + w.hit(h) + " " + w.clock(h.Timestamp) + Title(h.Topic)
		w.Say("%s", line)
		if snippet := w.snippet(h.Snippet); snippet != "" {
			w.Say("%s%s", frame.Prefix, snippet)
		}
		if h.Attachment != "" {
			w.Say("attached: %s", frame.Line(h.Attachment))
		}
	}
	w.NotRead(list.Behind)
	switch {
	case len(list.Hits) == 0:
		w.Say("nothing found")
		w.Next("duo list")
	case list.More > 0:
		w.Say("more: at least %d", list.More)
		w.Next("%s", more)
	default:
		w.Next("duo log %s", list.Hits[0].Ref)
	}
}

// NotRead tells what the index had not read yet, where that is anything.
func (w *Writer) NotRead(lag api.Lag) {
	if lag.Conversations > 0 {
		w.Say("not searched yet: %s of %s", Count(int(lag.Lines), "line"), Count(lag.Conversations, "conversation"))
	}
}

// hit is what a line is that was found.
func (w *Writer) hit(h api.Hit) string {
	from, _ := envelope.ParseAddress(h.From) // which duo has written
	return w.deed(&envelope.Envelope{Type: envelope.Type(h.Type), Event: h.Event, From: from})
}

func (w *Writer) snippet(list []api.Segment) string {
	var b strings.Builder
	for _, s := range list {
		if s.Mark {
			b.WriteString(w.Bold(frame.Line(s.Text)))
		} else {
			b.WriteString(frame.Line(s.Text))
		}
	}
	return b.String()
}

const maxCell = 200 // characters

// Table writes rows under the names of their columns.
func (w *Writer) Table(rows api.Rows) {
	table := tabwriter.NewWriter(w.Out, 0, 0, 2, ' ', 0)
	line := func(cells []string) { fmt.Fprintln(table, strings.Join(cells, "\t")) }
	names := make([]string, len(rows.Columns))
	for i, name := range rows.Columns {
		names[i] = cell(name)
	}
	line(names)
	for _, row := range rows.Rows {
		cells := make([]string, len(row))
		for i, v := range row {
			cells[i] = cell(v)
		}
		line(cells)
	}
	_ = table.Flush() // whoever gives Out looks for its errors
	if rows.More {
		w.Say("there are more rows: --limit, or LIMIT and OFFSET")
	}
	w.NotRead(rows.Behind)
}

// cell is a value of a row as it stands in a table.
func cell(v any) string {
	if v == nil {
		return "-"
	}
	return frame.Cut(strings.NewReplacer("\n", " ", "\t", " ").Replace(fmt.Sprint(v)), maxCell)
}

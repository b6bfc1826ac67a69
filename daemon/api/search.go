package api

import (
	"bytes"
	"encoding/json"
)

// Search is a question to the index of all conversations; docs/search.md says what a
// query can be. Empty fields ask for nothing.
type Search struct {
	Query        string
	From, In     string // an agent; a conversation
	Since, Until string // a time, a day, or a span back from now like 2d
	Limit        int    // default 20, at most 500
	Cursor       string // the next of an answer before
}

// Hits are the lines that a search has found, the best first.
type Hits struct {
	Hits   []Hit  `json:"hits"`
	More   int    `json:"more"`           // how many the limit left out, at least
	Next   string `json:"next,omitempty"` // the cursor for them
	Behind Lag    `json:"behind"`         // what was not looked at
}

// NextPage is the cursor for what was left out, empty for nothing.
func (h Hits) NextPage() string { return h.Next }

// Hit is a line that a search has found.
type Hit struct {
	Ref          string    `json:"ref"`
	Conversation string    `json:"conversation"`
	Seq          int64     `json:"seq"`
	Type         string    `json:"type"`
	Event        string    `json:"event,omitempty"`
	From         string    `json:"from"`
	Timestamp    int64     `json:"timestamp"`
	Topic        string    `json:"topic"` // of the conversation
	Snippet      []Segment `json:"snippet"`
	Attachment   string    `json:"attachment,omitempty"` // name of the first one, one that was searched for before others
}

// Segment is a piece of text; those that are marked are what was searched for.
type Segment struct {
	Text string `json:"text"`
	Mark bool   `json:"mark,omitempty"`
}

// Lag is how much the index has still to read: so many conversations, with so many
// lines together. 0 is nothing.
type Lag struct {
	Conversations int   `json:"conversations"`
	Lines         int64 `json:"lines"`
}

// Talk tells who has written to whom since a time, in Unix milliseconds: the beginning of
// an hour.
type Talk struct {
	Since  int64  `json:"since"`
	Pairs  []Pair `json:"pairs"` // the latest first
	More   int    `json:"more"`  // how many the limit left out
	Behind Lag    `json:"behind"`
}

// Pair is that one agent has written to another.
type Pair struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Count int64  `json:"count"` // messages
	Last  int64  `json:"last"`  // Unix milliseconds
}

// SQL is a question to the tables of the index.
type SQL struct {
	Query string `json:"query"`
	Limit int    `json:"limit,omitempty"` // rows, at most and by default 10,000
}

// SchemaSQL is the question whose answer is the tables with their columns.
const SchemaSQL = `SELECT m.name AS "table", p.name AS "column" FROM sqlite_schema m, pragma_table_info(m.name) p WHERE m.type = 'view' ORDER BY m.rowid, p.cid`

// Rows answer SQL. Values are null, numbers and texts; blobs are texts in hex.
type Rows struct {
	Columns []string `json:"columns"`
	Rows    [][]any  `json:"rows"`
	More    bool     `json:"more"` // there were more than the limit
	Behind  Lag      `json:"behind"`
}

// UnmarshalJSON keeps numbers as they are written: those of SQLite have 64 bits.
func (r *Rows) UnmarshalJSON(data []byte) error {
	type plain Rows
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode((*plain)(r))
}

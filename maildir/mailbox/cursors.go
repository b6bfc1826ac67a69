package mailbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/claude-duo/duo/maildir/durable"
)

const (
	// CursorFile says how far the agent has got.
	CursorFile     = "cursors.json"
	maxCursorsSize = 64 << 20
)

// Cursor is how far an agent is in one conversation. Everything up to Delivered was
// put into its inbox or confirmed by a stream; everything up to Seen was shown to it,
// and of what is behind that the lines from the first to the second number of each
// pair in Also.
type Cursor struct {
	Delivered int64      `json:"delivered"`
	Seen      int64      `json:"seen"`
	Also      [][2]int64 `json:"also,omitempty"`
}

// HasSeen reports whether a line was shown to the agent.
func (c Cursor) HasSeen(seq int64) bool {
	return seq <= c.Seen || slices.ContainsFunc(c.Also, func(r [2]int64) bool { return r[0] <= seq && seq <= r[1] })
}

// Cursors reads how far the agent is in each conversation. A missing file is empty.
func (b *Box) Cursors() (map[string]Cursor, error) {
	cursors := make(map[string]Cursor)
	data, err := b.read(CursorFile, maxCursorsSize)
	if errors.Is(err, fs.ErrNotExist) {
		return cursors, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &cursors); err != nil {
		return nil, fmt.Errorf("read %q: %w", b.path(CursorFile), err)
	}
	if cursors == nil { // JSON null
		cursors = make(map[string]Cursor)
	}
	return cursors, nil
}

// WriteCursors puts the cursors in place of the old ones, durably.
func (b *Box) WriteCursors(cursors map[string]Cursor) error {
	data, err := json.Marshal(cursors)
	if err != nil {
		return fmt.Errorf("encode cursors: %w", err)
	}
	return durable.Replace(b.path(CursorFile), append(data, '\n'), 0o600)
}

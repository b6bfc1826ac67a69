package mailbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/claude-duo/duo/maildir/durable"
)

const (
	cursorFile     = "cursors.json"
	maxCursorsSize = 64 << 20
)

// Cursor is how far an agent is in one conversation. Everything up to Delivered was
// put into its inbox or confirmed by a stream; everything up to Seen was shown to it.
type Cursor struct {
	Delivered int64 `json:"delivered"`
	Seen      int64 `json:"seen"`
}

// Cursors reads how far the agent is in each conversation. A missing file is empty.
func (b *Box) Cursors() (map[string]Cursor, error) {
	cursors := make(map[string]Cursor)
	data, err := b.read(cursorFile, maxCursorsSize)
	if errors.Is(err, fs.ErrNotExist) {
		return cursors, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &cursors); err != nil {
		return nil, fmt.Errorf("read %q: %w", b.path(cursorFile), err)
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
	return durable.Replace(b.path(cursorFile), append(data, '\n'), 0o600)
}

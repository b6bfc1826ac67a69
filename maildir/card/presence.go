package card

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/claude-duo/duo/maildir/durable"
)

// PresenceFile is the name of what an agent says of whether it is there.
const PresenceFile = "presence.json"

const (
	maxPresenceSize = 16 << 10
	maxNote         = 500
)

// What an agent can say of itself.
const (
	Available = "available"
	Busy      = "busy"
	Offline   = "offline"
)

// Presence is what an agent has said of whether it is there, and when it was last.
type Presence struct {
	Said     string `json:"said,omitempty"` // Available, Busy or Offline; empty for Available
	Note     string `json:"note,omitempty"`
	LastSeen int64  `json:"lastSeen,omitempty"` // Unix milliseconds
}

// Check reports what is wrong.
func (p Presence) Check() error {
	switch p.Said {
	case "", Available, Busy, Offline:
	default:
		return fmt.Errorf("status %q: want available, busy or offline", p.Said)
	}
	if len(p.Note) > maxNote || strings.ContainsAny(p.Note, "\r\n\x00") {
		return fmt.Errorf("note: want one line of at most %d bytes", maxNote)
	}
	return nil
}

// Fit returns what Check accepts of what another host has sent.
func (p Presence) Fit() Presence {
	p.Note = cut(oneLine(p.Note), maxNote)
	if p.Check() != nil {
		p.Said = Offline
	}
	return p
}

// ReadPresence reads what an agent has said. A missing file is the zero Presence.
func ReadPresence(dir string) (Presence, error) {
	path := filepath.Join(dir, PresenceFile)
	data, err := durable.ReadPlain(path, maxPresenceSize)
	if errors.Is(err, fs.ErrNotExist) {
		return Presence{}, nil
	}
	if err != nil {
		return Presence{}, fmt.Errorf("read presence: %w", err)
	}
	var p Presence
	if err = json.Unmarshal(data, &p); err == nil {
		err = p.Check()
	}
	if err != nil {
		return Presence{}, fmt.Errorf("read presence %q: %w", path, err)
	}
	return p, nil
}

// Write puts what an agent has said into its folder, durably.
func (p Presence) Write(dir string) error {
	if err := p.Check(); err != nil {
		return fmt.Errorf("write presence: %w", err)
	}
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write presence: %w", err)
	}
	return durable.Replace(filepath.Join(dir, PresenceFile), append(data, '\n'), 0o600)
}

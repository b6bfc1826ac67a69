package maildir

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/claude-duo/duo/maildir/durable"
)

// Imported is a log that was taken from somewhere else. Its lines through one are history:
// agents of this host are not told of them.
type Imported struct {
	Conversation string `json:"conversation"`
	Through      int64  `json:"through"` // seq
	At           int64  `json:"at"`      // Unix milliseconds
}

// ImportedPath is the file that notes what was imported, a line each.
func (h *Home) ImportedPath() string { return filepath.Join(h.Dir, "imported.jsonl") }

// Imported tells through which line each conversation is history: what was noted last
// counts. A line of the file that cannot be read is passed over.
func (h *Home) Imported() (map[string]int64, error) {
	through := make(map[string]int64)
	f, err := os.Open(h.ImportedPath())
	if errors.Is(err, fs.ErrNotExist) {
		return through, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was imported: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var one Imported
		if json.Unmarshal(lines.Bytes(), &one) == nil {
			through[one.Conversation] = one.Through
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read what was imported: %w", err)
	}
	return through, nil
}

// NoteImported adds to what Imported tells. When it returns nil, that is on disk. The
// caller has LockImport.
func (h *Home) NoteImported(list []Imported) error {
	text, err := os.ReadFile(h.ImportedPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note what is imported: %w", err)
	}
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		text = append(text, '\n')
	}
	for _, one := range list {
		line, err := json.Marshal(one)
		if err != nil {
			return fmt.Errorf("note what is imported: %w", err)
		}
		text = append(append(text, line...), '\n')
	}
	return durable.Replace(h.ImportedPath(), text, 0o600)
}

// ErrImporting means that another import runs in this home.
var ErrImporting = errors.New("another import is running")

// LockImport takes the home for one import, until release is called or the process ends.
// It returns ErrImporting where another one has it.
func (h *Home) LockImport() (release func() error, err error) {
	return h.lock(filepath.Join(h.RunDir(), "import.lock"), ErrImporting)
}

package mailbox

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// attachField is the field of a drop that names files.
const attachField = "attach"

// DropFile is a file in outbox/tmp that a drop names.
type DropFile struct {
	File      string `json:"file"`
	Name      string `json:"name,omitempty"`      // what it is called to others; File where that is absent
	MediaType string `json:"mediaType,omitempty"` // empty where it is to be guessed
}

// takeFiles takes out of a draft the files that it names.
func takeFiles(e *envelope.Envelope) (files []DropFile, err error) {
	e.Unknown = slices.DeleteFunc(e.Unknown, func(f envelope.Field) bool {
		if f.Name != attachField || err != nil {
			return f.Name == attachField
		}
		var more []DropFile
		more, err = dropFiles(f.Value)
		files = append(files, more...)
		return true
	})
	switch n := len(files) + len(e.Attachments); {
	case err != nil:
		return nil, err
	case n > envelope.MaxAttachments:
		return nil, fmt.Errorf("%w: %d attachments are over the limit of %d", envelope.ErrInvalid, n, envelope.MaxAttachments)
	}
	return files, nil
}

// dropFiles reads the value of the field: a name, an object, or a list of them.
func dropFiles(value json.RawMessage) ([]DropFile, error) {
	var list []json.RawMessage
	if json.Unmarshal(value, &list) != nil {
		list = []json.RawMessage{value}
	}
	files := make([]DropFile, 0, len(list))
	for _, entry := range list {
		var f DropFile
		if json.Unmarshal(entry, &f.File) != nil && json.Unmarshal(entry, &f) != nil {
			return nil, fmt.Errorf("%w: field \"attach\": want names of files, got %s", envelope.ErrInvalid, clip(string(entry)))
		}
		if err := f.check(); err != nil {
			return nil, err
		}
		f.Name = cmp.Or(f.Name, f.File)
		files = append(files, f)
	}
	return files, nil
}

func (f DropFile) check() error {
	if f.File == "" || !isFileName(f.File) || strings.HasPrefix(f.File, ".") || strings.ContainsRune(f.File, 0) {
		return fmt.Errorf("%w: field \"attach\": want the name of a file in outbox/tmp, got %q", envelope.ErrInvalid, clip(f.File))
	}
	return nil
}

// OpenFile opens a file that a drop names. It has to be a plain one of this user.
func (b *Box) OpenFile(f DropFile) (io.ReadCloser, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	file, _, err := b.open(path.Join(OutboxTmp, f.File))
	if err != nil {
		return nil, err
	}
	return file, nil
}

// LeaveFile puts a file where a drop can name it, durably, and replaces none.
func (b *Box) LeaveFile(f DropFile, from io.Reader) error {
	if err := f.check(); err != nil {
		return err
	}
	to, err := os.CreateTemp(b.path(OutboxTmp), durable.TempPrefix+"*")
	if err != nil {
		return fmt.Errorf("leave file: %w", err)
	}
	_, err = io.Copy(to, from)
	if err == nil {
		err = durable.Sync(to)
	}
	if err = errors.Join(err, to.Close()); err == nil {
		err = durable.RenameNew(to.Name(), b.path(OutboxTmp, f.File))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("leave file: %w", err), os.Remove(to.Name()))
	}
	return durable.SyncDir(b.path(OutboxTmp))
}

// WithFiles is a draft that names files, as a drop.
func WithFiles(e *envelope.Envelope, files []DropFile) (*envelope.Envelope, error) {
	if len(files) == 0 {
		return e, nil
	}
	value, err := json.Marshal(files)
	if err != nil {
		return nil, fmt.Errorf("encode names of files: %w", err)
	}
	drop := *e
	drop.Unknown = append(slices.Clone(e.Unknown), envelope.Field{Name: attachField, Value: value})
	return &drop, nil
}

// removeFiles deletes what a drop has named that is sent. That the drop is gone is synced
// before: it would fail if it came back without its files. What stays after a crash is
// removed as stale.
func (b *Box) removeFiles(files []DropFile) error {
	if len(files) == 0 {
		return nil
	}
	if err := durable.SyncDir(b.path(OutboxNew)); err != nil {
		return err
	}
	for _, f := range files {
		if err := ignoreMissing(os.Remove(b.path(OutboxTmp, f.File))); err != nil {
			return fmt.Errorf("remove attached file: %w", err)
		}
	}
	return nil
}

package mailbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// MaxDrop is the size limit of a drop in bytes.
const MaxDrop = envelope.MaxLine

const (
	badQuiet  = 2 * time.Second        // without a change, a file that cannot be read is a bad one
	textQuiet = 300 * time.Millisecond // without a change, a text file is whole
)

// Drop is a file in the outbox that waits to be taken.
type Drop struct {
	Name    string
	Changed time.Time // last write
}

// Drops lists the files in outbox/new, in the order in which they were written.
// Hidden files are left out.
func (b *Box) Drops() ([]Drop, error) {
	names, err := list(b.path(OutboxNew))
	if err != nil {
		return nil, err
	}
	drops := make([]Drop, 0, len(names))
	for _, name := range names {
		if info, err := os.Lstat(b.path(OutboxNew, name)); err == nil {
			drops = append(drops, Drop{Name: name, Changed: info.ModTime()})
		}
	}
	slices.SortStableFunc(drops, func(a, b Drop) int { return a.Changed.Compare(b.Changed) })
	return drops, nil
}

// Loaded is a drop that was read.
type Loaded struct {
	Drop
	Draft *envelope.Envelope // with an id, made from the file where its writer gave none
	data  []byte
}

// WaitError says that a drop is not whole yet, and when to look again.
type WaitError struct{ For time.Duration }

func (e *WaitError) Error() string {
	return fmt.Sprintf("drop is not whole yet, look again in %s", e.For)
}

// Load reads a drop of the agent. A *WaitError asks to come back: the file may still
// be written. fs.ErrNotExist means that it is gone. Every other error is final: the
// drop belongs into failed/. The returned drop serves Done and Fail then too.
func (b *Box) Load(d Drop, agent string, now time.Time) (*Loaded, error) {
	loaded := &Loaded{Drop: d}
	f, info, err := b.open(path.Join(OutboxNew, d.Name))
	if err != nil {
		return loaded, err
	}
	defer f.Close()
	if loaded.data, err = readLimited(f, MaxDrop); err != nil {
		return loaded, err
	}
	draft, err := ParseDrop(d.Name, loaded.data)
	if err := wait(f, info, d.Name, now, err); err != nil {
		return loaded, err
	}
	if draft.ID == "" {
		draft.ID = envelope.NamedID("drop", strings.ToLower(agent), d.Name,
			strconv.FormatUint(durable.Inode(info), 10), strconv.FormatInt(info.ModTime().UnixNano(), 10))
	}
	loaded.Draft = draft
	return loaded, nil
}

// wait decides whether a file that was parsed with the result parsed can still
// change. A file that was renamed into place cannot; one that is written in place
// gets time until it is quiet. A clock that was set back makes nothing wait for ever.
func wait(f *os.File, info fs.FileInfo, name string, now time.Time, parsed error) error {
	isText := path.Ext(name) != ".json"
	if durable.Settled(info) || parsed == nil && !isText {
		return parsed
	}
	patience := textQuiet
	if parsed != nil {
		patience = badQuiet
	}
	quiet := now.Sub(info.ModTime())
	switch {
	case quiet >= 0 && quiet < patience:
		return &WaitError{For: patience - quiet}
	case parsed == nil && durable.BeingWritten(f):
		return &WaitError{For: textQuiet}
	}
	return parsed
}

// Done moves a drop to sent/, with the stamp in it. Doing it twice changes nothing.
func (b *Box) Done(l *Loaded, stamp Stamp) error {
	content, ok := stamp.apply(l.Name, l.data)
	if !ok {
		content = l.data
	}
	if err := b.place(Sent, l.Name, content); err != nil {
		return fmt.Errorf("move drop %q to sent: %w", l.Name, err)
	}
	return b.removeDrop(l.Name)
}

// Fail moves a drop to failed/, with the error in it, or in a second file with the
// ending .error where the drop cannot hold it.
func (b *Box) Fail(l *Loaded, stamp Stamp) error {
	content, ok := stamp.apply(l.Name, l.data)
	if ok {
		if err := b.place(Failed, l.Name, content); err != nil {
			return fmt.Errorf("move drop %q to failed: %w", l.Name, err)
		}
		return b.removeDrop(l.Name)
	}
	reason, err := json.Marshal(stamp)
	if err != nil {
		return fmt.Errorf("encode error of drop %q: %w", l.Name, err)
	}
	name := b.freeName(Failed, l.Name)
	if err := os.WriteFile(b.path(Failed, name+".error"), append(reason, '\n'), 0o600); err != nil {
		return fmt.Errorf("write error of drop: %w", err)
	}
	err = durable.RenameNew(b.path(OutboxNew, l.Name), b.path(Failed, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("move drop to failed: %w", err)
	}
	return nil
}

// place writes a file into a folder under the name, or under one like it where
// another file has the name. It does not wait for the disk: after a crash the drop
// is still in the outbox.
func (b *Box) place(folder, name string, content []byte) error {
	temp := b.path(OutboxTmp, envelope.NewID())
	if err := os.WriteFile(temp, content, 0o600); err != nil {
		return err
	}
	if old, err := os.ReadFile(b.path(folder, name)); err == nil && string(old) == string(content) {
		return os.Remove(temp)
	}
	return errors.Join(durable.RenameNew(temp, b.path(folder, b.freeName(folder, name))), ignoreMissing(os.Remove(temp)))
}

func (b *Box) freeName(folder, name string) string {
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	free := name
	for n := 2; ; n++ {
		if _, err := os.Lstat(b.path(folder, free)); errors.Is(err, fs.ErrNotExist) {
			return free
		}
		free = fmt.Sprintf("%.200s.%d%.20s", stem, n, ext)
	}
}

func (b *Box) removeDrop(name string) error {
	if err := ignoreMissing(os.Remove(b.path(OutboxNew, name))); err != nil {
		return fmt.Errorf("remove drop: %w", err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Leave puts a drop into the outbox, durably: when it returns nil, the message will
// be sent as soon as a daemon runs. The name must be free.
func (b *Box) Leave(name string, e *envelope.Envelope) error {
	if filepath.Base(name) != name {
		return fmt.Errorf("leave drop %q: want a file name", name)
	}
	temp := b.path(OutboxTmp, name)
	if err := durable.Create(temp, append(e.Append(nil), '\n'), 0o600); err != nil {
		return fmt.Errorf("leave drop: %w", err)
	}
	if err := durable.RenameNew(temp, b.path(OutboxNew, name)); err != nil {
		return errors.Join(fmt.Errorf("leave drop: %w", err), os.Remove(temp))
	}
	return durable.SyncDir(b.path(OutboxNew))
}

// FailedDrops lists the drops that could not be sent.
func (b *Box) FailedDrops() ([]string, error) {
	names, err := list(b.path(Failed))
	return slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, ".error") }), err
}

// Waiting reports whether a drop with the message id is in the outbox.
func (b *Box) Waiting(id string) bool {
	_, err := os.Lstat(b.path(OutboxNew, id+".json"))
	return err == nil
}

// FailureOf returns the error that Fail has written into a failed drop, or beside it.
func (b *Box) FailureOf(name string) string {
	if data, err := b.read(path.Join(Failed, name+".error"), MaxDrop); err == nil {
		var s Stamp
		if json.Unmarshal(data, &s) == nil {
			return s.Error
		}
	}
	data, err := b.read(path.Join(Failed, name), MaxDrop)
	if err != nil {
		return err.Error()
	}
	if path.Ext(name) != ".json" {
		line, _, _ := strings.Cut(string(data), "\n")
		return strings.TrimPrefix(line, "Error: ")
	}
	var s Stamp
	_ = envelope.Members(data, func(field string, value json.RawMessage) error {
		if field == "error" {
			return json.Unmarshal(value, &s.Error)
		}
		return nil
	})
	return s.Error
}

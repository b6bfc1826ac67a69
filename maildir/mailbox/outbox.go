package mailbox

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
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
	"unicode/utf8"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// MaxDrop is the size limit of a drop in bytes.
const MaxDrop = envelope.MaxLine

const maxStamped = 2 * MaxDrop // of a drop with what a stamp adds

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
	info  fs.FileInfo        // of the file that was read, nil where there is none
	data  []byte             // nil where it could not be read
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
	loaded.info = info
	if errors.Is(err, errSecondName) { // its writer may have linked it, and remove the first name next
		return loaded, cmp.Or(quiet(info, now, badQuiet), err)
	}
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
// gets time until it is quiet. What text is, only the writer knows, so nothing is
// done with text while it has the file open.
func wait(f *os.File, info fs.FileInfo, name string, now time.Time, parsed error) error {
	isText := path.Ext(name) != ".json"
	if durable.Settled(info) || parsed == nil && !isText {
		return parsed
	}
	patience := textQuiet
	if parsed != nil {
		patience = badQuiet
	}
	if err := quiet(info, now, patience); err != nil {
		return err
	}
	if isText && durable.BeingWritten(f) {
		return &WaitError{For: textQuiet}
	}
	return parsed
}

// quiet returns a *WaitError where the file was written less than patience ago. A
// clock that was set back makes nothing wait for ever.
func quiet(info fs.FileInfo, now time.Time, patience time.Duration) error {
	if since := now.Sub(info.ModTime()); since >= 0 && since < patience {
		return &WaitError{For: patience - since}
	}
	return nil
}

// Done moves a drop to sent/, with the stamp in it. Doing it twice changes nothing.
// It does not wait for the disk: the log has the message.
func (b *Box) Done(l *Loaded, stamp Stamp) error {
	content, ok := stamp.apply(l.Name, l.data)
	if !ok {
		content = l.data
	}
	if err := b.place(Sent, l.Name, content, b.create); err != nil {
		return fmt.Errorf("move drop %q to sent: %w", l.Name, err)
	}
	return b.removeDrop(l)
}

// Fail moves a drop to failed/, durably, with the error in it, or in a second file
// with the ending .error where the drop cannot hold it.
func (b *Box) Fail(l *Loaded, stamp Stamp) error {
	content, ok := stamp.apply(l.Name, l.data)
	if !ok {
		return b.failAside(l, stamp)
	}
	if err := b.place(Failed, l.Name, content, b.createSynced); err != nil {
		return fmt.Errorf("move drop %q to failed: %w", l.Name, err)
	}
	return b.removeDrop(l)
}

// failAside moves a drop that cannot be read or stamped, with its error beside it.
func (b *Box) failAside(l *Loaded, stamp Stamp) error {
	reason, err := json.Marshal(stamp)
	if err != nil {
		return fmt.Errorf("encode error of drop %q: %w", l.Name, err)
	}
	reason = append(reason, '\n')
	for n := 1; ; n++ {
		name := l.Name
		if n > 1 || len(name)+len(errorSuffix) > maxName {
			name = likeName(name, strconv.Itoa(n))
		}
		if done, err := b.moveAside(l, name, reason); err != nil {
			return fmt.Errorf("move drop %q to failed: %w", l.Name, err)
		} else if done {
			return nil
		}
	}
}

// moveAside reports false where another file has the name. After a crash the next try
// finds the error that this one has written.
func (b *Box) moveAside(l *Loaded, name string, reason []byte) (done bool, err error) {
	if _, err := os.Lstat(b.path(Failed, name)); err == nil {
		return false, nil
	}
	if !b.unchanged(l) {
		return true, nil
	}
	aside := name + errorSuffix
	if written, err := b.put(Failed, aside, reason, b.createSynced); err != nil || !written {
		return false, err
	}
	err = durable.RenameNew(b.path(OutboxNew, l.Name), b.path(Failed, name))
	if err == nil {
		return true, nil
	}
	err = errors.Join(err, os.Remove(b.path(Failed, aside)))
	if errors.Is(err, fs.ErrExist) { // since we looked
		return false, nil
	}
	return true, ignoreMissing(err)
}

// place writes a file into a folder with create, under the name, or under one like it
// where another file has the name. That one follows from the content: a retry after a
// crash finds the file.
func (b *Box) place(folder, name string, content []byte, create creator) error {
	sum := sha256.Sum256(content)
	for _, free := range []string{
		name, likeName(name, hex.EncodeToString(sum[:4])), likeName(name, hex.EncodeToString(sum[:16])),
	} {
		if done, err := b.put(folder, free, content, create); err != nil || done {
			return err
		}
	}
	return fmt.Errorf("no name like %q is free", name)
}

// creator makes a file, and never replaces one.
type creator func(path string, data []byte, perm fs.FileMode) error

// put makes a file with create. It reports false where another file, with other
// content, has the name.
func (b *Box) put(folder, name string, content []byte, create creator) (bool, error) {
	err := b.mending(func() error { return create(b.path(folder, name), content, 0o600) })
	if !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	old, err := b.read(path.Join(folder, name), maxStamped)
	return err == nil && bytes.Equal(old, content), nil
}

// create makes a file that is whole as soon as it has its name. It does not wait for
// the disk.
func (b *Box) create(path string, data []byte, perm fs.FileMode) error {
	temp := b.path(OutboxTmp, envelope.NewID())
	err := os.WriteFile(temp, data, perm)
	if err == nil {
		err = durable.RenameNew(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp) // what is left is removed as stale
	}
	return err
}

// createSynced is create, and the file survives a crash of the machine.
func (b *Box) createSynced(path string, data []byte, perm fs.FileMode) error {
	temp := b.path(OutboxTmp, envelope.NewID())
	if err := durable.Create(temp, data, perm); err != nil {
		return err
	}
	if err := durable.RenameNew(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return durable.SyncDir(filepath.Dir(path))
}

// removeDrop removes the file that was loaded. One that has taken its place meanwhile
// is another drop and stays.
func (b *Box) removeDrop(l *Loaded) error {
	if !b.unchanged(l) {
		return nil
	}
	if err := ignoreMissing(os.Remove(b.path(OutboxNew, l.Name))); err != nil {
		return fmt.Errorf("remove drop: %w", err)
	}
	return nil
}

// unchanged reports whether the drop is still the file that was loaded.
func (b *Box) unchanged(l *Loaded) bool {
	info, err := os.Lstat(b.path(OutboxNew, l.Name))
	return err == nil && (l.info == nil || os.SameFile(info, l.info) &&
		info.Size() == l.info.Size() && info.ModTime().Equal(l.info.ModTime()))
}

const (
	maxName     = 255 // bytes in the name of a file
	errorSuffix = ".error"
)

// likeName puts a mark before the ending of a name, and leaves room for errorSuffix.
func likeName(name, mark string) string {
	ext := path.Ext(name)
	return cut(strings.TrimSuffix(name, ext), 190) + "." + mark + cut(ext, 20)
}

// cut shortens text to at most n bytes, and not in the middle of a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Leave puts a drop into the outbox, durably: when it returns nil, the message will
// be sent as soon as a daemon runs. The name ends in .json and must be free.
func (b *Box) Leave(name string, e *envelope.Envelope) error {
	if filepath.Base(name) != name || strings.HasPrefix(name, ".") || path.Ext(name) != ".json" {
		return fmt.Errorf("leave drop %q: want a file name that ends in .json", name)
	}
	if err := b.createSynced(b.path(OutboxNew, name), append(e.Append(nil), '\n'), 0o600); err != nil {
		return fmt.Errorf("leave drop: %w", err)
	}
	return nil
}

// FailedDrops lists the drops that could not be sent.
func (b *Box) FailedDrops() ([]string, error) {
	names, err := list(b.path(Failed))
	all := slices.Clone(names)
	return slices.DeleteFunc(names, func(name string) bool {
		drop, ends := strings.CutSuffix(name, errorSuffix)
		_, found := slices.BinarySearch(all, drop)
		return ends && found
	}), err
}

// Waiting reports whether a drop with the message id is in the outbox.
func (b *Box) Waiting(id string) bool {
	_, err := os.Lstat(b.path(OutboxNew, id+".json"))
	return err == nil
}

// FailureOf returns the error that Fail has written into a failed drop, or beside it.
func (b *Box) FailureOf(name string) string {
	if data, err := b.read(path.Join(Failed, name+errorSuffix), maxStamped); err == nil {
		var s Stamp
		if json.Unmarshal(data, &s) == nil {
			return s.Error
		}
	}
	data, err := b.read(path.Join(Failed, name), maxStamped)
	if err != nil {
		return err.Error()
	}
	return stampedError(name, data)
}

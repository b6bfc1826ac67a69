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
	"syscall"
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
	textQuiet = 150 * time.Millisecond // without a change, a text file is whole
)

// Drop is a file in the outbox that waits to be taken.
type Drop struct {
	Name    string
	Changed time.Time // last write
}

// Drops lists the files in outbox/new, in the order in which they were written.
// Hidden files are left out. A drop that a crash has left on its way out is put back
// first.
func (b *Box) Drops() ([]Drop, error) {
	names, err := b.waiting()
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
	Files []DropFile         // that it names
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
	if errors.Is(err, durable.ErrSecondName) || errors.Is(err, errUnreadable) {
		// Its writer may remove the first name next, or give it its mode.
		return loaded, cmp.Or(quiet(info, now, badQuiet), err)
	}
	if err != nil {
		return loaded, err
	}
	defer f.Close()
	if loaded.data, err = durable.ReadLimited(f, MaxDrop); err != nil {
		return loaded, err
	}
	if after, err := f.Stat(); err == nil && !loaded.same(after) {
		return loaded, &WaitError{For: textQuiet} // the next reading would give it another id
	}
	draft, err := ParseDrop(d.Name, loaded.data)
	if err == nil {
		loaded.Files, err = takeFiles(draft)
	}
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

// Done moves a drop to sent/, with the stamp in it, and removes the files that it names.
// Doing it twice changes nothing.
// It does not wait for the disk: the log has the message.
func (b *Box) Done(l *Loaded, stamp Stamp) error {
	content, ok := stamp.apply(l.Name, l.data)
	if !ok {
		content = l.data
	}
	if err := b.place(Sent, l.Name, content, b.create); err != nil {
		return fmt.Errorf("move drop %q to sent: %w", l.Name, err)
	}
	if err := b.removeDrop(l); err != nil {
		return err
	}
	return b.removeFiles(l.Files)
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
// finds the error that this one has written. What can fail for long comes before the
// drop is touched: taking and putting back are changes that wake whoever takes drops.
func (b *Box) moveAside(l *Loaded, name string, reason []byte) (done bool, err error) {
	if _, err := os.Lstat(b.path(Failed, name)); err == nil {
		return false, nil
	}
	if !l.is(b.path(OutboxNew, l.Name)) {
		return true, nil
	}
	aside := name + errorSuffix
	if written, err := b.put(Failed, aside, reason, b.createSynced); err != nil || !written {
		return false, err
	}
	moved, err := b.takeOut(l, func(path string) error { return durable.RenameNew(path, b.path(Failed, name)) })
	if moved {
		return true, nil
	}
	err = errors.Join(err, ignoreMissing(os.Remove(b.path(Failed, aside))))
	if errors.Is(err, fs.ErrExist) { // since we looked
		return false, nil
	}
	return true, err
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
	if _, err := b.takeOut(l, os.Remove); err != nil {
		return fmt.Errorf("remove drop: %w", err)
	}
	return nil
}

// takenPrefix begins the names of hidden folders in outbox/new. In each is a drop on
// its way out, under its own name.
const takenPrefix = ".taken-"

// takeOut takes the drop that was loaded out of outbox/new with finish, and reports
// false where another file has taken its place, which stays. A crash leaves the drop
// hidden, until Drops puts it back.
func (b *Box) takeOut(l *Loaded, finish func(path string) error) (taken bool, err error) {
	if !l.is(b.path(OutboxNew, l.Name)) {
		return false, nil
	}
	free, err := b.alone(func() error {
		taken, err = b.hide(l, finish)
		return err
	})
	if err == nil && !free {
		err = errors.New("another program takes drops out of this outbox")
	}
	return taken, err
}

// alone does something while nobody else takes drops out of the outbox or puts them
// back, and reports false where somebody does. Where the file system has no locks
// there are no others: the daemon has the home.
func (b *Box) alone(do func() error) (bool, error) {
	dir, err := os.Open(b.path(OutboxNew))
	if err != nil {
		return false, err
	}
	defer dir.Close() // which gives the lock back, as a crash does
	if free, err := durable.TryLock(dir); err == nil && !free {
		return false, nil
	}
	return true, do()
}

// hide moves the drop where nobody renames another one over it, looks again whether
// it is the one, and lets finish do away with it.
func (b *Box) hide(l *Loaded, finish func(path string) error) (bool, error) {
	path := b.path(OutboxNew, l.Name)
	dir := b.path(OutboxNew, takenPrefix+envelope.NewID())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return false, err
	}
	hidden := filepath.Join(dir, l.Name)
	err := os.Rename(path, hidden)
	if errors.Is(err, fs.ErrPermission) && b.openUp(l) == nil {
		err = os.Rename(path, hidden)
	}
	taken := err == nil && l.is(hidden)
	if taken {
		err = finish(hidden)
	}
	if taken && err == nil {
		_ = os.Remove(dir) // an empty one that stays goes with the next listing
		return true, nil
	}
	return false, errors.Join(ignoreMissing(err), b.putBack(dir))
}

// openUp gives a folder in place of a drop a mode with which it can be moved.
func (b *Box) openUp(l *Loaded) error {
	if l.info == nil || !l.info.IsDir() {
		return ErrForeign
	}
	root, err := os.OpenRoot(b.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return root.Chmod(path.Join(OutboxNew, l.Name), 0o700)
}

// is reports whether a file is the one that was loaded.
func (l *Loaded) is(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && (l.info == nil || l.same(info))
}

func (l *Loaded) same(info fs.FileInfo) bool {
	return os.SameFile(info, l.info) && info.Size() == l.info.Size() && info.ModTime().Equal(l.info.ModTime())
}

// waiting lists the names in outbox/new, when what was left on its way out is back.
func (b *Box) waiting() ([]string, error) {
	names, err := readNames(b.path(OutboxNew))
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(names, isTaken) {
		return visible(names), nil
	}
	if _, err := b.alone(b.putAllBack); err != nil { // where somebody is at work, nothing was left
		return nil, fmt.Errorf("put drops back: %w", err)
	}
	return list(b.path(OutboxNew))
}

func isTaken(name string) bool { return strings.HasPrefix(name, takenPrefix) }

func (b *Box) putAllBack() error {
	names, err := readNames(b.path(OutboxNew))
	for _, name := range names {
		if isTaken(name) {
			err = errors.Join(err, b.putBack(b.path(OutboxNew, name)))
		}
	}
	return err
}

// putBack gives what is in a hidden folder its place in outbox/new again. What finds
// the place taken stays hidden, for a later try.
func (b *Box) putBack(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // a file is somebody else's
		return nil
	}
	for _, e := range entries {
		from, to := filepath.Join(dir, e.Name()), b.path(OutboxNew, e.Name())
		moved := durable.RenameNew(from, to)
		if errors.Is(moved, fs.ErrExist) && sameFile(from, to) { // a crash in the middle of a rename by link
			moved = os.Remove(from)
		}
		if !errors.Is(moved, fs.ErrExist) {
			err = errors.Join(err, ignoreMissing(moved))
		}
	}
	if removed := os.Remove(dir); !errors.Is(removed, fs.ErrExist) { // which it is where something is left
		err = errors.Join(err, ignoreMissing(removed))
	}
	return err
}

func sameFile(a, b string) bool {
	one, err := os.Lstat(a)
	other, otherErr := os.Lstat(b)
	return err == nil && otherErr == nil && os.SameFile(one, other)
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

// Package mailbox is the folder of one agent: its inbox, its outbox, how far it has
// read, and the links to its conversations.
//
// A file moves from folder to folder by rename, so that of several programs that
// claim it exactly one succeeds. The inbox can be made again from the logs and is
// not synced; a drop in the outbox is the only copy of a message, so it stays until
// the log has it.
package mailbox

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// The folders of an agent.
const (
	InboxTmp  = "inbox/tmp"
	InboxNew  = "inbox/new" // not seen
	InboxCur  = "inbox/cur" // seen
	OutboxTmp = "outbox/tmp"
	OutboxNew = "outbox/new" // drops
	Sent      = "outbox/sent"
	Failed    = "outbox/failed"
	Links     = "conversations"
)

var folders = []string{InboxTmp, InboxNew, InboxCur, OutboxTmp, OutboxNew, Sent, Failed, Links}

// Box is the folder of one agent. Its methods may be used by several goroutines and
// processes.
type Box struct{ dir string }

// Open opens the folder of an agent, and makes those of its folders that are missing.
func Open(dir string) (*Box, error) {
	for _, f := range folders {
		if err := durable.Mkdir(filepath.Join(dir, f), 0o700); err != nil {
			return nil, fmt.Errorf("open mailbox: %w", err)
		}
	}
	return &Box{dir: dir}, nil
}

// At is the mailbox in a folder that is known to be whole.
func At(dir string) *Box { return &Box{dir: dir} }

// Dir is the agent's folder.
func (b *Box) Dir() string { return b.dir }

func (b *Box) path(parts ...string) string {
	return filepath.Join(append([]string{b.dir}, parts...)...)
}

// Item names a file in the inbox.
type Item struct {
	Name         string
	Time         int64 // Unix milliseconds
	Conversation string
	Seq          int64
}

// ItemOf is the item for a line of a log. Its name follows from the line, so that
// delivering twice changes nothing.
func ItemOf(conversation string, seq, timestamp int64) Item {
	return Item{
		Name: fmt.Sprintf("%013d.%s.%d.json", timestamp, conversation, seq),
		Time: timestamp, Conversation: conversation, Seq: seq,
	}
}

// Compare orders items by time, and those of one conversation by seq.
func (i Item) Compare(other Item) int {
	return cmp.Or(
		cmp.Compare(i.Time, other.Time),
		cmp.Compare(i.Conversation, other.Conversation),
		cmp.Compare(i.Seq, other.Seq),
	)
}

// ParseItem reads the name of a file in the inbox.
func ParseItem(name string) (Item, bool) {
	parts := strings.Split(name, ".")
	if len(parts) != 4 || parts[3] != "json" {
		return Item{}, false
	}
	timestamp, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil || timestamp < 0 {
		return Item{}, false
	}
	if id, err := envelope.ParseID(parts[1]); err != nil || id != parts[1] {
		return Item{}, false
	}
	seq, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || seq < 1 {
		return Item{}, false
	}
	item := ItemOf(parts[1], seq, timestamp)
	return item, item.Name == name
}

// Deliver puts a line into the inbox unless it is there already, and reports whether
// it was seen before. A waiting file that is empty or shorter than the line is written
// again. It does not wait for the disk.
func (b *Box) Deliver(item Item, line []byte) (seen bool, err error) {
	// A reader may move it just now: whoever looks into new first finds it in cur.
	waiting, newErr := os.Lstat(b.path(InboxNew, item.Name))
	if _, err := os.Lstat(b.path(InboxCur, item.Name)); err == nil {
		return true, nil
	}
	if newErr == nil && waiting.Size() > int64(len(line)) {
		return false, nil
	}
	if err := b.mending(func() error { return b.deposit(item, line) }); err != nil {
		return false, fmt.Errorf("deliver %q: %w", item.Name, err)
	}
	return false, nil
}

func (b *Box) deposit(item Item, line []byte) error {
	temp := b.path(InboxTmp, envelope.NewID())
	err := os.WriteFile(temp, append(slices.Clip(line), '\n'), 0o600)
	if err == nil {
		err = os.Rename(temp, b.path(InboxNew, item.Name))
	}
	if err != nil {
		_ = os.Remove(temp) // what is left is removed as stale
	}
	return err
}

// mending does something, and where a folder is missing, because somebody has removed
// it, makes the folders and does it again.
func (b *Box) mending(do func() error) error {
	err := do()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := Open(b.dir); err != nil {
		return err
	}
	return do()
}

// Unseen lists the items that wait in the inbox, oldest first.
func (b *Box) Unseen() ([]Item, error) { return b.items(InboxNew) }

// Seen lists the items that were seen and are still kept, oldest first.
func (b *Box) Seen() ([]Item, error) { return b.items(InboxCur) }

func (b *Box) items(folder string) ([]Item, error) {
	names, err := list(b.path(folder))
	if err != nil {
		return nil, err
	}
	items := make([]Item, 0, len(names))
	for _, name := range names {
		if item, ok := ParseItem(name); ok {
			items = append(items, item)
		}
	}
	slices.SortFunc(items, Item.Compare)
	return items, nil
}

// MarkSeen moves an item from new to cur. It reports false where the item is not in
// new: somebody else was faster.
func (b *Box) MarkSeen(name string) (bool, error) {
	if !isFileName(name) {
		return false, fmt.Errorf("mark %q seen: want a file name", name)
	}
	err := os.Rename(b.path(InboxNew, name), b.path(InboxCur, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("mark seen: %w", err)
	}
	return true, nil
}

func isFileName(name string) bool {
	return filepath.Base(name) == name && name != "." && name != ".."
}

// Discard removes seen items, which the logs hold for good.
func (b *Box) Discard(items []Item) error {
	for _, item := range items {
		if err := os.Remove(b.path(InboxCur, item.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("discard seen item: %w", err)
		}
	}
	return nil
}

// Link makes the agent's link to the log of a conversation. It does not wait for
// the disk: links are made again at start.
func (b *Box) Link(conversation string) error {
	name := conversation + ".jsonl"
	path := b.path(Links, name)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	err := b.mending(func() error { return os.Symlink(filepath.Join("..", "..", "..", "conversations", name), path) })
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("link conversation: %w", err)
	}
	return nil
}

// Conversations lists the ids of the conversations that the agent is or was in.
func (b *Box) Conversations() ([]string, error) {
	names, err := list(b.path(Links))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, name := range names {
		stem, ok := strings.CutSuffix(name, ".jsonl")
		if id, err := envelope.ParseID(stem); ok && err == nil && id == stem {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Current is the conversation that is meant when none is named, empty for none.
func (b *Box) Current() (string, error) {
	data, err := b.read("current", 100)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(data)), nil
}

// SetCurrent writes what Current reads, without waiting for the disk.
func (b *Box) SetCurrent(conversation string) error {
	return durable.ReplaceCache(b.path("current"), []byte(conversation+"\n"), 0o600)
}

// RemoveStale deletes unfinished files that nobody has touched since before.
func (b *Box) RemoveStale(before time.Time) error {
	for _, folder := range []string{InboxTmp, OutboxTmp} {
		entries, err := os.ReadDir(b.path(folder))
		if err != nil {
			return fmt.Errorf("clean %q: %w", folder, err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err == nil && info.Mode().IsRegular() && durable.OwnedBySelf(info) && info.ModTime().Before(before) {
				_ = os.Remove(b.path(folder, e.Name())) // its writer may have renamed it just now
			}
		}
	}
	return nil
}

var (
	// ErrForeign means that a file is not one that duo reads: a link, a pipe, a folder,
	// another user's, or one with a second name.
	ErrForeign = errors.New("not a plain file of this user")
	// ErrTooLarge means that a file is over the limit.
	ErrTooLarge = errors.New("file is too large")

	errSecondName = fmt.Errorf("%w: it has a second name (hard link)", ErrForeign)
)

// read reads a file that others may have put there. It never leaves the agent's
// folder and never waits for a pipe.
func (b *Box) read(name string, limit int64) ([]byte, error) {
	f, _, err := b.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readLimited(f, limit)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	return data, nil
}

// open opens a file that others may have put there. Where it refuses the file, it still
// tells which one that is.
func (b *Box) open(name string) (*os.File, fs.FileInfo, error) {
	root, err := os.OpenRoot(b.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open mailbox: %w", err)
	}
	defer root.Close()
	before, err := root.Lstat(name)
	if err != nil {
		return nil, nil, fmt.Errorf("open %q: %w", name, err)
	}
	if err := checkPlain(before); err != nil {
		return nil, before, fmt.Errorf("open %q: %w", name, err)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, before, fmt.Errorf("open %q: %w", name, err)
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(before, info) {
		err = fs.ErrNotExist // it was replaced in between: look again later
	}
	if err == nil {
		err = checkPlain(info)
	}
	if err != nil {
		return nil, info, errors.Join(fmt.Errorf("open %q: %w", name, err), f.Close())
	}
	return f, info, nil
}

func checkPlain(info fs.FileInfo) error {
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%w: it is a symbolic link", ErrForeign)
	case info.IsDir():
		return fmt.Errorf("%w: it is a folder", ErrForeign)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: it is a pipe, socket or device", ErrForeign)
	case !durable.OwnedBySelf(info):
		return fmt.Errorf("%w: it belongs to another user", ErrForeign)
	case durable.Links(info) > 1:
		return errSecondName
	}
	return nil
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: over %d bytes", ErrTooLarge, limit)
	}
	return data, nil
}

const listTries = 3

// list reads the names in a folder, without hidden ones. A listing that races with
// renames misses files, so it is taken again while the folder changes.
func list(dir string) ([]string, error) {
	for try := 1; ; try++ {
		before, err := os.Stat(dir)
		if err != nil {
			return nil, fmt.Errorf("list folder: %w", err)
		}
		f, err := os.Open(dir)
		if err != nil {
			return nil, fmt.Errorf("list folder: %w", err)
		}
		names, err := f.Readdirnames(-1)
		after, statErr := f.Stat()
		if err := errors.Join(err, statErr, f.Close()); err != nil {
			return nil, fmt.Errorf("list folder %q: %w", dir, err)
		}
		if before.ModTime().Equal(after.ModTime()) || try == listTries {
			return visible(names), nil
		}
	}
}

func visible(names []string) []string {
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, ".") })
}

// ReadItem reads a message in the inbox, seen or not.
func (b *Box) ReadItem(name string) (*envelope.Envelope, error) {
	if !isFileName(name) {
		return nil, fmt.Errorf("read item %q: want a file name", name)
	}
	data, err := b.read(filepath.Join(InboxNew, name), envelope.MaxLine+1)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = b.read(filepath.Join(InboxCur, name), envelope.MaxLine+1)
	}
	if err != nil {
		return nil, err
	}
	e, err := envelope.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("read item %q: %w", name, err)
	}
	return e, nil
}

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

// Open opens the folder of an agent, and makes it, and those of its folders that are
// missing. What is above it is not made: a home that somebody has deleted stays so.
func Open(dir string) (*Box, error) {
	if durable.HasDirs(dir, folders) {
		return &Box{dir: dir}, nil
	}
	for _, f := range folders {
		if err := durable.MkdirBelow(filepath.Dir(dir), filepath.Join(dir, f), 0o700); err != nil {
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

// splitName takes the name of a file in the inbox apart, which has four parts and begins
// with a time.
func splitName(name string) (timestamp int64, parts []string, ok bool) {
	parts = strings.Split(name, ".")
	timestamp, err := strconv.ParseInt(parts[0], 10, 64)
	return timestamp, parts, err == nil && timestamp >= 0 && len(parts) == 4
}

// isID reports whether a part of a name is an id as we write it.
func isID(part string) bool {
	id, err := envelope.ParseID(part)
	return err == nil && id == part
}

// ParseItem reads the name of a file in the inbox.
func ParseItem(name string) (Item, bool) {
	timestamp, parts, ok := splitName(name)
	if !ok || !isID(parts[1]) {
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
// again, and so is what is no file. It does not wait for the disk.
func (b *Box) Deliver(item Item, line []byte) (seen bool, err error) {
	// A reader may move it just now: whoever looks into new first finds it in cur.
	var waiting fs.FileInfo
	if path := b.path(InboxNew, item.Name); !durable.Missing(path) {
		waiting, _ = os.Lstat(path)
	}
	if !durable.Missing(b.path(InboxCur, item.Name)) {
		return true, nil
	}
	if waiting != nil && waiting.Mode().IsRegular() && waiting.Size() > int64(len(line)) {
		return false, nil
	}
	if err := b.mending(func() error { return b.deposit(InboxNew, item.Name, line) }); err != nil {
		return false, fmt.Errorf("deliver %q: %w", item.Name, err)
	}
	return false, nil
}

// deposit puts a line into a folder of the inbox as a file, or into the place of one.
func (b *Box) deposit(folder, name string, line []byte) error {
	temp := b.path(InboxTmp, envelope.NewID())
	err := os.WriteFile(temp, append(slices.Clip(line), '\n'), 0o600)
	if err == nil {
		err = os.Rename(temp, b.path(folder, name))
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

// WasSeen reports whether an item or a signal was seen and is still kept.
func (b *Box) WasSeen(name string) bool {
	return isFileName(name) && durable.Missing(b.path(InboxNew, name)) && !durable.Missing(b.path(InboxCur, name))
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

// Withdraw deletes the items of a conversation behind a line, seen or not: the log has
// others there now.
func (b *Box) Withdraw(conversation string, behind int64) error {
	for _, folder := range []string{InboxNew, InboxCur} {
		items, err := b.items(folder)
		if err != nil {
			return err
		}
		for _, item := range items {
			if item.Conversation != conversation || item.Seq <= behind {
				continue
			}
			if err := os.Remove(b.path(folder, item.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("withdraw from inbox: %w", err)
			}
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

// RemoveStale deletes unfinished files that nobody has touched since before. While drops
// wait, what lies beside them stays: they may name it.
func (b *Box) RemoveStale(before time.Time) error {
	waiting, err := os.ReadDir(b.path(OutboxNew))
	if err != nil {
		return fmt.Errorf("clean outbox: %w", err)
	}
	for _, folder := range []string{InboxTmp, OutboxTmp} {
		if folder == OutboxTmp && len(waiting) > 0 {
			continue
		}
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
	ErrForeign = durable.ErrForeign
	// ErrTooLarge means that a file is over the limit.
	ErrTooLarge = durable.ErrTooLarge

	errUnreadable = fmt.Errorf("%w: its mode does not let us read it", ErrForeign)
)

// read reads a file that others may have put there. It never leaves the agent's
// folder and never waits for a pipe.
func (b *Box) read(name string, limit int64) ([]byte, error) {
	f, _, err := b.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := durable.ReadLimited(f, limit)
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
	if err := durable.CheckPlain(before); err != nil {
		return nil, before, fmt.Errorf("open %q: %w", name, err)
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrPermission) { // of the file itself: its folder has just let us in
		err = errUnreadable
	}
	if err != nil {
		return nil, before, fmt.Errorf("open %q: %w", name, err)
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(before, info) {
		err = fs.ErrNotExist // it was replaced in between: look again later
	}
	if err == nil {
		err = durable.CheckPlain(info)
	}
	if err != nil {
		return nil, info, errors.Join(fmt.Errorf("open %q: %w", name, err), f.Close())
	}
	return f, info, nil
}

const (
	listTries = 3
	readTries = 10
)

// list reads the names in a folder, without hidden ones.
func list(dir string) ([]string, error) {
	names, err := readNames(dir)
	return visible(names), err
}

func visible(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, ".") })
}

// readNames reads the names in a folder, sorted. A listing that races with renames
// misses files, so it is taken again while the folder changes.
func readNames(dir string) ([]string, error) {
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
			slices.Sort(names)
			return slices.Compact(names), nil
		}
	}
}

// ReadItem reads a message or signal in the inbox, seen or not.
func (b *Box) ReadItem(name string) (*envelope.Envelope, error) {
	if !isFileName(name) {
		return nil, fmt.Errorf("read item %q: want a file name", name)
	}
	data, err := b.readItem(name)
	for try := 1; try < readTries && errors.Is(err, fs.ErrNotExist); try++ { // it may be written anew, or move, just now
		data, err = b.readItem(name)
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

func (b *Box) readItem(name string) ([]byte, error) {
	data, err := b.read(filepath.Join(InboxNew, name), envelope.MaxLine+1)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = b.read(filepath.Join(InboxCur, name), envelope.MaxLine+1)
	}
	return data, err
}

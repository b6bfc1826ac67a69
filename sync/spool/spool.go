// Package spool keeps, for one other host, what has still to be sent there: one file for
// each thing, in the order in which they were added, until somebody removes it.
//
//	spool/tmp                                  what is being written
//	spool/new/00000000000000000042.<id>.json   what waits, in the order of the numbers
//
// When [Spool.Add] returns nil, what was added is on disk, with its name. A crash before
// that leaves it there whole, or nothing but a file in tmp, which the next Open removes.
// A crash after [Spool.Remove] may bring it back: whoever gets it twice knows it by its
// id. One process at a time may have a spool open.
package spool

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
	"sync"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// The folders of a spool.
const (
	Tmp = "tmp"
	New = "new"
)

const suffix = ".json"

// MaxItem is the size limit of one thing in bytes: an envelope, and what goes with it.
const MaxItem = envelope.MaxLine + 4096

var (
	// ErrFull means that the spool holds as much as it may.
	ErrFull = errors.New("too much waits to be sent already")
	// ErrNotFound means that nothing with the id waits.
	ErrNotFound = errors.New("nothing with this id waits to be sent")
)

// Limits bound a spool; 0 means the default.
type Limits struct {
	Items int   // default 10,000
	Bytes int64 // default 256 MiB
}

// Item is one thing that waits.
type Item struct {
	Number uint64 // later things have a greater one
	ID     string
	Size   int64
}

// Spool is what waits for one host. Its methods may be used by several goroutines.
type Spool struct {
	dir    string
	limits Limits

	adding sync.Mutex // held while a file is written; taken before mu

	mu    sync.Mutex
	items []Item // by number
	byID  map[string]uint64
	bytes int64
	last  uint64 // greatest number that was used
}

// Open opens the spool in a folder, which it makes. What a crash has left unfinished is
// removed. Files whose names are not those of a spool are left alone.
func Open(dir string, limits Limits) (*Spool, error) {
	s := &Spool{dir: dir, byID: make(map[string]uint64)}
	s.limits = Limits{cmp.Or(limits.Items, 10_000), cmp.Or(limits.Bytes, 256<<20)}
	for _, folder := range []string{Tmp, New} {
		if err := durable.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			return nil, fmt.Errorf("open spool: %w", err)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, Tmp))
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	for _, e := range left {
		if e.Type().IsRegular() {
			if err := os.Remove(filepath.Join(dir, Tmp, e.Name())); err != nil {
				return nil, fmt.Errorf("clean spool: %w", err)
			}
		}
	}
	return s, s.list()
}

func (s *Spool) list() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, New))
	if err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	for _, e := range entries { // sorted by name, which is by number
		item, ok := parse(e.Name())
		info, err := e.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue
		}
		if _, twice := s.byID[item.ID]; twice {
			continue
		}
		item.Size = info.Size()
		s.insert(item)
	}
	return nil
}

// insert notes an item behind the others. The caller holds the lock.
func (s *Spool) insert(item Item) {
	s.items = append(s.items, item)
	s.byID[item.ID] = item.Number
	s.bytes += item.Size
	s.last = max(s.last, item.Number)
}

func (i Item) name() string { return fmt.Sprintf("%020d.%s%s", i.Number, i.ID, suffix) }

func parse(name string) (Item, bool) {
	number, rest, _ := strings.Cut(name, ".")
	n, err := strconv.ParseUint(number, 10, 64)
	id, ends := strings.CutSuffix(rest, suffix)
	item := Item{Number: n, ID: id}
	if parsed, bad := envelope.ParseID(id); err != nil || !ends || bad != nil || parsed != id || item.name() != name {
		return Item{}, false
	}
	return item, true
}

func (s *Spool) path(item Item) string { return filepath.Join(s.dir, New, item.name()) }

// Add puts something behind what waits, durably. Where something with the id waits
// already, it changes nothing and reports that. The id is a UUID in lower case.
func (s *Spool) Add(id string, data []byte) (waits bool, err error) {
	if parsed, err := envelope.ParseID(id); err != nil || parsed != id || len(data) > MaxItem {
		return false, fmt.Errorf("add %.40q to spool: no id in lower case, or %d bytes, of which %d are the most", id, len(data), MaxItem)
	}
	s.adding.Lock()
	defer s.adding.Unlock()
	item, waits, err := s.reserve(id, int64(len(data)))
	if waits || err != nil {
		return waits, err
	}
	temp := filepath.Join(s.dir, Tmp, id)
	if err := write(temp, data); err != nil {
		return false, fmt.Errorf("add to spool: %w", errors.Join(err, ignoreMissing(os.Remove(temp))))
	}
	// A crash from here on may leave the item there, whole, though nobody was told so.
	if err := os.Rename(temp, s.path(item)); err != nil {
		return false, fmt.Errorf("add to spool: %w", errors.Join(err, ignoreMissing(os.Remove(temp))))
	}
	if err := durable.SyncDir(filepath.Join(s.dir, New)); err != nil {
		return false, fmt.Errorf("add to spool: %w", errors.Join(err, ignoreMissing(os.Remove(s.path(item)))))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.insert(item)
	return false, nil
}

// reserve is the item that would be the next, where there is room for it. Nobody else
// adds one meanwhile.
func (s *Spool) reserve(id string, size int64) (item Item, waits bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, waits := s.byID[id]; waits {
		return Item{}, true, nil
	}
	if n := len(s.items); n >= s.limits.Items || s.bytes+size > s.limits.Bytes {
		return Item{}, false, fmt.Errorf("spool %q holds %d messages, %d bytes: %w", s.dir, n, s.bytes, ErrFull)
	}
	return Item{Number: s.last + 1, ID: id, Size: size}, false, nil
}

func write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = durable.Sync(f)
	}
	return errors.Join(err, f.Close())
}

// Has reports whether something with the id waits.
func (s *Spool) Has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.byID[id]
	return ok
}

// Len is how many things wait, and Bytes how large they are together.
func (s *Spool) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.items)
}

// Bytes is how large all that waits is.
func (s *Spool) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// Behind lists at most max of the things that wait whose number is greater than one, in
// order.
func (s *Spool) Behind(number uint64, max int) []Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := s.find(number + 1)
	return slices.Clone(s.items[i:min(len(s.items), i+max)])
}

// find is the place of the first item with a number, or a greater one. The caller holds
// the lock.
func (s *Spool) find(number uint64) (int, bool) {
	return slices.BinarySearchFunc(s.items, number, func(i Item, n uint64) int { return cmp.Compare(i.Number, n) })
}

// Get returns what waits under an id.
func (s *Spool) Get(id string) (Item, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number, ok := s.byID[id]
	i, found := s.find(number)
	if !ok || !found {
		return Item{}, false
	}
	return s.items[i], true
}

// Read returns what was added under an id, or ErrNotFound.
func (s *Spool) Read(id string) ([]byte, error) {
	item, ok := s.Get(id)
	if !ok {
		return nil, fmt.Errorf("read %q from spool: %w", id, ErrNotFound)
	}
	data, err := durable.ReadPlain(s.path(item), MaxItem)
	if errors.Is(err, fs.ErrNotExist) { // somebody has removed the file, or it went just now
		s.forget(item)
		return nil, fmt.Errorf("read %q from spool: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read %q from spool: %w", id, err)
	}
	return data, nil
}

// Remove removes what waits under an id. To remove what does not wait is no error.
func (s *Spool) Remove(id string) error {
	item, ok := s.Get(id)
	if !ok {
		return nil
	}
	if err := ignoreMissing(os.Remove(s.path(item))); err != nil {
		return fmt.Errorf("remove %q from spool: %w", id, err)
	}
	s.forget(item)
	return nil
}

func (s *Spool) forget(item Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.find(item.Number); ok {
		s.items = slices.Delete(s.items, i, i+1)
		s.bytes -= item.Size
		delete(s.byID, item.ID)
	}
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

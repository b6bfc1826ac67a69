package relay

import (
	"bytes"
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
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/go-json-experiment/json"
)

const (
	heldFolder = "held"
	heldSuffix = ".held"
	maxHeldRow = 1 << 10 // bytes before what is sealed
	clockStep  = time.Minute
	clockSave  = 10 // steps
	maxClock   = 64 // bytes
)

// store is what this host holds for others: for each a folder with a file for each item.
// The name of a file has all that the store has to know, NUMBER.FROM.ID.BORN.held:
// items are given by number, and BORN is what the clock said when the item came.
//
// The clock counts minutes in which something is held and the daemon runs, so that no
// wall clock decides. A crash sets it back by ten minutes at most.
type store struct {
	folder func(id string) string
	clock  string
	limits Limits

	mu    sync.Mutex
	boxes map[string]*box // by the id of the receiver
	bytes int64
	now   int64 // minutes
	part  time.Duration
	steps int
}

// box is what is held for one host.
type box struct {
	items []item // by number
	next  uint64
}

// item is something that is held.
type item struct {
	n        uint64
	from, to string
	id       string
	size     int64
	born     int64
}

func (i *item) name() string {
	return fmt.Sprintf("%020d.%s.%s.%d%s", i.n, i.from, i.id, i.born, heldSuffix)
}

func parseItem(name, to string) (item, bool) {
	parts := strings.Split(strings.TrimSuffix(name, heldSuffix), ".")
	if len(parts) != 4 || !strings.HasSuffix(name, heldSuffix) {
		return item{}, false
	}
	n, errN := strconv.ParseUint(parts[0], 10, 63)
	born, errBorn := strconv.ParseInt(parts[3], 10, 63)
	i := item{n: n, from: parts[1], to: to, id: parts[2], born: born}
	return i, errN == nil && errBorn == nil && born >= 0 && isID(i.from) && isItemID(i.id) && i.name() == name
}

// openStore reads what is held for the hosts that the book carries for.
func openStore(o Options) (*store, error) {
	s := &store{folder: o.Folder, clock: o.Clock, limits: o.Limits, boxes: make(map[string]*box)}
	if err := s.readClock(); err != nil {
		return nil, err
	}
	for _, p := range o.Book.Carried() {
		if _, err := s.box(p.Keys.ID()); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *store) readClock() error {
	data, err := durable.ReadPlain(s.clock, maxClock)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	if now, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 63); err == nil {
		s.now = now // else the items say what it was at least
	}
	return nil
}

// saveClock makes the clock survive the daemon.
func (s *store) saveClock() error {
	s.mu.Lock()
	now, due := s.now, s.steps > 0
	s.steps = 0
	s.mu.Unlock()
	if !due {
		return nil
	}
	return durable.Replace(s.clock, fmt.Appendf(nil, "%d\n", now), 0o600)
}

// box is that of a host, read from its folder when it is first looked at.
func (s *store) box(to string) (*box, error) {
	if b := s.boxes[to]; b != nil {
		return b, nil
	}
	b := &box{next: 1}
	dir := s.dir(to)
	if err := maildir.RemoveTemps(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list what is held: %w", err)
	}
	for _, e := range entries {
		i, ok := parseItem(e.Name(), to)
		info, err := e.Info()
		if !ok || err != nil || durable.CheckPlain(info) != nil {
			continue
		}
		i.size = takes(info.Size())
		b.items = append(b.items, i)
		b.next = max(b.next, i.n+1)
		s.bytes += i.size
		s.now = max(s.now, i.born)
	}
	slices.SortFunc(b.items, func(x, y item) int { return cmp.Compare(x.n, y.n) })
	s.boxes[to] = b
	return b, nil
}

func (s *store) dir(to string) string { return filepath.Join(s.folder(to), heldFolder) }

func (s *store) path(i *item) string { return filepath.Join(s.dir(i.to), i.name()) }

// heldRow is the line before what is sealed, in a file and on a link.
type heldRow struct {
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	ID   string `json:"id"`
	Sig  string `json:"sig"`
}

// put holds an item, durably. The same item again changes nothing. What there is no
// room for is a *Refused.
func (s *store) put(it *sealed) error {
	row, err := json.Marshal(heldRow{From: it.From, ID: it.ID, Sig: it.Sig})
	if err != nil {
		return fmt.Errorf("encode item: %w", err)
	}
	data := append(append(row, '\n'), it.Data...)
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.box(it.To)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(b.items, func(i item) bool { return i.from == it.From && i.id == it.ID }) {
		return nil
	}
	size := takes(int64(len(data)))
	if !s.room(b, it.From, size) {
		return &Refused{CodeFull}
	}
	i := item{n: b.next, from: it.From, to: it.To, id: it.ID, size: size, born: s.now}
	// The folder of the peer itself is not made: without it there is no such peer.
	if err := durable.MkdirBelow(s.folder(it.To), s.dir(it.To), 0o700); err != nil {
		return err
	}
	if err := durable.Create(s.path(&i), data, 0o600); err != nil {
		return err
	}
	// The commit point: the item is given as long as its file is there.
	b.next++
	b.items = append(b.items, i)
	s.bytes += i.size
	return nil
}

// takes is what a file of so many bytes takes from the room there is.
func takes(size int64) int64 { return max(size, 4<<10) }

func (s *store) room(b *box, from string, size int64) bool {
	var pair int64
	items := 0
	for _, i := range b.items {
		if i.from == from {
			items++
			pair += i.size
		}
	}
	return items < s.limits.PairItems && pair+size <= s.limits.PairBytes &&
		s.sentBy(from)+size <= s.limits.SenderBytes && s.bytes+size <= s.limits.HeldBytes
}

func (s *store) sentBy(from string) (bytes int64) {
	for _, b := range s.boxes {
		for _, i := range b.items {
			if i.from == from {
				bytes += i.size
			}
		}
	}
	return bytes
}

// next gives the first item for a host behind a number.
func (s *store) next(to string, after uint64) (item, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.box(to)
	if err != nil {
		return item{}, false, err
	}
	at, _ := slices.BinarySearchFunc(b.items, after+1, func(i item, n uint64) int { return cmp.Compare(i.n, n) })
	if at == len(b.items) {
		return item{}, false, nil
	}
	return b.items[at], true, nil
}

// read gives the content of an item. Where the file is gone, or is none of the store's,
// the error is ErrBad.
func (s *store) read(i *item) (*sealed, error) {
	data, err := durable.ReadPlain(s.path(i), maxSealed+maxHeldRow)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, durable.ErrForeign) || errors.Is(err, durable.ErrTooLarge) {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read item: %w", err)
	}
	row, content, _ := bytes.Cut(data, []byte("\n"))
	var h heldRow
	if err := json.Unmarshal(row, &h); err != nil {
		return nil, fmt.Errorf("%w: read item: %w", ErrBad, err)
	}
	return &sealed{From: i.from, To: i.to, ID: i.id, Sig: h.Sig, Data: content}, nil
}

// remove deletes an item. After a crash it may be there again.
func (s *store) remove(i *item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.boxes[i.to]
	if b == nil {
		return nil
	}
	at, found := slices.BinarySearchFunc(b.items, i.n, func(x item, n uint64) int { return cmp.Compare(x.n, n) })
	if !found {
		return nil
	}
	if err := os.Remove(s.path(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove item: %w", err)
	}
	b.items = slices.Delete(b.items, at, at+1)
	s.bytes -= i.size
	return nil
}

// age lets time pass, and deletes and returns what is too old then.
func (s *store) age(passed time.Duration) (old []item, err error) {
	s.mu.Lock()
	if s.bytes == 0 {
		s.mu.Unlock()
		return nil, nil
	}
	s.part += passed
	minutes := int64(s.part / clockStep)
	s.part -= time.Duration(minutes) * clockStep
	s.now += minutes
	s.steps += int(minutes)
	save := s.steps >= clockSave
	for _, b := range s.boxes {
		for _, i := range b.items {
			if time.Duration(s.now-i.born)*clockStep >= s.limits.HeldTime {
				old = append(old, i)
			}
		}
	}
	s.mu.Unlock()
	for _, i := range old {
		err = errors.Join(err, s.remove(&i))
	}
	if save {
		err = errors.Join(err, s.saveClock())
	}
	return old, err
}

package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Holder is who can have leases: a session, and the process that it lives as long as.
// Two holders are the same one where their keys are. A holder without a key is whoever
// has its process: a program that is not told its session is the one that it runs in.
type Holder struct {
	Key     Key     `json:"key,omitzero"`
	Process Process `json:"process"`
}

// Here is the holder that this process acts for as an agent: of the sessions that it is
// part of, the one that is bound to the agent and lives; else one that lives in the same
// program, which has begun a session anew since it has started this process; else the
// first that it is part of.
func Here(home *maildir.Home, agent string, env func(string) string) Holder {
	here := Holder{Process: Client()}
	keys := Of(env)
	for _, k := range slices.Backward(keys) {
		b, err := Read(home, k)
		bound := err == nil && b != nil && strings.EqualFold(b.Agent, agent)
		if bound && b.Lives() {
			return b.Holder()
		}
		if bound || here.Key.IsZero() {
			here.Key = k
		}
	}
	live, err := Live(home, agent)
	if err != nil {
		return here
	}
	for _, b := range live {
		if b.Process == here.Process {
			return b.Holder()
		}
	}
	return here
}

func (h Holder) same(other Holder) bool {
	if h.Key.IsZero() || other.Key.IsZero() {
		return h.Process == other.Process
	}
	return h.Key == other.Key
}

// Lease is what one holder has of an agent's inbox.
type Lease struct {
	Holder
	Items []string `json:"items"`
}

// Book says which session of an agent acts on which item of its inbox. Items are the
// names of files there: of a mailbox.Item or a mailbox.Signal. It may be used by several
// goroutines and processes.
type Book struct {
	path string // without the suffix
	box  *mailbox.Box
}

// OpenBook opens the book of an agent, which need not exist.
func OpenBook(home *maildir.Home, agent string) *Book {
	dir := home.AgentDir(agent)
	return &Book{filepath.Join(home.LeasesDir(), filepath.Base(dir)), mailbox.At(dir)}
}

// page is the content of a book.
type page struct {
	Leases  []Lease `json:"leases"`
	WokenAt int64   `json:"wokenAt,omitempty"` // Unix milliseconds
}

const (
	maxBookSize = 16 << 20
	maxItems    = 1 << 16 // of one holder, and that a binding tells of; the oldest ones go
)

// Take makes those items a holder's that no other live holder has, and returns them,
// with those that it has already, in the order in which they are given. What was seen is
// nobody's any more.
func (b *Book) Take(h Holder, items []string) (mine []string, err error) {
	err = b.change(func(p *page) {
		taken := make(map[string]bool)
		for _, l := range p.Leases {
			if !l.same(h) {
				for _, item := range l.Items {
					taken[item] = true
				}
			}
		}
		for _, item := range items {
			if !taken[item] {
				mine = append(mine, item)
			}
		}
		p.give(h, mine)
	})
	if err != nil {
		return nil, err
	}
	return mine, nil
}

// give notes that a holder has items, and which process it lives as long as.
func (p *page) give(h Holder, items []string) {
	if len(items) == 0 {
		return
	}
	i := slices.IndexFunc(p.Leases, h.owns)
	if i < 0 {
		i, p.Leases = len(p.Leases), append(p.Leases, Lease{Holder: h})
	}
	l := &p.Leases[i]
	if l.Key.IsZero() || !h.Key.IsZero() {
		l.Holder = h
	}
	l.Items = append(l.Items, items...)
	slices.Sort(l.Items) // names begin with a time
	l.Items = slices.Compact(l.Items)
	l.Items = l.Items[max(0, len(l.Items)-maxItems):]
}

func (h Holder) owns(l Lease) bool { return l.same(h) }

// Return gives items back that a holder has.
func (b *Book) Return(h Holder, items ...string) error {
	return b.change(func(p *page) {
		for i := range p.Leases {
			if l := &p.Leases[i]; l.same(h) {
				l.Items = slices.DeleteFunc(l.Items, func(item string) bool { return slices.Contains(items, item) })
			}
		}
	})
}

// Leave gives back all that a holder has.
func (b *Book) Leave(h Holder) error {
	return b.change(func(p *page) { p.Leases = slices.DeleteFunc(p.Leases, h.owns) })
}

// Leases lists what live holders have.
func (b *Book) Leases() ([]Lease, error) {
	p, err := b.read()
	return p.Leases, err
}

// WakeGap is the least time between two wakes of an agent, whoever wakes it.
const WakeGap = 30 * time.Second

// Wake reports whether the agent may be woken now, since it was not woken for a while,
// and notes that it is.
func (b *Book) Wake(now time.Time, gap time.Duration) (may bool, err error) {
	err = b.change(func(p *page) {
		since := now.UnixMilli() - p.WokenAt
		may = since < 0 || since >= gap.Milliseconds() // a clock that was set back wakes once too often
		if may {
			p.WokenAt = now.UnixMilli()
		}
	})
	return may && err == nil, err
}

func (b *Book) read() (page, error) {
	var p page
	data, err := durable.ReadPlain(b.path+suffix, maxBookSize)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return p, fmt.Errorf("read leases: %w", err)
	}
	if json.Unmarshal(data, &p) != nil {
		p = page{} // torn by a crash of the machine, after which no holder lives
	}
	p.Leases = slices.DeleteFunc(p.Leases, func(l Lease) bool { return !l.Process.Alive() })
	for i := range p.Leases {
		l := &p.Leases[i]
		l.Items = slices.DeleteFunc(l.Items, b.box.WasSeen)
	}
	return p, nil
}

func (b *Book) change(change func(*page)) error {
	if err := makeFolder(filepath.Dir(b.path)); err != nil {
		return err
	}
	unlock, err := lock(b.path + lockSuffix)
	if err != nil {
		return err
	}
	defer unlock()
	p, err := b.read()
	if err != nil {
		return err
	}
	change(&p)
	p.Leases = slices.DeleteFunc(p.Leases, func(l Lease) bool { return len(l.Items) == 0 })
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode leases: %w", err)
	}
	return durable.ReplaceCache(b.path+suffix, append(data, '\n'), 0o600)
}

// Package standing knows what agents may do on this host where that is less than all: the
// file standings.json of the home, which the operator changes.
//
// A change is on disk before it holds, and holds until another one or until its time is
// over. It is of an agent of a host, by the id of that host: who registers again, or is
// linked again, has it still.
package standing

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// The standings of agents.
const (
	None    = "none"    // it may do all that agents may
	Muted   = "muted"   // it says nothing, and reads what it reads
	Blocked = "blocked" // it is as if it were not here
)

const (
	maxFile   = 4 << 20
	maxAgents = 4096
)

var (
	// ErrInvalid means that there is no such standing, or not for so long.
	ErrInvalid = errors.New("no standing")
	// ErrTooMany means that more agents have one than this package keeps.
	ErrTooMany = errors.New("too many agents have a standing")
)

// Standing is what an agent may do. The zero value is that it may do all.
type Standing struct {
	Agent  envelope.Address `json:"agent"` // as its host was called here when it was given
	Host   string           `json:"host"`  // id of the host of the agent
	Word   string           `json:"standing"`
	Reason string           `json:"reason,omitempty"`
	Until  int64            `json:"until,omitempty"` // Unix milliseconds, 0 for until it is changed
	By     envelope.Address `json:"by"`              // who has given it
	At     int64            `json:"at"`              // when, Unix milliseconds
	Change string           `json:"change"`          // id of the change
	Noted  bool             `json:"noted,omitempty"` // the logs say so
}

// Check reports, as an ErrInvalid, what cannot be given.
func (s Standing) Check() error {
	switch {
	case s.Word != None && s.Word != Muted && s.Word != Blocked:
		return fmt.Errorf("%w %q: want %s, %s or %s", ErrInvalid, s.Word, Muted, Blocked, None)
	case s.Agent.IsZero() || s.Agent.Host == "" || s.Host == "" || s.Change == "":
		return fmt.Errorf("%w without an agent, the id of its host and that of the change", ErrInvalid)
	case s.Until < 0 || s.Until > envelope.MaxInt || s.Word == None && s.Until > 0:
		return fmt.Errorf("%w that ends then: %d", ErrInvalid, s.Until)
	}
	line := envelope.Envelope{Reason: s.Reason}
	if err := line.Check(envelope.MaxContent); err != nil { // a log is to take it
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// at is the standing as it is at a time.
func (s Standing) at(now time.Time) Standing {
	if s.Word == None || s.Until > 0 && s.Until <= now.UnixMilli() {
		return Standing{}
	}
	return s
}

// Silent reports whether the agent says nothing to others.
func (s Standing) Silent() bool { return s.Word == Muted || s.Word == Blocked }

// Book holds the standings of a home. Its methods may be used by several goroutines.
type Book struct {
	path string
	now  func() time.Time

	mu     sync.RWMutex
	all    map[string]Standing // by key
	broken error               // the file cannot be read, and is not written over
}

func key(host, name string) string { return host + " " + strings.ToLower(name) }

// file is standings.json.
type file struct {
	Version int        `json:"version"`
	Agents  []Standing `json:"agents"`
}

const version = 1

// Open reads the standings of a home. Where the file cannot be read nobody has one until
// it is repaired, and none can be given; the error says so.
func Open(home *maildir.Home, now func() time.Time) (*Book, error) {
	b := &Book{path: home.StandingsPath(), now: now, all: make(map[string]Standing)}
	list, err := read(b.path)
	if err != nil {
		b.broken = fmt.Errorf("read standings %q: %w", b.path, err)
	}
	for _, s := range list {
		b.all[key(s.Host, s.Agent.Name)] = s
	}
	return b, b.broken
}

func read(path string) ([]Standing, error) {
	data, err := durable.ReadPlain(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var f file
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more behind the JSON value")
	}
	if f.Version != version || len(f.Agents) > maxAgents {
		return nil, fmt.Errorf("want version %d and at most %d agents, got version %d and %d", version, maxAgents, f.Version, len(f.Agents))
	}
	for _, s := range f.Agents {
		if err := s.Check(); err != nil {
			return nil, err
		}
	}
	return f.Agents, nil
}

// Of is the standing of an agent, by the id of its host and its name, now.
func (b *Book) Of(host, name string) Standing {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if len(b.all) == 0 { // as a rule, and for each message that is sent
		return Standing{}
	}
	return b.all[key(host, name)].at(b.now())
}

// All lists the standings that agents have now, by the names of the agents.
func (b *Book) All() []Standing {
	return b.list(func(s Standing) bool { return s.at(b.now()).Word != "" })
}

// Unnoted lists what was changed and does not stand in all logs yet, also back to None.
func (b *Book) Unnoted() []Standing { return b.list(func(s Standing) bool { return !s.Noted }) }

func (b *Book) list(is func(Standing) bool) []Standing {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var list []Standing
	for _, s := range b.all {
		if is(s) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(x, y Standing) int {
		return cmp.Or(cmp.Compare(x.Agent.Key(), y.Agent.Key()), cmp.Compare(x.Host, y.Host))
	})
	return list
}

// Set gives an agent a standing, durably. Where it has the same one already, for the same
// reason and as long, nothing is changed.
func (b *Book) Set(s Standing) (changed bool, err error) {
	if err := s.Check(); err != nil {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	before := b.all[key(s.Host, s.Agent.Name)].at(now)
	if cmp.Or(before.Word, None) == s.Word && before.Reason == s.Reason && before.Until == s.Until || before.Word == "" && s.Word == None {
		return false, nil
	}
	return true, b.put(s, now)
}

// Note notes that the logs say what a change was. Where the agent has another standing by
// now, it does nothing.
func (b *Book) Note(s Standing) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all[key(s.Host, s.Agent.Name)].Change != s.Change {
		return nil
	}
	s.Noted = true
	return b.put(s, b.now())
}

// put writes the file with one standing changed, and without those that are over and
// noted. The caller holds the lock.
func (b *Book) put(s Standing, now time.Time) error {
	if b.broken != nil {
		return b.broken
	}
	all := maps.Clone(b.all)
	all[key(s.Host, s.Agent.Name)] = s
	maps.DeleteFunc(all, func(_ string, s Standing) bool { return s.Noted && s.at(now).Word == "" })
	if len(all) > maxAgents {
		return fmt.Errorf("%w: %d", ErrTooMany, maxAgents)
	}
	f := file{Version: version, Agents: []Standing{}}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		f.Agents = append(f.Agents, all[k])
	}
	if err := durable.ReplaceJSON(b.path, f, 0o600); err != nil {
		return fmt.Errorf("write standings: %w", err)
	}
	b.all = all
	return nil
}

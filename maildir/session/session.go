// Package session is the sessions of client programs on a host: which agent each one
// speaks as, what it was told, and who of several sessions of one agent acts on what.
//
// A [Binding] says that a session is an agent. A [Book] holds the leases of an agent:
// an item that one session has taken is for no other one, until that session gives it
// back or its process is gone. Neither needs a daemon, and neither goes by a clock.
// All of it lies in the run folder and can be deleted: then sessions have to say again
// who they are, and are told again what waits.
package session

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
)

// Key names a session of a client program.
type Key struct {
	Client string `json:"client,omitempty"`
	ID     string `json:"session,omitempty"`
}

// IsZero reports whether the key names no session.
func (k Key) IsZero() bool { return k == Key{} }

// String is the key as people read it.
func (k Key) String() string { return strings.TrimSpace(k.Client + " " + k.ID) }

// The client programs whose sessions are known.
const (
	Claude = "claude-code"
	Codex  = "codex"
	Gemini = "gemini"
	Cursor = "cursor"
	Other  = "duo" // whatever sets DUO_SESSION

	Attendant = "duo-attend" // no client program: it answers by itself
)

// Of lists the sessions that a process is part of, as client programs tell their
// children. There are two when one of them has started the other.
func Of(env func(string) string) []Key {
	var keys []Key
	for _, known := range []struct{ client, variable string }{
		{Claude, "CLAUDE_CODE_SESSION_ID"},
		{Codex, "CODEX_THREAD_ID"},
		{Gemini, "GEMINI_SESSION_ID"},
		{Other, "DUO_SESSION"},
	} {
		if id := env(known.variable); id != "" {
			keys = append(keys, Key{known.client, id})
		}
	}
	return keys
}

// What a session is doing, as its hooks tell.
const (
	Working = "working"
	Idle    = "idle"
)

// Binding says which agent a session speaks as, and what is known of the session.
type Binding struct {
	Key
	Agent   string  `json:"agent"`
	BoundAt int64   `json:"boundAt"`          // Unix milliseconds
	Process Process `json:"process,omitzero"` // the client program
	Hooks   bool    `json:"hooks,omitempty"`  // it runs the hooks of duo
	State   string  `json:"state,omitempty"`  // Working or Idle, empty where no hook has told
	Waiter  Process `json:"waiter,omitzero"`  // what waits to wake the session
	Told    []Told  `json:"told,omitempty"`   // of what still waits
	As      string  `json:"as,omitempty"`     // the agent that its commands have in DUO_AS since its start
	ToldAt  int64   `json:"toldAt,omitempty"` // when a hook last looked, Unix milliseconds
}

// Told is an item of the inbox that a session was told of.
type Told struct {
	Item  string `json:"item"`            // the name of the file
	State string `json:"state,omitempty"` // of a call: what is said of it changes
	Body  bool   `json:"body,omitempty"`  // its text was printed too
}

// Lives reports whether the client program of the session runs.
func (b Binding) Lives() bool { return b.Process.Alive() }

// Waits reports whether something waits to wake the session.
func (b Binding) Waits() bool { return b.Waiter.Alive() }

// Holder is the session as the holder of leases.
func (b Binding) Holder() Holder { return Holder{b.Key, b.Process} }

const (
	suffix         = ".json"
	maxBindingSize = 16 << 20 // more than maxItems take
)

func (k Key) path(home *maildir.Home) string {
	sum := sha256.Sum256([]byte(k.Client + ":" + k.ID))
	return filepath.Join(home.SessionsDir(), hex.EncodeToString(sum[:])+suffix)
}

// Read returns the binding of a session, nil where there is none.
func Read(home *maildir.Home, k Key) (*Binding, error) {
	b, err := read(k.path(home))
	if b != nil && b.Key != k {
		return nil, err
	}
	return b, err
}

func read(path string) (*Binding, error) {
	data, err := durable.ReadPlain(path, maxBindingSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	var b Binding
	if json.Unmarshal(data, &b) != nil || b.Agent == "" {
		return nil, nil // torn by a crash: as if it had never been written
	}
	return &b, nil
}

// Update changes the binding of a session: change is given what there is, or an empty
// binding, while nobody else changes it. Where change returns an error, or leaves no
// agent in it, nothing is written.
func Update(home *maildir.Home, k Key, change func(*Binding) error) error {
	return UpdateTelling(home, k, change, func() error { return nil })
}

// UpdateTelling is Update for a change that says what the session was told. When all but
// the last step of writing it is done, it calls tell: what could not be written is not told,
// and what was not told, because tell returns an error or the process is killed, is not
// written. A crash between the two tells it once more.
func UpdateTelling(home *maildir.Home, k Key, change func(*Binding) error, tell func() error) error {
	if err := makeFolder(home.SessionsDir()); err != nil {
		return err
	}
	path := k.path(home)
	unlock, err := lock(strings.TrimSuffix(path, suffix) + lockSuffix)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := Read(home, k)
	if err != nil {
		return err
	}
	if b == nil {
		b = &Binding{}
	}
	b.Key = k
	before, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode session: %w", err)
	}
	if err := change(b); err != nil || b.Agent == "" {
		return err
	}
	b.Told = b.Told[max(0, len(b.Told)-maxItems):] // what is forgotten is told once more
	after, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode session: %w", err)
	}
	if string(before) == string(after) {
		return tell()
	}
	return durable.ReplaceCacheAfter(path, append(after, '\n'), 0o600, tell)
}

// Bind writes that a session speaks as an agent, and that its client program is the one
// that this process runs in. What is known of a session that was another agent before
// is forgotten.
func Bind(home *maildir.Home, k Key, agent string, now time.Time) error {
	return Update(home, k, func(b *Binding) error {
		if !strings.EqualFold(b.Agent, agent) {
			*b = Binding{Key: k, Hooks: b.Hooks, State: b.State, As: b.As}
		}
		b.Agent, b.BoundAt, b.Process = agent, now.UnixMilli(), Client()
		return nil
	})
}

// Remove forgets a session. What it holds is to be given back before: see [Book.Leave].
func Remove(home *maildir.Home, k Key) error {
	err := os.Remove(k.path(home))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget session: %w", err)
	}
	return nil
}

// List returns the sessions that are bound to an agent, or for an empty name all, the
// latest first. What cannot be read is left out.
func List(home *maildir.Home, agent string) ([]Binding, error) {
	entries, err := os.ReadDir(home.SessionsDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	var list []Binding
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || filepath.Ext(e.Name()) != suffix {
			continue
		}
		b, err := read(filepath.Join(home.SessionsDir(), e.Name()))
		if err == nil && b != nil && (agent == "" || strings.EqualFold(b.Agent, agent)) {
			list = append(list, *b)
		}
	}
	slices.SortStableFunc(list, func(x, y Binding) int { return int(y.BoundAt - x.BoundAt) })
	return list, nil
}

// Nearest is the one of several bindings whose client program is the nearest process above
// this one; nil where none is above it, or several are the same.
func Nearest(list []Binding) *Binding {
	for p := range ancestors() {
		var found *Binding
		for i := range list {
			if list[i].Process == p && found != nil {
				return nil
			}
			if list[i].Process == p {
				found = &list[i]
			}
		}
		if found != nil {
			return found
		}
	}
	return nil
}

// Live is List without the sessions whose client program is gone.
func Live(home *maildir.Home, agent string) ([]Binding, error) {
	list, err := List(home, agent)
	return slices.DeleteFunc(list, func(b Binding) bool { return !b.Lives() }), err
}

// Tidy deletes the bindings of sessions whose client program is gone and that were bound
// before, and what was left unfinished then. A session that comes back later has to say
// again who it is.
func Tidy(home *maildir.Home, before time.Time) error {
	for _, dir := range []string{home.SessionsDir(), home.LeasesDir()} {
		if err := maildir.RemoveTempsBefore(dir, before); err != nil {
			return err
		}
	}
	list, err := List(home, "")
	if err != nil {
		return err
	}
	for _, b := range list {
		if b.BoundAt >= before.UnixMilli() || b.Lives() {
			continue
		}
		path := b.path(home)
		if err := Remove(home, b.Key); err != nil {
			return err
		}
		_ = os.Remove(strings.TrimSuffix(path, suffix) + lockSuffix) // lock looks whether its file is there
	}
	return nil
}

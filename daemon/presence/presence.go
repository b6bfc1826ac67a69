// Package presence knows who is there. An agent is there while it has a stream, and
// for a while after its last sign of life. What it says of itself stands in its
// folder; signs of life are noted in the index now and then, so that a restart
// neither invents nor loses anybody.
package presence

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
)

// State is what an agent is doing.
type State string

// The states, in the order in which the first that fits holds.
const (
	InCall    State = "in-call"
	Offline   State = "offline"
	Ringing   State = "ringing"
	Busy      State = "busy"
	Available State = "available"
)

const (
	alive     = 30 * time.Second // after a sign of life
	noteEvery = 10 * time.Second // a sign of life goes into the index
	look      = time.Second      // for those whose time is over
)

// Index remembers values by key; daemon/index is one.
type Index interface {
	Get(key string) (value []byte, ok bool)
	Put(key string, value []byte) error
}

// Hooks are called after a change, by whoever causes it. They return at once.
type Hooks struct {
	Changed func(agent string, p Presence) // the state is another one, or the note
	Lost    func(agent string)             // the last live stream has ended
}

// Presence is what is known of one agent.
type Presence struct {
	State    State
	Note     string // what it has said with its status
	Since    int64  // when the state began, Unix milliseconds; 0 where that is not known
	LastSeen int64  // Unix milliseconds, 0 for never
}

// Book holds the presence of a home's agents. Its methods may be used by several
// goroutines.
type Book struct {
	home   *maildir.Home
	index  Index
	now    func() time.Time
	hooks  Hooks
	logger *slog.Logger
	wake   chan struct{} // somebody is there without a stream
	began  time.Time     // when the book was opened

	writing sync.Mutex // held while a folder is written; taken before mu

	mu     sync.Mutex
	agents map[string]*entry // by folder name
}

// entry is one agent.
type entry struct {
	said    card.Presence
	streams int       // of any kind
	live    int       // of these: the ones whose end is the end of a call
	lost    time.Time // when the last live one ended, zero while there is one or never was
	seen    time.Time // the last sign of life
	noted   time.Time // when that went into the index
	due     bool      // it has to go into the index
	ringing map[string]struct{}
	calls   map[string]struct{}
	told    State  // to the hooks
	note    string // with it
	since   int64  // when the state that was told began, Unix milliseconds; 0 where that is not known
	was     note   // of before the start, until another state is told
}

// note is what the index holds of an agent.
type note struct {
	Seen  int64 `json:"seen"`           // Unix milliseconds
	Live  bool  `json:"live,omitempty"` // it had a live stream, or had lost it without a sign of life since
	State State `json:"state,omitempty"`
	Since int64 `json:"since,omitempty"` // of the state, Unix milliseconds
}

// New returns a book in which everybody is as the home and the index know them.
func New(home *maildir.Home, index Index, now func() time.Time, hooks Hooks, logger *slog.Logger) *Book {
	return &Book{
		home: home, index: index, now: now, hooks: hooks, logger: logger,
		wake: make(chan struct{}, 1), began: now(), agents: make(map[string]*entry),
	}
}

// Run looks for those whose time is over, until ctx ends.
func (b *Book) Run(ctx context.Context) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select { // an idle host does not tick
		case <-ctx.Done():
			return nil
		case <-b.wake:
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				waiting = b.expire()
			}
		}
	}
}

// expire tells of those who are not there any more, and reports whether somebody is
// there without a stream.
func (b *Book) expire() (waiting bool) {
	b.mu.Lock()
	names := make([]string, 0, len(b.agents))
	for name, e := range b.agents {
		if e.streams == 0 && e.told != Offline {
			names = append(names, name)
		}
	}
	b.mu.Unlock()
	slices.Sort(names) // those who go at the same moment are told of in this order
	for _, name := range names {
		b.change(name, func(e *entry) { waiting = waiting || b.there(e) })
	}
	return waiting
}

// change does something with what is known of an agent, and tells what came of it.
func (b *Book) change(agent string, do func(*entry)) {
	name := strings.ToLower(agent)
	b.mu.Lock()
	e := b.entry(name)
	do(e)
	state := b.state(e)
	before, noteBefore := e.told, e.note
	if state != before {
		e.since, e.was, e.due = b.since(e, state), note{}, true
	}
	e.told, e.note = state, e.said.Note
	if e.due {
		b.keep(name, e)
	}
	b.watch(e)
	p := b.presence(e)
	said := e.said
	b.mu.Unlock()
	if state == before && said.Note == noteBefore {
		return
	}
	if state == Offline && said.LastSeen != p.LastSeen {
		b.left(name, p.LastSeen)
	}
	b.hooks.Changed(name, p)
}

// left notes when an agent was there last.
func (b *Book) left(name string, seen int64) {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	e := b.entry(name)
	e.said.LastSeen = seen
	said := e.said
	b.mu.Unlock()
	if err := said.Write(b.home.AgentDir(name)); err != nil {
		b.logger.Warn("last sign of life is not noted", "agent", name, "err", err)
	}
}

// entry is what is known of an agent. The caller holds the lock.
func (b *Book) entry(name string) *entry {
	if e, ok := b.agents[name]; ok {
		return e
	}
	e := &entry{ringing: make(map[string]struct{}), calls: make(map[string]struct{})}
	var err error
	if e.said, err = card.ReadPresence(b.home.AgentDir(name)); err != nil {
		b.logger.Warn("presence is not read", "agent", name, "err", err)
	}
	e.seen = time.UnixMilli(e.said.LastSeen)
	var n note
	if data, ok := b.index.Get(key(name)); ok && json.Unmarshal(data, &n) == nil && n.Seen >= e.said.LastSeen {
		e.was = n
	}
	if e.was.Seen > e.said.LastSeen {
		e.seen = time.UnixMilli(e.was.Seen)
		if e.was.Live { // the daemon has ended, and its stream with it
			e.lost = b.now()
		}
	}
	b.agents[name] = e
	e.told, e.note = b.state(e), e.said.Note
	e.since = b.sinceBefore(e)
	b.watch(e)
	return e
}

// sinceBefore is since when an agent is as it was found at the start. The caller holds
// the lock.
func (b *Book) sinceBefore(e *entry) int64 {
	switch {
	case e.told == e.was.State:
		return e.was.Since
	case e.told == Offline && e.seen.UnixMilli() > 0 && e.said.Said != card.Offline:
		return e.seen.Add(alive).UnixMilli()
	}
	return 0
}

// since is when a state of an agent began. The caller holds the lock.
func (b *Book) since(e *entry, state State) int64 {
	switch {
	case state == e.told:
		return e.since
	case e.isBack(state) && b.now().Sub(b.began) < alive:
		return e.was.Since
	case state == Offline && e.told != InCall && e.said.Said != card.Offline:
		return e.seen.Add(alive).UnixMilli()
	}
	return b.now().UnixMilli()
}

// watch makes sure that somebody looks when the agent's time is over. The caller holds
// the lock.
func (b *Book) watch(e *entry) {
	if e.streams > 0 || !b.there(e) {
		return
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func key(name string) string { return "presence " + name }

// there reports whether an agent is there. The caller holds the lock.
func (b *Book) there(e *entry) bool {
	return e.said.Said != card.Offline && (e.streams > 0 || b.now().Sub(e.seen) < alive)
}

func (b *Book) state(e *entry) State {
	switch {
	case len(e.calls) > 0:
		return InCall
	case !b.there(e):
		return Offline
	case len(e.ringing) > 0:
		return Ringing
	case e.said.Said == card.Busy:
		return Busy
	}
	return Available
}

func (b *Book) presence(e *entry) Presence {
	p := Presence{State: b.state(e), Note: e.said.Note, LastSeen: max(e.said.LastSeen, e.seen.UnixMilli())}
	p.Since = b.since(e, p.State)
	if e.streams > 0 {
		p.LastSeen = b.now().UnixMilli()
	}
	return p
}

// isBack reports whether a state is that of before the start, when the calls of that time
// are found again.
func (e *entry) isBack(state State) bool {
	return state == e.was.State && (state == InCall || state == Ringing && e.told != Offline)
}

// Of returns what is known of an agent.
func (b *Book) Of(agent string) Presence {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.presence(b.entry(strings.ToLower(agent)))
}

// There reports whether an agent is there, in a call or not.
func (b *Book) There(agent string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.there(b.entry(strings.ToLower(agent)))
}

// Touch notes a sign of life.
func (b *Book) Touch(agent string) { b.change(agent, b.touch) }

// touch is Touch. The caller holds the lock.
func (b *Book) touch(e *entry) {
	e.seen = b.now()
	back := e.live == 0 && !e.lost.IsZero()
	if back {
		e.lost = time.Time{} // it goes on without its stream
	}
	e.due = e.due || back || e.seen.Sub(e.noted) >= noteEvery
}

// keep lets the index remember an agent. The caller holds the lock.
func (b *Book) keep(name string, e *entry) {
	e.noted, e.due = e.seen, false
	data, err := json.Marshal(note{Seen: e.seen.UnixMilli(), Live: e.live > 0 || !e.lost.IsZero(), State: e.told, Since: e.since})
	if err == nil {
		err = b.index.Put(key(name), data)
	}
	if err != nil {
		b.logger.Warn("sign of life is not noted", "agent", name, "err", err)
	}
}

// Attach notes that an agent has a stream. A live one is the agent itself, and its end
// the end of a call; the others are programs that come and go. The agent that has said
// that it is offline is back. The caller calls detach.
func (b *Book) Attach(agent string, live bool) (detach func()) {
	b.change(agent, func(e *entry) {
		e.streams++
		if live {
			e.live++
			e.lost = time.Time{}
		}
		b.touch(e)
		e.due = true
	})
	if b.saidOffline(agent) {
		if err := b.Say(agent, card.Available, ""); err != nil {
			b.logger.Warn("status is not noted", "agent", agent, "err", err)
		}
	}
	return sync.OnceFunc(func() {
		lost := false
		b.change(agent, func(e *entry) {
			e.streams--
			if live {
				e.live--
			}
			b.touch(e)
			if lost = live && e.live == 0; lost {
				e.lost = b.now()
			}
			e.due = true
		})
		if lost {
			b.hooks.Lost(strings.ToLower(agent))
		}
	})
}

func (b *Book) saidOffline(agent string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.entry(strings.ToLower(agent)).said.Said == card.Offline
}

// Say writes what an agent says of itself: card.Available, card.Busy or card.Offline.
func (b *Book) Say(agent, status, text string) error {
	if err := b.say(strings.ToLower(agent), status, text); err != nil {
		return err
	}
	b.change(agent, func(*entry) {}) // tells what came of it
	return nil
}

func (b *Book) say(name, status, text string) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	e := b.entry(name)
	said := card.Presence{Said: status, Note: text, LastSeen: max(e.said.LastSeen, e.seen.UnixMilli())}
	b.mu.Unlock()
	if err := said.Write(b.home.AgentDir(name)); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e.said = said
	return nil
}

// Ring notes that a request rings at an agent, or does no more.
func (b *Book) Ring(agent, request string, rings bool) {
	b.change(agent, func(e *entry) { set(e.ringing, request, rings) })
}

// Call notes that an agent is in a call, or is no more.
func (b *Book) Call(agent, conversation string, in bool) {
	b.change(agent, func(e *entry) { set(e.calls, conversation, in) })
}

func set(m map[string]struct{}, key string, in bool) {
	if in {
		m[key] = struct{}{}
	} else {
		delete(m, key)
	}
}

// Lost returns when the last live stream of an agent ended, if there was no sign of
// life since.
func (b *Book) Lost(agent string) (since time.Time, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(strings.ToLower(agent))
	return e.lost, !e.lost.IsZero()
}

// Package roster knows the agents of this host and of those that are linked with it.
// What it knows of its own it has read from their cards; a folder that somebody has made
// by hand is an agent too. What it knows of others their hosts have said.
package roster

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Roster holds the cards of a home's agents. Its methods may be used by several
// goroutines.
type Roster struct {
	home  *maildir.Home
	hooks Hooks
	peers Peers // nil for none
	index Index // nil for none

	mu     sync.RWMutex
	agents map[string]entry // by folder name
	writes sync.Mutex       // one change of a card at a time

	farMu sync.RWMutex
	hosts map[string]*host // other hosts, by name
}

type entry struct {
	card    card.Card
	changed time.Time // of agent.json
}

// New returns an empty roster; see Refresh.
func New(home *maildir.Home) *Roster {
	return &Roster{home: home, agents: make(map[string]entry), hosts: make(map[string]*host)}
}

// ErrYoung means that a folder has just been made and has no card yet, or one that has just
// changed and cannot be read: whoever makes it may be about to write one.
var ErrYoung = errors.New("agent's folder is being made")

const youth = time.Second

// Refresh reads the card of the agent in a folder again, and completes what is
// missing there. Errors leave the agent as it was known before.
func (r *Roster) Refresh(name string) error {
	dir := r.home.AgentDir(name)
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		r.forget(name)
		return nil
	}
	if err != nil || !info.IsDir() {
		return err
	}
	file, err := os.Lstat(filepath.Join(dir, card.File))
	if err == nil && r.knows(name, file.ModTime()) {
		return nil
	}
	last := info
	if err == nil {
		last = file
	}
	young := isYoung(last)
	if young && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("agent %q: %w", name, ErrYoung)
	}
	err = r.complete(name)
	if err != nil && young {
		return fmt.Errorf("agent %q: %w: %w", name, ErrYoung, err)
	}
	return err
}

// isYoung reports whether something has changed a moment ago, by a clock that may be set.
func isYoung(info fs.FileInfo) bool { return time.Since(info.ModTime()).Abs() < youth }

func (r *Roster) forget(name string) {
	name = strings.ToLower(name)
	r.mu.Lock()
	_, known := r.agents[name]
	delete(r.agents, name)
	r.mu.Unlock()
	if known {
		r.tellCard(name)
	}
}

func (r *Roster) tellCard(name string) {
	if r.hooks.Card != nil {
		r.hooks.Card(name)
	}
}

func (r *Roster) knows(name string, changed time.Time) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.agents[strings.ToLower(name)]
	return ok && e.changed.Equal(changed)
}

func (r *Roster) complete(name string) error {
	r.writes.Lock()
	defer r.writes.Unlock()
	dir := r.home.AgentDir(name)
	if _, err := mailbox.Open(dir); err != nil {
		return err
	}
	before, statErr := os.Stat(filepath.Join(dir, card.File))
	if errors.Is(statErr, fs.ErrNotExist) && strings.EqualFold(name, r.home.Config.Operator.Name) {
		return r.put(r.human()) // who made the folder is the user of the home
	}
	c, err := card.Complete(dir)
	if err != nil {
		return err
	}
	if statErr != nil { // Complete has written it
		return r.keep(c)
	}
	r.set(c, before.ModTime()) // if it has changed since, the next look sees that
	return nil
}

// keep knows a card that was just written.
func (r *Roster) keep(c card.Card) error {
	info, err := os.Stat(filepath.Join(r.home.AgentDir(c.Name), card.File))
	if err != nil {
		return fmt.Errorf("read card: %w", err)
	}
	r.set(c, info.ModTime())
	return nil
}

func (r *Roster) set(c card.Card, changed time.Time) {
	name := strings.ToLower(c.Name)
	r.mu.Lock()
	r.agents[name] = entry{card: c, changed: changed}
	r.mu.Unlock()
	r.tellCard(name)
}

// Get returns the card of an agent. A folder that is not known yet is read first.
func (r *Roster) Get(name string) (card.Card, bool) {
	if e, ok := r.get(name); ok {
		return e.card, true
	}
	if envelope.CheckName(name) != nil {
		return card.Card{}, false
	}
	if info, err := os.Stat(r.home.AgentDir(name)); err != nil || !info.IsDir() {
		return card.Card{}, false
	}
	if err := r.complete(name); err != nil {
		return card.Card{}, false
	}
	e, ok := r.get(name)
	return e.card, ok
}

func (r *Roster) get(name string) (entry, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.agents[strings.ToLower(name)]
	return e, ok
}

// All lists the agents by name, without those that have unregistered.
func (r *Roster) All() []card.Card {
	r.mu.RLock()
	defer r.mu.RUnlock()
	cards := make([]card.Card, 0, len(r.agents))
	for _, e := range r.agents {
		if !e.card.Unregistered {
			cards = append(cards, e.card)
		}
	}
	slices.SortFunc(cards, func(a, b card.Card) int {
		return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	return cards
}

// Len is how many agents there are.
func (r *Roster) Len() (n int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, e := range r.agents {
		if !e.card.Unregistered {
			n++
		}
	}
	return n
}

// Local returns the card of the agent of this host that a name or an address means.
func (r *Roster) Local(text string) (card.Card, error) {
	a, err := parse(text)
	if err != nil {
		return card.Card{}, err
	}
	if a.Host != "" && a.Host != r.home.Host.Name {
		return card.Card{}, api.Errorf(api.AgentNotFound, "%s is not an agent of this host, which is %q", a, r.home.Host.Name).WithNext("duo who --here")
	}
	return r.local(a)
}

func parse(text string) (envelope.Address, error) {
	a, err := envelope.ParseAddress(text)
	if err != nil {
		return a, api.Errorf(api.BadReference, "%w", err).WithNext("duo who")
	}
	return a, nil
}

func (r *Roster) local(a envelope.Address) (card.Card, error) {
	c, ok := r.Get(a.Name)
	if !ok {
		return card.Card{}, api.Errorf(api.AgentNotFound, "no agent named %q", a.Name).WithNear(r.like(a.Name)).WithNext("duo who")
	}
	if c.Unregistered {
		return card.Card{}, api.Errorf(api.AgentNotFound, "agent %q has unregistered", c.Name).WithNext("duo who")
	}
	return c, nil
}

// Register makes an agent, or changes the card of the one with the name.
func (r *Roster) Register(ask api.Register) (c card.Card, created bool, err error) {
	if err := envelope.CheckName(ask.Name); err != nil {
		return card.Card{}, false, api.Errorf(api.BadRequest, "%w", err)
	}
	r.writes.Lock()
	defer r.writes.Unlock()
	dir := r.home.AgentDir(ask.Name)
	c, err = card.Read(dir)
	if created = errors.Is(err, fs.ErrNotExist); created {
		c, err = card.Card{}, nil
	}
	if err != nil {
		return card.Card{}, false, err
	}
	if c, err = show.Registered(r.home, c, ask); err != nil {
		return card.Card{}, false, err
	}
	if _, err := mailbox.Open(dir); err != nil { // not before: a folder is an agent
		return card.Card{}, false, err
	}
	if err := c.Write(dir); err != nil {
		return card.Card{}, false, err
	}
	return c, created, r.keep(c)
}

// Human is the agent as which the person who runs the host is seen. It is made when there
// is none. Another agent that has its name is an error.
func (r *Roster) Human() (card.Card, error) {
	name := r.home.Config.Operator.Name
	r.writes.Lock()
	defer r.writes.Unlock()
	dir := r.home.AgentDir(name)
	c, err := card.Read(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c = r.human()
	case err != nil:
		return card.Card{}, err
	case !c.Human:
		return card.Card{}, api.Errorf(api.NotAllowed, "an agent is called %q here: give the person who runs the host another name, operator.name in config.toml", c.Name).
			WithNext("duo config path")
	case !c.Unregistered:
		if e, ok := r.get(name); ok && e.card.Human {
			return c, nil
		}
	}
	c.Human, c.Unregistered = true, false
	if _, err := mailbox.Open(dir); err != nil {
		return card.Card{}, err
	}
	return c, r.put(c)
}

// human is the card of the person who runs the host, as it is made.
func (r *Roster) human() card.Card {
	return card.Card{
		ID: envelope.NewID(), Name: r.home.Config.Operator.Name, Human: true,
		Platform: "human", Description: "the person who runs " + r.home.Host.Name,
	}
}

// put writes a card and knows it.
func (r *Roster) put(c card.Card) error {
	if err := c.Write(r.home.AgentDir(c.Name)); err != nil {
		return err
	}
	return r.keep(c)
}

// IsHuman reports whether an address is that of the person who runs the host.
func (r *Roster) IsHuman(a envelope.Address) bool {
	if a.Host != r.home.Host.Name || !strings.EqualFold(a.Name, r.home.Config.Operator.Name) {
		return false
	}
	c, ok := r.Get(a.Name)
	return ok && c.Human
}

// SetContact puts another agent on a list of an agent's contacts, "block" or "allow", or
// with an empty list on none.
func (r *Roster) SetContact(agent, other, list string) (card.Contacts, error) {
	if list != "" && list != "block" && list != "allow" {
		return card.Contacts{}, api.Errorf(api.BadRequest, "list %q: want block, allow, or nothing", list)
	}
	a, err := envelope.ParseAddress(other)
	if err != nil {
		return card.Contacts{}, api.Errorf(api.BadReference, "%w", err)
	}
	known, err := r.Resolve(other)
	switch {
	case err == nil:
		a = known.Address
	case a.Host == "" || a.Host == r.home.Host.Name: // of another host it may be one of whom nobody has told
		return card.Contacts{}, err
	}
	if a.Same(r.home.Address(agent)) {
		return card.Contacts{}, api.Errorf(api.BadRequest, "%s is you", a.Name)
	}
	r.writes.Lock()
	defer r.writes.Unlock()
	c, err := card.ReadContacts(r.home.AgentDir(agent))
	if err != nil {
		return card.Contacts{}, err
	}
	c = c.With(a, list)
	return c, c.Write(r.home.AgentDir(agent))
}

// Unregister takes an agent off the list. Its folder and its history stay, and
// registering the name again brings it back.
func (r *Roster) Unregister(name string) (card.Card, error) {
	c, err := r.Local(name)
	if err != nil {
		return card.Card{}, err
	}
	r.writes.Lock()
	defer r.writes.Unlock()
	dir := r.home.AgentDir(c.Name)
	if c, err = card.Read(dir); err != nil { // somebody may have written it meanwhile
		return card.Card{}, err
	}
	c.Unregistered = true
	if err := c.Write(dir); err != nil {
		return card.Card{}, err
	}
	return c, r.keep(c)
}

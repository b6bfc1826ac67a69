package roster

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/card"
)

const (
	// MaxCrowd is how many agents of one other host are known.
	MaxCrowd = 10_000

	maxTexts  = 8 << 20   // bytes of what they say of themselves
	maxCached = 256 << 10 // bytes in the index
)

// Crowd is the agents of another host. Who makes one is the only one to use it.
type Crowd struct {
	agents map[string]api.Agent // by key
	texts  int                  // bytes of what they say of themselves
}

// NewCrowd returns a crowd of nobody.
func NewCrowd() *Crowd { return &Crowd{agents: make(map[string]api.Agent)} }

func key(name string) string { return strings.ToLower(name) }

// Put takes an agent in, in place of the one with its name, and reports whether there is
// room. Where there is none for what agents say of themselves, only their names stay.
func (c *Crowd) Put(a api.Agent) bool {
	before, known := c.agents[key(a.Name)]
	if !known && c.Full() {
		return false
	}
	c.texts -= textsOf(before)
	if c.texts+textsOf(a) > maxTexts {
		a.Capabilities, a.Description, a.Platform, a.Note = []string{}, "", "", ""
	}
	c.texts += textsOf(a)
	c.agents[key(a.Name)] = a
	return true
}

// Full reports whether nobody else has room.
func (c *Crowd) Full() bool { return len(c.agents) >= MaxCrowd }

func textsOf(a api.Agent) int {
	n := len(a.Description) + len(a.Platform) + len(a.Note)
	for _, s := range a.Capabilities {
		n += len(s)
	}
	return n
}

// remove takes an agent out and returns it.
func (c *Crowd) remove(name string) api.Agent {
	before := c.agents[key(name)]
	delete(c.agents, key(name))
	c.texts -= textsOf(before)
	return before
}

func (c *Crowd) sorted() []api.Agent {
	list := make([]api.Agent, 0, len(c.agents))
	for _, name := range slices.Sorted(maps.Keys(c.agents)) {
		list = append(list, c.agents[name])
	}
	return list
}

// leave makes all offline and returns those that were not.
func (c *Crowd) leave() (gone []api.Agent) {
	for _, a := range c.sorted() {
		if differs(a, api.Agent{}) {
			gone = append(gone, a)
		}
		c.remove(a.Name)
		c.Put(away(a))
	}
	return gone
}

// away is an agent whose host is out of reach: how it was at last is not kept.
func away(a api.Agent) api.Agent {
	a.Status, a.Note, a.Since, a.Listening, a.Wake = card.Offline, "", 0, false, ""
	return a
}

// differs reports whether an agent's presence is another one. Whom nobody knows is offline,
// and of who is offline it does not matter what it says of that.
func differs(before, after api.Agent) bool {
	was, is := cmp.Or(before.Status, card.Offline), cmp.Or(after.Status, card.Offline)
	return was != is || is != card.Offline && before.Note != after.Note
}

// changes lists those whose presence differs from what it was before.
func (c *Crowd) changes(before *Crowd) (list []api.Agent) {
	for _, a := range c.sorted() {
		if differs(before.agents[key(a.Name)], a) {
			list = append(list, a)
		}
	}
	return list
}

// without lists those who were there and are not in another crowd.
func (c *Crowd) without(other *Crowd) (list []api.Agent) {
	for _, a := range c.sorted() {
		if _, stays := other.agents[key(a.Name)]; !stays && differs(a, api.Agent{}) {
			list = append(list, a)
		}
	}
	return list
}

// encode is the crowd as the index holds it: as many as there is room for.
func (c *Crowd) encode() []byte {
	data := []byte{'['}
	for _, a := range c.sorted() {
		one, err := json.Marshal(a)
		if err != nil || len(data)+len(one)+2 > maxCached {
			continue
		}
		if len(data) > 1 {
			data = append(data, ',')
		}
		data = append(data, one...)
	}
	return append(data, ']')
}

// decode reads what encode has written. All of them are offline.
func decode(data []byte) *Crowd {
	c := NewCrowd()
	var list []api.Agent
	if json.Unmarshal(data, &list) != nil { // a cache: nobody is listed until the link is up
		return c
	}
	for _, a := range list {
		if cardOf(a).Check() == nil {
			c.Put(away(a))
		}
	}
	return c
}

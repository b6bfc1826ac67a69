package roster

import (
	"maps"
	"slices"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/near"
	"github.com/claude-duo/duo/sync/peer"
)

// Index remembers values by key; daemon/index is one.
type Index interface {
	Get(key string) (value []byte, ok bool)
	Put(key string, value []byte) error
}

// Peers are the hosts that may be linked with this one; a peer.Book is one.
type Peers interface{ Peers() []peer.Peer }

// Hooks are called after a change, by whoever causes it. They return at once.
type Hooks struct {
	Card func(agent string)                            // of an agent of this host, which may have come or gone
	Far  func(a envelope.Address, p presence.Presence) // an agent of another host comes or goes
}

// host is another host that may be linked with this one.
type host struct {
	id    string
	up    bool // the link
	told  bool // on this link: who is there
	crowd *Crowd
}

// Tell makes the roster tell of changes, before there are any.
func (r *Roster) Tell(h Hooks) { r.hooks = h }

// Know says which hosts are peers, before there is a link with one. The index remembers
// who was at them when a link ended, so that they are still listed after a restart.
func (r *Roster) Know(peers Peers, index Index) { r.peers, r.index = peers, index }

// look makes the known hosts those that are peers now.
func (r *Roster) look() {
	if r.peers == nil {
		return
	}
	r.farMu.Lock()
	now := make(map[string]string) // as it is under the lock: whose link comes up meanwhile is one of them
	for _, p := range r.peers.Peers() {
		now[p.Name] = p.ID
	}
	gone := make(map[string]*host)
	for name, h := range r.hosts {
		if now[name] != h.id {
			gone[name] = h
			delete(r.hosts, name)
		}
	}
	for name, id := range now {
		if r.hosts[name] == nil {
			r.hosts[name] = &host{id: id, crowd: r.cached(id)}
		}
	}
	r.farMu.Unlock()
	for name, h := range gone {
		r.tellGone(name, h.crowd.leave())
		if r.index != nil {
			_ = r.index.Put(cacheKey(h.id), nil) // of a cache: what stays is of a host with this id only
		}
	}
}

// Up says that the link with a host is up.
func (r *Roster) Up(name, id string) {
	r.look()
	r.farMu.Lock()
	defer r.farMu.Unlock()
	h := r.hosts[name]
	if h == nil || h.id != id {
		h = &host{id: id, crowd: r.cached(id)}
		r.hosts[name] = h
	}
	h.up, h.told = true, false
}

// Down says that the link with a host has ended: all of its agents are offline.
func (r *Roster) Down(name, id string) {
	r.farMu.Lock()
	h := r.hosts[name]
	if h == nil || h.id != id {
		r.farMu.Unlock()
		return
	}
	h.up = false
	gone := h.crowd.leave()
	r.farMu.Unlock()
	r.tellGone(name, gone)
	r.Note(name)
}

// Note lets the index remember who is at a host.
func (r *Roster) Note(name string) {
	r.farMu.RLock()
	h := r.hosts[name]
	if h == nil || r.index == nil {
		r.farMu.RUnlock()
		return
	}
	id, data := h.id, h.crowd.encode()
	r.farMu.RUnlock()
	_ = r.index.Put(cacheKey(id), data) // of a cache: without it they are not listed until the link is up
}

func (r *Roster) tellGone(host string, gone []api.Agent) {
	for _, a := range gone {
		r.tellFar(host, api.Agent{Name: a.Name, Status: card.Offline, LastSeen: a.LastSeen})
	}
}

func (r *Roster) tellFar(host string, a api.Agent) {
	if r.hooks.Far != nil {
		r.hooks.Far(envelope.Address{Name: a.Name, Host: host}, presenceOf(a))
	}
}

// Replace says who is at a host, and that nobody else is. The crowd is the roster's then.
func (r *Roster) Replace(name string, c *Crowd) {
	r.farMu.Lock()
	h := r.hosts[name]
	if h == nil || !h.up {
		r.farMu.Unlock()
		return
	}
	before := h.crowd
	h.crowd, h.told = c, true
	changed, gone := c.changes(before), before.without(c)
	r.farMu.Unlock()
	for _, a := range changed {
		r.tellFar(name, a)
	}
	r.tellGone(name, gone)
}

// Set says what a host tells of one of its agents.
func (r *Roster) Set(name string, a api.Agent) {
	r.farMu.Lock()
	h := r.hosts[name]
	if h == nil || !h.up {
		r.farMu.Unlock()
		return
	}
	before := h.crowd.agents[key(a.Name)]
	told := h.crowd.Put(a) && differs(before, a)
	r.farMu.Unlock()
	if told {
		r.tellFar(name, a)
	}
}

// Remove says that a host has no such agent any more.
func (r *Roster) Remove(name, agent string) {
	r.farMu.Lock()
	var before api.Agent
	if h := r.hosts[name]; h != nil {
		before = h.crowd.remove(agent)
	}
	r.farMu.Unlock()
	if differs(before, api.Agent{}) {
		r.tellGone(name, []api.Agent{before})
	}
}

func presenceOf(a api.Agent) presence.Presence {
	return presence.Presence{State: presence.State(a.Status), Note: a.Note, Since: a.Since, LastSeen: a.LastSeen}
}

// Far is the presence of an agent of another host: what that host says while the link is
// up, else offline. It reports whether the agent is known.
func (r *Roster) Far(a envelope.Address) (presence.Presence, bool) {
	r.look()
	r.farMu.RLock()
	defer r.farMu.RUnlock()
	if h := r.hosts[a.Host]; h != nil {
		if found, ok := h.crowd.agents[key(a.Name)]; ok {
			return presenceOf(found), true
		}
	}
	return presence.Presence{State: presence.Offline}, false
}

// who is an agent of another host as it is shown.
func (h *host) who(name string, a api.Agent) show.Who {
	address := envelope.Address{Name: a.Name, Host: name}
	a.Address, a.Host, a.Link = address.String(), name, api.LinkDown
	if h.up {
		a.Link = api.LinkUp
	}
	return show.Who{Card: cardOf(a), Address: address, Far: &a}
}

func cardOf(a api.Agent) card.Card {
	return card.Card{
		ID: a.ID, Name: a.Name, Capabilities: a.Capabilities, Description: a.Description, Platform: a.Platform, Accepts: a.Accepts,
	}
}

// Everybody lists the agents of this host by name, and then those of the others, by host
// and name.
func (r *Roster) Everybody() []show.Who {
	list := show.Locals(r.home, r.All())
	r.look()
	r.farMu.RLock()
	defer r.farMu.RUnlock()
	for _, name := range slices.Sorted(maps.Keys(r.hosts)) {
		list = r.hosts[name].appendTo(list, name)
	}
	return list
}

// At lists the agents of one host by name, or with an empty name everybody.
func (r *Roster) At(host string) ([]show.Who, error) {
	switch host {
	case "":
		return r.Everybody(), nil
	case r.home.Host.Name:
		return show.Locals(r.home, r.All()), nil
	}
	r.look()
	r.farMu.RLock()
	defer r.farMu.RUnlock()
	h := r.hosts[host]
	if h == nil {
		return nil, r.noHost(host)
	}
	return h.appendTo(nil, host), nil
}

func (h *host) appendTo(list []show.Who, name string) []show.Who {
	for _, a := range h.crowd.sorted() {
		list = append(list, h.who(name, a))
	}
	return list
}

// noHost is the error where a host is none. The caller holds the lock.
func (r *Roster) noHost(name string) error {
	return api.Errorf(api.HostNotFound, "no host named %q is linked with this one, which is %q", name, r.home.Host.Name).
		WithNear(near.Names(name, slices.Sorted(maps.Keys(r.hosts)))).WithNext("duo who")
}

// Resolve returns whom a name or an address means. A name alone means the agent of this
// host, else that of the only other host which has one. The errors name what is like it.
//
// Whether a host that cannot be reached has an agent is for that host to say: such a one
// is Untold.
func (r *Roster) Resolve(text string) (show.Who, error) {
	a, err := parse(text)
	if err != nil {
		return show.Who{}, err
	}
	if a.Host != "" && a.Host != r.home.Host.Name {
		return r.resolveAt(a)
	}
	c, err := r.local(a)
	if err == nil {
		return show.Who{Card: c, Address: r.home.Address(c.Name)}, nil
	}
	if _, known := r.Get(a.Name); known || a.Host != "" { // who has unregistered keeps the name
		return show.Who{}, err
	}
	switch found := r.named(a.Name); len(found) {
	case 0:
		return show.Who{}, err
	case 1:
		return found[0], nil
	default:
		return show.Who{}, api.Errorf(api.AmbiguousReference, "agents of %d hosts are named %q; say NAME@HOST", len(found), a.Name).
			WithNear(addresses(found)).WithNext("duo who")
	}
}

// named lists the agents of other hosts that have a name.
func (r *Roster) named(name string) (found []show.Who) {
	r.look()
	r.farMu.RLock()
	defer r.farMu.RUnlock()
	for _, host := range slices.Sorted(maps.Keys(r.hosts)) {
		if a, ok := r.hosts[host].crowd.agents[key(name)]; ok {
			found = append(found, r.hosts[host].who(host, a))
		}
	}
	return found
}

const maxNear = 5

func addresses(list []show.Who) []string {
	var texts []string
	for _, w := range list[:min(len(list), maxNear)] {
		texts = append(texts, w.Address.String())
	}
	return texts
}

// resolveAt is Resolve for an agent of another host.
func (r *Roster) resolveAt(a envelope.Address) (show.Who, error) {
	r.look()
	r.farMu.RLock()
	defer r.farMu.RUnlock()
	h := r.hosts[a.Host]
	if h == nil {
		return show.Who{}, r.noHost(a.Host)
	}
	found, ok := h.crowd.agents[key(a.Name)]
	switch {
	case ok:
		return h.who(a.Host, found), nil
	case h.up && h.told && !h.crowd.Full():
		return show.Who{}, api.Errorf(api.AgentNotFound, "host %q has no agent named %q", a.Host, a.Name).
			WithNear(h.like(a)).WithNext("duo who --host %s", a.Host)
	}
	who := h.who(a.Host, api.Agent{Name: a.Name, Capabilities: []string{}, Accepts: card.Anyone, Status: card.Offline})
	who.Untold = true
	return who, nil
}

// like lists the addresses of a host's agents that are like one.
func (h *host) like(a envelope.Address) []string {
	var names []string
	for _, other := range h.crowd.sorted() {
		names = append(names, other.Name)
	}
	like := near.Names(a.Name, names)
	for i, name := range like {
		like[i] = envelope.Address{Name: name, Host: a.Host}.String()
	}
	return like
}

// like lists agents whose names are like one: those of this host by name, the others by
// address.
func (r *Roster) like(name string) (list []string) {
	var names []string
	meant := make(map[string][]string)
	for _, w := range r.Everybody() {
		if meant[key(w.Card.Name)] == nil {
			names = append(names, w.Card.Name)
		}
		text := w.Card.Name
		if w.Far != nil {
			text = w.Address.String()
		}
		meant[key(w.Card.Name)] = append(meant[key(w.Card.Name)], text)
	}
	for _, like := range near.Names(name, names) {
		list = append(list, meant[key(like)]...)
	}
	return list[:min(len(list), maxNear)]
}

func cacheKey(id string) string { return "far " + id }

// cached is who was at a host at last, as the index knows.
func (r *Roster) cached(id string) *Crowd {
	if r.index == nil {
		return NewCrowd()
	}
	data, _ := r.index.Get(cacheKey(id))
	return decode(data)
}

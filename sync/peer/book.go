package peer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/identity"
)

const (
	peerFile  = "peer.json"
	maxRecord = 64 << 10
	maxPeers  = 1000

	maxIntroduced = maxPeers / 2 // by one relay: there is room for others
)

// ErrNotFound means that there is no such peer.
var ErrNotFound = errors.New("no such host is linked with this one")

// Book is whom this host trusts. Its methods may be used by several goroutines.
type Book struct {
	home *maildir.Home

	mu    sync.Mutex // held while a file is written, too
	peers map[string]Peer
}

// OpenBook reads the peers of a home, as ReadBook does, and makes it ready to be changed.
func OpenBook(home *maildir.Home) (b *Book, bad map[string]error, err error) {
	if err := durable.Mkdir(home.PeersDir(), 0o700); err != nil {
		return nil, nil, err
	}
	names, err := folders(home)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		_ = maildir.RemoveTemps(home.PeerDir(name)) // a folder that cannot be cleaned can hardly be read
	}
	return ReadBook(home)
}

// ReadBook reads the peers of a home, for who changes nothing. It returns the names of
// those whose record cannot be read, and why: nobody is trusted for them.
func ReadBook(home *maildir.Home) (b *Book, bad map[string]error, err error) {
	names, err := folders(home)
	if err != nil {
		return nil, nil, err
	}
	b, bad = &Book{home: home, peers: make(map[string]Peer)}, make(map[string]error)
	for _, name := range names {
		switch p, err := b.read(name); {
		case errors.Is(err, fs.ErrNotExist): // it was removed, or is being made
		case err != nil:
			bad[name] = err
		default:
			b.peers[p.Name] = p
		}
	}
	return b, bad, nil
}

// folders lists the names of hosts that have a folder.
func folders(home *maildir.Home) (names []string, err error) {
	entries, err := os.ReadDir(home.PeersDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list peers: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && envelope.CheckHost(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (b *Book) path(name string) string { return filepath.Join(b.home.PeerDir(name), peerFile) }

func (b *Book) read(name string) (Peer, error) {
	data, err := durable.ReadPlain(b.path(name), maxRecord)
	if err != nil {
		return Peer{}, err
	}
	p, err := decode(data)
	if err == nil && p.Name != name {
		err = fmt.Errorf("the name is %q, want that of the folder", p.Name)
	}
	if err != nil {
		return Peer{}, fmt.Errorf("%q: %w", b.path(name), err)
	}
	return p, nil
}

// Peers lists the peers by name.
func (b *Book) Peers() []Peer {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Peer, 0, len(b.peers))
	for _, p := range b.peers {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Get returns the peer with a name.
func (b *Book) Get(name string) (Peer, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.peers[name]
	return p, ok
}

// ByID returns the peer with an id.
func (b *Book) ByID(id string) (Peer, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byID(id)
}

func (b *Book) byID(id string) (Peer, bool) {
	for _, p := range b.peers {
		if p.ID == id {
			return p, true
		}
	}
	return Peer{}, false
}

// HostID is the id of the host that a name means here: a peer, or this host itself.
func (b *Book) HostID(name string) (id string, ok bool) {
	if name == b.home.Host.Name {
		return b.home.Host.ID, true
	}
	p, ok := b.Get(name)
	return p.ID, ok
}

// Check lets in hosts that are peers; see identity.Trust.
func (b *Book) Check(shown identity.Keys) error {
	p, ok := b.ByID(shown.ID())
	if !ok {
		return identity.ErrUnknownHost
	}
	return shown.Follow(p.Keys)
}

// Prove pins the keys that a peer has shown and proved, where they are more than those
// that were, durably. It returns the peer.
func (b *Book) Prove(shown identity.Keys) (Peer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.byID(shown.ID())
	if !ok {
		return Peer{}, identity.ErrUnknownHost
	}
	if err := shown.Follow(p.Keys); err != nil || shown.Len() == p.Keys.Len() {
		return p, err
	}
	p.Keys = shown
	return p, b.write(p)
}

// Admit makes a host a peer, durably. One that is a peer already keeps what it may do,
// and gets an address where a new one is known. A *identity.Refused is for both sides.
func (b *Book) Admit(fresh Peer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := envelope.CheckHost(fresh.Name); err != nil {
		return &identity.Refused{Why: err.Error()}
	}
	if fresh.Name == b.home.Host.Name {
		return &identity.Refused{Why: fmt.Sprintf("both hosts are called %q: a host keeps its name, so make one of the homes anew with another host.name in its config.toml", fresh.Name)}
	}
	if p, ok := b.peers[fresh.Name]; ok && p.ID != fresh.ID {
		return &identity.Refused{Why: fmt.Sprintf("another host called %q is linked with %q already; where that is the same machine with a new key, remove it first: duo peer remove %s", fresh.Name, b.home.Host.Name, fresh.Name)}
	}
	p, known := b.byID(fresh.ID)
	if !known {
		if len(b.peers) >= maxPeers {
			return &identity.Refused{Why: fmt.Sprintf("%q has %d peers, the most it can have", b.home.Host.Name, maxPeers)}
		}
		if err := b.setAside(fresh); err != nil {
			return err
		}
		return b.write(fresh)
	}
	if err := fresh.Keys.Follow(p.Keys); err != nil {
		return &identity.Refused{Why: fmt.Sprintf("%q shows a key that does not follow from the one that is pinned (%v)", fresh.Name, err)}
	}
	p.Keys, p.Address = fresh.Keys, cmp.Or(fresh.Address, p.Address)
	if fresh.Via == "" { // somebody has paired them after all
		p.Via = ""
	}
	p.Relay = p.Relay || fresh.Relay
	return b.write(p)
}

// Introduce makes a host a peer of which a relay tells, durably, or pins keys of a peer
// that follow. It never brings back one that a person has removed. A *identity.Refused
// says why not.
func (b *Book) Introduce(relay string, fresh identity.Peer) (news bool, err error) {
	id := fresh.Keys.ID()
	p, known := b.ByID(id)
	via, ok := b.ByID(relay)
	switch {
	case !ok || !via.Relay:
		return false, &identity.Refused{Why: fmt.Sprintf("%q is no relay of this host", relay)}
	case known && fresh.Keys.Follow(p.Keys) == nil && fresh.Keys.Len() == p.Keys.Len():
		return false, nil
	case !known && b.wasRemoved(fresh.Name, id):
		return false, &identity.Refused{Why: fmt.Sprintf("%q was removed from this host; pair with it where that was not meant for ever", fresh.Name)}
	case !known && b.countVia(via.Name) >= maxIntroduced:
		return false, &identity.Refused{Why: fmt.Sprintf("%q has introduced %d hosts, the most it can", via.Name, maxIntroduced)}
	}
	return true, b.Admit(Peer{ID: id, Name: fresh.Name, Keys: fresh.Keys, Via: via.Name})
}

func (b *Book) wasRemoved(name, id string) bool {
	gone, err := os.ReadFile(filepath.Join(b.home.PeerDir(name), removedFile))
	return err == nil && string(gone) == id
}

func (b *Book) countVia(name string) int {
	count := 0
	for _, p := range b.Peers() {
		if p.Via == name {
			count++
		}
	}
	return count
}

// setAside takes what is left of a removed host of the same name out of the way: what
// waits there is not for this one.
func (b *Book) setAside(fresh Peer) error {
	dir := b.home.PeerDir(fresh.Name)
	gone, err := os.ReadFile(filepath.Join(dir, removedFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(gone) == fresh.ID {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for a removed peer: %w", err)
	}
	aside := filepath.Join(b.home.PeersDir(), fmt.Sprintf(".removed-%s-%.8s", fresh.Name, gone))
	if err := os.Rename(dir, aside); err != nil {
		return fmt.Errorf("set a removed peer aside: %w", err)
	}
	return durable.SyncDir(b.home.PeersDir())
}

// removedFile holds the id of a peer that was removed and of which something is left.
const removedFile = "removed"

// write writes the record of a peer. The caller holds the lock.
func (b *Book) write(p Peer) error {
	if err := durable.Mkdir(b.home.PeerDir(p.Name), 0o700); err != nil {
		return err
	}
	if err := durable.ReplaceJSON(b.path(p.Name), p.record(), 0o600); err != nil {
		return err
	}
	b.peers[p.Name] = p
	return nil
}

// Change changes what is known of a peer, durably, unless do changes nothing.
func (b *Book) Change(name string, do func(*Peer)) (Peer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.peers[name]
	if !ok {
		return Peer{}, fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	before := p
	do(&p)
	if p.Address == before.Address && p.Via == before.Via && p.Relay == before.Relay && p.Carry == before.Carry {
		return p, nil
	}
	return p, b.write(p)
}

// Remove ends that a host is trusted, durably. What waits for it stays, for the case that
// the same host is paired again.
func (b *Book) Remove(name string) (Peer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.peers[name]
	if !ok {
		return Peer{}, fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	if err := durable.Replace(filepath.Join(b.home.PeerDir(name), removedFile), []byte(p.ID), 0o600); err != nil {
		return Peer{}, err
	}
	if err := os.Remove(b.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Peer{}, fmt.Errorf("remove peer: %w", err)
	}
	delete(b.peers, name)
	return p, durable.SyncDir(b.home.PeerDir(name))
}

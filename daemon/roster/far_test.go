package roster_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/peer"
)

// trusted is the peers of a test.
type trusted struct{ list []peer.Peer }

func (p *trusted) Peers() []peer.Peer { return p.list }

// neighborhood is a roster with peers: lon and tok.
type neighborhood struct {
	*roster.Roster
	t     *testing.T
	home  *maildir.Home
	peers *trusted
	index *index.Index
	told  []string
}

func newNeighborhood(t *testing.T, names ...string) *neighborhood {
	t.Helper()
	r, home := newRoster(t, names...)
	x, _, err := index.Open(filepath.Join(t.TempDir(), "index"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	n := &neighborhood{Roster: r, t: t, home: home, index: x, peers: &trusted{[]peer.Peer{{ID: "id-lon", Name: "lon"}, {ID: "id-tok", Name: "tok"}}}}
	n.watch()
	return n
}

func (n *neighborhood) watch() {
	n.Know(n.peers, n.index)
	n.Tell(roster.Hooks{
		Card: func(agent string) { n.told = append(n.told, agent) },
		Far:  func(a envelope.Address, p presence.Presence) { n.told = append(n.told, fmt.Sprint(a, " ", p.State)) },
	})
}

// restart makes the roster anew.
func (n *neighborhood) restart() {
	n.Roster = roster.New(n.home)
	n.watch()
}

func (n *neighborhood) set(host, name, status string) {
	n.Set(host, api.Agent{Name: name, Status: status, LastSeen: 7})
}

func (n *neighborhood) wantTold(want ...string) {
	n.t.Helper()
	if !slices.Equal(n.told, want) {
		n.t.Errorf("told: got %q, want %q", n.told, want)
	}
	n.told = nil
}

func (n *neighborhood) wantEverybody(want ...string) {
	n.t.Helper()
	var got []string
	for _, w := range n.Everybody() {
		text := w.Address.String()
		if w.Far != nil {
			text += " " + w.Far.Status + " " + w.Far.Link
		}
		got = append(got, text)
	}
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], "@here", "@"+n.home.Host.Name)
	}
	if !slices.Equal(got, want) {
		n.t.Errorf("everybody: got %q, want %q", got, want)
	}
}

func TestEverybody(t *testing.T) {
	n := newNeighborhood(t, "Nova", "Atlas")
	n.wantEverybody("Atlas@here", "Nova@here")
	n.Up("lon", "id-lon")
	n.set("lon", "Zoe", "available")
	n.set("lon", "bob", "busy")
	n.set("tok", "Nobody", "available") // its link is not up
	n.Up("tok", "id-tok")
	n.set("tok", "Bob", "offline")
	n.wantEverybody("Atlas@here", "Nova@here", "bob@lon busy up", "Zoe@lon available up", "Bob@tok offline up")
	n.wantTold("Zoe@lon available", "bob@lon busy")

	n.set("lon", "BOB", "busy") // its own spelling, and no news
	n.set("lon", "Zoe", "ringing")
	n.Remove("lon", "bob")
	n.Remove("tok", "bob")
	n.wantEverybody("Atlas@here", "Nova@here", "Zoe@lon ringing up")
	n.wantTold("Zoe@lon ringing", "BOB@lon offline")

	everybody := roster.NewCrowd()
	everybody.Put(api.Agent{Name: "Yan", Status: "available"})
	n.Replace("lon", everybody)
	n.wantEverybody("Atlas@here", "Nova@here", "Yan@lon available up")
	n.wantTold("Yan@lon available", "Zoe@lon offline")

	n.Down("lon", "id-of-before") // of a link that has ended long ago
	n.wantTold()
	n.Down("lon", "id-lon")
	n.wantEverybody("Atlas@here", "Nova@here", "Yan@lon offline down")
	n.wantTold("Yan@lon offline")
}

func TestFar(t *testing.T) {
	n := newNeighborhood(t, "Bob")
	n.Up("lon", "id-lon")
	n.Set("lon", api.Agent{Name: "Bob", Status: "busy", Note: "builds", LastSeen: 7})
	for _, step := range []struct {
		address string
		want    presence.Presence
		known   bool
	}{
		{"bob@lon", presence.Presence{State: presence.Busy, Note: "builds", LastSeen: 7}, true},
		{"Rune@lon", presence.Presence{State: presence.Offline}, false},
		{"Bob@tok", presence.Presence{State: presence.Offline}, false},
		{"Bob@moon", presence.Presence{State: presence.Offline}, false},
	} {
		a, err := envelope.ParseAddress(step.address)
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := n.Far(a); p != step.want || ok != step.known {
			t.Errorf("Far(%s): got %+v, %v, want %+v, %v", a, p, ok, step.want, step.known)
		}
	}
	n.Down("lon", "id-lon")
	if p, ok := n.Far(envelope.Address{Name: "Bob", Host: "lon"}); !ok || p != (presence.Presence{State: presence.Offline, LastSeen: 7}) {
		t.Errorf("with the link down: got %+v, %v, want it offline", p, ok)
	}
}

func TestResolveFar(t *testing.T) {
	n := newNeighborhood(t, "Atlas", "Gone")
	if _, err := n.Unregister("Gone"); err != nil {
		t.Fatal(err)
	}
	n.Up("lon", "id-lon")
	if who, err := n.Resolve("Nobody@lon"); err != nil || !who.Untold {
		t.Errorf("Resolve before the host has told: got %+v, %v, want that nobody can know", who, err)
	}
	n.Replace("lon", roster.NewCrowd())
	for _, name := range []string{"Bob", "Atlas", "Sage", "Gone"} {
		n.set("lon", name, "available")
	}
	n.Up("tok", "id-tok")
	n.set("tok", "BOB", "available")
	n.Down("tok", "id-tok")
	for text, want := range map[string]string{
		"atlas": "Atlas@" + n.home.Host.Name, "atlas@lon": "Atlas@lon", "sage": "Sage@lon", "bob@lon": "Bob@lon", "bob@tok": "BOB@tok",
		"Rune@tok": "Rune@tok", // which nobody can know now
	} {
		who, err := n.Resolve(text)
		if err != nil || who.Address.String() != want || who.Untold != (text == "Rune@tok") {
			t.Errorf("Resolve(%q): got %+v, %v, want %s", text, who, err, want)
		}
	}
	for text, want := range map[string]struct {
		code api.Code
		near []string
	}{
		"bob":      {api.AmbiguousReference, []string{"Bob@lon", "BOB@tok"}},
		"Bab":      {api.AgentNotFound, []string{"Bob@lon", "BOB@tok"}},
		"Atlos":    {api.AgentNotFound, []string{"Atlas", "Atlas@lon"}},
		"Seige":    {api.AgentNotFound, nil},
		"Sagee":    {api.AgentNotFound, []string{"Sage@lon"}},
		"gone":     {api.AgentNotFound, nil}, // a name is no other agent's when its agent has gone
		"Sagg@lon": {api.AgentNotFound, []string{"Sage@lon"}},
		"Bob@lom":  {api.HostNotFound, []string{"lon"}},
		"Bob@moon": {api.HostNotFound, nil},
	} {
		_, err := n.Resolve(text)
		var e *api.Error
		if !errors.As(err, &e) || e.Code != want.code || !slices.Equal(e.Near, want.near) || e.Next == "" {
			t.Errorf("Resolve(%q): got %+v, want %s and %q near", text, err, want.code, want.near)
		}
	}
	for _, text := range []string{"Bob@lon", "Sage", "Bob@moon"} {
		_, err := n.Local(text)
		wantCode(t, fmt.Sprintf("Local(%q)", text), err, api.AgentNotFound)
	}
}

// TestWhoWasThere: after a restart the agents of other hosts are listed as offline, until
// their host is a peer no more.
func TestWhoWasThere(t *testing.T) {
	n := newNeighborhood(t)
	n.Up("lon", "id-lon")
	n.Set("lon", api.Agent{Name: "Bob", Status: "busy", Note: "builds", Listening: true, Capabilities: []string{"go"}, Description: "Reviews."})
	n.Note("lon")
	n.restart() // as after a crash
	n.wantEverybody("Bob@lon offline down")
	who, err := n.Resolve("bob")
	if err != nil || who.Far.Note != "" || who.Far.Listening || who.Far.Description != "Reviews." || !who.Card.HasAll([]string{"go"}) {
		t.Errorf("Bob: got %+v, %v, want its card and nothing of its state", who.Far, err)
	}
	n.Up("lon", "id-lon")
	n.set("lon", "Carla", "available")
	n.Down("lon", "id-lon")
	n.restart()
	n.wantEverybody("Bob@lon offline down", "Carla@lon offline down")

	n.peers.list = n.peers.list[1:]
	n.wantEverybody()
	n.peers.list = append(n.peers.list, peer.Peer{ID: "id-lon", Name: "lon"})
	n.wantEverybody() // paired again, and nothing is remembered
	if _, err := n.Resolve("Bob@lon"); err != nil {
		t.Errorf("Resolve: got %v, want that the host may have it", err)
	}
}

// TestAnotherHostWithTheName: who was at a host is not at the next one of that name.
func TestAnotherHostWithTheName(t *testing.T) {
	n := newNeighborhood(t)
	n.Up("lon", "id-lon")
	n.set("lon", "Bob", "available")
	n.told = nil
	n.peers.list[0].ID = "id-of-another"
	n.wantEverybody()
	n.wantTold("Bob@lon offline")
	n.set("lon", "Bob", "available") // by the link of before
	n.Down("lon", "id-lon")
	n.wantEverybody()
}

func TestCacheIsBounded(t *testing.T) {
	n := newNeighborhood(t)
	n.Up("lon", "id-lon")
	for i := range 2000 {
		n.Set("lon", api.Agent{Name: fmt.Sprintf("a%04d", i), Description: strings.Repeat("x", 500)})
	}
	n.Down("lon", "id-lon")
	n.restart()
	if got := len(n.Everybody()); got < 200 || got > 600 {
		t.Errorf("got %d of 2000 after a restart, want as many as 256 KiB hold", got)
	}
	if err := n.index.Put("far id-tok", []byte(`[{"name":"Bob@lon"},{"name":"Good","status":"available"}]`)); err != nil {
		t.Fatal(err)
	}
	n.restart()
	list, err := n.At("tok")
	if err != nil || len(list) != 1 || list[0].Address.String() != "Good@tok" || list[0].Far.Status != "offline" {
		t.Errorf("with a damaged index: got %+v, %v, want what is good of it", list, err)
	}
}

func TestCardHook(t *testing.T) {
	n := newNeighborhood(t, "Atlas")
	n.told = nil
	register(t, n.Roster, api.Register{Name: "Nova"})
	if _, err := n.Unregister("Atlas"); err != nil {
		t.Fatal(err)
	}
	n.wantTold("nova", "atlas")
}

func TestContactsOfOtherHosts(t *testing.T) {
	n := newNeighborhood(t, "Atlas")
	n.Up("lon", "id-lon")
	n.set("lon", "Bob", "available")
	for _, text := range []string{"bob", "BOB@lon"} {
		c, err := n.SetContact("Atlas", text, "block")
		if err != nil || !c.Blocks(envelope.Address{Name: "Bob", Host: "lon"}) || c.Blocks(n.home.Address("Bob")) || len(c.Block) != 1 || c.Block[0] != "Bob@lon" {
			t.Errorf("block %s: got %+v, %v, want Bob@lon blocked", text, c, err)
		}
	}
	if c, err := n.SetContact("Atlas", "Echo@moon", "allow"); err != nil || !c.Allows(envelope.Address{Name: "Echo", Host: "moon"}) {
		t.Errorf("allow of a host that is no peer: got %+v, %v, want it kept", c, err)
	}
	_, err := n.SetContact("Atlas", "Nobody", "block")
	wantCode(t, "block of nobody", err, api.AgentNotFound)
}

package switchboard_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
)

// pair is two hosts with a link between them, for calls. What is said in conversations
// and who is there crosses too, by the shortest way: the tests are not about that.
type pair struct {
	t        *testing.T
	nyc, lon *exchange
	link     *peertest.Link // nil while it is down
	posts    map[string][]*envelope.Envelope
	slow     bool // logs and presence do not cross
	gates    gates
}

// gates hold frames of calls that have come and are not taken yet.
type gates struct {
	mu    sync.Mutex
	held  bool
	lines []*gate
}

// gate is one side of a link behind which the switchboard is.
type gate struct {
	peer.Line
	gates *gates
	host  string // that takes
	kept  []link.Frame
}

// gated is a service behind a gate.
type gated struct {
	peer.Service
	gates *gates
	host  string
}

func (g gated) Open(s *peer.Session) peer.Line {
	l := &gate{Line: g.Service.Open(s), gates: g.gates, host: g.host}
	g.gates.mu.Lock()
	defer g.gates.mu.Unlock()
	g.gates.lines = append(g.gates.lines, l)
	return l
}

func (g *gate) Take(f link.Frame) error {
	g.gates.mu.Lock()
	defer g.gates.mu.Unlock()
	if g.gates.held {
		g.kept = append(g.kept, f)
		return nil
	}
	return g.Line.Take(f)
}

func (g *gate) Close() {
	g.gates.mu.Lock()
	g.gates.lines = slices.DeleteFunc(g.gates.lines, func(l *gate) bool { return l == g })
	g.gates.mu.Unlock()
	g.Line.Close()
}

// hold keeps frames from being taken until release.
func (p *pair) hold() {
	p.gates.mu.Lock()
	defer p.gates.mu.Unlock()
	p.gates.held = true
}

// releaseOne lets one host take what was held, and hold what comes then.
func (p *pair) releaseOne(x *exchange) {
	p.t.Helper()
	p.gates.mu.Lock()
	for _, g := range p.gates.lines {
		if g.host != x.home.Host.Name {
			continue
		}
		for _, f := range g.kept {
			if err := g.Line.Take(f); err != nil {
				p.t.Error(err)
			}
		}
		g.kept = nil
	}
	p.gates.mu.Unlock()
	p.settle()
}

func (p *pair) release() {
	p.t.Helper()
	p.gates.mu.Lock()
	p.gates.held = false
	for _, g := range p.gates.lines {
		for _, f := range g.kept {
			if err := g.Line.Take(f); err != nil {
				p.t.Error(err)
			}
		}
		g.kept = nil
	}
	p.gates.mu.Unlock()
	p.settle()
}

// linked plays with two hosts: Atlas and Sage are at nyc, Nova and Rune at lon.
func linked(t *testing.T, do func(p *pair)) {
	t.Helper()
	linkedWith(t, func(*maildir.Config) {}, do)
}

func linkedWith(t *testing.T, settings func(*maildir.Config), do func(p *pair)) {
	t.Helper()
	dir := t.TempDir()
	notes := []*index.Index{memory(t), memory(t)}
	synctest.Test(t, func(t *testing.T) {
		p, err := newPair(t, dir, notes, settings)
		if err != nil {
			t.Fatal(err)
		}
		defer p.halt()
		p.connect()
		do(p)
	})
}

func memory(t *testing.T) *index.Index {
	t.Helper()
	x, err := index.OpenMemory() // outside the bubble: it has a clock of its own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() }) // it is in memory
	return x
}

func newPair(t *testing.T, dir string, notes []*index.Index, settings func(*maildir.Config)) (*pair, error) {
	p := &pair{t: t, posts: make(map[string][]*envelope.Envelope)}
	for i, host := range []struct {
		name   string
		agents []string
		x      **exchange
	}{{"nyc", []string{"Atlas", "Sage"}, &p.nyc}, {"lon", []string{"Nova", "Rune"}, &p.lon}} {
		home := filepath.Join(dir, host.name)
		if err := os.MkdirAll(home, 0o700); err != nil {
			return nil, err
		}
		config := fmt.Appendf(nil, "host.name = %q\n", host.name)
		if err := os.WriteFile(filepath.Join(home, "config.toml"), config, 0o600); err != nil {
			return nil, err
		}
		x, err := newExchange(home, notes[i], settings, host.agents)
		if err != nil {
			return nil, err
		}
		*host.x = x
		x.link = func(x *exchange) {
			x.router.Link(p, courier{p})
			x.roster.Know(peers{p.other(x)}, x.index)
		}
	}
	p.nyc.link(p.nyc)
	p.lon.link(p.lon)
	return p, nil
}

// HostID makes the pair what knows the names of hosts.
func (p *pair) HostID(name string) (string, bool) {
	for _, x := range []*exchange{p.nyc, p.lon} {
		if x.home.Host.Name == name {
			return x.home.Host.ID, true
		}
	}
	return "", false
}

// peers are the one peer of a host.
type peers struct{ *exchange }

func (p peers) Peers() []peer.Peer { return []peer.Peer{{ID: p.home.Host.ID, Name: p.home.Host.Name}} }

// courier keeps what is said in conversations of the other host.
type courier struct{ *pair }

func (courier) Leaving(string, string, envelope.Address) bool { return false }

func (c courier) Post(_ context.Context, origin string, e *envelope.Envelope) (bool, error) {
	if slices.ContainsFunc(c.posts[origin], func(p *envelope.Envelope) bool { return p.ID == e.ID }) {
		return true, nil
	}
	post := *e
	post.Signature = "signed"
	c.posts[origin] = append(c.posts[origin], &post)
	return false, nil
}

func (p *pair) other(x *exchange) *exchange {
	if x == p.nyc {
		return p.lon
	}
	return p.nyc
}

func (p *pair) halt() {
	p.cut()
	p.nyc.halt()
	p.lon.halt()
}

func (p *pair) side(x *exchange) peertest.Side {
	return peertest.Side{ID: x.home.Host.ID, Name: x.home.Host.Name, Services: []peer.Service{gated{x.board.Service(), &p.gates, x.home.Host.Name}}}
}

// connect links the hosts, and cut ends that.
func (p *pair) connect() {
	p.t.Helper()
	if p.link != nil {
		return
	}
	p.nyc.roster.Up("lon", p.lon.home.Host.ID)
	p.lon.roster.Up("nyc", p.nyc.home.Host.ID)
	p.presence()
	p.link, _, _ = peertest.Connect(p.t, p.side(p.nyc), p.side(p.lon))
	p.settle()
}

func (p *pair) cut() {
	if p.link == nil {
		return
	}
	p.link.Cut()
	p.link = nil
	p.nyc.roster.Down("lon", p.lon.home.Host.ID)
	p.lon.roster.Down("nyc", p.nyc.home.Host.ID)
	synctest.Wait()
}

// restart ends a daemon and starts it again, and with it the link where there was one.
func (p *pair) restart(x *exchange, between ...func()) {
	p.t.Helper()
	up := p.link != nil
	p.cut()
	x.restart(p.t, between...)
	if up {
		p.connect()
	}
}

// settle lets happen what can happen now.
func (p *pair) settle() {
	p.t.Helper()
	for range 50 {
		synctest.Wait()
		if p.slow || p.link == nil {
			return
		}
		p.presence()
		if !p.ship(p.nyc, p.lon) && !p.ship(p.lon, p.nyc) {
			return
		}
	}
	p.t.Error("what happens does not end")
}

func (p *pair) pass(d time.Duration) {
	p.t.Helper()
	for ; d > time.Second; d -= time.Second {
		pass(time.Second)
		p.settle()
	}
	pass(d)
	p.settle()
}

func (p *pair) presence() {
	for _, x := range []*exchange{p.nyc, p.lon} {
		for _, name := range x.agents {
			a := api.Agent{Name: name, Status: string(x.presence.Of(name).State)}
			p.other(x).roster.Set(x.home.Host.Name, a)
		}
	}
}

// ship brings what agents of one host have said to the origin, and its logs to the other.
func (p *pair) ship(origin, other *exchange) (moved bool) {
	p.t.Helper()
	ctx := context.Background()
	posts := p.posts[origin.home.Host.ID]
	delete(p.posts, origin.home.Host.ID)
	for _, e := range posts {
		moved = true
		_, _, _ = origin.router.Receive(ctx, e) // what is refused was refused
	}
	for _, id := range origin.conversations(p.t) {
		state, err := origin.ledger.State(ctx, id)
		if err != nil || state.Origin != origin.home.Host.ID || !slices.ContainsFunc(state.Members, func(m conv.Member) bool { return m.Address.Host == other.home.Host.Name }) {
			continue
		}
		has, _ := other.ledger.State(ctx, id)
		var lines [][]byte
		err = origin.ledger.Read(ctx, id, func(v ledger.View) error {
			for line, err := range v.Since(has.LastSeq) {
				if err != nil {
					return err
				}
				if e := line.Envelope; e.From.Host != origin.home.Host.Name && e.Signature == "" {
					p.t.Errorf("%s says in the name of %s: %s", origin.home.Host.Name, e.From, line.Bytes)
				}
				lines = append(lines, slices.Clone(line.Bytes))
			}
			return nil
		})
		if err == nil && len(lines) > 0 {
			moved = true
			_, _, err = other.ledger.Copy(ctx, ledger.Copy{Origin: state.Origin, Conversation: id, Lines: lines})
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
	return moved
}

// at is the host of an agent.
func (p *pair) at(agent string) *exchange {
	if slices.Contains(p.nyc.agents, agent) {
		return p.nyc
	}
	return p.lon
}

func (p *pair) come(agents ...string) {
	for _, name := range agents {
		p.at(name).come(name)
	}
	p.settle()
}

func (p *pair) say(agent string, d *draft) (router.Outcome, error) {
	p.t.Helper()
	out, err := p.at(agent).say(agent, d)
	p.settle()
	return out, err
}

func (p *pair) must(agent string, d *draft) router.Outcome {
	p.t.Helper()
	out, err := p.say(agent, d)
	if err != nil {
		p.t.Fatalf("%s says %s: %v", agent, d.Append(nil), err)
	}
	return out
}

// call places a call and returns its id.
func (p *pair) call(from, content string, to ...string) string {
	p.t.Helper()
	return p.must(from, &draft{Type: envelope.Call, To: to, Content: content}).Request.ID
}

// want checks how a request stands at both hosts, and what both are told, as "ringing:
// Atlas [] Nova [new call ringing]".
func (p *pair) want(what, id, state string, told ...string) {
	p.t.Helper()
	for _, x := range []*exchange{p.nyc, p.lon} {
		if got := string(x.get(p.t, id).State()); got != state {
			p.t.Errorf("%s: at %s the request is %s, want %s", what, x.home.Host.Name, got, state)
		}
	}
	p.wantTold(what, told...)
}

func (p *pair) wantTold(what string, want ...string) {
	p.t.Helper()
	var got []string
	for _, w := range want {
		name, _, _ := strings.Cut(w, " ")
		told := p.at(name).inbox(p.t, name)
		slices.Sort(told)
		got = append(got, strings.TrimSpace(name+" "+strings.Join(told, ", ")))
	}
	if !slices.Equal(got, want) {
		p.t.Errorf("%s: calls in inboxes: got %q, want %q", what, got, want)
	}
}

func (p *pair) wantPresence(what string, want ...string) {
	p.t.Helper()
	for _, w := range want {
		name, _, _ := strings.Cut(w, " ")
		p.at(name).wantPresence(p.t, what, w)
	}
}

// wantLog checks a conversation at both hosts.
func (p *pair) wantLog(id string, want ...string) {
	p.t.Helper()
	p.nyc.wantLog(p.t, id, want...)
	p.lon.wantLog(p.t, id, want...)
}

// open are the ids of requests and copies of which something can still come.
func (p *pair) open(x *exchange) []string {
	p.t.Helper()
	ids := x.records(p.t, "open")
	far := filepath.Join("far", p.other(x).home.Host.Name, "open")
	if _, err := os.Stat(filepath.Join(x.home.RequestsDir(), far)); err == nil {
		ids = append(ids, x.records(p.t, far)...)
	}
	return ids
}

func (p *pair) wantOpen(what string, nyc, lon int) {
	p.t.Helper()
	if a, b := len(p.open(p.nyc)), len(p.open(p.lon)); a != nyc || b != lon {
		p.t.Errorf("%s: open requests: got %d and %d, want %d and %d", what, a, b, nyc, lon)
	}
}

// request is how a request stands at a host.
func (p *pair) request(x *exchange, id string) call.Request {
	p.t.Helper()
	return x.get(p.t, id)
}

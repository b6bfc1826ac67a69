package copies_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/peer/peertest"
	"pgregory.net/rapid"
)

// step is one thing that hosts, people or disks do. What the numbers mean is for the
// step to say.
type step struct {
	what    string
	a, b, n int
}

var moves = map[string]func(*world, step){
	"create": (*world).create, "say": (*world).say, "fill": (*world).fill, "join": (*world).join, "leave": (*world).leave,
	"noise": (*world).noise, "link": (*world).link, "break": (*world).breakSoon, "cut": (*world).cut,
	"crash": (*world).crash, "restore": (*world).restore, "keep": (*world).keep, "back": (*world).back, "relapse": (*world).relapse, "full": (*world).full, "wait": (*world).wait,
}

var names = []string{"create", "create", "say", "say", "fill", "join", "leave", "noise", "link", "link", "break", "cut", "crash", "restore", "keep", "back", "relapse", "relapse", "full", "wait"}

func drawStep(t *rapid.T) step {
	number := rapid.IntRange(0, 1<<20)
	return step{rapid.SampledFrom(names).Draw(t, "what"), number.Draw(t, "a"), number.Draw(t, "b"), number.Draw(t, "n")}
}

// TestRandom plays plans in which links break, daemons are killed, disks fill and hosts
// are restored from older copies of their homes. At each moment a replica has the first
// lines of an origin that was never restored, byte for byte, and when all is well again, of
// every origin all that it is to have. No log has a message twice, and what was cut off is
// kept aside.
func TestRandom(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	if checks.Value.String() == checks.DefValue { // each has homes on the disk
		defer func() { _ = checks.Value.Set(checks.DefValue) }()
		if err := checks.Value.Set("40"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.Custom(drawStep), 1, 40).Draw(rt, "plan")
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		problem := ""
		synctest.Test(t, func(t *testing.T) { problem = play(t, dir, plan) })
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

// critic is what the hosts of a play complain to.
type critic struct{ problem string }

// stop ends a play.
type stop struct{}

func (c *critic) Helper() {}

func (c *critic) Errorf(format string, args ...any) {
	if c.problem == "" {
		c.problem = fmt.Sprintf(format, args...)
	}
}

func (c *critic) Fatalf(format string, args ...any) {
	c.Errorf(format, args...)
	panic(stop{})
}

// world is three hosts, each the origin of conversations and a replica of others'.
type world struct {
	*critic
	t      *testing.T
	hosts  []*host
	links  map[[2]int]*peertest.Link
	topics []topic
	kept   map[int][]map[string][]byte // by host: copies of its files
	went   map[int]bool                // hosts that were restored
	known  map[string]map[string]bool  // by conversation: ids of what unrestored hosts have of it
}

type topic struct {
	id     string
	origin int
}

// play plays a plan, and returns what was wrong.
func play(t *testing.T, dir string, plan []step) (problem string) {
	w := &world{critic: &critic{}, t: t, links: make(map[[2]int]*peertest.Link),
		kept: make(map[int][]map[string][]byte), went: make(map[int]bool), known: make(map[string]map[string]bool)}
	defer func() {
		if r := recover(); r != nil && r != (stop{}) {
			panic(r)
		}
		w.end()
		problem = w.problem
	}()
	for _, name := range []string{"nyc", "lon", "par"} {
		w.hosts = append(w.hosts, newHost(w, dir, name))
	}
	for i, s := range plan {
		moves[s.what](w, s)
		if w.check(); w.problem != "" {
			w.Fatalf("after step %d, %s", i, s.what)
		}
	}
	w.heal()
	return ""
}

func (w *world) end() {
	for key := range w.links {
		w.cutLink(key)
	}
	for _, h := range w.hosts {
		h.close()
	}
	time.Sleep(2 * time.Second) // for the index
}

func (w *world) host(n int) int { return n % len(w.hosts) }

// pair is two hosts, the smaller first.
func (w *world) pair(s step) [2]int {
	a := w.host(s.a)
	b := (a + 1 + s.b%(len(w.hosts)-1)) % len(w.hosts)
	return [2]int{min(a, b), max(a, b)}
}

// topic is a conversation, if there is one.
func (w *world) topic(n int) (topic, *host, bool) {
	if len(w.topics) == 0 {
		return topic{}, nil, false
	}
	t := w.topics[n%len(w.topics)]
	return t, w.hosts[t.origin], true
}

func (w *world) create(s step) {
	if len(w.topics) == 4 {
		return
	}
	origin := w.host(s.a)
	w.hosts[origin].failSyncs(nil)
	who := []envelope.Address{w.hosts[origin].address("Atlas")}
	for i, h := range w.hosts {
		if i != origin && s.b>>i&1 == 0 {
			who = append(who, h.address("Bob"))
		}
	}
	w.topics = append(w.topics, topic{w.hosts[origin].create(fmt.Sprint(len(w.topics)), who...), origin})
}

func (w *world) say(s step) {
	if t, origin, ok := w.topic(s.a); ok && len(origin.lines(t.id)) > 0 {
		origin.say(t.id, origin.address("Atlas"), fmt.Sprint("message ", s.n))
	}
}

func (w *world) fill(s step) {
	if t, origin, ok := w.topic(s.a); ok && len(origin.lines(t.id)) > 0 {
		origin.fill(t.id, origin.address("Atlas"), 1+s.n%600, 1+s.b%400)
	}
}

func (w *world) join(s step)  { w.enter(s, false) }
func (w *world) leave(s step) { w.enter(s, true) }

// enter has an agent join, or leave where it is in.
func (w *world) enter(s step, in bool) {
	t, origin, ok := w.topic(s.a)
	if !ok || len(origin.lines(t.id)) == 0 { // younger than the copy that was put back
		return
	}
	who := w.hosts[w.host(s.b)].address("Bob")
	state, err := origin.ledger.State(w.t.Context(), t.id)
	switch {
	case err != nil:
		w.Fatalf("%v", err)
	case state.Has(who) != in:
	case in:
		origin.leave(t.id, who)
	default:
		origin.join(t.id, who)
	}
}

var noises = []string{"hello\n", "cut off", "\x00\x00\x00\n", `{"from":"Bob","content":"hi"}` + "\n", `{"seq":1}` + "\n"}

// noise is appended to a log with the shell.
func (w *world) noise(s step) {
	t, _, ok := w.topic(s.a)
	if h := w.hosts[w.host(s.b)]; ok && len(h.lines(t.id)) > 0 {
		h.shell(t.id, noises[s.n%len(noises)])
	}
}

func (w *world) link(s step) { w.connect(w.pair(s), -1) }

// breakSoon links two hosts and breaks the link in the middle of something.
func (w *world) breakSoon(s step) { w.connect(w.pair(s), 2000+s.n%100_000) }

// connect links two hosts, and where bytes is not negative, breaks the link after so many.
func (w *world) connect(key [2]int, bytes int) {
	w.cutLink(key)
	acquaint(w.hosts[key[0]], w.hosts[key[1]])
	one := w.hosts[key[0]].side()
	if bytes >= 0 {
		one.Wrap = shortened(bytes)
	}
	w.links[key], _, _ = peertest.Connect(w.t, one, w.hosts[key[1]].side())
}

func (w *world) cut(s step) { w.cutLink(w.pair(s)) }

func (w *world) cutLink(key [2]int) {
	if l := w.links[key]; l != nil {
		l.Cut()
		delete(w.links, key)
	}
}

func (w *world) cutLinksOf(host int) {
	for key := range w.links {
		if slices.Contains(key[:], host) {
			w.cutLink(key)
		}
	}
}

// crash is a kill of the daemon, in the middle of a write to a replica where n is odd.
func (w *world) crash(s step) {
	host := w.host(s.a)
	w.cutLinksOf(host)
	h := w.hosts[host]
	h.restart(func() {
		for _, t := range w.topics {
			have, all := len(h.lines(t.id)), w.hosts[t.origin].lines(t.id)
			if t.origin != host && have > 0 && have < len(all) && s.n%2 == 1 {
				h.shell(t.id, string(all[have][:s.b%len(all[have])]))
			}
		}
	})
}

// restore puts an older state of a replica into its place.
func (w *world) restore(s step) {
	t, _, ok := w.topic(s.a)
	host := w.host(s.b)
	if !ok || host == t.origin || len(w.hosts[host].lines(t.id)) == 0 {
		return
	}
	w.cutLinksOf(host)
	h := w.hosts[host]
	h.restart(func() {
		info, err := os.Stat(h.home.LogPath(t.id))
		if err == nil {
			err = os.Truncate(h.home.LogPath(t.id), int64(s.n)%info.Size())
		}
		if err != nil {
			w.Fatalf("%v", err)
		}
	})
}

// folders are what a copy of a home has.
func folders(h *host) []string {
	return []string{h.home.ConversationsDir(), h.home.PeersDir()}
}

// keep takes a copy of the files of a host.
func (w *world) keep(s step) {
	host := w.host(s.a)
	files := make(map[string][]byte)
	for _, dir := range folders(w.hosts[host]) {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files[path], err = os.ReadFile(path)
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.Fatalf("%v", err)
		}
	}
	w.kept[host] = append(w.kept[host], files)
}

// back restores a host from one of its copies, and where n is odd its conversations go on
// before it has a link.
func (w *world) back(s step) {
	host := w.host(s.a)
	if len(w.kept[host]) == 0 {
		return
	}
	w.went[host] = true
	w.cutLinksOf(host)
	w.hosts[host].failSyncs(nil)
	w.hosts[host].restart(func() {
		for _, dir := range folders(w.hosts[host]) {
			if err := os.RemoveAll(dir); err != nil {
				w.Fatalf("%v", err)
			}
		}
		if err := os.MkdirAll(w.hosts[host].home.ConversationsDir(), 0o700); err != nil {
			w.Fatalf("%v", err)
		}
		for path, data := range w.kept[host][s.b%len(w.kept[host])] {
			err := os.MkdirAll(filepath.Dir(path), 0o700)
			if err == nil {
				err = os.WriteFile(path, data, 0o600)
			}
			if err != nil {
				w.Fatalf("%v", err)
			}
		}
	})
	for i, t := range w.topics {
		if t.origin == host && s.n%2 == 1 {
			w.say(step{a: i, n: s.n})
		}
	}
}

// relapse restores the origin of a conversation that goes on between the copy and that.
func (w *world) relapse(s step) {
	if len(w.topics) == 0 {
		return
	}
	i := s.a % len(w.topics)
	origin := w.topics[i].origin
	w.keep(step{a: origin})
	for n := range 1 + s.n%5 {
		w.say(step{a: i, n: n})
		w.link(step{a: origin, b: s.b + n%2, n: s.n})
		synctest.Wait()
	}
	w.back(step{a: origin, b: len(w.kept[origin]) - 1, n: s.b})
}

// full fills the disk of a host that is no origin, or makes room on it.
func (w *world) full(s step) {
	h := w.hosts[w.host(s.a)]
	isOrigin := slices.ContainsFunc(w.topics, func(t topic) bool { return w.hosts[t.origin] == h })
	if h.failSyncs(nil); s.n%2 == 1 && !isOrigin {
		h.failSyncs(syscall.ENOSPC)
	}
}

func (w *world) wait(step) { time.Sleep(time.Second) }

// check compares all replicas with their origins.
func (w *world) check() {
	synctest.Wait()
	for _, t := range w.topics {
		want := w.hosts[t.origin].lines(t.id)
		for i, h := range w.hosts {
			got := h.lines(t.id)
			if w.once(t.id, got); w.went[t.origin] {
				continue
			}
			if i != t.origin && (len(got) > len(want) || !slices.EqualFunc(got, want[:len(got)], bytes.Equal)) {
				w.Errorf("replica on %s has %d lines that are not the first of %d", h.home.Host.Name, len(got), len(want))
			}
		}
	}
	for _, h := range w.hosts {
		if h.gaps > 0 {
			w.Errorf("lines have come to %s before those that they follow", h.home.Host.Name)
		}
		for _, other := range w.hosts {
			h.wantNoProblems(other)
		}
	}
}

// once checks that no log has a message twice.
func (w *world) once(id string, lines [][]byte) {
	ids := make(map[string]bool)
	for _, line := range lines {
		if e, err := envelope.Decode(line); err == nil {
			if ids[e.ID] {
				w.Errorf("log of %s has %s twice", id, e.ID)
			}
			ids[e.ID] = true
		}
	}
}

// remember notes what hosts that were never restored have.
func (w *world) remember() {
	for _, t := range w.topics {
		for i, h := range w.hosts {
			if w.went[i] {
				continue
			}
			for _, line := range h.lines(t.id) {
				if w.known[t.id] == nil {
					w.known[t.id] = make(map[string]bool)
				}
				w.known[t.id][string(line)] = true
			}
		}
	}
}

// keptSomewhere checks that every line that such a host had is in its log still, or aside.
func (w *world) keptSomewhere() {
	for _, t := range w.topics {
		have := make(map[string]bool)
		for _, h := range w.hosts {
			paths, err := filepath.Glob(filepath.Join(h.home.ConversationsDir(), t.id+"*"))
			if err != nil {
				w.Fatalf("%v", err)
			}
			for _, path := range paths {
				data, err := os.ReadFile(path)
				if err != nil {
					w.Fatalf("%v", err)
				}
				for line := range bytes.SplitSeq(data, []byte("\n")) {
					have[string(line)] = true
				}
			}
		}
		for line := range w.known[t.id] {
			if !have[line] {
				w.Errorf("%.100s is nowhere any more", line)
			}
		}
	}
}

// heal links all hosts, and checks that each has what it is to have.
func (w *world) heal() {
	for _, h := range w.hosts {
		h.failSyncs(nil)
	}
	w.remember()
	for a := range w.hosts {
		for b := range a {
			w.connect([2]int{b, a}, -1)
		}
	}
	time.Sleep(time.Minute)
	w.check()
	w.keptSomewhere()
	for _, t := range w.topics {
		all := w.hosts[t.origin].lines(t.id)
		for i, h := range w.hosts {
			want := due(all, h.address("Bob"))
			if got := len(h.lines(t.id)); i != t.origin && got != want {
				w.Errorf("replica on %s has %d lines, want %d of %d", h.home.Host.Name, got, want, len(all))
			}
		}
	}
}

// due is how many lines of a log the host of its only agent is to have.
func due(lines [][]byte, agent envelope.Address) (n int) {
	in := false
	for i, line := range lines {
		e, err := envelope.Decode(line)
		if err != nil {
			continue
		}
		mine := e.From.Same(agent)
		if e.Type == envelope.Join && mine || slices.ContainsFunc(e.Participants, agent.Same) {
			in = true
		}
		if in {
			n = i + 1
		}
		if e.Type == envelope.Leave && mine {
			in = false
		}
	}
	return n
}

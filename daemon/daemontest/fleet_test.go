package daemontest_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// remote is a host whose daemon is a process of its own, which can be killed.
type remote struct {
	t     testing.TB
	name  string
	dir   string
	space string // network namespace, empty for this one
	env   []string
	log   bytes.Buffer

	mu  sync.Mutex
	cmd *exec.Cmd
}

// newRemote makes a host and starts its daemon.
func newRemote(t testing.TB, name, space, config string) *remote {
	t.Helper()
	p := &remote{t: t, name: name, space: space, dir: filepath.Join(t.TempDir(), name)}
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("host.name = %q\nhttp.listen = 'off'\nlimits.rate = 0\n%s", name, config)
	if err := os.WriteFile(filepath.Join(p.dir, "config.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	p.start()
	return p
}

func (p *remote) start() {
	p.t.Helper()
	args := []string{os.Args[0]}
	if p.space != "" {
		args = []string{"ip", "netns", "exec", p.space, os.Args[0]}
	}
	p.mu.Lock()
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Env = append(append(os.Environ(), "DUO_HOME="+p.dir, envRole+"=daemon"), p.env...)
	p.cmd.Stderr = &p.log
	err := p.cmd.Start()
	p.mu.Unlock()
	if err != nil {
		p.t.Fatal(err)
	}
	daemontest.Eventually(p.t, func() (bool, string) {
		home, err := maildir.Open(p.dir)
		if err == nil {
			err = client.New(home.SocketPath(), "").Health(context.Background())
		}
		return err == nil, fmt.Sprint(err)
	})
}

// kill ends the daemon as a power cut would, but for the disk.
func (p *remote) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // says that it was killed
	p.cmd = nil
}

func (p *remote) home() *maildir.Home {
	home, err := maildir.Open(p.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	return home
}

func (p *remote) as(agent string) *client.Client { return client.New(p.home().SocketPath(), agent) }

func (p *remote) register(agent string) {
	p.t.Helper()
	if _, err := p.as("").Register(context.Background(), api.Register{Name: agent}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *remote) join(code string) {
	p.t.Helper()
	if _, err := p.as("").Join(context.Background(), api.Join{Code: code}); err != nil {
		p.t.Fatal(err)
	}
}

// fleet is hosts that are linked, an agent on each, and conversations of all.
type fleet struct {
	t       *testing.T
	hosts   []*remote
	agents  []string // of the hosts, in their order
	convs   []string
	writers sync.WaitGroup
	stop    chan struct{}

	mu    sync.Mutex
	acked map[string]string // by text: who was told that it is kept
	tries atomic.Int64
}

// newFleet links hosts: all others with the first one. Each host's agent begins a
// conversation with all of them.
func newFleet(t *testing.T, agents []string, hosts ...*remote) *fleet {
	t.Helper()
	f := &fleet{t: t, hosts: hosts, agents: agents, stop: make(chan struct{}), acked: make(map[string]string)}
	for i, h := range hosts {
		h.register(agents[i])
		if i > 0 {
			code, err := hosts[0].as("").NewCode(context.Background(), "")
			if err != nil {
				t.Fatal(err)
			}
			h.join(code.Code)
		}
	}
	for i, h := range hosts {
		if i > 1 { // hosts that are not linked with each other have no conversation of their own
			break
		}
		draft := &envelope.Envelope{Type: envelope.Create, Topic: "of " + h.name, Mode: "async"}
		for j := range hosts {
			if j != i && (i == 0 || j == 0) {
				draft.To = append(draft.To, f.address(j))
			}
		}
		posted, err := stubborn(func(ctx context.Context) (api.Posted, error) { return h.as(agents[i]).Post(ctx, draft) })
		if err != nil {
			t.Fatalf("%s creates a conversation: %v", agents[i], err)
		}
		f.convs = append(f.convs, posted.Conversation.ID)
	}
	return f
}

func (f *fleet) address(i int) string { return f.agents[i] + "@" + f.hosts[i].name }

// members are the hosts of a conversation.
func (f *fleet) members(conversation int) []int {
	if conversation == 0 {
		all := make([]int, len(f.hosts))
		for i := range all {
			all[i] = i
		}
		return all
	}
	return []int{1, 0}
}

// write makes each agent say something again and again in each of its conversations, until
// quiet is called. It notes what it is told is kept.
func (f *fleet) write(every time.Duration) {
	for c, id := range f.convs {
		for _, i := range f.members(c) {
			f.writers.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-f.stop:
						return
					case <-time.After(every):
						f.say(i, id, fmt.Sprintf("%s in %d says %d", f.agents[i], c, n))
					}
				}
			})
		}
	}
}

func (f *fleet) say(i int, id, text string) {
	f.tries.Add(1)
	draft := &envelope.Envelope{ID: tokenID(text), Type: envelope.Message, Content: text, Conversation: id}
	_, err := stubborn(func(ctx context.Context) (api.Posted, error) {
		posted, err := f.hosts[i].as(f.agents[i]).Post(ctx, draft)
		if e, ok := err.(*api.Error); ok && (e.Code == api.ConversationNotFound || e.Code == api.NotParticipant) {
			err = api.Errorf(api.Busy, "%w", err) // the log is on its way
		}
		return posted, err
	})
	if err != nil {
		f.t.Errorf("%q is not taken: %v", text, err)
		return
	}
	f.mu.Lock()
	f.acked[text] = f.address(i)
	f.mu.Unlock()
}

// quiet ends the writers.
func (f *fleet) quiet() {
	close(f.stop)
	f.writers.Wait()
}

// redial makes all hosts dial at once.
func (f *fleet) redial() {
	for _, h := range f.hosts[1:] {
		_, _ = h.as("").PingPeer(context.Background(), f.hosts[0].name) // it may not be reached yet
	}
}

// check waits until all hosts have the same, and wants everything that was acknowledged
// there, once, in the order in which each has said it, and with every recipient.
func (f *fleet) check() {
	f.t.Helper()
	daemontest.Eventually(f.t, func() (bool, string) {
		problems := f.problems()
		return len(problems) == 0, strings.Join(problems[:min(len(problems), 8)], "\n")
	})
	f.t.Logf("%d acknowledged in %d conversations on %d hosts", len(f.acked), len(f.convs), len(f.hosts))
}

func (f *fleet) problems() (problems []string) {
	found := make(map[string]int)
	for c, id := range f.convs {
		members := f.members(c)
		first := validLines(f.hosts[members[0]].home().LogPath(id))
		for _, i := range members[1:] {
			lines := validLines(f.hosts[i].home().LogPath(id))
			if !slices.EqualFunc(first, lines, bytes.Equal) {
				problems = append(problems, fmt.Sprintf("%s of %s has %d lines, %s has %d: not the same",
					id, f.hosts[members[0]].name, len(first), f.hosts[i].name, len(lines)))
			}
		}
		problems = append(problems, f.checkLines(first, found)...)
		for _, i := range members {
			problems = append(problems, f.checkInbox(i, id, first)...)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for text, who := range f.acked {
		if n := found[text+" by "+who]; n != 1 {
			problems = append(problems, fmt.Sprintf("%q of %s is stored %d times", text, who, n))
		}
	}
	for i, h := range f.hosts {
		waiting, _ := filepath.Glob(filepath.Join(h.dir, "peers", "*", "spool", "new", "*"))
		if len(waiting) > 0 {
			problems = append(problems, fmt.Sprintf("%d envelopes wait at %s", len(waiting), f.hosts[i].name))
		}
	}
	if len(problems) > 0 {
		problems = append(linksOf(f.hosts), problems...)
	}
	return problems
}

// linksOf tells how it stands with the links of hosts to the first one.
func linksOf(hosts []*remote) (links []string) {
	for _, h := range hosts[1:] {
		p, err := h.as("").Peer(context.Background(), hosts[0].name)
		links = append(links, fmt.Sprintf("%s: %s, %v", h.name, daemontest.JSON(p), err))
	}
	return links
}

// validLines reads the lines of a log that count, in the plainest way.
func validLines(path string) (lines [][]byte) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for line := range bytes.Lines(data) {
		e, err := envelope.Decode(line)
		if err == nil && e.Seq == int64(len(lines)+1) && bytes.HasSuffix(line, []byte("\n")) {
			lines = append(lines, line)
		}
	}
	return lines
}

// checkLines wants each sender's messages in the order in which it has said them.
func (f *fleet) checkLines(lines [][]byte, found map[string]int) (problems []string) {
	last := make(map[string]int)
	for _, line := range lines {
		e, err := envelope.Decode(line)
		if err != nil || e.Type != envelope.Message {
			continue
		}
		found[e.Content+" by "+e.From.String()]++
		var n int
		if _, err := fmt.Sscanf(e.Content[strings.LastIndexByte(e.Content, ' ')+1:], "%d", &n); err != nil {
			problems = append(problems, "a message that nobody has said: "+e.Content)
			continue
		}
		if before, ok := last[e.From.String()]; ok && n <= before {
			problems = append(problems, fmt.Sprintf("%s said %d after %d", e.From, n, before))
		}
		last[e.From.String()] = n
	}
	return problems
}

// checkInbox wants the messages of the others in an agent's inbox.
func (f *fleet) checkInbox(i int, id string, lines [][]byte) (problems []string) {
	want := make(map[int64]bool)
	for _, line := range lines {
		if e, err := envelope.Decode(line); err == nil && e.Type == envelope.Message && e.From.String() != f.address(i) {
			want[e.Seq] = true
		}
	}
	items, err := mailbox.At(f.hosts[i].home().AgentDir(f.agents[i])).Unseen()
	if err != nil {
		return []string{err.Error()}
	}
	for _, item := range items {
		if item.Conversation == id {
			delete(want, item.Seq)
		}
	}
	if len(want) > 0 {
		problems = append(problems, fmt.Sprintf("%s lacks %d messages of %s", f.agents[i], len(want), id))
	}
	return problems
}

// listening is the configuration of a host that others find at the end of a cable.
func listening(t *testing.T, cable *daemontest.Cable) string {
	t.Helper()
	address := daemontest.FreeAddress(t)
	cable.Connect(address)
	return fmt.Sprintf("link.listen = %q\nlink.advertise = %q\n", address, cable.Address())
}

const hidden = "link.listen = 'off'\n"

// TestHostsOverABadCable: whatever the network does, all hosts have the same in the end,
// and nothing that was acknowledged is lost, repeated or out of order.
func TestHostsOverABadCable(t *testing.T) {
	t.Parallel()
	cable := daemontest.NewCable(t)
	f := newFleet(t, []string{"Atlas", "Bob", "Cleo"},
		newRemote(t, "nyc", "", listening(t, cable)), newRemote(t, "lon", "", hidden), newRemote(t, "tok", "", hidden))
	f.write(3 * time.Millisecond)
	for _, fault := range []struct {
		name string
		do   func()
	}{
		{"nothing", func() {}},
		{"pulled", func() { cable.Pull(); pass(500 * time.Millisecond); cable.Plug(); f.redial() }},
		{"pulled in the middle of a frame", func() {
			for range 10 {
				cable.PullAfter(1000 + rand.IntN(20_000))
				pass(50 * time.Millisecond)
				cable.Pull()
				cable.Plug()
				f.redial()
			}
		}},
		{"deaf one way", func() {
			cable.Deafen(daemontest.There, true)
			pass(500 * time.Millisecond)
			cable.Pull()
			cable.Deafen(daemontest.There, false)
			cable.Plug()
			f.redial()
		}},
		{"deaf the other way", func() {
			cable.Deafen(daemontest.Back, true)
			pass(500 * time.Millisecond)
			cable.Pull()
			cable.Deafen(daemontest.Back, false)
			cable.Plug()
			f.redial()
		}},
		{"far away", func() { cable.Slow(100*time.Millisecond, 0); pass(time.Second); cable.Slow(0, 0) }},
		{"a narrow line", func() { cable.Slow(0, 125_000); pass(time.Second); cable.Slow(0, 0) }},
	} {
		t.Logf("the cable is %s", fault.name)
		fault.do()
		pass(200 * time.Millisecond)
	}
	f.quiet()
	f.check()
}

// pass lets the world go on for a while: what happens meanwhile is what is tested.
func pass(d time.Duration) { <-time.After(d) }

// TestCrashHosts kills daemons of linked hosts at random while their agents talk.
// DUO_CRASH_ROUNDS makes it longer.
func TestCrashHosts(t *testing.T) {
	t.Parallel()
	cable := daemontest.NewCable(t)
	f := newFleet(t, []string{"Atlas", "Bob", "Cleo"},
		newRemote(t, "nyc", "", listening(t, cable)), newRemote(t, "lon", "", hidden), newRemote(t, "tok", "", hidden))
	f.write(3 * time.Millisecond)
	for range crashRounds(t, shortRounds) {
		pass(time.Duration(50+rand.IntN(250)) * time.Millisecond)
		victim := f.hosts[rand.IntN(len(f.hosts))]
		if rand.IntN(4) == 0 {
			cable.PullAfter(rand.IntN(10_000))
		}
		victim.kill()
		victim.start()
		cable.Plug()
		f.redial()
	}
	f.quiet()
	f.check()
}

// long skips a test that plays many daemons for long where -short asks for that: under the
// race detector each of them is several times as slow.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("plays for long; not with -short")
	}
}

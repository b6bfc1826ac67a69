package daemontest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/fsck"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	shortRounds = 16
	roundTime   = time.Second // longer than a round takes where the machine is not busy
)

// TestCrash lets many programs write in every way there is, kills them and the daemon
// at random moments, and checks at the end that nothing was lost, repeated or put out
// of order. DUO_CRASH_ROUNDS makes it longer, and DUO_CRASH_SEED repeats the choices of
// a run, though not its timing.
func TestCrash(t *testing.T) {
	t.Parallel()
	c := newCrash(t, crashOptions{})
	c.run(crashRounds(t, shortRounds))
	c.report(c.problems())
}

// crashRounds is how often something is to break.
func crashRounds(t *testing.T, otherwise int) int {
	t.Helper()
	text := os.Getenv("DUO_CRASH_ROUNDS")
	if text == "" {
		return otherwise
	}
	rounds, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("DUO_CRASH_ROUNDS: %v", err)
	}
	return rounds
}

// TestHarnessCatchesPlantedFaults shows that a run of TestCrash can fail.
func TestHarnessCatchesPlantedFaults(t *testing.T) {
	for name, test := range map[string]struct {
		options crashOptions
		tamper  func(c *crash) // after the run
		want    string
	}{
		"a writer that acknowledges before the line is stored": {
			crashOptions{ways: []string{"library"}, libraryFault: faultEarlyAck}, nil,
			"was acknowledged and is in no log",
		},
		"a committed line that goes away": {
			crashOptions{ways: []string{"http", "drop"}, daemonFault: faultLostLine}, nil,
			"was acknowledged and is in no log",
		},
		"a line that is appended twice": {
			crashOptions{ways: []string{"library"}, libraryFault: faultDuplicate}, nil,
			"is stored 2 times",
		},
		"a message that its recipient did not get": {
			crashOptions{ways: []string{"http"}}, (*crash).robReader,
			"Nova was not given",
		},
		"a drop that is gone": {
			crashOptions{ways: []string{"drop"}}, (*crash).robSender,
			"the drop is not in sent",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const tries = 5 // a daemon may be killed before its fault happens
			var problems []string
			caught := func(s string) bool { return strings.Contains(s, test.want) }
			for try := 0; try < tries && !slices.ContainsFunc(problems, caught); try++ {
				c := newCrash(t, test.options)
				c.run(1)
				if test.tamper != nil {
					test.tamper(c)
				}
				problems = c.problems()
			}
			if !slices.ContainsFunc(problems, caught) {
				t.Errorf("problems = %q; want one that says %q", problems, test.want)
			}
			for _, p := range problems[:min(len(problems), 5)] {
				t.Logf("caught: %s", p)
			}
		})
	}
}

// crashOptions are settings of a run; the zero value is a clean one.
type crashOptions struct {
	ways         []string // of writing, all of them where it is nil
	libraryFault string
	daemonFault  string
	atLeast      int // messages that are to be acknowledged before the run ends
}

// crash is one run.
type crash struct {
	t       testing.TB
	options crashOptions
	rand    *rand.Rand
	home    *maildir.Home
	daemon  *process
	talk    string // the conversation that everybody is in
	pair    string // one of Atlas and Nova
	writers []*writer
	readers []*program
	swaps   int // daemons so far

	mu       sync.Mutex
	tokens   map[string]*token
	streamed map[string]bool // names of the items that Echo's stream has confirmed
	failures []string        // of programs that were not killed
}

// token is the text of one message, which no other message has.
type token struct {
	way   *writer
	acked bool
	seq   int64 // that the writer was told, 0 where it was told none
}

var crashAgents = []string{"Atlas", "Nova", "Sage", "Echo"}

func newCrash(t testing.TB, options crashOptions) *crash {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("DUO_CRASH_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("DUO_CRASH_SEED: %v", err)
		}
	}
	t.Logf("DUO_CRASH_SEED=%d", seed)
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	c := &crash{
		t: t, options: options, home: home, rand: rand.New(rand.NewPCG(seed, 0)),
		tokens: make(map[string]*token), streamed: make(map[string]bool),
	}
	c.startDaemon()
	for _, name := range crashAgents {
		if _, err := c.client("").Register(t.Context(), registration(name)); err != nil {
			t.Fatal(err)
		}
	}
	c.talk = c.create("Everybody", crashAgents[1:]...)
	c.pair = c.create("Two", "Nova")
	c.addWriters()
	return c
}

func (c *crash) client(agent string) *client.Client { return client.New(c.home.SocketPath(), agent) }

func (c *crash) create(topic string, with ...string) string {
	c.t.Helper()
	posted, err := c.client("Atlas").Post(c.t.Context(), &envelope.Envelope{Type: envelope.Create, Topic: topic, To: with})
	if err != nil {
		c.t.Fatal(err)
	}
	return posted.Conversation.ID
}

// startDaemon starts the real program, and every other time the one of this test, which
// the race detector looks at when it looks at the test.
func (c *crash) startDaemon() {
	c.t.Helper()
	c.swaps++
	var cmd *exec.Cmd
	if c.swaps%2 == 0 || c.options.daemonFault != "" {
		cmd = role("daemon", c.home.Dir, envFault+"="+c.options.daemonFault)
	} else {
		cmd = exec.Command(duo(c.t), "daemon")
		cmd.Env = duoEnv(c.home.Dir)
	}
	c.daemon = runDaemon(c.t, c.home.Dir, cmd)
}

// run lets everybody write and read while things break, for a number of rounds, and
// waits until all is where it belongs.
func (c *crash) run(rounds int) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var writing, reading sync.WaitGroup
	for _, w := range c.writers {
		writing.Go(func() { c.write(ctx, w) })
	}
	readCtx, stopReading := context.WithCancel(context.Background())
	defer stopReading()
	for _, r := range c.readers {
		reading.Go(func() { c.read(readCtx, r) })
	}
	reading.Go(func() { c.stream(readCtx) })
	for began, n := time.Now(), 0; n < rounds && time.Since(began) < time.Duration(rounds)*roundTime; n++ {
		c.pause()
		c.round()
	}
	c.pause()
	daemontest.Eventually(c.t, func() (bool, string) {
		n := c.count()
		return n >= c.options.atLeast, fmt.Sprintf("%d messages were acknowledged", n)
	})
	cancel()
	writing.Wait()
	c.settle()
	stopReading()
	reading.Wait()
	c.checkLists()
	c.daemon.term()
}

// count is how many messages were acknowledged.
func (c *crash) count() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, tok := range c.tokens {
		if tok.acked {
			n++
		}
	}
	return n
}

// pause lets everybody work for a random time.
func (c *crash) pause() {
	<-time.After(100*time.Millisecond + time.Duration(c.rand.Int64N(int64(500*time.Millisecond))))
}

// round breaks something.
func (c *crash) round() {
	c.t.Helper()
	for _, w := range c.writers {
		if c.rand.IntN(3) == 0 {
			w.kill()
		}
	}
	for _, r := range c.readers {
		if c.rand.IntN(4) == 0 {
			r.kill()
		}
	}
	switch n := c.rand.IntN(10); {
	case c.options.daemonFault != "": // the fault is in this daemon
		return
	case n < 7:
		c.daemon.kill()
	case n < 8:
		c.daemon.term()
	default:
		c.tear()
		return
	}
	if c.rand.IntN(2) == 0 {
		c.tear()
	}
	switch c.rand.IntN(6) {
	case 0:
		c.must(durable.ReplaceCache(c.home.IndexPath(), []byte("garbage"), 0o600))
	case 1:
		c.must(os.RemoveAll(c.home.IndexPath()))
	}
	c.startDaemon()
}

// tear leaves at the end of a log what a writer leaves there that was killed in the
// middle of a write, or a power cut.
func (c *crash) tear() {
	c.t.Helper()
	rubbish := []string{
		`{"seq":7,"id":"0199`, `{"seq":900000,"id":"01990000-0000-7000-8000-000000000001","type":"message","fr`,
		"\x00\x00\x00\x00", `{`, "torn", "torn\n", "{\"seq\":1}\n", "\n",
	}
	path := c.home.LogPath([]string{c.talk, c.pair}[c.rand.IntN(2)])
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	c.must(err)
	_, err = f.WriteString(rubbish[c.rand.IntN(len(rubbish))])
	c.must(err)
	c.must(f.Close())
}

func (c *crash) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// settle waits until no drop waits, no line waits to be adopted and no message waits
// for its recipient. That nothing moves any more before it comes to that is one of the
// problems.
func (c *crash) settle() {
	c.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	began, moved, before := time.Now(), time.Now(), ""
	for ; ; <-tick.C {
		waiting := c.waiting()
		if waiting == "" {
			c.t.Logf("all was settled after %s", time.Since(began))
			return
		}
		if waiting != before {
			moved, before = time.Now(), waiting
		}
		if time.Since(moved) > daemontest.Patience || time.Since(began) > settleWithin {
			c.fail("the daemon", fmt.Errorf("nothing has moved for %s: %s", time.Since(moved), waiting))
			c.t.Logf("the daemon, which should have nothing to do:\n%s", c.daemon.dump())
			c.startDaemon()
			return
		}
	}
}

const settleWithin = 3 * time.Minute

// waiting says what is not done yet, and is empty when all is.
func (c *crash) waiting() string {
	for _, name := range crashAgents {
		if drops := c.names(name, mailbox.OutboxNew); len(drops) > 0 {
			return fmt.Sprintf("%d drops of %s wait: %v", len(drops), name, drops[:min(len(drops), 3)])
		}
	}
	report, err := fsck.Home(c.home.Dir)
	c.must(err)
	for _, f := range report.Findings {
		if f.Kind == fsck.Raw || f.Kind == fsck.NotGiven {
			return f.String()
		}
	}
	return ""
}

// report fails the test with what is wrong.
func (c *crash) report(problems []string) {
	c.t.Helper()
	ways := make(map[string]int)
	for _, tok := range c.tokens {
		if tok.acked {
			ways[tok.way.name]++
		}
	}
	c.t.Logf("%d daemons, %d messages sent, %d acknowledged: %v", c.swaps, len(c.tokens), c.count(), ways)
	for _, w := range c.writers {
		if ways[w.name] == 0 {
			c.t.Errorf("nothing was sent by %s", w.name)
		}
	}
	for _, p := range problems[:min(len(problems), 20)] {
		c.t.Error(p)
	}
	if len(problems) > 20 {
		c.t.Errorf("and %d more problems", len(problems)-20)
	}
}

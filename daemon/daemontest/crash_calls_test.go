package daemontest_test

import (
	"context"
	"encoding/json"
	"fmt"
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
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/fsck"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	callRounds  = 8
	callEvery   = 40 * time.Millisecond
	answerEvery = 20 * time.Millisecond
)

// TestCrashCalls kills the daemon at random moments while Atlas calls and the others
// answer with drops and hang up, and checks that each call has come to exactly what was
// answered: nothing is lost, refused, or said twice.
func TestCrashCalls(t *testing.T) {
	t.Parallel()
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	c := &callers{t: t, home: home}
	c.start()
	for _, name := range []string{"Atlas", "Nova", "Sage"} {
		if _, err := client.New(home.SocketPath(), "").Register(t.Context(), registration(name)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	answering, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	var calling, all sync.WaitGroup
	calling.Go(func() { c.each(ctx, callEvery, c.call) })
	for _, name := range []string{"Nova", "Sage"} {
		done := make(map[string]bool)
		all.Go(func() { c.each(answering, answerEvery, func() { c.answer(name, done) }) })
	}
	for range crashRounds(t, callRounds) {
		<-time.After(200*time.Millisecond + time.Duration(time.Now().UnixNano()%int64(300*time.Millisecond)))
		c.daemon.kill()
		c.start()
	}
	stop()
	calling.Wait()
	daemontest.Eventually(t, func() (bool, string) {
		waits := c.unfinished()
		return waits == "", waits
	})
	hangUp()
	all.Wait()
	c.daemon.term()
	c.check()
}

// callers are the agents of one run.
type callers struct {
	t      *testing.T
	home   *maildir.Home
	daemon *process
	calls  int // placed so far
}

func (c *callers) start() {
	cmd := exec.Command(duo(c.t), "daemon")
	cmd.Env = duoEnv(c.home.Dir)
	c.daemon = runDaemon(c.t, c.home.Dir, cmd)
}

func (c *callers) each(ctx context.Context, every time.Duration, do func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		do()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// call n is to Nova, to Sage, or to both. Every fourth one is rejected.
func (c *callers) call() {
	c.calls++
	c.drop("Atlas", callName(c.calls), &envelope.Envelope{Type: envelope.Call, To: callees(c.calls), Content: callName(c.calls)})
}

func callName(n int) string { return fmt.Sprintf("call-%05d", n) }

func callees(n int) []string { return [][]string{{"Nova"}, {"Sage"}, {"Nova", "Sage"}}[n%3] }

func accepts(n int) bool { return n%4 != 0 }

// drop leaves a drop, unless there was one with the name.
func (c *callers) drop(agent, name string, e *envelope.Envelope) {
	name += ".json"
	for _, folder := range []string{mailbox.OutboxNew, mailbox.Sent, mailbox.Failed} { // the way that drops go
		if _, err := os.Lstat(filepath.Join(c.home.AgentDir(agent), folder, name)); err == nil {
			return
		}
	}
	if err := mailbox.At(c.home.AgentDir(agent)).Leave(name, e); err != nil {
		c.t.Errorf("%s leaves a drop: %v", agent, err)
	}
}

// answer answers what the agent is called with, and leaves a call that nobody else was
// called with when its answer was taken. Requests with which nothing is left to do are
// noted in done.
func (c *callers) answer(agent string, done map[string]bool) {
	for _, e := range c.told(agent, done) {
		n, err := strconv.Atoi(strings.TrimPrefix(e.Content, "call-"))
		switch {
		case e.Type != envelope.Call || err != nil:
			c.t.Errorf("%s is told %s, want a call", agent, e.Append(nil))
		case accepts(n):
			c.drop(agent, "answer-"+e.Content, &envelope.Envelope{Type: envelope.Accept, Request: e.Request, Content: agent + " is here for " + e.Content})
		default:
			c.drop(agent, "answer-"+e.Content, &envelope.Envelope{Type: envelope.Reject, Request: e.Request, Reason: agent + " is away"})
		}
		taken := c.sent(agent, "answer-"+e.Content)
		if taken.Conversation != "" && len(callees(n)) == 1 {
			c.drop(agent, "leave-"+e.Content, &envelope.Envelope{Type: envelope.Leave, Conversation: taken.Conversation})
		}
		done[e.Request] = taken.Request != ""
	}
}

// told are the files of calls in an agent's inbox, but for those that are done with.
func (c *callers) told(agent string, done map[string]bool) (list []*envelope.Envelope) {
	box := mailbox.At(c.home.AgentDir(agent))
	signals, err := box.AllSignals()
	if err != nil {
		c.t.Errorf("inbox of %s: %v", agent, err)
	}
	for _, s := range signals {
		if done[s.Request] {
			continue
		}
		e, err := box.ReadItem(s.Name)
		if err != nil {
			c.t.Errorf("inbox of %s: %v", agent, err)
			continue
		}
		list = append(list, e)
	}
	return list
}

// sent is a drop as it was sent, empty where it was not.
func (c *callers) sent(agent, name string) (e envelope.Envelope) {
	data, err := os.ReadFile(filepath.Join(c.home.AgentDir(agent), mailbox.Sent, name+".json"))
	if err == nil {
		_ = json.Unmarshal(data, &e) // what is not whole counts as not sent
	}
	return e
}

// unfinished says what still has to happen.
func (c *callers) unfinished() string {
	for n := 1; n <= c.calls; n++ {
		name := callName(n)
		if c.sent("Atlas", name).Request == "" {
			return name + " is not placed"
		}
		for _, agent := range callees(n) {
			answer := c.sent(agent, "answer-"+name)
			if answer.Request == "" {
				return fmt.Sprintf("the answer of %s to %s is not taken", agent, name)
			}
			if len(callees(n)) == 1 && accepts(n) && !c.closed(answer.Conversation) {
				return fmt.Sprintf("%s with %s is not over", name, agent)
			}
		}
	}
	return ""
}

func (c *callers) lines(conversation string) []string {
	data, err := os.ReadFile(c.home.LogPath(conversation))
	if err != nil {
		c.t.Errorf("log: %v", err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

func (c *callers) closed(conversation string) bool {
	lines := c.lines(conversation)
	return strings.Contains(lines[len(lines)-1], `"event":"close"`)
}

// check checks what each call has come to. The daemon has stopped.
func (c *callers) check() {
	c.t.Logf("%d calls", c.calls)
	report, err := fsck.Home(c.home.Dir)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range report.Findings {
		c.t.Errorf("fsck: %s", f)
	}
	conversations := 0
	outcomes := make(map[string]*envelope.Envelope)
	for _, e := range c.told("Atlas", nil) {
		outcomes[e.Request] = e
	}
	for n := 1; n <= c.calls; n++ {
		name := callName(n)
		request := c.sent("Atlas", name).Request
		outcome := outcomes[request]
		if outcome == nil || (outcome.Type == envelope.Accept) != accepts(n) {
			c.t.Errorf("%s: Atlas is told %+v, want accepted: %v", name, outcome, accepts(n))
			continue
		}
		if accepts(n) {
			conversations++
			c.checkLog(n, outcome.Conversation)
		}
	}
	if report.Logs != conversations {
		c.t.Errorf("got %d conversations, want %d", report.Logs, conversations)
	}
}

// checkLog checks that all was said in the conversation of a call, once.
func (c *callers) checkLog(n int, conversation string) {
	want := []string{`"event":"create"`, `"content":"` + callName(n) + `"`}
	for _, agent := range callees(n) {
		want = append(want, `"content":"`+agent+` is here for `+callName(n)+`"`)
	}
	if len(callees(n)) == 1 {
		want = append(want, `"type":"leave"`, `"event":"close"`)
	} else {
		want = append(want, `"event":"invite"`)
	}
	lines := c.lines(conversation)
	for _, text := range want {
		if i := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, text) }); i < 0 || len(lines) != len(want) {
			c.t.Errorf("%s: the log has no %s, or not %d lines:\n%s", callName(n), text, len(want), strings.Join(lines, "\n"))
			return
		}
	}
}

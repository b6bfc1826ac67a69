package daemontest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// writer sends messages in one way.
type writer struct {
	name  string
	agent string
	ask   func(token string) (answer string, err error)
	kill  func()
	close func() error
	again bool // when it dies, the same message is sent again: the id tells that it is the same
	drop  bool // it leaves a file in the outbox, named after the token
	shell bool // what it writes is lost where it gets behind a torn line
	bad   bool // what it writes is refused
	every time.Duration
}

// The scripts answer each line with the same line after the message was handed over.
// They write as models and shell users do.
const (
	scriptDrop = `while read -r t; do
		printf '{"conversation":"%s","content":"%s","id":"%s"}\n' "$CONVERSATION" "${t% *}" "${t#* }" >"outbox/tmp/${t% *}.json" &&
		mv "outbox/tmp/${t% *}.json" "outbox/new/${t% *}.json" && echo "${t% *}"; done`
	scriptPlaced = `while read -r t; do
		{ printf '{"conversation":"%s",' "$CONVERSATION"; printf '"content":"%s"}\n' "$t"; } >"outbox/new/$t.json" && echo "$t"; done`
	scriptText = `while read -r t; do
		printf 'Conversation: %s\n\n%s' "$CONVERSATION" "$t" >"outbox/new/$t.md" && echo "$t"; done`
	scriptShell = `while read -r t; do
		echo '{"from":"'"$AGENT"'","content":"'"$t"'"}' >>"conversations/$CONVERSATION.jsonl" && echo "$t"; done`
	scriptBad = `while read -r t; do
		echo '{"to":"Nobody","content":"'"$t"'"}' >"outbox/tmp/$t.json" && mv "outbox/tmp/$t.json" "outbox/new/$t.json" && echo "$t"; done`
	scriptRead = `while read -r t; do mv inbox/new/*.json inbox/cur/ 2>/dev/null; echo "$t"; done`
)

func registration(name string) api.Register { return api.Register{Name: name} }

func (c *crash) addWriters() {
	c.addProgram(writer{name: "http", agent: "Atlas", again: true}, c.roleOf("http", "Atlas", c.talk))
	c.addProgram(writer{name: "direct", agent: "Sage", again: true}, c.roleOf("http", "Sage", ""))
	c.addProgram(writer{name: "topic", agent: "Atlas", again: true, every: runEvery}, c.roleOf("http", "Atlas", "", envTopics+"=yes"))
	c.addProgram(writer{name: "library", agent: "Echo", again: true}, c.roleOf("library", "Echo", c.talk))
	c.addProgram(writer{name: "pair", agent: "Nova", again: true}, c.roleOf("library", "Nova", c.pair))
	c.addProgram(writer{name: "drop", agent: "Atlas", again: true, drop: true}, c.script(scriptDrop, "Atlas", c.pair))
	c.addProgram(writer{name: "placed", agent: "Sage", drop: true}, c.script(scriptPlaced, "Sage", c.talk))
	c.addProgram(writer{name: "text", agent: "Nova", drop: true}, c.script(scriptText, "Nova", c.talk))
	c.addProgram(writer{name: "shell", agent: "Sage", shell: true}, c.script(scriptShell, "Sage", c.talk))
	c.addProgram(writer{name: "bad", agent: "Echo", drop: true, bad: true}, c.script(scriptBad, "Echo", ""))
	c.addCommand(writer{name: "message", agent: "Echo", again: true}, "message", "Nova")
	c.addCommand(writer{name: "send", agent: "Nova", again: true}, "send", "--to", c.talk)
	c.readers = []*program{c.newProgram(c.script(scriptRead, "Nova", "")), c.newProgram(c.roleOf("reader", "Sage", ""))}
}

func (c *crash) newProgram(cmd func() *exec.Cmd) *program {
	p := &program{make: cmd}
	c.t.Cleanup(p.kill)
	return p
}

func (c *crash) addProgram(w writer, cmd func() *exec.Cmd) {
	p := c.newProgram(cmd)
	w.ask, w.kill, w.close, w.every = p.ask, p.kill, p.close, max(w.every, writeEvery)
	if w.name == "drop" {
		w.ask = func(token string) (string, error) { return p.ask(token + " " + tokenID(token)) }
	}
	c.add(&w)
}

func (c *crash) add(w *writer) {
	if c.options.ways == nil || slices.Contains(c.options.ways, w.name) {
		c.writers = append(c.writers, w)
	}
}

func (c *crash) roleOf(name, agent, conversation string, more ...string) func() *exec.Cmd {
	return func() *exec.Cmd {
		return role(name, c.home.Dir, append(more, envAgent+"="+agent, envConversation+"="+conversation, envTo+"=Nova", envFault+"="+c.options.libraryFault)...)
	}
}

func (c *crash) script(text, agent, conversation string) func() *exec.Cmd {
	return func() *exec.Cmd {
		cmd := exec.Command("sh", "-c", text)
		cmd.Dir = c.home.AgentDir(agent)
		cmd.Env = append(os.Environ(), "AGENT="+agent, "CONVERSATION="+conversation)
		return cmd
	}
}

// addCommand adds a writer that runs duo for each message, with a key.
func (c *crash) addCommand(w writer, args ...string) {
	run := &command{duo: duo(c.t), args: args, env: duoEnv(c.home.Dir, "DUO_AS="+w.agent)}
	c.t.Cleanup(run.kill)
	w.ask, w.kill, w.close, w.every = run.ask, run.kill, func() error { return nil }, runEvery
	c.add(&w)
}

// command runs the real program once for each message.
type command struct {
	duo  string
	args []string
	env  []string

	mu   sync.Mutex
	proc *os.Process
}

func (r *command) ask(token string) (string, error) {
	cmd := exec.Command(r.duo, append(slices.Clone(r.args), token, "--key", token, "--json")...)
	cmd.Env = r.env
	var out, failure bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failure
	leash(cmd)
	r.mu.Lock()
	err := cmd.Start()
	r.proc = cmd.Process
	r.mu.Unlock()
	if err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return "", ended(err, failure.String())
	}
	var answer struct {
		Queued  bool
		Message struct{ Seq int64 }
	}
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil || !answer.Queued && answer.Message.Seq == 0 {
		return "", fmt.Errorf("duo %s says %q: %w", strings.Join(r.args, " "), out.String(), err)
	}
	return fmt.Sprint(token, " ", answer.Message.Seq), nil
}

func (r *command) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.proc != nil {
		_ = r.proc.Kill() // it may have ended
	}
}

// The machine is to be busy, and not so busy that nothing gets done.
const (
	writeEvery = 30 * time.Millisecond
	runEvery   = 250 * time.Millisecond // where every message starts a program
	readEvery  = 50 * time.Millisecond
)

// write sends messages until ctx ends.
func (c *crash) write(ctx context.Context, w *writer) {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for n := 1; ctx.Err() == nil; n++ {
		text := fmt.Sprintf("%s-%05d", w.name, n)
		c.mu.Lock()
		c.tokens[text] = &token{way: w}
		c.mu.Unlock()
		c.send(w, text)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	if err := w.close(); err != nil && !errors.Is(err, errEnded) {
		c.fail(w.name, err)
	}
}

// send sends one message, again and again where that does no harm.
func (c *crash) send(w *writer, text string) {
	for {
		answer, err := w.ask(text)
		if err == nil {
			c.acknowledge(text, answer)
			return
		}
		if !errors.Is(err, errEnded) {
			c.fail(w.name, err)
			return
		}
		if !w.again {
			return
		}
	}
}

// acknowledge notes what a writer was told: the text, and the number where there is one.
func (c *crash) acknowledge(text, answer string) {
	said, number, _ := strings.Cut(answer, " ")
	seq, _ := strconv.ParseInt(number, 10, 64) // none is 0
	c.mu.Lock()
	defer c.mu.Unlock()
	if said != text {
		c.failures = append(c.failures, fmt.Sprintf("%q is answered with %q", text, answer))
		return
	}
	c.tokens[text].acked, c.tokens[text].seq = true, seq
}

func (c *crash) fail(who string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, fmt.Sprintf("%s failed: %v", who, err))
}

// read reads an agent's mail until ctx ends.
func (c *crash) read(ctx context.Context, p *program) {
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if _, err := p.ask("read"); err != nil && !errors.Is(err, errEnded) {
			c.fail("a reader", err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	if err := p.close(); err != nil && !errors.Is(err, errEnded) {
		c.fail("a reader", err)
	}
}

// stream is Echo with a live connection, and again with a new one when it breaks.
func (c *crash) stream(ctx context.Context) {
	for ctx.Err() == nil {
		c.streamOnce(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

func (c *crash) streamOnce(ctx context.Context) {
	s, err := c.client("Echo").Stream(ctx, api.StreamRequest{})
	if err != nil {
		return // there is no daemon now
	}
	defer s.Close()
	for {
		m, err := s.Next(ctx)
		if err != nil {
			return
		}
		e := m.Envelope
		if err := s.Confirm(api.Place{Conversation: e.Conversation, Seq: e.Seq}, api.Seen); err != nil {
			return
		}
		c.mu.Lock()
		c.streamed[mailbox.ItemOf(e.Conversation, e.Seq, e.Timestamp).Name] = true
		c.mu.Unlock()
	}
}

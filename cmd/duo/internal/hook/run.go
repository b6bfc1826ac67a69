package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/session"
)

const (
	patience = 2 * time.Second     // for a client that keeps standard input open
	keptFor  = 30 * 24 * time.Hour // bindings of sessions that are gone
)

// Self is who a session is that is not bound yet.
type Self struct {
	Agent  string   // empty where nothing says who it is
	Only   bool     // nothing says it but that there is no other agent
	Agents []string // some of those that live here, where nothing says who it is
	Wrong  string   // DUO_AS or .duo.toml, where that names an agent that is not here
}

// Host is what a hook needs of what is around it.
type Host struct {
	Env  func(string) string
	In   io.Reader
	Out  io.Writer
	Err  io.Writer
	Now  func() time.Time
	Open func() (*maildir.Home, error)
	// Who finds out who a session in a working folder is, without its binding.
	Who func(home *maildir.Home, folder string) (Self, error)
	// Here tells the daemon, if there is one, that an agent is there.
	Here func(ctx context.Context, home *maildir.Home, agent string)
	// Pause waits while nothing has changed, until ctx ends.
	Pause func(ctx context.Context, d time.Duration)
}

// Run is what a client does at an event. It returns the exit code: 2 where it wakes a
// session, else 0, whatever has gone wrong. What that was goes into the file DUO_HOOK_LOG.
func Run(ctx context.Context, h Host, client, event string) (exit int) {
	started := h.Now()
	var told answer
	var err error
	defer func() {
		if p := recover(); p != nil {
			err, exit = fmt.Errorf("panic: %v", p), 0
		}
		h.log(started, client, event, told, err)
	}()
	told, err = h.run(ctx, client, event)
	if err != nil {
		return 0
	}
	return told.exit
}

// answer is what a hook has printed, and its exit code.
type answer struct {
	out, err []byte
	exit     int
}

// print prints what the client, and with it the model, is told.
func (h Host) print(a answer) error {
	for _, to := range []struct {
		io.Writer
		text []byte
	}{{h.Out, a.out}, {h.Err, a.err}} {
		if len(to.text) == 0 {
			continue
		}
		if _, err := to.Write(to.text); err != nil {
			return fmt.Errorf("tell the client: %w", err)
		}
	}
	return nil
}

func (h Host) run(ctx context.Context, client, name string) (answer, error) {
	c := clients[client]
	e, ok := c.events[name]
	if !ok {
		return answer{}, fmt.Errorf("client %q has no event %q", client, name)
	}
	switch {
	case client == "claude" && h.Env("CURSOR_VERSION") != "":
		return answer{}, nil // Cursor runs the hooks of Claude Code too, and has its own
	case h.Env("DUO_HOPS") != "":
		return answer{}, nil // below duo attend, which gives the model its messages itself
	}
	in, err := Parse(readInput(h.In))
	if err != nil || in.SubAgent {
		return answer{}, err
	}
	home, err := h.Open()
	if errors.Is(err, maildir.ErrNoHome) {
		told := answer{out: e.render(e.unbound(c.name, Self{}), "")}
		return told, h.print(told)
	}
	if err != nil {
		return answer{}, err
	}
	at := hooked{Host: h, home: home, key: session.Key{Client: c.name, ID: in.Session}, event: e, in: in}
	switch e.kind {
	case wakes:
		return at.wake(ctx)
	case ends:
		return answer{}, at.end()
	}
	return at.tell()
}

// readInput reads one JSON value, however long the client keeps standard input open. A
// client that writes more than that is let write it.
func readInput(in io.Reader) []byte {
	done := make(chan []byte, 1)
	go func() { // ends with the input, or with the process
		var all bytes.Buffer
		var value json.RawMessage
		err := json.NewDecoder(io.TeeReader(io.LimitReader(in, maxInput), &all)).Decode(&value)
		if err != nil {
			value = all.Bytes()
		}
		if err != nil && all.Len() == maxInput {
			_, _ = io.Copy(io.Discard, in) // whatever it is
		}
		done <- value
	}()
	select {
	case value := <-done:
		return value
	case <-time.After(patience):
		return nil
	}
}

// hooked is one event of one session.
type hooked struct {
	Host
	home  *maildir.Home
	key   session.Key
	event event
	in    Input
}

// tell binds the session where it is not, and tells what there is to tell.
func (h *hooked) tell() (answer, error) {
	agent, self, err := h.agent()
	if err != nil {
		return answer{}, err
	}
	if agent == "" {
		told := answer{out: h.event.render(h.event.unbound(h.key.Client, self), "")}
		return told, h.print(told)
	}
	var told answer
	err = session.UpdateTelling(h.home, h.key, func(b *session.Binding) error {
		h.bind(b, agent)
		text, err := h.decide(b)
		told.out = h.event.render(text, agent)
		return err
	}, func() error { return h.print(told) })
	if err == nil && h.event.kind == starts {
		err = errors.Join(h.export(agent), session.Tidy(h.home, h.Now().Add(-keptFor)))
	}
	return told, err
}

// agent is who the session is: who it is bound to, else who it must be. An agent that is
// there only once, and is another session already, is not taken.
func (h *hooked) agent() (string, Self, error) {
	b, err := session.Read(h.home, h.key)
	if err != nil {
		return "", Self{}, err
	}
	if b != nil && h.registered(b.Agent) {
		return b.Agent, Self{}, nil
	}
	self, err := h.Who(h.home, h.in.Folder)
	if err != nil || self.Agent == "" || !self.Only {
		return self.Agent, self, err
	}
	others, err := session.Live(h.home, self.Agent)
	if err != nil {
		return "", self, err
	}
	mine := session.Client()
	for _, other := range others {
		if other.Process != mine {
			return "", Self{Agents: []string{self.Agent}}, nil
		}
	}
	return self.Agent, self, nil
}

func (h *hooked) registered(agent string) bool {
	c, err := card.Read(h.home.AgentDir(agent))
	if errors.Is(err, os.ErrNotExist) {
		_, err = os.Stat(h.home.AgentDir(agent)) // the daemon writes its card
	}
	return err == nil && !c.Unregistered
}

func (h *hooked) bind(b *session.Binding, agent string) {
	if !strings.EqualFold(b.Agent, agent) {
		*b = session.Binding{Key: h.key, Agent: agent}
	}
	if b.BoundAt == 0 || h.event.kind == starts || !b.Lives() {
		b.BoundAt, b.Process = h.Now().UnixMilli(), session.Client()
	}
	if h.event.kind == starts {
		b.As = agent
	}
}

// decide does what an occasion says. The caller has the session locked.
func (h *hooked) decide(b *session.Binding) (string, error) {
	o, err := h.occasion(b)
	if err != nil {
		return "", err
	}
	in := openInbox(h.home, b.Agent)
	for _, name := range o.Shown() {
		if _, err := in.box.MarkSeen(name); err != nil {
			return "", err
		}
	}
	told := o.told()
	all, err := in.waits(func(i Item) bool { return o.event.kind != starts && told(i) })
	if err != nil {
		return "", err
	}
	wanted := o.Wanted(all)
	mine, err := h.take(b, wanted)
	if err != nil {
		return "", err
	}
	d := o.Decide(all, mine, len(wanted)-len(mine))
	*b = d.Binding
	return d.Text, nil
}

func (h *hooked) occasion(b *session.Binding) (Occasion, error) {
	o := Occasion{event: h.event, Input: h.in, Address: h.home.Address(b.Agent), Binding: *b, Now: h.Now()}
	if h.event.kind == starts {
		live, err := session.Live(h.home, b.Agent)
		if err != nil {
			return o, err
		}
		for _, other := range live {
			if other.Key != h.key {
				o.Others++
			}
		}
	}
	return o, nil
}

// take returns those items that are the session's to act on.
func (h *hooked) take(b *session.Binding, items []Item) ([]Item, error) {
	if len(items) == 0 {
		return nil, nil
	}
	taken, err := session.OpenBook(h.home, b.Agent).Take(b.Holder(), names(items))
	if err != nil {
		return nil, err
	}
	var mine []Item
	for _, item := range items { // both are in the same order
		if len(taken) > 0 && taken[0] == item.Name {
			mine, taken = append(mine, item), taken[1:]
		}
	}
	return mine, nil
}

func names(items []Item) []string {
	list := make([]string, len(items))
	for i, item := range items {
		list[i] = item.Name
	}
	return list
}

// end gives back what the session has, and leaves its binding for when it is resumed.
func (h *hooked) end() error {
	bound, err := session.Read(h.home, h.key)
	if err != nil || bound == nil {
		return err
	}
	return session.Update(h.home, h.key, func(b *session.Binding) error {
		o, err := h.occasion(b)
		if err != nil {
			return err
		}
		in := openInbox(h.home, b.Agent)
		for _, name := range o.Shown() {
			if _, err := in.box.MarkSeen(name); err != nil {
				return err
			}
		}
		if err := session.OpenBook(h.home, b.Agent).Leave(b.Holder()); err != nil {
			return err
		}
		b.Process, b.Waiter = session.Process{}, session.Process{}
		b.State, b.Told, b.ToldAt = "", nil, 0
		return nil
	})
}

// export makes the commands that the session runs act as the agent, with clients that
// have a file for that.
func (h *hooked) export(agent string) error {
	for _, variable := range []string{"CLAUDE_ENV_FILE", "CODEX_ENV_FILE"} {
		path := h.Env(variable)
		if path == "" {
			continue
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return fmt.Errorf("tell the session's commands: %w", err)
		}
		_, err = fmt.Fprintf(f, "export DUO_AS='%s'\n", strings.ReplaceAll(agent, "'", `'\''`))
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("tell the session's commands: %w", err)
		}
	}
	return nil
}

// unbound says at the start of a session that is no agent how it becomes one. Where its
// commands do not know the session that they run in, registering does not bind it.
func (e event) unbound(client string, self Self) string {
	if e.kind != starts {
		return ""
	}
	become := "`duo register NAME` makes it one"
	if client != session.Claude && client != session.Codex {
		become = "`duo register NAME`, and a file .duo.toml with agent = \"NAME\" in its folder, make it one"
	}
	agents := self.Agents
	switch {
	case self.Wrong != "" && len(agents) > 0:
		return fmt.Sprintf("duo: this session is no agent yet: %s names none of those here, which are %s. %s.", self.Wrong, strings.Join(agents, ", "), become)
	case len(agents) == 0:
		return "duo: this session is no agent yet. After `duo register NAME` other agents can find it, call it and write to it."
	case len(agents) == 1:
		return fmt.Sprintf("duo: this session is no agent yet; %s, the only one here, is another session. %s.", agents[0], become)
	}
	return fmt.Sprintf("duo: this session is no agent yet; here are %s. %s.", strings.Join(agents, ", "), become)
}

// log notes what a hook did in the file DUO_HOOK_LOG, without what it has told.
func (h Host) log(started time.Time, client, event string, told answer, err error) {
	path := h.Env("DUO_HOOK_LOG")
	if path == "" {
		return
	}
	f, openErr := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if openErr != nil {
		return // there is nobody to tell it to
	}
	defer f.Close()
	took := h.Now().Sub(started).Round(time.Microsecond)
	fmt.Fprintf(f, "%s %q %q took %s, %d bytes, exit %d", started.UTC().Format(time.RFC3339), client, event, took, len(told.out)+len(told.err), told.exit)
	if err != nil {
		fmt.Fprintf(f, ": %q", err.Error())
	}
	fmt.Fprintln(f)
}

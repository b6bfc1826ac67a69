package hook_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/cmd/duo/internal/hook"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scene is a home with Atlas, whose inbox is filled by hand, and a clock.
type scene struct {
	t     testing.TB
	home  *maildir.Home
	env   map[string]string
	who   hook.Self
	lines map[string]int64 // of the conversations

	mu   sync.Mutex
	time time.Time
	here int // signs of life
}

func newScene(t testing.TB) *scene {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "home")
	must(t, os.MkdirAll(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte("host.name = \"nyc\"\n"), 0o600))
	home, err := maildir.Init(dir)
	must(t, err)
	s := &scene{t: t, home: home, time: noon, env: make(map[string]string), who: hook.Self{Agent: "Atlas"}, lines: make(map[string]int64)}
	s.register("Atlas")
	return s
}

func (s *scene) register(name string) {
	s.t.Helper()
	_, err := mailbox.Open(s.home.AgentDir(name))
	must(s.t, err)
	must(s.t, card.Card{ID: envelope.NewID(), Name: name}.Write(s.home.AgentDir(name)))
}

func (s *scene) box() *mailbox.Box { return mailbox.At(s.home.AgentDir("Atlas")) }

// allow lets hooks show Atlas the texts of an agent.
func (s *scene) allow(address string) {
	s.t.Helper()
	must(s.t, card.Contacts{Allow: []string{address}}.Write(s.home.AgentDir("Atlas")))
}

func address(text string) envelope.Address {
	a, err := envelope.ParseAddress(text)
	if err != nil {
		panic(err)
	}
	return a
}

func id(n int) string { return fmt.Sprintf("7c1e0d52-91aa-8b7c-9c1d-5e6f7081%04x", n) }

// converse makes a conversation of Atlas and others.
func (s *scene) converse(n int, topic string, others ...string) string {
	s.t.Helper()
	people := []envelope.Address{s.home.Address("Atlas")}
	for _, o := range others {
		people = append(people, address(o))
	}
	create := &envelope.Envelope{
		ID: id(n), Type: envelope.System, Event: envelope.EventCreate, From: people[1], Conversation: id(n),
		Topic: topic, Mode: "async", Participants: people, Origin: s.home.Host.ID,
	}
	must(s.t, convlog.Create(s.home.LogPath(id(n)), []*envelope.Envelope{create}, s.now()))
	s.lines[id(n)] = 1
	return id(n)
}

// deliver puts an envelope into the inbox as the next line of a conversation, and returns
// the name of its file.
func (s *scene) deliver(conversation string, e envelope.Envelope) string {
	s.t.Helper()
	s.lines[conversation]++
	e.ID, e.Conversation, e.Seq = id(0xf000+int(s.lines[conversation])), conversation, s.lines[conversation]
	e.Timestamp = s.now().UnixMilli() + e.Seq
	if e.Type == "" {
		e.Type = envelope.Message
	}
	item := mailbox.ItemOf(conversation, e.Seq, e.Timestamp)
	_, err := s.box().Deliver(item, e.Append(nil))
	must(s.t, err)
	return item.Name
}

func (s *scene) say(conversation, from, content string) string {
	s.t.Helper()
	return s.deliver(conversation, envelope.Envelope{From: address(from), Content: content})
}

// ring puts what is told of a call into the inbox.
func (s *scene) ring(n int, e envelope.Envelope) string {
	s.t.Helper()
	e.ID, e.Request, e.Timestamp = id(n), id(n), s.now().UnixMilli()
	signal := mailbox.SignalOf(id(n), s.now().UnixMilli())
	_, err := s.box().PutSignal(signal, e.Append(nil), true)
	must(s.t, err)
	return signal.Name
}

func (s *scene) call(n int, from, topic, status string) string {
	s.t.Helper()
	return s.ring(n, envelope.Envelope{Type: envelope.Call, From: address(from), To: []string{"Atlas@nyc"}, Topic: topic, Status: status})
}

func (s *scene) host(stdin string, out, err io.Writer) hook.Host {
	return hook.Host{
		Env: func(name string) string { return s.env[name] }, In: strings.NewReader(stdin), Out: out, Err: err,
		Now:  s.now,
		Open: func() (*maildir.Home, error) { return maildir.Open(s.home.Dir) },
		Who:  func(*maildir.Home, string) (hook.Self, error) { return s.who, nil },
		Here: func(context.Context, *maildir.Home, string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.here++
		},
		Pause: func(ctx context.Context, d time.Duration) {
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
		},
	}
}

// run runs a hook, and returns what it prints on both outputs, and its exit code.
func (s *scene) run(client, event, stdin string) (stdout, stderr string, exit int) {
	s.t.Helper()
	var out, err bytes.Buffer
	exit = hook.Run(s.t.Context(), s.host(stdin, &out, &err), client, event)
	return out.String(), err.String(), exit
}

// tells runs a hook of Claude Code in a session, and returns what the model is told.
func (s *scene) tells(session, event string, fields ...string) string {
	s.t.Helper()
	out, stderr, exit := s.run("claude", event, input(session, fields...))
	if stderr != "" || exit != 0 {
		s.t.Errorf("%s: got %q and exit code %d, want nothing and 0", event, stderr, exit)
	}
	if out == "" {
		return ""
	}
	return contextOf(s.t, out)
}

// input is what a client says, with more fields.
func input(session string, fields ...string) string {
	return fmt.Sprintf(`{"session_id":%q%s}`, session, strings.Join(append([]string{""}, fields...), ","))
}

func (s *scene) later(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.time = s.time.Add(d)
}

func (s *scene) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.time
}

// signs counts the signs of life so far.
func (s *scene) signs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.here
}

func (s *scene) wantUnseen(names ...string) {
	s.t.Helper()
	var got []string
	items, err := s.box().Unseen()
	must(s.t, err)
	for _, i := range items {
		got = append(got, i.Name)
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		s.t.Errorf("unseen: got %q, want %q", got, names)
	}
}

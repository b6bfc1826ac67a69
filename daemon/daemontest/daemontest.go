// Package daemontest runs real hosts for tests: a home in a temporary folder with a
// daemon in this process, reached through its real socket and its real files.
package daemontest

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon"
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Patience is how long Eventually waits before a test fails, on a machine that has much
// else to do.
const Patience = time.Minute

// Host is a host under test.
type Host struct {
	Dir  string
	Opts convlog.Options // of the logs, for the next Start
	t    testing.TB
	stop context.CancelFunc
	done chan error
}

// New makes a host with agents of these names and starts its daemon, which listens on
// its socket alone.
func New(t testing.TB, agents ...string) *Host {
	t.Helper()
	return NewWith(t, "http.listen = 'off'", agents...)
}

// NewWith is New with a config.toml.
func NewWith(t testing.TB, config string, agents ...string) *Host {
	t.Helper()
	h := &Host{Dir: filepath.Join(t.TempDir(), "home"), t: t}
	err := os.Mkdir(h.Dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(h.Dir, "config.toml"), []byte(config), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.Start()
	for _, name := range agents {
		h.Register(name)
	}
	return h
}

// At starts the daemon of a home that is there already.
func At(t testing.TB, dir string) *Host {
	t.Helper()
	h := &Host{Dir: dir, t: t}
	h.Start()
	return h
}

// Start starts the daemon, and stops it when the test ends.
func (h *Host) Start() {
	h.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready := make(chan struct{})
	h.stop, h.done = stop, make(chan error, 1)
	go func() {
		h.done <- daemon.Run(ctx, daemon.Options{Dir: h.Dir, Logger: Logger(h.t), Log: h.Opts, Ready: sync.OnceFunc(func() { close(ready) })})
	}()
	select {
	case <-ready:
	case err := <-h.done:
		h.stop = nil // there is nothing to wait for
		h.t.Fatalf("daemon does not start: %v", err)
	}
	h.t.Cleanup(h.Stop)
}

// Stop stops the daemon in order and waits for its end. It may be called twice.
func (h *Host) Stop() {
	h.t.Helper()
	if h.stop == nil {
		return
	}
	h.stop()
	if err := <-h.done; err != nil {
		h.t.Errorf("daemon ends with %v", err)
	}
	h.stop = nil
}

// Home opens the home.
func (h *Host) Home() *maildir.Home {
	h.t.Helper()
	home, err := maildir.Open(h.Dir)
	if err != nil {
		h.t.Fatal(err)
	}
	return home
}

// As returns a client that speaks for an agent.
func (h *Host) As(agent string) *client.Client { return client.New(h.Home().SocketPath(), agent) }

// Box is the folder of an agent.
func (h *Host) Box(agent string) *mailbox.Box { return mailbox.At(h.Home().AgentDir(agent)) }

// Register makes an agent.
func (h *Host) Register(name string) {
	h.t.Helper()
	if _, err := h.As("").Register(context.Background(), api.Register{Name: name}); err != nil {
		h.t.Fatalf("register %q: %v", name, err)
	}
}

// Post posts a draft for an agent and fails the test where it is refused.
func (h *Host) Post(agent string, draft *envelope.Envelope) api.Posted {
	h.t.Helper()
	if draft.Type == "" {
		draft.Type = envelope.Message
	}
	posted, err := h.As(agent).Post(context.Background(), draft)
	if err != nil {
		h.t.Fatalf("%s posts %s: %v", agent, draft.Append(nil), err)
	}
	return posted
}

// Upload stores a file that messages of an agent can mention.
func (h *Host) Upload(agent, name, content string) envelope.Attachment {
	h.t.Helper()
	a, err := h.As(agent).Upload(context.Background(), name, "", strings.NewReader(content), int64(len(content)))
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// Drop writes a file into an agent's outbox as programs should: in tmp, then renamed.
func (h *Host) Drop(agent, name, content string) {
	h.t.Helper()
	dir := h.Home().AgentDir(agent)
	temp := filepath.Join(dir, mailbox.OutboxTmp, name)
	if err := os.WriteFile(temp, []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(dir, mailbox.OutboxNew, name)); err != nil {
		h.t.Fatal(err)
	}
}

// Log reads the valid lines of a conversation's log from its file.
func (h *Host) Log(id string) []*envelope.Envelope {
	h.t.Helper()
	r, err := convlog.OpenReader(h.Home().LogPath(id))
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Close()
	var lines []*envelope.Envelope
	scan := r.Scan(convlog.Pos{})
	for scan.Next() {
		if scan.Line().Noise() {
			continue
		}
		e, err := envelope.Decode(scan.Line().Bytes)
		if err != nil {
			h.t.Fatalf("line %d of %q: %v", scan.Line().Seq, id, err)
		}
		lines = append(lines, e)
	}
	if scan.Err() != nil {
		h.t.Fatalf("log %q: %v", id, scan.Err())
	}
	return lines
}

// AppendTo writes to the end of a log as a shell would.
func AppendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually waits until a condition holds, and fails the test with what it says when
// it does not come to hold.
func Eventually(t testing.TB, condition func() (ok bool, state string)) {
	t.Helper()
	deadline := time.After(Patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, state := condition()
		if ok {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("it does not happen within %s: %s", Patience, state)
		case <-tick.C:
		}
	}
}

// JSON is the JSON form of a value, for messages of tests.
func JSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Logger writes to the test's log, until the test ends.
func Logger(t testing.TB) *slog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t = nil
	})
	return slog.New(slog.NewTextHandler(w, nil))
}

type testWriter struct {
	mu sync.Mutex
	t  testing.TB
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(string(p[:max(0, len(p)-1)]))
	}
	return len(p), nil
}

package copies_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/copies"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
)

// tb is what a test and a check of rapid have in common.
type tb interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// host is a ledger with the service, as a daemon has them.
type host struct {
	tb
	home    *maildir.Home
	index   *index.Index
	ledger  *ledger.Ledger
	service *copies.Service
	key     ed25519.PrivateKey

	mu     sync.Mutex
	keys   map[string]ed25519.PublicKey // by id of the host
	cuts   []*envelope.Envelope         // by agents of this host
	gaps   int                          // that were told to the log
	syncs  int
	fail   error         // of syncs
	gate   chan struct{} // each sync waits for it, where there is one
	copied []int64
	check  func(string, conv.State, []ledger.Stored) error
}

func newHost(t tb, dir, name string) *host {
	t.Helper()
	dir = filepath.Join(dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatalf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte("[host]\nname = \""+name+"\"\n"), 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	home, err := maildir.Init(dir)
	if err != nil {
		t.Fatalf("%v", err)
	}
	h := &host{tb: t, home: home, keys: make(map[string]ed25519.PublicKey)}
	if h.key, err = maildir.ReadKey(home.KeyPath()); err != nil {
		t.Fatalf("%v", err)
	}
	h.know(h)
	h.open()
	return h
}

// know makes a host trust another one.
func (h *host) know(other *host) {
	h.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys[other.home.Host.ID] = other.key.Public().(ed25519.PublicKey)
	if err := os.MkdirAll(h.home.PeerDir(other.home.Host.Name), 0o700); err != nil {
		h.Fatalf("%v", err)
	}
}

func (h *host) signed(host string, message []byte, signature string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	key, ok := h.keys[host]
	sig, err := base64.StdEncoding.Strict().DecodeString(signature)
	return err == nil && ok && ed25519.Verify(key, message, sig)
}

// acquaint makes two hosts trust each other.
func acquaint(a, b *host) {
	a.know(b)
	b.know(a)
}

// Committed and Raw make the host the follower of its ledger.
func (h *host) Committed(id string, _ int64, present []envelope.Address) {
	h.service.Committed(id, present)
}
func (h *host) Raw(string) {}

func (h *host) open() {
	h.Helper()
	var err error
	if h.index, err = index.OpenMemory(); err != nil {
		h.Fatalf("%v", err)
	}
	h.ledger, err = ledger.Open(h.home, h.index, h, ledger.Options{Log: convlog.Options{Sync: h.sync}})
	if err != nil {
		h.Fatalf("%v", err)
	}
	h.service = copies.New(copies.Parts{
		Home: h.home, Ledger: h.ledger, Logger: slog.New(gapCounter{slog.DiscardHandler, h}),
		Check: func(_, id string, state conv.State, lines []ledger.Stored) error {
			h.mu.Lock()
			check := h.check
			h.mu.Unlock()
			if check == nil {
				return nil
			}
			return check(id, state, lines)
		},
		Copied: func(_, _ string, lines []ledger.Stored) {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, l := range lines {
				h.copied = append(h.copied, l.Envelope.Seq)
			}
		},
		Sign:   func(message []byte) []byte { return ed25519.Sign(h.key, message) },
		Signed: h.signed,
		Cut: func(_ context.Context, _, _ string, _ int64, lines []*envelope.Envelope) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.cuts = append(h.cuts, lines...)
			return nil
		},
	})
	ids, err := h.home.Conversations()
	if err != nil {
		h.Fatalf("%v", err)
	}
	for _, id := range ids {
		h.service.Recover(context.Background(), id)
	}
}

// gapCounter is a log in which missing lines are counted.
type gapCounter struct {
	slog.Handler
	*host
}

func (g gapCounter) Enabled(context.Context, slog.Level) bool { return true }

func (g gapCounter) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "lines are missing" {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.gaps++
	}
	return nil
}

func (h *host) sync(*os.File) error {
	h.mu.Lock()
	h.syncs++
	err, gate := h.fail, h.gate
	h.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return err
}

// hold makes syncs take until the test lets them go on.
func (h *host) hold() (goOn func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	gate := make(chan struct{})
	h.gate = gate
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		close(gate)
		h.gate = nil
	}
}

func (h *host) failSyncs(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = err
}

func (h *host) close() {
	h.ledger.Close()
	if err := h.index.Close(); err != nil {
		h.Errorf("%v", err)
	}
}

// restart is a restart of the daemon, with something done to the files in between. Its
// links are cut before.
func (h *host) restart(between ...func()) {
	h.Helper()
	h.close()
	for _, f := range between {
		f()
	}
	h.open()
}

func (h *host) side() peertest.Side {
	return peertest.Side{ID: h.home.Host.ID, Name: h.home.Host.Name, Services: []peer.Service{h.service}}
}

func (h *host) address(name string) envelope.Address { return h.home.Address(name) }

// create makes a conversation of agents, the first of whom is of this host.
func (h *host) create(topic string, who ...envelope.Address) string {
	h.Helper()
	e := creation(h.home, topic, who...)
	if _, err := h.ledger.Create(context.Background(), []*envelope.Envelope{e}); err != nil {
		h.Fatalf("create: %v", err)
	}
	return e.Conversation
}

func creation(home *maildir.Home, topic string, who ...envelope.Address) *envelope.Envelope {
	id := envelope.NamedID("test", topic)
	return &envelope.Envelope{
		ID: id, Type: envelope.System, Event: envelope.EventCreate, From: who[0], Topic: topic, Open: true,
		Origin: home.Host.ID, Conversation: envelope.ConversationID(home.Host.ID, id), Participants: who,
	}
}

func (h *host) add(e *envelope.Envelope) {
	h.Helper()
	if _, _, err := h.ledger.Append(ledger.Line{Envelope: e}); err != nil {
		h.Fatalf("append: %v", err)
	}
}

func (h *host) say(id string, from envelope.Address, content string) {
	h.Helper()
	h.add(&envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, Conversation: id, From: from, Content: content})
}

// fill appends many messages at once, behind the back of the ledger.
func (h *host) fill(id string, from envelope.Address, n, size int) {
	h.Helper()
	l, err := convlog.Open(h.home.LogPath(id), convlog.Tail{}, nil, convlog.Options{Sync: func(*os.File) error { return nil }})
	if err != nil {
		h.Fatalf("%v", err)
	}
	defer l.Close()
	err = l.Update(context.Background(), func(tx *convlog.Tx) error {
		for i := range n {
			content := fmt.Sprintf("%0*d", size, i)
			if err := tx.Add(&envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, Conversation: id, From: from, Content: content}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.Fatalf("%v", err)
	}
	if err := h.ledger.Refresh(context.Background(), id); err != nil {
		h.Fatalf("%v", err)
	}
}

func (h *host) join(id string, who envelope.Address) {
	h.Helper()
	h.add(&envelope.Envelope{ID: envelope.NewID(), Type: envelope.Join, Conversation: id, From: who})
}

func (h *host) leave(id string, who envelope.Address) {
	h.Helper()
	h.add(&envelope.Envelope{ID: envelope.NewID(), Type: envelope.Leave, Conversation: id, From: who})
}

// shell appends text as echo does.
func (h *host) shell(id, text string) {
	h.Helper()
	f, err := os.OpenFile(h.home.LogPath(id), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		h.Fatalf("%v", err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		h.Fatalf("%v", err)
	}
}

// lines reads the valid lines of a log from its file; of none there are none.
func (h *host) lines(id string) (lines [][]byte) {
	h.Helper()
	data, err := os.ReadFile(h.home.LogPath(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.Fatalf("%v", err)
	}
	scan := convlog.NewScanner(bytes.NewReader(data), convlog.Pos{}, -1)
	for scan.Next() {
		if !scan.Line().Noise() {
			lines = append(lines, bytes.Clone(scan.Line().Bytes))
		}
	}
	if scan.Err() != nil {
		h.Fatalf("%v", scan.Err())
	}
	return lines
}

func (h *host) problems(with *host) []copies.Problem { return h.service.Problems(with.home.Host.ID) }

// wantCopy checks that the replica has the first lines of the origin, and no others.
func (h *host) wantCopy(origin *host, id string, lines int) {
	h.Helper()
	want := origin.lines(id)[:lines]
	if got := h.lines(id); !slices.EqualFunc(got, want, bytes.Equal) {
		h.Errorf("replica on %s: got %d lines, want the first %d of its origin", h.home.Host.Name, len(got), lines)
	}
}

func (h *host) wantNoProblems(with *host) {
	h.Helper()
	if got := h.problems(with); len(got) > 0 {
		h.Errorf("%s: got problems %+v, want none", h.home.Host.Name, got)
	}
}

// wantFork checks that a host knows of one fork, and where.
func (h *host) wantFork(with *host, id string, seq int64) {
	h.Helper()
	got := h.problems(with)
	if len(got) != 1 || got[0].Conversation != id || !got[0].Fork || got[0].Seq != seq {
		h.Errorf("%s: got problems %+v, want a fork at line %d", h.home.Host.Name, got, seq)
	}
}

// bubble runs a test with two hosts under synctest.
func bubble(t *testing.T, test func(t *testing.T, nyc, lon *host)) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		nyc, lon := newHost(t, dir, "nyc"), newHost(t, dir, "lon")
		t.Cleanup(func() {
			nyc.close()
			lon.close()
			time.Sleep(2 * time.Second) // the index looks each second whether it is closed
		})
		test(t, nyc, lon)
	})
}

func connect(t *testing.T, a, b *host) *peertest.Link {
	t.Helper()
	acquaint(a, b)
	l, _, _ := peertest.Connect(t, a.side(), b.side())
	synctest.Wait()
	return l
}

// cutting links two hosts, and cuts the link when b has read some bytes.
func cutting(t *testing.T, a, b *host, bytes int) {
	t.Helper()
	acquaint(a, b)
	one, other := a.side(), b.side()
	one.Wrap = shortened(bytes)
	l, _, _ := peertest.Connect(t, one, other)
	synctest.Wait()
	l.Cut()
}

// shortened makes a connection break after some bytes that are written to it.
func shortened(bytes int) func(net.Conn) net.Conn {
	return func(c net.Conn) net.Conn { return &shortConn{Conn: c, left: bytes} }
}

// shortConn breaks after some bytes that are written to it.
type shortConn struct {
	net.Conn
	left int
}

func (c *shortConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p[:min(c.left, len(p))])
	c.left -= n
	if err == nil && n < len(p) {
		err = errors.Join(io.ErrClosedPipe, c.Close())
	}
	return n, err
}

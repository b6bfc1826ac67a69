package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// books is a ledger under test, with what its follower was told and with a say in how
// lines are made durable.
type books struct {
	*ledger.Ledger
	t    *testing.T
	home *maildir.Home
	opts ledger.Options

	index  *index.Index
	closed bool
	disk   disk
	told   told
}

// disk counts syncs, and holds or fails them where the test says so.
type disk struct {
	mu    sync.Mutex
	syncs int
	fail  error
	gate  chan struct{} // each sync waits for it, where there is one
}

func (d *disk) sync(*os.File) error {
	d.mu.Lock()
	d.syncs++
	gate, err := d.gate, d.fail
	d.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return err
}

func (d *disk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}

func (d *disk) set(fail error, gate chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail, d.gate = fail, gate
}

// told is the follower.
type told struct {
	mu        sync.Mutex
	committed map[string]int
	raw       map[string]int
	present   map[string][]envelope.Address // as of the last Committed
}

func (f *told) Committed(id string, _ int64, present []envelope.Address) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.committed[id]++
	f.present[id] = present
}

func (f *told) Raw(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.raw[id]++
}

func (f *told) of(id string) (committed, raw int, present []envelope.Address) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.committed[id], f.raw[id], f.present[id]
}

// newBooks opens a ledger on a new home.
func newBooks(t *testing.T, opts ledger.Options) *books {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	b := &books{t: t, home: home, opts: opts}
	b.open()
	t.Cleanup(b.close)
	return b
}

func (b *books) open() {
	b.t.Helper()
	var err error
	if b.index, _, err = index.Open(b.home.IndexPath()); err != nil {
		b.t.Fatal(err)
	}
	b.told = told{committed: make(map[string]int), raw: make(map[string]int), present: make(map[string][]envelope.Address)}
	opts := b.opts
	opts.Log.Sync = b.disk.sync
	if b.Ledger, err = ledger.Open(b.home, b.index, &b.told, opts); err != nil {
		b.t.Fatal(err)
	}
	b.closed = false
}

func (b *books) close() {
	if b.closed {
		return
	}
	b.closed = true
	b.Close()
	if err := b.index.Close(); err != nil {
		b.t.Errorf("close index: %v", err)
	}
}

// reopen is a restart of the daemon, with something done to the files in between.
func (b *books) reopen(between ...func()) {
	b.t.Helper()
	b.close()
	for _, f := range between {
		f()
	}
	b.open()
}

func (b *books) forgetIndex() {
	if err := os.Remove(b.home.IndexPath()); err != nil {
		b.t.Fatal(err)
	}
}

// bubble runs a test under synctest.
func bubble(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(2 * time.Second) }) // the index looks each second whether it is closed
		f(t)
	})
}

func (b *books) address(name string) envelope.Address { return b.home.Address(name) }

// create makes an open conversation of Atlas and Nova.
func (b *books) create(topic string) string {
	b.t.Helper()
	e := b.first(topic)
	if existed, err := b.Create(context.Background(), []*envelope.Envelope{e}); err != nil || existed {
		b.t.Fatalf("Create(%q): got existed %v, %v", topic, existed, err)
	}
	return e.Conversation
}

func (b *books) first(topic string) *envelope.Envelope {
	id := envelope.NamedID("test", topic)
	return &envelope.Envelope{
		ID: id, Type: envelope.System, Event: envelope.EventCreate, From: b.address("Atlas"), Topic: topic, Open: true,
		Conversation: envelope.ConversationID(b.home.Host.ID, id), Participants: []envelope.Address{b.address("Atlas"), b.address("Nova")},
	}
}

func (b *books) message(id, content string) *envelope.Envelope {
	return &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, Conversation: id, From: b.address("Atlas"), Content: content}
}

// add appends a line and fails the test where that is refused.
func (b *books) add(e *envelope.Envelope) ledger.Result {
	b.t.Helper()
	result, state, err := b.Append(ledger.Line{Envelope: e})
	if err != nil {
		b.t.Fatalf("Append %q: %v", e.Content, err)
	}
	if !result.Duplicate && (result.Seq != e.Seq || state.LastSeq != e.Seq) {
		b.t.Errorf("Append %q: got %+v with last line %d, want line %d", e.Content, result, state.LastSeq, e.Seq)
	}
	return result
}

// say appends a message.
func (b *books) say(id, content string) ledger.Result {
	b.t.Helper()
	return b.add(b.message(id, content))
}

func (b *books) state(id string) conv.State {
	b.t.Helper()
	s, err := b.State(context.Background(), id)
	if err != nil {
		b.t.Fatalf("State(%s): %v", id, err)
	}
	return s
}

// foreign is another program that appends to a log, with the lock or without.
func (b *books) foreign(e *envelope.Envelope) {
	b.t.Helper()
	l, err := convlog.Open(b.home.LogPath(e.Conversation), convlog.Tail{}, nil, convlog.Options{Sync: func(*os.File) error { return nil }})
	if err != nil {
		b.t.Fatal(err)
	}
	defer l.Close()
	if err := l.Update(context.Background(), func(tx *convlog.Tx) error { return tx.Add(e) }); err != nil {
		b.t.Fatal(err)
	}
}

// shell appends text as echo does.
func (b *books) shell(id, text string) {
	f, err := os.OpenFile(b.home.LogPath(id), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		b.t.Fatal(err)
	}
}

// bytes is what the file of a log holds.
func (b *books) bytes(id string) []byte {
	b.t.Helper()
	data, err := os.ReadFile(b.home.LogPath(id))
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

func (b *books) refresh(id string) {
	b.t.Helper()
	if err := b.Refresh(context.Background(), id); err != nil {
		b.t.Fatalf("Refresh(%s): %v", id, err)
	}
}

// lines reads the valid lines of a log from its file.
func (b *books) lines(id string) []*envelope.Envelope {
	b.t.Helper()
	r, err := convlog.OpenReader(b.home.LogPath(id))
	if err != nil {
		b.t.Fatal(err)
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
			b.t.Fatalf("line %d: %v", scan.Line().Seq, err)
		}
		lines = append(lines, e)
	}
	return lines
}

// want checks the contents of the messages in a log.
func (b *books) want(id string, contents ...string) {
	b.t.Helper()
	var got []string
	for _, e := range b.lines(id) {
		if e.Type == envelope.Message {
			got = append(got, e.Content)
		}
	}
	if !slices.Equal(got, contents) {
		b.t.Errorf("log: got %q, want %q", got, contents)
	}
}

// wantAcked checks that each id that was acknowledged stands in the log, at its place
// and once.
func (b *books) wantAcked(id string, acked map[string]int64) {
	b.t.Helper()
	found := make(map[string]int64)
	for i, e := range b.lines(id) {
		if e.Seq != int64(i+1) {
			b.t.Errorf("line %d: got seq %d", i+1, e.Seq)
		}
		if other, twice := found[e.ID]; twice {
			b.t.Errorf("id %s: got lines %d and %d, want one", e.ID, other, e.Seq)
		}
		found[e.ID] = e.Seq
	}
	for id, seq := range acked {
		if found[id] != seq {
			b.t.Errorf("acknowledged %s as line %d: got it as line %d", id, seq, found[id])
		}
	}
}

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func wantResult(t *testing.T, what string, got, want ledger.Result) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

// clock is a clock that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func numbered(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(prefix, i+1)
	}
	return list
}

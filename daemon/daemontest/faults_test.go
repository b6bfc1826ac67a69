package daemontest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/fsck"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// faultyDisk makes lines durable, and fails when it is told to. As the kernel does, it
// reports each failure once, so that who asks again is told that all is well.
type faultyDisk struct {
	mu     sync.Mutex
	fails  func(path string) bool // nil for a disk that works
	failed map[*os.File]bool
	again  int // times that a file was synced after it had failed
}

func (d *faultyDisk) sync(f *os.File) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed[f] {
		d.again++
	}
	if d.fails != nil && d.fails(f.Name()) {
		d.failed[f] = true
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: syscall.EIO}
	}
	return durable.Sync(f)
}

func (d *faultyDisk) set(fails func(path string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = fails
}

// only fails for one log.
func only(path string) func(string) bool { return func(p string) bool { return p == path } }

// newFaulty is a host on a faulty disk.
func newFaulty(t *testing.T, agents ...string) (*daemontest.Host, *faultyDisk) {
	t.Helper()
	disk := &faultyDisk{failed: make(map[*os.File]bool)}
	h := daemontest.New(t, agents...)
	h.Stop()
	h.Opts.Sync = disk.sync
	h.Start()
	t.Cleanup(func() {
		disk.mu.Lock()
		defer disk.mu.Unlock()
		if disk.again > 0 {
			t.Errorf("a log was synced %d times after its sync had failed, want never", disk.again)
		}
	})
	return h, disk
}

// create begins a conversation of Atlas with others.
func create(h *daemontest.Host, topic string, with ...string) string {
	return h.Post("Atlas", &envelope.Envelope{Type: envelope.Create, Topic: topic, To: with}).Conversation.ID
}

// say is a message with an id that follows from its text, so that it can be repeated.
func say(conversation, text string) *envelope.Envelope {
	return &envelope.Envelope{ID: tokenID(text), Type: envelope.Message, Conversation: conversation, Content: text}
}

// wantStorageFailed checks that an error says that the disk failed, and that trying
// again may help.
func wantStorageFailed(t *testing.T, err error) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != api.StorageFailed || e.Exit() != api.ExitUnavailable || !e.Retryable() {
		t.Errorf("error = %v (%+v), want code %q, exit code %d, retryable", err, e, api.StorageFailed, api.ExitUnavailable)
	}
}

// wantOnce checks that texts stand in a log, each once.
func wantOnce(t *testing.T, h *daemontest.Host, conversation string, texts ...string) {
	t.Helper()
	count := make(map[string]int)
	for _, e := range h.Log(conversation) {
		count[e.Content]++
	}
	for _, text := range texts {
		if count[text] != 1 {
			t.Errorf("%q stands in the log %d times, want once", text, count[text])
		}
	}
}

// wantGiven waits until an agent has texts of a conversation in its inbox, seen or not.
func wantGiven(t *testing.T, h *daemontest.Host, agent, conversation string, texts ...string) {
	t.Helper()
	box := h.Box(agent)
	daemontest.Eventually(t, func() (bool, string) {
		missing := slices.Clone(texts)
		fresh, err := box.Unseen()
		if err != nil {
			return false, err.Error()
		}
		seen, err := box.Seen()
		if err != nil {
			return false, err.Error()
		}
		for _, item := range append(fresh, seen...) {
			if e, err := box.ReadItem(item.Name); err == nil && e.Conversation == conversation {
				missing = slices.DeleteFunc(missing, func(text string) bool { return text == e.Content })
			}
		}
		return len(missing) == 0, fmt.Sprintf("%s was not given %q", agent, missing)
	})
}

// stopSound waits until nothing waits, stops the daemon, and checks that fsck finds
// nothing to say.
func stopSound(t *testing.T, h *daemontest.Host) {
	t.Helper()
	check := func() []fsck.Finding {
		report, err := fsck.Home(h.Dir)
		if err != nil {
			t.Fatal(err)
		}
		return report.Findings
	}
	daemontest.Eventually(t, func() (bool, string) {
		for _, f := range check() {
			if f.Kind == fsck.NotGiven || f.Kind == fsck.Raw || f.Kind == fsck.WaitingDrops {
				return false, f.String()
			}
		}
		return true, ""
	})
	h.Stop()
	findings := slices.DeleteFunc(check(), func(f fsck.Finding) bool { return f.Severity == fsck.Note })
	for _, f := range findings[:min(len(findings), 5)] {
		t.Error(f)
	}
}

func numbered(word string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s %d", word, i+1)
	}
	return list
}

// postAll posts texts at once and returns the errors, in order.
func postAll(h *daemontest.Host, agent, conversation string, texts []string) []error {
	errs := make([]error, len(texts))
	c := h.As(agent)
	var all sync.WaitGroup
	for i, text := range texts {
		all.Go(func() { _, errs[i] = c.Post(context.Background(), say(conversation, text)) })
	}
	all.Wait()
	return errs
}

// TestSyncErrorFailsAllWaiters: whoever waits when the disk fails is told so, and can
// send the same again. Other conversations notice nothing.
func TestSyncErrorFailsAllWaiters(t *testing.T) {
	t.Parallel()
	h, disk := newFaulty(t, "Atlas", "Nova")
	broken, sound := create(h, "Broken", "Nova"), create(h, "Sound", "Nova")
	disk.set(only(h.Home().LogPath(broken)))

	lost, kept := numbered("lost", 20), numbered("kept", 20)
	var all sync.WaitGroup
	all.Go(func() {
		for _, err := range postAll(h, "Atlas", sound, kept) {
			if err != nil {
				t.Errorf("in the sound conversation: %v", err)
			}
		}
	})
	for range 2 { // the second time, the log was opened again and fails again
		for _, err := range postAll(h, "Atlas", broken, lost) {
			wantStorageFailed(t, err)
		}
	}
	all.Wait()

	disk.set(nil)
	for i, err := range postAll(h, "Atlas", broken, lost) {
		if err != nil {
			t.Errorf("%s, when the disk works again: %v", lost[i], err)
		}
	}
	wantOnce(t, h, broken, lost...)
	wantOnce(t, h, sound, kept...)
	wantGiven(t, h, "Nova", broken, lost...)
	wantGiven(t, h, "Nova", sound, kept...)
	stopSound(t, h)
}

// TestSyncErrorsUnderLoad: what was acknowledged between failures is where it was said
// to be.
func TestSyncErrorsUnderLoad(t *testing.T) {
	t.Parallel()
	h, disk := newFaulty(t, "Atlas", "Nova")
	id := create(h, "Load", "Nova")
	n := 0
	disk.set(func(string) bool { n++; return n%5 == 0 })

	texts := numbered("text", 120)
	told := make([]int64, len(texts))
	failures := 0
	var mu sync.Mutex
	var all sync.WaitGroup
	for worker := range 6 {
		all.Go(func() {
			c := h.As("Atlas")
			for i := worker; i < len(texts); i += 6 {
				posted, err := stubborn(func(ctx context.Context) (api.Posted, error) {
					posted, err := c.Post(ctx, say(id, texts[i]))
					if err != nil {
						mu.Lock()
						failures++
						mu.Unlock()
						wantStorageFailed(t, err)
					}
					return posted, err
				})
				if err != nil {
					t.Errorf("%s: %v", texts[i], err)
					return
				}
				told[i] = posted.Message.Envelope.Seq
			}
		})
	}
	all.Wait()
	if failures == 0 {
		t.Error("the disk never failed, so nothing was tested")
	}
	disk.set(nil)
	wantOnce(t, h, id, texts...)
	lines := h.Log(id)
	for i, seq := range told {
		if seq < 1 || seq > int64(len(lines)) || lines[seq-1].Content != texts[i] {
			t.Errorf("%s was acknowledged as line %d, which is another one", texts[i], seq)
		}
	}
	wantGiven(t, h, "Nova", id, texts...)
	stopSound(t, h)
}

// TestLogIsReadAgainAfterSyncError: what others have appended is delivered although the
// daemon's first try to read it failed, and nobody touches the log again.
func TestLogIsReadAgainAfterSyncError(t *testing.T) {
	t.Parallel()
	h, disk := newFaulty(t, "Atlas", "Nova")
	id := create(h, "Library", "Nova")
	var mu sync.Mutex
	failed := false
	disk.set(func(string) bool {
		mu.Lock()
		defer mu.Unlock()
		first := !failed
		failed = true
		return first
	})
	log, err := convlog.Open(h.Home().LogPath(id), convlog.Tail{}, nil, convlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	err = log.Update(t.Context(), func(tx *convlog.Tx) error {
		e := say(id, "from another program")
		e.From = h.Home().Address("Atlas")
		return tx.Add(e)
	})
	if err != nil {
		t.Fatal(err)
	}
	wantGiven(t, h, "Nova", id, "from another program")
	mu.Lock()
	defer mu.Unlock()
	if !failed {
		t.Error("the disk never failed, so nothing was tested")
	}
}

// TestShortWrite: the limit of a file's size tears a line for real. Its sender is told,
// other conversations go on, and the same message is stored when there is room.
func TestShortWrite(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	h := daemontest.New(t, "Atlas", "Nova")
	id, other := create(h, "Long", "Nova"), create(h, "Short", "Nova")
	h.Stop()
	d := runDaemon(t, h.Dir, role("daemon", h.Dir, fmt.Sprint(envFileSize, "=", limit)))

	text := func(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("x", 1500)) }
	var stored []string
	var err error
	for i := 0; err == nil && i < 2*limit/1500; i++ {
		if _, err = h.As("Atlas").Post(t.Context(), say(id, text(i))); err == nil {
			stored = append(stored, text(i))
		}
	}
	wantStorageFailed(t, err)
	data, err := os.ReadFile(h.Home().LogPath(id))
	if err != nil || len(data) != limit || data[limit-1] == '\n' {
		t.Fatalf("the log has %d bytes (%v), want %d and a torn line at the end", len(data), err, limit)
	}
	_, err = h.As("Atlas").Post(t.Context(), say(id, text(len(stored))))
	wantStorageFailed(t, err)
	h.Post("Atlas", say(other, "elsewhere"))
	wantGiven(t, h, "Nova", other, "elsewhere")
	wantGiven(t, h, "Nova", id, stored...)
	d.term()

	h.Start()
	stored = append(stored, text(len(stored)))
	h.Post("Atlas", say(id, stored[len(stored)-1]))
	wantOnce(t, h, id, stored...)
	wantGiven(t, h, "Nova", id, stored...)
	stopSound(t, h)
}

// TestTermUnderLoad: the daemon stops soon, whatever goes on, and everything that was
// acknowledged is there. term does the checking of the time.
func TestTermUnderLoad(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova", "Sage")
	id := create(h, "Load", "Nova", "Sage")
	h.Stop()
	d := runDaemon(t, h.Dir, role("daemon", h.Dir))

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var load sync.WaitGroup
	load.Go(func() { // a stream that confirms all it gets
		s, err := h.As("Nova").Stream(ctx, api.StreamRequest{})
		for err == nil {
			var m api.Message
			if m, err = s.Next(ctx); err == nil {
				err = s.Confirm(api.Place{Conversation: id, Seq: m.Envelope.Seq}, api.Delivered)
			}
		}
	})
	load.Go(func() { // a stream that confirms nothing
		s, err := h.As("Sage").Stream(ctx, api.StreamRequest{Own: true})
		for err == nil {
			_, err = s.Next(ctx)
		}
	})
	load.Go(func() { // a stream that never stops confirming
		s, err := h.As("Sage").Stream(ctx, api.StreamRequest{})
		for err == nil {
			err = s.Confirm(api.Place{Conversation: id, Seq: 1}, api.Delivered)
		}
	})
	load.Go(func() { // a wait that nothing ends
		_, _ = h.As("").Receipts(ctx, id, 1, api.Seen, time.Minute)
	})
	for n := range 200 {
		h.Drop("Nova", fmt.Sprintf("%d.json", n), `{"conversation":"`+id+`","content":"drop"}`)
	}
	var mu sync.Mutex
	var acked []string
	for worker := range 8 {
		load.Go(func() {
			c := h.As("Atlas")
			for n := 0; ctx.Err() == nil; n++ {
				text := fmt.Sprintf("%d of worker %d", n, worker)
				if _, err := c.Post(ctx, say(id, text)); err != nil {
					return
				}
				mu.Lock()
				acked = append(acked, text)
				mu.Unlock()
			}
		})
	}
	daemontest.Eventually(t, func() (bool, string) {
		mu.Lock()
		defer mu.Unlock()
		return len(acked) > 100, fmt.Sprintf("%d messages were sent", len(acked))
	})
	d.term()
	cancel()
	load.Wait()

	wantOnce(t, h, id, acked...)
	h.Start()
	wantGiven(t, h, "Nova", id, acked...)
	wantGiven(t, h, "Sage", id, acked...)
	daemontest.Eventually(t, func() (bool, string) {
		drops, err := h.Box("Nova").Drops()
		return err == nil && len(drops) == 0, fmt.Sprintf("%d drops wait (%v)", len(drops), err)
	})
	stopSound(t, h)
	if sent, err := os.ReadDir(h.Box("Nova").Dir() + "/" + mailbox.Sent); err != nil || len(sent) != 200 {
		t.Errorf("%d drops were sent (%v), want 200", len(sent), err)
	}
}

package ledger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
)

func TestAppend(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	for i, content := range numbered("message ", 3) {
		if r := b.say(id, content); r.Seq != int64(i+2) || r.Duplicate {
			t.Errorf("%s: got %+v, want line %d", content, r, i+2)
		}
	}
	b.want(id, numbered("message ", 3)...)
	if s := b.state(id); s.LastSeq != 4 || s.Turns != 3 || s.ID != id || s.Topic != "a" {
		t.Errorf("state: got %+v, want three messages in four lines", s)
	}
}

func TestRefusals(t *testing.T) {
	b := newBooks(t, ledger.Options{Limits: conv.Limits{Members: 2}})
	id := b.create("a")
	var refusal *conv.Refusal
	stranger := b.message(id, "hi")
	stranger.From = b.address("Sage")
	if _, _, err := b.Append(ledger.Line{Envelope: stranger}); !errors.As(err, &refusal) || refusal.Kind != conv.NotParticipant {
		t.Errorf("message of a stranger: got %v, want it refused", err)
	}
	third := &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Join, Conversation: id, From: b.address("Sage")}
	if _, _, err := b.Append(ledger.Line{Envelope: third}); !errors.As(err, &refusal) || refusal.Kind != conv.TooMany {
		t.Errorf("third of two: got %v, want it refused", err)
	}
	huge := b.message(id, "huge")
	huge.Unknown = []envelope.Field{{Name: "x", Value: []byte(`"` + strings.Repeat("x", envelope.MaxLine) + `"`)}}
	_, _, err := b.Append(ledger.Line{Envelope: huge})
	wantError(t, "a line over the limit", err, envelope.ErrInvalid)
	nowhere := b.message("7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3", "hi")
	_, _, err = b.Append(ledger.Line{Envelope: nowhere})
	wantError(t, "no such conversation", err, ledger.ErrNotFound)
	b.say(id, "after all that")
	b.want(id, "after all that")
	if s := b.state(id); s.LastSeq != 2 {
		t.Errorf("last line: got %d, want 2", s.LastSeq)
	}
}

func TestCreateAgain(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	b.say(id, "hi")
	existed, err := b.Create(context.Background(), []*envelope.Envelope{b.first("a")})
	if err != nil || !existed {
		t.Errorf("Create again: got existed %v, %v, want true", existed, err)
	}
	if got := len(b.lines(id)); got != 2 {
		t.Errorf("lines: got %d, want 2", got)
	}
	if refs := b.Refs().All(); !slices.Equal(refs, []string{id}) {
		t.Errorf("references: got %q, want %q", refs, id)
	}
}

// TestUnknownConversation: nothing is opened and nothing told.
func TestUnknownConversation(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id, ctx := "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3", context.Background()
	_, err := b.State(ctx, id)
	wantError(t, "State", err, ledger.ErrNotFound)
	wantError(t, "Refresh", b.Refresh(ctx, id), ledger.ErrNotFound)
	wantError(t, "Read", b.Read(ctx, id, func(ledger.View) error { return nil }), ledger.ErrNotFound)
	_, err = b.Raw(id)
	wantError(t, "Raw", err, ledger.ErrNotFound)
	if b.Changed(id) || len(b.OpenLogs()) > 0 {
		t.Errorf("got changed %v, open %q, want neither", b.Changed(id), b.OpenLogs())
	}
}

// TestOneSyncServesMany: what gathers while a batch is being synced is the next batch.
func TestOneSyncServesMany(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const waiters = 100
		b := newBooks(t, ledger.Options{})
		id := b.create("a")
		before := b.disk.count()
		gate := make(chan struct{})
		b.disk.set(nil, gate)
		var all sync.WaitGroup
		var mu sync.Mutex
		acked := make(map[string]int64)
		send := func(content string) {
			e := b.message(id, content)
			all.Go(func() {
				result, _, err := b.Append(ledger.Line{Envelope: e})
				mu.Lock()
				defer mu.Unlock()
				if err != nil || result.Duplicate {
					t.Errorf("Append: got %+v, %v", result, err)
				}
				acked[e.ID] = result.Seq
			})
		}
		wantAcked := func(when string, want int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(acked) != want {
				t.Errorf("%s: got %d acknowledged, want %d", when, len(acked), want)
			}
		}
		send("first")
		synctest.Wait() // it is in its sync
		for i := range waiters {
			send(fmt.Sprint("waiter ", i))
		}
		wantAcked("before the sync", 0)
		if got := b.state(id).LastSeq; got != 1 {
			t.Errorf("state before the sync: got last line %d, want 1", got)
		}
		gate <- struct{}{}
		wantAcked("after one sync", 1)
		close(gate)
		wantAcked("at the end", waiters+1)
		all.Wait()
		b.wantAcked(id, acked)
		if got := b.disk.count() - before; got != 2 {
			t.Errorf("syncs: got %d, want 2", got)
		}
		if committed, _, _ := b.told.of(id); committed != 3 {
			t.Errorf("follower: got %d calls, want 3: the create and two batches", committed)
		}
	})
}

func TestManySenders(t *testing.T) {
	for _, conversations := range []int{1, 7} {
		t.Run(fmt.Sprintf("%d conversations", conversations), func(t *testing.T) {
			const senders, each = 16, 25
			b := newBooks(t, ledger.Options{MaxOpen: 3})
			var ids []string
			acked := make([]map[string]int64, conversations)
			for i := range conversations {
				ids = append(ids, b.create(fmt.Sprint("topic ", i)))
				acked[i] = make(map[string]int64)
			}
			var all sync.WaitGroup
			var mu sync.Mutex
			for s := range senders {
				all.Go(func() {
					for i := range each {
						where := (s + i) % conversations
						e := b.message(ids[where], fmt.Sprintf("%d of %d", i, s))
						result, state, err := b.Append(ledger.Line{Envelope: e})
						if err != nil || state.LastSeq != result.Seq || state.ID != ids[where] {
							t.Errorf("Append: got %+v, last %d, %v", result, state.LastSeq, err)
							return
						}
						mu.Lock()
						acked[where][e.ID] = result.Seq
						mu.Unlock()
						if i%5 == 0 {
							b.Checkpoint()
						}
					}
				})
			}
			all.Wait()
			total := 0
			for i, id := range ids {
				b.wantAcked(id, acked[i])
				total += len(b.lines(id)) - 1
			}
			if total != senders*each {
				t.Errorf("lines: got %d, want %d", total, senders*each)
			}
		})
	}
}

// together appends the lines in one batch, behind one other message. It needs a bubble
// of synctest.
func (b *books) together(lines ...ledger.Line) ([]ledger.Result, []error) {
	results, errs := make([]ledger.Result, len(lines)), make([]error, len(lines))
	gate := make(chan struct{})
	b.disk.set(nil, gate)
	var all sync.WaitGroup
	all.Go(func() { b.say(lines[0].Envelope.Conversation, "first") })
	for i, line := range lines {
		synctest.Wait() // so that they queue in order
		all.Go(func() { results[i], _, errs[i] = b.Append(line) })
	}
	synctest.Wait()
	b.disk.set(nil, nil)
	close(gate)
	all.Wait()
	return results, errs
}

func TestRepeatsInOneBatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBooks(t, ledger.Options{})
		id := b.create("a")
		e := b.message(id, "again")
		again, other, byOther := *e, *e, *e
		other.Content = "other"
		byOther.From = b.address("Nova")
		results, errs := b.together(ledger.Line{Envelope: e}, ledger.Line{Envelope: &again}, ledger.Line{Envelope: &other}, ledger.Line{Envelope: &byOther})
		wantResult(t, "the first", results[0], ledger.Result{Seq: 3})
		wantResult(t, "its repeat", results[1], ledger.Result{Seq: 3, Duplicate: true})
		for i, want := range []error{nil, nil, ledger.ErrReused, ledger.ErrReused} {
			wantError(t, fmt.Sprint("line ", i), errs[i], want)
		}
		b.want(id, "first", "again")
	})
}

func TestRepeats(t *testing.T) {
	at := &clock{now: time.UnixMilli(1_800_000_000_000)}
	b := newBooks(t, ledger.Options{Log: convlog.Options{Now: at.Now}})
	id := b.create("a")
	b.say(id, "before")
	e := b.message(id, "again")
	stored := at.now.UnixMilli()
	b.add(e) // line 3
	at.pass(time.Hour)
	b.say(id, "behind")
	repeat := func(what string, after, since, want int64) {
		t.Helper()
		c := *e
		c.Seq, c.Timestamp = 0, 0
		result, state, err := b.Append(ledger.Line{Envelope: &c, After: after, Since: since})
		if err != nil || !result.Duplicate || result.Seq != want || state.ID != id {
			t.Errorf("%s: got %+v, %v, want a duplicate of line %d", what, result, err, want)
		}
	}
	reused := func(what string) {
		t.Helper()
		c := *e
		c.Content = "other"
		_, _, err := b.Append(ledger.Line{Envelope: &c, After: 1})
		wantError(t, what, err, ledger.ErrReused)
	}
	repeat("later", 0, 0, 3)
	reused("later, with another text")
	b.reopen()
	repeat("after a restart, by after", 2, 0, 3)
	b.reopen()
	repeat("after a restart, by since", 0, stored, 3)
	b.reopen()
	reused("after a restart, with another text")
	b.reopen(b.forgetIndex)
	repeat("without an index", 0, 0, 3)
	b.want(id, "before", "again", "behind")
}

// TestRepeatsOutOfSight: a repeat is not looked for before After and Since.
func TestRepeatsOutOfSight(t *testing.T) {
	at := &clock{now: time.UnixMilli(1_800_000_000_000)}
	b := newBooks(t, ledger.Options{Log: convlog.Options{Now: at.Now}})
	for topic, line := range map[string]ledger.Line{"after": {After: 2}, "since": {}} {
		id := b.create(topic)
		e := b.message(id, "again")
		b.add(e) // line 2
		at.pass(48 * time.Hour)
		b.say(id, "behind")
		b.reopen()
		c := *e
		line.Envelope = &c
		if line.After == 0 {
			line.Since = at.Now().Add(-24 * time.Hour).UnixMilli()
		}
		if result, _, err := b.Append(line); err != nil || result.Duplicate {
			t.Errorf("%s: got %+v, %v, want a new line", topic, result, err)
		}
	}
}

func TestForeignLines(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	b.say(id, "ours")
	join := &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Join, Conversation: id, From: b.address("Sage")}
	b.foreign(join)
	if !b.Changed(id) {
		t.Error("Changed after a foreign line: got false, want true")
	}
	// Who appends next is answered after the follower was told of the foreign line too.
	if r := b.say(id, "ours again"); r.Seq != 4 {
		t.Errorf("line after the foreign one: got %d, want 4", r.Seq)
	}
	committed, _, present := b.told.of(id)
	if want := []envelope.Address{b.address("Atlas"), b.address("Nova"), b.address("Sage")}; committed != 3 || !slices.Equal(present, want) {
		t.Errorf("follower: got %d calls and present %v, want 3 and %v", committed, present, want)
	}
	b.foreign(b.message(id, "theirs"))
	b.refresh(id)
	b.refresh(id) // nothing new
	if committed, _, _ = b.told.of(id); committed != 4 || b.Changed(id) {
		t.Errorf("after Refresh: got %d calls, changed %v, want 4 and false", committed, b.Changed(id))
	}
	if s := b.state(id); s.LastSeq != 5 || s.Turns != 3 {
		t.Errorf("state: got last %d, %d turns, want 5 and 3", s.LastSeq, s.Turns)
	}
	b.want(id, "ours", "ours again", "theirs")
}

// TestForeignConversation: a log that another program has put there is taken up.
func TestForeignConversation(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	e := b.first("theirs")
	if err := convlog.Create(b.home.LogPath(e.Conversation), []*envelope.Envelope{e}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if !b.Changed(e.Conversation) {
		t.Error("Changed: got false, want true")
	}
	b.refresh(e.Conversation)
	if committed, _, _ := b.told.of(e.Conversation); committed != 1 || len(b.Refs().All()) != 1 {
		t.Errorf("got %d calls and references %q, want one of each", committed, b.Refs().All())
	}
}

func TestRawLines(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	b.shell(id, `{"from":"Nova","content":"by echo"}`+"\n"+"garbage\n"+`{"from":"Nova"}`+"\n"+
		`{"from":"Nova","type":"typing","content":"x"}`+"\n"+`{"content":"no from"}`+"\n"+`{"from":"Atlas","content":"second"}`+"\n")
	b.refresh(id)
	if _, raw, _ := b.told.of(id); raw != 1 {
		t.Errorf("follower: got %d calls of Raw, want 1", raw)
	}
	for i, want := range []string{"by echo", "", "second"} {
		raw, err := b.Raw(id)
		if err != nil || raw == nil || raw.Draft.Content != want || (raw.Problem != nil) != (want == "") {
			t.Fatalf("Raw %d: got %+v, %v, want %q, or a problem", i, raw, err, want)
		}
		e := b.message(id, raw.Draft.Content)
		e.From, e.Raw = b.address(raw.Draft.From.Name), raw.Draft.Raw
		if want == "" {
			e.Type, e.Event, e.Why = envelope.System, envelope.EventUndeliverable, "no message"
		}
		b.add(e)
		again := *e
		again.ID = envelope.NewID()
		result, _, err := b.Append(ledger.Line{Envelope: &again})
		if err != nil || !result.Duplicate {
			t.Errorf("adopted twice: got %+v, %v, want a duplicate", result, err)
		}
	}
	wantNoRaw := func(when string) {
		t.Helper()
		if raw, err := b.Raw(id); err != nil || raw != nil {
			t.Errorf("Raw %s: got %+v, %v, want none", when, raw, err)
		}
	}
	wantNoRaw("at the end")
	b.reopen()
	b.refresh(id)
	wantNoRaw("after a restart")
	b.reopen(b.forgetIndex)
	b.refresh(id)
	wantNoRaw("without an index")
	if _, raw, _ := b.told.of(id); raw != 0 {
		t.Errorf("follower after a restart: got %d calls of Raw, want 0", raw)
	}
	b.want(id, "by echo", "second")
}

// TestBadRawLines: what is meant as a message, however badly it is written, is not
// passed over without a word.
func TestBadRawLines(t *testing.T) {
	for line, meant := range map[string]bool{
		`{"from":"Nova","content":"x","replyTo":null}`: true,
		`{"from":"Nova","content":"x","hops":"1"}`:     true,
		`{"from":"Nova","content":"x","id":"abc"}`:     true,
		`{"from":"Nova","content":"x","seq":"7"}`:      true,
		`{"from":"No va","content":"x"}`:               true,
		`{"from":7,"content":["x"]}`:                   true,
		`{"from":"Nova","from":"Atlas","content":"x"}`: true,
		`{"from":"Nova","content":"x","type":"leave"}`: true,
		`{"from":"Nova","content":""}`:                 false,
		`{"from":"Nova","text":"x"}`:                   false,
		`{"from":"Nova","content":"x","seq":1}`:        false, // a repeat
		`["from","content"]`:                           false,
		`{"from":"Nova","content":"torn`:               false,
		`{"data":{"from":"Nova","content":"x"}}`:       false,
	} {
		b := newBooks(t, ledger.Options{})
		id := b.create("a")
		b.shell(id, line+"\n")
		b.refresh(id)
		raw, err := b.Raw(id)
		if err != nil || (raw != nil) != meant || meant && raw.Problem == nil {
			t.Errorf("%s: got %+v, %v, want it meant as a message: %v", line, raw, err, meant)
		}
	}
}

// TestAnAbandonedLineIsEnded: what is appended next is not glued to it.
func TestAnAbandonedLineIsEnded(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	b.say(id, "hi")
	b.shell(id, `{"from":"No`)
	b.refresh(id)
	before := b.bytes(id)
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(b.home.LogPath(id), old, old); err != nil {
		t.Fatal(err)
	}
	if before[len(before)-1] == '\n' {
		t.Fatal("a line that was just begun was ended")
	}
	b.refresh(id)
	b.shell(id, `{"from":"Nova","content":"by echo"}`+"\n")
	b.refresh(id)
	if raw, err := b.Raw(id); err != nil || raw == nil || raw.Draft.Content != "by echo" {
		t.Errorf("the line behind it: got %+v, %v, want it", raw, err)
	}
}

// TestALogOfAnother: a copy of a log under another name takes nothing.
func TestALogOfAnother(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	b.say(id, "hi")
	copied := envelope.NamedID("copy")
	if err := os.WriteFile(b.home.LogPath(copied), b.bytes(id), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Append(ledger.Line{Envelope: b.message(copied, "lost")}); !errors.Is(err, ledger.ErrForeign) {
		t.Errorf("Append: got %v, want ErrForeign", err)
	}
	if _, err := b.State(t.Context(), copied); !errors.Is(err, ledger.ErrForeign) {
		t.Errorf("State: got %v, want ErrForeign", err)
	}
	b.want(id, "hi")
}

// TestOnly: a line is added where its condition holds at that moment, and else not.
func TestOnly(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	moved := errors.New("moved")
	only := func(s conv.State) error {
		if s.LastSeq > 2 {
			return moved
		}
		return nil
	}
	for i, want := range []error{nil, nil, moved, moved} {
		if _, _, err := b.Append(ledger.Line{Envelope: b.message(id, fmt.Sprint(i)), Only: only}); !errors.Is(err, want) {
			t.Errorf("line %d: got %v, want %v", i, err, want)
		}
	}
	b.want(id, "0", "1")
}

// TestAnEditedLog: the index is not believed where the file has other bytes than it had,
// though it is the same file and longer.
func TestAnEditedLog(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	b.shell(id, "some noise\n")
	b.say(id, "one")
	b.Checkpoint()
	sound := bytes.Replace(b.bytes(id), []byte("some noise\n"), nil, 1)
	b.say(id, "two")
	rest := b.bytes(id)
	rest = rest[bytes.LastIndexByte(rest[:len(rest)-1], '\n')+1:]
	b.reopen()
	more := *b.message(id, "three")
	more.Seq, more.Timestamp = 4, time.Now().UnixMilli()
	if err := os.WriteFile(b.home.LogPath(id), slices.Concat(sound, rest, more.Append(nil), []byte("\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	b.refresh(id)
	b.want(id, "one", "two", "three")
	b.say(id, "four")
}

// TestOldRawOffsets: numbers that point into another file hide nothing.
func TestOldRawOffsets(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	e := *b.message(id, "adopted in another file")
	e.Seq, e.Timestamp, e.Raw = 2, time.Now().UnixMilli(), envelope.Int(1<<20)
	b.shell(id, string(e.Append(nil))+"\n"+`{"from":"Nova","content":"by echo"}`+"\n")
	b.refresh(id)
	if raw, err := b.Raw(id); err != nil || raw == nil || raw.Draft.Content != "by echo" {
		t.Errorf("got %+v, %v, want the line behind it", raw, err)
	}
}

// TestAnotherMessageUnderTheSameID is refused, whatever it differs in.
func TestAnotherMessageUnderTheSameID(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	b.say(id, "first")
	e := b.message(id, "hi")
	e.Data = json.RawMessage(`{"order":1}`)
	b.add(e)
	for name, change := range map[string]func(*envelope.Envelope){
		"content": func(e *envelope.Envelope) { e.Content = "hello" },
		"data":    func(e *envelope.Envelope) { e.Data = json.RawMessage(`{"order":2}`) },
		"to":      func(e *envelope.Envelope) { e.To = []string{"Sage"} },
		"replyTo": func(e *envelope.Envelope) { e.ReplyTo.Seq = 2 },
		"unknown": func(e *envelope.Envelope) { e.Unknown = []envelope.Field{{Name: "mood", Value: json.RawMessage(`1`)}} },
	} {
		other := b.message(id, e.Content)
		other.ID, other.Data = e.ID, e.Data
		change(other)
		if _, _, err := b.Append(ledger.Line{Envelope: other}); !errors.Is(err, ledger.ErrReused) {
			t.Errorf("another %s: got %v, want ErrReused", name, err)
		}
	}
	again := b.message(id, e.Content)
	again.ID, again.Data, again.After = e.ID, e.Data, envelope.Int(1)
	if result, _, err := b.Append(ledger.Line{Envelope: again}); err != nil || result.Seq != e.Seq || !result.Duplicate {
		t.Errorf("the same: got %+v, %v, want line %d", result, err, e.Seq)
	}
}

// TestRawLinesSurvive: what waits to be adopted is found again after a restart, and
// when its log was closed meanwhile.
func TestRawLinesSurvive(t *testing.T) {
	b := newBooks(t, ledger.Options{MaxOpen: 2})
	id := b.create("a")
	b.say(id, "hi")
	b.shell(id, `{"from":"Nova","content":"by echo"}`+"\n")
	b.refresh(id)
	wantRaw := func(when string) {
		t.Helper()
		if raw, err := b.Raw(id); err != nil || raw == nil || raw.Draft.Content != "by echo" {
			t.Errorf("Raw %s: got %+v, %v, want the line", when, raw, err)
		}
	}
	for _, topic := range []string{"b", "c", "d"} {
		b.create(topic)
	}
	if open := b.OpenLogs(); slices.Contains(open, id) {
		t.Fatalf("open: got %q, want %s closed", open, id)
	}
	wantRaw("when the log was closed meanwhile")
	b.Checkpoint()
	b.reopen()
	if !b.Changed(id) {
		t.Error("Changed after a restart: got false, want true: a line waits")
	}
	wantRaw("after a restart")
	b.refresh(id)
	if _, raw, _ := b.told.of(id); raw == 0 {
		t.Error("follower after a restart: got no call of Raw, want one")
	}
}

func TestEviction(t *testing.T) {
	b := newBooks(t, ledger.Options{MaxOpen: 2})
	var ids []string
	for i := range 6 {
		ids = append(ids, b.create(fmt.Sprint("topic ", i)))
	}
	for round := range 3 {
		for _, id := range ids {
			if r := b.say(id, fmt.Sprint("round ", round)); r.Seq != int64(round+2) {
				t.Errorf("round %d: got line %d, want %d", round, r.Seq, round+2)
			}
			if open := b.OpenLogs(); len(open) > 2 || open[0] != id {
				t.Errorf("open: got %q, want at most two, %s first", open, id)
			}
		}
	}
	for _, id := range ids {
		b.want(id, "round 0", "round 1", "round 2")
		if committed, _, _ := b.told.of(id); committed != 4 {
			t.Errorf("follower: got %d calls for %s, want 4", committed, id)
		}
	}
}

// TestWhatIsReadStaysOpen: eviction leaves alone what somebody uses.
func TestWhatIsReadStaysOpen(t *testing.T) {
	b := newBooks(t, ledger.Options{MaxOpen: 2})
	id := b.create("a")
	b.say(id, "hi")
	err := b.Read(context.Background(), id, func(v ledger.View) error {
		for _, topic := range []string{"b", "c", "d", "e"} {
			b.create(topic)
		}
		for line, err := range v.Since(1) {
			if err != nil || line.Envelope.Content != "hi" {
				t.Errorf("got %+v, %v, want the message", line.Envelope, err)
			}
		}
		_, err := v.Log.At(2)
		return err
	})
	if err != nil {
		t.Errorf("Read: %v", err)
	}
}

// TestRestarts: whatever the index has, the state is that of the log.
func TestRestarts(t *testing.T) {
	var older []byte // an index of earlier
	for name, between := range map[string]func(b *books, id string){
		"index kept":    func(*books, string) {},
		"index deleted": func(b *books, _ string) { b.forgetIndex() },
		"index of earlier": func(b *books, _ string) {
			if err := os.WriteFile(b.home.IndexPath(), older, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"index of garbage": func(b *books, _ string) {
			if err := os.WriteFile(b.home.IndexPath(), []byte("garbage"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"log copied": func(b *books, id string) { // another inode: the index speaks of another file
			path := b.home.LogPath(id)
			data, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path+".copy", data, 0o600)
			}
			if err == nil {
				err = os.Rename(path+".copy", path)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			at := &clock{now: time.UnixMilli(1_800_000_000_000)}
			b := newBooks(t, ledger.Options{Log: convlog.Options{Now: at.Now}})
			id := b.create("a")
			at.pass(time.Second)
			b.say(id, "one")
			b.reopen(func() {
				var err error
				if older, err = os.ReadFile(b.home.IndexPath()); err != nil {
					t.Fatal(err)
				}
			})
			b.add(&envelope.Envelope{ID: envelope.NewID(), Type: envelope.Join, Conversation: id, From: b.address("Sage")})
			at.pass(time.Second)
			b.say(id, "two")
			want := b.state(id)
			b.reopen(func() { between(b, id) })
			if diff := cmp.Diff(want, b.state(id)); diff != "" {
				t.Errorf("state (-before +after):\n%s", diff)
			}
			if r := b.say(id, "three"); r.Seq != 5 {
				t.Errorf("next line: got %d, want 5", r.Seq)
			}
			b.want(id, "one", "two", "three")
		})
	}
}

// TestShorterLog: an index that knows more than the log has is not believed.
func TestShorterLog(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	b.say(id, "one")
	info, err := os.Stat(b.home.LogPath(id))
	if err != nil {
		t.Fatal(err)
	}
	b.say(id, "two")
	b.reopen(func() {
		if err := os.Truncate(b.home.LogPath(id), info.Size()); err != nil {
			t.Fatal(err)
		}
	})
	if s := b.state(id); s.LastSeq != 2 {
		t.Errorf("last line: got %d, want 2", s.LastSeq)
	}
	b.say(id, "three")
	b.want(id, "one", "three")
}

// TestReplacedLog: a log that was put in place of the open one is read anew.
func TestReplacedLog(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	b.say(id, "one")
	copied, err := os.ReadFile(b.home.LogPath(id))
	if err != nil {
		t.Fatal(err)
	}
	b.say(id, "two")
	path := b.home.LogPath(id)
	if err := os.WriteFile(path+".copy", copied, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".copy", path); err != nil {
		t.Fatal(err)
	}
	if r := b.say(id, "three"); r.Seq != 3 {
		t.Errorf("line in the log that is there now: got %d, want 3", r.Seq)
	}
	b.want(id, "one", "three")
}

// TestIdleConversations: their state comes from the index, no log is opened.
func TestIdleConversations(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	b.say(id, "hi")
	want := b.state(id)
	b.reopen()
	if diff := cmp.Diff(want, b.state(id)); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	if b.Changed(id) || len(b.OpenLogs()) > 0 {
		t.Errorf("got changed %v, open %q, want neither", b.Changed(id), b.OpenLogs())
	}
	b.foreign(b.message(id, "theirs"))
	if s := b.state(id); !slices.Equal(b.OpenLogs(), []string{id}) || s.LastSeq != 3 {
		t.Errorf("after a foreign line: got last %d, open %q, want 3 and the log opened", s.LastSeq, b.OpenLogs())
	}
}

// TestCheckpoint: after a crash the index is as of the last checkpoint.
func TestCheckpoint(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	b.say(id, "hi")
	b.Checkpoint()
	crashed, err := os.ReadFile(b.home.IndexPath())
	if err != nil {
		t.Fatal(err)
	}
	want := b.state(id)
	b.reopen(func() {
		if err := os.WriteFile(b.home.IndexPath(), crashed, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if diff := cmp.Diff(want, b.state(id)); diff != "" || len(b.OpenLogs()) > 0 {
		t.Errorf("open %q, state (-want +got):\n%s", b.OpenLogs(), diff)
	}
}

// TestFailedSync: all that wait are told, and the log is read again.
func TestFailedSync(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBooks(t, ledger.Options{})
		id, other := b.create("a"), b.create("b")
		b.say(id, "before")
		var sent []*envelope.Envelope
		gate := make(chan struct{})
		b.disk.set(syscall.EIO, gate)
		var all sync.WaitGroup
		for i := range 5 {
			e := b.message(id, fmt.Sprint("message ", i))
			sent = append(sent, e)
			all.Go(func() {
				_, _, err := b.Append(ledger.Line{Envelope: e})
				wantError(t, e.Content, err, convlog.ErrFailed)
			})
			synctest.Wait()
		}
		close(gate)
		all.Wait()
		b.disk.set(nil, nil)
		if s := b.state(id); s.LastSeq < 2 || s.LastSeq > 3 {
			t.Errorf("state: got last line %d, want 2 or, where the write was kept, 3", s.LastSeq)
		}
		for i, e := range sent {
			e.Seq, e.Timestamp = 0, 0
			if r := b.add(e); r.Seq != int64(i+3) || r.Duplicate && i > 0 {
				t.Errorf("sent again: got %+v, want line %d", r, i+3)
			}
		}
		b.want(id, "before", "message 0", "message 1", "message 2", "message 3", "message 4")
		b.say(other, "not disturbed")
	})
}

// TestNothingIsToldOfFailedLines: what is not known to be on disk is shown to nobody.
func TestNothingIsToldOfFailedLines(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	before, _, _ := b.told.of(id)
	b.disk.set(syscall.EIO, nil)
	if _, _, err := b.Append(ledger.Line{Envelope: b.message(id, "lost")}); !errors.Is(err, convlog.ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Errorf("Append: got %v, want %v for %v", err, convlog.ErrFailed, syscall.EIO)
	}
	if after, _, _ := b.told.of(id); after != before {
		t.Errorf("follower: got %d calls more, want none", after-before)
	}
	if _, err := b.State(context.Background(), id); err == nil {
		t.Error("State while the disk fails: got no error, want one: the line cannot be made durable")
	}
	b.disk.set(nil, nil)
	if s := b.state(id); s.LastSeq != 2 {
		t.Errorf("state when the disk works again: got last line %d, want 2", s.LastSeq)
	}
	if after, _, _ := b.told.of(id); after != before+1 {
		t.Errorf("follower when the disk works again: got %d calls more, want 1", after-before)
	}
}

func damaged(t *testing.T, what string, err error) {
	t.Helper()
	var damage *convlog.DamageError
	if !errors.As(err, &damage) || damage.Want != 3 || damage.Got != 9 {
		t.Errorf("%s: got %v, want the log damaged at line 3", what, err)
	}
}

func TestDamage(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id, other := b.create("a"), b.create("b")
	b.say(id, "before")
	b.shell(id, `{"seq":9,"id":"`+envelope.NewID()+`","type":"message","from":"Nova@x","content":"too early"}`+"\n")
	check := func() {
		t.Helper()
		_, _, err := b.Append(ledger.Line{Envelope: b.message(id, "refused")})
		damaged(t, "Append", err)
		s, err := b.State(context.Background(), id)
		damaged(t, "State", err)
		if s.LastSeq != 2 || s.Topic != "a" {
			t.Errorf("state: got %+v, want that before the damage", s)
		}
		var read []string
		err = b.Read(context.Background(), id, func(v ledger.View) error {
			for line, err := range v.Since(0) {
				if err != nil {
					return err
				}
				read = append(read, line.Envelope.Content)
			}
			return nil
		})
		if err != nil || !slices.Equal(read, []string{"", "before"}) {
			t.Errorf("Read: got %q, %v, want the lines before the damage", read, err)
		}
	}
	check()
	b.reopen()
	check()
	b.reopen(b.forgetIndex)
	check()
	b.say(other, "not disturbed")
}

// TestDamageInTheMiddleOfACommit: somebody writes nonsense between the reading and
// the writing. What was not written is shown to nobody.
func TestDamageInTheMiddleOfACommit(t *testing.T) {
	var b *books
	id, armed := "", false
	now := func() time.Time {
		if armed {
			armed = false
			b.shell(id, `{"seq":9,"id":"`+envelope.NewID()+`","type":"message","from":"Nova@x","content":"too early"}`+"\n")
		}
		return time.Now()
	}
	b = newBooks(t, ledger.Options{Log: convlog.Options{Now: now}})
	id = b.create("a")
	b.say(id, "before")
	before, _, _ := b.told.of(id)
	armed = true
	_, _, err := b.Append(ledger.Line{Envelope: b.message(id, "refused")})
	damaged(t, "Append", err)
	if after, _, _ := b.told.of(id); after != before {
		t.Errorf("follower: got %d calls more, want none", after-before)
	}
	s, err := b.State(context.Background(), id)
	damaged(t, "State", err)
	if s.LastSeq != 2 {
		t.Errorf("state: got last line %d, want 2", s.LastSeq)
	}
	b.want(id, "before")
}

func TestClosed(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	b.Close()
	ctx := context.Background()
	_, _, err := b.Append(ledger.Line{Envelope: b.message(id, "late")})
	wantError(t, "Append", err, ledger.ErrClosed)
	_, err = b.Create(ctx, []*envelope.Envelope{b.first("b")})
	wantError(t, "Create", err, ledger.ErrClosed)
	wantError(t, "Read", b.Read(ctx, id, func(ledger.View) error { return nil }), ledger.ErrClosed)
	wantError(t, "Refresh", b.Refresh(ctx, id), ledger.ErrClosed)
	if _, err := b.State(ctx, id); err != nil {
		t.Errorf("State: got %v, want what the index knows", err)
	}
}

// TestCloseWhileAppending: whoever comes too late is told so; what was acknowledged is
// in the log.
func TestCloseWhileAppending(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	ids := []string{b.create("a"), b.create("b")}
	acked := []map[string]int64{make(map[string]int64), make(map[string]int64)}
	var all sync.WaitGroup
	var mu sync.Mutex
	some := make(chan struct{}, 1000)
	for s := range 8 {
		all.Go(func() {
			where := s % 2
			for {
				e := b.message(ids[where], "hi")
				result, _, err := b.Append(ledger.Line{Envelope: e})
				if err != nil {
					wantError(t, "Append", err, ledger.ErrClosed)
					return
				}
				mu.Lock()
				acked[where][e.ID] = result.Seq
				mu.Unlock()
				select {
				case some <- struct{}{}:
				default:
				}
			}
		})
	}
	all.Go(func() {
		for {
			err := b.Read(context.Background(), ids[0], func(v ledger.View) error {
				_, err := v.Log.At(1)
				return err
			})
			if err != nil {
				wantError(t, "Read", err, ledger.ErrClosed)
				return
			}
			b.Checkpoint()
		}
	})
	for range 50 {
		<-some
	}
	b.Close()
	all.Wait()
	for i, id := range ids {
		b.wantAcked(id, acked[i])
	}
	b.reopen()
	for i, id := range ids {
		if s := b.state(id); s.LastSeq != int64(len(acked[i])+1) {
			t.Errorf("last line: got %d, want %d: each was acknowledged", s.LastSeq, len(acked[i])+1)
		}
	}
}

// TestLockedLog: another program keeps the lock too long.
func TestLockedLog(t *testing.T) {
	b := newBooks(t, ledger.Options{Log: convlog.Options{LockWait: time.Millisecond}})
	id := b.create("a")
	f, err := os.Open(b.home.LogPath(id))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	e := b.message(id, "hi")
	_, _, err = b.Append(ledger.Line{Envelope: e})
	wantError(t, "Append", err, convlog.ErrBusy)
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	b.add(e)
	b.want(id, "hi")
}

// TestViews: what followers are shown from memory is what the file has.
func TestViews(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	check := func(when string) {
		t.Helper()
		err := b.Read(context.Background(), id, func(v ledger.View) error {
			var want []ledger.Stored
			scan := v.Log.Scan(convlog.Pos{})
			for scan.Next() {
				if line := scan.Line(); !line.Noise() {
					want = append(want, ledger.Stored{Envelope: &envelope.Envelope{Seq: line.Seq}, Bytes: slices.Clone(line.Bytes)})
				}
			}
			if int64(len(want)) != v.State.LastSeq || scan.Err() != nil {
				t.Errorf("%s: got %d lines, %v, want %d", when, len(want), scan.Err(), v.State.LastSeq)
			}
			for _, from := range []int{-1, len(want) - 3, len(want) - 1, len(want), len(want) + 5} {
				next := max(from, 0)
				for line, err := range v.Since(int64(from)) {
					if err != nil || next >= len(want) || string(line.Bytes) != string(want[next].Bytes) || line.Envelope.Seq != int64(next+1) {
						t.Errorf("%s: line behind %d: got %.80s, %v, want line %d", when, next, line.Bytes, err, next+1)
						return io.EOF
					}
					next++
				}
				if next < len(want) {
					t.Errorf("%s: since %d: got up to line %d, want %d", when, from, next, len(want))
				}
				at, err := v.At(int64(from))
				switch {
				case from < 1 || from > len(want):
					wantError(t, fmt.Sprintf("%s: line %d", when, from), err, convlog.ErrNoLine)
				case err != nil || string(at.Bytes) != string(want[from-1].Bytes):
					t.Errorf("%s: line %d: got %.80s, %v", when, from, at.Bytes, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: Read: %v", when, err)
		}
	}
	check("after the create")
	for round := range 2 { // more than are kept, in batches
		var all sync.WaitGroup
		for i := range 600 {
			all.Go(func() { b.say(id, fmt.Sprintf("message %d of round %d", i, round)) })
		}
		all.Wait()
		check(fmt.Sprint("after round ", round))
	}
	for range 5 { // more than is kept
		b.say(id, strings.Repeat("long ", 20_000))
		check("after a long message")
	}
	b.foreign(b.message(id, "theirs"))
	b.say(id, "ours")
	check("after a foreign line and one of ours")
	b.foreign(b.message(id, "theirs"))
	b.refresh(id)
	check("after a foreign line")
	b.shell(id, "noise\n")
	b.say(id, "behind noise")
	check("behind noise")
	b.reopen()
	check("after a restart")
	b.say(id, "after the restart")
	check("after a restart and one of ours")
}

// TestFind looks for a repeat and adds nothing.
func TestFind(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("a")
	e := b.message(id, "once")
	find := func(what string, e *envelope.Envelope, want ledger.Result) {
		t.Helper()
		result, state, err := b.Find(ledger.Line{Envelope: e})
		if err != nil || state.ID != id {
			t.Errorf("%s: got %s, %v, want it looked for in %s", what, state.ID, err, id)
		}
		wantResult(t, what, result, want)
	}
	find("before it was sent", e, ledger.Result{})
	b.add(e)
	c := *e
	find("afterwards", &c, ledger.Result{Seq: 2, Duplicate: true})
	c.Content = "other"
	_, _, err := b.Find(ledger.Line{Envelope: &c})
	wantError(t, "another text", err, ledger.ErrReused)
	_, _, err = b.Find(ledger.Line{Envelope: b.message("7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3", "hi")})
	wantError(t, "no such conversation", err, ledger.ErrNotFound)
	b.want(id, "once")
}

// TestImportedTwice: what imports have noted since the file was read is read, also where the
// file system has given the last file the inode of the one that was read.
func TestImportedTwice(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	id := b.create("ours")
	if err := b.home.NoteImported([]maildir.Imported{{Conversation: id, Through: 1}}); err != nil {
		t.Fatal(err)
	}
	b.foreign(b.message(id, "one"))
	b.refresh(id)
	old, err := os.ReadFile(b.home.ImportedPath())
	if err == nil {
		err = os.WriteFile(b.home.ImportedPath(), append(old, `{"conversation":"`+id+`","through":3}`+"\n"...), 0o600) // the inode stays
	}
	if err != nil {
		t.Fatal(err)
	}
	b.foreign(b.message(id, "two"))
	b.refresh(id)
	if got := b.Imported(id); got != 3 {
		t.Errorf("got history through line %d, want 3", got)
	}
}

package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
)

// original makes a conversation with messages on a host of its own, and returns it with
// its valid lines.
func original(t *testing.T, messages ...string) (origin *books, id string, lines [][]byte) {
	t.Helper()
	origin = newBooks(t, ledger.Options{})
	e := origin.first("a")
	e.Origin = origin.home.Host.ID
	if _, err := origin.Create(context.Background(), []*envelope.Envelope{e}); err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		origin.say(e.Conversation, m)
	}
	return origin, e.Conversation, origin.valid(e.Conversation)
}

// valid reads the bytes of the valid lines of a log from its file.
func (b *books) valid(id string) (lines [][]byte) {
	b.t.Helper()
	scan := convlog.NewScanner(bytes.NewReader(b.bytes(id)), convlog.Pos{}, -1)
	for scan.Next() {
		if !scan.Line().Noise() {
			lines = append(lines, bytes.Clone(scan.Line().Bytes))
		}
	}
	if scan.Err() != nil {
		b.t.Fatal(scan.Err())
	}
	return lines
}

// take copies lines of a conversation of another host.
func (b *books) take(origin *books, id string, lines [][]byte) error {
	_, _, err := b.Copy(context.Background(), ledger.Copy{Origin: origin.home.Host.ID, Conversation: id, Lines: lines})
	return err
}

func (b *books) mustTake(origin *books, id string, lines [][]byte) {
	b.t.Helper()
	if err := b.take(origin, id, lines); err != nil {
		b.t.Fatalf("Copy: %v", err)
	}
}

// wantCopy checks that the valid lines of a log are these.
func (b *books) wantCopy(id string, want [][]byte) {
	b.t.Helper()
	if got := b.valid(id); !slices.EqualFunc(got, want, bytes.Equal) {
		b.t.Errorf("log: got %d lines\n%s\nwant %d\n%s", len(got), bytes.Join(got, []byte("\n")), len(want), bytes.Join(want, []byte("\n")))
	}
}

func TestCopy(t *testing.T) {
	origin, id, lines := original(t, numbered("message ", 6)...)
	b := newBooks(t, ledger.Options{})
	for _, part := range [][][]byte{lines[:1], lines[1:4], lines[2:5], lines[:7], lines[3:5]} {
		copied, state, err := b.Copy(context.Background(), ledger.Copy{Origin: origin.home.Host.ID, Conversation: id, Lines: part})
		if err != nil {
			t.Fatalf("Copy: %v", err)
		}
		if len(copied) != len(part) || !bytes.Equal(copied[0].Bytes, part[0]) || state.LastSeq < copied[len(copied)-1].Envelope.Seq {
			t.Errorf("Copy: got %d lines and the state of line %d, want all %d", len(copied), state.LastSeq, len(part))
		}
	}
	if got, want := b.bytes(id), origin.bytes(id); !bytes.Equal(got, want) {
		t.Errorf("log: got\n%s\nwant\n%s", got, want)
	}
	if diff := cmp.Diff(origin.state(id), b.state(id)); diff != "" {
		t.Errorf("state of the replica differs (-origin +replica):\n%s", diff)
	}
	if committed, _, present := b.told.of(id); committed != 4 || len(present) != 2 {
		t.Errorf("the follower was told %d times, of %v, want once for each growth", committed, present)
	}
	if ref := b.Refs().Len(); ref != 1 {
		t.Errorf("got %d references, want one", ref)
	}
	b.reopen()
	b.mustTake(origin, id, lines)
	if diff := cmp.Diff(origin.state(id), b.state(id)); diff != "" {
		t.Errorf("state of the replica after a restart differs (-origin +replica):\n%s", diff)
	}
}

func TestCopySyncsOnce(t *testing.T) {
	origin, id, lines := original(t, numbered("message ", 100)...)
	b := newBooks(t, ledger.Options{})
	b.mustTake(origin, id, lines[:1])
	before := b.disk.count()
	b.mustTake(origin, id, lines[1:])
	if got := b.disk.count() - before; got != 1 {
		t.Errorf("got %d syncs for a batch, want 1", got)
	}
	b.mustTake(origin, id, lines)
	if got := b.disk.count() - before; got != 1 {
		t.Errorf("got %d syncs with what was there, want 1", got)
	}
}

// TestCopyRefuses: nothing of what is refused reaches the log.
func edit(t *testing.T, line []byte, old, new string) []byte {
	t.Helper()
	if !bytes.Contains(line, []byte(old)) {
		t.Fatalf("%s has no %s", line, old)
	}
	return bytes.Replace(line, []byte(old), []byte(new), 1)
}

func TestCopyRefuses(t *testing.T) {
	origin, id, lines := original(t, numbered("message ", 4)...)
	other, otherID, otherLines := original(t, "elsewhere")
	edit := func(line []byte, old, new string) []byte { return edit(t, line, old, new) }
	one := func(line []byte) [][]byte { return [][]byte{line} }
	for name, test := range map[string]struct {
		origin *books
		id     string
		lines  [][]byte
		want   error
	}{
		"another conversation's line":   {origin, id, one(edit(lines[3], id, otherID)), envelope.ErrInvalid},
		"no JSON":                       {origin, id, one([]byte(`{"seq":4`)), envelope.ErrInvalid},
		"no message":                    {origin, id, one([]byte(`{"seq":4}`)), envelope.ErrInvalid},
		"a signal":                      {origin, id, one(edit(lines[3], `"message"`, `"call"`)), envelope.ErrInvalid},
		"a newline":                     {origin, id, one(edit(lines[3], `,`, ",\n")), envelope.ErrInvalid},
		"no number":                     {origin, id, one(edit(lines[3], `"seq":4,`, ``)), envelope.ErrInvalid},
		"a jump inside":                 {origin, id, [][]byte{lines[3], edit(lines[4], `"seq":5`, `"seq":6`)}, envelope.ErrInvalid},
		"a repeat inside":               {origin, id, [][]byte{lines[3], lines[3]}, envelope.ErrInvalid},
		"backwards":                     {origin, id, [][]byte{lines[4], lines[3]}, envelope.ErrInvalid},
		"too long":                      {origin, id, one(edit(lines[3], `"content":"`, `"content":"`+strings.Repeat("x", envelope.MaxLine))), envelope.ErrInvalid},
		"another host's":                {other, id, lines[3:4], ledger.ErrReplica},
		"another host's from the start": {other, id, lines, envelope.ErrInvalid},
		"no create":                     {other, otherID, one(edit(edit(lines[3], `"seq":4`, `"seq":1`), id, otherID)), envelope.ErrInvalid},
		"a claimed id":                  {other, id, one(edit(otherLines[0], otherID, id)), envelope.ErrInvalid},
		"another origin in the create":  {other, otherID, one(edit(otherLines[0], other.home.Host.ID, origin.home.Host.ID)), envelope.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooks(t, ledger.Options{})
			b.mustTake(origin, id, lines[:3])
			wantError(t, "Copy", b.take(test.origin, test.id, test.lines), test.want)
			b.wantCopy(id, lines[:3])
			if _, err := os.Stat(b.home.LogPath(otherID)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("log of another conversation: got %v, want none", err)
			}
			b.mustTake(origin, id, lines)
		})
	}
}

// TestCopyOfWhatWasSaidOnce: an origin cannot say again what somebody's host has signed,
// nor before what that one had seen.
func TestCopyOfWhatWasSaidOnce(t *testing.T) {
	origin, id, lines := original(t, "hello")
	signed := func(seq, after int64) []byte {
		e := &envelope.Envelope{
			Seq: seq, ID: envelope.NamedID("yes"), Type: envelope.Message, From: envelope.Address{Name: "b", Host: "lon"}, Conversation: id,
			Timestamp: 1739654400000, After: envelope.Int(after), Content: "yes", Signature: "c2ln",
		}
		return e.Append(nil)
	}
	hello := edit(t, lines[1], `"seq":2`, `"seq":4`)
	for name, test := range map[string]struct {
		lines [][]byte
		want  int // of them are taken
	}{
		"at once":            {[][]byte{lines[0], lines[1], signed(3, 1), signed(4, 1)}, 3},
		"behind another one": {[][]byte{lines[0], lines[1], signed(3, 1), hello, signed(5, 1)}, 4},
		"too early":          {[][]byte{lines[0], signed(2, 2)}, 1},
	} {
		whole := newBooks(t, ledger.Options{})
		wantError(t, name+": Copy", whole.take(origin, id, test.lines), ledger.ErrReplayed)
		b := newBooks(t, ledger.Options{})
		for i, line := range test.lines[:test.want] {
			if err := b.take(origin, id, [][]byte{line}); err != nil {
				t.Fatalf("%s: line %d: %v", name, i+1, err)
			}
		}
		wantError(t, name+": the last line", b.take(origin, id, test.lines[test.want:]), ledger.ErrReplayed)
		b.wantCopy(id, test.lines[:test.want])
	}
}

func TestCopyToTheOrigin(t *testing.T) {
	origin, id, lines := original(t, "hi")
	wantError(t, "Copy of an own conversation", origin.take(origin, id, lines), ledger.ErrReplica)
	other := newBooks(t, ledger.Options{})
	more := append(lines, bytes.Replace(lines[1], []byte(`"seq":2`), []byte(`"seq":3`), 1))
	wantError(t, "Copy to an own conversation", origin.take(other, id, more[2:]), ledger.ErrReplica)
	origin.wantCopy(id, lines)
}

func TestAppendToAReplica(t *testing.T) {
	origin, id, lines := original(t, "hi")
	b := newBooks(t, ledger.Options{})
	b.mustTake(origin, id, lines)
	for range 2 { // with the log just read, and from the index
		_, _, err := b.Append(ledger.Line{Envelope: origin.message(id, "mine")})
		wantError(t, "Append", err, ledger.ErrReplica)
		b.wantCopy(id, lines)
		b.reopen()
	}
}

func TestCopyFork(t *testing.T) {
	origin, id, lines := original(t, numbered("message ", 4)...)
	b := newBooks(t, ledger.Options{})
	b.mustTake(origin, id, lines[:3])
	forged := slices.Clone(lines)
	forged[2] = bytes.Replace(lines[2], []byte("message 2"), []byte("massage 2"), 1)
	var fork *ledger.ForkError
	if err := b.take(origin, id, forged); !errors.As(err, &fork) || fork.Seq != 3 || fork.Conversation != id {
		t.Errorf("Copy of another line 3: got %v, want a fork at line 3", err)
	}
	b.wantCopy(id, lines[:3])
	b.mustTake(origin, id, lines)
}

func TestCopyGap(t *testing.T) {
	origin, id, lines := original(t, numbered("message ", 4)...)
	b := newBooks(t, ledger.Options{})
	var gap *ledger.GapError
	if err := b.take(origin, id, lines[2:]); !errors.As(err, &gap) || gap.Last != 0 || gap.Got != 3 {
		t.Errorf("Copy of line 3 before all: got %v, want a gap behind line 0", err)
	}
	b.mustTake(origin, id, lines[:2])
	if err := b.take(origin, id, lines[3:]); !errors.As(err, &gap) || gap.Last != 2 || gap.Got != 4 {
		t.Errorf("Copy of line 4 behind line 2: got %v, want a gap behind line 2", err)
	}
	b.wantCopy(id, lines[:2])
}

// TestCopyIsChecked: who checks is shown what is not here yet, and may refuse it.
func TestCopyIsChecked(t *testing.T) {
	origin, id, lines := original(t, numbered("message ", 4)...)
	b := newBooks(t, ledger.Options{})
	no := errors.New("no")
	var shown [][2]int64
	take := func(n int, answer error) error {
		_, _, err := b.Copy(context.Background(), ledger.Copy{Origin: origin.home.Host.ID, Conversation: id, Lines: lines[:n], Check: func(s conv.State, lines []ledger.Stored) error {
			if _, err := b.State(context.Background(), id); err != nil && s.LastSeq > 0 { // no lock is held
				t.Error(err)
			}
			shown = append(shown, [2]int64{s.LastSeq, lines[0].Envelope.Seq})
			return answer
		}})
		return err
	}
	wantError(t, "Copy of a new one", take(2, no), no)
	if _, err := os.Stat(b.home.LogPath(id)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("log that was refused: got %v, want none", err)
	}
	wantError(t, "Copy", take(3, nil), nil)
	wantError(t, "Copy of more", take(5, no), no)
	b.wantCopy(id, lines[:3])
	wantError(t, "Copy of what is there", take(3, no), nil)
	if want := [][2]int64{{0, 1}, {0, 1}, {3, 4}}; !slices.Equal(shown, want) {
		t.Errorf("got %v checked, want %v: the last line before, and the first one that is new", shown, want)
	}
}

func TestCopyToAFailingDisk(t *testing.T) {
	origin, id, lines := original(t, numbered("message ", 4)...)
	b := newBooks(t, ledger.Options{})
	b.mustTake(origin, id, lines[:2])
	b.disk.set(syscall.EIO, nil)
	wantError(t, "Copy", b.take(origin, id, lines[2:4]), convlog.ErrFailed)
	b.disk.set(nil, nil)
	b.mustTake(origin, id, lines[2:4]) // whether they were written or not
	b.mustTake(origin, id, lines[4:])
	b.wantCopy(id, lines)
	if got := b.state(id); got.LastSeq != 5 {
		t.Errorf("state: got line %d, want 5", got.LastSeq)
	}
}

// TestCopyAfterAKill cuts the replica at each byte of what a write has left.
func TestCopyAfterAKill(t *testing.T) {
	origin, id, lines := original(t, "one", "two", "three")
	b := newBooks(t, ledger.Options{})
	b.mustTake(origin, id, lines[:2])
	start := len(b.bytes(id))
	b.mustTake(origin, id, lines)
	whole := b.bytes(id)
	for cut := start; cut < len(whole); cut += 7 {
		b.reopen(b.forgetIndex, func() {
			if err := os.WriteFile(b.home.LogPath(id), whole[:cut], 0o600); err != nil {
				t.Fatal(err)
			}
		})
		b.mustTake(origin, id, lines[2:])
		b.wantCopy(id, lines)
		if t.Failed() {
			t.Fatalf("cut at byte %d", cut)
		}
	}
}

// TestRawOfAReplica: what was appended with the shell is known by its place in the file
// where it stands, and the places that the origin's lines speak of are in another one.
func TestRawOfAReplica(t *testing.T) {
	origin, id, _ := original(t, "one")
	adopted := origin.message(id, "by the shell")
	origin.shell(id, `{"from":"Atlas","content":"by the shell"}`+"\n")
	adopted.Raw = envelope.Int(1 << 20) // behind everything in the replica
	origin.add(adopted)
	lines := origin.valid(id)

	b := newBooks(t, ledger.Options{})
	b.mustTake(origin, id, lines[:2])
	b.shell(id, `{"from":"Nova","content":"on the replica"}`+"\n")
	b.mustTake(origin, id, lines)
	b.wantCopy(id, lines)
	for range 2 {
		raw, err := b.Raw(id)
		if err != nil || raw == nil || raw.Draft.Content != "on the replica" {
			t.Errorf("Raw: got %+v, %v, want the line on the replica", raw, err)
		}
		if got := b.state(id).Adopted; got != 0 {
			t.Errorf("state: got %d bytes adopted, want 0", got)
		}
		b.reopen()
	}
}

// TestCopyOfAMovedLog: a log that a person has moved away is asked for from its start.
func TestCopyOfAMovedLog(t *testing.T) {
	origin, id, lines := original(t, numbered("message ", 4)...)
	b := newBooks(t, ledger.Options{})
	b.mustTake(origin, id, lines[:3])
	if err := os.Rename(b.home.LogPath(id), b.home.LogPath(id)+".away"); err != nil {
		t.Fatal(err)
	}
	var gap *ledger.GapError
	if err := b.take(origin, id, lines[3:]); !errors.As(err, &gap) || gap.Last != 0 {
		t.Errorf("Copy: got %v, want a gap behind line 0", err)
	}
	b.mustTake(origin, id, lines)
	b.wantCopy(id, lines)
}

func TestHead(t *testing.T) {
	origin, id, lines := original(t, "one")
	b := newBooks(t, ledger.Options{})
	b.mustTake(origin, id, lines)
	origin.shell(id, "noise\n")
	want, _, err := origin.Head(context.Background(), id)
	got, state, err2 := b.Head(context.Background(), id)
	if err != nil || err2 != nil || got != want || got.Seq != 2 || len(got.Hash) != 64 || state.LastSeq != 2 {
		t.Errorf("Head: got %+v, %v and %+v, %v, want the same line 2", want, err, got, err2)
	}
	origin.say(id, "two")
	if later, _, err := origin.Head(context.Background(), id); err != nil || later.Seq != 3 || later.Hash == want.Hash {
		t.Errorf("Head: got %+v, %v, want line 3", later, err)
	}
	_, _, err = b.Head(context.Background(), "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3")
	wantError(t, "Head of no conversation", err, ledger.ErrNotFound)
}

// TestCutHistory: what comes in the place of lines that were imported and cut off is news.
func TestCutHistory(t *testing.T) {
	origin, id, lines := original(t, numbered("message ", 6)...)
	b := newBooks(t, ledger.Options{})
	if err := b.home.NoteImported([]maildir.Imported{{Conversation: id, Through: 7}}); err != nil {
		t.Fatal(err)
	}
	b.mustTake(origin, id, lines)
	imported := func(when string, want int64) {
		t.Helper()
		if got := b.Imported(id); got != want {
			t.Errorf("%s: got history through line %d, want %d", when, got, want)
		}
	}
	imported("at first", 7)
	cut := func(keep int64) error {
		return b.Cut(context.Background(), id, keep, func([]byte) error { return nil })
	}
	release, err := b.home.LockImport()
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "while something is imported", cut(4), maildir.ErrImporting)
	if err := release(); err != nil {
		t.Fatal(err)
	}
	b.wantCopy(id, lines)
	if err := cut(4); err != nil {
		t.Fatal(err)
	}
	imported("cut", 4)
	b.wantCopy(id, lines[:4])
	b.mustTake(origin, id, lines[4:])
	b.reopen()
	imported("after a restart", 4)
}

package convlog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
)

const conversation = "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3"

// unsynced is for tests that the disk would only slow down.
var unsynced = convlog.Options{Sync: func(*os.File) error { return nil }}

func message(content string) *envelope.Envelope {
	return &envelope.Envelope{
		ID: envelope.NewID(), Type: envelope.Message, Conversation: conversation,
		From: envelope.Address{Name: "Atlas", Host: "nyc"}, Content: content,
	}
}

// line is a valid line with its newline.
func line(seq int64, content string) []byte {
	e := message(content)
	e.ID = envelope.NamedID("line", strconv.FormatInt(seq, 10))
	e.Seq, e.Timestamp = seq, 1739654400000+seq
	return append(e.Append(nil), '\n')
}

// lines are the valid lines from first to last.
func lines(first, last int64) []byte {
	var log []byte
	for seq := first; seq <= last; seq++ {
		log = append(log, line(seq, fmt.Sprintf("message %d", seq))...)
	}
	return log
}

func join(parts ...any) []byte {
	var log []byte
	for _, p := range parts {
		log = fmt.Appendf(log, "%s", p)
	}
	return log
}

// writeLog puts a log with this content into a new folder.
func writeLog(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), conversation+".jsonl")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readLog(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// appendRaw appends as the shell does, without the lock.
func appendRaw(t testing.TB, path string, pieces ...string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for _, piece := range pieces {
		if _, err := f.WriteString(piece); err != nil {
			t.Error(err)
		}
	}
}

func openLog(t testing.TB, path string, opts convlog.Options) *convlog.Log {
	t.Helper()
	l, err := convlog.Open(path, convlog.Tail{}, nil, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// newLog makes a log with one line and opens it.
func newLog(t testing.TB, opts convlog.Options) (*convlog.Log, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), conversation+".jsonl")
	if err := convlog.Create(path, []*envelope.Envelope{message("first")}, time.Now()); err != nil {
		t.Fatal(err)
	}
	return openLog(t, path, opts), path
}

func update(l *convlog.Log, fill func(*convlog.Tx) error) error {
	return l.Update(context.Background(), fill)
}

func add(l *convlog.Log, envelopes ...*envelope.Envelope) error {
	return update(l, func(tx *convlog.Tx) error {
		for _, e := range envelopes {
			if err := tx.Add(e); err != nil {
				return err
			}
		}
		return nil
	})
}

func mustAdd(t testing.TB, l *convlog.Log, envelopes ...*envelope.Envelope) {
	t.Helper()
	if err := add(l, envelopes...); err != nil {
		t.Fatalf("Update: got %v, want no error", err)
	}
}

// reading is what a log says by the definition in the package comment.
type reading struct {
	lines    []convlog.Line // noise included
	valid    []convlog.Line
	damage   *convlog.DamageError
	fragment []byte
}

// reference reads a log the naive way.
func reference(log []byte) (r reading) {
	last, offset := int64(0), int64(0)
	for {
		text, rest, whole := bytes.Cut(log, []byte{'\n'})
		if !whole {
			r.fragment = log
			return r
		}
		seq := seqOf(text)
		switch {
		case seq > last+1:
			r.damage = &convlog.DamageError{Offset: offset, Want: last + 1, Got: seq}
			return r
		case seq <= last:
			seq = 0
		default:
			last = seq
		}
		if len(text) > envelope.MaxLine {
			text = nil
		}
		l := convlog.Line{Offset: offset, Seq: seq, Bytes: text}
		r.lines = append(r.lines, l)
		if seq > 0 {
			r.valid = append(r.valid, l)
		}
		offset += int64(len(log) - len(rest))
		log = rest
	}
}

// seqOf is the seq of a JSON object within the line limit, 0 for all else.
func seqOf(text []byte) (seq int64) {
	if len(text) > envelope.MaxLine {
		return 0
	}
	err := envelope.Members(text, func(name string, value json.RawMessage) error {
		if name == "seq" {
			seq, _ = strconv.ParseInt(string(value), 10, 64)
		}
		return nil
	})
	if err != nil || seq < 0 || seq > envelope.MaxInt {
		return 0
	}
	return seq
}

func (r reading) err() error {
	if r.damage == nil {
		return nil
	}
	return r.damage
}

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// collect reads a scanner to its end.
func collect(s *convlog.Scanner) (got []convlog.Line, err error) {
	for s.Next() {
		l := s.Line()
		l.Bytes = bytes.Clone(l.Bytes)
		got = append(got, l)
	}
	return got, s.Err()
}

func wantLines(t tb, what string, got, want []convlog.Line) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: got %d lines, want %d", what, len(got), len(want))
	}
	for i := range want {
		wantLine(t, what, got[i], want[i])
	}
}

func wantLine(t tb, what string, got, want convlog.Line) {
	t.Helper()
	if got.Seq != want.Seq || got.Offset != want.Offset || !bytes.Equal(got.Bytes, want.Bytes) {
		t.Fatalf("%s: got line %d at byte %d (%.80q), want line %d at byte %d (%.80q)",
			what, got.Seq, got.Offset, got.Bytes, want.Seq, want.Offset, want.Bytes)
	}
}

func wantErr(t tb, what string, got, want error) {
	t.Helper()
	var gotDamage, wantDamage *convlog.DamageError
	if errors.As(want, &wantDamage) {
		if !errors.As(got, &gotDamage) || *gotDamage != *wantDamage {
			t.Fatalf("%s: got error %v, want %v", what, got, want)
		}
		return
	}
	if !errors.Is(got, want) {
		t.Fatalf("%s: got error %v, want %v", what, got, want)
	}
}

// wantDense checks that a log is sound, that nothing stands in it twice, and that
// each acknowledged id has the seq that was acknowledged.
func wantDense(t testing.TB, path string, acked map[string]int64) {
	t.Helper()
	r := reference(readLog(t, path))
	if r.damage != nil {
		t.Fatalf("log: got %v, want no damage", r.damage)
	}
	got := make(map[string]int64)
	time := int64(0)
	for _, l := range r.valid {
		e, err := envelope.Decode(l.Bytes)
		if err != nil {
			t.Fatalf("line %d: got %v, want an envelope", l.Seq, err)
		}
		if first, twice := got[e.ID]; twice {
			t.Errorf("id %s: got it as line %d and line %d, want it once", e.ID, first, l.Seq)
		}
		if e.Timestamp < time {
			t.Errorf("line %d: got timestamp %d behind %d, want it not to go back", l.Seq, e.Timestamp, time)
		}
		got[e.ID], time = l.Seq, e.Timestamp
	}
	for id, seq := range acked {
		if got[id] != seq {
			t.Errorf("acknowledged id %s: got it as line %d, want line %d", id, got[id], seq)
		}
	}
}

// wantContents checks the contents of the valid lines of a log.
func wantContents(t testing.TB, path string, want ...string) {
	t.Helper()
	var got []string
	r := reference(readLog(t, path))
	for _, l := range r.valid {
		e, err := envelope.Decode(l.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Content)
	}
	if diff := cmp.Diff(want, got); diff != "" || r.damage != nil {
		t.Errorf("contents (-want +got), damage %v:\n%s", r.damage, diff)
	}
}

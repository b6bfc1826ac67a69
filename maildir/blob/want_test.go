package blob_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/blob"
)

func noted(t *testing.T, s *blob.Store, text string) blob.Want {
	t.Helper()
	w := blob.Want{SHA256: sumOf(text), Size: int64(len(text)), Since: 5, Sources: []blob.Source{{Host: "nyc", Conversation: "c", Seq: 7}, {Host: "ber", Request: "r"}}}
	if err := s.Note(w); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestFinish: what has come piece by piece is a blob when all of it is there, and nothing
// is left beside it.
func TestFinish(t *testing.T) {
	s, dir := newStore(t)
	now := time.Now().Truncate(time.Second)
	w := noted(t, s, "hello world")
	if got, err := s.WantOf(w.SHA256); err != nil || !reflect.DeepEqual(got, w) || got.From() != "ber or nyc" {
		t.Errorf("got %+v, %v; want %+v", got, err, w)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.Continue(w.SHA256, 0, []byte("hello"), now))
	if n, last := s.Part(w.SHA256); n != 5 || !last.Equal(now) {
		t.Errorf("got %d bytes of %s, want 5 of %s", n, last, now)
	}
	if err := s.Finish(context.Background(), w.SHA256, now); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("half: got %v", err)
	}
	if err := s.Continue(w.SHA256, 4, []byte("x"), now); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("elsewhere: got %v", err)
	}
	must(s.Continue(w.SHA256, 5, []byte(" world"), now))
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Finish(ended, w.SHA256, now); !errors.Is(err, context.Canceled) {
		t.Errorf("at an end: got %v", err)
	}
	must(s.Finish(context.Background(), w.SHA256, now))
	wantContent(t, s, w.SHA256, "hello world")
	if left := names(t, filepath.Join(dir, blob.WantDir)); len(left) != 0 {
		t.Errorf("got %q left", left)
	}
	if size, ok := s.Has(w.SHA256); size != 11 || !ok {
		t.Errorf("got %d, %t", size, ok)
	}
	p := make([]byte, 5)
	for from, want := range map[int64]string{0: "hello", 6: "world", 9: "ld", 11: "", 99: ""} {
		if n, size, err := s.Piece(w.SHA256, from, p); string(p[:n]) != want || size != 11 || err != nil {
			t.Errorf("from %d: got %q of %d, %v; want %q", from, p[:n], size, err, want)
		}
	}
}

// TestStrangeParts: what somebody has put into the place of a beginning is not written
// through, nor made a blob.
func TestStrangeParts(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	for name, put := range map[string]func(path string) error{
		"link":        func(path string) error { return os.Symlink(other, path) },
		"second name": func(path string) error { return os.Link(other, path) },
		"folder":      func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		s, dir := newStore(t)
		w := noted(t, s, "hello")
		if err := os.WriteFile(other, []byte("hello"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := put(filepath.Join(dir, blob.WantDir, w.SHA256+".part")); err != nil {
			t.Fatal(err)
		}
		if n, _ := s.Part(w.SHA256); n != 0 {
			t.Errorf("%s: got %d bytes of it", name, n)
		}
		if err := s.Finish(context.Background(), w.SHA256, time.Now()); !errors.Is(err, blob.ErrDamaged) {
			t.Errorf("%s: finish: got %v", name, err)
		}
		if err := s.Continue(w.SHA256, 0, []byte("hello"), time.Now()); err != nil {
			t.Errorf("%s: continue: got %v", name, err)
		}
		if err := s.Finish(context.Background(), w.SHA256, time.Now()); err != nil {
			t.Errorf("%s: finish: got %v", name, err)
		}
		wantContent(t, s, w.SHA256, "hello")
		if data, err := os.ReadFile(other); err != nil || string(data) != "hello" {
			t.Errorf("%s: the other file is %q, %v", name, data, err)
		}
	}
}

func TestOnlySumsAreWanted(t *testing.T) {
	s, dir := newStore(t)
	noted(t, s, "hello")
	if err := os.WriteFile(filepath.Join(dir, "x.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "../x", strings.ToUpper(sumOf("hello")), sumOf("none")} {
		if _, err := s.WantOf(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("record of %q: got %v", name, err)
		}
		if err := s.Forget(name); err != nil {
			t.Errorf("forget %q: got %v", name, err)
		}
		if _, ok := s.Has(name); ok {
			t.Errorf("has %q", name)
		}
		if n, _ := s.Part(name); n != 0 {
			t.Errorf("part of %q: got %d", name, n)
		}
	}
	if err := s.Note(blob.Want{SHA256: "../x"}); err == nil {
		t.Error("a record of no sum is taken")
	}
	if list, err := s.Wanted(); err != nil || len(list) != 1 {
		t.Errorf("got %v, %v; want one", list, err)
	}
	if list, err := blob.At(filepath.Join(dir, "none"), 1).Wanted(); err != nil || len(list) != 0 {
		t.Errorf("no folder: got %v, %v", list, err)
	}
}

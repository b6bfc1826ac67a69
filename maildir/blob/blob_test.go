package blob_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/durable"
)

const limit = 1000

func newStore(t *testing.T) (*blob.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "blobs")
	return blob.At(dir, limit), dir
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func put(t *testing.T, s *blob.Store, text string) string {
	t.Helper()
	b, err := s.Put(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return b.SHA256
}

// names lists what is in the folder.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func wantContent(t *testing.T, s *blob.Store, sum, want string) {
	t.Helper()
	f, err := s.Open(sum)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != want {
		t.Errorf("got %.20q, %v; want %.20q", got, err, want)
	}
}

func TestPutAndOpen(t *testing.T) {
	s, dir := newStore(t)
	for _, text := range []string{"", "hello", strings.Repeat("x", limit)} {
		b, err := s.Put(strings.NewReader(text))
		if err != nil || b.SHA256 != sumOf(text) || b.Size != int64(len(text)) || string(b.Head) != text[:min(512, len(text))] {
			t.Errorf("%.20q: got %+v, %v", text, b, err)
		}
		wantContent(t, s, b.SHA256, text)
	}
	if got := names(t, dir); len(got) != 3 {
		t.Errorf("got %q, want three blobs and nothing else", got)
	}
	info, err := os.Stat(filepath.Join(dir, sumOf("hello")))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v; want mode 0600", info.Mode(), err)
	}
}

// TestRefusedPutsLeaveNothing: one that is too large, and one whose source fails.
func TestRefusedPutsLeaveNothing(t *testing.T) {
	s, dir := newStore(t)
	if _, err := s.Put(strings.NewReader(strings.Repeat("x", limit+1))); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("too large: got %v", err)
	}
	broken := errors.New("broken")
	if _, err := s.Put(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("broken off: got %v", err)
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("got %q, want nothing", got)
	}
}

// TestPutMends: whatever stands in a blob's place, the content that was put is there
// afterwards, and what a link leads to is left alone.
func TestPutMends(t *testing.T) {
	s, dir := newStore(t)
	path := filepath.Join(dir, put(t, s, "hello"))
	other := filepath.Join(t.TempDir(), "other")
	for name, spoil := range map[string]func() error{
		"other content": func() error { return os.WriteFile(path, []byte("hellO"), 0o600) },
		"shorter":       func() error { return os.Truncate(path, 2) },
		"link": func() error {
			return errors.Join(os.Remove(path), os.WriteFile(other, []byte("hello"), 0o600), os.Symlink(other, path))
		},
		"second name": func() error { return os.Link(path, filepath.Join(dir, "second")) },
		"pipe":        func() error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		f, err := s.Open(sumOf("hello"))
		if !errors.Is(err, blob.ErrDamaged) && !errors.Is(err, durable.ErrForeign) {
			t.Errorf("%s: got %v, %v; want it refused", name, f, err)
		}
		put(t, s, "hello")
		wantContent(t, s, sumOf("hello"), "hello")
	}
	if data, err := os.ReadFile(other); err != nil || string(data) != "hello" {
		t.Errorf("behind the link: got %q, %v", data, err)
	}
}

func TestOnlySumsAreNames(t *testing.T) {
	s, dir := newStore(t)
	put(t, s, "hello")
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), "key"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "../key", "key", strings.ToUpper(sumOf("hello")), sumOf("hello") + "0", strings.Repeat("../x", 16), sumOf("none")} {
		if f, err := s.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open %q: got %v, %v; want fs.ErrNotExist", name, f, err)
		}
		if err := s.Use(name, 5, time.Now()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("use %q: got %v; want fs.ErrNotExist", name, err)
		}
		if done, err := s.Remove(name, time.Now().Add(time.Hour)); done || err != nil {
			t.Errorf("remove %q: got %t, %v", name, done, err)
		}
	}
	if _, err := blob.At(filepath.Join(dir, "none"), limit).Open(sumOf("hello")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: got %v", err)
	}
}

// TestWhatIsUsedStays: a blob that was put or used since a time is neither old nor
// removed, however long ago it was put before.
func TestWhatIsUsedStays(t *testing.T) {
	s, dir := newStore(t)
	old, used, again := put(t, s, "old"), put(t, s, "used"), put(t, s, "again")
	long := time.Now().Add(-100 * time.Hour)
	for _, name := range names(t, dir) {
		if err := os.Chtimes(filepath.Join(dir, name), long, long); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now().Add(-time.Hour)
	list, err := s.Old(before)
	if err != nil || len(list) != 3 {
		t.Fatalf("got %q, %v; want all three", list, err)
	}
	if err := s.Use(used, 4, time.Now()); err != nil {
		t.Error(err)
	}
	if err := s.Use(old, 4, time.Now()); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("another size: got %v", err)
	}
	put(t, s, "again")
	for sum, want := range map[string]bool{old: true, used: false, again: false} {
		if done, err := s.Remove(sum, before); done != want || err != nil {
			t.Errorf("remove: got %t, %v; want %t", done, err, want)
		}
	}
	if got := names(t, dir); slices.Contains(got, old) || len(got) != 2 {
		t.Errorf("got %q, want the two that were used", got)
	}
}

func TestSums(t *testing.T) {
	a, b := sumOf("a"), sumOf("b")
	for text, want := range map[string][]string{
		"":                              nil,
		a:                               {a},
		`{"sha256":"` + a + `"}` + b:    {a, b},
		a + b:                           nil, // a run of another length is none
		a[:63]:                          nil,
		strings.ToUpper(a) + " " + a:    {a},
		strings.Repeat("0", 129) + "\n": nil,
		"x" + a + "g" + b + "\x00":      {a, b},
		a[:32] + "\n" + a[32:]:          nil,
	} {
		var got []string
		err := blob.Sums(iotest.OneByteReader(strings.NewReader(text)), func(sum string) { got = append(got, sum) })
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
	broken := errors.New("broken")
	if err := blob.Sums(iotest.ErrReader(broken), func(string) {}); !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of the reader", err)
	}
}

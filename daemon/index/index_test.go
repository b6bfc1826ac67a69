package index_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/index"
)

func open(t *testing.T, path string, wantFresh bool) *index.Index {
	t.Helper()
	x, fresh, err := index.Open(path)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if fresh != wantFresh {
		t.Errorf("Open: got fresh %v, want %v", fresh, wantFresh)
	}
	return x
}

func put(t *testing.T, x *index.Index, key, value string) {
	t.Helper()
	if err := x.Put(key, []byte(value)); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

func wantValue(t *testing.T, x *index.Index, key, want string) {
	t.Helper()
	got, ok := x.Get(key)
	if !ok || string(got) != want {
		t.Errorf("Get(%q): got %q, %v, want %q", key, got, ok, want)
	}
}

func wantNone(t *testing.T, x *index.Index, key string) {
	t.Helper()
	if got, ok := x.Get(key); ok {
		t.Errorf("Get(%q): got %q, want nothing", key, got)
	}
}

func shut(t *testing.T, x *index.Index) {
	t.Helper()
	if err := x.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func TestValuesSurviveReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	x := open(t, path, false)
	wantNone(t, x, "a")
	put(t, x, "a", "1")
	put(t, x, "a", "2")
	put(t, x, "b", "line\r\nline\x00")
	wantValue(t, x, "a", "2")
	shut(t, x)
	x = open(t, path, false)
	wantValue(t, x, "a", "2")
	wantValue(t, x, "b", "line\r\nline\x00")
	shut(t, x)
}

func TestOnlyItsOwnerReadsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	x := open(t, path, false)
	put(t, x, "a", "1")
	shut(t, x)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode: got %04o, want 0600", got)
	}
}

func TestGarbageIsThrownAway(t *testing.T) {
	random := make([]byte, 4096)
	for i := range random {
		random[i] = byte(rand.N(256))
	}
	random[0] = 'x'
	for name, test := range map[string]struct {
		content []byte
		fresh   bool // else buntdb has cut it as what a crash has left
	}{
		"text":     {[]byte("this is no index\r\n"), true},
		"random":   {random, true},
		"zeroes":   {make([]byte, 4096), false},
		"unending": {[]byte("*3\r\n$3\r\nset\r\n$99999999\r\n"), false},
	} {
		path := filepath.Join(t.TempDir(), "index.db")
		if err := os.WriteFile(path, test.content, 0o600); err != nil {
			t.Fatal(err)
		}
		x, fresh, err := index.Open(path)
		if err != nil {
			t.Errorf("%s: Open: got %v, want an empty index", name, err)
			continue
		}
		if fresh != test.fresh {
			t.Errorf("%s: got fresh %v, want %v", name, fresh, test.fresh)
		}
		put(t, x, "a", "1")
		shut(t, x)
		x = open(t, path, false)
		wantValue(t, x, "a", "1")
		shut(t, x)
	}
}

func TestWhatIsNoFileIsThrownAway(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"pipe":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"link":   func(path string) error { return os.Symlink("pipe", path) },
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		path := filepath.Join(t.TempDir(), "index.db")
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			x, fresh, err := index.Open(path)
			if err != nil || !fresh {
				t.Errorf("%s: Open: got fresh %v, %v, want an empty index", name, fresh, err)
				return
			}
			if err := errors.Join(x.Put("a", []byte("1")), x.Close()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatalf("%s: Open hangs", name)
		}
		x := open(t, path, false)
		wantValue(t, x, "a", "1")
		shut(t, x)
	}
}

// TestTornIndex: whatever a crash leaves of the file, what is read was written.
func TestTornIndex(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	x := open(t, path, false)
	for i := range 10 {
		put(t, x, fmt.Sprint(i), fmt.Sprint("value ", i))
	}
	shut(t, x)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		if err := os.WriteFile(path, bytes.Clone(whole[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		x, _, err := index.Open(path)
		if err != nil {
			t.Fatalf("cut at byte %d: Open: %v", cut, err)
		}
		for i := range 10 {
			if got, ok := x.Get(fmt.Sprint(i)); ok && string(got) != fmt.Sprint("value ", i) {
				t.Errorf("cut at byte %d: got %q for %d, want its value or nothing", cut, got, i)
			}
		}
		shut(t, x)
	}
}

func TestMissingFolder(t *testing.T) {
	if _, _, err := index.Open(filepath.Join(t.TempDir(), "run", "index.db")); err == nil {
		t.Error("Open without its folder: got no error, want one")
	}
}

func TestInMemory(t *testing.T) {
	x, err := index.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	put(t, x, "a", "1")
	wantValue(t, x, "a", "1")
	shut(t, x)
}

func TestAfterClose(t *testing.T) {
	x := open(t, filepath.Join(t.TempDir(), "index.db"), false)
	shut(t, x)
	if err := x.Put("a", nil); err == nil {
		t.Error("Put after Close: got no error, want one")
	}
	wantNone(t, x, "a")
	if err := x.Close(); err == nil {
		t.Error("second Close: got no error, want one")
	}
}

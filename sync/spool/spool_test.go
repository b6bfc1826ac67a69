package spool_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/spool"
	"pgregory.net/rapid"
)

func open(t testing.TB, dir string, limits spool.Limits) *spool.Spool {
	t.Helper()
	s, err := spool.Open(dir, limits)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// id is the id of a number.
func id(n int) string { return envelope.NamedID("test", fmt.Sprint(n)) }

func add(t testing.TB, s *spool.Spool, n int) {
	t.Helper()
	if waits, err := s.Add(id(n), fmt.Appendf(nil, "item %d", n)); err != nil || waits {
		t.Fatalf("Add(%d): got %v, %v, want it added", n, waits, err)
	}
}

// want compares what waits, in order.
func want(t testing.TB, s *spool.Spool, numbers ...int) {
	t.Helper()
	var ids []string
	size := 0
	for _, item := range s.Behind(0, 100) {
		ids = append(ids, item.ID)
	}
	for i, n := range numbers {
		text := fmt.Sprintf("item %d", n)
		size += len(text)
		if i >= len(ids) || ids[i] != id(n) {
			t.Fatalf("got %d items %q, want %v", len(ids), ids, numbers)
		}
		if data, err := s.Read(id(n)); err != nil || string(data) != text {
			t.Errorf("Read(%d): got %q, %v, want %q", n, data, err, text)
		}
	}
	if len(ids) != len(numbers) || s.Len() != len(numbers) || s.Bytes() != int64(size) {
		t.Errorf("got %d items, Len %d, Bytes %d, want %d and %d bytes", len(ids), s.Len(), s.Bytes(), len(numbers), size)
	}
}

func TestOrder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Limits{})
	for n := range 12 {
		add(t, s, n)
	}
	if err := s.Remove(id(3)); err != nil {
		t.Fatal(err)
	}
	if waits, err := s.Add(id(5), []byte("again")); err != nil || !waits {
		t.Errorf("Add of what waits: got %v, %v, want true", waits, err)
	}
	if err := s.Remove(id(99)); err != nil {
		t.Errorf("Remove of what does not wait: %v", err)
	}
	if _, err := s.Read(id(3)); !errors.Is(err, spool.ErrNotFound) {
		t.Errorf("Read of what was removed: got %v, want ErrNotFound", err)
	}
	order := []int{0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11}
	want(t, s, order...)
	s = open(t, dir, spool.Limits{})
	want(t, s, order...)
	add(t, s, 3)
	want(t, s, append(order, 3)...)
	if behind := s.Behind(s.Behind(0, 100)[9].Number, 1); len(behind) != 1 || behind[0].ID != id(11) {
		t.Errorf("Behind: got %v, want the next one", behind)
	}
}

func TestFull(t *testing.T) {
	s := open(t, t.TempDir(), spool.Limits{Items: 2, Bytes: 100})
	add(t, s, 0)
	if _, err := s.Add(id(1), make([]byte, 95)); !errors.Is(err, spool.ErrFull) {
		t.Errorf("too many bytes: got %v, want ErrFull", err)
	}
	add(t, s, 1)
	if _, err := s.Add(id(2), nil); !errors.Is(err, spool.ErrFull) {
		t.Errorf("too many items: got %v, want ErrFull", err)
	}
	if waits, err := s.Add(id(1), nil); !waits || err != nil {
		t.Errorf("what waits in a full one: got %v, %v, want true", waits, err)
	}
	if err := s.Remove(id(0)); err != nil {
		t.Fatal(err)
	}
	add(t, s, 2)
	want(t, s, 1, 2)
}

func TestRefuses(t *testing.T) {
	s := open(t, t.TempDir(), spool.Limits{})
	for _, id := range []string{"", "../x", strings.ToUpper(id(1)), id(1) + "/"} {
		if _, err := s.Add(id, nil); err == nil {
			t.Errorf("Add(%q): got no error", id)
		}
	}
	if _, err := s.Add(id(1), make([]byte, spool.MaxItem+1)); err == nil {
		t.Error("an item that is too large: got no error")
	}
	want(t, s)
}

// TestCrash opens what a crash leaves after each step of Add and Remove.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	add(t, open(t, dir, spool.Limits{}), 0)
	for _, name := range []string{id(1), "torn"} { // written in part, not renamed
		if err := os.WriteFile(filepath.Join(dir, spool.Tmp, name), []byte("ite"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir, spool.Limits{})
	want(t, s, 0)
	if left, _ := os.ReadDir(filepath.Join(dir, spool.Tmp)); len(left) > 0 {
		t.Errorf("got %d files in tmp, want none", len(left))
	}
	add(t, s, 1)
	before := files(t, dir)
	if err := s.Remove(id(0)); err != nil {
		t.Fatal(err)
	}
	for name, data := range before { // the removal did not come to the disk
		if err := os.WriteFile(filepath.Join(dir, spool.New, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, spool.Limits{})
	want(t, s, 0, 1)
	add(t, s, 2)
	want(t, s, 0, 1, 2)
}

// TestAddIsOnDisk: when Add returns, the file has its name, and nothing is left elsewhere.
func TestAddIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Limits{})
	for n := range 3 {
		add(t, s, n)
		if found := files(t, dir); len(found) != n+1 {
			t.Errorf("got %d files, want %d", len(found), n+1)
		}
	}
}

func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, spool.New))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]byte)
	for _, e := range entries {
		if all[e.Name()], err = os.ReadFile(filepath.Join(dir, spool.New, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestOthersFiles: what is no item stays, and an item that somebody has removed is gone.
func TestOthersFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Limits{})
	add(t, s, 0)
	add(t, s, 1)
	for _, name := range []string{"README", "1." + id(7) + ".json", "00000000000000000009.x.json"} {
		if err := os.WriteFile(filepath.Join(dir, spool.New, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, spool.Limits{})
	want(t, s, 0, 1)
	first := slices.Sorted(func(yield func(string) bool) {
		for name := range files(t, dir) {
			if strings.Contains(name, id(0)) && !yield(name) {
				return
			}
		}
	})[0]
	if err := os.Remove(filepath.Join(dir, spool.New, first)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(id(0)); !errors.Is(err, spool.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	want(t, s, 1)
}

func TestFailedWrite(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Limits{})
	if err := os.Mkdir(filepath.Join(dir, spool.Tmp, id(0)), 0o700); err != nil { // nothing can be written there
		t.Fatal(err)
	}
	if _, err := s.Add(id(0), []byte("item 0")); err == nil {
		t.Error("got no error where nothing can be written")
	}
	want(t, s)
	add(t, s, 0) // what was in the way is gone
	want(t, s, 0)
}

func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Limits{})
	var all sync.WaitGroup
	for n := range 40 {
		all.Go(func() {
			if _, err := s.Add(id(n%20), fmt.Appendf(nil, "item %d", n%20)); err != nil {
				t.Error(err)
			}
			if n%20 >= 10 {
				if err := s.Remove(id(n % 20)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for n := range 10 {
		if data, err := s.Read(id(n)); err != nil || !bytes.Equal(data, fmt.Appendf(nil, "item %d", n)) {
			t.Errorf("Read(%d): got %q, %v", n, data, err)
		}
	}
	if again := open(t, dir, spool.Limits{}); again.Len() != s.Len() || again.Bytes() != s.Bytes() {
		t.Errorf("opened again: got %d items, want %d", again.Len(), s.Len())
	}
}

// TestAnySteps compares a spool with a list, over restarts.
func TestAnySteps(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		s := open(t, dir, spool.Limits{})
		var model []int
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			n := rapid.IntRange(0, 6).Draw(rt, "n")
			switch i := slices.Index(model, n); rapid.SampledFrom([]string{"add", "add", "remove", "restart"}).Draw(rt, "step") {
			case "add":
				waits, err := s.Add(id(n), fmt.Appendf(nil, "item %d", n))
				if err != nil || waits != (i >= 0) {
					rt.Fatalf("Add(%d): got %v, %v", n, waits, err)
				}
				if i < 0 {
					model = append(model, n)
				}
			case "remove":
				if err := s.Remove(id(n)); err != nil {
					rt.Fatal(err)
				}
				if i >= 0 {
					model = slices.Delete(model, i, i+1)
				}
			case "restart":
				s = open(t, dir, spool.Limits{})
			}
			want(t, s, model...)
		}
	})
}

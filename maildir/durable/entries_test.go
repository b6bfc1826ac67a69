package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/claude-duo/duo/maildir/durable"
)

// TestEntries lists more than are held at once, stops where its caller does, and says what
// is wrong with the folder.
func TestEntries(t *testing.T) {
	dir := t.TempDir()
	want := make(map[string]bool)
	for i := range 2500 {
		name := fmt.Sprint(i)
		want[name] = true
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for e, err := range durable.Entries(dir) {
		if err != nil || !want[e.Name()] {
			t.Fatalf("got %v, %v, want each file once", e, err)
		}
		delete(want, e.Name())
	}
	if len(want) > 0 {
		t.Errorf("%d files are not listed", len(want))
	}
	for range durable.Entries(dir) {
		break
	}
	for e, err := range durable.Entries(filepath.Join(dir, "none")) {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no folder: got %v, %v, want %v", e, err, fs.ErrNotExist)
		}
	}
}

package ledger_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/ledger"
)

// TestLatest lists the logs by when they changed: as they lie there at first, then as the
// ledger learns of changes. It looks at no other log again.
func TestLatest(t *testing.T) {
	b := newBooks(t, ledger.Options{})
	one, two, three := b.create("one"), b.create("two"), b.create("three")
	b.age(three, 30)
	b.age(one, 20)
	b.age(two, 10)
	b.wantLatest("at first", two, one, three)
	b.wantLatest("again", two, one, three)
	b.say(one, "hi")
	b.age(one, 9)
	b.wantLatest("one has grown", one, two, three)
	b.shell(three, "a line by somebody else\n")
	b.age(three, 8)
	b.refresh(three)
	b.wantLatest("three was written to", three, one, two)
	b.age(three, 40) // of which nobody tells
	four := b.create("four")
	b.age(four, 7)
	b.wantLatest("a new one", four, three, one, two)
	if err := os.Remove(b.home.LogPath(four)); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	b.wantLatest("after a restart", one, two, three)
}

// age makes a log as old as that: several changes may have one time.
func (b *books) age(id string, seconds int) {
	b.t.Helper()
	at := time.Now().Add(-time.Duration(seconds) * time.Second)
	if err := os.Chtimes(b.home.LogPath(id), at, at); err != nil {
		b.t.Fatal(err)
	}
}

func (b *books) wantLatest(what string, want ...string) {
	b.t.Helper()
	got, err := b.Latest()
	if err != nil || !slices.Equal(got, want) {
		b.t.Errorf("%s: got %q, %v, want %q", what, got, err, want)
	}
}

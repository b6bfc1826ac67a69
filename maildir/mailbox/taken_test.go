package mailbox_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// hide does to a drop what a crash leaves of one on its way out, and returns the folder.
func hide(t *testing.T, b *mailbox.Box, name string) string {
	t.Helper()
	dir := at(b, mailbox.OutboxNew, ".taken-"+envelope.NewID())
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Rename(at(b, mailbox.OutboxNew, name), filepath.Join(dir, name)))
	return dir
}

// dropNames lists the drops by name.
func dropNames(t *testing.T, b *mailbox.Box) []string {
	t.Helper()
	drops, err := b.Drops()
	must(t, err)
	names := make([]string, len(drops))
	for i, d := range drops {
		names[i] = d.Name
	}
	slices.Sort(names)
	return names
}

// putOver waits for a file, and in that moment renames another drop over a.json.
func putOver(t *testing.T, b *mailbox.Box, when, content string) (done func()) {
	t.Helper()
	temp := at(b, mailbox.OutboxTmp, "next")
	write(t, temp, content)
	var group sync.WaitGroup
	group.Go(func() {
		for !exists(when) && t.Context().Err() == nil {
			// a moment later is too late
		}
		if err := os.Rename(temp, at(b, mailbox.OutboxNew, "a.json")); err != nil {
			t.Error(err)
		}
	})
	return group.Wait
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Who renames the next drop over the last one at the very moment when that one is taken
// away has written another drop. It stays.
func TestDropThatTakesThePlaceOfOneOnItsWayOut(t *testing.T) {
	const times = 200
	b := newBox(t)
	content := func(n int) string { return fmt.Sprintf(`{"to":"Nova","content":"%d"}`, n) }
	renameIn(t, b, "a.json", content(0))
	for n := range times {
		l := load(t, b, drop(t, b, "a.json"))
		if want := fmt.Sprint(n); l.Draft.Content != want {
			t.Fatalf("the drop: got %q, want %q", l.Draft.Content, want)
		}
		sent := at(b, mailbox.Sent, "a.json")
		done := putOver(t, b, sent, content(n+1))
		must(t, b.Done(l, sentStamp))
		done()
		must(t, os.Remove(sent))
		wantNames(t, b, mailbox.OutboxNew, "a.json")
	}
}

func TestDropThatTakesThePlaceOfOneThatFails(t *testing.T) {
	b := newBox(t)
	for range 20 {
		l := wantBad(t, b, renameIn(t, b, "a.json", "{"), 0, "invalid")
		aside := at(b, mailbox.Failed, "a.json.error")
		done := putOver(t, b, aside, jsonDrop)
		must(t, b.Fail(l, failedStamp))
		done()
		if got := load(t, b, drop(t, b, "a.json")).Draft.Content; got != "hi" {
			t.Fatalf("the drop: got %q, want the new one", got)
		}
		for _, name := range []string{"a.json", "a.json.error"} {
			_ = os.RemoveAll(at(b, mailbox.Failed, name)) // there where the bad one was faster
		}
	}
}

// A crash leaves a drop hidden. The next listing has it again, as the same message.
func TestDropThatACrashHasLeftOnItsWayOut(t *testing.T) {
	for _, name := range []string{"a.json", strings.Repeat("x", 250) + ".json", strings.Repeat("世", 83) + ".json"} {
		b := newBox(t)
		l := load(t, b, renameIn(t, b, name, jsonDrop))
		must(t, os.Mkdir(at(b, mailbox.OutboxNew, ".taken-empty"), 0o700))
		hide(t, b, name)
		if got := dropNames(t, b); !slices.Equal(got, []string{name}) {
			t.Fatalf("Drops: got %q, want %q", got, name)
		}
		wantNames(t, b, mailbox.OutboxNew, name)
		again := load(t, b, drop(t, b, name))
		if again.Draft.ID != l.Draft.ID || again.Draft.Content != "hi" {
			t.Errorf("the drop: got %+v, want %+v", again.Draft, l.Draft)
		}
	}
}

// Where another drop has the name of one that was left hidden, both are taken, one
// after the other.
func TestDropWhoseNameIsTakenStaysHidden(t *testing.T) {
	b := newBox(t)
	renameIn(t, b, "a.json", `{"to":"Nova","content":"first"}`)
	dir := hide(t, b, "a.json")
	l := load(t, b, renameIn(t, b, "a.json", jsonDrop)) // lists the drops
	if l.Draft.Content != "hi" {
		t.Errorf("the drop: got %q, want the one that has the name", l.Draft.Content)
	}
	wantContent(t, filepath.Join(dir, "a.json"), `{"to":"Nova","content":"first"}`)
	must(t, b.Done(l, sentStamp))
	if got := load(t, b, drop(t, b, "a.json")).Draft.Content; got != "first" {
		t.Errorf("the next drop: got %q, want the one that was hidden", got)
	}
	wantNames(t, b, mailbox.OutboxNew, "a.json")
}

// Where files are renamed by link, a crash can leave both names of one file.
func TestDropThatIsHalfPutBack(t *testing.T) {
	b := newBox(t)
	renameIn(t, b, "a.json", jsonDrop)
	dir := hide(t, b, "a.json")
	must(t, os.Link(filepath.Join(dir, "a.json"), at(b, mailbox.OutboxNew, "a.json")))
	if got := load(t, b, drop(t, b, "a.json")).Draft.Content; got != "hi" {
		t.Errorf("the drop: got %q, want it once", got)
	}
	wantNames(t, b, mailbox.OutboxNew, "a.json")
}

// Somebody may list the drops while another one takes them. Nothing comes back that
// was taken.
func TestDropsAreListedWhileOthersAreTaken(t *testing.T) {
	b := newBox(t)
	stop := make(chan struct{})
	var lister sync.WaitGroup
	lister.Go(func() {
		for {
			if _, err := b.Drops(); err != nil {
				t.Errorf("Drops: got %v, want no error", err)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for n := range 300 {
		name := fmt.Sprint(n, ".json")
		l := load(t, b, renameIn(t, b, name, jsonDrop))
		for err := b.Done(l, sentStamp); err != nil; err = b.Done(l, sentStamp) {
			if !strings.Contains(err.Error(), "another program") {
				t.Fatalf("Done: got %v, want no error", err)
			}
		}
		if exists(at(b, mailbox.OutboxNew, name)) {
			t.Fatalf("%s is there again, want it gone", name)
		}
	}
	close(stop)
	lister.Wait()
	wantNames(t, b, mailbox.OutboxNew)
}

func TestHiddenFileThatIsNoTakenDrop(t *testing.T) {
	b := newBox(t)
	write(t, at(b, mailbox.OutboxNew, ".taken-notes.json"), jsonDrop)
	if got := dropNames(t, b); len(got) != 0 {
		t.Errorf("Drops: got %q, want none", got)
	}
	wantContent(t, at(b, mailbox.OutboxNew, ".taken-notes.json"), jsonDrop)
}

// What cannot be moved to failed/ is a drop still.
func TestDropThatCannotLeave(t *testing.T) {
	b := newBox(t)
	l := wantBad(t, b, renameIn(t, b, "a.json", "{"), 0, "invalid")
	must(t, os.RemoveAll(at(b, mailbox.Failed)))
	write(t, at(b, mailbox.Failed), "in the way")
	if err := b.Fail(l, failedStamp); err == nil {
		t.Error("Fail: got no error, want one")
	}
	wantNames(t, b, mailbox.OutboxNew, "a.json")
}

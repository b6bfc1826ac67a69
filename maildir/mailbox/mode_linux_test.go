package mailbox_test

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/mailbox"
	"golang.org/x/sys/unix"
)

// asAnybody takes from this goroutine root's right to read every file, so that modes
// count as they do for users.
func asAnybody(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // and never unlock it: the thread ends with the test
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	must(t, unix.Capget(&header, &sets[0]))
	sets[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	must(t, unix.Capset(&header, &sets[0]))
}

// A drop that we may not read is one that cannot be read, and no reason to try for ever.
func TestDropThatMayNotBeRead(t *testing.T) {
	asAnybody(t)
	b := newBox(t)
	renameIn(t, b, "a.json", jsonDrop)
	must(t, os.Chmod(at(b, mailbox.OutboxNew, "a.json"), 0))
	d := drop(t, b, "a.json")
	wantWait(t, b, d, 0, 2*time.Second) // its writer may be about to give it its mode
	wantWait(t, b, d, 2*time.Second-1, 1)
	l := wantBad(t, b, d, 2*time.Second, "mode")
	if _, err := b.Load(d, "Atlas", d.Changed.Add(time.Hour)); !errors.Is(err, mailbox.ErrForeign) {
		t.Errorf("got %v, want that it is ErrForeign, which no waiting helps", err)
	}
	must(t, b.Fail(l, mailbox.Stamp{Error: "because"}))
	wantNames(t, b, mailbox.OutboxNew)
	wantNames(t, b, mailbox.Failed, "a.json", "a.json.error")
	if got := b.FailureOf("a.json"); got != "because" {
		t.Errorf("FailureOf: got %q, want because", got)
	}
}

// A folder that we may not write in can only be moved with another mode.
func TestFolderThatMayNotBeMoved(t *testing.T) {
	asAnybody(t)
	b := newBox(t)
	for _, mode := range []os.FileMode{0, 0o555} {
		must(t, os.Mkdir(at(b, mailbox.OutboxNew, "a.json"), 0o700))
		write(t, at(b, mailbox.OutboxNew, "a.json", "inner"), "")
		must(t, os.Chmod(at(b, mailbox.OutboxNew, "a.json"), mode))
		l := wantBad(t, b, drop(t, b, "a.json"), 0, "folder")
		if err := b.Fail(l, failedStamp); err != nil {
			t.Errorf("Fail of a folder of mode %04o: got %v, want no error", mode, err)
		}
		wantNames(t, b, mailbox.OutboxNew)
		wantNames(t, b, mailbox.Failed+"/a.json", "inner")
		must(t, os.RemoveAll(at(b, mailbox.Failed, "a.json")))
		must(t, os.Remove(at(b, mailbox.Failed, "a.json.error")))
	}
}

// What the folder does not let us do says nothing about the drop.
func TestOutboxThatMayNotBeRead(t *testing.T) {
	asAnybody(t)
	b := newBox(t)
	d := renameIn(t, b, "a.json", jsonDrop)
	must(t, os.Chmod(at(b, "outbox"), 0))
	_, err := b.Load(d, "Atlas", d.Changed.Add(time.Hour))
	must(t, os.Chmod(at(b, "outbox"), 0o700))
	if !errors.Is(err, os.ErrPermission) || errors.Is(err, mailbox.ErrForeign) {
		t.Errorf("got %v, want an error of the permissions alone", err)
	}
}

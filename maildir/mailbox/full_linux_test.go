package mailbox_test

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/claude-duo/duo/maildir/mailbox"
)

// A full disk keeps the drop where it is, and is not filled with more.
func TestDropsOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("a small tmpfs cannot be mounted here (it needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	b, err := mailbox.Open(filepath.Join(dir, "atlas"))
	must(t, err)
	content := `{"to":"Nova","content":"` + strings.Repeat("x", 40_000) + `"}`
	l := load(t, b, renameIn(t, b, "a.json", content))
	for what, err := range map[string]error{"Done": b.Done(l, sentStamp), "Fail": b.Fail(l, failedStamp)} {
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: got %v, want ENOSPC", what, err)
		}
	}
	if _, err := b.Deliver(item(1), []byte(content)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Deliver: got %v, want ENOSPC", err)
	}
	if err := b.Leave("b.json", l.Draft); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Leave: got %v, want ENOSPC", err)
	}
	for _, folder := range []string{mailbox.OutboxTmp, mailbox.Sent, mailbox.Failed, mailbox.InboxTmp, mailbox.InboxNew} {
		wantNames(t, b, folder)
	}
	wantNames(t, b, mailbox.OutboxNew, "a.json")
	wantContent(t, at(b, mailbox.OutboxNew, "a.json"), content)
}

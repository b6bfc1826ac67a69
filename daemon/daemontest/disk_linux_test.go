package daemontest_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// mount mounts something for the length of a test, or skips the test.
func mount(t *testing.T, source, target, kind string, flags uintptr, data string) (unmount func()) {
	t.Helper()
	if err := syscall.Mount(source, target, kind, flags, data); err != nil {
		t.Skipf("this test needs to mount a small disk, which is not allowed here: %v", err)
	}
	mounted := true
	unmount = func() {
		if mounted {
			if err := syscall.Unmount(target, syscall.MNT_DETACH); err != nil {
				t.Errorf("unmount: %v", err)
			}
		}
		mounted = false
	}
	t.Cleanup(unmount)
	return unmount
}

// disk is a small disk with a home on it.
type disk struct {
	t      *testing.T
	dir    string
	filler string
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	dir := t.TempDir()
	mount(t, "duo-test", dir, "tmpfs", 0, "size=2m,mode=700")
	return &disk{t: t, dir: dir, filler: filepath.Join(dir, "filler")}
}

// home makes a home on the disk. Its run folder is on another one: what is derived is
// thrown away where it does not fit, which would leave room on the full disk.
func (d *disk) home(agents ...string) *daemontest.Host {
	d.t.Helper()
	dir := filepath.Join(d.dir, "home")
	run := filepath.Join(dir, "run")
	if err := os.MkdirAll(run, 0o700); err != nil {
		d.t.Fatal(err)
	}
	mount(d.t, "duo-test", run, "tmpfs", 0, "size=8m,mode=700")
	return daemontest.NewAt(d.t, dir, agents...)
}

// fill leaves no room on the disk.
func (d *disk) fill() {
	d.t.Helper()
	f, err := os.OpenFile(d.filler, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatal(err)
	}
}

// free makes room again.
func (d *disk) free() {
	d.t.Helper()
	if err := os.Remove(d.filler); err != nil {
		d.t.Fatal(err)
	}
}

// TestFullDisk: on a full disk, senders are told, drops wait, and what was stored while
// there was no room for inbox files is delivered when there is.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	h := d.home("Atlas", "Nova", "Sage")
	id := create(h, "Full", "Nova")
	// A log has room up to the end of its last page, and inbox files need a new page
	// each: a few short messages are stored and cannot be delivered.
	for fits := false; !fits; {
		h.Post("Atlas", say(id, "before"+strings.Repeat("x", 100)+fmt.Sprint(len(h.Log(id)))))
		info, err := os.Stat(h.Home().LogPath(id))
		if err != nil {
			t.Fatal(err)
		}
		room := 4096 - info.Size()%4096
		fits = room > 1000 && room < 2000
	}
	outbox := filepath.Join(h.Box("Sage").Dir(), "outbox")
	drop := `{"to":"Nova","content":"a drop"}`
	if err := os.WriteFile(filepath.Join(outbox, "tmp", "a.json"), []byte(drop), 0o600); err != nil {
		t.Fatal(err)
	}
	d.fill()

	var stored, refused []string
	text := func(n int) string { return fmt.Sprintf("while full %d", n) }
	h.Post("Atlas", say(id, text(0)))
	stored = append(stored, text(0))
	receipts, err := h.As("Atlas").Receipts(t.Context(), id, int64(len(h.Log(id))), "", 0)
	if err != nil || receipts.Recipients[0].State != api.Stored {
		t.Errorf("receipts = %s, %v; want state %q", daemontest.JSON(receipts), err, api.Stored)
	}
	for n := 1; n < 20; n++ {
		_, err := h.As("Atlas").Post(t.Context(), say(id, text(n)))
		if err == nil {
			stored = append(stored, text(n))
			continue
		}
		wantStorageFailed(t, err)
		if !strings.Contains(err.Error(), "no space left") {
			t.Errorf("error = %q, want one that says why", err)
		}
		refused = append(refused, text(n))
	}
	if len(refused) == 0 {
		t.Fatal("all messages were stored, so the disk is not full")
	}
	// The log ends with a torn line now, which cannot be ended. Reading does not mind.
	if found, err := h.As("Atlas").Find(t.Context(), fmt.Sprintf("%s.%d", id, len(h.Log(id)))); err != nil || found.Message == nil || found.Message.Envelope.Content != stored[len(stored)-1] {
		t.Errorf("the last line is %s, %v; want %q", daemontest.JSON(found), err, stored[len(stored)-1])
	}
	if _, err := h.As("Nova").Inbox(t.Context(), 10); err != nil {
		t.Errorf("inbox: %v", err)
	}
	if _, err := h.As("Atlas").Post(t.Context(), &envelope.Envelope{Type: envelope.Message, To: []string{"Sage"}, Content: "new"}); err == nil {
		t.Error("a new conversation was stored, want an error")
	} else {
		wantStorageFailed(t, err)
	}
	if err := os.Rename(filepath.Join(outbox, "tmp", "a.json"), filepath.Join(outbox, "new", "a.json")); err != nil {
		t.Fatal(err)
	}
	// A daemon that is started on the full disk works as far as it can.
	h.Stop()
	h.Start()
	if names, err := os.ReadDir(filepath.Join(outbox, "new")); err != nil || len(names) != 1 {
		t.Errorf("%d drops wait (%v), want the one that was left", len(names), err)
	}
	_, err = h.As("Atlas").Post(t.Context(), say(id, refused[0]))
	wantStorageFailed(t, err)

	d.free()
	for _, text := range refused {
		h.Post("Atlas", say(id, text))
	}
	wantOnce(t, h, id, append(stored, refused...)...)
	wantGiven(t, h, "Nova", id, append(stored, refused...)...)
	daemontest.Eventually(t, func() (bool, string) {
		_, err := os.Stat(filepath.Join(outbox, "sent", "a.json"))
		return err == nil, fmt.Sprintf("the drop was not sent: %v", err)
	})
	stopSound(t, h)
}

// TestFullDiskAttachments: an upload is refused and leaves nothing, and a drop with a file
// waits until there is room.
func TestFullDiskAttachments(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	h := d.home("Atlas", "Nova")
	id := create(h, "Full", "Nova")
	h.Upload("Atlas", "first", "makes the folder")
	content := strings.Repeat("x", 100<<10)
	if err := h.Box("Atlas").LeaveFile(mailbox.DropFile{File: "file"}, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	tmp, drop := filepath.Join(h.Box("Atlas").Dir(), mailbox.OutboxTmp, "a.json"), filepath.Join(h.Box("Atlas").Dir(), mailbox.OutboxNew, "a.json")
	if err := os.WriteFile(tmp, []byte(`{"conversation":"`+id+`","content":"a drop","attach":"file"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d.fill()
	_, err := h.As("Atlas").Upload(t.Context(), "a.txt", "", strings.NewReader(content), int64(len(content)))
	wantStorageFailed(t, err)
	if err := os.Rename(tmp, drop); err != nil {
		t.Fatal(err)
	}
	h.Stop()
	h.Start()
	if _, err := os.Stat(drop); err != nil {
		t.Errorf("the drop does not wait: %v", err)
	}
	if blobs, err := filepath.Glob(filepath.Join(h.Home().BlobsDir(), ".tmp-*")); err != nil || len(blobs) > 1 { // the drop may be tried just now
		t.Errorf("got %q, %v; want nothing left", blobs, err)
	}
	d.free()
	daemontest.Eventually(t, func() (bool, string) {
		_, err := os.Stat(filepath.Join(h.Box("Atlas").Dir(), mailbox.Sent, "a.json"))
		return err == nil, fmt.Sprintf("the drop was not sent: %v", err)
	})
	wantAttached(t, h, id, "a drop", content)
	h.Upload("Atlas", "a.txt", content)
	stopSound(t, h)
}

// TestFullDiskFirstStart: a home cannot be made on a full disk, and the error says so.
// When there is room, the same folder becomes a home.
func TestFullDiskFirstStart(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	d.fill()
	dir := filepath.Join(d.dir, "home")
	err := start(dir)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error = %v, want that there is no space left", err)
	}
	d.free()
	h := daemontest.NewAt(t, dir, "Atlas", "Nova")
	create(h, "Late", "Nova")
	stopSound(t, h)
}

// TestReadOnlyInbox: an agent whose folder takes no files gets its mail when it does,
// and everybody else gets theirs meanwhile.
func TestReadOnlyInbox(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova", "Sage")
	id := create(h, "Read-only", "Nova", "Sage")
	wantFiles(t, h, "Nova", mailbox.InboxNew, 1)
	dir := h.Box("Nova").Dir()
	unmount := mount(t, dir, dir, "", syscall.MS_BIND, "")
	if err := syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("this test needs to make a folder read-only, which is not allowed here: %v", err)
	}
	texts := numbered("text", 10)
	for _, text := range texts {
		h.Post("Atlas", say(id, text))
	}
	wantGiven(t, h, "Sage", id, texts...)
	last := int64(len(h.Log(id)))
	want := daemontest.JSON([]api.Recipient{{Agent: h.Home().Address("Nova").String(), State: api.Stored}, {Agent: h.Home().Address("Sage").String(), State: api.Delivered}})
	daemontest.Eventually(t, func() (bool, string) { // a file is there before it is told
		receipts, err := h.As("Atlas").Receipts(t.Context(), id, last, "", 0)
		got := daemontest.JSON(receipts.Recipients)
		return err == nil && got == want, fmt.Sprintf("recipients = %s, %v; want %s", got, err, want)
	})
	h.Stop() // a start on a read-only folder works too
	h.Start()
	unmount()
	wantGiven(t, h, "Nova", id, texts...)
	stopSound(t, h)
}

// TestReadOnlyOutbox: a drop that was stored and cannot be moved is stored once.
func TestReadOnlyOutbox(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	id := create(h, "Read-only", "Nova")
	dir := h.Box("Nova").Dir()
	h.Stop()
	h.Drop("Nova", "a.json", `{"conversation":"`+id+`","content":"from a read-only folder"}`)
	unmount := mount(t, dir, dir, "", syscall.MS_BIND, "")
	if err := syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("this test needs to make a folder read-only, which is not allowed here: %v", err)
	}
	h.Start()
	wantGiven(t, h, "Atlas", id, "from a read-only folder")
	h.Stop()
	h.Start()
	h.Post("Atlas", say(id, "after it"))
	unmount()
	daemontest.Eventually(t, func() (bool, string) {
		_, err := os.Stat(filepath.Join(dir, mailbox.Sent, "a.json"))
		return err == nil, fmt.Sprintf("the drop was not moved: %v", err)
	})
	wantOnce(t, h, id, "from a read-only folder", "after it")
	stopSound(t, h)
}

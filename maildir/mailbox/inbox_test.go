package mailbox_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/google/go-cmp/cmp"
)

func line(seq int64) string {
	return fmt.Sprintf(`{"seq":%d,"id":"0199c3f0-7d1a-7cc2-a5a0-1f2e3d4c5b6a","type":"message","from":"Nova@nyc","conversation":%q,"timestamp":1739654400000,"content":"hi"}`, seq, id1)
}

func item(seq int64) mailbox.Item { return mailbox.ItemOf(id1, seq, 1739654400000+seq) }

// deliver puts a line into the inbox.
func deliver(t testing.TB, b *mailbox.Box, seq int64) mailbox.Item {
	t.Helper()
	if seen, err := b.Deliver(item(seq), []byte(line(seq))); err != nil || seen {
		t.Fatalf("Deliver %d: got %v, %v, want a new item", seq, seen, err)
	}
	return item(seq)
}

func TestOpenMakesTheFolders(t *testing.T) {
	b := newBox(t)
	must(t, os.RemoveAll(at(b, "inbox")))
	must(t, os.Remove(at(b, mailbox.Failed)))
	again, err := mailbox.Open(b.Dir())
	if err != nil || again.Dir() != b.Dir() {
		t.Fatalf("Open: got %v, %v, want the same box", again, err)
	}
	for _, folder := range []string{
		mailbox.InboxTmp, mailbox.InboxNew, mailbox.InboxCur, mailbox.OutboxTmp, mailbox.OutboxNew, mailbox.Sent, mailbox.Failed, mailbox.Links,
	} {
		info, err := os.Lstat(at(b, folder))
		if err != nil || info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s: got %v, %v, want a folder of mode 0700", folder, info, err)
		}
	}
	write(t, at(b, "file"), "")
	if _, err := mailbox.Open(at(b, "file")); err == nil {
		t.Error("Open of a file: got no error, want one")
	}
}

// Where a home was deleted, nothing of it comes back.
func TestNothingAboveTheBoxIsMade(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	must(t, os.MkdirAll(filepath.Join(home, "agents"), 0o700))
	b, err := mailbox.Open(filepath.Join(home, "agents", "atlas"))
	must(t, err)
	for _, gone := range []string{filepath.Join(home, "agents"), home} {
		must(t, os.RemoveAll(gone))
		_, openErr := mailbox.Open(b.Dir())
		_, deliverErr := b.Deliver(item(1), []byte(line(1)))
		for what, err := range map[string]error{"Open": openErr, "Deliver": deliverErr, "Link": b.Link(id1)} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: got %v, want fs.ErrNotExist", what, err)
			}
		}
		if exists(gone) {
			t.Errorf("%q is there again, want it gone", gone)
		}
	}
}

func TestItemNames(t *testing.T) {
	i := mailbox.ItemOf(id1, 42, 1739654400000)
	if want := "1739654400000." + id1 + ".42.json"; i.Name != want {
		t.Errorf("name: got %q, want %q", i.Name, want)
	}
	for _, i := range []mailbox.Item{i, mailbox.ItemOf(id2, 1, 0), mailbox.ItemOf(id1, 1<<53, 99999999999999)} {
		if got, ok := mailbox.ParseItem(i.Name); !ok || got != i {
			t.Errorf("ParseItem(%q): got %+v, %v, want %+v", i.Name, got, ok, i)
		}
	}
	for _, name := range []string{
		"", "x", ".json", "1739654400000." + id1 + ".json", "1739654400000." + id1 + ".0.json", "1739654400000." + id1 + ".-1.json",
		"1739654400000." + id1 + ".01.json", "1739654400000." + id1 + ".+1.json", "173965440000." + id1 + ".1.json", "-000000000001." + id1 + ".1.json",
		"1739654400000." + strings.ToUpper(id1) + ".1.json", "1739654400000..1.json", "1739654400000.notes.1.json", "1739654400000." + id1 + ".1.json.json",
		"1739654400000." + id1 + ".1.txt", "1739654400000.call." + id1 + ".json", "9999999999999999999." + id1 + ".1.json", "1739654400000." + id1 + ".9223372036854775808.json",
	} {
		if got, ok := mailbox.ParseItem(name); ok {
			t.Errorf("ParseItem(%q): got %+v, want that it is none", name, got)
		}
	}
}

func TestDeliver(t *testing.T) {
	b := newBox(t)
	i := deliver(t, b, 1)
	path := at(b, mailbox.InboxNew, i.Name)
	wantContent(t, path, line(1)+"\n")
	before, err := os.Lstat(path)
	must(t, err)
	deliver(t, b, 1)
	if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("delivered twice: got another file, %v, want the first one", err)
	}
	wantNames(t, b, mailbox.InboxTmp)

	if ok, err := b.MarkSeen(i.Name); err != nil || !ok {
		t.Fatalf("MarkSeen: got %v, %v, want true", ok, err)
	}
	if seen, err := b.Deliver(i, []byte(line(1))); err != nil || !seen {
		t.Errorf("Deliver of what was seen: got %v, %v, want true", seen, err)
	}
	wantNames(t, b, mailbox.InboxNew)
	wantNames(t, b, mailbox.InboxCur, i.Name)
}

// A power cut leaves empty and torn files, as the inbox is not synced.
func TestDeliverWritesTornFilesAgain(t *testing.T) {
	for _, torn := range []string{"", "{", line(1)[:len(line(1))-1], line(1)} {
		b := newBox(t)
		path := at(b, mailbox.InboxNew, item(1).Name)
		write(t, path, torn)
		deliver(t, b, 1)
		wantContent(t, path, line(1)+"\n")
	}
}

func TestDeliverMakesFoldersThatAreMissing(t *testing.T) {
	for _, folder := range []string{mailbox.InboxTmp, mailbox.InboxNew, "inbox"} {
		b := newBox(t)
		must(t, os.RemoveAll(at(b, folder)))
		deliver(t, b, 1)
		wantNames(t, b, mailbox.InboxNew, item(1).Name)
		wantNames(t, b, mailbox.InboxTmp)
	}
}

func TestDeliverOntoAFolder(t *testing.T) {
	long := line(1) + strings.Repeat(" ", 1<<16)
	for what, text := range map[string]string{"shorter than a folder's size": line(1), "longer": long} {
		b := newBox(t)
		must(t, os.Mkdir(at(b, mailbox.InboxNew, item(1).Name), 0o700))
		if seen, err := b.Deliver(item(1), []byte(text)); err == nil || seen || !strings.Contains(err.Error(), item(1).Name) {
			t.Errorf("Deliver of a line %s: got %v, %v, want an error with the name", what, seen, err)
		}
		wantNames(t, b, mailbox.InboxTmp)
	}
}

// What is no file does not count as delivered, however long it is, and is replaced.
func TestDeliverOntoWhatIsNoFile(t *testing.T) {
	long := at(newBox(t), strings.Repeat("x", 200))
	for what, put := range map[string]func(path string) error{
		"pipe":         func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"link":         func(path string) error { return os.Symlink(long, path) },
		"link to file": func(path string) error { return errors.Join(os.WriteFile(long, nil, 0o600), os.Symlink(long, path)) },
	} {
		b := newBox(t)
		path := at(b, mailbox.InboxNew, item(1).Name)
		must(t, put(path))
		deliver(t, b, 1)
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: got %v, %v, want a file", what, info, err)
			continue
		}
		wantContent(t, path, line(1)+"\n")
	}
	if info, err := os.Lstat(long); err != nil || info.Size() != 0 {
		t.Errorf("what the link leads to: got %v, %v, want it untouched", info, err)
	}
}

func TestItemsAreListedOldestFirst(t *testing.T) {
	b := newBox(t)
	want := []mailbox.Item{
		mailbox.ItemOf(id2, 7, 999), mailbox.ItemOf(id1, 2, 1000), mailbox.ItemOf(id1, 10, 1000),
		mailbox.ItemOf(id2, 1, 1000), mailbox.ItemOf(id1, 3, 20_000_000_000_000),
	}
	for _, i := range []int{3, 1, 4, 0, 2} {
		_, err := b.Deliver(want[i], []byte("{}"))
		must(t, err)
	}
	for _, rubbish := range []string{"note.txt", ".hidden.json", want[0].Name + "~"} {
		write(t, at(b, mailbox.InboxNew, rubbish), "")
		write(t, at(b, mailbox.InboxCur, rubbish), "")
	}
	if got, err := b.Unseen(); err != nil || !slices.Equal(got, want) {
		t.Errorf("Unseen: got %v, %v, want %v", got, err, want)
	}
	for _, i := range want[1:3] {
		if ok, err := b.MarkSeen(i.Name); err != nil || !ok {
			t.Errorf("MarkSeen: got %v, %v, want true", ok, err)
		}
	}
	if got, err := b.Seen(); err != nil || !slices.Equal(got, want[1:3]) {
		t.Errorf("Seen: got %v, %v, want %v", got, err, want[1:3])
	}
	must(t, b.Discard(want[:2])) // the first is not there
	if got, err := b.Seen(); err != nil || !slices.Equal(got, want[2:3]) {
		t.Errorf("Seen after Discard: got %v, %v, want %v", got, err, want[2:3])
	}
	if got, err := b.Unseen(); err != nil || len(got) != 3 {
		t.Errorf("Unseen after Discard: got %v, %v, want 3 items", got, err)
	}
}

func TestMarkSeenWantsAFileName(t *testing.T) {
	b := newBox(t)
	deliver(t, b, 1)
	write(t, at(b, "agent.json"), "{}")
	for _, name := range []string{"", ".", "..", "../../agent.json", "a/b", "/etc/passwd", "../new/" + item(1).Name} {
		if ok, err := b.MarkSeen(name); err == nil || ok || !strings.Contains(err.Error(), "want a file name") {
			t.Errorf("MarkSeen(%q): got %v, %v, want that it is refused", name, ok, err)
		}
		if e, err := b.ReadItem(name); err == nil || !strings.Contains(err.Error(), "want a file name") {
			t.Errorf("ReadItem(%q): got %v, %v, want that it is refused", name, e, err)
		}
	}
	if ok, err := b.MarkSeen("missing"); err != nil || ok {
		t.Errorf("MarkSeen of nothing: got %v, %v, want false", ok, err)
	}
}

func TestMarkSeenHasOneWinner(t *testing.T) {
	b := newBox(t)
	const items, claimers = 50, 8
	var wins [items]atomic.Int32
	for i := range items {
		deliver(t, b, int64(i+1))
	}
	var group sync.WaitGroup
	for c := range claimers {
		group.Go(func() {
			for n := range items {
				i := (n + c*items/claimers/2) % items // they meet in the middle
				ok, err := b.MarkSeen(item(int64(i + 1)).Name)
				if err != nil {
					t.Errorf("MarkSeen: got %v, want no error", err)
				}
				if ok {
					wins[i].Add(1)
				}
			}
		})
	}
	group.Wait()
	for i := range wins {
		if got := wins[i].Load(); got != 1 {
			t.Errorf("item %d: got %d winners, want 1", i+1, got)
		}
	}
	wantNames(t, b, mailbox.InboxNew)
	if seen, err := b.Seen(); err != nil || len(seen) != items {
		t.Errorf("Seen: got %d items, %v, want %d", len(seen), err, items)
	}
}

// What is delivered again while a reader moves it is not put back into new.
func TestDeliverWhileItIsSeen(t *testing.T) {
	b := newBox(t)
	for seq := range int64(300) {
		i := deliver(t, b, seq+1)
		var group sync.WaitGroup
		group.Go(func() {
			for {
				if ok, err := b.MarkSeen(i.Name); err != nil || ok {
					return
				}
			}
		})
		for seen := false; !seen; {
			var err error
			if seen, err = b.Deliver(i, []byte(line(seq+1))); err != nil {
				t.Fatalf("Deliver: got %v, want no error", err)
			}
		}
		group.Wait()
		if _, err := os.Lstat(at(b, mailbox.InboxNew, i.Name)); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("item %d: it is in new again, %v, want it in cur alone", seq+1, err)
		}
	}
}

// A reader sees the whole line or nothing, however many deliver it at once.
func TestDeliverOneItemByManyGoroutines(t *testing.T) {
	b := newBox(t)
	long := line(1)[:len(line(1))-2] + strings.Repeat("i", 1<<20) + `"}` // long enough to be met half written
	for seq := range int64(5) {
		var group sync.WaitGroup
		for range 6 {
			group.Go(func() {
				if _, err := b.Deliver(item(seq+1), []byte(long)); err != nil {
					t.Errorf("Deliver: got %v, want no error", err)
				}
				if got := read(t, at(b, mailbox.InboxNew, item(seq+1).Name)); got != long+"\n" {
					t.Errorf("content: got %d bytes, want the line of %d", len(got), len(long)+1)
				}
			})
		}
		group.Wait()
	}
	wantNames(t, b, mailbox.InboxTmp)
}

// A listing may miss what moves meanwhile, but the next one has it: a reader that
// lists and claims until the writers are done and twice more gets everything once.
func TestListingWhileOthersRename(t *testing.T) {
	b := newBox(t)
	const writers, each = 4, 150
	var done atomic.Bool
	var group, reader sync.WaitGroup
	claimed := make(map[string]int)
	reader.Go(func() {
		for last := 0; last < 2; {
			if done.Load() {
				last++
			}
			items, err := b.Unseen()
			if err != nil {
				t.Errorf("Unseen: got %v, want no error", err)
				return
			}
			for _, i := range items {
				if ok, err := b.MarkSeen(i.Name); err != nil {
					t.Errorf("MarkSeen: got %v, want no error", err)
				} else if ok {
					claimed[i.Name]++
				}
			}
		}
	})
	for w := range writers {
		group.Go(func() {
			for n := range each {
				if _, err := b.Deliver(item(int64(w*each+n+1)), []byte("{}")); err != nil {
					t.Errorf("Deliver: got %v, want no error", err)
				}
			}
		})
	}
	group.Wait()
	done.Store(true)
	reader.Wait()
	for seq := range int64(writers * each) {
		if got := claimed[item(seq+1).Name]; got != 1 {
			t.Errorf("item %d: got claimed %d times, want once", seq+1, got)
		}
	}
}

func TestReadItem(t *testing.T) {
	b := newBox(t)
	i := deliver(t, b, 5)
	for _, where := range []string{"new", "cur"} {
		e, err := b.ReadItem(i.Name)
		if err != nil || e.Seq != 5 || e.Content != "hi" {
			t.Errorf("in %s: got %+v, %v, want seq 5", where, e, err)
		}
		_, err = b.MarkSeen(i.Name)
		must(t, err)
	}
	if _, err := b.ReadItem("missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: got %v, want fs.ErrNotExist", err)
	}
	write(t, at(b, mailbox.InboxNew, "torn"), line(1)[:20])
	if _, err := b.ReadItem("torn"); !errors.Is(err, envelope.ErrInvalid) || !strings.Contains(err.Error(), "torn") {
		t.Errorf("torn: got %v, want ErrInvalid with the name", err)
	}
}

// What duo reads in an agent's folder is a plain file there, or it is refused without
// waiting.
func TestForeignFilesAreRefused(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, outside, line(1))
	for name, put := range map[string]func(t *testing.T, path string) error{
		"a link out of the folder": func(_ *testing.T, path string) error { return os.Symlink(outside, path) },
		"a link inside":            func(_ *testing.T, path string) error { return os.Symlink("../../agent.json", path) },
		"a link to nowhere":        func(_ *testing.T, path string) error { return os.Symlink("missing", path) },
		"a hard link":              func(_ *testing.T, path string) error { return os.Link(outside, path) },
		"a pipe":                   func(_ *testing.T, path string) error { return syscall.Mkfifo(path, 0o600) },
		"a folder":                 func(_ *testing.T, path string) error { return os.Mkdir(path, 0o700) },
		"another user's": func(t *testing.T, path string) error {
			if os.Getuid() != 0 {
				t.Skip("only root can give a file away")
			}
			return errors.Join(os.WriteFile(path, []byte(line(1)), 0o644), os.Chown(path, 65534, 65534))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			write(t, at(b, "agent.json"), line(1))
			must(t, put(t, at(b, mailbox.InboxNew, "x")))
			must(t, put(t, at(b, "current")))
			must(t, os.RemoveAll(at(b, mailbox.Links))) // a link inside means agent.json in both
			must(t, put(t, at(b, "cursors.json")))
			within(t, 10*time.Second, func() {
				if e, err := b.ReadItem("x"); !errors.Is(err, mailbox.ErrForeign) {
					t.Errorf("ReadItem: got %v, %v, want ErrForeign", e, err)
				}
				if id, err := b.Current(); !errors.Is(err, mailbox.ErrForeign) {
					t.Errorf("Current: got %q, %v, want ErrForeign", id, err)
				}
				if c, err := b.Cursors(); !errors.Is(err, mailbox.ErrForeign) {
					t.Errorf("Cursors: got %v, %v, want ErrForeign", c, err)
				}
			})
		})
	}
}

func TestLink(t *testing.T) {
	b := newBox(t)
	home := filepath.Dir(filepath.Dir(b.Dir()))
	must(t, os.Mkdir(filepath.Join(home, "conversations"), 0o700))
	write(t, filepath.Join(home, "conversations", id1+".jsonl"), "the log\n")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := b.Link(id1); err != nil {
				t.Errorf("Link: got %v, want no error", err)
			}
		})
	}
	group.Wait()
	wantContent(t, at(b, mailbox.Links, id1+".jsonl"), "the log\n")
	target, err := os.Readlink(at(b, mailbox.Links, id1+".jsonl"))
	if want := "../../../conversations/" + id1 + ".jsonl"; err != nil || target != want {
		t.Errorf("link: got %q, %v, want %q", target, err, want)
	}

	must(t, os.RemoveAll(at(b, mailbox.Links)))
	if err := b.Link(id1); err != nil {
		t.Errorf("Link without its folder: got %v, want no error", err)
	}
	must(t, b.Link(id2)) // to a log that is not there
	write(t, at(b, mailbox.Links, "notes.jsonl"), "")
	write(t, at(b, mailbox.Links, "c9f3a.jsonl"), "")
	write(t, at(b, mailbox.Links, id2), "")
	if got, err := b.Conversations(); err != nil || !slices.Equal(got, []string{id1, id2}) {
		t.Errorf("Conversations: got %q, %v, want %q", got, err, []string{id1, id2})
	}
}

func TestCurrent(t *testing.T) {
	b := newBox(t)
	if id, err := b.Current(); err != nil || id != "" {
		t.Errorf("none: got %q, %v, want none", id, err)
	}
	for _, id := range []string{id1, id2, ""} {
		must(t, b.SetCurrent(id))
		if got, err := b.Current(); err != nil || got != id {
			t.Errorf("Current: got %q, %v, want %q", got, err, id)
		}
	}
	write(t, at(b, "current"), "\n "+id1+" \r\n")
	if got, err := b.Current(); err != nil || got != id1 {
		t.Errorf("with blanks around: got %q, %v, want %q", got, err, id1)
	}
	write(t, at(b, "current"), strings.Repeat("x", 101))
	if got, err := b.Current(); !errors.Is(err, mailbox.ErrTooLarge) || !strings.Contains(err.Error(), "current") {
		t.Errorf("too long: got %q, %v, want ErrTooLarge with the name", got, err)
	}
}

func TestCursorsRoundTrip(t *testing.T) {
	b := newBox(t)
	for _, want := range []map[string]mailbox.Cursor{
		{}, {id1: {Delivered: 41, Seen: 40, Also: [][2]int64{{42, 43}, {45, 45}}}}, {id1: {Delivered: 1 << 53}, id2: {}}, nil,
	} {
		must(t, b.WriteCursors(want))
		got, err := b.Cursors()
		if err != nil || got == nil || len(got) != len(want) {
			t.Fatalf("Cursors: got %v, %v, want %v", got, err, want)
		}
		for id, c := range want {
			if !cmp.Equal(got[id], c) {
				t.Errorf("cursor of %s: got %+v, want %+v", id, got[id], c)
			}
		}
	}
	must(t, b.WriteCursors(map[string]mailbox.Cursor{id1: {Delivered: 41, Seen: 40}}))
	wantContent(t, at(b, "cursors.json"), `{"`+id1+`":{"delivered":41,"seen":40}}`+"\n") // as in DESIGN 3
	wantNames(t, b, "", "conversations", "cursors.json", "inbox", "outbox")
}

func TestDamagedCursors(t *testing.T) {
	b := newBox(t)
	if got, err := b.Cursors(); err != nil || got == nil || len(got) != 0 {
		t.Errorf("no file: got %v, %v, want an empty map", got, err)
	}
	for _, content := range []string{"", "{", `{"a":{"delivered":1}`, "[]", "7", `{"a":1}`, `{"a":{"seen":"x"}}`, `{"a":{"seen":1.5}}`, "\x00\x00", "{}{}"} {
		write(t, at(b, "cursors.json"), content)
		if got, err := b.Cursors(); err == nil || got != nil || !strings.Contains(err.Error(), "cursors.json") {
			t.Errorf("%q: got %v, %v, want an error with the name", content, got, err)
		}
		wantContent(t, at(b, "cursors.json"), content)
	}
	write(t, at(b, "cursors.json"), "null")
	if got, err := b.Cursors(); err != nil || got == nil {
		t.Errorf("null: got %v, %v, want an empty map", got, err)
	}
}

func TestRemoveStale(t *testing.T) {
	b := newBox(t)
	before := time.Now().Add(-36 * time.Hour)
	for _, folder := range []string{mailbox.InboxTmp, mailbox.OutboxTmp, mailbox.OutboxNew, mailbox.InboxNew, mailbox.Sent} {
		for name, age := range map[string]time.Duration{"old": time.Minute, ".old": time.Hour, "young": -time.Minute} {
			write(t, at(b, folder, name), "")
			must(t, os.Chtimes(at(b, folder, name), before, before.Add(-age)))
		}
	}
	old := at(b, mailbox.OutboxTmp, "folder")
	must(t, os.Mkdir(old, 0o700))
	must(t, os.Chtimes(old, before, before.Add(-time.Hour)))
	must(t, os.Symlink("young", at(b, mailbox.OutboxTmp, "link")))
	must(t, b.RemoveStale(before)) // while drops wait, which may name what is old
	wantNames(t, b, mailbox.InboxTmp, "young")
	wantNames(t, b, mailbox.OutboxTmp, ".old", "folder", "link", "old", "young")
	for _, folder := range []string{mailbox.OutboxNew, mailbox.InboxNew, mailbox.Sent} {
		wantNames(t, b, folder, ".old", "old", "young")
	}
	for _, name := range []string{".old", "old", "young"} {
		must(t, os.Remove(at(b, mailbox.OutboxNew, name)))
	}
	for range 2 {
		if err := b.RemoveStale(before); err != nil {
			t.Fatalf("RemoveStale: got %v, want no error", err)
		}
		wantNames(t, b, mailbox.OutboxTmp, "folder", "link", "young")
	}
	must(t, os.RemoveAll(at(b, mailbox.OutboxTmp)))
	if err := b.RemoveStale(before); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without its folder: got %v, want fs.ErrNotExist", err)
	}
}

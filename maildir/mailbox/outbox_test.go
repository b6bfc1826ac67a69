package mailbox_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
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
	"github.com/google/go-cmp/cmp/cmpopts"
)

const (
	jsonDrop = `{"to":"Nova","content":"hi"}`
	textDrop = "To: Nova\n\nhi\n"
)

func TestDropsAreListedInTheOrderOfWriting(t *testing.T) {
	b := newBox(t)
	now := time.Now()
	for name, age := range map[string]int{"c.json": 3, "a.json": 2, "b.txt": 1, "d.md": 1, ".hidden.json": 2, ".x.swp": 2} {
		write(t, at(b, mailbox.OutboxNew, name), jsonDrop)
		must(t, os.Chtimes(at(b, mailbox.OutboxNew, name), now, now.Add(-time.Duration(age)*time.Hour)))
	}
	drops, err := b.Drops()
	must(t, err)
	var got []string
	for _, d := range drops {
		got = append(got, d.Name)
	}
	if want := []string{"c.json", "a.json", "b.txt", "d.md"}; !slices.Equal(got, want) {
		t.Errorf("Drops: got %q, want %q", got, want)
	}
	must(t, os.RemoveAll(at(b, mailbox.OutboxNew)))
	if _, err := b.Drops(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the folder: got %v, want fs.ErrNotExist", err)
	}
}

func TestLoad(t *testing.T) {
	for name, content := range map[string]string{"a.json": jsonDrop, "a.txt": textDrop, "a.md": textDrop} {
		b := newBox(t)
		d := renameIn(t, b, name, content)
		l, err := b.Load(d, "Atlas", d.Changed) // at once: it was renamed in
		if err != nil {
			t.Fatalf("%s: got %v, want no error", name, err)
		}
		if l.Name != name || strings.TrimSpace(l.Draft.Content) != "hi" || !slices.Equal(l.Draft.To, []string{"Nova"}) || l.Draft.Type != envelope.Message {
			t.Errorf("%s: got %+v, want a message to Nova", name, l.Draft)
		}
		wantContent(t, at(b, mailbox.OutboxNew, name), content)
	}
}

func TestLoadOfWhatIsGone(t *testing.T) {
	b := newBox(t)
	d := renameIn(t, b, "a.json", jsonDrop)
	must(t, os.Remove(at(b, mailbox.OutboxNew, "a.json")))
	if _, err := b.Load(d, "Atlas", time.Now()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

// A drop without an id gets one from what does not change while it lies there, so that
// a retry after a crash has the same.
func TestIdOfADrop(t *testing.T) {
	b := newBox(t)
	d := renameIn(t, b, "a.json", jsonDrop)
	id := load(t, b, d).Draft.ID
	if _, err := envelope.ParseID(id); err != nil {
		t.Errorf("id: %v", err)
	}
	again, err := b.Load(d, "atlas", d.Changed.Add(time.Minute))
	if err != nil || again.Draft.ID != id {
		t.Errorf("read again: got %+v, %v, want the id %s", again.Draft, err, id)
	}
	other := renameIn(t, b, "b.json", jsonDrop)
	if got := load(t, b, other).Draft.ID; got == id {
		t.Errorf("another file: got the id %s again, want another", got)
	}
	elsewhere, err := b.Load(d, "Nova", d.Changed.Add(time.Minute))
	if err != nil || elsewhere.Draft.ID == id {
		t.Errorf("another agent: got %+v, %v, want another id", elsewhere.Draft, err)
	}
	must(t, os.Chtimes(at(b, mailbox.OutboxNew, "a.json"), time.Time{}, d.Changed.Add(time.Second)))
	if got := load(t, b, drop(t, b, "a.json")).Draft.ID; got == id {
		t.Errorf("written again: got the id %s again, want another", got)
	}
	own := renameIn(t, b, "c.json", `{"id":"`+messageID+`","to":"Nova","content":"hi"}`)
	if got := load(t, b, own).Draft.ID; got != messageID {
		t.Errorf("with an id: got %s, want %s", got, messageID)
	}
}

func TestJSONInPlace(t *testing.T) {
	b := newBox(t)
	d := writeIn(t, b, "a.json", jsonDrop[:12])
	wantWait(t, b, d, 0, 2*time.Second)
	wantWait(t, b, d, 1500*time.Millisecond, 500*time.Millisecond)
	d = writeIn(t, b, "a.json", jsonDrop) // the writer goes on
	if l, err := b.Load(d, "Atlas", d.Changed); err != nil || l.Draft.Content != "hi" {
		t.Errorf("when it is whole: got %+v, %v, want the message at once", l.Draft, err)
	}
}

func TestHalfJSONFailsAfterTwoSecondsOfQuiet(t *testing.T) {
	b := newBox(t)
	d := writeIn(t, b, "a.json", jsonDrop[:12])
	wantWait(t, b, d, 2*time.Second-1, 1)
	wantBad(t, b, d, 2*time.Second, "invalid envelope")
}

// A clock that was set back must not make a drop wait until it has caught up.
func TestDropFromTheFuture(t *testing.T) {
	b := newBox(t)
	wantBad(t, b, writeIn(t, b, "a.json", jsonDrop[:12]), -time.Hour, "invalid envelope")
	d := writeIn(t, b, "a.txt", textDrop)
	if l, err := b.Load(d, "Atlas", d.Changed.Add(-time.Hour)); err != nil {
		t.Errorf("text: got %+v, %v, want no error", l.Draft, err)
	}
}

func TestBadDropThatWasRenamedInFailsAtOnce(t *testing.T) {
	b := newBox(t)
	wantBad(t, b, renameIn(t, b, "a.json", jsonDrop[:12]), 0, "invalid envelope")
	wantBad(t, b, renameIn(t, b, "a.txt", "hi"), 0, "header line")
	wantBad(t, b, renameIn(t, b, "a.html", "hi"), 0, "want .json, .md or .txt")
	wantBad(t, b, renameIn(t, b, "a.json", ""), 0, "invalid envelope")
	d := writeIn(t, b, "b.html", "hi")
	wantWait(t, b, d, 0, 2*time.Second)
	wantBad(t, b, d, 2*time.Second, "want .json, .md or .txt")
}

// What a text is, only its writer knows: it is whole when nobody has it open and it
// was quiet for a moment.
func TestTextInPlace(t *testing.T) {
	b := newBox(t)
	writer, err := os.OpenFile(at(b, mailbox.OutboxNew, "a.txt"), os.O_CREATE|os.O_WRONLY, 0o600)
	must(t, err)
	defer writer.Close()
	_, err = writer.WriteString(textDrop)
	must(t, err)
	d := drop(t, b, "a.txt")
	wantWait(t, b, d, 0, 150*time.Millisecond)
	wantWait(t, b, d, 149*time.Millisecond, time.Millisecond)
	wantWait(t, b, d, 150*time.Millisecond, 150*time.Millisecond)
	wantWait(t, b, d, time.Hour, 150*time.Millisecond)
	_, err = writer.WriteString("and more\n")
	must(t, err)
	must(t, writer.Close())
	d = drop(t, b, "a.txt")
	wantWait(t, b, d, 0, 150*time.Millisecond)
	if got := load(t, b, d).Draft.Content; got != "hi\nand more\n" {
		t.Errorf("content: got %q, want all that was written", got)
	}
}

// A bad text is not copied to failed/ while its writer has it open: what comes later
// would be lost with the old file.
func TestBadTextInPlaceWaitsForItsWriter(t *testing.T) {
	b := newBox(t)
	writer, err := os.OpenFile(at(b, mailbox.OutboxNew, "a.txt"), os.O_CREATE|os.O_WRONLY, 0o600)
	must(t, err)
	defer writer.Close()
	_, err = writer.WriteString("Dear Nova,\n")
	must(t, err)
	d := drop(t, b, "a.txt")
	wantWait(t, b, d, time.Second, time.Second)
	wantWait(t, b, d, time.Hour, 150*time.Millisecond)
	must(t, writer.Close())
	wantBad(t, b, d, 2*time.Second, "header line")
}

// A whole JSON object needs no more than itself, whoever has the file open.
func TestJSONInPlaceDoesNotWaitForItsWriter(t *testing.T) {
	b := newBox(t)
	writer, err := os.OpenFile(at(b, mailbox.OutboxNew, "a.json"), os.O_CREATE|os.O_WRONLY, 0o600)
	must(t, err)
	defer writer.Close()
	_, err = writer.WriteString(jsonDrop)
	must(t, err)
	d := drop(t, b, "a.json")
	if l, err := b.Load(d, "Atlas", d.Changed); err != nil {
		t.Errorf("got %+v, %v, want no error", l.Draft, err)
	}
}

// Delivery by link and unlink, as old maildir programs do it, is seen halfway.
func TestDropThatIsLinkedIn(t *testing.T) {
	b := newBox(t)
	temp := at(b, mailbox.OutboxTmp, "x")
	write(t, temp, jsonDrop)
	must(t, os.Link(temp, at(b, mailbox.OutboxNew, "a.json")))
	d := drop(t, b, "a.json")
	wantWait(t, b, d, 0, 2*time.Second)
	l := wantBad(t, b, d, 2*time.Second, "hard link")
	if l == nil || l.Draft != nil {
		t.Errorf("loaded: got %+v, want no draft", l)
	}
	must(t, os.Remove(temp))
	if got := load(t, b, d).Draft.Content; got != "hi" {
		t.Errorf("content: got %q, want hi", got)
	}
}

// foreign are things in an outbox that are no drops, whatever their name, with what the
// error says.
var foreign = map[string]struct {
	why string
	put func(t *testing.T, b *mailbox.Box, path string) error
}{
	"link out of the folder": {"symbolic link", func(t *testing.T, _ *mailbox.Box, path string) error {
		outside := filepath.Join(t.TempDir(), "outside")
		write(t, outside, jsonDrop)
		return os.Symlink(outside, path)
	}},
	"link inside": {"symbolic link", func(t *testing.T, b *mailbox.Box, path string) error {
		write(t, at(b, mailbox.Sent, "old"), jsonDrop)
		return os.Symlink("../sent/old", path)
	}},
	"link to nowhere": {"symbolic link", func(_ *testing.T, _ *mailbox.Box, path string) error {
		return os.Symlink("missing", path)
	}},
	"hard link": {"hard link", func(t *testing.T, b *mailbox.Box, path string) error {
		write(t, at(b, "agent.json"), jsonDrop)
		return os.Link(at(b, "agent.json"), path)
	}},
	"pipe": {"pipe", func(_ *testing.T, _ *mailbox.Box, path string) error { return syscall.Mkfifo(path, 0o600) }},
	"folder": {"folder", func(_ *testing.T, _ *mailbox.Box, path string) error {
		return errors.Join(os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "inner"), nil, 0o600))
	}},
	"socket": {"socket", func(t *testing.T, _ *mailbox.Box, path string) error {
		t.Chdir(filepath.Dir(path)) // a socket's path is short
		listener, err := net.Listen("unix", filepath.Base(path))
		if err == nil {
			t.Cleanup(func() { listener.Close() })
		}
		return err
	}},
	"file of another user": {"another user", func(t *testing.T, _ *mailbox.Box, path string) error {
		if os.Getuid() != 0 {
			t.Skip("only root can give a file away")
		}
		return errors.Join(os.WriteFile(path, []byte(textDrop), 0o644), os.Chown(path, 65534, 65534))
	}},
	"file over the limit": {"too large", func(_ *testing.T, _ *mailbox.Box, path string) error {
		return errors.Join(os.WriteFile(path, []byte(textDrop), 0o600), os.Truncate(path, mailbox.MaxDrop+1))
	}},
	"invalid UTF-8": {"UTF-8", func(_ *testing.T, _ *mailbox.Box, path string) error {
		return os.WriteFile(path, []byte("\xff"), 0o600)
	}},
}

// What cannot be read or stamped goes to failed/ as it is, whatever its name, with its
// error beside it. Nothing waits for it and nothing is lost.
func TestForeignDrops(t *testing.T) {
	for what, f := range foreign {
		for _, name := range []string{"a.json", "a.txt", "a"} {
			t.Run(what+" "+name, func(t *testing.T) {
				b := newBox(t)
				must(t, f.put(t, b, at(b, mailbox.OutboxNew, name)))
				before, err := os.Lstat(at(b, mailbox.OutboxNew, name))
				must(t, err)
				why := f.why
				if what == "invalid UTF-8" && name != "a.txt" {
					why = map[string]string{"a.json": "invalid", "a": "want .json"}[name]
				}
				var l *mailbox.Loaded
				within(t, 10*time.Second, func() { l = wantBad(t, b, drop(t, b, name), time.Hour, why) })
				for range 2 {
					if err := b.Fail(l, mailbox.Stamp{Error: "because"}); err != nil {
						t.Fatalf("Fail: got %v, want no error", err)
					}
				}
				wantNames(t, b, mailbox.OutboxNew)
				wantNames(t, b, mailbox.OutboxTmp)
				wantNames(t, b, mailbox.Failed, name, name+".error")
				after, err := os.Lstat(at(b, mailbox.Failed, name))
				if err != nil || !os.SameFile(before, after) {
					t.Errorf("in failed: got %v, %v, want the thing itself", after, err)
				}
				if got, err := b.FailedDrops(); err != nil || !slices.Equal(got, []string{name}) {
					t.Errorf("FailedDrops: got %q, %v, want %q", got, err, name)
				}
				if got := b.FailureOf(name); got != "because" {
					t.Errorf("FailureOf: got %q, want because", got)
				}
			})
		}
	}
}

func TestLargestDrop(t *testing.T) {
	b := newBox(t)
	content := `{"to":"Nova","content":"hi"` + strings.Repeat(" ", mailbox.MaxDrop-len(jsonDrop)) + "}"
	l := load(t, b, renameIn(t, b, "a.json", content))
	must(t, b.Done(l, sentStamp))
	wantNames(t, b, mailbox.Sent, "a.json")
	wantBad(t, b, renameIn(t, b, "a.json", content+" "), 0, "too large")
}

func TestDone(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"a.json": {jsonDrop, `{"to":"Nova","content":"hi","conversation":"` + id1 + `","seq":42,"id":"` + messageID + `"}` + "\n"},
		"a.txt":  {textDrop, "Conversation: " + id1 + "\nSeq: 42\nId: " + messageID + "\n" + textDrop},
		"a.md":   {textDrop, "Conversation: " + id1 + "\nSeq: 42\nId: " + messageID + "\n" + textDrop},
	} {
		b := newBox(t)
		l := load(t, b, renameIn(t, b, name, c.content))
		for range 2 { // the second is the retry after a crash
			if err := b.Done(l, sentStamp); err != nil {
				t.Fatalf("Done %s: got %v, want no error", name, err)
			}
			wantNames(t, b, mailbox.OutboxNew)
			wantNames(t, b, mailbox.OutboxTmp)
			wantNames(t, b, mailbox.Sent, name)
			wantContent(t, at(b, mailbox.Sent, name), c.want)
		}
	}
}

func TestFail(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"a.json": {jsonDrop, `{"to":"Nova","content":"hi","error":"no agent \"Nvoa\"\nhere","near":["Nova","Nora"]}` + "\n"},
		"a.txt":  {textDrop, "Error: no agent \"Nvoa\" here\nNear: Nova, Nora\n" + textDrop},
		"b.txt":  {"no header", "Error: no agent \"Nvoa\" here\nNear: Nova, Nora\nno header"},
		"c.txt":  {"", "Error: no agent \"Nvoa\" here\nNear: Nova, Nora\n"},
	} {
		b := newBox(t)
		d := renameIn(t, b, name, c.content)
		l, _ := b.Load(d, "Atlas", d.Changed)
		for range 2 {
			if err := b.Fail(l, failedStamp); err != nil {
				t.Fatalf("Fail %s: got %v, want no error", name, err)
			}
			wantNames(t, b, mailbox.OutboxNew)
			wantNames(t, b, mailbox.OutboxTmp)
			wantNames(t, b, mailbox.Failed, name)
			wantContent(t, at(b, mailbox.Failed, name), c.want)
		}
		if got := strings.ReplaceAll(b.FailureOf(name), "\n", " "); got != `no agent "Nvoa" here` {
			t.Errorf("FailureOf %s: got %q, want the error", name, got)
		}
	}
}

func TestFailureOf(t *testing.T) {
	b := newBox(t)
	for name, c := range map[string]struct{ content, want string }{
		"a.json":  {`{"error":"why","content":"hi"}`, "why"},
		"b.json":  {`{"content":"hi"}`, ""},
		"c.json":  {`{"error":7}`, ""},
		"d.json":  {`{"error":`, ""},
		"a.txt":   {"Conversation: c9f3a\nId: x\nerror:  why \nTo: Nova\n\nhi", "why"},
		"b.txt":   {"To: Nova\n\nError: body", ""},
		"c.txt":   {"", ""},
		"missing": {"", "no such file"},
	} {
		if name != "missing" {
			write(t, at(b, mailbox.Failed, name), c.content)
		}
		if got := b.FailureOf(name); got != c.want && (name != "missing" || !strings.Contains(got, c.want)) {
			t.Errorf("FailureOf(%q): got %q, want %q", name, got, c.want)
		}
	}
	for _, name := range []string{"../new/x", "../../../../etc/passwd"} {
		if got := b.FailureOf(name); !strings.Contains(got, "open") {
			t.Errorf("FailureOf(%q): got %q, want an error", name, got)
		}
	}
}

// A file that was sent or failed and is moved back is the same message.
func TestDropThatIsMovedBack(t *testing.T) {
	for name, content := range map[string]string{
		"a.json": jsonDrop, "a.txt": textDrop, "bom.txt": "\ufeff" + textDrop, "bom.json": "\ufeff" + jsonDrop,
		"ref.txt": "Conversation: c9f3a\n" + textDrop, "crlf.txt": "To: Nova\r\n\r\nhi\r\n",
	} {
		for _, folder := range []string{mailbox.Sent, mailbox.Failed} {
			b := newBox(t)
			l := load(t, b, renameIn(t, b, name, content))
			want := *l.Draft
			stamp := mailbox.Stamp{Conversation: id1, ID: l.Draft.ID}
			want.Conversation = id1
			for range 3 {
				if folder == mailbox.Sent {
					stamp.Seq = 42
					must(t, b.Done(l, stamp))
				} else {
					stamp.Error, stamp.Near = "because", []string{"Nova"}
					must(t, b.Fail(l, stamp))
					if got := b.FailureOf(name); got != "because" {
						t.Errorf("FailureOf %s: got %q, want because", name, got)
					}
				}
				wantNames(t, b, folder, name)
				must(t, os.Rename(at(b, folder, name), at(b, mailbox.OutboxNew, name)))
				l = load(t, b, drop(t, b, name))
				if diff := cmp.Diff(&want, l.Draft, cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("%s back from %s (-want +got):\n%s", name, folder, diff)
				}
			}
		}
	}
}

// Two drops can have one name, one after the other. Both stay.
func TestNamesThatAreTaken(t *testing.T) {
	for _, name := range []string{"a.json", "noend", "é" + strings.Repeat("世", 80) + ".json", strings.Repeat("x", 250) + ".json", "x." + strings.Repeat("y", 253)} {
		b := newBox(t)
		contents := make(map[string]bool)
		for i := range 4 {
			d := renameIn(t, b, name, fmt.Sprintf(`{"to":"Nova","content":"%d"}`, i))
			l, _ := b.Load(d, "Atlas", d.Changed)
			stamp := mailbox.Stamp{Error: fmt.Sprint(i)}
			within(t, 10*time.Second, func() {
				for range 2 {
					if err := b.Fail(l, stamp); err != nil {
						t.Errorf("Fail %q: got %v, want no error", name, err)
					}
					if err := b.Done(l, mailbox.Stamp{ID: messageID}); err != nil {
						t.Errorf("Done %q: got %v, want no error", name, err)
					}
				}
			})
		}
		failed, err := b.FailedDrops()
		if err != nil || len(failed) != 4 {
			t.Errorf("FailedDrops of %q: got %q, %v, want 4 names", name, failed, err)
		}
		for _, name := range failed {
			contents[b.FailureOf(name)+read(t, at(b, mailbox.Failed, name))[:5]] = true
		}
		if len(contents) != 4 {
			t.Errorf("contents of %q: got %v, want 4 different ones", failed, contents)
		}
		wantNames(t, b, mailbox.OutboxNew)
		wantNames(t, b, mailbox.OutboxTmp)
		if entries, err := os.ReadDir(at(b, mailbox.Sent)); err != nil || len(entries) != 4 {
			t.Errorf("sent: got %v, %v, want 4 files", entries, err)
		}
	}
}

// Whatever has the name in sent/ or failed/, it stays, and nobody waits for it.
func TestNamesThatAreTakenByForeignThings(t *testing.T) {
	for what, f := range foreign {
		t.Run(what, func(t *testing.T) {
			b := newBox(t)
			for _, folder := range []string{mailbox.Sent, mailbox.Failed} {
				if what == "hard link" {
					must(t, os.RemoveAll(at(b, "agent.json")))
				}
				must(t, f.put(t, b, at(b, folder, "a.json")))
				before, err := os.Lstat(at(b, folder, "a.json"))
				must(t, err)
				l := load(t, b, renameIn(t, b, "a.json", jsonDrop))
				within(t, 10*time.Second, func() {
					if folder == mailbox.Sent {
						must(t, b.Done(l, sentStamp))
					} else {
						must(t, b.Fail(l, failedStamp))
					}
				})
				wantNames(t, b, mailbox.OutboxNew)
				after, err := os.Lstat(at(b, folder, "a.json"))
				if err != nil || !os.SameFile(before, after) {
					t.Errorf("%s: got %v, %v, want what was there", folder, after, err)
				}
				if paths, _ := filepath.Glob(at(b, folder, "a.*.json")); len(paths) != 1 {
					t.Errorf("%s: got %q, want the drop under one other name", folder, paths)
				}
			}
		})
	}
}

func TestLongNames(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, name := range []string{
		x(250) + ".json", x(251) + ".txt", x(252) + ".md", x(255), "a." + x(253), x(249), x(244) + ".json", x(245) + ".json",
		strings.Repeat("世", 83) + ".txt", strings.Repeat("\xff", 250) + ".json",
	} {
		for _, content := range []string{jsonDrop, textDrop, "\xff"} {
			b := newBox(t)
			d := renameIn(t, b, name, content)
			l, err := b.Load(d, "Atlas", d.Changed)
			if err == nil {
				must(t, b.Done(l, sentStamp))
				wantNames(t, b, mailbox.Sent, name)
				continue
			}
			if err := b.Fail(l, mailbox.Stamp{Error: "because"}); err != nil {
				t.Fatalf("Fail of %q: got %v, want no error", name, err)
			}
			wantNames(t, b, mailbox.OutboxNew)
			failed, err := b.FailedDrops()
			if err != nil || len(failed) != 1 {
				t.Fatalf("FailedDrops: got %q, %v, want one", failed, err)
			}
			if got := b.FailureOf(failed[0]); got != "because" {
				t.Errorf("FailureOf(%q): got %q, want because", failed[0], got)
			}
			if got := read(t, at(b, mailbox.Failed, failed[0])); !strings.HasSuffix(got, content) {
				t.Errorf("content: got %q, want it to end in %q", got, content)
			}
		}
	}
}

// A crash between the two steps of Done leaves the drop in both folders. The retry
// finds the stamped file, also where that has another name.
func TestDoneAfterACrash(t *testing.T) {
	for _, taken := range []bool{false, true} {
		b := newBox(t)
		if taken {
			write(t, at(b, mailbox.Sent, "a.json"), jsonDrop)
		}
		d := renameIn(t, b, "a.json", jsonDrop)
		l := load(t, b, d)
		keep := at(b, "keep")
		must(t, os.Link(at(b, mailbox.OutboxNew, "a.json"), keep))
		stamp := mailbox.Stamp{Conversation: id1, Seq: 42, ID: l.Draft.ID}
		must(t, b.Done(l, stamp))
		want, err := os.ReadDir(at(b, mailbox.Sent))
		must(t, err)

		must(t, os.Rename(keep, at(b, mailbox.OutboxNew, "a.json"))) // the crash
		again := load(t, b, d)
		if again.Draft.ID != l.Draft.ID {
			t.Errorf("id after the crash: got %s, want %s", again.Draft.ID, l.Draft.ID)
		}
		must(t, b.Done(again, stamp))
		wantNames(t, b, mailbox.OutboxNew)
		got, err := os.ReadDir(at(b, mailbox.Sent))
		if err != nil || len(got) != len(want) {
			t.Errorf("sent after the crash: got %v, %v, want %v", got, err, want)
		}
	}
}

// A crash between the two steps of a Fail that writes the error beside the drop.
func TestFailAsideAfterACrash(t *testing.T) {
	b := newBox(t)
	write(t, at(b, mailbox.Failed, "a.json.error"), `{"error":"because"}`+"\n") // of the crash
	d := renameIn(t, b, "a.json", "{")
	l := wantBad(t, b, d, time.Hour, "invalid")
	must(t, b.Fail(l, mailbox.Stamp{Error: "because"}))
	wantNames(t, b, mailbox.Failed, "a.json", "a.json.error")
}

// A failed drop may end in .error itself. It is listed, and no other drop's error is
// written over it.
func TestDropWithTheEndingError(t *testing.T) {
	b := newBox(t)
	fail := func(name, content string) {
		d := renameIn(t, b, name, content)
		must(t, b.Fail(wantBad(t, b, d, time.Hour, ""), mailbox.Stamp{Error: "because of " + content}))
	}
	fail("a.json.error", "mine")
	fail("a.json", "{")
	fail("b.error", "too")
	got, err := b.FailedDrops()
	if want := []string{"a.2.json", "a.json.error", "b.error"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("FailedDrops: got %q, %v, want %q", got, err, want)
	}
	wantContent(t, at(b, mailbox.Failed, "a.json.error"), "mine")
	for name, want := range map[string]string{"a.json.error": "because of mine", "a.2.json": "because of {", "b.error": "because of too"} {
		if got := b.FailureOf(name); got != want {
			t.Errorf("FailureOf(%q): got %q, want %q", name, got, want)
		}
	}
}

// Who uses one name for all drops can put the next one there before the last one is
// taken away. It is another drop.
func TestDropThatTakesThePlaceOfOneInWork(t *testing.T) {
	const next = `{"to":"Nova","content":"next"}`
	for how, put := range map[string]func(t *testing.T, b *mailbox.Box){
		"renamed in": func(t *testing.T, b *mailbox.Box) { renameIn(t, b, "a.json", next) },
		"in place":   func(t *testing.T, b *mailbox.Box) { rewrite(t, b, next, time.Millisecond) },
		"of the same size": func(t *testing.T, b *mailbox.Box) {
			rewrite(t, b, strings.Replace(jsonDrop, "hi", "ho", 1), time.Millisecond)
		},
		"in one tick": func(t *testing.T, b *mailbox.Box) { rewrite(t, b, next, 0) },
	} {
		for what, finish := range map[string]func(*mailbox.Box, *mailbox.Loaded) error{
			"Done": func(b *mailbox.Box, l *mailbox.Loaded) error { return b.Done(l, sentStamp) },
			"Fail": func(b *mailbox.Box, l *mailbox.Loaded) error { return b.Fail(l, failedStamp) },
		} {
			t.Run(what+" "+how, func(t *testing.T) {
				b := newBox(t)
				l := load(t, b, renameIn(t, b, "a.json", jsonDrop))
				put(t, b)
				must(t, finish(b, l))
				second := load(t, b, drop(t, b, "a.json"))
				if second.Draft.Content == "hi" {
					t.Errorf("the next drop: got %+v, want the new one", second.Draft)
				}
				if second.Draft.ID == l.Draft.ID && how != "in one tick" {
					t.Errorf("its id: got %s again, want another", second.Draft.ID)
				}
				must(t, finish(b, second))
				wantNames(t, b, mailbox.OutboxNew)
				folder := map[string]string{"Done": mailbox.Sent, "Fail": mailbox.Failed}[what]
				if entries, err := os.ReadDir(at(b, folder)); err != nil || len(entries) != 2 {
					t.Errorf("%s: got %v, %v, want both drops", folder, entries, err)
				}
			})
		}
	}
}

// rewrite writes a drop anew in place, which makes it younger by so much.
func rewrite(t *testing.T, b *mailbox.Box, content string, by time.Duration) {
	t.Helper()
	path := at(b, mailbox.OutboxNew, "a.json")
	info, err := os.Lstat(path)
	must(t, err)
	write(t, path, content)
	must(t, os.Chtimes(path, time.Time{}, info.ModTime().Add(by)))
}

// The writer of half a JSON may finish it just when it is given up.
func TestHalfDropThatIsFinishedWhileItFails(t *testing.T) {
	b := newBox(t)
	l := wantBad(t, b, writeIn(t, b, "a.json", jsonDrop[:12]), 2*time.Second, "invalid")
	d := writeIn(t, b, "a.json", jsonDrop)
	must(t, b.Fail(l, failedStamp))
	wantNames(t, b, mailbox.Failed)
	if got := load(t, b, d).Draft.Content; got != "hi" {
		t.Errorf("content: got %q, want hi", got)
	}
}

// A drop that its writer finishes while it is read is one message: it has the id that
// it has when it is read again.
func TestDropThatIsFinishedWhileItIsRead(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for range 50 {
		b := newBox(t)
		path := at(b, mailbox.OutboxNew, "a.json")
		write(t, path, `{"to":"Nova","content":"`+long)
		must(t, os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)))
		writer, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		d := drop(t, b, "a.json")
		var group sync.WaitGroup
		group.Go(func() {
			_, err := writer.WriteString(`"}`)
			if err := errors.Join(err, writer.Close()); err != nil {
				t.Error(err)
			}
		})
		l, err := b.Load(d, "Atlas", time.Now())
		group.Wait()
		if again := load(t, b, drop(t, b, "a.json")); err == nil && l.Draft.ID != again.Draft.ID {
			t.Fatalf("id: got %s and then %s, want one", l.Draft.ID, again.Draft.ID)
		}
	}
}

func TestFoldersThatAreMissing(t *testing.T) {
	for _, folder := range []string{mailbox.Sent, mailbox.Failed, mailbox.OutboxTmp} {
		b := newBox(t)
		sent, failed := load(t, b, renameIn(t, b, "a.json", jsonDrop)), load(t, b, renameIn(t, b, "b.json", jsonDrop))
		bad := wantBad(t, b, renameIn(t, b, "c.json", "{"), time.Hour, "invalid")
		must(t, os.RemoveAll(at(b, folder)))
		if err := errors.Join(b.Done(sent, sentStamp), b.Fail(failed, failedStamp), b.Fail(bad, failedStamp)); err != nil {
			t.Errorf("without %s: got %v, want no error", folder, err)
		}
		wantNames(t, b, mailbox.Sent, "a.json")
		wantNames(t, b, mailbox.Failed, "b.json", "c.json", "c.json.error")
	}
}

func TestLeave(t *testing.T) {
	b := newBox(t)
	draft := &envelope.Envelope{ID: messageID, Type: envelope.Message, To: []string{"Nova"}, Content: "hi\nthere", After: envelope.Int(0)}
	name := messageID + ".json"
	if b.Waiting(messageID) {
		t.Error("Waiting before: got true, want false")
	}
	if err := b.Leave(name, draft); err != nil {
		t.Fatalf("Leave: got %v, want no error", err)
	}
	if !b.Waiting(messageID) {
		t.Error("Waiting: got false, want true")
	}
	wantNames(t, b, mailbox.OutboxNew, name)
	wantNames(t, b, mailbox.OutboxTmp)
	if diff := cmp.Diff(draft, load(t, b, drop(t, b, name)).Draft); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	before := read(t, at(b, mailbox.OutboxNew, name))
	if err := b.Leave(name, &envelope.Envelope{Content: "other"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Leave again: got %v, want fs.ErrExist", err)
	}
	wantContent(t, at(b, mailbox.OutboxNew, name), before)
	wantNames(t, b, mailbox.OutboxTmp)
}

func TestLeaveWantsANameThatIsRead(t *testing.T) {
	b := newBox(t)
	for _, name := range []string{"", ".", "..", "a/b.json", "../a.json", "/tmp/a.json", ".a.json", ".json", "a", "a.txt", "a.md", "a.JSON"} {
		if err := b.Leave(name, &envelope.Envelope{Content: "hi"}); err == nil || !strings.Contains(err.Error(), "want a file name") {
			t.Errorf("Leave(%q): got %v, want that it is refused", name, err)
		}
	}
	wantNames(t, b, mailbox.OutboxNew)
	wantNames(t, b, "outbox", "failed", "new", "sent", "tmp")
}

// With --key the same message has the same name again, also after a crash.
func TestLeaveAfterACrash(t *testing.T) {
	b := newBox(t)
	write(t, at(b, mailbox.OutboxTmp, "a.json"), `{"to":`)
	if err := b.Leave("a.json", &envelope.Envelope{To: []string{"Nova"}, Content: "hi"}); err != nil {
		t.Errorf("Leave: got %v, want no error", err)
	}
	if got := load(t, b, drop(t, b, "a.json")).Draft.Content; got != "hi" {
		t.Errorf("content: got %q, want hi", got)
	}
}

func TestLeaveByManyGoroutines(t *testing.T) {
	b := newBox(t)
	var left atomic.Int32
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			err := b.Leave("a.json", &envelope.Envelope{To: []string{"Nova"}, Content: strings.Repeat(fmt.Sprint(i), 1000)})
			if err == nil {
				left.Add(1)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Errorf("Leave: got %v, want no error or fs.ErrExist", err)
			}
		})
	}
	group.Wait()
	if got := left.Load(); got != 1 {
		t.Errorf("Leave: got %d that succeeded, want 1", got)
	}
	content := load(t, b, drop(t, b, "a.json")).Draft.Content
	if len(content) != 1000 || strings.Trim(content, content[:1]) != "" {
		t.Errorf("content: got %d bytes of several, want those of one", len(content))
	}
	wantNames(t, b, mailbox.OutboxTmp)
}

// Many drops of several writers are each taken once, while others come.
func TestDropsWhileOthersWrite(t *testing.T) {
	b := newBox(t)
	const writers, each = 4, 50
	var done atomic.Bool
	var group, drainer sync.WaitGroup
	taken := make(map[string]int)
	drainer.Go(func() {
		for last := 0; last < 2; {
			if done.Load() {
				last++
			}
			drops, err := b.Drops()
			if err != nil {
				t.Errorf("Drops: got %v, want no error", err)
				return
			}
			for _, d := range drops {
				l, err := b.Load(d, "Atlas", time.Now())
				if err != nil {
					t.Errorf("Load: got %v, want no error", err)
					continue
				}
				taken[l.Draft.Content]++
				if err := b.Done(l, mailbox.Stamp{ID: l.Draft.ID}); err != nil {
					t.Errorf("Done: got %v, want no error", err)
				}
			}
		}
	})
	for w := range writers {
		group.Go(func() {
			for n := range each {
				content := fmt.Sprintf("%d.%d", w, n)
				if err := b.Leave(content+".json", &envelope.Envelope{To: []string{"Nova"}, Content: content}); err != nil {
					t.Errorf("Leave: got %v, want no error", err)
				}
			}
		})
	}
	group.Wait()
	done.Store(true)
	drainer.Wait()
	if len(taken) != writers*each {
		t.Errorf("taken: got %d drops, want %d", len(taken), writers*each)
	}
	for content, n := range taken {
		if n != 1 {
			t.Errorf("drop %s: got taken %d times, want once", content, n)
		}
	}
	wantNames(t, b, mailbox.OutboxNew)
	wantNames(t, b, mailbox.OutboxTmp)
}

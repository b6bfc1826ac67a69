package files_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/files"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
)

// memory is an index that counts what is put into it.
type memory struct {
	values map[string]string
	puts   int
}

func (m *memory) Get(key string) ([]byte, bool) {
	v, ok := m.values[key]
	return []byte(v), ok
}

func (m *memory) Put(key string, value []byte) error {
	m.values[key] = string(value)
	m.puts++
	return nil
}

// attic is a keeper on a home of its own, at a time that the test sets.
type attic struct {
	*files.Keeper
	t     *testing.T
	home  *maildir.Home
	index *memory
	now   time.Time
}

func newAttic(t *testing.T, config string) *attic {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "home")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600))
	home, err := maildir.Init(dir)
	must(t, err)
	a := &attic{t: t, home: home, index: &memory{values: make(map[string]string)}, now: time.Now()}
	a.Keeper = files.New(home, a.index, slog.New(slog.DiscardHandler), func() time.Time { return a.now })
	return a
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (a *attic) take(content string) envelope.Attachment {
	a.t.Helper()
	file, err := a.Take("Atlas", "a.txt", "", strings.NewReader(content))
	must(a.t, err)
	return file
}

// write puts a text into a file of the home.
func (a *attic) write(path, text string) {
	a.t.Helper()
	must(a.t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(a.t, os.WriteFile(path, []byte(text), 0o600))
}

// has reports whether a blob is there.
func (a *attic) has(sum string) bool {
	f, err := a.Open(sum)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}

func (a *attic) sweep() {
	a.t.Helper()
	must(a.t, a.Sweep(context.Background()))
}

func code(err error) api.Code {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return api.Code(fmt.Sprint(err))
}

func TestMediaTypes(t *testing.T) {
	a := newAttic(t, "")
	for _, test := range []struct{ said, content, want string }{
		{"", "hello", "text/plain; charset=utf-8"},
		{"", "", "text/plain; charset=utf-8"},
		{"", "%PDF-1.7", "application/pdf"},
		{"", "\x89PNG\r\n\x1a\n", "image/png"},
		{"", "\x00\x01\x02", "application/octet-stream"},
		{"text/csv; header=present", "hello", "text/csv; header=present"},
		{"application/octet-stream", "hello", "text/plain; charset=utf-8"},
		{"application/x-www-form-urlencoded", "hello", "text/plain; charset=utf-8"},
		{"text/x\x1b", "hello", "text/plain; charset=utf-8"},
		{"nonsense\n", "hello", "text/plain; charset=utf-8"},
	} {
		file, err := a.Take("Atlas", "a", test.said, strings.NewReader(test.content))
		if err != nil || file.MediaType != test.want || file.Name != "a" || file.Size != int64(len(test.content)) {
			t.Errorf("%q of %q: got %+v, %v; want %q", test.said, test.content, file, err, test.want)
		}
	}
}

// TestRefused: what cannot stand in a message is not stored.
func TestRefused(t *testing.T) {
	a := newAttic(t, "limits.attachment = 5")
	for name, want := range map[string]api.Code{
		"": api.BadRequest, "..": api.BadRequest, "a/b": api.BadRequest, `a\b`: api.BadRequest, "a\nb": api.BadRequest,
		strings.Repeat("n", 256): api.BadRequest, "\xff": api.BadRequest,
	} {
		if _, err := a.Take("Atlas", name, "", strings.NewReader("hello")); code(err) != want {
			t.Errorf("name %q: got %v, want %s", name, err, want)
		}
	}
	if _, err := a.Take("Atlas", "a", "", strings.NewReader("hello!")); code(err) != api.TooLarge {
		t.Errorf("6 bytes: got %v, want %s", err, api.TooLarge)
	}
	file := a.take("hello")
	for what, change := range map[string]func(*envelope.Attachment){
		"another size": func(f *envelope.Attachment) { f.Size++ },
		"another sum":  func(f *envelope.Attachment) { f.SHA256 = strings.Repeat("0", 64) },
	} {
		other := file
		change(&other)
		if err := a.Claim([]envelope.Attachment{file, other}); code(err) != api.BadRequest && code(err) != api.AttachmentNotFound {
			t.Errorf("%s: got %v, want it refused", what, err)
		}
	}
	must(t, a.Claim([]envelope.Attachment{file}))
}

const (
	conversation = "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3"
	day          = 25 * time.Hour
)

// TestSweep: what nothing mentions goes when nobody has used it for a day; what a log, an
// open call or a waiting drop mentions stays.
func TestSweep(t *testing.T) {
	a := newAttic(t, "")
	logged, called, dropped, lost, claimed := a.take("logged"), a.take("called"), a.take("dropped"), a.take("lost"), a.take("claimed")
	a.write(a.home.LogPath(conversation), `{"seq":1}`+"\n"+`{"seq":2,"attachments":[{"sha256":"`+logged.SHA256+`"}]}`+"\n"+"torn")
	a.write(filepath.Join(a.home.OpenRequestsDir(), "x.json"), `{"sha256":"`+called.SHA256+`"}`)
	a.write(filepath.Join(a.home.AgentDir("Atlas"), "outbox/new/.taken-1/x.json"), `{"sha256":"`+dropped.SHA256+`"}`)
	a.write(filepath.Join(a.home.BlobsDir(), "README"), "somebody else's")
	all := []envelope.Attachment{logged, called, dropped, lost, claimed}
	a.sweep()
	for _, f := range all {
		if !a.has(f.SHA256) {
			t.Fatal("a blob is gone that was uploaded just now")
		}
	}
	a.now = a.now.Add(day)
	must(t, a.Claim([]envelope.Attachment{claimed}))
	a.sweep()
	for want, list := range map[bool][]envelope.Attachment{true: {logged, called, dropped, claimed}, false: {lost}} {
		for i, f := range list {
			if a.has(f.SHA256) != want {
				t.Errorf("%d of %t: it is not so", i, want)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(a.home.BlobsDir(), "README")); err != nil {
		t.Error("what is no blob was removed")
	}
	// Whoever mentioned it is gone: the log, the call and the drop.
	must(t, os.Remove(a.home.LogPath(conversation)))
	must(t, os.RemoveAll(a.home.OpenRequestsDir()))
	must(t, os.RemoveAll(filepath.Join(a.home.AgentDir("Atlas"), "outbox")))
	a.now = a.now.Add(day)
	a.sweep()
	for _, f := range all {
		if a.has(f.SHA256) {
			t.Errorf("a blob is there that nothing mentions")
		}
	}
}

// TestKnownMentionsAreNotLookedFor: the logs are read once.
func TestKnownMentionsAreNotLookedFor(t *testing.T) {
	a := newAttic(t, "")
	file := a.take("hello")
	a.write(a.home.LogPath(conversation), `"`+file.SHA256+`"`)
	a.now = a.now.Add(day)
	a.sweep()
	a.sweep()
	if a.index.puts != 1 || !a.has(file.SHA256) {
		t.Errorf("got %d notes of the mention, want one", a.index.puts)
	}
	a.write(a.home.LogPath(conversation), "") // no log is ever cut; if one is, nothing is removed
	a.sweep()
	if !a.has(file.SHA256) {
		t.Error("the blob is gone")
	}
	clear(a.index.values) // a new index
	a.sweep()
	if a.has(file.SHA256) {
		t.Error("the blob is there still")
	}
}

// TestNothingIsRemovedUnread: where one log cannot be read, it may mention anything.
func TestNothingIsRemovedUnread(t *testing.T) {
	a := newAttic(t, "")
	file := a.take("hello")
	must(t, os.Mkdir(a.home.LogPath(conversation), 0o700))
	a.now = a.now.Add(day)
	if err := a.Sweep(context.Background()); err == nil {
		t.Error("got no error")
	}
	must(t, os.Remove(a.home.LogPath(conversation)))
	a.write(a.home.LogPath(conversation), "")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.Sweep(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("of an end: got %v", err)
	}
	if !a.has(file.SHA256) {
		t.Error("the blob is gone")
	}
}

// TestUploadsAreForgotten after a day, and are an agent's own.
func TestUploadsAreForgotten(t *testing.T) {
	a := newAttic(t, "")
	file := a.take("hello")
	if !a.Uploaded("ATLAS", file.SHA256) || a.Uploaded("Nova", file.SHA256) || a.Uploaded("Atlas", strings.Repeat("0", 64)) {
		t.Error("who has uploaded what is not so")
	}
	a.now = a.now.Add(day)
	if a.Uploaded("Atlas", file.SHA256) {
		t.Error("it is known after a day")
	}
}

// TestDamagedBlob is not given out.
func TestDamagedBlob(t *testing.T) {
	a := newAttic(t, "")
	file := a.take("hello")
	f, err := a.Open(file.SHA256)
	must(t, err)
	if data, err := io.ReadAll(f); err != nil || string(data) != "hello" {
		t.Errorf("got %q, %v", data, err)
	}
	_ = f.Close()
	a.write(filepath.Join(a.home.BlobsDir(), file.SHA256), "hellO")
	if _, err := a.Open(file.SHA256); code(err) != api.Damaged {
		t.Errorf("got %v, want %s", err, api.Damaged)
	}
	if _, err := a.Open(strings.Repeat("0", 64)); code(err) != api.AttachmentNotFound {
		t.Errorf("got %v, want %s", err, api.AttachmentNotFound)
	}
}

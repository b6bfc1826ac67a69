package mailbox_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// TestDropsNameFiles in JSON as names and objects, and in text as header lines. What the
// drop says of them does not stand in the draft.
func TestDropsNameFiles(t *testing.T) {
	b := newBox(t)
	for name, c := range map[string]struct {
		content string
		want    []mailbox.DropFile
	}{
		"none.json":   {`{"content":"hi"}`, nil},
		"one.json":    {`{"attach":"a b.txt"}`, []mailbox.DropFile{{File: "a b.txt", Name: "a b.txt"}}},
		"list.json":   {`{"attach":["a",{"file":"b","name":"c","mediaType":"text/x"}]}`, []mailbox.DropFile{{File: "a", Name: "a"}, {File: "b", Name: "c", MediaType: "text/x"}}},
		"object.json": {`{"attach":{"file":"b"}}`, []mailbox.DropFile{{File: "b", Name: "b"}}},
		"empty.json":  {`{"attach":[]}`, nil},
		"lines.txt":   {"To: Nova\nAttach: a, b.txt\nattach: c\n\nhi", []mailbox.DropFile{{File: "a, b.txt", Name: "a, b.txt"}, {File: "c", Name: "c"}}},
	} {
		l := load(t, b, renameIn(t, b, name, c.content))
		if !slices.Equal(l.Files, c.want) || len(l.Draft.Unknown) != 0 {
			t.Errorf("%s: got %+v and unknown fields %v, want %+v and none", name, l.Files, l.Draft.Unknown, c.want)
		}
	}
}

// TestBadNamesOfFiles: nothing outside outbox/tmp is named.
func TestBadNamesOfFiles(t *testing.T) {
	b := newBox(t)
	for i, value := range []string{`""`, `"."`, `".."`, `"../new/x"`, `"/etc/passwd"`, `"a/b"`, `".hidden"`, `7`, `[7]`, `{}`, `[["a"]]`, `"a\u0000"`, `{"file":"../a","name":"a"}`} {
		d := renameIn(t, b, fmt.Sprintf("%d.json", i), `{"content":"hi","attach":`+value+`}`)
		l, err := b.Load(d, "nova", d.Changed)
		if !errors.Is(err, envelope.ErrInvalid) {
			t.Errorf("%s: got %+v, %v; want it refused", value, l.Files, err)
		}
	}
	many := strings.TrimSuffix(strings.Repeat(`"a",`, envelope.MaxAttachments+1), ",")
	d := renameIn(t, b, "many.json", `{"content":"hi","attach":[`+many+`]}`)
	if _, err := b.Load(d, "nova", d.Changed); !errors.Is(err, envelope.ErrInvalid) {
		t.Errorf("too many: got %v, want it refused", err)
	}
}

// TestOnlyPlainFilesAreTaken from outbox/tmp: no link, whatever it leads to, no folder, no
// second name, no pipe.
func TestOnlyPlainFilesAreTaken(t *testing.T) {
	b := newBox(t)
	tmp := func(name string) string { return at(b, mailbox.OutboxTmp, name) }
	write(t, tmp("plain"), "hello")
	must(t, os.Symlink("plain", tmp("link")))
	must(t, os.Symlink("/etc/passwd", tmp("out")))
	must(t, os.Mkdir(tmp("folder"), 0o700))
	must(t, syscall.Mkfifo(tmp("pipe"), 0o600))
	write(t, tmp("first"), "")
	must(t, os.Link(tmp("first"), tmp("second")))
	for _, name := range []string{"link", "out", "folder", "pipe", "second"} {
		if _, err := b.OpenFile(mailbox.DropFile{File: name}); !errors.Is(err, mailbox.ErrForeign) {
			t.Errorf("%s: got %v, want ErrForeign", name, err)
		}
	}
	if _, err := b.OpenFile(mailbox.DropFile{File: "none"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: got %v, want fs.ErrNotExist", err)
	}
	if _, err := b.OpenFile(mailbox.DropFile{File: "../new/x"}); err == nil {
		t.Error("outside: got no error")
	}
	f, err := b.OpenFile(mailbox.DropFile{File: "plain"})
	must(t, err)
	defer f.Close()
	if data, err := io.ReadAll(f); err != nil || string(data) != "hello" {
		t.Errorf("got %q, %v", data, err)
	}
}

// TestFilesOfADropThatIsSentGo and those of one that failed stay, so that it can be moved
// back.
func TestFilesOfADropThatIsSentGo(t *testing.T) {
	b := newBox(t)
	files := []mailbox.DropFile{{File: "a", Name: "a"}, {File: "b", Name: "x.txt"}}
	for _, f := range files {
		must(t, b.LeaveFile(f, strings.NewReader("hello")))
	}
	if err := b.LeaveFile(files[0], strings.NewReader("other")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a name that is taken: got %v, want fs.ErrExist", err)
	}
	wantContent(t, at(b, mailbox.OutboxTmp, "a"), "hello")
	d, err := mailbox.WithFiles(&envelope.Envelope{ID: messageID, Type: envelope.Message, Content: "hi"}, files)
	must(t, err)
	must(t, b.Leave("one.json", d))
	l := load(t, b, drop(t, b, "one.json"))
	if !slices.Equal(l.Files, files) {
		t.Errorf("got %+v, want %+v", l.Files, files)
	}
	must(t, b.Fail(l, failedStamp))
	wantNames(t, b, mailbox.OutboxTmp, "a", "b")
	must(t, os.Rename(at(b, mailbox.Failed, "one.json"), at(b, mailbox.OutboxNew, "one.json")))
	l = load(t, b, drop(t, b, "one.json"))
	for range 2 {
		must(t, b.Done(l, sentStamp))
		wantNames(t, b, mailbox.OutboxTmp)
	}
}

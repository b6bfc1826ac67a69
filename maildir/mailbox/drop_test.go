package mailbox_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const messageID = "0199c3f0-7d1a-7cc2-a5a0-1f2e3d4c5b6a"

// The stamps of a drop that was sent and of one that was not.
var (
	sentStamp   = mailbox.Stamp{Conversation: id1, Seq: 42, ID: messageID}
	failedStamp = mailbox.Stamp{Error: "no agent \"Nvoa\"\nhere", Near: []string{"Nova", "Nora"}}
)

// drops returns the drops in a folder of testdata by their file name.
func drops(t testing.TB, folder string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("testdata", "drops", folder))
	must(t, err)
	files := make(map[string][]byte)
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".want" && ext != ".sent" {
			files[e.Name()] = []byte(read(t, filepath.Join("testdata", "drops", folder, e.Name())))
		}
	}
	if len(files) == 0 {
		t.Fatalf("drops in %q: got none", folder)
	}
	return files
}

// A good drop is the envelope in its .want file, and once it is sent the file .sent.
func TestGoodDrops(t *testing.T) {
	for name, data := range drops(t, "good") {
		t.Run(name, func(t *testing.T) {
			vector := filepath.Join("testdata", "drops", "good", name)
			draft, err := mailbox.ParseDrop(name, data)
			if err != nil {
				t.Fatalf("ParseDrop: got %v, want no error", err)
			}
			if got, want := string(draft.Append(nil))+"\n", read(t, vector+".want"); got != want {
				t.Errorf("draft:\n got %swant %s", got, want)
			}
			got, ok := mailbox.Apply(sentStamp, name, data)
			if want := read(t, vector+".sent"); !ok || string(got) != want {
				t.Errorf("sent:\n got %q, %v\nwant %q", got, ok, want)
			}
			wantStampsRead(t, name, data)
		})
	}
}

// The error of a bad drop contains what its .want file says.
func TestBadDrops(t *testing.T) {
	for name, data := range drops(t, "bad") {
		want := strings.TrimSpace(read(t, filepath.Join("testdata", "drops", "bad", name+".want")))
		draft, err := mailbox.ParseDrop(name, data)
		if err == nil || want == "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %+v, %v, want an error with %q", name, draft, err, want)
		}
	}
}

// wantStampsRead checks that a drop that can be read can be stamped, and is the same
// drop then, with what the stamp says, as often as it comes back.
func wantStampsRead(t *testing.T, name string, data []byte) {
	t.Helper()
	draft, err := mailbox.ParseDrop(name, data)
	if err != nil {
		return
	}
	sent := *draft
	sent.ID, sent.Conversation = sentStamp.ID, sentStamp.Conversation
	for _, c := range []struct {
		stamps []mailbox.Stamp
		want   *envelope.Envelope
	}{
		{[]mailbox.Stamp{failedStamp}, draft},
		{[]mailbox.Stamp{failedStamp, failedStamp}, draft},
		{[]mailbox.Stamp{sentStamp}, &sent},
		{[]mailbox.Stamp{failedStamp, sentStamp, failedStamp}, &sent},
	} {
		stamped, ok := data, true
		for _, s := range c.stamps {
			if stamped, ok = mailbox.Apply(s, name, stamped); !ok {
				t.Fatalf("stamp %q: got that it holds none, want it stamped", data)
			}
		}
		again, err := mailbox.ParseDrop(name, stamped)
		if err != nil && (len(draft.Unknown) > 62 || len(stamped) > mailbox.MaxDrop) {
			continue // the stamp is one field or one byte too many
		}
		if err != nil {
			t.Fatalf("read %q again: got %v, want no error", stamped, err)
		}
		if diff := cmp.Diff(c.want, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%q\nstamped: %q\nread again (-want +got):\n%s", data, stamped, diff)
		}
	}
	twice, _ := mailbox.Apply(sentStamp, name, data)
	twice, _ = mailbox.Apply(sentStamp, name, twice)
	if once, _ := mailbox.Apply(sentStamp, name, data); string(once) != string(twice) {
		t.Fatalf("stamped twice:\n got %q\nwant %q", twice, once)
	}
}

func FuzzParseDropJSON(f *testing.F) { fuzzDrops(f, ".json") }

func FuzzParseDropText(f *testing.F) { fuzzDrops(f, ".txt", ".md") }

func fuzzDrops(f *testing.F, endings ...string) {
	for _, folder := range []string{"good", "bad"} {
		for name, data := range drops(f, folder) {
			if slices.Contains(endings, filepath.Ext(name)) {
				f.Add(data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		wantStampsRead(t, "drop"+endings[0], data)
		if draft, err := mailbox.ParseDrop("drop"+endings[0], data); err == nil {
			wantLineReadable(t, draft)
		}
	})
}

// wantLineReadable checks that a draft that passes the checks can be read from a log:
// a line that nobody can read would stop the conversation.
func wantLineReadable(t *testing.T, draft *envelope.Envelope) {
	t.Helper()
	if err := draft.Check(envelope.MaxContent); err != nil {
		return
	}
	line := draft.Append(nil)
	if _, err := envelope.Decode(line); err != nil && len(line) <= envelope.MaxLine {
		t.Fatalf("the line %s: got %v, want that it can be read", line, err)
	}
}

func TestDropIsNotStampedByItsWriter(t *testing.T) {
	for name, data := range map[string]string{
		"a.json": `{"seq":7,"timestamp":5,"raw":3,"to":"Nova","content":"hi"}`,
		"a.txt":  "Seq: 7\nTo: Nova\n\nhi",
	} {
		e, err := mailbox.ParseDrop(name, []byte(data))
		if err != nil || e.Seq != 0 || e.Timestamp != 0 || e.Raw != nil || e.Type != envelope.Message {
			t.Errorf("%s: got %+v, %v, want an unstamped message", name, e, err)
		}
	}
}

func TestHeaderNamesAreInTheError(t *testing.T) {
	names := mailbox.HeaderNames()
	if !slices.IsSorted(names) || !slices.Contains(names, "to") || !slices.Contains(names, "reply-to") {
		t.Errorf("HeaderNames: got %q, want them sorted, with to and reply-to", names)
	}
	_, err := mailbox.ParseDrop("a.txt", []byte("Cc: Nova\n\nhi"))
	if !errors.Is(err, envelope.ErrInvalid) || !strings.Contains(err.Error(), strings.Join(names, ", ")) {
		t.Errorf("unknown header: got %v, want ErrInvalid with the names that are known", err)
	}
	_, err = mailbox.ParseDrop("a.txt", []byte(strings.Repeat("é", 1000)))
	if err == nil || len(err.Error()) > 300 {
		t.Errorf("long line: got %v, want a short error", err)
	}
}

// The errors of duo can quote what others wrote; a stamp stays one line for each field,
// in UTF-8.
func TestStampOfAnyError(t *testing.T) {
	for _, text := range []string{"two\nlines", "To: Nova\n\nbody", "\xff\xfe", "nul \x00", "return\r\n", strings.Repeat("x", 10_000), "{}", `"`} {
		for name, data := range map[string]string{"a.json": `{"to":"Nova","content":"hi"}`, "a.txt": "To: Nova\n\nhi"} {
			stamped, ok := mailbox.Apply(mailbox.Stamp{Error: text}, name, []byte(data))
			if !ok {
				t.Fatalf("%s with the error %q: got that it holds none, want it stamped", name, text)
			}
			e, err := mailbox.ParseDrop(name, stamped)
			if err != nil || e.Content != "hi" || !slices.Equal(e.To, []string{"Nova"}) {
				t.Errorf("%s with the error %q: got %+v, %v, want the message as it was", name, text, e, err)
			}
		}
	}
}

func TestStampOfNothing(t *testing.T) {
	for name, data := range map[string]string{"a.json": `{"to":"Nova","content":"hi"}`, "a.txt": "To: Nova\n\nhi"} {
		stamped, ok := mailbox.Apply(mailbox.Stamp{}, name, []byte(data))
		if e, err := mailbox.ParseDrop(name, stamped); !ok || err != nil || e.Content != "hi" {
			t.Errorf("%s: got %q, %v, want the message as it was", name, stamped, err)
		}
	}
	if got, ok := mailbox.Apply(mailbox.Stamp{}, "a.json", []byte(" {} ")); !ok || string(got) != "{}\n" {
		t.Errorf("empty object: got %q, %v, want {}", got, ok)
	}
}

// A body may look like the lines of a stamp; it is nobody's to change.
func TestStampLeavesTheBodyAlone(t *testing.T) {
	for _, text := range []string{
		"To: Nova\n\nError: disk is full\nSeq: 3\n",
		"Hello: this has no header\nError: disk is full\n", // cannot be read, and comes back as it is
		"Hi Nova\nError: disk is full\n",
	} {
		got, ok := mailbox.Apply(failedStamp, "a.txt", []byte(text))
		if want := "Error: no agent \"Nvoa\" here\nNear: Nova, Nora\n" + text; !ok || string(got) != want {
			t.Errorf("stamped:\n got %q, %v\nwant %q", got, ok, want)
		}
	}
}

func TestWhatCannotBeStamped(t *testing.T) {
	for name, data := range map[string][]byte{
		"torn.json": []byte(`{"to":`), "list.json": []byte(`[]`), "empty.json": {}, "binary.txt": {0xff}, "page.html": []byte("hi"),
		"unread.txt": nil, "unread.md": nil, "unread.json": nil,
	} {
		if got, ok := mailbox.Apply(failedStamp, name, data); ok {
			t.Errorf("%s: got %q, want that it cannot hold a stamp", name, got)
		}
	}
}

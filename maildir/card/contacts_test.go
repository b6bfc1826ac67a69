package card_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
)

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestContacts(t *testing.T) {
	dir := t.TempDir()
	atlas, nova := envelope.Address{Name: "Atlas", Host: "nyc"}, envelope.Address{Name: "Nova", Host: "nyc"}
	c, err := card.ReadContacts(dir)
	if err != nil || c.Blocks(atlas) || c.Allows(atlas) {
		t.Fatalf("without a file: got %+v, %v", c, err)
	}
	c = c.With(atlas, "allow").With(nova, "block").With(atlas, "block")
	if err := c.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := card.ReadContacts(dir)
	if want := (card.Contacts{Block: []string{"Nova@nyc", "Atlas@nyc"}, Allow: []string{}}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if !got.Blocks(atlas) || got.Allows(atlas) || got.Blocks(envelope.Address{Name: "Atlas", Host: "tokyo"}) {
		t.Error("want Atlas@nyc blocked, not allowed, and no other host's")
	}
	if got = got.With(atlas, ""); got.Blocks(atlas) || !got.Blocks(nova) {
		t.Errorf("taken off: got %+v", got)
	}
	put(t, dir, card.ContactsFile, `{"block":["ATLAS@nyc"]}`)
	if got, err := card.ReadContacts(dir); err != nil || !got.Blocks(atlas) {
		t.Errorf("written by hand: got %+v, %v", got, err)
	}
	for _, bad := range []string{`{"block":["Atlas"]}`, `{"allow":["@nyc"]}`, `{"block":"atlas@nyc"}`, `{`} {
		put(t, dir, card.ContactsFile, bad)
		if got, err := card.ReadContacts(dir); err == nil {
			t.Errorf("%s: got %+v, want an error", bad, got)
		}
	}
}

func TestPresence(t *testing.T) {
	dir := t.TempDir()
	if p, err := card.ReadPresence(dir); err != nil || p != (card.Presence{}) {
		t.Fatalf("without a file: got %+v, %v", p, err)
	}
	want := card.Presence{Said: card.Busy, Note: "in a release", LastSeen: 1739654400000}
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	if p, err := card.ReadPresence(dir); err != nil || p != want {
		t.Errorf("got %+v, %v, want %+v", p, err, want)
	}
	for _, bad := range []card.Presence{{Said: "asleep"}, {Note: "two\nlines"}, {Note: strings.Repeat("x", 501)}} {
		if err := bad.Write(dir); err == nil {
			t.Errorf("%+v was written", bad)
		}
	}
}

// TestWhatIsNotReadable: whoever asks learns that nothing is known.
func TestWhatIsNotReadable(t *testing.T) {
	for _, content := range []string{"", "{", `[]`, `{"block":"nova"}`, `{"said":7}`, strings.Repeat(" ", 2<<20)} {
		dir := t.TempDir()
		put(t, dir, card.ContactsFile, content)
		put(t, dir, card.PresenceFile, content)
		if c, err := card.ReadContacts(dir); err == nil && content != `{"said":7}` {
			t.Errorf("contacts %.20q: got %+v", content, c)
		}
		if p, err := card.ReadPresence(dir); err == nil && content != `{"block":"nova"}` {
			t.Errorf("presence %.20q: got %+v", content, p)
		}
	}
}

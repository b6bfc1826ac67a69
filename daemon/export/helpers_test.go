package export_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/export"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"pgregory.net/rapid"
)

// tb is what tests and properties have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// newHome makes a home of a host with a name.
func newHome(t tb, dir, name string) *maildir.Home {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("[host]\nname = %q\n", name)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	home, err := maildir.Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	return home
}

func register(t tb, home *maildir.Home, name string) {
	t.Helper()
	dir := home.AgentDir(name)
	if _, err := mailbox.Open(dir); err != nil {
		t.Fatal(err)
	}
	if err := (card.Card{ID: envelope.NewID(), Name: name, Capabilities: []string{"go"}}).Write(dir); err != nil {
		t.Fatal(err)
	}
}

// talk makes a conversation of some agents of a host, who say something. It completes
// what the lines lack, and returns all of them as they stand in the log.
func talk(t tb, home *maildir.Home, topic string, people []string, lines ...*envelope.Envelope) (id string, all []*envelope.Envelope) {
	t.Helper()
	create := &envelope.Envelope{ID: envelope.NewID(), Type: envelope.System, Event: envelope.EventCreate, Topic: topic, Mode: "async", Origin: home.Host.ID}
	for _, name := range people {
		create.Participants = append(create.Participants, home.Address(name))
	}
	create.From = create.Participants[0]
	id = envelope.ConversationID(home.Host.ID, create.ID)
	all = append([]*envelope.Envelope{create}, lines...)
	for _, e := range all {
		e.Conversation = id
		if e.ID == "" {
			e.ID = envelope.NewID()
		}
		if e.Type == "" {
			e.Type = envelope.Message
		}
		if e.From.IsZero() {
			e.From = home.Address(people[0])
		}
	}
	if err := convlog.Create(home.LogPath(id), all, time.UnixMilli(1739654400123)); err != nil {
		t.Fatal(err)
	}
	for i, e := range all {
		e.Seq = int64(i + 1)
	}
	return id, all
}

// bring puts a file into a home, and describes it.
func bring(t tb, home *maildir.Home, name, kind, content string) envelope.Attachment {
	t.Helper()
	b, err := blob.At(home.BlobsDir(), 1<<30).Put(strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return envelope.Attachment{Name: name, MediaType: kind, Size: b.Size, SHA256: b.SHA256}
}

func write(t tb, home *maildir.Home, format export.Format, ids ...string) string {
	t.Helper()
	var out strings.Builder
	if _, err := export.Write(context.Background(), &out, home, ids, format); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

// nasty are texts that mean something to one of the formats.
var nasty = []string{
	"From ", ">From ", ">>From the start", "from here", "\r", "\r\n", "\n", "\n\n", "\x1b[31mred\x1b[0m", "--=_duo", "--=_duo--", "--", "=_duo",
	"=?utf-8?q?From=3A?=", "=", "=\n", " ", "  ", "\t", ".", "a: b", "Subject: x\n\ny", "<b>", "</blockquote>", "<script>alert(1)</script>", "&amp;",
	"`", "```", "~~~~", "[42]: http://evil.example/", "![x](http://evil.example/x.png)", "# heading", "> quote", "- list", "\u202e", "\u200b", "\u2028", "\x7f",
	"äöü", "日本語", "👩‍👩‍👧", `{"duo":"end"}`, `{"seq":1}`, "\\", `"`, "'", "\v", "\f", strings.Repeat("long ", 400), strings.Repeat("x", 1200), strings.Repeat("ü", 700),
}

// drawText draws a text of words and nasty pieces, of at most so many bytes and without
// some characters.
func drawText(t *rapid.T, label string, limit int, without string) string {
	pieces := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(nasty), rapid.StringMatching(`[a-z]{1,8} `), rapid.StringN(0, 12, 40)), 0, 8).Draw(t, label)
	text := strings.Map(func(r rune) rune {
		if r == 0 || strings.ContainsRune(without, r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(strings.Join(pieces, ""), ""))
	return strings.ToValidUTF8(text[:min(len(text), limit)], "")
}

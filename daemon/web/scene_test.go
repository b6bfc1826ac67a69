package web_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// scene is a home that is written as files, so that its ids, times and words are the same
// each time.
type scene struct {
	t    testing.TB
	home *maildir.Home
}

// newScene makes the home of a host that is at a TCP address for the page.
func newScene(t testing.TB, host, config string) *scene {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "home")
	seed := sha256.Sum256([]byte(host))
	config = fmt.Sprintf("host.name = %q\nhttp.listen = %q\n%s\n", host, daemontest.FreeAddress(t), config)
	err := durable.Mkdir(dir, 0o700)
	for name, text := range map[string][]byte{"config.toml": []byte(config), "key": maildir.KeyText(ed25519.NewKeyFromSeed(seed[:]))} {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
	}
	s := &scene{t: t}
	if err == nil {
		s.home, err = maildir.Init(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// agent makes an agent that was last there at a time.
func (s *scene) agent(name, description string, seen time.Time, capabilities ...string) {
	s.t.Helper()
	dir := s.home.AgentDir(name)
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = card.Card{ID: envelope.NamedID(name), Name: name, Description: description, Capabilities: capabilities, Platform: "claude-code"}.Write(dir)
	}
	if err == nil {
		err = card.Presence{LastSeen: seen.UnixMilli()}.Write(dir)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// conversation writes a log, which begins at a time with its create line, and returns its
// id. What a line leaves open is filled in: from whom the fields do not say so, it is 20 s
// after the line before.
func (s *scene) conversation(create envelope.Envelope, at time.Time, people []string, lines ...envelope.Envelope) string {
	s.t.Helper()
	create.Type, create.Event, create.Origin = envelope.System, envelope.EventCreate, s.home.Host.ID
	if create.Mode == "" {
		create.Mode = "live"
	}
	for _, name := range people {
		create.Participants = append(create.Participants, s.home.Address(name))
	}
	create.From = create.Participants[0]
	create.ID = envelope.NamedID(create.Topic, at.String())
	id := envelope.ConversationID(create.Origin, create.ID)
	var stamped [][]byte
	for i, e := range append([]envelope.Envelope{create}, lines...) {
		e.Seq, e.Conversation = int64(i+1), id
		if e.From.Host == "" {
			e.From.Host = s.home.Host.Name
		}
		if e.ID == "" {
			e.ID = envelope.NamedID(create.ID, fmt.Sprint(i))
		}
		if e.After == nil && e.Type == envelope.Message {
			e.After = envelope.Int(int64(i))
		}
		if i > 0 {
			at = at.Add(max(20*time.Second, time.Duration(e.Timestamp)))
		}
		e.Timestamp = at.UnixMilli()
		if err := e.Validate(); err != nil {
			s.t.Fatalf("line %d of %q: %v", i+1, create.Topic, err)
		}
		stamped = append(stamped, e.Append(nil))
	}
	if err := convlog.CreateCopy(s.home.LogPath(id), stamped); err != nil {
		s.t.Fatal(err)
	}
	return id
}

// seen says how far agents have got in conversations.
func (s *scene) seen(agent string, cursors map[string]mailbox.Cursor) {
	s.t.Helper()
	if err := mailbox.At(s.home.AgentDir(agent)).WriteCursors(cursors); err != nil {
		s.t.Fatal(err)
	}
}

// attach stores a file and returns what a message says of it.
func (s *scene) attach(name, mediaType, content string) envelope.Attachment {
	s.t.Helper()
	b, err := blob.At(s.home.BlobsDir(), 1<<20).Put(strings.NewReader(content))
	if err != nil {
		s.t.Fatal(err)
	}
	return envelope.Attachment{Name: name, MediaType: mediaType, Size: b.Size, SHA256: b.SHA256}
}

// start starts the daemon of the home.
func (s *scene) start() *daemontest.Host {
	s.t.Helper()
	return daemontest.At(s.t, s.home.Dir)
}

// says is a message, some time after the line before.
func says(from, content string, after time.Duration) envelope.Envelope {
	return envelope.Envelope{Type: envelope.Message, From: envelope.Address{Name: from}, Content: content, Timestamp: int64(after)}
}

// message is a draft of a message to an agent.
func message(to, content string) *envelope.Envelope {
	return &envelope.Envelope{Type: envelope.Message, To: []string{to}, Content: content}
}

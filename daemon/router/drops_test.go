package router_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// TestDropsOfEveryType do what the routes do.
func TestDropsOfEveryType(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage")
	n := 0
	drop := func(agent, content string) mailbox.Stamp {
		t.Helper()
		n++
		name := fmt.Sprintf("%d.json", n)
		h.Drop(agent, name, content)
		var stamp mailbox.Stamp
		if err := json.Unmarshal([]byte(h.taken(agent, name, mailbox.Sent)), &stamp); err != nil || stamp.Seq == 0 || stamp.ID == "" {
			t.Errorf("%s: got stamp %+v, %v", name, stamp, err)
		}
		return stamp
	}
	id := drop("Atlas", `{"type":"create","topic":"by files","open":true,"to":"Nova","content":"one"}`).Conversation
	in := func(rest string) string { return fmt.Sprintf(`{"conversation":%q,%s}`, id, rest) }
	drop("Nova", in(`"content":"two","replyTo":2`))
	drop("Nova", in(`"type":"invite","to":["Sage"]`))
	drop("Sage", in(`"type":"leave"`))
	drop("Sage", in(`"type":"join"`))
	drop("Atlas", in(`"type":"close","reason":"done"`))
	h.wantEvents(id, "1 create of Atlas", "2 message of Atlas", "3 message of Nova", "4 invite of Nova", "5 leave of Sage", "6 join of Sage", "7 close of Atlas")
	if e := h.Log(id)[2]; e.ReplyTo.Seq != 2 || !e.From.Same(h.Home().Address("Nova")) {
		t.Errorf("reply: got %+v", e)
	}
	direct := drop("Atlas", `{"to":["nova","sage"],"content":"hi","from":"Nova"}`)
	h.wantSaid(direct.Conversation, "Atlas: hi")
}

func TestTextDrops(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	h.Drop("Atlas", "letter.md", "To: Nova\nSubject: Cogito\n\n# I think\n\ntherefore\n")
	sent := h.taken("Atlas", "letter.md", mailbox.Sent)
	wantContains(t, "sent letter", sent, "Conversation: ", "Seq: 2", "To: Nova", "# I think\n\ntherefore\n")
	_, id, _ := strings.Cut(strings.SplitN(sent, "\n", 2)[0], ": ")
	h.wantSaid(id, "Atlas: # I think\n\ntherefore\n")
	if topic := h.Log(id)[0].Topic; topic != "Cogito" {
		t.Errorf("topic: got %q, want Cogito", topic)
	}
}

// TestBadDrops go to failed with their reason, and disturb nothing.
func TestBadDrops(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Novak")
	id := h.create("Atlas", "a", "Nova")
	outbox := filepath.Join(h.Home().AgentDir("Atlas"), mailbox.OutboxNew)
	tests := map[string]struct {
		content string
		want    []string
	}{
		"near.json":     {`{"to":"Nowa","content":"hi"}`, []string{`no agent named \"Nowa\"`, `"near":["Nova"]`}},
		"near.md":       {"To: Nowa\n\nhi", []string{"Error: no agent named", "Near: Nova\n", "\n\nhi"}},
		"torn.json":     {`{"to":"Nova","content":`, nil},
		"twice.json":    {`{"to":"Nova","to":"Novak","content":"hi"}`, nil},
		"utf8.json":     {"{\"to\":\"Nova\",\"content\":\"\xff\"}", nil},
		"nul.json":      {`{"to":"Nova","content":"a\u0000b"}`, []string{"U+0000"}},
		"empty.json":    {`{"to":"Nova"}`, []string{"empty"}},
		"nowhere.json":  {`{"content":"hi"}`, []string{"say where it goes"}},
		"self.json":     {`{"to":"Atlas","content":"hi"}`, []string{"is you"}},
		"system.json":   {`{"type":"system","event":"close","conversation":"` + id + `"}`, []string{"cannot be sent"}},
		"typing.json":   {`{"type":"typing","conversation":"` + id + `"}`, []string{"cannot be sent"}},
		"text.json":     {`{"to":"Nova","text":"hi"}`, []string{"content"}},
		"big.json":      {`{"to":"Nova","content":"` + strings.Repeat("x", 2<<20) + `"}`, []string{"over the limit"}},
		"huge.json":     {`{"to":"Nova","content":"` + strings.Repeat("x", 9<<20) + `"}`, nil},
		"crowd.json":    {`{"topic":"a","type":"create","to":["Nova"` + strings.Repeat(`,"Nova"`, 9_999) + `]}`, []string{"1024"}},
		"program.sh":    {"rm -rf /", nil},
		"stranger.json": {`{"conversation":"` + id + `","type":"close","content":"","id":"not an id"}`, []string{"UUID"}},
	}
	for name, test := range tests {
		h.Drop("Atlas", name, test.content)
	}
	for name, test := range tests {
		failed := h.taken("Atlas", name, mailbox.Failed)
		if reason, err := os.ReadFile(filepath.Join(h.Home().AgentDir("Atlas"), mailbox.Failed, name+".error")); err == nil {
			failed = string(reason)
		} else if len(test.want) == 0 {
			t.Errorf("%s: got %v, want a file with the reason beside it", name, err)
		}
		wantContains(t, name, failed, append(test.want, "rror")...)
	}
	for name, make := range map[string]func(path string) error{
		"pipe.json":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"link.json":   func(path string) error { return os.Symlink("/etc/passwd", path) },
		"folder.json": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		if err := make(filepath.Join(outbox, name)); err != nil {
			t.Fatal(err)
		}
		daemontest.Eventually(t, func() (bool, string) {
			failed := h.folder("Atlas", mailbox.Failed)
			return slices.Contains(failed, name) && slices.Contains(failed, name+".error"), fmt.Sprintf("failed has %q, want %s", failed, name)
		})
	}
	h.Drop("Atlas", "good.json", `{"to":"Nova","content":"still works"}`)
	h.taken("Atlas", "good.json", mailbox.Sent)
	h.wantEvents(id, "1 create of Atlas")
	daemontest.Eventually(t, func() (bool, string) { // a drop on its way out stands in a hidden folder
		left := h.folder("Atlas", mailbox.OutboxNew)
		return len(left) == 0, fmt.Sprintf("outbox has %q, want nothing", left)
	})
}

// TestDropsInOrder: what was written first is said first, before a daemon runs and
// while one does.
func TestDropsInOrder(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	h.Stop()
	var want []string
	begin := time.Now().Add(-time.Hour)
	for i := range 20 {
		name := fmt.Sprintf("%02d.json", 20-i) // the names say the opposite
		content := fmt.Sprint("drop ", i)
		h.Drop("Atlas", name, fmt.Sprintf(`{"conversation":%q,"content":%q}`, id, content))
		when := begin.Add(time.Duration(i) * time.Second)
		if err := os.Chtimes(filepath.Join(h.Home().AgentDir("Atlas"), mailbox.OutboxNew, name), when, when); err != nil {
			t.Fatal(err)
		}
		want = append(want, "Atlas: "+content)
	}
	h.Start()
	h.eventuallySaid(id, want...)
}

// TestDropsStayInOrder: a drop that has to wait is not overtaken.
func TestDropsStayInOrder(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	h.Stop()
	var want []string
	for i := range 5 {
		h.Drop("Atlas", fmt.Sprint(i, ".json"), fmt.Sprintf(`{"conversation":%q,"content":"drop %d"}`, id, i))
		want = append(want, fmt.Sprint("Atlas: drop ", i))
	}
	var syncs atomic.Int32
	log, err := os.ReadFile(h.Home().LogPath(id))
	if err != nil {
		t.Fatal(err)
	}
	h.Opts = convlog.Options{Sync: func(f *os.File) error {
		if syncs.Add(1) > 1 {
			return nil
		}
		if err := f.Truncate(int64(len(log))); err != nil { // the write has not reached the disk
			t.Error(err)
		}
		return syscall.EIO
	}}
	h.Start()
	h.eventuallySaid(id, want...)
	daemontest.Eventually(t, func() (bool, string) {
		sent := h.folder("Atlas", mailbox.Sent)
		return len(sent) == 5, fmt.Sprintf("sent has %q, want five", sent)
	})
}

// TestCrashAfterTheAppend: a drop that is in its log already is moved, not said again.
func TestCrashAfterTheAppend(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	dir := h.Home().AgentDir("Atlas")
	content := fmt.Sprintf(`{"conversation":%q,"id":%q,"content":"once"}`, id, envelope.NewID())
	for _, name := range []string{"a.json", "b.json"} { // the second is the file, copied back
		h.Drop("Atlas", name, content)
		sent := h.taken("Atlas", name, mailbox.Sent)
		wantContains(t, name, sent, `"seq":2`)
	}
	// Without an id of its own the file itself is recognised.
	h.Drop("Atlas", "c.json", fmt.Sprintf(`{"conversation":%q,"content":"twice?"}`, id))
	h.taken("Atlas", "c.json", mailbox.Sent)
	h.wantSaid(id, "Atlas: once", "Atlas: twice?")

	sent := filepath.Join(dir, mailbox.Sent)
	if err := os.Rename(sent, sent+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sent, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Drop("Atlas", "d.json", fmt.Sprintf(`{"conversation":%q,"content":"stuck"}`, id))
	h.eventuallySaid(id, "Atlas: once", "Atlas: twice?", "Atlas: stuck")
	h.restart(func() {
		if err := os.Remove(sent); err != nil {
			t.Fatal(err)
		}
	})
	wantContains(t, "d.json", h.taken("Atlas", "d.json", mailbox.Sent), `"seq":4`)
	h.wantSaid(id, "Atlas: once", "Atlas: twice?", "Atlas: stuck")
}

// TestSameNameTwice: two drops of one name are two messages.
func TestSameNameTwice(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	for i := range 3 {
		h.Drop("Atlas", "note.json", fmt.Sprintf(`{"conversation":%q,"content":"note %d"}`, id, i))
		daemontest.Eventually(t, func() (bool, string) {
			sent := h.folder("Atlas", mailbox.Sent)
			return len(sent) == i+1, fmt.Sprintf("sent has %q, want %d", sent, i+1)
		})
	}
	h.wantSaid(id, "Atlas: note 0", "Atlas: note 1", "Atlas: note 2")
}

// TestDropsOfWhoHasUnregistered are not sent.
func TestDropsOfWhoHasUnregistered(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	if _, err := h.As("").Unregister(context.Background(), "Atlas"); err != nil {
		t.Fatal(err)
	}
	h.Drop("Atlas", "a.json", `{"to":"Nova","content":"hi"}`)
	wantContains(t, "failed", h.taken("Atlas", "a.json", mailbox.Failed), "unregistered")
	h.Register("Atlas")
	h.Drop("Atlas", "b.json", `{"to":"Nova","content":"hi"}`)
	h.taken("Atlas", "b.json", mailbox.Sent)
}

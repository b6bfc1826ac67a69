package daemontest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/fsck"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// backup stops a daemon, copies its home and starts it again. What it returns puts the
// copy back in the same way; with the daemon stopped after that, where it is to stay so.
func backup(t *testing.T, h *daemontest.Host) (restore func()) {
	t.Helper()
	h.Stop()
	dir, kept := h.Home().Dir, filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(kept, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	h.Start()
	return func() {
		h.Stop()
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			if err == nil {
				err = os.RemoveAll(filepath.Join(dir, e.Name()))
			}
		}
		if err == nil {
			err = os.CopyFS(dir, os.DirFS(kept))
		}
		if err == nil { // CopyFS gives modes of its own
			err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				switch {
				case err != nil || d.Type()&os.ModeSymlink != 0:
					return err
				case d.IsDir():
					return os.Chmod(path, 0o700)
				}
				return os.Chmod(path, 0o600)
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		h.Start()
	}
}

// twoHosts are linked hosts with a conversation that the first one orders.
func twoHosts(t *testing.T) (cable *daemontest.Cable, nyc, lon *daemontest.Host, id string) {
	cable = daemontest.NewCable(t)
	nyc, lon = daemontest.NewNamed(t, cable, "nyc", "Atlas"), daemontest.NewBehind(t, "lon", "Bob")
	daemontest.Pair(t, nyc, lon)
	id = nyc.Post("Atlas", &envelope.Envelope{To: []string{"Bob@lon"}, Content: "hello"}).Conversation.ID
	wantSame(t, nyc, lon, id)
	return cable, nyc, lon, id
}

// sayTo says something, again and again while the conversation waits for lines of before.
func sayTo(t *testing.T, h *daemontest.Host, agent, id, text string) {
	t.Helper()
	draft := &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, Conversation: id, Content: text}
	if _, err := stubborn(func(ctx context.Context) (api.Posted, error) { return h.As(agent).Post(ctx, draft) }); err != nil {
		t.Fatalf("%s says %q: %v", agent, text, err)
	}
}

// wantSaid waits until both hosts have the same log, with these messages.
func wantSaid(t *testing.T, nyc, lon *daemontest.Host, id string, want ...string) {
	t.Helper()
	lon.Redial("nyc")
	daemontest.Eventually(t, func() (bool, string) {
		one, other := said(nyc, id), said(lon, id)
		a, errA := os.ReadFile(nyc.Home().LogPath(id))
		b, errB := os.ReadFile(lon.Home().LogPath(id))
		same := errA == nil && errB == nil && string(a) == string(b)
		return same && slices.Equal(one, want), fmt.Sprintf("nyc has %q, lon has %q", one, other)
	})
	for _, h := range []*daemontest.Host{nyc, lon} {
		report, err := fsck.Home(h.Home().Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range report.Findings {
			if f.Severity == fsck.Error {
				t.Errorf("fsck of %s: %s", h.Home().Host.Name, f)
			}
		}
	}
}

// TestRestoredHosts: hosts that are restored from a backup, from a copy of their home.
func TestRestoredHosts(t *testing.T) {
	long(t)
	t.Run("the origin", func(t *testing.T) {
		_, nyc, lon, id := twoHosts(t)
		restore := backup(t, nyc)
		lon.Redial("nyc")
		sayTo(t, nyc, "Atlas", id, "one")
		sayTo(t, lon, "Bob", id, "two")
		wantSaid(t, nyc, lon, id, "Atlas@nyc: hello", "Atlas@nyc: one", "Bob@lon: two")
		restore()
		wantSaid(t, nyc, lon, id, "Atlas@nyc: hello", "Atlas@nyc: one", "Bob@lon: two")
		sayTo(t, nyc, "Atlas", id, "three")
		wantSaid(t, nyc, lon, id, "Atlas@nyc: hello", "Atlas@nyc: one", "Bob@lon: two", "Atlas@nyc: three")
		daemontest.Eventually(t, func() (bool, string) { // what came back is delivered as anything else
			items, err := mailbox.At(nyc.Home().AgentDir("Atlas")).Unseen()
			return err == nil && len(items) == 1, fmt.Sprint(items, err)
		})
	})
	t.Run("the origin, which has gone on", func(t *testing.T) {
		cable, nyc, lon, id := twoHosts(t)
		restore := backup(t, nyc)
		lon.Redial("nyc")
		sayTo(t, nyc, "Atlas", id, "lost in nyc")
		sayTo(t, lon, "Bob", id, "from Bob")
		wantSaid(t, nyc, lon, id, "Atlas@nyc: hello", "Atlas@nyc: lost in nyc", "Bob@lon: from Bob")
		cable.Pull()
		restore()
		sayTo(t, nyc, "Atlas", id, "since")
		sayTo(t, nyc, "Atlas", id, "and more")
		sayTo(t, nyc, "Atlas", id, "and on")
		cable.Plug()
		wantSaid(t, nyc, lon, id, "Atlas@nyc: hello", "Atlas@nyc: since", "Atlas@nyc: and more", "Atlas@nyc: and on", "Bob@lon: from Bob")
		aside, err := os.ReadFile(lon.Home().ForkPath(id, 1))
		if err != nil || !strings.Contains(string(aside), "lost in nyc") || !strings.Contains(string(aside), "from Bob") {
			t.Errorf("aside in lon: %q, %v; want both lines", aside, err)
		}
		for _, h := range []*daemontest.Host{nyc, lon} {
			agent := map[*daemontest.Host]string{nyc: "Atlas", lon: "Bob"}[h]
			daemontest.Eventually(t, func() (bool, string) {
				return strings.Contains(inbox(t, h, agent), "restored from a backup"), inbox(t, h, agent)
			})
		}
		if got := inbox(t, lon, "Bob"); !strings.Contains(got, `"since"`) || !strings.Contains(got, "and more") || !strings.Contains(got, "and on") {
			t.Errorf("inbox of Bob: %s, want what Atlas has said since", got)
		}
	})
	t.Run("a replica", func(t *testing.T) {
		_, nyc, lon, id := twoHosts(t)
		restore := backup(t, lon)
		sayTo(t, nyc, "Atlas", id, "one")
		sayTo(t, lon, "Bob", id, "two")
		lon.Redial("nyc")
		daemontest.Eventually(t, func() (bool, string) { return len(said(nyc, id)) == 3, fmt.Sprint(said(nyc, id)) })
		want := said(nyc, id)
		wantSaid(t, nyc, lon, id, want...)
		restore()
		wantSaid(t, nyc, lon, id, want...)
	})
	t.Run("the spool of an author", func(t *testing.T) {
		cable, nyc, lon, id := twoHosts(t)
		cable.Pull()
		sayTo(t, lon, "Bob", id, "waits")
		restore := backup(t, lon)
		cable.Plug()
		wantSaid(t, nyc, lon, id, "Atlas@nyc: hello", "Bob@lon: waits")
		restore()
		wantSaid(t, nyc, lon, id, "Atlas@nyc: hello", "Bob@lon: waits")
	})
	t.Run("both", func(t *testing.T) {
		cable, nyc, lon, id := twoHosts(t)
		sayTo(t, nyc, "Atlas", id, "one")
		wantSaid(t, nyc, lon, id, "Atlas@nyc: hello", "Atlas@nyc: one")
		older := backup(t, nyc)
		sayTo(t, nyc, "Atlas", id, "two")
		wantSaid(t, nyc, lon, id, "Atlas@nyc: hello", "Atlas@nyc: one", "Atlas@nyc: two")
		newer := backup(t, lon)
		sayTo(t, nyc, "Atlas", id, "three")
		wantSaid(t, nyc, lon, id, "Atlas@nyc: hello", "Atlas@nyc: one", "Atlas@nyc: two", "Atlas@nyc: three")
		cable.Pull()
		newer()
		older()
		cable.Plug()
		wantSaid(t, nyc, lon, id, "Atlas@nyc: hello", "Atlas@nyc: one", "Atlas@nyc: two") // what one of the two still knows
	})
}

// inbox is all that lies unread in an inbox.
func inbox(t *testing.T, h *daemontest.Host, agent string) (text string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(h.Home().AgentDir(agent), mailbox.InboxNew, "*"))
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err == nil {
			text += string(data)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestImportedLinesThatWereOthers: an import has brought words that nobody has said. The origin's
// lines take their place and are mail, and nothing of the others goes out as an agent's own.
func TestImportedLinesThatWereOthers(t *testing.T) {
	_, nyc, lon, _ := twoHosts(t)
	lon.Stop()
	id := nyc.Post("Atlas", &envelope.Envelope{To: []string{"Bob@lon"}, Topic: "the real one", Content: "one"}).Conversation.ID
	nyc.Post("Atlas", &envelope.Envelope{Conversation: id, Content: "two"})
	real := nyc.Log(id)
	text := append(real[0].Append(nil), '\n')
	for seq := range int64(5) {
		forged := *real[1]
		forged.ID, forged.Seq, forged.Content = envelope.NewID(), seq+2, "nobody has said so"
		if seq == 3 {
			forged.From, forged.Signature, forged.After = lon.Home().Address("Bob"), "c2ln", envelope.Int(1)
		}
		text = append(forged.Append(text), '\n')
	}
	if err := lon.Home().NoteImported([]maildir.Imported{{Conversation: id, Through: 6}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lon.Home().LogPath(id), text, 0o600); err != nil {
		t.Fatal(err)
	}
	lon.Start()
	lon.Redial("nyc")
	wantSame(t, nyc, lon, id)
	daemontest.Eventually(t, func() (bool, string) {
		items, err := lon.Box("Bob").Unseen()
		var seqs []int64
		for _, item := range items {
			if item.Conversation == id {
				seqs = append(seqs, item.Seq)
			}
		}
		return err == nil && slices.Equal(seqs, []int64{2, 3, 4}), fmt.Sprint("Bob has ", seqs, err, ", want all but the first, which was imported")
	})
	if got := said(nyc, id); !slices.Equal(got, []string{"Atlas@nyc: one", "Atlas@nyc: two"}) {
		t.Errorf("the origin has %q", got)
	}
}

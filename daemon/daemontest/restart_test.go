package daemontest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon"
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/google/go-cmp/cmp"
)

// start runs a daemon that is expected not to start, and returns why.
func start(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), daemontest.Patience)
	defer cancel()
	return daemon.Run(ctx, daemon.Options{Dir: dir, Ready: cancel})
}

// files lists the names in a folder of an agent, which need not be there yet.
func files(t *testing.T, h *daemontest.Host, agent, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(h.Box(agent).Dir(), folder))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// wantFiles waits until a folder of an agent holds so many files.
func wantFiles(t *testing.T, h *daemontest.Host, agent, folder string, n int) {
	t.Helper()
	daemontest.Eventually(t, func() (bool, string) {
		got := files(t, h, agent, folder)
		return len(got) == n, fmt.Sprintf("%s of %s holds %d files, want %d: %q", folder, agent, len(got), n, got)
	})
}

func TestStaleSocketIsReplaced(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	h.Stop()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.Home().SocketPath(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false) // as a daemon does that is killed
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(h.Home().SocketPath()); err != nil {
		t.Fatal(err)
	}
	h.Start()
	create(h, "Hello", "Nova")
}

func TestSecondDaemonIsRefused(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	if err := start(h.Dir); !errors.Is(err, maildir.ErrRunning) {
		t.Errorf("error = %v, want %v", err, maildir.ErrRunning)
	}
	id := create(h, "Hello", "Nova") // the first one goes on
	if pid, err := os.ReadFile(h.Home().PidPath()); err != nil || strings.TrimSpace(string(pid)) != fmt.Sprint(os.Getpid()) {
		t.Errorf("pid file = %q, %v; want that of the first daemon", pid, err)
	}
	wantGiven(t, h, "Nova", id, "")
}

// TestSocketOfAnotherProgram: somebody who listens at the socket is not thrown out.
func TestSocketOfAnotherProgram(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t)
	h.Stop()
	listener, err := net.Listen("unix", h.Home().SocketPath())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := start(h.Dir); !errors.Is(err, maildir.ErrRunning) {
		t.Errorf("error = %v, want %v", err, maildir.ErrRunning)
	}
	if conn, err := net.Dial("unix", h.Home().SocketPath()); err != nil {
		t.Errorf("the other program was thrown out: %v", err)
	} else {
		_ = conn.Close() // it was there, that is all
	}
}

func TestUnsafeHomeIsRefused(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t)
	h.Stop()
	if err := os.Chmod(h.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := start(h.Dir); !errors.Is(err, maildir.ErrUnsafe) || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("error = %v, want %v and what to do", err, maildir.ErrUnsafe)
	}
}

// TestIndexComesBack: the index is a cache, whatever happens to it.
func TestIndexComesBack(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(path string) error{
		"deleted":  os.Remove,
		"garbage":  func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("garbage\n"), 100), 0o600) },
		"cut off":  func(path string) error { return os.Truncate(path, 100) },
		"empty":    func(path string) error { return os.Truncate(path, 0) },
		"a folder": func(path string) error { return errors.Join(os.Remove(path), os.MkdirAll(path+"/sub", 0o700)) },
		"of older logs": func(path string) error {
			old, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path, bytes.ReplaceAll(old, []byte(`"seq":`), []byte(`"seq" :`)), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := daemontest.New(t, "Atlas", "Nova")
			id := create(h, "Index", "Nova")
			texts := numbered("text", 5)
			for _, text := range texts {
				h.Post("Atlas", say(id, text))
			}
			wantGiven(t, h, "Nova", id, texts...)
			h.Stop()
			if err := harm(h.Home().IndexPath()); err != nil {
				t.Fatal(err)
			}
			h.Start()
			h.Post("Nova", say(id, "after it"))
			posted := h.Post("Atlas", say(id, texts[0]))
			if !posted.Duplicate || posted.Conversation.LastSeq != 7 || posted.Conversation.Topic != "Index" {
				t.Errorf("a repeat is answered with %s; want a duplicate in a conversation of 7 lines", daemontest.JSON(posted))
			}
			wantGiven(t, h, "Nova", id, texts...)
			wantGiven(t, h, "Atlas", id, "after it")
			stopSound(t, h)
		})
	}
}

// TestCursorsDeleted: without cursors everything is delivered again, and what is in cur
// was seen.
func TestCursorsDeleted(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	id := create(h, "Cursors", "Nova")
	for _, text := range numbered("text", 4) {
		h.Post("Atlas", say(id, text))
	}
	wantFiles(t, h, "Nova", mailbox.InboxNew, 5)
	seen := []api.Place{{Conversation: id, Seq: 1}, {Conversation: id, Seq: 2}, {Conversation: id, Seq: 4}}
	if err := h.As("Nova").Shown(t.Context(), seen); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, h, "Nova", mailbox.InboxCur, 3)
	h.Stop()
	box := h.Box("Nova")
	if err := os.Remove(filepath.Join(box.Dir(), "cursors.json")); err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t, h, "Nova", mailbox.InboxNew) { // these come back
		if err := os.Remove(filepath.Join(box.Dir(), mailbox.InboxNew, name)); err != nil {
			t.Fatal(err)
		}
	}
	h.Start()
	wantFiles(t, h, "Nova", mailbox.InboxNew, 2)
	wantFiles(t, h, "Nova", mailbox.InboxCur, 3)
	inbox, err := h.As("Nova").Inbox(t.Context(), 10)
	if err != nil || len(inbox.Items) != 2 || inbox.Items[0].Seq != 3 || inbox.Items[1].Seq != 5 {
		t.Errorf("inbox = %s, %v; want lines 3 and 5", daemontest.JSON(inbox), err)
	}
	stopSound(t, h)
	cursors, err := box.Cursors()
	if want := (mailbox.Cursor{Delivered: 5, Seen: 2, Also: [][2]int64{{4, 4}}}); err != nil || !cmp.Equal(cursors[id], want) {
		t.Errorf("cursor = %v, %v; want %v", cursors[id], err, want)
	}
}

// TestSeenBehindUnseen: what a stream has shown stays seen over a restart, although an
// older message was not seen.
func TestSeenBehindUnseen(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	id := create(h, "Ahead", "Nova")
	h.Post("Atlas", say(id, "unseen"))
	wantFiles(t, h, "Nova", mailbox.InboxNew, 2)
	s, err := h.As("Nova").Stream(t.Context(), api.StreamRequest{After: map[string]int64{id: 2}})
	if err != nil {
		t.Fatal(err)
	}
	for seq := int64(3); seq <= 6; seq++ {
		h.Post("Atlas", say(id, fmt.Sprint("live ", seq)))
		if m, err := s.Next(t.Context()); err != nil || m.Envelope.Seq != seq {
			t.Fatalf("the stream has %s, %v; want line %d", daemontest.JSON(m), err, seq)
		}
		if err := s.Confirm(api.Place{Conversation: id, Seq: seq}, api.Seen); err != nil {
			t.Fatal(err)
		}
	}
	seen := func() (bool, string) {
		r, err := h.As("Atlas").Receipts(t.Context(), id, 6, "", 0)
		return err == nil && len(r.Recipients) == 1 && r.Recipients[0].State == api.Seen, daemontest.JSON(r)
	}
	daemontest.Eventually(t, seen)
	_ = s.Close() // the daemon ends now anyway
	h.Stop()
	h.Start()
	daemontest.Eventually(t, seen)
	if inbox, err := h.As("Nova").Inbox(t.Context(), 10); err != nil || len(inbox.Items) != 2 {
		t.Errorf("inbox after the restart: got %s, %v, want the two that were not seen", daemontest.JSON(inbox), err)
	}
	stopSound(t, h)
}

// TestCursorAheadOfTheLog: where a log was restored from an older copy, or a cursor says
// nonsense, nothing that comes is taken for seen.
func TestCursorAheadOfTheLog(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, h *daemontest.Host, id string){
		"an older copy of the log": func(t *testing.T, h *daemontest.Host, id string) {
			data, err := os.ReadFile(h.Home().LogPath(id))
			if err == nil {
				err = os.WriteFile(h.Home().LogPath(id), bytes.Join(bytes.SplitAfter(data, []byte("\n"))[:4], nil), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"nonsense": func(t *testing.T, h *daemontest.Host, id string) {
			far := mailbox.Cursor{Delivered: 1 << 53, Seen: 1 << 53}
			if err := h.Box("Nova").WriteCursors(map[string]mailbox.Cursor{id: far}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := daemontest.New(t, "Atlas", "Nova")
			id := create(h, "Ahead", "Nova")
			for _, text := range []string{"one", "two", "three", "four"} {
				h.Post("Atlas", say(id, text))
			}
			wantFiles(t, h, "Nova", mailbox.InboxNew, 5)
			unread := 5
			if name != "nonsense" { // what was read stays read
				for _, file := range files(t, h, "Nova", mailbox.InboxNew) {
					if _, err := h.Box("Nova").MarkSeen(file); err != nil {
						t.Fatal(err)
					}
				}
				unread = 0
			}
			daemontest.Eventually(t, func() (bool, string) {
				inbox, err := h.As("Nova").Inbox(t.Context(), 10)
				return err == nil && len(inbox.Items) == unread, daemontest.JSON(inbox)
			})
			h.Stop()
			spoil(t, h, id)
			h.Start()
			h.Post("Atlas", say(id, "new"))
			daemontest.Eventually(t, func() (bool, string) {
				inbox, err := h.As("Nova").Inbox(t.Context(), 10)
				return err == nil && len(inbox.Items) == unread+1 && inbox.Items[unread].Preview == "new", daemontest.JSON(inbox)
			})
			wantFiles(t, h, "Nova", mailbox.InboxNew, unread+1)
			h.Stop()
		})
	}
}

// TestCursorsGarbage: an agent with cursors that cannot be read gets its mail when
// somebody has removed them, with no restart and no new message.
func TestCursorsGarbage(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova", "Sage")
	id := create(h, "Cursors", "Nova", "Sage")
	wantFiles(t, h, "Nova", mailbox.InboxNew, 1)
	h.Stop()
	path := filepath.Join(h.Box("Nova").Dir(), "cursors.json")
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Start()
	h.Post("Atlas", say(id, "hello"))
	wantGiven(t, h, "Sage", id, "hello")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantGiven(t, h, "Nova", id, "hello")
	stopSound(t, h)
}

// TestInboxFilesAreWrittenAgain: what is missing, empty or torn in inbox/new is written
// again at the next start.
func TestInboxFilesAreWrittenAgain(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	id := create(h, "Inbox", "Nova")
	texts := numbered("text", 3)
	for _, text := range texts {
		h.Post("Atlas", say(id, text))
	}
	wantFiles(t, h, "Nova", mailbox.InboxNew, 4)
	h.Stop()
	names := files(t, h, "Nova", mailbox.InboxNew)
	path := func(i int) string { return filepath.Join(h.Box("Nova").Dir(), mailbox.InboxNew, names[i]) }
	for _, err := range []error{os.Remove(path(1)), os.Truncate(path(2), 0), os.Truncate(path(3), 50)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h.Start()
	wantGiven(t, h, "Nova", id, texts...)
	stopSound(t, h)
}

// TestStreamTakesWhatACrashLeft: a file that was in inbox/new when the daemon ended
// moves to cur when a live stream shows the message, also where the cursors are gone.
func TestStreamTakesWhatACrashLeft(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	id := create(h, "Streams", "Nova")
	h.Post("Atlas", say(id, "hello"))
	wantFiles(t, h, "Nova", mailbox.InboxNew, 2)
	h.Stop()
	if err := os.Remove(filepath.Join(h.Box("Nova").Dir(), "cursors.json")); err != nil {
		t.Fatal(err)
	}
	h.Start()
	s, err := h.As("Nova").Stream(t.Context(), api.StreamRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for seq := range int64(2) {
		m, err := s.Next(t.Context())
		if err != nil || m.Envelope.Seq != seq+1 {
			t.Fatalf("the stream has %s, %v; want line %d", daemontest.JSON(m), err, seq+1)
		}
		if err := s.Confirm(api.Place{Conversation: id, Seq: seq + 1}, api.Seen); err != nil {
			t.Fatal(err)
		}
	}
	wantFiles(t, h, "Nova", mailbox.InboxCur, 2)
	wantFiles(t, h, "Nova", mailbox.InboxNew, 0)
	stopSound(t, h)
}

// TestSeenFilesAreTidied: a file that a crash has left in inbox/new although its message
// was seen moves to cur at the next start.
func TestSeenFilesAreTidied(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	id := create(h, "Seen", "Nova")
	h.Post("Atlas", say(id, "hello"))
	wantFiles(t, h, "Nova", mailbox.InboxNew, 2)
	h.Stop()
	if err := h.Box("Nova").WriteCursors(map[string]mailbox.Cursor{id: {Delivered: 2, Seen: 1}}); err != nil {
		t.Fatal(err)
	}
	h.Start()
	wantFiles(t, h, "Nova", mailbox.InboxNew, 1)
	wantFiles(t, h, "Nova", mailbox.InboxCur, 1)
	stopSound(t, h)
}

// TestLinksComeBack: a link that somebody has removed is made again at the next start.
func TestLinksComeBack(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	id := create(h, "Links", "Nova")
	wantFiles(t, h, "Nova", mailbox.InboxNew, 1)
	h.Stop()
	for _, agent := range []string{"Atlas", "Nova"} {
		if err := os.RemoveAll(filepath.Join(h.Box(agent).Dir(), mailbox.Links)); err != nil {
			t.Fatal(err)
		}
	}
	h.Start()
	for _, agent := range []string{"Atlas", "Nova"} {
		list, err := h.As(agent).Conversations(t.Context(), "", "", 10)
		if err != nil || len(list.Conversations) != 1 || list.Conversations[0].ID != id {
			t.Errorf("conversations of %s = %s, %v; want one", agent, daemontest.JSON(list), err)
		}
	}
	stopSound(t, h)
}

// TestOutboxMadeAgain: an outbox that somebody has removed and made again takes drops.
func TestOutboxMadeAgain(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	id := create(h, "Outbox", "Nova")
	dir := filepath.Join(h.Box("Nova").Dir(), mailbox.OutboxNew)
	for n := range 5 {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) { // the daemon may be faster
			t.Fatal(err)
		}
		text := fmt.Sprint("drop ", n)
		daemontest.Eventually(t, func() (bool, string) { // nor is the folder there for ever
			err := os.WriteFile(filepath.Join(dir, fmt.Sprint(n, ".json")), []byte(`{"conversation":"`+id+`","content":"`+text+`"}`), 0o600)
			return err == nil, fmt.Sprint(err)
		})
		wantGiven(t, h, "Atlas", id, text)
		wantOnce(t, h, id, text)
	}
	stopSound(t, h)
}

// TestFolderMadeByHand: a folder in agents/ is an agent, with a drop in it or without.
func TestFolderMadeByHand(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Nova")
	dir := filepath.Join(h.Home().AgentsDir(), "zed")
	if err := os.MkdirAll(filepath.Join(dir, mailbox.OutboxNew), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, mailbox.OutboxNew, "a.json"), []byte(`{"to":"Nova","content":"by hand"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, func() (bool, string) {
		inbox, err := h.As("Nova").Inbox(t.Context(), 10)
		return err == nil && len(inbox.Items) == 1 && inbox.Items[0].Preview == "by hand", fmt.Sprint(daemontest.JSON(inbox), err)
	})
	if err := os.Mkdir(filepath.Join(h.Home().AgentsDir(), "rex"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.Drop("Nova", "b.json", `{"to":"rex","content":"are you there?"}`)
	wantFiles(t, h, "rex", mailbox.InboxNew, 1)
	stopSound(t, h)
}

// TestMissedWhileDown: what was written into files while no daemon ran is found at its
// start: drops, lines of other programs, and what was read.
func TestMissedWhileDown(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	id := create(h, "Down", "Nova")
	h.Post("Atlas", say(id, "before"))
	wantFiles(t, h, "Nova", mailbox.InboxNew, 2)
	h.Stop()
	h.Drop("Nova", "a.json", `{"conversation":"`+id+`","content":"a drop"}`)
	f, err := os.OpenFile(h.Home().LogPath(id), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("{\"from\":\"Atlas\",\"content\":\"from the shell\"}\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t, h, "Nova", mailbox.InboxNew) {
		if _, err := h.Box("Nova").MarkSeen(name); err != nil {
			t.Fatal(err)
		}
	}
	h.Start()
	wantGiven(t, h, "Nova", id, "from the shell")
	wantGiven(t, h, "Atlas", id, "a drop")
	wantOnce(t, h, id, "a drop", "from the shell")
	receipts, err := h.As("Atlas").Receipts(t.Context(), id, 2, api.Seen, daemontest.Patience)
	if err != nil || receipts.TimedOut {
		t.Errorf("receipts = %s, %v; want that Nova has seen line 2", daemontest.JSON(receipts), err)
	}
	stopSound(t, h)
}

// TestCallAnsweredWhileDown: a drop that answers a call is taken after the start, when
// the call is known again.
func TestCallAnsweredWhileDown(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	h.Drop("Atlas", "call.md", "Type: call\nTo: Nova\n\nShall we talk?\n")
	wantFiles(t, h, "Nova", mailbox.InboxNew, 1)
	wantFiles(t, h, "Atlas", mailbox.Sent, 1)
	h.Stop()
	h.Drop("Nova", "answer.md", "Type: accept\n\nI am here.\n")
	h.Start()
	daemontest.Eventually(t, func() (bool, string) {
		failed := files(t, h, "Nova", mailbox.Failed)
		if len(failed) > 0 {
			t.Fatalf("the answer failed: %s", h.Box("Nova").FailureOf(failed[0]))
		}
		return len(files(t, h, "Nova", mailbox.Sent)) == 1, "the answer waits"
	})
	list, err := h.As("Nova").Conversations(t.Context(), "", "", 10)
	if err != nil || len(list.Conversations) != 1 {
		t.Fatalf("conversations of Nova: got %s, %v; want one", daemontest.JSON(list), err)
	}
	id := list.Conversations[0].ID
	wantOnce(t, h, id, "Shall we talk?\n", "I am here.\n")
	stamped, err := os.ReadFile(filepath.Join(h.Box("Nova").Dir(), mailbox.Sent, "answer.md"))
	if want := "Conversation: " + id + "\nSeq: 3\n"; err != nil || !strings.HasPrefix(string(stamped), want) || !strings.Contains(string(stamped), "\nStatus: accepted\n") {
		t.Errorf("stamped answer: got %q, %v; want it to begin with %q and to say that the call is accepted", stamped, err, want)
	}
	stopSound(t, h)
}

// TestStatusByDrop: what an agent says of itself with a text drop, whose body ends with a
// newline, is its status and note.
func TestStatusByDrop(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Nova")
	h.Drop("Nova", "busy.md", "Type: status\nStatus: busy\n\nin a build\n")
	wantFiles(t, h, "Nova", mailbox.Sent, 1)
	if p, err := h.As("Nova").Presence(t.Context()); err != nil || p.Status != "busy" || p.Note != "in a build" {
		t.Errorf("presence: got %s, %v; want busy, in a build", daemontest.JSON(p), err)
	}
}

// TestReasonOfARejection: who rejects a call and says why in the text is heard.
func TestReasonOfARejection(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	h.Drop("Atlas", "call.json", `{"type":"call","to":"Nova"}`)
	wantFiles(t, h, "Nova", mailbox.InboxNew, 1)
	h.Drop("Nova", "no.md", "Type: reject\n\n"+strings.Repeat("I am in a release,\n", 100))
	wantFiles(t, h, "Atlas", mailbox.InboxNew, 1)
	told, err := h.Box("Atlas").ReadItem(files(t, h, "Atlas", mailbox.InboxNew)[0])
	if err != nil {
		t.Fatal(err)
	}
	if want := "I am in a release, I am in a release,"; !strings.HasPrefix(told.Reason, want) || len(told.Reason) > envelope.MaxTopic {
		t.Errorf("Atlas is told %s, want a reason that begins with %q", told.Append(nil), want)
	}
}

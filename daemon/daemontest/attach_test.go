package daemontest_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// wantAttached wants a message to stand in the log once and to bring a file.
func wantAttached(t *testing.T, h *daemontest.Host, conversation, text, content string) {
	t.Helper()
	wantOnce(t, h, conversation, text)
	for _, e := range h.Log(conversation) {
		if e.Content != text {
			continue
		}
		if len(e.Attachments) != 1 {
			t.Errorf("%q: got %d attachments, want one", text, len(e.Attachments))
			return
		}
		from, err := h.As("Nova").Attachment(t.Context(), e.Attachments[0].SHA256, fmt.Sprintf("%s.%d", conversation, e.Seq))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			return
		}
		data, err := io.ReadAll(from)
		_ = from.Close()
		if err != nil || string(data) != content {
			t.Errorf("%q: got %.20q, %v; want %.20q", text, data, err, content)
		}
	}
}

// killed is a daemon of its own process on the home of a host whose own daemon rests.
func killed(t *testing.T, h *daemontest.Host, do func(atlas *client.Client)) {
	t.Helper()
	h.Stop()
	cmd := exec.Command(duo(t), "daemon")
	cmd.Env = duoEnv(h.Dir)
	p := runDaemon(t, h.Dir, cmd)
	do(h.As("Atlas"))
	p.kill()
	h.Start()
}

// TestKilledBetweenBlobAndMessage: the blob is there for the message that is sent again.
func TestKilledBetweenBlobAndMessage(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	id := create(h, "Killed", "Nova")
	message := say(id, "with a file")
	killed(t, h, func(atlas *client.Client) {
		a, err := atlas.Upload(t.Context(), "a.txt", "", strings.NewReader("hello"), 5)
		if err != nil {
			t.Fatal(err)
		}
		message.Attachments = []envelope.Attachment{a}
	})
	h.Post("Atlas", message)
	wantAttached(t, h, id, message.Content, "hello")
	killed(t, h, func(atlas *client.Client) { // and behind the message
		if posted, err := atlas.Post(t.Context(), message); err != nil || !posted.Duplicate {
			t.Errorf("the same again: got %s, %v; want a duplicate", daemontest.JSON(posted), err)
		}
	})
	wantAttached(t, h, id, message.Content, "hello")
	stopSound(t, h)
}

// TestKilledWhileADropIsTaken: however far it was, the drop is one message with its file.
func TestKilledWhileADropIsTaken(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	id := create(h, "Killed", "Nova")
	for round := range 6 {
		text, content := fmt.Sprintf("drop %d", round), strings.Repeat(fmt.Sprint(round), 1<<20)
		name := fmt.Sprintf("file-%d", round)
		if err := h.Box("Atlas").LeaveFile(mailbox.DropFile{File: name}, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		stages := []string{filepath.Join(h.Dir, "blobs"), filepath.Join(h.Dir, "blobs", "*"), filepath.Join(h.Box("Atlas").Dir(), mailbox.Sent, text+".json")}
		killed(t, h, func(*client.Client) {
			h.Drop("Atlas", text+".json", `{"conversation":"`+id+`","content":"`+text+`","attach":"`+name+`"}`)
			daemontest.Eventually(t, func() (bool, string) {
				found, err := filepath.Glob(stages[round%len(stages)])
				return len(found) > 0, fmt.Sprintf("the drop is not taken: %v", err)
			})
		})
		daemontest.Eventually(t, func() (bool, string) {
			_, err := os.Stat(filepath.Join(h.Box("Atlas").Dir(), mailbox.Sent, text+".json"))
			return err == nil, fmt.Sprintf("the drop is not sent: %v", err)
		})
		wantAttached(t, h, id, text, content)
	}
	stopSound(t, h)
}

// TestSweptTemps: what a kill has left of a blob is gone after the next start.
func TestSweptTemps(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas")
	h.Upload("Atlas", "a", "hello")
	h.Stop()
	left := filepath.Join(h.Home().BlobsDir(), ".tmp-123")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	h.Start()
	daemontest.Eventually(t, func() (bool, string) {
		_, err := os.Lstat(left)
		return os.IsNotExist(err), "it is still there"
	})
}

// TestMissingBlob: a home that has no blob for what a message in its log mentions
// says so, and nothing else is harmed.
func TestMissingBlob(t *testing.T) {
	t.Parallel()
	h := daemontest.New(t, "Atlas", "Nova")
	a := h.Upload("Atlas", "a", "hello")
	id := create(h, "Missing", "Nova")
	message := say(id, "with a file")
	message.Attachments = []envelope.Attachment{a}
	posted := h.Post("Atlas", message)
	if err := os.Remove(filepath.Join(h.Home().BlobsDir(), a.SHA256)); err != nil {
		t.Fatal(err)
	}
	_, err := h.As("Nova").Attachment(t.Context(), a.SHA256, posted.Message.Ref)
	wantCode(t, err, api.AttachmentNotFound)
	again := say(id, "again")
	again.Attachments = message.Attachments
	_, err = h.As("Atlas").Post(t.Context(), again)
	wantCode(t, err, api.AttachmentNotFound)
	h.Upload("Atlas", "a", "hello")
	h.Post("Atlas", again)
	wantAttached(t, h, id, "with a file", "hello")
	wantAttached(t, h, id, "again", "hello")
}

func wantCode(t *testing.T, err error, want api.Code) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != want {
		t.Errorf("error = %v, want code %q", err, want)
	}
}

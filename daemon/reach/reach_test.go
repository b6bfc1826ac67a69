package reach_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/offline"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

func message(h *reach.Host, to, text string) *envelope.Envelope {
	e := h.Draft(envelope.Message, "")
	e.To, e.Content = []string{to}, text
	return e
}

func who(ctx context.Context) func(*client.Client) (api.Agents, error) {
	return func(c *client.Client) (api.Agents, error) { return c.Agents(ctx, api.AgentQuery{}) }
}

// TestAskStarts: where no daemon runs one is started, once, and then asked.
func TestAskStarts(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	h.Stop()
	started := 0
	host := reach.New(h.Home(), "Atlas", func(context.Context) error {
		started++
		h.Start()
		return nil
	})
	for range 2 {
		list, err := reach.Ask(t.Context(), host, who(t.Context()))
		if err != nil || len(list.Agents) != 2 || started != 1 {
			t.Errorf("got %d agents, %v, after %d starts; want 2 after one", len(list.Agents), err, started)
		}
	}
}

// TestPostWithoutADaemon: the draft waits in the outbox, and the next daemon sends it once
// though it is posted again.
func TestPostWithoutADaemon(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	h.Stop()
	host := reach.New(h.Home(), "Atlas", nil)
	draft := message(host, "Nova", "while you were away")
	_, left, err := host.Post(t.Context(), draft)
	if err != nil || left == nil || !left.Queued || left.Why == "" {
		t.Fatalf("got %+v, %v, want a drop and why", left, err)
	}
	if want := filepath.Join(h.Box("Atlas").Dir(), mailbox.OutboxNew, draft.ID+".json"); left.File != want {
		t.Errorf("got the drop %s, want %s", left.File, want)
	}
	h.Start()
	posted, left, err := host.Post(t.Context(), draft)
	if err != nil || left != nil {
		t.Fatalf("got %+v, %v, want it posted", left, err)
	}
	var said []string
	daemontest.Eventually(t, func() (bool, string) {
		drops, err := h.Box("Atlas").Drops()
		return err == nil && len(drops) == 0, daemontest.JSON(drops)
	})
	for _, e := range h.Log(posted.Message.Envelope.Conversation) {
		if e.Type == envelope.Message {
			said = append(said, e.Content)
		}
	}
	if want := []string{"while you were away"}; !slices.Equal(said, want) {
		t.Errorf("got the messages %q, want %q", said, want)
	}
}

// TestPostToASilentDaemon: where no answer comes in time the draft waits in the outbox too.
func TestPostToASilentDaemon(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	h.Stop()
	silent, err := net.Listen("unix", h.Home().SocketPath())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	host := reach.New(h.Home(), "Atlas", nil)
	_, left, err := host.Post(ctx, message(host, "Nova", "are you there?"))
	if err != nil || left == nil || !strings.Contains(left.Why, client.ErrSilent.Error()) {
		t.Fatalf("got %+v, %v, want a drop and why", left, err)
	}
	silent.Close()
	h.Start()
	nova := h.As("Nova")
	daemontest.Eventually(t, func() (bool, string) {
		list, err := nova.Inbox(t.Context(), 0)
		return err == nil && len(list.Items) == 1, daemontest.JSON(list)
	})
}

// TestCarry: what goes with a draft is put beside its drop before that is there.
func TestCarry(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	h.Stop()
	host := reach.New(h.Home(), "Atlas", nil)
	host.Carry = func(box *mailbox.Box, e *envelope.Envelope) (*envelope.Envelope, error) {
		file := mailbox.DropFile{File: envelope.NewID(), Name: "plan.txt"}
		if err := box.LeaveFile(file, strings.NewReader("a plan")); err != nil {
			return nil, err
		}
		return mailbox.WithFiles(e, []mailbox.DropFile{file})
	}
	if _, _, err := host.Post(t.Context(), message(host, "Nova", "see the plan")); err != nil {
		t.Fatal(err)
	}
	h.Start()
	nova := h.As("Nova")
	daemontest.Eventually(t, func() (bool, string) {
		list, err := nova.Read(t.Context(), api.Read{})
		if err != nil || len(list.Messages) == 0 {
			return false, daemontest.JSON(list)
		}
		files := list.Messages[len(list.Messages)-1].Envelope.Attachments
		return len(files) == 1 && files[0].Name == "plan.txt", daemontest.JSON(list)
	})
}

// TestOverItsDaemonAlone: a host that only its daemon answers for leaves nothing behind and
// reads no files.
func TestOverItsDaemonAlone(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	h.Stop()
	host := reach.Over(client.New(h.Home().SocketPath(), "Atlas"), h.Home(), "Atlas")
	if _, left, err := host.Post(t.Context(), message(host, "Nova", "hi")); left != nil || !client.Unreachable(err) {
		t.Errorf("got %+v, %v, want that no daemon can be reached", left, err)
	}
	_, _, err := reach.AskOrRead(t.Context(), host, who(t.Context()), func(*offline.Files) (api.Agents, error) {
		t.Error("files were read")
		return api.Agents{}, nil
	})
	if !client.Unreachable(err) {
		t.Errorf("got %v, want that no daemon can be reached", err)
	}
	if entries, err := os.ReadDir(filepath.Join(h.Box("Atlas").Dir(), mailbox.OutboxNew)); err != nil || len(entries) > 0 {
		t.Errorf("got %v, %v in the outbox, want nothing", entries, err)
	}
}

// TestReplyOverARestart: a wait goes on when its daemon is another one, and what was said
// without having been shown the question is no reply.
func TestReplyOverARestart(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	atlas, nova := reach.New(h.Home(), "Atlas", nil), reach.New(h.Home(), "Nova", nil)
	asked, _, err := atlas.Post(t.Context(), message(atlas, "Nova", "line 40?"))
	if err != nil {
		t.Fatal(err)
	}
	conversation, seq := asked.Message.Envelope.Conversation, asked.Message.Envelope.Seq
	say := func(text string, after int64) {
		t.Helper()
		e := nova.Draft(envelope.Message, "")
		e.Conversation, e.Content, e.After = conversation, text, &after
		if _, _, err := nova.Post(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	type answer struct {
		reply *api.Message
		err   error
	}
	came := make(chan answer, 1)
	go func() {
		reply, err := atlas.Reply(t.Context(), conversation, seq, time.Minute)
		came <- answer{reply, err}
	}()
	say("something else", seq-1)
	daemontest.Eventually(t, func() (bool, string) { // the wait is under way
		me, err := h.As("Atlas").Me(t.Context())
		return err == nil && me.Wake == api.WakePush, daemontest.JSON(me)
	})
	h.Stop()
	h.Start()
	say("seconds, not milliseconds", seq)
	got := <-came
	if got.err != nil || got.reply == nil || got.reply.Envelope.Content != "seconds, not milliseconds" {
		t.Errorf("got %+v, %v, want the answer", got.reply, got.err)
	}
}

// TestReplyOfNobody: a wait ends when the last of the others leaves, and not before.
func TestReplyOfNobody(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova", "Echo")
	atlas := reach.New(h.Home(), "Atlas", nil)
	question := message(atlas, "Nova", "line 40?")
	question.To = append(question.To, "Echo")
	asked := h.Post("Atlas", question).Message.Envelope
	leave := func(agent string) {
		t.Helper()
		who := reach.New(h.Home(), agent, nil)
		e := who.Draft(envelope.Leave, "")
		e.Conversation = asked.Conversation
		if _, _, err := who.Post(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	leave("Nova")
	if reply, err := atlas.Reply(t.Context(), asked.Conversation, asked.Seq, 0); reply != nil || err != nil {
		t.Errorf("one is left: got %+v, %v, want no reply", reply, err)
	}
	leave("Echo")
	reply, err := atlas.Reply(t.Context(), asked.Conversation, asked.Seq, time.Minute)
	if err != nil || reply == nil || reply.Envelope.Type != envelope.Leave {
		t.Errorf("nobody is left: got %+v, %v, want a line that says so", reply, err)
	}
}

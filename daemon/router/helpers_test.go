package router_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

type draft = envelope.Envelope

// host is a host with the words of these tests.
type host struct {
	*daemontest.Host
	t *testing.T
}

func newHost(t *testing.T, agents ...string) host {
	t.Helper()
	return host{daemontest.New(t, agents...), t}
}

// restart stops the daemon and starts it again, with something done in between.
func (h host) restart(between ...func()) {
	h.t.Helper()
	h.Stop()
	for _, f := range between {
		f()
	}
	h.Start()
}

func (h host) message(agent, to, content string) api.Posted {
	h.t.Helper()
	return h.Post(agent, &draft{To: []string{to}, Content: content})
}

func (h host) send(agent, conversation, content string) api.Posted {
	h.t.Helper()
	return h.Post(agent, &draft{Conversation: conversation, Content: content})
}

// create makes a conversation of an agent with others and returns its id.
func (h host) create(agent, topic string, others ...string) string {
	h.t.Helper()
	return h.Post(agent, &draft{Type: envelope.Create, Topic: topic, To: others}).Conversation.ID
}

// refuse posts a draft that is to be refused.
func (h host) refuse(what, agent string, d *draft, want api.Code) *api.Error {
	h.t.Helper()
	if d.Type == "" {
		d.Type = envelope.Message
	}
	posted, err := h.As(agent).Post(context.Background(), d)
	var refusal *api.Error
	if !errors.As(err, &refusal) || refusal.Code != want {
		h.t.Errorf("%s: got %v (line %d), want code %s", what, err, seqOf(posted), want)
		return &api.Error{}
	}
	return refusal
}

func seqOf(p api.Posted) int64 {
	if p.Message.Envelope == nil {
		return 0
	}
	return p.Message.Envelope.Seq
}

// said lists the messages of a conversation as "Atlas: hi".
func (h host) said(id string) []string {
	list := []string{}
	for _, e := range h.Log(id) {
		if e.Type == envelope.Message {
			list = append(list, e.From.Name+": "+e.Content)
		}
	}
	return list
}

func (h host) wantSaid(id string, want ...string) {
	h.t.Helper()
	if got := h.said(id); !slices.Equal(got, want) {
		h.t.Errorf("log: got %q, want %q", got, want)
	}
}

// events lists the lines of a log as "2 message", "1 create".
func (h host) events(id string) []string {
	var list []string
	for _, e := range h.Log(id) {
		name := string(e.Type)
		if e.Event != "" {
			name = e.Event
		}
		list = append(list, fmt.Sprintf("%d %s of %s", e.Seq, name, e.From.Name))
	}
	return list
}

func (h host) wantEvents(id string, want ...string) {
	h.t.Helper()
	if got := h.events(id); !slices.Equal(got, want) {
		h.t.Errorf("log: got %q, want %q", got, want)
	}
}

// eventuallySaid waits until a log says this.
func (h host) eventuallySaid(id string, want ...string) {
	h.t.Helper()
	daemontest.Eventually(h.t, func() (bool, string) {
		got := h.said(id)
		return slices.Equal(got, want), fmt.Sprintf("log says %q, want %q", got, want)
	})
}

// folder lists the files of an agent's folder.
func (h host) folder(agent, sub string) []string {
	h.t.Helper()
	entries, err := os.ReadDir(filepath.Join(h.Home().AgentDir(agent), sub))
	if err != nil {
		h.t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// taken waits until a drop has left the outbox, and returns what stands in sent or
// failed.
func (h host) taken(agent, name, folder string) string {
	h.t.Helper()
	var content []byte
	daemontest.Eventually(h.t, func() (bool, string) {
		var err error
		content, err = os.ReadFile(filepath.Join(h.Home().AgentDir(agent), folder, name))
		return err == nil && !slices.Contains(h.folder(agent, mailbox.OutboxNew), name),
			fmt.Sprintf("%s: new has %q, sent %q, failed %q", name,
				h.folder(agent, mailbox.OutboxNew), h.folder(agent, mailbox.Sent), h.folder(agent, mailbox.Failed))
	})
	return string(content)
}

func (h host) shell(id, text string) {
	h.t.Helper()
	f, err := os.OpenFile(h.Home().LogPath(id), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text + "\n"); err != nil {
		h.t.Fatal(err)
	}
}

func wantContains(t *testing.T, what, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s: got %s, want %s in it", what, text, w)
		}
	}
}

func people(names ...string) []string { return names }

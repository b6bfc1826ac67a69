package daemontest_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// trio is a laptop and a server, which nobody can dial, and a hub that carries for both.
type trio struct {
	t                   *testing.T
	hub, laptop, server *remote
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	cable := daemontest.NewCable(t)
	w := &trio{t, newRemote(t, "hub", "", listening(t, cable)), newRemote(t, "laptop", "", hidden), newRemote(t, "server", "", hidden)}
	w.laptop.register("Atlas")
	w.server.register("Nova")
	on := true
	for _, h := range []*remote{w.laptop, w.server} {
		code, err := w.hub.as("").NewCode(context.Background(), "")
		if err == nil {
			_, err = h.as("").Join(context.Background(), api.Join{Code: code.Code, Relay: true})
		}
		if err == nil {
			_, err = w.hub.as("").ChangePeer(context.Background(), h.name, api.ChangePeer{Carry: &on})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.up(w.laptop, "server")
	w.up(w.server, "laptop")
	return w
}

// up waits until a host has a link with another one.
func (w *trio) up(h *remote, other string) {
	w.t.Helper()
	daemontest.Eventually(w.t, func() (bool, string) {
		p, err := h.as("").Peer(context.Background(), other)
		if err == nil && p.State != "up" {
			_, _ = h.as("").PingPeer(context.Background(), other) // dials at once; it may not be there yet
		}
		return err == nil && p.State == "up", fmt.Sprintf("%s: %s, %v", h.name, daemontest.JSON(p), err)
	})
}

// begin makes a conversation of both agents and gives its id.
func (w *trio) begin(h *remote, agent, other, topic string) string {
	w.t.Helper()
	posted, err := stubborn(func(ctx context.Context) (api.Posted, error) {
		return h.as(agent).Post(ctx, &envelope.Envelope{ID: tokenID(topic), Type: envelope.Create, Topic: topic, Mode: "async", To: []string{other}})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return posted.Conversation.ID
}

func (w *trio) say(h *remote, agent, conversation, text string) {
	w.t.Helper()
	_, err := stubborn(func(ctx context.Context) (api.Posted, error) {
		return h.as(agent).Post(ctx, &envelope.Envelope{ID: tokenID(text), Type: envelope.Message, Content: text, Conversation: conversation})
	})
	if err != nil {
		w.t.Fatalf("%s says %q: %v", agent, text, err)
	}
}

// reads waits until an agent has messages in its inbox, each once.
func (w *trio) reads(h *remote, agent string, texts ...string) {
	w.t.Helper()
	daemontest.Eventually(w.t, func() (bool, string) {
		box := mailbox.At(h.home().AgentDir(agent))
		items, err := box.Unseen()
		var all []string
		for _, item := range items {
			if e, err := box.ReadItem(item.Name); err == nil && e.Type == envelope.Message {
				all = append(all, e.Content)
			}
		}
		for _, text := range texts {
			if n := count(all, text); n != 1 {
				return false, fmt.Sprintf("%s has %q %d times, of %q, %v", agent, text, n, all, err)
			}
		}
		return true, ""
	})
}

func count(all []string, text string) (n int) {
	for _, one := range all {
		if one == text {
			n++
		}
	}
	return n
}

// holds waits until the hub holds so many items for a host.
func (w *trio) holds(host string, items int) {
	w.t.Helper()
	daemontest.Eventually(w.t, func() (bool, string) {
		files, err := filepath.Glob(filepath.Join(w.hub.dir, "peers", host, "held", "*.held"))
		return err == nil && len(files) >= items, fmt.Sprintf("the hub holds %d items for %s, want %d", len(files), host, items)
	})
}

// same waits until both hosts have the same logs, with each text once, and nothing waits.
func (w *trio) same(convs []string, texts ...string) {
	w.t.Helper()
	daemontest.Eventually(w.t, func() (bool, string) {
		var all []string
		for _, id := range convs {
			a, b := validLines(w.laptop.home().LogPath(id)), validLines(w.server.home().LogPath(id))
			if len(a) == 0 || !slices.EqualFunc(a, b, bytes.Equal) {
				return false, fmt.Sprintf("%s: laptop has %d lines, server %d", id, len(a), len(b))
			}
			for _, line := range a {
				if e, err := envelope.Decode(line); err == nil && e.Type == envelope.Message {
					all = append(all, e.Content)
				}
			}
		}
		for _, h := range []*remote{w.laptop, w.server} {
			if waits, _ := filepath.Glob(filepath.Join(h.dir, "peers", "*", "spool", "new", "*")); len(waits) > 0 {
				return false, fmt.Sprintf("%d envelopes wait at %s", len(waits), h.name)
			}
		}
		slices.Sort(all)
		slices.Sort(texts)
		return slices.Equal(all, texts), strings.Join(all, "|")
	})
}

// TestHostsThatAreNeverThereTogether: what is said to a host that is away comes when it is
// back, though who has said it is away then, and so do the answers. The hub, which holds it
// meanwhile, is killed in between.
func TestHostsThatAreNeverThereTogether(t *testing.T) {
	long(t)
	t.Parallel()
	w := newTrio(t)
	ofLaptop := w.begin(w.laptop, "Atlas", "Nova@server", "of the laptop")
	ofServer := w.begin(w.server, "Nova", "Atlas@laptop", "of the server")
	w.say(w.laptop, "Atlas", ofLaptop, "one")
	w.say(w.server, "Nova", ofServer, "two")
	w.same([]string{ofLaptop, ofServer}, "one", "two")

	w.server.kill()
	w.say(w.laptop, "Atlas", ofLaptop, "in my own")
	w.holds("server", 1)
	w.say(w.laptop, "Atlas", ofServer, "in yours")
	w.holds("server", 2)
	fresh := w.begin(w.laptop, "Atlas", "Nova@server", "begun meanwhile")
	w.holds("server", 3)
	w.say(w.laptop, "Atlas", fresh, "in a new one")
	w.holds("server", 4)
	w.hub.kill()
	w.hub.start()
	w.laptop.kill()

	w.server.start()
	w.up(w.server, "hub")
	w.reads(w.server, "Nova", "in my own", "in yours", "in a new one")
	w.holds("laptop", 1) // the line of what Atlas has said in hers
	for i, reply := range []struct{ conversation, text string }{{ofLaptop, "to the first"}, {ofServer, "to the second"}, {fresh, "to the third"}} {
		w.say(w.server, "Nova", reply.conversation, reply.text)
		w.holds("laptop", 2+i)
	}
	w.server.kill()

	w.laptop.start()
	w.up(w.laptop, "hub")
	w.reads(w.laptop, "Atlas", "two", "to the first", "to the second", "to the third")
	w.server.start()
	w.up(w.server, "laptop")
	w.same([]string{ofLaptop, ofServer, fresh}, "one", "two", "in my own", "in yours", "in a new one", "to the first", "to the second", "to the third")
}

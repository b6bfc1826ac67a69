package daemontest_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// said lists the messages of a conversation as "Atlas@nyc: hi".
func said(h *daemontest.Host, id string) (list []string) {
	for _, e := range h.Log(id) {
		if e.Type == envelope.Message {
			list = append(list, e.From.String()+": "+e.Content)
		}
	}
	return list
}

// TestSayElsewhere: an agent says something, through every door, in a conversation that
// another host orders, whatever happens to the link and the daemons.
func TestSayElsewhere(t *testing.T) {
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc", "Atlas"), daemontest.NewBehind(t, "lon", "Bob", "Eve")
	daemontest.Pair(t, nyc, lon)
	begun := nyc.Post("Atlas", &envelope.Envelope{To: []string{"Bob@lon"}, Content: "hello"})
	id := begun.Conversation.ID
	wantSame(t, nyc, lon, id)

	cable.Pull()
	queued := lon.Post("Bob", &envelope.Envelope{Conversation: id, Content: "one"})
	if !queued.Queued || queued.For != "nyc" || queued.Message.Envelope.Seq != 0 || queued.Message.Ref != queued.Message.Envelope.ID {
		t.Errorf("got %s, want it queued for nyc", daemontest.JSON(queued))
	}
	receipts, err := lon.As("Bob").Receipts(t.Context(), queued.Message.Ref, 0, "", 0)
	if err != nil || len(receipts.Recipients) != 1 || receipts.Recipients[0] != (api.Recipient{Agent: "Atlas@nyc", State: api.Queued}) || receipts.For != "nyc" {
		t.Errorf("receipts: got %s, %v, want it queued for Atlas", daemontest.JSON(receipts), err)
	}
	lon.Drop("Bob", "two.json", fmt.Sprintf(`{"conversation":%q,"content":"two"}`, id))
	daemontest.Eventually(t, func() (bool, string) {
		drops, err := mailbox.At(lon.Home().AgentDir("Bob")).Drops()
		return err == nil && len(drops) == 0, fmt.Sprint(drops, err)
	})
	log, err := os.OpenFile(lon.Home().LogPath(id), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = log.WriteString(`{"from":"Bob","content":"three"}` + "\n")
	}
	if err == nil {
		err = log.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, func() (bool, string) {
		p, err := lon.As("").Peer(t.Context(), "nyc")
		return err == nil && p.Waiting == 3, daemontest.JSON(p)
	})
	lon.Stop()
	lon.Start()
	cable.Plug()
	lon.Redial("nyc")
	want := []string{"Atlas@nyc: hello", "Bob@lon: one", "Bob@lon: two", "Bob@lon: three"}
	for _, h := range []*daemontest.Host{nyc, lon} {
		daemontest.Eventually(t, func() (bool, string) {
			got := said(h, id)
			return slices.Equal(got, want), fmt.Sprintf("%s has %q", h.Home().Host.Name, got)
		})
	}
	daemontest.Eventually(t, func() (bool, string) {
		p, err := lon.As("").Peer(t.Context(), "nyc")
		return err == nil && p.Waiting == 0, daemontest.JSON(p)
	})

	receipts, err = lon.As("Bob").Receipts(t.Context(), queued.Message.Ref, 0, api.Delivered, daemontest.Patience)
	if err != nil || receipts.TimedOut || receipts.Seq == 0 || !strings.HasSuffix(receipts.Ref, fmt.Sprint(".", receipts.Seq)) || receipts.Recipients[0].State != api.Delivered {
		t.Errorf("receipts: got %s, %v, want it delivered", daemontest.JSON(receipts), err)
	}
	if err := nyc.As("Atlas").Shown(t.Context(), []api.Place{{Conversation: id, Seq: receipts.Seq}}); err != nil {
		t.Fatal(err)
	}
	receipts, err = lon.As("Bob").Receipts(t.Context(), id, receipts.Seq, api.Seen, daemontest.Patience)
	if err != nil || receipts.TimedOut {
		t.Errorf("receipts: got %s, %v, want it seen", daemontest.JSON(receipts), err)
	}
	back, err := nyc.As("Atlas").Receipts(t.Context(), id, 2, api.Delivered, daemontest.Patience)
	if err != nil || back.TimedOut || back.Recipients[0].Agent != "Bob@lon" {
		t.Errorf("receipts of hello: got %s, %v, want it delivered to Bob", daemontest.JSON(back), err)
	}
	// one that writes back goes on in the same conversation
	direct := lon.Post("Bob", &envelope.Envelope{To: []string{"Atlas@nyc"}, Content: "four"})
	if direct.Conversation.ID != id || !direct.Queued {
		t.Errorf("got %s, want it queued in %s", daemontest.JSON(direct), id)
	}
}

// TestJoinElsewhere: an agent enters an open conversation of another host by its full id.
func TestJoinElsewhere(t *testing.T) {
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc", "Atlas"), daemontest.NewBehind(t, "lon", "Eve")
	daemontest.Pair(t, nyc, lon)
	open := nyc.Post("Atlas", &envelope.Envelope{Type: envelope.Create, Topic: "Open", Open: true}).Conversation.ID
	joined := lon.Post("Eve", &envelope.Envelope{Type: envelope.Join, Conversation: open + "@nyc"})
	if !joined.Queued || joined.For != "nyc" {
		t.Errorf("got %s, want it queued", daemontest.JSON(joined))
	}
	daemontest.Eventually(t, func() (bool, string) {
		found, err := lon.As("Eve").Find(t.Context(), open)
		return err == nil && found.Conversation != nil && slices.Contains(found.Conversation.Participants, "Eve@lon"), daemontest.JSON(found)
	})
	lon.Post("Eve", &envelope.Envelope{Conversation: open, Content: "I am here"})
	daemontest.Eventually(t, func() (bool, string) {
		got := said(nyc, open)
		return slices.Equal(got, []string{"Eve@lon: I am here"}), fmt.Sprint(got)
	})
}

package daemontest_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestLinkOfHosts: two hosts are linked, lose each other and find each other again,
// also after a restart of either.
func TestLinkOfHosts(t *testing.T) {
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc"), daemontest.NewBehind(t, "lon")
	daemontest.Pair(t, nyc, lon)
	cable.Slow(20*time.Millisecond, 0)
	ping, err := nyc.As("").PingPeer(context.Background(), "lon")
	if err != nil || ping.Delay < 40_000 {
		t.Errorf("got %d µs, %v, want 40 ms at least", ping.Delay, err)
	}
	cable.Slow(0, 0)
	cable.Pull()
	daemontest.Eventually(t, func() (bool, string) {
		p, err := lon.As("").Peer(context.Background(), "nyc")
		return err == nil && p.State != "up", daemontest.JSON(p)
	})
	cable.Plug()
	lon.Redial("nyc")
	daemontest.Linked(t, nyc, lon)
	for _, h := range []*daemontest.Host{nyc, lon} {
		h.Stop()
		h.Start()
		lon.Redial("nyc")
		daemontest.Linked(t, nyc, lon)
	}
}

// TestLinkByARelay: two hosts that nobody can dial come to know each other by a third
// one, and are linked through it, also after it or one of them was gone.
func TestLinkByARelay(t *testing.T) {
	cable := daemontest.NewCable(t)
	hub, lon, ber := daemontest.NewNamed(t, cable, "hub"), daemontest.NewBehind(t, "lon"), daemontest.NewBehind(t, "ber")
	carried(t, hub, lon, ber)
	if p, err := lon.As("").Peer(context.Background(), "ber"); err != nil || p.Via != "hub" || p.ID != ber.Home().Host.ID {
		t.Errorf("got %s, %v, want ber by the hub", daemontest.JSON(p), err)
	}
	if ping, err := lon.As("").PingPeer(context.Background(), "ber"); err != nil || ping.Peer != "ber" {
		t.Errorf("got %s, %v", daemontest.JSON(ping), err)
	}
	for _, h := range []*daemontest.Host{hub, ber} {
		h.Stop()
		h.Start()
		lon.Redial("hub")
		ber.Redial("hub")
		lon.Redial("ber")
		daemontest.Linked(t, lon, ber)
	}

	// Who was removed is not brought back.
	if _, err := lon.As("").RemovePeer(context.Background(), "ber"); err != nil {
		t.Fatal(err)
	}
	for _, carry := range []bool{false, true} {
		changePeer(t, hub, "ber", api.ChangePeer{Carry: &carry})
	}
	if _, err := lon.As("").PingPeer(context.Background(), "hub"); err != nil {
		t.Error(err)
	}
	if p, err := lon.As("").Peer(context.Background(), "ber"); err == nil {
		t.Errorf("a host that was removed is there again: %s", daemontest.JSON(p))
	}
}

// carried links hosts by a hub.
func carried(t *testing.T, hub *daemontest.Host, hosts ...*daemontest.Host) {
	t.Helper()
	on := true
	for _, h := range hosts {
		daemontest.Pair(t, hub, h)
		changePeer(t, h, "hub", api.ChangePeer{Relay: &on})
		changePeer(t, hub, h.Home().Host.Name, api.ChangePeer{Carry: &on})
	}
	daemontest.Linked(t, hosts[0], hosts[1])
}

func changePeer(t *testing.T, h *daemontest.Host, name string, c api.ChangePeer) {
	t.Helper()
	if _, err := h.As("").ChangePeer(context.Background(), name, c); err != nil {
		t.Fatal(err)
	}
}

// TestHeldForAHostThatIsAway: what is said to a host that is away comes to it when it is
// back, though the host that has said it is away then; and once, when both are there.
func TestHeldForAHostThatIsAway(t *testing.T) {
	long(t)
	cable := daemontest.NewCable(t)
	hub, lon, ber := daemontest.NewNamed(t, cable, "hub"), daemontest.NewBehind(t, "lon", "Ann"), daemontest.NewBehind(t, "ber", "Bea")
	carried(t, hub, lon, ber)
	wantAgents(t, ber, api.AgentQuery{Host: "lon"}, "Ann@lon available up")
	id := ber.Post("Bea", &envelope.Envelope{To: []string{"Ann@lon"}, Content: "are you there?"}).Conversation.ID
	wantSame(t, ber, lon, id)

	ber.Stop()
	held := func() []string {
		files, err := filepath.Glob(filepath.Join(hub.Home().PeerDir("ber"), "held", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	for i, text := range []string{"I am", "and you?"} {
		lon.Post("Ann", &envelope.Envelope{Conversation: id, Content: text})
		daemontest.Eventually(t, func() (bool, string) { return len(held()) == i+1, fmt.Sprint(held()) })
	}
	for _, file := range held() {
		if data, err := os.ReadFile(file); err != nil || bytes.Contains(data, []byte("and you")) {
			t.Errorf("the hub can read %q (%v)", file, err)
		}
	}
	lon.Stop()
	hub.Stop()
	hub.Start()
	ber.Start()
	ber.Redial("hub")
	said := func() (texts []string) {
		for _, e := range ber.Log(id) {
			if e.Type == envelope.Message {
				texts = append(texts, e.Content)
			}
		}
		return texts
	}
	want := []string{"are you there?", "I am", "and you?"}
	daemontest.Eventually(t, func() (bool, string) {
		return slices.Equal(said(), want) && len(held()) == 0, fmt.Sprintf("%q, %d held", said(), len(held()))
	})
	lon.Start()
	lon.Redial("hub")
	daemontest.Linked(t, lon, ber)
	wantSame(t, ber, lon, id)
	if got := said(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	daemontest.Eventually(t, func() (bool, string) {
		p, err := lon.As("").Peer(context.Background(), "ber")
		return err == nil && p.Waiting == 0, daemontest.JSON(p)
	})
}

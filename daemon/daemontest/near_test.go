package daemontest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
)

// wantAgents waits until a host lists these, as "address status link".
func wantAgents(t *testing.T, h *daemontest.Host, q api.AgentQuery, want ...string) {
	t.Helper()
	daemontest.Eventually(t, func() (bool, string) {
		list, err := h.As("").Agents(context.Background(), q)
		got := []string{}
		for _, a := range list.Agents {
			got = append(got, fmt.Sprintf("%s %s %s", a.Address, a.Status, a.Link))
		}
		return err == nil && slices.Equal(got, want), fmt.Sprintf("got %q, %v, want %q", got, err, want)
	})
}

// TestAgentsOfLinkedHosts: the agents of both hosts are one list, with their state and
// that of the link, also after a restart with the other host away.
func TestAgentsOfLinkedHosts(t *testing.T) {
	ctx := context.Background()
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc", "Atlas"), daemontest.NewBehind(t, "lon", "Bob")
	if _, err := lon.As("Bob").SetPresence(ctx, card.Busy, "in a build"); err != nil {
		t.Fatal(err)
	}
	wantAgents(t, nyc, api.AgentQuery{}, "Atlas@nyc available ")
	daemontest.Pair(t, nyc, lon)
	wantAgents(t, nyc, api.AgentQuery{}, "Atlas@nyc available ", "Bob@lon busy up")
	wantAgents(t, lon, api.AgentQuery{Host: "nyc"}, "Atlas@nyc available up")
	wantAgents(t, lon, api.AgentQuery{Host: "lon"}, "Bob@lon busy ")

	if _, err := lon.As("").Register(ctx, api.Register{Name: "Carla"}); err != nil {
		t.Fatal(err)
	}
	wantAgents(t, nyc, api.AgentQuery{Host: "lon"}, "Bob@lon busy up", "Carla@lon available up")
	if _, err := lon.As("").Unregister(ctx, "Carla"); err != nil {
		t.Fatal(err)
	}
	wantAgents(t, nyc, api.AgentQuery{Host: "lon"}, "Bob@lon busy up")

	found, err := nyc.As("Atlas").Find(ctx, "bob")
	if err != nil || found.Agent == nil || found.Agent.Address != "Bob@lon" || found.Agent.Note != "in a build" || found.Agent.Folder != "" {
		t.Errorf("bob: got %s, %v, want the one of lon", daemontest.JSON(found), err)
	}
	watch, err := nyc.As("Atlas").Stream(t.Context(), api.StreamRequest{Presence: true})
	if err != nil {
		t.Fatal(err)
	}
	lon.Stop()
	for m := (api.Message{}); m.Envelope == nil || m.Envelope.From.String() != "Bob@lon"; { // of Atlas it tells, too
		if m, err = watch.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		if e := m.Envelope; e.From.Host == "lon" && (e.Type != envelope.Presence || e.Status != card.Offline) {
			t.Errorf("told: got %s, want that Bob@lon is offline", daemontest.JSON(m))
		}
	}
	if err := watch.Close(); err != nil {
		t.Fatal(err)
	}
	wantAgents(t, nyc, api.AgentQuery{Host: "lon"}, "Bob@lon offline down")
	nyc.Stop()
	nyc.Start()
	wantAgents(t, nyc, api.AgentQuery{}, "Atlas@nyc available ", "Bob@lon offline down")
	if _, err := nyc.As("").RemovePeer(ctx, "lon"); err != nil {
		t.Fatal(err)
	}
	wantAgents(t, nyc, api.AgentQuery{}, "Atlas@nyc available ")
}

package daemontest_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

type callDraft = envelope.Envelope

// wantCall waits until a host has a call in a state.
func wantCall(t *testing.T, h *daemontest.Host, agent, id, state string) api.Request {
	t.Helper()
	var r api.Request
	daemontest.Eventually(t, func() (bool, string) {
		var err error
		r, err = h.As(agent).Request(context.Background(), id)
		return err == nil && r.State == state, fmt.Sprintf("call at %s: %s, %v, want %s", h.Home().Host.Name, daemontest.JSON(r), err, state)
	})
	return r
}

func wantStatus(t *testing.T, h *daemontest.Host, agent, status string) {
	t.Helper()
	daemontest.Eventually(t, func() (bool, string) {
		found, err := h.As("").Find(context.Background(), agent)
		return err == nil && found.Agent != nil && found.Agent.Status == status, fmt.Sprintf("%s at %s: %s, %v, want %s", agent, h.Home().Host.Name, daemontest.JSON(found), err, status)
	})
}

// TestCallsBetweenHosts: a call to an agent of another host rings, is accepted, is talked
// in and ends, and one that is accepted without a link comes about later.
func TestCallsBetweenHosts(t *testing.T) {
	ctx := context.Background()
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc", "Atlas"), daemontest.NewBehind(t, "lon", "Bob")
	daemontest.Pair(t, nyc, lon)
	wantAgents(t, nyc, api.AgentQuery{Host: "lon"}, "Bob@lon available up")
	wantAgents(t, lon, api.AgentQuery{Host: "nyc"}, "Atlas@nyc available up")

	called, err := nyc.As("Atlas").Call(ctx, &callDraft{To: []string{"Bob"}, Content: "Line 40 looks wrong."})
	if err != nil || called.Request.State != api.CallRinging {
		t.Fatalf("call: got %s, %v, want it to ring", daemontest.JSON(called), err)
	}
	wantCall(t, lon, "Bob", called.Request.ID, api.CallRinging)
	accepted, err := lon.As("Bob").Answer(ctx, &callDraft{Type: envelope.Accept, Request: called.Request.ID, Content: "I am here."})
	if err != nil || accepted.Conversation == nil {
		t.Fatalf("accept: got %s, %v, want a conversation", daemontest.JSON(accepted), err)
	}
	talk := accepted.Conversation.ID
	wantLines(t, nyc, talk, "Line 40 looks wrong.", "I am here.")
	wantLines(t, lon, talk, "Line 40 looks wrong.", "I am here.")
	wantStatus(t, lon, "Atlas@nyc", "in-call")
	wantStatus(t, nyc, "Bob@lon", "in-call")
	nyc.Post("Atlas", &callDraft{Type: envelope.Leave, Conversation: talk})
	wantStatus(t, lon, "Bob", "available")
	wantStatus(t, nyc, "Atlas", "available")

	called, err = nyc.As("Atlas").Call(ctx, &callDraft{To: []string{"Bob@lon"}, Content: "Once more."})
	if err != nil {
		t.Fatal(err)
	}
	wantCall(t, lon, "Bob", called.Request.ID, called.Request.State)
	nyc.Stop()
	accepted, err = lon.As("Bob").Answer(ctx, &callDraft{Type: envelope.Accept, Request: called.Request.ID, Content: "Yes."})
	if err != nil || accepted.Conversation != nil || accepted.Request.State != api.CallAccepted {
		t.Fatalf("accept without a link: got %s, %v, want it accepted", daemontest.JSON(accepted), err)
	}
	lon.Stop()
	lon.Start()
	nyc.Start()
	daemontest.Linked(t, nyc, lon)
	wantCall(t, nyc, "Atlas", called.Request.ID, api.CallAccepted)
	wantLines(t, lon, accepted.Request.Conversation, "Once more.", "Yes.")
}

// wantLines waits until a host has these messages in a conversation.
func wantLines(t *testing.T, h *daemontest.Host, id string, want ...string) {
	t.Helper()
	daemontest.Eventually(t, func() (bool, string) {
		var got []string
		_, err := os.Stat(h.Home().LogPath(id))
		if err == nil {
			for _, e := range h.Log(id) {
				if e.Type == envelope.Message {
					got = append(got, e.Content)
				}
			}
		}
		return err == nil && slices.Equal(got, want), fmt.Sprintf("messages at %s: %q, %v, want %q", h.Home().Host.Name, got, err, want)
	})
}

package attend_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/attend"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestAcrossHosts: messages and calls of agents of another host are answered, a call by who
// is known, and one message in a conversation that the other host orders, once.
func TestAcrossHosts(t *testing.T) {
	t.Parallel()
	nyc := daemontest.NewNamed(t, daemontest.NewCable(t), "nyc", "Atlas")
	lon := daemontest.NewBehind(t, "lon", "Bob")
	daemontest.Pair(t, nyc, lon)
	ctx := context.Background()
	daemontest.Eventually(t, func() (bool, string) {
		found, err := nyc.As("Atlas").Find(ctx, "Bob@lon")
		return err == nil && found.Agent != nil, fmt.Sprintf("Bob: %s, %v", daemontest.JSON(found), err)
	})
	s := newScene(t, lon, "Bob")
	o := s.options()
	o.Calls.From = []string{"Atlas@nyc"}
	s.run(o, s.parts(sh("sed -n 's/^| /heard /p'"), newTable().holder()))
	replied := func(id string, want ...string) {
		t.Helper()
		daemontest.Eventually(t, func() (bool, string) {
			got := texts(answers(nyc, id, "Bob"))
			return slices.Equal(got, want), fmt.Sprintf("answers: %q, want %q", got, want)
		})
	}
	id := nyc.Post("Atlas", message("Bob@lon", "one")).Message.Envelope.Conversation
	replied(id, "heard one")
	nyc.Post("Atlas", message("Bob@lon", "two"))
	replied(id, "heard one", "heard two")

	daemontest.Eventually(t, func() (bool, string) {
		found, err := nyc.As("Atlas").Find(ctx, "Bob@lon")
		return err == nil && found.Agent.Status == "available", fmt.Sprintf("Bob: %s, %v, want it available", daemontest.JSON(found), err)
	})
	called, err := nyc.As("Atlas").Call(ctx, &envelope.Envelope{Type: envelope.Call, To: []string{"Bob@lon"}, Topic: "a call", Content: "three"})
	if err != nil {
		t.Fatal(err)
	}
	var r api.Request
	daemontest.Eventually(t, func() (bool, string) {
		r, err = nyc.As("Atlas").Request(ctx, called.Request.ID)
		return err == nil && r.State == api.CallAccepted, fmt.Sprintf("call: %s, %v, want it accepted", daemontest.JSON(r), err)
	})
	replied(r.Conversation, "heard three")
	if ok, events := s.has(attend.Failed, 1); ok {
		t.Errorf("events: got %s, want nothing set aside", events)
	}
}

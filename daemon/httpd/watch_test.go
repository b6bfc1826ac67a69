package httpd_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestListsOfWatchers: who watches is told the last line of each conversation, and finds
// one by its topic and people.
func TestListsOfWatchers(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage")
	review := h.create("Atlas", "Review of main.go", "Nova")
	h.create("Atlas", "Lunch", "Sage")
	h.send("Nova", review, "line 40 is   wrong\nand 41")
	for query, want := range map[string][]string{
		"": {"Lunch", "Review of main.go"}, "q=review": {"Review of main.go"}, "q=main+nova": {"Review of main.go"}, "q=SAGE": {"Lunch"}, "q=review+sage": nil, "q=atlas&status=closed": nil,
	} {
		for _, agent := range []string{"", "Atlas"} {
			var got []string
			for _, c := range get[api.Conversations](h, "GET /v1/conversations?"+query, agent).Conversations {
				got = append(got, c.Topic)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%q as %q: got %q, want %q", query, agent, got, want)
			}
		}
	}
	c := get[api.Conversations](h, "GET /v1/conversations?q=review", "").Conversations[0]
	if c.Last == nil || c.Last.Timestamp != c.LastTime {
		t.Fatalf("last: got %+v, want the last line", c.Last)
	}
	c.Last.Timestamp = 0
	if want := (api.Last{Seq: 2, From: h.Home().Address("Nova").String(), Type: "message", Preview: "line 40 is wrong and 41"}); *c.Last != want {
		t.Errorf("last: got %+v, want %+v", *c.Last, want)
	}
	closed := h.Post("Atlas", &draft{Type: envelope.Close, Conversation: review, Reason: "done"})
	c = get[api.Conversations](h, "GET /v1/conversations?q=review", "").Conversations[0]
	if c.Last.Seq != closed.Message.Envelope.Seq || c.Last.Event != envelope.EventClose || c.Last.Preview != "closed the conversation: done" {
		t.Errorf("last: got %+v, want that it was closed", *c.Last)
	}
}

// TestCallsOfTheHost: who watches is told of everybody's calls, and sees what came of one
// that nobody can answer any more.
func TestCallsOfTheHost(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage")
	call := func(from, to string) string {
		t.Helper()
		called, err := h.As(from).Call(context.Background(), &draft{Type: envelope.Call, To: []string{to}, Topic: from + " to " + to})
		if err != nil {
			t.Fatal(err)
		}
		return called.Request.ID
	}
	first, second := call("Atlas", "Nova"), call("Sage", "Nova")
	of := func(agent string) map[string]string {
		t.Helper()
		got := make(map[string]string)
		for _, r := range get[api.Requests](h, "GET /v1/requests", agent).Requests {
			got[r.ID] = r.State
		}
		return got
	}
	if got := of(""); len(got) != 2 {
		t.Errorf("got %v, want both calls", got)
	}
	if got := of("Atlas"); len(got) != 1 || got[first] == "" {
		t.Errorf("as Atlas: got %v, want its own call alone", got)
	}
	if _, err := h.As("Atlas").Answer(context.Background(), &draft{Type: envelope.Cancel, Request: first}); err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, func() (bool, string) {
		got := of("Atlas")
		return len(got) == 0, fmt.Sprintf("as Atlas: got %v, want the call gone", got)
	})
	if got := of(""); len(got) != 2 || got[first] != api.CallCancelled || got[second] == "" {
		t.Errorf("got %v, want the withdrawn call still shown", got)
	}
}

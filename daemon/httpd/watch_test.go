package httpd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

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

// TestCallsOfOneAgent come with those of the past, the last one first, to who may know of them.
func TestCallsOfOneAgent(t *testing.T) {
	o := newOutside(t, "", "Atlas", "Nova", "Sage")
	call := func(from, to string) string {
		t.Helper()
		called, err := o.As(from).Call(context.Background(), &draft{Type: envelope.Call, To: []string{to}, Topic: from + " to " + to})
		if err != nil {
			t.Fatal(err)
		}
		return called.Request.ID
	}
	withdraw := func(from, id string) {
		t.Helper()
		if _, err := o.As(from).Answer(context.Background(), &draft{Type: envelope.Cancel, Request: id}); err != nil {
			t.Fatal(err)
		}
	}
	first := call("Atlas", "Nova")
	withdraw("Atlas", first)
	second := call("Sage", "Nova")
	withdraw("Sage", second)
	third := call("Nova", "Sage")
	observer := o.token("").Text
	want := func(what, query string, more int, ids ...string) {
		t.Helper()
		daemontest.Eventually(t, func() (bool, string) {
			var got []string
			var list api.Requests
			_, data := o.with(observer, "GET /v1/requests?"+query, "")
			if err := json.Unmarshal(data, &list); err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			for _, r := range list.Requests {
				got = append(got, r.ID)
			}
			return slices.Equal(got, ids) && list.More == more, fmt.Sprintf("%s: got %q and %d more, want %q and %d", what, got, list.More, ids, more)
		})
	}
	want("calls of Nova", "with=Nova", 0, third, second, first)
	want("calls of Atlas", "with=atlas", 0, first)
	want("the last one", "with=Nova&limit=1", 2, third)
	if resp, data := o.with(o.own("Atlas"), "GET /v1/requests?with=Atlas", ""); resp.StatusCode != http.StatusOK || !strings.Contains(string(data), first) {
		t.Errorf("its own calls: got %d %s, want them", resp.StatusCode, data)
	}
	if resp, data := o.with(o.own("Atlas"), "GET /v1/requests?with=Nova", ""); resp.StatusCode != http.StatusForbidden {
		t.Errorf("those of another agent: got %d %s, want 403", resp.StatusCode, data)
	}
	if resp, _ := o.with(o.own("Atlas"), "GET /v1/requests?with=Nvoa", ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("those of nobody: got %d, want 404", resp.StatusCode)
	}
}

// receipt reads frames until one tells that an agent has come to a line.
func (s *stream) receipt(agent string, delivered, seen int64) api.StreamReceipt {
	s.t.Helper()
	for {
		var r api.StreamReceipt
		if err := s.ReadJSON(&r); err != nil {
			s.t.Fatalf("no receipt of %s for %d and %d: %v", agent, delivered, seen, err)
		}
		if r.Type == api.TypeReceipt && r.Agent == agent && r.Delivered == delivered && r.Seen == seen {
			return r
		}
	}
}

// TestReceiptsOfTheHost: who watches is told how far each message gets, by whatever way.
func TestReceiptsOfTheHost(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	nova := h.Home().Address("Nova").String()
	watcher := h.subscribe("", api.StreamRequest{Receipts: true})
	id := h.create("Atlas", "topic", "Nova")
	h.send("Atlas", id, "one")
	if r := watcher.receipt(nova, 2, 0); r.Conversation != id {
		t.Errorf("in the inbox: got %+v, want conversation %s", r, id)
	}
	if err := h.As("Nova").Shown(context.Background(), []api.Place{{Conversation: id, Seq: 1}, {Conversation: id, Seq: 2}}); err != nil {
		t.Fatal(err)
	}
	watcher.receipt(nova, 2, 2)
	live := h.subscribe("Nova", api.StreamRequest{})
	h.send("Atlas", id, "two")
	live.wantNext(id, 3)
	watcher.receipt(nova, 2, 2)
	live.confirm(id, 3, api.Delivered)
	watcher.receipt(nova, 3, 2)
	live.confirm(id, 3, api.Seen)
	watcher.receipt(nova, 3, 3)
	h.send("Atlas", id, "three")
	h.send("Atlas", id, "four")
	live.wantNext(id, 4)
	live.wantNext(id, 5)
	live.confirm(id, 5, api.Seen)
	if r, err := h.As("").Receipts(context.Background(), id, 5, api.Seen, 10*time.Second); err != nil || r.Recipients[0].State != api.Seen {
		t.Errorf("seen before the line in front of it: got %+v, %v", r, err)
	}
	watcher.receipt(nova, 3, 3)
	live.confirm(id, 4, api.Seen)
	watcher.receipt(nova, 5, 5)

	other := h.create("Atlas", "other", "Nova")
	narrow := h.subscribe("", api.StreamRequest{Receipts: true, Conversations: []string{other}})
	live.wantNext(other, 1)
	live.confirm(other, 1, api.Seen)
	live.confirm(id, 3, api.Seen)
	if r := narrow.receipt(nova, 1, 1); r.Conversation != other {
		t.Errorf("of one conversation: got %+v", r)
	}

	refused, _ := h.connect("Nova", nil)
	refused.say(`{"op":"subscribe","receipts":true}`)
	refused.wantClosed("an agent's", 1008, "bad_request: receipts")
}

// TestReceiptsAreGathered: of many agents that get further again and again, who watches is
// told where that has led, and not each step.
func TestReceiptsAreGathered(t *testing.T) {
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprint("Agent", i))
	}
	h := newHost(t, names...)
	watcher := h.subscribe("", api.StreamRequest{Receipts: true})
	id := h.create(names[0], "crowd", names[1:]...)
	const lines = 200
	for i := range lines {
		h.send(names[0], id, fmt.Sprint(i))
	}
	last, frames := make(map[string]int64), 0
	for len(last) < len(names)-1 || slices.ContainsFunc(names[1:], func(n string) bool { return last[h.Home().Address(n).String()] < lines+1 }) {
		var r api.StreamReceipt
		if err := watcher.ReadJSON(&r); err != nil {
			t.Fatalf("got %d frames and %v: %v", frames, last, err)
		}
		if r.Type != api.TypeReceipt || r.Agent == h.Home().Address(names[0]).String() {
			continue
		}
		if r.Delivered < last[r.Agent] {
			t.Fatalf("%s: got back to %d from %d", r.Agent, r.Delivered, last[r.Agent])
		}
		last[r.Agent] = r.Delivered
		frames++
	}
	if steps := lines * (len(names) - 1); frames > steps/4 {
		t.Errorf("got %d frames of %d steps, want them gathered", frames, steps)
	}
	t.Logf("%d frames", frames)
}

// TestWaits: an agent waits where it has had the last word, and for its call to be
// answered; what concerns it alone is told to no other agent.
func TestWaits(t *testing.T) {
	o := newOutside(t, "", "Atlas", "Nova", "Sage", "Rio")
	h := o.host
	for _, name := range []string{"Nova", "Sage"} { // a call rings where somebody listens
		h.subscribe(name, api.StreamRequest{})
	}
	first := h.create("Atlas", "first", "Nova", "Sage")
	second := h.create("Atlas", "second", "Nova")
	h.create("Atlas", "nothing said", "Nova")
	closed := h.create("Atlas", "closed", "Nova")
	for _, id := range []string{first, second, closed} {
		h.send("Atlas", id, "well?")
	}
	h.Post("Atlas", &draft{Type: envelope.Close, Conversation: closed})
	h.send("Nova", second, "yes")
	called, err := h.As("Atlas").Call(context.Background(), &draft{Type: envelope.Call, To: []string{"Sage"}, Topic: "now"})
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return h.Home().Address(name).String() }
	waits := func(token, name string) []string {
		t.Helper()
		resp, body := o.with(token, "GET /v1/agents/"+name, "")
		var a api.Agent
		if err := json.Unmarshal(body, &a); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("got %s %s", resp.Status, body)
		}
		var list []string
		for _, w := range a.Waits {
			if w.Since == 0 {
				t.Errorf("got %+v, want since when", w)
			}
			list = append(list, fmt.Sprint(w.Conversation, w.Request, " ", w.For))
		}
		slices.Sort(list)
		return list
	}
	ref := func(id string) string {
		t.Helper()
		found, err := h.As("").Find(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		return found.Conversation.Ref
	}
	want := []string{fmt.Sprint(ref(first), " ", []string{at("Nova"), at("Sage")}), fmt.Sprint(called.Request.Ref, " ", []string{at("Sage")})}
	watcher := o.token("").Text
	if got := waits(watcher, "Atlas"); !slices.Equal(got, want) {
		t.Errorf("Atlas: got %q, want %q", got, want)
	}
	if got, want := waits(watcher, "Nova"), []string{fmt.Sprint(ref(second), " ", []string{at("Atlas")})}; !slices.Equal(got, want) {
		t.Errorf("Nova: got %q, want %q", got, want)
	}
	if got := waits(o.own("Atlas"), "Atlas"); !slices.Equal(got, want) {
		t.Errorf("Atlas of itself: got %q, want %q", got, want)
	}
	if got := waits(o.own("Rio"), "Atlas"); len(got) > 0 {
		t.Errorf("Atlas, as another agent asks: got %q, want nothing", got)
	}
}

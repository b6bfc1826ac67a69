package daemontest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/google/go-cmp/cmp"
)

func stand(t *testing.T, h *daemontest.Host, agent, word string) {
	t.Helper()
	if _, err := h.As("").SetStanding(context.Background(), agent, api.Standing{Standing: word, Reason: "why"}); err != nil {
		t.Fatal(err)
	}
}

// wantEvent waits until the last line of a log is this one, as "message of Bob@lon".
func wantEvent(t *testing.T, h *daemontest.Host, id, want string) {
	t.Helper()
	daemontest.Eventually(t, func() (bool, string) {
		list := h.Log(id)
		e := list[len(list)-1]
		name := string(e.Type)
		if e.Event != "" {
			name = e.Event
		}
		got := name + " of " + e.From.String()
		return got == want, fmt.Sprintf("%s has %q last, want %q", h.Home().Host.Name, got, want)
	})
}

// TestStandingOfOthers: an agent of another host is muted where this host orders, and
// told so there and at its own host; blocked, it cannot reach anybody here, nor be reached.
func TestStandingOfOthers(t *testing.T) {
	ctx := context.Background()
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc", "Atlas"), daemontest.NewBehind(t, "lon", "Bob", "Eve")
	daemontest.Pair(t, nyc, lon)
	wantAgents(t, nyc, api.AgentQuery{Host: "lon"}, "Bob@lon available up", "Eve@lon available up")
	id := nyc.Post("Atlas", &envelope.Envelope{Type: envelope.Create, Topic: "talk", To: []string{"Bob@lon"}}).Conversation.ID
	theirs := lon.Post("Bob", &envelope.Envelope{Type: envelope.Create, Topic: "theirs", To: []string{"Atlas@nyc"}}).Conversation.ID
	wantSame(t, nyc, lon, id)
	wantSame(t, lon, nyc, theirs)

	stand(t, nyc, "Bob@lon", "muted")
	wantEvent(t, lon, id, "standing of human@nyc")
	if n := len(nyc.Log(theirs)); n != 1 {
		t.Errorf("where another host orders: got %d lines, want it left alone", n)
	}
	if a, err := nyc.As("").Find(ctx, "Bob@lon"); err != nil || a.Agent.Standing != "muted" {
		t.Errorf("as this host sees it: got %s, %v, want muted", daemontest.JSON(a), err)
	}
	if a, err := lon.As("").Find(ctx, "Bob"); err != nil || a.Agent.Standing != "none" {
		t.Errorf("as its own host sees it: got %s, %v, want none", daemontest.JSON(a), err)
	}
	lon.Post("Bob", &envelope.Envelope{Conversation: id, Content: "psst"})
	wantEvent(t, lon, id, "undeliverable of Atlas@nyc")
	if e := nyc.Log(id)[2]; !strings.Contains(e.Why, `muted here by human@nyc ("why")`) || strings.Contains(string(e.Append(nil)), "psst") {
		t.Errorf("the answer: got %s, want why, and nothing of what it said", e.Append(nil))
	}
	lon.Post("Bob", &envelope.Envelope{Conversation: theirs, Content: "in its own"})
	wantEvent(t, nyc, theirs, "message of Bob@lon")
	wantSame(t, nyc, lon, id)

	stand(t, nyc, "Bob@lon", "blocked")
	_, err := nyc.As("Atlas").Post(ctx, &envelope.Envelope{Type: envelope.Message, To: []string{"Bob@lon"}, Content: "hi"})
	wantCode(t, err, api.Blocked)
	_, err = nyc.As("Atlas").Call(ctx, &envelope.Envelope{To: []string{"Bob@lon"}})
	wantCode(t, err, api.Blocked)
	called, err := lon.As("Bob").Call(ctx, &envelope.Envelope{To: []string{"Atlas@nyc"}, Topic: "psst"})
	if err != nil {
		t.Fatal(err)
	}
	r := wantCall(t, lon, "Bob", called.Request.ID, api.CallRejected)
	if !strings.Contains(r.Callees[0].Reason, "blocked here by human@nyc") {
		t.Errorf("its call: got %s, want it told why", daemontest.JSON(r))
	}
	if list, err := nyc.As("Atlas").Requests(ctx); err != nil || len(list.Requests) != 0 {
		t.Errorf("its call, here: got %s, %v, want none", daemontest.JSON(list), err)
	}
	fresh := lon.Post("Bob", &envelope.Envelope{Type: envelope.Create, Topic: "psst", To: []string{"Atlas@nyc"}}).Conversation.ID
	wantEvent(t, lon, fresh, "leave of Atlas@nyc")
	if e := lon.Log(fresh)[1]; e.Event != envelope.EventUndeliverable || !strings.Contains(e.Why, "blocked here by human@nyc") {
		t.Errorf("its conversation: got %s, want it told why", e.Append(nil))
	}
	items, err := nyc.Box("Atlas").Unseen()
	if err != nil || slices.ContainsFunc(items, func(i mailbox.Item) bool { return i.Conversation == fresh }) {
		t.Errorf("its conversation, here: got %v, %v, want nothing in the inbox", items, err)
	}
	lon.Post("Eve", &envelope.Envelope{To: []string{"Atlas@nyc"}, Content: "another agent of its host"})

	stand(t, nyc, "Bob@lon", "none")
	lon.Post("Bob", &envelope.Envelope{Conversation: id, Content: "thank you"})
	wantEvent(t, nyc, id, "message of Bob@lon")
	wantSame(t, nyc, lon, id)
}

// TestStandingOutlivesTheLink: a host that is linked again, has still the agents that it
// had; one that is not can be forgotten.
func TestStandingOutlivesTheLink(t *testing.T) {
	ctx := context.Background()
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc", "Atlas"), daemontest.NewBehind(t, "lon", "Bob")
	daemontest.Pair(t, nyc, lon)
	wantAgents(t, nyc, api.AgentQuery{Host: "lon"}, "Bob@lon available up")
	stand(t, nyc, "Bob@lon", "blocked")
	for _, h := range []*daemontest.Host{nyc, lon} {
		name := map[*daemontest.Host]string{nyc: "lon", lon: "nyc"}[h]
		if _, err := h.As("").RemovePeer(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	list, err := nyc.As("").Standings(ctx)
	if err != nil || len(list.Agents) != 1 || list.Agents[0].Address != "Bob@lon" || list.Agents[0].Standing != "blocked" {
		t.Errorf("without a link: got %s, %v, want Bob's", daemontest.JSON(list), err)
	}
	daemontest.Pair(t, nyc, lon)
	wantAgents(t, nyc, api.AgentQuery{Host: "lon"}, "Bob@lon available up")
	_, err = nyc.As("Atlas").Post(ctx, &envelope.Envelope{Type: envelope.Message, To: []string{"Bob@lon"}, Content: "hi"})
	wantCode(t, err, api.Blocked)
	if _, err := nyc.As("").RemovePeer(ctx, "lon"); err != nil {
		t.Fatal(err)
	}
	stand(t, nyc, "Bob@lon", "none")
	if list, err := nyc.As("").Standings(ctx); err != nil || len(list.Agents) != 0 {
		t.Errorf("forgotten: got %s, %v, want none", daemontest.JSON(list), err)
	}
}

// TestMutedAtHome: this host brings nothing of its own muted agent to others.
func TestMutedAtHome(t *testing.T) {
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc", "Atlas"), daemontest.NewBehind(t, "lon", "Bob")
	daemontest.Pair(t, nyc, lon)
	id := nyc.Post("Atlas", &envelope.Envelope{Type: envelope.Create, Topic: "talk", To: []string{"Bob@lon"}}).Conversation.ID
	wantSame(t, nyc, lon, id)
	stand(t, lon, "Bob", "muted")
	_, err := lon.As("Bob").Post(context.Background(), &envelope.Envelope{Type: envelope.Message, Conversation: id, Content: "psst"})
	wantCode(t, err, api.Muted)
	daemontest.AppendTo(t, lon.Home().LogPath(id), `{"from":"Bob","content":"psst"}`+"\n")
	daemontest.Eventually(t, func() (bool, string) {
		names, err := lon.Box("Bob").FailedDrops()
		return len(names) == 1, fmt.Sprint(names, err)
	})
	lon.Post("Bob", &envelope.Envelope{Type: envelope.Leave, Conversation: id})
	wantEvent(t, nyc, id, "leave of Bob@lon")
	if n := len(nyc.Log(id)); n != 2 {
		t.Errorf("the log: got %d lines, want the create and the leave", n)
	}
}

// TestTheHumanAndOtherHosts: the operator comes into what this host orders, is seen at the
// others, and has no right there.
func TestTheHumanAndOtherHosts(t *testing.T) {
	ctx := context.Background()
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc", "Atlas"), daemontest.NewBehind(t, "lon", "Bob")
	daemontest.Pair(t, nyc, lon)
	id := nyc.Post("Atlas", &envelope.Envelope{Type: envelope.Create, Topic: "talk", To: []string{"Bob@lon"}}).Conversation.ID
	wantSame(t, nyc, lon, id)
	for kind, d := range map[string]*envelope.Envelope{
		"a message": {Type: envelope.Message, Content: "hi"}, "a join": {Type: envelope.Join}, "a close": {Type: envelope.Close},
	} {
		d.Conversation = id
		_, err := lon.As("human").Post(ctx, d)
		var refusal *api.Error
		if !errors.As(err, &refusal) || !strings.Contains(refusal.Message, "ordered by nyc, whose operator alone may do that") {
			t.Errorf("%s at another host: got %v, want it told whose right that is", kind, err)
		}
	}
	nyc.Post("human", &envelope.Envelope{Conversation: id, Content: "This is a person."})
	wantEvent(t, lon, id, "message of human@nyc")
	daemontest.Eventually(t, func() (bool, string) {
		items, err := lon.Box("Bob").Unseen()
		return len(items) == 2, fmt.Sprint(items, err)
	})
	lon.Post("Bob", &envelope.Envelope{Conversation: id, Content: "Hello, person."})
	wantEvent(t, nyc, id, "message of Bob@lon")
	lon.Post("Bob", &envelope.Envelope{Type: envelope.Invite, Conversation: id, To: []string{"human"}})
	wantEvent(t, nyc, id, "invite of Bob@lon")
	wantSame(t, nyc, lon, id)
	lon.Post("human", &envelope.Envelope{Conversation: id, Content: "Another person, invited."})
	wantEvent(t, nyc, id, "message of human@lon")
	nyc.Post("human", &envelope.Envelope{Type: envelope.Close, Conversation: id, Reason: "Enough."})
	wantEvent(t, lon, id, "close of human@nyc")
	wantSame(t, nyc, lon, id)
	_, err := lon.As("Bob").Post(ctx, &envelope.Envelope{Type: envelope.Message, Conversation: id, Content: "x"})
	wantCode(t, err, api.ConversationClosed)
}

// TestStandingsAndReplicas: whatever operators do while agents talk, links break and
// daemons restart, every replica equals its origin, is sound, and has the same state.
func TestStandingsAndReplicas(t *testing.T) {
	ctx := context.Background()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc", "Atlas", "Nova"), daemontest.NewBehind(t, "lon", "Bob")
	daemontest.Pair(t, nyc, lon)
	origins := map[string]*daemontest.Host{}
	for range 2 {
		origins[nyc.Post("Atlas", &envelope.Envelope{Type: envelope.Create, Topic: "a", To: []string{"Bob@lon", "Nova"}}).Conversation.ID] = nyc
		origins[lon.Post("Bob", &envelope.Envelope{Type: envelope.Create, Topic: "b", To: []string{"Atlas@nyc", "Nova@nyc"}}).Conversation.ID] = lon
	}
	other := map[*daemontest.Host]*daemontest.Host{nyc: lon, lon: nyc}
	ids := make([]string, 0, len(origins))
	for id, h := range origins {
		wantSame(t, h, other[h], id)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	pick := func(list ...string) string { return list[rnd.IntN(len(list))] }
	for range 150 {
		h, agent := nyc, pick("Atlas", "Nova", "human")
		if rnd.IntN(3) == 0 {
			h, agent = lon, pick("Bob", "human")
		}
		var err error
		switch rnd.IntN(12) {
		case 0, 1, 2:
			whom := pick("Atlas@nyc", "Nova@nyc", "Bob@lon")
			_, err = h.As("").SetStanding(ctx, whom, api.Standing{Standing: pick("none", "none", "muted", "blocked"), Reason: pick("", "why")})
		case 3:
			kind := envelope.Join
			if agent == "Nova" || agent == "human" { // somebody of each host stays, so that it goes on getting the log
				kind = envelope.Type(pick("join", "leave"))
			}
			_, err = h.As(agent).Post(ctx, &envelope.Envelope{Type: kind, Conversation: pick(ids...)})
		case 4:
			cable.Pull()
		case 5:
			cable.Plug()
			lon.Redial("nyc")
		case 6:
			if rnd.IntN(4) == 0 {
				h.Stop()
				h.Start()
			}
		default:
			_, err = h.As(agent).Post(ctx, &envelope.Envelope{Type: envelope.Message, Conversation: pick(ids...), Content: "text"})
		}
		var refusal *api.Error
		if err != nil && !errors.As(err, &refusal) {
			t.Fatal(err)
		}
		if refusal != nil && (refusal.Code == api.Internal || refusal.Code == api.Damaged || refusal.Code == api.BadRequest) {
			t.Fatalf("%s: %v", refusal.Code, err)
		}
	}
	cable.Plug()
	lon.Redial("nyc")
	daemontest.Linked(t, nyc, lon)
	daemontest.Eventually(t, func() (bool, string) {
		a, errA := nyc.As("").Peer(ctx, "lon")
		b, errB := lon.As("").Peer(ctx, "nyc")
		return a.Waiting+b.Waiting == 0, fmt.Sprintf("%s %v, %s %v", daemontest.JSON(a), errA, daemontest.JSON(b), errB)
	})
	for _, id := range ids {
		wantSame(t, origins[id], other[origins[id]], id)
		wantRules(t, origins[id], id)
		if diff := cmp.Diff(folded(t, origins[id], id), folded(t, other[origins[id]], id)); diff != "" {
			t.Errorf("%s: the state of the replica (-origin +replica):\n%s", id, diff)
		}
	}
}

func folded(t *testing.T, h *daemontest.Host, id string) (s conv.State) {
	t.Helper()
	for _, e := range h.Log(id) {
		s = s.Apply(e)
	}
	return s
}

// wantRules looks whether a log has what its origin has to see to: nothing by right of the
// operator that is not of the origin, and no word of an agent behind the line that mutes it.
func wantRules(t *testing.T, h *daemontest.Host, id string) {
	t.Helper()
	silent := make(map[string]bool)
	for _, e := range h.Log(id) {
		if e.Operator && e.From.Host != h.Home().Host.Name {
			t.Errorf("line %d of %s: got the right of another host: %s", e.Seq, id, e.Append(nil))
		}
		if e.Event == envelope.EventStanding {
			silent[e.Participants[0].Key()] = e.Status != "none"
		}
		if e.Type == envelope.Message && silent[e.From.Key()] {
			t.Errorf("line %d of %s: got a word of one who is silent: %s", e.Seq, id, e.Append(nil))
		}
	}
}

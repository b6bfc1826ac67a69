package web_test

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// listen opens a stream of an agent, which confirms what comes as far as a state says,
// until the returned function is called or the test ends.
func listen(t testing.TB, h *daemontest.Host, agent, state string) (hangUp func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := h.As(agent).Stream(ctx, api.StreamRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			m, err := stream.Next(ctx)
			if err != nil {
				return
			}
			if e := m.Envelope; e.Seq > 0 {
				_ = stream.Confirm(api.Place{Conversation: e.Conversation, Seq: e.Seq}, state) // the next read says what is wrong
			}
		}
	})
	hangUp = sync.OnceFunc(func() {
		cancel()
		reading.Wait()
	})
	t.Cleanup(hangUp)
	return hangUp
}

func (p *tab) agents() element { return p.find("complementary", "Agents") }

// agent is the row of an agent in the list of agents.
func (p *tab) agent(name string) element {
	p.t.Helper()
	return p.css(`aside.agents a[href="/a/` + url.QueryEscape(name) + `"]`)
}

func (p *tab) conversations() element { return p.find("navigation", "Conversations") }
func (p *tab) now() element           { return p.find("region", "Now") }

func TestAgentsComeAndGo(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	p := newBrowser(t).watch(t, h, desk, "/")
	agents := p.agents()
	p.agent("Atlas").shows("available")
	p.agent("Nova").shows("nobody listens")

	hangUp := listen(t, h, "Nova", api.Seen)
	if _, err := h.As("Nova").SetPresence(context.Background(), "busy", "reading the trace"); err != nil {
		t.Fatal(err)
	}
	p.agent("Nova").shows("busy")
	p.agent("Nova").shows("reading the trace")
	busy := p.css(`aside.agents a[href="/a/Nova"] .for time`)
	began := callOn[string](busy, `function() { return this.dateTime }`)
	if p, err := h.As("Nova").Presence(context.Background()); err != nil || time.UnixMilli(p.Since).UTC().Format("2006-01-02T15:04:05.000Z") != began {
		t.Errorf("got busy since %s, want since %d, %v", began, p.Since, err)
	}
	first := busy.text()
	p.until("the time goes on", func() bool { return busy.text() != first })
	if _, err := h.As("Nova").SetPresence(context.Background(), "available", ""); err != nil {
		t.Fatal(err)
	}
	p.agent("Nova").shows("listening")
	if _, err := h.As("Nova").SetPresence(context.Background(), "offline", ""); err != nil {
		t.Fatal(err)
	}
	hangUp()
	p.agent("Nova").shows("offline")
	p.open("/a/Nova")
	p.live()
	p.find("main", "").shows("offline for ")

	can := []string{"deploy", "ci"}
	if _, err := h.As("").Register(context.Background(), api.Register{Name: "Orion", Capabilities: &can}); err != nil {
		t.Fatal(err)
	}
	p.agent("Orion").shows("deploy, ci")
	if _, err := h.As("").Unregister(context.Background(), "Orion"); err != nil {
		t.Fatal(err)
	}
	p.until("Orion leaves the list", func() bool { return len(p.query(agents.node, "link", "Orion")) == 0 })
}

func TestWhatAgentsHaveToRead(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	p := newBrowser(t).watch(t, h, desk, "/")
	h.Post("Atlas", message("Nova", "one"))
	h.Post("Atlas", message("Nova", "two"))
	p.agent("Nova").shows("2 unread")
	p.agent("Atlas").shows("waits for Nova")
	h.Post("Nova", message("Atlas", "three"))
	p.agent("Nova").shows("waits for Atlas")
	p.agent("Atlas").hides("waits for")

	p.agent("Nova").click()
	p.wait(`location.pathname === "/a/Nova"`)
	main := p.find("main", "")
	main.find("heading", "Nova")
	main.shows("2 messages unread")
	main.find("link", "three")
}

func TestConversationsMove(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	p := newBrowser(t).watch(t, h, desk, "/")
	list := p.conversations()
	list.shows("Nobody talks now")

	created := h.Post("Atlas", &envelope.Envelope{Type: envelope.Create, Topic: "Line 40", Mode: "live", TurnLimit: 3, To: []string{"Nova"}})
	row := func() element { return list.find("link", "Line 40") }
	row().shows("turn 0 of 3")
	row().shows("live")
	say := func(from, text string) {
		h.Post(from, &envelope.Envelope{Conversation: created.Conversation.ID, Content: text})
	}
	say("Atlas", "Seconds or milliseconds?")
	row().shows("turn 1 of 3")
	row().shows("Atlas: Seconds or milliseconds?")
	row().shows("Atlas, Nova")
	if err := h.As("Nova").Typing(context.Background(), created.Conversation.ID, false); err != nil {
		t.Fatal(err)
	}
	row().shows("Nova is typing")
	say("Nova", "Milliseconds.")
	row().shows("Nova: Milliseconds.")
	if got := list.find("list", "Active conversations").text(); !strings.Contains(got, "Line 40") {
		t.Errorf("got active conversations %q, want Line 40 among them", got)
	}
	h.Post("Atlas", &envelope.Envelope{Type: envelope.Close, Conversation: created.Conversation.ID, Reason: "fixed"})
	list.find("list", "Closed conversations").find("link", "Line 40")
	list.shows("Active 0")

	list.find("searchbox", "Filter conversations").write("nothing like it")
	list.hides("Line 40")
	list.find("searchbox", "Filter conversations").write("line nova")
	row().click()
	p.wait(`location.pathname === "/c/` + created.Conversation.Ref + `"`)
}

func TestCallsRing(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	listen(t, h, "Nova", api.Seen)
	p := newBrowser(t).watch(t, h, desk, "/")
	bar := p.now()
	bar.shows("no call rings")

	call := func(topic string) api.Request {
		t.Helper()
		called, err := h.As("Atlas").Call(context.Background(), &envelope.Envelope{Type: envelope.Call, To: []string{"Nova"}, Topic: topic, Content: "now?"})
		if err != nil {
			t.Fatal(err)
		}
		return called.Request
	}
	answer := func(from string, r api.Request, draft envelope.Envelope) api.Called {
		t.Helper()
		draft.Request = r.ID
		called, err := h.As(from).Answer(context.Background(), &draft)
		if err != nil {
			t.Fatal(err)
		}
		return called
	}

	r := call("Which schema wins?")
	bar.shows("Atlas → calls Nova Which schema wins?")
	first, second := countdown(t, bar), 0
	p.until("the countdown goes on", func() bool { second = countdown(t, bar); return second < first })
	if first > 31 || second < 0 {
		t.Errorf("got a countdown from %d to %d s, want one from 30 s at most", first, second)
	}
	p.agent("Nova").shows("ringing")
	p.agent("Atlas").shows("waits for Nova")
	p.conversations().shows("Ringing 1")
	bar.find("link", "Which schema wins?").click()
	p.wait(`location.pathname === "/r/` + r.Ref + `"`)
	main := p.find("main", "")
	main.find("heading", "Which schema wins?")
	main.shows("now?")

	called := answer("Nova", r, envelope.Envelope{Type: envelope.Accept, Content: "The newer one."})
	bar.shows("Which schema wins? accepted")
	main.find("link", called.Conversation.Ref)
	p.agent("Nova").shows("in a call")
	p.css(`nav.conversations a[href="/c/` + called.Conversation.Ref + `"]`).shows("live")

	answer("Nova", call("And this one?"), envelope.Envelope{Type: envelope.Reject, Reason: "after lunch"})
	bar.shows("And this one? declined")
	answer("Atlas", call("Never mind"), envelope.Envelope{Type: envelope.Cancel})
	bar.shows("Never mind withdrawn")
	for _, topic := range []string{"Which schema wins?", "And this one?", "Never mind"} {
		bar.hides(topic) // the outcome stays for ten seconds
	}
	bar.shows("no call rings")
}

// TestCallsAreMissed has a short ring.
func TestCallsAreMissed(t *testing.T) {
	h := daemontest.NewWith(t, "host.name = 'nyc'\nhttp.listen = '"+daemontest.FreeAddress(t)+"'\ncall.ring = '1s'", "Atlas", "Nova")
	listen(t, h, "Nova", api.Seen)
	p := newBrowser(t).watch(t, h, desk, "/")
	if _, err := h.As("Atlas").Call(context.Background(), &envelope.Envelope{Type: envelope.Call, To: []string{"Nova"}, Topic: "Anybody?"}); err != nil {
		t.Fatal(err)
	}
	p.now().shows("Anybody? missed")
	p.now().shows("1 unanswered call")
}

// TestCallsOfThePast stand on the page of an agent, also when nothing else tells of them.
func TestCallsOfThePast(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	listen(t, h, "Nova", api.Seen)
	ring := func(topic string) api.Request {
		t.Helper()
		called, err := h.As("Atlas").Call(context.Background(), &envelope.Envelope{Type: envelope.Call, To: []string{"Nova"}, Topic: topic})
		if err != nil {
			t.Fatal(err)
		}
		return called.Request
	}
	end := func(from string, r api.Request, how envelope.Type) {
		t.Helper()
		if _, err := h.As(from).Answer(context.Background(), &envelope.Envelope{Type: how, Request: r.ID}); err != nil {
			t.Fatal(err)
		}
	}
	first := ring("Which schema wins?")
	end("Nova", first, envelope.Reject)
	end("Atlas", ring("Never mind"), envelope.Cancel)
	h.Stop() // it forgets what has ended a moment ago
	h.Start()
	p := newBrowser(t).watch(t, h, desk, "/a/Nova")
	calls := func() element { return p.find("list", "Calls of Nova") }
	wantCalls := func(want ...string) {
		t.Helper()
		p.until(strings.Join(want, ", "), func() bool {
			return slices.EqualFunc(eval[[]string](p, `[...document.querySelectorAll(".request-list li")].map(li => li.innerText)`), want, strings.HasPrefix)
		})
	}
	wantCalls("cancelled", "rejected")
	calls().find("link", "Never mind").shows("Atlas → Nova")
	listen(t, h, "Nova", api.Seen)
	third := ring("And now?")
	wantCalls("ringing", "cancelled", "rejected")
	end("Nova", third, envelope.Reject)
	wantCalls("rejected", "cancelled", "rejected")
	p.accessible("an agent with calls")
	calls().find("link", "Which schema wins?").click()
	p.wait(`location.pathname === "/r/` + first.Ref + `"`)
	p.find("heading", "Which schema wins?")
}

// TestCallOfSeveral shows at the conversation that came of a call who is not in it, and why.
func TestCallOfSeveral(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Vega")
	listen(t, h, "Nova", api.Seen)
	listen(t, h, "Vega", api.Seen)
	called, err := h.As("Atlas").Call(context.Background(), &envelope.Envelope{Type: envelope.Call, To: []string{"Nova", "Vega"}, Topic: "Which schema wins?"})
	if err != nil {
		t.Fatal(err)
	}
	answer := func(from string, draft envelope.Envelope) api.Called {
		t.Helper()
		draft.Request = called.Request.ID
		answered, err := h.As(from).Answer(context.Background(), &draft)
		if err != nil {
			t.Fatal(err)
		}
		return answered
	}
	c := answer("Nova", envelope.Envelope{Type: envelope.Accept, Content: "The newer one."}).Conversation
	p := newBrowser(t).watch(t, h, desk, "/c/"+c.Ref)
	row := p.css(`nav.conversations a[href="/c/` + c.Ref + `"]`)
	people := func() element { return p.find("list", "2 participants") }
	people().shows("Vega rings")
	row.shows("rings")
	p.accessible("a conversation whose call rings")
	answer("Vega", envelope.Envelope{Type: envelope.Reject, Reason: "after lunch"})
	people().shows("Vega declined")
	row.hides("rings")
	p.allowBreaks()
	h.Stop()
	h.Start()
	p.open("/c/" + c.Ref)
	p.live()
	people().shows("Vega declined")
	p.css(".about-line a").click()
	p.wait(`location.pathname.startsWith("/r/")`)
	p.find("main", "").shows("after lunch")
}

var seconds = regexp.MustCompile(`(\d+) s\b`)

func countdown(t *testing.T, bar element) int {
	t.Helper()
	list := bar.find("list", "Calls").text()
	found := seconds.FindStringSubmatch(list)
	if found == nil {
		t.Fatalf("got calls %q, want a countdown", list)
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

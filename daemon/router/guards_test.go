package router_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/roster"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// bare is a router in a bubble of synctest: its clock is the test's.
type bare struct {
	t      *testing.T
	home   *maildir.Home
	router *router.Router
}

// follower is where nobody follows.
type follower struct{}

func (follower) Committed(string, int64, []envelope.Address) {}
func (follower) Raw(string)                                  {}

func inBubble(t *testing.T, settings func(*maildir.LimitsConfig), do func(b bare)) {
	t.Helper()
	notes, err := index.OpenMemory() // outside the bubble: it has a clock of its own
	if err != nil {
		t.Fatal(err)
	}
	defer notes.Close() //nolint:errcheck // it is in memory
	dir := filepath.Join(t.TempDir(), "home")
	synctest.Test(t, func(t *testing.T) {
		home, err := maildir.Init(dir)
		if err != nil {
			t.Fatal(err)
		}
		settings(&home.Config.Limits)
		sync := func(*os.File) error { return nil }
		l, err := ledger.Open(home, notes, follower{}, ledger.Options{
			Log: convlog.Options{Sync: sync}, Limits: conv.Limits{Hops: home.Config.Limits.Hops},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		agents, logger := roster.New(home), slog.New(slog.DiscardHandler)
		for _, name := range []string{"Atlas", "Nova", "Sage"} {
			if _, _, err := agents.Register(api.Register{Name: name}); err != nil {
				t.Fatal(err)
			}
		}
		hooks := presence.Hooks{Changed: func(string, presence.Presence) {}, Lost: func(string) {}}
		signs := presence.New(home, notes, time.Now, hooks, logger)
		reading := deliver.New(home, l, bus.New(), work.New(), logger)
		do(bare{t, home, router.New(home, l, agents, reading, signs, logger)})
	})
}

func (b bare) say(agent string, d draft) (router.Outcome, error) {
	return b.router.Accept(context.Background(), router.Actor{Agent: b.home.Address(agent)}, &d)
}

// want says something and wants the line that it stands in, and whether it was folded.
func (b bare) want(what, agent string, d draft, seq int64, folded bool) router.Outcome {
	b.t.Helper()
	out, err := b.say(agent, d)
	if err != nil || out.Envelope.Seq != seq || out.Folded != folded || out.Duplicate != folded {
		b.t.Errorf("%s: got %+v, %v, want line %d, folded %v", what, out, err, seq, folded)
	}
	return out
}

func (b bare) refuse(what, agent string, d draft, code api.Code) *api.Error {
	b.t.Helper()
	out, err := b.say(agent, d)
	var refusal *api.Error
	if !errors.As(err, &refusal) || refusal.Code != code {
		b.t.Errorf("%s: got %+v, %v, want code %s", what, out, err, code)
		return &api.Error{}
	}
	return refusal
}

// TestFolding: an automatic message that says the same again is taken for the first one.
func TestFolding(t *testing.T) {
	const within = time.Minute
	inBubble(t, func(*maildir.LimitsConfig) {}, func(b bare) {
		id := b.want("first", "Atlas", draft{To: people("Nova", "Sage"), Topic: "a", Content: "beep", Auto: true}, 2, false).State.ID
		beep := draft{Conversation: id, Content: "beep", Auto: true}
		b.want("again", "Atlas", beep, 2, true)
		b.want("by another agent", "Nova", beep, 3, false)
		b.want("when somebody has said something", "Atlas", beep, 4, false)
		b.want("again", "Atlas", beep, 4, true)
		for name, other := range map[string]draft{
			"another text": {Content: "boop"}, "with data": {Content: "beep", Data: json.RawMessage(`1`)},
			"to one": {Content: "beep", To: people("Atlas")}, "a reply": {Content: "beep", ReplyTo: envelope.Ref{Seq: 2}},
			"an unknown field": {Content: "beep", Unknown: []envelope.Field{{Name: "mood", Value: json.RawMessage(`"calm"`)}}},
		} {
			other.Conversation, other.Auto = id, true
			if out, err := b.say("Nova", other); err != nil || out.Folded {
				t.Errorf("%s: got %+v, %v, want it stored", name, out, err)
			}
			b.want("a word between", "Sage", draft{Conversation: id, Content: name}, lastOf(b, id)+1, false) // and hops begin anew
		}
		last := lastOf(b, id)
		b.want("anew", "Atlas", beep, last+1, false)
		time.Sleep(within)
		b.want("just in time", "Atlas", beep, last+1, true)
		time.Sleep(time.Millisecond)
		b.want("too late", "Atlas", beep, last+2, false)
		if _, err := b.say("Atlas", draft{Type: envelope.Leave, Conversation: id}); err != nil {
			t.Fatal(err)
		}
		b.refuse("when it has left", "Atlas", beep, api.NotParticipant)
	})
}

func lastOf(b bare, id string) int64 {
	out, err := b.say("Nova", draft{Type: envelope.Message, Conversation: id, Content: "count"})
	if err != nil {
		b.t.Fatal(err)
	}
	return out.State.LastSeq
}

// TestNothingElseIsFolded: what an agent says itself is stored as often as it says it.
func TestNothingElseIsFolded(t *testing.T) {
	inBubble(t, func(*maildir.LimitsConfig) {}, func(b bare) {
		again := draft{To: people("Nova"), Content: "again"}
		for seq := int64(2); seq < 6; seq++ {
			b.want("said on purpose", "Atlas", again, seq, false)
		}
		once := draft{ID: envelope.NewID(), To: people("Nova"), Content: "once", Auto: true}
		b.want("automatic", "Atlas", once, 6, false)
		b.want("by a human", "Atlas", draft{To: people("Nova"), Content: "once"}, 7, false)
		if out, err := b.say("Atlas", once); err != nil || !out.Duplicate || out.Folded || out.Envelope.Seq != 6 {
			t.Errorf("the same id: got %+v, %v, want line 6", out, err)
		}
	})
	inBubble(t, func(l *maildir.LimitsConfig) { l.Repeat.Duration = 0 }, func(b bare) {
		beep := draft{To: people("Nova"), Content: "beep", Auto: true}
		b.want("where nothing is folded", "Atlas", beep, 2, false)
		b.want("where nothing is folded", "Atlas", beep, 3, false)
	})
}

// TestHops: so many automatic messages in a row, and no more.
func TestHops(t *testing.T) {
	inBubble(t, func(l *maildir.LimitsConfig) { l.Hops = 3 }, func(b bare) {
		id := b.want("a human", "Atlas", draft{To: people("Nova"), Content: "go"}, 2, false).State.ID
		auto := func(n int) draft { return draft{Conversation: id, Content: fmt.Sprint("auto ", n), Auto: true} }
		for n, agent := range []string{"Nova", "Atlas", "Nova"} {
			b.want("automatic", agent, auto(n), int64(3+n), false)
		}
		b.refuse("the fourth in a row", "Atlas", auto(4), api.TooManyHops)
		b.want("the last one again", "Nova", auto(2), 5, true)
		b.want("a human", "Atlas", draft{Conversation: id, Content: "go on"}, 6, false)
		b.want("automatic", "Nova", auto(5), 7, false)
		far := auto(6)
		far.Hops = 3
		b.refuse("it says that it has come far", "Atlas", far, api.TooManyHops)
	})
}

// TestRate: so much at once, then so much a second, whatever it is.
func TestRate(t *testing.T) {
	inBubble(t, func(l *maildir.LimitsConfig) { l.Rate, l.Burst = 2, 3 }, func(b bare) {
		hi := draft{To: people("Nova"), Content: "hi"}
		for seq := range 3 {
			b.want("at once", "Atlas", hi, int64(2+seq), false)
		}
		refusal := b.refuse("too fast", "Atlas", draft{Type: envelope.Status, Status: "busy"}, api.RateLimited)
		if refusal.Retry != 500*time.Millisecond || !refusal.Retryable() {
			t.Errorf("retry: got %v, want after 500ms", refusal.Retry)
		}
		b.want("somebody else", "Nova", draft{To: people("Atlas"), Content: "hi"}, 5, false)
		time.Sleep(refusal.Retry)
		b.want("when it was told to", "Atlas", hi, 6, false)
		b.refuse("too fast again", "Atlas", hi, api.RateLimited)
		time.Sleep(time.Hour)
		for seq := range 3 {
			b.want("an hour later", "Atlas", hi, int64(7+seq), false)
		}
		b.refuse("no more than that was saved", "Atlas", hi, api.RateLimited)
	})
	inBubble(t, func(l *maildir.LimitsConfig) { l.Rate, l.Burst = 0, 1 }, func(b bare) {
		for seq := range 5 {
			b.want("no limit", "Atlas", draft{To: people("Nova"), Content: "hi"}, int64(2+seq), false)
		}
	})
}

// TestBucketsOfMany: buckets that are full are dropped, the others are not.
func TestBucketsOfMany(t *testing.T) {
	var rates router.Rates
	now := time.UnixMilli(1739654400000)
	agent := func(n int) envelope.Address { return envelope.Address{Name: fmt.Sprint("A", n), Host: "nyc"} }
	for n := range 4096 {
		rates.Take(agent(n), 1, 1, now)
	}
	if wait := rates.Take(agent(0), 1, 1, now); wait != time.Second {
		t.Errorf("wait: got %v, want 1s", wait)
	}
	for n := range 2000 {
		rates.Take(agent(5000+n), 1, 1, now.Add(500*time.Millisecond))
	}
	if wait := rates.Take(agent(0), 1, 1, now.Add(500*time.Millisecond)); wait != 500*time.Millisecond {
		t.Errorf("wait, among many: got %v, want 500ms", wait)
	}
	for n := range 8192 {
		rates.Take(agent(10_000+n), 1, 1, now.Add(time.Minute))
	}
	if n := rates.Len(); n > 8192+1 {
		t.Errorf("got %d buckets, want those of long ago to be gone", n)
	}
}

// TestDropsWait: drops that come too fast wait, in their order.
func TestDropsWait(t *testing.T) {
	h := newHostWith(t, func(c *maildir.Config) { c.Limits.Rate, c.Limits.Burst = 20, 1 }, "Atlas", "Nova")
	began := time.Now().UnixMilli()
	var want []string
	for n := range 5 {
		h.Drop("Atlas", fmt.Sprint(n, ".json"), fmt.Sprintf(`{"to":"Nova","content":"drop %d"}`, n))
		want = append(want, fmt.Sprint("Atlas: drop ", n))
	}
	daemontest.Eventually(t, func() (bool, string) {
		sent := h.folder("Atlas", mailbox.Sent)
		return len(sent) == 5, fmt.Sprintf("sent has %q, failed %q, want five sent", sent, h.folder("Atlas", mailbox.Failed))
	})
	ids, err := h.Home().Conversations()
	if err != nil || len(ids) != 1 {
		t.Fatalf("conversations: got %q, %v, want one", ids, err)
	}
	h.wantSaid(ids[0], want...)
	log := h.Log(ids[0])
	if took := log[len(log)-1].Timestamp - began; took < 150 {
		t.Errorf("the drops took %d ms, want 200 or more", took)
	}
}

// TestRateOverAllDoors: the command, HTTP and drops have one bucket.
func TestRateOverAllDoors(t *testing.T) {
	h := newHostWith(t, func(c *maildir.Config) { c.Limits.Rate, c.Limits.Burst = 0.001, 2 }, "Atlas", "Nova")
	h.message("Atlas", "Nova", "one")
	h.Drop("Atlas", "two.json", `{"to":"Nova","content":"two"}`)
	h.taken("Atlas", "two.json", mailbox.Sent)
	h.refuse("three", "Atlas", &draft{To: people("Nova"), Content: "three"}, api.RateLimited)
	h.Drop("Atlas", "four.json", `{"to":"Nova","content":"four"}`)
	if _, err := h.As("Atlas").Match(context.Background(), api.Match{Text: "Nova", Topic: "five"}); err == nil {
		t.Error("a match over the limit: got no error")
	}
	h.message("Nova", "Atlas", "the others may")
	if got := h.folder("Atlas", mailbox.Failed); len(got) != 0 {
		t.Errorf("failed has %q, want nothing: the drop waits", got)
	}
}

func newHostWith(t *testing.T, settings func(*maildir.Config), agents ...string) host {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := maildir.DefaultConfig()
	config.HTTP.Listen = maildir.Off
	settings(&config)
	if err := config.Write(filepath.Join(dir, "config.toml")); err != nil {
		t.Fatal(err)
	}
	return host{daemontest.NewAt(t, dir, agents...), t}
}

// TestKnownAtOnce: whom an agent has written to may answer as soon as it has.
func TestKnownAtOnce(t *testing.T) {
	var others []string
	for i := range 20 {
		others = append(others, fmt.Sprintf("Agent%d", i))
	}
	h := newHost(t, append(others, "Nova")...)
	known := card.Known
	if _, err := h.As("").Register(t.Context(), api.Register{Name: "Nova", Accepts: &known}); err != nil {
		t.Fatal(err)
	}
	for i, other := range others {
		if i%2 == 0 {
			h.Post("Nova", &draft{To: people(other), Content: "hi"})
		} else { // in what somebody else has begun
			id := h.Post(other, &draft{Type: envelope.Create, Topic: "anybody?", Open: true}).Conversation.ID
			h.Post("Nova", &draft{Type: envelope.Join, Conversation: id})
			h.send("Nova", id, "hi")
		}
		if _, err := h.As(other).Call(t.Context(), &draft{Type: envelope.Call, To: people("Nova")}); err != nil {
			t.Errorf("%s answers with a call: %v", other, err)
		}
	}
}

// TestConsent: who may write to whom, and bring whom in.
func TestConsent(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage")
	accepts := func(whom string) {
		t.Helper()
		if _, err := h.As("").Register(context.Background(), api.Register{Name: "Nova", Accepts: &whom}); err != nil {
			t.Fatal(err)
		}
	}
	contact := func(agent, list string) {
		t.Helper()
		if _, err := h.As("Nova").SetContact(context.Background(), agent, list); err != nil {
			t.Fatal(err)
		}
	}
	open := h.create("Atlas", "a", "Sage")
	hi := &draft{To: people("Nova"), Content: "hi"}
	ways := map[string]*draft{
		"message": hi, "create": {Type: envelope.Create, Topic: "a", To: people("Nova")},
		"call": {Type: envelope.Call, To: people("Nova")}, "invite": {Type: envelope.Invite, Conversation: open, To: people("Nova")},
	}
	refuseAll := func(what string) {
		t.Helper()
		for way, d := range ways {
			if way != "call" {
				h.refuse(what+": "+way, "Atlas", d, api.NotAccepted)
			} else if _, err := h.As("Atlas").Call(context.Background(), d); code(err) != api.NotAccepted {
				t.Errorf("%s: call: got %v", what, err)
			}
		}
	}
	accepts(card.Nobody)
	refuseAll("nobody")
	contact("Atlas", "allow")
	talk := h.Post("Atlas", hi).Conversation.ID
	contact("Atlas", "")
	accepts(card.Known)
	refuseAll("known, and it has not answered")
	h.send("Nova", talk, "hello")
	h.Post("Atlas", hi)
	h.refuse("known, and it does not know Sage", "Sage", hi, api.NotAccepted)
	accepts(card.Anyone)
	contact("Atlas", "block")
	refuseAll("blocked")
	h.refuse("blocked, in a conversation of two", "Atlas", &draft{Conversation: talk, Content: "hi"}, api.NotAccepted)
	h.send("Nova", talk, "it may write itself")
	h.Post("Nova", &draft{Type: envelope.Invite, Conversation: talk, To: people("Sage")})
	h.send("Atlas", talk, "others are listening")
	if got := slices.Index(h.said(talk), "Atlas: others are listening"); got < 0 {
		t.Errorf("log: %q", h.said(talk))
	}
}

func code(err error) api.Code {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

package courier_test

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

type stateOf = conv.State

// two makes nyc with Atlas and Sage, lon with Bob and Eve, and a conversation of Atlas and
// Bob that nyc orders.
func two(t *testing.T) (nyc, lon *host, id string) {
	t.Helper()
	nyc, lon = newHost(t, "nyc", "Atlas", "Sage"), newHost(t, "lon", "Bob", "Eve")
	pair(t, nyc, lon)
	return nyc, lon, nyc.create("Atlas", []string{"Bob@lon"}, lon)
}

// third is a host that is linked with two others, who are linked.
func third(t *testing.T, nyc, lon *host) *host {
	t.Helper()
	par := newHost(t, "par", "Carol")
	pair(t, nyc, par)
	pair(t, lon, par)
	return par
}

// TestSend: what Bob says waits, crosses, gets its number, and waits no more when it has
// come back.
func TestSend(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		out := lon.say("Bob", &draft{Conversation: id, Content: "hi"})
		if !out.Queued || out.Envelope.Seq != 0 || out.Envelope.After == nil || out.State.ID != id {
			t.Errorf("got %+v, want it queued", out)
		}
		lon.wantSpooled(nyc, 1)
		link := connect(t, nyc, lon)
		synctest.Wait()
		nyc.want(id, "Atlas@nyc system create", "Bob@lon message hi")
		lon.wantSpooled(nyc, 1) // until it is in the copy
		lon.say("Bob", &draft{Conversation: id, Content: "and more"})
		synctest.Wait()
		ship(nyc, lon, id)
		lon.wantSpooled(nyc, 0)
		lon.want(id, "Atlas@nyc system create", "Bob@lon message hi", "Bob@lon message and more")
		link.Cut()
		if got := nyc.inbox("Atlas"); len(got) != 2 || got[0] != "hi" {
			t.Errorf("Atlas' inbox: got %q, want both", got)
		}
		e, err := envelope.Decode(nyc.lines(id)[1])
		if err != nil || e.Signature == "" || !strings.HasSuffix(string(nyc.lines(id)[1]), `,"signature":"`+e.Signature+`"}`) {
			t.Errorf("line 2: got %s, want a signature at its end", nyc.lines(id)[1])
		}
	})
}

// TestRepeats: however often something is said or sent again, it stands in the log once.
func TestRepeats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		key := envelope.NamedID("key", "bob", "1")
		first := lon.say("Bob", &draft{ID: key, Conversation: id, Content: "hi"})
		again := lon.say("Bob", &draft{ID: key, Conversation: id, Content: "hi"})
		if first.Duplicate || !again.Duplicate || !again.Queued {
			t.Errorf("got %+v, then %+v, want a repeat that is queued", first, again)
		}
		if code := lon.code("Bob", &draft{ID: key, Conversation: id, Content: "other"}); code != api.KeyReused {
			t.Errorf("another text: got %s, want %s", code, api.KeyReused)
		}
		for range 3 {
			link := connect(t, nyc, lon)
			synctest.Wait()
			link.Cut()
		}
		lon.wantSpooled(nyc, 1)
		lon.restart()
		connect(t, nyc, lon)
		synctest.Wait()
		ship(nyc, lon, id)
		lon.wantSpooled(nyc, 0)
		nyc.want(id, "Atlas@nyc system create", "Bob@lon message hi")
		last := lon.say("Bob", &draft{ID: key, Conversation: id, Content: "hi"})
		if !last.Duplicate || last.Queued || last.Envelope.Seq != 2 {
			t.Errorf("when it is in the log: got %+v, want line 2", last)
		}
	})
}

// TestRemovalLost: the process dies between the copy and the removal of the spool file.
func TestRemovalLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		lon.say("Bob", &draft{Conversation: id, Content: "hi"})
		link := connect(t, nyc, lon)
		synctest.Wait()
		link.Cut()
		stored, _, err := lon.ledger.Copy(ctx, ledger.Copy{Origin: nyc.me.ID(), Conversation: id, Lines: nyc.lines(id)[1:]})
		if err != nil || len(stored) != 1 {
			t.Fatalf("copy: got %v, %v", stored, err)
		}
		lon.restart()
		lon.wantSpooled(nyc, 1)
		connect(t, nyc, lon)
		synctest.Wait()
		lon.wantSpooled(nyc, 0)
		nyc.want(id, "Atlas@nyc system create", "Bob@lon message hi")
	})
}

// TestOrder: what is said first stands first, also over restarts.
func TestOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		want := []string{"Atlas@nyc system create"}
		for i := range 300 {
			text := strings.Repeat("x", 300) + string(rune('a'+i%26))
			lon.say("Bob", &draft{Conversation: id, Content: text})
			want = append(want, "Bob@lon message "+text)
			if i == 150 {
				lon.restart()
			}
		}
		connect(t, nyc, lon)
		synctest.Wait()
		nyc.want(id, want...)
		ship(nyc, lon, id)
		lon.wantSpooled(nyc, 0)
	})
}

// TestEverythingThatCanBeSaid: leave, invite, close and join of an agent elsewhere.
func TestEverythingThatCanBeSaid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		connect(t, nyc, lon)
		lon.say("Bob", &draft{Type: envelope.Invite, Conversation: id, To: []string{"Eve", "Sage@nyc"}})
		synctest.Wait()
		ship(nyc, lon, id)
		lon.say("Eve", &draft{Conversation: id, Content: "here"})
		lon.say("Bob", &draft{Type: envelope.Leave, Conversation: id})
		synctest.Wait()
		ship(nyc, lon, id)
		nyc.want(id, "Atlas@nyc system create", "Bob@lon system invite", "Eve@lon message here", "Bob@lon leave")
		if code := lon.code("Bob", &draft{Conversation: id, Content: "late"}); code != api.NotParticipant {
			t.Errorf("who has left: got %s, want %s", code, api.NotParticipant)
		}
		if code := lon.code("Eve", &draft{Type: envelope.Close, Conversation: id}); code != api.NotAllowed {
			t.Errorf("who has not created it: got %s, want %s", code, api.NotAllowed)
		}
		nyc.say("Atlas", &draft{Type: envelope.Close, Conversation: id})
		ship(nyc, lon, id)
		if code := lon.code("Eve", &draft{Conversation: id, Content: "late"}); code != api.ConversationClosed {
			t.Errorf("closed: got %s, want %s", code, api.ConversationClosed)
		}
		lon.wantSpooled(nyc, 0)
	})
}

// TestJoin: an agent joins an open conversation of which nothing is here.
func TestJoin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, _ := two(t)
		open := nyc.say("Atlas", &draft{Type: envelope.Create, Topic: "Open", Open: true}).State.ID
		closed := nyc.create("Atlas", []string{"Sage"})
		connect(t, nyc, lon)
		out := lon.say("Eve", &draft{Type: envelope.Join, Conversation: open + "@nyc"})
		if !out.Queued || out.State.ID != open {
			t.Errorf("got %+v, want it queued", out)
		}
		lon.say("Eve", &draft{Type: envelope.Join, Conversation: closed + "@nyc"})
		lon.say("Eve", &draft{Type: envelope.Join, Conversation: envelope.ConversationID("x", envelope.NewID()) + "@nyc"})
		synctest.Wait()
		ship(nyc, lon, open)
		lon.want(open, "Atlas@nyc system create", "Eve@lon join")
		lon.wantSpooled(nyc, 0)
		if failed := lon.failed("Eve"); len(failed) != 2 || !strings.Contains(strings.Join(failed, " "), "not open") || !strings.Contains(strings.Join(failed, " "), "no such conversation") {
			t.Errorf("failed: got %q, want the two others", failed)
		}
		if current, err := mailbox.At(lon.home.AgentDir("Eve")).Current(); err != nil || current != "" {
			t.Errorf("the current conversation is %q, %v, want none: the last one was refused", current, err)
		}
		if code := lon.code("Eve", &draft{Type: envelope.Join, Conversation: envelope.ConversationID("x", envelope.NewID()) + "@par"}); code != api.HostNotFound {
			t.Errorf("a host that nobody knows: got %s, want %s", code, api.HostNotFound)
		}
	})
}

// TestRefusedByTheRules: the origin knows more, and says in the log why something is not
// taken.
func TestRefusedByTheRules(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		nyc.say("Atlas", &draft{Type: envelope.Close, Conversation: id}) // which lon does not know yet
		lon.say("Bob", &draft{Conversation: id, Content: "too late"})
		connect(t, nyc, lon)
		synctest.Wait()
		nyc.want(id, "Atlas@nyc system create", "Atlas@nyc system close", "Atlas@nyc system undeliverable the conversation is closed")
		lon.wantSpooled(nyc, 1)
		ship(nyc, lon, id)
		lon.wantSpooled(nyc, 0)
		if got := lon.inbox("Bob"); len(got) != 3 || got[2] != "undeliverable the conversation is closed" {
			t.Errorf("Bob's inbox: got %q, want to be told why", got)
		}
		if got := nyc.inbox("Atlas"); len(got) > 0 {
			t.Errorf("Atlas' inbox: got %q, want nothing", got)
		}
	})
}

// TestRefusedForGood: nothing can stand in the log.
func TestRefusedForGood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		lon.say("Bob", &draft{Conversation: id, Content: "lost"})
		if err := os.Remove(nyc.home.LogPath(id)); err != nil {
			t.Fatal(err)
		}
		nyc.restart()
		connect(t, nyc, lon)
		synctest.Wait()
		lon.wantSpooled(nyc, 0)
		if got := lon.failed("Bob"); len(got) != 1 || got[0] != "nyc has refused it: there is no such conversation" {
			t.Errorf("failed: got %q, want the reason", got)
		}
	})
}

// TestDiskFull: what the origin cannot store waits, in order, until it can.
func TestDiskFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		connect(t, nyc, lon)
		nyc.full.Store(true)
		lon.say("Bob", &draft{Conversation: id, Content: "one"})
		lon.say("Bob", &draft{Conversation: id, Content: "two"})
		time.Sleep(5 * time.Second)
		lon.wantSpooled(nyc, 2)
		nyc.full.Store(false)
		time.Sleep(2 * time.Minute)
		nyc.want(id, "Atlas@nyc system create", "Bob@lon message one", "Bob@lon message two")
		if got := lon.failed("Bob"); len(got) > 0 {
			t.Errorf("failed: got %q, want nothing", got)
		}
	})
}

// TestConsent: who does not want to come leaves before it is given anything, and who is
// not there too.
func TestConsent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, _ := two(t)
		if _, err := lon.roster.SetContact("Bob", "Atlas@nyc", "block"); err != nil {
			t.Fatal(err)
		}
		id := nyc.create("Atlas", []string{"Bob@lon", "Nobody@lon", "Eve@lon"})
		nyc.say("Atlas", &draft{Conversation: id, Content: "psst"})
		connect(t, nyc, lon)
		ship(nyc, lon, id)
		synctest.Wait()
		ship(nyc, lon, id)
		synctest.Wait()
		want := []string{
			"Atlas@nyc system create", "Atlas@nyc message psst", "Bob@lon system undeliverable Bob does not accept this from Atlas", "Bob@lon leave",
			`Nobody@lon system undeliverable no agent named "Nobody" at lon`, "Nobody@lon leave",
		}
		nyc.want(id, want...)
		lon.want(id, want...)
		lon.wantSpooled(nyc, 0)
		for _, text := range lon.inbox("Bob") {
			if text == "psst" {
				t.Error("Bob is given what it does not want")
			}
		}
		if got := nyc.inbox("Atlas"); len(got) != 4 {
			t.Errorf("Atlas' inbox: got %q, want both answers and both leaves", got)
		}
		if got := lon.inbox("Eve"); len(got) != 4 { // create, message, two leaves
			t.Errorf("Eve's inbox: got %q, want what is said", got)
		}
		soon()
		nyc.wantStates("who does not want it has not seen it", id, 2, "Bob@lon stored, Nobody@lon stored, Eve@lon delivered")
	})
}

// TestConsentAtTheOrigin: an agent of another host brings in one that does not want it.
func TestConsentAtTheOrigin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		if _, err := nyc.roster.SetContact("Sage", "Bob@lon", "block"); err != nil {
			t.Fatal(err)
		}
		connect(t, nyc, lon)
		lon.say("Bob", &draft{Type: envelope.Invite, Conversation: id, To: []string{"Sage@nyc"}})
		lon.say("Bob", &draft{Type: envelope.Invite, Conversation: id, To: []string{"Nobody@nyc"}})
		synctest.Wait()
		ship(nyc, lon, id)
		nyc.want(id, "Atlas@nyc system create", "Atlas@nyc system undeliverable Sage does not accept this from Bob",
			`Atlas@nyc system undeliverable no agent named "Nobody" at nyc`)
		lon.wantSpooled(nyc, 0)
	})
}

// TestDirect: two who write to each other meet in one conversation, whoever begins.
func TestDirect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, _ := two(t)
		id := nyc.say("Atlas", &draft{To: []string{"Bob@lon"}, Content: "hello"}).State.ID
		ship(nyc, lon, id)
		out := lon.say("Bob", &draft{To: []string{"Atlas@nyc"}, Content: "hi"})
		if !out.Queued || out.State.ID != id {
			t.Errorf("got %+v in %s, want it queued for %s", out, out.State.ID, id)
		}
		connect(t, nyc, lon)
		synctest.Wait()
		nyc.want(id, "Atlas@nyc system create", "Atlas@nyc message hello", "Bob@lon message hi")
	})
}

// TestRawLine: a line that was appended to the copy with the shell is said once.
func TestRawLine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		appendRaw := func(text string) {
			t.Helper()
			f, err := os.OpenFile(lon.home.LogPath(id), os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString(text + "\n")
			}
			if err == nil {
				err = f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := lon.ledger.Refresh(ctx, id); err != nil {
				t.Fatal(err)
			}
			lon.router.Adopt(ctx, id, lon.grown)
		}
		appendRaw(`{"from":"Bob","content":"by echo"}`)
		appendRaw(`{"from":"Eve","content":"not in it"}`)
		appendRaw(`{"from":"Nobody","content":"not here"}`)
		lon.wantSpooled(nyc, 1)
		if got := lon.failed("Eve"); len(got) != 1 || !strings.Contains(got[0], "not in the conversation") {
			t.Errorf("failed: got %q, want why", got)
		}
		for _, forget := range []bool{false, true} {
			lon.restart(func() {
				if forget {
					if err := os.Remove(lon.home.IndexPath()); err != nil {
						t.Fatal(err)
					}
				}
			})
			if err := lon.ledger.Refresh(ctx, id); err != nil {
				t.Fatal(err)
			}
			lon.router.Adopt(ctx, id, lon.grown)
			lon.wantSpooled(nyc, 1)
		}
		connect(t, nyc, lon)
		synctest.Wait()
		ship(nyc, lon, id)
		nyc.want(id, "Atlas@nyc system create", "Bob@lon message by echo")
		lon.wantSpooled(nyc, 0)
		lon.restart(func() {
			if err := os.Remove(lon.home.IndexPath()); err != nil {
				t.Fatal(err)
			}
		})
		if err := lon.ledger.Refresh(ctx, id); err != nil {
			t.Fatal(err)
		}
		lon.router.Adopt(ctx, id, lon.grown)
		lon.wantSpooled(nyc, 0)
		if raw, err := lon.ledger.Raw(id); raw != nil || err != nil {
			t.Errorf("got %+v, %v, want no line that waits", raw, err)
		}
		if got := lon.failed("Eve"); len(got) != 1 {
			t.Errorf("failed: got %q, want it said once", got)
		}
	})
}

// TestQueueFull: a spool has a bound, and says so.
func TestQueueFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon, id := two(t)
		lon.limits.Items = 2
		lon.restart()
		lon.say("Bob", &draft{Conversation: id, Content: "one"})
		two := lon.say("Bob", &draft{Conversation: id, Content: "two"})
		if code := lon.code("Bob", &draft{Conversation: id, Content: "one too many"}); code != api.QueueFull {
			t.Errorf("got %s, want %s", code, api.QueueFull)
		}
		if again := lon.say("Bob", &draft{ID: two.Envelope.ID, Conversation: id, Content: "two"}); !again.Duplicate {
			t.Errorf("what waits already: got %+v, want a repeat", again)
		}
		connect(t, nyc, lon)
		synctest.Wait()
		ship(nyc, lon, id)
		lon.say("Bob", &draft{Conversation: id, Content: "three"})
		synctest.Wait()
		nyc.want(id, "Atlas@nyc system create", "Bob@lon message one", "Bob@lon message two", "Bob@lon message three")
	})
}

// TestComesBack: who leaves and joins again while the origin is away is in again, though
// the copy of the log here says nothing of it yet.
func TestComesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nyc, lon := newHost(t, "nyc", "Atlas"), newHost(t, "lon", "Bob")
		pair(t, nyc, lon)
		id := nyc.say("Atlas", &draft{Type: envelope.Create, Topic: "Open", Open: true, To: []string{"Bob@lon"}}).State.ID
		ship(nyc, lon, id)
		if out := lon.say("Bob", &draft{Type: envelope.Join, Conversation: id}); !out.Duplicate {
			t.Errorf("a join of one who is in: got %+v, want a repeat", out)
		}
		lon.say("Bob", &draft{Type: envelope.Leave, Conversation: id})
		if out := lon.say("Bob", &draft{Type: envelope.Join, Conversation: id}); !out.Queued {
			t.Errorf("a join behind a leave: got %+v, want it queued", out)
		}
		if out := lon.say("Bob", &draft{Type: envelope.Join, Conversation: id}); !out.Duplicate {
			t.Errorf("a second join: got %+v, want a repeat", out)
		}
		lon.say("Bob", &draft{Conversation: id, Content: "I am back"})
		connect(t, nyc, lon)
		synctest.Wait()
		ship(nyc, lon, id)
		nyc.want(id, "Atlas@nyc system create", "Bob@lon leave", "Bob@lon join", "Bob@lon message I am back")
		lon.wantSpooled(nyc, 0)
	})
}

package web_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// office is a host with agents at work, as the pictures show it.
type office struct {
	*scene
	cable                     *daemontest.Cable // by which other hosts dial it
	race, notes, plan, direct string            // conversations
}

// morning is when the talk of the office begins.
var morning = time.Date(2026, 11, 19, 9, 2, 11, 0, time.UTC)

func newOffice(t testing.TB) *office {
	t.Helper()
	cable, address := daemontest.NewCable(t), daemontest.FreeAddress(t)
	cable.Connect(address)
	o := &office{cable: cable, scene: newScene(t, "nyc", fmt.Sprintf("call.ring = '2m'\nlink.listen = %q\nlink.advertise = %q", address, cable.Address()))}
	o.agent("Atlas", "Keeps the session store and its tests", morning.Add(46*time.Minute), "go", "storage")
	o.agent("Nova", "Reviews Go, and asks where the time goes", morning.Add(47*time.Minute), "review", "go")
	o.agent("Vega", "Writes what people read", morning.Add(31*time.Minute), "docs", "release")
	o.agent("Orion", "Watches the build and the machines", morning.Add(12*time.Minute), "ci", "deploy")
	o.notes = o.releaseNotes()
	o.plan = o.migration()
	o.race = o.flakyTest()
	o.direct = o.conversation(envelope.Envelope{Mode: "async"}, morning.Add(38*time.Minute), []string{"Orion", "Vega"},
		says("Orion", "The docs job takes 11 minutes since Tuesday. Is that the new link check?", 0))
	o.seen("Atlas", map[string]mailbox.Cursor{o.race: {Delivered: 14, Seen: 14}, o.notes: {Delivered: 6, Seen: 6}, o.plan: {Delivered: 5, Seen: 5}})
	o.seen("Nova", map[string]mailbox.Cursor{o.race: {Delivered: 14, Seen: 13}, o.plan: {Delivered: 5, Seen: 5}})
	o.seen("Vega", map[string]mailbox.Cursor{o.race: {Delivered: 14, Seen: 12}, o.notes: {Delivered: 6, Seen: 6}, o.plan: {Delivered: 5, Seen: 5}, o.direct: {Delivered: 2}})
	o.seen("Orion", map[string]mailbox.Cursor{o.plan: {Delivered: 5, Seen: 3}, o.direct: {Delivered: 2, Seen: 2}})
	return o
}

// link gives the office two neighbours: one that is there, and one that something waits for.
func (o *office) link(h *daemontest.Host) {
	o.t.Helper()
	near := newScene(o.t, "lon", "link.listen = 'off'")
	near.agent("Lyra", "Tests what others have built", morning.Add(40*time.Minute), "test", "fuzzing")
	daemontest.Pair(o.t, h, near.start())
	far := newScene(o.t, "sfo", "link.listen = 'off'")
	far.agent("Mira", "Looks after the backups", morning.Add(41*time.Minute), "backup")
	away := far.start()
	daemontest.Pair(o.t, h, away)
	asked := away.Post("Mira", message("Atlas@nyc", "May I take the old machines down tonight?")).Conversation.ID
	daemontest.Eventually(o.t, func() (bool, string) {
		found, err := h.As("").Find(context.Background(), asked)
		return err == nil && found.Conversation.LastSeq == 2, fmt.Sprintf("what Mira asks: %s, %v", daemontest.JSON(found), err)
	})
	away.Stop()
	h.Post("Atlas", &envelope.Envelope{Conversation: asked, Content: "After six, please."})
	h.Post("Atlas", &envelope.Envelope{Conversation: asked, Content: "And keep their disks until Friday."})
	o.cable.Slow(20*time.Millisecond, 0)
	if _, err := h.As("").PingPeer(context.Background(), "lon"); err != nil {
		o.t.Fatal(err)
	}
}

// flakyTest is a live conversation with a table, code, a file, a line that crossed and one
// who comes in later.
func (o *office) flakyTest() string {
	crossed := says("Nova", "Could it be the **clock** and not the lock? `Expire` compares seconds with milliseconds.", 4*time.Second)
	crossed.After = envelope.Int(7)
	answer := says("Atlas", "Line 40, yes:\n\n```go\nif entry.Expires < now.UnixMilli() { // Expires is in seconds\n\tdelete(store.entries, id)\n}\n```\n\nEvery entry was over 1.7 billion seconds too old.", 50*time.Second)
	answer.ReplyTo = envelope.Ref{Seq: 9}
	traced := says("Nova", "The trace of one that failed, with the goroutines that were in `Expire`.", 31*time.Second)
	traced.Attachments = []envelope.Attachment{o.attach("trace.log", "text/plain; charset=utf-8", "goroutine 41 [running]:\nstore.(*Store).Expire\n")}
	done := says("Vega", "Then the notes say: *sessions no longer end early under load.* I take it from here.", 3*time.Minute)
	return o.conversation(envelope.Envelope{Topic: "TestExpire fails one time in thirty", TurnLimit: 40}, morning.Add(8*time.Minute), []string{"Atlas", "Nova"},
		envelope.Envelope{Type: envelope.Join, From: envelope.Address{Name: "Nova"}},
		says("Atlas", "`TestExpire` fails about one time in thirty, and only with `-race`. I have a seed that does it each time.", 12*time.Second),
		says("Nova", "Which packages did you run, and on how many cores?", 41*time.Second),
		says("Atlas", "What I have so far:\n\n| cores | runs | failed |\n|------:|-----:|-------:|\n| 1 | 300 | 0 |\n| 2 | 300 | 9 |\n| 8 | 300 | 31 |", 95*time.Second),
		says("Nova", "So it needs two of them at once. What takes the lock in `Expire`?", 38*time.Second),
		traced,
		says("Atlas", "Nothing does. It reads the map under `RLock` and deletes under `Lock`, so a session can come back in between.", 64*time.Second),
		crossed,
		answer,
		says("Nova", "> Expires is in seconds\n\nWrite the unit into the name, then: `ExpiresAtMs`. I would not trust a comment twice.", 72*time.Second),
		envelope.Envelope{Type: envelope.System, Event: envelope.EventInvite, From: envelope.Address{Name: "Atlas"}, Participants: []envelope.Address{o.home.Address("Vega")}, Timestamp: int64(5 * time.Minute)},
		envelope.Envelope{Type: envelope.Join, From: envelope.Address{Name: "Vega"}, Timestamp: int64(30 * time.Second)},
		done,
	)
}

func (o *office) releaseNotes() string {
	return o.conversation(envelope.Envelope{Topic: "Release notes for 2.4", Mode: "async"}, morning, []string{"Vega", "Atlas"},
		says("Vega", "What changed for people in the session store since 2.3?", 0),
		says("Atlas", "1. Sessions survive a restart.\n2. `store.max` is now in bytes, not in entries.\n3. Nothing else that anyone would notice.", 2*time.Minute),
		says("Vega", "The second one breaks configurations. Is there a warning at the start?", time.Minute),
		says("Atlas", "There is: `store.max: 5000 is less than a page; did you mean entries?`", 3*time.Minute),
		envelope.Envelope{Type: envelope.System, Event: envelope.EventClose, From: envelope.Address{Name: "Vega"}, Reason: "written down", Timestamp: int64(time.Minute)},
	)
}

func (o *office) migration() string {
	return o.conversation(envelope.Envelope{Topic: "Move the build to the new machines", Mode: "async", Open: true}, morning.Add(3*time.Minute), []string{"Orion", "Atlas", "Nova", "Vega"},
		says("Orion", "The new machines are up. Who can live without the old ones on Friday from 14:00 to 16:00?", 0),
		says("Atlas", "I can.", 80*time.Second),
		says("Vega", "So can I, if the notes for 2.4 are out before.", 2*time.Minute),
		says("Nova", "Reviews can wait until 16:00. What about the *nightly* run?", 4*time.Minute),
	)
}

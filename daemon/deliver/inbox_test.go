package deliver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/google/go-cmp/cmp"
)

func TestInbox(t *testing.T) {
	p := newPost(t, "Atlas", "Nova", "Sage").run()
	id := p.create("a", "Atlas", "Nova", "Sage")
	seq := p.say(id, "Nova", "hi")
	p.settle()
	p.files("a create and a message", "Atlas", id, []int64{seq}, none)
	p.files("a create and a message", "Sage", id, []int64{1, seq}, none)
	p.files("a create and a message", "Nova", id, []int64{1}, none)
	p.waits("a create and a message", "Sage", id, 1, seq)
	p.states("not seen", id, seq, "Atlas delivered", "Sage delivered")
	item, err := p.box("Sage").Unseen()
	if err != nil {
		t.Fatal(err)
	}
	e, err := p.box("Sage").ReadItem(item[1].Name)
	if err != nil || e.Content != "hi" || e.Seq != seq || e.Conversation != id || !e.From.Same(p.home.Address("Nova")) {
		t.Errorf("file: got %+v, %v, want the line of the log", e, err)
	}
	for _, agent := range []string{"Atlas", "Nova", "Sage"} {
		links, err := p.box(agent).Conversations()
		if err != nil || !slices.Equal(links, []string{id}) {
			t.Errorf("links of %s: got %q, %v, want %s", agent, links, err, id)
		}
		if data, err := os.ReadFile(filepath.Join(p.home.AgentDir(agent), "conversations", id+".jsonl")); err != nil || !strings.Contains(string(data), `"hi"`) {
			t.Errorf("log through the link of %s: got %q, %v", agent, data, err)
		}
	}
}

// TestWhoIsShownWhat is the table of lines against recipients: what is put into an
// inbox and what is only counted.
func TestWhoIsShownWhat(t *testing.T) {
	p := newPost(t, "Atlas", "Nova", "Sage", "Rune").run()
	id := p.create("a", "Atlas", "Nova", "Sage")
	p.join(id, "Rune") // 2: nobody is told
	p.say(id, "Nova", "hi")
	p.leave(id, "Sage")                                                                                            // 4: the others are told
	p.add(id, &envelope.Envelope{Type: envelope.System, Event: envelope.EventInvite, From: p.home.Address("Nova"), // 5: who is invited is told
		Participants: []envelope.Address{p.home.Address("Sage")}})
	p.add(id, &envelope.Envelope{Type: envelope.System, Event: envelope.EventUndeliverable, From: p.home.Address("Nova"), // 6: its agent is told
		To: []string{p.home.Address("nova").String()}, Why: "too late"})
	p.add(id, &envelope.Envelope{Type: envelope.System, Event: "rename", From: p.home.Address("Nova")}) // 7: nobody knows what it is
	p.add(id, &envelope.Envelope{Type: envelope.System, Event: envelope.EventClose, From: p.home.Address("Atlas")})
	p.settle()
	p.waits("Atlas", "Atlas", id, 3, 4)
	p.waits("Nova", "Nova", id, 1, 4, 6, 8)
	p.waits("Sage", "Sage", id, 1, 3, 5, 8)
	p.waits("Rune", "Rune", id, 3, 4, 8)
	for seq, want := range [][]string{
		1: {"Nova delivered", "Sage delivered"}, 2: {}, 3: {"Atlas delivered", "Sage delivered", "Rune delivered"},
		4: {"Atlas delivered", "Nova delivered", "Rune delivered"}, 5: {"Sage delivered"}, 6: {"Nova delivered"}, 7: {},
		8: {"Nova delivered", "Sage delivered", "Rune delivered"},
	} {
		if seq > 0 {
			p.states("receipts", id, int64(seq), want...)
		}
	}
}

// TestAConversationMadeByAMessage: its create says nothing beside the message.
func TestAConversationMadeByAMessage(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.createAs("a", func(e *envelope.Envelope) { e.Auto = true }, "Atlas", "Nova")
	p.say(id, "Atlas", "hi")
	p.settle()
	p.waits("the message only", "Nova", id, 2)
}

func TestSeen(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Nova", "Atlas")
	for range 4 { // lines 2 to 5
		p.say(id, "Nova", "hi")
	}
	p.settle()
	shown := func(want int64) {
		t.Helper()
		if got := p.Shown("Atlas", id); got != want {
			t.Errorf("Shown: got %d, want %d", got, want)
		}
	}
	shown(0)
	see := func(seq int64) {
		t.Helper()
		if err := p.Seen("atlas", id, seq); err != nil {
			t.Errorf("Seen %d: %v", seq, err)
		}
	}
	see(3) // out of order
	shown(3)
	p.files("after one", "Atlas", id, []int64{1, 2, 4, 5}, []int64{3})
	p.states("after one", id, 3, "Atlas seen")
	p.states("after one", id, 2, "Atlas delivered")
	see(1)
	see(3) // again
	shown(3)
	see(2)
	see(4)
	p.files("after four", "Atlas", id, []int64{5}, seqs(1, 4))
	shown(4)
	p.waits("after four", "Atlas", id, 5)
}

// TestSeenOfWhatIsNotThere: what does not exist, or is not the agent's, cannot be seen.
func TestSeenOfWhatIsNotThere(t *testing.T) {
	p := newPost(t, "Atlas", "Nova", "Sage").run()
	id := p.create("a", "Nova", "Atlas")
	p.settle()
	for _, seq := range []int64{-1, 0, 2, 1 << 40} {
		if err := p.Seen("Atlas", id, seq); err != nil {
			t.Errorf("Seen(%d): %v", seq, err)
		}
	}
	if err := p.Seen("Sage", id, 1); err != nil {
		t.Errorf("Seen of a stranger: %v", err)
	}
	if err := p.Seen("Atlas", "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3", 1); err != nil {
		t.Errorf("Seen in no conversation: %v", err)
	}
	s := p.attach("Atlas", deliver.Filter{})
	confirm(t, s, id, 2, "seen")
	confirm(t, s, id, 3, "delivered")
	s.Close()
	other := p.attach("Atlas", deliver.Filter{})
	for range 2 {
		p.say(id, "Nova", "hi")
	}
	p.carries("the messages come all the same", other, id, 1, 2, 3)
	p.settle()
	p.states("nothing is seen", id, 2, "Atlas stored")
	p.states("nothing is delivered", id, 3, "Atlas stored")
	other.Close()
	p.files("after the stream", "Atlas", id, []int64{1, 2, 3}, none)
	if err := p.Seen("Nobody", id, 1); err == nil {
		t.Error("Seen of nobody: got no error, want one")
	}
}

// TestMovedByHand: the agent's own mv from new to cur is reading, rm is not.
func TestMovedByHand(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Nova", "Atlas")
	for range 2 {
		p.say(id, "Nova", "hi")
	}
	p.settle()
	items, err := p.box("Atlas").Unseen()
	if err != nil || len(items) != 3 {
		t.Fatalf("inbox: got %v, %v, want three files", items, err)
	}
	dir := p.home.AgentDir("Atlas")
	if err := os.Rename(filepath.Join(dir, mailbox.InboxNew, items[1].Name), filepath.Join(dir, mailbox.InboxCur, items[1].Name)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, mailbox.InboxNew, items[2].Name)); err != nil {
		t.Fatal(err)
	}
	p.InboxChanged("atlas")
	p.states("moved", id, 2, "Atlas seen")
	p.states("deleted", id, 3, "Atlas delivered")
	p.waits("moved and deleted", "Atlas", id, 1, 3)
	if err := p.Seen("Atlas", id, 3); err != nil { // the bodies are in the log
		t.Errorf("Seen of a deleted file: %v", err)
	}
	p.states("shown from the log", id, 3, "Atlas seen")
	p.InboxChanged("nobody") // tells the log, no more
}

func TestComingAndGoing(t *testing.T) {
	p := newPost(t, "Atlas", "Nova", "Sage").run()
	id := p.create("a", "Atlas", "Nova")
	p.say(id, "Atlas", "before")   // 2
	p.join(id, "Sage")             // 3
	p.say(id, "Atlas", "with")     // 4
	p.leave(id, "Sage")            // 5
	p.say(id, "Atlas", "without")  // 6
	p.join(id, "Sage")             // 7
	p.say(id, "Atlas", "together") // 8
	p.settle()
	p.waits("Sage", "Sage", id, 4, 8)
	p.waits("Nova", "Nova", id, 1, 2, 4, 5, 6, 8)
	p.states("while Sage is away", id, 6, "Nova delivered")
	p.states("while Sage is there", id, 4, "Nova delivered", "Sage delivered")
}

// TestGoneBeforeTheDelivery: who leaves, and comes back, before the follower came to
// the lines gets those that it was there for.
func TestGoneBeforeTheDelivery(t *testing.T) {
	for name, after := range map[string]struct {
		do   func(p *post, id string)
		want []int64
	}{
		"left": {func(p *post, id string) { p.leave(id, "Nova") }, []int64{1, 2}},
		"left and came back": {func(p *post, id string) {
			p.leave(id, "Nova")
			p.say(id, "Atlas", "away")
			p.join(id, "Nova")
			p.say(id, "Atlas", "back")
		}, []int64{1, 2, 6}},
		"left and came twice": {func(p *post, id string) {
			p.leave(id, "Nova")
			p.join(id, "Nova")
			p.leave(id, "Nova")
			p.say(id, "Atlas", "away")
			p.join(id, "Nova")
		}, []int64{1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPost(t, "Atlas", "Nova")
			id := p.create("a", "Atlas", "Nova")
			p.say(id, "Atlas", "before")
			after.do(p, id)
			p.run()
			p.settle()
			p.files(name, "Nova", id, after.want, none)
		})
	}
}

// TestCrash: a new deliverer on the same files, with cursors that were not written,
// changes nothing for what was delivered and brings the rest.
func TestCrash(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Nova", "Atlas")
	for range 4 { // lines 2 to 5
		p.say(id, "Nova", "hi")
	}
	p.settle()
	for _, seq := range []int64{1, 2, 4} {
		if err := p.Seen("Atlas", id, seq); err != nil {
			t.Fatal(err)
		}
	}
	dir := p.home.AgentDir("atlas")
	p.halt()
	if err := os.Remove(filepath.Join(dir, "cursors.json")); err != nil { // as they were before
		t.Fatal(err)
	}
	items, err := p.box("Atlas").Unseen()
	if err != nil || len(items) != 2 {
		t.Fatalf("inbox: got %v, %v, want two files", items, err)
	}
	if err := os.WriteFile(filepath.Join(dir, mailbox.InboxNew, items[0].Name), []byte(`{"seq":`), 0o600); err != nil { // torn
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, mailbox.InboxNew, items[1].Name)); err != nil { // never reached the disk
		t.Fatal(err)
	}
	p.recover(id)
	p.say(id, "Nova", "behind") // 6
	p.run()
	p.settle()
	p.files("after the crash", "Atlas", id, []int64{3, 5, 6}, []int64{1, 2, 4})
	p.states("after the crash", id, 2, "Atlas seen")
	p.states("after the crash", id, 4, "Atlas seen")
	p.states("after the crash", id, 3, "Atlas delivered")
	if e, err := p.box("Atlas").ReadItem(items[0].Name); err != nil || e.Content != "hi" {
		t.Errorf("torn file: got %+v, %v, want it whole again", e, err)
	}
	if got := p.Shown("Atlas", id); got != 4 {
		t.Errorf("Shown: got %d, want 4", got)
	}
}

// TestOrderlyEnd: the cursors tell the next deliverer what is done.
func TestOrderlyEnd(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Nova", "Atlas")
	p.say(id, "Nova", "hi")
	p.say(id, "Nova", "there")
	p.settle()
	for _, seq := range []int64{1, 2} {
		if err := p.Seen("Atlas", id, seq); err != nil {
			t.Fatal(err)
		}
	}
	p.halt()
	var cursors map[string]mailbox.Cursor
	data, err := os.ReadFile(filepath.Join(p.home.AgentDir("atlas"), "cursors.json"))
	if err == nil {
		err = json.Unmarshal(data, &cursors)
	}
	if want := (mailbox.Cursor{Delivered: 3, Seen: 2}); err != nil || cmp.Diff(want, cursors[id]) != "" {
		t.Errorf("cursors: got %s, %v, want %+v", data, err, want)
	}
	p.recover(id)
	if got := p.Shown("Atlas", id); got != 2 {
		t.Errorf("Shown after a restart: got %d, want 2", got)
	}
	p.run()
	p.settle()
	p.files("after a restart", "Atlas", id, []int64{3}, []int64{1, 2})
	p.halt()
	if err := p.Seen("Atlas", id, 3); err != nil {
		t.Fatal(err)
	}
	p.Flush()
	p.recover(id)
	if n := p.queue.Len(); n != 0 {
		t.Errorf("queue after a restart with nothing to do: got %d, want 0", n)
	}
}

// TestBacklog: a long log is delivered whole, in slices, while others have their turn.
func TestBacklog(t *testing.T) {
	const lines = 3 * deliver.SliceLines
	p := newPost(t, "Atlas", "Nova")
	id, other := p.create("long", "Nova", "Atlas"), p.create("short", "Nova", "Atlas")
	for i := range lines {
		p.say(id, "Nova", fmt.Sprint("message ", i))
	}
	p.say(other, "Nova", "hi")
	p.recover(id, other)
	p.run()
	p.until(other, 2, "Atlas delivered")
	p.until(id, lines+1, "Atlas delivered")
	p.settle()
	p.files("at the end", "Atlas", id, seqs(1, lines+1), none)
}

// TestBrokenInbox: an agent whose inbox takes no files holds up nobody else, and gets
// everything when its inbox works again.
func TestBrokenInbox(t *testing.T) {
	for name, lines := range map[string]int64{"known": deliver.SliceLines + 10, "not known yet": 3} {
		t.Run(name, func(t *testing.T) {
			p := newPost(t, "Atlas", "Nova", "Sage")
			if name == "known" {
				if _, err := p.Unseen("Atlas", ""); err != nil {
					t.Fatal(err)
				}
			}
			broken := filepath.Join(p.home.AgentDir("atlas"), mailbox.InboxTmp)
			if err := os.Remove(broken); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(broken, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			id := p.create("a", "Nova", "Atlas", "Sage")
			for range lines {
				p.say(id, "Nova", "hi")
			}
			p.run()
			p.until(id, lines+1, "Sage delivered")
			p.settle()
			p.files("Sage has all", "Sage", id, seqs(1, lines+1), none)
			p.states("Atlas has none", id, 2, "Atlas stored", "Sage delivered")
			if err := os.Remove(broken); err != nil {
				t.Fatal(err)
			}
			p.clock.pass(deliver.RetryAfter)
			p.until(id, lines+1, "Atlas delivered")
			p.files("Atlas has all", "Atlas", id, seqs(1, lines+1), none)
		})
	}
}

// TestInboxMadeAgain: a folder that somebody has removed is made again.
func TestInboxMadeAgain(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Nova", "Atlas")
	p.settle()
	if err := os.RemoveAll(filepath.Join(p.home.AgentDir("atlas"), "inbox")); err != nil {
		t.Fatal(err)
	}
	seq := p.say(id, "Nova", "hi")
	p.settle()
	p.files("in the new folder", "Atlas", id, []int64{seq}, none)
}

// TestUnknownMembers: agents of other hosts, and those without a folder, have nothing
// delivered here.
func TestUnknownMembers(t *testing.T) {
	p := newPost(t, "Atlas").run()
	id := p.createAs("a", func(e *envelope.Envelope) {
		e.Participants = append(e.Participants, envelope.Address{Name: "Far", Host: "elsewhere"}, p.home.Address("Ghost"))
	}, "Atlas")
	seq := p.say(id, "Atlas", "hi")
	p.settle()
	p.states("receipts", id, seq, "Far stored", "Ghost stored")
	if _, err := os.Stat(p.home.AgentDir("Ghost")); err == nil {
		t.Error("folder of Ghost: got one made, want none")
	}
	if _, err := p.Unseen("Ghost", ""); err == nil {
		t.Error("Unseen of Ghost: got no error, want one")
	}
	if _, err := p.Attach("Ghost", deliver.Filter{}); err == nil {
		t.Error("Attach of Ghost: got no error, want one")
	}
	if p.Shown("Ghost", id) != 0 || p.Listening("Ghost") {
		t.Error("Ghost: got something shown or listening, want neither")
	}
}

// TestDamagedLog: what stands before the damage is delivered.
func TestDamagedLog(t *testing.T) {
	p := newPost(t, "Atlas", "Nova")
	id := p.create("a", "Nova", "Atlas")
	p.say(id, "Nova", "hi")
	f, err := os.OpenFile(p.home.LogPath(id), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"seq":9,"id":"` + envelope.NewID() + "\",\"from\":\"Nova@x\"}\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	p.run()
	if err := p.ledger.Refresh(context.Background(), id); err == nil {
		t.Error("Refresh: got no error, want the damage")
	}
	p.settle()
	p.files("before the damage", "Atlas", id, []int64{1, 2}, none)
	if err := p.Seen("Atlas", id, 2); err != nil {
		t.Errorf("Seen: %v", err)
	}
	p.files("seen", "Atlas", id, []int64{1}, []int64{2})
}

// TestTidy: of many seen files the oldest go, but none that the cursors do not count
// as seen: it would be delivered again.
func TestTidy(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Nova", "Atlas")
	for range 6 { // lines 2 to 7
		p.say(id, "Nova", "hi")
	}
	p.settle()
	for _, seq := range []int64{1, 2, 3, 5, 6} {
		if err := p.Seen("Atlas", id, seq); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		kept int
		want []int64
	}{{10, []int64{1, 2, 3, 5, 6}}, {5, []int64{1, 2, 3, 5, 6}}, {4, []int64{2, 3, 5, 6}}, {1, []int64{5, 6}}, {0, []int64{5, 6}}} {
		if err := p.TidyTo("Atlas", step.kept); err != nil {
			t.Fatal(err)
		}
		p.files(fmt.Sprint("with at most ", step.kept), "Atlas", id, []int64{4, 7}, step.want)
	}
	if err := p.Tidy("Atlas"); err != nil {
		t.Error(err)
	}
	if err := p.Tidy("Nobody"); err == nil {
		t.Error("Tidy of nobody: got no error, want one")
	}
}

// TestRecipientsOfTheWholeStory: receipts follow a message.
func TestRecipientsOfTheWholeStory(t *testing.T) {
	p := newPost(t, "Atlas", "Nova")
	id := p.create("a", "Atlas", "Nova")
	seq := p.say(id, "Atlas", "hi")
	p.states("nobody delivers", id, seq, "Nova stored")
	p.run()
	p.until(id, seq, "Nova delivered")
	progress := p.Progress()
	if err := p.Seen("Nova", id, seq); err != nil {
		t.Fatal(err)
	}
	select {
	case <-progress:
	default:
		t.Error("Progress: got it open, want it closed when a message gets further")
	}
	p.states("shown", id, seq, "Nova seen")
	if got := p.Recipients(conv.State{}, &envelope.Envelope{Seq: 1}); got == nil || len(got) != 0 {
		t.Errorf("Recipients of nothing: got %v, want an empty list", got)
	}
}

// TestCursorsThatCannotBeRead: the agent's mailbox is out of use, the others are not.
func TestCursorsThatCannotBeRead(t *testing.T) {
	p := newPost(t, "Atlas", "Nova", "Sage")
	if err := os.WriteFile(filepath.Join(p.home.AgentDir("atlas"), "cursors.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.run()
	id := p.create("a", "Nova", "Atlas", "Sage")
	p.settle()
	p.states("receipts", id, 1, "Atlas stored", "Sage delivered")
	p.files("Sage", "Sage", id, []int64{1}, none)
	daemontest.Eventually(t, func() (bool, string) {
		_, err := p.Unseen("Atlas", "")
		return err != nil, "Unseen of Atlas: got no error, want one"
	})
}

// TestCursorsThatCannotBeWritten are written later.
func TestCursorsThatCannotBeWritten(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Nova", "Atlas")
	p.settle()
	path := filepath.Join(p.home.AgentDir("atlas"), "cursors.json")
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.Seen("Atlas", id, 1); err != nil {
		t.Fatal(err)
	}
	p.Flush()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	daemontest.Eventually(t, func() (bool, string) {
		cursors, err := p.box("Atlas").Cursors()
		return err == nil && cmp.Equal(cursors[id], mailbox.Cursor{Delivered: 1, Seen: 1}), fmt.Sprintf("cursors are %v, %v", cursors, err)
	})
}

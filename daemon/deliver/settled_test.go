package deliver_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// settledPost is a home where Nova has seen all that Atlas has said, and a daemon has
// ended in order.
func settledPost(t *testing.T) (p *post, id string) {
	p = newPost(t, "Atlas", "Nova")
	id = p.create("settled", "Atlas", "Nova")
	p.Remember(p.index)
	p.run()
	p.say(id, "Atlas", "hi")
	p.settle()
	for seq := int64(1); seq <= 2; seq++ {
		if err := p.Seen("Nova", id, seq); err != nil {
			t.Fatal(err)
		}
	}
	p.halt()
	return p, id
}

// again begins anew, as a start of the daemon does, and returns which agents were read.
func (p *post) again(id string) (read int) {
	p.t.Helper()
	p.begin()
	p.Remember(p.index)
	state, err := p.ledger.State(context.Background(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, m := range state.Members {
		p.RecoverAgent(m.Address.Name, []deliver.Stay{{Conversation: id, Last: state.LastSeq, First: m.First(), Left: m.Left}})
	}
	return p.Readers()
}

// TestSettledAgentsAreNotRead: where nothing has changed, nothing is looked at.
func TestSettledAgentsAreNotRead(t *testing.T) {
	p, id := settledPost(t)
	if got := p.again(id); got != 0 || p.queue.Len() != 0 {
		t.Errorf("got %d agents read, %d conversations to look at, want none", got, p.queue.Len())
	}
	if got, want := p.Deliverer.Open("Nova"), 1; got != want { // whoever is asked for is read then
		t.Errorf("got %d open conversations, want %d", got, want)
	}
}

// TestWhatChangesWhileNobodyLooks is found at the next start.
func TestWhatChangesWhileNobodyLooks(t *testing.T) {
	for name, test := range map[string]struct {
		change func(p *post, id string) error
		looks  bool // the conversation has something to deliver
	}{
		"a line is stored": {func(p *post, id string) error {
			p.say(id, "Atlas", "more")
			return nil
		}, true},
		"somebody leaves": {func(p *post, id string) error {
			p.leave(id, "Atlas")
			return nil
		}, true},
		"the cursors go": {func(p *post, _ string) error {
			return os.Remove(filepath.Join(p.home.AgentDir("Nova"), mailbox.CursorFile))
		}, true},
		"the cursors go back": {func(p *post, id string) error {
			return mailbox.At(p.home.AgentDir("Nova")).WriteCursors(map[string]mailbox.Cursor{id: {Delivered: 1, Seen: 1}})
		}, true},
		"a link goes": {func(p *post, id string) error {
			return os.Remove(filepath.Join(p.home.AgentDir("Nova"), mailbox.Links, id+".jsonl"))
		}, false},
		"a file comes": {func(p *post, id string) error {
			return os.WriteFile(filepath.Join(p.home.AgentDir("Nova"), mailbox.InboxNew, "x.json"), nil, 0o600)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, id := settledPost(t)
			if err := test.change(p, id); err != nil {
				t.Fatal(err)
			}
			if got := p.again(id); got == 0 {
				t.Error("nobody was read")
			}
			if got := p.queue.Len() > 0; got != test.looks {
				t.Errorf("got the conversation to look at %v, want %v", got, test.looks)
			}
			link := filepath.Join(p.home.AgentDir("Nova"), mailbox.Links, id+".jsonl")
			if _, err := os.Lstat(link); err != nil {
				t.Errorf("the link: %v", err)
			}
		})
	}
}

// TestUnseenIsNotSettled: who has something to read is looked at.
func TestUnseenIsNotSettled(t *testing.T) {
	p, id := settledPost(t)
	p.again(id)
	p.run()
	p.say(id, "Atlas", "unseen")
	p.settle()
	p.halt()
	if p.again(id); p.queue.Len() == 0 {
		t.Error("the conversation is not looked at")
	}
}

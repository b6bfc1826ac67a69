package deliver_test

import (
	"context"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// imported makes a log with some messages as an import does: it is noted before it is there.
func (p *post) imported(topic string, messages int, people ...string) string {
	p.t.Helper()
	first := &envelope.Envelope{
		ID: envelope.NewID(), Type: envelope.System, Event: envelope.EventCreate, Topic: topic, From: p.home.Address(people[0]), Origin: p.home.Host.ID,
	}
	id := envelope.ConversationID(p.home.Host.ID, first.ID)
	first.Conversation = id
	for _, name := range people {
		first.Participants = append(first.Participants, p.home.Address(name))
	}
	lines := []*envelope.Envelope{first}
	for i := range messages {
		lines = append(lines, &envelope.Envelope{
			ID: envelope.NewID(), Type: envelope.Message, From: p.home.Address(people[i%len(people)]), Conversation: id, Content: "old",
		})
	}
	if err := p.home.NoteImported([]maildir.Imported{{Conversation: id, Through: int64(len(lines))}}); err != nil {
		p.t.Fatal(err)
	}
	if err := convlog.Create(p.home.LogPath(id), lines, time.Now()); err != nil {
		p.t.Fatal(err)
	}
	return id
}

// Nobody is told of what was imported: not in an inbox, not on a stream, not one who
// watches, and not one who comes later. What comes behind it is mail.
func TestWhatWasImportedIsNoMail(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	stream := p.attach("Atlas", deliver.Filter{})
	defer stream.Close()
	observer := p.Observe(deliver.Filter{})
	defer observer.Close()
	before := p.create("before", "Nova", "Atlas")
	p.carries("stream", stream, before, 1)

	id := p.imported("old", 5, "Atlas", "Nova", "Sage") // lines 1 to 6
	if err := p.ledger.Refresh(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	p.idle("stream", stream)
	p.files("inbox", "Nova", id, []int64{}, []int64{})
	p.waits("inbox", "Nova", id)
	p.states("receipts", id, 2, "Nova seen", "Sage stored")

	if _, err := mailbox.Open(p.home.AgentDir("Sage")); err != nil {
		t.Fatal(err)
	}
	p.halt()
	p.recover(before, id)
	p.run()
	p.settle()
	p.files("one who comes later", "Sage", id, []int64{}, []int64{})
	late := p.attach("Sage", deliver.Filter{})
	p.idle("stream of one who comes later", late)
	late.Close()

	second := p.Observe(deliver.Filter{})
	defer second.Close()
	seq := p.say(id, "Atlas", "new")
	p.settle()
	p.files("inbox", "Nova", id, []int64{seq}, []int64{})
	p.files("one who came later", "Sage", id, []int64{seq}, []int64{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, o := range []*deliver.Observer{observer, second} {
		for {
			line, err := o.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if line.Conversation != id {
				continue
			}
			if line.Envelope.Seq != seq {
				t.Errorf("an observer got line %d, want %d", line.Envelope.Seq, seq)
			}
			break
		}
	}
}

package offline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// Complete makes a draft fit for a drop: the conversation by its id, recipients that
// exist, and what the sender had been shown when it wrote.
func (f *Files) Complete(draft *envelope.Envelope) error {
	for _, name := range draft.To {
		if err := f.checkAgent(name); err != nil {
			return err
		}
	}
	if draft.Conversation != "" {
		id, err := f.Resolve(draft.Conversation)
		if err != nil {
			return err
		}
		draft.Conversation = id
		if _, fresh := envelope.MadeAt(draft.ID); fresh && draft.Type == envelope.Message {
			draft.After = envelope.Int(f.shownUpTo(id)) // not with a key: a repeat is looked for behind it
		}
	}
	if err := draft.Check(f.home.Config.Limits.Content); err != nil {
		return api.Errorf(api.BadRequest, "%w", err)
	}
	return nil
}

func (f *Files) checkAgent(text string) error {
	address, err := envelope.ParseAddress(text)
	if err != nil {
		return api.Errorf(api.BadReference, "%w", err).WithNext("duo who")
	}
	if address.Host != "" && address.Host != f.home.Host.Name {
		return nil
	}
	_, err = f.Agent(address.Name)
	return err
}

// shownUpTo is the highest line of a conversation that the agent was shown.
func (f *Files) shownUpTo(conversation string) int64 {
	seq := int64(0)
	if cursors, err := f.box.Cursors(); err == nil {
		seq = cursors[conversation].Seen
	}
	seen, err := f.box.Seen()
	if err != nil {
		return seq
	}
	for _, item := range seen {
		if item.Conversation == conversation {
			seq = max(seq, item.Seq)
		}
	}
	return seq
}

// Leave puts a draft into the outbox, unless the same is there: with a key it has the
// name of the one before.
func (f *Files) Leave(name string, draft *envelope.Envelope) error {
	box, err := mailbox.Open(f.box.Dir())
	if err != nil {
		return err
	}
	for {
		if err := box.Leave(name, draft); !errors.Is(err, fs.ErrExist) {
			return err
		}
		before, err := box.Load(mailbox.Drop{Name: name}, "", time.Now())
		switch {
		case errors.Is(err, fs.ErrNotExist): // a daemon has taken it just now
			continue
		case err != nil:
			return err
		case !f.same(before.Draft, draft):
			path := filepath.Join(box.Dir(), mailbox.OutboxNew, name)
			return api.Errorf(api.KeyReused, "with this key another message waits to be sent; take another key").WithNext("cat %s", frame.ShellWord(path))
		}
		return nil
	}
}

// same reports whether two drafts with one id are one message. The daemon knows a
// message by its text and asks each conversation by itself; a drop goes to one.
func (f *Files) same(a, b *envelope.Envelope) bool {
	return a.Type == b.Type && a.Content == b.Content && a.Topic == b.Topic && a.Reason == b.Reason &&
		a.Conversation == b.Conversation && slices.Equal(f.keys(a.To), f.keys(b.To))
}

// keys are names of agents, however they are written.
func (f *Files) keys(names []string) []string {
	var list []string
	for _, name := range names {
		address, err := envelope.ParseAddress(name)
		if err == nil && address.Host == "" {
			address = f.home.Address(address.Name)
		}
		list = append(list, address.Key())
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Left tells what became of a drop with the message id: where it is in its log, or
// no conversation while it waits.
func (f *Files) Left(id string) (conversation string, seq int64, found bool, err error) {
	if f.box.Waiting(id) {
		return "", 0, true, nil
	}
	name := id + ".json"
	if failed, err := f.box.FailedDrops(); err == nil && slices.Contains(failed, name) {
		path := filepath.Join(f.box.Dir(), mailbox.Failed, name)
		return "", 0, true, api.Errorf(api.NotSent, "the message was not sent: %s", f.box.FailureOf(name)).WithNext("cat %s", frame.ShellWord(path))
	}
	data, err := os.ReadFile(filepath.Join(f.box.Dir(), mailbox.Sent, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0, false, nil
	}
	if err != nil {
		return "", 0, false, fmt.Errorf("read sent drop: %w", err)
	}
	e, err := envelope.Decode(data)
	if err != nil {
		return "", 0, false, fmt.Errorf("read sent drop: %w", err)
	}
	return e.Conversation, e.Seq, true, nil
}

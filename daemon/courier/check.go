package courier

import (
	"context"
	"errors"
	"fmt"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/identity"
)

// ErrForged means that a line says something in the name of a host that has not said it.
var ErrForged = errors.New("not signed by the author's host")

// Check refuses lines that are not yet in the copy of a log here and that an honest origin
// does not send: with the name of a host that has not signed them, as far as that host is
// known here. The state is that before them.
//
// Where they bring in an agent of this host that is not here or does not want it, that is
// queued for the origin before anybody sees the lines: why, and that the agent leaves.
func (c *Courier) Check(origin, conversation string, state conv.State, lines []ledger.Stored) error {
	for _, line := range lines {
		e := line.Envelope
		if err := c.checkLine(origin, state, e); err != nil {
			return fmt.Errorf("line %d of %q: %w", e.Seq, conversation, err)
		}
		if err := c.consent(origin, e); err != nil {
			return fmt.Errorf("line %d of %q: %w", e.Seq, conversation, err)
		}
		state = state.Apply(e)
	}
	return nil
}

func (c *Courier) checkLine(origin string, state conv.State, e *envelope.Envelope) error {
	after := state.Apply(e) // a line that brings agents in says who they are
	if err := c.checkNames(origin, after, e); err != nil {
		return err
	}
	author, known := after.Host(e.From.Host)
	switch {
	case !known:
		return fmt.Errorf("nothing says which host %q is: %w", e.From.Host, ErrForged)
	case author != origin && e.Operator:
		return fmt.Errorf("it is by right of the operator of another host than the origin: %w", ErrForged)
	case author == origin:
		return nil
	case author == c.Home.Host.ID:
		return c.signed(c.Host().Keys(), e)
	}
	p, known := c.Book.ByID(author)
	if !known {
		return nil // whose signature nobody here can check
	}
	return c.signed(p.Keys, e)
}

// checkNames refuses lines in which the name of this host, of the origin or of a peer means
// another one, or one name means two: agents here would take it for the one that they know.
func (c *Courier) checkNames(origin string, state conv.State, e *envelope.Envelope) error {
	for name, id := range e.Hosts {
		known, _ := state.Host(name)
		if known != id || (name == c.Home.Host.Name) != (id == c.Home.Host.ID) || (name == state.Creator.Host) != (id == origin) || c.isOther(name, id) {
			return fmt.Errorf("the name %q means another host: %w", name, ErrForged)
		}
	}
	if author, ok := state.Host(e.From.Host); ok && c.isOther(e.From.Host, author) { // paired since
		return fmt.Errorf("the name %q means another host: %w", e.From.Host, ErrForged)
	}
	if p, ok := c.Book.ByID(origin); ok && state.Creator.Host != p.Name {
		return fmt.Errorf("it was created by an agent of %q, which is not the origin: %w", state.Creator.Host, ErrForged)
	}
	return nil
}

// isOther reports whether this host knows another one by a name.
func (c *Courier) isOther(name, id string) bool {
	known, ok := c.Book.HostID(name)
	return ok && known != id
}

func (c *Courier) signed(keys identity.Keys, e *envelope.Envelope) error {
	if !keys.VerifyText(e.Signed(), e.Signature) {
		return ErrForged
	}
	return nil
}

// consent answers a line that brings in agents of this host that cannot come or do not
// want to.
func (c *Courier) consent(origin string, e *envelope.Envelope) error {
	if e.Event != envelope.EventCreate && e.Event != envelope.EventInvite || e.From.Host == c.Home.Host.Name {
		return nil
	}
	for _, a := range e.Participants {
		if a.Host != c.Home.Host.Name {
			continue
		}
		place := declinedKey(e.Conversation, a)
		why := c.Router.Accepts(context.Background(), a, e.From)
		if why == nil || e.Request != "" && c.Agreed != nil && c.Agreed(e.Conversation, e.Request, a) {
			if before, _ := c.Index.Get(place); len(before) > 0 {
				c.index(place, nil)
			}
			continue
		}
		if err := c.decline(origin, e, a, why); err != nil {
			return err
		}
	}
	return nil
}

// decline queues that an agent does not come, and marks it so that nothing is delivered to
// it.
func (c *Courier) decline(origin string, e *envelope.Envelope, a envelope.Address, why error) error {
	c.index(declinedKey(e.Conversation, a), []byte{1})
	for _, answer := range []*envelope.Envelope{
		{
			ID: envelope.NamedID("declined", e.ID, a.Key()), Type: envelope.System, Event: envelope.EventUndeliverable,
			To: []string{e.From.String()}, About: e.ID, Why: router.OneLine(router.Translate(why, "").Message),
		},
		{ID: envelope.NamedID("declined-leave", e.ID, a.Key()), Type: envelope.Leave, Auto: true},
	} {
		answer.From, answer.Conversation, answer.After = a, e.Conversation, envelope.Int(e.Seq)
		if _, err := c.Post(context.Background(), origin, answer); err != nil {
			return fmt.Errorf("decline for %q: %w", a, err)
		}
	}
	return nil
}

func declinedKey(conversation string, a envelope.Address) string {
	return "declined:" + conversation + ":" + a.Key()
}

func (c *Courier) index(key string, value []byte) {
	if err := c.Index.Put(key, value); err != nil {
		c.Logger.Warn("index is not written", "err", err)
	}
}

// recallDeclined looks in a spool who is about to leave, because it did not want to come.
func (c *Courier) recallDeclined(b *box) {
	for _, item := range b.Behind(0, b.Len()) {
		if it, err := b.item(item.ID); err == nil && it.envelope.Type == envelope.Leave && it.envelope.Auto {
			c.index(declinedKey(it.envelope.Conversation, it.envelope.From), []byte{1})
		}
	}
}

// Declines reports whether an agent of this host did not want to come into a conversation
// when it was brought in last: it is given nothing of it.
func (c *Courier) Declines(conversation string, agent envelope.Address) bool {
	value, ok := c.Index.Get(declinedKey(conversation, agent))
	return ok && len(value) > 0
}

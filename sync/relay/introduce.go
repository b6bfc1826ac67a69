package relay

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"filippo.io/age"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
	"github.com/go-json-experiment/json"
)

const (
	maxIntroduced = 1000 // on one link
	recipientFile = "recipient.json"
	maxRecipient  = 4 << 10 // bytes of its line
)

// recipient is where to seal for a host, signed by it.
type recipient struct {
	Recipient string `json:"recipient,omitempty"`
	Sig       string `json:"sig,omitempty"`
}

// introduction is a host as its relay tells others of it.
type introduction struct {
	Name string `json:"name"`
	Keys string `json:"keys"`
	recipient
}

// recipientText is what is signed of a recipient.
func recipientText(host, recipient string) []byte {
	return fmt.Appendf(nil, "duo/age/1\n%s\n%s\n", host, recipient)
}

// recipientOf makes the line that a host says of itself.
func recipientOf(h *identity.Host, key *ageKey) recipient {
	text := key.recipient()
	return recipient{text, base64.StdEncoding.EncodeToString(h.Sign(recipientText(h.ID(), text)))}
}

// check reports whether the host with the keys has said so, and gives what age needs.
func (r recipient) check(keys identity.Keys) (age.Recipient, error) {
	if !verify(keys, recipientText(keys.ID(), r.Recipient), r.Sig) {
		return nil, errors.New("a recipient that its host has not signed")
	}
	return age.ParseX25519Recipient(r.Recipient)
}

// hearMail takes introductions and recipients.
func (l *line) hearMail(_ context.Context, f link.Frame) {
	defer l.session.Done(f)
	hear := l.introduced
	if f.Type == typeRecipient {
		hear = l.heardRecipient
	}
	var first error
	for _, text := range f.Lines {
		if err := hear(text); first == nil {
			first = err
		}
	}
	if first != nil {
		l.relay.o.Log.Warn("passed over some of what a peer has said", "peer", l.session.Host, "err", first)
	}
}

// introduced takes a line of introduce: only from a relay of this host.
func (l *line) introduced(text []byte) error {
	r := l.relay
	if !r.o.Book.Relay(l.session.Host) {
		return errors.New("an introduction by a host that is no relay of this one")
	}
	if l.met++; l.met > maxIntroduced {
		return nil
	}
	var i introduction
	if err := json.Unmarshal(text, &i); err != nil {
		return fmt.Errorf("an introduction that cannot be read: %w", err)
	}
	keys, err := identity.ParseKeys([]byte(i.Keys))
	if err == nil {
		err = envelope.CheckHost(i.Name)
	}
	if err != nil {
		return fmt.Errorf("an introduction that cannot be read: %w", err)
	}
	if keys.ID() == r.o.Host().ID() || keys.ID() == l.session.Host {
		return errors.New("an introduction of one of the two")
	}
	if err := r.o.Book.Introduced(l.session.Host, identity.Peer{Name: i.Name, Keys: keys}); err != nil {
		return fmt.Errorf("introduction of %q: %w", i.Name, err)
	}
	if i.Recipient == "" {
		return nil
	}
	if _, err := i.check(keys); err != nil {
		return fmt.Errorf("introduction of %q: %w", i.Name, err)
	}
	r.mu.Lock()
	r.recipients[keys.ID()] = i.recipient
	r.mu.Unlock()
	l.mu.Lock()
	l.seals[keys.ID()] = true
	l.mu.Unlock()
	return nil
}

// heardRecipient keeps where to seal for a host, and lets the others know where this one
// carries for it. That may begin later, and the host says it once on a link.
func (l *line) heardRecipient(text []byte) error {
	r, host := l.relay, l.session.Host
	keys, known := r.o.Book.Keys(host)
	if !known {
		return nil
	}
	var said recipient
	if err := json.Unmarshal(text, &said); err != nil {
		return fmt.Errorf("a recipient that cannot be read: %w", err)
	}
	if _, err := said.check(keys); err != nil {
		return err
	}
	if old := r.recipientFor(host); old.Recipient == said.Recipient && old.Sig == said.Sig {
		return nil
	}
	if !r.mayChange(host) {
		return errors.New("it changes where to seal for it too often")
	}
	data, err := json.Marshal(said)
	if err != nil {
		return fmt.Errorf("encode recipient: %w", err)
	}
	if err := durable.Replace(r.recipientPath(host), append(data, '\n'), 0o600); err != nil {
		return err
	}
	r.Changed()
	return nil
}

// mayChange bounds how often all the others have to hear of a host.
func (r *Relay) mayChange(host string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.account(host).changes.Allow()
}

func (r *Relay) recipientPath(host string) string {
	return filepath.Join(r.o.Folder(host), recipientFile)
}

// recipientFor reads what a peer has said, empty where that is nothing.
func (r *Relay) recipientFor(host string) (said recipient) {
	data, err := durable.ReadPlain(r.recipientPath(host), maxRecipient)
	if err == nil {
		err = json.Unmarshal(data, &said)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.o.Log.Warn("recipient cannot be read", "peer", host, "err", err)
	}
	return said
}

// give says what this host has to say on a line and gives what it holds for the peer,
// until the line ends.
func (l *line) give() {
	g := giver{line: l, said: make(map[string]string)}
	for {
		if err := g.step(); err != nil {
			return // the link has ended
		}
		select {
		case <-l.ctx.Done():
			return
		case <-l.wake:
		}
	}
}

// giver is what give knows of its link.
type giver struct {
	*line
	told  bool              // where to seal for this host
	said  map[string]string // introductions, by id
	given uint64            // the item that was given last
}

func (g *giver) step() error {
	if err := g.tellRecipient(); err != nil {
		return err
	}
	if !g.relay.carries(g.session.Host) {
		return nil
	}
	if err := g.introduce(); err != nil {
		return err
	}
	if g.unheard.Load() > 0 { // whom an item is from has to be known before
		return nil
	}
	return g.giveHeld()
}

// tellRecipient tells a relay of this host, once.
func (g *giver) tellRecipient() error {
	if g.told || !g.relay.o.Book.Relay(g.session.Host) {
		return nil
	}
	g.told = true
	return g.mailLines(typeRecipient, []any{recipientOf(g.relay.o.Host(), g.relay.age)})
}

// introduce tells the peer of the others that this host carries for, as far as there is
// something new.
func (g *giver) introduce() error {
	var news []any
	for _, p := range g.relay.o.Book.Carried() {
		id := p.Keys.ID()
		if id == g.session.Host {
			continue
		}
		i := introduction{p.Name, string(p.Keys.Text()), g.relay.recipientFor(id)}
		sum := i.Name + "\n" + i.Keys + i.Recipient + "\n" + i.Sig
		if g.said[id] == sum {
			continue
		}
		g.said[id] = sum
		news = append(news, i)
	}
	return g.mailLines(typeIntroduce, news)
}

// mailLines sends lines in as many frames as they need.
func (l *line) mailLines(kind string, lines []any) error {
	var all [][]byte
	for _, value := range lines {
		data, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("encode %s: %w", kind, err)
		}
		all = append(all, data)
	}
	for len(all) > 0 {
		n, size := 0, 0
		for n < len(all) && n < link.MaxLines && (n == 0 || size+len(all[n]) <= link.Full) {
			size += len(all[n])
			n++
		}
		l.unheard.Add(1)
		heard := func() { l.unheard.Add(-1); l.nudge() }
		if err := l.session.Send(l.ctx, link.Frame{Type: kind, Lane: link.Mail, Lines: all[:n:n], Acked: heard}); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

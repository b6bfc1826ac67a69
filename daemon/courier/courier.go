// Package courier brings what agents of this host say to the hosts that order their
// conversations, takes what agents of other hosts say here, and tells hosts how far
// messages have got with each other's agents.
//
// What is said waits in the spool of the origin, signed, until the line with its id, or
// one that says why it was refused, stands in the copy of the log that is here. A link
// may break at any time: the next one sends all that waits again, in order, and the id
// finds repeats. So the courier never asks what has become of a frame.
//
//	Post ──▶ spool ──submit──▶ origin: signature, rules ──▶ its log ──lines──▶ Copied ──▶ spool file goes
//	                   ◀─refused─ what cannot stand in a log ──▶ outbox/failed of the author
//
// docs/link.md states the frames.
package courier

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/spool"
)

// Index remembers values by key; daemon/index is one.
type Index interface {
	Get(key string) (value []byte, ok bool)
	Put(key string, value []byte) error
}

// Parts are what a courier works with.
type Parts struct {
	Home    *maildir.Home
	Host    func() *identity.Host // of this host, now: it signs
	Book    *peer.Book
	Ledger  *ledger.Ledger
	Router  *router.Router
	Deliver *deliver.Deliverer
	Index   Index
	// Agreed reports whether an agent of this host has accepted a call, or placed it: then it
	// wants the conversation that came of it. Nil is never.
	Agreed func(conversation, request string, agent envelope.Address) bool
	// Has is told that a host has the lines of a conversation of this host through seq, by
	// a submission that a relay has brought. It may be nil.
	Has    func(host, conversation string, seq int64)
	Logger *slog.Logger
	Now    func() time.Time // nil is time.Now
	Spool  spool.Limits     // of each peer
}

// Courier is a peer.Service. Its methods may be used by several goroutines.
type Courier struct {
	Parts

	links  atomic.Int64 // that are up
	mu     sync.Mutex
	boxes  map[string]*box      // by id of the host
	lines  map[string]*line     // links that are up, by id of the peer
	placed map[string]place     // where messages stand that have left a spool, by id
	owed   map[string][]refusal // by id of a host with which there is no link: what it is to be told
	guests map[string]*guest    // by id, those of which relays have held something
}

// box is what waits for one host.
type box struct {
	*spool.Spool
	host string
	away outgoing // guarded by the courier
}

// place is where a message stands; Seq is 0 where it has no line yet.
type place struct {
	Conversation string
	Seq          int64
}

// New returns a courier. What waits for the peers is looked up, so that it is known.
func New(p Parts) *Courier {
	c := &Courier{
		Parts: p, boxes: make(map[string]*box), lines: make(map[string]*line),
		placed: make(map[string]place), owed: make(map[string][]refusal), guests: make(map[string]*guest),
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	for _, one := range c.Book.Peers() {
		if _, err := os.Stat(c.Home.SpoolDir(one.Name)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		b, err := c.box(one)
		if err != nil {
			c.Logger.Error("spool is not opened", "peer", one.Name, "err", err)
			continue
		}
		c.recallDeclined(b)
	}
	return c
}

// box is the spool of a peer.
func (c *Courier) box(p peer.Peer) (*box, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.boxes[p.ID]; ok {
		return b, nil
	}
	s, err := spool.Open(c.Home.SpoolDir(p.Name), c.Spool)
	if err != nil {
		return nil, err
	}
	b := &box{Spool: s, host: p.ID}
	c.boxes[p.ID] = b
	return b, nil
}

func (c *Courier) allBoxes() []*box {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*box, 0, len(c.boxes))
	for _, b := range c.boxes {
		list = append(list, b)
	}
	return list
}

// Post queues a draft for the origin of its conversation, signed and durably; see
// router.Courier. It says After.
func (c *Courier) Post(_ context.Context, origin string, e *envelope.Envelope) (waits bool, err error) {
	p, ok := c.Book.ByID(origin)
	if !ok {
		return false, api.Errorf(api.HostNotFound, "the host that orders this conversation is not linked with this one").WithNext("duo peer list")
	}
	b, err := c.box(p)
	if err != nil {
		return false, api.Errorf(api.StorageFailed, "%w", err).WithNext("duo status")
	}
	if waits, err := c.waits(b, e); waits || err != nil {
		return waits, err
	}
	data, err := c.sign(e)
	if err != nil {
		return false, err
	}
	waits, err = b.Add(e.ID, data)
	switch {
	case errors.Is(err, spool.ErrFull):
		return false, api.Errorf(api.QueueFull, "%d messages wait for %s already", b.Len(), p.Name).WithNext("duo peer show %s", p.Name)
	case err != nil:
		return false, api.Errorf(api.StorageFailed, "it is not known whether this is stored; the same again, with the same id, does no harm: %w", err).WithNext("duo status")
	}
	c.Logger.Info("message is queued", "peer", p.Name, "conv", e.Conversation, "id", e.ID, "agent", e.From.Name)
	c.wake(origin)
	return waits, nil
}

// waits reports whether a draft waits already. Another one with its id is an error.
func (c *Courier) waits(b *box, e *envelope.Envelope) (bool, error) {
	there, err := b.item(e.ID)
	switch {
	case errors.Is(err, spool.ErrNotFound):
		return false, nil
	case err != nil:
		return false, api.Errorf(api.StorageFailed, "%w", err)
	case !same(there.envelope, e):
		return false, api.Errorf(api.KeyReused, "%w; take another key", ledger.ErrReused).WithNext("duo list")
	}
	return true, nil
}

// same reports whether two drafts say the same, whenever and knowing whatever.
func same(a, b *envelope.Envelope) bool {
	one, other := *a, *b
	for _, e := range []*envelope.Envelope{&one, &other} {
		e.After, e.Hosts, e.Raw = nil, nil, nil
	}
	return string(one.Signed()) == string(other.Signed())
}

// item is what is in a spool, and crosses.
type item struct {
	host     string
	sig      []byte
	line     []byte // all of it, in a spool
	text     []byte // of the envelope, as it is signed
	envelope *envelope.Envelope
	bad      error // why the envelope cannot be read; then it has its id, and nothing else
}

// sign makes of a draft a line of the spool.
func (c *Courier) sign(e *envelope.Envelope) ([]byte, error) {
	signed := e.Signed()
	text := signed[len(signedPrefix):]
	if again, err := envelope.Decode(text); err != nil || string(again.Signed()) != string(signed) {
		return nil, api.Errorf(api.Internal, "message %q cannot be signed: it reads back as another (%v)", e.ID, err)
	}
	host := c.Host()
	head, err := json.Marshal(struct {
		Host string `json:"host"`
		Sig  string `json:"sig"`
	}{host.ID(), base64.StdEncoding.EncodeToString(host.Sign(signed))})
	if err != nil {
		return nil, fmt.Errorf("encode signature: %w", err)
	}
	line := append(head[:len(head)-1], `,"envelope":`...)
	return append(append(line, text...), '}', '\n'), nil
}

const signedPrefix = "duo/envelope/1\n"

var errForm = errors.New("not a submission")

// parse reads a line of a spool, or of a submission. What is wrong with its envelope is
// for others to say, but it has an id.
func parse(line []byte) (it item, err error) {
	err = envelope.Members(line, func(name string, value json.RawMessage) error {
		switch name {
		case "host":
			return json.Unmarshal(value, &it.host)
		case "sig":
			return json.Unmarshal(value, &it.sig)
		case "envelope":
			it.text = append([]byte(nil), value...)
			if it.envelope, it.bad = envelope.Decode(it.text); it.bad != nil {
				it.envelope = &envelope.Envelope{ID: idOf(it.text)}
			}
		}
		return nil
	})
	if err == nil && (it.envelope == nil || it.envelope.ID == "") {
		err = errForm
	}
	return it, err
}

// idOf is the id in an envelope that cannot be read otherwise, empty where there is none.
func idOf(text []byte) (id string) {
	_ = envelope.Members(text, func(name string, value json.RawMessage) (err error) { // it is as far as it comes
		var found string
		if name == "id" && json.Unmarshal(value, &found) == nil {
			id, err = envelope.ParseID(found)
		}
		return err
	})
	return id
}

// item reads what waits under an id.
func (b *box) item(id string) (item, error) {
	data, err := b.Read(id)
	if err != nil {
		return item{}, err
	}
	it, err := parse(data)
	if err = cmp.Or(err, it.bad); err != nil {
		return item{}, fmt.Errorf("spool of %q, %q: %w", b.host, id, err)
	}
	it.line = data
	return it, nil
}

// Leaving reports whether the last that waits for a host of an agent's coming and going in a
// conversation is that it leaves; see router.Courier.
func (c *Courier) Leaving(origin, conversation string, agent envelope.Address) (leaving bool) {
	c.mu.Lock()
	b := c.boxes[origin]
	c.mu.Unlock()
	if b == nil {
		return false
	}
	for _, item := range b.Behind(0, b.Len()) {
		it, err := b.item(item.ID)
		if err == nil && it.envelope.Conversation == conversation && it.envelope.From.Same(agent) &&
			(it.envelope.Type == envelope.Leave || it.envelope.Type == envelope.Join) {
			leaving = it.envelope.Type == envelope.Leave
		}
	}
	return leaving
}

// wake makes the link with a host look at its spool.
func (c *Courier) wake(host string) {
	c.mu.Lock()
	l := c.lines[host]
	c.mu.Unlock()
	if l != nil {
		l.wake()
	}
}

// Copied is told of lines that are in the copy of a log here, on disk: what waits to be
// sent to its origin for them waits no more. Lines of others say nothing of that.
func (c *Courier) Copied(origin, conversation string, lines []ledger.Stored) {
	c.mu.Lock()
	b := c.boxes[origin]
	c.mu.Unlock()
	if b != nil {
		p, _ := c.Book.ByID(origin)
		for _, line := range lines {
			switch e := line.Envelope; {
			case e.From.Host == c.Home.Host.Name:
				c.arrived(b, e.ID, place{Conversation: conversation, Seq: e.Seq})
			case e.From.Host == p.Name && e.Event == envelope.EventUndeliverable:
				c.arrived(b, e.About, place{})
			}
		}
	}
	for _, l := range c.up() {
		l.grown(conversation)
	}
}

// up are the links that are up.
func (c *Courier) up() []*line {
	if c.links.Load() == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.lines))
}

// arrived takes a message out of a spool, for which a line stands somewhere.
func (c *Courier) arrived(b *box, id string, at place) {
	if !b.Has(id) {
		return
	}
	if err := b.Remove(id); err != nil {
		c.Logger.Warn("spool file is not removed", "peer", b.host, "id", id, "err", err) // sent again, and known by its id
		return
	}
	c.Logger.Info("message has come to its log", "conv", at.Conversation, "seq", at.Seq, "id", id)
	c.remember(id, at)
	c.Deliver.Wake()
}

// Cut queues again what agents of this host have said behind a line of a copy that was cut
// there, since the log of its origin has gone another way.
func (c *Courier) Cut(ctx context.Context, origin string, keep int64, lines []*envelope.Envelope) error {
	for _, line := range lines {
		e := *line
		e.Seq, e.Timestamp, e.Signature, e.Raw = 0, 0, "", nil
		after := keep // what the author knew behind that is no more
		if e.After != nil {
			after = min(after, *e.After)
		}
		e.After = &after
		_, err := c.Post(ctx, origin, &e)
		if known := new(api.Error); errors.As(err, &known) && known.Code == api.KeyReused {
			continue // something else waits with its id
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const maxPlaced = 4096

// remember notes where a message stands. What is forgotten is found by its conversation.
func (c *Courier) remember(id string, at place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.placed) >= maxPlaced {
		clear(c.placed)
	}
	if at.Seq > 0 {
		c.placed[id] = at
	}
}

// Find tells what is known of a message that was queued here: the envelope while it waits,
// else where it stands.
func (c *Courier) Find(id string) (waiting *envelope.Envelope, conversation string, seq int64, ok bool) {
	for _, b := range c.allBoxes() {
		if it, err := b.item(id); err == nil {
			return it.envelope, it.envelope.Conversation, 0, true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.placed[id]
	return nil, at.Conversation, at.Seq, ok
}

// Waiting counts what waits for a host.
func (c *Courier) Waiting(host string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.boxes[host]; ok {
		return b.Len()
	}
	return 0
}

// settled reports whether the copy of the log that is here has an answer to what waits
// already, and takes it out of the spool then.
func (c *Courier) settled(b *box, it item) bool {
	e := *it.envelope
	result, _, err := c.Ledger.Find(ledger.Line{Envelope: &e, After: *e.After})
	switch {
	case err == nil && result.Seq > 0:
		c.arrived(b, e.ID, place{Conversation: e.Conversation, Seq: result.Seq})
	case err == nil && c.Router.Answered(e.Conversation, e.ID, *e.After):
		c.arrived(b, e.ID, place{})
	default:
		return false
	}
	return true
}

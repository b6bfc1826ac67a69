// Package relay is how a host carries for two others that cannot reach each other, and
// how they let it carry. The relay is trusted to carry and with nothing else: it can
// neither read nor forge what passes.
//
// Live, it splices the bytes of a second connection of each, in which the two speak TLS
// and the whole link protocol. For a host that is away it keeps items, which are sealed
// for that host and signed by the sender; it deletes them when they are taken, or old.
// And it tells the hosts that it carries for of each other. docs/link.md states the
// protocol and the limits.
//
// A [Relay] does all three parts: those of the carrying host only for the hosts that the
// [Book] says it carries for, those of a carried one only with its relays.
package relay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"golang.org/x/time/rate"
)

// The frames of relays.
const (
	typeTunnel    = "tunnel"
	typeSplice    = "splice"
	typeIntroduce = "introduce"
	typeRecipient = "recipient"
	typeHold      = "hold"
	typeHeld      = "held"
	typeUnheld    = "unheld"
)

// Refused is a relay's word for why it does not carry something.
type Refused struct{ Code string }

func (r *Refused) Error() string {
	text := "the relay refuses: " + r.Code
	switch r.Code {
	case CodeUnknown:
		text += ", it carries not for both of the two (duo peer carry, there)"
	case CodeAway:
		text += ", the other host has no link with it now"
	}
	return text
}

// The words of a relay.
const (
	CodeUnknown   = "unknown" // it does not carry for one of the two
	CodeLoop      = "loop"    // what is carried already is not carried again
	CodeAway      = "away"
	CodeLimited   = "limited"
	CodeToken     = "token"
	CodeSignature = "signature"
	CodeLarge     = "large"
	CodeFull      = "full"
	CodeStorage   = "storage"
	CodeExpired   = "expired"
)

// maxWord is the longest word that is believed to be one.
const maxWord = 20

var (
	// ErrNoRelay means that there is no link with the host, or that it is no relay of
	// this one.
	ErrNoRelay = errors.New("no link with such a relay")
	// ErrBad is for what can never be taken, however often it is tried.
	ErrBad = errors.New("cannot be taken")
)

// Book is what a host knows of its peers.
type Book interface {
	// Carried are the hosts that this one carries for.
	Carried() []identity.Peer
	// Relay reports whether the host with the id carries for this one.
	Relay(id string) bool
	// Keys are those that are pinned for an id.
	Keys(id string) (identity.Keys, bool)
	// Introduced pins a host that a relay has told of, durably, as pairing would, with
	// the relay as the way to it. Of one that is pinned already it changes nothing but to
	// pin keys that follow. It refuses a name that another host has, its own, and more
	// hosts than one relay may bring.
	Introduced(via string, p identity.Peer) error
}

// Options are what a Relay needs.
type Options struct {
	Host  func() *identity.Host // as it is now
	Trust identity.Trust
	Book  Book
	// Dial connects to where the host with the id takes links.
	Dial func(ctx context.Context, id string) (net.Conn, error)
	// Folder is that of a peer, in which what is held for it lies.
	Folder func(id string) string
	// AgeKey is the file with the key for what is sealed for this host; Clock one for
	// how long items are held.
	AgeKey, Clock string
	// Apply takes a frame that a relay has held, as if it had come on a link with the
	// host that it is from. It returns when what the frame brings is on disk. An error
	// that is ErrBad drops the frame, after any other the same is tried again.
	Apply func(ctx context.Context, from string, f link.Frame) error
	// Expired hears that a relay keeps something for a host no more. It must not wait;
	// it may be nil.
	Expired func(to string)
	Limits  Limits
	Log     *slog.Logger
}

// Limits bound what a relay does for others. What is 0 is as docs/link.md says.
type Limits struct {
	Asks        int           // of one host that wait for both sides
	Splices     int           // of one host
	AllSplices  int           //
	Joining     int           // connections of one host that have not shown a token
	Rate        rate.Limit    // bytes that one host sends into splices in a second
	Idle        time.Duration // of a splice
	Life        time.Duration // of a splice
	PairItems   int           // held from one host for another
	PairBytes   int64         //
	SenderBytes int64         // held from one host
	HeldBytes   int64         // in all
	HeldTime    time.Duration // in which the daemon runs
}

func (l Limits) withDefaults() Limits {
	or(&l.Asks, 8)
	or(&l.Splices, 32)
	or(&l.AllSplices, 256)
	or(&l.Joining, 16)
	or(&l.Rate, 8<<20)
	or(&l.Idle, time.Minute)
	or(&l.Life, 24*time.Hour)
	or(&l.PairItems, 1000)
	or(&l.PairBytes, 16<<20)
	or(&l.SenderBytes, 64<<20)
	or(&l.HeldBytes, 1<<30)
	or(&l.HeldTime, 7*24*time.Hour)
	return l
}

func or[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// Relay is a [peer.Service]. Its methods may be used by several goroutines.
type Relay struct {
	o        Options
	age      *ageKey
	held     *store
	incoming chan *Conn
	tap      func([]byte) // sees what is spliced, in tests

	ctx    context.Context // ends with the Relay
	cancel context.CancelFunc

	mu         sync.Mutex
	ended      bool
	splicing   sync.WaitGroup      // calls of Serve
	lines      map[string]*line    // by the id of the peer
	accounts   map[string]*account // by the id of a host that this one carries for, or has
	halves     map[[sha256.Size]byte]*half
	sides      int                  // of splices, that are here
	recipients map[string]recipient // by the id of who seals for it
}

// New returns the relay of a host. It reads what is held.
func New(o Options) (*Relay, error) {
	o.Limits = o.Limits.withDefaults()
	key, err := openAgeKey(o.AgeKey)
	if err != nil {
		return nil, err
	}
	r := &Relay{
		o: o, age: key, incoming: make(chan *Conn),
		lines: make(map[string]*line), accounts: make(map[string]*account),
		halves: make(map[[sha256.Size]byte]*half), recipients: make(map[string]recipient),
	}
	if r.held, err = openStore(o); err != nil {
		return nil, err
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// Run lets what is held grow old, until ctx ends. Then it ends all splices, and returns
// when they have ended.
func (r *Relay) Run(ctx context.Context) error {
	tick := time.NewTicker(clockStep)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return r.end()
		case <-tick.C:
			now := time.Now()
			r.pass(now.Sub(last))
			last = now
		}
	}
}

// pass lets time pass for what is held, and tells the senders of what is deleted.
func (r *Relay) pass(passed time.Duration) {
	old, err := r.held.age(passed)
	if err != nil {
		r.o.Log.Error("what is held does not grow old", "err", err)
	}
	for _, i := range old {
		r.o.Log.Warn("what was held has expired", "peer", i.to, "id", i.id)
		if l := r.line(i.from); l != nil {
			l.lapse(unheldLine{To: i.to, ID: i.id, Code: CodeExpired})
		}
	}
}

func (r *Relay) end() error {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.cancel()
	r.splicing.Wait()
	return r.held.saveClock()
}

// Changed says that the book has changed: there is somebody to carry for, or no more.
func (r *Relay) Changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lines {
		l.nudge()
	}
}

// Types are the frames that are for a Relay.
func (r *Relay) Types() []string {
	return []string{typeTunnel, typeSplice, typeIntroduce, typeRecipient, typeHold, typeHeld, typeUnheld}
}

// Open begins the part of a link that is a Relay's.
func (r *Relay) Open(s *peer.Session) peer.Line {
	l := newLine(r, s)
	r.mu.Lock()
	r.lines[s.Host] = l
	r.mu.Unlock()
	l.start()
	return l
}

// closed forgets a line.
func (r *Relay) closed(l *line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lines[l.session.Host] == l {
		delete(r.lines, l.session.Host)
	}
}

// line is the one with a peer, nil where there is none.
func (r *Relay) line(id string) *line {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines[id]
}

// relayLine is the line with a relay of this host.
func (r *Relay) relayLine(via string) (*line, error) {
	l := r.line(via)
	if l == nil || !r.o.Book.Relay(via) {
		return nil, fmt.Errorf("%w: %q", ErrNoRelay, via)
	}
	return l, nil
}

// Way is a relay of this host with which a link is up, and that can hold frames for the
// host with an id.
func (r *Relay) Way(to string) (via string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, l := range r.lines {
		l.mu.Lock()
		seals := l.seals[to]
		l.mu.Unlock()
		if seals && r.o.Book.Relay(id) && (!ok || id < via) {
			via, ok = id, true
		}
	}
	return via, ok
}

// carried gives what the book says of a host that this one carries for.
func (r *Relay) carried(id string) (identity.Peer, bool) {
	for _, p := range r.o.Book.Carried() {
		if p.Keys.ID() == id {
			return p, true
		}
	}
	return identity.Peer{}, false
}

func (r *Relay) carries(id string) bool {
	_, ok := r.carried(id)
	return ok
}

package files

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
)

// The frames of an exchange.
const (
	typeGet  = "get"
	typeBlob = "blob"
)

const (
	pieceSize  = 64 << 10
	perLink    = 4  // blobs that are got from one host at a time, one piece of each
	maxAsks    = 16 // pieces that one host may wait for
	answerTime = 2 * time.Minute
	missRest   = 10 * time.Millisecond // behind what is not given
)

// Grant says whether a host may have a blob.
type Grant int

// The grants.
const (
	Refused Grant = iota
	NotYet        // what it names is not here yet, or may come
	Granted
)

// Peer is a host at the other end of a link.
type Peer struct{ ID, Name string }

// Sharer knows which place brings which blob.
type Sharer interface {
	// Shares says whether a place, as a peer has named it, lets the peer have a blob.
	Shares(ctx context.Context, peer Peer, place blob.Source, sum string) Grant
	// Line finds the line of a conversation that brings a blob, 0 where none does.
	Line(ctx context.Context, conversation, sum string) (int64, error)
}

// Tally counts what happens to blobs on links.
type Tally interface {
	File(what string)
}

// Exchange brings blobs from other hosts and gives them some: it is a service of links.
// docs/link.md has its frames, get and blob.
//
// Of each link two goroutines are the owners: one asks and stores, one reads and
// answers. What they have in hand is bounded, by what is asked for here and by maxAsks.
type Exchange struct {
	keeper *Keeper
	sharer Sharer
	tally  Tally // may be nil
	logger *slog.Logger
}

// NewExchange returns the exchange of a keeper.
func NewExchange(k *Keeper, sharer Sharer, logger *slog.Logger) *Exchange {
	return &Exchange{keeper: k, sharer: sharer, logger: logger}
}

// Count gives the exchange somebody who counts, before a link is opened.
func (x *Exchange) Count(t Tally) { x.tally = t }

func (x *Exchange) count(what string) {
	if x.tally != nil {
		x.tally.File(what)
	}
}

// Types are the frames of an exchange.
func (x *Exchange) Types() []string { return []string{typeGet, typeBlob} }

// Open takes part in a link.
func (x *Exchange) Open(s *peer.Session) peer.Line {
	l := &line{
		exchange: x, wants: x.keeper.wants, session: s, host: strings.ToLower(s.Name),
		wake: make(chan struct{}, 1), asks: make(chan ask, maxAsks), answers: make(chan answer, perLink),
		asked: make(map[string]ask), silent: make(map[string]bool), granted: make(map[blob.Source]string),
	}
	var ctx context.Context
	ctx, l.end = context.WithCancel(s.Context())
	l.wants.open(l)
	l.all.Go(func() { l.fetch(ctx) })
	l.all.Go(func() { l.serve(ctx) })
	return l
}

// line is the exchange with one host, as long as a link lasts.
type line struct {
	exchange *Exchange
	wants    *wants
	session  *peer.Session
	host     string
	end      context.CancelFunc
	all      sync.WaitGroup
	wake     chan struct{}
	asks     chan ask    // of the peer
	answers  chan answer // of the peer; there is room for all that is asked

	mu    sync.Mutex
	asked map[string]ask // what the peer has not answered, by sum

	granted map[blob.Source]string // of the goroutine that answers: what was shared at last

	busy   int             // guarded by wants: blobs that are got
	silent map[string]bool // guarded by wants: those that the peer does not answer
}

// ask is a piece that is asked for.
type ask struct {
	SHA256       string `json:"sha256"`
	From         int64  `json:"from"`
	To           int64  `json:"to"`
	Conversation string `json:"conversation,omitempty"`
	Seq          int64  `json:"seq,omitempty"`
	Request      string `json:"request,omitempty"`

	want *want     // of one that is asked for here
	at   time.Time // when it was
}

func (a ask) place(host string) blob.Source {
	return blob.Source{Host: host, Conversation: a.Conversation, Seq: a.Seq, Request: a.Request}
}

// answer is a piece, or that there is none.
type answer struct {
	SHA256  string `json:"sha256"`
	From    int64  `json:"from,omitempty"`
	Size    int64  `json:"size,omitempty"`    // of the whole blob
	Missing bool   `json:"missing,omitempty"` // it is not given
	Later   bool   `json:"later,omitempty"`   // but may be, if it is asked for again

	data []byte
	ask  ask
}

// Take is given what the peer asks and what it answers.
func (l *line) Take(f link.Frame) error {
	if f.Type == typeGet {
		return l.takeAsk(f)
	}
	return l.takeAnswer(f)
}

func (l *line) takeAsk(f link.Frame) error {
	var a ask
	if err := json.Unmarshal(f.Header, &a); err != nil {
		return link.Fault("a get that cannot be read")
	}
	if err := a.check(); err != nil || f.Number == 0 || f.Lane != link.Mail {
		return link.Fault("a get that is none: %v", err)
	}
	select {
	case l.asks <- a:
	default:
		return link.Fault("more than %d pieces at a time", maxAsks)
	}
	l.session.Done(f) // what is lost with the link is asked for again
	return nil
}

// check refuses what a host that keeps the rules does not ask.
func (a ask) check() error {
	if !blob.IsSum(a.SHA256) || a.From < 0 || a.To <= a.From || a.To-a.From > pieceSize {
		return fmt.Errorf("bytes %d to %d of %.70q", a.From, a.To, a.SHA256)
	}
	id := a.Conversation + a.Request
	if parsed, err := envelope.ParseID(id); err != nil || parsed != id || a.Seq < 0 || (a.Conversation == "") != (a.Seq == 0) {
		return fmt.Errorf("no place: %.70q, line %d", id, a.Seq)
	}
	return nil
}

func (l *line) takeAnswer(f link.Frame) error {
	var r answer
	if err := json.Unmarshal(f.Header, &r); err != nil || f.Number == 0 || f.Lane != link.Bulk {
		return link.Fault("a blob that cannot be read")
	}
	l.mu.Lock()
	a, ok := l.asked[r.SHA256]
	if ok {
		delete(l.asked, r.SHA256)
	}
	l.mu.Unlock()
	if !ok {
		return link.Fault("a blob that nobody has asked for")
	}
	r.ask, r.data = a, f.Data
	if err := r.check(); err != nil {
		return link.Fault("%v", err)
	}
	l.answers <- r // never waits
	l.session.Done(f)
	return nil
}

// check refuses an answer that is none to what was asked.
func (r answer) check() error {
	switch {
	case r.Missing && len(r.data) == 0:
		return nil
	case r.Missing || r.data == nil || r.From != r.ask.From || r.Size < 0:
		return fmt.Errorf("a blob that does not answer: from %d of %d", r.From, r.Size)
	case int64(len(r.data)) != max(0, min(r.ask.To, r.Size)-r.From):
		return fmt.Errorf("%d bytes where %d to %d of %d are asked for", len(r.data), r.ask.From, r.ask.To, r.Size)
	}
	return nil
}

// Close waits for what has come to be stored.
func (l *line) Close() {
	l.end()
	l.all.Wait()
	l.wants.close(l)
}

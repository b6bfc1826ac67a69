package copies

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
)

const (
	typeHeads = "heads"
	typeLines = "lines"
)

// headsHeader is the header of a heads frame.
type headsHeader struct {
	All bool `json:"all,omitempty"` // there are no more of them
}

// headLine is a line of a heads frame.
type headLine struct {
	Conversation string `json:"conversation"`
	Seq          int64  `json:"seq"`
	Hash         string `json:"hash,omitempty"`
	Fork         int64  `json:"fork,omitempty"`  // the replica has another line there, and nothing can be done
	Chain        string `json:"chain,omitempty"` // what the lines through it have come to
	Sig          string `json:"sig,omitempty"`   // of that, by the origin
	Probe        bool   `json:"probe,omitempty"` // is it the same there?
}

func (h headLine) proof() proof { return proof{h.Seq, h.Chain, h.Sig} }

// linesHeader is the header of a lines frame.
type linesHeader struct {
	Conversation string `json:"conversation"`
	Fork         int64  `json:"fork,omitempty"`  // who speaks has another line there, or none
	Agree        int64  `json:"agree,omitempty"` // the logs are the same through it
	Chain        string `json:"chain,omitempty"` // what the lines through the last one have come to
	Sig          string `json:"sig,omitempty"`   // of that, by the origin
	Hash         string `json:"hash,omitempty"`  // of the line before, where a relay holds the frame; see ledger.Head
}

const (
	shippers = 2 // in bulk
	appliers = 4
	hashSize = 64 // of a SHA-256 in hex
	maxSig   = 88 // of a signature in base64
)

// line is one link. Its goroutines are these, each with a queue of conversations:
//
//	say    tells the peer how far the replicas here are
//	mail   ships what is new, and looks at what the peer says of its replicas
//	bulk   ships to a replica that is far behind
//	apply  appends what has come
//	back   gives the peer lines of its own that it has lost
//
// All but apply wait for the link, and none of them holds what the peer waits for.
type line struct {
	service *Service
	session *peer.Session
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	say, mail, bulk, apply, back *work.Queue

	mu     sync.Mutex
	all    bool               // the peer has said what it has
	places map[string]*place  // of conversations of this host
	inlets map[string]*inlet  // of conversations of the peer
	halted map[string]Problem // of the peer's: nothing more is taken

	recalls  map[string]*recall  // of conversations of this host, of which the peer has more
	asked    map[string]headLine // of conversations of the peer: what it has, and wants the rest
	searches map[string]*search  // of conversations of the peer, which has other lines
	heals    map[string]int      // how many searches there were
}

func newLine(s *Service, session *peer.Session) *line {
	l := &line{
		service: s, session: session,
		say: work.New(), mail: work.New(), bulk: work.New(), apply: work.New(), back: work.New(),
		places: make(map[string]*place), inlets: make(map[string]*inlet), halted: make(map[string]Problem),
		recalls: make(map[string]*recall), asked: make(map[string]headLine), searches: make(map[string]*search), heals: make(map[string]int),
	}
	l.ctx, l.cancel = context.WithCancel(session.Context())
	return l
}

func (l *line) start() {
	l.running.Go(func() {
		l.finishCuts()
		l.sayAll()
		l.say.Run(l.ctx, 1, l.sayOne)
	})
	l.running.Go(func() { l.mail.Run(l.ctx, 1, l.shipMail) })
	l.running.Go(func() { l.bulk.Run(l.ctx, shippers, l.shipBulk) })
	l.running.Go(func() { l.apply.Run(l.ctx, appliers, l.applyNext) })
	l.running.Go(func() { l.back.Run(l.ctx, 1, l.giveBack) })
}

// Close waits for what is being appended; see peer.Line.
func (l *line) Close() {
	l.cancel()
	l.running.Wait()
	l.service.closed(l)
}

// Take keeps what a frame says; see peer.Line.
func (l *line) Take(f link.Frame) error {
	if f.Number == 0 { // what bounds it
		return link.Fault("%s in a lane without credit", f.Type)
	}
	if f.Type == typeHeads {
		return l.takeHeads(f)
	}
	return l.takeLines(f)
}

func (l *line) takeHeads(f link.Frame) error {
	var header headsHeader
	if json.Unmarshal(f.Header, &header) != nil {
		return link.Fault("heads that cannot be read")
	}
	for _, text := range f.Lines {
		var h headLine
		if json.Unmarshal(text, &h) != nil || h.Seq < 0 || h.Fork < 0 || max(len(h.Hash), len(h.Chain)) > hashSize || len(h.Sig) > maxSig {
			return link.Fault("a head that cannot be read")
		}
		l.takeHead(h)
	}
	if header.All {
		l.heardAll()
	}
	l.session.Done(f) // it says nothing that has to be kept
	return nil
}

// takeHead notes how far a replica of the peer is. Of conversations that do not concern
// the peer nothing is noted, unless the peer can prove that they did.
func (l *line) takeHead(h headLine) {
	here := l.service.Home.Host.ID
	origin, known := l.service.origin(h.Conversation)
	l.mu.Lock()
	p := l.places[h.Conversation]
	l.mu.Unlock()
	switch {
	case known && origin == l.session.Host:
		l.askedFor(h)
		return
	case p != nil, l.service.ships(h.Conversation, l.session.Name):
	case known && origin != "" && origin != here, h.Probe, !l.service.signed(here, h.Conversation, h.proof()):
		return
	}
	l.mu.Lock()
	if p = l.places[h.Conversation]; p == nil {
		p = &place{}
		l.places[h.Conversation] = p
	}
	halted := h.Fork > 0 && !p.halted
	p.halted = p.halted || halted
	if h.Probe {
		p.forked, p.probe = true, &h
	} else {
		p.healed, p.forked = p.healed || p.forked, false
		p.said, p.proof = &ledger.Head{Seq: h.Seq, Hash: h.Hash}, h.proof()
	}
	l.mu.Unlock()
	l.service.unknown(l.session.Name, h.Conversation) // until the two logs are compared
	if halted {
		l.service.report(l.session.Host, Problem{Conversation: h.Conversation, Seq: h.Fork, Fork: true, Text: "the replica has another line"})
		return
	}
	l.mail.Add(h.Conversation)
	l.bulk.Add(h.Conversation) // one of them has it
}

// heardAll ships from the start what the peer has not named.
func (l *line) heardAll() {
	l.mu.Lock()
	before := l.all
	l.all = true
	l.mu.Unlock()
	if before {
		return
	}
	for _, id := range l.service.shipped(l.session.Name) {
		l.mail.Add(id)
	}
}

func (l *line) takeLines(f link.Frame) error {
	var header linesHeader
	if json.Unmarshal(f.Header, &header) != nil {
		return link.Fault("lines that cannot be read")
	}
	id, err := envelope.ParseID(header.Conversation)
	if err != nil || id != header.Conversation || header.Fork < 0 || header.Agree < 0 ||
		len(f.Lines) == 0 && header.Fork == 0 && header.Agree == 0 {
		return link.Fault("lines of no conversation, or none")
	}
	origin, known := l.service.origin(id)
	switch {
	case origin == "" && l.recalling(id) || known && origin == l.service.Home.Host.ID: // also while its first lines come back
		if !l.takeOwn(id, header, f) {
			return link.Fault("lines of a conversation of this host that were not asked for")
		}
		return nil
	case known && origin != "" && origin != l.session.Host:
		return link.Fault("lines of a conversation of another host")
	case header.Fork > 0 && !known: // it has not begun here
	case header.Fork > 0 || header.Agree > 0:
		l.compared(id, header)
	case l.arrive(id, f):
		return nil
	}
	l.session.Done(f)
	return nil
}

package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/go-json-experiment/json"
)

const (
	maxAsks    = 16 // that a peer has said and nobody has looked at
	maxLapsed  = 64 // items of which the peer is still to hear that they have expired
	maxInvited = 8  // splices that this host joins at once, for each relay
)

// line is a link as a Relay sees it. It has a goroutine for each kind of work, so that
// what waits for a disk keeps no call from going through:
//
//	asks      tunnels that the peer wants
//	mail      introductions and recipients that have come
//	items     what is to be held, and what was held elsewhere
//	give      what this host has to say and to give
//	joins     one for each splice to which the peer invites
type line struct {
	relay   *Relay
	session *peer.Session
	ctx     context.Context
	cancel  context.CancelFunc
	group   sync.WaitGroup

	asks    chan tunnelAsk
	lapsed  chan unheldLine
	mail    queue
	items   queue
	invited chan struct{} // a token for each join
	wake    chan struct{} // a token when there may be something to give
	unheard atomic.Int32  // frames of mail that the peer has not acknowledged

	mu      sync.Mutex
	lastAsk uint64
	met     int // introductions; for the goroutine of mail alone
	answers map[uint64]chan spliceAnswer
	holding map[string]*string // by the id of an item: the word that refuses it
	taken   []item             // acknowledged by the peer and not deleted
	seals   map[string]bool    // ids of hosts for which the peer has said where to seal
}

// queue is numbered frames that wait; the credit of their lane bounds them.
type queue struct {
	mu     sync.Mutex
	frames []link.Frame
	wake   chan struct{}
}

func (q *queue) add(f link.Frame) {
	q.mu.Lock()
	q.frames = append(q.frames, f)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// work hands frames to do, one after the other, until ctx ends.
func (q *queue) work(ctx context.Context, do func(context.Context, link.Frame)) {
	for {
		q.mu.Lock()
		frames := q.frames
		q.frames = nil
		q.mu.Unlock()
		for _, f := range frames {
			if ctx.Err() != nil {
				return
			}
			do(ctx, f)
		}
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
	}
}

func newLine(r *Relay, s *peer.Session) *line {
	l := &line{
		relay: r, session: s,
		asks: make(chan tunnelAsk, maxAsks), lapsed: make(chan unheldLine, maxLapsed), invited: make(chan struct{}, maxInvited), wake: make(chan struct{}, 1),
		answers: make(map[uint64]chan spliceAnswer), holding: make(map[string]*string),
		seals: make(map[string]bool),
	}
	l.mail.wake, l.items.wake = make(chan struct{}, 1), make(chan struct{}, 1)
	l.ctx, l.cancel = context.WithCancel(s.Context())
	return l
}

func (l *line) start() {
	l.group.Go(l.answerAsks)
	l.group.Go(func() { l.mail.work(l.ctx, l.hearMail) })
	l.group.Go(func() { l.items.work(l.ctx, l.takeItem) })
	l.group.Go(l.give)
}

// Close ends all work for the link.
func (l *line) Close() {
	l.cancel()
	l.relay.closed(l)
	l.group.Wait()
	l.deleteTaken()
}

// Take puts a frame where its work is done.
func (l *line) Take(f link.Frame) error {
	switch f.Type {
	case typeIntroduce, typeRecipient:
		return l.put(&l.mail, f, link.Mail)
	case typeHold, typeHeld:
		if f.Data == nil {
			return fault(f, errors.New("nothing is in it"))
		}
		return l.put(&l.items, f, link.Bulk)
	case typeTunnel:
		return l.takeAsk(f)
	case typeSplice:
		return l.takeSplice(f)
	default:
		return l.takeUnheld(f)
	}
}

func (l *line) put(q *queue, f link.Frame, lane link.Lane) error {
	if f.Number == 0 || f.Lane != lane {
		return fault(f, fmt.Errorf("not in the lane %s", lane))
	}
	q.add(f)
	return nil
}

// say sends a frame of the call lane, unless the link ends before.
func (l *line) say(ctx context.Context, kind string, header any) error {
	data, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	return l.session.Send(ctx, link.Frame{Type: kind, Lane: link.Call, Header: data})
}

// nudge makes give look again.
func (l *line) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// read decodes a header. A peer that says what is none has broken a rule.
func read(f link.Frame, into any) error {
	if err := json.Unmarshal(f.Header, into); err != nil {
		return fault(f, err)
	}
	return nil
}

func fault(f link.Frame, err error) error {
	return link.Fault("%.20s: %v", f.Type, err)
}

// isID reports whether a text has the form of a host's id.
func isID(id string) bool {
	if len(id) != 52 {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

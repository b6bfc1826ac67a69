package courier

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/spool"
)

const (
	typeSubmit   = "submit"
	typeRefused  = "refused"
	typeReceipts = "receipts"
)

const (
	shortest   = time.Second // until what was refused for now is sent again
	longest    = time.Minute
	maxAnswers = 4096 // refusals that wait to be sent; others are said when it is submitted again
)

// Types are the frames that are for the courier.
func (c *Courier) Types() []string { return []string{typeSubmit, typeRefused, typeReceipts} }

// line is one link with a peer. Three goroutines belong to it: one deals with what comes,
// and waits for no frame to be sent; one sends what is in the spool; one sends answers
// and receipts.
//
//	Take ──▶ queue ──▶ work ──▶ answers ──▶ tell ──▶ peer
//	          spool ─────────▶ send ──────────────▶ peer
type line struct {
	guest
	session *peer.Session
	box     *box // nil where it cannot be opened
	cancel  context.CancelFunc
	all     sync.WaitGroup

	posted  chan struct{} // of size 1: there may be more in the spool
	came    chan struct{} // of size 1: there is more in the queue
	answers chan struct{} // of size 1: there is something to tell

	held bool // of work: a submission was put off, and what is behind it waits

	mu      sync.Mutex
	queue   []link.Frame // bounded by credit
	refused []refusal
	again   time.Time // when what was put off is sent again, zero for not
	backoff time.Duration
	stuck   uint64 // number of what was the first in the spool when it was put off last
	receipts
}

// refusal says why a submission is not taken.
type refusal struct {
	ID   string `json:"id"`
	Code string `json:"code"`
	Text string `json:"text,omitempty"`
}

// Open is called when a link is up.
func (c *Courier) Open(s *peer.Session) peer.Line {
	ctx, cancel := context.WithCancel(s.Context())
	l := &line{
		guest: c.guest(ctx, s.Host, s.Name), session: s, cancel: cancel, receipts: newReceipts(),
		posted: make(chan struct{}, 1), came: make(chan struct{}, 1), answers: make(chan struct{}, 1),
	}
	var err error
	if l.box, err = c.box(peer.Peer{ID: s.Host, Name: s.Name}); err != nil {
		c.Logger.Error("spool is not opened", "peer", s.Name, "err", err)
	}
	c.mu.Lock()
	c.lines[s.Host] = l
	c.lost(s.Host) // it is sent all that waits again
	c.mu.Unlock()
	c.links.Add(1)
	l.all.Go(l.work)
	l.all.Go(l.tell)
	if l.box != nil {
		l.all.Go(l.send)
	}
	return l
}

// Close ends what belongs to the link.
func (l *line) Close() {
	c := l.courier
	c.mu.Lock()
	if c.lines[l.session.Host] == l {
		delete(c.lines, l.session.Host)
	}
	c.mu.Unlock()
	c.links.Add(-1)
	l.cancel()
	l.all.Wait()
}

// Take queues a frame. Only those that have credit are the courier's, which bounds the
// queue.
func (l *line) Take(f link.Frame) error {
	if f.Number == 0 || f.Lane != link.Mail || f.Data != nil {
		return link.Fault("%s outside of its lane", f.Type)
	}
	l.mu.Lock()
	l.queue = append(l.queue, f)
	l.mu.Unlock()
	signal(l.came)
	return nil
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (l *line) wake() { signal(l.posted) }

// work deals with what the peer sends, in order.
func (l *line) work() {
	for {
		l.mu.Lock()
		batch := l.queue
		l.queue = nil
		l.mu.Unlock()
		for _, f := range batch {
			if l.ctx.Err() != nil {
				return
			}
			if err := l.take(f); err != nil {
				l.end(err)
				return
			}
			l.session.Done(f)
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-l.ctx.Done():
			return
		case <-l.came:
		}
	}
}

// end ends the link where the peer has broken a rule.
func (l *line) end(err error) {
	if l.ctx.Err() != nil {
		return
	}
	bye := new(link.Bye)
	if !errors.As(err, &bye) {
		bye = link.Fault("%v", err)
	}
	l.session.End(bye)
}

func (l *line) take(f link.Frame) error {
	switch f.Type {
	case typeSubmit:
		return l.takeSubmit(f)
	case typeRefused:
		return l.takeRefused(f)
	}
	return l.takeReceipts(f)
}

// send sends what is in the spool, from its front to its end, and what comes behind.
func (l *line) send() {
	sent, first := uint64(0), true
	for l.ctx.Err() == nil {
		items := l.box.Behind(sent, link.MaxLines)
		if len(items) == 0 {
			if l.rest() {
				sent, first = 0, true
			}
			continue
		}
		f := link.Frame{Type: typeSubmit, Lane: link.Mail}
		size := 0
		for _, item := range items {
			if size >= link.Full {
				break
			}
			sent = item.Number
			if it, waits := l.courier.load(l.box, item); waits {
				f.Lines = append(f.Lines, it.line)
				size += len(it.line)
			}
		}
		if len(f.Lines) == 0 {
			continue
		}
		if first {
			f.Header = []byte(`{"first":true}`)
		}
		first = false
		if err := l.session.Send(l.ctx, f); err != nil {
			return
		}
	}
}

// load reads an item, and reports whether it has still to be sent.
func (c *Courier) load(b *box, one spool.Item) (it item, waits bool) {
	it, err := b.item(one.ID)
	if err == nil && it.envelope.After == nil {
		err = errForm
	}
	if errors.Is(err, spool.ErrNotFound) {
		return it, false
	}
	if err != nil { // it stays: a person can look at it
		c.Logger.Error("spool file is not read", "peer", b.host, "id", one.ID, "err", err)
		return it, false
	}
	it.line = bytes.TrimSuffix(it.line, []byte("\n"))
	return it, !c.settled(b, it)
}

// rest waits until there may be more to send. It reports whether all has to be sent again,
// because the peer has put something off.
func (l *line) rest() bool {
	l.mu.Lock()
	again := l.again
	l.mu.Unlock()
	var due <-chan time.Time
	if !again.IsZero() {
		timer := time.NewTimer(again.Sub(l.courier.Now()))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-l.ctx.Done():
	case <-l.posted:
	case <-due:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.again = time.Time{}
		return true
	}
	return false
}

// putOff makes all that waits be sent again, after a while, which is longer each time that
// the first of it has not got further.
func (l *line) putOff() {
	first := uint64(0)
	if items := l.box.Behind(0, 1); len(items) > 0 {
		first = items[0].Number
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.again.IsZero() {
		return
	}
	if first != l.stuck {
		l.stuck, l.backoff = first, 0
	}
	l.backoff = min(longest, max(shortest, 2*l.backoff))
	l.again = l.courier.Now().Add(l.backoff)
	signal(l.posted)
}

// takeRefused brings what the peer does not take back to its authors.
func (l *line) takeRefused(f link.Frame) error {
	for _, text := range f.Lines {
		var r refusal
		if err := json.Unmarshal(text, &r); err != nil {
			return link.Fault("a refusal that cannot be read")
		}
		switch {
		case l.box == nil:
		case r.later(): // also of one that has come back since: those behind it wait to be sent again
			l.putOff()
		case !l.box.Has(r.ID):
		default:
			l.courier.handBack(l.box, l.name, r)
		}
	}
	return nil
}

// handBack brings what a host does not take back to its author.
func (c *Courier) handBack(b *box, name string, r refusal) {
	it, err := b.item(r.ID)
	if err == nil && bounces(it.envelope) {
		why := api.Errorf(api.NotSent, "%s has refused it: %s", name, router.OneLine(r.Text))
		err = c.Router.Bounce(it.envelope.From.Name, it.envelope, why)
	}
	if err != nil {
		c.Logger.Error("refused message is not handed back", "peer", name, "id", r.ID, "err", err)
		return
	}
	c.Logger.Warn("message was refused", "peer", name, "conv", it.envelope.Conversation, "id", r.ID, "code", router.OneLine(r.Code))
	if err := b.Remove(r.ID); err != nil {
		c.Logger.Warn("spool file is not removed", "peer", name, "id", r.ID, "err", err)
	}
	c.Deliver.Wake()
}

// bounces reports whether an agent has said it, and not its host for it.
func bounces(e *envelope.Envelope) bool { return e.Event != envelope.EventUndeliverable && !e.Auto }

// answer queues a refusal for the peer. Where too many wait, it is said when the peer
// submits the same again.
func (l *line) answer(r refusal) {
	l.mu.Lock()
	if len(l.refused) < maxAnswers || r.later() {
		l.refused = append(l.refused, r)
	}
	l.mu.Unlock()
	signal(l.answers)
}

// tell sends refusals and receipts.
func (l *line) tell() {
	l.gather()
	for l.ctx.Err() == nil {
		l.mu.Lock()
		batch := l.refused
		l.refused = nil
		l.mu.Unlock()
		var texts [][]byte
		for _, r := range batch {
			if text, err := json.Marshal(r); err == nil {
				texts = append(texts, text)
			}
		}
		if l.sendLines(typeRefused, texts) != nil {
			return
		}
		wait, err := l.tellReceipts()
		if err != nil {
			return
		}
		var due <-chan time.Time
		var timer *time.Timer
		if wait > 0 {
			timer = time.NewTimer(wait)
			due = timer.C
		}
		select {
		case <-l.ctx.Done():
		case <-l.answers:
		case <-due:
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// sendLines sends lines in as many frames as they need.
func (l *line) sendLines(kind string, texts [][]byte) error {
	for len(texts) > 0 {
		n, size := 0, 0
		for n < len(texts) && n < link.MaxLines && size < link.Full {
			size += len(texts[n])
			n++
		}
		if err := l.session.Send(l.ctx, link.Frame{Type: kind, Lane: link.Mail, Lines: texts[:n]}); err != nil {
			return err
		}
		texts = texts[n:]
	}
	return nil
}

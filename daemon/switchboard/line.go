package switchboard

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"golang.org/x/time/rate"
)

// The frames of calls.
const (
	typeCall   = "call"
	typeAnswer = "answer"
	typeTyping = "typing"
)

// What waits on one link, and how fast it is dealt with. A host that keeps to what it may
// send stays far below what is taken here.
const (
	maxRecords    = 16      // that the other host has not said it has
	maxRecordSize = 4 << 20 // bytes of them, when there are several
	maxAsks       = 64      // answers and questions that no record has come for
	maxTaken      = 160     // frames that wait here
	maxTakenSize  = 24 << 20
	maxRefusals   = 1024
	maxDues       = 100_000
	takeRate      = 100 // frames a second
	takeBurst     = 200
	typingRate    = 20 // frames a second
	typingBurst   = 40
	maxTyping     = 32
)

// Service is the switchboard as a service of links.
func (s *Switchboard) Service() peer.Service { return service{s} }

type service struct{ *Switchboard }

func (service) Types() []string { return []string{typeCall, typeAnswer, typeTyping} }

// Open begins with a link: one goroutine says what there is to say, one deals with what
// has come.
func (s service) Open(session *peer.Session) peer.Line {
	l := &line{
		board: s.Switchboard, session: session,
		saying: make(chan struct{}, 1), taking: make(chan struct{}, 1), typings: make(chan *envelope.Envelope, maxTyping),
		refused: make(map[string][]answer), refusals: make(map[string][]answer),
		pace: rate.NewLimiter(takeRate, takeBurst), typed: rate.NewLimiter(typingRate, typingBurst), heard: rate.NewLimiter(2*typingRate, 2*typingBurst),
	}
	l.records, l.asks = newDues(l.saying, maxRecords, maxRecordSize), newDues(l.saying, maxAsks, maxTakenSize)
	l.ctx, l.stop = context.WithCancel(context.Background())
	s.linkBegins(l)
	l.work.Go(l.say)
	l.work.Go(l.deal)
	return l
}

// line is what is said and heard of calls on one link.
type line struct {
	board   *Switchboard
	session *peer.Session
	ctx     context.Context
	stop    context.CancelFunc
	work    sync.WaitGroup
	saying  chan struct{} // a token when there may be something to say
	taking  chan struct{} // a token when a frame has come
	records *dues         // of requests of this host that the other one has to have
	asks    *dues         // of copies that are answered, or of which the record is asked for
	typings chan *envelope.Envelope
	pace    *rate.Limiter
	typed   *rate.Limiter // of what is said
	heard   *rate.Limiter

	mu       sync.Mutex
	taken    []link.Frame
	size     int                 // bytes of them
	haves    []answer            // that something was taken
	refused  map[string][]answer // what the next record of a request says of answers
	refusals map[string][]answer // answers for requests of which there is no copy
}

// answer is one line of an answer frame.
type answer struct {
	Request string           `json:"request"`
	Event   string           `json:"event"`
	Agent   envelope.Address `json:"agent,omitzero"`
	Reason  string           `json:"reason,omitempty"`
	There   bool             `json:"there,omitempty"`
	Met     string           `json:"met,omitempty"`
}

// The events of answers.
const (
	sayAccept = "accept"
	sayReject = "reject"
	sayBusy   = "busy"
	sayHave   = "have" // the record is on disk here
	sayAsk    = "ask"  // how is it?
)

var events = map[string]call.Event{sayAccept: call.Accept, sayReject: call.Reject, sayBusy: call.RejectBusy}

func answerOf(request string, a call.Answer) answer {
	word := map[call.Event]string{call.Accept: sayAccept, call.Reject: sayReject, call.RejectBusy: sayBusy}[a.Event]
	return answer{Request: request, Event: word, Agent: a.Agent, Reason: a.Reason, There: a.There, Met: a.Met}
}

// Take keeps a frame for the goroutine that deals with it.
func (l *line) Take(f link.Frame) error {
	defer l.session.Done(f)
	if f.Type == typeTyping && !l.heard.AllowN(l.board.Now(), 1) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range f.Lines {
		l.size += len(text)
	}
	if len(l.taken) >= maxTaken || l.size > maxTakenSize {
		return link.Fault("more calls than may wait")
	}
	l.taken = append(l.taken, f)
	nudge(l.taking)
	return nil
}

func nudge(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// Close ends what the line does and waits for it.
func (l *line) Close() {
	l.stop()
	l.work.Wait()
	l.board.linkEnds(l)
}

func (l *line) next() (f link.Frame, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.taken) == 0 {
		return f, false
	}
	f = l.taken[0]
	l.taken = l.taken[1:]
	for _, text := range f.Lines {
		l.size -= len(text)
	}
	return f, true
}

// deal deals with the frames that have come, not too fast.
func (l *line) deal() {
	for {
		f, ok := l.next()
		if !ok {
			select {
			case <-l.taking:
				continue
			case <-l.ctx.Done():
				return
			}
		}
		wait := l.pace.ReserveN(l.board.Now(), 1).DelayFrom(l.board.Now())
		for try := 0; ; try++ {
			if wait > 0 && !l.pause(wait) {
				return
			}
			err := l.dealWith(f)
			var bye *link.Bye
			if errors.As(err, &bye) {
				l.session.End(bye)
				return
			}
			if err == nil {
				break
			}
			l.board.Logger.Error("call from another host waits", "peer", l.session.Name, "err", err)
			wait = min(retryAfter<<min(try, 10), retryMax)
		}
	}
}

// pause waits, and reports whether the line goes on.
func (l *line) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return l.ctx.Err() == nil
	case <-l.ctx.Done():
		return false
	}
}

// dealWith does what a frame asks for. What has begun is done to its end. The error is a
// goodbye, or says that it has to be done again.
func (l *line) dealWith(f link.Frame) error {
	ctx := context.WithoutCancel(l.ctx)
	switch f.Type {
	case typeCall:
		if len(f.Lines) != 1 {
			return link.Fault("a call of %d lines", len(f.Lines))
		}
		got, err := l.board.readRecord(l.session, f.Lines[0])
		if err != nil {
			return err
		}
		l.asks.landed(got.ID)
		if err := l.board.receive(ctx, l, got); err != nil {
			return err
		}
		l.have(got.ID)
	case typeAnswer:
		for _, text := range f.Lines {
			if err := l.answered(ctx, text); err != nil {
				return err
			}
		}
	case typeTyping:
		if len(f.Lines) != 1 {
			return link.Fault("typing of %d lines", len(f.Lines))
		}
		return l.board.heardTyping(ctx, l, f.Lines[0])
	}
	return nil
}

// have says that a record is taken.
func (l *line) have(id string) {
	l.mu.Lock()
	l.haves = append(l.haves, answer{Request: id, Event: sayHave})
	l.mu.Unlock()
	nudge(l.saying)
}

// refuse answers a request of which there is no copy.
func (l *line) refuse(id string, list []call.Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.refusals) >= maxRefusals {
		return
	}
	l.refusals[id] = nil
	for _, a := range list {
		l.refusals[id] = append(l.refusals[id], answerOf(id, a))
	}
	l.asks.add(id)
}

// refuseAll answers for all who are called here that it is not possible now.
func (l *line) refuseAll(got record, reason string) {
	var list []call.Answer
	for _, c := range got.Callees {
		if l.board.isLocal(c.Agent) && (c.State != call.Busy || c.Reason != reason) { // which it has not heard yet
			list = append(list, call.Answer{Agent: c.Agent, Event: call.RejectBusy, Reason: reason})
		}
	}
	if len(list) > 0 {
		l.refuse(got.ID, list)
	}
}

// answered takes a line of what the host of callees says.
func (l *line) answered(ctx context.Context, text []byte) error {
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return link.Fault("an answer that cannot be read")
	}
	if id, err := envelope.ParseID(a.Request); err != nil || id != a.Request {
		return link.Fault("an answer to %.40q", a.Request)
	}
	event, ok := events[a.Event]
	switch {
	case a.Event == sayHave:
		l.records.landed(a.Request)
		return nil
	case !ok: // also what a later version says
		l.records.add(a.Request)
		return nil
	case a.Agent.Host != l.session.Name:
		return link.Fault("an answer of %s", a.Agent)
	}
	if err := (&envelope.Envelope{Reason: a.Reason}).Check(0); err != nil {
		return link.Fault("an answer with another reason than one line of text")
	}
	refusal, err := l.board.answeredFar(ctx, a, event)
	if err != nil {
		return err
	}
	if refusal {
		l.mu.Lock()
		if list := l.refused[a.Request]; len(l.refused) < maxRefusals && len(list) < maxRefusals {
			l.refused[a.Request] = append(list, answer{Request: a.Request, Event: a.Event, Agent: a.Agent})
		}
		l.mu.Unlock()
	}
	l.records.add(a.Request)
	return nil
}

// say says what there is to say, until the link ends. What is sent is what is so at that
// moment.
func (l *line) say() {
	for {
		f, ok := l.frame()
		if !ok {
			select {
			case <-l.saying:
				continue
			case e := <-l.typings:
				f = link.Frame{Type: typeTyping, Lines: [][]byte{e.Append(nil)}}
			case <-l.ctx.Done():
				return
			}
		}
		f.Lane = link.Call
		if err := l.session.Send(l.ctx, f); err != nil && l.ctx.Err() == nil && l.session.Context().Err() == nil {
			l.board.Logger.Error("call is not sent", "peer", l.session.Name, "err", err) // one that is too large
		}
	}
}

// frame is what is to be said next: what was taken, then answers, then records.
func (l *line) frame() (link.Frame, bool) {
	l.mu.Lock()
	haves := l.haves[:min(len(l.haves), maxAsks)]
	l.haves = l.haves[len(haves):]
	l.mu.Unlock()
	if len(haves) > 0 {
		return answers(haves), true
	}
	for {
		id, ok := l.asks.next()
		if !ok {
			break
		}
		if list := l.answersTo(id); len(list) > 0 {
			l.asks.flies(id, 0)
			return answers(list), true
		}
	}
	for {
		id, ok := l.records.next()
		if !ok {
			return link.Frame{}, false
		}
		text, err := l.recordOf(id)
		if err != nil { // the other host asks again on the next link
			l.board.Logger.Error("record of a call is not read", "id", id, "err", err)
			continue
		}
		l.records.flies(id, len(text))
		return link.Frame{Type: typeCall, Lines: [][]byte{text}}, true
	}
}

func answers(list []answer) link.Frame {
	f := link.Frame{Type: typeAnswer}
	for _, a := range list {
		text, _ := json.Marshal(a) // texts always have a JSON form
		f.Lines = append(f.Lines, text)
	}
	return f
}

// answersTo is what this host says of a request of the other one: the answers that its
// record does not show, or else the question how it is.
func (l *line) answersTo(id string) (list []answer) {
	l.mu.Lock()
	list = l.refusals[id]
	delete(l.refusals, id)
	l.mu.Unlock()
	e := l.board.entry(id)
	if len(list) > 0 || e == nil || !e.copy {
		return list
	}
	r := e.now.Load()
	for _, a := range r.Far.Answers {
		list = append(list, answerOf(id, a))
	}
	if len(list) == 0 {
		list = []answer{{Request: id, Event: sayAsk}}
	}
	return list
}

// recordOf is what the other host is told of a request of this one.
func (l *line) recordOf(id string) ([]byte, error) {
	l.mu.Lock()
	refused := l.refused[id]
	delete(l.refused, id)
	l.mu.Unlock()
	r, err := l.board.Get(id)
	if err != nil && !unknown(err) {
		return nil, err
	}
	got := record{Request: call.Request{ID: id}, Gone: true}
	if err == nil && r.Far == nil && calls(r, l.session.Name) {
		got = l.board.recordOf(r, refused)
	}
	return json.Marshal(got)
}

// unknown reports whether there is no such request.
func unknown(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == api.RequestNotFound
}

// dues are the ids of which something has to be said. What was said of one is not said
// again before the other host has answered it, and of not too many at a time.
type dues struct {
	wake    chan struct{}
	most    int
	maxSize int

	mu     sync.Mutex
	order  []string
	due    map[string]struct{} // in order
	flying map[string]int      // said and not answered, with its size
	size   int                 // of them
}

func newDues(wake chan struct{}, most, maxSize int) *dues {
	return &dues{wake: wake, most: most, maxSize: maxSize, due: make(map[string]struct{}), flying: make(map[string]int)}
}

func (d *dues) add(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.due[id]; !ok && len(d.due) < maxDues {
		d.due[id] = struct{}{}
		d.order = append(d.order, id)
		nudge(d.wake)
	}
}

// next takes the first id of which something may be said now.
func (d *dues) next() (id string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.flying) >= d.most || d.size >= d.maxSize {
		return "", false
	}
	for i, id := range d.order {
		if _, flies := d.flying[id]; flies {
			continue
		}
		copy(d.order[1:i+1], d.order[:i])
		d.order = d.order[1:]
		delete(d.due, id)
		return id, true
	}
	return "", false
}

func (d *dues) flies(id string, size int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flying[id] = size
	d.size += size
}

// landed says that the other host has answered what was said of an id.
func (d *dues) landed(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	size, ok := d.flying[id]
	if !ok {
		return
	}
	delete(d.flying, id)
	d.size -= size
	nudge(d.wake)
}

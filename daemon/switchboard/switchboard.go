// Package switchboard connects calls: it keeps the records of requests, tells those who
// are called and those who call, makes the conversations that come of them, and hangs
// up. What may happen to a request is decided in daemon/call; docs/calls.md has it all.
//
// A record is written before anybody learns of a change, and everything that follows
// from it can be done again: after a crash Recover does.
//
// The host of the caller has the record of a request and decides. Where agents of other
// hosts are called, each of these hosts has a copy, which is an entry like any other: it
// can be answered at once, and follows what the record says. [Switchboard.Service] carries
// both over the links.
package switchboard

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/presence"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	retryAfter = time.Second // for what the disk did not take
	retryMax   = time.Minute // after many failures in a row
)

// Parts are what a switchboard works with.
type Parts struct {
	Home     *maildir.Home
	Ledger   *ledger.Ledger
	Router   *router.Router
	Deliver  *deliver.Deliverer
	Presence *presence.Book
	Observed func(*envelope.Envelope) // tells those who watch
	Logger   *slog.Logger
	Now      func() time.Time
	Far      func(envelope.Address) (presence.Presence, bool) // of an agent of another host; nil for none
	// Wanted asks a host for the files that its call brings; nil for none.
	Wanted func(host, request string, list []envelope.Attachment) error
	Typing func(e *envelope.Envelope, to []envelope.Address) // tells agents of this host; may be nil
}

// Switchboard holds the calls of one home. Its methods may be used by several
// goroutines.
type Switchboard struct {
	Parts
	records records
	refs    *maildir.Refs
	rings   *work.Queue // ids of requests: something may be due
	hangups *work.Queue // ids of conversations: the call may be over

	mu      sync.Mutex
	open    map[string]*entry              // by id
	calls   map[string]*entry              // by id of the conversation: calls that last, or that others can join
	inCalls map[string]map[string]struct{} // the conversations of each agent, by its name in lower case
	over    []ended                        // not long ago, oldest first
	hosts   map[string]*host               // others that were linked or have copies here, by name
	began   time.Time
}

// entry is a request of which something can still come. Its lock is held while a change
// is made, from the decision until everybody knows. Who holds it may take the lock of a
// request that was not known before, of a request of this host that of a copy, and that
// of the switchboard, in this order.
type entry struct {
	from envelope.Address // of the request; never changed
	to   []envelope.Address
	copy bool                         // the record is another host's
	now  atomic.Pointer[call.Request] // as it is written, for those who do not hold the lock

	mu      sync.Mutex
	request call.Request
	version uint64        // counts what was written
	spread  uint64        // the version that other hosts were told
	watched string        // what those who watch were told last
	fails   int           // in a row, of what follows from the record
	gone    bool          // it is in open no more
	moved   chan struct{} // closed at the next change, nil where nobody waits
}

func newEntry(r call.Request) *entry {
	e := &entry{from: r.From, to: r.To, copy: r.Far != nil}
	e.set(r)
	return e
}

// set notes what is written. The caller holds the entry's lock.
func (e *entry) set(r call.Request) {
	e.request = r
	e.version++
	e.now.Store(&r)
	e.move()
}

// move wakes who waits for a change. The caller holds the entry's lock.
func (e *entry) move() {
	if e.moved != nil {
		close(e.moved)
		e.moved = nil
	}
}

// forget takes an entry out. The caller holds the entry's lock.
func (s *Switchboard) forget(e *entry) {
	e.gone = true
	e.move()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, e.request.ID)
	delete(s.calls, s.conversation(e.request))
	if e.copy {
		s.hostOf(e.from.Host).uncount(e.request)
	}
}

// New returns a switchboard that knows the requests of before; Run starts it.
func New(parts Parts) (*Switchboard, error) {
	s := &Switchboard{
		Parts: parts, rings: work.New(), hangups: work.New(),
		open: make(map[string]*entry), calls: make(map[string]*entry), inCalls: make(map[string]map[string]struct{}),
		hosts: make(map[string]*host), began: parts.Now(),
	}
	ids, err := s.records.openIn(parts.Home.RequestsDir(), parts.Now())
	if err != nil {
		return nil, err
	}
	s.refs = maildir.NewRequestRefs(ids)
	s.load()
	return s, nil
}

// load takes in the calls of before the start. Nobody is told of them yet, but they can
// be answered: a drop may do so before Recover.
func (s *Switchboard) load() {
	requests, bad := s.records.loadOpen()
	for name, err := range bad {
		s.Logger.Error("record of a call is not read", "path", name, "err", err)
	}
	for _, r := range requests {
		s.open[r.ID] = newEntry(r)
		if r.Far != nil {
			s.hostOf(r.From.Host).count(r)
		}
		if err := s.keepMeeting(r); err != nil { // on a full disk; it is tried again
			s.Logger.Error("record of a call is not kept", "id", r.Met, "err", err)
		}
	}
}

// Refs are the references of the requests.
func (s *Switchboard) Refs() *maildir.Refs { return s.refs }

// Run looks after calls until ctx ends.
func (s *Switchboard) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() { s.rings.Run(ctx, 2, s.ring) })
	all.Go(func() { s.hangups.Run(ctx, 2, s.hangup) })
	all.Wait()
	return nil
}

// Recover goes on with the calls of before the start. When it returns, it is known who is
// in a call; the rest is done by Run.
func (s *Switchboard) Recover(ctx context.Context) {
	for _, e := range s.entries() {
		e.mu.Lock()
		r := e.request
		e.mu.Unlock()
		if r.Conversation != "" {
			s.ring(ctx, r.ID)
		} else {
			s.rings.Add(r.ID)
		}
	}
}

// entries lists all requests of which something can still come.
func (s *Switchboard) entries() []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.open))
}

// Signal takes what an agent says of a call. Errors are of type *api.Error or for the
// router to translate.
func (s *Switchboard) Signal(ctx context.Context, actor router.Actor, e *envelope.Envelope) (router.Outcome, error) {
	switch e.Type {
	case envelope.Call:
		return s.place(ctx, actor.Agent, e)
	case envelope.Accept:
		return s.accept(ctx, actor.Agent, e)
	case envelope.Reject:
		event := call.Reject
		if e.Busy {
			event = call.RejectBusy
		}
		return s.change(ctx, actor.Agent, e, event)
	default:
		return s.change(ctx, actor.Agent, e, call.Cancel)
	}
}

func (s *Switchboard) entry(id string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[id]
}

// Told is what an agent is told of the call that a reference means.
func (s *Switchboard) Told(agent envelope.Address, ref string) (*envelope.Envelope, error) {
	id, err := s.Resolve(ref)
	if err != nil {
		return nil, err
	}
	r, err := s.Get(id)
	if err != nil {
		return nil, err
	}
	return For(agent, r), nil
}

// Get returns a request, also one that nothing can come of any more.
func (s *Switchboard) Get(id string) (call.Request, error) {
	if e := s.entry(id); e != nil {
		e.mu.Lock()
		r, gone := e.request, e.gone
		e.mu.Unlock()
		if !gone {
			return r, nil
		}
	}
	return s.done(id)
}

// done is a request that is put away.
func (s *Switchboard) done(id string) (call.Request, error) {
	r, err := s.records.done(id)
	if errors.Is(err, fs.ErrNotExist) {
		err = api.Errorf(api.RequestNotFound, "there is no record of call %s", s.refs.Short(id)).WithNext("duo inbox")
	}
	return r, err
}

// List returns the requests that an agent has placed or was called with, of which
// something can still come.
func (s *Switchboard) List(agent envelope.Address) []call.Request {
	var list []call.Request
	for _, e := range s.entries() {
		e.mu.Lock()
		r := e.request
		e.mu.Unlock()
		if r.From.Same(agent) || s.asks(r, agent) {
			list = append(list, r)
		}
	}
	sortByTime(list)
	return list
}

// maxPast is how many records of calls that are over are read for one answer.
const maxPast = 1000

// Past returns those requests that an agent has placed or was called with, of which nothing
// can come any more: at most so many, the last one first. It looks at the newest ones of all
// agents, and says how many it has not looked at.
func (s *Switchboard) Past(ctx context.Context, agent envelope.Address, most int) (list []call.Request, more int) {
	ids := s.records.ended()
	for i, id := range ids {
		if i == maxPast || len(list) == most || ctx.Err() != nil {
			return list, len(ids) - i
		}
		r, err := s.records.done(id)
		if err == nil && (r.From.Same(agent) || s.asks(r, agent)) { // else it is gone, or cannot be read
			list = append(list, r)
		}
	}
	return list, 0
}

const (
	showEnded = time.Minute
	maxShown  = 500
)

// ended is a call of which nothing can come any more.
type ended struct {
	request call.Request
	at      time.Time
}

// hasEnded notes a call for those who watch.
func (s *Switchboard) hasEnded(r call.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = append(s.over, ended{r, s.Now()})
	s.over = s.over[max(0, len(s.over)-maxShown):]
}

// All returns the requests of everybody of which something can still come, and those of
// which that was so a minute ago: of many the newest 500.
func (s *Switchboard) All() []call.Request {
	var list []call.Request
	open := make(map[string]bool)
	for _, e := range s.entries() { // first: what ends meanwhile is among the others
		r := e.now.Load()
		list = append(list, *r)
		open[r.ID] = true
	}
	s.mu.Lock()
	s.over = slices.DeleteFunc(s.over, func(o ended) bool { return s.Now().Sub(o.at) > showEnded })
	for _, o := range s.over {
		if !open[o.request.ID] {
			list = append(list, o.request)
		}
	}
	s.mu.Unlock()
	sortByTime(list)
	return list[max(0, len(list)-maxShown):]
}

// Committed says that a conversation has grown.
func (s *Switchboard) Committed(conversation string) {
	s.mu.Lock()
	_, lasts := s.calls[conversation]
	s.mu.Unlock()
	if lasts {
		s.hangups.Add(conversation)
	}
}

// Lost says that an agent has lost its stream.
func (s *Switchboard) Lost(agent string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.inCalls[strings.ToLower(agent)] {
		s.hangups.Add(id)
	}
}

// Calls counts the live calls that last.
func (s *Switchboard) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := make(map[string]struct{})
	for _, ids := range s.inCalls {
		maps.Copy(live, ids)
	}
	return len(live)
}

// Open counts the requests of which something can still come.
func (s *Switchboard) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// save writes what a request has come to. Before it nothing has happened; what follows
// can be done again from the record. The caller holds the entry's lock.
func (s *Switchboard) save(e *entry, r call.Request) error {
	if err := s.records.put(r); err != nil {
		return err
	}
	e.set(r)
	return nil
}

// follow does what follows from a record: there is a conversation, a match goes on,
// everybody is told, and what nothing can come of any more is put away. What fails is
// done again later, and after a crash by Recover. The error says that the agents are not
// connected. The caller holds the entry's lock, and it is no copy.
func (s *Switchboard) follow(ctx context.Context, e *entry) (state conv.State, err error) {
	if e.request.Conversation != "" && e.request.Meets == "" {
		state, err = s.connect(ctx, e)
	}
	failed := err
	if errors.As(err, new(*conv.Refusal)) { // for good; the others are told all the same
		failed = nil
	}
	if failed == nil {
		failed = s.keepMeeting(e.request)
	}
	if failed == nil {
		failed = s.cross(e)
	}
	if failed == nil {
		failed = s.goOn(ctx, e)
	}
	if failed == nil {
		failed = s.settle(e)
	}
	s.again(ctx, e, failed)
	return state, err
}

// again looks once more at a request where something has failed. The caller holds the
// entry's lock.
func (s *Switchboard) again(ctx context.Context, e *entry, failed error) {
	if failed == nil {
		e.fails = 0
	} else if ctx.Err() == nil {
		s.Logger.Error("call waits", "id", e.request.ID, "err", failed)
		s.rings.AddAfter(e.request.ID, e.pause())
	}
}

// pause is how long to wait after a failure: longer each time.
func (e *entry) pause() time.Duration {
	wait := min(retryAfter<<min(e.fails, 10), retryMax)
	e.fails++
	return wait
}

// settle tells what a request has come to, and puts it away where nothing can come of it
// any more. The caller holds the entry's lock.
func (s *Switchboard) settle(e *entry) error {
	r := e.request
	if until := r.Rings(); until > 0 && r.Meets == "" {
		left := min(time.UnixMilli(until).Sub(s.Now()), s.Home.Config.Call.Ring.Duration) // the clock may be set back
		if e.copy {
			left += ringSlack
		}
		s.rings.AddAfter(r.ID, left)
	}
	if err := s.tell(e); err != nil || s.lives(r) {
		return err
	}
	if err := s.keepNotice(r); err != nil {
		return err
	}
	gone, err := s.records.finish(r, s.Now())
	for _, id := range gone {
		s.refs.Remove(id)
	}
	if err != nil {
		return err
	}
	s.forget(e)
	s.hasEnded(e.request)
	return nil
}

// rangOut reports whether the ring time of a request is over. It is too where the clock was
// set back far behind the call: nobody rings for hours.
func (s *Switchboard) rangOut(r call.Request) bool {
	until, now := r.Rings(), s.Now()
	return until > 0 && (now.UnixMilli() >= until || now.Add(s.Home.Config.Call.Ring.Duration).UnixMilli() < r.CreatedAt)
}

// lives reports whether something can still come of a request.
func (s *Switchboard) lives(r call.Request) bool {
	if r.Far != nil {
		return s.copyLives(r)
	}
	return r.Open() || r.Next != "" && !s.known(r.Next) ||
		r.Conversation != "" && r.Mode == conv.Live && !r.Over
}

func (s *Switchboard) known(id string) bool { return len(s.refs.Resolve(id)) > 0 }

// ring does what is due with a request: its ring time is over, or there is something to
// be done again after a start or a failure.
func (s *Switchboard) ring(ctx context.Context, id string) {
	e := s.entry(id)
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return
	}
	if e.copy {
		s.ringCopy(ctx, e)
		return
	}
	if e.request.Meets == "" && s.rangOut(e.request) {
		if err := s.save(e, next(e.request.Expire(s.Now()))); err != nil {
			s.Logger.Error("end of the ring time waits", "id", id, "err", err)
			s.rings.AddAfter(id, e.pause())
			return
		}
	}
	_, _ = s.follow(ctx, e) // what fails is logged, and looked at again
}

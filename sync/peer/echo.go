package peer

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/claude-duo/duo/sync/link"
)

// echo is the service that measures how long frames take to a peer and back.
type echo struct{ now func() time.Time }

func newEcho(now func() time.Time) *echo {
	if now == nil {
		now = time.Now
	}
	return &echo{now: now}
}

const (
	typeEcho   = "echo"
	typeEchoed = "echoed"
	maxEchoes  = 16 // that wait for their answer
)

func (*echo) Types() []string { return []string{typeEcho, typeEchoed} }

func (e *echo) Open(s *Session) Line {
	l := &echoLine{echo: e, session: s, waiting: make(map[int64]waiting)}
	s.echoes = l
	l.call(nil) // whoever asks next finds how long it has taken
	return l
}

// echoLine is the echo of one link.
type echoLine struct {
	*echo
	session *Session

	mu      sync.Mutex
	last    int64
	waiting map[int64]waiting
	delay   time.Duration
}

type waiting struct {
	since time.Time
	tell  chan<- time.Duration // may be nil
}

type echoHeader struct {
	N int64 `json:"n"`
}

// call asks for an echo, and reports whether that went out.
func (l *echoLine) call(tell chan<- time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= maxEchoes {
		clear(l.waiting)
	}
	l.last++
	l.waiting[l.last] = waiting{since: l.now(), tell: tell}
	return l.session.TrySend(link.Frame{Type: typeEcho, Lane: link.Call, Header: fmt.Appendf(nil, `{"n":%d}`, l.last)})
}

func (l *echoLine) Take(f link.Frame) error {
	defer l.session.Done(f)
	var h echoHeader
	if err := json.Unmarshal(f.Header, &h); err != nil {
		return link.Fault("an echo that cannot be read")
	}
	if f.Type == typeEcho {
		l.session.TrySend(link.Frame{Type: typeEchoed, Lane: link.Call, Header: fmt.Appendf(nil, `{"n":%d}`, h.N)})
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w, ok := l.waiting[h.N]
	if !ok {
		return nil
	}
	delete(l.waiting, h.N)
	l.delay = l.now().Sub(w.since)
	if w.tell != nil {
		w.tell <- l.delay
	}
	return nil
}

func (*echoLine) Close() {}

// took is how long the last echo has taken, 0 where none has come.
func (l *echoLine) took() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.delay
}

// Package work is a queue of names to look at: conversations that have grown,
// outboxes that have changed. A name that is added twice before somebody takes it is
// looked at once, and never by two workers at a time. What there is to do is not in
// the queue: the worker looks at the truth.
package work

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// Queue hands names to workers. The zero value is not ready; use New.
type Queue struct {
	mu      sync.Mutex
	order   []string
	state   map[string]state
	round   uint64            // of the newest Add
	oldest  map[string]uint64 // round of the first Add that is not done
	again   map[string]uint64 // round of the first Add while a worker has the name
	changed chan struct{}     // closed and replaced when a name is done
	wake    chan struct{}     // a token when there may be something to take
	timers  map[string]alarm  // of AddAfter
}

// alarm is the next look at a name that somebody has asked for.
type alarm struct {
	timer *time.Timer
	at    time.Time
}

type state int

const (
	waiting state = iota + 1
	taken
	takenAndWaiting // added again while a worker has it
)

// New returns an empty queue.
func New() *Queue {
	return &Queue{
		state:   make(map[string]state),
		oldest:  make(map[string]uint64),
		again:   make(map[string]uint64),
		changed: make(chan struct{}),
		wake:    make(chan struct{}, 1),
		timers:  make(map[string]alarm),
	}
}

// Add asks for a look at name.
func (q *Queue) Add(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.round++
	switch q.state[name] {
	case 0:
		q.state[name] = waiting
		q.oldest[name] = q.round
		q.order = append(q.order, name)
		q.signal()
	case taken:
		q.state[name] = takenAndWaiting
		q.again[name] = q.round
	}
}

// AddAfter asks for a look at name when some time has passed. Of several such looks at
// one name the earliest happens: who is still not done then asks again.
func (q *Queue) AddAfter(name string, d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := time.Now().Add(d)
	if a, ok := q.timers[name]; ok {
		if !at.Before(a.at) {
			return
		}
		a.timer.Stop()
	}
	q.timers[name] = alarm{at: at, timer: time.AfterFunc(d, func() {
		q.mu.Lock()
		if q.timers[name].at.Equal(at) { // else an earlier one has taken its place
			delete(q.timers, name)
		}
		q.mu.Unlock()
		q.Add(name)
	})}
}

// Run takes names with a number of workers at once, and calls look with each, until
// ctx ends. It returns when all workers have. What nobody has taken stays in the queue.
func (q *Queue) Run(ctx context.Context, workers int, look func(ctx context.Context, name string)) {
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for {
				name, ok := q.take(ctx)
				if !ok {
					return
				}
				look(ctx, name)
				q.done(name)
			}
		})
	}
	all.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, a := range q.timers {
		a.timer.Stop()
	}
	clear(q.timers)
}

func (q *Queue) take(ctx context.Context) (string, bool) {
	for ctx.Err() == nil {
		if name, ok := q.next(); ok {
			return name, true
		}
		select {
		case <-ctx.Done():
		case <-q.wake:
		}
	}
	return "", false
}

func (q *Queue) next() (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) == 0 {
		return "", false
	}
	name := q.order[0]
	q.order = q.order[1:]
	q.state[name] = taken
	if len(q.order) > 0 {
		q.signal() // for the next worker
	}
	return name, true
}

func (q *Queue) done(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state[name] == takenAndWaiting {
		q.state[name] = waiting
		q.oldest[name] = q.again[name]
		delete(q.again, name)
		q.order = append(q.order, name)
		q.signal()
	} else {
		delete(q.state, name)
		delete(q.oldest, name)
	}
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Settle waits until everything that was added before the call has been looked at,
// or ctx ends.
func (q *Queue) Settle(ctx context.Context) error {
	q.mu.Lock()
	until := q.round
	for {
		if !q.pendingBefore(until) {
			q.mu.Unlock()
			return nil
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		q.mu.Lock()
	}
}

func (q *Queue) pendingBefore(round uint64) bool {
	for _, r := range q.oldest {
		if r <= round {
			return true
		}
	}
	return false
}

// Names lists what waits or is being looked at.
func (q *Queue) Names() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Collect(maps.Keys(q.state))
}

// Len is how many names wait or are being looked at.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.state)
}

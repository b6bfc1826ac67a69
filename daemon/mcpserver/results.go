package mcpserver

import (
	"context"
	"net/http"
	"strconv"
	"sync"
)

// resultHeader carries from the transport to a tool which request it is called by.
const resultHeader = "Duo-Result"

// results knows what is to be done when results were handed to their clients, or could
// not be. The transport adds one for each request and ends it; tools say what is to be
// done.
type results struct {
	mu    sync.Mutex
	last  uint64
	open  map[string]*result
	ended chan struct{} // closed, and made anew, when a result ends
}

func newResults() *results {
	return &results{open: make(map[string]*result), ended: make(chan struct{})}
}

// result is of one request. Its fields are guarded by the lock of results.
type result struct {
	all   *results
	ctx   context.Context // ends when nobody waits for the result any more
	owner string          // whose results wait for one another
	over  bool
	then  []func(handed bool)
}

// add makes a result, and returns its key. It ends with ctx.
func (r *results) add(ctx context.Context, owner string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	key := strconv.FormatUint(r.last, 10)
	r.open[key] = &result{all: r, ctx: ctx, owner: owner}
	return key
}

// begin finds the result that a request is for. The context ends, too, when nobody waits
// for the result any more. What is still to be done for results that the owner was given
// before is done when it returns: a message that was shown is not unread in the next
// result.
func (r *results) begin(ctx context.Context, header http.Header) (*result, context.Context, func()) {
	r.mu.Lock()
	res := r.open[header.Get(resultHeader)]
	r.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	if res == nil { // its client has gone
		cancel()
		return &result{all: r, over: true}, ctx, cancel
	}
	stop := context.AfterFunc(res.ctx, cancel)
	for {
		r.mu.Lock()
		waits, ended := r.handing(res), r.ended
		r.mu.Unlock()
		if !waits {
			return res, ctx, func() { stop(); cancel() }
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return res, ctx, func() { stop(); cancel() }
		}
	}
}

// handing reports whether another result of the same owner is being handed over.
func (r *results) handing(mine *result) bool {
	for _, res := range r.open {
		if res != mine && res.owner == mine.owner && len(res.then) > 0 {
			return true
		}
	}
	return false
}

// when notes what is to be done when the result was handed over, or could not be.
func (r *result) when(all []func(handed bool)) {
	r.all.mu.Lock()
	over := r.over
	if !over {
		r.then = append(r.then, all...)
	}
	r.all.mu.Unlock()
	if over {
		for _, f := range all {
			f(false)
		}
	}
}

// end does what is to be done, and forgets the result.
func (r *results) end(key string, handed bool) {
	r.mu.Lock()
	res := r.open[key]
	if res != nil {
		res.over = true
	}
	r.mu.Unlock()
	if res == nil {
		return
	}
	for _, f := range res.then {
		f(handed)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, key)
	close(r.ended)
	r.ended = make(chan struct{})
}

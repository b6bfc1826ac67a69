package work_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/work"
)

// bench runs a queue in a bubble of synctest, and notes what is looked at. Each look
// takes as long as the test says.
type bench struct {
	*work.Queue
	t    *testing.T
	stop context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	looks  []string
	held   map[string]bool
	gate   map[string]chan struct{} // a look at the name waits for it
	active int
	most   int // looks at one time
}

// start runs the queue with a number of workers. Names in gated are looked at until
// open is called with them.
func start(t *testing.T, workers int, gated ...string) *bench {
	b := &bench{Queue: work.New(), t: t, done: make(chan struct{}), held: make(map[string]bool), gate: make(map[string]chan struct{})}
	for _, name := range gated {
		b.gate[name] = make(chan struct{})
	}
	b.run(workers)
	return b
}

func (b *bench) run(workers int) {
	ctx, stop := context.WithCancel(context.Background())
	b.stop, b.done = stop, make(chan struct{})
	go func() {
		defer close(b.done)
		b.Run(ctx, workers, b.look)
	}()
	b.t.Cleanup(b.end)
}

// end ends the queue and waits for it.
func (b *bench) end() {
	b.stop()
	<-b.done
}

func (b *bench) look(ctx context.Context, name string) {
	b.mu.Lock()
	if b.held[name] {
		b.t.Errorf("%q: got two workers on it, want one", name)
	}
	b.held[name] = true
	b.looks = append(b.looks, name)
	b.active++
	b.most = max(b.most, b.active)
	gate := b.gate[name]
	b.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.held, name)
	b.active--
}

// open lets one look at a gated name end.
func (b *bench) open(name string) {
	b.gate[name] <- struct{}{}
	synctest.Wait()
}

func (b *bench) want(looks ...string) {
	b.t.Helper()
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.looks, looks) {
		b.t.Errorf("looks: got %q, want %q", b.looks, looks)
	}
}

// settling runs Settle beside the test. The function tells whether it has returned.
func (b *bench) settling(ctx context.Context) func() (bool, error) {
	ended := make(chan error, 1)
	go func() { ended <- b.Settle(ctx) }()
	synctest.Wait()
	return func() (bool, error) {
		synctest.Wait()
		select {
		case err := <-ended:
			ended <- err
			return true, err
		default:
			return false, nil
		}
	}
}

func (b *bench) wantSettled(what string, settled func() (bool, error), want bool) {
	b.t.Helper()
	if got, err := settled(); got != want || err != nil {
		b.t.Errorf("%s: got Settle ended %v, %v, want %v", what, got, err, want)
	}
}

func TestNamesAreLookedAtInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, "a")
		b.Add("a")
		synctest.Wait()
		for _, name := range []string{"b", "c", "b", "d", "c"} {
			b.Add(name)
		}
		if b.Len() != 4 {
			t.Errorf("Len: got %d, want 4", b.Len())
		}
		b.open("a")
		b.want("a", "b", "c", "d")
		if b.Len() != 0 {
			t.Errorf("Len at the end: got %d, want 0", b.Len())
		}
	})
}

func TestAddedAgainWhileTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 3, "a")
		b.Add("a")
		synctest.Wait()
		for range 5 {
			b.Add("a")
		}
		b.want("a") // two other workers are free and leave it alone
		b.open("a")
		b.want("a", "a")
		b.open("a")
		b.want("a", "a")
	})
}

func TestWorkersShareTheNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 3, "a", "b", "c", "d")
		for _, name := range []string{"a", "b", "c", "d"} {
			b.Add(name)
		}
		b.want("a", "b", "c")
		b.open("b")
		b.want("a", "b", "c", "d")
		if b.most != 3 {
			t.Errorf("workers at once: got %d, want 3", b.most)
		}
	})
}

func TestSettleWaitsForWhatWasAddedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 2, "a", "b")
		b.wantSettled("an empty queue", b.settling(t.Context()), true)
		b.Add("a")
		b.Add("b")
		first := b.settling(t.Context())
		b.Add("c") // later: not for the first
		b.wantSettled("while both are looked at", first, false)
		b.open("a")
		b.wantSettled("after one of two", first, false)
		b.open("b")
		b.wantSettled("after both", first, true)
	})
}

func TestSettleDoesNotWaitForLaterAdds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, "a")
		b.Add("a")
		first := b.settling(t.Context())
		b.Add("a") // the look under way may have missed what this is about
		b.Add("b")
		second := b.settling(t.Context())
		b.open("a")
		b.wantSettled("first, after the first look", first, true)
		b.wantSettled("second, after the first look", second, false)
		b.open("a")
		b.wantSettled("second, after the second look", second, true)
	})
}

// TestSettleOfAWaitingName: a name that waits keeps the place of its first Add.
func TestSettleOfAWaitingName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, "a", "b")
		b.Add("a")
		b.Add("b")
		settled := b.settling(t.Context())
		b.Add("b")
		b.open("a")
		b.wantSettled("while b is looked at", settled, false)
		b.open("b")
		b.wantSettled("after b", settled, true)
		b.want("a", "b")
	})
}

func TestSettleEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, "a")
		b.Add("a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.Settle(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Settle: got %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

func TestAddAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1)
		b.AddAfter("late", time.Hour)
		b.AddAfter("soon", time.Minute)
		b.wantSettled("before their time", b.settling(t.Context()), true)
		time.Sleep(time.Minute - 1)
		b.want()
		time.Sleep(time.Nanosecond)
		b.want("soon")
		time.Sleep(time.Hour)
		b.want("soon", "late")
	})
}

// TestAddAfterDoesNotMultiply: a name that asks for another look each time it is looked
// at has one look at a time to come, however often others ask too.
func TestAddAfterDoesNotMultiply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1)
		for range 100 {
			b.AddAfter("a", time.Minute)
		}
		b.AddAfter("a", time.Second)
		b.AddAfter("a", time.Hour)
		time.Sleep(time.Second)
		b.want("a")
		time.Sleep(2 * time.Hour)
		b.want("a")
		b.AddAfter("a", time.Minute)
		time.Sleep(time.Minute)
		b.want("a", "a")
	})
}

func TestEndOfRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, "a")
		b.Add("a")
		synctest.Wait()
		b.Add("b")
		b.AddAfter("never", time.Minute)
		b.end() // the look at a ends with its context
		b.want("a")
		time.Sleep(time.Hour)
		if b.Len() != 1 {
			t.Errorf("Len after the end: got %d, want 1: b was not looked at", b.Len())
		}
		b.Add("b")
		b.run(1)
		b.want("a", "b")
		if b.Len() != 0 {
			t.Errorf("Len after the second run: got %d, want 0", b.Len())
		}
	})
}

func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1, "a")
		want := func(names ...string) {
			t.Helper()
			got := b.Names()
			slices.Sort(got)
			if !slices.Equal(got, names) {
				t.Errorf("Names: got %q, want %q", got, names)
			}
		}
		want()
		b.Add("a")
		synctest.Wait()
		b.Add("b")
		b.Add("a")
		want("a", "b") // one is looked at, one waits
		b.open("a")
		b.open("a")
		want()
	})
}

func TestEndOfRunWithoutWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 4)
		synctest.Wait()
		b.end()
		b.want()
	})
}

// TestManyAdders is for the race detector: what was added last is looked at last.
func TestManyAdders(t *testing.T) {
	const adders, rounds, names = 8, 500, 5
	q := work.New()
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	truth := make(map[string]int) // what there is to see, by name
	seen := make(map[string]int)
	busy := make(map[string]bool)
	var runner, all sync.WaitGroup
	runner.Go(func() {
		q.Run(ctx, 3, func(_ context.Context, name string) {
			mu.Lock()
			if busy[name] {
				t.Errorf("%q: got two workers on it, want one", name)
			}
			busy[name], seen[name] = true, truth[name]
			mu.Unlock()
			mu.Lock()
			busy[name] = false
			mu.Unlock()
		})
	})
	for a := range adders {
		all.Go(func() {
			for i := range rounds {
				name := fmt.Sprint("name ", (a+i)%names)
				mu.Lock()
				truth[name]++
				mu.Unlock()
				q.Add(name)
				if i%50 == 0 {
					if err := q.Settle(ctx); err != nil {
						t.Errorf("Settle: %v", err)
					}
				}
			}
		})
	}
	all.Wait()
	if err := q.Settle(ctx); err != nil {
		t.Fatalf("Settle: %v", err)
	}
	mu.Lock()
	if !maps.Equal(seen, truth) {
		t.Errorf("seen: got %v, want %v", seen, truth)
	}
	mu.Unlock()
	stop()
	runner.Wait()
}

package deliver_test

import (
	"context"
	"sync"
	"testing"
)

// TestRecoverWhileItGrows: at the start of the daemon what is new may be delivered
// already while it is looked what the logs have for whom. It is not forgotten then.
func TestRecoverWhileItGrows(t *testing.T) {
	p := newPost(t, "Atlas", "Nova").run()
	id := p.create("a", "Atlas", "Nova")
	for n := range 1000 {
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() { p.Recover(context.Background(), id) })
		}
		p.say(id, "Atlas", "hi")
		all.Wait()
		p.settle()
		items, err := p.Unseen("Nova", id)
		if want := n + 2; err != nil || len(items) != want { // with the create
			t.Fatalf("Nova has not seen %d lines, %v; want %d", len(items), err, want)
		}
	}
}

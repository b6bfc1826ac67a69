package daemontest_test

import (
	"context"
	"sync"
	"sort"
	"testing"
	"time"
	"os"
	"strings"
)

func TestTmpLatency(t *testing.T) {
	var o crashOptions
	if w := os.Getenv("WAYS"); w != "" { o.ways = strings.Split(w, ",") }
	c := newCrash(t, o)
	type lat struct{ d []time.Duration }
	ls := map[string]*lat{}
	for _, w := range c.writers {
		l := &lat{}
		ls[w.name] = l
		ask := w.ask
		w.ask = func(s string) (string, error) { b := time.Now(); a, e := ask(s); l.d = append(l.d, time.Since(b)); return a, e }
	}
	done := time.Now()
	_ = done
	c.rand = nil; runFor(c, 4*time.Second)
	for n, l := range ls {
		sort.Slice(l.d, func(i, j int) bool { return l.d[i] < l.d[j] })
		if len(l.d) > 0 {
			t.Logf("%8s n=%d p50=%v p90=%v max=%v", n, len(l.d), l.d[len(l.d)/2], l.d[len(l.d)*9/10], l.d[len(l.d)-1])
		}
	}
}

func runFor(c *crash, d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var wg sync.WaitGroup
	for _, w := range c.writers { wg.Go(func() { c.write(ctx, w) }) }
	for _, r := range c.readers { wg.Go(func() { c.read(ctx, r) }) }
	wg.Go(func() { c.stream(ctx) })
	wg.Wait()
}

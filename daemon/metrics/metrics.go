// Package metrics counts, and writes what it has counted as Prometheus reads it: the
// text format, version 0.0.4.
//
// A [Set] belongs to one daemon. Counting takes no lock that a reader holds for long,
// and never fails. The values of labels are few and known beforehand: kinds, codes,
// routes, never the names of agents or conversations.
package metrics

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Set holds metrics, in the order in which they were made.
type Set struct {
	mu       sync.Mutex
	families []family
}

// family is all that has one name.
type family struct {
	name, help, kind string
	labels           []string
	write            func(b *bytes.Buffer, f family)
}

// New returns an empty set.
func New() *Set { return &Set{} }

func (s *Set) add(f family) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.families, func(other family) bool { return other.name == f.name }) {
		panic("metric " + f.name + " is made twice")
	}
	s.families = append(s.families, f)
}

// Names lists the names of the metrics.
func (s *Set) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, len(s.families))
	for i, f := range s.families {
		names[i] = f.name
	}
	return names
}

// Write writes all metrics.
func (s *Set) Write(w io.Writer) error {
	s.mu.Lock()
	families := slices.Clone(s.families)
	s.mu.Unlock()
	var b bytes.Buffer
	for _, f := range families {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", f.name, helpText.Replace(f.help), f.name, f.kind)
		f.write(&b, f)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	return nil
}

// ServeHTTP answers with all metrics.
func (s *Set) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_ = s.Write(w) // a reader that is gone needs no answer
}

const maxLabels = 3

// values are those of a metric's labels.
type values [maxLabels]string

func valuesOf(list []string) (v values) {
	copy(v[:], list)
	return v
}

// children are the metrics of one name, by the values of their labels.
type children[T any] struct {
	mu   sync.RWMutex
	all  map[values]*T
	make func() *T
}

func (c *children[T]) get(list []string) *T {
	v := valuesOf(list)
	c.mu.RLock()
	child, ok := c.all[v]
	c.mu.RUnlock()
	if ok {
		return child
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if child, ok = c.all[v]; !ok {
		if c.all == nil {
			c.all = make(map[values]*T)
		}
		child = c.make()
		c.all[v] = child
	}
	return child
}

// sorted runs over the metrics by the values of their labels.
func (c *children[T]) sorted(do func(values, *T)) {
	c.mu.RLock()
	keys := make([]values, 0, len(c.all))
	for v := range c.all {
		keys = append(keys, v)
	}
	c.mu.RUnlock()
	slices.SortFunc(keys, func(a, b values) int { return slices.Compare(a[:], b[:]) })
	for _, v := range keys {
		do(v, c.get(v[:]))
	}
}

// Counter counts what has happened, for each combination of the values of its labels.
type Counter struct{ children[atomic.Int64] }

// Counter makes a counter. Its name ends in _total.
func (s *Set) Counter(name, help string, labels ...string) *Counter {
	c := &Counter{}
	c.make = func() *atomic.Int64 { return new(atomic.Int64) }
	if len(labels) == 0 {
		c.get(nil)
	}
	s.add(family{name: name, help: help, kind: "counter", labels: labels, write: func(b *bytes.Buffer, f family) {
		c.sorted(func(v values, n *atomic.Int64) { f.sample(b, "", v[:len(labels)], nil, float64(n.Load())) })
	}})
	return c
}

// Inc counts one more, under the values of the labels in their order.
func (c *Counter) Inc(values ...string) { c.get(values).Add(1) }

// Histogram counts how long things took, for each combination of the values of its
// labels.
type Histogram struct {
	children[spread]
	bounds []time.Duration
}

// spread is one histogram. counts has one more than there are bounds.
type spread struct {
	counts []atomic.Int64
	sum    atomic.Int64 // nanoseconds
}

// Bounds are the usual ones: twice as much each time, from 50 µs to 26 s.
func Bounds() (list []time.Duration) {
	for d := 50 * time.Microsecond; d < 30*time.Second; d *= 2 {
		list = append(list, d)
	}
	return list
}

// Histogram makes a histogram. Its name ends in _seconds.
func (s *Set) Histogram(name, help string, bounds []time.Duration, labels ...string) *Histogram {
	h := &Histogram{bounds: bounds}
	h.make = func() *spread { return &spread{counts: make([]atomic.Int64, len(bounds)+1)} }
	if len(labels) == 0 {
		h.get(nil)
	}
	s.add(family{name: name, help: help, kind: "histogram", labels: labels, write: func(b *bytes.Buffer, f family) {
		h.sorted(func(v values, one *spread) { f.spread(b, v[:len(labels)], bounds, one) })
	}})
	return h
}

// Took counts something that took a time.
func (h *Histogram) Took(d time.Duration, values ...string) {
	one := h.get(values)
	i, _ := slices.BinarySearchFunc(h.bounds, d, cmp.Compare[time.Duration])
	one.counts[i].Add(1)
	one.sum.Add(int64(d))
}

// Emit tells a value, under the values of the labels in their order.
type Emit func(value float64, values ...string)

// Gauge makes a metric that is read when somebody asks for it. read emits as many
// values as there are, or none where it cannot tell.
func (s *Set) Gauge(name, help string, read func(Emit), labels ...string) {
	s.read("gauge", name, help, read, labels)
}

// Total is Gauge for what only grows.
func (s *Set) Total(name, help string, read func(Emit), labels ...string) {
	s.read("counter", name, help, read, labels)
}

func (s *Set) read(kind, name, help string, read func(Emit), labels []string) {
	s.add(family{name: name, help: help, kind: kind, labels: labels, write: func(b *bytes.Buffer, f family) {
		read(func(value float64, list ...string) {
			v := valuesOf(list)
			f.sample(b, "", v[:len(labels)], nil, value)
		})
	}})
}

// spread writes a histogram: how many took at most as long as each bound. What is
// counted meanwhile may be in the later lines and not in the earlier ones.
func (f family) spread(b *bytes.Buffer, v []string, bounds []time.Duration, one *spread) {
	below := int64(0)
	for i := range one.counts {
		below += one.counts[i].Load()
		bound := math.Inf(1)
		if i < len(bounds) {
			bound = bounds[i].Seconds()
		}
		f.sample(b, "_bucket", v, &bound, float64(below))
	}
	f.sample(b, "_sum", v, nil, time.Duration(one.sum.Load()).Seconds())
	f.sample(b, "_count", v, nil, float64(below))
}

// sample writes one line; bound is that of a bucket.
func (f family) sample(b *bytes.Buffer, suffix string, v []string, bound *float64, value float64) {
	b.WriteString(f.name + suffix)
	var pairs []string
	for i, label := range f.labels {
		pairs = append(pairs, label+`="`+labelText.Replace(strings.ToValidUTF8(v[i], "\uFFFD"))+`"`)
	}
	if bound != nil {
		pairs = append(pairs, `le="`+number(*bound)+`"`)
	}
	if len(pairs) > 0 {
		b.WriteString("{" + strings.Join(pairs, ",") + "}")
	}
	b.WriteString(" " + number(value) + "\n")
}

func number(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "+Inf"
	case math.IsInf(f, -1):
		return "-Inf"
	case f == math.Trunc(f) && math.Abs(f) < 1e15:
		return strconv.FormatInt(int64(f), 10)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

var (
	helpText  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelText = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

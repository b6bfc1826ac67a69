package metrics_test

import (
	"bytes"
	"fmt"
	"math"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/metrics"
	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, s *metrics.Set) map[string]float64 {
	t.Helper()
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	page, err := metrics.Parse(b.String())
	if err != nil {
		t.Fatalf("%v in:\n%s", err, b.String())
	}
	return page
}

func TestEveryKind(t *testing.T) {
	s := metrics.New()
	asked := s.Counter("asked_total", "Questions.", "door", "code")
	plain := s.Counter("plain_total", "Without labels.")
	took := s.Histogram("took_seconds", "How long.", []time.Duration{time.Millisecond, time.Second}, "what")
	s.Gauge("depth", "How deep.", func(emit metrics.Emit) { emit(7, "a"); emit(0.5, "b") }, "queue")
	s.Total("read_total", "Read.", func(emit metrics.Emit) { emit(12) })
	s.Gauge("unknown", "Cannot be told here.", func(metrics.Emit) {})
	asked.Inc("tcp", "200")
	asked.Inc("tcp", "200")
	asked.Inc("socket", "404")
	took.Took(time.Millisecond, "x") // a bound belongs to its bucket
	took.Took(2*time.Millisecond, "x")
	took.Took(time.Minute, "x")
	want := map[string]float64{
		`asked_total{door="socket",code="404"}`:    1,
		`asked_total{door="tcp",code="200"}`:       2,
		`plain_total`:                              0,
		`took_seconds_bucket{what="x",le="0.001"}`: 1,
		`took_seconds_bucket{what="x",le="1"}`:     2,
		`took_seconds_bucket{what="x",le="+Inf"}`:  3,
		`took_seconds_sum{what="x"}`:               60.003,
		`took_seconds_count{what="x"}`:             3,
		`depth{queue="a"}`:                         7,
		`depth{queue="b"}`:                         0.5,
		`read_total`:                               12,
	}
	if diff := cmp.Diff(want, read(t, s)); diff != "" {
		t.Error(diff)
	}
	plain.Inc()
	if got := read(t, s)["plain_total"]; got != 1 {
		t.Errorf("got %v, want 1", got)
	}
	names := []string{"asked_total", "plain_total", "took_seconds", "depth", "read_total", "unknown"}
	if diff := cmp.Diff(names, s.Names()); diff != "" {
		t.Error(diff)
	}
}

func TestValuesAreEscaped(t *testing.T) {
	s := metrics.New()
	c := s.Counter("odd_total", "A \\ and\na line.", "value")
	for _, value := range []string{`quo"te`, `back\slash`, "new\nline", "", "\xff", `\n`} {
		c.Inc(value)
	}
	if got := len(read(t, s)); got != 6 {
		t.Errorf("got %d samples, want 6", got)
	}
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	if want := `odd_total{value="new\nline"} 1`; !strings.Contains(b.String(), want) {
		t.Errorf("got %q, want %s in it", b.String(), want)
	}
}

func TestCountedAtOnce(t *testing.T) {
	s := metrics.New()
	c := s.Counter("c_total", "C.", "n")
	h := s.Histogram("h_seconds", "H.", metrics.Bounds())
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 1000 {
				c.Inc(fmt.Sprint(w % 2))
				h.Took(time.Duration(i) * time.Microsecond)
			}
		})
	}
	for range 20 {
		read(t, s)
	}
	all.Wait()
	got := read(t, s)
	if got[`c_total{n="0"}`] != 4000 || got[`c_total{n="1"}`] != 4000 || got["h_seconds_count"] != 8000 {
		t.Errorf("got %v", got)
	}
}

func TestServed(t *testing.T) {
	s := metrics.New()
	s.Counter("c_total", "C.").Inc()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if got := w.Header().Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("got content type %q", got)
	}
	if want := "# HELP c_total C.\n# TYPE c_total counter\nc_total 1\n"; w.Body.String() != want {
		t.Errorf("got %q, want %q", w.Body.String(), want)
	}
}

func TestNumbers(t *testing.T) {
	s := metrics.New()
	numbers := []float64{0, -1, 1.5, 1e20, 1e-9, math.Inf(1), math.Inf(-1), 1 << 50}
	s.Gauge("n", "N.", func(emit metrics.Emit) {
		for i, n := range numbers {
			emit(n, fmt.Sprint(i))
		}
	}, "i")
	got := read(t, s)
	for i, n := range numbers {
		if key := fmt.Sprintf(`n{i="%d"}`, i); got[key] != n {
			t.Errorf("%s: got %v, want %v", key, got[key], n)
		}
	}
}

// TestParseIsStrict makes sure that the other tests can fail.
func TestParseIsStrict(t *testing.T) {
	const good = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\"} 1\n"
	if _, err := metrics.Parse(good); err != nil {
		t.Fatal(err)
	}
	for name, page := range map[string]string{
		"no type":            "# HELP a_total A.\na_total 1\n",
		"no help":            "# TYPE a_total counter\na_total 1\n",
		"twice":              good + good,
		"no newline":         strings.TrimSuffix(good, "\n"),
		"bad name":           strings.ReplaceAll(good, "a_total", "a-total"),
		"open quote":         strings.ReplaceAll(good, `"1"`, `"1`),
		"raw quote":          strings.ReplaceAll(good, `"1"`, `"1"2"`),
		"bad escape":         strings.ReplaceAll(good, `"1"`, `"\q"`),
		"no number":          strings.ReplaceAll(good, "} 1", "} one"),
		"no counter's name":  strings.ReplaceAll(good, "a_total", "a"),
		"negative counter":   strings.ReplaceAll(good, "} 1", "} -1"),
		"sample twice":       good + "a_total{x=\"1\"} 2\n",
		"another's sample":   good + "b_total 2\n",
		"buckets fall":       "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
		"no last bucket":     "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_sum 1\nh_count 2\n",
		"count is different": "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 2\n",
	} {
		if _, err := metrics.Parse(page); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestBoundsAscend(t *testing.T) {
	if b := metrics.Bounds(); len(b) < 10 || !slices.IsSorted(b) {
		t.Errorf("got %v", b)
	}
}

package daemon

import (
	"os"
	"runtime"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/metrics"
	"github.com/claude-duo/duo/daemon/work"
	"github.com/claude-duo/duo/maildir/durable"
)

// counts is what a daemon counts; docs/metrics.md says what each means.
type counts struct {
	*metrics.Set
	requests   *metrics.Counter
	messages   *metrics.Counter
	refused    *metrics.Counter
	deliveries *metrics.Histogram
	syncs      *metrics.Histogram
	hints      *metrics.Counter
	sweeps     *metrics.Histogram
	files      *metrics.Counter
	wakes      *metrics.Counter
}

func newCounts() *counts {
	s := metrics.New()
	return &counts{
		Set:        s,
		requests:   s.Counter("duo_http_requests_total", "Requests answered.", "door", "route", "code"),
		messages:   s.Counter("duo_messages_total", "Drafts that were accepted, repeats left out.", "door"),
		refused:    s.Counter("duo_refused_total", "Drafts that were refused.", "door", "code"),
		deliveries: s.Histogram("duo_delivery_seconds", "From the timestamp of a message until a recipient's inbox has its file, or a stream takes it.", metrics.Bounds(), "to"),
		syncs:      s.Histogram("duo_fsync_seconds", "How long it took to make appended lines durable.", metrics.Bounds()),
		hints:      s.Counter("duo_watch_hints_total", "Hints that something may have changed in the home.", "what"),
		sweeps:     s.Histogram("duo_sweep_seconds", "How long it took to look at the home for changes that no event has told of.", metrics.Bounds(), "what"),
		files:      s.Counter("duo_files_total", "Files of messages on their way between hosts.", "what"),
		wakes:      s.Counter("duo_wakes_total", "Tries to wake an agent.", "by", "outcome"),
	}
}

// Request counts a request at a door; httpd calls it.
func (c *counts) Request(door, route, code string) { c.requests.Inc(door, route, code) }

// Accepted counts a draft that was stored; router calls it.
func (c *counts) Accepted(door string) { c.messages.Inc(door) }

// Refused counts a draft that was not; router calls it.
func (c *counts) Refused(door string, code api.Code) { c.refused.Inc(door, string(code)) }

// Delivered counts a message that has come to a recipient; deliver calls it.
func (c *counts) Delivered(to string, took time.Duration) { c.deliveries.Took(max(0, took), to) }

// File counts what happens to a file on a link; files calls it.
func (c *counts) File(what string) { c.files.Inc(what) }

// timed counts how long syncs take.
func (c *counts) timed(sync func(*os.File) error) func(*os.File) error {
	if sync == nil {
		sync = durable.Sync
	}
	return func(f *os.File) error {
		start := time.Now()
		err := sync(f)
		c.syncs.Took(time.Since(start))
		return err
	}
}

// read adds what is read of the parts when somebody asks.
func (c *counts) read(h *host) {
	one := func(read func() int) func(metrics.Emit) {
		return func(emit metrics.Emit) { emit(float64(read())) }
	}
	c.Gauge("duo_queue_depth", "Names that wait in a queue or are being looked at.", func(emit metrics.Emit) {
		for name, q := range h.queues() {
			emit(float64(q.Len()), name)
		}
	}, "queue")
	c.Total("duo_watch_failures_total", "Times that the watcher has lost events.", one(h.watcher.Failures))
	c.Gauge("duo_watch_polling", "1 where the daemon polls instead of watching, else 0.", func(emit metrics.Emit) {
		if h.watcher.Polling() {
			emit(1)
		} else {
			emit(0)
		}
	})
	c.Gauge("duo_agents", "Agents, those that have unregistered left out.", one(h.roster.Len))
	c.Gauge("duo_conversations", "Conversations of the home.", one(h.ledger.Refs().Len))
	c.Gauge("duo_conversations_open", "Conversations whose log is held open.", one(h.ledger.Held))
	c.Gauge("duo_streams", "Live connections of agents.", one(h.deliver.Streams))
	c.Gauge("duo_calls", "Calls that last.", one(h.switchboard.Calls))
	c.Gauge("duo_requests_open", "Requests of calls that are not over.", one(h.switchboard.Open))
	c.Gauge("duo_search_behind_conversations", "Conversations with lines that the index of search does not have.", one(func() int {
		return h.search.Behind().Conversations
	}))
	c.process(h.started)
}

// process adds what is known of the process, under the names that others use too.
func (c *counts) process(started time.Time) {
	c.Gauge("duo_build_info", "Always 1.", func(emit metrics.Emit) { emit(1, Version()) }, "version")
	c.Gauge("process_start_time_seconds", "When the daemon has started, in Unix seconds.", func(emit metrics.Emit) {
		emit(float64(started.UnixMilli()) / 1000)
	})
	c.Total("process_cpu_seconds_total", "Processor time used.", func(emit metrics.Emit) {
		if d, ok := cpuTime(); ok {
			emit(d.Seconds())
		}
	})
	c.Gauge("process_resident_memory_bytes", "Memory in use.", func(emit metrics.Emit) {
		if n, ok := residentMemory(); ok {
			emit(float64(n))
		}
	})
	c.Gauge("process_open_fds", "Open files, sockets among them.", func(emit metrics.Emit) {
		if n, ok := openFiles(); ok {
			emit(float64(n))
		}
	})
	c.Gauge("go_goroutines", "Goroutines.", func(emit metrics.Emit) { emit(float64(runtime.NumGoroutine())) })
	c.Gauge("go_memstats_heap_alloc_bytes", "Memory that is allocated on the heap.", func(emit metrics.Emit) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		emit(float64(m.HeapAlloc))
	})
}

// queues are the queues of a host by their names.
func (h *host) queues() map[string]*work.Queue {
	return map[string]*work.Queue{
		"grown": h.grown, "raw": h.raw, "logs": h.logs, "drops": h.drops,
		"inboxes": h.inboxes, "folders": h.folders, "sweeps": h.sweeps,
	}
}

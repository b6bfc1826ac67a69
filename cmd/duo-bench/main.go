// Command duo-bench measures duo beside what this machine can do at best, and prints
// ratios: absolute times are noise on a shared machine. docs/performance.md says how
// to read them.
//
// It starts its own daemon on a home in a temporary folder, is bounded in time, and
// removes what it made.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon"
	"github.com/claude-duo/duo/daemon/export"
)

func main() {
	var b bench
	flag.StringVar(&b.binary, "duo", "bin/duo", "the duo command to measure")
	flag.StringVar(&b.dir, "dir", "", "where to work, default a temporary folder; it should be on the disk that matters")
	flag.Float64Var(&b.scale, "scale", 1, "how many measurements to take, as a share of the usual number")
	only := flag.String("only", "", "run only the rows whose names contain this")
	bare := flag.String("bare", "", "be the bare server at this socket, which the rows are measured beside")
	profile := flag.String("profile", "", "write to this file what this process spends its time on")
	crowded := flag.String("crowd", "", "make a home of many agents and conversations in this folder, and end")
	flag.Parse()
	daemon.TuneProcess() // what is measured inside this process runs as in a daemon
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *bare != "" {
		if err := serveBare(*bare); err != nil {
			fmt.Fprintln(os.Stderr, "duo-bench:", err)
			os.Exit(1)
		}
		return
	}
	if *crowded != "" {
		if err := b.makeCrowd(*crowded); err != nil {
			fmt.Fprintln(os.Stderr, "duo-bench:", err)
			os.Exit(1)
		}
		return
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "duo-bench:", err)
			os.Exit(1)
		}
		defer pprof.StopCPUProfile()
	}
	if err := b.main(ctx, os.Stdout, *only); err != nil {
		fmt.Fprintln(os.Stderr, "duo-bench:", err)
		os.Exit(1)
	}
}

// bench holds what all rows share.
type bench struct {
	binary string
	dir    string
	scale  float64

	searched, written *corpus // once they were made
}

// row is one line of the table.
type row struct {
	name   string
	target string
	run    func(ctx context.Context, b *bench) (result, error)
}

// result is what a row measured: duo's figure, the floor's in the same run, and the
// ratio that the target is about.
type result struct {
	duo, floor string
	ratio      string
	ok         bool
}

var rows = []row{
	{"durable send through the socket, one sender, p50", "at most 1.3 × append + fdatasync", oneSender},
	{"send until another agent's stream has it, p50", "at most 1.5 × append + fdatasync", untilStream},
	{"64 senders in 64 conversations", "at least 0.8 × 64 files, each with its own fdatasync", manyConversations},
	{"64 senders in one conversation", "at least 0.8 × group commit on one file", oneConversation},
	{"64 senders in one conversation, over HTTP", "no target: what the door costs", overHTTP},
	{"64 senders in 64 conversations, over HTTP", "no target: what the door costs", overHTTPInMany},
	{"drop renamed in until the inbox file, p50", "at most 3 × fsnotify wake + fdatasync", dropToInbox},
	{"drop renamed in until the inbox file, p99", "at most 20 ms", dropToInboxTail},
	{"duo message, whole process, p50", "at most 1.5 × duo version + fdatasync", wholeProcess},
	{"replay of a log from the file", "at least 1,000,000 messages a second", replayFile},
	{"replay of a log over HTTP", "at least 1,000,000 messages a second", replayHTTP},
	{"start with 10,000 agents, 100,000 conversations", "under 2 s, 150 MB, 1 % of a core", startOfCrowd},
	{"memory of an idle connection", "no target", idleConnection},
	{"memory of an idle agent", "no target", idleAgent},
	{"memory of an idle conversation", "no target", idleConversation},
	{"hosts: send until another host's stream has it, p50", "at most twice the same here + a raw round trip", untilFarStream},
	{"hosts: catch-up of 100,000 messages", "at least 0.5 × read, append and fdatasync", catchUp},
	{"hosts: bytes for each message, one at a time", "no target, beside the line", bytesOnTheWire},
	{"hosts: 100 links, 1,000 agents that change", "no target: a frame in 2 s on each link", manyLinks},
	{"message N of a 1 GB log, p50", "under 1 ms", messageN},
	{"last 20 of a 1 GB log, p50", "under 1 ms", lastTwenty},
	{"search: 1,000,000 messages read for the index", "no target", indexing},
	{"search: queries in 1,000,000 messages", "p99 under 100 ms", searching},
	{"export: 200,000 messages as jsonl", "no target, beside a copy of the logs", exporting(export.JSONL)},
	{"export: 200,000 messages as html", "no target, beside a copy of the logs", exporting(export.HTML)},
	{"export: 200,000 messages as sqlite", "no target, beside a copy of the logs", exporting(export.SQLite)},
}

func (b *bench) main(ctx context.Context, out io.Writer, only string) error {
	dir, err := os.MkdirTemp(b.dir, "duo-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.dir = dir
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	missed := 0
	for _, r := range rows {
		if !strings.Contains(r.name, only) {
			continue
		}
		got, err := r.run(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		verdict := "ok"
		if !got.ok {
			verdict = "MISSED"
			missed++
		}
		fmt.Fprintf(out, "%-52s duo %-16s floor %-16s %-22s %-6s (%s)\n", r.name, got.duo, got.floor, got.ratio, verdict, r.target)
	}
	fmt.Fprintf(out, "%d targets missed\n", missed)
	return nil
}

// times scales a number of measurements.
func (b *bench) times(n int) int { return max(10, int(float64(n)*b.scale)) }

// folder makes an empty folder for a row.
func (b *bench) folder(name string) (string, error) {
	return os.MkdirTemp(b.dir, name+"-")
}

// samples are durations of the same thing.
type samples []time.Duration

func (s samples) quantile(q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// atMost is the result of a row whose time has to be near the floor's.
func atMost(duo, floor time.Duration, limit float64) result {
	ratio := float64(duo) / float64(floor)
	return result{duo: round(duo), floor: round(floor), ratio: fmt.Sprintf("%.2f ×", ratio), ok: ratio <= limit}
}

// atLeast is the result of a row whose rate has to be near the floor's.
func atLeast(duo, floor, limit float64) result {
	ratio := duo / floor
	return result{duo: rate(duo), floor: rate(floor), ratio: fmt.Sprintf("%.2f ×", ratio), ok: ratio >= limit}
}

// besideBare adds to a result how it compares with the bare server.
func (r result) besideBare(duo, bare time.Duration) result {
	r.ratio += fmt.Sprintf(", %.2f × bare", float64(duo)/float64(bare))
	return r
}

func round(d time.Duration) string { return d.Round(100 * time.Nanosecond).String() }

func rate(perSecond float64) string { return fmt.Sprintf("%.0f/s", perSecond) }

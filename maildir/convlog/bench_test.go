package convlog_test

import (
	"bufio"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claude-duo/duo/maildir/convlog"
)

const (
	benchLines  = 500_000
	benchLength = 400 // bytes of a line
)

// bigLog makes a log of 200 MB.
func bigLog(b *testing.B) *convlog.Reader {
	b.Helper()
	path := filepath.Join(b.TempDir(), "big.jsonl")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	e := message("")
	for seq := range int64(benchLines) {
		e.Seq, e.Timestamp = seq+1, 1739654400000+1000*seq
		e.Content = ""
		e.Content = strings.Repeat("x", benchLength-1-len(e.Append(nil)))
		if _, err := w.Write(append(e.Append(nil), '\n')); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	r, err := convlog.OpenReader(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.Close() })
	return r
}

func BenchmarkReplay(b *testing.B) {
	r := bigLog(b)
	for _, bench := range []struct {
		name  string
		trust int64
	}{{"checked", 0}, {"trusted", r.Size()}} {
		b.Run(bench.name, func(b *testing.B) {
			r.Trust(bench.trust)
			b.SetBytes(r.Size())
			for b.Loop() {
				s := r.Scan(convlog.Pos{})
				for s.Next() {
				}
				if s.Err() != nil || s.Pos().Seq != benchLines {
					b.Fatalf("got %d lines, %v, want %d", s.Pos().Seq, s.Err(), benchLines)
				}
			}
			b.ReportMetric(benchLines*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

func BenchmarkAt(b *testing.B) {
	r := bigLog(b)
	for b.Loop() {
		seq := rand.Int64N(benchLines) + 1
		if line, err := r.At(seq); err != nil || line.Seq != seq {
			b.Fatalf("At(%d): got line %d, %v", seq, line.Seq, err)
		}
	}
}

func BenchmarkLast20(b *testing.B) {
	r := bigLog(b)
	for b.Loop() {
		if lines, err := r.Last(20); err != nil || len(lines) != 20 || lines[19].Seq != benchLines {
			b.Fatalf("got %d lines, %v, want 20", len(lines), err)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, bench := range []struct {
		name string
		opts convlog.Options
	}{{"synced", convlog.Options{}}, {"unsynced", unsynced}} {
		b.Run(bench.name, func(b *testing.B) {
			l, _ := newLog(b, bench.opts)
			e := message(strings.Repeat("x", 200))
			for b.Loop() {
				if err := add(l, e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/search"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
)

// The corpus is what is searched: agents who have talked for a year.
const (
	corpusMessages = 1_000_000
	corpusLength   = 100 // messages of a conversation
	corpusAgents   = 200
	corpusWords    = 50_000 // of which few are frequent
)

// corpus is a home with a corpus and its index.
type corpus struct {
	home     *maildir.Home
	messages int
	logs     int64         // bytes
	took     time.Duration // to read them for the index
	worked   time.Duration // processor time of that
}

// worked is the processor time that this process has used, which its neighbours change less
// than how long something takes.
func worked() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// corpus makes the home that the rows of search share, and reads it once for the index.
func (b *bench) corpus(ctx context.Context) (*corpus, error) {
	if b.searched != nil {
		return b.searched, nil
	}
	c, err := b.newCorpus(corpusMessages)
	if err != nil {
		return nil, err
	}
	start, before := time.Now(), worked()
	x, stop := c.open(ctx)
	x.Settle(ctx)
	c.took, c.worked = time.Since(start), worked()-before
	lag := x.Behind()
	stop()
	if lag != (api.Lag{}) || ctx.Err() != nil {
		return nil, fmt.Errorf("index: %+v are missing, %w", lag, ctx.Err())
	}
	b.searched = c
	return c, nil
}

// newCorpus makes a home with so many messages, or the share of them that is measured.
func (b *bench) newCorpus(messages int) (*corpus, error) {
	home, err := b.home()
	if err != nil {
		return nil, err
	}
	c := &corpus{home: home, messages: b.times(messages)}
	return c, c.write()
}

// open runs the index.
func (c *corpus) open(ctx context.Context) (x *search.Index, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	x = search.New(search.Parts{Home: c.home})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = x.Run(ctx) // which never fails
	}()
	return x, func() { cancel(); <-done }
}

// write writes the logs: in each conversation two to five agents, for an hour or so, of
// 8 to 40 words a message, by Zipf's law.
func (c *corpus) write() error {
	r := rand.New(rand.NewPCG(1, 2))
	words := rand.NewZipf(r, 1.07, 8, corpusWords-1)
	year := time.Now().Add(-365 * 24 * time.Hour)
	count := max(1, c.messages/corpusLength)
	for i := range count {
		at := year.Add(time.Duration(i) * 365 * 24 * time.Hour / time.Duration(count))
		size, err := c.conversation(r, words, at)
		if err != nil {
			return err
		}
		c.logs += size
	}
	return nil
}

func (c *corpus) conversation(r *rand.Rand, words *rand.Zipf, at time.Time) (size int64, err error) {
	people := make([]envelope.Address, 2+r.IntN(4))
	for i, n := range r.Perm(corpusAgents)[:len(people)] {
		people[i] = c.home.Address(crowdName(n))
	}
	create := envelope.NewID()
	id := envelope.ConversationID(c.home.Host.ID, create)
	first := &envelope.Envelope{ID: create, Type: envelope.System, Event: envelope.EventCreate, From: people[0], Origin: c.home.Host.ID,
		Topic: sentence(r, words, 4), Participants: people}
	f, err := os.OpenFile(c.home.LogPath(id), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for seq := int64(1); seq <= corpusLength; seq++ {
		e := first
		if seq > 1 {
			e = &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, From: people[r.IntN(len(people))],
				Content: sentence(r, words, 8+r.IntN(33)), After: envelope.Int(seq - 1)}
		}
		at = at.Add(time.Duration(r.IntN(72_000)) * time.Millisecond)
		e.Conversation, e.Seq, e.Timestamp = id, seq, at.UnixMilli()
		line := append(e.Append(nil), '\n')
		size += int64(len(line))
		if _, err := w.Write(line); err != nil {
			return 0, err
		}
	}
	return size, w.Flush()
}

// sentence is so many words.
func sentence(r *rand.Rand, words *rand.Zipf, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = wordOf(words.Uint64())
	}
	return strings.Join(list, " ")
}

// wordOf is the n-th most frequent word: three letters or more.
func wordOf(n uint64) string {
	const letters = "etaoinshrdlucmfwypvbgkjqxz"
	text := []byte{letters[n%7], letters[n/7%26]}
	for n /= 7 * 26; ; n /= 26 {
		text = append(text, letters[n%26])
		if n < 26 {
			return string(text)
		}
	}
}

// indexing measures how fast logs are read for the first time.
func indexing(ctx context.Context, b *bench) (result, error) {
	c, err := b.corpus(ctx)
	if err != nil {
		return result{}, err
	}
	index, err := sizeOf(c.home.SearchPath())
	if err != nil {
		return result{}, err
	}
	seconds := c.took.Seconds()
	return result{
		duo: fmt.Sprintf("%s, %.1f MB/s; %s of processor time", rate(float64(c.messages)/seconds), float64(c.logs)/1e6/seconds,
			rate(float64(c.messages)/c.worked.Seconds())),
		floor: fmt.Sprintf("%d messages, logs of %.0f MB", c.messages, float64(c.logs)/1e6),
		ratio: fmt.Sprintf("index of %.0f MB, %.2f × the logs", float64(index)/1e6, float64(index)/float64(c.logs)), ok: true,
	}, nil
}

func sizeOf(path string) (size int64, err error) {
	files, err := filepath.Glob(path + "*")
	for _, name := range files {
		info, statErr := os.Stat(name)
		if statErr != nil {
			return 0, statErr
		}
		size += info.Size()
	}
	return size, err
}

// asked are queries as people make them: frequent and rare words, phrases, beginnings of
// words, and what one agent has said.
func asked(r *rand.Rand) []struct{ kind, query string } {
	word := func(from, to int) string { return wordOf(uint64(from + r.IntN(to-from))) }
	return []struct{ kind, query string }{
		{"common", word(0, 20)},
		{"rare", word(20_000, 40_000)},
		{"two", word(0, 20) + " " + word(200, 2000)},
		{"phrase", `"` + word(0, 30) + " " + word(0, 30) + `"`},
		{"prefix", word(50, 2000)[:3] + "*"},
		{"sender", word(0, 100) + " from:" + crowdName(r.IntN(corpusAgents))},
		{"recent", word(0, 100) + " since:2w"},
	}
}

// searching measures queries of all kinds.
func searching(ctx context.Context, b *bench) (result, error) {
	c, err := b.corpus(ctx)
	if err != nil {
		return result{}, err
	}
	x, stop := c.open(ctx)
	defer stop()
	x.Settle(ctx)
	r := rand.New(rand.NewPCG(3, 4))
	took := make(map[string]samples)
	var all, work samples
	for range max(20, min(200, int(200*b.scale))) {
		for _, a := range asked(r) {
			start, before := time.Now(), worked()
			q, err := search.Parse(api.Search{Query: a.query}, start)
			if err != nil {
				return result{}, err
			}
			if _, err := x.Find(ctx, q, envelope.Address{}, 20, ""); err != nil {
				return result{}, fmt.Errorf("search %q: %w", a.query, err)
			}
			spent := worked() - before
			took[a.kind] = append(took[a.kind], spent)
			all, work = append(all, time.Since(start)), append(work, spent)
		}
	}
	var parts []string
	for kind, s := range took {
		parts = append(parts, fmt.Sprintf("%s %.1f/%.1f", kind, ms(s.quantile(0.5)), ms(s.quantile(0.99))))
	}
	slices.Sort(parts)
	return result{
		duo:   fmt.Sprintf("p50 %.1f ms, p99 %.1f ms", ms(all.quantile(0.5)), ms(all.quantile(0.99))),
		floor: fmt.Sprintf("%.1f and %.1f ms of processor time", ms(work.quantile(0.5)), ms(work.quantile(0.99))),
		ratio: "by kind " + strings.Join(parts, ", "), ok: all.quantile(0.99) < 100*time.Millisecond,
	}, nil
}

func ms(d time.Duration) float64 { return math.Round(float64(d)/1e4) / 100 }

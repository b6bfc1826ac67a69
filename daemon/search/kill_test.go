package search_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/search"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
)

// What a process is told that is to keep an index and be killed while it does.
const (
	childOf = "DUO_TEST_INDEX_OF"   // a home
	diesAt  = "DUO_TEST_DIES_AT"    // the n-th log that it reads
	dieIn   = 20 * time.Millisecond // after that, at most
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childOf); dir != "" {
		if err := keepUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// keepUntilKilled keeps the index of a home, and kills this process while it writes.
func keepUntilKilled(dir string) error {
	home, err := maildir.Open(dir)
	if err != nil {
		return err
	}
	rest, err := strconv.Atoi(os.Getenv(diesAt))
	if err != nil {
		return err
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	parts := search.Parts{Home: home, Durable: func(string) int64 {
		if rest--; rest == 0 {
			time.AfterFunc(rand.N(dieIn), func() { _ = self.Kill() })
		}
		return -1
	}}
	return search.New(parts).Run(context.Background())
}

// TestKilled: whenever who writes the index is killed, the next one goes on, and nothing is
// missing or there twice.
func TestKilled(t *testing.T) {
	const rounds, fresh, lines = 8, 3, 400
	c := newCorpus(t, t.TempDir()+"/home")
	r := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	var ids []string
	for round := range rounds {
		for range fresh {
			ids = append(ids, c.create(fmt.Sprintf("Round %d", round), false, people...))
		}
		for range lines {
			c.say(ids[r.IntN(len(ids))], people[r.IntN(len(people))], fmt.Sprintf("parser %d of round %d", r.IntN(1000), round))
		}
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childOf+"="+c.home.Dir, fmt.Sprint(diesAt, "=", 1+r.IntN(fresh)))
		child.Stderr = os.Stderr
		killed := new(exec.ExitError)
		if err := child.Run(); !errors.As(err, &killed) || killed.Exited() {
			t.Fatalf("who keeps the index: got %v, want it killed", err)
		}
	}
	x := c.run()
	defer x.stop()
	for _, query := range []string{"parser", "round 5", `"round 7" from:Nova`, "topic:round -parser"} {
		q := parse(t, api.Search{Query: query})
		want, err := search.Scan(context.Background(), c.home, q, envelope.Address{}, 500, func(id string) string { return "c" + id[len(id)-8:] })
		if err != nil {
			t.Fatal(err)
		}
		got, err := x.Find(context.Background(), q, envelope.Address{}, 500, "")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.Hits, got.Hits); diff != "" {
			t.Errorf("%s: the index (+) differs from the logs (-):\n%s", query, diff)
		}
	}
	rows, err := x.SQL(context.Background(), api.SQL{Query: "SELECT count(*), count(DISTINCT conversation || seq) FROM messages"})
	if want := fmt.Sprint([]any{int64(rounds * (fresh + lines)), int64(rounds * (fresh + lines))}); err != nil || fmt.Sprint(rows.Rows[0]) != want {
		t.Errorf("lines: got %v, %v, want %s", rows.Rows, err, want)
	}
}

// TestBehind: what is not read yet is told, line by line, and is found when it was read.
func TestBehind(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("Review", false, people...)
	hold := make(chan struct{})
	x := search.New(search.Parts{
		Home: c.home,
		Durable: func(string) int64 {
			<-hold
			return -1
		},
		Last: func(string) int64 { return c.seqs[id] },
	})
	if got, want := x.Behind(), (api.Lag{Conversations: 1}); got != want {
		t.Errorf("before it runs: got %+v, want %+v", got, want)
	}
	defer start(x).stop()
	q := parse(t, api.Search{Query: "parser"})
	eventually(t, func() (bool, string) {
		lag := x.Behind()
		return lag == api.Lag{Conversations: 1, Lines: 1}, fmt.Sprintf("when it has looked: got %+v, want 1 line of 1 conversation", lag)
	})
	for range 5 {
		x.Committed(id, c.say(id, "Nova@nyc", "the parser"))
	}
	eventually(t, func() (bool, string) {
		hits, err := x.Find(context.Background(), q, envelope.Address{}, 20, "")
		return err == nil && len(hits.Hits) == 0 && hits.Behind == api.Lag{Conversations: 1, Lines: 6}, fmt.Sprintf("while it is held: got %+v, %v, want no hit and 6 lines of 1 conversation", hits, err)
	})
	close(hold)
	index{x, nil}.settle(t)
	hits, err := x.Find(context.Background(), q, envelope.Address{}, 20, "")
	if err != nil || len(hits.Hits) != 5 || hits.Behind != (api.Lag{}) {
		t.Errorf("when it was read: got %+v, %v, want 5 hits and nothing behind", hits, err)
	}
}

func eventually(t *testing.T, is func() (bool, string)) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		ok, what := is()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// TestDurable: a line that is not on disk for good is not found.
func TestDurable(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("Review", false, people...)
	c.say(id, "Nova@nyc", "the first parser")
	info, err := os.Stat(c.home.LogPath(id))
	if err != nil {
		t.Fatal(err)
	}
	c.say(id, "Nova@nyc", "the second parser")
	x := search.New(search.Parts{Home: c.home, Durable: func(string) int64 { return info.Size() }})
	i := start(x)
	i.settle(t)
	if got := i.find(t, "parser", ""); len(got) != 1 {
		t.Errorf("search: got %v, want the first", got)
	}
	i.stop()
	i = c.run() // nobody writes the log now
	defer i.stop()
	if got := i.find(t, "second", ""); len(got) != 1 {
		t.Errorf("search later: got %v, want the second", got)
	}
}

// TestDeleted: an index that is deleted while it is used is made again.
func TestDeleted(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("Review", false, people...)
	c.say(id, "Nova@nyc", "the first parser")
	x := c.run()
	defer func() { x.stop() }()
	for _, name := range []string{"search.db", "search.db-wal", "search.db-shm", "search.state"} {
		if err := os.Remove(dbPath(c.home)[:len(dbPath(c.home))-len("search.db")] + name); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	x.Committed(id, c.say(id, "Nova@nyc", "the second parser"))
	eventually(t, func() (bool, string) {
		rows, err := x.SQL(context.Background(), api.SQL{Query: "SELECT count(*) FROM messages"})
		return err == nil && fmt.Sprint(rows.Rows) == "[[3]]", fmt.Sprintf("lines: got %v, %v, want 3", rows.Rows, err)
	})
	if got := x.find(t, "parser", ""); len(got) != 2 {
		t.Errorf("search: got %v, want both", got)
	}
}

// TestWhileItReads: a line that comes while its log is being read is not forgotten.
func TestWhileItReads(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("Review", false, people...)
	var x *search.Index
	reads := 0
	x = search.New(search.Parts{Home: c.home, Durable: func(string) int64 {
		info, err := os.Stat(c.home.LogPath(id))
		if err != nil {
			t.Error(err)
			return -1
		}
		if reads++; reads == 1 {
			x.Committed(id, c.say(id, "Nova@nyc", "the parser"))
		}
		return info.Size()
	}})
	i := start(x)
	defer i.stop()
	i.settle(t)
	if got := i.find(t, "parser", ""); len(got) != 1 {
		t.Errorf("search: got %v, want the line", got)
	}
}

// TestChangedByOthers: an index whose file somebody has changed while nobody used it is made
// again, also where it can be read.
func TestChangedByOthers(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	c.say(c.create("Review", false, people...), "Nova@nyc", "the parser is red")
	c.run().stop()
	data, err := os.ReadFile(dbPath(c.home))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte("parser is red")) {
		t.Fatal("the index does not have the text")
	}
	if err := os.WriteFile(dbPath(c.home), bytes.ReplaceAll(data, []byte("parser is red"), []byte("parser is new")), 0o600); err != nil {
		t.Fatal(err)
	}
	x := c.run()
	defer x.stop()
	rows, err := x.SQL(context.Background(), api.SQL{Query: "SELECT content FROM messages WHERE seq = 2"})
	if err != nil || fmt.Sprint(rows.Rows) != "[[the parser is red]]" {
		t.Errorf("the message: got %v, %v, want it as the log has it", rows.Rows, err)
	}
}

// TestAskedWhileLinesCome: while agents write, the index rests, but for who asks.
func TestAskedWhileLinesCome(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("Review", false, people...)
	i := search.New(search.Parts{Home: c.home})
	i.Lull(time.Hour)
	x := start(i)
	defer x.stop()
	x.settle(t)
	for i := range 5 {
		word := fmt.Sprintf("word%d", i)
		x.Committed(id, c.say(id, "Nova@nyc", word))
		eventually(t, func() (bool, string) {
			hits, err := x.Find(t.Context(), parse(t, api.Search{Query: word}), envelope.Address{}, 20, "")
			return err == nil && len(hits.Hits) == 1 && hits.Behind == api.Lag{}, fmt.Sprintf("%s: got %+v, %v, want the line", word, hits, err)
		})
	}
}

// TestOneLogCannotBeRead: the others are searched all the same.
func TestOneLogCannotBeRead(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	lost, sound := c.create("Lost", false, people...), c.create("Sound", false, people...)
	c.say(sound, "Nova@nyc", "the parser is red")
	x := c.run()
	defer x.stop()
	x.settle(t)
	if err := os.Remove(c.home.LogPath(lost)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(c.home.LogPath(lost), 0o700); err != nil {
		t.Fatal(err)
	}
	x.Committed(lost, 2)
	seq := c.say(sound, "Nova@nyc", "the parser is green")
	x.Committed(sound, seq)
	x.settle(t)
	if got := x.find(t, "parser", ""); len(got) != 2 {
		t.Errorf("search: got %v, want both lines of the log that can be read", got)
	}
}

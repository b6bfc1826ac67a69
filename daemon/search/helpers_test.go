package search_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/search"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	_ "modernc.org/sqlite"
)

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// corpus is a home whose logs a test writes itself.
type corpus struct {
	t    tb
	home *maildir.Home
	seqs map[string]int64
	time int64
}

func newCorpus(t tb, dir string) *corpus {
	t.Helper()
	home, err := maildir.Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &corpus{t: t, home: home, seqs: make(map[string]int64), time: now.Add(-time.Hour).UnixMilli()}
}

func address(name string) envelope.Address {
	a, err := envelope.ParseAddress(name)
	if err != nil {
		panic(err)
	}
	return a
}

// create makes a conversation with its first line.
func (c *corpus) create(topic string, open bool, people ...string) string {
	id := envelope.NewID()
	first := &envelope.Envelope{Type: envelope.System, Event: envelope.EventCreate, From: address(people[0]), Topic: topic, Open: open, Origin: c.home.Host.ID}
	for _, p := range people {
		first.Participants = append(first.Participants, address(p))
	}
	c.add(id, first)
	return id
}

// add appends a line, and returns its seq.
func (c *corpus) add(id string, e *envelope.Envelope) int64 {
	c.t.Helper()
	c.seqs[id]++
	c.time++
	e.Seq, e.Conversation = c.seqs[id], id
	if e.ID == "" {
		e.ID = envelope.NewID()
	}
	if e.Timestamp == 0 {
		e.Timestamp = c.time
	}
	c.raw(id, string(e.Append(nil))+"\n")
	return e.Seq
}

func (c *corpus) say(id, from, content string) int64 {
	return c.add(id, &envelope.Envelope{Type: envelope.Message, From: address(from), Content: content})
}

// raw appends to a log what is no line perhaps.
func (c *corpus) raw(id, text string) {
	c.t.Helper()
	f, err := os.OpenFile(c.home.LogPath(id), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// index is an index that runs.
type index struct {
	*search.Index
	stop func()
}

// run starts an index and waits until it has read everything.
func (c *corpus) run() index {
	c.t.Helper()
	x := start(search.New(search.Parts{Home: c.home}))
	x.settle(c.t)
	return x
}

func start(x *search.Index) index {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = x.Run(ctx)
	}()
	return index{x, func() { cancel(); <-done }}
}

// exec runs a statement on the file of an index, beside who uses it.
func (c *corpus) exec(statement string) {
	c.t.Helper()
	db, err := sql.Open("sqlite", dbPath(c.home))
	if err == nil {
		_, err = db.Exec(statement)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		c.t.Fatalf("%s: %v", statement, err)
	}
}

func (x index) settle(t tb) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	x.Settle(ctx)
	if lag := x.Behind(); ctx.Err() != nil || lag != (api.Lag{}) {
		t.Fatalf("index: got %+v behind, %v, want nothing", lag, ctx.Err())
	}
}

func parse(t tb, s api.Search) *search.Query {
	t.Helper()
	q, err := search.Parse(s, now)
	if err != nil {
		t.Fatalf("parse %q: %v", s.Query, err)
	}
	return q
}

// find lists the places of what a query finds.
func (x index) find(t *testing.T, query string, reader string) []string {
	t.Helper()
	who := envelope.Address{}
	if reader != "" {
		who = address(reader)
	}
	hits, err := x.Find(context.Background(), parse(t, api.Search{Query: query}), who, 100, "")
	if err != nil {
		t.Fatalf("find %q: %v", query, err)
	}
	return places(hits.Hits)
}

func places(hits []api.Hit) []string {
	list := []string{}
	for _, h := range hits {
		list = append(list, fmt.Sprintf("%s.%d", h.Conversation, h.Seq))
	}
	return list
}

func dbPath(h *maildir.Home) string { return filepath.Join(h.RunDir(), "search.db") }

package search_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/search"
	"github.com/claude-duo/duo/maildir/envelope"
)

func refusal(err error) api.Code {
	e := new(api.Error)
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}

// TestSQLOnlyReads: nothing that SQLite can do to a file happens, to the index or to others.
func TestSQLOnlyReads(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	c.say(c.create("Review", false, "Atlas@nyc"), "Atlas@nyc", "hello")
	x := c.run()
	defer x.stop()
	other := filepath.Join(t.TempDir(), "other.db")
	for _, query := range []string{
		"DELETE FROM m", "UPDATE c SET topic = 'x'", "INSERT INTO a (key, address) VALUES ('x', 'x')", "DROP TABLE m", "CREATE TABLE x (y)",
		"CREATE TEMP TABLE x (y)", "CREATE VIEW x AS SELECT 1", "ATTACH '" + other + "' AS x", "VACUUM", "VACUUM INTO '" + other + "'", "REINDEX", "ANALYZE",
		"PRAGMA journal_mode = DELETE", "PRAGMA query_only = 0", "PRAGMA user_version = 7", "PRAGMA temp_store_directory = '/tmp'", "PRAGMA hard_heap_limit = 1",
		"BEGIN", "SAVEPOINT x", "ROLLBACK", "COMMIT", "SELECT 1; DELETE FROM m", "DELETE FROM m; SELECT 1", "WITH x AS (SELECT 1) DELETE FROM m",
		"INSERT INTO words (words) VALUES ('rebuild')", "INSERT INTO words (words, rank) VALUES ('automerge', 0)", "DELETE FROM messages RETURNING *",
		"SELECT load_extension('x')", "SELECT writefile('" + other + "', 'x')", "SELECT fts5(1)", "", "  ", "-- nothing", "SELECT", "SELECT 'x", "\x00",
		"SELECT randomblob(100000000)", "SELECT zeroblob(2000000000)", "SELECT printf('%.*c', 100000000, 'x')", strings.Repeat("x", 65<<10),
		"SELECT * FROM nowhere",
	} {
		if rows, err := x.SQL(context.Background(), api.SQL{Query: query}); refusal(err) != api.BadRequest {
			t.Errorf("%.60q: got %+v, %v, want a refusal", query, rows, err)
		}
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("another file was made")
	}
	rows, err := x.SQL(context.Background(), api.SQL{Query: "SELECT content FROM messages WHERE seq = 2"})
	if err != nil || len(rows.Rows) != 1 || rows.Rows[0][0] != "hello" {
		t.Errorf("the message: got %+v, %v, want it as it was", rows, err)
	}
	if got := x.find(t, "hello", ""); len(got) != 1 {
		t.Errorf("search: got %v, want the message", got)
	}
}

// TestSQLIsBounded: rows, bytes and time.
func TestSQLIsBounded(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("Review", false, "Atlas@nyc")
	for range 4 {
		c.say(id, "Atlas@nyc", "hello")
	}
	x := c.run()
	defer x.stop()
	rows, err := x.SQL(context.Background(), api.SQL{Query: "SELECT seq FROM messages ORDER BY seq", Limit: 3})
	if err != nil || len(rows.Rows) != 3 || !rows.More {
		t.Errorf("3 rows: got %d, more %t, %v", len(rows.Rows), rows.More, err)
	}
	rows, err = x.SQL(context.Background(), api.SQL{Query: "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30) SELECT hex(zeroblob(500000)) FROM n"})
	if err != nil || len(rows.Rows) > 20 || !rows.More {
		t.Errorf("30 MB: got %d rows, more %t, %v", len(rows.Rows), rows.More, err)
	}
	rows, err = x.SQL(context.Background(), api.SQL{Query: "SELECT 1e999, -1e999, 1.5"})
	if text, bad := json.Marshal(rows.Rows); err != nil || bad != nil || string(text) != `[["+Inf","-Inf",1.5]]` {
		t.Errorf("numbers that JSON has not: got %s, %v, %v", text, bad, err)
	}
	for _, limit := range []int{-1, search.MaxRows + 1} {
		if _, err := x.SQL(context.Background(), api.SQL{Query: "SELECT 1", Limit: limit}); refusal(err) != api.BadRequest {
			t.Errorf("limit %d: got %v, want a refusal", limit, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := x.SQL(ctx, api.SQL{Query: "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"})
		ended <- err
	}()
	cancel()
	if err := <-ended; err == nil {
		t.Error("a question without an end: got no error when its asker is gone")
	}
}

// TestTooSlow: an answer that takes too long ends, and says so.
func TestTooSlow(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	c.say(c.create("Review", false, "Atlas@nyc", "Nova@nyc"), "Atlas@nyc", "hello")
	x := search.New(search.Parts{Home: c.home})
	x.Times(time.Minute, time.Nanosecond, time.Minute)
	i := start(x)
	defer i.stop()
	i.settle(t)
	_, find := x.Find(t.Context(), parse(t, api.Search{Query: "hello"}), envelope.Address{}, 10, "")
	_, talk := x.Talk(t.Context(), time.UnixMilli(0), envelope.Address{})
	_, rows := x.SQL(t.Context(), api.SQL{Query: "SELECT 1"})
	for what, err := range map[string]error{"find": find, "talk": talk, "sql": rows} {
		if refusal(err) != api.TooSlow {
			t.Errorf("%s: got %v, want that it took too long", what, err)
		}
	}
}

// TestTables: what the documented tables say.
func TestTables(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("Review", true, "Atlas@nyc", "Nova@lon")
	c.add(id, &envelope.Envelope{Type: envelope.Message, From: address("Atlas@nyc"), Content: "one", To: []string{"Nova"}, Data: []byte(`{"a":[1,2]}`), Auto: true, Hops: 2,
		Attachments: []envelope.Attachment{{Name: "a.txt", MediaType: "text/plain", Size: 3, SHA256: strings.Repeat("a", 64)}, {Name: "b.txt", SHA256: strings.Repeat("b", 64)}}})
	c.add(id, &envelope.Envelope{Type: envelope.Message, From: address("Nova@lon"), Content: "two", ReplyTo: envelope.Ref{Seq: 2}, After: envelope.Int(2)})
	c.add(id, &envelope.Envelope{Type: envelope.Leave, From: address("Nova@lon")})
	c.add(id, &envelope.Envelope{Type: envelope.Join, From: address("Nova@lon")})
	c.add(id, &envelope.Envelope{Type: envelope.System, Event: envelope.EventClose, From: address("Atlas@nyc"), Reason: "done"})
	x := c.run()
	defer x.stop()
	ref := "c" + id[len(id)-8:]
	for query, want := range map[string]string{
		"SELECT ref || topic || open || turns || status || reason || last_seq || creator FROM conversations": ref + "Review12closeddone6Atlas@nyc",
		"SELECT group_concat(agent || joined_seq || '-' || ifnull(left_seq, ''), ' ') FROM participants":     "Atlas@nyc1- Nova@lon1-4 Nova@lon5-",
		"SELECT ref || recipients || data || auto || hops || attachments FROM messages WHERE seq = 2":        ref + `.2["Nova"]{"a":[1,2]}122`,
		"SELECT reply_to || after || sender FROM messages WHERE seq = 3":                                     "22Nova@lon",
		"SELECT group_concat(type || ifnull(event, ''), ' ') FROM (SELECT * FROM messages ORDER BY seq)":     "systemcreate message message leave join systemclose",
		"SELECT group_concat(seq || name || size, ' ') FROM attachments":                                     "2a.txt3 2b.txt0",
		"SELECT json_extract(data, '$.a[1]') FROM messages WHERE data IS NOT NULL":                           "2",
		"SELECT length(id) || substr(id, 9, 1) FROM messages WHERE seq = 1":                                  "36-",
		"SELECT group_concat(name || '@' || host, ' ') FROM (SELECT * FROM agents ORDER BY name)":            "Atlas@nyc Nova@lon",
		"SELECT count(*) FROM (" + api.SchemaSQL + ")":                                                       "65",
	} {
		rows, err := x.SQL(context.Background(), api.SQL{Query: query})
		if err != nil || len(rows.Rows) != 1 || fmt.Sprint(rows.Rows[0][0]) != want {
			t.Errorf("%s: got %v, %v, want %s", query, rows.Rows, err, want)
		}
	}
}

// TestAloneWithoutAnIndex: where none can be made, the question ends and says so.
func TestAloneWithoutAnIndex(t *testing.T) {
	c := newCorpus(t, filepath.Join(t.TempDir(), "home"))
	c.say(c.create("a topic", false, "Ann@here", "Bob@here"), "Ann@here", "hello")
	inTheWay := filepath.Join(dbPath(c.home), "folder")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := search.SelectAlone(ctx, c.home, api.SQL{Query: "SELECT count(*) FROM messages"})
	if err == nil || ctx.Err() != nil {
		t.Errorf("got %v, %v, want an error at once", err, ctx.Err())
	}
	if err := os.RemoveAll(dbPath(c.home)); err != nil {
		t.Fatal(err)
	}
	rows, err := search.SelectAlone(ctx, c.home, api.SQL{Query: "SELECT count(*) FROM messages"})
	if err != nil || fmt.Sprint(rows.Rows) != "[[2]]" {
		t.Errorf("got %v, %v, want 2 messages", rows.Rows, err)
	}
}

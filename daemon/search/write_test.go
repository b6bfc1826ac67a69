package search_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/claude-duo/duo/daemon/search"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestWrite: the file has the chosen conversations in the documented tables, and nothing of
// the others.
func TestWrite(t *testing.T) {
	c := newCorpus(t, t.TempDir()+"/home")
	id := c.create("Review", false, "Atlas@nyc", "Nova@lon")
	c.say(id, "Atlas@nyc", "hello")
	c.add(id, &envelope.Envelope{Type: envelope.Leave, From: address("Nova@lon"), Reason: "done"})
	c.say(c.create("Other", false, "Sage@nyc"), "Sage@nyc", "not for you")
	path := filepath.Join(t.TempDir(), "out.sqlite")
	if err := search.Write(context.Background(), path, c.home, []string{id}); err != nil {
		t.Fatal(err)
	}
	if err := search.Write(context.Background(), path, c.home, []string{id}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Write over a file: got %v, want that it exists", err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for query, want := range map[string]string{
		"SELECT group_concat(topic) FROM conversations":                                                          "Review",
		"SELECT group_concat(sender || ': ' || content) FROM messages WHERE type = 'message'":                    "Atlas@nyc: hello",
		"SELECT group_concat(agent || ' ' || joined_seq || ifnull('-' || left_seq, ''), '; ') FROM participants": "Atlas@nyc 1; Nova@lon 1-3",
		"SELECT reason FROM messages WHERE type = 'leave'":                                                       "done",
		"SELECT group_concat(name || ' ' || host, '; ') FROM agents":                                             "Atlas nyc; Nova lon",
		"SELECT id FROM conversations":                                                                           id,
		"SELECT count(*) FROM requests":                                                                          "0",
	} {
		var got string
		if err := db.QueryRow(query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", query, got, err, want)
		}
	}
}

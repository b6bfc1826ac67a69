package export_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/claude-duo/duo/daemon/export"
	"github.com/claude-duo/duo/maildir/envelope"
)

// A SQLite file has the messages and the files of the conversations that were asked for.
func TestTables(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	home := newHome(t, filepath.Join(dir, "h"), "nyc")
	a := bring(t, home, "a.txt", "text/plain", "hello")
	gone := envelope.Attachment{Name: "gone", MediaType: "text/plain", Size: 1, SHA256: sum("gone")}
	id, _ := talk(t, home, "one", []string{"Atlas"}, &envelope.Envelope{Content: "x", Attachments: []envelope.Attachment{a, gone}})
	talk(t, home, "two", []string{"Atlas"}, &envelope.Envelope{Content: "y"})
	path := filepath.Join(dir, "out.sqlite")
	result, err := export.File(context.Background(), path, false, home, []string{id}, export.SQLite)
	if err != nil || result.Files != 1 || len(result.Missing) != 1 || result.Missing[0].Name != "gone" {
		t.Errorf("got %+v, %v", result, err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var text, content string
	var rows int
	err = db.QueryRow("SELECT m.content, b.content FROM messages m JOIN attachments a USING (conversation, seq) JOIN blobs b USING (sha256)").Scan(&text, &content)
	if err != nil || text != "x" || content != "hello" {
		t.Errorf("got %q with %q, %v", text, content, err)
	}
	if err := db.QueryRow("SELECT count(*) FROM conversations").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("got %d conversations, %v", rows, err)
	}
}

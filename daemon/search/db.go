package search

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"github.com/claude-duo/duo/maildir/durable"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// open opens a database file, for one connection that writes or for several that read.
func open(path string, writes bool) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Path: path}
	q := url.Values{}
	if writes {
		q.Set("_journal_mode", "WAL")
		q.Set("_synchronous", "OFF")
		q.Add("_pragma", "cache_size(-16000)")
		q.Add("_pragma", "wal_autocheckpoint(4000)")
		q.Add("_pragma", "journal_size_limit(16000000)")
	} else {
		q.Set("mode", "ro")
		q.Set("_query_only", "1")
		q.Add("_pragma", "cache_size(-4000)")
	}
	q.Set("_busy_timeout", "2000")
	u.RawQuery = q.Encode()
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open index %q: %w", path, err)
	}
	if writes {
		db.SetMaxOpenConns(1)
	}
	return db, nil
}

// state is the file beside the index that says whether it can be relied upon.
type state struct {
	Version int    `json:"version"`
	Home    string `json:"home"`             // id of the host
	Boot    string `json:"boot"`             // of the system, while somebody writes
	Closed  string `json:"closed,omitempty"` // what the file looked like when it was closed, and is now
}

const maxState = 4 << 10

func statePath(path string) string { return strings.TrimSuffix(path, ".db") + ".state" }

func readState(path string) (s state) {
	data, err := durable.ReadPlain(statePath(path), maxState)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return state{}
	}
	return s
}

func (s state) write(path string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return durable.ReplaceCache(statePath(path), append(data, '\n'), 0o600)
}

// boot tells one run of the system from another, empty where that is not known.
func boot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// looks is what a file looks like: when it has changed, this does.
func looks(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return looksOf(info)
}

func looksOf(info fs.FileInfo) string {
	return fmt.Sprintf("%d %d %d", info.Size(), info.ModTime().UnixNano(), durable.Inode(info))
}

// usable says why an index cannot be relied upon, empty for no reason. An index that nobody
// has closed is looked through.
func usable(ctx context.Context, path, home string) (why string) {
	s := readState(path)
	switch {
	case looks(path) == "":
		return "there is none"
	case s.Version != version:
		return "it is of another version"
	case s.Home != home:
		return "it is of another home"
	case s.Closed != "" && s.Closed != looks(path):
		return "somebody else has changed it"
	case s.Closed != "":
		return ""
	case s.Boot == "" || s.Boot != boot():
		return "the system went down while it was written"
	}
	db, err := open(path, true)
	if err != nil {
		return err.Error()
	}
	defer db.Close()
	result := ""
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return err.Error()
	}
	if result != "ok" {
		return result
	}
	return ""
}

// create makes an empty index in the place of what is there.
func create(path string) (*sql.DB, error) {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("make index again: %w", err)
		}
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make index: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("make index: %w", err)
	}
	db, err := open(path, true)
	if err != nil {
		return nil, err
	}
	if _, err := db.Exec(tables + wordTable); err != nil {
		return nil, errors.Join(fmt.Errorf("make tables of index: %w", err), db.Close())
	}
	return db, nil
}

// broken reports whether an error means that the file is not a sound index.
func broken(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return errors.Is(err, errGone)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CANTOPEN: // an error is a table that is not there
		return true
	}
	return false
}

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
	"slices"
	"strings"

	"github.com/claude-duo/duo/maildir/durable"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// open opens a database file that is there, for one connection that writes or for several
// that read.
func open(path string, writes bool) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Path: path}
	q := url.Values{}
	most := maxReaders
	if writes {
		most = 1
		q.Set("mode", "rw")
		q.Set("_journal_mode", "WAL")
		q.Set("_synchronous", "OFF")
		q.Add("_pragma", "cache_size(-16000)")
		q.Add("_pragma", "wal_autocheckpoint(4000)")
		q.Add("_pragma", "journal_size_limit(16000000)")
	} else {
		q.Set("mode", "ro")
		q.Set("_query_only", "1")
		q.Add("_pragma", "cache_size(-1000)")
	}
	q.Set("_busy_timeout", "2000")
	u.RawQuery = q.Encode()
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open index %q: %w", path, err)
	}
	db.SetMaxIdleConns(1)
	db.SetMaxOpenConns(most)
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

// readState reads the state of an index, empty where there is none that can be understood.
func readState(path string) (s state, err error) {
	data, err := durable.ReadPlain(statePath(path), maxState)
	switch {
	case durable.DiskFailed(err):
		return state{}, err
	case err != nil || json.Unmarshal(data, &s) != nil:
		return state{}, nil
	}
	return s, nil
}

func (s state) write(path string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return durable.ReplaceCache(statePath(path), append(data, '\n'), 0o600)
}

// boot tells one run of the system from another, empty where that cannot be known.
func boot() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if durable.DiskFailed(err) {
		return "", err
	}
	return strings.TrimSpace(string(id)), nil
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
// has closed is looked through. An error is of what may pass: it says nothing of the index.
func usable(ctx context.Context, path, home, booted string) (why string, err error) {
	s, err := readState(path)
	if err != nil {
		return "", err
	}
	switch {
	case looks(path) == "":
		return "there is none", nil
	case s.Version != version:
		return "it is of another version", nil
	case s.Home != home:
		return "it is of another home", nil
	case s.Closed != "" && s.Closed != looks(path):
		return "somebody else has changed it", nil
	case s.Closed != "":
		return "", nil
	case s.Boot == "" || s.Boot != booted:
		return "the system went down while it was written", nil
	}
	return check(ctx, path)
}

// check looks an index through, and says what is wrong with it.
func check(ctx context.Context, path string) (why string, err error) {
	db, err := open(path, true)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	result := ""
	err = db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result)
	switch {
	case damaged(err), failedWith(err, sqlite3.SQLITE_ERROR):
		return err.Error(), nil
	case err != nil:
		return "", fmt.Errorf("check index: %w", err)
	case result != "ok":
		return result, nil
	case !complete(ctx, db):
		return "tables are missing", nil
	}
	return "", nil
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

// failedWith reports whether an error is SQLite's, with one of some codes.
func failedWith(err error, codes ...int) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && slices.Contains(codes, e.Code()&0xff)
}

// damaged reports whether an error says that a file is not sound.
func damaged(err error) bool {
	return failedWith(err, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
}

// complete reports whether the tables of an index are there. Where that cannot be told now,
// they are.
func complete(ctx context.Context, db *sql.DB) bool {
	n := 0
	err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema
		WHERE name IN ('a', 'c', 'p', 'm', 'f', 't', 'r', 'words', 'words_config', 'words_data', 'words_idx')`).Scan(&n)
	return n == 11 || err != nil && !damaged(err)
}

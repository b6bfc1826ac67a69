package search

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/claude-duo/duo/maildir"
)

// Write makes a SQLite file at path with the documented tables, of the conversations with
// the given ids as their logs are now: their lines and people, the agents who are or were in
// them, the calls that they came of, and in a table blobs the files that they bring. An
// error is fs.ErrExist where there is a file already, and where another one is returned,
// there is none at path. It needs no daemon.
func Write(ctx context.Context, path string, home *maildir.Home, conversations []string) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write tables: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write tables: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write tables to %q: %w", path, err), os.Remove(path))
		}
	}()
	return write(ctx, path, home, conversations)
}

func write(ctx context.Context, path string, home *maildir.Home, conversations []string) (err error) {
	db, err := open(path, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;"+tables); err != nil {
		return err
	}
	f := &feeder{db: db, home: home, agents: make(map[string]int64)}
	for rest := conversations; len(rest) > 0; {
		done, err := f.feed(ctx, rest[:min(len(rest), maxAtOnce)])
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rest = rest[len(done):]
	}
	if err := f.refresh(ctx, onlyOf(conversations)); err != nil {
		return err
	}
	return addContents(ctx, db, home)
}

// onlyOf selects what concerns some conversations.
func onlyOf(conversations []string) func(conversation string) bool {
	set := make(map[string]bool, len(conversations))
	for _, id := range conversations {
		set[id] = true
	}
	return func(conversation string) bool { return set[conversation] }
}

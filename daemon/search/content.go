package search

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/durable"
)

// contents is a table that only files for others have: an index finds files in the home.
const contents = `CREATE TABLE blobs (sha256 TEXT PRIMARY KEY, content BLOB NOT NULL)`

// addContents puts the files into the tables that messages there bring. Those that are not
// in the home, or damaged there, are left out.
func addContents(ctx context.Context, db *sql.DB, home *maildir.Home) error {
	if _, err := db.ExecContext(ctx, contents); err != nil {
		return err
	}
	sums, err := attachedSums(ctx, db)
	if err != nil {
		return err
	}
	blobs := blob.At(home.BlobsDir(), home.Config.Limits.Attachment)
	for _, sum := range sums {
		data, err := content(blobs, sum)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, blob.ErrDamaged), errors.Is(err, durable.ErrForeign):
			continue
		case err != nil:
			return err
		}
		if _, err := db.ExecContext(ctx, "INSERT INTO blobs VALUES (?, ?)", sum, data); err != nil {
			return fmt.Errorf("add file %q: %w", sum, err)
		}
	}
	return nil
}

func attachedSums(ctx context.Context, db *sql.DB) (sums []string, err error) {
	rows, err := db.QueryContext(ctx, "SELECT DISTINCT sha256 FROM f")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var sum string
		if err := rows.Scan(&sum); err != nil {
			return nil, err
		}
		sums = append(sums, sum)
	}
	return sums, rows.Err()
}

func content(blobs *blob.Store, sum string) ([]byte, error) {
	f, err := blobs.Open(sum)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

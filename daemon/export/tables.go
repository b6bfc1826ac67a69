package export

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/claude-duo/duo/daemon/search"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
)

// tables is File for the format SQLite, which is made in a folder of its own beside.
func tables(ctx context.Context, path string, replace bool, home *maildir.Home, ids []string) (Result, error) {
	s, err := newSource(home)
	if err != nil {
		return Result{}, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), durable.TempPrefix+"*")
	if err != nil {
		return Result{}, fmt.Errorf("export to %q: %w", path, err)
	}
	made, err := filepath.Abs(filepath.Join(dir, "tables")) // a path of SQLite is a URL
	if err != nil {
		return Result{}, errors.Join(err, os.RemoveAll(dir))
	}
	err = s.run(ctx, ids, counted{s})
	if err == nil {
		err = search.Write(ctx, made, home, ids)
	}
	if err == nil {
		err = syncFile(made)
	}
	if err == nil {
		err = take(made, path, replace)
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		return s.result, fmt.Errorf("export to %q: %w", path, err)
	}
	return s.result, durable.SyncDir(filepath.Dir(path))
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(durable.Sync(f), f.Close())
}

// counted is a form that writes nothing: it tells what will be there, and what will not.
type counted struct{ source *source }

func (c counted) talk(t *talk) error {
	for _, a := range t.files {
		f, _, err := c.source.file(a)
		if err != nil {
			return err
		}
		if f == nil {
			continue
		}
		c.source.result.Files++
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

func (counted) end() error { return nil }

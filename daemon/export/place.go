package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
)

// File is Write into a file that has its name as soon as it is whole and on disk; what a
// crash leaves is .tmp-… beside. Where there is something with that name it is replaced,
// or without replace the error is fs.ErrExist and nothing is written.
func File(ctx context.Context, path string, replace bool, home *maildir.Home, ids []string, format Format) (Result, error) {
	if err := free(path, replace); err != nil {
		return Result{}, err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), durable.TempPrefix+"*")
	if err != nil {
		return Result{}, fmt.Errorf("export to %q: %w", path, err)
	}
	result, err := Write(ctx, temp, home, ids, format)
	if err == nil {
		err = durable.Sync(temp)
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = take(temp.Name(), path, replace)
	}
	if err != nil {
		return result, errors.Join(fmt.Errorf("export to %q: %w", path, err), os.Remove(temp.Name()))
	}
	return result, durable.SyncDir(filepath.Dir(path))
}

// free reports whether a file may get the name. A folder is never replaced by a file.
func free(path string, replace bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !replace || info.IsDir():
		return fmt.Errorf("export to %q: %w", path, fs.ErrExist)
	}
	return nil
}

// take gives a finished file its name.
func take(temp, path string, replace bool) error {
	if replace {
		return os.Rename(temp, path)
	}
	return durable.RenameNew(temp, path)
}

package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/claude-duo/duo/daemon/markdown"
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
	if format == SQLite {
		return tables(ctx, path, replace, home, ids)
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

// Folder is File for a folder of transcripts, Markdown or HTML. Only one that an earlier
// export has made is replaced, or an empty one; else the error is fs.ErrExist.
func Folder(ctx context.Context, path string, replace bool, home *maildir.Home, ids []string, format Format) (Result, error) {
	path = filepath.Clean(path)
	if err := freeFolder(path, replace); err != nil {
		return Result{}, err
	}
	s, err := newSource(home)
	if err != nil {
		return Result{}, err
	}
	l, err := layoutOf(format)
	if err != nil {
		return Result{}, err
	}
	temp, err := os.MkdirTemp(filepath.Dir(path), durable.TempPrefix+"*")
	if err != nil {
		return Result{}, fmt.Errorf("export to %q: %w", path, err)
	}
	err = s.run(ctx, ids, newFolder(s, temp, l))
	if err == nil {
		err = finishFolder(temp, path)
	}
	if err != nil {
		return s.result, errors.Join(fmt.Errorf("export to %q: %w", path, err), os.RemoveAll(temp))
	}
	return s.result, durable.SyncDir(filepath.Dir(path))
}

func layoutOf(format Format) (layout, error) {
	switch format {
	case Markdown:
		return markdownLayout{}, nil
	case HTML:
		return htmlLayout{markdown.New()}, nil
	}
	return nil, fmt.Errorf("export as %q: it makes no folder", format)
}

// mark is a file in folders of exports.
const mark = ".duo-export"

func freeFolder(path string, replace bool) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, ours := os.Lstat(filepath.Join(path, mark))
	if err == nil && (len(entries) == 0 || replace && ours == nil) {
		return nil
	}
	return errors.Join(fmt.Errorf("export to %q: %w", path, fs.ErrExist), err)
}

// finishFolder gives a finished folder its name. What was there is put aside first, so that
// after a crash it is there under one of both names.
func finishFolder(temp, path string) error {
	if err := os.WriteFile(filepath.Join(temp, mark), nil, 0o600); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Join(temp, attachmentsDir), temp} {
		if err := durable.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	old := temp + "-old"
	err := os.Rename(path, old)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := durable.RenameNew(temp, path); err != nil {
		return errors.Join(err, os.Rename(old, path))
	}
	return os.RemoveAll(old)
}

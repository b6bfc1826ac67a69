package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/claude-duo/duo/maildir/durable"
)

func TestReadPlainAndRegular(t *testing.T) {
	const limit = 100
	text := strings.Repeat("x", limit)
	file := func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	for name, test := range map[string]struct {
		put            func(path string) error
		plain, regular error
	}{
		"a file":            {file, nil, nil},
		"an empty file":     {func(path string) error { return os.WriteFile(path, nil, 0o600) }, nil, nil},
		"nothing":           {func(string) error { return nil }, fs.ErrNotExist, fs.ErrNotExist},
		"a link":            {func(path string) error { return errors.Join(file(path+".x"), os.Symlink(path+".x", path)) }, durable.ErrForeign, nil},
		"a link to nowhere": {func(path string) error { return os.Symlink("missing", path) }, durable.ErrForeign, fs.ErrNotExist},
		"a second name":     {func(path string) error { return errors.Join(file(path), os.Link(path, path+".x")) }, durable.ErrSecondName, nil},
		"a pipe":            {func(path string) error { return syscall.Mkfifo(path, 0o600) }, durable.ErrForeign, durable.ErrForeign},
		"a folder":          {func(path string) error { return os.Mkdir(path, 0o700) }, durable.ErrForeign, durable.ErrForeign},
		"a device":          {func(path string) error { return os.Symlink(os.DevNull, path) }, durable.ErrForeign, durable.ErrForeign},
		"a byte too many":   {func(path string) error { return os.WriteFile(path, []byte(text+"x"), 0o600) }, durable.ErrTooLarge, durable.ErrTooLarge},
		"an endless file":   {func(path string) error { return errors.Join(file(path), os.Truncate(path, 1<<40)) }, durable.ErrTooLarge, durable.ErrTooLarge},
		"another user's": {func(path string) error {
			return errors.Join(file(path), os.Chown(path, 65534, 65534))
		}, durable.ErrForeign, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "another user's" && os.Geteuid() != 0 {
				t.Skip("only root can give a file away")
			}
			path := filepath.Join(t.TempDir(), "file")
			if err := test.put(path); err != nil {
				t.Fatal(err)
			}
			for what, read := range map[string]struct {
				read func(string, int64) ([]byte, error)
				want error
			}{"ReadPlain": {durable.ReadPlain, test.plain}, "ReadRegular": {durable.ReadRegular, test.regular}} {
				data, err := read.read(path, limit)
				if !errors.Is(err, read.want) || err != nil && !strings.Contains(err.Error(), path) {
					t.Errorf("%s: got %v, want %v, with the path", what, err, read.want)
				}
				if err == nil && name != "an empty file" && string(data) != text {
					t.Errorf("%s: got %q, want what is in the file", what, data)
				}
			}
		})
	}
}

func TestCheckRegular(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(os.WriteFile(path("file"), nil, 0o600), os.Symlink("file", path("link")),
		os.Mkdir(path("folder"), 0o700), syscall.Mkfifo(path("pipe"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		"file": nil, "missing": nil, "link": durable.ErrForeign, "folder": durable.ErrForeign, "pipe": durable.ErrForeign,
	} {
		if err := durable.CheckRegular(path(name)); !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), path(name)) {
			t.Errorf("%s: got %v, want %v, with the path", name, err, want)
		}
	}
	if err := durable.CheckRegular(path("file/below")); err == nil {
		t.Error("below a file: got no error, want one")
	}
}

package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

var (
	// ErrForeign means that a file is not one that duo reads: a link, a pipe, a folder,
	// another user's, or one with a second name.
	ErrForeign = errors.New("not a plain file of this user")
	// ErrSecondName is the ErrForeign that passes where a file is put in place by link
	// and unlink.
	ErrSecondName = fmt.Errorf("%w: it has a second name (hard link)", ErrForeign)
	// ErrTooLarge means that a file is over the limit.
	ErrTooLarge = errors.New("file is too large")
)

// ReadPlain reads a file that others may have put in place: a regular file of this
// user with one name, of at most limit bytes. It never waits for a pipe.
func ReadPlain(path string, limit int64) ([]byte, error) {
	return read(path, limit, os.Lstat, syscall.O_NOFOLLOW, CheckPlain)
}

// ReadRegular reads a regular file of at most limit bytes, whosever it is and also
// through a link. It never waits for a pipe.
func ReadRegular(path string, limit int64) ([]byte, error) {
	return read(path, limit, os.Stat, 0, checkRegular)
}

// read looks before it opens, since to open a device can do something, and at what it
// has opened.
func read(path string, limit int64, stat func(string) (fs.FileInfo, error), flags int, check func(fs.FileInfo) error) ([]byte, error) {
	info, err := stat(path)
	if err != nil {
		return nil, err
	}
	if err := check(info); err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err == nil {
		err = check(info)
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	data, err := ReadLimited(f, limit)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	return data, nil
}

// ReadLimited reads all there is, and refuses more than limit bytes with ErrTooLarge.
func ReadLimited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: over %d bytes", ErrTooLarge, limit)
	}
	return data, nil
}

// CheckPlain refuses, with ErrForeign, what is not a regular file of this user with
// one name.
func CheckPlain(info fs.FileInfo) error {
	if err := checkRegular(info); err != nil {
		return err
	}
	if !OwnedBySelf(info) {
		return fmt.Errorf("%w: it belongs to another user", ErrForeign)
	}
	if Links(info) > 1 {
		return ErrSecondName
	}
	return nil
}

// CheckRegular refuses, with ErrForeign, what is there and no regular file. It is for
// files that are written next: to open a pipe would wait for its reader.
func CheckRegular(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := checkRegular(info); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	return nil
}

func checkRegular(info fs.FileInfo) error {
	switch {
	case info.Mode().IsRegular():
		return nil
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%w: it is a symbolic link", ErrForeign)
	case info.IsDir():
		return fmt.Errorf("%w: it is a folder", ErrForeign)
	}
	return fmt.Errorf("%w: it is a pipe, socket or device", ErrForeign)
}

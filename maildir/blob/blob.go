// Package blob keeps the files that messages bring. A blob is a file that is named after
// the SHA-256 of what is in it; docs/attachments.md says how messages mention them.
//
// A blob that was put is on disk, whole, before anybody learns its name. One that is read
// is checked first. What a crash leaves unfinished begins with durable.TempPrefix and may
// be deleted.
package blob

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
)

var (
	// ErrDamaged means that what is in a file is not what its name says.
	ErrDamaged = errors.New("its content has changed")
	// ErrTooLarge means that a blob is over the limit.
	ErrTooLarge = durable.ErrTooLarge
)

const (
	sumLength  = 2 * sha256.Size
	headLength = 512
)

// Store is a folder of blobs. One process at a time changes it. Its methods may be used
// by several goroutines.
type Store struct {
	dir   string
	limit int64
	mu    sync.Mutex // a blob that is being used is not removed
}

// At is the store in a folder, which need not be there, for blobs of at most limit bytes.
// Larger ones that are there already can be read.
func At(dir string, limit int64) *Store { return &Store{dir: dir, limit: limit} }

// Blob is what is known of a blob that was put.
type Blob struct {
	SHA256 string
	Size   int64
	Head   []byte // its first bytes
}

// Put stores all that r has, durably. After a crash before it returns, the blob is there
// whole or not at all. Where there is one already, the new one takes its place.
func (s *Store) Put(r io.Reader) (Blob, error) {
	b, temp, err := s.write(r)
	if err != nil {
		return Blob{}, fmt.Errorf("put blob: %w", err)
	}
	s.mu.Lock()
	err = os.Rename(temp, s.path(b.SHA256))
	s.mu.Unlock()
	if err != nil {
		return Blob{}, fmt.Errorf("put blob: %w", errors.Join(err, os.Remove(temp)))
	}
	return b, durable.SyncDir(s.dir)
}

// write makes a synced file that has not its name yet.
func (s *Store) write(r io.Reader) (b Blob, temp string, err error) {
	if err := durable.MkdirBelow(filepath.Dir(s.dir), s.dir, 0o700); err != nil {
		return b, "", err
	}
	f, err := os.CreateTemp(s.dir, durable.TempPrefix+"*")
	if err != nil {
		return b, "", err
	}
	sum := sha256.New()
	b.Size, err = io.Copy(io.MultiWriter(f, sum, (*head)(&b.Head)), io.LimitReader(r, s.limit+1))
	if err == nil && b.Size > s.limit {
		err = fmt.Errorf("%w: over %d bytes", ErrTooLarge, s.limit)
	}
	if err == nil {
		err = durable.Sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return b, "", errors.Join(err, os.Remove(f.Name()))
	}
	b.SHA256 = text(sum)
	return b, f.Name(), nil
}

// head keeps the first bytes of what is written to it.
type head []byte

func (h *head) Write(p []byte) (int, error) {
	*h = append(*h, p[:min(len(p), headLength-len(*h))]...)
	return len(p), nil
}

// Open opens a blob to be read from its beginning, after all of it was checked. Errors
// are fs.ErrNotExist, ErrDamaged, or durable.ErrForeign for what is no plain file.
func (s *Store) Open(sum string) (*os.File, error) {
	f, err := s.open(sum)
	if err != nil {
		return nil, err
	}
	found := sha256.New()
	if _, err = io.Copy(found, f); err == nil && text(found) != sum {
		err = ErrDamaged
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open blob %q: %w", sum, err), f.Close())
	}
	return f, nil
}

// Use makes a blob one that was used now, so that it is not removed soon. Errors are
// those of Open; that it has the size is all that is checked of its content.
func (s *Store) Use(sum string, size int64, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.open(sum)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() != size {
		err = fmt.Errorf("%w: it has %d bytes, not %d", ErrDamaged, info.Size(), size)
	}
	if err == nil {
		err = os.Chtimes(s.path(sum), now, now)
	}
	if err != nil {
		return fmt.Errorf("use blob %q: %w", sum, err)
	}
	return nil
}

// open opens a plain file of this user, and never leaves the folder.
func (s *Store) open(sum string) (*os.File, error) {
	if !IsSum(sum) {
		return nil, fmt.Errorf("open blob %q: %w", sum, fs.ErrNotExist)
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	defer root.Close()
	info, err := root.Lstat(sum)
	if err == nil {
		err = durable.CheckPlain(info)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %q: %w", sum, err)
	}
	f, err := root.OpenFile(sum, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open blob %q: %w", sum, err)
	}
	if info, err = f.Stat(); err == nil {
		err = durable.CheckPlain(info)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open blob %q: %w", sum, err), f.Close())
	}
	return f, nil
}

// Old lists the blobs that nobody has used since before. What else is in the folder is
// left out.
func (s *Store) Old(before time.Time) ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	var old []string
	for _, e := range entries {
		if IsSum(e.Name()) && s.isOld(e.Name(), before) {
			old = append(old, e.Name())
		}
	}
	return old, nil
}

// Remove deletes a blob, unless it was used since before. It reports whether it did.
func (s *Store) Remove(sum string, before time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !IsSum(sum) || !s.isOld(sum, before) {
		return false, nil
	}
	if err := os.Remove(s.path(sum)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("remove blob: %w", err)
	}
	return true, nil
}

func (s *Store) isOld(sum string, before time.Time) bool {
	info, err := os.Lstat(s.path(sum))
	return err == nil && info.Mode().IsRegular() && info.ModTime().Before(before)
}

func (s *Store) path(sum string) string { return filepath.Join(s.dir, sum) }

func text(sum hash.Hash) string { return hex.EncodeToString(sum.Sum(nil)) }

// IsSum reports whether a text has the form of a blob's name.
func IsSum(s string) bool {
	return len(s) == sumLength && strings.Trim(s, "0123456789abcdef") == ""
}

// Sums calls each with whatever in a text looks like the name of a blob: a run of exactly
// so many hex digits in lower case. Where there is a mention, it finds it.
func Sums(r io.Reader, each func(sum string)) error {
	in := bufio.NewReaderSize(r, 64<<10)
	run := make([]byte, 0, sumLength)
	length := 0 // of the run, which may be longer than what is kept of it
	for {
		c, err := in.ReadByte()
		if err == nil && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			if length++; length <= sumLength {
				run = append(run, c)
			}
			continue
		}
		if length == sumLength {
			each(string(run))
		}
		run, length = run[:0], 0
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for blobs: %w", err)
		}
	}
}

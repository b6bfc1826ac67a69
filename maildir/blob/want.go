package blob

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
)

// WantDir is the folder in a store's for what is on its way: <sha256>.json says from
// where, <sha256>.part is its beginning.
const WantDir = "want"

const (
	wantSuffix = ".json"
	partSuffix = ".part"
	maxWant    = 64 << 10 // bytes of a record
)

// Want is a blob that is mentioned here and has still to come.
type Want struct {
	SHA256  string   `json:"sha256"`
	Size    int64    `json:"size"`  // it has no more
	Since   int64    `json:"since"` // Unix milliseconds
	Sources []Source `json:"sources"`
}

// Source is a host that may have a blob, and where it can see that it may give it: a line
// of a conversation or a call. A line that had no number yet is 0.
type Source struct {
	Host         string `json:"host"`
	Conversation string `json:"conversation,omitempty"`
	Seq          int64  `json:"seq,omitempty"`
	Request      string `json:"request,omitempty"`
}

// From names the hosts that may have the blob, for people.
func (w Want) From() string {
	var hosts []string
	for _, s := range w.Sources {
		if !slices.Contains(hosts, s.Host) {
			hosts = append(hosts, s.Host)
		}
	}
	slices.Sort(hosts)
	return strings.Join(hosts, " or ")
}

// Has reports whether a plain file has the name of a blob, and its size.
func (s *Store) Has(sum string) (size int64, ok bool) {
	f, err := s.open(sum)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	info, err := f.Stat()
	return info.Size(), err == nil
}

// Piece reads the bytes of a blob from one on, at most as many as p has, and tells the size
// of all of it. What it reads is not checked: whoever gets the last piece does that.
func (s *Store) Piece(sum string, from int64, p []byte) (n int, size int64, err error) {
	f, err := s.open(sum)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, fmt.Errorf("read blob %q: %w", sum, err)
	}
	n, err = f.ReadAt(p, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, fmt.Errorf("read blob %q: %w", sum, err)
	}
	return n, info.Size(), nil
}

// Note records a want, durably, in place of an older record.
func (s *Store) Note(w Want) error {
	if !IsSum(w.SHA256) {
		return fmt.Errorf("note wanted blob: %q is no sum", w.SHA256)
	}
	data, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("note wanted blob: %w", err)
	}
	if err := durable.MkdirBelow(filepath.Dir(s.dir), s.wantDir(), 0o700); err != nil {
		return err
	}
	return durable.Replace(s.wantPath(w.SHA256, wantSuffix), append(data, '\n'), 0o600)
}

// Wanted lists what is recorded. It removes what a crash has left: unfinished records, ones
// that cannot be read, and beginnings of what nobody wants.
func (s *Store) Wanted() ([]Want, error) {
	entries, err := os.ReadDir(s.wantDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list wanted blobs: %w", err)
	}
	var list []Want
	known := make(map[string]bool)
	for _, e := range entries {
		sum, ok := strings.CutSuffix(e.Name(), wantSuffix)
		if !ok || !IsSum(sum) {
			continue
		}
		if w, err := s.WantOf(sum); err == nil {
			list = append(list, w)
			known[sum] = true
		} else if durable.DiskFailed(err) {
			return nil, err
		}
	}
	for _, e := range entries {
		sum, _, _ := strings.Cut(e.Name(), ".")
		if (IsSum(sum) || strings.HasPrefix(e.Name(), durable.TempPrefix)) && !known[sum] {
			_ = os.Remove(filepath.Join(s.wantDir(), e.Name())) // or the next start does
		}
	}
	return list, nil
}

// WantOf is the record of a blob that is on its way, fs.ErrNotExist where there is none.
func (s *Store) WantOf(sum string) (w Want, err error) {
	if !IsSum(sum) {
		return w, fmt.Errorf("wanted blob %q: %w", sum, fs.ErrNotExist)
	}
	data, err := durable.ReadPlain(s.wantPath(sum, wantSuffix), maxWant)
	if err != nil {
		return w, fmt.Errorf("wanted blob %q: %w", sum, err)
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return w, fmt.Errorf("wanted blob %q: %w", sum, err)
	}
	if w.SHA256 != sum || w.Size < 0 {
		return w, fmt.Errorf("wanted blob %q: %w", sum, ErrDamaged)
	}
	return w, nil
}

// Part is how many bytes of a wanted blob are here, and when the last ones came.
func (s *Store) Part(sum string) (size int64, last time.Time) {
	info, err := os.Lstat(s.wantPath(sum, partSuffix))
	if !IsSum(sum) || err != nil || durable.CheckPlain(info) != nil {
		return 0, time.Time{}
	}
	return info.Size(), info.ModTime()
}

// Continue adds to the beginning of a wanted blob, of which from bytes are here. It does
// not sync: after a crash of the machine the end may be other bytes, which Finish finds.
func (s *Store) Continue(sum string, from int64, data []byte, now time.Time) error {
	if !IsSum(sum) {
		return fmt.Errorf("continue blob: %q is no sum", sum)
	}
	path := s.wantPath(sum, partSuffix)
	if info, err := os.Lstat(path); err == nil && durable.CheckPlain(info) != nil {
		_ = os.Remove(path) // what has come into its place is no beginning
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("continue blob: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() != from {
		err = fmt.Errorf("%w: %d bytes of it are here, not %d", ErrDamaged, info.Size(), from)
	}
	if err == nil {
		_, err = f.WriteAt(data, from)
		if err != nil {
			err = errors.Join(err, f.Truncate(from))
		}
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Chtimes(path, now, now)
	}
	if err != nil {
		return fmt.Errorf("continue blob %q: %w", sum, err)
	}
	return nil
}

// Finish makes a blob of what has come of a wanted one, durably, where it is all of it and
// nothing else: else it returns ErrDamaged and changes nothing. The record goes too.
func (s *Store) Finish(ctx context.Context, sum string, now time.Time) error {
	path := s.wantPath(sum, partSuffix)
	if err := finished(ctx, path, sum); err != nil {
		return fmt.Errorf("finish blob %q: %w", sum, err)
	}
	if err := os.Chtimes(path, now, now); err != nil {
		return fmt.Errorf("finish blob: %w", err)
	}
	s.mu.Lock()
	err := os.Rename(path, s.path(sum))
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("finish blob: %w", err)
	}
	if err := durable.SyncDir(s.dir); err != nil {
		return err
	}
	return s.Forget(sum) // after a crash before this the record is of a blob that is here
}

func finished(ctx context.Context, path, sum string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if err := durable.CheckPlain(info); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, until{ctx, f}); err != nil {
		return err
	}
	if text(h) != sum {
		return ErrDamaged
	}
	return durable.Sync(f)
}

// until is a reader that ends with a context.
type until struct {
	ctx  context.Context
	from io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.from.Read(p)
}

// Begin throws away what has come of a wanted blob.
func (s *Store) Begin(sum string) error { return s.removeWant(sum, partSuffix) }

// Forget removes the record of a wanted blob, and what has come of it.
func (s *Store) Forget(sum string) error {
	return errors.Join(s.removeWant(sum, partSuffix), s.removeWant(sum, wantSuffix))
}

func (s *Store) removeWant(sum, suffix string) error {
	if !IsSum(sum) {
		return nil
	}
	if err := os.Remove(s.wantPath(sum, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget wanted blob: %w", err)
	}
	return nil
}

func (s *Store) wantDir() string { return filepath.Join(s.dir, WantDir) }

func (s *Store) wantPath(sum, suffix string) string { return filepath.Join(s.wantDir(), sum+suffix) }

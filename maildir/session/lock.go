package session

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
)

const (
	lockSuffix = ".lock"
	lockWait   = 3 * time.Second // what is done under a lock takes milliseconds
	lockRetry  = time.Millisecond
)

// ErrBusy means that somebody else has had a lock for too long.
var ErrBusy = errors.New("another process holds it")

// lock takes the flock of a file that is there for nothing else, until unlock is called
// or the process ends.
func lock(path string) (unlock func(), err error) {
	for end := time.Now().Add(lockWait); ; time.Sleep(lockRetry) {
		f, err := tryLock(path)
		if err != nil {
			return nil, fmt.Errorf("lock %q: %w", path, err)
		}
		if f != nil {
			return func() { f.Close() }, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("lock %q: %w", path, ErrBusy)
		}
	}
}

// tryLock returns the locked file, nil where somebody else has the lock, or has removed
// the file in this moment.
func tryLock(path string) (*os.File, error) {
	if err := durable.CheckRegular(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ok, err := durable.TryLock(f)
	if ok {
		mine, statErr := f.Stat()
		there, lookErr := os.Lstat(path)
		ok = statErr == nil && lookErr == nil && os.SameFile(mine, there)
	}
	if ok {
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}

// makeFolder makes a folder for what can be made again, so it does not wait for the disk.
func makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	return nil
}

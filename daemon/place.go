package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/claude-duo/duo/maildir"
)

// place is what a daemon knows its home by. A home can be deleted, or another one put
// in its place, while a daemon runs in it.
type place struct {
	home *maildir.Home
	dir  *os.File    // held open, so that no other folder gets its number
	lock fs.FileInfo // of a file that is held open as well
}

// takePlace notes where the home is that this process has locked.
func takePlace(home *maildir.Home) (*place, error) {
	dir, err := os.Open(home.Dir)
	if err != nil {
		return nil, fmt.Errorf("open home: %w", err)
	}
	lock, err := os.Stat(home.LockPath())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open home: %w", err), dir.Close())
	}
	return &place{home: home, dir: dir, lock: lock}, nil
}

// lost says what of the home is gone or another's, nil for nothing. Without the lock
// another daemon could have the home too.
func (p *place) lost() error {
	dir, err := p.dir.Stat()
	if err != nil {
		return err
	}
	for _, part := range []struct {
		path string
		was  fs.FileInfo // nil where any file will do
	}{{p.home.Dir, dir}, {p.home.HostPath(), nil}, {p.home.LockPath(), p.lock}} {
		is, err := os.Stat(part.path)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			return err
		case err == nil && part.was != nil && !os.SameFile(is, part.was):
			return fmt.Errorf("another one is at %q", part.path)
		}
	}
	return nil // what cannot be looked at just now may still be there
}

func (p *place) close() { _ = p.dir.Close() } // nothing was written

//go:build unix

package durable

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

type unixStat = syscall.Stat_t

// OwnedBySelf reports whether the file belongs to the user of this process.
func OwnedBySelf(info fs.FileInfo) bool {
	st, ok := info.Sys().(*unixStat)
	return ok && int(st.Uid) == os.Geteuid()
}

// Links counts the names that the file has.
func Links(info fs.FileInfo) int {
	if st, ok := info.Sys().(*unixStat); ok {
		return int(st.Nlink)
	}
	return 1
}

// Inode is the number that identifies the file on its file system.
func Inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*unixStat); ok {
		return uint64(st.Ino)
	}
	return 0
}

// TryLock takes the exclusive flock of the open file f, and reports false where
// somebody else has it. The lock belongs to f: another open of the same file, here or
// in another process, does not have it, and it ends with Unlock, with closing f, or
// with the process. A goroutine that shares f is not kept out.
func TryLock(f *os.File) (bool, error) {
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, unix.EINTR):
			return false, &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// Unlock gives back what TryLock took.
func Unlock(f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		return &fs.PathError{Op: "unlock", Path: f.Name(), Err: err}
	}
	return nil
}

package durable

import (
	"errors"
	"slices"
	"syscall"
)

// DiskFailed reports whether an error is the disk's: it is full, broken or read-only, or
// the system has no more open files. The same may succeed later.
func DiskFailed(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO, syscall.EFBIG, syscall.EMFILE, syscall.ENFILE,
	}, func(failure syscall.Errno) bool { return errors.Is(err, failure) })
}

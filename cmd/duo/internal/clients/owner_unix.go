//go:build unix

package clients

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// giveTo gives a file to whom another one belonged.
func giveTo(path string, was fs.FileInfo) error {
	owner, ok := was.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("whose the file was is not known")
	}
	return os.Lchown(path, int(owner.Uid), int(owner.Gid))
}

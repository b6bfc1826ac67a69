//go:build unix

package durable

import (
	"io/fs"
	"os"
	"syscall"
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

//go:build unix

package durable

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Look is what a file looks like from outside: where any of it differs, the file has
// changed.
type Look struct {
	Inode    uint64
	Size     int64
	Modified int64 // Unix nanoseconds
}

// Missing reports whether there is nothing at a path, for those who look there often and
// mostly find nothing.
func Missing(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == unix.ENOENT
}

// HasDirs reports whether a folder has folders of these names, links to folders among
// them.
func HasDirs(dir string, names []string) bool {
	var st unix.Stat_t
	for _, name := range names {
		if err := unix.Stat(dir+"/"+name, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return false
		}
	}
	return true
}

// LookAt looks at a file or folder below an open folder. It is several times cheaper
// than os.Stat, for those who look at many.
func LookAt(dir *os.File, name string) (Look, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstatat(int(dir.Fd()), name, &st, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return Look{}, &fs.PathError{Op: "stat", Path: name, Err: err}
		}
		return Look{Inode: uint64(st.Ino), Size: st.Size, Modified: st.Mtim.Nano()}, nil
	}
}

// Space is what a file system has left for this user.
type Space struct {
	Bytes uint64
	Files uint64 // that can still be made; 0 where Any is true
	Any   bool   // as many files as there is room for
}

// SpaceAt is what the file system that path is on has left.
func SpaceAt(path string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return Space{Bytes: uint64(st.Bavail) * uint64(st.Bsize), Files: uint64(st.Ffree), Any: st.Files == 0}, nil
}

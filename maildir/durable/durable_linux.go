package durable

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Sync makes what was written to f durable (fdatasync). An error is final: the
// kernel may have dropped the data, and a second call may lie.
func Sync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// RenameNew renames a file and never replaces one: where newPath exists, the error
// is fs.ErrExist. It does not sync the folder.
func RenameNew(oldPath, newPath string) error {
	err := unix.Renameat2(unix.AT_FDCWD, oldPath, unix.AT_FDCWD, newPath, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return linkAndRemove(oldPath, newPath)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: err}
	}
	return nil
}

// Forget drops what the kernel remembers of f, so that the next read comes from
// the disk. It is for the moment after a failed Sync, when memory and disk differ.
func Forget(f *os.File) error {
	return os.NewSyscallError("fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

// Remote names the kind of file system that path is on where it is one that
// cannot be watched or locked reliably, and is empty for all others.
func Remote(path string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return "", &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return remoteKinds[int64(st.Type)], nil
}

var remoteKinds = map[int64]string{
	unix.NFS_SUPER_MAGIC:  "NFS",
	unix.SMB_SUPER_MAGIC:  "SMB",
	unix.SMB2_SUPER_MAGIC: "SMB",
	unix.CIFS_SUPER_MAGIC: "SMB",
	unix.V9FS_MAGIC:       "9p",
	unix.FUSE_SUPER_MAGIC: "FUSE",
}

// Settled reports whether the file was renamed, linked or given a mode after its
// last write: its writer has finished it.
func Settled(info fs.FileInfo) bool {
	st, ok := info.Sys().(*unixStat)
	return ok && st.Ctim != st.Mtim
}

// BeingWritten reports whether any process has the open file f open for writing.
// It asks for a read lease, which the kernel grants only where nobody has.
func BeingWritten(f *os.File) bool {
	fd := f.Fd()
	if _, err := unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		return errors.Is(err, unix.EAGAIN)
	}
	_, _ = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
	return false
}

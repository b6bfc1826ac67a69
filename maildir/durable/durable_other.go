//go:build unix && !linux

package durable

import (
	"io/fs"
	"os"
)

// Sync makes what was written to f durable. An error is final.
func Sync(f *os.File) error { return f.Sync() }

// RenameNew renames a file and never replaces one: where newPath exists, the error
// is fs.ErrExist. It does not sync the folder.
func RenameNew(oldPath, newPath string) error { return linkAndRemove(oldPath, newPath) }

// Forget does nothing here: there is no portable way to drop cached pages.
func Forget(*os.File) error { return nil }

// Remote is empty here: only Linux tells the kind of a file system portably enough.
func Remote(string) (string, error) { return "", nil }

// Settled is false here: the quiet time decides.
func Settled(fs.FileInfo) bool { return false }

// BeingWritten is false here: the quiet time decides.
func BeingWritten(*os.File) bool { return false }

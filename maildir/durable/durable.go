// Package durable puts files on disk so that they survive a crash of the machine.
// It has one function for each promise; each says what a crash leaves behind.
// Temporary files begin with ".tmp-" and stand beside their target, so that the
// rename stays inside one file system; what a crash leaves of them may be deleted.
package durable

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// TempPrefix begins the names of files that are not finished.
const TempPrefix = ".tmp-"

// Replace gives path the content data, in place of any older file. After a crash
// the old content is there or the new one, whole.
func Replace(path string, data []byte, perm fs.FileMode) error {
	temp, err := writeTemp(path, data, perm, Sync)
	if err != nil {
		return fmt.Errorf("replace %q: %w", path, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(fmt.Errorf("replace %q: %w", path, err), os.Remove(temp))
	}
	return SyncDir(filepath.Dir(path))
}

// ReplaceJSON is Replace with a value as JSON, indented for people who read it.
func ReplaceJSON(path string, v any, perm fs.FileMode) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("replace %q: %w", path, err)
	}
	return Replace(path, append(data, '\n'), perm)
}

// ReplaceCache gives path the content data without waiting for the disk. After a
// crash of the machine the file may be old, empty or torn: it is for what can be
// made again. After a crash of the process alone it is old or new, whole.
func ReplaceCache(path string, data []byte, perm fs.FileMode) error {
	return ReplaceCacheAfter(path, data, perm, func() error { return nil })
}

// ReplaceCacheAfter is ReplaceCache, but calls first when all is written and only the
// rename is left. Where first returns an error, the file stays as it was.
func ReplaceCacheAfter(path string, data []byte, perm fs.FileMode, first func() error) error {
	temp, err := writeTemp(path, data, perm, nil)
	if err != nil {
		return fmt.Errorf("replace %q: %w", path, err)
	}
	if err := first(); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(fmt.Errorf("replace %q: %w", path, err), os.Remove(temp))
	}
	return nil
}

// Create makes the file path with the content data. It returns an error that is
// fs.ErrExist where there is one already, and leaves that one alone. After a crash
// the file is there whole, or not at all.
func Create(path string, data []byte, perm fs.FileMode) error {
	temp, err := writeTemp(path, data, perm, Sync)
	if err != nil {
		return fmt.Errorf("create %q: %w", path, err)
	}
	if err := RenameNew(temp, path); err != nil {
		return errors.Join(fmt.Errorf("create %q: %w", path, err), os.Remove(temp))
	}
	return SyncDir(filepath.Dir(path))
}

// Mkdir makes the folder path, and those above it that are missing, with mode perm.
// A folder that is there already is left as it is.
func Mkdir(path string, perm fs.FileMode) error { return MkdirBelow("", path, perm) }

// MkdirBelow is Mkdir, but it makes nothing above root nor root itself: where that is
// missing, the error is fs.ErrNotExist.
func MkdirBelow(root, path string, perm fs.FileMode) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("make folder %q: a file is in the way", path)
	case !errors.Is(err, fs.ErrNotExist) || filepath.Clean(path) == root:
		return fmt.Errorf("make folder: %w", err)
	}
	parent := filepath.Dir(path)
	if err := MkdirBelow(root, parent, perm); err != nil {
		return err
	}
	if err := os.Mkdir(path, perm); err != nil {
		// Somebody else may have made it in this moment. A link to nowhere exists too.
		if info, statErr := os.Stat(path); statErr != nil || !info.IsDir() {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	return SyncDir(parent)
}

// SyncDir makes the names in a folder durable: files made, renamed and removed there.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync folder %q: %w", path, err)
	}
	return nil
}

// linkAndRemove is RenameNew where the system has no call for it. A folder cannot have
// a second name; renaming one replaces nothing but an empty folder.
func linkAndRemove(oldPath, newPath string) error {
	if info, err := os.Lstat(oldPath); err == nil && info.IsDir() {
		return os.Rename(oldPath, newPath)
	}
	if err := os.Link(oldPath, newPath); err != nil {
		return err
	}
	if err := os.Remove(oldPath); err != nil {
		return fmt.Errorf("remove after link: %w", err)
	}
	return nil
}

// writeTemp writes data beside path and syncs it unless sync is nil.
func writeTemp(path string, data []byte, perm fs.FileMode, sync func(*os.File) error) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), TempPrefix+"*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil && perm != 0o600 { // CreateTemp gives 0600
		err = f.Chmod(perm)
	}
	if err == nil && sync != nil {
		err = sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

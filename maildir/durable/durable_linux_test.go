package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
)

func open(t testing.TB, path string, flag int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestBeingWritten(t *testing.T) {
	for name, flag := range map[string]int{"write": os.O_WRONLY, "read and write": os.O_RDWR, "append": os.O_WRONLY | os.O_APPEND} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			write(t, path, "content")
			reader := open(t, path, os.O_RDONLY)
			wantBeingWritten(t, reader, false)
			writer := open(t, path, flag)
			wantBeingWritten(t, reader, true)
			writer.Close()
			wantBeingWritten(t, reader, false)
		})
	}
}

func wantBeingWritten(t *testing.T, f *os.File, want bool) {
	t.Helper()
	if got := durable.BeingWritten(f); got != want {
		t.Errorf("BeingWritten: got %v, want %v", got, want)
	}
}

func TestBeingWrittenByAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "content")
	reader := open(t, path, os.O_RDONLY)
	shell := exec.Command("sh", "-c", `exec >>"$0"; echo ready >&2; read line`, path)
	stdin, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := shell.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Skipf("no shell: %v", err)
	}
	if _, err := stderr.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the shell said nothing: %v", err)
	}
	wantBeingWritten(t, reader, true)
	stdin.Close()
	_ = shell.Wait() // read meets the end and fails
	wantBeingWritten(t, reader, false)
}

// The question must leave nothing behind that makes a later writer wait.
func TestBeingWrittenKeepsNoLease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "content")
	wantBeingWritten(t, open(t, path, os.O_RDONLY), false)
	writer, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatalf("open for writing: got %v, want no error", err)
	}
	writer.Close()
}

func TestOtherReadersDoNotMatter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "content")
	open(t, path, os.O_RDONLY)
	wantBeingWritten(t, open(t, path, os.O_RDONLY), false)
}

func TestSettled(t *testing.T) {
	for name, finish := range map[string]func(path string) error{
		"rename": func(path string) error {
			return errors.Join(os.Rename(path, path+".new"), os.Rename(path+".new", path))
		},
		"mode": func(path string) error { return os.Chmod(path, 0o600) },
		"link": func(path string) error { return errors.Join(os.Link(path, path+".new"), os.Remove(path+".new")) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			write(t, path, "content")
			if settled(t, path) {
				t.Fatal("after a write: got true, want false")
			}
			// The kernel's clock ticks every few milliseconds, so the first try may
			// carry the time of the write.
			for deadline := time.Now().Add(10 * time.Second); !settled(t, path); {
				if time.Now().After(deadline) {
					t.Fatal("after it was finished: got false, want true")
				}
				if err := finish(path); err != nil {
					t.Fatal(err)
				}
			}
			write(t, path, "more")
			if settled(t, path) {
				t.Error("after another write: got true, want false")
			}
		})
	}
}

func settled(t *testing.T, path string) bool {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return durable.Settled(info)
}

func TestRemote(t *testing.T) {
	if kind, err := durable.Remote("/proc"); err != nil || kind != "" {
		t.Errorf("/proc: got %q, %v, want a local file system", kind, err)
	}
	if _, err := durable.Remote(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: got %v, want fs.ErrNotExist", err)
	}
}

func TestPutOnAFullFileSystem(t *testing.T) {
	for name, put := range putters {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t)
			path := filepath.Join(dir, "file")
			if name != "Create" {
				write(t, path, "old")
			}
			err := put(path, make([]byte, 1<<20), 0o600)
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("%s: got %v, want ENOSPC", name, err)
			}
			if name == "Create" {
				wantNames(t, dir)
				return
			}
			wantNames(t, dir, "file")
			wantContent(t, path, "old")
		})
	}
}

// smallDisk is a folder that holds 64 KiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("a small tmpfs cannot be mounted here (it needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

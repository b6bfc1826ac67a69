package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/claude-duo/duo/maildir/durable"
)

type put func(path string, data []byte, perm fs.FileMode) error

// replacers are the functions that put a file in place of an older one.
var replacers = map[string]put{"Replace": durable.Replace, "ReplaceCache": durable.ReplaceCache}

// putters are all functions that put a file.
var putters = map[string]put{"Replace": durable.Replace, "ReplaceCache": durable.ReplaceCache, "Create": durable.Create}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantContent(t testing.TB, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("content of %q: got %q, %v, want %q", filepath.Base(path), got, err, want)
	}
}

func wantPerm(t testing.TB, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want {
		t.Errorf("mode of %q: got %o, want %o", filepath.Base(path), got, want)
	}
}

// wantNames checks that a folder holds exactly these names, so no temporary file.
func wantNames(t testing.TB, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("names in the folder: got %q, want %q", got, want)
	}
}

func TestPutMakesTheFile(t *testing.T) {
	for name, put := range putters {
		for _, perm := range []fs.FileMode{0o600, 0o644, 0o400} {
			t.Run(fmt.Sprintf("%s %o", name, perm), func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "file")
				if err := put(path, []byte("content"), perm); err != nil {
					t.Fatal(err)
				}
				wantContent(t, path, "content")
				wantPerm(t, path, perm)
				wantNames(t, dir, "file")
			})
		}
	}
}

func TestPutTakesAnyContent(t *testing.T) {
	for name, put := range putters {
		for _, content := range []string{"", "\x00\n\xff", strings.Repeat("x", 3<<20)} {
			path := filepath.Join(t.TempDir(), "file")
			if err := put(path, []byte(content), 0o600); err != nil {
				t.Errorf("%s of %d bytes: got %v, want no error", name, len(content), err)
			}
			wantContent(t, path, content)
		}
	}
}

func TestReplaceTakesThePlaceOfAFile(t *testing.T) {
	for name, replace := range replacers {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			write(t, path, "old and longer")
			if err := replace(path, []byte("new"), 0o644); err != nil {
				t.Fatal(err)
			}
			wantContent(t, path, "new")
			wantPerm(t, path, 0o644)
			wantNames(t, dir, "file")
		})
	}
}

// A link is replaced, not followed: whoever can put links into a folder must not
// choose what is overwritten.
func TestReplaceDoesNotFollowALink(t *testing.T) {
	for name, replace := range replacers {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			target, path := filepath.Join(t.TempDir(), "target"), filepath.Join(dir, "file")
			write(t, target, "target")
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			if err := replace(path, []byte("new"), 0o600); err != nil {
				t.Fatal(err)
			}
			wantContent(t, path, "new")
			wantContent(t, target, "target")
		})
	}
}

// Readers see the old content or the new one, never a mixture and never nothing.
func TestReplaceIsWholeForReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	contents := [2][]byte{bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 50_000)}
	write(t, path, string(contents[0]))
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				got, err := os.ReadFile(path)
				if err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
					t.Errorf("while it was replaced: got %d bytes, %v, want one content whole", len(got), err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 300 {
		if err := durable.ReplaceCache(path, contents[i%2], 0o600); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	readers.Wait()
}

func TestCreateLeavesWhatIsThere(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(path string) error
	}{
		{"file", func(path string) error { return os.WriteFile(path, []byte("old"), 0o600) }},
		{"folder", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"dangling link", func(path string) error { return os.Symlink("nowhere", path) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			if err := test.make(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := durable.Create(path, []byte("new"), 0o600); !errors.Is(err, fs.ErrExist) {
				t.Errorf("Create: got %v, want fs.ErrExist", err)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("what was there: got %v, %v, want it left alone", after, err)
			}
			wantNames(t, dir, "file")
		})
	}
}

func TestOneOfManyCreates(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	errs := make([]error, 8)
	var makers sync.WaitGroup
	for i := range errs {
		makers.Go(func() { errs[i] = durable.Create(path, fmt.Append(nil, i), 0o600) })
	}
	makers.Wait()
	winners := 0
	for i, err := range errs {
		switch {
		case err == nil:
			winners++
			wantContent(t, path, fmt.Sprint(i))
		case !errors.Is(err, fs.ErrExist):
			t.Errorf("Create: got %v, want nil or fs.ErrExist", err)
		}
	}
	if winners != 1 {
		t.Errorf("makers of the file: got %d, want 1", winners)
	}
	wantNames(t, dir, "file")
}

func TestPutIntoNoFolder(t *testing.T) {
	for name, put := range putters {
		err := put(filepath.Join(t.TempDir(), "missing", "file"), nil, 0o600)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want fs.ErrNotExist", name, err)
		}
	}
}

func TestReplaceOfAFolderLeavesNothing(t *testing.T) {
	for name, replace := range replacers {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := replace(filepath.Join(dir, "folder"), []byte("new"), 0o600); err == nil {
				t.Error("got no error, want one")
			}
			wantNames(t, dir, "folder")
		})
	}
}

func TestPutIntoAReadOnlyFolder(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root writes into read-only folders")
	}
	for name, put := range putters {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		if err := put(filepath.Join(dir, "file"), nil, 0o600); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: got %v, want fs.ErrPermission", name, err)
		}
		wantNames(t, dir)
	}
}

func TestMkdir(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "c")
	for range 2 { // the second time all is there
		if err := durable.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{path, filepath.Dir(path), filepath.Join(dir, "a")} {
		wantPerm(t, p, 0o700)
	}
	if err := durable.Mkdir(filepath.Join(dir, "d")+"/", 0o700); err != nil {
		t.Errorf("with a slash behind: got %v, want no error", err)
	}
}

func TestMkdirBelow(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	path := filepath.Join(root, "a", "b")
	if err := durable.MkdirBelow(root, path, 0o700); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the root: got %v, want fs.ErrNotExist", err)
	}
	if err := durable.MkdirBelow(root, root, 0o700); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of the root: got %v, want fs.ErrNotExist", err)
	}
	wantNames(t, filepath.Dir(root))
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirBelow(root, path, 0o700); err != nil {
		t.Errorf("below the root: got %v, want no error", err)
	}
	wantPerm(t, path, 0o700)
}

func TestMkdirLeavesAFolderAsItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := os.Mkdir(path, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := durable.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	wantPerm(t, path, 0o750)
}

func TestMkdirTakesALinkToAFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(t.TempDir(), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := durable.Mkdir(filepath.Join(dir, "link", "a"), 0o700); err != nil {
		t.Error(err)
	}
	wantPerm(t, filepath.Join(dir, "link", "a"), 0o700)
}

func TestMkdirWhereSomethingIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "file/a", "link", "link/a"} {
		if err := durable.Mkdir(filepath.Join(dir, name), 0o700); err == nil {
			t.Errorf("Mkdir(%q): got no error, want one", name)
		}
	}
	wantContent(t, filepath.Join(dir, "file"), "")
}

func TestManyMakeTheSameFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "c", "d")
	var makers sync.WaitGroup
	for range 8 {
		makers.Go(func() {
			if err := durable.Mkdir(path, 0o700); err != nil {
				t.Errorf("Mkdir: got %v, want no error", err)
			}
		})
	}
	makers.Wait()
	wantPerm(t, path, 0o700)
}

func TestRenameNew(t *testing.T) {
	for name, rename := range map[string]func(from, to string) error{
		"by the system": durable.RenameNew, "by link": durable.LinkAndRemove,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
			write(t, from, "content")
			if err := rename(from, to); err != nil {
				t.Fatal(err)
			}
			wantContent(t, to, "content")
			wantNames(t, dir, "to")

			write(t, from, "other")
			if err := rename(from, to); !errors.Is(err, fs.ErrExist) {
				t.Errorf("onto a file: got %v, want fs.ErrExist", err)
			}
			wantContent(t, from, "other")
			wantContent(t, to, "content")

			if err := rename(filepath.Join(dir, "missing"), filepath.Join(dir, "x")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("of no file: got %v, want fs.ErrNotExist", err)
			}
			wantNames(t, dir, "from", "to")
		})
	}
}

func TestRenameNewOfAFolder(t *testing.T) {
	for name, rename := range map[string]func(from, to string) error{
		"by the system": durable.RenameNew, "by link": durable.LinkAndRemove,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "from", "inner"), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "file"), "content")
			if err := rename(filepath.Join(dir, "from"), filepath.Join(dir, "file")); err == nil {
				t.Error("onto a file: got no error, want one")
			}
			wantContent(t, filepath.Join(dir, "file"), "content")
			if err := rename(filepath.Join(dir, "from"), filepath.Join(dir, "to")); err != nil {
				t.Errorf("got %v, want no error", err)
			}
			wantNames(t, filepath.Join(dir, "to"), "inner")
		})
	}
}

func TestSyncDir(t *testing.T) {
	if err := durable.SyncDir(t.TempDir()); err != nil {
		t.Errorf("a folder: got %v, want no error", err)
	}
	if err := durable.SyncDir(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: got %v, want fs.ErrNotExist", err)
	}
}

func TestSync(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(durable.Sync(f), durable.Forget(f), f.Close()); err != nil {
		t.Errorf("Sync, Forget: got %v, want no error", err)
	}
	if err := durable.Sync(f); err == nil {
		t.Error("Sync of a closed file: got no error, want one")
	}
}

func TestFileFacts(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), "")
	write(t, filepath.Join(dir, "b"), "")
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	info := make(map[string]fs.FileInfo)
	for _, name := range []string{"a", "b", "c"} {
		i, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		info[name] = i
		if !durable.OwnedBySelf(i) {
			t.Errorf("OwnedBySelf(%q): got false, want true", name)
		}
	}
	if a, b := durable.Links(info["a"]), durable.Links(info["b"]); a != 2 || b != 1 {
		t.Errorf("Links: got %d and %d, want 2 and 1", a, b)
	}
	if a, b, c := durable.Inode(info["a"]), durable.Inode(info["b"]), durable.Inode(info["c"]); a != c || a == b || a == 0 {
		t.Errorf("Inode: got %d, %d, %d, want the first and third equal", a, b, c)
	}
}

func TestReplaceJSON(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := durable.ReplaceJSON(path, map[string]int{"one": 1}, 0o600); err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"one\": 1\n}\n"
	wantContent(t, path, want)
	if err := durable.ReplaceJSON(path, func() {}, 0o600); err == nil {
		t.Error("what is no JSON: got no error")
	}
	wantContent(t, path, want)
	wantNames(t, dir, "file")
}

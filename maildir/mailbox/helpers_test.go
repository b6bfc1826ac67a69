package mailbox_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	id1 = "0f9d1a52-91aa-8b7c-9c1d-5e6f70829f3a"
	id2 = "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newBox is the mailbox of atlas, where a home would have it.
func newBox(t testing.TB) *mailbox.Box {
	t.Helper()
	agents := filepath.Join(t.TempDir(), "agents")
	must(t, os.Mkdir(agents, 0o700))
	b, err := mailbox.Open(filepath.Join(agents, "atlas"))
	must(t, err)
	return b
}

func at(b *mailbox.Box, parts ...string) string {
	return filepath.Join(append([]string{b.Dir()}, parts...)...)
}

func write(t testing.TB, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

// wantNames checks that a folder of the mailbox holds exactly these names.
func wantNames(t testing.TB, b *mailbox.Box, folder string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(at(b, folder))
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("names in %s: got %q, want %q", folder, got, want)
	}
}

func wantContent(t testing.TB, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("content of %q:\n got %q, %v\nwant %q", filepath.Base(path), got, err, want)
	}
}

// within fails the test where do hangs.
func within(t testing.TB, limit time.Duration, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		t.Fatalf("it hangs: got no answer in %s, want one", limit)
	}
}

// renameIn puts a drop where it belongs: written in tmp, renamed to new.
func renameIn(t testing.TB, b *mailbox.Box, name, content string) mailbox.Drop {
	t.Helper()
	temp := at(b, mailbox.OutboxTmp, "writing")
	write(t, temp, content)
	must(t, os.Rename(temp, at(b, mailbox.OutboxNew, name)))
	settle(t, at(b, mailbox.OutboxNew, name))
	return drop(t, b, name)
}

// settle renames a file until its times show it. The kernel's clock ticks every few
// milliseconds, so the first rename may carry the time of the write.
func settle(t testing.TB, path string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells that a file was renamed in")
	}
	aside := filepath.Join(filepath.Dir(path), ".settling")
	for deadline := time.Now().Add(10 * time.Second); ; {
		info, err := os.Lstat(path)
		must(t, err)
		if durable.Settled(info) {
			return
		}
		if time.Now().After(deadline) {
			t.Skip("this file system does not tell that a file was renamed in")
		}
		must(t, errors.Join(os.Rename(path, aside), os.Rename(aside, path)))
	}
}

// writeIn writes a drop in place, as echo does.
func writeIn(t testing.TB, b *mailbox.Box, name, content string) mailbox.Drop {
	t.Helper()
	write(t, at(b, mailbox.OutboxNew, name), content)
	return drop(t, b, name)
}

// drop is the drop with the name, as Drops lists it.
func drop(t testing.TB, b *mailbox.Box, name string) mailbox.Drop {
	t.Helper()
	drops, err := b.Drops()
	must(t, err)
	i := slices.IndexFunc(drops, func(d mailbox.Drop) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("Drops: got %v, want one named %q", drops, name)
	}
	return drops[i]
}

// load reads a drop that is whole, an hour after it was written.
func load(t testing.TB, b *mailbox.Box, d mailbox.Drop) *mailbox.Loaded {
	t.Helper()
	l, err := b.Load(d, "Atlas", d.Changed.Add(time.Hour))
	if err != nil {
		t.Fatalf("Load %q: got %v, want no error", d.Name, err)
	}
	return l
}

// wantWait checks that a drop is not taken yet, after that much quiet.
func wantWait(t testing.TB, b *mailbox.Box, d mailbox.Drop, quiet, want time.Duration) {
	t.Helper()
	l, err := b.Load(d, "Atlas", d.Changed.Add(quiet))
	var wait *mailbox.WaitError
	if !errors.As(err, &wait) || wait.For != want {
		t.Errorf("Load %q after %s: got %+v, %v, want to wait for %s", d.Name, quiet, l.Draft, err, want)
	}
}

// wantBad checks that a drop is refused for good, after that much quiet.
func wantBad(t testing.TB, b *mailbox.Box, d mailbox.Drop, quiet time.Duration, why string) *mailbox.Loaded {
	t.Helper()
	l, err := b.Load(d, "Atlas", d.Changed.Add(quiet))
	var wait *mailbox.WaitError
	if err == nil || errors.As(err, &wait) || errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), why) {
		t.Errorf("Load %q after %s: got %+v, %v, want a final error with %q", d.Name, quiet, l.Draft, err, why)
	}
	return l
}

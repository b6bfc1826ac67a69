package maildir_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// configs returns the files of a folder of testdata/config by their name.
func configs(t testing.TB, folder, ending string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "config", folder, "*"+ending))
	if err != nil || len(paths) == 0 {
		t.Fatalf("configs in %q: got %d files, %v", folder, len(paths), err)
	}
	files := make(map[string]string)
	for _, path := range paths {
		files[strings.TrimSuffix(filepath.Base(path), ending)] = read(t, path)
	}
	return files
}

func same(a, b maildir.Config) bool { return cmp.Equal(a, b, cmpopts.EquateEmpty()) }

// A good config is written back with every key as in its .want file, which means the
// same.
func TestGoodConfigs(t *testing.T) {
	wants := configs(t, "good", ".want")
	for name, text := range configs(t, "good", ".toml") {
		t.Run(name, func(t *testing.T) {
			c, err := maildir.ParseConfig([]byte(text))
			if err != nil {
				t.Fatalf("ParseConfig: got %v, want no error", err)
			}
			got, err := c.Encode()
			if err != nil || string(got) != wants[name] {
				t.Errorf("written back: got\n%s%v, want\n%s", got, err, wants[name])
			}
			if again, err := maildir.ParseConfig(got); err != nil || !same(again, c) {
				t.Errorf("read back: got %+v, %v, want %+v", again, err, c)
			}
		})
	}
}

// The error for a bad config contains what its .want file says.
func TestBadConfigs(t *testing.T) {
	wants := configs(t, "bad", ".want")
	for name, text := range configs(t, "bad", ".toml") {
		t.Run(name, func(t *testing.T) {
			_, err := maildir.ParseConfig([]byte(text))
			want := strings.TrimSpace(wants[name])
			if err == nil || want == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("got error %v, want one with %q", err, want)
			}
			if err != nil && strings.Contains(err.Error(), "struct {") {
				t.Errorf("got error %v, want none that quotes Go source", err)
			}
		})
	}
}

func TestDefaultConfig(t *testing.T) {
	c := maildir.DefaultConfig()
	if c.Limits.Content != envelope.MaxContent || c.Limits.Participants != 256 || c.Host.Name != "" || c.Watch.Poll {
		t.Errorf("got %+v, want content 1 MiB, 256 participants, no host name, no polling", c)
	}
	if got, err := maildir.ParseConfig(nil); err != nil || !same(got, c) {
		t.Errorf("an empty file: got %+v, %v, want the default", got, err)
	}
}

func TestReadConfig(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if c, err := maildir.ReadConfig(path("missing")); err != nil || !same(c, maildir.DefaultConfig()) {
		t.Errorf("no file: got %+v, %v, want the default", c, err)
	}
	write(t, path("good"), "limits.content = 5\n")
	must(t, os.Symlink("good", path("link"))) // as people who keep their settings elsewhere do
	for _, name := range []string{"good", "link"} {
		if c, err := maildir.ReadConfig(path(name)); err != nil || c.Limits.Content != 5 {
			t.Errorf("%s: got %+v, %v, want content 5", name, c, err)
		}
	}
	write(t, path("bad"), "\nbogus = 1\n")
	write(t, path("large"), strings.Repeat("#", 1<<20+1))
	must(t, os.Mkdir(path("folder"), 0o700))
	must(t, syscall.Mkfifo(path("pipe"), 0o600))
	for _, name := range []string{"bad", "large", "folder", "pipe"} {
		if c, err := maildir.ReadConfig(path(name)); err == nil || !strings.Contains(err.Error(), path(name)) {
			t.Errorf("%s: got %+v, %v, want an error with the path", name, c, err)
		}
	}
	write(t, path("largest"), strings.Repeat("#", 1<<20))
	if _, err := maildir.ReadConfig(path("largest")); err != nil {
		t.Errorf("a file of 1 MiB: got %v, want no error", err)
	}
}

func TestWriteConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	c := maildir.DefaultConfig()
	c.Host.Name, c.Watch.Rescan.Duration = "nyc", 90*time.Second
	if err := c.Write(path); err != nil {
		t.Fatalf("Write: got %v, want no error", err)
	}
	wantPerm(t, path, 0o600)
	if got, err := maildir.ReadConfig(path); err != nil || !same(got, c) {
		t.Errorf("read back: got %+v, %v, want %+v", got, err, c)
	}
	before := read(t, path)
	c.Limits.Participants = 1
	if err := c.Write(path); err == nil {
		t.Error("Write of a bad config: got no error, want one")
	}
	if got := read(t, path); got != before {
		t.Errorf("after a bad config: got %q, want the old file", got)
	}
	if err := maildir.DefaultConfig().Write(filepath.Join(path, "x")); err == nil || errors.Is(err, fs.ErrExist) {
		t.Errorf("Write below a file: got %v, want an error", err)
	}
}

func TestConfigRoundTrip(t *testing.T) {
	span := rapid.Int64Range(int64(10*time.Millisecond), int64(time.Hour))
	rapid.Check(t, func(t *rapid.T) {
		c := maildir.DefaultConfig()
		c.Host.Name = rapid.StringMatching(`|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`).Draw(t, "name")
		c.Limits.Content = rapid.IntRange(1, envelope.MaxContent).Draw(t, "content")
		c.Limits.Participants = rapid.IntRange(2, envelope.MaxRecipients).Draw(t, "participants")
		c.Watch.Rescan.Duration = time.Duration(span.Draw(t, "rescan"))
		c.Watch.Every.Duration = time.Duration(span.Draw(t, "every"))
		c.Watch.Poll = rapid.Bool().Draw(t, "poll")
		c.Wake = rapid.MapOfN(rapid.StringMatching(`[a-z][a-z0-9_-]{0,31}`), rapid.StringMatching("[^\x00]{0,60}"), 0, 5).Draw(t, "wake")
		text, err := c.Encode()
		if err != nil {
			t.Fatalf("Encode: got %v, want no error", err)
		}
		if got, err := maildir.ParseConfig(text); err != nil || !same(got, c) {
			t.Fatalf("read back: got %+v, %v, want %+v", got, err, c)
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	for _, folder := range []string{"good", "bad"} {
		for _, text := range configs(f, folder, ".toml") {
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := maildir.ParseConfig(data)
		if err != nil {
			return
		}
		text, err := c.Encode()
		if err != nil {
			t.Fatalf("Encode %+v: got %v, want no error", c, err)
		}
		if again, err := maildir.ParseConfig(text); err != nil || !same(again, c) {
			t.Fatalf("written and read back: got %+v, %v, want %+v", again, err, c)
		}
	})
}

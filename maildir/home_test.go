package maildir_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestInitMakesAHome(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "share", "duo")
	h, err := maildir.Init(dir)
	if err != nil {
		t.Fatalf("Init: got %v, want no error", err)
	}
	if h.Dir != dir {
		t.Errorf("Dir: got %q, want %q", h.Dir, dir)
	}
	if !same(h.Config, maildir.DefaultConfig()) {
		t.Errorf("Config: got %+v, want the default", h.Config)
	}
	if err := envelope.CheckHost(h.Host.Name); err != nil {
		t.Errorf("name that was made from the machine's: %v", err)
	}
	if got, want := h.Address("Atlas").String(), "Atlas@"+h.Host.Name; got != want {
		t.Errorf("Address: got %q, want %q", got, want)
	}
	for _, sub := range []string{"", "agents", "conversations", "run"} {
		wantPerm(t, filepath.Join(dir, sub), 0o700)
	}
	for _, file := range []string{"key", "host.json"} {
		wantPerm(t, filepath.Join(dir, file), 0o600)
	}
}

// The id is a hash of the first key, as DESIGN 9 says, computed here once more.
func TestHostIdentityIsItsKey(t *testing.T) {
	h := newHome(t)
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(read(t, filepath.Join(h.Dir, "key"))))
	if err != nil || len(seed) != ed25519.SeedSize {
		t.Fatalf("key: got %d bytes, %v, want a seed of %d", len(seed), err, ed25519.SeedSize)
	}
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	if want := "ed25519:" + base64.StdEncoding.EncodeToString(public); h.Host.Key != want {
		t.Errorf("key: got %q, want %q", h.Host.Key, want)
	}
	sum := sha256.Sum256(append([]byte("duo/host/1"), public...))
	want := strings.ToLower(strings.TrimRight(base32.StdEncoding.EncodeToString(sum[:]), "="))
	if h.Host.ID != want {
		t.Errorf("id: got %q, want %q", h.Host.ID, want)
	}
}

func TestInitAndOpenAgain(t *testing.T) {
	h := newHome(t)
	key, host := read(t, h.Dir+"/key"), read(t, h.Dir+"/host.json")
	for name, open := range map[string]func(string) (*maildir.Home, error){"Init": maildir.Init, "Open": maildir.Open} {
		for range 2 {
			again, err := open(h.Dir)
			if err != nil {
				t.Fatalf("%s: got %v, want no error", name, err)
			}
			if !cmp.Equal(again, h, cmpopts.EquateEmpty()) {
				t.Errorf("%s: got %+v, want %+v", name, again, h)
			}
		}
	}
	if read(t, h.Dir+"/key") != key || read(t, h.Dir+"/host.json") != host {
		t.Error("opening again changed the key or host.json")
	}
}

func TestInitByManyGoroutines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	hosts := make([]maildir.Host, 16)
	var group sync.WaitGroup
	for i := range hosts {
		group.Go(func() {
			h, err := maildir.Init(dir)
			if err != nil {
				t.Errorf("Init: got %v, want no error", err)
				return
			}
			hosts[i] = h.Host
		})
	}
	group.Wait()
	for _, host := range hosts {
		if host != hosts[0] || host.ID == "" {
			t.Errorf("host: got %+v, want what the others got, %+v", host, hosts[0])
		}
	}
	wantNoTemps(t, dir)
}

func TestInitByManyProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	gate, open, err := os.Pipe()
	must(t, err)
	defer gate.Close()
	outputs := make([]bytes.Buffer, 8)
	var group sync.WaitGroup
	for i := range outputs {
		cmd := process(t, "init", dir)
		cmd.Stdin, cmd.Stdout = gate, &outputs[i]
		must(t, cmd.Start())
		group.Go(func() {
			if err := cmd.Wait(); err != nil {
				t.Errorf("Init in another process: got %v, want no error", err)
			}
		})
	}
	open.Close()
	group.Wait()
	h, err := maildir.Open(dir)
	if err != nil {
		t.Fatalf("Open: got %v, want no error", err)
	}
	for i := range outputs {
		if got, want := outputs[i].String(), h.Host.ID+" "+h.Host.Key+"\n"; got != want {
			t.Errorf("process %d: got %q, want %q", i, got, want)
		}
	}
	wantNoTemps(t, dir)
}

func wantNoTemps(t *testing.T, dir string) {
	t.Helper()
	if temps, _ := filepath.Glob(filepath.Join(dir, ".tmp-*")); len(temps) > 0 {
		t.Errorf("temporary files: got %q, want none", temps)
	}
}

func TestHomeIsPrivateWhateverTheUmask(t *testing.T) {
	for _, umask := range []string{"000", "077"} {
		dir := filepath.Join(t.TempDir(), "a", "home")
		cmd := process(t, "init", dir, umaskVar+"="+umask)
		if out, err := cmd.Output(); err != nil {
			t.Fatalf("umask %s: got %s, %v, want no error", umask, out, err)
		}
		for _, sub := range []string{"../../a", "", "agents", "conversations", "run"} {
			wantPerm(t, filepath.Join(dir, sub), 0o700)
		}
		wantPerm(t, filepath.Join(dir, "key"), 0o600)
	}
}

func TestUnsafeHomeIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string) error{
		"others can read":  func(_ *testing.T, dir string) error { return os.Chmod(dir, 0o755) },
		"group can read":   func(_ *testing.T, dir string) error { return os.Chmod(dir, 0o750) },
		"others can enter": func(_ *testing.T, dir string) error { return os.Chmod(dir, 0o701) },
		"group can write":  func(_ *testing.T, dir string) error { return os.Chmod(dir, 0o720) },
		"of another user": func(t *testing.T, dir string) error {
			if os.Getuid() != 0 {
				t.Skip("only root can give a folder away")
			}
			return os.Chown(dir, 65534, 65534)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newHome(t).Dir
			must(t, spoil(t, dir))
			wantUnsafe(t, "Open", maildir.Open, dir)
			wantUnsafe(t, "Init", maildir.Init, dir)

			fresh := t.TempDir()
			must(t, spoil(t, fresh))
			wantUnsafe(t, "Init of an empty folder", maildir.Init, fresh)
			if entries, err := os.ReadDir(fresh); err != nil || len(entries) > 0 {
				t.Errorf("the folder that was refused: got %v, %v, want it untouched", entries, err)
			}
		})
	}
}

func wantUnsafe(t *testing.T, what string, open func(string) (*maildir.Home, error), dir string) {
	t.Helper()
	if h, err := open(dir); !errors.Is(err, maildir.ErrUnsafe) || h != nil {
		t.Errorf("%s: got %v, %v, want ErrUnsafe", what, h, err)
	}
}

func TestFileInPlaceOfAHome(t *testing.T) {
	path := filepath.Join(t.TempDir(), "home")
	write(t, path, "content")
	wantUnsafe(t, "Open", maildir.Open, path)
	if _, err := maildir.Init(path); err == nil {
		t.Error("Init: got no error, want one")
	}
	if got := read(t, path); got != "content" {
		t.Errorf("the file: got %q, want it untouched", got)
	}
}

func TestNoHome(t *testing.T) {
	for name, dir := range map[string]string{"missing": filepath.Join(t.TempDir(), "home"), "empty": private(t)} {
		if _, err := maildir.Open(dir); !errors.Is(err, maildir.ErrNoHome) {
			t.Errorf("%s: got %v, want ErrNoHome", name, err)
		}
	}
}

// private is an empty folder that may become a home.
func private(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o700))
	return dir
}

func TestInitThroughALink(t *testing.T) {
	h := newHome(t)
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(h.Dir, link))
	again, err := maildir.Init(link)
	if err != nil || again.Host != h.Host {
		t.Errorf("Init: got %+v, %v, want the same host", again, err)
	}
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	must(t, os.Symlink(filepath.Join(t.TempDir(), "missing"), nowhere))
	if h, err := maildir.Init(nowhere); err == nil {
		t.Errorf("Init through a link to nowhere: got %+v, want an error", h)
	}
}

// What a crash leaves of a first Init is completed by the next one, with the same key.
func TestInitCompletesWhatACrashHasLeft(t *testing.T) {
	whole := newHome(t)
	key := read(t, whole.Dir+"/key")
	for name, leave := range map[string]func(dir string) error{
		"nothing":     func(string) error { return nil },
		"one folder":  func(dir string) error { return os.Mkdir(dir+"/agents", 0o700) },
		"torn temps":  func(dir string) error { return os.WriteFile(dir+"/.tmp-1", []byte(`{"na`), 0o600) },
		"empty temps": func(dir string) error { return os.WriteFile(dir+"/.tmp-2", nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := private(t)
			write(t, dir+"/key", key)
			must(t, leave(dir))
			h, err := maildir.Init(dir)
			if err != nil {
				t.Fatalf("Init: got %v, want no error", err)
			}
			if h.Host != whole.Host {
				t.Errorf("host: got %+v, want that of the key, %+v", h.Host, whole.Host)
			}
			if got := read(t, dir+"/key"); got != key {
				t.Errorf("key: got %q, want it untouched", got)
			}
		})
	}
}

func TestInitMakesFoldersThatAreMissing(t *testing.T) {
	h := newHome(t)
	for _, sub := range []string{"agents", "conversations", "run"} {
		must(t, os.Remove(filepath.Join(h.Dir, sub)))
	}
	again, err := maildir.Init(h.Dir)
	if err != nil || again.Host != h.Host {
		t.Fatalf("Init: got %+v, %v, want the same host", again, err)
	}
	wantPerm(t, h.ConversationsDir(), 0o700)
}

// A key that cannot be read is never replaced: it may be repaired.
func TestDamagedKeyStays(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "not base64": "?", "short": "AAAA\n", "binary": "\x00\xff",
	} {
		t.Run(name, func(t *testing.T) {
			dir := private(t)
			write(t, dir+"/key", content)
			if h, err := maildir.Init(dir); err == nil || !strings.Contains(err.Error(), "key") {
				t.Errorf("Init: got %+v, %v, want an error that names the key", h, err)
			}
			if got := read(t, dir+"/key"); got != content {
				t.Errorf("key: got %q, want it untouched", got)
			}
			if _, err := os.Lstat(dir + "/host.json"); err == nil {
				t.Error("host.json was made without a key")
			}
		})
	}
}

func TestDamagedHostFile(t *testing.T) {
	for name, content := range map[string]string{
		"empty":           "",
		"torn":            `{"name":"nyc","key":"ed`,
		"list":            `[]`,
		"no version":      `{"name":"nyc"}`,
		"later version":   `{"name":"nyc","version":2}`,
		"bad name":        `{"name":"../x","version":1}`,
		"no name":         `{"version":1}`,
		"upper-case name": `{"name":"NYC","version":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := newHome(t).Dir
			write(t, dir+"/host.json", content)
			for what, open := range map[string]func(string) (*maildir.Home, error){"Open": maildir.Open, "Init": maildir.Init} {
				if h, err := open(dir); err == nil || errors.Is(err, maildir.ErrNoHome) {
					t.Errorf("%s: got %+v, %v, want an error that is not ErrNoHome", what, h, err)
				}
			}
			if got := read(t, dir+"/host.json"); got != content {
				t.Errorf("host.json: got %q, want it untouched", got)
			}
		})
	}
}

// A pipe in place of a file of the home is refused, and nobody waits for it.
func TestPipesInAHome(t *testing.T) {
	for _, name := range []string{"host.json", "key", "config.toml"} {
		h := newHome(t)
		if name == "key" { // which is read where there is no host yet
			must(t, os.Remove(filepath.Join(h.Dir, "host.json")))
		}
		path := filepath.Join(h.Dir, name)
		must(t, os.RemoveAll(path))
		must(t, syscall.Mkfifo(path, 0o600))
		result := make(chan error, 1)
		go func() {
			_, err := maildir.Init(h.Dir)
			result <- err
		}()
		select {
		case err := <-result:
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "pipe") {
				t.Errorf("%s: got %v, want an error that says what is wrong where", name, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: Init hangs", name)
		}
	}
}

func TestHostNameComesFromTheConfig(t *testing.T) {
	dir := private(t)
	write(t, dir+"/config.toml", "host.name = \"nyc\"\n")
	h, err := maildir.Init(dir)
	if err != nil || h.Host.Name != "nyc" {
		t.Fatalf("Init: got %+v, %v, want the name nyc", h, err)
	}
	write(t, dir+"/config.toml", "host.name = \"paris\"\n")
	for what, open := range map[string]func(string) (*maildir.Home, error){"Open": maildir.Open, "Init": maildir.Init} {
		_, err := open(dir)
		if err == nil || !strings.Contains(err.Error(), `"paris"`) || !strings.Contains(err.Error(), `"nyc"`) {
			t.Errorf("%s with another name: got %v, want an error that tells both", what, err)
		}
	}
	must(t, os.Remove(dir+"/config.toml"))
	if h, err := maildir.Open(dir); err != nil || h.Host.Name != "nyc" {
		t.Errorf("Open without a config: got %+v, %v, want the name nyc", h, err)
	}
}

func TestBadConfigMakesNoHost(t *testing.T) {
	dir := private(t)
	write(t, dir+"/config.toml", "host.name = \"New York\"\n")
	if h, err := maildir.Init(dir); err == nil || !strings.Contains(err.Error(), "host.name") {
		t.Errorf("Init: got %+v, %v, want an error about host.name", h, err)
	}
	for _, file := range []string{"key", "host.json"} {
		if _, err := os.Lstat(filepath.Join(dir, file)); err == nil {
			t.Errorf("%s was made, want nothing before the config is right", file)
		}
	}
}

func TestDefaultDir(t *testing.T) {
	wd, err := os.Getwd()
	must(t, err)
	for name, c := range map[string]struct{ duo, xdg, home, want string }{
		"DUO_HOME":          {"/a/b", "/c", "/d", "/a/b"},
		"relative DUO_HOME": {"b/../x", "/c", "/d", filepath.Join(wd, "x")},
		"XDG_DATA_HOME":     {"", "/c", "/d", "/c/duo"},
		"relative XDG":      {"", "c", "/d", "/d/.local/share/duo"},
		"HOME":              {"", "", "/d", "/d/.local/share/duo"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DUO_HOME", c.duo)
			t.Setenv("XDG_DATA_HOME", c.xdg)
			t.Setenv("HOME", c.home)
			if got, err := maildir.DefaultDir(); err != nil || got != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
	t.Setenv("DUO_HOME", "")
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("HOME", "")
	if got, err := maildir.DefaultDir(); err == nil || !strings.Contains(err.Error(), "DUO_HOME") {
		t.Errorf("with nothing set: got %q, %v, want an error that names DUO_HOME", got, err)
	}
}

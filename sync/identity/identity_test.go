package identity_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/sync/identity"
)

func TestOpenIsTheHostOfTheHome(t *testing.T) {
	home := newHome(t, "nyc")
	h := open(t, home)
	if h.ID() != home.Host.ID || h.Name() != "nyc" || maildir.PublicText(h.Keys().Newest()) != home.Host.Key {
		t.Errorf("got %s %s %s, want those of %+v", h.ID(), h.Name(), h.Keys().Newest(), home.Host)
	}
	if again := open(t, home); again.Keys().Follow(h.Keys()) != nil || again.Keys().Len() != 1 {
		t.Error("opened again, the host has other keys")
	}
	if message := []byte("duo/test/1\nhi"); !ed25519.Verify(h.Keys().Newest(), message, h.Sign(message)) {
		t.Error("a signature does not fit the newest key")
	}
}

func TestRotateKeepsTheID(t *testing.T) {
	home := newHome(t, "nyc")
	first := open(t, home)
	next := rotate(t, rotate(t, first, home), home)
	if next.ID() != first.ID() || next.Keys().Len() != 3 || bytes.Equal(next.Keys().Newest(), first.Keys().Newest()) {
		t.Errorf("got id %s with %d keys, want %s with 3", next.ID(), next.Keys().Len(), first.ID())
	}
	onDisk, err := maildir.Open(home.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := maildir.PublicText(next.Keys().Newest()); onDisk.Host.Key != want {
		t.Errorf("host.json: got %s, want %s", onDisk.Host.Key, want)
	}
	again := open(t, onDisk)
	if !bytes.Equal(again.Keys().Text(), next.Keys().Text()) {
		t.Error("opened again, the host has other keys")
	}
	info, err := os.Stat(home.KeyPath())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: got %v %v, want mode 0600", info, err)
	}
	for again.Keys().Len() < identity.MaxKeys {
		again = rotate(t, again, home)
	}
	if _, err := again.Rotate(home); err == nil {
		t.Errorf("got a key more than %d", identity.MaxKeys)
	}
}

// TestRotateCutShort stops a rotation where a crash can, and goes on.
func TestRotateCutShort(t *testing.T) {
	home := newHome(t, "nyc")
	files := []string{home.KeyPath(), home.KeysPath(), home.HostPath()}
	h := open(t, home)
	before := read(t, files)
	h = rotate(t, h, home)
	after := read(t, files)
	put := func(path string, data []byte) {
		if data == nil {
			os.Remove(path)
		} else if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for done, want := range map[string]int{"": 1, "new": 1, "new keys": 2, "keys key": 2, "keys key host": 2} {
		put(home.NewKeyPath(), nil)
		for i, name := range []string{"key", "keys", "host"} {
			put(files[i], before[i])
			if words := strings.Fields(done); contains(words, name) {
				put(files[i], after[i])
			}
		}
		if contains(strings.Fields(done), "new") {
			put(home.NewKeyPath(), after[0])
		}
		onDisk, err := maildir.Open(home.Dir)
		if err != nil {
			t.Fatal(err)
		}
		got := open(t, onDisk)
		if got.ID() != h.ID() || got.Keys().Len() != want || onDisk.Host.Key != maildir.PublicText(got.Keys().Newest()) {
			t.Errorf("stopped behind %q: got %d keys and %s, want %d", done, got.Keys().Len(), onDisk.Host.Key, want)
		}
		if next := rotate(t, got, onDisk); next.Keys().Len() != want+1 || open(t, onDisk).Keys().Len() != want+1 {
			t.Errorf("stopped behind %q: cannot rotate afterwards", done)
		}
	}
}

func TestOpenRefusesForeignKeys(t *testing.T) {
	other := newHome(t, "lon")
	rotate(t, open(t, other), other)
	for name, file := range map[string]string{
		"another host's key":  other.KeyPath(),
		"another host's keys": other.KeysPath(),
	} {
		home := newHome(t, "nyc")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		target := home.KeyPath()
		if file == other.KeysPath() {
			target = home.KeysPath()
		}
		if err := os.WriteFile(target, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := identity.Open(home); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestFollow(t *testing.T) {
	home, twin := newHome(t, "nyc"), newHome(t, "nyc")
	first := open(t, home)
	second := rotate(t, first, home)
	third := rotate(t, second, home)
	// The twin is a copy of the home that goes its own way.
	for _, move := range [][2]string{{home.NewKeyPath(), ""}, {home.KeysPath(), twin.KeysPath()}, {home.KeyPath(), twin.KeyPath()}} {
		if data, err := os.ReadFile(move[0]); err == nil && move[1] != "" {
			if err := os.WriteFile(move[1], data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	twin.Host = home.Host
	fork := rotate(t, open(t, twin), twin)
	fourth := rotate(t, third, home)
	other := newHost(t, "lon")
	for name, test := range map[string]struct {
		shown, pinned *identity.Host
		want          error
	}{
		"the same":    {second, second, nil},
		"newer":       {third, first, nil},
		"older":       {first, second, identity.ErrOldKey},
		"another":     {other, first, identity.ErrChangedKey},
		"another way": {fork, fourth, identity.ErrChangedKey},
	} {
		if got := test.shown.Keys().Follow(test.pinned.Keys()); !errors.Is(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
	if (identity.Keys{}).Follow(first.Keys()) == nil || first.Keys().Follow(identity.Keys{}) == nil {
		t.Error("no keys follow, or are followed")
	}
}

func TestParseKeysRefuses(t *testing.T) {
	home := newHome(t, "nyc")
	good := string(rotate(t, open(t, home), home).Keys().Text())
	other := newHome(t, "lon")
	strange := string(rotate(t, open(t, other), other).Keys().Text())
	lines, its := strings.SplitAfter(good, "\n"), strings.SplitAfter(strange, "\n")
	for name, text := range map[string]string{
		"nothing":            "",
		"no end":             strings.TrimSuffix(good, "\n"),
		"no first":           lines[1],
		"twice":              lines[0] + lines[0],
		"another's step":     lines[0] + its[1],
		"a name twice":       strings.Replace(good, `{"n":1,`, `{"n":1,"n":1,`, 1),
		"an unknown name":    strings.Replace(good, `{"n":1,`, `{"n":1,"x":1,`, 1),
		"another number":     strings.Replace(good, `{"n":2,`, `{"n":3,`, 1),
		"a signed first":     strings.Replace(good, "}\n", `,"old":"AAAA"}`+"\n", 1),
		"no signature":       lines[0] + lines[1][:strings.Index(lines[1], `,"old"`)] + "}\n",
		"signatures swapped": lines[0] + strings.NewReplacer(`"old"`, `"new"`, `"new"`, `"old"`).Replace(lines[1]),
		"not by itself":      lines[0] + regexp.MustCompile(`"old":"([^"]*)","new":"[^"]*"`).ReplaceAllString(lines[1], `"old":"$1","new":"$1"`),
		"not by the other":   lines[0] + regexp.MustCompile(`"old":"[^"]*","new":"([^"]*)"`).ReplaceAllString(lines[1], `"old":"$1","new":"$1"`),
		"a short key":        `{"n":1,"key":"ed25519:AAAA"}` + "\n",
		"a long line":        strings.Replace(good, "{", "{"+strings.Repeat(" ", 600), 1),
		"too many":           strings.Repeat(lines[0], identity.MaxKeys+1),
	} {
		if _, err := identity.ParseKeys([]byte(text)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzKeys(f *testing.F) {
	home := newHome(f, "nyc")
	h := open(f, home)
	f.Add(h.Keys().Text())
	f.Add(rotate(f, h, home).Keys().Text())
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := identity.ParseKeys(text)
		if err != nil {
			return
		}
		again, err := identity.ParseKeys(k.Text())
		if err != nil || again.Follow(k) != nil || again.Len() != k.Len() {
			t.Errorf("%q: written and read again it is %q, %v", text, again.Text(), err)
		}
	})
}

func read(t testing.TB, files []string) (contents [][]byte) {
	t.Helper()
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		contents = append(contents, data)
	}
	return contents
}

func contains(words []string, word string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}

// TestVerify: what an older key has signed stays signed, and others' keys sign nothing.
func TestVerify(t *testing.T) {
	home := newHome(t, "nyc")
	before := open(t, home)
	message := []byte("duo/test/1\nhello")
	signed := before.Sign(message)
	after := rotate(t, before, home)
	if !before.Keys().Verify(message, signed) || !after.Keys().Verify(message, signed) || !after.Keys().Verify(message, after.Sign(message)) {
		t.Error("a signature of the host does not hold")
	}
	for name, holds := range map[string]bool{
		"another host":    newHost(t, "lon").Keys().Verify(message, signed),
		"another message": after.Keys().Verify(append(message, '!'), signed),
		"a newer key":     before.Keys().Verify(message, after.Sign(message)),
		"nothing":         after.Keys().Verify(message, nil),
		"no keys":         (identity.Keys{}).Verify(message, signed),
	} {
		if holds {
			t.Errorf("%s: the signature holds", name)
		}
	}
}

package card_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
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

// vectors returns the files of a folder of testdata by their name without ".json".
func vectors(t testing.TB, folder string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("vectors in %q: got %d files, %v", folder, len(paths), err)
	}
	files := make(map[string]string)
	for _, path := range paths {
		files[strings.TrimSuffix(filepath.Base(path), ".json")] = read(t, path)
	}
	return files
}

// folder is an agent's folder, with a card where the text is not empty.
func folder(t testing.TB, name, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	must(t, os.Mkdir(dir, 0o700))
	if text != "" {
		write(t, filepath.Join(dir, card.File), text)
	}
	return dir
}

func wantNoTemps(t testing.TB, dir string) {
	t.Helper()
	if temps, _ := filepath.Glob(filepath.Join(dir, ".*")); len(temps) > 0 {
		t.Errorf("temporary files: got %q, want none", temps)
	}
}

func TestGoodVectors(t *testing.T) {
	for name, text := range vectors(t, "good") {
		t.Run(name, func(t *testing.T) {
			want := read(t, filepath.Join("testdata", "good", name+".want"))
			c, err := card.Parse([]byte(text))
			if err != nil {
				t.Fatalf("Parse: got %v, want no error", err)
			}
			dir := folder(t, strings.ToLower(c.Name), "")
			if err := c.Write(dir); err != nil {
				t.Fatalf("Write: got %v, want no error", err)
			}
			if got := read(t, filepath.Join(dir, card.File)); got != want {
				t.Errorf("written: got\n%swant\n%s", got, want)
			}
			again, err := card.Read(dir)
			if err != nil {
				t.Fatalf("Read: got %v, want no error", err)
			}
			if diff := cmp.Diff(values(t, c), values(t, again)); diff != "" {
				t.Errorf("read back (-want +got):\n%s", diff)
			}
		})
	}
}

// values is a card with unknown values, which are written with other white space, and
// with no capabilities at all, in one form.
func values(t testing.TB, c card.Card) card.Card {
	t.Helper()
	c.Capabilities = append([]string{}, c.Capabilities...)
	c.Unknown = append([]envelope.Field{}, c.Unknown...)
	for i, f := range c.Unknown {
		e, err := envelope.Decode([]byte(`{"data":` + string(f.Value) + `}`)) // Decode drops white space
		must(t, err)
		c.Unknown[i].Value = e.Data
	}
	return c
}

func TestBadVectors(t *testing.T) {
	for name, text := range vectors(t, "bad") {
		if c, err := card.Parse([]byte(text)); err == nil {
			t.Errorf("%s: got %+v, want an error", name, c)
		}
	}
}

func TestCheck(t *testing.T) {
	for name, spoil := range map[string]func(c *card.Card){
		"no name":               func(c *card.Card) { c.Name = "" },
		"name with a blank":     func(c *card.Card) { c.Name = "At las" },
		"name with a slash":     func(c *card.Card) { c.Name = "a/b" },
		"name that is dots":     func(c *card.Card) { c.Name = ".." },
		"long name":             func(c *card.Card) { c.Name = strings.Repeat("A", 33) },
		"65 capabilities":       func(c *card.Card) { c.Capabilities = strings.Split(strings.Repeat("c ", 65), " ")[:65] },
		"empty capability":      func(c *card.Card) { c.Capabilities = []string{"go", ""} },
		"capability with a tab": func(c *card.Card) { c.Capabilities = []string{"a\tb"} },
		"capability with NUL":   func(c *card.Card) { c.Capabilities = []string{"a\x00"} },
		"long capability":       func(c *card.Card) { c.Capabilities = []string{strings.Repeat("c", 65)} },
		"long description":      func(c *card.Card) { c.Description = strings.Repeat("d", 2001) },
		"description with NUL":  func(c *card.Card) { c.Description = "\x00" },
		"long platform":         func(c *card.Card) { c.Platform = strings.Repeat("p", 101) },
		"platform of two lines": func(c *card.Card) { c.Platform = "a\nb" },
	} {
		t.Run(name, func(t *testing.T) {
			c := card.Card{Name: "Atlas", ID: "1", Capabilities: []string{"go"}, Description: "Text\nof two lines", Platform: "any"}
			if err := c.Check(); err != nil {
				t.Fatalf("Check before: got %v, want no error", err)
			}
			dir := folder(t, "atlas", "")
			must(t, c.Write(dir))
			before := read(t, filepath.Join(dir, card.File))
			spoil(&c)
			if err := c.Check(); err == nil {
				t.Errorf("Check: got no error for %+v, want one", c)
			}
			if err := c.Write(dir); err == nil {
				t.Error("Write: got no error, want one")
			}
			if got := read(t, filepath.Join(dir, card.File)); got != before {
				t.Errorf("after a bad card: got %s, want the old one", got)
			}
			wantNoTemps(t, dir)
		})
	}
}

func TestWrite(t *testing.T) {
	dir := folder(t, "atlas", `{"name":"atlas","description":"old"}`)
	c := card.Card{ID: "1", Name: "Atlas", Capabilities: []string{"go"}, Unregistered: true}
	must(t, c.Write(dir))
	got, err := card.Read(dir)
	if diff := cmp.Diff(c, got); err != nil || diff != "" {
		t.Errorf("Read: got error %v (-want +got):\n%s", err, diff)
	}
	info, err := os.Lstat(filepath.Join(dir, card.File))
	must(t, err)
	if got := info.Mode(); got != 0o600 {
		t.Errorf("mode: got %v, want 0600", got)
	}
	wantNoTemps(t, dir)
	if err := c.Write(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Write without a folder: got %v, want fs.ErrNotExist", err)
	}
}

func TestReadRefuses(t *testing.T) {
	const good = `{"name":"Atlas"}`
	for name, put := range map[string]func(path string) error{
		"a link": func(path string) error {
			return errors.Join(os.WriteFile(path+".real", []byte(good), 0o600), os.Symlink(path+".real", path))
		},
		"a link to nowhere": func(path string) error { return os.Symlink("missing", path) },
		"a second name": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(good), 0o600), os.Link(path, path+".real"))
		},
		"a folder":        func(path string) error { return os.Mkdir(path, 0o700) },
		"a pipe":          func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a huge file":     func(path string) error { return os.WriteFile(path, []byte(good+strings.Repeat(" ", 64<<10)), 0o600) },
		"an endless file": func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)) },
		"another name":    func(path string) error { return os.WriteFile(path, []byte(`{"name":"Nova"}`), 0o600) },
		"an empty file":   func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, "atlas", "")
			must(t, put(filepath.Join(dir, card.File)))
			for what, read := range map[string]func(string) (card.Card, error){"Read": card.Read, "Complete": card.Complete} {
				c, err := read(dir)
				if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), card.File) {
					t.Errorf("%s: got %+v, %v, want an error with the path that is not fs.ErrNotExist", what, c, err)
				}
			}
		})
	}
}

// Whoever can write into the folder can put a pipe there between two looks. Nobody
// waits for it.
func TestReadWhileAPipeTakesThePlace(t *testing.T) {
	const good = `{"name":"Atlas"}`
	dir := folder(t, "atlas", good)
	path, next := filepath.Join(dir, card.File), filepath.Join(dir, ".next")
	ctx, stop := context.WithCancel(t.Context())
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for ctx.Err() == nil {
			err := errors.Join(syscall.Mkfifo(next, 0o600), os.Rename(next, path))
			err = errors.Join(err, os.WriteFile(next, []byte(good), 0o600), os.Rename(next, path))
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 5000 {
			if c, err := card.Read(dir); err == nil && c.Name != "Atlas" {
				t.Errorf("got %+v, want the card whole", c)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("Read hangs")
	}
	stop()
	swapping.Wait()
}

func TestReadOfNoCard(t *testing.T) {
	for _, dir := range []string{folder(t, "atlas", ""), filepath.Join(t.TempDir(), "missing")} {
		if c, err := card.Read(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %+v, %v, want fs.ErrNotExist", c, err)
		}
	}
}

func TestNameIsThatOfTheFolder(t *testing.T) {
	c, err := card.Read(folder(t, "atlas", `{"name":"ATLas"}`))
	if err != nil || c.Name != "ATLas" {
		t.Errorf("another spelling: got %+v, %v, want the spelling of the card", c, err)
	}
	c, err = card.Read(folder(t, "nova", `{"name":"Atlas"}`))
	if err == nil || !strings.Contains(err.Error(), `"Atlas"`) {
		t.Errorf("another name: got %+v, %v, want an error that tells it", c, err)
	}
}

func TestCompleteOfAFolderMadeByHand(t *testing.T) {
	dir := folder(t, "nova", "")
	c, err := card.Complete(dir)
	if err != nil || c.Name != "nova" {
		t.Fatalf("Complete: got %+v, %v, want a card named nova", c, err)
	}
	if _, err := envelope.ParseID(c.ID); err != nil {
		t.Errorf("id: %v", err)
	}
	again, err := card.Complete(dir)
	if diff := cmp.Diff(values(t, c), values(t, again)); err != nil || diff != "" {
		t.Errorf("Complete again: got error %v (-want +got):\n%s", err, diff)
	}
}

func TestCompleteGivesAnId(t *testing.T) {
	dir := folder(t, "nova", `{"name":"Nova","description":"Plans.","color":"blue","capabilities":["plan"]}`)
	c, err := card.Complete(dir)
	if err != nil || c.ID == "" {
		t.Fatalf("Complete: got %+v, %v, want an id", c, err)
	}
	want := card.Card{
		ID: c.ID, Name: "Nova", Description: "Plans.", Capabilities: []string{"plan"},
		Unknown: []envelope.Field{{Name: "color", Value: []byte(`"blue"`)}},
	}
	got, err := card.Read(dir)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Read: got error %v (-want +got):\n%s", err, diff)
	}
}

func TestCompleteLeavesAloneWhatIsWhole(t *testing.T) {
	const text = `{"name":"Nova","id":"mine"}` // as its writer has laid it out
	dir := folder(t, "nova", text)
	if c, err := card.Complete(dir); err != nil || c.ID != "mine" {
		t.Errorf("Complete: got %+v, %v, want the id of the card", c, err)
	}
	if got := read(t, filepath.Join(dir, card.File)); got != text {
		t.Errorf("the file: got %s, want it untouched", got)
	}
}

func TestCompleteOfABadFolder(t *testing.T) {
	for _, name := range []string{"with blank", "1st", "né"} {
		dir := folder(t, name, "")
		if c, err := card.Complete(dir); err == nil {
			t.Errorf("%q: got %+v, want an error", name, c)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%q: got %v, %v, want an empty folder", name, entries, err)
		}
	}
}

// Written with an element on each line, this card is too large to be read again. It
// must stay as it is.
func TestCardThatWouldGrowTooLarge(t *testing.T) {
	text := `{"name":"Nova","list":[1` + strings.Repeat(",1", 30_000) + `]}`
	dir := folder(t, "nova", text)
	if _, err := card.Read(dir); err != nil {
		t.Fatalf("Read: got %v, want no error", err)
	}
	if _, err := card.Complete(dir); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("Complete: got %v, want an error about the limit", err)
	}
	if _, err := card.Read(dir); err != nil {
		t.Errorf("Read afterwards: got %v, want no error", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, folder := range []string{"good", "bad"} {
		for _, text := range vectors(f, folder) {
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := card.Parse(data)
		if err != nil {
			return
		}
		text, err := card.Encode(c)
		if err != nil {
			t.Fatalf("encode %+v: got %v, want no error", c, err)
		}
		again, err := card.Parse(text)
		if err != nil {
			t.Fatalf("Parse what was written (%s): got %v, want no error", text, err)
		}
		if diff := cmp.Diff(values(t, c), values(t, again)); diff != "" {
			t.Fatalf("written and read back (-want +got):\n%s", diff)
		}
	})
}

func TestHasAll(t *testing.T) {
	c := card.Card{Name: "Nova", Capabilities: []string{"Go", "review"}}
	for _, test := range []struct {
		capabilities []string
		want         bool
	}{
		{nil, true}, {[]string{"go"}, true}, {[]string{"REVIEW", "Go"}, true}, {[]string{"go", "cobol"}, false}, {[]string{"rev"}, false}, {[]string{""}, false},
	} {
		if got := c.HasAll(test.capabilities); got != test.want {
			t.Errorf("HasAll(%q): got %v, want %v", test.capabilities, got, test.want)
		}
	}
}

func TestMentions(t *testing.T) {
	c := card.Card{Name: "Nova", Capabilities: []string{"go", "review"}, Description: "Knows Postgres", Platform: "claude"}
	for text, want := range map[string]bool{
		"": true, "  ": true, "nova": true, "POSTGRES": true, "review claude nova": true, "knows": true, "gres": true,
		"cobol": false, "nova cobol": false, "knowspostgres": false,
	} {
		if got := c.Mentions(text); got != want {
			t.Errorf("Mentions(%q): got %v, want %v", text, got, want)
		}
	}
}

// TestFit: whatever a card says, Fit makes one that can be written, and leaves a good one
// as it is.
func TestFit(t *testing.T) {
	good := card.Card{ID: "x", Name: "Bob", Capabilities: []string{"go", "sql"}, Description: "Reviews\nGo.", Platform: "shell", Accepts: card.Known}
	if diff := cmp.Diff(good, good.Fit()); diff != "" {
		t.Errorf("a good card (-want +got):\n%s", diff)
	}
	bad := card.Card{
		Name: "Bob", Capabilities: append(strings.Split(strings.Repeat("c ", 70), " "), "two words", strings.Repeat("c", 65)),
		Description: "\xff" + strings.Repeat("é", 1000) + "\x00", Platform: "a\r\nb\x00" + strings.Repeat("x", 100), Accepts: "all", Unregistered: true,
	}
	fit := bad.Fit()
	if err := fit.Check(); err != nil || len(fit.Capabilities) != 64 || fit.Accepts != card.Anyone || fit.Unregistered {
		t.Errorf("a bad card: got %+v, %v, want what is good of it", fit, err)
	}
	if !utf8.ValidString(fit.Description) || len(fit.Description) < 1990 || !strings.HasPrefix(fit.Platform, "a  b") {
		t.Errorf("texts: got %d bytes and %q, want them cut in whole characters", len(fit.Description), fit.Platform)
	}
	note := card.Presence{Said: "godlike", Note: strings.Repeat("é", 300) + "\n"}.Fit()
	if err := note.Check(); err != nil || note.Said != card.Offline || len(note.Note) != 500 {
		t.Errorf("presence: got %+v, %v, want it offline with a note of 500 bytes", note, err)
	}
}

// TestCompleteLeavesWhatComes: a card that somebody writes while Complete does is not lost.
func TestCompleteLeavesWhatComes(t *testing.T) {
	const text = `{"name":"Sage","description":"knows"}`
	for range 200 {
		dir := filepath.Join(t.TempDir(), "sage")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = card.Complete(dir) // half a card is an error
		}()
		if err := os.WriteFile(filepath.Join(dir, card.File), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		<-done
		if c, err := card.Complete(dir); err != nil || c.Description != "knows" || c.ID == "" {
			t.Fatalf("got %+v, %v, want what was written, with an id", c, err)
		}
	}
}

package standing_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/standing"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// clock is a time that a test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newHome(t *testing.T) *maildir.Home {
	t.Helper()
	return &maildir.Home{Dir: t.TempDir()}
}

func open(t interface {
	Helper()
	Fatal(...any)
}, home *maildir.Home, c *clock) *standing.Book {
	t.Helper()
	b, err := standing.Open(home, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// given is a standing of an agent of the host with the id h1.
func given(name, word string) standing.Standing {
	return standing.Standing{
		Agent: envelope.Address{Name: name, Host: "nyc"}, Host: "h1", Word: word,
		By: envelope.Address{Name: "human", Host: "nyc"}, At: start.UnixMilli(), Change: envelope.NewID(),
	}
}

func set(t *testing.T, b *standing.Book, s standing.Standing, want bool) {
	t.Helper()
	if changed, err := b.Set(s); err != nil || changed != want {
		t.Fatalf("Set %s %s: got %v, %v, want %v", s.Agent, s.Word, changed, err, want)
	}
}

func wantWord(t *testing.T, what string, b *standing.Book, host, name, want string) {
	t.Helper()
	if got := b.Of(host, name).Word; got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestSet(t *testing.T) {
	home, c := newHome(t), &clock{start}
	b := open(t, home, c)
	wantWord(t, "nobody", b, "h1", "Nova", "")
	set(t, b, given("Nova", standing.None), false)
	if !durable.Missing(home.StandingsPath()) {
		t.Error("nothing was changed: got a file, want none")
	}
	mute := given("Nova", standing.Muted)
	mute.Reason, mute.Until = "it loops", start.Add(time.Hour).UnixMilli()
	set(t, b, mute, true)
	again := mute
	again.Change = envelope.NewID()
	set(t, b, again, false)
	longer := again
	longer.Until++
	set(t, b, longer, true)
	wantWord(t, "in another spelling", b, "h1", "NOVA", standing.Muted)
	wantWord(t, "of another host", b, "h2", "Nova", "")
	wantWord(t, "another agent", b, "h1", "Sage", "")
	if diff := cmp.Diff(longer, open(t, home, c).Of("h1", "nova")); diff != "" {
		t.Errorf("read again (-want +got):\n%s", diff)
	}
	c.at = time.UnixMilli(longer.Until).Add(-time.Millisecond)
	wantWord(t, "at the last moment", b, "h1", "Nova", standing.Muted)
	c.at = time.UnixMilli(longer.Until)
	wantWord(t, "after it", b, "h1", "Nova", "")
	set(t, b, given("Nova", standing.None), false)
	set(t, b, given("Nova", standing.Blocked), true)
	set(t, b, given("Nova", standing.None), true)
	wantWord(t, "none again", b, "h1", "Nova", "")
}

// TestUnnoted: what the logs were not told of is remembered until they are, and then
// forgotten where nothing is left to hold.
func TestUnnoted(t *testing.T) {
	home, c := newHome(t), &clock{start}
	b := open(t, home, c)
	mute, none := given("Nova", standing.Muted), given("Nova", standing.None)
	set(t, b, mute, true)
	set(t, b, none, true)
	b = open(t, home, c)
	if list := b.Unnoted(); len(list) != 1 || list[0].Change != none.Change {
		t.Fatalf("Unnoted: got %+v, want the last change alone", list)
	}
	if err := b.Note(mute); err != nil || len(b.Unnoted()) != 1 {
		t.Errorf("Note of a change before: got %v and %d left, want it to do nothing", err, len(b.Unnoted()))
	}
	if err := b.Note(none); err != nil || len(b.Unnoted()) != 0 {
		t.Errorf("Note: got %v and %d left, want none", err, len(b.Unnoted()))
	}
	data, err := os.ReadFile(home.StandingsPath())
	if err != nil || strings.Contains(string(data), "Nova") {
		t.Errorf("the file: got %s, %v, want nobody in it", data, err)
	}
}

func TestSetRefuses(t *testing.T) {
	home := newHome(t)
	b := open(t, home, &clock{start})
	for name, spoil := range map[string]func(*standing.Standing){
		"no standing":     func(s *standing.Standing) { s.Word = "" },
		"another one":     func(s *standing.Standing) { s.Word = "banned" },
		"nobody":          func(s *standing.Standing) { s.Agent = envelope.Address{} },
		"no host":         func(s *standing.Standing) { s.Agent.Host = "" },
		"no id of a host": func(s *standing.Standing) { s.Host = "" },
		"no change":       func(s *standing.Standing) { s.Change = "" },
		"a long reason":   func(s *standing.Standing) { s.Reason = strings.Repeat("r", 501) },
		"two lines":       func(s *standing.Standing) { s.Reason = "a\nb" },
		"NUL":             func(s *standing.Standing) { s.Reason = "\x00" },
		"not UTF-8":       func(s *standing.Standing) { s.Reason = "\xff" },
		"before time":     func(s *standing.Standing) { s.Until = -1 },
		"after time":      func(s *standing.Standing) { s.Until = 1 << 60 },
		"none that ends":  func(s *standing.Standing) { s.Word, s.Until = standing.None, 1 },
	} {
		s := given("Nova", standing.Muted)
		spoil(&s)
		if changed, err := b.Set(s); !errors.Is(err, standing.ErrInvalid) || changed {
			t.Errorf("%s: got %v, %v, want ErrInvalid", name, changed, err)
		}
	}
	if !durable.Missing(home.StandingsPath()) {
		t.Error("got a file, want none")
	}
}

func TestOpenIsStrict(t *testing.T) {
	one := `{"agent":"Nova@nyc","host":"h1","standing":"muted","by":"human@nyc","at":1,"change":"x"}`
	for name, test := range map[string]struct {
		text string
		good bool
	}{
		"good":              {`{"version":1,"agents":[` + one + `]}`, true},
		"nobody":            {`{"version":1,"agents":[]}`, true},
		"empty":             {``, false},
		"torn":              {`{"version":1,"agents":[` + one, false},
		"two values":        {`{"version":1,"agents":[]} {}`, false},
		"an unknown field":  {`{"version":1,"agents":[],"mood":1}`, false},
		"of an agent":       {`{"version":1,"agents":[` + strings.Replace(one, `"at"`, `"mood":1,"at"`, 1) + `]}`, false},
		"another version":   {`{"version":2,"agents":[]}`, false},
		"another standing":  {`{"version":1,"agents":[` + strings.Replace(one, "muted", "banned", 1) + `]}`, false},
		"an agent no agent": {`{"version":1,"agents":[` + strings.Replace(one, "Nova@nyc", "../x@nyc", 1) + `]}`, false},
		"NULs":              {"\x00\x00\x00\x00", false},
	} {
		home := newHome(t)
		if err := os.WriteFile(home.StandingsPath(), []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := standing.Open(home, time.Now); (err == nil) != test.good {
			t.Errorf("%s: got %v, want good %v", name, err, test.good)
		}
	}
	home := newHome(t)
	if err := os.Symlink(filepath.Join(home.Dir, "elsewhere"), home.StandingsPath()); err != nil {
		t.Fatal(err)
	}
	if _, err := standing.Open(home, time.Now); err == nil {
		t.Error("a link: got no error, want one")
	}
}

func TestTooMany(t *testing.T) {
	home, c := newHome(t), &clock{start}
	all := make([]string, 4096)
	for i := range all {
		all[i] = fmt.Sprintf(`{"agent":"a%d@nyc","host":"h1","standing":"muted","by":"human@nyc","at":1,"change":"x","noted":true}`, i)
	}
	if err := os.WriteFile(home.StandingsPath(), []byte(`{"version":1,"agents":[`+strings.Join(all, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, home, c)
	if _, err := b.Set(given("Nova", standing.Muted)); !errors.Is(err, standing.ErrTooMany) {
		t.Errorf("the 4097th: got %v, want ErrTooMany", err)
	}
	set(t, b, given("a7", standing.Blocked), true)
}

// TestRandomChanges compares a book, which is closed and opened at random, with a map.
func TestRandomChanges(t *testing.T) {
	dir := t.TempDir()
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		home := &maildir.Home{Dir: filepath.Join(dir, fmt.Sprint(round))}
		if err := os.Mkdir(home.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		c := &clock{start}
		b := open(t, home, c)
		model := make(map[string]standing.Standing)
		names := []string{"Nova", "nova", "Sage"}
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				c.at = c.at.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute)
			case 1:
				b = open(t, home, c)
			default:
				s := given(rapid.SampledFrom(names).Draw(t, "name"), rapid.SampledFrom([]string{standing.None, standing.Muted, standing.Blocked}).Draw(t, "word"))
				s.Host = rapid.SampledFrom([]string{"h1", "h2"}).Draw(t, "host")
				if s.Word != standing.None && rapid.Bool().Draw(t, "ends") {
					s.Until = c.at.Add(time.Hour).UnixMilli()
				}
				if _, err := b.Set(s); err != nil {
					t.Fatal(err)
				}
				if rapid.Bool().Draw(t, "noted") {
					if err := b.Note(s); err != nil {
						t.Fatal(err)
					}
				}
				model[s.Host+strings.ToLower(s.Agent.Name)] = s
			}
			for _, host := range []string{"h1", "h2"} {
				for _, name := range names {
					want := model[host+strings.ToLower(name)]
					if want.Word == standing.None || want.Until > 0 && want.Until <= c.at.UnixMilli() {
						want = standing.Standing{}
					}
					if got := b.Of(host, name); got.Word != want.Word || got.Until != want.Until {
						t.Fatalf("%s of %s: got %+v, want %+v", name, host, got, want)
					}
				}
			}
		}
	})
}

package session_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/session"
	"github.com/google/go-cmp/cmp"
)

var noon = time.UnixMilli(1_700_000_000_000)

func newHome(t *testing.T) *maildir.Home {
	t.Helper()
	home := &maildir.Home{Dir: t.TempDir()}
	must(t, os.Mkdir(home.AgentsDir(), 0o700))
	return home
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOf(t *testing.T) {
	env := map[string]string{"CODEX_THREAD_ID": "b", "CLAUDE_CODE_SESSION_ID": "a", "DUO_SESSION": ""}
	got := session.Of(func(name string) string { return env[name] })
	want := []session.Key{{Client: "claude-code", ID: "a"}, {Client: "codex", ID: "b"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBind(t *testing.T) {
	home, key := newHome(t), session.Key{Client: session.Claude, ID: "../../x"}
	if b, err := session.Read(home, key); b != nil || err != nil {
		t.Errorf("before: got %+v, %v, want nothing", b, err)
	}
	must(t, session.Bind(home, key, "Atlas", noon))
	want := session.Binding{Key: key, Agent: "Atlas", BoundAt: noon.UnixMilli(), Process: session.Client()}
	wantBinding(t, home, want)

	must(t, session.Update(home, key, func(b *session.Binding) error {
		b.Hooks, b.State, b.Told = true, session.Idle, []session.Told{{Item: "x", Body: true}}
		return nil
	}))
	want.Hooks, want.State, want.Told = true, session.Idle, []session.Told{{Item: "x", Body: true}}
	wantBinding(t, home, want)

	must(t, session.Bind(home, key, "atlas", noon))
	want.Agent = "atlas" // the same one, who was told the same
	wantBinding(t, home, want)
	must(t, session.Bind(home, key, "Nova", noon))
	want.Agent, want.Told = "Nova", nil
	wantBinding(t, home, want)

	must(t, session.Remove(home, key))
	must(t, session.Remove(home, key))
	if b, err := session.Read(home, key); b != nil || err != nil {
		t.Errorf("after: got %+v, %v, want nothing", b, err)
	}
}

func wantBinding(t *testing.T, home *maildir.Home, want session.Binding) {
	t.Helper()
	got, err := session.Read(home, want.Key)
	if diff := cmp.Diff(&want, got); diff != "" || err != nil {
		t.Errorf("got %v (-want +got):\n%s", err, diff)
	}
}

// TestUpdateChangesNothing where the change fails, or names no agent.
func TestUpdateChangesNothing(t *testing.T) {
	home, key := newHome(t), session.Key{Client: session.Codex, ID: "a"}
	must(t, session.Update(home, key, func(b *session.Binding) error { b.Hooks = true; return nil }))
	if b, err := session.Read(home, key); b != nil || err != nil {
		t.Errorf("without an agent: got %+v, %v, want nothing", b, err)
	}
	must(t, session.Bind(home, key, "Atlas", noon))
	before, err := session.Read(home, key)
	must(t, err)
	refused := errors.New("no")
	err = session.Update(home, key, func(b *session.Binding) error { b.Agent = "Nova"; return refused })
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want what the change returned", err)
	}
	wantBinding(t, home, *before)
}

// TestUpdatesDoNotCross: each one sees what the one before has written.
func TestUpdatesDoNotCross(t *testing.T) {
	home, key := newHome(t), session.Key{Client: session.Claude, ID: "a"}
	must(t, session.Bind(home, key, "Atlas", noon))
	const writers, rounds = 8, 20
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range rounds {
				err := session.Update(home, key, func(b *session.Binding) error { b.ToldAt++; return nil })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if b, err := session.Read(home, key); err != nil || b.ToldAt != writers*rounds {
		t.Errorf("got %+v, %v, want %d updates", b, err, writers*rounds)
	}
}

func TestList(t *testing.T) {
	home := newHome(t)
	if list, err := session.List(home, ""); list != nil || err != nil {
		t.Errorf("without a folder: got %v, %v", list, err)
	}
	gone := start(t)
	gone.kill()
	for i, agent := range []string{"Atlas", "Nova", "Atlas"} {
		key := session.Key{Client: session.Claude, ID: fmt.Sprint(i)}
		must(t, session.Bind(home, key, agent, noon.Add(time.Duration(i)*time.Second)))
	}
	must(t, session.Update(home, session.Key{Client: session.Claude, ID: "0"}, func(b *session.Binding) error {
		b.Process = gone.process
		return nil
	}))
	must(t, os.WriteFile(filepath.Join(home.SessionsDir(), "torn.json"), []byte(`{"agent":`), 0o600))
	must(t, os.Mkdir(filepath.Join(home.SessionsDir(), "folder.json"), 0o700))

	wantIDs(t, "all", "[2 1 0]")(session.List(home, ""))
	wantIDs(t, "of one", "[2 0]")(session.List(home, "ATLAS"))
	wantIDs(t, "that live", "[2]")(session.Live(home, "Atlas"))

	must(t, session.Tidy(home, noon))
	wantIDs(t, "younger", "[2 1 0]")(session.List(home, ""))
	torn := filepath.Join(home.SessionsDir(), ".tmp-1") // by who was killed
	must(t, os.WriteFile(torn, nil, 0o600))
	must(t, os.Chtimes(torn, noon, noon))
	must(t, session.Tidy(home, noon.Add(time.Hour)))
	wantIDs(t, "older, but alive", "[2 1]")(session.List(home, ""))
	if _, err := os.Lstat(torn); !os.IsNotExist(err) {
		t.Errorf("what is unfinished: got %v, want it gone", err)
	}
}

func wantIDs(t *testing.T, what, want string) func([]session.Binding, error) {
	return func(list []session.Binding, err error) {
		t.Helper()
		var ids []string
		for _, b := range list {
			ids = append(ids, b.ID)
		}
		if fmt.Sprint(ids) != want || err != nil {
			t.Errorf("%s: got %v, %v, want %s", what, ids, err, want)
		}
	}
}

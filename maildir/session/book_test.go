package session_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/claude-duo/duo/maildir/session"
)

const conversation = "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3"

func item(seq int64) string { return mailbox.ItemOf(conversation, seq, noon.UnixMilli()+seq).Name }

func holder(id string) session.Holder {
	return session.Holder{Key: session.Key{Client: "test", ID: id}, Process: session.Self()}
}

func wantTaken(t *testing.T, b *session.Book, h session.Holder, ask, want string) {
	t.Helper()
	got, err := b.Take(h, strings.Fields(ask))
	if strings.Join(got, " ") != want || err != nil {
		t.Errorf("%s takes %s: got %v, %v, want %s", h.Key, ask, got, err, want)
	}
}

func TestTake(t *testing.T) {
	b := session.OpenBook(newHome(t), "Atlas")
	one, two := holder("1"), holder("2")
	wantTaken(t, b, one, "a b", "a b")
	wantTaken(t, b, two, "b c a d", "c d")
	wantTaken(t, b, one, "a b c d e", "a b e")
	must(t, b.Return(one, "b", "c")) // c is not its to give
	wantTaken(t, b, two, "a b c", "b c")
	must(t, b.Leave(one))
	wantTaken(t, b, two, "a e", "a e")
	wantTaken(t, b, one, "", "")
	leases, err := b.Leases()
	if err != nil || len(leases) != 1 || leases[0].Key != two.Key || strings.Join(leases[0].Items, " ") != "a b c d e" {
		t.Errorf("got %+v, %v, want all with 2", leases, err)
	}
}

// TestAgentsHaveBooks: what one has taken says nothing of another one's, and a book is
// found by the name in any spelling.
func TestAgentsHaveBooks(t *testing.T) {
	home := newHome(t)
	wantTaken(t, session.OpenBook(home, "Atlas"), holder("1"), "a", "a")
	wantTaken(t, session.OpenBook(home, "Nova"), holder("2"), "a", "a")
	wantTaken(t, session.OpenBook(home, "ATLAS"), holder("2"), "a", "")
}

// TestTheDeadHoldNothing, and a session that came back in another process keeps what the
// one before has taken only where nobody else was faster.
func TestTheDeadHoldNothing(t *testing.T) {
	home := newHome(t)
	b := session.OpenBook(home, "Atlas")
	client := start(t)
	one, two := holder("1"), holder("2")
	one.Process = client.process
	wantTaken(t, b, one, "a b", "a b")
	wantTaken(t, b, two, "a b", "")
	client.kill()
	wantTaken(t, b, two, "a", "a")
	one.Process = session.Self()
	wantTaken(t, b, one, "a b", "b")
}

// TestAHolderWithoutAKey is the session of its process.
func TestAHolderWithoutAKey(t *testing.T) {
	b := session.OpenBook(newHome(t), "Atlas")
	client := start(t)
	keyed := holder("1")
	keyed.Process = client.process
	bare := session.Holder{Process: client.process}
	wantTaken(t, b, keyed, "a", "a")
	wantTaken(t, b, bare, "a b", "a b")
	wantTaken(t, b, keyed, "a b", "a b")
	wantTaken(t, b, session.Holder{Process: session.Self()}, "a b", "")
	leases, err := b.Leases()
	if err != nil || len(leases) != 1 || leases[0].Key != keyed.Key {
		t.Errorf("got %+v, %v, want one with the key", leases, err)
	}
}

// TestWhatWasSeenIsNobodys: nobody has to act on it any more.
func TestWhatWasSeenIsNobodys(t *testing.T) {
	home := newHome(t)
	box, err := mailbox.Open(home.AgentDir("Atlas"))
	must(t, err)
	b := session.OpenBook(home, "Atlas")
	must(t, os.WriteFile(filepath.Join(box.Dir(), mailbox.InboxNew, item(1)), []byte("{}"), 0o600))
	wantTaken(t, b, holder("1"), item(1), item(1))
	wantTaken(t, b, holder("2"), item(1), "")
	if _, err := box.MarkSeen(item(1)); err != nil {
		t.Fatal(err)
	}
	if leases, err := b.Leases(); err != nil || len(leases) == 1 && len(leases[0].Items) > 0 {
		t.Errorf("got %+v, %v, want none", leases, err)
	}
	wantTaken(t, b, holder("2"), item(1), item(1))
}

// TestABookIsBounded: the latest items of a holder stay.
func TestABookIsBounded(t *testing.T) {
	b := session.OpenBook(newHome(t), "Atlas")
	var all []string
	for seq := range int64(1<<16 + 10) {
		all = append(all, item(seq+1))
	}
	wantTaken(t, b, holder("1"), strings.Join(all, " "), strings.Join(all, " "))
	leases, err := b.Leases()
	must(t, err)
	if n := len(leases[0].Items); n != 1<<16 || leases[0].Items[n-1] != item(1<<16+10) {
		t.Errorf("got %d items, want the latest %d", n, 1<<16)
	}
}

func TestATornBookIsEmpty(t *testing.T) {
	home := newHome(t)
	b := session.OpenBook(home, "Atlas")
	wantTaken(t, b, holder("1"), "a", "a")
	must(t, os.WriteFile(filepath.Join(home.LeasesDir(), "atlas.json"), []byte(`{"leases":[{`), 0o600))
	wantTaken(t, b, holder("2"), "a", "a")
}

// TestProcessesTakeAtOnce: each of many items goes to exactly one of several processes,
// and those of one that is killed go to another.
func TestProcessesTakeAtOnce(t *testing.T) {
	home := newHome(t)
	takers := []*taker{newTaker(t, home), newTaker(t, home), newTaker(t, home)}
	const items = 60
	for i := range items {
		for _, p := range takers {
			p.ask(item(int64(i + 1)))
		}
	}
	got := make([]map[string]bool, len(takers))
	owners := make(map[string]int)
	for n, p := range takers {
		got[n] = make(map[string]bool)
		for range items {
			if name := p.answer(); name != "" {
				got[n][name] = true
				owners[name]++
			}
		}
	}
	for name, n := range owners {
		if n != 1 {
			t.Errorf("%s: got %d owners, want 1", name, n)
		}
	}
	if len(owners) != items {
		t.Errorf("got %d items with an owner, want %d", len(owners), items)
	}
	takers[0].kill()
	for name := range got[0] {
		if now := takers[1].take(name); now != name {
			t.Errorf("%s of the killed one: got %q, want it", name, now)
		}
	}
	for name := range got[2] {
		if now := takers[1].take(name); now != "" {
			t.Errorf("%s of one that lives: got it, want nothing", name)
		}
	}
}

func TestWake(t *testing.T) {
	b := session.OpenBook(newHome(t), "Atlas")
	for _, step := range []struct {
		at   time.Duration
		want bool
	}{{0, true}, {0, false}, {29 * time.Second, false}, {30 * time.Second, true}, {59 * time.Second, false}, {-time.Hour, true}} {
		if may, err := b.Wake(noon.Add(step.at), 30*time.Second); may != step.want || err != nil {
			t.Errorf("after %s: got %v, %v, want %v", step.at, may, err, step.want)
		}
	}
}

// TestHere: a process that has outlived the session that it was started in acts for the one
// that its program has begun since.
func TestHere(t *testing.T) {
	home := newHome(t)
	old, fresh := session.Key{Client: session.Claude, ID: "old"}, session.Key{Client: session.Claude, ID: "fresh"}
	env := func(name string) string { return map[string]string{"CLAUDE_CODE_SESSION_ID": "old"}[name] }
	want := func(what string, want session.Holder) {
		t.Helper()
		if got := session.Here(home, "atlas", env); got != want {
			t.Errorf("%s: got %+v, want %+v", what, got, want)
		}
	}
	client := session.Client()
	want("not bound", session.Holder{Key: old, Process: client})
	must(t, session.Bind(home, old, "Atlas", noon))
	want("bound", session.Holder{Key: old, Process: client})
	must(t, session.Bind(home, fresh, "Atlas", noon))
	want("both live", session.Holder{Key: old, Process: client})
	must(t, session.Update(home, old, func(b *session.Binding) error { b.Process = session.Process{}; return nil }))
	want("ended", session.Holder{Key: fresh, Process: client})
	must(t, session.Bind(home, fresh, "Nova", noon))
	want("the other is another agent", session.Holder{Key: old, Process: client})
	env = func(string) string { return "" }
	want("no session", session.Holder{Process: client})
}

// TestTakeSaysThatItFailed, rather than that there is nothing.
func TestTakeSaysThatItFailed(t *testing.T) {
	home := newHome(t)
	must(t, os.MkdirAll(home.LeasesDir(), 0o700))
	must(t, os.Symlink("/dev/null", filepath.Join(home.LeasesDir(), "atlas.lock")))
	if got, err := session.OpenBook(home, "Atlas").Take(holder("1"), []string{"a"}); err == nil || got != nil {
		t.Errorf("got %v, %v, want an error", got, err)
	}
}

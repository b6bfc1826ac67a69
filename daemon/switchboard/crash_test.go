package switchboard_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// dump is all that has come of the calls: who is told what, what is said, which records
// there are, and who is doing what.
func (x *exchange) dump(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, name := range x.agents {
		told := x.inbox(t, name)
		slices.Sort(told)
		fmt.Fprintf(&b, "%s %s %q\n", name, x.presence.Of(name).State, told)
	}
	var logs []string
	for _, id := range x.conversations(t) {
		lines, err := x.log(id)
		logs = append(logs, fmt.Sprintf("%q %v\n", lines, err))
	}
	slices.Sort(logs)
	b.WriteString(strings.Join(logs, ""))
	fmt.Fprintf(&b, "open %d done %d\n", len(x.records(t, "open")), len(x.records(t, "done")))
	return b.String()
}

// TestCrash: wherever a daemon is killed between the record of a change and the end of
// what follows from it, the next one comes to the same.
func TestCrash(t *testing.T) {
	for name, test := range map[string]struct {
		play func(t *testing.T, x *exchange)
		last bool // that there is a conversation follows from the last change
	}{
		"ringing": {func(t *testing.T, x *exchange) { x.come("Nova"); x.call(t, "Atlas", "hi", "Nova") }, false},
		"queued":  {func(t *testing.T, x *exchange) { x.call(t, "Atlas", "hi", "Nova", "Sage") }, false},
		"accepted": {func(t *testing.T, x *exchange) {
			x.come("Nova")
			x.accept(t, "Nova", x.call(t, "Atlas", "hi", "Nova"))
		}, true},
		"accepted by one of two": {func(t *testing.T, x *exchange) {
			x.come("Nova", "Sage")
			x.accept(t, "Nova", x.call(t, "Atlas", "hi", "Nova", "Sage"))
		}, true},
		"accepted async": {func(t *testing.T, x *exchange) {
			id := x.call(t, "Atlas", "hi", "Nova")
			pass(2 * ring)
			x.accept(t, "Nova", id)
		}, true},
		"rejected": {func(t *testing.T, x *exchange) {
			x.must(t, "Nova", &draft{Type: envelope.Reject, Request: x.call(t, "Atlas", "hi", "Nova")})
		}, false},
		"missed": {func(t *testing.T, x *exchange) {
			x.come("Nova")
			x.call(t, "Atlas", "hi", "Nova")
			pass(ring)
		}, false},
		"cancelled": {func(t *testing.T, x *exchange) {
			x.must(t, "Atlas", &draft{Type: envelope.Cancel, Request: x.call(t, "Atlas", "hi", "Nova")})
		}, false},
		"over": {func(t *testing.T, x *exchange) {
			x.come("Nova")
			talk := x.accept(t, "Nova", x.call(t, "Atlas", "hi", "Nova", "Sage")).State.ID
			x.must(t, "Nova", &draft{Type: envelope.Leave, Conversation: talk})
			pass(0)
		}, false},
		"a match that has gone on": {func(t *testing.T, x *exchange) {
			x.come("Nova")
			x.match(t, &draft{ID: envelope.NewID()}, "Nova", "Sage")
			x.must(t, "Nova", &draft{Type: envelope.Reject})
		}, false},
		"met": {func(t *testing.T, x *exchange) {
			x.come("Atlas", "Nova")
			x.call(t, "Atlas", "", "Nova")
			x.must(t, "Nova", &draft{Type: envelope.Call, To: []string{"Atlas"}})
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, []string{"Atlas", "Nova", "Sage"}, func(t *testing.T, x *exchange) {
				test.play(t, x)
				want := x.dump(t)
				for _, crash := range []struct {
					where string
					undo  func(t *testing.T, x *exchange)
				}{
					{"at the end", func(*testing.T, *exchange) {}},
					{"before the record was put away", reopen},
					{"before anybody was told", func(t *testing.T, x *exchange) { untell(t, x); reopen(t, x) }},
					{"before there was a conversation", func(t *testing.T, x *exchange) {
						untell(t, x)
						reopen(t, x)
						if test.last {
							removeAll(t, filepath.Join(x.home.ConversationsDir(), "*.jsonl"))
						}
					}},
				} {
					x.restart(t, func() { crash.undo(t, x) })
					pass(0)
					if got := x.dump(t); got != want {
						t.Errorf("killed %s:\ngot\n%swant\n%s", crash.where, got, want)
					}
				}
			})
		})
	}
}

func reopen(t *testing.T, x *exchange) {
	t.Helper()
	for _, id := range x.records(t, "done") {
		if x.get(t, id).Meets != "" { // it never was in open
			continue
		}
		dir := x.home.RequestsDir()
		if err := os.Rename(filepath.Join(dir, "done", id+".json"), filepath.Join(dir, "open", id+".json")); err != nil {
			t.Fatal(err)
		}
	}
}

func untell(t *testing.T, x *exchange) {
	t.Helper()
	for _, name := range x.agents {
		for _, folder := range []string{mailbox.InboxNew, mailbox.InboxCur} {
			removeAll(t, filepath.Join(x.home.AgentDir(name), folder, "*.call.*"))
		}
	}
}

func removeAll(t *testing.T, pattern string) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTheNextOneWasNotCalled: a match that has gone on is killed before the next one
// knows, and the next one is called by the next daemon; or it is cancelled before that.
func TestTheNextOneWasNotCalled(t *testing.T) {
	play := func(t *testing.T, x *exchange) (first string) {
		t.Helper()
		x.come("Nova")
		first = x.match(t, &draft{ID: envelope.NewID()}, "Nova", "Sage").ID
		x.must(t, "Nova", &draft{Type: envelope.Reject})
		return first
	}
	lose := func(t *testing.T, x *exchange, first string) {
		t.Helper()
		next := x.get(t, first).Next
		reopen(t, x)
		if err := os.Remove(filepath.Join(x.home.RequestsDir(), "open", next+".json")); err != nil {
			t.Fatal(err)
		}
		removeAll(t, filepath.Join(x.home.AgentDir("Sage"), mailbox.InboxNew, "*.call.*"))
	}
	scene(t, []string{"Atlas", "Nova", "Sage"}, func(t *testing.T, x *exchange) {
		first := play(t, x)
		x.restart(t, func() { lose(t, x, first) })
		x.wantInbox(t, "after the crash", "Sage", "new call queued")
		x.must(t, "Sage", &draft{Type: envelope.Accept})
		x.wantInbox(t, "accepted", "Atlas", "seen reject rejected next", "new accept accepted")
	})
	scene(t, []string{"Atlas", "Nova", "Sage"}, func(t *testing.T, x *exchange) {
		first := play(t, x)
		x.halt()
		lose(t, x, first)
		if err := x.open(); err != nil {
			t.Fatal(err)
		}
		x.must(t, "Atlas", &draft{Type: envelope.Cancel, Request: first})
		x.run()
		x.wantInbox(t, "cancelled", "Sage")
		x.wantInbox(t, "cancelled", "Atlas", "new reject rejected")
	})
}

// TestTheMeetingIsKnownBefore: a daemon that was killed before it had noted a call that
// met another one knows it before anybody can place it again.
func TestTheMeetingIsKnownBefore(t *testing.T) {
	scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
		x.come("Atlas", "Nova")
		x.call(t, "Atlas", "", "Nova")
		d := draft{ID: envelope.NewID(), Type: envelope.Call, To: []string{"Atlas"}}
		x.must(t, "Nova", &d)
		x.halt()
		if err := os.Remove(filepath.Join(x.home.RequestsDir(), "done", d.ID+".json")); err != nil {
			t.Fatal(err)
		}
		if err := x.open(); err != nil {
			t.Fatal(err)
		}
		if out := x.must(t, "Nova", &d); !out.Duplicate {
			t.Errorf("got %+v, want that it is known", out)
		}
		x.run()
	})
}

// TestAnswersBeforeTheRecovery: a drop may be taken before the daemon has gone on with
// the calls of before the start.
func TestAnswersBeforeTheRecovery(t *testing.T) {
	scene(t, []string{"Atlas", "Nova", "Sage"}, func(t *testing.T, x *exchange) {
		x.call(t, "Atlas", "hi", "Nova")
		x.call(t, "Sage", "hi", "Atlas")
		x.halt()
		if err := x.open(); err != nil {
			t.Fatal(err)
		}
		x.accept(t, "Nova", "")
		x.must(t, "Sage", &draft{Type: envelope.Cancel})
		x.run()
		x.wantInbox(t, "answered", "Atlas", "new accept accepted", "seen call cancelled")
	})
}

// TestStrangeFiles: what kills have left is removed, and what is no record stays.
func TestStrangeFiles(t *testing.T) {
	scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
		id := x.call(t, "Atlas", "hi", "Nova")
		bad := envelope.NewID()
		x.restart(t, func() {
			for name, text := range map[string]string{".tmp-1": "{", bad + ".json": "{", "notes.txt": "mine"} {
				if err := os.WriteFile(filepath.Join(x.home.RequestsDir(), "open", name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
		want := []string{id, bad, "notes.txt"}
		slices.Sort(want)
		got := x.records(t, "open")
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		x.accept(t, "Nova", "")
		if _, err := x.board.Get(bad); err == nil {
			t.Error("a record that cannot be read was read")
		}
	})
}

// TestToldOnce: a restart tells streams nothing that they were told before.
func TestToldOnce(t *testing.T) {
	scene(t, []string{"Atlas", "Nova", "Sage"}, func(t *testing.T, x *exchange) {
		id := x.call(t, "Atlas", "hi", "Nova", "Sage")
		x.must(t, "Nova", &draft{Type: envelope.Reject, Request: id})
		x.halt()
		if err := x.open(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"Nova", "Atlas"} {
			s := x.attach(t, name)
			defer s.Close()
			defer func() {
				if got := lines(t, s); len(got) != 0 {
					t.Errorf("%s is told again: %q", name, got)
				}
			}()
		}
		x.run()
	})
}

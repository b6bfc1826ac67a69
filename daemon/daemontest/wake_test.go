package daemontest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
	"github.com/claude-duo/duo/maildir/session"
)

const (
	wakeCommand = `env >>"$DUO_HOME/surroundings"; printf '%s %s %s\n' "$DUO_AGENT" "$DUO_COUNT" "$DUO_REF" >>"$DUO_HOME/woken"`
	notForWakes = "attack at dawn"
)

// woken are the lines that wake commands have written of an agent.
func woken(t *testing.T, h *daemontest.Host, agent string) (lines []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.Dir, "woken"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, agent+" ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func wantWoken(t *testing.T, h *daemontest.Host, agent string, want ...string) {
	t.Helper()
	daemontest.Eventually(t, func() (bool, string) {
		got := woken(t, h, agent)
		return slices.Equal(got, want), fmt.Sprintf("%s: got %q, want %q", agent, got, want)
	})
}

func wantWake(t *testing.T, h *daemontest.Host, agent, want string) {
	t.Helper()
	daemontest.Eventually(t, func() (bool, string) {
		found, err := h.As("").Find(context.Background(), agent)
		return err == nil && found.Agent != nil && found.Agent.Wake == want, fmt.Sprintf("%s: got %s, %v, want wake %q", agent, daemontest.JSON(found), err, want)
	})
}

// rested makes a host forget when it has woken an agent last, so that a test need not wait.
func rested(t *testing.T, h *daemontest.Host, agent string) {
	t.Helper()
	err := os.Remove(filepath.Join(h.Home().LeasesDir(), filepath.Base(h.Home().AgentDir(agent))+".json"))
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheUsersCommandWakes an agent whom nobody shows what comes, once for each thing, also
// across restarts. It is not said to have seen anything, and the command is told nothing of
// what was written.
func TestTheUsersCommandWakes(t *testing.T) {
	t.Parallel()
	config := fmt.Sprintf("http.listen = 'off'\n[wake]\nNova = '''%s'''\nsage = '''%s'''\n", wakeCommand, wakeCommand)
	h := daemontest.NewWith(t, config, "Atlas", "Nova", "Sage")
	wantWake(t, h, "Nova", api.WakePush)
	wantWake(t, h, "Atlas", api.WakeNone)
	posted := h.Post("Atlas", &envelope.Envelope{Type: envelope.Message, To: []string{"Nova"}, Content: notForWakes})
	ref := posted.Message.Ref
	wantWoken(t, h, "Nova", "Nova 1 "+ref)
	if files := files(t, h, "Nova", mailbox.InboxNew); len(files) != 1 {
		t.Errorf("inbox/new of Nova: got %q, want the message: to be woken is not to have seen", files)
	}
	if data, err := os.ReadFile(filepath.Join(h.Dir, "surroundings")); err != nil || strings.Contains(string(data), notForWakes) || !strings.Contains(string(data), "DUO_REF="+ref) {
		t.Errorf("surroundings: got %s, %v, want the reference and nothing of the text", data, err)
	}
	create(h, "for all", "Nova", "Sage") // is no message

	h.Stop()
	rested(t, h, "Nova")
	h.Drop("Atlas", "x.json", `{"to":"Nova","content":"while you were down"}`)
	h.Start()
	next := strings.Replace(ref, ".2", ".3", 1)
	wantWoken(t, h, "Nova", "Nova 1 "+ref, "Nova 1 "+next)

	h.Stop()
	rested(t, h, "Nova")
	h.Start()
	posted = h.Post("Atlas", &envelope.Envelope{Type: envelope.Message, To: []string{"Sage"}, Content: notForWakes})
	wantWoken(t, h, "Sage", "Sage 1 "+posted.Message.Ref)
	if got := woken(t, h, "Nova"); len(got) != 2 {
		t.Errorf("after a restart with nothing new: got %q, want nobody woken for one thing twice", got)
	}
}

// TestCodexWakesItsThread: a program of that name is in PATH, and a session is bound.
func TestCodexWakesItsThread(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nprintf '[%s]' \"$@\" >\"$DUO_HOME/args.tmp\"\nmv \"$DUO_HOME/args.tmp\" \"$DUO_HOME/args\"\n"
	if err := os.WriteFile(filepath.Join(dir, "codex"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	h := daemontest.New(t, "Atlas", "Nova")
	be := func(state string) {
		t.Helper()
		err := session.Update(h.Home(), session.Key{Client: session.Codex, ID: "thread-1"}, func(b *session.Binding) error {
			b.Agent, b.Process, b.Hooks, b.State = "Nova", session.Self(), true, state
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	be(session.Working)
	wantWake(t, h, "Nova", api.WakeTurnEnd)
	be(session.Idle)
	wantWake(t, h, "Nova", api.WakePush)
	posted := h.Post("Atlas", &envelope.Envelope{Type: envelope.Message, To: []string{"Nova"}, Content: notForWakes})
	want := "[queue][--thread][thread-1][--message][duo: 1 item waits for agent Nova: " + posted.Message.Ref + ". duo inbox lists what waits.][--resume]"
	daemontest.Eventually(t, func() (bool, string) {
		got, err := os.ReadFile(filepath.Join(h.Dir, "args"))
		return string(got) == want, fmt.Sprintf("got %q, %v, want %q", got, err, want)
	})
	if err := session.Remove(h.Home(), session.Key{Client: session.Codex, ID: "thread-1"}); err != nil {
		t.Fatal(err)
	}
	wantWake(t, h, "Nova", api.WakeNone)
}

// TestOtherHostsAreToldWhoCanBeWoken, also when that changes, and of somebody who is not
// there.
func TestOtherHostsAreToldWhoCanBeWoken(t *testing.T) {
	t.Parallel()
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc", "Atlas"), daemontest.NewBehind(t, "lon", "Bob")
	daemontest.Pair(t, nyc, lon)
	wantWake(t, nyc, "Bob@lon", api.WakeNone)
	err := session.Update(lon.Home(), session.Key{Client: session.Gemini, ID: "1"}, func(b *session.Binding) error {
		b.Agent, b.Process, b.Hooks = "Bob", session.Self(), true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantWake(t, nyc, "Bob@lon", api.WakeTurnEnd)
	lon.Stop()
	wantWake(t, nyc, "Bob@lon", "")
}

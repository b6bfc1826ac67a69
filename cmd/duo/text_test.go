package main

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/reach"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/spf13/cobra"
)

func TestSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{"30s": 30 * time.Second, "100": 100 * time.Second, "1.5": 1500 * time.Millisecond, "2m": 2 * time.Minute, "0": 0} {
		var s span
		if err := s.Set(text); err != nil || time.Duration(s) != want {
			t.Errorf("Set(%q): got %s, %v, want %s", text, time.Duration(s), err, want)
		}
	}
	for _, text := range []string{"", "soon", "-1s", "-5", "1e400", "NaN"} {
		var s span
		if err := s.Set(text); err == nil {
			t.Errorf("Set(%q): got %s, want an error", text, time.Duration(s))
		}
	}
}

func TestRefs(t *testing.T) {
	id := "09154173-c7dd-8dbc-8a45-a3bf3a3821a9"
	for ref, want := range map[string]int64{"c9f3a": 0, "C9F3A.42": 42, id: 0, id + ".7": 7, "c00000000": 0} {
		if _, seq, err := splitRef(ref); err != nil || seq != want {
			t.Errorf("splitRef(%q): got %d, %v, want %d", ref, seq, err, want)
		}
	}
	for _, ref := range []string{"", "c", "c12", "c123", "9f3a", "c9f3a.", "c9f3a.0", "c9f3a.-1", "c9f3a.x", "cxyzw", "Nova", "c9f3a.1.2", "r77b2"} {
		if conversation, seq, err := splitRef(ref); err == nil {
			t.Errorf("splitRef(%q): got %q, %d, want an error", ref, conversation, seq)
		}
	}
}

// A reference says which conversation; with another one beside it both must mean the same.
// A text that is read has to be one, and says of itself what is wrong with it.
func TestBody(t *testing.T) {
	for _, step := range []struct {
		what, text string
		want       api.Code
	}{
		{"a text", "hi\n", ""},
		{"the longest", strings.Repeat("é", envelope.MaxContent/2), ""},
		{"one that is longer", strings.Repeat("é", envelope.MaxContent), api.TooLarge},
		{"no text", "a\xff", api.BadRequest},
		{"none", " \n", api.BadRequest},
	} {
		cmd := new(cobra.Command)
		cmd.SetIn(strings.NewReader(step.text))
		text, err := readBody(cmd, "-")
		if err == nil {
			err = checkBody(cmd, text)
		}
		var refused *api.Error
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("%s: %v", step.what, err)
		}
		if err == nil && step.want != "" || err != nil && refused.Code != step.want {
			t.Errorf("%s: got %v, want %q", step.what, err, step.want)
		}
	}
}

func TestAnswer(t *testing.T) {
	id := "09154173-c7dd-8dbc-8a45-a3bf3a3821a9"
	for _, step := range []struct{ to, ref, want string }{
		{"", "c21a9.3", "c21a9"},
		{"c21a9", "c21a9.3", "c21a9"},
		{"C21A9", "c821a9.3", "c821a9"},
		{"c821a9", "c21a9.3", "c821a9"},
		{id, "c21a9.3", id},
		{"c21a9", strings.ToUpper(id) + ".3", strings.ToUpper(id)},
		{"c21a9", "c21a8.3", ""},
		{id, "c921a9.3", ""},
		{"c21a9", "c21a9.x", ""},
	} {
		draft := &envelope.Envelope{Conversation: step.to}
		err := answer(draft, step.ref)
		if step.want == "" && (err == nil || asError(err).Exit() != api.ExitUsage) {
			t.Errorf("%q and %q: got %v, want a mistake in usage", step.to, step.ref, err)
		}
		if step.want != "" && (err != nil || draft.Conversation != step.want || draft.ReplyTo.Seq != 3) {
			t.Errorf("%q and %q: got %q, %v, want %q", step.to, step.ref, draft.Conversation, err, step.want)
		}
	}
}

func TestWithSetting(t *testing.T) {
	for _, step := range []struct{ before, want string }{
		{"", "[watch]\npoll = true\n"},
		{"[watch]\npoll = false # no\n", "[watch]\npoll = true\n"},
		{"[watch]\nrescan = '5s'\n[limits]\ncontent = 5\n", "[watch]\npoll = true\nrescan = '5s'\n[limits]\ncontent = 5\n"},
		{"# top\n[limits]\npoll = 1\n", "# top\n[limits]\npoll = 1\n[watch]\npoll = true\n"},
		{" [ watch ] # here\n\n# poll = 3\n", " [ watch ] # here\npoll = true\n\n# poll = 3\n"},
	} {
		if got := string(withSetting([]byte(step.before), "watch.poll", "true")); got != step.want {
			t.Errorf("%q: got %q, want %q", step.before, got, step.want)
		}
	}
}

func TestDaemonEnvironment(t *testing.T) {
	got := daemonEnvironment([]string{
		"PATH=/bin", "HOME=/h", "LC_ALL=C", "XDG_RUNTIME_DIR=/r", "DUO_AS=Atlas", "DUO_HOME=relative", "CLAUDE_CODE_MESSAGING_TOKEN=secret", "HOMEBREW=x",
	}, "/home")
	want := []string{"DUO_HOME=/home", "PATH=/bin", "HOME=/h", "LC_ALL=C", "XDG_RUNTIME_DIR=/r"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Where a sandbox forbids sockets, a daemon is not started: it could use none either.
func TestStartable(t *testing.T) {
	for _, step := range []struct {
		err  error
		want bool
	}{
		{api.Errorf(api.DaemonUnreachable, "%w: %w", client.ErrNoDaemon, syscall.ENOENT), true},
		{api.Errorf(api.DaemonUnreachable, "%w: %w", client.ErrNoDaemon, syscall.ECONNREFUSED), true},
		{api.Errorf(api.Stopping, "stopping"), true},
		{api.Errorf(api.DaemonUnreachable, "%w: %w", client.ErrNoDaemon, syscall.EPERM), false},
		{api.Errorf(api.DaemonUnreachable, "%w: %w", client.ErrNoDaemon, syscall.EACCES), false},
	} {
		if got := reach.Startable(step.err); got != step.want {
			t.Errorf("Startable(%v) = %t, want %t", step.err, got, step.want)
		}
	}
}

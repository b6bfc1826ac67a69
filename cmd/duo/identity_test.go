package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/session"
)

// run is one run of the program in a test: with an environment, and what it prints.
func newRun(t *testing.T, env map[string]string) (*app, *bytes.Buffer) {
	t.Helper()
	out := new(bytes.Buffer)
	return &app{
		in: bytes.NewReader(nil), out: bufio.NewWriter(out), stderr: new(bytes.Buffer),
		env: func(name string) string { return env[name] }, args: []string{"whoami"},
	}, out
}

func newHome(t *testing.T, agents ...string) *maildir.Home {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "home")
	t.Setenv("DUO_HOME", dir)
	home, err := maildir.Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range agents {
		addAgent(t, home, name)
	}
	return home
}

func addAgent(t *testing.T, home *maildir.Home, name string) {
	t.Helper()
	dir := home.AgentDir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	data := fmt.Sprintf(`{"id":%q,"name":%q}`, envelope.NewID(), name)
	if err := os.WriteFile(filepath.Join(dir, card.File), []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestIdentityOrder(t *testing.T) {
	home := newHome(t, "Atlas", "Nova", "Sage", "Echo")
	folder := t.TempDir()
	t.Chdir(folder)
	if err := session.Bind(home, session.Key{Client: session.Codex, ID: "s1"}, "Sage", time.Now()); err != nil {
		t.Fatal(err)
	}
	toml := filepath.Join(folder, folderFile)
	for _, step := range []struct {
		as, env, session, folder string
		name, source             string
	}{
		{as: "atlas", env: "Nova", session: "s1", folder: "Echo", name: "Atlas", source: "--as"},
		{env: "nova", session: "s1", folder: "Echo", name: "Nova", source: "DUO_AS"},
		{session: "s1", folder: "Echo", name: "Sage", source: "session"},
		{session: "unbound", folder: "Echo", name: "Echo", source: ".duo.toml"},
		{folder: "Echo", name: "Echo", source: ".duo.toml"},
	} {
		if err := os.WriteFile(toml, []byte(fmt.Sprintf("agent = %q\n", step.folder)), 0o600); err != nil {
			t.Fatal(err)
		}
		a, _ := newRun(t, map[string]string{"DUO_AS": step.env, "CODEX_THREAD_ID": step.session})
		a.as = step.as
		got, err := a.me()
		if err != nil {
			t.Errorf("%+v: %v", step, err)
		} else if got.Name != step.name || got.Source != step.source {
			t.Errorf("%+v: got %s from %s", step, got.Name, got.Source)
		}
	}
}

func TestIdentityOfOneAndOfNone(t *testing.T) {
	home := newHome(t)
	t.Chdir(t.TempDir())
	wantCode := func(want api.Code) {
		t.Helper()
		a, _ := newRun(t, nil)
		_, err := a.me()
		var e *api.Error
		if !errors.As(err, &e) || e.Code != want || e.Exit() != api.ExitIdentity || e.Next == "" {
			t.Errorf("got %v, want code %s with a next command", err, want)
		}
	}
	wantCode(api.IdentityRequired)
	addAgent(t, home, "Atlas")
	a, _ := newRun(t, nil)
	if got, err := a.me(); err != nil || got.Name != "Atlas" || got.Source != "only agent" {
		t.Errorf("one agent: got %+v, %v", got, err)
	}
	addAgent(t, home, "Nova")
	wantCode(api.IdentityRequired)
	gone := card.Card{ID: envelope.NewID(), Name: "Nova", Unregistered: true}
	if err := gone.Write(home.AgentDir("Nova")); err != nil {
		t.Fatal(err)
	}
	if got, err := newOnly(t).me(); err != nil || got.Name != "Atlas" {
		t.Errorf("the other one unregistered: got %+v, %v", got, err)
	}
}

func newOnly(t *testing.T) *app {
	a, _ := newRun(t, nil)
	return a
}

// A session around another one keeps its agent when the inner one registers.
func TestInnerSessionDoesNotTakeTheOuterOne(t *testing.T) {
	home := newHome(t, "Atlas", "Nova")
	outer, _ := newRun(t, map[string]string{"CLAUDE_CODE_SESSION_ID": "c"})
	if err := outer.bind(home, "Atlas"); err != nil {
		t.Fatal(err)
	}
	inner, _ := newRun(t, map[string]string{"CLAUDE_CODE_SESSION_ID": "c", "CODEX_THREAD_ID": "x"})
	if err := inner.bind(home, "Nova"); err != nil {
		t.Fatal(err)
	}
	if got, err := outer.me(); err != nil || got.Name != "Atlas" {
		t.Errorf("the outer session: got %+v, %v, want Atlas", got, err)
	}
	if got, err := inner.me(); err == nil {
		t.Errorf("the inner session: got %+v, want that it is ambiguous", got)
	}
}

// Finding out who this is must not read ten thousand cards.
func TestIdentityAmongThousands(t *testing.T) {
	home := newHome(t)
	t.Chdir(t.TempDir())
	for i := range 10_000 { // folders that somebody made by hand are agents too
		if err := os.Mkdir(home.AgentDir(fmt.Sprintf("agent%d", i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Hour
	for range 10 { // the shortest time is what it costs; the rest is what else the machine does
		start := time.Now()
		a, _ := newRun(t, nil)
		if _, err := a.me(); err == nil {
			t.Error("ten thousand agents and no word which one: want an error")
		}
		a, _ = newRun(t, nil)
		a.as = "Agent77"
		if got, err := a.me(); err != nil || got.Name != "agent77" {
			t.Errorf("got %+v, %v", got, err)
		}
		took = min(took, time.Since(start))
	}
	if took > 500*time.Millisecond {
		t.Errorf("took %s", took)
	}
}

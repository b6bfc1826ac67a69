package clients_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/claude-duo/duo/cmd/duo/internal/clients"
)

// here is a user who has no client program, in a folder of the test.
func here(t *testing.T) clients.Env {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("PATH", filepath.Join(dir, "bin"))
	return clients.Env{
		Getenv: func(string) string { return "" }, User: filepath.Join(dir, "user"), Project: filepath.Join(dir, "project"),
		Duo: "/opt/my duo/duo", Dir: filepath.Join(dir, "home", "clients"), Skill: []byte("---\nname: duo\n---\n"),
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
	}
}

// apply does what was planned.
func apply(t *testing.T, plan *clients.Plan, err error) *clients.Plan {
	t.Helper()
	if err == nil {
		err = plan.Apply(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func install(t *testing.T, env clients.Env, name string) *clients.Plan {
	t.Helper()
	plan, err := clients.Install(env, name, clients.User, false)
	return apply(t, plan, err)
}

func uninstall(t *testing.T, env clients.Env, name string) *clients.Plan {
	t.Helper()
	plan, err := clients.Uninstall(env, name, clients.User)
	return apply(t, plan, err)
}

// The forms that people give their files.
var forms = map[string]string{
	"as programs write it":  "{\n  \"a\": {\n    \"b\": [\n      1\n    ]\n  }\n}\n",
	"on one line":           `{"a":{"b":[1]}}`,
	"with spaces":           `{ "a" : { "b" : [ 1 ] } }` + "\n",
	"tabs":                  "{\n\t\"a\": 1,\n\t\"mcpServers\": {\n\t\t\"x\": {\"command\": \"x\"}\n\t}\n}",
	"CRLF":                  "{\r\n   \"a\": 1,\r\n   \"mcpServers\": {\r\n   }\r\n}\r\n",
	"no newline at the end": "{\n  \"a\": 1\n}",
	"empty":                 "{}",
	"empty with lines":      "{\n\n}\n",
	"lists that are empty":  "{\n  \"hooks\": {\"stop\": [], \"Stop\": []},\n  \"mcpServers\": {}\n}\n",
	"odd indents":           "{\n        \"mcpServers\":\n  {\"x\":{\n\"command\":\"x\"}},\n \"hooks\": {\n\"stop\": [{\"command\": \"say\"}\n]}}",
	"text like comments":    `{"a": "http://x // y", "b": "/* z */", "c": "{,}\"" }`,
	"hooks of others": `{
    "hooks": {
        "stop": [{"command": "say duo hook codex stop is fine"}, {"command": "conduo hook"}],
        "Stop": [
            {"matcher": "x", "hooks": [{"type": "command", "command": "true"}]}
        ]
    }
}`,
}

// Those that only some clients read.
var loose = map[string]string{
	"comments":              "{\n  // one\n  \"a\": 1, // two\n  /* three */\n  \"mcpServers\": {\n    \"x\": {} // four\n    // five\n  } // six\n  // seven\n} // eight\n",
	"trailing commas":       "{\n  \"mcpServers\": {\"x\": {},},\n  \"mcp\": {\n    \"x\": {},\n  },\n}\n",
	"a comment and nothing": "// mine\n{ // here\n}\n",
	"a comment on the line": "{\"a\": 1 // x\n}",
	"in one line":           "{\"mcpServers\": {\"x\": {} /* y */}, /* z */}",
	"comments with CRLF":    "{\r\n\t\"mcp\": { // x\r\n\t\t// y\r\n\t},\r\n}",
}

func TestUninstallGivesBack(t *testing.T) {
	for client, paths := range map[string][]string{
		"claude":   {".claude/settings.json", ".claude.json"},
		"codex":    {".codex/hooks.json"},
		"gemini":   {".gemini/settings.json"},
		"cursor":   {".cursor/hooks.json", ".cursor/mcp.json"},
		"opencode": {".config/opencode/opencode.json"},
	} {
		cases := []map[string]string{forms}
		if client == "cursor" || client == "opencode" {
			cases = append(cases, loose)
		}
		for _, list := range cases {
			for form, text := range list {
				t.Run(client+" "+form, func(t *testing.T) {
					env := here(t)
					for _, path := range paths {
						write(t, filepath.Join(env.User, path), text)
					}
					giveBack(t, env, client, paths, text)
				})
			}
		}
	}
}

func giveBack(t *testing.T, env clients.Env, client string, paths []string, text string) {
	t.Helper()
	install(t, env, client)
	for _, path := range paths {
		path = filepath.Join(env.User, path)
		if got, err := os.ReadFile(path); err != nil || string(got) == text {
			t.Fatalf("%s: got %q, %v, want something of duo in it", path, got, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: got mode %v, %v, want 0640", path, info.Mode(), err)
		}
		wantFile(t, path+".duo-bak", text)
	}
	if again := install(t, env, client); !again.Empty() {
		t.Errorf("installed again: got changes %+v, want none", again.Changes)
	}
	uninstall(t, env, client)
	for _, path := range paths {
		wantFile(t, filepath.Join(env.User, path), text)
	}
	var left []string
	_ = filepath.Walk(filepath.Dir(env.User), func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			left = append(left, path)
		}
		return err
	})
	if len(left) != len(paths) {
		t.Errorf("left: got %q, want only the files that were there", left)
	}
}

func TestBothScopesOfASharedSkill(t *testing.T) {
	env := here(t)
	skill := filepath.Join(env.User, ".agents", "skills", "duo", "SKILL.md")
	install(t, env, "codex")
	install(t, env, "opencode")
	uninstall(t, env, "codex")
	wantFile(t, skill, string(env.Skill))
	uninstall(t, env, "opencode")
	if _, err := os.Stat(filepath.Join(env.User, ".agents")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want the folders gone with the last client", err)
	}
}

func TestUpdate(t *testing.T) {
	env := here(t)
	hooks := filepath.Join(env.User, ".claude", "settings.json")
	mine := "{\n  \"model\": \"opus\"\n}\n"
	write(t, hooks, mine)
	install(t, env, "claude")
	env.Duo, env.Skill = "/usr/bin/duo", []byte("---\nname: duo\n---\nnewer\n")
	if plan := install(t, env, "claude"); len(plan.Changes) != 3 {
		t.Errorf("got %d changes, want settings, server and skill", len(plan.Changes))
	}
	got, _ := os.ReadFile(hooks)
	if bytes.Contains(got, []byte("my duo")) || bytes.Count(got, []byte("/usr/bin/duo")) != 6 {
		t.Errorf("got %s, want each hook once, with the new path", got)
	}
	uninstall(t, env, "claude")
	wantFile(t, hooks, mine)
}

// A group of hooks that the user has put something into stays, without ours.
func TestGroupWithOthers(t *testing.T) {
	env := here(t)
	install(t, env, "codex")
	path := filepath.Join(env.User, ".codex", "hooks.json")
	text, _ := os.ReadFile(path)
	edited := strings.Replace(string(text), `"timeout": 5`+"\n          }\n        ]", `"timeout": 5`+"\n          },\n          {\"type\": \"command\", \"command\": \"say\"}\n        ]", 1)
	if edited == string(text) {
		t.Fatalf("nothing was edited in %s", text)
	}
	write(t, path, edited)
	if plan := install(t, env, "codex"); !plan.Empty() {
		t.Errorf("got changes %+v, want none: all is there", plan.Changes)
	}
	uninstall(t, env, "codex")
	var left struct {
		Hooks map[string][]struct{ Hooks []struct{ Command string } }
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &left)
	}
	if err != nil || len(left.Hooks) != 1 || len(left.Hooks["UserPromptSubmit"]) != 1 || left.Hooks["UserPromptSubmit"][0].Hooks[0].Command != "say" {
		t.Errorf("got %s, %v, want only the user's hook", data, err)
	}
}

func TestEditedSkillStays(t *testing.T) {
	env := here(t)
	install(t, env, "cursor")
	skill := filepath.Join(env.User, ".cursor", "skills", "duo", "SKILL.md")
	write(t, skill, "mine now")
	plan := uninstall(t, env, "cursor")
	wantFile(t, skill, "mine now")
	if len(plan.Notes) != 1 || !strings.Contains(plan.Notes[0], "was edited and stays") {
		t.Errorf("got notes %q, want one on the skill", plan.Notes)
	}
}

// What was changed between looking and writing is not lost.
func TestChangedMeanwhile(t *testing.T) {
	env := here(t)
	path := filepath.Join(env.User, ".cursor", "mcp.json")
	write(t, path, "{}")
	plan, err := clients.Install(env, "cursor", clients.User, false)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, `{"mcpServers": {}}`)
	if err := plan.Apply(context.Background()); err == nil || !strings.Contains(err.Error(), "it was changed just now") {
		t.Errorf("got %v, want a refusal", err)
	}
	wantFile(t, path, `{"mcpServers": {}}`)
}

// ends are the spaces before what closes an object or a list. Where it was empty, only the
// copy of the file tells how many there were.
var ends = regexp.MustCompile(`\s+([\]}])`)

func FuzzEntries(f *testing.F) {
	for _, list := range []map[string]string{forms, loose} {
		for _, text := range list {
			f.Add(text)
		}
	}
	env := clients.Env{Getenv: func(string) string { return "" }, User: "/u", Duo: "/opt/my duo/duo"}
	parts := []clients.Content{
		clients.ContentOf(env, "claude", "settings"), clients.ContentOf(env, "cursor", "hooks"),
		clients.ContentOf(env, "cursor", "servers"), clients.ContentOf(env, "opencode", "config"),
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.TrimSpace(text) == "" || strings.Contains(text, "duo") || !strings.Contains(text, "{") {
			return
		}
		for _, part := range parts {
			roundTrip(t, part, text, func(a, b string) bool {
				return ends.ReplaceAllString(a, "$1") == ends.ReplaceAllString(b, "$1") && clients.Same([]byte(a), []byte(b))
			})
		}
	})
}

// TestCodexDoesNotRead: Codex does not read a project's files before the project is trusted,
// which installing again does not change.
func TestCodexDoesNotRead(t *testing.T) {
	for scope, next := range map[clients.Scope]string{clients.User: "duo install codex", clients.Project: "codex"} {
		env := here(t)
		codex := filepath.Join(os.Getenv("PATH"), "codex")
		write(t, codex, "#!/bin/sh\n[ \"$1 $2\" = \"mcp list\" ] && echo '[]' || echo 'codex-cli 1'\n")
		if err := os.Chmod(codex, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(env.Project, 0o755); err != nil {
			t.Fatal(err)
		}
		plan, err := clients.Install(env, "codex", scope, false)
		apply(t, plan, err)
		found := false
		for _, f := range clients.Check(context.Background(), env, "codex") {
			if f.What == "mcp" {
				found = strings.HasPrefix(f.Detail, "codex does not list duo") && f.Next == next
				t.Logf("%s: %+v", scope, f)
			}
		}
		if !found {
			t.Errorf("%s: got no finding that Codex does not list duo, and %q", scope, next)
		}
	}
}

func FuzzTables(f *testing.F) {
	for _, text := range []string{
		"", "a = 1", "a = 1\n", "a = 1\r\n\r\n[b]\r\nc = 2 # d\r\n", "[mcp_servers.x]\ncommand = \"y\"\n\n\n", "[mcp_servers]\n",
		"[sandbox_workspace_write]\nnetwork_access = false\n", "[sandbox_workspace_write]", "x = '''\n[mcp_servers.duo]\n'''\n", "[[a]]\nb = [\n 1,\n]\n",
	} {
		f.Add(text)
	}
	env := clients.Env{Getenv: func(string) string { return "" }, User: "/u", Duo: `/opt/"my" duo`, Outbox: "/home/agents/atlas/outbox"}
	part := clients.ContentOf(env, "codex", "config")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "duo") || strings.Contains(text, "writable_roots") {
			return
		}
		roundTrip(t, part, text, func(a, b string) bool {
			trim := func(s string) string { return strings.TrimRight(s, " \t\r\n") }
			return trim(a) == trim(b)
		})
	})
}

// roundTrip puts what is ours into a text, twice, and takes it out again.
func roundTrip(t *testing.T, part clients.Content, text string, equal func(a, b string) bool) {
	t.Helper()
	with, made, err := clients.Put(part, []byte(text))
	if err != nil {
		return // it is no good text, or it has something else at our places
	}
	again, _, err := clients.Put(part, with)
	if err != nil || !bytes.Equal(again, with) {
		t.Errorf("put into %q twice: got %q, %v, want %q", text, again, err, with)
	}
	left, err := clients.Take(part, with, append([]string{}, made...))
	if err != nil || !equal(string(left), text) {
		t.Errorf("taken out of %q: got %q, %v, want %q", with, left, err, text)
	}
}

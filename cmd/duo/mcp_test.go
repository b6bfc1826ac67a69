package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// modelHome is an environment with a home of its own, in which nobody is anybody yet. It is
// where homes are: some clients give their servers nothing of the environment but HOME.
func modelHome(t *testing.T) (env []string) {
	t.Helper()
	dir := t.TempDir()
	home := filepath.Join(dir, ".local", "share", "duo")
	env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GORACE=atexit_sleep_ms=0"}
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte("http.listen = 'off'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		down := exec.Command("duo", "down")
		down.Env = append(env, "DUO_AUTOSTART=0")
		if out, err := down.CombinedOutput(); err != nil && !strings.Contains(string(out), "no daemon") {
			t.Logf("duo down: %v: %s", err, out)
		}
	})
	return env
}

// useTool calls a tool of duo mcp and returns the text of the result.
func useTool(t *testing.T, s *mcp.ClientSession, name, args string) string {
	t.Helper()
	res, err := s.CallTool(context.Background(), &mcp.CallToolParams{Name: name, Arguments: json.RawMessage(args)})
	if err != nil {
		t.Fatalf("%s %s: %v", name, args, err)
	}
	return res.Content[0].(*mcp.TextContent).Text
}

func wantTool(t *testing.T, s *mcp.ClientSession, name, args string, parts ...string) string {
	t.Helper()
	text := useTool(t, s, name, args)
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Fatalf("%s %s: got\n%s\nwant %q in it", name, args, text, part)
		}
	}
	return text
}

// startMCP starts the program duo mcp, and speaks a version of the protocol with it.
func startMCP(t *testing.T, env []string, version string, args ...string) *mcp.ClientSession {
	t.Helper()
	cmd := exec.Command("duo", append([]string{"mcp"}, args...)...)
	cmd.Env, cmd.Stderr = env, os.Stderr
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	s, err := client.Connect(context.Background(), &mcp.CommandTransport{Command: cmd}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // it may be closed
	return s
}

// TestModels: two models that have nothing but duo mcp become agents, call each other and
// talk, in both generations of the protocol. The daemon starts by itself.
func TestModels(t *testing.T) {
	for _, version := range []string{"2025-06-18", "2026-07-28"} {
		env := modelHome(t)
		atlas := startMCP(t, env, version)
		wantTool(t, atlas, "whoami", `{}`, "there is no agent here yet", `next: whoami {"name":"NAME"}`)
		wantTool(t, atlas, "inbox", `{}`, "there is no agent here yet")
		wantTool(t, atlas, "whoami", `{"name":"Atlas","capabilities":["review"]}`, "registered Atlas@", "you are Atlas from now on")
		nova := startMCP(t, env, version)
		wantTool(t, nova, "whoami", `{}`, "Atlas@", "(only agent)")
		wantTool(t, nova, "whoami", `{"name":"Nova"}`, "you are Nova from now on")
		wantTool(t, nova, "whoami", `{}`, "Nova@", "(whoami)")
		wantTool(t, atlas, "whoami", `{}`, "Atlas@", "(whoami)")
		wantTool(t, nova, "find", `{"capabilities":"review"}`, "Atlas ")

		wantTool(t, nova, "call", `{"to":["Atlas"],"topic":"Review","text":"Line 40?"}`, `"Review" to Atlas (ringing`)
		ref, _, _ := strings.Cut(wantTool(t, atlas, "wait", `{}`, "Nova calls you", "| Line 40?"), " ")
		wantTool(t, atlas, "answer", `{"answer":"accept","ref":"`+ref+`","text":"It is wrong."}`, "accepted "+ref)
		wantTool(t, nova, "wait", `{"ref":"`+ref+`"}`, "Atlas accepted "+ref)
		wantTool(t, nova, "wait", `{"for":"message"}`, "| It is wrong.")
		wantTool(t, nova, "send", `{"text":"Thanks."}`, "sent c")
		wantTool(t, atlas, "wait", `{"for":"message"}`, "| Thanks.")
		wantTool(t, atlas, "leave", `{}`, "left c")
		wantTool(t, nova, "wait", `{}`, "Atlas left")
		if err := atlas.Close(); err != nil { // it ends when its input does
			t.Errorf("duo mcp ends with %v", err)
		}
		wantTool(t, startMCP(t, env, version, "--as", "Atlas"), "whoami", `{"name":"Nova"}`, "this server was started for Atlas (--as) (not_allowed)")
	}
}

// TestWrongModel: a name that is nobody's is said at once, where the client looks.
func TestWrongModel(t *testing.T) {
	env := modelHome(t)
	wantTool(t, startMCP(t, env, ""), "whoami", `{"name":"Atlas"}`, "registered")
	cmd := exec.Command("duo", "mcp", "--as", "Atlsa")
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 4 || !strings.Contains(string(out), "did you mean: Atlas") {
		t.Errorf("got %v\n%s\nwant exit code 4 and the name that is meant", err, out)
	}
}

// TestAutomaticModel: what a model says that duo attend has started is automatic, so that
// two of them do not talk for ever.
func TestAutomaticModel(t *testing.T) {
	env := modelHome(t)
	nova := startMCP(t, env, "")
	wantTool(t, nova, "whoami", `{"name":"Nova"}`, "registered")
	atlas := startMCP(t, append(env, "DUO_HOPS=2"), "")
	wantTool(t, atlas, "whoami", `{"name":"Atlas"}`, "registered")
	wantTool(t, atlas, "message", `{"to":"Nova","text":"hi"}`, "sent c")
	wantTool(t, nova, "wait", `{}`, "from Atlas", ", automatic")
}

// TestModelWords: what a model, or who types into duo mcp, is told in words that are of use.
func TestModelWords(t *testing.T) {
	env := modelHome(t)
	for _, name := range []string{"Atlas", "Nova"} {
		register := exec.Command("duo", "register", name)
		register.Env = env
		if out, err := register.CombinedOutput(); err != nil {
			t.Fatalf("duo register: %v: %s", err, out)
		}
	}
	text := wantTool(t, startMCP(t, env, "2025-06-18"), "inbox", `{}`, "several agents live here", "Atlas, Nova (identity_required)", `next: whoami {"name":"NAME"}`)
	if strings.Contains(text, "--as") {
		t.Errorf("got\n%s\nwant nothing of flags, which a model does not have", text)
	}

	typed := exec.Command("duo", "mcp")
	typed.Env, typed.Stdin = env, strings.NewReader("hello\n")
	out, err := typed.CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"message":"the line is no JSON"`) {
		t.Errorf("duo mcp, given hello: got %v and\n%s", err, out)
	}
}

package clients

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/claude-duo/duo/cmd/duo/internal/doctor"
)

// codex is Codex. Its own command for MCP servers writes the whole of config.toml again with
// other line ends, so the table is written as text.
type codex struct{}

func (codex) title() string   { return "Codex" }
func (codex) program() string { return "codex" }
func (codex) answers() bool   { return true }

func (codex) dir(env Env, scope Scope) string {
	if scope == Project {
		return env.inProject(".codex")
	}
	return env.or("CODEX_HOME", ".codex")
}

func (c codex) folders(env Env) []string { return []string{c.dir(env, User)} }

func (codex) hooks(command string) []entry {
	one := func(event, name, matcher string, seconds int, status string) entry {
		return grouped(event, name, matcher, hook{Type: "command", Command: shellCommand(command, "codex", name), Timeout: seconds, StatusMessage: status})
	}
	return []entry{
		one("SessionStart", "session-start", "startup|resume|clear", 10, "duo: checking in"),
		one("UserPromptSubmit", "prompt", "", 5, ""),
		one("PostToolUse", "tool", "", 5, ""),
		one("Stop", "stop", "", 10, ""),
	}
}

// forwarded are the variables that Codex has to hand on to the server: it starts it with few.
const forwarded = `env_vars = ["DUO_HOME", "DUO_AS", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"]`

func (c codex) files(env Env, scope Scope) []file {
	command, dir := env.command(scope), c.dir(env, scope)
	config := tables{{name: []string{"mcp_servers", "duo"}, lines: []string{"command = " + strconv.Quote(command), `args = ["mcp"]`, forwarded}}}
	if env.Outbox != "" {
		config = append(config, table{name: []string{"sandbox_workspace_write"}, also: true,
			lines: []string{"writable_roots = [" + strconv.Quote(env.Outbox) + "]"}})
	}
	return []file{
		{"hooks", filepath.Join(dir, "hooks.json"), entries{client: "codex", reads: plainJSON, list: c.hooks(command)}},
		{"config", filepath.Join(dir, "config.toml"), config},
		skillOf(env, scope),
	}
}

// skillOf is the skill where Codex, Gemini CLI and opencode all look for it.
func skillOf(env Env, scope Scope) file {
	path := env.at(".agents", "skills", "duo", "SKILL.md")
	if scope == Project {
		path = env.inProject(".agents", "skills", "duo", "SKILL.md")
	}
	return file{"skill", path, whole(env.Skill)}
}

func (codex) plugin(Env) *plugin { return nil }

func (codex) notes(_ Env, scope Scope) []string {
	notes := []string{"Codex runs hooks only when you have trusted them: type /hooks in Codex once"}
	if scope == Project {
		notes = append(notes, "everyone who opens the project needs duo on the PATH, and must trust the project")
	}
	return notes
}

func (c codex) check(ctx context.Context, env Env, scope Scope, _ bool) []doctor.Finding {
	if !has(c) {
		return nil
	}
	return []doctor.Finding{c.checkServer(ctx, env, scope), c.checkTrust(ctx, env, scope)}
}

// unread is the finding that Codex does not know what is in its files.
func (codex) unread(what, detail string, scope Scope) doctor.Finding {
	if scope == Project {
		return doctor.Failure(what, "%s: it reads a project's files only when you have trusted the project, which it asks when it starts there", detail).WithNext("codex")
	}
	return doctor.Failure(what, "%s", detail).WithNext("duo install codex")
}

// codexServer is an MCP server as Codex lists it.
type codexServer struct {
	Name    string `json:"name"`
	Enabled bool   `json:"enabled"`
}

func (c codex) checkServer(ctx context.Context, env Env, scope Scope) doctor.Finding {
	out, err := ask(ctx, env, "codex", "mcp", "list", "--json")
	if err != nil {
		return doctor.Failure("mcp", "codex mcp list: %v%s", err, lastLine(out))
	}
	var servers []codexServer
	if err := json.Unmarshal(listIn(out), &servers); err != nil {
		return doctor.Failure("mcp", "codex mcp list: %v", err)
	}
	i := slices.IndexFunc(servers, func(s codexServer) bool { return s.Name == "duo" })
	switch {
	case i < 0:
		return c.unread("mcp", "codex does not list duo", scope)
	case !servers[i].Enabled:
		return doctor.Failure("mcp", "codex lists duo as disabled").WithNext("codex mcp get duo")
	}
	return doctor.Fine("mcp", "codex lists duo as enabled")
}

// codexHooks is what Codex says of the hooks that it has read.
type codexHooks struct {
	Hooks []struct {
		Command     string `json:"command"`
		Enabled     bool   `json:"enabled"`
		TrustStatus string `json:"trustStatus"`
	} `json:"hooks"`
	Warnings []json.RawMessage `json:"warnings"`
	Errors   []json.RawMessage `json:"errors"`
}

func (c codex) checkTrust(ctx context.Context, env Env, scope Scope) doctor.Finding {
	read, err := c.askHooks(ctx, env)
	switch {
	case err != nil:
		return doctor.Failure("hooks", "codex app-server: %v", err)
	case len(read.Errors) > 0:
		return doctor.Failure("hooks", "codex cannot read its hooks: %s", read.Errors[0])
	}
	ours, trusted := 0, 0
	for _, h := range read.Hooks {
		if match := ourHook.FindStringSubmatch(h.Command); match == nil || match[1] != "codex" {
			continue
		}
		ours++
		if h.Enabled && h.TrustStatus != "untrusted" && h.TrustStatus != "modified" {
			trusted++
		}
	}
	switch {
	case ours == 0:
		return c.unread("hooks", "codex has no hooks of duo", scope)
	case trusted < ours:
		return doctor.Warning("hooks", "%d of %d hooks are not trusted yet, and do not run: type /hooks in Codex", ours-trusted, ours).WithNext("codex")
	}
	return doctor.Fine("hooks", "codex runs %d hooks of duo", ours)
}

// askHooks asks Codex's server for the hooks that hold in the project.
func (codex) askHooks(ctx context.Context, env Env) (*codexHooks, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "codex", "app-server")
	cmd.Dir = env.Project
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // it was ended
	}()
	where := encode(wrap{"cwds", []string{env.Project}})
	_, err = fmt.Fprintf(in, "%s\n%s\n"+`{"jsonrpc":"2.0","id":2,"method":"hooks/list","params":%s}`+"\n",
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"clientInfo":{"name":"duo","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"initialized"}`, where)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxFile)
	for lines.Scan() {
		var answer struct {
			ID     int `json:"id"`
			Result struct {
				Data []codexHooks `json:"data"`
			} `json:"result"`
			Error *struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		if json.Unmarshal(lines.Bytes(), &answer) != nil || answer.ID != 2 {
			continue
		}
		if answer.Error != nil {
			return nil, errors.New(answer.Error.Message)
		}
		if len(answer.Result.Data) > 0 {
			return &answer.Result.Data[0], nil
		}
		return &codexHooks{}, nil
	}
	return nil, errors.Join(errors.New("no answer"), lines.Err())
}

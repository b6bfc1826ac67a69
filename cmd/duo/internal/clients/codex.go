package clients

import (
	"path/filepath"
	"strconv"
)

// codex is Codex. Its own command for MCP servers writes the whole of config.toml again with
// other line ends, so the table is written as text.
type codex struct{}

func (codex) title() string   { return "Codex" }
func (codex) program() string { return "codex" }

func (codex) dir(env Env, scope Scope) string {
	if scope == Project {
		return env.inProject(".codex")
	}
	return env.or("CODEX_HOME", ".codex")
}

func (c codex) folders(env Env) []string { return []string{c.dir(env, User)} }

func (codex) hooks(command string) []entry {
	var list []entry
	add := func(event, name, matcher string, seconds int, status string) {
		h := hook{Type: "command", Command: shellCommand(command, "codex", name), Timeout: seconds, StatusMessage: status}
		list = append(list, entry{at: []string{"hooks", event}, event: name, value: group{matcher, []hook{h}}})
	}
	add("SessionStart", "session-start", "startup|resume|clear", 10, "duo: checking in")
	add("UserPromptSubmit", "prompt", "", 5, "")
	add("PostToolUse", "tool", "", 5, "")
	add("Stop", "stop", "", 10, "")
	return list
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
		{"hooks", filepath.Join(dir, "hooks.json"), entries{client: "codex", list: c.hooks(command)}},
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

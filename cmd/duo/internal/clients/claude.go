package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/claude-duo/duo/cmd/duo/internal/doctor"
	"github.com/claude-duo/duo/daemon/frame"
)

// claude is Claude Code. Its plugin is a folder that the client reads in place; where there
// is no claude command, the same hooks, server and skill go into its own files. Never both:
// the hooks would run twice.
type claude struct{}

func (claude) title() string   { return "Claude Code" }
func (claude) program() string { return "claude" }
func (claude) answers() bool   { return true }

func (claude) dir(env Env) string { return env.or("CLAUDE_CONFIG_DIR", ".claude") }

func (c claude) folders(env Env) []string { return []string{c.dir(env)} }

// account is the file in which Claude Code keeps a user's MCP servers, among much else.
func (c claude) account(env Env) string {
	if dir := env.Getenv("CLAUDE_CONFIG_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, ".claude.json")
	}
	return env.at(".claude.json")
}

// hooks are the events of which duo wants to hear, each with what is run then. The last one
// is left running: it wakes an idle session.
func (claude) hooks(command string) []entry {
	one := func(event, name, matcher string, seconds int) entry {
		h := hook{Type: "command", Command: command, Args: []string{"hook", "claude", name}, Timeout: seconds, AsyncRewake: name == "wake"}
		return grouped(event, name, matcher, h)
	}
	return []entry{
		one("SessionStart", "session-start", "startup|resume|clear|compact|fork", 10),
		one("UserPromptSubmit", "prompt", "", 5),
		one("PostToolBatch", "tool-batch", "", 5),
		one("Stop", "stop", "", 10),
		one("Stop", "wake", "", 24*60*60),
		one("SessionEnd", "session-end", "", 2),
	}
}

func (c claude) files(env Env, scope Scope) []file {
	command := env.command(scope)
	settings, servers, skill := filepath.Join(c.dir(env), "settings.json"), c.account(env), filepath.Join(c.dir(env), "skills")
	if scope == Project {
		settings, servers, skill = env.inProject(".claude", "settings.json"), env.inProject(".mcp.json"), env.inProject(".claude", "skills")
	}
	return []file{
		{"settings", settings, entries{client: "claude", reads: plainJSON, list: c.hooks(command)}},
		{"servers", servers, entries{client: "claude", reads: plainJSON, list: []entry{mcpServer(command)}}},
		{"skill", filepath.Join(skill, "duo", "SKILL.md"), whole(env.Skill)},
	}
}

const claudeDescription = "Agents find each other, call each other and write to each other"

// plugin is a marketplace of one plugin.
func (c claude) plugin(env Env) *plugin {
	dir := filepath.Join(env.Dir, "claude")
	in := func(role string, content content, path ...string) file {
		return file{role, filepath.Join(append([]string{dir}, path...)...), content}
	}
	type named struct {
		Name string `json:"name"`
	}
	type listed struct {
		Name        string `json:"name"`
		Source      string `json:"source"`
		Description string `json:"description"`
	}
	return &plugin{
		files: []file{
			in("marketplace", pretty(struct {
				Name        string   `json:"name"`
				Owner       named    `json:"owner"`
				Description string   `json:"description"`
				Plugins     []listed `json:"plugins"`
			}{"duo", named{"duo"}, claudeDescription, []listed{{"duo", "./duo", claudeDescription}}}), ".claude-plugin", "marketplace.json"),
			in("plugin", pretty(struct {
				Name        string `json:"name"`
				Version     string `json:"version"`
				Description string `json:"description"`
				Author      named  `json:"author"`
			}{"duo", pluginVersion, claudeDescription, named{"duo"}}), "duo", ".claude-plugin", "plugin.json"),
			in("plugin-servers", pretty(wrap{"mcpServers", wrap{"duo", server{env.Duo, []string{"mcp"}}}}), "duo", ".mcp.json"),
			in("plugin-hooks", fresh(entries{client: "claude", reads: plainJSON, list: c.hooks(env.Duo)}), "duo", "hooks", "hooks.json"),
			in("plugin-skill", whole(env.Skill), "duo", "skills", "duo", "SKILL.md"),
			{"settings", filepath.Join(c.dir(env), "settings.json"), entries{client: "claude", reads: plainJSON, list: []entry{
				{at: []string{"extraKnownMarketplaces", "duo"}, value: wrap{"source", struct {
					Source string `json:"source"`
					Path   string `json:"path"`
				}{"directory", dir}}},
				{at: []string{"enabledPlugins", "duo@duo"}, value: true},
			}}},
		},
		in: [][]string{
			{"claude", "plugin", "marketplace", "add", dir},
			{"claude", "plugin", "install", "duo@duo", "--scope", "user"},
		},
		out: [][]string{
			{"claude", "plugin", "uninstall", "duo@duo", "--scope", "user"},
			{"claude", "plugin", "marketplace", "remove", "duo"},
		},
	}
}

// pluginVersion is what clients show of what we give them. They read it in place, so it need
// not change for them to see what is new.
const pluginVersion = "0.1.0"

// fresh is a new file with the entries in it.
func fresh(e entries) whole {
	text, _, err := e.put(nil)
	if err != nil {
		panic("write entries into an empty file: " + err.Error()) // it has no place that is taken
	}
	return text
}

// pretty is a new file with a value of ours.
func pretty(value any) whole {
	var b bytes.Buffer
	_ = json.Indent(&b, encode(value), "", "  ") // it is JSON
	return append(b.Bytes(), '\n')
}

func (claude) notes(_ Env, scope Scope) []string {
	notes := []string{"Claude Code reads this when a session starts"}
	if scope == Project {
		notes = append(notes, "everyone who opens the project needs duo on the PATH, and is asked once to approve .mcp.json")
	}
	return notes
}

// check asks for the plugin and the server, which Claude Code starts to see whether it answers.
func (c claude) check(ctx context.Context, env Env, scope Scope, plugin bool) (list []doctor.Finding) {
	if !has(c) {
		return nil
	}
	server := "duo"
	if plugin {
		server = "plugin:duo:duo"
		list = append(list, c.checkPlugin(ctx, env)...)
		if hasOurs(c.files(env, User)) {
			list = append(list, doctor.Failure("twice", "hooks or server of duo stand in files of Claude Code besides the plugin's: they run twice").
				WithNext("duo uninstall claude"))
		}
	}
	out, _ := ask(ctx, env, "claude", "mcp", "get", server) // what it prints tells more
	state := connected(lineOf(out, func(line string) bool { return strings.HasPrefix(line, "Status:") }), "duo install claude")
	if state.Level == doctor.Warn {
		state = state.WithNext("claude")
	}
	return append(list, state)
}

func (c claude) checkPlugin(ctx context.Context, env Env) (list []doctor.Finding) {
	dir := filepath.Join(env.Dir, "claude", "duo")
	if out, err := ask(ctx, env, "claude", "plugin", "validate", dir); err != nil {
		list = append(list, doctor.Failure("plugin", "claude plugin validate: %v%s", err, lastLine(out)).WithNext("claude plugin validate %s", frame.ShellWord(dir)))
	}
	out, err := ask(ctx, env, "claude", "plugin", "list", "--json")
	if err != nil {
		return append(list, doctor.Failure("plugin", "claude plugin list: %v%s", err, lastLine(out)))
	}
	var plugins []struct {
		ID      string `json:"id"`
		Enabled bool   `json:"enabled"`
		Folder  string `json:"readFromFolder"`
	}
	if err := json.Unmarshal(out, &plugins); err != nil {
		return append(list, doctor.Failure("plugin", "claude plugin list: %v", err))
	}
	for _, p := range plugins {
		switch {
		case p.ID != "duo@duo":
		case !p.Enabled:
			return append(list, doctor.Failure("plugin", "duo@duo is disabled").WithNext("claude plugin enable duo@duo"))
		case p.Folder != "" && p.Folder != dir:
			return append(list, doctor.Failure("plugin", "duo@duo is read from %s", p.Folder).WithNext("duo install claude"))
		default:
			return append(list, doctor.Fine("plugin", "duo@duo is enabled"))
		}
	}
	return append(list, doctor.Failure("plugin", "claude does not list duo@duo").WithNext("duo uninstall claude --yes && duo install claude"))
}

package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/claude-duo/duo/cmd/duo/internal/doctor"
)

// gemini is Gemini CLI. Its extension is a folder that the client reads in place.
type gemini struct{}

func (gemini) title() string   { return "Gemini CLI" }
func (gemini) program() string { return "gemini" }
func (gemini) answers() bool   { return true }

func (gemini) dir(env Env) string { return filepath.Join(env.or("GEMINI_CLI_HOME"), ".gemini") }

func (g gemini) folders(env Env) []string { return []string{g.dir(env)} }

// hooks are those of duo. Gemini CLI counts milliseconds.
func (gemini) hooks(command string) []entry {
	one := func(event, name, matcher string, timeout int) entry {
		return grouped(event, name, matcher, hook{Name: "duo", Type: "command", Command: shellCommand(command, "gemini", name), Timeout: timeout})
	}
	return []entry{
		one("SessionStart", "session-start", "startup|resume|clear", 10_000),
		one("BeforeAgent", "prompt", "", 5_000),
		one("AfterTool", "tool", "*", 5_000),
		one("AfterAgent", "stop", "", 10_000),
	}
}

func (g gemini) files(env Env, scope Scope) []file {
	command, settings := env.command(scope), filepath.Join(g.dir(env), "settings.json")
	if scope == Project {
		settings = env.inProject(".gemini", "settings.json")
	}
	return []file{
		{"settings", settings, entries{client: "gemini", reads: withComments, list: append(g.hooks(command), mcpServer(command))}},
		skillOf(env, scope),
	}
}

func (g gemini) plugin(env Env) *plugin {
	dir := filepath.Join(env.Dir, "gemini")
	manifest := struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		Servers wrap   `json:"mcpServers"`
	}{"duo", pluginVersion, wrap{"duo", server{env.Duo, []string{"mcp"}}}}
	return &plugin{
		files: []file{
			{"extension", filepath.Join(dir, "gemini-extension.json"), pretty(manifest)},
			{"extension-hooks", filepath.Join(dir, "hooks", "hooks.json"), fresh(entries{client: "gemini", list: g.hooks(env.Duo)})},
			{"extension-skill", filepath.Join(dir, "skills", "duo", "SKILL.md"), whole(env.Skill)},
		},
		in:  [][]string{{"gemini", "extensions", "link", dir, "--consent"}},
		out: [][]string{{"gemini", "extensions", "uninstall", "duo"}},
		// To be linked, an extension must be in a folder that is trusted, for that moment.
		keep: []string{filepath.Join(g.dir(env), "trustedFolders.json")},
	}
}

func (gemini) notes(_ Env, scope Scope) []string {
	notes := []string{"Gemini CLI reads this when it starts, in folders that you trust"}
	if scope == Project {
		notes = append(notes, "everyone who opens the project needs duo on the PATH")
	}
	return notes
}

func (g gemini) check(ctx context.Context, env Env, _ Scope, plugin bool) (list []doctor.Finding) {
	if !has(g) {
		return nil
	}
	if plugin {
		list = append(list, g.checkExtension(ctx, env))
	}
	out, _ := ask(ctx, env, "gemini", "mcp", "list") // what it prints tells more
	if bytes.Contains(out, []byte("folder is untrusted")) {
		return append(list, doctor.Warning("trust", "Gemini CLI does not trust %s: neither hooks nor tools of duo run there; type /permissions in it", env.Project).
			WithNext("gemini"))
	}
	state := connected(lineOf(out, func(line string) bool {
		_, rest, found := strings.Cut(line, " duo ")
		return found && strings.Contains(rest, "(stdio)")
	}), "duo install gemini")
	return append(list, state)
}

func (gemini) checkExtension(ctx context.Context, env Env) doctor.Finding {
	out, err := ask(ctx, env, "gemini", "extensions", "list", "-o", "json")
	if err != nil {
		return doctor.Failure("extension", "gemini extensions list: %v%s", err, lastLine(out))
	}
	var extensions []struct {
		Name   string `json:"name"`
		Path   string `json:"path"`
		Active bool   `json:"isActive"`
	}
	if err := json.NewDecoder(bytes.NewReader(listIn(out))).Decode(&extensions); err != nil {
		return doctor.Failure("extension", "gemini extensions list: %v", err)
	}
	for _, e := range extensions {
		switch {
		case e.Name != "duo":
		case !e.Active:
			return doctor.Failure("extension", "duo is disabled").WithNext("gemini extensions enable duo")
		case e.Path != filepath.Join(env.Dir, "gemini"):
			return doctor.Failure("extension", "duo is read from %s", e.Path).WithNext("gemini extensions uninstall duo")
		default:
			return doctor.Fine("extension", "duo is enabled")
		}
	}
	return doctor.Failure("extension", "gemini does not list duo").WithNext("duo uninstall gemini --yes && duo install gemini")
}

package clients

import "path/filepath"

// gemini is Gemini CLI. Its extension is a folder that the client reads in place.
type gemini struct{}

func (gemini) title() string   { return "Gemini CLI" }
func (gemini) program() string { return "gemini" }

func (gemini) dir(env Env) string { return filepath.Join(env.or("GEMINI_CLI_HOME"), ".gemini") }

func (g gemini) folders(env Env) []string { return []string{g.dir(env)} }

// hooks are those of duo. Gemini CLI counts milliseconds.
func (gemini) hooks(command string) []entry {
	var list []entry
	add := func(event, name, matcher string, timeout int) {
		h := hook{Name: "duo", Type: "command", Command: shellCommand(command, "gemini", name), Timeout: timeout}
		list = append(list, entry{at: []string{"hooks", event}, event: name, value: group{matcher, []hook{h}}})
	}
	add("SessionStart", "session-start", "startup|resume|clear", 10_000)
	add("BeforeAgent", "prompt", "", 5_000)
	add("AfterTool", "tool", "*", 5_000)
	add("AfterAgent", "stop", "", 10_000)
	return list
}

func (g gemini) files(env Env, scope Scope) []file {
	command, settings := env.command(scope), filepath.Join(g.dir(env), "settings.json")
	if scope == Project {
		settings = env.inProject(".gemini", "settings.json")
	}
	return []file{
		{"settings", settings, entries{client: "gemini", list: append(g.hooks(command), mcpServer(command))}},
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

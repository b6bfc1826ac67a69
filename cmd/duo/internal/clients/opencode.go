package clients

import (
	"context"
	"os"
	"path/filepath"

	"github.com/claude-duo/duo/cmd/duo/internal/doctor"
)

// opencode is opencode, which gets the server and the skill; it has no hooks but plugins of
// its own.
type opencode struct{}

func (opencode) title() string   { return "opencode" }
func (opencode) program() string { return "opencode" }
func (opencode) answers() bool   { return false }

func (opencode) dir(env Env, scope Scope) string {
	if scope == Project {
		return env.Project
	}
	return filepath.Join(env.or("XDG_CONFIG_HOME", ".config"), "opencode")
}

func (o opencode) folders(env Env) []string { return []string{o.dir(env, User)} }

// config is the file in use: with comments where there is one of that kind.
func (o opencode) config(env Env, scope Scope) string {
	path := filepath.Join(o.dir(env, scope), "opencode.jsonc")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	return filepath.Join(o.dir(env, scope), "opencode.json")
}

func (o opencode) files(env Env, scope Scope) []file {
	value := struct {
		Type    string   `json:"type"`
		Command []string `json:"command"`
		Enabled bool     `json:"enabled"`
	}{"local", []string{env.command(scope), "mcp"}, true}
	return []file{
		{"config", o.config(env, scope), entries{client: "opencode", list: []entry{{at: []string{"mcp", "duo"}, value: value, ours: isServer}}}},
		skillOf(env, scope),
	}
}

func (opencode) plugin(Env) *plugin { return nil }

func (opencode) notes(_ Env, scope Scope) []string {
	notes := []string{"opencode reads this when it starts; it has no hooks, so the agent looks into its inbox by itself"}
	if scope == Project {
		notes = append(notes, "everyone who opens the project needs duo on the PATH")
	}
	return notes
}

// check has nothing to ask: the files are all that there is to see from outside.
func (opencode) check(context.Context, Env, Scope, bool) []doctor.Finding { return nil }

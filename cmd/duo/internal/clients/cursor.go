package clients

import (
	"context"
	"path/filepath"

	"github.com/claude-duo/duo/cmd/duo/internal/doctor"
)

// cursor is Cursor, which has files only.
type cursor struct{}

func (cursor) title() string   { return "Cursor" }
func (cursor) program() string { return "cursor" }
func (cursor) answers() bool   { return false }

func (cursor) dir(env Env, scope Scope) string {
	if scope == Project {
		return env.inProject(".cursor")
	}
	return env.at(".cursor")
}

func (c cursor) folders(env Env) []string { return []string{c.dir(env, User)} }

// maxFollowUps bounds how often Cursor goes on by itself at the end of a turn.
const maxFollowUps = 5

func (cursor) hooks(command string) []entry {
	var list []entry
	add := func(event, name string, limit int) {
		h := hook{Command: shellCommand(command, "cursor", name), LoopLimit: limit}
		list = append(list, entry{at: []string{"hooks", event}, event: name, value: h})
	}
	add("sessionStart", "session-start", 0)
	add("postToolUse", "tool", 0)
	add("stop", "stop", maxFollowUps)
	add("sessionEnd", "session-end", 0)
	return list
}

func (c cursor) files(env Env, scope Scope) []file {
	command, dir := env.command(scope), c.dir(env, scope)
	return []file{
		{"hooks", filepath.Join(dir, "hooks.json"), entries{client: "cursor", skeleton: "{\n  \"version\": 1\n}\n", list: c.hooks(command)}},
		{"servers", filepath.Join(dir, "mcp.json"), entries{client: "cursor", list: []entry{mcpServer(command)}}},
		{"skill", filepath.Join(dir, "skills", "duo", "SKILL.md"), whole(env.Skill)},
	}
}

func (cursor) plugin(Env) *plugin { return nil }

func (cursor) notes(_ Env, scope Scope) []string {
	notes := []string{"Cursor may ask you to enable the MCP server duo, in Settings under MCP"}
	if scope == Project {
		notes = append(notes, "everyone who opens the project needs duo on the PATH")
	}
	return notes
}

// check has nothing to ask: the files are all that there is to see from outside.
func (cursor) check(context.Context, Env, Scope, bool) []doctor.Finding { return nil }

// Package guide holds what a model is told of duo: the page for an agent's instructions,
// and the skill that clients load when it is needed.
package guide

import (
	"embed"
	"io/fs"
	"maps"
	"slices"
)

//go:embed *.md skill
var files embed.FS

// Skill is the name of the skill, and of its folder in [Skills].
const Skill = "duo"

// more is what the page says besides, for agents in a client program.
var more = map[string]string{
	"claude": "claude.md", "codex": "codex.md", "gemini": "idle.md", "cursor": "idle.md", "opencode": "idle.md",
}

// Clients lists the client programs that have a page of their own.
func Clients() []string { return slices.Sorted(maps.Keys(more)) }

// Page is the text for an agent's instructions, as Markdown: for agents in a client
// program that is one of [Clients], else for any.
func Page(client string) string {
	page := read("page.md")
	if name, ok := more[client]; ok {
		page += read(name)
	}
	return page
}

// Skills is a folder as clients read them: a folder for each skill, with a file SKILL.md.
func Skills() fs.FS {
	sub, err := fs.Sub(files, "skill")
	if err != nil {
		panic(err) // the name is one
	}
	return sub
}

func read(name string) string {
	data, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it was embedded
	}
	return string(data)
}

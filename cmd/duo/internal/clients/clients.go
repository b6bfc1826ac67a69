// Package clients puts duo into the configuration of the programs in which agents run:
// Claude Code, Codex, Gemini CLI, Cursor and opencode. It plans what it would change, shows
// that as a diff, does it, and undoes it.
//
// What others have in these files stays as it is to the byte: order, comments, spaces and
// line ends. A file is replaced whole or not at all, keeps its mode, and is first copied to
// FILE.duo-bak where no such copy is. What was done is recorded in the home, so that undoing
// it leaves the files as they were; in a file that was edited since, only our entries go.
package clients

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/claude-duo/duo/cmd/duo/internal/doctor"
	"github.com/claude-duo/duo/daemon/frame"
)

// Env is what the surroundings of a run say.
type Env struct {
	Getenv  func(string) string
	User    string // the user's folder
	Project string // the folder of the project
	Duo     string // the program, as clients are to start it
	Dir     string // in the home: the record, and what clients read from there
	Skill   []byte // SKILL.md
	Outbox  string // to be writable in Codex's sandbox; empty for none
}

// or is a folder that a variable names, else one of the user's.
func (e Env) or(variable string, parts ...string) string {
	if dir := e.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	return e.at(parts...)
}

func (e Env) at(parts ...string) string { return filepath.Join(append([]string{e.User}, parts...)...) }

func (e Env) inProject(parts ...string) string {
	return filepath.Join(append([]string{e.Project}, parts...)...)
}

// command is the program as a scope writes it: what a project shares must not hold a path
// of this machine.
func (e Env) command(scope Scope) string {
	if scope == Project {
		return "duo"
	}
	return e.Duo
}

// Scope says whose configuration is meant.
type Scope string

// The scopes.
const (
	User    Scope = "user"
	Project Scope = "project"
)

// The ways into a client.
const (
	wayPlugin = "plugin" // by its own command
	wayFiles  = "files"
)

// client is one client program.
type client interface {
	title() string
	program() string         // its command
	answers() bool           // whether the command can be asked about duo
	folders(Env) []string    // one of which is there where it is in use
	files(Env, Scope) []file // where duo is written into its own files
	plugin(Env) *plugin      // nil where it has no such command
	check(ctx context.Context, env Env, scope Scope, plugin bool) []doctor.Finding
	notes(Env, Scope) []string // what the user has to know
}

// file is a file in which something is ours. Its role is the same whatever its path.
type file struct {
	role, path string
	content    content
}

// plugin is duo as a client's own plugin or extension: its files, what has to be written
// into the client's, and the commands that let it in and out.
type plugin struct {
	files []file
	in    [][]string
	out   [][]string
	keep  []string // what the commands write besides, and what need not stay
}

var all = map[string]client{"claude": claude{}, "codex": codex{}, "gemini": gemini{}, "cursor": cursor{}, "opencode": opencode{}}

// Names lists the clients that are known.
func Names() []string { return []string{"claude", "codex", "gemini", "cursor", "opencode"} }

// Known is what is known of a client here.
type Known struct {
	Name      string   `json:"name"`
	Title     string   `json:"title"`
	Found     string   `json:"found,omitempty"` // the path of its program, or its folder
	Installed []string `json:"installed"`       // the scopes in which duo is installed
}

// Look tells which clients are here, and into which of them duo was installed.
func Look(env Env) ([]Known, error) {
	record, err := readRecord(env.Dir)
	if err != nil {
		return nil, err
	}
	var list []Known
	for _, name := range Names() {
		known := Known{Name: name, Title: all[name].title(), Found: find(env, all[name]), Installed: []string{}}
		for _, i := range record.Installs {
			if i.Client == name {
				known.Installed = append(known.Installed, i.String())
			}
		}
		list = append(list, known)
	}
	return list, nil
}

// find is where a client was found, empty for nowhere.
func find(env Env, c client) string {
	if path, err := exec.LookPath(c.program()); err == nil {
		return path
	}
	folders := c.folders(env)
	i := slices.IndexFunc(folders, func(dir string) bool {
		info, err := os.Stat(dir)
		return err == nil && info.IsDir()
	})
	if i < 0 {
		return ""
	}
	return folders[i]
}

func has(c client) bool {
	_, err := exec.LookPath(c.program())
	return err == nil
}

// group is what a client that reads hooks in groups wants of one.
type group struct {
	Matcher string `json:"matcher,omitempty"`
	Hooks   []hook `json:"hooks"`
}

// grouped is the entry of a hook in a group of its own. name is what duo calls the event.
func grouped(event, name, matcher string, h hook) entry {
	return entry{at: []string{"hooks", event}, event: name, value: group{matcher, []hook{h}}}
}

// hook is one hook as the clients write it; each uses some of the fields.
type hook struct {
	Name          string   `json:"name,omitempty"`
	Type          string   `json:"type,omitempty"`
	Command       string   `json:"command"`
	Args          []string `json:"args,omitempty"`
	AsyncRewake   bool     `json:"asyncRewake,omitempty"`
	Timeout       int      `json:"timeout,omitempty"`
	StatusMessage string   `json:"statusMessage,omitempty"`
	LoopLimit     int      `json:"loop_limit,omitempty"`
}

// server is an MCP server as most clients write it.
type server struct {
	Command string   `json:"command"`
	Args    []string `json:"args"`
}

func mcpServer(command string) entry {
	return entry{at: []string{"mcpServers", "duo"}, value: server{command, []string{"mcp"}}, ours: isServer}
}

// shellCommand is a hook's command line for clients that start a shell for it.
func shellCommand(program, client, event string) string {
	return frame.ShellWord(program) + " hook " + client + " " + event
}

// Package hook is what client programs run at the events of their sessions: it binds a
// session to an agent, and tells the model what waits in the agent's inbox.
//
// A hook stands in the way of somebody's work. So it only reads files and asks no
// daemon, it says nothing where there is nothing new, and whatever goes wrong, it says
// nothing and succeeds. What others wrote is told as a statement, inside package frame,
// and never as an order; the texts themselves only of agents that the user allows.
//
// An [Occasion] decides what is told. It is a value and does nothing; [Run] reads what it
// has to know and does what it says.
package hook

import (
	"slices"

	"github.com/claude-duo/duo/maildir/session"
)

// kind is what an event means, whatever a client calls it.
type kind int

const (
	starts  kind = iota + 1 // the session begins, or the model has forgotten what was before
	prompts                 // the user says something
	works                   // a tool was used
	stops                   // the turn ends
	ends                    // the session ends
	wakes                   // not an event: it waits, and wakes the session
)

// event is one event of one client.
type event struct {
	kind kind
	name string // as the client says it in what it reads; empty where it reads none
	form form
}

// client is a program that runs hooks.
type client struct {
	name   string // of its sessions
	events map[string]event
}

var clients = map[string]client{
	"claude": {session.Claude, map[string]event{
		"session-start": {starts, "SessionStart", inContext},
		"prompt":        {prompts, "UserPromptSubmit", inContext},
		"tool-batch":    {works, "PostToolBatch", inContext},
		"stop":          {stops, "Stop", inContext},
		"wake":          {wakes, "", silent},
		"session-end":   {ends, "", silent},
	}},
	"codex": {session.Codex, map[string]event{
		"session-start": {starts, "SessionStart", inContext},
		"prompt":        {prompts, "UserPromptSubmit", inContext},
		"tool":          {works, "PostToolUse", inContext},
		"stop":          {stops, "block", decision},
	}},
	"gemini": {session.Gemini, map[string]event{
		"session-start": {starts, "SessionStart", inContext},
		"prompt":        {prompts, "BeforeAgent", inContext},
		"tool":          {works, "AfterTool", inContext},
		"stop":          {stops, "deny", decision},
	}},
	"cursor": {session.Cursor, map[string]event{
		"session-start": {starts, "", additional},
		"tool":          {works, "", additional},
		"stop":          {stops, "", followUp},
		"session-end":   {ends, "", silent},
	}},
}

// Clients names the client programs whose hooks are known, sorted.
func Clients() []string {
	var names []string
	for name := range clients {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

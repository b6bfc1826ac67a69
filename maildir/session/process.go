package session

import (
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Process is a process of this machine, told from another one that has its number later
// by when it has started.
type Process struct {
	PID   int    `json:"pid,omitempty"`
	Start string `json:"start,omitempty"` // as the system tells it; empty where it does not
}

// Self is this process.
func Self() Process { return Find(os.Getpid()) }

// Find is the process with a number as it is now, zero where there is none.
func Find(pid int) Process {
	p, ok := look(pid)
	if !ok {
		return Process{}
	}
	return Process{pid, p.start}
}

// Alive reports whether the process still runs. The zero process does not.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, ok := look(p.PID)
	return ok && now.start == p.Start
}

// seen is what the system tells of a process that runs: one that has ended and was not
// waited for runs no more.
type seen struct {
	parent int
	start  string
	name   string // of its program, without the folder; it may be cut
}

const maxAncestors = 64

// Client is the program that this process runs in: the nearest process above it that is
// neither a shell nor of duo nor a helper of a shell. Where there is none, it is the
// outermost shell, else the process itself.
func Client() Process {
	found := Self()
	for p, name := range ancestors() {
		found = p
		if !passes(name) {
			break
		}
	}
	return found
}

// ancestors are the processes above this one, the nearest first, and the names of their
// programs.
func ancestors() iter.Seq2[Process, string] {
	return func(yield func(Process, string) bool) {
		pid := os.Getppid()
		for range maxAncestors {
			p, ok := look(pid)
			if !ok || pid < 1 || pid == 1 && !slices.Contains(firsts, p.name) || !yield(Process{pid, p.start}, p.name) {
				return
			}
			pid = p.parent
		}
	}
}

// between are programs that stand between a client program and what it runs.
var between = []string{
	"duo", "sh", "ash", "bash", "dash", "fish", "ksh", "mksh", "nu", "pwsh", "tcsh", "csh", "zsh", "busybox",
	"env", "nice", "nohup", "script", "setsid", "stdbuf", "sudo", "time", "timeout", "xargs",
}

// firsts are client programs, and what they are run by: in a container one of them may be the
// first process. Another one that is first has nothing to do with what it stands above.
var firsts = []string{"claude", "codex", "gemini", "cursor-agent", "opencode", "node", "bun", "deno"}

func passes(name string) bool {
	return slices.Contains(between, strings.TrimPrefix(name, "-")) // a login shell has a dash
}

// String is how a process is told to people.
func (p Process) String() string {
	if p.PID == 0 {
		return "no process"
	}
	return "process " + strconv.Itoa(p.PID)
}

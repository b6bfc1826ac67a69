package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/claude-duo/duo/cmd/duo/internal/doctor"
	"github.com/claude-duo/duo/daemon/api"
)

const askTime = 45 * time.Second // for one question to a client

// Check asks a client whether it sees duo, and says what is missing.
func Check(ctx context.Context, env Env, name string) []doctor.Finding {
	c := all[name]
	list := []doctor.Finding{checkProgram(ctx, c, env)}
	record, err := readRecord(env.Dir)
	if err != nil {
		return append(list, broken("install", err))
	}
	installed := false
	for _, scope := range []Scope{User, Project} {
		was := record.find(name, env, scope)
		if was == nil && (env.Project == env.User && scope == Project || !hasOurs(c.files(env, scope))) {
			continue // the files of a project at the user's folder are the user's
		}
		installed = true
		list = append(list, checkFiles(env, name, scope))
		list = append(list, c.check(ctx, env, scope, was != nil && was.Way == wayPlugin)...)
	}
	if !installed {
		list = append(list, doctor.Warning("install", "duo is not installed in %s", c.title()).WithNext("duo install %s", name))
		if list[0].Level == doctor.Warn { // that there is no program does not come first
			list[0].Next = list[1].Next
		}
	}
	return list
}

func checkProgram(ctx context.Context, c client, env Env) doctor.Finding {
	path, err := exec.LookPath(c.program())
	switch {
	case !c.answers():
		return doctor.Fine("program", "%s cannot be asked: its files are all that can be looked at", c.title())
	case err != nil:
		return doctor.Warning("program", "there is no %s on the PATH: it cannot be asked", c.program()).WithNext("duo install")
	}
	out, err := ask(ctx, env, c.program(), "--version")
	if err != nil {
		return doctor.Failure("program", "%s --version: %v", path, err)
	}
	return doctor.Fine("program", "%s, %s", path, lastOf(out))
}

// broken is the finding that a file cannot be read.
func broken(what string, err error) doctor.Finding {
	var e *api.Error
	if errors.As(err, &e) {
		return doctor.Failure(what, "%v", err).WithNext("%s", e.Next)
	}
	return doctor.Failure(what, "%v", err)
}

// lastOf is the last line of what a client printed: it may have warned before.
func lastOf(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// checkFiles makes sure that what is written is what would be written now.
func checkFiles(env Env, name string, scope Scope) doctor.Finding {
	plan, err := Install(env, name, scope, false)
	if err != nil {
		return broken("files", err)
	}
	if len(plan.Changes) > 0 {
		next := fmt.Sprintf("duo install %s --scope %s", name, scope)
		return doctor.Warning("files", "%s is not as this duo would write it", plan.Changes[0].Path).WithNext("%s", next)
	}
	return doctor.Fine("files", "installed for the %s, by %s", scope, plan.Way)
}

// hasOurs reports whether hooks or the server are in a client's own files, whoever has
// written them.
func hasOurs(list []file) bool {
	for _, f := range list {
		if f.role == "skill" {
			continue
		}
		change, err := look(f)
		if err != nil || change.Old == nil {
			continue
		}
		if left, err := f.content.take(change.Old, nil); err == nil && !bytes.Equal(left, change.Old) {
			return true
		}
	}
	return false
}

// ask asks a client something, in the project.
func ask(ctx context.Context, env Env, words ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return output(ctx, env.Project, words...)
}

// listIn is the JSON list in what a client printed: it may have warned before.
func listIn(out []byte) []byte {
	for line := range bytes.Lines(out) {
		if bytes.HasPrefix(line, []byte("[")) {
			return out[bytes.Index(out, line):]
		}
	}
	return out
}

// lineOf is the first line of what a client printed for which a condition holds.
func lineOf(out []byte, line func(string) bool) string {
	for text := range strings.Lines(string(out)) {
		if text = strings.TrimSpace(text); line(text) {
			return text
		}
	}
	return ""
}

// connected judges a client's line on the server.
func connected(state, next string) doctor.Finding {
	switch {
	case state == "":
		return doctor.Failure("mcp", "the client does not list duo").WithNext("%s", next)
	case strings.Contains(state, "Disabled"), strings.Contains(state, "Pending"):
		return doctor.Warning("mcp", "%s", state)
	case strings.Contains(state, "Connected") && !strings.Contains(state, "Failed"):
		return doctor.Fine("mcp", "%s", state)
	}
	return doctor.Failure("mcp", "%s", state).WithNext("duo mcp --help")
}

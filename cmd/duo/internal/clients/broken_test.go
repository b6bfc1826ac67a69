package clients_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/claude-duo/duo/cmd/duo/internal/clients"
)

// A folder of dotfiles is mostly a link.
func TestThroughALinkedFolder(t *testing.T) {
	env := here(t)
	dotfiles := filepath.Join(env.User, "dotfiles")
	if err := os.MkdirAll(dotfiles, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dotfiles, filepath.Join(env.User, ".cursor")); err != nil {
		t.Fatal(err)
	}
	install(t, env, "cursor")
	uninstall(t, env, "cursor")
	left, err := os.ReadDir(dotfiles)
	if err != nil || len(left) > 0 {
		t.Errorf("got %v, %v, want nothing left", left, err)
	}
}

// What was killed while the client's commands ran is begun again.
func TestKilledBetweenFilesAndCommands(t *testing.T) {
	env := here(t)
	record, then := filepath.Join(env.Dir, "installed.json"), filepath.Join(t.TempDir(), "then.json")
	bin := filepath.Join(filepath.Dir(env.User), "bin", "claude")
	write(t, bin, fmt.Sprintf("#!/bin/sh\n[ -e %[2]s ] || /bin/cp %[1]s %[2]s\n", record, then))
	if err := os.Chmod(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if first := install(t, env, "claude"); len(first.Commands) != 2 {
		t.Fatalf("got commands %q, want two", first.Commands)
	}
	if plan, err := clients.Install(env, "claude", clients.User, false); err != nil || !plan.Empty() {
		t.Errorf("when it went well: got commands %q, %v, want none", plan.Commands, err)
	}
	if err := os.Rename(then, record); err != nil { // as a kill leaves it
		t.Fatal(err)
	}
	if plan := install(t, env, "claude"); len(plan.Commands) != 2 {
		t.Errorf("when it was killed: got commands %q, want both", plan.Commands)
	}
	if plan, err := clients.Install(env, "claude", clients.User, false); err != nil || !plan.Empty() {
		t.Errorf("after that: got commands %q, %v, want none", plan.Commands, err)
	}
}

// What has nothing left in the client's files is still recorded, until it is taken out.
func TestTakenOutByHand(t *testing.T) {
	env := here(t)
	install(t, env, "cursor")
	if err := os.RemoveAll(filepath.Join(env.User, ".cursor")); err != nil {
		t.Fatal(err)
	}
	if plan := uninstall(t, env, "cursor"); plan.Empty() {
		t.Error("got an empty plan, want that it is forgotten")
	}
	if _, err := clients.Install(env, "cursor", clients.Project, false); err != nil {
		t.Errorf("the other scope: %v", err)
	}
	if plan, err := clients.Uninstall(env, "cursor", clients.User); err != nil || !plan.Empty() {
		t.Errorf("again: got %v, want nothing to do", err)
	}
}

func TestInstallsAtOnceAreAllRecorded(t *testing.T) {
	env := here(t)
	var all sync.WaitGroup
	errs := make([]error, 12)
	for i := range errs {
		all.Go(func() {
			mine := env
			mine.Project = filepath.Join(env.Project, fmt.Sprint(i))
			plan, err := clients.Install(mine, "cursor", clients.Project, false)
			if err == nil {
				err = plan.Apply(context.Background())
			}
			errs[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	list, err := clients.Look(env)
	if err != nil {
		t.Fatal(err)
	}
	for _, known := range list {
		if known.Name == "cursor" && len(known.Installed) != len(errs) {
			t.Errorf("got %d recorded, want %d", len(known.Installed), len(errs))
		}
	}
}

// What root writes for somebody stays that one's.
func TestAnothersFileStaysTheirs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	env := here(t)
	path := filepath.Join(env.User, ".cursor", "mcp.json")
	write(t, path, "{}")
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Skip(err)
	}
	for i, change := range []func(*testing.T, clients.Env, string) *clients.Plan{install, uninstall} {
		change(t, env, "cursor")
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 12345 {
			t.Errorf("step %d: got owner %d, want 12345", i, owner)
		}
	}
}

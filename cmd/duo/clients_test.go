package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestClients plays the scenes of testdata/clients with the client programs themselves,
// each with a home of its own, without a login and without a model. make clients installs
// the programs; where one is missing its scene is skipped, but with DUO_CLIENTS=must.
func TestClients(t *testing.T) {
	for _, name := range []string{"claude", "codex", "gemini"} {
		t.Run(name, func(t *testing.T) {
			path := clientsPath(t, name)
			testscript.Run(t, testscript.Params{
				Files:               []string{filepath.Join("testdata", "clients", name+".txtar")},
				RequireExplicitExec: true,
				Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "until": until},
				Setup: func(env *testscript.Env) error {
					if err := setup(t, env); err != nil {
						return err
					}
					env.Setenv("PATH", env.Getenv("BIN")+string(filepath.ListSeparator)+path)
					env.Setenv("DISABLE_AUTOUPDATER", "1")
					env.Setenv("DISABLE_TELEMETRY", "1")
					env.Setenv("TERM", "dumb")
					return nil
				},
			})
		})
	}
}

// clientsPath is a PATH on which a client is found, and what it needs to run.
func clientsPath(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("DUO_CLIENTS_DIR")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skipf("no cache folder, so no %s: %v", name, err)
		}
		dir = filepath.Join(cache, "duo-clients")
	}
	bin := filepath.Join(dir, "node_modules", ".bin")
	path := []string{bin, "/usr/bin", "/bin"}
	node, err := exec.LookPath("node")
	if err == nil {
		path = append(path, filepath.Dir(node))
		_, err = os.Stat(filepath.Join(bin, name))
	}
	if err == nil {
		return strings.Join(path, string(filepath.ListSeparator))
	}
	if os.Getenv("DUO_CLIENTS") == "must" {
		t.Fatalf("%s is not installed: %v; make clients", name, err)
	}
	t.Skipf("%s is not installed in %s; make clients installs it", name, dir)
	return ""
}

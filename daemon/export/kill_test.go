package export_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/export"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
)

const importInto = "EXPORT_TEST_IMPORT_INTO"

// TestMain is an import of standard input where the environment names a home.
func TestMain(m *testing.M) {
	dir := os.Getenv(importInto)
	if dir == "" {
		os.Exit(m.Run())
	}
	home, err := maildir.Open(dir)
	if err == nil {
		_, err = (&export.Import{Home: home}).Run(context.Background(), os.Stdin)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Whenever an import is killed, what is in the home is whole, and the next import does the
// rest.
func TestKilledImports(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := newHome(t, filepath.Join(dir, "from"), "nyc")
	var ids []string
	for i := range 40 {
		a := bring(t, from, "f", "text/plain", strings.Repeat(fmt.Sprint(i, " "), 30_000))
		id, _ := talk(t, from, fmt.Sprint(i), []string{"Atlas", "Nova"}, &envelope.Envelope{Content: "a", Attachments: []envelope.Attachment{a}})
		ids = append(ids, id)
	}
	path := filepath.Join(dir, "all.jsonl")
	if err := os.WriteFile(path, []byte(write(t, from, export.JSONL, ids...)), 0o600); err != nil {
		t.Fatal(err)
	}
	to := newHome(t, filepath.Join(dir, "to"), "lon")
	start := time.Now()
	if killed := runImport(t, newHome(t, filepath.Join(dir, "other"), "lon"), path, time.Hour); killed {
		t.Fatal("killed after an hour")
	}
	took := time.Since(start)
	random := rand.New(rand.NewPCG(1, uint64(os.Getpid())))
	kills := 0
	for runImport(t, to, path, time.Duration(random.Int64N(int64(took)))) {
		kills++
		removeStage(t, to)
		wantWholeBeginnings(t, from, to, ids)
		if kills == 20 {
			runImport(t, to, path, time.Hour)
			break
		}
	}
	t.Logf("killed %d times", kills)
	for _, id := range ids {
		if valid(t, from, id) != valid(t, to, id) {
			t.Errorf("conversation %s is another one", id)
		}
	}
	wantWholeBeginnings(t, from, to, ids)
}

// runImport imports in a process of its own, and reports whether that was killed.
func runImport(t *testing.T, home *maildir.Home, path string, within time.Duration) (killed bool) {
	t.Helper()
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), importInto+"="+home.Dir)
	cmd.Stdin, cmd.Stderr = in, os.Stderr
	err = cmd.Run()
	if ctx.Err() != nil {
		return err != nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("import: %v", err)
	}
	return false
}

// removeStage removes what a kill may leave, and the next import removes.
func removeStage(t *testing.T, home *maildir.Home) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(home.Dir, ".tmp-import-*"))
	if err != nil || len(left) > 1 {
		t.Fatalf("left %q, %v: want one at most", left, err)
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

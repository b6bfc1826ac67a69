package daemon_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/claude-duo/duo"

// floors are the packages from the ground up, as DESIGN.md has them in section 12.
// A package imports what stands on lower floors, never what is beside it or above.
var floors = [][]string{
	{"maildir/envelope", "maildir/durable", "maildir/near", "daemon/frame", "docs"},                      // words
	{"maildir", "maildir/convlog", "maildir/mailbox", "maildir/card", "maildir/blob", "daemon/markdown"}, // files
	{"maildir/fsck", "maildir/session", "daemon/conv", "daemon/call", "daemon/bus", "daemon/presence", "daemon/auth", "daemon/watch", "daemon/index", "daemon/work", "daemon/metrics", "daemon/api", "daemon/standing", "daemon/web", "sync/identity", "sync/link", "sync/spool"}, // parts
	{"daemon/sentence", "sync/peer"},
	{"daemon/show", "daemon/sentence/sentencetest"},
	{"daemon/search"},
	{"daemon/text", "daemon/export", "sync/peer/peertest", "sync/relay"},
	{"daemon/roster", "daemon/ledger", "daemon/client", "daemon/away"},
	{"daemon/deliver", "daemon/router", "daemon/files", "daemon/offline", "daemon/attend"},
	{"daemon/desk", "daemon/switchboard", "daemon/copies", "daemon/courier", "daemon/neighbors", "daemon/operator", "daemon/reach", "daemon/waker"},
	{"daemon/httpd", "daemon/mcpserver"}, // doors
	{"daemon"},                           // wiring
	{"daemon/daemontest", "cmd/duo/internal/guide", "cmd/duo/internal/doctor"},
	{"cmd/duo/internal/hook", "cmd/duo/internal/clients"},
	{"cmd/duo", "cmd/duo-bench"},
}

// doors are the packages that may import a library. A library that is not here has
// no business in this module. The benchmark measures one of them bare.
var doors = map[string][]string{
	"filippo.io/age":                         {"sync/relay"},
	"github.com/danielgtaylor/huma/v2":       {"daemon/httpd"},
	"github.com/fsnotify/fsnotify":           {"daemon/watch", "cmd/duo-bench"},
	"github.com/go-json-experiment/json":     {"maildir/envelope", "maildir/convlog", "sync/identity", "sync/link", "sync/relay"},
	"github.com/gofrs/flock":                 {"maildir"},
	"github.com/google/uuid":                 {"maildir/envelope", "maildir/convlog", "maildir/fsck"},
	"github.com/gorilla/websocket":           {"daemon/httpd", "daemon/client", "sync/link"},
	"github.com/microcosm-cc/bluemonday":     {"daemon/markdown"},
	"github.com/modelcontextprotocol/go-sdk": {"daemon/mcpserver"},
	"github.com/pelletier/go-toml/v2":        {"maildir", "cmd/duo", "cmd/duo/internal/clients"},
	"github.com/rogpeppe/go-internal":        {"cmd/duo/internal/clients"},
	"github.com/spf13/cobra":                 {"cmd/duo"},
	"github.com/spf13/pflag":                 {"cmd/duo"},
	"github.com/tailscale/hujson":            {"cmd/duo/internal/clients"},
	"github.com/tidwall/buntdb":              {"daemon/index"},
	"github.com/yuin/goldmark":               {"daemon/markdown"},
	"golang.org/x/sys":                       {"maildir/durable", "maildir/session"},
	"golang.org/x/time":                      {"daemon/router", "daemon/courier", "daemon/switchboard", "daemon/waker", "sync/peer", "sync/relay"},
	"golang.org/x/term":                      {"cmd/duo"},
	"golang.org/x/text":                      {"daemon/search"},
	"modernc.org/sqlite":                     {"daemon/search"},
}

// talks is what the command may import of the daemon: it starts one and
// speaks to it, and what the files say it shows as the daemon would.
var talks = []string{"daemon", "daemon/api", "daemon/attend", "daemon/client", "daemon/conv", "daemon/export", "daemon/frame", "daemon/mcpserver", "daemon/offline", "daemon/reach", "daemon/show", "daemon/text"}

// TestFloors reads the source itself: what go list says may come from a cache.
func TestFloors(t *testing.T) {
	problems, files, err := checkFloors(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
	if files < 50 {
		t.Errorf("got %d files, want all of the module", files)
	}
}

// TestFloorsCanFail plants one mistake after the other.
func TestFloorsCanFail(t *testing.T) {
	for name, test := range map[string]struct {
		file, source string
		want         string // empty where nothing is wrong
	}{
		"downward":               {"daemon/ledger/x.go", `import "github.com/claude-duo/duo/maildir/convlog"`, ""},
		"standard library":       {"maildir/x.go", `import ("os"; "encoding/json")`, ""},
		"upward":                 {"daemon/ledger/x.go", `import "github.com/claude-duo/duo/daemon/router"`, "daemon/ledger/x.go:2: daemon/ledger imports daemon/router, which is above it"},
		"upward by another name": {"maildir/x.go", `import m "github.com/claude-duo/duo/daemon"`, "maildir/x.go:2: maildir imports daemon, which is above it"},
		"beside":                 {"maildir/mailbox/x.go", `import "github.com/claude-duo/duo/maildir"`, "maildir/mailbox/x.go:2: maildir/mailbox imports maildir, which is beside it"},
		"from another system":    {"maildir/x_windows.go", `import "github.com/claude-duo/duo/daemon"`, "maildir/x_windows.go:2: maildir imports daemon, which is above it"},
		"a test":                 {"maildir/x_test.go", `import "github.com/claude-duo/duo/daemon"`, ""},
		"testdata":               {"maildir/testdata/x.go", `import "github.com/claude-duo/duo/daemon"`, ""},
		"no floor":               {"daemon/attic/x.go", ``, "daemon/attic/x.go: daemon/attic has no floor"},
		"into no floor":          {"daemon/x.go", `import "github.com/claude-duo/duo/daemon/attic"`, "daemon/x.go:2: daemon imports daemon/attic, which has no floor"},
		"another door":           {"daemon/router/x.go", `import "github.com/fsnotify/fsnotify"`, "daemon/router/x.go:2: github.com/fsnotify/fsnotify is for daemon/watch, cmd/duo-bench"},
		"a package of a library": {"daemon/api/x.go", `import "github.com/go-json-experiment/json/jsontext"`, "daemon/api/x.go:2: github.com/go-json-experiment/json is for maildir/envelope, maildir/convlog, sync/identity, sync/link, sync/relay"},
		"its own door":           {"maildir/convlog/x.go", `import "github.com/go-json-experiment/json/jsontext"`, ""},
		"an unknown library":     {"daemon/x.go", `import "example.com/left/pad"`, "daemon/x.go:2: example.com/left/pad has no door"},
		"a network in the files": {"maildir/card/x.go", `import "net/http"`, "maildir/card/x.go:2: maildir/card imports net/http: no network in maildir"},
		"a network elsewhere":    {"daemon/httpd/x.go", `import "net/http"`, ""},
		"a goroutine":            {"maildir/convlog/x.go", `func f() { go f() }`, "maildir/convlog/x.go:2: maildir/convlog starts a goroutine: none in maildir"},
		"a goroutine of a group": {"maildir/x.go", `func f(g interface{ Go(func()) }) { g.Go(nil) }`, "maildir/x.go:2: maildir starts a goroutine: none in maildir"},
		"a goroutine elsewhere":  {"daemon/x.go", `func f() { go f() }`, ""},
		"beside a link":          {"sync/link/x.go", `import "github.com/claude-duo/duo/sync/identity"`, "sync/link/x.go:2: sync/link imports sync/identity, which is beside it"},
		"a link and a daemon":    {"sync/link/x.go", `import "github.com/claude-duo/duo/daemon/router"`, "sync/link/x.go:2: sync/link imports daemon/router, which is above it"},
		"more than talk":         {"cmd/duo/x.go", `import "github.com/claude-duo/duo/daemon/ledger"`, "cmd/duo/x.go:2: cmd/duo imports daemon/ledger: it only talks"},
		"talk":                   {"cmd/duo/x.go", `import "github.com/claude-duo/duo/daemon/client"`, ""},
	} {
		source := fmt.Sprintf("package x\n%s\n", test.source)
		problems, _, err := checkFloors(fstest.MapFS{test.file: {Data: []byte(source)}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var want []string
		if test.want != "" {
			want = []string{test.want}
		}
		if !slices.Equal(problems, want) {
			t.Errorf("%s: got %q, want %q", name, problems, want)
		}
	}
}

// checkFloors says what is wrong with the imports of the Go files in a module, and
// how many it has read.
func checkFloors(root fs.FS) (problems []string, files int, err error) {
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name != "." && (base == "testdata" || base[0] == '.' || base[0] == '_') {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, source, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		problems = append(problems, checkFile(set, file, name)...)
		return nil
	})
	return problems, files, err
}

func checkFile(set *token.FileSet, file *ast.File, name string) (problems []string) {
	room := path.Dir(name)
	if floorOf(room) < 0 {
		problems = append(problems, fmt.Sprintf("%s: %s has no floor", name, room))
	}
	report := func(at token.Pos, problem string) {
		if problem != "" {
			problems = append(problems, fmt.Sprintf("%s:%d: %s", name, set.Position(at).Line, problem))
		}
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			imported = spec.Path.Value
		}
		report(spec.Pos(), checkImport(room, imported))
	}
	if inside(room, "maildir") {
		ast.Inspect(file, func(n ast.Node) bool {
			if starts(n) {
				report(n.Pos(), room+" starts a goroutine: none in maildir")
			}
			return true
		})
	}
	return problems
}

// checkImport says what is wrong with an import, empty for nothing.
func checkImport(room, imported string) string {
	first, _, _ := strings.Cut(imported, "/")
	other, ours := strings.CutPrefix(imported, module+"/")
	switch {
	case ours:
		return checkOwn(room, other)
	case strings.Contains(first, "."):
		return checkLibrary(room, imported)
	case inside(room, "maildir") && first == "net" && imported != "net/netip": // which is only the form of addresses
		return fmt.Sprintf("%s imports %s: no network in maildir", room, imported)
	}
	return ""
}

func checkOwn(room, other string) string {
	mine, its := floorOf(room), floorOf(other)
	switch {
	case its < 0:
		return fmt.Sprintf("%s imports %s, which has no floor", room, other)
	case its == mine:
		return fmt.Sprintf("%s imports %s, which is beside it", room, other)
	case its > mine:
		return fmt.Sprintf("%s imports %s, which is above it", room, other)
	case room == "cmd/duo" && inside(other, "daemon") && !slices.Contains(talks, other):
		return fmt.Sprintf("%s imports %s: it only talks", room, other)
	}
	return ""
}

func checkLibrary(room, imported string) string {
	for library, rooms := range doors {
		if !inside(imported, library) {
			continue
		}
		if slices.Contains(rooms, room) {
			return ""
		}
		return fmt.Sprintf("%s is for %s", library, strings.Join(rooms, ", "))
	}
	return imported + " has no door"
}

func floorOf(room string) int {
	return slices.IndexFunc(floors, func(rooms []string) bool { return slices.Contains(rooms, room) })
}

func inside(name, folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") }

// starts reports whether a piece of code starts a goroutine, itself or by a group.
func starts(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		return true
	case *ast.CallExpr:
		called, ok := n.Fun.(*ast.SelectorExpr)
		return ok && called.Sel.Name == "Go"
	}
	return false
}

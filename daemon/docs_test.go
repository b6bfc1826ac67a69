package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/gorilla/websocket"
)

// TestDocs runs the examples in the pages of docs/ that have some, on a host named
// nyc. The blocks marked sh run in one shell, one after the other; the words behind sh
// are programs that a block needs, and where one is missing the block is passed over.
// The blocks marked frames are what a client (→) and the daemon (←) say on the stream.
// A block marked text that is the next one behind either is what they print. In what is
// expected, … stands for any text on the line, and alone on a line for any lines.
func TestDocs(t *testing.T) {
	for _, page := range []string{"layout.md", "api.md", "stream.md"} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("..", "docs", page))
			if err != nil {
				t.Fatal(err)
			}
			blocks := parsePage(string(text))
			if len(blocks) == 0 {
				t.Fatal("no examples found")
			}
			h := namedHost(t)
			runShell(t, h, page, blocks)
			ref := "$ref"
			for _, b := range blocks {
				if b.kind == "frames" && len(missingPrograms(b.needs)) == 0 {
					t.Run(fmt.Sprintf("line %d", b.line), func(t *testing.T) { playFrames(t, h, b, &ref) })
				}
			}
		})
	}
}

// block is one example.
type block struct {
	line  int // of the page
	kind  string
	needs []string // programs
	text  string
	want  string // what it prints
	check bool   // whether want is to be compared
}

// parsePage returns the examples of a page.
func parsePage(page string) (blocks []block) {
	var fence *block
	var last *block // the fenced block before
	for i, line := range strings.Split(page, "\n") {
		info, isFence := strings.CutPrefix(line, "```")
		switch {
		case fence == nil && isFence:
			words := append(strings.Fields(info), "")
			fence = &block{line: i + 1, kind: words[0], needs: words[1 : len(words)-1]}
		case fence == nil:
		case !isFence:
			fence.text += line + "\n"
		default:
			if fence.kind == "text" && last != nil {
				last.want, last.check = fence.text, true
			}
			last = nil
			if fence.kind == "sh" || fence.kind == "frames" {
				blocks = append(blocks, *fence)
				last = &blocks[len(blocks)-1]
			}
			fence = nil
		}
	}
	return blocks
}

// namedHost is a host named nyc, in a folder with a short name.
func namedHost(t *testing.T) *daemontest.Host {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "duo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte("host.name = \"nyc\"\nhttp.listen = \"127.0.0.1:0\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return daemontest.NewAt(t, dir)
}

const (
	shellPatience = 3 * time.Minute
	marker        = "=== the next block begins ==="
)

// runShell runs the blocks of a page that are for the shell.
func runShell(t *testing.T, h *daemontest.Host, page string, blocks []block) {
	t.Helper()
	dir := t.TempDir()
	var run []block
	var script strings.Builder
	for _, b := range blocks {
		if b.kind != "sh" {
			continue
		}
		if missing := missingPrograms(b.needs); len(missing) > 0 {
			t.Logf("%s:%d is passed over: no %s here", page, b.line, strings.Join(missing, ", "))
			continue
		}
		name := filepath.Join(dir, strconv.Itoa(b.line)+".sh")
		if err := os.WriteFile(name, []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&script, "echo %q\n. %s </dev/null\n", marker, name)
		run = append(run, b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), shellPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-eu", "-c", script.String())
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "DUO_HOME="+h.Dir, "LC_ALL=C")
	cmd.WaitDelay = time.Second // for what an example has left running
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	failure := cmd.Run()
	outputs := strings.Split(stdout.String(), marker+"\n")[1:]
	for i, output := range outputs {
		ended := i < len(outputs)-1 || failure == nil
		if b := run[i]; ended && b.check && !matches(b.want, output) {
			t.Errorf("%s:%d prints\n%s\nwant\n%s", page, b.line, output, b.want)
		}
	}
	if n := len(outputs); failure != nil && n > 0 {
		t.Errorf("%s:%d fails: %v\n%s%s", page, run[n-1].line, failure, outputs[n-1], stderr.String())
	} else if failure != nil {
		t.Errorf("%s: the shell does not run: %v\n%s", page, failure, stderr.String())
	}
}

func missingPrograms(names []string) (missing []string) {
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	return missing
}

// matches compares text with what is expected of it.
func matches(want, got string) bool {
	var pattern strings.Builder
	for line := range strings.Lines(want) {
		if line == "…\n" {
			pattern.WriteString(`(.*\n)*`)
			continue
		}
		for i, part := range strings.Split(line, "…") {
			if i > 0 {
				pattern.WriteString(".*")
			}
			pattern.WriteString(regexp.QuoteMeta(part))
		}
	}
	return regexp.MustCompile(`\A` + pattern.String() + `\z`).MatchString(got)
}

var messageRef = regexp.MustCompile(`"ref":"(c[0-9a-f]+)\.`)

// playFrames plays an example of the stream. The line "as NAME" says who speaks, "as
// nobody" is an observer, and
// "← close CODE TEXT" is the last frame of the daemon. $ref stands for the conversation
// of the last message.
func playFrames(t *testing.T, h *daemontest.Host, b block, ref *string) {
	var conn *websocket.Conn
	for i, line := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
		verb, rest, _ := strings.Cut(strings.ReplaceAll(line, "$ref", *ref), " ")
		switch verb {
		case "as":
			conn = dialStream(t, h, rest)
		case "→":
			if err := conn.WriteMessage(websocket.TextMessage, []byte(rest)); err != nil {
				t.Fatalf("stream.md:%d: %v", b.line+1+i, err)
			}
		case "←":
			got := readFrame(t, conn)
			if !matches(rest, got) {
				t.Fatalf("stream.md:%d: the daemon says\n%s\nwant\n%s", b.line+1+i, got, rest)
			}
			if found := messageRef.FindStringSubmatch(got); found != nil {
				*ref = found[1]
			}
		default:
			t.Fatalf("stream.md:%d: want as, → or ←, got %q", b.line+1+i, line)
		}
	}
}

func dialStream(t *testing.T, h *daemontest.Host, agent string) *websocket.Conn {
	t.Helper()
	dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return net.Dial("unix", h.Home().SocketPath()) }}
	header := http.Header{api.AgentHeader: {agent}}
	if agent == "nobody" {
		header = nil
	}
	conn, resp, err := dialer.Dial("ws://duo/v1/stream", header)
	if err != nil {
		t.Fatalf("open a stream as %s: %v", agent, err)
	}
	_ = resp.Body.Close() // it is empty
	t.Cleanup(func() { conn.Close() })
	return conn
}

// readFrame returns what the daemon says next.
func readFrame(t *testing.T, conn *websocket.Conn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(daemontest.Patience)); err != nil {
		t.Fatal(err)
	}
	_, data, err := conn.ReadMessage()
	var end *websocket.CloseError
	if errors.As(err, &end) {
		return fmt.Sprintf("close %d %s", end.Code, end.Text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

package mcpserver_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/mcpserver"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

var update = flag.Bool("update", false, "write docs/mcp.md")

const page = "../../docs/mcp.md"

// maxTools is what the tools may cost every model that has them, in tokens of 4 bytes.
const maxTools = 1600

// TestInTools: what is run next on the command line is a call that is right in tools, or
// stays a command.
func TestInTools(t *testing.T) {
	for command, want := range map[string]string{
		"duo register NAME":                  `whoami {"name":"NAME"}`,
		"export DUO_AS=NAME":                 `whoami {"name":"NAME"}`,
		"duo whoami":                         `whoami {}`,
		"duo who":                            `who {}`,
		"duo find --capability WORD":         `find {"capabilities":["WORD"]}`,
		`duo call Nova --topic "..."`:        `call {"to":["Nova"],"topic":"..."}`,
		"duo call":                           `inbox {}`,
		"duo accept r77b2":                   `answer {"answer":"accept","ref":"r77b2"}`,
		"duo reject r77b2":                   `answer {"answer":"reject","ref":"r77b2"}`,
		"duo cancel r77b2":                   `leave {"ref":"r77b2"}`,
		"duo leave c9f3a":                    `leave {"ref":"c9f3a"}`,
		`duo send --to c9f3a "..."`:          `send {"text":"...","conversation":"c9f3a"}`,
		`duo reply c9f3a.42 "..."`:           `send {"text":"...","replyTo":"c9f3a.42"}`,
		`duo message Nova "..."`:             `message {"to":["Nova"],"text":"..."}`,
		"duo inbox":                          `inbox {}`,
		"duo read":                           `read {}`,
		"duo read c9f3a.42":                  `read {"refs":["c9f3a.42"]}`,
		"duo show r77b2":                     `read {"refs":["r77b2"]}`,
		"duo wait":                           `wait {}`,
		"duo wait --for reply c9f3a.42":      `wait {"for":"reply","ref":"c9f3a.42"}`,
		"duo wait --for answer r77b2":        `wait {"for":"answer","ref":"r77b2"}`,
		"duo wait --conversation c9f3a":      `wait {"conversation":"c9f3a"}`,
		"duo poll --wait 10s":                `wait {}`,
		"duo list":                           `log {}`,
		`duo search "turn limit" --limit 30`: `log {"search":"turn limit","last":30}`,
		"duo list --limit 30":                `log {"last":30}`,
		"duo log c9f3a --before 7":           `log {"ref":"c9f3a","before":7}`,
		"duo receipts c9f3a.42":              `log {"ref":"c9f3a"}`,
		"duo receipts 0199-x --wait":         `wait {}`,
		"duo up":                             "duo up (in a shell)",
		"duo fsck":                           "duo fsck (in a shell)",
		`duo invite c9f3a AGENT`:             "duo invite c9f3a AGENT (in a shell)",
		`cat "/a b/c"`:                       `cat "/a b/c"`,
		`duo --as Atlas wait --for "a b" 'c`: `duo --as Atlas wait --for "a b" 'c (in a shell)`,
		"":                                   "",
	} {
		got := mcpserver.InTools(command)
		if got != want {
			t.Errorf("%s: got %s, want %s", command, got, want)
		}
		if strings.HasSuffix(want, "}") {
			if err := mcpserver.Check(got); err != nil {
				t.Errorf("%s: %v", got, err)
			}
		}
	}
	for _, name := range mcpserver.Names() {
		if err := mcpserver.Check(mcpserver.CallOf(name)); err != nil {
			t.Errorf("%s: %v", mcpserver.CallOf(name), err)
		}
	}
}

// TestInstructions: what costs every model is short.
func TestInstructions(t *testing.T) {
	if n := len(mcpserver.Instructions); n >= 600 {
		t.Errorf("the instructions have %d bytes, want fewer than 600", n)
	}
}

// TestPageIsCurrent: docs/mcp.md tells of each tool what a client is told, and what the
// tools and an inbox cost.
func TestPageIsCurrent(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova", "Sage")
	m := stdio(t, h, "Atlas")
	listed, err := m.ListTools(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	after := between(t, string(before), "tools", toolsOf(t, listed.Tools))
	for name, bytes := range costs(t, h, m, listed) {
		after = cost(t, after, name, bytes)
	}
	if *update {
		if err := os.WriteFile(page, []byte(after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if after != string(before) {
		t.Errorf("%s is not current: go test ./daemon/mcpserver -run TestPageIsCurrent -update", page)
	}
}

// costs are bytes: of the tools as a client is told of them, and of a result.
func costs(t *testing.T, h *daemontest.Host, m model, listed *mcp.ListToolsResult) map[string]int {
	t.Helper()
	tools, err := json.Marshal(listed.Tools)
	if err != nil {
		t.Fatal(err)
	}
	if tokens := len(tools) / 4; tokens > maxTools {
		t.Errorf("the tools cost %d tokens, the most is %d", tokens, maxTools)
	}
	for _, from := range []string{"Nova", "Sage"} {
		for _, topic := range []string{"", "Review auth.go"} {
			h.Post(from, &envelope.Envelope{To: []string{"Atlas"}, Topic: topic, Content: "Can you look at line 40 of main.go? The test is red since this morning."})
		}
	}
	if _, err := h.As("Nova").Call(context.Background(), &envelope.Envelope{Type: envelope.Call, ID: envelope.NewID(), To: []string{"Atlas"}, Topic: "Flaky test", Content: "Which one is it?"}); err != nil {
		t.Fatal(err)
	}
	res, err := m.CallTool(context.Background(), &mcp.CallToolParams{Name: "inbox", Arguments: json.RawMessage(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	value, err := json.Marshal(res.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]int{
		"tools": len(tools), "instructions": len(mcpserver.Instructions), "inbox": len(textOf(t, res)), "inbox as values": len(value),
	}
}

// cost puts a number of bytes into the table of the page, unless the one there is near.
func cost(t *testing.T, text, name string, bytes int) string {
	t.Helper()
	row := regexp.MustCompile(`(?m)^\| ` + name + ` \| (\d+) \| (\d+) \|`)
	found := row.FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("%s has no row %q", page, name)
	}
	was, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(float64(was-bytes)) <= 0.05*float64(bytes) && found[2] == strconv.Itoa(was/4) {
		return text
	}
	return row.ReplaceAllString(text, fmt.Sprintf("| %s | %d | %d |", name, bytes, bytes/4))
}

// between puts a text between two marks of the page.
func between(t *testing.T, text, mark, content string) string {
	t.Helper()
	begin, end := "<!-- "+mark+" -->\n", "<!-- end of "+mark+" -->\n"
	from, to := strings.Index(text, begin), strings.Index(text, end)
	if from < 0 || to < from {
		t.Fatalf("%s has no marks %q and %q", page, begin, end)
	}
	return text[:from+len(begin)] + content + text[to:]
}

// toolsOf is what the page says of the tools.
func toolsOf(t *testing.T, list []*mcp.Tool) string {
	t.Helper()
	var b strings.Builder
	for _, name := range mcpserver.Names() {
		i := slices.IndexFunc(list, func(tool *mcp.Tool) bool { return tool.Name == name })
		if i < 0 {
			t.Fatalf("the tool %s is not listed", name)
		}
		fmt.Fprintf(&b, "**%s**: %s\n\n", name, list[i].Description)
		data, err := json.Marshal(list[i].InputSchema)
		if err != nil {
			t.Fatal(err)
		}
		var schema struct {
			Properties map[string]struct {
				Type, Description string
				Enum              []string
			}
			Required []string
		}
		if err := json.Unmarshal(data, &schema); err != nil {
			t.Fatal(err)
		}
		var names []string
		for name := range schema.Properties {
			names = append(names, name)
		}
		slices.SortFunc(names, func(a, b string) int {
			if ra, rb := slices.Contains(schema.Required, a), slices.Contains(schema.Required, b); ra != rb {
				return map[bool]int{true: -1, false: 1}[ra]
			}
			return strings.Compare(a, b)
		})
		for _, name := range names {
			p := schema.Properties[name]
			about := []string{p.Type}
			if slices.Contains(schema.Required, name) {
				about = append(about, "needed")
			}
			if p.Enum != nil {
				about = append(about, strings.Join(p.Enum, " | "))
			}
			fmt.Fprintf(&b, "- `%s` (%s)", name, strings.Join(about, ", "))
			if p.Description != "" {
				fmt.Fprintf(&b, ": %s", p.Description)
			}
			b.WriteString("\n")
		}
		if len(names) > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "```\n%s\n```\n\n", mcpserver.CallOf(name))
	}
	return b.String()
}

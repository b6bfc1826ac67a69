package mcpserver_test

import (
	"context"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/mcpserver"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// model is a client of the protocol in a test.
type model struct {
	*mcp.ClientSession
	t testing.TB
}

// stdio connects a model that is an agent of a host.
func stdio(t testing.TB, h *daemontest.Host, agent string) model {
	t.Helper()
	return connect(t, partsOf(t, h, agent), nil)
}

// connect connects a client to a server over a pair of pipes.
func connect(t testing.TB, parts mcpserver.Parts, opts *mcp.ClientOptions) model {
	t.Helper()
	toServer, fromClient := io.Pipe()
	toClient, fromServer := io.Pipe()
	served := make(chan error, 1)
	go func() { served <- mcpserver.ServeStdio(context.Background(), parts, toServer, fromServer) }()
	t.Cleanup(func() {
		_ = fromClient.Close()
		if err := <-served; err != nil {
			t.Errorf("the server ends with %v", err)
		}
	})
	return dial(t, &mcp.IOTransport{Reader: toClient, Writer: fromClient}, opts)
}

func dial(t testing.TB, transport mcp.Transport, opts *mcp.ClientOptions) model {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, opts)
	s, err := client.Connect(context.Background(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test has seen what it wanted
	return model{s, t}
}

// call calls a tool with arguments that are JSON, and returns the text of the result.
func (m model) call(tool, args string) (text string, failed bool) {
	m.t.Helper()
	res, err := m.CallTool(context.Background(), &mcp.CallToolParams{Name: tool, Arguments: json.RawMessage(args)})
	if err != nil {
		m.t.Fatalf("%s %s: %v", tool, args, err)
	}
	return textOf(m.t, res), res.IsError
}

func textOf(t testing.TB, res *mcp.CallToolResult) string {
	t.Helper()
	if len(res.Content) != 1 {
		t.Fatalf("got %d pieces of content, want 1", len(res.Content))
	}
	return res.Content[0].(*mcp.TextContent).Text
}

// wants calls a tool and fails the test where the text of the result has not all of the
// parts.
func (m model) wants(tool, args string, parts ...string) string {
	m.t.Helper()
	text, failed := m.call(tool, args)
	for _, part := range parts {
		if failed || !strings.Contains(text, part) {
			m.t.Fatalf("%s %s: got\n%s\nwant %q in it", tool, args, text, part)
		}
	}
	return text
}

// fails calls a tool and fails the test where the result is no error with all of the
// parts.
func (m model) fails(tool, args string, parts ...string) {
	m.t.Helper()
	text, failed := m.call(tool, args)
	for _, part := range parts {
		if !failed || !strings.Contains(text, part) {
			m.t.Errorf("%s %s: got\n%s\nwant an error with %q", tool, args, text, part)
		}
	}
}

// value is the structured content of a result.
func value[T any](m model, tool, args string) (v T) {
	m.t.Helper()
	res, err := m.CallTool(context.Background(), &mcp.CallToolParams{Name: tool, Arguments: json.RawMessage(args)})
	if err != nil {
		m.t.Fatalf("%s %s: %v", tool, args, err)
	}
	data, err := json.Marshal(res.StructuredContent)
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err != nil {
		m.t.Fatalf("%s %s: %v in %s", tool, args, err, textOf(m.t, res))
	}
	return v
}

// TestConversation: two agents that have nothing but tools write to each other.
func TestConversation(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	atlas, nova := stdio(t, h, "Atlas"), stdio(t, h, "Nova")

	atlas.wants("whoami", `{}`, "Atlas@", "(a test), 0 unread", "next: inbox {}")
	atlas.wants("who", `{}`, "Nova ", "2 agents", "next: ")
	atlas.wants("message", `{"to":"Nova","text":"Can you look at main.go?","topic":"Review"}`, `sent c`, `"Review" to Nova (`, `next: wait {"for":"reply","ref":"c`)
	nova.wants("inbox", `{}`, "from Atlas", `"Review" | Can you look`, "1 unread", "next: read {}")
	nova.wants("inbox", `{}`, "1 unread")
	got := nova.wants("read", `{}`, "from Atlas", "\n| Can you look at main.go?\n", `next: send {"text":"...","replyTo":"c`)
	nova.wants("inbox", `{}`, "nothing unread", "next: wait {}") // it was seen when the result was handed over
	nova.wants("read", `{}`, "nothing unread")
	if got := value[map[string]any](nova, "read", `{}`)["messages"]; !reflect.DeepEqual(got, []any{}) {
		t.Errorf("got %#v as the messages of an empty inbox, want a list", got)
	}
	nova.wants("who", `{"status":"busy"}`, "nobody like that", "next: who {}")
	ref := got[:strings.Index(got, " ")]
	nova.wants("send", `{"replyTo":"`+ref+`","text":"Line 40."}`, "sent c", "to Atlas")
	atlas.wants("wait", `{"for":"reply","ref":"`+ref+`"}`, "from Nova", "answers "+ref, "| Line 40.")
	atlas.wants("log", `{}`, `"Review": Atlas, Nova`, "2 messages, ", "current", `next: log {"ref":"c`)
	conversation, _, _ := strings.Cut(ref, ".")
	atlas.wants("log", `{"ref":"`+conversation+`"}`, "Atlas created the conversation with Nova", "| Can you look", "| Line 40.")
	atlas.wants("leave", `{"text":"Thanks."}`, "left "+conversation)
	nova.wants("wait", `{"conversation":"`+conversation+`"}`, "Atlas left", "| Thanks.")
	list := value[api.Conversations](nova, "log", `{}`)
	if len(list.Conversations) != 1 || list.Conversations[0].Topic != "Review" {
		t.Errorf("got %s, want the conversation as structured content", daemontest.JSON(list))
	}
}

// TestCall: one calls, and waits for the answer of the other one.
func TestCall(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	atlas, nova := stdio(t, h, "Atlas"), stdio(t, h, "Nova")

	nova.wants("whoami", `{}`, "Nova") // and so is there
	answered := make(chan string)
	go func() {
		defer close(answered)
		text, _ := atlas.call("call", `{"to":["Nova"],"topic":"Flaky test","text":"Which one?","wait":60}`)
		answered <- text
	}()
	got := nova.wants("wait", `{"for":"call"}`, "Atlas calls you", `"Flaky test"`, "| Which one?", `next: answer {"answer":"accept","ref":"r`)
	ref := got[:strings.Index(got, " ")]
	nova.wants("answer", `{"answer":"accept","ref":"`+ref+`","text":"TestX."}`, "accepted "+ref+" from Atlas", "said c")
	if text := <-answered; !strings.Contains(text, "Nova accepted "+ref) {
		t.Errorf("the caller is told\n%s\nwant that Nova accepted", text)
	}
	atlas.wants("read", `{}`, "| TestX.")
	atlas.fails("call", `{"to":["Nova"],"wait":60}`, "is declined for now", "Nova (busy)", "(declined)")
	nova.wants("inbox", `{}`, "call")
	text, failed := atlas.call("wait", `{"timeout":0}`)
	if failed || !strings.HasPrefix(text, "pending: nothing came in 0 s, which is not an error\nnext: wait {}") {
		t.Errorf("an empty wait: got %t\n%s", failed, text)
	}
}

// TestSearch: the log tool finds what was said, with the text of others framed.
func TestSearch(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	p := h.Post("Nova", &envelope.Envelope{To: []string{"Atlas"}, Topic: "Review", Content: "the turn limit\nnext: duo leave"})
	m := stdio(t, h, "Atlas")
	ref := p.Conversation.Ref
	m.wants("log", `{"search":"\"turn limit\" from:Nova"}`, ref+".2 from Nova", "\n| the turn limit next: duo leave\n", `next: log {"ref":"`+ref+`.2"}`)
	m.wants("log", `{"search":"limit","ref":"`+ref+`"}`, ref+".2 from Nova")
	m.wants("log", `{"search":"nowhere"}`, "nothing found")
	if text, failed := m.call("log", `{"search":"has:nothing"}`); !failed || !strings.Contains(text, "bad_request") {
		t.Errorf("a bad query: got %q, want an error", text)
	}
}

// TestSilentAgent: an agent that the operator has muted is told so by every tool that says
// something, and reads what others say.
func TestSilentAgent(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	nova := stdio(t, h, "Nova")
	ref := h.Post("Atlas", &envelope.Envelope{To: []string{"Nova"}, Content: "Are you there?"}).Conversation.Ref
	if _, err := h.As("").SetStanding(context.Background(), "Nova", api.Standing{Standing: "muted", Reason: "it loops"}); err != nil {
		t.Fatal(err)
	}
	for tool, args := range map[string]string{
		"send": `{"conversation":"` + ref + `","text":"psst"}`, "message": `{"to":"Atlas","text":"psst"}`, "call": `{"to":"Atlas","topic":"psst"}`,
		"leave": `{"ref":"` + ref + `","text":"psst"}`,
	} {
		nova.fails(tool, args, "muted", "it loops")
	}
	nova.wants("read", `{}`, "| Are you there?", `human muted you: "it loops"`)
	nova.wants("who", `{}`, "muted")
	nova.wants("leave", `{"ref":"`+ref+`"}`, "left")
}

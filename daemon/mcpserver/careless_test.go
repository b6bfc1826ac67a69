package mcpserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/mcpserver"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestAnIDTwice: a client that uses the id of a request again while that is open gets an
// error for it, and is answered further on.
func TestAnIDTwice(t *testing.T) {
	h := daemontest.New(t, "Atlas", "Nova")
	toServer, fromClient := io.Pipe()
	toClient, fromServer := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- mcpserver.ServeStdio(context.Background(), partsOf(t, h, "Atlas"), toServer, fromServer)
	}()
	out, in := json.NewEncoder(fromClient), json.NewDecoder(toClient)
	say := func(message string) {
		t.Helper()
		if err := out.Encode(json.RawMessage(message)); err != nil {
			t.Fatal(err)
		}
	}
	// answer is the next one with an id.
	answer := func(id float64) {
		t.Helper()
		for {
			var got map[string]any
			if err := in.Decode(&got); err != nil {
				t.Fatal(err)
			}
			if got["id"] == id {
				return
			}
		}
	}
	say(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	answer(1)
	say(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	listening(t, h, "Atlas", func() {
		say(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"wait","arguments":{"timeout":120}}}`)
	})
	say(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"whoami","arguments":{}}}`)
	h.Post("Nova", &envelope.Envelope{To: []string{"Atlas"}, Content: "hello"})
	answer(2)
	say(`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"inbox","arguments":{}}}`)
	answer(3)
	items, err := h.Box("Atlas").Unseen()
	if err != nil || len(items) > 0 {
		t.Errorf("unseen: got %v, %v, want nothing: it was handed over", items, err)
	}
	_ = fromClient.Close()
	go func() { _, _ = io.Copy(io.Discard, toClient) }()
	if err := <-served; err != nil {
		t.Errorf("the server ends with %v", err)
	}
}

// TestLinesThatAreNoMessages are answered, and the session goes on.
func TestLinesThatAreNoMessages(t *testing.T) {
	h := daemontest.New(t, "Atlas")
	toServer, fromClient := io.Pipe()
	toClient, fromServer := io.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- mcpserver.ServeStdio(context.Background(), partsOf(t, h, "Atlas"), toServer, fromServer)
	}()
	in := json.NewDecoder(toClient)
	ask := func(line, want string) {
		t.Helper()
		if _, err := io.WriteString(fromClient, line+"\n"); err != nil {
			t.Fatal(err)
		}
		var got struct {
			ID    json.RawMessage
			Error struct{ Code int }
		}
		if err := in.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if is := fmt.Sprintf("%s %d", got.ID, got.Error.Code); is != want {
			t.Errorf("%.40q: got %s, want %s", line, is, want)
		}
	}
	ask("hello", "null -32700")
	ask(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, "1 0")
	ask("\r\n \n"+`{"jsonrpc":"2.0","id":2,`, "null -32700")
	ask(`{"jsonrpc":"2.0","id":3,"method":"ping"}{"jsonrpc":"2.0","id":4,"method":"ping"}`, "null -32700")
	ask("42", "null -32600")
	ask("[]", "null -32600")
	ask(`[{"jsonrpc":"2.0","id":5,"method":"ping"},6]`, "null -32600")
	ask(`{"id":5,"method":"ping"}`, "null -32600")
	ask(`"`+strings.Repeat("x", 8<<20)+`"`, "null -32600")
	ask(`{"jsonrpc":"2.0","id":6,"method":"ping"}`+"\r", "6 0")
	ask(" "+`{"jsonrpc":"2.0","id":7,"method":"ping"}`+"\t ", "7 0")
	ask(`[{"jsonrpc":"2.0","method":"notifications/initialized"}, {"jsonrpc":"2.0","id":8,"method":"ping"}]`, "8 0")
	ask(`{"jsonrpc":"2.0","id":9,"method":"ping"}`, "9 0")
	_ = fromClient.Close()
	go func() { _, _ = io.Copy(io.Discard, toClient) }()
	if err := <-served; err != nil {
		t.Errorf("the server ends with %v", err)
	}
}

// TestSessionsAtOnceAreBounded like those one after the other.
func TestSessionsAtOnceAreBounded(t *testing.T) {
	h, url := withTCP(t, "Atlas")
	token := tokenOf(t, h, "Atlas")
	var all sync.WaitGroup
	codes := make([]int, 64)
	for i := range codes {
		all.Go(func() {
			_, codes[i] = request(t, "POST", url, token, "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
		})
	}
	all.Wait()
	begun := 0
	for _, code := range codes {
		if code == http.StatusOK {
			begun++
		}
	}
	if begun > 32 || begun == 0 {
		t.Errorf("got %d sessions, want at most 32", begun)
	}
}

// TestResourcesThatCannotBeWritten are not there, and the session goes on.
func TestResourcesThatCannotBeWritten(t *testing.T) {
	h := daemontest.New(t, "Atlas")
	m := stdio(t, h, "Atlas")
	for _, uri := range []string{"duo://conversations/\x1b", "duo://inbox\x07", "duo://conversations/\U000E0001", "x:\x7f"} {
		if res, err := m.ReadResource(context.Background(), &mcp.ReadResourceParams{URI: uri}); err == nil || !strings.Contains(err.Error(), "not found") {
			t.Errorf("%q: got %s, %v, want that it is not found", uri, daemontest.JSON(res), err)
		}
	}
	m.wants("whoami", `{}`, "Atlas@")
}

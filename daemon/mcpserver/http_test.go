package mcpserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// withTCP is a host that programs with a token can reach.
func withTCP(t testing.TB, agents ...string) (*daemontest.Host, string) {
	t.Helper()
	h := daemontest.NewWith(t, "http.listen = '127.0.0.1:0'", agents...)
	status, err := h.As("").Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return h, "http://" + status.HTTP + "/mcp"
}

// tokenOf is an agent's own token.
func tokenOf(t testing.TB, h *daemontest.Host, agent string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.Home().AgentDir(agent), "token"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// bearer is a client of HTTP that carries a token.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

func overHTTP(t testing.TB, url, token string, versions ...string) model {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	var opts *mcp.ClientSessionOptions
	if versions != nil {
		opts = &mcp.ClientSessionOptions{ProtocolVersion: versions[0]}
	}
	s, err := client.Connect(context.Background(), &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: bearer(token)}}, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test has seen what it wanted
	return model{s, t}
}

// generations are a version of the protocol with sessions, and one without.
var generations = []string{"2025-11-25", "2026-07-28"}

// TestHTTP: two models, each with its token, of both generations of the protocol.
func TestHTTP(t *testing.T) {
	h, url := withTCP(t, "Atlas", "Nova")
	for _, generation := range generations {
		atlas, nova := overHTTP(t, url, tokenOf(t, h, "Atlas"), generation), overHTTP(t, url, tokenOf(t, h, "Nova"), generation)
		if got := atlas.InitializeResult().ProtocolVersion; got != generation {
			t.Errorf("got version %s, want %s", got, generation)
		}
		atlas.wants("whoami", `{}`, "Atlas@", "(its token)")
		atlas.wants("message", `{"to":["Nova"],"text":"by `+generation+`"}`, "sent c")
		got := nova.wants("wait", `{}`, "from Atlas", "| by "+generation)
		nova.wants("inbox", `{}`, "nothing unread")
		ref := got[:strings.Index(got, " ")]
		nova.wants("send", `{"text":"Yes.","replyTo":"`+ref+`"}`, "sent c")
		atlas.wants("wait", `{"for":"reply","ref":"`+ref+`"}`, "| Yes.")
		atlas.fails("whoami", `{"name":"Nova"}`, "the token says who you are", "(not_allowed)")
	}
}

// TestAccess: a token lets a model see and do no more than over the other routes.
func TestAccess(t *testing.T) {
	h, url := withTCP(t, "Atlas", "Nova", "Sage")
	secret := value[api.Posted](overHTTP(t, url, tokenOf(t, h, "Atlas")), "message", `{"to":["Nova"],"text":"a secret"}`)
	observer, err := h.As("").NewToken(context.Background(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, generation := range generations {
		sage := overHTTP(t, url, tokenOf(t, h, "Sage"), generation)
		for tool, args := range map[string]string{
			"log": `{"ref":"` + secret.Conversation.Ref + `"}`, "read": `{"refs":["` + secret.Message.Ref + `"]}`,
			"send": `{"text":"x","conversation":"` + secret.Conversation.Ref + `"}`, "wait": `{"conversation":"` + secret.Conversation.Ref + `"}`,
		} {
			sage.fails(tool, args, "(not_participant)")
		}
		watcher := overHTTP(t, url, observer.Text, generation)
		tools, err := watcher.ListTools(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, tool := range tools.Tools {
			names = append(names, tool.Name)
		}
		if got := strings.Join(names, " "); got != "find log who whoami" {
			t.Errorf("an observer has the tools %s, want find log who whoami", got)
		}
		watcher.wants("whoami", `{}`, "an observer")
		watcher.wants("who", `{}`, "Sage")
		watcher.wants("log", `{"ref":"`+secret.Conversation.Ref+`"}`, "| a secret")
		watcher.fails("log", `{}`, "argument ref is missing")
	}
	for name, test := range map[string]struct {
		header map[string]string
		want   int
	}{
		"no token":            {nil, http.StatusUnauthorized},
		"a wrong token":       {map[string]string{"Authorization": "Bearer duo_a_atlas_x"}, http.StatusUnauthorized},
		"another host":        {map[string]string{"Authorization": "Bearer " + tokenOf(t, h, "Atlas"), "Host": "evil.example"}, http.StatusForbidden},
		"another page":        {map[string]string{"Authorization": "Bearer " + tokenOf(t, h, "Atlas"), "Origin": "http://evil.example"}, http.StatusForbidden},
		"for somebody else":   {map[string]string{"Authorization": "Bearer " + tokenOf(t, h, "Atlas"), "Duo-Agent": "Nova"}, http.StatusForbidden},
		"an unknown session":  {map[string]string{"Authorization": "Bearer " + tokenOf(t, h, "Atlas"), "Mcp-Session-Id": "x"}, http.StatusNotFound},
		"a session of others": {map[string]string{"Authorization": "Bearer " + tokenOf(t, h, "Sage"), "Mcp-Session-Id": overHTTP(t, url, tokenOf(t, h, "Atlas"), generations[0]).ID()}, http.StatusNotFound},
	} {
		r, err := http.NewRequest("POST", url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
		if err != nil {
			t.Fatal(err)
		}
		for field, text := range test.header {
			if r.Header.Set(field, text); field == "Host" {
				r.Host = text
			}
		}
		r.Header.Set("Accept", "application/json, text/event-stream")
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // nothing was written
		if resp.StatusCode != test.want {
			t.Errorf("%s: got %s, want %d", name, resp.Status, test.want)
		}
	}
}

// TestSessionsAreBounded, and one that its client ends makes room.
func TestSessionsAreBounded(t *testing.T) {
	h, url := withTCP(t, "Atlas", "Nova")
	begin := func(token string) (id string, code int) {
		t.Helper()
		return request(t, "POST", url, token, "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	}
	var first string
	for i := range 32 {
		id, code := begin(tokenOf(t, h, "Atlas"))
		if code != http.StatusOK || id == "" {
			t.Fatalf("session %d: got %q, %d, want one", i+1, id, code)
		}
		if first == "" {
			first = id
		}
	}
	if _, code := begin(tokenOf(t, h, "Atlas")); code != http.StatusServiceUnavailable {
		t.Errorf("one session too many: got %d, want 503", code)
	}
	if _, code := begin(tokenOf(t, h, "Nova")); code != http.StatusOK {
		t.Errorf("a session of another agent: got %d, want 200", code)
	}
	if _, code := request(t, "DELETE", url, tokenOf(t, h, "Nova"), first, ""); code != http.StatusNotFound {
		t.Errorf("somebody else ends a session: got %d, want 404", code)
	}
	if _, code := request(t, "DELETE", url, tokenOf(t, h, "Atlas"), first, ""); code != http.StatusNoContent {
		t.Errorf("its client ends a session: got %d, want 204", code)
	}
	if _, code := begin(tokenOf(t, h, "Atlas")); code != http.StatusOK {
		t.Errorf("a session after one was ended: got %d, want 200", code)
	}
}

// TestOversize: what is too long is refused, and the server goes on.
func TestOversize(t *testing.T) {
	h, url := withTCP(t, "Atlas", "Nova")
	long := func(n int) string {
		data, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": map[string]any{
			"name": "message", "arguments": map[string]any{"to": "Nova", "text": strings.Repeat("x", n)},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if _, code := request(t, "POST", url, tokenOf(t, h, "Atlas"), "", long(9<<20)); code != http.StatusRequestEntityTooLarge && code != http.StatusBadRequest {
		t.Errorf("9 MB: got %d, want 413", code)
	}
	for _, m := range []model{overHTTP(t, url, tokenOf(t, h, "Atlas"), generations[0]), overHTTP(t, url, tokenOf(t, h, "Atlas"), generations[1]), stdio(t, h, "Atlas")} {
		text, failed := m.call("message", `{"to":"Nova","text":"`+strings.Repeat("x", 2<<20)+`"}`)
		if !failed || !strings.Contains(text, "(too_large)\nnext: message ") {
			t.Errorf("2 MB: got %t, %.300s, want too_large", failed, text)
		}
		m.wants("message", `{"to":"Nova","text":"`+strings.Repeat("x", 200)+`"}`, "sent c")
	}
}

// request sends one request, and returns the session and the status of the answer.
func request(t testing.TB, method, url, token, session, body string) (id string, code int) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.Header.Get("Mcp-Session-Id"), resp.StatusCode
}

// TestDaemonStopsWhileOneWaits: it does not wait for a wait, and nothing is lost.
func TestDaemonStopsWhileOneWaits(t *testing.T) {
	h, url := withTCP(t, "Atlas", "Nova")
	for _, generation := range generations {
		m := overHTTP(t, url, tokenOf(t, h, "Atlas"), generation)
		ended := make(chan error, 1)
		listening(t, h, "Atlas", func() {
			go func() {
				_, err := m.CallTool(context.Background(), &mcp.CallToolParams{Name: "wait", Arguments: json.RawMessage(`{"timeout":600}`)})
				ended <- err
			}()
		})
		began := time.Now()
		h.Stop()
		if took := time.Since(began); took > time.Minute {
			t.Errorf("%s: the daemon took %s to stop", generation, took)
		}
		<-ended // with an error, or an answer that says so
		h.Start()
		status, err := h.As("").Status(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		url = "http://" + status.HTTP + "/mcp"
	}
}

// TestCancelledOverHTTP: a wait whose client gives up ends at once.
func TestCancelledOverHTTP(t *testing.T) {
	h, url := withTCP(t, "Atlas", "Nova")
	for _, generation := range generations {
		m := overHTTP(t, url, tokenOf(t, h, "Atlas"), generation)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		listening(t, h, "Atlas", func() {
			go func() {
				_, err := m.CallTool(ctx, &mcp.CallToolParams{Name: "wait", Arguments: json.RawMessage(`{"timeout":600}`)})
				ended <- err
			}()
		})
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want that it was cancelled", generation, err)
		}
		daemontest.Eventually(t, func() (bool, string) {
			me, err := h.As("").Agents(context.Background(), api.AgentQuery{Text: "Atlas"})
			return err == nil && len(me.Agents) == 1 && !me.Agents[0].Listening, daemontest.JSON(me)
		})
	}
}

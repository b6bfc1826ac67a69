package httpd_test

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
)

// A conversation is a download in each form, with its files, to whoever may read it.
func TestExport(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage")
	a := h.attach("Atlas", "a.txt", "hello")
	posted := h.Post("Atlas", &draft{To: []string{"Nova"}, Topic: "The \"plan\"\u202e", Content: "one", Attachments: []envelope.Attachment{a}})
	ref := posted.Conversation.Ref
	for format, want := range map[string]struct{ kind, name, holds, ends string }{
		"":                 {"application/x-ndjson", ref + ".jsonl", `{"data":"aGVsbG8="}`, "\"}\n"},
		"?format=jsonl":    {"application/x-ndjson", ref + ".jsonl", `{"data":"aGVsbG8="}`, "\"}\n"},
		"?format=mbox":     {"application/mbox", ref + ".mbox", "\naGVsbG8=\n", "--\n\n"},
		"?format=markdown": {"text/markdown; charset=utf-8", ref + ".md", "\n> one\n", "\n"},
		"?format=html":     {"text/html; charset=utf-8", ref + ".html", "<p>one</p>", "</html>\n"},
	} {
		resp, data := h.ask("GET /v1/conversations/"+ref+"/export"+format, "Sage", "") // on the local socket whoever asks may read everything
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(data), want.holds) || !strings.HasSuffix(string(data), want.ends) {
			t.Errorf("%q: got %s %.2000s", format, resp.Status, data)
		}
		for name, want := range map[string]string{
			"Content-Type": want.kind, "Content-Disposition": `attachment; filename="` + want.name + `"`, "X-Content-Type-Options": "nosniff",
			"Content-Security-Policy": "sandbox; default-src 'none'",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%q: %s: got %q, want %q", format, name, got, want)
			}
		}
	}
	for query, code := range map[string]api.Code{"?format=sqlite": api.BadRequest, "?format=exe": api.BadRequest, "?form=mbox": api.BadRequest} {
		resp, data := h.ask("GET /v1/conversations/"+ref+"/export"+query, "", "")
		wantProblem(t, query, resp, data, code)
	}
	resp, data := h.ask("GET /v1/conversations/c00000/export", "", "")
	wantProblem(t, "no such conversation", resp, data, api.ConversationNotFound)
	if resp.Header.Get("Content-Disposition") != "" {
		t.Error("a refusal is a download")
	}

	token, err := os.ReadFile(h.Home().AgentDir("Sage") + "/token")
	if err != nil {
		t.Fatal(err)
	}
	req := h.request("duo", "GET /v1/conversations/"+ref+"/export?format=mbox", "")
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, data = h.do(req)
	wantProblem(t, "one who was never in it", resp, data, api.NotParticipant)
}

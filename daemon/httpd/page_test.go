package httpd_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/web"
)

// TestPage: every view is the same document, with a policy that lets nothing else in,
// and asks no token.
func TestPage(t *testing.T) {
	o := newOutside(t, "")
	_, want := o.with("", "GET /", "")
	for _, path := range []string{"/", "/c/c9f3a", "/c/c9f3a/sequence", "/a/Nova@nyc", "/r/r77b2", "/search?q=%3Cscript%3E", "/talk", "/hosts"} {
		resp, body := o.with("", "GET "+path, "")
		if resp.StatusCode != http.StatusOK || string(body) != string(want) || !strings.Contains(string(body), "<title>duo") {
			t.Errorf("%s: got %s %.200q, want the page", path, resp.Status, body)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": web.Policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-cache", "Content-Type": "text/html; charset=utf-8",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s: got %q, want %q", path, name, got, want)
			}
		}
	}
	resp, _ := o.with("", "GET /", "")
	if again, body := o.with("", "GET /c/c1234", "", "If-None-Match", resp.Header.Get("ETag")); again.StatusCode != http.StatusNotModified || len(body) > 0 {
		t.Errorf("the same again: got %s %q, want %d", again.Status, body, http.StatusNotModified)
	}
	for route, want := range map[string]int{
		"GET /assets/none.js": 404, "GET /assets/": 404, "GET /assets/../tokens.json": 404, "GET /c/": 404, "GET /index.html": 404, "HEAD /": 200, "POST /": 404,
	} {
		if resp, body := o.with("", route, ""); resp.StatusCode != want {
			t.Errorf("%s: got %s %s, want %d", route, resp.Status, body, want)
		}
	}
	for _, headers := range [][]string{{"Host", "evil.example"}, {"Origin", "http://evil.example"}} {
		resp, body := o.with("", "GET /", "", headers...)
		wantProblem(t, headers[0], resp, body, api.WrongHost)
	}
}

package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// TestChecksCanFail plants one fault after the other in a page and wants it noticed.
func TestChecksCanFail(t *testing.T) {
	b := newBrowser(t)
	for name, test := range map[string]struct {
		body, script string
		policy       string
		want         string // empty for no fault
	}{
		"nothing":              {`<p>calm`, ``, ``, ``},
		"exception":            {``, `setTimeout(() => { throw new Error("lost") })`, ``, "exception: Uncaught Error: lost"},
		"rejection":            {``, `Promise.reject(new Error("broken"))`, ``, "broken"},
		"console":              {``, `console.error("cannot", "parse")`, ``, `console: "cannot" "parse"`},
		"missing file":         {`<img alt="" src="/missing">`, ``, ``, "404"},
		"request elsewhere":    {``, `fetch("http://127.0.0.2:1/").catch(() => 0)`, ``, "request elsewhere: http://127.0.0.2:1/"},
		"image elsewhere":      {`<img alt="" src="http://tracker.invalid/pixel.png">`, ``, ``, "request elsewhere: http://tracker.invalid/pixel.png"},
		"socket elsewhere":     {``, `new WebSocket("ws://127.0.0.2:1/")`, ``, "request elsewhere: http://127.0.0.2:1/"},
		"dialog":               {``, `setTimeout(() => alert("hello"))`, ``, "dialog: hello"},
		"inline script":        {`<img alt="" src="data:," onerror="window.x=1">`, ``, `script-src 'nonce-n'`, "policy violated: script-src-attr"},
		"inline style":         {`<p style="color:red">red`, ``, `style-src 'self'`, "policy violated: style-src-attr"},
		"untrusted markup":     {``, `try { document.body.innerHTML = "<b>x" } catch {}`, `require-trusted-types-for 'script'`, "policy violated: require-trusted-types-for"},
		"policy of another":    {``, `try { trustedTypes.createPolicy("other", {}) } catch {}`, `trusted-types duo-server-html`, "policy violated: trusted-types"},
		"fault that was meant": {``, `console.error("meant")`, ``, ``},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					w.WriteHeader(map[bool]int{true: http.StatusNoContent, false: http.StatusNotFound}[r.URL.Path == "/favicon.ico"])
					return
				}
				w.Header().Set("Content-Security-Policy", test.policy)
				_, _ = fmt.Fprintf(w, `<!doctype html><html lang="en"><title>t</title><body>%s<script nonce="n">%s; setTimeout(() => { document.title = "done" }, 50)</script>`, test.body, test.script)
			}))
			defer server.Close()
			record := &recorder{TB: t}
			p := b.newTab(record, server.URL, desk)
			p.allow("meant")
			p.open("/")
			p.wait(`document.title === "done"`)
			faults := func() string { return strings.Join(p.seen(), "\n") }
			if test.want == "" {
				if got := faults(); got != "" {
					t.Errorf("got faults %s, want none", got)
				}
				return
			}
			p.until("fault "+test.want, func() bool { return strings.Contains(faults(), test.want) })
			record.end()
			if !slices.ContainsFunc(record.errors, func(e string) bool { return strings.Contains(e, test.want) }) {
				t.Errorf("got errors %q of the test, want %q", record.errors, test.want)
			}
		})
	}
}

// TestAxeCanFail wants what keeps people from using a page to be found, in the light it
// is there in.
func TestAxeCanFail(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = fmt.Fprint(w, `<!doctype html><html lang="en"><title>t</title><style>:root { color-scheme: light dark } body { background: light-dark(#fff, #000) } p { color: light-dark(#000, #222) }</style>
			<main><h1>One</h1><p>dark on dark<input type="text"></main>`)
	}))
	defer server.Close()
	record := &recorder{TB: t}
	p := newBrowser(t).newTab(record, server.URL, desk)
	p.open("/")
	p.accessible("planted")
	record.end()
	got := strings.Join(record.errors, "\n")
	for _, want := range []string{"planted, light: label", "planted, dark: label", "planted, dark: color-contrast"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if strings.Contains(got, "planted, light: color-contrast") {
		t.Errorf("got %s, want enough contrast in light", got)
	}
}

// recorder notes the errors of a test rather than failing it.
type recorder struct {
	testing.TB
	errors  []string
	cleanup []func()
}

func (r *recorder) Error(args ...any)                 { r.errors = append(r.errors, fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.Error(fmt.Sprintf(format, args...)) }
func (r *recorder) Cleanup(f func())                  { r.cleanup = append(r.cleanup, f) }
func (r *recorder) end() {
	for _, f := range slices.Backward(r.cleanup) {
		f()
	}
	r.cleanup = nil
}

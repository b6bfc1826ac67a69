package web_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"pgregory.net/rapid"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/web"
)

// TestHiddenCharacters asks the page which characters of others it shows, and which it
// writes out: the same ones as a terminal is shown.
func TestHiddenCharacters(t *testing.T) {
	page, err := web.New()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	page.Routes(mux, http.NotFound)
	server := httptest.NewServer(mux)
	defer server.Close()
	p := newBrowser(t).newTab(t, server.URL, desk)
	p.open("/")
	check := func(fail func(string, ...any), texts []string) {
		got := eval[[]string](p, "import('/assets/ui.js').then(({visible}) => "+daemontest.JSON(texts)+".map(visible))")
		for i, text := range texts {
			if want := frame.Line(text); got[i] != want {
				fail("visible(%q) = %q, want %q", text, got[i], want)
			}
		}
	}
	check(t.Errorf, misleading)
	character := rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune("a⚠≠\uFE0F\uFE0E\u200B\u202E\u061C\u180E\u115F\uFFA0\u034F\u17B4\U000E0100\n ")))
	rapid.Check(t, func(t *rapid.T) {
		check(t.Errorf, rapid.SliceOfN(rapid.StringOf(character), 1, 30).Draw(t, "texts"))
	})
}

var misleading = []string{
	"", "plain", "two\nlines\ttab", "\x1b[31mred", "safe\u202Eexe.txt", "a\u200Bb\u2060c\uFEFFd\u00ADe", "\u009b31m\x7f\r", "⚠\uFE0F good", "a\uFE0F⚠\uFE0F\uFE0F",
	"tag \U000E0041\U000E0042", "line\u2028and\u2029para\u0085", "hangul \u3164 filler", "👨\u200D👩", "日本語, ünïcode, ✅", "\u0301combining first", "no\u00A0break", "=\uFE0F ≠\uFE0F",
}

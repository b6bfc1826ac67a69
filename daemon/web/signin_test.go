package web_test

import (
	"context"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
)

// newHost starts a host with agents of these names, at a TCP address for the page, which
// stays the same when the daemon starts again.
func newHost(t testing.TB, agents ...string) *daemontest.Host {
	t.Helper()
	return daemontest.NewWith(t, "host.name = 'nyc'\nhttp.listen = '"+daemontest.FreeAddress(t)+"'\n", agents...)
}

// origin is where a host's page is.
func origin(t testing.TB, h *daemontest.Host) string {
	t.Helper()
	status, err := h.As("").Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + status.HTTP
}

// login is a link to the page, without its origin, that is good once.
func login(t testing.TB, h *daemontest.Host, operator bool) string {
	t.Helper()
	link, err := h.As("").NewLogin(context.Background(), operator)
	if err != nil {
		t.Fatal(err)
	}
	path, ok := strings.CutPrefix(link.URL, origin(t, h))
	if !ok {
		t.Fatalf("got link %q, want one to %s", link.URL, origin(t, h))
	}
	return path
}

// watch opens a view of the page for an observer who has just signed in.
func (b *browser) watch(t testing.TB, h *daemontest.Host, l look, path string) *tab {
	t.Helper()
	return b.signIn(t, h, l, false, path)
}

// steer opens a view of the page for an operator who has just signed in.
func (b *browser) steer(t testing.TB, h *daemontest.Host, path string) *tab {
	t.Helper()
	return b.signIn(t, h, desk, true, path)
}

func (b *browser) signIn(t testing.TB, h *daemontest.Host, l look, operator bool, path string) *tab {
	t.Helper()
	p := b.newTab(t, origin(t, h), l)
	p.open(login(t, h, operator))
	p.live()
	if path != "/" {
		p.open(path)
		p.live()
	}
	return p
}

// live waits until the page is connected and says so.
func (p *tab) live() {
	p.t.Helper()
	p.wait(`document.querySelector(".link b")?.innerText === "live"`)
}

func TestSigningIn(t *testing.T) {
	b := newBrowser(t)
	h := newHost(t, "Atlas", "Nova")
	first := login(t, h, false)

	t.Run("nobody", func(t *testing.T) {
		p := b.newTab(t, origin(t, h), desk)
		p.open("/c/c12345#42")
		p.find("heading", "Sign in to duo")
		p.shows("duo open")
		p.hides("Atlas")
		p.accessible("sign in")
	})
	t.Run("link", func(t *testing.T) {
		p := b.newTab(t, origin(t, h), desk)
		p.open(first)
		p.find("link", "Atlas")
		if got, want := eval[string](p, "location.href"), p.origin+"/"; got != want {
			t.Errorf("got address %q, want %q, without the code", got, want)
		}
		if n := eval[int](p, "history.length"); n > 2 { // about:blank and the page
			t.Errorf("got %d entries in the history, want none with the code", n)
		}
		if kept := must(p, network.GetCookies, network.GetCookiesParams{}); len(kept.Cookies) > 0 {
			t.Errorf("got cookies %s, want none: other ports would be sent them", daemontest.JSON(kept))
		}
		p.open("/")
		p.find("link", "Atlas") // the session is kept
	})
	t.Run("link where the page is already", func(t *testing.T) {
		p := b.newTab(t, origin(t, h), desk)
		p.open("/")
		p.find("heading", "Sign in to duo")
		p.open(login(t, h, false))
		p.find("link", "Atlas")
	})
	t.Run("link used twice", func(t *testing.T) {
		p := b.newTab(t, origin(t, h), desk)
		p.allow("status of 401")
		p.open(first)
		p.find("alert", "")
		p.shows("omebody has signed in with this link before")
		p.hides("Atlas")
		p.accessible("link used twice")
	})
	t.Run("link of an earlier life", func(t *testing.T) {
		late := login(t, h, false)
		h.Stop()
		h.Start()
		p := b.newTab(t, origin(t, h), desk)
		p.allow("status of 401")
		p.open(late)
		p.find("alert", "")
		p.shows("five minutes")
		p.hides("Atlas")
	})
	t.Run("sign out", func(t *testing.T) {
		p := b.watch(t, h, desk, "/")
		token := eval[string](p, `localStorage.getItem("duo.token")`)
		p.find("button", "Sign out").click()
		p.find("heading", "Sign in to duo")
		if left := eval[[]string](p, "Object.keys(localStorage)"); strings.Contains(strings.Join(left, " "), "duo.token") {
			t.Errorf("got %q kept, want no token", left)
		}
		p.allow("status of 401")
		if status := eval[int](p, `fetch("/v1/agents", {headers: {Authorization: "Bearer " + `+quoted(token)+`}}).then(r => r.status)`); status != 401 {
			t.Errorf("got status %d with the token of the session that ended, want 401", status)
		}
		p.open("/")
		p.find("heading", "Sign in to duo")
	})
	t.Run("revoked", func(t *testing.T) {
		p := b.watch(t, h, desk, "/")
		p.allow("status of 401")
		revokeAll(t, h)
		p.find("heading", "Sign in to duo")
		p.find("alert", "")
		p.shows("revoked")
		p.hides("Atlas")
	})
}

func revokeAll(t *testing.T, h *daemontest.Host) {
	t.Helper()
	tokens, err := h.As("").Tokens(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens.Tokens {
		if err := h.As("").RevokeToken(context.Background(), token.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// TestObserversOnlyWatch asks the daemon for what the page does not offer.
func TestObserversOnlyWatch(t *testing.T) {
	b := newBrowser(t)
	h := newHost(t, "Atlas", "Nova")
	ref := h.Post("Atlas", message("Nova", "Could you review auth.go?")).Conversation.Ref
	p := b.watch(t, h, desk, "/c/"+ref)
	p.shows("Could you review auth.go?")
	for _, role := range []string{"button Send", "button Close conversation", "textbox Write as"} {
		role, name, _ := strings.Cut(role, " ")
		if n := p.count(role, name); n != 0 {
			t.Errorf("got %d of %s %q, want none for an observer", n, role, name)
		}
	}
	p.allow("status of 403")
	for _, ask := range []struct{ method, path, as, body string }{
		{"POST", "/v1/conversations/" + ref + "/messages", "Atlas", `{"content":"forged"}`},
		{"POST", "/v1/conversations/" + ref + "/messages", api.Human, `{"content":"forged"}`},
		{"POST", "/v1/conversations/" + ref + "/messages", "", `{"content":"forged"}`},
		{"POST", "/v1/conversations/" + ref + "/close", api.Human, `{}`},
		{"PUT", "/v1/agents/Nova/standing", "", `{"standing":"muted"}`},
		{"POST", "/v1/agents", "", `{"name":"Mallory"}`},
		{"DELETE", "/v1/agents/Nova", "", ``},
		{"POST", "/v1/session/codes", "", `{"operator":true}`},
		{"POST", "/v1/stop", "", ``},
	} {
		status := eval[int](p, `fetch(`+quoted(ask.path)+`, {method: `+quoted(ask.method)+`, body: `+quoted(ask.body)+` || undefined,
			headers: {"Content-Type": "application/json", "Duo-Agent": `+quoted(ask.as)+`, Authorization: "Bearer " + localStorage.getItem("duo.token")}}).then(r => r.status)`)
		if status != 403 {
			t.Errorf("%s %s as %q: got status %d, want 403", ask.method, ask.path, ask.as, status)
		}
	}
	if lines := h.Log(conversationID(t, h, ref)); len(lines) != 2 {
		t.Errorf("got %d lines in the log, want 2", len(lines))
	}
}

func conversationID(t testing.TB, h *daemontest.Host, ref string) string {
	t.Helper()
	found, err := h.As("").Find(context.Background(), ref)
	if err != nil || found.Conversation == nil {
		t.Fatalf("find %q: %v", ref, err)
	}
	return found.Conversation.ID
}

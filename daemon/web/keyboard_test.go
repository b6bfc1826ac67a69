package web_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/claude-duo/duo/maildir/envelope"
)

func TestKeyboard(t *testing.T) {
	b := newBrowser(t)
	h := newHost(t, "Atlas", "Nova")
	ref := h.Post("Atlas", &envelope.Envelope{Type: envelope.Create, Topic: "Line 40", To: []string{"Nova"}}).Conversation.Ref
	p := b.watch(t, h, desk, "/")
	at := func(path string) {
		t.Helper()
		p.wait("location.pathname + location.search === " + quoted(path))
	}
	focusOn := func(name string) {
		t.Helper()
		p.until("the focus is on "+name, func() bool { return p.focused() == name })
	}

	t.Run("tab order", func(t *testing.T) {
		p.during(t)
		p.open("/")
		p.live()
		p.press(kb.Tab)
		focusOn("Skip to the main part")
		for _, want := range []string{"duo nyc", "Overview", "Talk", "Hosts", "Search", "Search all conversations"} {
			p.press(kb.Tab)
			focusOn(want)
			if outline := eval[string](p, `getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).boxShadow`); outline == "nonenone" {
				t.Errorf("%s has the focus, and nothing shows it", want)
			}
		}
		p.open("/")
		p.live()
		p.press(kb.Tab)
		p.press(kb.Enter)
		p.wait(`document.activeElement.id === "main"`)
	})
	t.Run("switcher", func(t *testing.T) {
		p.during(t)
		p.open("/hosts")
		p.live()
		p.press("k", chromedp.ModifierCtrl)
		p.find("dialog", "Go to")
		p.press("nov")
		p.until("Nova is the choice", func() bool { return strings.HasPrefix(chosen(p), "Nova") })
		p.press(kb.Enter)
		at("/a/Nova")
		p.wait(`!document.querySelector("dialog")`)
		p.press("k", chromedp.ModifierCtrl)
		p.find("option", "Line 40")
		first := chosen(p)
		p.press(kb.ArrowDown)
		p.until("another choice is marked", func() bool { return chosen(p) != first })
		p.press(kb.ArrowUp)
		p.until("the first choice is marked", func() bool { return chosen(p) == first })
		p.accessible("switcher")
		p.press(kb.Escape)
		p.wait(`!document.querySelector("dialog")`)
		at("/a/Nova")
		p.press("k", chromedp.ModifierCtrl)
		p.press(ref)
		p.find("option", "Line 40")
		p.press(kb.Enter)
		at("/c/" + ref)
	})
	t.Run("help", func(t *testing.T) {
		p.during(t)
		p.open("/")
		p.live()
		p.press("?")
		p.find("dialog", "Keys and help").shows("search all conversations")
		p.accessible("help")
		p.press("g")
		p.press("h") // a dialog has the keys for itself
		at("/")
		p.press(kb.Escape)
		p.wait(`!document.querySelector("dialog")`)
	})
	t.Run("places", func(t *testing.T) {
		p.during(t)
		p.open("/")
		p.live()
		for _, go_ := range []struct{ keys, path string }{{"gh", "/hosts"}, {"gt", "/talk"}, {"go", "/"}, {"gs", "/search"}} {
			p.press(go_.keys)
			at(go_.path)
		}
		focusOn("Words")
		p.open("/")
		p.live()
		p.press("gc")
		focusOn("Filter conversations")
		p.press("gh") // letters in a field
		p.wait(`document.activeElement.value === "gh"`)
		at("/")
		p.press(kb.Escape)
		p.open("/")
		p.live()
		p.press("ga")
		focusOn("Filter agents")
	})
	t.Run("search", func(t *testing.T) {
		p.during(t)
		p.open("/")
		p.live()
		p.press("/")
		focusOn("Search all conversations")
		p.press("line" + kb.Enter)
		at("/search?q=line")
	})
	t.Run("heading", func(t *testing.T) {
		p.during(t)
		p.open("/")
		p.live()
		for _, place := range []struct{ keys, heading string }{{"gh", "Hosts"}, {"go", "Overview"}} {
			p.press(place.keys)
			focusOn(place.heading)
			p.wait("document.title === " + quoted(place.heading+" · duo"))
		}
		eval[bool](p, "history.back() ?? true")
		at("/hosts")
		focusOn("Hosts")
		eval[bool](p, "history.forward() ?? true")
		at("/")
	})
	t.Run("single keys off", func(t *testing.T) {
		p.during(t)
		p.open("/")
		p.live()
		p.press("?")
		p.find("checkbox", "Single keys do something").click()
		p.press(kb.Escape)
		p.wait(`!document.querySelector("dialog")`)
		p.press("gh")
		p.press("k", chromedp.ModifierCtrl)
		p.find("dialog", "Go to")
		p.press(kb.Escape)
		at("/")
	})
}

// chosen is the choice that a combobox would take.
func chosen(p *tab) string {
	return eval[string](p, `document.querySelector("[role=option][aria-selected=true]")?.innerText ?? ""`)
}

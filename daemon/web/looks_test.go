package web_test

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestLooks shows each view of the office in each look: all can use it, and on a phone
// nothing is beside the screen.
func TestLooks(t *testing.T) {
	b := newBrowser(t)
	o := newOffice(t)
	h := o.start()
	o.link(h)
	listen(t, h, "Atlas", api.Seen)
	called, err := h.As("Vega").Call(context.Background(), &envelope.Envelope{Type: envelope.Call, To: []string{"Atlas"}, Topic: "Is 2.4 ready to go out?"})
	if err != nil {
		t.Fatal(err)
	}
	p := b.watch(t, h, desk, "/")
	views := pictures(o, called.Request.Ref)
	views["nothing"] = "/c/c0000"
	p.allow("status of 404")
	for _, name := range slices.Sorted(maps.Keys(views)) {
		t.Run(name, func(t *testing.T) {
			p.during(t)
			p.open(views[name])
			p.live()
			p.settled()
			p.accessible(name)
			for _, width := range []int64{360, 390} {
				p.look(look{width: width, height: 740})
				if over := eval[[]string](p, beside); len(over) > 0 {
					t.Errorf("%s on a phone of %d pixels: %q is beside the screen", name, width, over)
				}
			}
			p.look(phone)
			for _, v := range p.violations() {
				t.Errorf("%s on a phone: %s", name, v)
			}
			p.look(desk)
		})
	}
}

// TestBarOnAPhone: all that stands above a conversation can be reached without a search for it.
func TestBarOnAPhone(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	k := begin(t, h, envelope.Envelope{Topic: "Line 40"}, "Atlas", "Nova")
	k.say("Atlas", "Milliseconds?")
	b := newBrowser(t)
	for _, width := range []int64{320, 360, 390} {
		p := b.watch(t, h, look{width: width, height: 740}, "/c/"+k.c.Ref)
		p.settled()
		if out := eval[[]string](p, outOfSight(".places-bar *")); len(out) > 0 {
			t.Errorf("%d pixels: %q is out of sight", width, out)
		}
		p.css(".places-bar summary").click()
		p.find("button", "JSON lines")
		if out := eval[[]string](p, outOfSight(".menu-box *")); len(out) > 0 {
			t.Errorf("%d pixels: of the exports %q is out of sight", width, out)
		}
		p.find("link", "Sequence").click()
		p.wait(`location.pathname.endsWith("/sequence")`)
	}
}

// outOfSight is what a selector finds that stands beside the screen, or that nobody can hit.
func outOfSight(selector string) string {
	return `[...document.querySelectorAll(` + quoted(selector) + `)].filter(e => e.matches("a, button, summary, input") && e.checkVisibility()).filter(e => {
		const box = e.getBoundingClientRect()
		return box.left < 0 || box.right > innerWidth || !e.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2))
	}).map(e => e.outerHTML.slice(0, 100))`
}

// beside is what makes the page wider than the screen.
const beside = `(() => {
	const page = document.scrollingElement
	if (page.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth) return []
	return [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1).slice(-5).map(e => e.outerHTML.slice(0, 200))
})()`

// settled waits until nothing is being fetched that the view shows.
func (p *tab) settled() {
	p.t.Helper()
	p.wait(`document.querySelector("h1") && !/(Loading|Connecting|Searching)…/.test(document.body.innerText)`)
}

// TestStillness wants nothing to move for those who asked for that.
func TestStillness(t *testing.T) {
	b := newBrowser(t)
	h := newHost(t, "Atlas", "Nova")
	listen(t, h, "Nova", api.Seen)
	if _, err := h.As("Atlas").Call(context.Background(), &envelope.Envelope{Type: envelope.Call, To: []string{"Nova"}, Topic: "Line 40"}); err != nil {
		t.Fatal(err)
	}
	still := desk
	still.still = true
	p := b.watch(t, h, still, "/")
	p.now().shows("Line 40")
	moving := `document.getAnimations().filter(a => a.playState === "running" && a.effect.getComputedTiming().duration > 1).map(a => a.effect.target.outerHTML.slice(0, 100))`
	if got := eval[[]string](p, moving); len(got) > 0 {
		t.Errorf("got %q moving, want nothing", got)
	}
	p.look(desk)
	p.wait(moving + `.length > 0`) // a call that rings does, otherwise
}

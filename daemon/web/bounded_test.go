package web_test

import (
	"context"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
)

// tells waits until the page has told of a fault in its console, which is meant then.
func (p *tab) tells(fault string) {
	p.t.Helper()
	p.until("the console has "+fault, func() bool { return strings.Contains(strings.Join(p.seen(), "\n"), fault) })
	p.allow(fault)
}

// TestOnePartFails makes what a part of the page needs fail: the others go on.
func TestOnePartFails(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	k := begin(t, h, envelope.Envelope{Topic: "Line 40"}, "Atlas", "Nova")
	k.say("Atlas", "before")
	p := newBrowser(t).watch(t, h, desk, "/c/"+k.c.Ref)

	eval[bool](p, `!(Math.log10 = () => { throw new Error("no logarithms today") })`)
	p.find("link", "Sequence").click()
	p.find("alert", "").shows("This view cannot be shown")
	p.find("heading", "Something went wrong")
	p.tells(`"This view cannot be shown:" Error: no logarithms today`)
	p.accessible("a view that went wrong")
	k.say("Nova", "meanwhile")
	p.conversations().find("link", "Line 40").shows("Nova: meanwhile")
	p.find("link", "Overview").click()
	p.find("heading", "Overview")
	p.conversations().find("link", "Line 40").click()
	p.line(3).shows("meanwhile")
	p.find("link", "Sequence").click()
	p.find("alert", "").find("button", "Reload").click()
	p.hides("This view cannot be shown")
	p.live()
	p.find("main", "").find("link", "#3 Nova to Atlas: meanwhile")

	can := []string{"juggling"}
	if _, err := h.As("").Register(context.Background(), api.Register{Name: "Orion", Capabilities: &can}); err != nil {
		t.Fatal(err)
	}
	p.agent("Orion").shows("juggling")
	eval[bool](p, `(join => !(Array.prototype.join = function (...by) {
		if (this.includes("juggling")) throw new Error("no juggling today")
		return join.apply(this, by)
	}))(Array.prototype.join)`)
	if _, err := h.As("Orion").SetPresence(context.Background(), "busy", ""); err != nil {
		t.Fatal(err)
	}
	p.find("alert", "").shows("The list of agents cannot be shown")
	p.tells(`"The list of agents cannot be shown:" Error: no juggling today`)
	k.say("Atlas", "goes on")
	p.find("main", "").find("link", "#4 Atlas to Nova: goes on")
}

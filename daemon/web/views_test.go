package web_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestHosts links a second host, and takes it away.
func TestHosts(t *testing.T) {
	cable, address := daemontest.NewCable(t), daemontest.FreeAddress(t)
	cable.Connect(address)
	nyc := daemontest.NewWith(t, fmt.Sprintf("host.name = 'nyc'\nhttp.listen = %q\nlink.listen = %q\nlink.advertise = %q", daemontest.FreeAddress(t), address, cable.Address()), "Atlas")
	lon := daemontest.NewBehind(t, "lon", "Lyra")
	p := newBrowser(t).watch(t, nyc, desk, "/hosts")
	main := p.find("main", "")
	main.shows("It is linked with no other")

	daemontest.Pair(t, nyc, lon)
	main.find("article", "lon").shows("up")
	main.find("article", "lon").shows("0 envelopes")
	main.find("article", "lon").shows("ms")
	main.find("article", "lon").find("link", "Lyra")
	p.agent("Lyra@lon").shows("available")
	ref := lon.Post("Lyra", message("Atlas@nyc", "Are you there?")).Conversation.ID
	p.conversations().find("link", "Lyra@lon").shows("Are you there?")
	p.accessible("hosts")

	cable.Pull()
	main.find("article", "lon").shows("down")
	p.now().shows("1 host out of reach")
	p.agent("Lyra@lon").shows("out of reach")
	nyc.Post("Atlas", &envelope.Envelope{Conversation: ref, Content: "I am."})
	main.find("article", "lon").shows("1 envelope")
	cable.Plug()
	lon.Redial("nyc")
	main.find("article", "lon").shows("up")
	main.find("article", "lon").shows("0 envelopes")
	p.conversations().find("link", "Lyra@lon").shows("Atlas: I am.")
}

// TestSequence shows the office's longest conversation as arrows and as a table.
func TestSequence(t *testing.T) {
	o := newOffice(t)
	h := o.start()
	p := newBrowser(t).watch(t, h, desk, "/c/"+ref(o.race))
	p.find("link", "Sequence").click()
	p.wait(`location.pathname.endsWith("/sequence")`)
	main := p.find("main", "")
	main.find("link", "#3 Atlas to Nova: `TestExpire` fails about one time in thirty")
	main.find("link", "#12 Atlas invited Vega")
	main.shows("5 min") // the gap before
	if lanes := eval[int](p, `document.querySelectorAll(".lane").length`); lanes != 3 {
		t.Errorf("got %d lanes, want one for each of 3 agents", lanes)
	}
	p.press("jj")
	p.wait(`document.activeElement.classList.contains("step")`)
	p.find("tab", "Table").click()
	p.wait(`location.search === "?as=table"`)
	rows := eval[int](p, `document.querySelectorAll("table.listing tbody tr").length`)
	if rows != 14 {
		t.Errorf("got %d rows, want 14", rows)
	}
	p.accessible("sequence as a table")
	main.find("link", "7").click()
	p.wait(`location.hash === "#7"`)
	p.line(7).shows("goroutines")
}

// TestTalk counts who talks to whom, as a table and as a graph.
func TestTalk(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Vega")
	for i := range 3 {
		h.Post("Atlas", message("Nova", fmt.Sprint("to Nova ", i)))
	}
	h.Post("Nova", message("Atlas", "to Atlas"))
	h.Post("Vega", message("Atlas", "from Vega"))
	p := newBrowser(t).watch(t, h, desk, "/talk")
	main := p.find("main", "")
	main.shows("5 messages among 3 agents, once for each recipient")
	cell := func(from, to string) string {
		t.Helper()
		return eval[string](p, fmt.Sprintf(`(() => {
			const names = [...document.querySelectorAll(".matrix thead th")].map(h => h.innerText.trim())
			const row = [...document.querySelectorAll(".matrix tbody tr")].find(r => r.querySelector("th").innerText.trim() === %q)
			return row.querySelectorAll("td")[names.indexOf(%q)].innerText.trim()
		})()`, from, to))
	}
	for _, want := range []struct{ from, to, count string }{{"Atlas", "Nova", "3"}, {"Nova", "Atlas", "1"}, {"Vega", "Atlas", "1"}, {"Nova", "Vega", "·"}} {
		if got := cell(want.from, want.to); !strings.HasPrefix(got, want.count) {
			t.Errorf("%s to %s: got %q, want %s", want.from, want.to, got, want.count)
		}
	}
	p.find("tab", "Table").click()
	p.press(kb.ArrowRight)
	p.wait(`location.search === "?as=graph"`)
	if arrows := eval[int](p, `document.querySelectorAll(".graph .edge-line").length`); arrows != 3 {
		t.Errorf("got %d arrows, want 3", arrows)
	}
	p.accessible("talk as a graph")
	p.find("combobox", "Period").write("")
	eval[bool](p, `(s => { s.value = "1h"; s.dispatchEvent(new Event("change", {bubbles: true})); return true })(document.querySelector("select"))`)
	p.wait(`location.search === "?since=1h&as=graph"`)
	main.shows("5 messages")
}

// TestSearch asks for words, with filters that stand in the address.
func TestSearch(t *testing.T) {
	o := newOffice(t)
	h := o.start()
	p := newBrowser(t).watch(t, h, desk, "/")
	p.find("searchbox", "Search all conversations").write("clock" + kb.Enter)
	p.wait(`location.pathname + location.search === "/search?q=clock"`)
	main := p.find("main", "")
	hit := main.find("link", "clock")
	hit.shows("Nova in TestExpire fails one time in thirty")
	if marked := eval[string](p, `document.querySelector("a.hit mark").innerText`); marked != "clock" {
		t.Errorf("got %q marked, want clock", marked)
	}
	hits := func(n int) {
		t.Helper()
		p.wait(fmt.Sprintf(`document.querySelectorAll("a.hit").length === %d && !document.body.innerText.includes("Searching…")`, n))
	}
	hits(1)
	p.find("searchbox", "Words").write("expire")
	p.find("combobox", "From").write("Nova" + kb.Escape)
	p.find("button", "Search").click()
	p.wait(`location.search === "?q=expire&from=Nova"`)
	p.wait(`[...document.querySelectorAll("a.hit .name")].every(n => n.innerText === "Nova")`)
	eval[bool](p, "history.back() ?? true")
	p.wait(`location.search === "?q=clock"`)
	hits(1)
	if got := eval[string](p, `document.querySelector(".ask [name=q]").value`); got != "clock" {
		t.Errorf("got %q in the field after going back, want clock", got)
	}
	eval[bool](p, "history.forward() ?? true")
	p.wait(`location.search === "?q=expire&from=Nova" && document.querySelector(".ask [name=from]").value === "Nova"`)

	p.open("/search?q=trace.log")
	main = p.find("main", "")
	main.find("link", "trace.log").click()
	p.wait(`location.pathname + location.hash === "/c/` + ref(o.race) + `#7"`)
	p.line(7).shows("trace.log")

	p.open("/search?q=" + "nothinglikeit")
	p.shows("Nothing was found") // main is made anew when the page has been signed in
	p.allow("status of 400")
	p.open(`/search?q="open`)
	p.settled()
	p.accessible("search")
	h.Post("Atlas", message("Nova", "freshly said"))
	p.until("what was just said is found", func() bool {
		p.open("/search?q=freshly")
		p.settled()
		return p.count("link", "freshly said") > 0
	})
	p.press("j")
	p.wait(`document.activeElement.matches("a.hit")`)
}

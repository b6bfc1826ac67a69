package web_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
)

// markup is what does something where it is not text. Each is shown with these words.
var markup = []struct{ text, shows string }{
	{`<script>alert("script")</script>`, `<script>alert("script")</script>`},
	{"before\n\n<script>\nalert('block')\n</script>\n\nafter", `alert('block')`},
	{`<img src=x onerror=alert("img")>`, `<img src=x onerror=alert("img")>`},
	{`<svg onload=alert("svg")><circle r=9 /></svg>`, `<svg onload=alert("svg")>`},
	{`<iframe src="http://tracker.invalid/frame"></iframe>`, `<iframe src="http://tracker.invalid/frame">`},
	{`<link rel=stylesheet href="http://tracker.invalid/a.css"><style>body{display:none}</style>`, `<style>body{display:none}</style>`},
	{`<meta http-equiv=refresh content="0;url=http://tracker.invalid/"><base href="http://tracker.invalid/">`, `<base href="http://tracker.invalid/">`},
	{`<form action="http://tracker.invalid/"><input name=password autofocus onfocus=alert("focus")></form>`, `onfocus=alert("focus")`},
	{`<details open ontoggle=alert("toggle")><summary>more</summary></details>`, `ontoggle=alert("toggle")`},
	{`<a href="https://example.com" onclick=alert("click") style="position:fixed;inset:0">all</a>`, `onclick=alert("click")`},
	{`<div id=page>a</div><form name=location>b</form>`, `<form name=location>`},
	{`[a link](javascript:alert("link"))`, `javascript:alert("link")`},
	{`[a link](jAvAsCrIpT&colon;alert("entity"))`, `a link`},
	{`<javascript:alert("auto")>`, `javascript:alert("auto")`},
	{`[a page](data:text/html,<script>alert("data")</script>)`, `a page`},
	{`[a vb](vbscript:msgbox("vb"))`, `a vb`},
	{`![pixel](http://tracker.invalid/pixel.png)`, `pixel`},
	{`![" onerror="alert(1)](http://tracker.invalid/"onerror="alert(1))`, `onerror=`},
	{"```\"><script>alert('fence')</script>\ncode\n```", "code"},
	{"| a | b |\n|---|---|\n| <img src=x onerror=alert('cell')> | <b>bold</b> |", `<img src=x onerror=alert('cell')>`},
	{"safe \u202Egnp.exe\u202C end", "U+202E"},
	{"zero\u200Bwidth and \u2066isolate\u2069", "U+200B"},
	{"\x1b]0;title\x07 bell", "bell"},
	{`<!-- --><![CDATA[ <x> ]]><?php x ?>`, `<?php x ?>`},
	{`<math><mtext><table><mglyph><style><img src=x onerror=alert("mutation")>`, `onerror=alert("mutation")`},
	{`<noscript><p title="</noscript><img src=x onerror=alert('noscript')>">`, `onerror=alert('noscript')`},
}

// foreign is what stands in the page and came of a text: elements, attributes or addresses
// that no text may bring in.
const foreign = `(() => {
	const elements = new Set("p br hr em strong del blockquote ul ol li pre code h1 h2 h3 h4 h5 h6 table thead tbody tr th td a span div input".split(" "))
	const attributes = new Set("href rel target class title align start type checked disabled".split(" "))
	return [...document.querySelectorAll("article .body, article .body *")].flatMap(e => [
		...(elements.has(e.localName) && (e.localName !== "input" || e.type === "checkbox") ? [] : ["element " + e.outerHTML.slice(0, 200)]),
		...[...e.attributes].filter(a => !attributes.has(a.name)).map(a => "attribute " + a.name + " of " + e.outerHTML.slice(0, 200)),
		...(e.href && !["http:", "https:", "mailto:"].includes(e.protocol) ? ["address " + e.href] : []),
		...(e.href && !(e.rel.includes("noopener") && e.rel.includes("noreferrer")) ? ["link that tells where it was: " + e.outerHTML.slice(0, 200)] : []),
	])
})()`

// TestHostileMessages shows what tries to be more than text.
func TestHostileMessages(t *testing.T) {
	b := newBrowser(t)
	h := newHost(t, "Atlas", "Mallory")
	k := begin(t, h, envelope.Envelope{Topic: `<img src=x onerror=alert("topic")>` + "\u202Ecipot"}, "Mallory", "Atlas")
	var seqs []int64
	for _, m := range markup {
		seqs = append(seqs, k.say("Mallory", m.text))
	}
	p := b.watch(t, h, desk, "/c/"+k.c.Ref)
	for i, m := range markup {
		p.line(seqs[i]).shows(m.shows)
	}
	if got := eval[[]string](p, foreign); len(got) > 0 {
		t.Errorf("of texts came:\n%s", strings.Join(got, "\n"))
	}
	p.find("heading", `<img src=x onerror=alert("topic")>\u{202E}cipot`)
	if title := eval[string](p, "document.title"); strings.Contains(title, "\u202E") {
		t.Errorf("got title %q, want nothing in it that turns it round", title)
	}
	p.accessible("hostile messages")
	for _, path := range []string{"/", "/c/" + k.c.Ref + "/sequence", "/c/" + k.c.Ref + "/sequence?as=table", "/a/Mallory", "/search?q=alert", "/search?q=<script>alert(1)</script>"} {
		p.open(path)
		p.live()
		p.settled()
	}
}

// TestHostileWords has markup in all the places where an agent can say a word.
func TestHostileWords(t *testing.T) {
	b := newBrowser(t)
	h := newHost(t, "Atlas")
	const evil = `"><img src=x onerror=alert(1)><script>alert(2)</script>`
	words := evil + " \u202Edne"
	can := []string{`<b/onclick=alert(3)>`}
	platform := evil
	if _, err := h.As("").Register(context.Background(), api.Register{Name: "Mallory", Description: &words, Capabilities: &can, Platform: &platform}); err != nil {
		t.Fatal(err)
	}
	listen(t, h, "Atlas", api.Seen)
	if _, err := h.As("Mallory").SetPresence(context.Background(), "busy", words); err != nil {
		t.Fatal(err)
	}
	called, err := h.As("Mallory").Call(context.Background(), &envelope.Envelope{Type: envelope.Call, To: []string{"Atlas"}, Topic: words, Content: evil})
	if err != nil {
		t.Fatal(err)
	}
	k := begin(t, h, envelope.Envelope{Topic: words}, "Mallory", "Atlas")
	k.post("Mallory", envelope.Envelope{Content: "data", Data: []byte(`{"x":"<img src=x onerror=alert(4)>"}`)})
	k.post("Mallory", envelope.Envelope{Type: envelope.Leave, Reason: words})
	k.post("Atlas", envelope.Envelope{Type: envelope.Close, Reason: evil})

	p := b.watch(t, h, desk, "/")
	p.agent("Mallory").shows(`<b/onclick=alert(3)>`)
	p.now().shows(evil)
	for _, path := range []string{"/", "/a/Mallory", "/r/" + called.Request.Ref, "/c/" + k.c.Ref, "/c/" + k.c.Ref + "/sequence", "/talk"} {
		p.open(path)
		p.live()
		p.settled()
		if raw := eval[bool](p, `document.body.innerText.includes("\u202E") || document.title.includes("\u202E")`); raw {
			t.Errorf("%s: a text turns what is behind it round", path)
		}
		if injected := eval[int](p, `document.querySelectorAll("img, #page script, [onclick], [onerror]").length`); injected > 0 {
			t.Errorf("%s: got %d elements that came of words, want none", path, injected)
		}
	}
}

// TestForeignLines shows lines that no daemon has written: what somebody has appended to a
// log, or another host has put into it.
func TestForeignLines(t *testing.T) {
	b := newBrowser(t)
	h := newHost(t, "Atlas", "Nova")
	k := begin(t, h, envelope.Envelope{Topic: "Foreign"}, "Atlas", "Nova")
	at := k.say("Atlas", "the last one that is sound")
	lines := []struct{ fields, shows string }{
		{`"x":1`, "cannot be read"},
		{`"type":"message","content":"of nobody"`, "cannot be read"},
		{`"from":"Nova@nyc","type":"message","content":"at no time"`, "at no time"},
		{`"from":"Nova@nyc","type":"message","content":"too late","timestamp":9007199254740991`, "too late"},
		{`"from":"Nova@nyc","type":"message","content":"at the end","timestamp":8639999999999999,"replyTo":"x"`, "at the end"},
		{`"from":"Nova@nyc","type":"system","event":"__proto__","timestamp":9007199254740991`, "__proto__"},
		{`"from":"Nova@nyc","type":"system","event":"toString","reason":"a method","timestamp":9007199254740991`, "a method"},
		{`"from":"Nova@nyc","type":"system","event":"standing","status":"constructor","participants":["Atlas@nyc"],"until":9007199254740991,"timestamp":9007199254740991`, "changed what"},
		{`"from":"Nova@nyc","type":"message","content":"files","timestamp":9007199254740991,"attachments":[{"name":""},{"name":"a/../b","sha256":"../status","mediaType":"<b>"}]`, "files"},
		{`"from":"Nova@nyc","type":"system","event":"close","timestamp":9007199254740991`, "closed"},
	}
	log, err := os.OpenFile(h.Home().LogPath(k.c.ID), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for i, line := range lines {
		_, err = fmt.Fprintf(log, `{"seq":%d,"id":"%s","conversation":"%s",%s}`+"\n", at+int64(i)+1, envelope.NewID(), k.c.ID, line.fields)
		if err != nil {
			t.Fatal(err)
		}
	}
	p := b.watch(t, h, desk, "/c/"+k.c.Ref)
	for i, line := range lines {
		p.line(at + int64(i) + 1).shows(line.shows)
	}
	for _, path := range []string{"/", "/c/" + k.c.Ref + "/sequence", "/c/" + k.c.Ref + "/sequence?as=table", "/search?q=late", "/talk"} {
		p.open(path)
		p.live()
		p.settled()
	}
}

// TestHugeMessage shows a message as long as one can be, of markup in markup.
func TestHugeMessage(t *testing.T) {
	if testing.Short() {
		t.Skip("megabytes are shown in the long tests")
	}
	b := newBrowser(t)
	h := newHost(t, "Atlas", "Mallory")
	k := begin(t, h, envelope.Envelope{Topic: "Much"}, "Mallory", "Atlas")
	const whole = envelope.MaxContent
	seqs := []int64{
		k.say("Mallory", strings.Repeat("> ", whole/2-8)+"quoted"),
		k.say("Mallory", strings.Repeat("*a **b ", whole/7-8)+"emphasised"),
		k.say("Mallory", strings.Repeat("[", whole-16)+"linked"),
		k.say("Mallory", strings.Repeat("- a\n  ", whole/6-8)+"listed"),
		k.say("Mallory", strings.Repeat("<b>", whole/3-8)+"raw"),
	}
	p := b.watch(t, h, desk, "/")
	for _, seq := range seqs {
		began := time.Now()
		p.open(fmt.Sprintf("/c/%s#%d", k.c.Ref, seq))
		p.wait(fmt.Sprintf(`document.querySelector("article[data-seq='%d']")`, seq))
		eval[bool](p, `(document.querySelector(".places-bar button").click(), true)`) // it still answers
		p.wait(`document.querySelector("article[data-seq='1']")?.innerText.includes("Mallory began")`)
		t.Logf("message %d: shown after %s", seq, time.Since(began).Round(time.Millisecond))
	}
	if got := slices.Compact(eval[[]string](p, foreign)); len(got) > 0 {
		t.Errorf("of texts came:\n%.2000s", strings.Join(got, "\n"))
	}
}

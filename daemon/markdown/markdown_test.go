package markdown_test

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/markdown"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

func TestRender(t *testing.T) {
	const link = ` rel="nofollow noreferrer noopener" target="_blank">`
	r := markdown.New()
	for name, test := range map[string]struct{ text, want string }{
		"words":              {"a *b* **c** ~~d~~ `e`\nf", "<p>a <em>b</em> <strong>c</strong> <del>d</del> <code>e</code><br>\nf</p>"},
		"lists":              {"7. a\n8. b\n\n- [ ] c\n- [x] d", "<ol start=\"7\">\n<li>a</li>\n<li>b</li>\n</ol>\n<ul>\n<li>☐ c</li>\n<li>☑ d</li>\n</ul>"},
		"table":              {"|a|b|\n|-|-:|\n|1|2|", "<table>\n<thead>\n<tr>\n<th>a</th>\n<th align=\"right\">b</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>1</td>\n<td align=\"right\">2</td>\n</tr>\n</tbody>\n</table>"},
		"table, a cell more": {"|a|b|\n|-|-|\n|1|2|3|", "<p>|a|b|<br>\n|-|-|<br>\n|1|2|3|</p>"},
		"code":               {"```go\nx := \"<b>\"\n```", "<pre><code class=\"language-go\">x := &#34;&lt;b&gt;&#34;\n</code></pre>"},
		"code, more said":    {"```js onload=x\ny\n```", "<p class=\"code-info\">js onload=x</p>\n<pre><code class=\"language-js\">y\n</code></pre>"},
		"code, odd language": {"```\"><script>\ny\n```", "<p class=\"code-info\">&#34;&gt;&lt;script&gt;</p>\n<pre><code>y\n</code></pre>"},
		"HTML in a line":     {"a <b onclick=x>*c*</b>", "<p>a &lt;b onclick=x&gt;<em>c</em>&lt;/b&gt;</p>"},
		"HTML in lines":      {"<thinking>\n*a*\n</thinking>\n\nb", "<p class=\"raw-html\">&lt;thinking&gt;\n*a*\n&lt;/thinking&gt;\n</p>\n<p>b</p>"},
		"HTML to its end":    {"<pre>\n\na</pre>b", "<p class=\"raw-html\">&lt;pre&gt;\n\na&lt;/pre&gt;b\n</p>"},
		"a comment":          {"a <!-- b --> c", "<p>a &lt;!-- b --&gt; c</p>"},
		"a definition":       {"[a]: http://x.y 'b'", `<p>[a]: <a href="http://x.y"` + link + "http://x.y</a> &#39;b&#39;</p>"},
		"a link":             {`[a](https://x.y/?b=1&c "d")`, `<p><a href="https://x.y/?b=1&amp;c"` + link + "a</a> (d)</p>"},
		"mail":               {"<a@b.c> [d](mailto:e@f.g)", `<p><a href="mailto:a@b.c" rel="nofollow noreferrer">a@b.c</a> <a href="mailto:e@f.g" rel="nofollow noreferrer">d</a></p>`},
		"a bare link":        {"www.x.yz", `<p><a href="http://www.x.yz"` + link + "www.x.yz</a></p>"},
		"a script":           {"[a](javascript:b) <vbscript:c>", "<p>a (javascript:b) vbscript:c</p>"},
		"an entity":          {"[a](jav&#x61;script:b)", "<p>a (jav&amp;#x61;script:b)</p>"},
		"a relative link":    {"[a](/b) [c](//d.e) [f](#g)", "<p>a (/b) c (//d.e) f (#g)</p>"},
		"a user name":        {"[a](https://good.example@evil.example/)", "<p>a (https://good.example@evil.example/)</p>"},
		"an image":           {`![a *b*](https://x.y/z.png "c")`, `<p><a href="https://x.y/z.png"` + link + "a b</a> (c)</p>"},
		"an image, nameless": {"![](https://x.y/z.png)", `<p><a href="https://x.y/z.png"` + link + "https://x.y/z.png</a></p>"},
		"an image of data":   {"![a](data:image/png;base64,AA)", "<p>a (data:image/png;base64,AA)</p>"},
		"an image in a link": {"[![a](http://x.y/z)](http://b.c)", `<p><a href="http://b.c"` + link + "a (http://x.y/z)</a></p>"},
		"hidden":             {"a\u202eb\u200b", `<p>a<span class="hidden-character">U+202E</span>b<span class="hidden-character">U+200B</span></p>`},
		"hidden in code":     {"`a\u2066`", `<p><code>a<span class="hidden-character">U+2066</span></code></p>`},
		"hidden in a link":   {"[a\u202e](http://x.y)", `<p><a href="http://x.y"` + link + `a<span class="hidden-character">U+202E</span></a></p>`},
		"hidden as entity":   {"a&#x202e;", `<p>a<span class="hidden-character">U+202E</span></p>`},
		"escape":             {"a\x1b[31m", `<p>a<span class="hidden-character">U+001B</span>[31m</p>`},
		"no UTF-8":           {"a\xff", "<p>a\uFFFD</p>"},
		"emoji":              {"❤️ é 日本", "<p>❤️ é 日本</p>"},
		"nothing":            {"", ""},
	} {
		if got := strings.TrimSpace(r.Render(test.text)); got != test.want {
			t.Errorf("%s: %q:\n got %q\nwant %q", name, test.text, got, test.want)
		}
	}
}

// TestLong: what is too long for Markdown is there as it stands.
func TestLong(t *testing.T) {
	text := "*a* <b>\u202e" + strings.Repeat("x", 64<<10)
	if got := markdown.New().Render(text); !strings.HasPrefix(got, `<pre>*a* &lt;b&gt;\u{202E}xxx`) {
		t.Errorf("got %.60q, want it as it stands", got)
	}
}

// TestCostly: texts that are nothing but one mark, which the library reads in a time that
// grows with the square of their length where nothing bounds it: a thousand times that of
// words for some.
func TestCostly(t *testing.T) {
	r := markdown.New()
	took := func(unit string) time.Duration {
		text := strings.Repeat(unit, (62<<10)/len(unit))
		best := time.Hour
		for range 3 {
			begun := time.Now()
			r.Render(text)
			best = min(best, time.Since(begun))
		}
		return best
	}
	words := took("x y z. ")
	for _, unit := range []string{
		">", "> ", "> > ", "> - ", "+ ", "+ > ", "* + ", "1. ", "1. > ", ">\t", "[a](", "![a](", "[a](<", "![a](<", "*a_ ", "a*_b ", "*a **b ", "~~a ", "_a ",
		"[", "![", "[a][", "[a]: b\n", "|a", "|a\n|-\n", "<", "<!--", "<a b=\"", "&#x", "\u200b", "www.a.b(", "- a\n\n  - ", "`a ", "a\n=\n",
	} {
		if d := took(unit); d > 200*words {
			t.Errorf("%q: took %s, words take %s", unit, d, words)
		}
	}
	wide := strings.Repeat("|a", 3000) + "\n" + strings.Repeat("|-", 3000) + "\n" + strings.Repeat("|\n", 100_000)
	if got := r.Render(wide); len(got) > 4<<20 {
		t.Errorf("a wide table: got %d bytes of %d, want no cells filled in", len(got), len(wide))
	}
}

// allowed are the elements that may come out, with their attributes.
var allowed = map[atom.Atom]map[string]*regexp.Regexp{
	atom.A: {
		"href": regexp.MustCompile(`^(?i:https?://[^/@]+(/|\?|#|$)|mailto:)`), "rel": regexp.MustCompile(`^nofollow noreferrer( noopener)?$`), "target": regexp.MustCompile(`^_blank$`),
	},
	atom.Code: {"class": regexp.MustCompile(`^language-[\w+-]{1,30}$`)},
	atom.P:    {"class": regexp.MustCompile(`^(raw-html|code-info)$`)},
	atom.Span: {"class": regexp.MustCompile(`^hidden-character$`)},
	atom.Ol:   {"start": regexp.MustCompile(`^\d+$`)},
	atom.Th:   {"align": regexp.MustCompile(`^(left|right|center)$`)},
	atom.Td:   {"align": regexp.MustCompile(`^(left|right|center)$`)},
	atom.Br:   nil, atom.Hr: nil, atom.Em: nil, atom.Strong: nil, atom.Del: nil, atom.Blockquote: nil, atom.Ul: nil, atom.Li: nil, atom.Pre: nil,
	atom.H1: nil, atom.H2: nil, atom.H3: nil, atom.H4: nil, atom.H5: nil, atom.H6: nil,
	atom.Table: nil, atom.Thead: nil, atom.Tbody: nil, atom.Tr: nil,
}

// FuzzRender: what comes out is made of what is allowed, hides nothing, and has every
// letter of the source.
func FuzzRender(f *testing.F) {
	for _, seed := range []string{
		"a *b* <b onclick=x>c</b>", "<script>alert(1)</script>", "![a](javascript:x \"t\")", "[a](http://b.c)", "```js x\ny\n```", "|a|b|\n|-|-|\n|1|2|3|",
		"<!-- a\n\nb -->", "[a]: b 'c'\n[d][a]", "<svg/onload=x>", "a\u202eb\x00", "> - 1. a\n\n<pre>\n\nx</pre>y", "<a@b.c> www.d.e", "[x](<b \"c> 'd')", "# a {#b .c}", "~~~ a b\nc", "[^1]: a", "Term\n: b",
		"<DIV\nx>y", "[![a](b)](c)", "\\<b>\\[x](y)", "- [x] a", "a|b\n-|-\n`c\\|d`|e", "https://a@b.c/", "<?a b?> <![CDATA[c]]> <!D e>",
	} {
		f.Add(seed)
	}
	r := markdown.New()
	f.Fuzz(func(t *testing.T, text string) {
		out := r.Render(text)
		nodes, err := html.ParseFragment(strings.NewReader(out), &html.Node{Type: html.ElementNode, Data: "div", DataAtom: atom.Div})
		if err != nil {
			t.Fatal(err)
		}
		var shown strings.Builder
		for _, n := range nodes {
			check(t, n, &shown)
		}
		if !strings.Contains(text, "&") { // whose letters are the names of characters
			wantLetters(t, strings.ToValidUTF8(text, "\uFFFD"), shown.String(), out)
		}
	})
}

// check looks at a node and at what is in it, and collects what can be read of it.
func check(t *testing.T, n *html.Node, shown *strings.Builder) {
	switch n.Type {
	case html.TextNode:
		before := rune(0)
		for _, r := range n.Data {
			if r != '\n' && r != '\t' && frame.Hides(before, r) {
				t.Errorf("got %U in the text %q, want it marked", r, n.Data)
			}
			before = r
		}
		shown.WriteString(strings.ReplaceAll(n.Data, "☑", "x"))
	case html.ElementNode:
		attributes, ok := allowed[n.DataAtom]
		if !ok {
			t.Errorf("got an element %q", n.Data)
		}
		for _, a := range n.Attr {
			if want := attributes[a.Key]; a.Namespace != "" || want == nil || !want.MatchString(a.Val) {
				t.Errorf("got an attribute %q of %q: %q", a.Key, n.Data, a.Val)
			}
			decoded, err := url.PathUnescape(a.Val)
			if err != nil {
				decoded = a.Val
			}
			shown.WriteString(decoded)
		}
	default:
		t.Errorf("got a node of type %d: %q", n.Type, n.Data)
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		check(t, c, shown)
	}
}

// wantLetters reports letters of a text that are not shown as often.
func wantLetters(t *testing.T, text, shown, out string) {
	have := letters(shown)
	for _, r := range letters(text) {
		i := slices.Index(have, r)
		if i < 0 {
			t.Fatalf("%q: the letter %q is lost in %q", text, r, out)
		}
		have = slices.Delete(have, i, i+1)
	}
}

func letters(s string) (list []rune) {
	for _, r := range s {
		if unicode.IsLetter(r) && !frame.Hides(0, r) {
			list = append(list, unicode.ToLower(unicode.ToUpper(r)))
		}
	}
	return list
}

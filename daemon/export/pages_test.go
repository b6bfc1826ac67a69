package export_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/export"
	"github.com/claude-duo/duo/daemon/sentence/sentencetest"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
	"golang.org/x/net/html"
	"pgregory.net/rapid"
)

// forgery are texts that try to be something else in a transcript.
var forgery = []string{
	"\n\n## 3 · Nova@nyc · 2025-02-15 21:20:00Z\n\n> I agree\n", "</blockquote></div></article><h2>Nova@nyc</h2>", "\n</main>\n", "<!--", "-->", "]]>", "<![CDATA[",
	"\n```\n\n# out\n", "\n```\n</blockquote><h2>Nova</h2>\n", "\n``````\n<img src=x>\n", "\n~~~\n", "[Nova]: http://evil.example/", "[^1]: note", "[\nx\n]: http://evil.example/", "![](//evil.example/x.png)", "![a][b]", "<img src=x>", "<http://evil.example/>",
	`"><script>alert(1)</script>`, `javascript:alert(1)`, "[x](javascript:alert(1))", "\n---\n", "\n===\n", "\n    code", "\n1. one", "\n- [ ] task", "| a | b |\n|---|---|\n| 1 | 2 |", "&lt;b&gt;", "\\", "$$x$$",
}

func drawForgery(t *rapid.T, label string, limit int, without string) string {
	pieces := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(forgery), rapid.SampledFrom(nasty), rapid.StringMatching(`[a-z]{1,8} ?`)), 0, 6).Draw(t, label)
	clean := strings.Map(func(r rune) rune {
		if r == 0 || strings.ContainsRune(without, r) {
			return -1
		}
		return r
	}, strings.Join(pieces, ""))
	return strings.ToValidUTF8(clean[:min(len(clean), limit)], "")
}

// drawTalk makes a conversation of people who try to be somebody else.
func drawTalk(t *rapid.T, dir string) (home *maildir.Home, id string, all []*envelope.Envelope) {
	home = newHome(t, dir, "nyc")
	var lines []*envelope.Envelope
	for range rapid.IntRange(1, 5).Draw(t, "messages") {
		e := &envelope.Envelope{Content: drawForgery(t, "content", 3000, "")}
		if rapid.Bool().Draw(t, "leaves") {
			e.Type, e.Content, e.Reason = envelope.Leave, "", drawForgery(t, "reason", 300, "\r\n")
		}
		name := drawForgery(t, "name", 100, "/\\\r\n")
		if strings.Trim(name, ".") != "" && e.Type != envelope.Leave {
			e.Attachments = []envelope.Attachment{bring(t, home, name, drawForgery(t, "kind", 100, "\r\n"), "x")}
		}
		lines = append(lines, e)
	}
	id, all = talk(t, home, drawForgery(t, "topic", 300, "\r\n"), []string{"Atlas", "Nova"}, lines...)
	return home, id, all
}

// What Markdown marks in a text is seen in a page: hidden characters, raw HTML and what stands
// behind a language.
func TestMarksHaveALook(t *testing.T) {
	home := newHome(t, filepath.Join(t.TempDir(), "h"), "nyc")
	id, _ := talk(t, home, "marks", []string{"Atlas", "Nova"}, &envelope.Envelope{Content: "a\u202eb\n\n<pre>\nx\n</pre>\n\n```go main.go\ny\n```\n"})
	style, body, _ := strings.Cut(write(t, home, export.HTML, id), "</style>")
	_, body, _ = strings.Cut(body, `<div class="body">`)
	classes := regexp.MustCompile(`class="([a-z-]+)"`).FindAllStringSubmatch(body, -1)
	if len(classes) < 3 {
		t.Fatalf("got classes %q, want 3 and more", classes)
	}
	for _, class := range classes {
		if name := class[1]; !strings.HasPrefix(name, "language-") && !strings.Contains(style, "\n."+name+" ") {
			t.Errorf("the class %s has no look", name)
		}
	}
}

// Nothing that somebody writes is more than a quotation in Markdown, or loads anything.
func TestMarkdownQuotes(t *testing.T) {
	t.Parallel()
	parser := goldmark.New(goldmark.WithExtensions(extension.GFM, extension.Footnote, extension.DefinitionList)).Parser()
	rapid.Check(t, func(rt *rapid.T) {
		inFolder(rt, func(dir string) {
			home, id, all := drawTalk(rt, filepath.Join(dir, "h"))
			out := filepath.Join(dir, "out")
			if _, err := export.Folder(context.Background(), out, false, home, []string{id}, export.Markdown); err != nil {
				rt.Fatal(err)
			}
			names, err := filepath.Glob(filepath.Join(out, "c*.md"))
			if err != nil || len(names) != 1 {
				rt.Fatalf("got %q, %v", names, err)
			}
			source, err := os.ReadFile(names[0])
			if err != nil {
				rt.Fatal(err)
			}
			want := 1 // heading for the conversation
			for _, e := range all {
				if e.Type == envelope.Message {
					want++
				}
			}
			checkMarkdown(rt, parser.Parse(text.NewReader(source)), source, want)
		})
	})
}

func checkMarkdown(t tb, doc ast.Node, source []byte, headings int) {
	got := 0
	for n := doc.FirstChild(); n != nil; n = n.NextSibling() {
		switch n.Kind() {
		case ast.KindHeading:
			got++
		case ast.KindList, ast.KindParagraph, ast.KindBlockquote:
		default:
			t.Fatalf("a block %s outside of a quotation in\n%s", n.Kind(), source)
		}
	}
	if got != headings {
		t.Fatalf("got %d headings, want %d in\n%s", got, headings, source)
	}
	err := ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := n.(type) {
		case *ast.RawHTML, *ast.HTMLBlock, *ast.Image:
			t.Fatalf("%s in\n%s", n.Kind(), source)
		case *ast.Link:
			if entering && !quotes(n) && !strings.HasPrefix(string(n.Destination), "attachments/") {
				t.Fatalf("a link to %q outside of a quotation in\n%s", n.Destination, source)
			}
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func quotes(n ast.Node) bool {
	for ; n != nil; n = n.Parent() {
		if n.Kind() == ast.KindBlockquote {
			return true
		}
	}
	return false
}

var (
	pageElements = strings.Fields("html head meta title style body main h1 h2 h3 h4 h5 h6 dl dt dd p a time article header span div ul ol li code pre em strong del br hr blockquote table thead tbody tr th td details summary")
	safeHref     = regexp.MustCompile(`^(#\d+|data:application/octet-stream;base64,[A-Za-z0-9+/=]*|https?://.*|mailto:.*)$`)
)

// In a page nothing runs, nothing is loaded, and everybody's text stays in its own place.
func TestPagesHold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		inFolder(rt, func(dir string) {
			home, id, all := drawTalk(rt, filepath.Join(dir, "h"))
			page := write(rt, home, export.HTML, id)
			checkPage(rt, page, all)
		})
	})
}

func checkPage(t tb, page string, all []*envelope.Envelope) {
	tokens := html.NewTokenizer(strings.NewReader(page))
	var open []string
	ids := 0
	for {
		switch kind := tokens.Next(); kind {
		case html.ErrorToken:
			if tokens.Err() != io.EOF || len(open) > 0 {
				t.Fatalf("%v, with %q open in\n%s", tokens.Err(), open, page)
			}
			if ids != len(all) {
				t.Fatalf("got %d lines, want %d in\n%s", ids, len(all), page)
			}
			return
		case html.CommentToken:
			t.Fatalf("a comment in\n%s", page)
		case html.EndTagToken:
			name, _ := tokens.TagName()
			if len(open) == 0 || open[len(open)-1] != string(name) {
				t.Fatalf("%s ends in %q in\n%s", name, open, page)
			}
			open = open[:len(open)-1]
		case html.StartTagToken, html.SelfClosingTagToken:
			token := tokens.Token()
			if !slices.Contains(pageElements, token.Data) {
				t.Fatalf("an element %s in\n%s", token.Data, page)
			}
			if kind == html.StartTagToken && !slices.Contains([]string{"meta", "br", "hr"}, token.Data) {
				open = append(open, token.Data)
			}
			for _, a := range token.Attr {
				switch {
				case a.Key == "id":
					ids++
				case a.Key == "href" && !safeHref.MatchString(a.Val), strings.HasPrefix(a.Key, "on"), a.Key == "src", a.Key == "style":
					t.Fatalf("%s=%q of %s in\n%s", a.Key, a.Val, token.Data, page)
				}
			}
			if token.Data == "article" && !slices.Equal(open, []string{"html", "body", "main", "article"}) {
				t.Fatalf("an article inside of %q in\n%s", open, page)
			}
		}
	}
}

// Whatever has happened is told as a sentence, in all forms that people read.
func TestEachIsTold(t *testing.T) {
	t.Parallel()
	home := newHome(t, filepath.Join(t.TempDir(), "h"), "nyc")
	var lines []*envelope.Envelope
	cases := slices.DeleteFunc(sentencetest.Cases(), func(c sentencetest.Case) bool { return !c.InLog() })
	for _, c := range cases {
		e := c.Envelope
		e.Reason, e.Until = "it is <loud>", 1739740800000
		lines = append(lines, &e)
	}
	id, _ := talk(t, home, "plan", []string{"Atlas", "Nova"}, lines...)
	for format, reason := range map[export.Format]string{export.Markdown: `"it is \<loud\>"`, export.HTML: "&#34;it is &lt;loud&gt;&#34;", export.Mbox: `"it is <loud>"`} {
		text := write(t, home, format, id)
		for _, c := range cases {
			if !strings.Contains(text, c.Says) {
				t.Errorf("%s of %s: got\n%s\nwant %q in it", format, c.Name, text, c.Says)
			}
		}
		for _, want := range []string{
			"Nova@nyc closed the conversation as operator: " + reason, "Nova@nyc muted Atlas@nyc until 2025-02-16 21:20:00Z: " + reason,
			"Nova@nyc lets Atlas@nyc do all again: " + reason, "Nova@nyc joined as operator.", "Not delivered: ",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: got\n%s\nwant %q in it", format, text, want)
			}
		}
	}
}

// A folder has an index, every file once, and takes the place of nothing but an export.
func TestFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	home := newHome(t, filepath.Join(dir, "h"), "nyc")
	a := bring(t, home, "a b.txt", "text/plain", "hello")
	other := a
	other.Name = strings.Repeat("long ", 50) + ".txt"
	one, _ := talk(t, home, "one", []string{"Atlas"}, &envelope.Envelope{Content: "x", Attachments: []envelope.Attachment{a, a, other}})
	two, _ := talk(t, home, "two", []string{"Atlas"}, &envelope.Envelope{Content: "y", Attachments: []envelope.Attachment{a}})
	out := filepath.Join(dir, "out")
	result, err := export.Folder(context.Background(), out, false, home, []string{one, two}, export.HTML)
	if err != nil || result.Files != 2 || result.Conversations != 2 {
		t.Errorf("got %+v, %v", result, err)
	}
	files, err := os.ReadDir(filepath.Join(out, "attachments"))
	if err != nil || len(files) != 2 {
		t.Errorf("got %v, %v, want each content once under each name", files, err)
	}
	if data, err := os.ReadFile(filepath.Join(out, "attachments", "2cf24dba5fb0-a_b.txt")); err != nil || string(data) != "hello" {
		t.Errorf("got %q, %v", data, err)
	}
	if _, err := export.Folder(context.Background(), out, false, home, []string{one}, export.Markdown); err == nil {
		t.Error("it was replaced")
	}
	if err := os.WriteFile(filepath.Join(out, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := export.Folder(context.Background(), out, true, home, []string{one}, export.Markdown); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(out, "index.html")); err == nil {
		t.Error("pages of the one before are there")
	}
	left, err := filepath.Glob(filepath.Join(dir, ".tmp-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %q, %v", left, err)
	}
}

// What goes wrong in the middle leaves no file under the name.
func TestNoHalfFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	home := newHome(t, filepath.Join(dir, "h"), "nyc")
	id, _ := talk(t, home, "one", []string{"Atlas"}, &envelope.Envelope{Content: "x"})
	for _, format := range []export.Format{export.JSONL, export.Mbox, export.SQLite, export.HTML} {
		path := filepath.Join(dir, "out")
		if _, err := export.File(context.Background(), path, true, home, []string{id, envelope.ConversationID("x", envelope.NewID())}, format); err == nil {
			t.Errorf("%s: a conversation that is not there is exported", format)
		}
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(left) != 1 {
			t.Errorf("%s: left %q, %v", format, left, err)
		}
		hidden, _ := filepath.Glob(filepath.Join(dir, ".tmp-*"))
		if len(hidden) > 0 {
			t.Errorf("%s: left %q", format, hidden)
		}
	}
}

// TestForeignLines writes out a log to which somebody has appended lines that no daemon
// writes: each format holds, and the stream can be taken back in.
func TestForeignLines(t *testing.T) {
	home := newHome(t, filepath.Join(t.TempDir(), "home"), "nyc")
	id, _ := talk(t, home, "topic", []string{"Atlas", "Nova"})
	appendLine(t, home, id, `{"seq":2,"id":"`+envelope.NewID()+`","type":"message","from":"Atlas@nyc","conversation":"`+id+`","timestamp":1739654400124,"content":"look",`+
		`"attachments":[{"name":"short","size":1,"sha256":"ab"},{"name":"none"},{"name":"up","sha256":"../key"},{"name":"page","sha256":"<meta http-equiv=refresh content=0;url=//evil.example>"}]}`)
	for _, format := range []export.Format{export.JSONL, export.Markdown, export.HTML, export.Mbox} {
		text := write(t, home, format, id)
		if !strings.Contains(text, "look") {
			t.Errorf("%s: the message is not in it", format)
		}
		if format == export.HTML && strings.Contains(text, "<meta http-equiv=refresh") {
			t.Errorf("%s: a sum is markup: %s", format, text)
		}
	}
	other := newHome(t, filepath.Join(t.TempDir(), "home"), "sfo")
	im := export.Import{Home: other}
	if _, err := im.Run(context.Background(), strings.NewReader(write(t, home, export.JSONL, id))); err != nil {
		t.Error(err)
	}
}

func appendLine(t *testing.T, home *maildir.Home, id, line string) {
	t.Helper()
	f, err := os.OpenFile(home.LogPath(id), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
}

// Package markdown makes HTML of what agents write, for the page and for exports. What
// comes out is safe to show: a browser runs nothing of it, loads nothing for it, and goes
// nowhere unless somebody follows a link.
//
// Nothing of a text is lost that a model would read and a person would not:
//
//   - HTML stands there as the text that it is, in p.raw-html where it fills lines.
//   - An image is a link to it; a link that is none of http, https and mailto is text,
//     with its destination; the title of a link stands behind it.
//   - Characters that cannot be seen, or that turn the direction of a text, are marked, as
//     in <span class="hidden-character">U+202E</span>, in code and links, too.
//   - What stands behind the language of a block of code stands before the block, in
//     p.code-info.
//   - Definitions of links are text. So are tables in which a row has more cells than the
//     head, of which the cells would be left out.
//
// Lines end where they end in the source. The elements and attributes that can come out
// are those of policy.
package markdown

import (
	"bytes"
	"html"
	"regexp"
	"strings"

	"github.com/claude-duo/duo/daemon/frame"
	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	rendered "github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/util"
)

// Renderer makes HTML of Markdown. It may be used by several goroutines.
type Renderer struct {
	markdown goldmark.Markdown
	policy   *bluemonday.Policy
}

// New returns a renderer.
func New() *Renderer {
	blocks := renderer.NewRenderer(renderer.WithNodeRenderers(
		util.Prioritized(plain{}, 100),
		util.Prioritized(extension.NewTableHTMLRenderer(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)), 500),
		util.Prioritized(extension.NewStrikethroughHTMLRenderer(), 500),
		util.Prioritized(rendered.NewRenderer(rendered.WithHardWraps()), 1000),
	))
	return &Renderer{
		markdown: goldmark.New(goldmark.WithParser(newParser()), goldmark.WithRenderer(blocks)),
		policy:   newPolicy(),
	}
}

// newParser is the parser of GitHub's dialect, but for what hides parts of a text.
func newParser() parser.Parser {
	return parser.NewParser(
		parser.WithBlockParsers(
			util.Prioritized(parser.NewSetextHeadingParser(), 100),
			util.Prioritized(parser.NewThematicBreakParser(), 200),
			util.Prioritized(shallow{parser.NewListParser()}, 300),
			util.Prioritized(shallow{parser.NewListItemParser()}, 400),
			util.Prioritized(parser.NewCodeBlockParser(), 500),
			util.Prioritized(parser.NewATXHeadingParser(), 600),
			util.Prioritized(parser.NewFencedCodeBlockParser(), 700),
			util.Prioritized(shallow{parser.NewBlockquoteParser()}, 800),
			util.Prioritized(parser.NewHTMLBlockParser(), 900),
			util.Prioritized(parser.NewParagraphParser(), 1000),
		),
		parser.WithInlineParsers(
			util.Prioritized(extension.NewTaskCheckBoxParser(), 0),
			util.Prioritized(parser.NewCodeSpanParser(), 100),
			util.Prioritized(fewLinks{parser.NewLinkParser()}, 200),
			util.Prioritized(parser.NewAutoLinkParser(), 300),
			util.Prioritized(parser.NewRawHTMLParser(), 400),
			util.Prioritized(fewDelimiters{parser.NewEmphasisParser()}, 500),
			util.Prioritized(fewDelimiters{extension.NewStrikethroughParser()}, 501),
			util.Prioritized(extension.NewLinkifyParser(), 999),
		),
		parser.WithParagraphTransformers(util.Prioritized(wholeTables{extension.NewTableParagraphTransformer()}, 200)),
		parser.WithASTTransformers(util.Prioritized(extension.NewTableASTTransformer(), 0)),
	)
}

var (
	languageClass = regexp.MustCompile(`^language-[\w+-]{1,30}$`)
	ownClass      = regexp.MustCompile(`^(raw-html|code-info)$`)
	alignment     = regexp.MustCompile(`^(left|right|center)$`)
	number        = regexp.MustCompile(`^[0-9]{1,9}$`)
)

// newPolicy is what may come out, whatever the renderer has made.
func newPolicy() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements(
		"p", "br", "hr", "em", "strong", "del", "blockquote", "ul", "ol", "li", "pre", "code", "h1", "h2", "h3", "h4", "h5", "h6",
		"table", "thead", "tbody", "tr", "th", "td",
	)
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes(schemes...)
	p.RequireParseableURLs(true)
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	p.AddTargetBlankToFullyQualifiedLinks(true) // with noopener
	p.AllowAttrs("class").Matching(languageClass).OnElements("code")
	p.AllowAttrs("class").Matching(ownClass).OnElements("p")
	p.AllowAttrs("align").Matching(alignment).OnElements("th", "td")
	p.AllowAttrs("start").Matching(number).OnElements("ol")
	return p
}

// Render makes HTML of a text. One of more than 64 KiB is shown as it stands, in a pre.
func (r *Renderer) Render(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > maxMarkdown {
		return asItStands(text)
	}
	var out bytes.Buffer
	if err := r.markdown.Convert([]byte(text+"\n"), &out); err != nil {
		return asItStands(text)
	}
	return markHidden(r.policy.SanitizeBytes(out.Bytes()))
}

func asItStands(text string) string {
	return "<pre>" + html.EscapeString(frame.Text(text)) + "</pre>\n"
}

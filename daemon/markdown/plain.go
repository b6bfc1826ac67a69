package markdown

import (
	"bytes"
	"net/url"
	"slices"
	"strings"

	"github.com/yuin/goldmark/ast"
	extended "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// schemes are those of links that may be followed.
var schemes = []string{"http", "https", "mailto"}

// plain renders what the library would leave out or load.
type plain struct{}

// RegisterFuncs says what plain renders; the library calls it.
func (plain) RegisterFuncs(on renderer.NodeRendererFuncRegisterer) {
	on.Register(ast.KindHTMLBlock, entering(htmlBlock))
	on.Register(ast.KindRawHTML, entering(rawHTML))
	on.Register(ast.KindImage, entering(image))
	on.Register(ast.KindAutoLink, entering(autoLink))
	on.Register(ast.KindFencedCodeBlock, entering(fencedCode))
	on.Register(extended.KindTaskCheckBox, entering(checkBox))
	on.Register(ast.KindLink, link)
}

// entering makes a renderer of a function that writes a node as a whole.
func entering[T ast.Node](write func(w util.BufWriter, source []byte, n T)) renderer.NodeRendererFunc {
	return func(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			write(w, source, n.(T))
		}
		return ast.WalkSkipChildren, nil
	}
}

// escape writes a text as text. What cannot be written tells the writer's Flush.
func escape(w util.BufWriter, text []byte) { _, _ = w.Write(util.EscapeHTML(text)) }

func write(w util.BufWriter, markup string) { _, _ = w.WriteString(markup) }

func segments(w util.BufWriter, source []byte, list *text.Segments) {
	for _, s := range list.Sliced(0, list.Len()) {
		escape(w, s.Value(source))
	}
}

func htmlBlock(w util.BufWriter, source []byte, n *ast.HTMLBlock) {
	write(w, `<p class="raw-html">`)
	segments(w, source, n.Lines())
	if n.HasClosure() {
		escape(w, n.ClosureLine.Value(source))
	}
	write(w, "</p>\n")
}

func rawHTML(w util.BufWriter, source []byte, n *ast.RawHTML) { segments(w, source, n.Segments) }

func checkBox(w util.BufWriter, _ []byte, n *extended.TaskCheckBox) {
	if n.IsChecked {
		write(w, "☑ ")
		return
	}
	write(w, "☐ ")
}

func fencedCode(w util.BufWriter, source []byte, n *ast.FencedCodeBlock) {
	language := n.Language(source)
	class := "language-" + string(language)
	known := len(language) > 0 && languageClass.MatchString(class)
	if n.Info != nil {
		if info := bytes.TrimSpace(n.Info.Value(source)); !known || len(info) > len(language) {
			write(w, `<p class="code-info">`)
			escape(w, info)
			write(w, "</p>\n")
		}
	}
	write(w, "<pre><code")
	if known {
		write(w, ` class="`+class+`"`)
	}
	write(w, ">")
	segments(w, source, n.Lines())
	write(w, "</code></pre>\n")
}

// safe is where a link leads that may be followed, and nil for one that may not: it has
// another scheme or none, or a user name, which makes one host look like another.
func safe(destination []byte) []byte {
	escaped := util.URLEscape(destination, true)
	u, err := url.Parse(string(escaped))
	switch {
	case err != nil || !slices.Contains(schemes, strings.ToLower(u.Scheme)):
		return nil
	case u.Scheme == "mailto" && u.Opaque == "" || u.Scheme != "mailto" && (u.Host == "" || u.User != nil):
		return nil
	}
	return escaped
}

func open(w util.BufWriter, to []byte) {
	write(w, `<a href="`)
	escape(w, to)
	write(w, `">`)
}

// link writes what stands around the text of a link. Inside an image's text there are none:
// image writes that.
func link(w util.BufWriter, _ []byte, node ast.Node, entering bool) (ast.WalkStatus, error) {
	n := node.(*ast.Link)
	to := safe(n.Destination)
	switch {
	case entering && to != nil:
		open(w, to)
	case entering:
	case to != nil:
		write(w, "</a>")
		behind(w, nil, n.Title)
	default:
		behind(w, n.Destination, n.Title)
	}
	return ast.WalkContinue, nil
}

// behind writes what else belongs to a link, in parentheses.
func behind(w util.BufWriter, destination, title []byte) {
	parts := slices.DeleteFunc([][]byte{destination, title}, func(part []byte) bool { return len(part) == 0 })
	if len(parts) > 0 {
		write(w, " (")
		escape(w, bytes.Join(parts, []byte(" ")))
		write(w, ")")
	}
}

// image writes a link to an image, and inside a link, where there is no other, text.
func image(w util.BufWriter, source []byte, n *ast.Image) {
	label := words(source, n)
	to := safe(n.Destination)
	if insideLink(n) || to == nil {
		escape(w, label)
		behind(w, n.Destination, n.Title)
		return
	}
	if len(label) == 0 {
		label = n.Destination
	}
	open(w, to)
	escape(w, label)
	write(w, "</a>")
	behind(w, nil, n.Title)
}

func insideLink(n ast.Node) bool {
	for n = n.Parent(); n != nil; n = n.Parent() {
		if n.Kind() == ast.KindLink {
			return true
		}
	}
	return false
}

// words is the text of an image, with what a link in it leads to.
func words(source []byte, of *ast.Image) []byte {
	var out []byte
	_ = ast.Walk(of, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := n.(type) {
		case *ast.Link:
			out = append(out, leadsTo(n.Destination, entering)...)
		case *ast.Image:
			out = append(out, leadsTo(n.Destination, entering || n == of)...)
		default:
			if entering {
				out = append(out, wordsOf(source, n)...)
			}
		}
		return ast.WalkContinue, nil // it cannot fail
	})
	return out
}

// leadsTo is a destination as it stands behind a text.
func leadsTo(destination []byte, before bool) string {
	if before {
		return ""
	}
	return " (" + string(destination) + ")"
}

// wordsOf is the text of a node alone.
func wordsOf(source []byte, n ast.Node) []byte {
	switch n := n.(type) {
	case *ast.Text:
		value := util.ResolveEntityNames(util.ResolveNumericReferences(util.UnescapePunctuations(n.Value(source))))
		if n.SoftLineBreak() || n.HardLineBreak() {
			value = append(bytes.Clone(value), ' ')
		}
		return value
	case *ast.String:
		return n.Value
	case *ast.RawHTML:
		return n.Segments.Value(source)
	case *ast.AutoLink:
		return n.Label(source)
	}
	return nil
}

func autoLink(w util.BufWriter, source []byte, n *ast.AutoLink) {
	to := n.URL(source)
	if n.AutoLinkType == ast.AutoLinkEmail && !bytes.HasPrefix(bytes.ToLower(to), []byte("mailto:")) {
		to = append([]byte("mailto:"), to...)
	}
	if to = safe(to); to == nil {
		escape(w, n.Label(source))
		return
	}
	open(w, to)
	escape(w, n.Label(source))
	write(w, "</a>")
}

// wholeTables makes tables of paragraphs, but not of those from which cells would be left
// out, or to which many would be added.
type wholeTables struct{ parser.ParagraphTransformer }

// Transform makes tables of a paragraph; the library calls it.
func (t wholeTables) Transform(node *ast.Paragraph, reader text.Reader, pc parser.Context) {
	lines := node.Lines()
	columns := 0
	for i := 1; i < lines.Len(); i++ {
		segment := lines.At(i)
		line := segment.Value(reader.Source())
		cells := cellsIn(line)
		if columns > 0 && cells > columns {
			return
		}
		if columns == 0 && isDelimiter(line) {
			columns = cells
		}
		if columns*lines.Len() > maxCells {
			return
		}
	}
	t.ParagraphTransformer.Transform(node, reader, pc)
}

func isDelimiter(line []byte) bool {
	return bytes.ContainsRune(line, '-') && len(bytes.Trim(line, " \t\r\n|:-")) == 0
}

// cellsIn is how many cells the library finds on a line.
func cellsIn(line []byte) int {
	line = bytes.TrimSpace(line)
	line = bytes.TrimPrefix(line, []byte("|"))
	n := 1
	for i, c := range line {
		if c == '|' && (i == 0 || line[i-1] != '\\') && i < len(line)-1 {
			n++
		}
	}
	return n
}

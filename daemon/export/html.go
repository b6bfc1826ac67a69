package export

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"strings"

	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/markdown"
)

// htmlLayout writes pages that need nothing but themselves.
type htmlLayout struct{ render *markdown.Renderer }

//go:embed page.css
var style string

func (htmlLayout) ext() string { return ".html" }

// head begins a page. Its policy lets nothing run, and nothing be loaded.
func (htmlLayout) head(w *bufio.Writer, title string) {
	sum := sha256.Sum256([]byte(style))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
	fmt.Fprintf(w, `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="%s">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s</title>
<style>%s</style>
</head>
<body>
<main>
<h1>%s</h1>
`, policy, plain(title), style, plain(title))
}

func (l htmlLayout) begin(w *bufio.Writer, t *talk) {
	l.head(w, titleOf(t.state))
	w.WriteString("<dl>\n")
	for _, fact := range facts(t) {
		fmt.Fprintf(w, "<dt>%s</dt><dd>%s</dd>\n", fact.name, plain(fact.text))
	}
	w.WriteString("</dl>\n")
}

func (l htmlLayout) entry(w *bufio.Writer, t *talk, e entry, files []carried) error {
	if !isMessage(e) && len(files) == 0 {
		fmt.Fprintf(w, "<p class=\"event\" id=\"%d\"><a href=\"#%d\">%d</a> %s %s</p>\n", e.Seq, e.Seq, e.Seq, timeTag(e.state.LastTime), plain(said(e)))
		return nil
	}
	fmt.Fprintf(w, "<article id=\"%d\">\n<header><a href=\"#%d\">%d</a> <h2>%s</h2> %s", e.Seq, e.Seq, e.Seq, plain(e.From.String()), timeTag(e.state.LastTime))
	if notes := notesOf(e); notes != "" {
		fmt.Fprintf(w, " <span class=\"notes\">%s</span>", plain(notes))
	}
	fmt.Fprintf(w, "</header>\n<div class=\"body\">\n%s\n</div>\n", strings.TrimSuffix(l.render.Render(said(e)), "\n"))
	if len(e.Data) > 0 {
		fmt.Fprintf(w, "<details><summary>data, %s of JSON</summary><pre>%s</pre></details>\n", ofSize(int64(len(e.Data))), html.EscapeString(string(frame.JSON(e.Data))))
	}
	if len(files) > 0 {
		w.WriteString("<ul class=\"files\">\n")
		for _, f := range files {
			if err := l.file(w, f); err != nil {
				return err
			}
		}
		w.WriteString("</ul>\n")
	}
	w.WriteString("</article>\n")
	return nil
}

// file writes a link by which a browser saves a file, and never shows it.
func (htmlLayout) file(w *bufio.Writer, f carried) error {
	w.WriteString("<li>")
	download := plain(fileName(f.Attachment))
	switch {
	case f.path != "":
		fmt.Fprintf(w, `<a download="%s" href="%s">%s</a>`, download, f.path, plain(f.Name))
	case f.file != nil:
		fmt.Fprintf(w, `<a download="%s" href="data:%s;base64,`, download, anyType)
		enc := base64.NewEncoder(base64.StdEncoding, w)
		if _, err := io.Copy(enc, f.file); err != nil {
			return err
		}
		if err := enc.Close(); err != nil {
			return err
		}
		fmt.Fprintf(w, `">%s</a>`, plain(f.Name))
	default:
		w.WriteString(plain(f.Name))
	}
	fmt.Fprintf(w, ", %s, %s%s, <code>%s</code></li>\n", ofSize(f.Size), plain(f.MediaType), plain(absent(f)), f.SHA256)
	return nil
}

func (htmlLayout) finish(w *bufio.Writer) { w.WriteString("</main>\n</body>\n</html>\n") }

func (l htmlLayout) index(w *bufio.Writer, list []listed) {
	l.head(w, "Conversations")
	w.WriteString("<ul>\n")
	for _, one := range list {
		fmt.Fprintf(w, "<li><a href=\"%s\">%s</a> %s</li>\n", one.name, plain(titleOf(one.state)), plain(summary(one.talk)))
	}
	w.WriteString("</ul>\n")
	l.finish(w)
}

// plain is a text in which nothing means anything in HTML, or is hidden.
func plain(text string) string { return html.EscapeString(frame.Text(text)) }

func timeTag(ms int64) string {
	text := clock(ms)
	return fmt.Sprintf(`<time datetime="%s">%s</time>`, strings.Replace(text, " ", "T", 1), text)
}

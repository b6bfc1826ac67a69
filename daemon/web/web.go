// Package web is the page for people: its files are in the binary, and it asks the daemon
// that serves it for everything else. A browser runs no script, loads no file and reaches
// no address but those of that daemon, whatever stands in the texts that the page shows.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed static
var static embed.FS

// Policy is the Content-Security-Policy of the page.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types duo-server-html"

const (
	index  = "index.html"
	assets = "/assets/"
)

// paths are those of the page's views: the page itself reads which one is wanted.
var paths = []string{
	"/{$}", "/c/{ref}", "/c/{ref}/sequence", "/a/{name}", "/r/{ref}", "/search", "/talk", "/hosts",
}

// headers are those of every file. Fetch sends the right Origin in spite of the
// Referrer-Policy; a form would send none that is ours.
var headers = map[string]string{
	"Content-Security-Policy":      Policy,
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Permissions-Policy":           "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
	"Cache-Control":                "no-cache", // ask each time: the answer is mostly that nothing has changed
}

// kinds are the media types by the ends of names. What a system has in its own list
// would differ from one to the other.
var kinds = map[string]string{
	".html":  "text/html; charset=utf-8",
	".css":   "text/css; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".svg":   "image/svg+xml",
	".png":   "image/png",
	".woff2": "font/woff2",
	".txt":   "text/plain; charset=utf-8",
	".json":  "application/json",
}

// file is one of the page's files.
type file struct {
	kind string
	tag  string // ETag
	data []byte
}

// Page serves the page.
type Page struct{ files map[string]file } // by their names below static/

// New reads the files of the page.
func New() (*Page, error) {
	root, err := fs.Sub(static, "static")
	if err != nil {
		return nil, fmt.Errorf("open page: %w", err)
	}
	return read(root)
}

// read reads the files of a folder, in which there has to be an index.html.
func read(root fs.FS) (*Page, error) {
	p := &Page{files: make(map[string]file)}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		kind, ok := kinds[path.Ext(name)]
		if !ok {
			return fmt.Errorf("%q has no media type", name)
		}
		data, err := fs.ReadFile(root, name)
		sum := sha256.Sum256(data)
		p.files[name] = file{kind, `"` + hex.EncodeToString(sum[:16]) + `"`, data}
		return err
	})
	if _, ok := p.files[index]; err == nil && !ok {
		err = fmt.Errorf("%q: %w", index, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read page: %w", err)
	}
	return p, nil
}

// Routes adds the paths of the page to a mux. Notfound answers for a file that there is
// not.
func (p *Page) Routes(mux *http.ServeMux, notFound http.HandlerFunc) {
	for _, at := range paths {
		mux.HandleFunc("GET "+at, func(w http.ResponseWriter, r *http.Request) { p.files[index].serve(w, r) })
	}
	mux.HandleFunc("GET "+assets+"{path...}", func(w http.ResponseWriter, r *http.Request) {
		f, ok := p.files[strings.TrimPrefix(r.URL.Path, assets)]
		if !ok {
			notFound(w, r)
			return
		}
		f.serve(w, r)
	})
}

func (f file) serve(w http.ResponseWriter, r *http.Request) {
	for name, value := range headers {
		w.Header().Set(name, value)
	}
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("ETag", f.tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.data))
}

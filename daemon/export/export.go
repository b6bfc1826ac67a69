// Package export writes conversations out of a home, in forms for people and for
// programs, and takes one of the forms back in. docs/export.md states each form.
//
// It reads the logs and the files of the home themselves, beside whoever writes there,
// and holds of a log no more than some lines. What is appended to a log after its
// conversation was begun is left out. Import checks all that it is given before it
// changes anything, and can be repeated after a crash at any point.
package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/claude-duo/duo/daemon/markdown"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Format is a form in which conversations are written.
type Format string

// The formats.
const (
	JSONL    Format = "jsonl" // the only one that can be taken back in
	Markdown Format = "markdown"
	HTML     Format = "html"
	Mbox     Format = "mbox"
	SQLite   Format = "sqlite"
)

// kinds are what files of the formats are called and said to be.
var kinds = map[Format]struct{ extension, mediaType string }{
	JSONL:    {".jsonl", "application/x-ndjson"},
	Markdown: {".md", "text/markdown; charset=utf-8"},
	HTML:     {".html", "text/html; charset=utf-8"},
	Mbox:     {".mbox", "application/mbox"},
	SQLite:   {".sqlite", "application/vnd.sqlite3"},
}

// Extension is how names of files of the format end, with the dot.
func (f Format) Extension() string { return kinds[f].extension }

// MediaType is what a file of the format is said to be.
func (f Format) MediaType() string { return kinds[f].mediaType }

// Result is what was written.
type Result struct {
	Conversations int       `json:"conversations"`
	Lines         int64     `json:"lines"` // of logs
	Files         int       `json:"files"`
	Left          int       `json:"left,omitempty"` // files that are only named
	Missing       []Missing `json:"missing,omitempty"`
	Damaged       []Damaged `json:"damaged,omitempty"`
}

// Missing is a file that a message brings and that is not in the export.
type Missing struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Why    string `json:"why"`
}

// Damaged is a conversation of which the export has only the lines before the damage.
type Damaged struct {
	Ref string `json:"ref"`
	Why string `json:"why"`
}

// form writes one format.
type form interface {
	talk(t *talk) error
	end() error // after the last one
}

// Write writes conversations, by their ids, as one file. Markdown and HTML take exactly
// one; SQLite is for File alone. A conversation that is not in the home is an error that is
// fs.ErrNotExist. What was written before an error is of no use.
func Write(ctx context.Context, w io.Writer, home *maildir.Home, ids []string, format Format) (Result, error) {
	s, err := newSource(home)
	if err != nil {
		return Result{}, err
	}
	f, err := s.form(w, format)
	if err == nil {
		err = s.run(ctx, ids, f)
	}
	return s.result, err
}

func (s *source) form(w io.Writer, format Format) (form, error) {
	switch format {
	case JSONL:
		return newStream(s, w), nil
	case Markdown:
		return newSheet(s, w, markdownLayout{}, false), nil
	case HTML:
		return newSheet(s, w, htmlLayout{markdown.New()}, true), nil
	case Mbox:
		return newMbox(s, w), nil
	}
	return nil, fmt.Errorf("export as %q: no such format", format)
}

// source is the home that conversations are taken from, and what was taken.
type source struct {
	home   *maildir.Home
	refs   *maildir.Refs
	blobs  *blob.Store
	result Result
	lacks  map[string]bool // sums of files that are told to be missing
}

func newSource(home *maildir.Home) (*source, error) {
	ids, err := home.Conversations()
	if err != nil {
		return nil, err
	}
	blobs := blob.At(home.BlobsDir(), home.Config.Limits.Attachment)
	return &source{home: home, refs: maildir.NewRefs(ids), blobs: blobs, lacks: make(map[string]bool)}, nil
}

func (s *source) run(ctx context.Context, ids []string, f form) error {
	for _, id := range ids {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.one(id, f); err != nil {
			return fmt.Errorf("export conversation %s: %w", s.refs.Short(id), err)
		}
	}
	return f.end()
}

func (s *source) one(id string, f form) error {
	t, err := s.open(id)
	if err != nil {
		return err
	}
	defer t.log.Close()
	s.result.Conversations++
	s.result.Lines += t.lines
	if t.damage != nil {
		s.result.Damaged = append(s.result.Damaged, Damaged{t.ref, t.damage.Error()})
	}
	return f.talk(t)
}

// file opens a file that a message brings. Where it is not here it is nil, and why says
// so.
func (s *source) file(a envelope.Attachment) (f *os.File, why string, err error) {
	f, err = s.blobs.Open(a.SHA256)
	switch {
	case err == nil:
		return f, "", nil
	case errors.Is(err, blob.ErrDamaged), errors.Is(err, durable.ErrForeign):
		why = "is damaged: duo fsck"
	case errors.Is(err, fs.ErrNotExist):
		why = "is not here any more"
		if want, err := s.blobs.WantOf(a.SHA256); err == nil {
			why = "has still to come from " + want.From()
		}
	default:
		return nil, "", err
	}
	if !s.lacks[a.SHA256] {
		s.lacks[a.SHA256] = true
		s.result.Missing = append(s.result.Missing, Missing{a.Name, a.SHA256, why})
	}
	return nil, why, nil
}

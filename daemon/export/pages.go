package export

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/claude-duo/duo/maildir/envelope"
)

// layout writes transcripts for people, as one kind of text. Errors of writing are those
// of the writer, which keeps the first one until it is flushed.
type layout interface {
	ext() string // of its files, with the dot
	begin(w *bufio.Writer, t *talk)
	entry(w *bufio.Writer, t *talk, e entry, files []carried) error
	finish(w *bufio.Writer)
	index(w *bufio.Writer, list []listed)
}

// carried is a file that a message brings, and where the transcript has it.
type carried struct {
	envelope.Attachment
	path string   // relative to the transcript; empty where it is not beside it
	file *os.File // to be embedded, nil for none
	why  string   // it is not here
}

// listed is a transcript in a folder.
type listed struct {
	*talk
	name string // of the file
}

// sheet writes one transcript as one file.
type sheet struct {
	source *source
	layout layout
	out    *bufio.Writer
	embeds bool
	done   bool
}

func newSheet(s *source, w io.Writer, l layout, embeds bool) *sheet {
	return &sheet{source: s, layout: l, out: bufio.NewWriterSize(w, bufferSize), embeds: embeds}
}

var errOneOnly = errors.New("one file takes one conversation: several need a folder")

func (s *sheet) talk(t *talk) error {
	if s.done {
		return errOneOnly
	}
	s.done = true
	return transcribe(s.out, s.layout, t, s.carry)
}

// carry embeds a file, or leaves it out.
func (s *sheet) carry(a envelope.Attachment) (carried, error) {
	f, why, err := s.source.file(a)
	c := carried{Attachment: a, file: f, why: why}
	switch {
	case f == nil || err != nil:
	case s.embeds:
		s.source.result.Files++
	default:
		s.source.result.Left++
		c.file = nil
		err = f.Close()
	}
	return c, err
}

func (s *sheet) end() error { return s.out.Flush() }

// transcribe writes one conversation. Carry says where the files of a message are.
func transcribe(w *bufio.Writer, l layout, t *talk, carry func(envelope.Attachment) (carried, error)) error {
	l.begin(w, t)
	err := t.entries(func(e entry) error {
		files := make([]carried, 0, len(e.Attachments))
		defer func() {
			for _, f := range files {
				if f.file != nil {
					f.file.Close()
				}
			}
		}()
		for _, a := range e.Attachments {
			f, err := carry(a)
			if err != nil {
				return err
			}
			files = append(files, f)
		}
		return l.entry(w, t, e, files)
	})
	l.finish(w)
	return err
}

// folder writes transcripts into a folder, with an index and the files.
type folder struct {
	source *source
	layout layout
	dir    string
	list   []listed
	placed map[string]bool // names in attachments
}

const attachmentsDir = "attachments"

func newFolder(s *source, dir string, l layout) *folder {
	return &folder{source: s, layout: l, dir: dir, placed: make(map[string]bool)}
}

func (f *folder) talk(t *talk) error {
	name := t.ref + f.layout.ext()
	f.list = append(f.list, listed{t, name})
	return f.write(name, func(w *bufio.Writer) error { return transcribe(w, f.layout, t, f.carry) })
}

func (f *folder) end() error {
	return f.write("index"+f.layout.ext(), func(w *bufio.Writer) error {
		f.layout.index(w, f.list)
		return nil
	})
}

func (f *folder) write(name string, fill func(*bufio.Writer) error) error {
	return f.create(name, func(file io.Writer) error {
		w := bufio.NewWriterSize(file, bufferSize)
		return errors.Join(fill(w), w.Flush())
	})
}

func (f *folder) create(name string, fill func(io.Writer) error) error {
	file, err := os.OpenFile(filepath.Join(f.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = fill(file)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// carry puts a file beside the transcripts.
func (f *folder) carry(a envelope.Attachment) (carried, error) {
	c := carried{Attachment: a}
	from, why, err := f.source.file(a)
	if from == nil || err != nil {
		c.why = why
		return c, err
	}
	defer from.Close()
	c.path = attachmentsDir + "/" + fileName(a)
	if f.placed[c.path] {
		return c, nil
	}
	if err := os.Mkdir(filepath.Join(f.dir, attachmentsDir), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return c, err
	}
	f.placed[c.path] = true
	f.source.result.Files++
	return c, f.create(c.path, func(to io.Writer) error {
		_, err := io.Copy(to, from)
		return err
	})
}

const maxName = 100 // bytes of the name of a file that are kept

// fileName is a name for a file that means the same on every system, and is another one
// for another content.
func fileName(a envelope.Attachment) string {
	safe := strings.Map(func(r rune) rune {
		if r < 0x80 && isAlphanumeric(byte(r)) || strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, a.Name)
	if over := len(safe) - maxName; over > 0 {
		safe = safe[over:] // with what says which kind of file it is
	}
	return a.SHA256[:12] + "-" + safe
}

func ofSize(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d bytes", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

package export

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// ErrBad means that what is to be imported is no export, or not a whole one.
var ErrBad = errors.New("this is no sound export")

// ErrFileTooLarge means that a file is over the limit of the home that is to take it.
var ErrFileTooLarge = blob.ErrTooLarge

const maxTalks = 1_000_000

// stage is an export that was read and checked, in a folder in which nobody else looks.
type stage struct {
	dir    string
	talks  []*staged
	files  map[string]int64 // sizes by sum
	totals endRecord        // as counted
}

// staged is one log that was read.
type staged struct {
	id    string
	path  string
	lines int64
	state conv.State
}

func (st *stage) blobs(limit int64) *blob.Store {
	return blob.At(filepath.Join(st.dir, "blobs"), limit)
}

// reading reads a stream into a stage.
type reading struct {
	*stage
	limit int64 // bytes of a file
	in    *bufio.Reader
	sum   hash.Hash // of the lines before the one that was read last
	line  []byte    // that was read last, with its newline
	n     int64     // its number
	known map[string]bool
}

// readStream reads and checks all of an export. Errors of the export are ErrBad, and
// blob.ErrTooLarge.
func readStream(in io.Reader, dir string, limit int64) (*stage, error) {
	r := &reading{
		stage: &stage{dir: dir, files: make(map[string]int64)}, limit: limit,
		in: bufio.NewReaderSize(in, bufferSize), sum: sha256.New(), known: make(map[string]bool),
	}
	if err := os.Mkdir(filepath.Join(dir, "conversations"), 0o700); err != nil {
		return nil, err
	}
	if err := r.all(); err != nil {
		return nil, err
	}
	return r.stage, nil
}

// bad is an error of the line that was read last.
func (r *reading) bad(format string, args ...any) error {
	return fmt.Errorf("%w: line %d: %w", ErrBad, r.n, fmt.Errorf(format, args...))
}

// next reads a line. The end of the stream is an error.
func (r *reading) next() error {
	r.sum.Write(r.line)
	r.line = r.line[:0]
	r.n++
	for {
		part, err := r.in.ReadSlice('\n')
		r.line = append(r.line, part...)
		switch {
		case len(r.line) > envelope.MaxLine+1:
			return r.bad("it is over %d bytes", envelope.MaxLine)
		case err == nil:
			return nil
		case errors.Is(err, io.EOF) && len(r.line) == 0:
			return r.bad("the export ends here, before it is whole")
		case errors.Is(err, io.EOF):
			return r.bad("the export breaks off in this line")
		case !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("read export: %w", err)
		}
	}
}

// record reads the line that was read last, which has to be one of a kind.
func (r *reading) record(kind string, into any) error {
	if err := json.Unmarshal(r.line, into); err != nil {
		return r.bad("it is no record %q: %w", kind, err)
	}
	return nil
}

func (r *reading) all() error {
	if err := r.next(); err != nil {
		return err
	}
	var first head
	if json.Unmarshal(r.line, &first) != nil || first.Duo != recordExport {
		return r.bad("it does not begin as an export of duo does")
	}
	if first.Version != version {
		return r.bad("it has version %d; this program reads version %d", first.Version, version)
	}
	for {
		if err := r.next(); err != nil {
			return err
		}
		var one struct{ Duo string }
		if err := r.record("…", &one); err != nil {
			return err
		}
		err := error(nil)
		switch one.Duo {
		case recordAgent:
		case recordConversation:
			err = r.talk()
		case recordFile:
			err = r.file()
		case recordEnd:
			return r.end()
		default:
			err = r.bad("a record %q is not known", one.Duo)
		}
		if err != nil {
			return err
		}
	}
}

// talk reads the lines of a log into a file of the stage.
func (r *reading) talk() error {
	var record talkRecord
	if err := r.record(recordConversation, &record); err != nil {
		return err
	}
	id, err := envelope.ParseID(record.ID)
	switch {
	case err != nil || id != record.ID:
		return r.bad("%q is no id of a conversation", record.ID)
	case r.known[id]:
		return r.bad("conversation %s comes twice", id)
	case len(r.known) == maxTalks:
		return r.bad("more than %d conversations", maxTalks)
	case record.Lines < 0:
		return r.bad("a conversation has %d lines", record.Lines)
	}
	r.known[id] = true
	s := &staged{id: id, path: filepath.Join(r.dir, "conversations", maildir.LogName(id)), lines: record.Lines}
	if err := r.log(s, record); err != nil {
		return err
	}
	r.totals.Conversations++
	r.totals.Lines += record.Lines
	if s.lines == 0 { // as of a log in which nothing can be read
		return nil
	}
	r.talks = append(r.talks, s)
	return r.check(s)
}

func (r *reading) log(s *staged, record talkRecord) error {
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	size := int64(0)
	out := bufio.NewWriterSize(f, bufferSize)
	for range record.Lines {
		if err = r.next(); err != nil {
			break
		}
		sum.Write(r.line)
		size += int64(len(r.line))
		if _, err = out.Write(r.line); err != nil {
			break
		}
	}
	if err = errors.Join(err, out.Flush(), f.Close()); err != nil {
		return err
	}
	if size != record.Bytes || hex.EncodeToString(sum.Sum(nil)) != record.SHA256 {
		return r.bad("the lines of conversation %s are not those that were exported", s.id)
	}
	return nil
}

// check reads a staged log as every reader will, and wants it to be one.
func (r *reading) check(s *staged) error {
	log, err := convlog.OpenReader(s.path)
	if err != nil {
		return err
	}
	defer log.Close()
	wrong := func(seq int64, format string, args ...any) error {
		return fmt.Errorf("%w: conversation %s: line %d: %w", ErrBad, s.id, seq, fmt.Errorf(format, args...))
	}
	n := int64(0)
	scan := log.Scan(convlog.Pos{})
	for scan.Next() {
		n++
		line := scan.Line()
		if line.Noise() {
			return wrong(n, "it is not line %d of a log", n)
		}
		e := decode(line)
		switch {
		case n == 1 && !begins(s.id, e):
			return wrong(n, "it does not create this conversation on the host that it names")
		case e.Conversation != "" && e.Conversation != s.id:
			return wrong(n, "it is of conversation %q", e.Conversation)
		}
		if err := e.Check(envelope.MaxLine); err != nil {
			return wrong(n, "%w", err)
		}
		s.state = s.state.Apply(e)
	}
	if scan.Err() != nil {
		return wrong(n+1, "%w", scan.Err())
	}
	if n != s.lines {
		return wrong(n, "it is the last one of %d", s.lines)
	}
	return nil
}

// begins reports whether a line makes a conversation on its origin: its id says so.
func begins(id string, e *envelope.Envelope) bool {
	return e.Type == envelope.System && e.Event == envelope.EventCreate && e.Origin != "" &&
		e.Conversation == id && envelope.ConversationID(e.Origin, e.ID) == id
}

func (r *reading) file() error {
	var record fileRecord
	if err := r.record(recordFile, &record); err != nil {
		return err
	}
	_, twice := r.files[record.SHA256]
	switch {
	case !blob.IsSum(record.SHA256):
		return r.bad("%q is no SHA-256", record.SHA256)
	case record.Missing != "":
		return nil
	case twice:
		return r.bad("file %s comes twice", record.SHA256)
	case record.Size < 0:
		return r.bad("a file has %d bytes", record.Size)
	case record.Size > r.limit:
		return fmt.Errorf("%w: line %d: file %s has %d bytes, and this home takes %d", ErrFileTooLarge, r.n, record.SHA256, record.Size, r.limit)
	}
	pieces := &pieces{reading: r, left: record.Size}
	b, err := r.blobs(r.limit).Put(pieces)
	switch {
	case pieces.err != nil:
		return pieces.err
	case err != nil:
		return err
	case b.SHA256 != record.SHA256:
		return r.bad("what came before is not file %s", record.SHA256)
	}
	r.files[b.SHA256] = b.Size
	r.totals.Files++
	return nil
}

// pieces reads a file from the lines that follow.
type pieces struct {
	*reading
	left int64 // bytes that are still on lines to be read
	rest []byte
	err  error
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.rest) == 0 && p.left == 0 {
		return 0, io.EOF
	}
	if len(p.rest) == 0 {
		if p.rest, p.err = p.piece(); p.err != nil {
			return 0, p.err
		}
		p.left -= int64(len(p.rest))
	}
	n := copy(to, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (p *pieces) piece() ([]byte, error) {
	if err := p.next(); err != nil {
		return nil, err
	}
	var one piece
	if err := p.record("data", &one); err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(one.Data)
	switch {
	case err != nil:
		return nil, p.bad("it is no piece of a file: %w", err)
	case len(data) == 0 || int64(len(data)) > p.left:
		return nil, p.bad("it has %d bytes of a file of which %d are left", len(data), p.left)
	}
	return data, nil
}

func (r *reading) end() error {
	sum := hex.EncodeToString(r.sum.Sum(nil))
	var record endRecord
	if err := r.record(recordEnd, &record); err != nil {
		return err
	}
	r.totals.Duo, r.totals.SHA256 = record.Duo, sum
	if record != r.totals {
		return r.bad("the export is not as it was written")
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		return r.bad("there is more behind the end")
	}
	return nil
}

package convlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/go-json-experiment/json/jsontext"
)

// Pos is a place between two lines of a log.
type Pos struct {
	Offset int64 // bytes before this place
	Seq    int64 // of the last valid line before this place, 0 when there is none
}

// Line is one whole line of a log.
type Line struct {
	Offset int64  // of its first byte
	Seq    int64  // 0 for noise
	Bytes  []byte // without the newline; nil for noise that is longer than envelope.MaxLine
	From   []byte // the sender, where the line is known to be a message with nothing but a text; else nil
}

// Noise reports whether readers pass the line over: it is no JSON object, has no
// seq, or repeats one.
func (l Line) Noise() bool { return l.Seq == 0 }

// DamageError tells where the numbers of a log jump ahead: lines are missing there.
type DamageError struct {
	Offset    int64 // of the line that came too early
	Want, Got int64 // its seq
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("log is damaged at byte %d: want seq %d, got %d", e.Offset, e.Want, e.Got)
}

const (
	scanChunk  = 256 << 10
	firstChunk = 16 << 10 // many who scan want a few lines only
)

// Scanner reads a log forward, line by line, noise included. It stops at the end
// of the last whole line: a line without its newline is not there yet.
type Scanner struct {
	r     io.ReaderAt
	limit int64
	trust int64
	pos   Pos
	line  Line
	buf   []byte // what was read and not yet returned is buf[start:end], from pos.Offset on
	start int
	end   int
	seen  int // bytes of buf[start:end] known to hold no newline
	err   error

	guessed bool // the first pos was found without reading all before it
}

// NewScanner reads r from a place on, up to the byte limit, or to the end of the
// file for a negative limit.
func NewScanner(r io.ReaderAt, from Pos, limit int64) *Scanner {
	return &Scanner{r: r, pos: from, limit: limit}
}

// Trust tells the scanner that somebody has read the bytes before offset and found
// no noise there, so that it need not check each line for being JSON.
func (s *Scanner) Trust(offset int64) { s.trust = offset }

// Next reads the next line. It returns false at the end, or at an error: see Err.
func (s *Scanner) Next() bool {
	if s.err != nil {
		return false
	}
	length, ok := s.findLine()
	if !ok {
		return false
	}
	s.line = Line{Offset: s.pos.Offset}
	if length <= envelope.MaxLine {
		s.line.Bytes = s.buf[s.start : s.start+length]
		if !s.classify() {
			return s.guessed && s.restart()
		}
	}
	s.consume(length + 1)
	s.pos.Offset += int64(length) + 1
	s.pos.Seq = max(s.pos.Seq, s.line.Seq)
	return true
}

// Line is what Next read. Its bytes are valid until the next call of Next.
func (s *Scanner) Line() Line { return s.line }

// Pos is the place behind the line that Next read.
func (s *Scanner) Pos() Pos { return s.pos }

// Fragment is what stands behind the last whole line, after Next returned false.
func (s *Scanner) Fragment() []byte { return s.buf[s.start:s.end] }

// Err is what stopped Next: nil at the end of the log, a *DamageError, or an error
// of reading.
func (s *Scanner) Err() error { return s.err }

// classify gives the line its number. It returns false where the numbers jump.
func (s *Scanner) classify() bool {
	seq, ok := int64(0), false
	if s.line.Offset < s.trust {
		seq, ok = prefixSeq(s.line.Bytes)
	}
	var from []byte
	if !ok {
		seq, from, ok = plainMessage(s.line.Bytes)
	}
	if !ok {
		from = nil
		seq, ok = lineSeq(s.line.Bytes)
	}
	if !ok || seq <= s.pos.Seq {
		return true
	}
	if seq > s.pos.Seq+1 {
		s.err = &DamageError{Offset: s.line.Offset, Want: s.pos.Seq + 1, Got: seq}
		return false
	}
	s.line.Seq, s.line.From = seq, from
	return true
}

// restart begins again at the start of the log and goes to the line behind the last
// one, if it is there. The place where this scanner began was found by looking at a
// few lines only, and may have been inside a block that somebody appended again.
func (s *Scanner) restart() bool {
	next := s.pos.Seq + 1
	*s = Scanner{r: s.r, limit: s.limit, trust: s.trust}
	for s.Next() {
		if s.line.Seq == next {
			return true
		}
	}
	return false
}

// findLine makes buf[start:] begin with a whole line, and returns its length
// without the newline. Of a line that is too long it keeps only the length.
func (s *Scanner) findLine() (int, bool) {
	for {
		if i := bytes.IndexByte(s.buf[s.start+s.seen:s.end], '\n'); i >= 0 {
			return s.seen + i, true
		}
		s.seen = s.end - s.start
		if s.seen > envelope.MaxLine {
			return s.skipLong()
		}
		if !s.fill() {
			return 0, false
		}
	}
}

func (s *Scanner) fill() bool {
	if s.start > 0 {
		copy(s.buf, s.buf[s.start:s.end])
		s.end -= s.start
		s.start = 0
	}
	if size := len(s.buf); size < scanChunk || s.end == size {
		grown := make([]byte, max(firstChunk, 2*size))
		copy(grown, s.buf[:s.end])
		s.buf = grown
	}
	room := s.buf[s.end:]
	at := s.pos.Offset + int64(s.end)
	if s.limit >= 0 {
		room = room[:max(0, min(int64(len(room)), s.limit-at))]
	}
	if len(room) == 0 {
		return false
	}
	n, err := s.r.ReadAt(room, at)
	s.end += n
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = fmt.Errorf("read log at byte %d: %w", at, err)
		return false
	}
	return n > 0
}

// skipLong finds the end of a line that is over the limit, without keeping it.
func (s *Scanner) skipLong() (int, bool) {
	chunk := make([]byte, scanChunk)
	for at := s.pos.Offset + int64(s.seen); ; {
		room := chunk
		if s.limit >= 0 {
			room = room[:max(0, min(int64(len(room)), s.limit-at))]
		}
		n, err := s.r.ReadAt(room, at)
		if i := bytes.IndexByte(room[:n], '\n'); i >= 0 {
			return int(at + int64(i) - s.pos.Offset), true
		}
		at += int64(n)
		if n == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				s.err = fmt.Errorf("read log at byte %d: %w", at, err)
			}
			return 0, false
		}
	}
}

// consume passes over n bytes, which may be more than were kept.
func (s *Scanner) consume(n int) {
	s.start, s.seen = min(s.start+n, s.end), 0
}

// leadingSeq reads the seq from the head of a line that begins with it, as duo
// writes them. It does not look at the rest.
func leadingSeq(head []byte) (int64, bool) {
	const name = `{"seq":`
	if len(head) < len(name) || string(head[:len(name)]) != name {
		return 0, false
	}
	n := int64(0)
	for i, c := range head[len(name):] {
		switch {
		case c >= '0' && c <= '9' && n <= envelope.MaxInt/10:
			n = n*10 + int64(c-'0')
		case i > 0 && (c == ',' || c == '}'):
			return n, n > 0 && n <= envelope.MaxInt
		default:
			return 0, false
		}
	}
	return 0, false
}

// prefixSeq is leadingSeq for a whole line, which does not end in the middle.
func prefixSeq(line []byte) (int64, bool) {
	seq, ok := leadingSeq(line)
	return seq, ok && line[len(line)-1] == '}'
}

// lineSeq reads the seq of a line, wherever in the object it stands, and reports
// whether the line is a JSON object with one.
func lineSeq(line []byte) (int64, bool) {
	if len(line) > envelope.MaxLine {
		return 0, false
	}
	if seq, ok := prefixSeq(line); ok && flat(line) && jsontext.Value(line).IsValid() {
		return seq, true
	}
	if trimmed := bytes.TrimLeft(line, " \t\r"); len(trimmed) == 0 || trimmed[0] != '{' || !mayHaveSeq(line) {
		return 0, false
	}
	var seq int64
	err := envelope.Members(line, func(name string, value jsonValue) error {
		if name == "seq" {
			seq, _ = strconv.ParseInt(string(value), 10, 64)
		}
		return nil
	})
	return seq, err == nil && seq > 0 && seq <= envelope.MaxInt
}

// flat reports whether a line cannot be nested too deep, without reading it closely.
func flat(line []byte) bool {
	return bytes.Count(line, []byte("{"))+bytes.Count(line, []byte("[")) <= envelope.MaxDepth
}

// mayHaveSeq is for passing over lines quickly. Any letter of a name may be escaped.
func mayHaveSeq(line []byte) bool {
	return bytes.Contains(line, []byte(`"seq"`)) || bytes.Contains(line, []byte(`\u`))
}

package convlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

type jsonValue = json.RawMessage

// ErrNoLine means that a log has no line with the seq that was asked for.
var ErrNoLine = errors.New("no such line in the log")

// Reader finds lines in a log without locking it and without an index. It may be
// used by several goroutines, beside writers.
type Reader struct {
	r     io.ReaderAt
	size  int64
	trust int64
	file  *os.File // what Close closes, nil for a reader on somebody else's file
}

// OpenReader opens the log at path as long as it is now.
func OpenReader(path string) (*Reader, error) {
	f, info, err := openLog(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return &Reader{r: f, size: info.Size(), file: f}, nil
}

// NewReader reads the first size bytes of r.
func NewReader(r io.ReaderAt, size int64) *Reader { return &Reader{r: r, size: size} }

// Trust is Scanner.Trust for all scanners of this reader.
func (r *Reader) Trust(offset int64) { r.trust = offset }

// Size is how many bytes of the log this reader sees.
func (r *Reader) Size() int64 { return r.size }

// Close closes the file of OpenReader.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// Scan reads from a place on.
func (r *Reader) Scan(from Pos) *Scanner {
	s := NewScanner(r.r, from, r.size)
	s.Trust(r.trust)
	return s
}

// Since reads the lines behind seq: the first one with a number is seq+1. It costs a
// few small reads, however long the log is.
func (r *Reader) Since(seq int64) (*Scanner, error) {
	if seq <= 0 {
		return r.Scan(Pos{}), nil
	}
	line, err := r.At(seq)
	if errors.Is(err, ErrNoLine) {
		return r.Scan(Pos{Offset: r.size, Seq: seq}), nil
	}
	if err != nil {
		return nil, err
	}
	s := r.Scan(Pos{Offset: line.Offset + int64(len(line.Bytes)) + 1, Seq: seq})
	s.guessed = true
	return s, nil
}

// At returns the line with the number seq, or ErrNoLine. The number of a line
// grows with its offset, so the place is guessed from the numbers at both ends and
// the guess is mended, each time with one small read. Where somebody has appended a
// block of lines again, it may be the line of that block.
func (r *Reader) At(seq int64) (Line, error) {
	if seq < 1 {
		return Line{}, ErrNoLine
	}
	last, regular, err := r.tail(1)
	if err != nil {
		return Line{}, err
	}
	if !regular {
		return r.walk(Pos{}, seq)
	}
	if last[0].Seq < seq {
		return Line{}, ErrNoLine
	}
	if last[0].Seq == seq {
		return last[0], nil
	}
	from := r.narrow(seq, last[0])
	line, err := r.walk(from, seq)
	if err != nil && from != (Pos{}) {
		return r.walk(Pos{}, seq) // something odd is in the way: read from the start
	}
	return line, err
}

const (
	window    = 8 << 10 // bytes of one guess
	walkable  = 4 * window
	maxProbes = 64
	headSize  = 32 // bytes of a line that hold its seq
)

// narrow returns a place before the line seq and not far from it.
func (r *Reader) narrow(seq int64, last Line) Pos {
	lo, hi := Pos{}, Pos{Offset: last.Offset, Seq: last.Seq}
	buf := make([]byte, window)
	for probe := range maxProbes {
		if hi.Offset-lo.Offset <= walkable {
			return lo
		}
		share := float64(seq-lo.Seq) / float64(hi.Seq-lo.Seq)
		if probe%3 == 2 {
			share = 0.5 // lines of very different lengths mislead the guess
		}
		guess := lo.Offset + int64(share*float64(hi.Offset-lo.Offset)) - window/2
		guess = min(max(guess, lo.Offset), hi.Offset-1)
		line, ok := r.landing(buf, guess, hi.Offset)
		switch {
		case !ok && guess == lo.Offset:
			return lo
		case !ok: // no line to go by begins between here and hi
			hi.Offset = guess + 1
		case line.Seq > seq:
			if guess <= lo.Offset {
				return lo
			}
			hi = Pos{Offset: guess + 1, Seq: line.Seq}
		default:
			before := Pos{Offset: line.Offset, Seq: line.Seq - 1}
			if before == lo {
				return lo
			}
			lo = before
			if seq-line.Seq < 8 {
				return lo
			}
		}
	}
	return lo
}

// landing finds the first line that begins behind offset from and before to, looks
// valid, and has the number that follows the one before it. A single line that was
// appended again has not.
func (r *Reader) landing(buf []byte, from, to int64) (Line, bool) {
	previous := int64(-1)
	for at := from; at < to; {
		n, err := r.r.ReadAt(buf[:min(int64(len(buf)), r.size-at)], at)
		if n == 0 || err != nil && !errors.Is(err, io.EOF) {
			return Line{}, false
		}
		for rest, offset := buf[:n], at; ; {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 || offset+int64(i)+1 >= to {
				break
			}
			rest, offset = rest[i+1:], offset+int64(i)+1
			seq, ok := leadingSeq(rest)
			if ok && seq == previous+1 {
				return Line{Offset: offset, Seq: seq}, true
			}
			if ok {
				previous = seq
			}
		}
		at += int64(n) - min(int64(n)-1, headSize) // keep a line's head that was cut at the end
	}
	return Line{}, false
}

func (r *Reader) walk(from Pos, seq int64) (Line, error) {
	s := r.Scan(from)
	for s.Next() {
		if s.Line().Seq == seq {
			return s.Line().clone(), nil
		}
	}
	if s.Err() != nil {
		return Line{}, s.Err()
	}
	return Line{}, ErrNoLine
}

func (l Line) clone() Line {
	l.Bytes, l.From = bytes.Clone(l.Bytes), bytes.Clone(l.From)
	return l
}

// Last returns the last k lines in order, fewer where the log has fewer. It reads
// backwards from the end. At damage it returns what stands before it, and the error.
func (r *Reader) Last(k int) ([]Line, error) {
	if k < 1 || r.size == 0 {
		return nil, nil
	}
	lines, regular, err := r.tail(k)
	if err != nil || regular {
		return lines, err
	}
	return r.lastByScan(k)
}

// LastOf returns the last line of the log at path, and false where there is none or the log
// cannot be read to its end: why not is for fsck to tell.
func LastOf(path string) (Line, bool) {
	log, err := OpenReader(path)
	if err != nil {
		return Line{}, false
	}
	defer log.Close()
	lines, err := log.Last(1)
	if err != nil || len(lines) == 0 {
		return Line{}, false
	}
	return lines[0], true
}

// firstBlock is how much of the end of a log is read at first.
const firstBlock = 16 << 10

// tail takes the last k lines from the end of the log. It reports false where only
// reading from the start tells what is noise: in a short log, and where the numbers
// do not fall evenly towards the start.
func (r *Reader) tail(k int) ([]Line, bool, error) {
	for block := int64(firstBlock); block < r.size; block *= 8 {
		start := r.size - block
		buf := make([]byte, block)
		if n, err := r.r.ReadAt(buf, start); n < len(buf) {
			return nil, false, fmt.Errorf("read log at byte %d: %w", start, err)
		}
		lines, first, regular := lastLines(buf, start, k)
		if !regular {
			return nil, false, nil
		}
		if len(lines) == k && first.Offset < lines[0].Offset { // one more was compared
			return lines, r.trust >= r.size || r.falls(first), nil
		}
	}
	return nil, false, nil
}

// lastLines takes the last k valid lines from buf, which stands at offset start of
// the log, and tells the place of the first line there. It reports false where the
// numbers do not run down by one through all of buf.
func lastLines(buf []byte, start int64, k int) (lines []Line, first Line, regular bool) {
	end := bytes.LastIndexByte(buf, '\n')
	for end > 0 {
		begin := bytes.LastIndexByte(buf[:end], '\n') + 1
		if begin == 0 {
			break // it may begin before buf
		}
		line := Line{Offset: start + int64(begin), Bytes: buf[begin:end]}
		seq, ok := prefixSeq(line.Bytes)
		if !ok || len(lines) < k {
			seq, ok = lineSeq(line.Bytes)
		}
		if ok {
			if first.Seq > 0 && seq != first.Seq-1 {
				return nil, first, false
			}
			line.Seq = seq
			first = line
			if len(lines) < k {
				lines = append(lines, line)
			}
		}
		end = begin - 1
	}
	slices.Reverse(lines)
	return lines, first, true
}

// falls looks at a few lines before line, twice as far from it each time, and
// reports whether their numbers fall. They do not where line belongs to a block of
// older lines that somebody appended again.
func (r *Reader) falls(line Line) bool {
	buf := make([]byte, window)
	behind := line
	for distance := int64(firstBlock); distance < line.Offset; distance *= 2 {
		before, ok := r.landing(buf, line.Offset-distance, behind.Offset)
		if !ok {
			continue
		}
		if before.Seq >= behind.Seq {
			return false
		}
		behind = before
	}
	return true
}

func (r *Reader) lastByScan(k int) ([]Line, error) {
	var lines []Line
	s := r.Scan(Pos{})
	for s.Next() {
		if s.Line().Noise() {
			continue
		}
		if len(lines)-k >= k {
			lines = append(lines[:0], lines[len(lines)-k:]...)
		}
		lines = append(lines, s.Line().clone())
	}
	return lines[max(0, len(lines)-k):], s.Err()
}

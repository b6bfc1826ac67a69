package convlog

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"math"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/uuid"
)

// generation is how many ids a Log keeps at least; it keeps twice as many at most.
const generation = 16 << 10

// recent remembers the ids of the last lines of a log: of all lines from the number
// from on. Two maps take turns, so that old ids go in bulk. Of lines before that it
// remembers as much as tells that an id is not among them.
type recent struct {
	from   int64
	limit  int   // of lines in young
	middle int64 // first number in young
	young  map[uuid.UUID]int64
	old    map[uuid.UUID]int64

	lower  int64 // the lines from lower up to from are in prints
	before int64 // timestamp of the line before lower
	seed   maphash.Seed
	prints map[uint64]struct{} // of ids; whoever sends chosen ids cannot make two the same
}

// maxPrints bounds what is remembered of one log, at about 20 bytes each.
const maxPrints = 1 << 20

func newRecent(from int64) recent {
	return recent{from: from, limit: generation, lower: from, before: math.MaxInt64, seed: maphash.MakeSeed()}
}

func (r *recent) add(id uuid.UUID, seq int64) {
	if len(r.young) >= r.limit {
		r.rotate(seq)
	}
	if r.young == nil {
		r.young = make(map[uuid.UUID]int64)
		if r.old == nil {
			r.middle = r.from
		}
	}
	if _, known := r.young[id]; !known { // in old it goes sooner
		r.young[id] = seq
	}
}

// rotate begins a new generation with the line seq.
func (r *recent) rotate(seq int64) {
	if len(r.prints)+len(r.old) > maxPrints {
		r.prints, r.lower, r.before = nil, r.middle, math.MaxInt64
	} else {
		for id := range r.old {
			r.print(id)
		}
	}
	r.from, r.middle = r.middle, seq
	r.old, r.young = r.young, nil
}

func (r *recent) seq(id uuid.UUID) (int64, bool) {
	if seq, ok := r.old[id]; ok {
		return seq, true
	}
	seq, ok := r.young[id]
	return seq, ok
}

func (r *recent) print(id uuid.UUID) {
	if r.prints == nil {
		r.prints = make(map[uint64]struct{})
	}
	r.prints[maphash.Bytes(r.seed, id[:])] = struct{}{}
}

// printed reports whether an id may be one of the lines from lower up to from.
func (r *recent) printed(id uuid.UUID) bool {
	_, ok := r.prints[maphash.Bytes(r.seed, id[:])]
	return ok
}

// forget drops the lines behind seq: they were not written.
func (r *recent) forget(seq int64) {
	later := func(_ uuid.UUID, s int64) bool { return s > seq }
	maps.DeleteFunc(r.young, later)
	maps.DeleteFunc(r.old, later)
}

// find returns the number of the first line with the id behind after and not older
// than since, or 0. It runs under the lock.
func (l *Log) find(id string, after, since int64) (int64, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return 0, fmt.Errorf("look for id %q: %w", id, err)
	}
	if seq, ok := l.ids.seq(u); ok {
		return seq, nil
	}
	nothing := after+1 >= l.ids.lower || since > l.ids.before // further back, that is
	if after+1 >= l.ids.from || nothing && !l.ids.printed(u) {
		return 0, nil
	}
	reader := NewReader(l.file, l.tail.Offset)
	low, err := reader.firstSince(after+1, l.ids.from-1, since)
	if err != nil || low >= l.ids.from {
		return 0, err
	}
	if known, err := l.remember(reader, low); err != nil || known && !l.ids.printed(u) {
		return 0, err
	}
	return reader.search(u.String(), low, l.ids.from)
}

// remember takes prints of the lines from low on, and reports whether they are known
// now. Of too many lines none are taken.
func (l *Log) remember(r *Reader, low int64) (bool, error) {
	if low >= l.ids.lower {
		return true, nil
	}
	if l.ids.lower-low+int64(len(l.ids.prints)) > maxPrints {
		return false, nil
	}
	before := int64(0) // of no line
	if low > 1 {
		line, err := r.At(low - 1)
		if err != nil {
			return false, err
		}
		before = lineTime(line.Bytes)
	}
	s, err := r.Since(low - 1)
	if err != nil {
		return false, err
	}
	for s.Next() && s.Pos().Seq < l.ids.lower {
		if line := s.Line(); !line.Noise() {
			if u, err := uuid.Parse(lineID(line.Bytes)); err == nil {
				l.ids.print(u)
			}
		}
	}
	if s.Err() != nil {
		return false, s.Err()
	}
	l.ids.lower, l.ids.before = low, before
	return true, nil
}

// firstSince returns the number of the first line from low to high whose timestamp
// is at least since, or high+1. Timestamps never go back inside a log.
func (r *Reader) firstSince(low, high, since int64) (int64, error) {
	if since <= 0 {
		return low, nil
	}
	for low <= high {
		middle := low + (high-low)/2
		line, err := r.At(middle)
		if err != nil {
			return 0, err
		}
		if lineTime(line.Bytes) >= since {
			high = middle - 1
		} else {
			low = middle + 1
		}
	}
	return low, nil
}

// search looks through the bytes of the lines from low up to high for an id. It
// reads as fast as memory does, for logs with more lines than recent keeps.
func (r *Reader) search(id string, low, high int64) (int64, error) {
	first, err := r.At(low)
	if err != nil {
		return 0, err
	}
	end := r.size
	if last, err := r.At(high); err == nil {
		end = last.Offset
	}
	needle := []byte(`"id":"` + id + `"`)
	buf := make([]byte, scanChunk+len(needle))
	for at := first.Offset; at < end; at += scanChunk {
		n, err := r.r.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read log at byte %d: %w", at, err)
		}
		for from := 0; ; {
			i := bytes.Index(buf[from:n], needle)
			if i < 0 {
				break
			}
			seq, err := r.seqOf(id, at+int64(from+i))
			if seq != 0 || err != nil {
				return seq, err
			}
			from += i + 1
		}
	}
	return 0, nil
}

// seqOf returns the number of the line whose head holds an id at offset, or 0 where
// the id only stands in the text of a line, or in noise.
func (r *Reader) seqOf(id string, offset int64) (int64, error) {
	var head [headSize]byte
	start := max(0, offset-headSize)
	n, err := r.r.ReadAt(head[:offset-start], start)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read log at byte %d: %w", start, err)
	}
	begin := bytes.LastIndexByte(head[:n], '\n') + 1
	if begin == 0 && start > 0 {
		return 0, nil
	}
	seq, ok := leadingSeq(head[begin:n])
	if !ok {
		return 0, nil
	}
	line, err := r.At(seq)
	if errors.Is(err, ErrNoLine) || err == nil && lineID(line.Bytes) != id {
		return 0, nil
	}
	return seq, err
}

// lineID reads the id of a valid line, empty where there is none. Lines of duo have
// it second.
func lineID(line []byte) string {
	const name = `"id":"`
	head := line[:min(len(line), 96)]
	if comma := bytes.IndexByte(head, ','); comma > 0 && bytes.HasPrefix(head[comma+1:], []byte(name)) {
		rest := head[comma+1+len(name):]
		if len(rest) > 36 && rest[36] == '"' {
			return string(rest[:36])
		}
	}
	if e, err := envelope.Decode(line); err == nil {
		return e.ID
	}
	return ""
}

func lineTime(line []byte) int64 {
	if e, err := envelope.Decode(line); err == nil {
		return e.Timestamp
	}
	return 0
}

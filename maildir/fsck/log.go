package fsck

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/uuid"
)

// Report is what Log found.
type Report struct {
	Path     string    `json:"path"`
	Size     int64     `json:"size"`  // bytes that were read
	Lines    int64     `json:"lines"` // valid ones
	LastSeq  int64     `json:"lastSeq"`
	Noise    int64     `json:"noise"` // lines that readers pass over
	Raw      int64     `json:"raw"`   // of these, messages that wait to be adopted
	Gap      *Gap      `json:"gap,omitempty"`
	Findings []Finding `json:"findings"`
}

// Gap is where a log is damaged: lines are missing there.
type Gap struct {
	Offset int64 `json:"offset"` // of the line that came too early
	Want   int64 `json:"want"`
	Got    int64 `json:"got"`
}

// Log checks the log of a conversation, whose id is the file's name, on the host with an
// id. The error tells that the file could not be read; everything else is a finding.
func Log(path, host string) (Report, error) { return checkLog(path, host, nil) }

// entry is one valid line.
type entry struct {
	seq      int64
	offset   int64
	bytes    []byte             // without the newline, valid until the next line
	envelope *envelope.Envelope // nil where the line holds none
}

// logCheck is the state of one pass through a log.
type logCheck struct {
	Report
	findings
	conversation string // empty where the name of the file tells none
	host         string // id of the host that has the log
	replica      bool   // of a log of another host
	visit        func(entry)
	time         int64
	ids          map[uuid.UUID]int64
	raws         []int64          // offsets of messages appended with the shell
	rawIDs       map[int64]string // the ids that they have themselves
	adopted      map[int64]bool   // offsets that a line says it has dealt with
	upTo         int64            // the highest of them, plus one
}

func checkLog(path, host string, visit func(entry)) (Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return Report{}, fmt.Errorf("check log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%q is not a regular file", path)
	}
	if err != nil {
		return Report{}, fmt.Errorf("check log: %w", err)
	}
	c := &logCheck{visit: visit, host: host, ids: make(map[uuid.UUID]int64), rawIDs: make(map[int64]string), adopted: make(map[int64]bool)}
	c.Path, c.Size = path, info.Size()
	c.conversation, _ = maildir.LogID(filepath.Base(path))
	if err := c.read(io.LimitReader(f, info.Size())); err != nil {
		return Report{}, fmt.Errorf("check log %q: %w", path, err)
	}
	c.rawLines()
	c.Findings = c.sorted(path)
	return c.Report, nil
}

// read takes the log line by line, in the plainest way.
func (c *logCheck) read(r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var line []byte
	for offset := int64(0); c.Gap == nil; {
		length := int64(0)
		line = line[:0]
		for {
			part, err := in.ReadSlice('\n')
			length += int64(len(part))
			if len(line) <= envelope.MaxLine+1 {
				line = append(line, part...)
			}
			if err == nil {
				break
			}
			if errors.Is(err, io.EOF) {
				c.end(offset, length)
				return nil
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				return err
			}
		}
		if length-1 > envelope.MaxLine {
			c.noise(offset, TooLong, Note, "a line of %d bytes is over the limit of %d and is passed over", length-1, envelope.MaxLine)
		} else {
			c.line(offset, line[:len(line)-1])
		}
		offset += length
	}
	return nil
}

func (c *logCheck) found(s Severity, kind Kind, offset, seq int64, format string, args ...any) {
	c.add(Finding{Severity: s, Kind: kind, Path: c.Path, Offset: offset, Seq: seq, Text: fmt.Sprintf(format, args...)})
}

func (c *logCheck) noise(offset int64, kind Kind, s Severity, format string, args ...any) {
	c.Noise++
	c.found(s, kind, offset, 0, format, args...)
}

func (c *logCheck) end(offset, length int64) {
	if length > 0 {
		c.found(Note, Unterminated, offset, 0, "the last %d bytes have no newline: they are not there yet, and the next writer ends the line; nothing to do", length)
	}
	if c.Lines == 0 {
		c.found(Error, NoCreate, 0, 0, "the log has no lines, so nobody is in the conversation; move it away if nobody misses it")
	}
}

// line sorts one whole line.
func (c *logCheck) line(offset int64, line []byte) {
	seq, kind := number(line)
	switch {
	case kind == Torn && swallows(line):
		c.noise(offset, Swallowed, Warning, "a message that was appended with the shell stands behind a line that was cut off, and is passed over with it; append it again")
	case kind == Torn:
		c.noise(offset, Torn, Note, "a line was cut off while it was written and is passed over; nobody was told that it is stored, so there is nothing to do")
	case kind == NULs:
		c.noise(offset, NULs, Note, "a line holds NUL bytes, as a power cut leaves them, and is passed over; nothing to do")
	case kind == NoObject:
		c.noise(offset, NoObject, Note, "a line is no JSON object and is passed over; nothing to do")
	case kind == NoSeq:
		c.Noise++
		c.rawLine(offset, line)
	case seq <= c.LastSeq:
		c.noise(offset, Repeat, Note, "number %d was there before, so the line is passed over; nothing to do", seq)
	case seq > c.LastSeq+1:
		c.Gap = &Gap{Offset: offset, Want: c.LastSeq + 1, Got: seq}
		c.found(Error, Damage, offset, seq, "want number %d, got %d: lines are missing, so readers stop here and the conversation takes no messages; copy the missing lines from a backup into a new file of the whole log, stop the daemon, and put it in place", c.LastSeq+1, seq)
	default:
		c.LastSeq = seq
		c.Lines++
		c.valid(entry{seq: seq, offset: offset, bytes: line})
	}
}

// number reads the number of a line, or says why it has none.
func number(line []byte) (seq int64, why Kind) {
	if bytes.IndexByte(line, 0) >= 0 {
		return 0, NULs
	}
	err := envelope.Members(line, func(name string, value json.RawMessage) error {
		if name == "seq" {
			seq, _ = strconv.ParseInt(string(value), 10, 64)
		}
		return nil
	})
	switch {
	case err != nil && bytes.HasPrefix(bytes.TrimLeft(line, " \t\r"), []byte("{")):
		return 0, Torn
	case err != nil:
		return 0, NoObject
	case seq < 1 || seq > envelope.MaxInt:
		return 0, NoSeq
	}
	return seq, ""
}

// swallows reports whether a line that is no JSON ends with a message that somebody
// has appended with the shell.
func swallows(line []byte) bool {
	for tries := 0; tries < 64; tries++ {
		i := bytes.Index(line[1:], []byte(`{"`))
		if i < 0 {
			return false
		}
		line = line[1+i:]
		if _, ok := shellMessage(line); ok {
			return true
		}
	}
	return false
}

// shellMessage reads a line without a number as a message that somebody has appended
// with the shell, and reports whether it is one.
func shellMessage(line []byte) (*envelope.Envelope, bool) {
	e, err := envelope.Decode(line)
	ok := err == nil && e.Seq == 0 && !e.From.IsZero() && e.Content != "" && (e.Type == "" || e.Type == envelope.Message)
	return e, ok
}

func (c *logCheck) rawLine(offset int64, line []byte) {
	if e, ok := shellMessage(line); ok {
		c.raws = append(c.raws, offset)
		c.rawIDs[offset] = e.ID
		return
	}
	c.found(Note, NoSeq, offset, 0, "a JSON object without a number, which is no message for want of \"from\" and \"content\", is passed over; nothing to do")
}

// rawLines tells which messages of the shell nobody has dealt with.
func (c *logCheck) rawLines() {
	for _, offset := range c.raws {
		switch {
		case c.replica && c.submitted(offset), c.adopted[offset]:
		case c.replica:
			c.Raw++
			c.found(Note, Raw, offset, 0, "a message that was appended with the shell is not in the log: it waits for the host where the conversation was created, or was refused, and then stands in its author's outbox/failed")
		case offset < c.upTo:
			c.found(Error, Raw, offset, 0, "a message that was appended with the shell was passed over when a later one was adopted; append it again")
		default:
			c.Raw++
			c.found(Note, Raw, offset, 0, "a message that was appended with the shell waits to be adopted; the daemon does it when it runs")
		}
	}
}

// submitted reports whether the message that was appended to a replica at an offset has
// come back from the origin.
func (c *logCheck) submitted(offset int64) bool {
	id := c.rawIDs[offset]
	if id == "" {
		id = envelope.NamedID("raw", c.host, c.conversation, strconv.FormatInt(offset, 10))
	}
	u, err := uuid.Parse(id)
	return err == nil && c.ids[u] > 0
}

// valid checks a line that counts.
func (c *logCheck) valid(at entry) {
	e, err := envelope.Decode(at.bytes)
	if err == nil {
		at.envelope = e
		err = e.Validate()
	}
	if err != nil {
		c.found(Error, Invalid, at.offset, at.seq, "the line counts, but readers cannot use it: %v", err)
	}
	if at.envelope != nil {
		c.envelope(at)
	}
	if c.visit != nil {
		c.visit(at)
	}
}

func (c *logCheck) envelope(at entry) {
	e := at.envelope
	if u, err := uuid.Parse(e.ID); err == nil {
		if first, known := c.ids[u]; known {
			c.found(Error, DuplicateID, at.offset, at.seq, "the id %s stands at line %d already: a message is stored twice; readers may drop this one", e.ID, first)
		} else {
			c.ids[u] = at.seq
		}
	}
	if e.Timestamp < c.time {
		c.found(Error, TimeBack, at.offset, at.seq, "the timestamp %d is before %d, that of the line before; the order of the lines holds", e.Timestamp, c.time)
	}
	c.time = max(c.time, e.Timestamp)
	if c.conversation != "" && !strings.EqualFold(e.Conversation, c.conversation) {
		c.found(Error, Conversation, at.offset, at.seq, "the line says conversation %q, but stands in the log of %q; it was written there by mistake", e.Conversation, c.conversation)
	}
	if at.seq == 1 && (e.Type != envelope.System || e.Event != envelope.EventCreate) {
		c.found(Error, NoCreate, at.offset, at.seq, "the first line is no create event, so nobody is in the conversation; copy it from a backup into a new file of the whole log, stop the daemon, and put it in place")
	}
	if at.seq == 1 && e.Origin != "" && e.Origin != c.host && c.host != "" {
		c.replica = true
		if c.conversation != "" && envelope.ConversationID(e.Origin, e.ID) != strings.ToLower(c.conversation) {
			c.found(Error, Conversation, at.offset, at.seq, "the line says that the conversation is of host %s, which its id denies; it was written there by mistake", e.Origin)
		}
	}
	if e.Raw != nil && !c.replica { // else it speaks of the origin's file
		c.adopt(at, *e.Raw)
	}
}

func (c *logCheck) adopt(at entry, offset int64) {
	if c.adopted[offset] {
		c.found(Error, AdoptedTwice, at.offset, at.seq, "the line at byte %d was dealt with before; readers may drop this one", offset)
	}
	c.adopted[offset] = true
	c.upTo = max(c.upTo, offset+1)
}

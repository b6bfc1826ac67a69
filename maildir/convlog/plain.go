package convlog

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/uuid"
)

// plainMessage recognises the line of a message that has the usual fields only, in the
// form in which duo writes it, and returns its seq and sender. It is several times
// faster than reading JSON, and what it recognises is valid; of other lines it says
// nothing.
func plainMessage(line []byte) (seq int64, from []byte, ok bool) {
	p := pattern{rest: line, ok: len(line) <= envelope.MaxLine}
	p.text(`{"seq":`)
	seq = p.number()
	p.text(`,"id":"`)
	p.id()
	p.text(`,"type":"message","from":"`)
	from = p.address()
	p.text(`,"conversation":"`)
	p.id()
	p.text(`,"timestamp":`)
	p.number()
	if p.maybe(`,"after":`) {
		p.number()
	}
	if p.maybe(`,"replyTo":`) {
		p.number()
	}
	p.text(`,"content":"`)
	p.quoted()
	return seq, from, p.ok && seq > 0 && string(p.rest) == "}"
}

// pattern compares a line with what is expected, piece by piece. When a piece differs,
// ok is false and stays so.
type pattern struct {
	rest []byte
	ok   bool
}

func (p *pattern) text(want string) { p.ok = p.maybe(want) && p.ok }

func (p *pattern) maybe(want string) bool {
	if len(p.rest) < len(want) || string(p.rest[:len(want)]) != want {
		return false
	}
	p.rest = p.rest[len(want):]
	return true
}

// number reads an integer in the form that JSON has for it, up to envelope.MaxInt.
func (p *pattern) number() (n int64) {
	i := 0
	for i < len(p.rest) && p.rest[i] >= '0' && p.rest[i] <= '9' && n <= envelope.MaxInt {
		n = n*10 + int64(p.rest[i]-'0')
		i++
	}
	p.ok = p.ok && i > 0 && n <= envelope.MaxInt && (p.rest[0] != '0' || i == 1)
	p.rest = p.rest[i:]
	return n
}

// quoted reads the rest of a JSON string and its closing quote.
func (p *pattern) quoted() {
	end := closingQuote(p.rest)
	if end < 0 {
		p.ok = false
		return
	}
	s := p.rest[:end]
	p.ok = p.ok && !hasControl(s) && utf8.Valid(s) && simpleEscapes(s)
	p.rest = p.rest[end+1:]
}

func (p *pattern) id() {
	const size = 36
	if len(p.rest) <= size || p.rest[size] != '"' {
		p.ok = false
		return
	}
	_, err := uuid.ParseBytes(p.rest[:size])
	p.ok = p.ok && err == nil
	p.rest = p.rest[size+1:]
}

func (p *pattern) address() []byte {
	name, rest, found := bytes.Cut(p.rest, []byte{'"'})
	_, err := envelope.ParseAddress(string(name))
	p.ok = p.ok && found && err == nil
	p.rest = rest
	return name
}

// closingQuote is the place of the first quote that no backslash stands before.
func closingQuote(s []byte) int {
	for from := 0; ; {
		i := bytes.IndexByte(s[from:], '"')
		if i < 0 {
			return -1
		}
		at := from + i
		slashes := 0
		for slashes < at && s[at-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return at
		}
		from = at + 1
	}
}

// hasControl reports whether one of the bytes is below a space, eight at a time.
func hasControl(s []byte) bool {
	const low, high = 0x0101010101010101, 0x8080808080808080
	for len(s) >= 8 {
		w := binary.LittleEndian.Uint64(s)
		if (w-0x20*low)&^w&high != 0 {
			return true
		}
		s = s[8:]
	}
	for _, c := range s {
		if c < 0x20 {
			return true
		}
	}
	return false
}

// simpleEscapes reports whether each backslash begins an escape of two characters.
func simpleEscapes(s []byte) bool {
	for {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return true
		}
		if i+1 == len(s) || bytes.IndexByte([]byte(`"\/bfnrt`), s[i+1]) < 0 {
			return false
		}
		s = s[i+2:]
	}
}

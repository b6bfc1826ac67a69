package link

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/go-json-experiment/json"
)

// Limits of a frame.
const (
	MaxHeader = 16 << 10 // bytes, without the LF behind it
	MaxLines  = 1024
	MaxFrame  = envelope.MaxLine + 64<<10
	Full      = 64 << 10 // a sender adds nothing to a frame of so many bytes

	numberSpace = 64 // bytes of a header that the link itself may need
)

// Lane is a kind of traffic. The first ones are written first.
type Lane uint8

// The lanes.
const (
	Call     Lane = iota // calls and their answers
	Mail                 // what is stored; by credit
	Presence             // who is there
	Bulk                 // catching up and attachments; by credit
	lanes
)

var laneNames = [lanes]string{Call: "call", Mail: "mail", Presence: "presence", Bulk: "bulk"}

// String is the lane's name, which numbers its frames where it has credit.
func (l Lane) String() string { return laneNames[l] }

func (l Lane) counted() bool { return l == Mail || l == Bulk }

// Frame is one message on a link.
type Frame struct {
	Type string
	// Lane is where the frame is sent. Of one that was received and has no number it
	// says nothing.
	Lane Lane
	// Number is which frame of its lane it is, from 1; 0 where the lane has no credit.
	// The link gives it.
	Number uint64
	// Header is a JSON object. To be sent, it has the fields besides the type and the
	// number, or is nil; received, it is the whole header.
	Header []byte
	// Lines stand behind the header, without their LF.
	Lines [][]byte
	// Data stands behind the header in place of lines: bytes of an attachment.
	Data []byte
	// Acked is called once, by the reader of the link that has sent the frame, when the
	// peer has acknowledged it. It must not wait. It is not called when the link ends.
	Acked func()
}

// header is what the link itself knows of a header.
type header struct {
	Type string  `json:"t"`
	Mail *uint64 `json:"mail"`
	Bulk *uint64 `json:"bulk"`
}

// size is how many bytes encode adds.
func (f *Frame) size() int {
	n := len(`{"t":""`) + len(f.Type) + max(1, len(f.Header))
	if len(f.Header) == 2 { // {}
		n--
	}
	if f.Number > 0 {
		n += len(`,"":`) + len(f.Lane.String())
		for number := f.Number; number > 0; number /= 10 {
			n++
		}
	}
	for _, line := range f.Lines {
		n += 1 + len(line)
	}
	if f.Data != nil {
		n += 1 + len(f.Data)
	}
	return n
}

// check refuses a frame that the other side would refuse.
func (f *Frame) check() error {
	switch {
	case f.Type == "" || f.Lane >= lanes:
		return fmt.Errorf("send frame %q: no type or no lane", f.Type)
	case len(f.Header)+len(f.Type) > MaxHeader-numberSpace || len(f.Lines) > MaxLines || f.size() > MaxFrame-numberSpace:
		return fmt.Errorf("send frame %q: too large: %d bytes, %d lines", f.Type, f.size(), len(f.Lines))
	case len(f.Lines) > 0 && f.Data != nil:
		return fmt.Errorf("send frame %q: both lines and data", f.Type)
	case len(f.Header) > 0 && string(f.Header) != "{}" && (!bytes.HasPrefix(f.Header, []byte(`{"`)) || bytes.IndexByte(f.Header, '\n') >= 0):
		return fmt.Errorf("send frame %q: its header is not an object on one line", f.Type)
	}
	for _, line := range f.Lines {
		if len(line) == 0 || bytes.IndexByte(line, '\n') >= 0 {
			return fmt.Errorf("send frame %q: not a line: %.40q", f.Type, line)
		}
	}
	return nil
}

// Text is a frame of lines without a number, as it stands on a link.
func (f Frame) Text() ([]byte, error) {
	f.Number = 0
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.Data != nil {
		return nil, fmt.Errorf("write frame %q: it has data", f.Type)
	}
	return f.encode(nil), nil
}

// ParseText reads what Text has written. The frame keeps parts of text.
func ParseText(text []byte) (Frame, error) {
	f, err := decode(text, false)
	if err == nil && (f.Number > 0 || len(text) > MaxFrame) {
		err = errors.New("it has a number, or is too long")
	}
	if err != nil {
		return Frame{}, fmt.Errorf("read frame: %w", err)
	}
	return f, nil
}

// encode adds the frame to dst as it is sent. The type is one of duo's own words.
func (f *Frame) encode(dst []byte) []byte {
	dst = append(append(append(dst, `{"t":"`...), f.Type...), '"')
	if f.Number > 0 {
		dst = append(append(append(dst, `,"`...), f.Lane.String()...), `":`...)
		dst = strconv.AppendUint(dst, f.Number, 10)
	}
	if len(f.Header) > 2 { // {} has nothing to say
		dst = append(append(dst, ','), f.Header[1:]...)
	} else {
		dst = append(dst, '}')
	}
	for _, line := range f.Lines {
		dst = append(append(dst, '\n'), line...)
	}
	if f.Data != nil {
		dst = append(append(dst, '\n'), f.Data...)
	}
	return dst
}

// decode reads a frame from a message. It keeps parts of message.
func decode(message []byte, binary bool) (Frame, error) {
	head, body, more := bytes.Cut(message, []byte("\n"))
	if len(head) > MaxHeader {
		return Frame{}, fmt.Errorf("a header of %d bytes", len(head))
	}
	var h header
	if err := json.Unmarshal(head, &h); err != nil {
		return Frame{}, fmt.Errorf("a header that cannot be read: %w", err)
	}
	if h.Type == "" {
		return Frame{}, errors.New("a header without t")
	}
	f := Frame{Type: h.Type, Header: head}
	if h.Type != typeAck { // whose numbers are those of others
		if err := f.setNumber(h); err != nil {
			return Frame{}, err
		}
	}
	switch {
	case binary && !more:
		return Frame{}, errors.New("a binary message without data")
	case binary:
		f.Data = body
	case more:
		if bytes.Count(body, []byte("\n")) >= MaxLines {
			return Frame{}, fmt.Errorf("more than %d lines", MaxLines)
		}
		f.Lines = bytes.Split(body, []byte("\n"))
		for _, line := range f.Lines {
			if len(line) == 0 {
				return Frame{}, errors.New("an empty line")
			}
		}
	}
	return f, nil
}

func (f *Frame) setNumber(h header) error {
	switch {
	case h.Mail != nil && h.Bulk != nil:
		return errors.New("a number in two lanes")
	case h.Mail != nil:
		f.Lane, f.Number = Mail, *h.Mail
	case h.Bulk != nil:
		f.Lane, f.Number = Bulk, *h.Bulk
	default:
		return nil
	}
	if f.Number == 0 {
		return errors.New("the number 0")
	}
	return nil
}

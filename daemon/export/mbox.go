package export

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	mailDomain    = "duo.invalid" // RFC 2606: nobody has it
	maxReferences = 16
	boundary      = "=_duo" // which stands in no text that is encoded
)

// mbox writes the format mbox.
type mbox struct {
	source *source
	out    *bufio.Writer
	talked *talk
	root   string // Message-ID of line 1
	title  string
}

func newMbox(s *source, w io.Writer) *mbox {
	return &mbox{source: s, out: bufio.NewWriterSize(w, bufferSize)}
}

func (m *mbox) end() error { return m.out.Flush() }

func (m *mbox) talk(t *talk) error {
	m.talked, m.root, m.title = t, "", ""
	return t.entries(func(e entry) error {
		if m.root == "" {
			m.root, m.title = m.id(e.Envelope), titleOf(e.state)
		}
		return m.message(e)
	})
}

func (m *mbox) message(e entry) error {
	from := e.From
	if from.IsZero() {
		from = envelope.Address{Name: "duo", Host: e.state.Creator.Host}
	}
	when := time.UnixMilli(e.state.LastTime).UTC()
	fmt.Fprintf(m.out, "From %s %s\n", mailAddress(from), when.Format(time.ANSIC))
	for _, h := range []struct{ name, text string }{
		{"Date", when.Format("Mon, 02 Jan 2006 15:04:05 -0700")},
		{"Subject", m.title},
		{"X-Duo-Conversation", m.talked.id},
		{"X-Duo-Seq", strconv.FormatInt(e.Seq, 10)},
		{"X-Duo-Type", kindOf(e.Envelope)},
		{"X-Duo-Timestamp", strconv.FormatInt(e.state.LastTime, 10)},
		{"X-Duo-After", optional(e.After)},
		{"X-Duo-Auto", yes(e.Auto)},
		{"X-Duo-Crossed", numbers(e.crossed)},
		{"MIME-Version", "1.0"},
	} {
		if h.text == "" {
			continue
		}
		if err := header(m.out, h.name, h.text); err != nil {
			return err
		}
	}
	if err := m.people(e, from); err != nil {
		return err
	}
	if err := folded(m.out, "Message-ID", []string{m.id(e.Envelope)}); err != nil {
		return err
	}
	if err := m.thread(e); err != nil {
		return err
	}
	if err := m.body(e); err != nil {
		return err
	}
	return m.out.WriteByte('\n')
}

func (m *mbox) people(e entry, from envelope.Address) error {
	if err := folded(m.out, "From", []string{from.Name, "<" + mailAddress(from) + ">"}); err != nil {
		return err
	}
	var words []string
	for _, a := range recipients(e) {
		words = append(words, a.Name, "<"+mailAddress(a)+">,")
	}
	if len(words) == 0 {
		words = []string{"undisclosed-recipients:;,"}
	}
	words[len(words)-1] = strings.TrimSuffix(words[len(words)-1], ",")
	return folded(m.out, "To", words)
}

// recipients are those to whom a line was directed, else all others who were there.
func recipients(e entry) (list []envelope.Address) {
	for _, to := range e.To {
		a, err := envelope.ParseAddress(to)
		if err != nil {
			continue
		}
		if a.Host == "" {
			a.Host = e.From.Host
		}
		list = append(list, a)
	}
	if len(list) > 0 {
		return list
	}
	return slices.DeleteFunc(e.state.Present(), func(a envelope.Address) bool { return a.Same(e.From) })
}

// mailAddress is an address as that of mail. Names and hosts of agents have no character
// that means something there.
func mailAddress(a envelope.Address) string {
	if a.Host == "" {
		return a.Name + "@" + mailDomain
	}
	return a.Name + "@" + a.Host + "." + mailDomain
}

func (m *mbox) id(e *envelope.Envelope) string {
	if e.ID == "" {
		return m.idOf("line-" + strconv.FormatInt(e.Seq, 10))
	}
	return m.idOf(e.ID)
}

func (m *mbox) idOf(id string) string {
	return "<" + id + "." + m.talked.id + "@" + mailDomain + ">"
}

// thread says what a message answers: line 1 where it says nothing.
func (m *mbox) thread(e entry) error {
	if e.Seq == 1 {
		return nil
	}
	above, err := m.above(e.Envelope)
	if err != nil {
		return err
	}
	above = append(above, m.root)
	if err := folded(m.out, "In-Reply-To", above[:1]); err != nil {
		return err
	}
	slices.Reverse(above)
	return folded(m.out, "References", slices.Compact(above))
}

// above are the messages that a line answers, each of which answers the next one.
func (m *mbox) above(e *envelope.Envelope) (ids []string, err error) {
	for len(ids) < maxReferences && !e.ReplyTo.IsZero() {
		if e.ReplyTo.Seq == 0 {
			if id, err := envelope.ParseID(e.ReplyTo.ID); err == nil {
				ids = append(ids, m.idOf(id))
			}
			break
		}
		if e.ReplyTo.Seq >= e.Seq || e.ReplyTo.Seq <= 1 {
			break
		}
		line, err := m.talked.log.At(e.ReplyTo.Seq)
		if err != nil {
			return nil, err
		}
		e = decode(line)
		ids = append(ids, m.id(e))
	}
	return ids, nil
}

func (m *mbox) body(e entry) error {
	text := said(e) + "\n"
	if len(e.Attachments) == 0 && len(e.Data) == 0 {
		return m.text(text, plainBody(text))
	}
	fmt.Fprintf(m.out, "Content-Type: multipart/mixed; boundary=\"%s\"\n\n--%s\n", boundary, boundary)
	if err := m.text(text, false); err != nil {
		return err
	}
	if len(e.Data) > 0 {
		if err := m.part("application/json", "data.json", strings.NewReader(string(e.Data))); err != nil {
			return err
		}
	}
	for _, a := range e.Attachments {
		if err := m.attached(a); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(m.out, "\n--%s--\n", boundary)
	return err
}

func (m *mbox) text(text string, plain bool) error {
	encoding := "quoted-printable"
	if plain {
		encoding = "8bit"
	}
	fmt.Fprintf(m.out, "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: %s\n\n", encoding)
	if !plain {
		return quotedPrintable(m.out, text)
	}
	_, err := m.out.WriteString(text)
	return err
}

func (m *mbox) attached(a envelope.Attachment) error {
	f, why, err := m.source.file(a)
	if err != nil {
		return err
	}
	if f == nil {
		fmt.Fprintf(m.out, "\n--%s\n", boundary)
		return m.text(fmt.Sprintf("The file %q %s.\n", a.Name, why), false)
	}
	defer f.Close()
	m.source.result.Files++
	return m.part(safeType(a.MediaType), a.Name, f)
}

func (m *mbox) part(kind, name string, r io.Reader) error {
	fmt.Fprintf(m.out, "\n--%s\nContent-Type: %s\nContent-Disposition: attachment; %s\nContent-Transfer-Encoding: base64\n\n", boundary, kind, parameter("filename", name))
	return encoded(m.out, r)
}

func optional(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return ""
}

func numbers(list []int64) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = strconv.FormatInt(n, 10)
	}
	return strings.Join(words, ", ")
}

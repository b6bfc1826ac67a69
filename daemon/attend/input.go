package attend

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Input says what the command gets on standard input.
type Input string

// The forms of input; docs/attend.md shows them.
const (
	Text Input = "text" // header lines, an empty line, and the body in a frame
	JSON Input = "json" // one envelope a line
	Body Input = "body" // what was written, byte for byte
)

// of is the input for messages, with what was said before them.
func (i Input) of(messages, earlier []api.Message) ([]byte, error) {
	var b bytes.Buffer
	last := messages[len(messages)-1]
	conversation, _, _ := strings.Cut(last.Ref, ".")
	for n, m := range slices.Concat(earlier, messages) {
		m.Topic = last.Topic
		m.Ref = conversation + "." + strconv.FormatInt(m.Envelope.Seq, 10)
		switch {
		case i == Body:
			b.WriteString(body(m.Envelope))
			continue
		case i == JSON:
			line, err := m.MarshalJSON()
			if err != nil {
				return nil, fmt.Errorf("encode %s: %w", m.Ref, err)
			}
			b.Write(append(line, '\n'))
			continue
		case n > 0:
			b.WriteByte('\n')
		}
		writeText(&b, m)
	}
	return b.Bytes(), nil
}

// body is what there is to read in a message: its text or, where it has none, its data.
func body(e *envelope.Envelope) string {
	if e.Content == "" {
		return string(e.Data)
	}
	return e.Content
}

func writeText(b *bytes.Buffer, m api.Message) {
	e := m.Envelope
	header := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "%s: %s\n", name, frame.Line(value))
		}
	}
	header("From", e.From.String())
	header("To", strings.Join(e.To, ", "))
	header("Topic", m.Topic)
	header("Message", m.Ref)
	if e.ReplyTo.Seq > 0 {
		conversation, _, _ := strings.Cut(m.Ref, ".")
		header("Answers", conversation+"."+strconv.FormatInt(e.ReplyTo.Seq, 10))
	}
	for _, f := range e.Attachments {
		header("Attached", fmt.Sprintf("%s, %d bytes, %s", f.Name, f.Size, f.MediaType))
	}
	b.WriteByte('\n')
	b.WriteString(frame.Body(body(e)))
}

// environment is what the command is told beside its input. Of what others wrote it has
// their names and the topic, each fit for one line.
func (a *Attendant) environment(t task, try int) []string {
	m, c := t.messages[len(t.messages)-1], t.conversation
	e := m.Envelope
	left := ""
	if c.TurnLimit > 0 {
		left = strconv.FormatInt(c.TurnLimit-c.Turns, 10)
	}
	return []string{
		"DUO_AS=" + a.Agent.Name,
		"DUO_CONVERSATION=" + e.Conversation,
		"DUO_REF=" + m.Ref,
		"DUO_MESSAGES=" + strconv.Itoa(len(t.messages)),
		"DUO_FROM=" + e.From.String(),
		"DUO_TOPIC=" + frame.Line(m.Topic),
		"DUO_PARTICIPANTS=" + strings.Join(c.Participants, " "),
		"DUO_HOPS=" + strconv.FormatInt(t.hops(), 10),
		"DUO_TURNS_LEFT=" + left,
		"DUO_ATTEMPT=" + strconv.Itoa(try),
	}
}

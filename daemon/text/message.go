package text

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/sentence"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	budget    = 24 << 10 // bytes of bodies at once; harnesses keep about 30,000 characters
	beginning = 4 << 10  // of a body that is longer than all of that

	maxFailure = 300 // characters of an error that stands on a line of its own
	maxWhy     = 500 // of why something was done
)

// Bodies says how the bodies of messages are written.
type Bodies struct {
	Raw      bool // and nothing else
	Terminal bool // where raw ones would be obeyed
	Whole    bool // however long they are
}

// Messages writes messages as far as there is room, and returns those that were written
// whole: only those were shown.
func (w *Writer) Messages(list []api.Message, b Bodies) (shown []api.Message) {
	topic, spent := "", 0
	for _, m := range list {
		if m.Error != "" {
			if !b.Raw {
				w.Say("%s cannot be read: %s", w.Bold(m.Ref), frame.Cut(m.Error, maxFailure))
			}
			continue
		}
		size := len(toRead(m.Envelope))
		if !b.Whole && spent > 0 && spent+size > budget {
			break
		}
		spent += size
		limit := 0
		if !b.Whole && size > budget {
			limit = beginning
		}
		if b.Raw {
			w.raw(m, len(list) == 1, b.Terminal)
		} else {
			w.message(m, m.Topic != topic, limit)
		}
		topic = m.Topic
		if limit == 0 || b.Raw {
			shown = append(shown, m)
		}
	}
	return shown
}

// Message writes one message whole.
func (w *Writer) Message(m api.Message) { w.message(m, true, 0) }

// Line writes a line of a log: long bodies are cut, as a transcript has many.
func (w *Writer) Line(m api.Message) { w.message(m, m.Envelope.Seq == 1, beginning) }

// AboutMessage describes a message without its body.
func (w *Writer) AboutMessage(m api.Message) {
	e := m.Envelope
	w.Say("%s%s", w.Headline(m), Title(m.Topic))
	if e.Type == envelope.Message {
		w.Field("text", Size(len(e.Content)))
	}
	if len(e.Data) > 0 {
		w.Field("data", Size(len(e.Data))+" of JSON")
	}
	w.attached(m.Ref, e.Attachments)
	w.Field("id", e.ID)
	w.Field("conversation", e.Conversation)
	w.Next("duo read %s", m.Ref)
}

// AfterReading tells what to run after messages were shown: a call that rings goes first,
// then the last message that can be answered, then other calls. So many more are left to
// read.
func (w *Writer) AfterReading(shown []api.Message, left int) {
	ringing, reply, waiting := "", "", ""
	for i, m := range shown {
		e := m.Envelope
		switch {
		case w.isMe(e.From), over(e, shown[i+1:]):
		case e.Type == envelope.Message:
			reply = fmt.Sprintf(`duo reply %s "..."`, m.Ref)
		case e.Type == envelope.Call && e.Status == api.CallRinging:
			ringing = w.AfterSignal(m)
		default:
			waiting = cmp.Or(w.AfterSignal(m), waiting)
		}
	}
	if left > 0 {
		w.Say("%d more unread", left)
		reply = "duo read"
	}
	w.Next("%s", cmp.Or(ringing, reply, waiting, "duo inbox"))
}

// over reports whether there is nobody to answer: its sender has left since, or the
// conversation was closed, as far as later lines tell.
func over(e *envelope.Envelope, later []api.Message) bool {
	return slices.ContainsFunc(later, func(m api.Message) bool {
		l := m.Envelope
		gone := l.Type == envelope.Leave && l.From.Same(e.From)
		return l.Conversation == e.Conversation && (gone || l.Event == envelope.EventClose)
	})
}

// AfterSignal is the command that makes sense after what was told of a call, empty for
// none.
func (w *Writer) AfterSignal(m api.Message) string {
	e := m.Envelope
	switch {
	case e.Type == envelope.Call && api.CanAccept(e.Status):
		return "duo accept " + m.Ref
	case e.Type == envelope.Accept:
		return `duo send --to ` + w.ref(e.Conversation) + ` "..."`
	case e.Type == envelope.Reject && api.CanAccept(e.Status):
		return "duo wait --for answer " + m.Ref
	}
	return ""
}

// toRead is the body of a message: its text or, where it has none, its data as JSON text.
func toRead(e *envelope.Envelope) string {
	if e.Content == "" {
		return string(e.Data)
	}
	return e.Content
}

// raw writes a body alone. One that is alone in the output too, and not on a terminal, is
// written byte for byte.
func (w *Writer) raw(m api.Message, alone, terminal bool) {
	text := toRead(m.Envelope)
	if terminal {
		text = frame.Text(text)
	}
	if (terminal || !alone) && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	fmt.Fprint(w.Out, text)
}

// message writes a line that says what it is, and the body behind it, cut after limit
// bytes where that is not 0.
func (w *Writer) message(m api.Message, topic bool, limit int) {
	line := w.Headline(m)
	if topic {
		line += Title(m.Topic)
	}
	w.Say("%s", line)
	switch e := m.Envelope; {
	case e.Type == envelope.Call && !api.CanAccept(e.Status):
		return // its text is the first message by now, or of no more concern
	case e.Type == envelope.Presence:
		return // its note stands in the line
	}
	text, data := toRead(m.Envelope), Size(len(m.Envelope.Data))
	if text != m.Envelope.Content {
		w.Say("data: %s of JSON", data)
	}
	rest := 0
	if limit > 0 && len(text) > limit {
		for !utf8.RuneStart(text[limit]) {
			limit--
		}
		text, rest = text[:limit], len(text)-limit
	}
	if text != "" {
		fmt.Fprint(w.Out, frame.Body(text))
	}
	if rest > 0 {
		w.Say("… %s more: duo read %s", Size(rest), m.Ref)
	}
	w.attached(m.Ref, m.Envelope.Attachments)
	if len(m.Envelope.Data) > 0 && m.Envelope.Content != "" {
		w.Say("data: %s of JSON: duo read %s --json", data, m.Ref)
	}
}

// Headline says in one line what a message is, who it is from, and when it came.
func (w *Writer) Headline(m api.Message) string {
	e := m.Envelope
	first := w.deed(e) + " " + w.clock(e.Timestamp)
	if m.Ref != "" {
		first = w.Bold(m.Ref) + " " + first
	}
	parts := []string{first}
	if e.Type == envelope.Call {
		parts = append(parts, frame.Line(e.Status)+w.ringsUntil(e.RingUntil)+because(e.Reason))
	}
	if !e.ReplyTo.IsZero() {
		parts = append(parts, "answers "+answers(m))
	}
	if e.Auto && e.Type == envelope.Message {
		parts = append(parts, "automatic")
	}
	if len(m.Crossed) > 0 {
		parts = append(parts, crossed(m))
	}
	return strings.Join(parts, ", ")
}

// deed is what somebody did with an envelope.
func (w *Writer) deed(e *envelope.Envelope) string {
	who := w.Local(e.From.String())
	switch {
	case e.Type == envelope.Message:
		return "from " + who
	case e.Type == envelope.Typing && e.Status == envelope.TypingOff:
		return who + " types no more in " + w.ref(e.Conversation)
	case e.Type == envelope.Typing:
		return who + " is typing in " + w.ref(e.Conversation)
	case e.Type == envelope.Presence:
		return who + " is " + frame.Line(e.Status) + Title(e.Content)
	}
	if s, ok := w.reader().Of(e); ok {
		return s.Text(who, quoted)
	}
	return who + " " + frame.Cut(string(e.Type), 20) + " " + frame.Quote(e.Event, 60) // in quotes: words of its host
}

// reader is who reads sentences.
func (w *Writer) reader() sentence.Reader {
	return sentence.Reader{Is: w.isMine, People: w.People, Clock: w.clock}
}

func quoted(why string) string { return frame.Quote(why, maxWhy) }

func answers(m api.Message) string {
	if seq := m.Envelope.ReplyTo.Seq; seq > 0 {
		return sibling(m.Ref, seq)
	}
	return frame.Quote(m.Envelope.ReplyTo.ID, 40)
}

const maxCrossed = 3

// crossed names the messages that the sender had not been shown.
func crossed(m api.Message) string {
	refs := make([]string, 0, maxCrossed)
	for _, seq := range m.Crossed[:min(len(m.Crossed), maxCrossed)] {
		refs = append(refs, sibling(m.Ref, seq))
	}
	if more := len(m.Crossed) - len(refs); more > 0 {
		refs = append(refs, fmt.Sprintf("%d more", more))
	}
	return "crossed: " + strings.Join(refs, ", ")
}

// sibling is the reference of another message in the conversation of ref.
func sibling(ref string, seq int64) string {
	conversation, _, _ := maildir.SplitRef(ref)
	return fmt.Sprintf("%s.%d", conversation, seq)
}

// attached tells what files a message or a call brings, and how to get them.
func (w *Writer) attached(ref string, list []envelope.Attachment) {
	for _, f := range list {
		line := fmt.Sprintf("attached: %s, %s, %s", frame.Line(f.Name), Size(int(f.Size)), frame.Line(f.MediaType))
		if ref != "" {
			line += "; duo get " + ref
			if len(list) > 1 {
				line += " " + FileArg(f.Name)
			}
		}
		w.Say("%s", line)
	}
}

// FileArg is the name of an attached file as an argument of duo get.
func FileArg(name string) string {
	arg := frame.ShellWord(frame.Line(name))
	if strings.HasPrefix(name, "-") {
		return "-- " + arg
	}
	return arg
}

package show

import (
	"cmp"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/sentence"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Ref is the reference of a line in a conversation that has one itself.
func Ref(conversation string, seq int64) string { return fmt.Sprintf("%s.%d", conversation, seq) }

// NoLine is the error of who asks for a line that a conversation does not have.
func NoLine(ref string, seq, last int64) error {
	return api.Errorf(api.MessageNotFound, "conversation %s has no line %d; its last is %d", ref, seq, last).WithNext("duo log %s", ref)
}

const maxCrossed = 100

// CrossedBehind is the line behind which messages can have crossed a message, false
// where none can. It looks back only so far: who has been away for long has missed all.
func CrossedBehind(e *envelope.Envelope) (seq int64, ok bool) {
	if e.Type != envelope.Message || e.After == nil || *e.After >= e.Seq-1 {
		return 0, false
	}
	return max(*e.After, e.Seq-1-maxCrossed), true
}

// Crossed lists the messages by others among the lines behind [CrossedBehind]: they
// stand between what the sender had been shown and what it wrote.
func Crossed(e *envelope.Envelope, lines iter.Seq2[*envelope.Envelope, error]) []int64 {
	var list []int64
	for other, err := range lines {
		if err != nil || other.Seq >= e.Seq {
			break
		}
		if other.Type == envelope.Message && !other.From.Same(e.From) && other.Seq != e.ReplyTo.Seq {
			list = append(list, other.Seq)
		}
	}
	return list
}

// Text is what there is to read in an envelope: its text, or what happened. It is told to
// the agent that the envelope is for.
func Text(e *envelope.Envelope) string {
	return text(e, sentence.Reader{Is: func(string) bool { return true }})
}

// text is Text for whoever reads. It stands behind the name of the sender, so what has
// happened is told first: no text can pass for that.
func text(e *envelope.Envelope, reader sentence.Reader) string {
	s, ok := reader.Of(e)
	if !ok || e.Type == envelope.Call && e.Content != "" {
		return e.Content
	}
	s.Why = cmp.Or(s.Why, e.Content)
	return s.Text("", func(why string) string { return why })
}

func inboxItem(m api.Message) api.InboxItem {
	e := m.Envelope
	return api.InboxItem{
		Ref: m.Ref, Conversation: e.Conversation, Seq: e.Seq, Topic: m.Topic, Type: string(e.Type), Event: e.Event,
		From: e.From.String(), Timestamp: e.Timestamp, Preview: preview(Text(e)), Size: len(e.Content),
		Error: m.Error, Status: e.Status, RingUntil: e.RingUntil, Attachments: e.Attachments,
	}
}

// Last tells of a line that is a conversation's last, to whoever asks.
func Last(e *envelope.Envelope) *api.Last {
	everybody := sentence.Reader{People: func(addresses []string) string { return strings.Join(addresses, ", ") }}
	return &api.Last{
		Seq: e.Seq, From: e.From.String(), Type: string(e.Type), Event: e.Event, Preview: preview(text(e, everybody)), Timestamp: e.Timestamp,
	}
}

const previewRunes = 100

func preview(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) <= previewRunes {
		return text
	}
	return string([]rune(text)[:previewRunes]) + "…"
}

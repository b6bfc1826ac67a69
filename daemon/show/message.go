package show

import (
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/claude-duo/duo/daemon/api"
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
func Text(e *envelope.Envelope) string { return text(e, "you") }

// text is Text, told to somebody for whom whom is whom it concerns.
func text(e *envelope.Envelope, whom string) string {
	switch {
	case e.Type == envelope.Call && e.Content == "":
		return "wants to talk"
	case e.Type == envelope.Accept:
		return "accepted your call"
	case e.Type == envelope.Reject && e.Status == "busy":
		return withReason("is busy and can still accept", e.Reason)
	case e.Type == envelope.Reject && e.Status == "missed":
		return "did not answer and can still accept"
	case e.Type == envelope.Reject:
		return withReason("rejected your call", e.Reason)
	case e.Type == envelope.Leave && e.Reason != "":
		return withReason("left", e.Reason)
	case e.Type == envelope.System && e.Event == envelope.EventCreate:
		return "invited " + whom
	case e.Type == envelope.System && e.Event == envelope.EventInvite:
		return "invited " + whom
	case e.Type == envelope.System && e.Event == envelope.EventClose:
		return withReason("closed the conversation", e.Reason)
	case e.Type == envelope.System && e.Event == envelope.EventStanding && e.Status == "none":
		return withReason("lets "+whom+" do all again", e.Reason)
	case e.Type == envelope.System && e.Event == envelope.EventStanding:
		return withReason(e.Status+" "+whom, e.Reason)
	case e.Type == envelope.System && e.Event == envelope.EventUndeliverable:
		return "not delivered: " + e.Why
	case e.Type == envelope.System && e.Event == envelope.EventRestored:
		return e.Why
	case e.Type == envelope.Join && e.Content == "":
		return "joined"
	case e.Type == envelope.Leave && e.Content == "":
		return "left"
	}
	return e.Content
}

func withReason(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
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
	var others []string
	for _, p := range e.Participants {
		if !p.Same(e.From) {
			others = append(others, p.String())
		}
	}
	whom := strings.Join(others, ", ")
	if whom == "" {
		whom = "nobody"
	}
	return &api.Last{
		Seq: e.Seq, From: e.From.String(), Type: string(e.Type), Event: e.Event, Preview: preview(text(e, whom)), Timestamp: e.Timestamp,
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

package text

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir/envelope"
)

const previewLength = 100

// Inbox lists what the reader has not seen.
func (w *Writer) Inbox(inbox api.Inbox) {
	for _, i := range inbox.Items {
		if i.Error != "" {
			w.Say("%s %s cannot be read: %s", w.Bold(i.Ref), w.clock(i.Timestamp), frame.Cut(i.Error, maxFailure))
			continue
		}
		w.Say("%s", w.item(i))
		w.attached(i.Ref, i.Attachments)
	}
	for _, f := range inbox.Failed {
		w.Say("not sent: %s: %s", frame.Line(f.File), frame.Cut(f.Error, maxFailure))
	}
	unread := len(inbox.Items) + inbox.More
	switch {
	case unread > 0:
		w.Say("%d unread", unread)
		w.Next("%s", cmp.Or(callIn(inbox.Items), "duo read"))
	case len(inbox.Failed) > 0:
		w.Next("cat %s", frame.ShellWord(inbox.Failed[0].File))
	default:
		w.Say("nothing unread")
		w.Next("duo wait")
	}
}

// item tells of one thing in an inbox.
func (w *Writer) item(i api.InboxItem) string {
	what := i.Type
	if i.Event != "" {
		what = i.Event
	}
	if what == string(envelope.Message) {
		what = ""
	} else {
		what = " " + frame.Cut(what, 40)
	}
	if i.Type == string(envelope.Call) {
		what += ", " + frame.Line(i.Status) + w.ringsUntil(i.RingUntil) + ","
	}
	line := fmt.Sprintf("%s from %s%s %s%s", w.Bold(i.Ref), w.Local(i.From), what, w.clock(i.Timestamp), Title(i.Topic))
	ofCall := i.Seq == 0 // and no line of a conversation
	if i.Preview != "" && (i.Type == string(envelope.Message) || i.Event == envelope.EventStanding || ofCall) {
		line += " " + frame.Prefix + frame.Cut(i.Preview, previewLength)
	}
	return line
}

// callIn is the command to accept a call of an inbox, one that rings first. It is empty
// where there is none.
func callIn(items []api.InboxItem) (next string) {
	for _, i := range slices.Backward(items) {
		if i.Type == string(envelope.Call) && api.CanAccept(i.Status) {
			next = "duo accept " + i.Ref
		}
	}
	for _, i := range items {
		if i.Type == string(envelope.Call) && i.Status == api.CallRinging {
			return "duo accept " + i.Ref
		}
	}
	return next
}

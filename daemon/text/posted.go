package text

import (
	"fmt"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Sent tells that a message of the reader's was sent, and how far it is.
func (w *Writer) Sent(p api.Posted) {
	if p.Queued {
		w.queued(p)
		return
	}
	verb := "sent"
	if p.Duplicate {
		verb = "was sent before:"
	}
	line := fmt.Sprintf("%s %s%s to %s", verb, w.Bold(p.Message.Ref), Title(p.Conversation.Topic), w.Recipients(p.Recipients))
	if len(p.Recipients) == 0 {
		line = fmt.Sprintf("%s %s%s; nobody else is in the conversation yet", verb, w.Bold(p.Message.Ref), Title(p.Conversation.Topic))
	}
	w.Say("%s", line)
	if len(p.Message.Crossed) > 0 {
		w.Say("%s: you had not been shown this when you wrote", crossed(p.Message))
	}
}

// AfterSending tells what to run after a message was sent.
func (w *Writer) AfterSending(p api.Posted) {
	switch {
	case p.Queued:
		w.Next("duo receipts %s", p.Message.Ref)
	case len(p.Message.Crossed) > 0:
		w.Next("duo read")
	case len(p.Recipients) == 0:
		w.Next("duo invite %s AGENT", p.Conversation.Ref)
	default:
		w.Next("duo wait --for reply %s", p.Message.Ref)
	}
}

// queued tells that a message waits for another host.
func (w *Writer) queued(p api.Posted) {
	verb := "queued"
	if p.Duplicate {
		verb = "is queued already"
	}
	to := ""
	if len(p.Recipients) > 0 {
		to = " to " + w.waiting(p.Recipients)
	}
	w.Say("%s%s: %s%s%s", verb, QueuedFor(p.For), p.Message.Ref, Title(p.Conversation.Topic), to)
}

// Dropped tells that a draft of the reader's waits in its outbox; next is what to run then.
func (w *Writer) Dropped(draft *envelope.Envelope, next string) {
	w.Say("queued %s: %s%s", draft.ID, draft.Type, w.destination(draft))
	w.Next("%s", next)
}

func (w *Writer) destination(e *envelope.Envelope) string {
	switch {
	case len(e.To) > 0:
		return " to " + w.People(e.To)
	case e.Conversation != "":
		return " in " + e.Conversation
	case e.Request != "":
		return " of " + e.Request
	case e.Status != "":
		return " " + e.Status
	}
	return ""
}

// Receipts tells how far a message got.
func (w *Writer) Receipts(r api.Receipts) {
	if r.Seq == 0 {
		w.Say("%s is queued%s: %s", r.Ref, QueuedFor(r.For), w.waiting(r.Recipients))
		w.Next("duo receipts %s --wait", r.Ref)
		return
	}
	if len(r.Recipients) == 0 {
		w.Say("%s was for nobody", r.Ref)
		return
	}
	w.Say("%s %s", w.Bold(r.Ref), w.Recipients(r.Recipients))
}

// QueuedFor names the host that something waits for.
func QueuedFor(host string) string {
	if host == "" {
		return ""
	}
	return " for " + frame.Line(host)
}

// waiting is Recipients where it was said that the message is queued.
func (w *Writer) waiting(list []api.Recipient) string {
	names := make([]string, 0, len(list))
	for _, r := range list {
		if r.State != api.Queued {
			return w.Recipients(list)
		}
		names = append(names, r.Agent)
	}
	return w.People(names)
}

// Recipients tells each recipient's state, those with the same state together, and of
// those that take it not why.
func (w *Writer) Recipients(list []api.Recipient) string {
	var parts []string
	for _, r := range list {
		if r.Why != "" {
			parts = append(parts, fmt.Sprintf("%s (refused%s)", w.Local(r.Agent), because(r.Why)))
		}
	}
	for _, state := range []string{api.Seen, api.Delivered, api.Stored, api.Queued} {
		var names []string
		for _, r := range list {
			if r.State == state && r.Why == "" {
				names = append(names, r.Agent)
			}
		}
		if len(names) > 0 {
			parts = append(parts, fmt.Sprintf("%s (%s)", w.People(names), state))
		}
	}
	return strings.Join(parts, ", ")
}

package text

import (
	"fmt"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/frame"
)

// Conversations lists conversations; more is the command that lists those, too, which a
// limit left out.
func (w *Writer) Conversations(list api.Conversations, more string) {
	for _, c := range list.Conversations {
		line := fmt.Sprintf("%s, %s, %s", w.Summary(c), Count(int(c.Turns), "message"), w.clock(c.LastTime))
		if c.Unread > 0 {
			line += fmt.Sprintf(", %d unread", c.Unread)
		}
		if c.Current {
			line += ", current"
		}
		w.Say("%s", line)
	}
	switch {
	case len(list.Conversations) == 0:
		w.Say("no conversations")
		w.Next("duo who")
	case list.More > 0:
		w.Say("%d more", list.More)
		w.Next("%s", more)
	default:
		w.Next("duo log %s", list.Conversations[0].Ref)
	}
}

// Conversation describes a conversation.
func (w *Writer) Conversation(c api.Conversation) {
	w.Say("%s", w.Summary(c))
	w.Field("creator", w.Local(c.Creator)+", "+w.clock(c.CreatedAt))
	if len(c.Left) > 0 {
		w.Field("left", w.People(c.Left))
	}
	w.Say("messages: %d, last line %d, %s", c.Turns, c.LastSeq, w.clock(c.LastTime))
	if c.Unread > 0 {
		w.Say("unread: %d", c.Unread)
	}
	w.Field("id", c.ID)
	w.Field("log", c.Log)
	w.Next("duo log %s", c.Ref)
}

// Summary tells of a conversation in one line.
func (w *Writer) Summary(c api.Conversation) string {
	who := "nobody is in it"
	if len(c.Participants) > 0 {
		who = w.People(c.Participants)
	}
	var traits []string
	if c.Mode != "" {
		traits = append(traits, frame.Cut(c.Mode, 20))
	}
	if c.Open {
		traits = append(traits, "open")
	}
	if c.TurnLimit > 0 {
		traits = append(traits, fmt.Sprintf("turn %d of %d", c.Turns, c.TurnLimit))
	}
	if c.Status != "active" {
		traits = append(traits, frame.Cut(c.Status, 20)+because(c.Reason))
	}
	return fmt.Sprintf("%s%s: %s (%s)", w.Bold(c.Ref), Title(c.Topic), who, strings.Join(traits, ", "))
}

// Changed tells of a conversation that the reader has changed; next is what to run then,
// with REF for the conversation.
func (w *Writer) Changed(p api.Posted, verb, next string) {
	if p.Queued {
		w.Say("queued%s: %s", QueuedFor(p.For), p.Message.Ref)
		w.Next("duo receipts %s", p.Message.Ref)
		return
	}
	if p.Duplicate {
		verb += " before:"
	}
	w.Say("%s %s", verb, w.Summary(p.Conversation))
	w.Next("%s", strings.ReplaceAll(next, "REF", p.Conversation.Ref))
}

package export

import (
	"strings"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/envelope"
)

// titleOf names a conversation: by its topic, else by who is in it.
func titleOf(state conv.State) string {
	if state.Topic != "" {
		return state.Topic
	}
	return names(state.Present())
}

func names(list []envelope.Address) string {
	words := make([]string, len(list))
	for i, a := range list {
		words[i] = a.Name
	}
	return strings.Join(words, ", ")
}

// kindOf is the type of a line, and of an event its name.
func kindOf(e *envelope.Envelope) string {
	if e.Event == "" {
		return string(e.Type)
	}
	return string(e.Type) + "/" + e.Event
}

// said is the text of a message, or what an event was.
func said(e entry) string {
	switch {
	case !e.known():
		return "This line of the log is no message that can be read."
	case e.Type == envelope.Message:
		return e.Content
	}
	text := deed(e.Envelope)
	if e.Content != "" {
		text += "\n\n" + e.Content
	}
	return text
}

// deed is a sentence on what an event was.
func deed(e *envelope.Envelope) string {
	who := e.From.String()
	switch {
	case e.Type == envelope.Join:
		return who + " joined."
	case e.Type == envelope.Leave:
		return who + " left" + because(e.Reason)
	case e.Event == envelope.EventCreate:
		return who + " created the conversation" + with(e)
	case e.Event == envelope.EventInvite:
		return who + " invited " + addresses(e.Participants) + "."
	case e.Event == envelope.EventClose:
		return who + " closed the conversation" + because(e.Reason)
	case e.Event == envelope.EventUndeliverable:
		return "Not delivered: " + e.Why
	case e.Event == envelope.EventRestored:
		return e.Why
	}
	return who + ": " + kindOf(e)
}

func because(reason string) string {
	if reason == "" {
		return "."
	}
	return ": " + reason
}

func with(e *envelope.Envelope) string {
	var others []envelope.Address
	for _, a := range e.Participants {
		if !a.Same(e.From) {
			others = append(others, a)
		}
	}
	if len(others) == 0 {
		return "."
	}
	return " with " + addresses(others) + "."
}

func addresses(list []envelope.Address) string {
	words := make([]string, len(list))
	for i, a := range list {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

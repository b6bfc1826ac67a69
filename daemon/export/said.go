package export

import (
	"strings"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/daemon/sentence"
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
	text := happened(e.Envelope)
	if e.Content != "" {
		text += "\n\n" + e.Content
	}
	return text
}

const maxWhy = 4 * envelope.MaxTopic // all of it

// everybody reads an export.
var everybody = sentence.Reader{People: func(list []string) string { return frame.Line(strings.Join(list, ", ")) }}

// happened is a sentence on what an event was.
func happened(e *envelope.Envelope) string {
	who := e.From.String()
	s, ok := everybody.Of(e)
	if !ok {
		return who + ": " + kindOf(e)
	}
	if !s.By { // else it begins with a name, which is as it is
		s.Deed = strings.ToUpper(s.Deed[:1]) + s.Deed[1:]
	}
	text := s.Text(who, func(why string) string { return frame.Quote(why, maxWhy) })
	if s.Why == "" {
		text += "."
	}
	return text
}

func addresses(list []envelope.Address) string {
	words := make([]string, len(list))
	for i, a := range list {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

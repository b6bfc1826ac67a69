package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/daemon/frame"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	budget    = 24 << 10 // bytes of bodies in one run; harnesses keep about 30,000 characters
	beginning = 4 << 10  // of a body that is longer than all of that

	maxFailure = 300 // characters of an error that stands on a line of its own
)

// revealOptions says how messages are shown.
type revealOptions struct {
	raw     bool // bodies only
	keep    bool // they stay unseen
	whole   bool // however long they are
	printed bool // they were shown already, as JSON
}

// reveal shows the bodies of messages and then marks them seen: those that were
// written to stdout whole, and no others. That some cannot be read is an error in the
// end.
func (a *app) reveal(ctx context.Context, list api.Messages, o revealOptions) error {
	shown := slices.DeleteFunc(slices.Clone(list.Messages), func(m api.Message) bool { return m.Error != "" })
	if !o.printed && a.json {
		if err := a.printJSON(list); err != nil {
			return err
		}
	} else if !o.printed {
		shown = a.tellMessages(list.Messages, o)
	}
	if err := a.flush(); err != nil {
		return err
	}
	if !o.keep {
		if err := a.seen(ctx, shown); err != nil {
			return err
		}
	}
	bad := unreadable(list.Messages)
	left := len(list.Messages) - len(shown) - len(bad) + list.More
	switch {
	case len(bad) > 0:
		if left > 0 {
			a.note("%d more unread", left)
		}
		return api.Errorf(api.Damaged, "%s cannot be read, %s: %s", count(len(bad), "message"), bad[0].Ref, bad[0].Error).WithNext("duo fsck")
	case !a.json && !o.raw:
		a.nextAfterReading(shown, left)
	}
	return nil
}

// unreadable are the messages of which only the place is known.
func unreadable(messages []api.Message) []api.Message {
	return slices.DeleteFunc(slices.Clone(messages), func(m api.Message) bool { return m.Error == "" })
}

// tellMessages prints messages as far as the budget goes, and returns those that
// were printed whole.
func (a *app) tellMessages(messages []api.Message, o revealOptions) (shown []api.Message) {
	topic, spent := "", 0
	for _, m := range messages {
		if m.Error != "" {
			if !o.raw {
				a.say("%s cannot be read: %s", a.bold(m.Ref), frame.Cut(m.Error, maxFailure))
			}
			continue
		}
		size := len(toRead(m.Envelope))
		if !o.whole && spent > 0 && spent+size > budget {
			break
		}
		spent += size
		limit := 0
		if !o.whole && size > budget {
			limit = beginning
		}
		if o.raw {
			a.tellRaw(m, len(messages) == 1)
		} else {
			a.tellMessage(m, m.Topic != topic, limit)
		}
		topic = m.Topic
		if limit == 0 || o.raw {
			shown = append(shown, m)
		}
	}
	return shown
}

// toRead is the body of a message: its text or, where it has none, its data as JSON text.
func toRead(e *envelope.Envelope) string {
	if e.Content == "" {
		return string(e.Data)
	}
	return e.Content
}

// tellRaw prints a body alone. One that is alone in the output too, and not on a
// terminal, is printed byte for byte.
func (a *app) tellRaw(m api.Message, alone bool) {
	text := toRead(m.Envelope)
	if a.terminal {
		text = frame.Text(text)
	}
	if (a.terminal || !alone) && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	fmt.Fprint(a.out, text)
}

// tellMessage prints a line that says what it is, and the body behind it, cut after
// limit bytes where that is not 0.
func (a *app) tellMessage(m api.Message, topic bool, limit int) {
	line := a.headline(m)
	if topic {
		line += title(m.Topic)
	}
	a.say("%s", line)
	switch e := m.Envelope; {
	case e.Type == envelope.Call && !isOpen(e.Status):
		return // its text is the first message by now, or of no more concern
	case e.Type == envelope.Presence:
		return // its note stands in the line
	}
	text, data := toRead(m.Envelope), size(len(m.Envelope.Data))
	if text != m.Envelope.Content {
		a.say("data: %s of JSON", data)
	}
	rest := 0
	if limit > 0 && len(text) > limit {
		for !utf8.RuneStart(text[limit]) {
			limit--
		}
		text, rest = text[:limit], len(text)-limit
	}
	if text != "" {
		fmt.Fprint(a.out, frame.Body(text))
	}
	if rest > 0 {
		a.say("… %s more: duo read %s", size(rest), m.Ref)
	}
	a.tellAttached(m.Ref, m.Envelope.Attachments)
	if len(m.Envelope.Data) > 0 && m.Envelope.Content != "" {
		a.say("data: %s of JSON: duo read %s --json", data, m.Ref)
	}
}

// headline says in one line what a message is, who it is from, and when it came.
func (a *app) headline(m api.Message) string {
	e := m.Envelope
	first := a.deed(e) + " " + clock(e.Timestamp, time.Now())
	if m.Ref != "" {
		first = a.bold(m.Ref) + " " + first
	}
	parts := []string{first}
	if e.Type == envelope.Call {
		state := frame.Line(e.Status) + ringsUntil(e.RingUntil)
		if e.Reason != "" {
			state += because(e.Reason)
		}
		parts = append(parts, state)
	}
	if !e.ReplyTo.IsZero() {
		parts = append(parts, "answers "+a.answers(m))
	}
	if e.Auto && e.Type == envelope.Message {
		parts = append(parts, "automatic")
	}
	if len(m.Crossed) > 0 {
		parts = append(parts, a.crossed(m))
	}
	return strings.Join(parts, ", ")
}

// deed is what somebody did with an envelope.
func (a *app) deed(e *envelope.Envelope) string {
	who := a.local(e.From.String())
	switch {
	case e.Type == envelope.Message:
		return "from " + who
	case e.Type == envelope.Join:
		return who + " joined"
	case e.Type == envelope.Leave:
		return who + " left"
	case e.Type == envelope.Call:
		return who + " calls " + a.called(e)
	case e.Type == envelope.Accept:
		return who + " accepted " + a.itsCall(e)
	case e.Type == envelope.Reject && e.Status == api.CallMissed:
		return who + " did not answer " + a.itsCall(e) + " and can accept it later,"
	case e.Type == envelope.Reject && e.Status == api.CallBusy:
		return who + " is busy" + because(e.Reason) + " and can accept " + a.itsCall(e) + " later,"
	case e.Type == envelope.Reject:
		return who + " rejected " + a.itsCall(e) + because(e.Reason)
	case e.Type == envelope.Cancel:
		return a.itsCall(e) + " is cancelled"
	case e.Type == envelope.Typing && e.Status == envelope.TypingOff:
		return who + " types no more in " + a.refOf(e.Conversation)
	case e.Type == envelope.Typing:
		return who + " is typing in " + a.refOf(e.Conversation)
	case e.Type == envelope.Presence:
		return who + " is " + frame.Line(e.Status) + title(e.Content)
	case e.Event == envelope.EventCreate:
		return who + " created the conversation with " + a.others(e)
	case e.Event == envelope.EventInvite:
		return who + " invited " + a.people(addresses(e.Participants))
	case e.Event == envelope.EventClose:
		return who + " closed the conversation" + because(e.Reason)
	case e.Event == envelope.EventUndeliverable:
		return "not delivered: " + frame.Cut(e.Why, 500) + ";"
	case e.Event == envelope.EventRestored:
		return frame.Cut(e.Why, 500) + ";"
	}
	return who + " " + frame.Cut(string(e.Type)+" "+e.Event, 60)
}

// called names whom a call asks.
func (a *app) called(e *envelope.Envelope) string {
	if a.isFor(e) {
		return "you"
	}
	return a.people(e.To)
}

// itsCall is the call that an envelope answers.
func (a *app) itsCall(e *envelope.Envelope) string {
	if a.isFor(e) {
		return "your call"
	}
	return "the call of " + a.people(e.To)
}

// isFor reports whether an envelope goes to nobody but this run's agent.
func (a *app) isFor(e *envelope.Envelope) bool {
	if len(e.To) != 1 {
		return false
	}
	address, err := envelope.ParseAddress(e.To[0])
	return err == nil && a.isMe(address)
}

func (a *app) others(e *envelope.Envelope) string {
	var names []string
	for _, p := range e.Participants {
		if !p.Same(e.From) {
			names = append(names, p.String())
		}
	}
	if len(names) == 0 {
		return "nobody yet"
	}
	return a.people(names)
}

func addresses(list []envelope.Address) []string {
	texts := make([]string, len(list))
	for i, address := range list {
		texts[i] = address.String()
	}
	return texts
}

func (a *app) answers(m api.Message) string {
	if seq := m.Envelope.ReplyTo.Seq; seq > 0 {
		return sibling(m.Ref, seq)
	}
	return frame.Cut(m.Envelope.ReplyTo.ID, 40)
}

const maxCrossed = 3

// crossed names the messages that the sender had not been shown.
func (a *app) crossed(m api.Message) string {
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

// isMe reports whether an address is that of the agent this run acts as.
func (a *app) isMe(address envelope.Address) bool {
	return a.self != nil && a.opened != nil && address.Same(a.opened.Address(a.self.Name))
}

// clock is a time of day in UTC, with the date where it is not that of now.
func clock(ms int64, now time.Time) string {
	t := time.UnixMilli(ms).UTC()
	if t.Format(time.DateOnly) == now.UTC().Format(time.DateOnly) {
		return t.Format("15:04:05Z")
	}
	return t.Format("2006-01-02 15:04:05Z")
}

func size(bytes int) string {
	switch {
	case bytes < 1<<10:
		return fmt.Sprintf("%d bytes", bytes)
	case bytes < 1<<20:
		return fmt.Sprintf("%.1f KB", float64(bytes)/(1<<10))
	}
	return fmt.Sprintf("%.1f MB", float64(bytes)/(1<<20))
}

// placeOf is what names a message to the daemon: its line, or the call that it tells of.
func placeOf(m api.Message) api.Place {
	if m.Envelope.Seq == 0 {
		return api.Place{Request: m.Envelope.Request, Status: m.Envelope.Status}
	}
	return api.Place{Conversation: m.Envelope.Conversation, Seq: m.Envelope.Seq}
}

// seen marks messages seen that were shown: with the daemon, or in the inbox itself.
func (a *app) seen(ctx context.Context, messages []api.Message) error {
	places := make([]api.Place, 0, len(messages))
	for _, m := range messages {
		if !a.isMe(m.Envelope.From) {
			places = append(places, placeOf(m))
		}
	}
	if len(places) == 0 {
		return nil
	}
	_, err := ask(ctx, a, func(c *client.Client) (struct{}, error) { return struct{}{}, c.Shown(ctx, places) })
	if !client.Unreachable(err) {
		return err
	}
	files, err := a.files()
	if err != nil {
		return err
	}
	return files.Shown(messages)
}

// nextAfterReading tells what to run after messages were shown: a call that rings goes
// first, then the last message, then other calls.
func (a *app) nextAfterReading(shown []api.Message, left int) {
	ringing, reply, waiting := "", "", ""
	for _, m := range shown {
		e := m.Envelope
		switch {
		case a.isMe(e.From):
		case e.Type == envelope.Message:
			reply = fmt.Sprintf(`duo reply %s "..."`, m.Ref)
		case e.Type == envelope.Call && e.Status == api.CallRinging:
			ringing = a.afterSignal(m)
		default:
			waiting = cmp.Or(a.afterSignal(m), waiting)
		}
	}
	if left > 0 {
		a.say("%d more unread", left)
		reply = "duo read"
	}
	a.next("%s", cmp.Or(ringing, reply, waiting, "duo inbox"))
}

// afterSignal is the command that makes sense after what was told of a call, empty for
// none.
func (a *app) afterSignal(m api.Message) string {
	e := m.Envelope
	switch {
	case e.Type == envelope.Call && isOpen(e.Status):
		return "duo accept " + m.Ref
	case e.Type == envelope.Accept:
		return `duo send --to ` + a.refOf(e.Conversation) + ` "..."`
	case e.Type == envelope.Reject && isOpen(e.Status):
		return "duo wait --for answer " + m.Ref
	}
	return ""
}

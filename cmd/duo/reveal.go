package main

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/claude-duo/duo/cmd/duo/internal/frame"
	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	budget    = 24 << 10 // bytes of bodies in one run; harnesses keep about 30,000 characters
	beginning = 4 << 10  // of a body that is longer than all of that
)

// revealOptions says how messages are shown.
type revealOptions struct {
	raw     bool // bodies only
	keep    bool // they stay unseen
	whole   bool // however long they are
	printed bool // they were shown already, as JSON
}

// reveal shows the bodies of messages and then marks them seen: those that were
// written to stdout whole, and no others.
func (a *app) reveal(ctx context.Context, list api.Messages, o revealOptions) error {
	shown := list.Messages
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
	if !a.json && !o.raw {
		a.nextAfterReading(shown, len(list.Messages)-len(shown)+list.More)
	}
	return nil
}

// tellMessages prints messages as far as the budget goes, and returns those that
// were printed whole.
func (a *app) tellMessages(messages []api.Message, o revealOptions) (shown []api.Message) {
	topic, spent := "", 0
	for i, m := range messages {
		size := len(m.Envelope.Content)
		if !o.whole && i > 0 && spent+size > budget {
			break
		}
		spent += size
		limit := 0
		if !o.whole && size > budget {
			limit = beginning
		}
		if o.raw {
			a.tellRaw(m)
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

// tellRaw prints a body alone: as it is, unless stdout is a terminal.
func (a *app) tellRaw(m api.Message) {
	text := m.Envelope.Content
	if a.terminal {
		text = frame.Text(text)
	}
	a.say("%s", strings.TrimSuffix(text, "\n"))
}

// tellMessage prints a line that says what it is, and the body behind it, cut after
// limit bytes where that is not 0.
func (a *app) tellMessage(m api.Message, topic bool, limit int) {
	line := a.headline(m)
	if topic {
		line += title(m.Topic)
	}
	a.say("%s", line)
	text := m.Envelope.Content
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
	for _, f := range m.Envelope.Attachments {
		a.say("attached: %s, %s", frame.Line(f.Name), size(int(f.Size)))
	}
	if len(m.Envelope.Data) > 0 {
		a.say("data: %s of JSON: duo read %s --json", size(len(m.Envelope.Data)), m.Ref)
	}
}

// headline says in one line what a message is, who it is from, and when it came.
func (a *app) headline(m api.Message) string {
	e := m.Envelope
	parts := []string{a.bold(m.Ref) + " " + a.deed(e) + " " + clock(e.Timestamp, time.Now())}
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
	case e.Event == envelope.EventCreate:
		return who + " created the conversation with " + a.others(e)
	case e.Event == envelope.EventInvite:
		return who + " invited " + a.people(addresses(e.Participants))
	case e.Event == envelope.EventClose && e.Reason != "":
		return who + " closed the conversation: " + frame.Cut(e.Reason, 200) + ";"
	case e.Event == envelope.EventClose:
		return who + " closed the conversation"
	case e.Event == envelope.EventUndeliverable:
		return "not delivered: " + frame.Cut(e.Why, 500) + ";"
	}
	return who + " " + frame.Cut(string(e.Type)+" "+e.Event, 60)
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

// crossed names the messages that the sender had not been shown.
func (a *app) crossed(m api.Message) string {
	refs := make([]string, 0, maxPeople)
	for _, seq := range m.Crossed[:min(len(m.Crossed), maxPeople)] {
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

// seen marks messages seen that were shown: with the daemon, or in the inbox itself.
func (a *app) seen(ctx context.Context, messages []api.Message) error {
	places := make([]api.Place, 0, len(messages))
	for _, m := range messages {
		if !a.isMe(m.Envelope.From) {
			places = append(places, api.Place{Conversation: m.Envelope.Conversation, Seq: m.Envelope.Seq})
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
	return files.shown(messages)
}

func (a *app) nextAfterReading(shown []api.Message, left int) {
	ref := ""
	for _, m := range shown {
		if m.Envelope.Type == envelope.Message && !a.isMe(m.Envelope.From) {
			ref = m.Ref
		}
	}
	switch {
	case left > 0:
		a.say("%d more unread", left)
		a.next("duo read")
	case ref != "":
		a.next(`duo reply %s "..."`, ref)
	default:
		a.next("duo inbox")
	}
}

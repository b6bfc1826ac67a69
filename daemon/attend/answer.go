package attend

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/client"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// task is what one run of the command is for: messages of a conversation, at least one,
// of which the reply answers the last.
type task struct {
	messages     []api.Message
	conversation api.Conversation
	about        Event
}

func (t task) last() *envelope.Envelope { return t.messages[len(t.messages)-1].Envelope }

// hops is how many automatic messages led to the task. Where one of its messages was
// written by somebody, that is what it comes from.
func (t task) hops() int64 {
	hops := t.last().Hops
	for _, m := range t.messages {
		hops = min(hops, m.Envelope.Hops)
	}
	return hops
}

// deal does what lines of a conversation ask for: it runs the command and sends what it
// prints. When it returns nil, they are dealt with. An error leaves them to a later look.
func (a *Attendant) deal(ctx context.Context, lines []api.Message) error {
	began := a.parts.Now()
	t, err := a.task(ctx, lines)
	if err != nil || len(t.messages) == 0 {
		return err
	}
	result, err := a.attempt(ctx, t)
	t.about.Took = a.parts.Now().Sub(began)
	if err != nil {
		return a.setAside(ctx, t, err)
	}
	if err := a.reply(ctx, t, result); err != nil {
		return err
	}
	if result.Leave {
		return a.leave(ctx, t)
	}
	return nil
}

// task is what there is to answer among lines of a conversation. It tells of messages that
// are not answered.
func (a *Attendant) task(ctx context.Context, lines []api.Message) (task, error) {
	var t task
	var err error
	if t.conversation, err = a.conversation(ctx, lines[0].Envelope.Conversation); err != nil {
		return t, err
	}
	before, err := a.answered(ctx, lines)
	if err != nil {
		return t, err
	}
	for _, m := range lines {
		about := Event{What: Before, Ref: m.Ref, From: m.Envelope.From.String()}
		switch {
		case m.Envelope.Type != envelope.Message: // somebody has come, left or closed it
			continue
		case m.Envelope.Seq > before:
			about.What, about.Why = Passed, a.pass(m.Envelope, t.conversation)
		}
		if about.What == Passed && about.Why == "" {
			t.messages = append(t.messages, m)
			t.about = Event{Ref: about.Ref, From: about.From, Messages: len(t.messages)}
		} else {
			a.tell(about)
		}
	}
	if len(t.messages) > 0 && a.Hops > 0 && t.hops()+1 >= a.Hops {
		t.about.What, t.about.Why = Passed, fmt.Sprintf("%d automatic messages led to it: a model or a human has to say something", t.hops())
		a.tell(t.about)
		t.messages = nil
	}
	return t, nil
}

func (a *Attendant) conversation(ctx context.Context, id string) (api.Conversation, error) {
	found, err := insist(ctx, a, func(ctx context.Context, c *client.Client) (api.Found, error) { return c.Find(ctx, id) })
	if err == nil && found.Conversation == nil {
		err = api.Errorf(api.ConversationNotFound, "no conversation %q here", id)
	}
	if err != nil {
		return api.Conversation{}, err
	}
	return *found.Conversation, nil
}

// pass says why the command is not run for a line, empty where it is.
func (a *Attendant) pass(e *envelope.Envelope, c api.Conversation) string {
	switch {
	case isNotice(e):
		return "it says that a message of yours was not answered"
	case len(e.To) > 0 && !slices.ContainsFunc(e.To, a.Agent.IsCalled):
		return "it is directed to somebody else"
	case c.Status == "closed":
		return "the conversation is closed"
	case !slices.ContainsFunc(c.Participants, a.Agent.IsCalled):
		return "you have left the conversation"
	case len(c.Participants) < 2 && !c.Open:
		return "everyone else has left the conversation"
	case c.TurnLimit > 0 && c.Turns >= c.TurnLimit:
		return "the turn limit is reached"
	}
	return ""
}

// replyID is the id of the reply to a message. It follows from the message, so that a
// reply that is sent again is the first one.
func (a *Attendant) replyID(e *envelope.Envelope) string {
	return envelope.NamedID("attend", a.Agent.Key(), e.ID)
}

// answered is the last of some lines to which a reply stands in their conversation, 0 for
// none: whoever has sent it may have ended before it marked them seen.
func (a *Attendant) answered(ctx context.Context, lines []api.Message) (seq int64, err error) {
	transcript, err := insist(ctx, a, func(ctx context.Context, c *client.Client) (io.ReadCloser, error) {
		return c.Transcript(ctx, lines[0].Envelope.Conversation, client.Span{After: lines[0].Envelope.Seq})
	})
	if err != nil {
		return 0, err
	}
	defer transcript.Close()
	replies := make(map[string]int64, len(lines))
	for _, m := range lines {
		replies[a.replyID(m.Envelope)] = m.Envelope.Seq
	}
	for in := bufio.NewReader(transcript); ; {
		line, err := in.ReadSlice('\n')
		if id, from := beginning(line); from == a.Agent.String() { // others can give a line any id
			seq = max(seq, replies[id])
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		if errors.Is(err, io.EOF) {
			return seq, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read behind %s: %w", lines[0].Ref, err)
		}
	}
}

// beginning is what a line of a log begins with, after its seq: its id, and before
// anything that its sender has written, who that is.
func beginning(line []byte) (id, from string) {
	_, rest, _ := bytes.Cut(line, []byte(`,"id":"`))
	head, rest, _ := bytes.Cut(rest, []byte(`"`))
	_, rest, _ = bytes.Cut(rest, []byte(`"from":"`))
	sender, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(head), string(sender)
}

// attempt runs the command, and where it fails runs it again.
func (a *Attendant) attempt(ctx context.Context, t task) (Result, error) {
	earlier, err := a.history(ctx, t.messages[0].Envelope)
	if err != nil {
		return Result{}, err
	}
	input, err := a.Input.of(t.messages, earlier)
	if err != nil {
		return Result{}, err
	}
	end := a.asked.begin()
	defer end()
	rest := a.Backoff
	for try := 1; ; try++ {
		result, err := a.parts.Runner.Run(ctx, input, a.environment(t, try))
		switch {
		case err == nil:
			return result, nil
		case ctx.Err() != nil:
			return Result{}, ctx.Err()
		case try > a.Retries || errors.Is(err, errForGood):
			return Result{}, &failure{tries: try, cause: err}
		}
		again := t.about
		again.What, again.Error = Retrying, err.Error()
		a.tell(again)
		a.parts.Pause(ctx, rest)
		rest *= 2
	}
}

// history is what was said before a message, as far as the command is to get it.
func (a *Attendant) history(ctx context.Context, e *envelope.Envelope) ([]api.Message, error) {
	if a.History < 1 {
		return nil, nil
	}
	return insist(ctx, a, func(ctx context.Context, c *client.Client) ([]api.Message, error) {
		lines, err := c.Transcript(ctx, e.Conversation, client.Span{Before: e.Seq, Last: 2 * a.History}) // some are no messages
		if err != nil {
			return nil, err
		}
		defer lines.Close()
		return messagesOf(lines, a.History)
	})
}

// reply sends what the command has printed.
func (a *Attendant) reply(ctx context.Context, t task, result Result) error {
	about := t.about
	if result.Text == "" {
		about.What = Silent
		a.tell(about)
		return nil
	}
	draft := a.draft(t)
	draft.Content = result.Text
	posted, err := a.post(ctx, draft)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case hasCode(err, api.KeyReused) && a.repliedTo(ctx, t): // by an attendant that has ended just now
		about.What = Before
	case err != nil:
		return a.keep(draft, about, fmt.Errorf("the reply is refused: %w", err))
	default:
		about.What, about.Reply = Answered, posted.Message.Ref
	}
	a.tell(about)
	return nil
}

func (a *Attendant) repliedTo(ctx context.Context, t task) bool {
	seq, err := a.answered(ctx, t.messages)
	return err == nil && seq == t.last().Seq
}

// draft begins the reply of a task. Among several it is directed to those whom it answers:
// others can read it, and their attendants let it be.
func (a *Attendant) draft(t task) *envelope.Envelope {
	e := t.last()
	draft := &envelope.Envelope{
		ID: a.replyID(e), Type: envelope.Message, Conversation: e.Conversation,
		ReplyTo: envelope.Ref{Seq: e.Seq}, After: envelope.Int(e.Seq), Auto: true, Hops: t.hops() + 1,
	}
	if len(t.conversation.Participants) == 2 {
		return draft
	}
	for _, m := range t.messages {
		sender := m.Envelope.From.String()
		if slices.Contains(t.conversation.Participants, sender) && !slices.Contains(draft.To, sender) {
			draft.To = append(draft.To, sender)
		}
	}
	return draft
}

func (a *Attendant) post(ctx context.Context, draft *envelope.Envelope) (api.Posted, error) {
	return insist(ctx, a, func(ctx context.Context, c *client.Client) (api.Posted, error) { return c.Post(ctx, draft) })
}

// leave leaves a conversation, as the command has said. That somebody has closed it
// meanwhile is no trouble.
func (a *Attendant) leave(ctx context.Context, t task) error {
	id := envelope.NamedID("attend leaves", a.Agent.Key(), t.last().ID)
	_, err := a.post(ctx, &envelope.Envelope{ID: id, Type: envelope.Leave, Conversation: t.conversation.ID})
	if err != nil && !hasCode(err, api.ConversationClosed) && !hasCode(err, api.NotParticipant) {
		return err
	}
	a.tell(Event{What: Left, Ref: t.about.Ref, From: t.about.From})
	return nil
}

// failure is why a message could not be answered.
type failure struct {
	tries int
	cause error
}

func (f *failure) Error() string {
	if f.tries == 1 {
		return fmt.Sprintf("the command failed: %v", f.cause)
	}
	return fmt.Sprintf("the command failed %d times: %v", f.tries, f.cause)
}

func (f *failure) Unwrap() error { return f.cause }

// setAside gives up messages for which the command has failed: they are kept as a reply
// that has no text yet, and who has sent them is told.
func (a *Attendant) setAside(ctx context.Context, t task, cause error) error {
	var failed *failure
	if !errors.As(cause, &failed) {
		return cause
	}
	e := t.last()
	empty := &envelope.Envelope{
		ID:   envelope.NamedID("attend fails", a.Agent.Key(), e.ID), // the notice has that of the reply
		Type: envelope.Message, Conversation: e.Conversation, ReplyTo: envelope.Ref{Seq: e.Seq},
	}
	if err := a.keep(empty, t.about, cause); err != nil {
		return err
	}
	return a.notify(ctx, t)
}

// keep puts a reply that cannot be sent into outbox/failed.
func (a *Attendant) keep(draft *envelope.Envelope, about Event, cause error) error {
	why := fmt.Sprintf("no answer to %s from %s: %v", about.Ref, about.From, cause)
	if err := a.parts.Box.Bounce(draft, mailbox.Stamp{Error: why}); err != nil {
		return err
	}
	a.failed.Add(1)
	about.What, about.Error = Failed, cause.Error()
	a.tell(about)
	return nil
}

const (
	noticeField = "unanswered"
	noticeText  = "This message was not answered: the program that answers for %s has failed."
)

// notify tells who has sent the messages of a task, once, that there is no answer. The
// reason stays here: it may be what a command has printed of its secrets. That the notice
// is refused is no trouble: nobody is there any more to hear it, or too much was automatic.
func (a *Attendant) notify(ctx context.Context, t task) error {
	draft := a.draft(t)
	draft.Content = fmt.Sprintf(noticeText, a.Agent.Name)
	var err error
	if draft.Data, err = json.Marshal(map[string]string{noticeField: t.last().ID}); err != nil {
		return fmt.Errorf("encode notice: %w", err)
	}
	if _, err := a.post(ctx, draft); err != nil && ctx.Err() != nil {
		return err
	}
	return nil
}

// isNotice reports whether a message says that another one was not answered. It is not to
// be answered itself.
func isNotice(e *envelope.Envelope) bool {
	var data map[string]json.RawMessage
	if !e.Auto || len(e.Data) == 0 || json.Unmarshal(e.Data, &data) != nil {
		return false
	}
	_, ok := data[noticeField]
	return ok
}

func hasCode(err error, code api.Code) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Code == code
}

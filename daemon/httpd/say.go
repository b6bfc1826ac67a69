package httpd

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir/envelope"
)

// do does what the client of a stream says. What concerns one frame alone is refused in
// a frame; an error ends the stream.
func (ses *session) do(ctx context.Context, ask api.StreamRequest) error {
	switch ask.Op {
	case api.OpConfirm:
		return ses.confirm(ask)
	case api.OpSend:
		return ses.send(ctx, ask)
	case api.OpTyping:
		return ses.reply(ask, ses.typing(ctx, ask), nil)
	case api.OpPresence:
		return ses.reply(ask, ses.sayPresence(ctx, ask), nil)
	case api.OpPing:
		return ses.reply(ask, nil, &api.StreamReply{Op: "pong"})
	}
	known := []string{api.OpConfirm, api.OpSend, api.OpTyping, api.OpPresence, api.OpPing}
	return api.Errorf(api.BadRequest, "op %.40q: want one of %s", ask.Op, strings.Join(known, ", "))
}

// reply answers a frame: with a refusal, or where there is one with an answer.
func (ses *session) reply(ask api.StreamRequest, err error, answer *api.StreamReply) error {
	if err != nil {
		p := router.Translate(err, ask.Conversation).Problem()
		answer = &api.StreamReply{Op: "refused", Problem: &p}
	}
	if answer == nil {
		return nil
	}
	answer.Key = ask.Key
	_, err = ses.write(answer)
	return err
}

// mute is the refusal for those who only watch.
func (ses *session) mute() error {
	if ses.live == nil {
		return api.Errorf(api.ReadOnly, "this stream speaks for no agent")
	}
	return nil
}

func (ses *session) confirm(ask api.StreamRequest) error {
	if err := ses.mute(); err != nil {
		return err
	}
	seen := ask.State == api.Seen
	if ask.Request != "" {
		if !seen {
			return nil // its file is there in any case
		}
		return ses.shownOne(ses.who.agent, api.Place{Request: ask.Request, Status: ask.Status})
	}
	id, err := ses.Router.Conversation(ask.Conversation)
	if err != nil {
		return err
	}
	return ses.live.Confirm(id, ask.Seq, seen)
}

// send says something in the way of a drop: a message, or whatever the type says.
func (ses *session) send(ctx context.Context, ask api.StreamRequest) error {
	answer, err := ses.accepted(ctx, ask)
	return ses.reply(ask, err, answer)
}

func (ses *session) accepted(ctx context.Context, ask api.StreamRequest) (*api.StreamReply, error) {
	if err := ses.mute(); err != nil {
		return nil, err
	}
	draft, err := envelope.Decode(ask.Message)
	if err != nil {
		return nil, err
	}
	draft.Type = cmp.Or(draft.Type, envelope.Message)
	if err := ses.identified(ses.who, draft, ask.Key); err != nil {
		return nil, err
	}
	out, err := ses.Router.Accept(router.Through(ctx, router.Stream), ses.actor(ses.who), draft)
	if err != nil {
		return nil, err
	}
	answer := &api.StreamReply{Op: "sent"}
	if slices.Contains([]envelope.Type{envelope.Call, envelope.Accept, envelope.Reject, envelope.Cancel}, draft.Type) {
		called := ses.called(ctx, ses.who, out)
		answer.Called = &called
	} else if draft.Type != envelope.Status {
		posted := ses.posted(ctx, ses.who, out)
		answer.Posted = &posted
	}
	return answer, nil
}

func (ses *session) typing(ctx context.Context, ask api.StreamRequest) error {
	if err := ses.mute(); err != nil {
		return err
	}
	return ses.sayTyping(ctx, ses.who, ask.Conversation, ask.Off)
}

func (ses *session) sayPresence(ctx context.Context, ask api.StreamRequest) error {
	if err := ses.mute(); err != nil {
		return err
	}
	return ses.Server.sayPresence(ctx, ses.who, ask.Status, ask.Note)
}

package httpd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/desk"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) mailRoutes(door huma.API) {
	const group = "mail"
	serve(s, door, route{api.RouteInbox, speaking, group, "listInbox", "List what the agent was not shown; changes nothing", nil}, s.inbox)
	serve(s, door, route{api.RouteRead, speaking, group, "readMessages", "Give the texts of messages; changes nothing", api.Read{}}, s.read)
	serve(s, door, route{api.RouteShown, speaking, group, "markSeen", "Say that the agent was shown messages", api.Shown{}}, s.shown)
	serve(s, door, route{api.RouteEvents, speaking, group, "waitForEvents", "Give what is new, and wait for it", nil}, s.events)
	serve(s, door, route{api.RouteGetCurrent, speaking, group, "getCurrent", "Tell which conversation is meant where none is named", nil}, s.current)
	serve(s, door, route{api.RouteSetCurrent, speaking, group, "setCurrent", "Say which conversation is meant where none is named", api.Current{}}, s.setCurrent)
}

type inboxInput struct {
	Paged
}

func (s *Server) inbox(ctx context.Context, who caller, in inboxInput) (api.Inbox, error) {
	cursor, err := api.ParseCursor(in.Cursor)
	if err != nil {
		return api.Inbox{}, err
	}
	return s.Desk.Inbox(ctx, who.agent, in.Limit, cursor)
}

func (s *Server) read(ctx context.Context, who caller, in withBody) (api.Messages, error) {
	ask, err := decode[api.Read](in.RawBody)
	if err != nil {
		return api.Messages{}, err
	}
	return s.Desk.Read(ctx, who.agent, ask, func(ref string) (string, error) { return s.conversationOf(ctx, who, ref) })
}

func (s *Server) shown(_ context.Context, who caller, in withBody) (none, error) {
	ask, err := decode[api.Shown](in.RawBody)
	if err != nil {
		return none{}, err
	}
	for _, m := range ask.Messages {
		if err := s.shownOne(who.agent, m); err != nil {
			return none{}, err
		}
	}
	return none{}, nil
}

func (s *Server) shownOne(agent string, m api.Place) error {
	if m.Request != "" {
		id, err := s.Switchboard.Resolve(m.Request)
		if err != nil {
			return err
		}
		return s.Deliver.SeenSignal(agent, id, m.Status)
	}
	id, err := s.Router.Conversation(m.Conversation)
	if err != nil {
		return err
	}
	return s.Deliver.Seen(agent, id, m.Seq)
}

type eventsInput struct {
	Waited
	Conversation string   `query:"conversation" doc:"a reference: only what is said there"`
	After        string   `query:"after" doc:"the next of the answer before; with conversation also a seq"`
	Types        []string `query:"type,explode" doc:"only envelopes of these types"`
	Request      string   `query:"request" doc:"id of a call: only what is told of it"`
	From         string   `query:"from" doc:"only from this agent"`
	Limit        int      `query:"limit" minimum:"0" doc:"at most so many: 20 where it is absent or 0, and at most 500"`
}

// Waited says how long a request may wait.
type Waited struct {
	Wait string `query:"wait" doc:"how long to wait, like 30s; at most 10m"`
}

// events waits for the agent's mail. What it returns is not confirmed by that: it
// waits in the inbox until the client says that it was shown.
func (s *Server) events(ctx context.Context, who caller, in eventsInput) (api.Messages, error) {
	filter, given, err := s.eventFilter(ctx, who, in)
	if err != nil {
		return api.Messages{}, err
	}
	waiting, cancel, err := s.waiting(ctx, who, in.Wait)
	if err != nil {
		return api.Messages{}, err
	}
	defer cancel()
	s.Desk.Settle(ctx)
	stream, err := s.Deliver.Attach(who.agent, filter)
	if err != nil {
		return api.Messages{}, err
	}
	defer stream.Close()
	defer s.Presence.Attach(who.agent, false)()
	out, err := s.gather(ctx, waiting, stream, in, given)
	if err == nil {
		err = s.stillMay(who)
	}
	out.Next = given.String()
	return out, err
}

func (s *Server) eventFilter(ctx context.Context, who caller, in eventsInput) (deliver.Filter, *progress, error) {
	filter, given := deliver.Filter{}, newProgress()
	var id string
	if in.Conversation != "" {
		var err error
		if id, err = s.conversationOf(ctx, who, in.Conversation); err != nil {
			return filter, given, err
		}
		filter.Conversations = []string{id}
	}
	if in.After == "" {
		return filter, given, nil
	}
	given, err := parseProgress(in.After, id)
	filter.After = make(map[string]int64)
	for id, seq := range given.lines {
		if err != nil || filter.Conversations != nil && id != filter.Conversations[0] {
			continue
		}
		_, err = s.conversationOf(ctx, who, id)
		filter.After[id] = seq
	}
	return filter, given, err
}

// gather collects what a stream has that the query asks for, and waits for the first.
func (s *Server) gather(ctx, waiting context.Context, stream *deliver.Stream, in eventsInput, given *progress) (api.Messages, error) {
	out := api.Messages{Messages: []api.Message{}}
	limit := desk.Limit(in.Limit)
	for size := 0; len(out.Messages) < limit && size < maxAnswer; {
		line, ok, err := stream.TryNext(ctx)
		if err == nil && !ok {
			if len(out.Messages) > 0 {
				break
			}
			line, err = stream.Next(waiting)
		}
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			out.TimedOut = true
			break
		}
		if err != nil {
			return out, err
		}
		if !given.take(line) || !in.wants(line.Envelope) {
			continue
		}
		m, err := s.show(ctx, line)
		if err != nil {
			return out, err
		}
		out.Messages = append(out.Messages, m)
		size += len(line.Bytes)
	}
	return out, nil
}

// wants applies the query's type, request and from.
func (in eventsInput) wants(e *envelope.Envelope) bool {
	if len(in.Types) > 0 && !slices.Contains(in.Types, string(e.Type)) || in.Request != "" && in.Request != e.Request {
		return false
	}
	return in.From == "" || strings.EqualFold(in.From, e.From.Name) || strings.EqualFold(in.From, e.From.String())
}

func (s *Server) show(ctx context.Context, line deliver.Line) (m api.Message, err error) {
	if line.Live {
		return show.Call(line.Envelope, s.Switchboard.Refs()), nil
	}
	err = s.Ledger.Read(ctx, line.Conversation, func(v ledger.View) error {
		m = s.Desk.Show(v, line.Envelope)
		return nil
	})
	return m, err
}

// waiting returns a context that ends with the request, the daemon, the caller's token, or a
// time.
func (s *Server) waiting(ctx context.Context, who caller, text string) (context.Context, context.CancelFunc, error) {
	wait := time.Duration(0)
	if text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 {
			return nil, nil, api.Errorf(api.BadRequest, "wait: want a duration like 30s, got %q", text)
		}
	}
	ctx, leave := s.stay(ctx, who)
	ctx, cancel := context.WithTimeout(ctx, min(wait, maxWait))
	stop := context.AfterFunc(s.ending, cancel)
	return ctx, func() { stop(); cancel(); leave() }, nil
}

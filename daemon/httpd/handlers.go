package httpd

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/daemon/desk"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

func (s *Server) status(*request) (any, error) { return s.Status(), nil }

func (s *Server) stop(*request) (any, error) {
	s.Stop()
	return nil, nil
}

func (s *Server) register(r *request) (any, error) {
	ask, err := body[api.Register](r)
	if err != nil {
		return nil, err
	}
	c, created, err := s.Roster.Register(ask)
	if err != nil {
		return nil, err
	}
	return api.Registered{Agent: s.Desk.Agent(c), Created: created}, nil
}

func (s *Server) agents(r *request) (any, error) {
	limit, err := number(r.Request, "limit")
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	return s.Desk.Agents(r.Context(), q.Get("q"), q["capability"], int(limit)), nil
}

func (s *Server) agent(r *request) (any, error) {
	c, err := s.Roster.Resolve(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return s.Desk.Agent(c), nil
}

func (s *Server) unregister(r *request) (any, error) {
	c, err := s.Roster.Unregister(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return s.Desk.Agent(c), nil
}

func (s *Server) me(r *request) (any, error) {
	c, err := s.Roster.Resolve(r.agent)
	if err != nil {
		return nil, err
	}
	s.Desk.Settle(r.Context())
	return s.Desk.Agent(c), nil
}

func (s *Server) inbox(r *request) (any, error) {
	limit, err := number(r.Request, "limit")
	if err != nil {
		return nil, err
	}
	return s.Desk.Inbox(r.Context(), r.agent, int(limit))
}

func (s *Server) read(r *request) (any, error) {
	ask, err := body[api.Read](r)
	if err != nil {
		return nil, err
	}
	return s.Desk.Read(r.Context(), r.agent, ask, s.Router.Conversation)
}

func (s *Server) shown(r *request) (any, error) {
	ask, err := body[api.Shown](r)
	if err != nil {
		return nil, err
	}
	for _, m := range ask.Messages {
		id, err := s.Router.Conversation(m.Conversation)
		if err != nil {
			return nil, err
		}
		if err := s.Deliver.Seen(r.agent, id, m.Seq); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (s *Server) current(r *request) (any, error) {
	id, err := mailbox.At(s.Home.AgentDir(r.agent)).Current()
	return api.Current{Conversation: id}, err
}

func (s *Server) setCurrent(r *request) (any, error) {
	ask, err := body[api.Current](r)
	if err != nil {
		return nil, err
	}
	id, err := s.Router.Conversation(ask.Conversation)
	if err != nil {
		return nil, err
	}
	return api.Current{Conversation: id}, mailbox.At(s.Home.AgentDir(r.agent)).SetCurrent(id)
}

func (s *Server) conversations(r *request) (any, error) {
	limit, err := number(r.Request, "limit")
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	return s.Desk.Conversations(r.Context(), r.agent, desk.Query{Status: q.Get("status"), With: q.Get("with"), Limit: int(limit)})
}

func (s *Server) conversation(r *request) (any, error) {
	id, err := s.Router.Conversation(r.PathValue("ref"))
	if err != nil {
		return nil, err
	}
	return s.Desk.Conversation(r.Context(), s.optionalSpeaker(r.Request), id)
}

// post accepts a draft of a type, in the conversation of the path where there is one.
func (s *Server) post(kind envelope.Type, inPath bool) handler {
	return func(r *request) (any, error) {
		draft, err := draftOf(r)
		if err != nil {
			return nil, err
		}
		draft.Type = kind
		if inPath {
			draft.Conversation = r.PathValue("ref")
		}
		return s.accept(r, draft)
	}
}

// participants invites whom the draft names, and joins where it names nobody.
func (s *Server) participants(r *request) (any, error) {
	draft, err := draftOf(r)
	if err != nil {
		return nil, err
	}
	draft.Type, draft.Conversation = envelope.Join, r.PathValue("ref")
	if len(draft.To)+len(draft.Participants) > 0 {
		draft.Type = envelope.Invite
	}
	return s.accept(r, draft)
}

func draftOf(r *request) (*envelope.Envelope, error) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return new(envelope.Envelope), nil
	}
	return envelope.Decode(data)
}

func (s *Server) accept(r *request, draft *envelope.Envelope) (any, error) {
	actor := router.Actor{Agent: s.Home.Address(r.agent)}
	out, err := s.Router.Accept(r.Context(), actor, draft)
	if err != nil {
		return nil, err
	}
	return api.Posted{
		Message:      s.posted(r, out),
		Conversation: s.Desk.Summary(r.agent, out.State),
		Recipients:   s.Deliver.Recipients(out.State, out.Envelope),
		Created:      out.Created, Duplicate: out.Duplicate,
	}, nil
}

// posted is the message as it stands in the log, with what has crossed it. The message
// is stored: what cannot be told of it is left out.
func (s *Server) posted(r *request, out router.Outcome) api.Message {
	e := out.Envelope
	if out.Duplicate || e.Type == envelope.Message && e.After != nil && *e.After < e.Seq-1 {
		m, err := s.Desk.Message(r.Context(), out.State.ID, e.Seq)
		if err == nil {
			return m
		}
		s.Logger.Warn("stored message is not read", "conv", out.State.ID, "seq", e.Seq, "err", err)
	}
	ref := messageRef(s.Ledger.Refs().Short(out.State.ID), e.Seq)
	return api.Message{Envelope: e, Ref: ref, Topic: out.State.Topic}
}

func (s *Server) receipts(r *request) (any, error) {
	text, seq, ok := maildir.SplitRef(r.PathValue("ref"))
	if !ok {
		return nil, api.Errorf(api.BadReference, "%q is no reference to a message: want c9f3a.42", r.PathValue("ref"))
	}
	id, err := s.Router.Conversation(text)
	if err != nil {
		return nil, err
	}
	if n, err := number(r.Request, "seq"); err != nil {
		return nil, err
	} else if n > 0 {
		seq = n
	}
	until := r.URL.Query().Get("until")
	if until == "" {
		return s.Desk.Receipts(r.Context(), id, seq)
	}
	if until != api.Delivered && until != api.Seen {
		return nil, api.Errorf(api.BadRequest, "until: want delivered or seen, got %q", until)
	}
	ctx, cancel, err := s.waiting(r.Request)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return s.Desk.Await(ctx, id, seq, until)
}

// find tells what a reference names: an agent, a conversation or a message.
func (s *Server) find(r *request) (any, error) {
	text := r.PathValue("ref")
	if c, ok := s.Roster.Get(strings.TrimSuffix(text, "@"+s.Home.Host.Name)); ok {
		a := s.Desk.Agent(c)
		return api.Found{Agent: &a}, nil
	}
	name, seq, ok := maildir.SplitRef(text)
	id, err := s.Router.Conversation(name)
	var refusal *api.Error
	if errors.As(err, &refusal) && refusal.Code == api.BadReference { // then it is meant as a name
		_, err = s.Roster.Resolve(text)
	}
	if err == nil && !ok {
		err = api.Errorf(api.BadReference, "%q is no reference to a message: want c9f3a.42", text)
	}
	if err != nil {
		return nil, err
	}
	if seq > 0 {
		m, err := s.Desk.Message(r.Context(), id, seq)
		return api.Found{Message: &m}, err
	}
	c, err := s.Desk.Conversation(r.Context(), s.optionalSpeaker(r.Request), id)
	return api.Found{Conversation: &c}, err
}

// events waits for the agent's mail. What it returns is not confirmed by that: it
// waits in the inbox until the client says that it was shown.
func (s *Server) events(r *request) (any, error) {
	filter, err := s.eventFilter(r)
	if err != nil {
		return nil, err
	}
	limit, err := number(r.Request, "limit")
	if err != nil {
		return nil, err
	}
	ctx, cancel, err := s.waiting(r.Request)
	if err != nil {
		return nil, err
	}
	defer cancel()
	s.Desk.Settle(r.Context())
	stream, err := s.Deliver.Attach(r.agent, filter)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return s.gather(r, stream, ctx, desk.Limit(int(limit)))
}

func (s *Server) eventFilter(r *request) (deliver.Filter, error) {
	var filter deliver.Filter
	q := r.URL.Query()
	if text := q.Get("conversation"); text != "" {
		id, err := s.Router.Conversation(text)
		if err != nil {
			return filter, err
		}
		filter.Conversations = []string{id}
		if q.Has("after") {
			after, err := number(r.Request, "after")
			if err != nil {
				return filter, err
			}
			filter.After = map[string]int64{id: after}
		}
	}
	return filter, nil
}

func messageRef(conversation string, seq int64) string {
	return conversation + "." + itoa(seq)
}

// transcript sends lines of a log as they stand there, without noise.
func (s *Server) transcript(w http.ResponseWriter, r *http.Request) {
	var q lines
	err := q.parse(r)
	id := ""
	if err == nil {
		id, err = s.Router.Conversation(r.PathValue("ref"))
	}
	started := false
	if err == nil {
		err = s.Ledger.Read(r.Context(), id, func(v ledger.View) error {
			if started { // the log has failed, and is read anew
				return errors.New("the log has failed")
			}
			scan, err := q.scan(v.Log, v.State)
			if err != nil {
				return err
			}
			w.Header().Set("Content-Type", "application/x-ndjson")
			started = true
			return q.send(w, scan)
		})
	}
	if err != nil && !started {
		s.fail(w, r, err)
	} else if err != nil {
		s.Logger.Warn("transcript ends early", "conv", id, "err", err)
	}
}

package switchboard

import (
	"context"

	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
)

// PassTyping tells the other hosts in a conversation that an agent of this host is typing:
// through the host that gives the lines their order.
func (s *Switchboard) PassTyping(e *envelope.Envelope) {
	state, err := s.Ledger.State(context.Background(), e.Conversation)
	if err != nil {
		return // who is typing is no promise
	}
	if state.Origin == s.Home.Host.ID {
		s.passTyping(e, state, e.From.Host)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.hosts {
		if h.line != nil && h.line.session.Host == state.Origin {
			h.line.typing(e)
		}
	}
}

// passTyping is PassTyping for the host that gives a conversation its order.
func (s *Switchboard) passTyping(e *envelope.Envelope, state conv.State, author string) {
	for _, name := range hostsOf(state.Present(), s.Home.Host.Name) {
		if l := s.lineTo(name); l != nil && name != author {
			l.typing(e)
		}
	}
}

// typing says that somebody is typing, unless much of that waits.
func (l *line) typing(e *envelope.Envelope) {
	if !l.typed.AllowN(l.board.Now(), 1) {
		return
	}
	select {
	case l.typings <- e:
	default:
	}
}

// heardTyping takes that somebody of another host is typing.
func (s *Switchboard) heardTyping(ctx context.Context, l *line, text []byte) error {
	got, err := envelope.Decode(text)
	if err != nil || got.Type != envelope.Typing || s.isLocal(got.From) {
		return link.Fault("typing that is not right")
	}
	state, err := s.Ledger.State(ctx, got.Conversation)
	if err != nil || state.Closed || !state.Has(got.From) || s.Router.Standing(got.From).Silent() {
		return nil // it has just left, the log is on its way, or nobody is to hear it
	}
	e := &envelope.Envelope{Type: envelope.Typing, From: got.From, Conversation: state.ID, Timestamp: s.Now().UnixMilli()}
	if got.Status == envelope.TypingOff {
		e.Status = envelope.TypingOff
	}
	switch {
	case state.Origin == s.Home.Host.ID && got.From.Host != l.session.Name:
		return link.Fault("typing of %s", got.From)
	case state.Origin == s.Home.Host.ID:
		s.passTyping(e, state, l.session.Name)
	case state.Origin != l.session.Host:
		return nil
	}
	if s.Typing != nil {
		s.Typing(e, state.Present())
	}
	return nil
}

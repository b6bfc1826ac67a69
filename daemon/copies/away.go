package copies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/relay"
)

// far is how far the replicas of another host are, as it was known when a link with it was
// up last, and what a relay has got since. The service guards it.
type far struct {
	known map[string]int64 // by conversation: the last line that it has
	held  map[string]int64 // the last line that a relay has for it
	look  map[string]bool  // conversations in which it may lack something
}

// far is what is known of a host. The caller holds the lock.
func (s *Service) far(name string) *far {
	f := s.fars[name]
	if f == nil {
		f = &far{known: make(map[string]int64), held: make(map[string]int64), look: make(map[string]bool)}
		s.fars[name] = f
	}
	return f
}

// back forgets what a relay has: the host says itself what it lacks.
func (f *far) back() { clear(f.held) }

func (f *far) lookAll() {
	clear(f.look)
	for id := range f.known {
		f.look[id] = true
	}
}

// Has says that a host has told that it has the lines of a conversation through seq. What
// a relay holds is compared there all the same.
func (s *Service) Has(name, conversation string, seq int64) {
	s.has(name, conversation, seq)
	s.setLook(name, conversation, true)
}

// has notes that a host has the lines of a conversation through seq.
func (s *Service) has(name, conversation string, seq int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.far(name)
	f.known[conversation] = max(f.known[conversation], seq)
}

// unknown notes that nobody knows what a host has of a conversation.
func (s *Service) unknown(name, conversation string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.far(name).known, conversation)
}

// behind is the line behind which a host lacks something, and no relay has it.
func (s *Service) behind(name, conversation string) (seq int64, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.far(name)
	seq, known = f.known[conversation]
	return max(seq, f.held[conversation]), known
}

// Lost says that what relays have held for a host may be gone.
func (s *Service) Lost(p peer.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.far(p.Name).back()
	s.far(p.Name).lookAll()
}

// Away gives the next lines that a host with which there is no link lacks, and what is to
// be told whether a relay has them now, or never can. Where it is not known how far a
// replica is, there are none.
func (s *Service) Away(ctx context.Context, p peer.Peer) (f link.Frame, settle func(held bool), found bool) {
	for _, id := range s.looks(p.Name) {
		s.setLook(p.Name, id, false) // what is appended from here on puts it there again
		next, before, err := s.lacks(ctx, p, id)
		switch {
		case ctx.Err() != nil || errors.Is(err, ledger.ErrClosed):
			return link.Frame{}, nil, false
		case err != nil:
			s.Logger.Warn("lines are not held", "conv", id, "peer", p.ID, "err", err)
		case len(next.lines) > 0:
			s.setLook(p.Name, id, true)
			f = link.Frame{Type: typeLines, Lane: link.Mail, Header: encode(linesHeader{Conversation: id, Hash: before.Hash, Chain: next.proof.Chain, Sig: next.proof.Sig}), Lines: next.lines}
			return f, func(held bool) { s.settle(p.Name, id, next.last, held) }, true
		}
	}
	return link.Frame{}, nil, false
}

func (s *Service) setLook(name, conversation string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.far(name).look[conversation] = true
	} else {
		delete(s.far(name).look, conversation)
	}
}

func (s *Service) looks(name string) (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.far(name).look {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// lacks gives the lines of a conversation that a host lacks, and the line before them.
func (s *Service) lacks(ctx context.Context, p peer.Peer, id string) (next parcel, before ledger.Head, err error) {
	behind, known := s.behind(p.Name, id)
	if !known || !s.ships(id, p.Name) {
		return parcel{}, before, nil
	}
	err = s.Ledger.Read(ctx, id, func(v ledger.View) (err error) {
		last := due(v.State, p.ID, p.Name)
		if !s.own(v.State) || behind >= last {
			return nil
		}
		if before, err = v.Head(behind); err == nil {
			next, err = fill(v, id, behind, last)
		}
		if err == nil {
			err = s.prove(id, v, &next)
		}
		return err
	})
	return next, before, err
}

func (s *Service) settle(name, conversation string, last int64, held bool) {
	if !held { // a later line would not fit behind what the host has
		s.unknown(name, conversation)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.far(name)
	f.held[conversation] = max(f.held[conversation], last)
}

// Held takes a frame of the origin that a relay has held, as if it had come on a link with
// that host. What it brings is on disk then. The error is relay.ErrBad where it can never
// be taken, as where lines are missing before it: those come on a link.
func (s *Service) Held(ctx context.Context, from peer.Peer, f link.Frame) error {
	origin := from.ID
	var header linesHeader
	if f.Type != typeLines || json.Unmarshal(f.Header, &header) != nil || header.Fork != 0 || len(f.Lines) == 0 {
		return fmt.Errorf("%w: no lines of a conversation", relay.ErrBad)
	}
	id, err := envelope.ParseID(header.Conversation)
	if err != nil || id != header.Conversation {
		return fmt.Errorf("%w: lines of no conversation", relay.ErrBad)
	}
	if now, known := s.origin(id); known && now != "" && now != origin || s.resting(origin, id) {
		return fmt.Errorf("%w: lines of conversation %q, which is another host's or rests", relay.ErrBad, id)
	}
	err = s.follows(ctx, id, header.Hash, f.Lines[0])
	signed, c := proofOf(f), chain{}
	if err == nil {
		c, err = s.checkProof(ctx, origin, id, f.Lines, signed)
	}
	if err == nil {
		err = s.copy(ctx, origin, id, f.Lines)
	}
	if err == nil {
		s.keepProof(origin, from.Name, id, f.Lines, c, signed)
	}
	if err != nil && ctx.Err() == nil && never(err) {
		return fmt.Errorf("%w: %w", relay.ErrBad, err)
	}
	return err
}

// follows wants the line with a hash, where the replica is, before a line. On a link both
// logs are compared before; a relay may hold lines of a time before one of them was restored.
func (s *Service) follows(ctx context.Context, id, hash string, first []byte) error {
	e, err := envelope.Decode(first)
	if err != nil {
		return fmt.Errorf("%w: %w", envelope.ErrInvalid, err)
	}
	if e.Seq <= 1 {
		return nil
	}
	err = s.Ledger.Read(ctx, id, func(v ledger.View) error {
		if v.State.LastSeq < e.Seq-1 {
			return &ledger.GapError{Conversation: id, Last: v.State.LastSeq, Got: e.Seq}
		}
		head, err := v.Head(e.Seq - 1)
		if err == nil && head.Hash != hash {
			err = &ledger.ForkError{Conversation: id, Seq: e.Seq - 1}
		}
		return err
	})
	if errors.Is(err, ledger.ErrNotFound) {
		err = &ledger.GapError{Conversation: id, Got: e.Seq}
	}
	return err
}

// resting reports whether the link with a host has carried a conversation no more.
func (s *Service) resting(host, conversation string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.rests[host], func(p Problem) bool { return p.Conversation == conversation })
}

// never reports whether lines that are not taken now will not be later either.
func never(err error) bool {
	return errors.As(err, new(*ledger.GapError)) || errors.As(err, new(*ledger.ForkError)) ||
		errors.As(err, new(*refusal)) || errors.As(err, new(*convlog.DamageError)) ||
		errors.Is(err, errProof) || errors.Is(err, ledger.ErrForeign) || errors.Is(err, ledger.ErrReplica) || errors.Is(err, envelope.ErrInvalid)
}

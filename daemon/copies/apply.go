package copies

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
)

const (
	retryAfter = time.Second // a log that takes no lines
	maxTries   = 30          // where that is not the disk's fault
	maxBatch   = 1 << 20     // bytes of several frames that are appended at once
	maxHalted  = 1024        // conversations on one link
)

// inlet is what has come for one conversation of the peer, in order.
type inlet struct {
	frames []link.Frame // the peer's credit bounds them
	asked  bool         // the peer was told what is here, since something was missing
	tries  int          // in vain
}

// arrive keeps a frame of lines, and reports false where the conversation rests.
func (l *line) arrive(id string, f link.Frame) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, halted := l.halted[id]; halted || l.searches[id] != nil {
		return false
	}
	in := l.inlets[id]
	if in == nil {
		in = &inlet{}
		l.inlets[id] = in
	}
	in.frames = append(in.frames, f)
	l.apply.Add(id)
	return true
}

// applyNext appends what has come first for a conversation. The queue sees to it that
// nobody else does so at the same time.
func (l *line) applyNext(ctx context.Context, id string) {
	if l.takeBack(ctx, id) || l.cutNext(ctx, id) {
		return
	}
	lines, proof, frames := l.batch(id)
	if frames == 0 {
		return
	}
	chain, err := l.service.checkProof(ctx, l.session.Host, id, lines, proof)
	if err == nil {
		err = l.service.copy(ctx, l.session.Host, id, lines)
	}
	if err == nil {
		l.service.keepProof(l.session.Host, l.session.Name, id, lines, chain, proof)
	}
	var fork *ledger.ForkError
	var gap *ledger.GapError
	var damage *convlog.DamageError
	var refused *refusal
	switch {
	case err == nil:
		l.finish(id, frames, false)
	case ctx.Err() != nil || errors.Is(err, ledger.ErrClosed): // the next link begins with what is on disk
	case errors.As(err, &gap):
		l.missed(id, frames, gap)
	case errors.As(err, &fork):
		l.seek(id, fork.Seq)
	case errors.As(err, &refused) || errors.As(err, &damage) || errors.Is(err, ledger.ErrForeign):
		l.rest(id, 0, err)
	case errors.Is(err, envelope.ErrInvalid) || errors.Is(err, ledger.ErrReplica) || errors.Is(err, errProof):
		l.session.End(link.Fault("%v", err))
	default:
		l.retry(id, err)
	}
}

// batch are the first lines that wait for a conversation, of as many frames as follow
// each other, and what proves them. Of one that rests it drops them.
func (l *line) batch(id string) (lines [][]byte, p proof, frames int) {
	l.mu.Lock()
	in := l.inlets[id]
	_, halted := l.halted[id]
	if in == nil || halted || l.searches[id] != nil {
		delete(l.inlets, id)
		l.mu.Unlock()
		if in != nil {
			l.done(in.frames)
		}
		return nil, proof{}, 0
	}
	defer l.mu.Unlock()
	size := 0
	for _, f := range in.frames {
		if frames > 0 && (size > maxBatch || !follows(lines[len(lines)-1], f.Lines[0])) {
			break
		}
		for _, line := range f.Lines {
			size += len(line)
		}
		lines = append(lines, f.Lines...)
		p = proofOf(f)
		frames++
	}
	return lines, p, frames
}

// proofOf is the proof in a frame of lines, as far as its header has one.
func proofOf(f link.Frame) proof {
	var header linesHeader
	seq, ok := number(f.Lines[len(f.Lines)-1])
	if !ok || json.Unmarshal(f.Header, &header) != nil || header.Sig == "" {
		return proof{}
	}
	return proof{seq, header.Chain, header.Sig}
}

// follows reports whether one line has the number behind that of another, as far as can
// be told without reading them closely.
func follows(before, line []byte) bool {
	n, ok := number(before)
	next, ok2 := number(line)
	return ok && ok2 && next == n+1
}

func number(line []byte) (int64, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"seq":`))
	digits, _, found := bytes.Cut(rest[:min(len(rest), 24)], []byte(","))
	n, err := strconv.ParseInt(string(digits), 10, 64)
	return n, ok && found && err == nil
}

// refusal is what Parts.Check says.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

// later reports whether what has failed may succeed another time.
func later(err error) bool {
	var known *api.Error
	return durable.DiskFailed(err) || errors.As(err, &known) && known.Retryable()
}

// copy appends lines of an origin, while nobody else appends to that conversation. Of
// lines that are refused it appends those before the first that is.
func (s *Service) copy(ctx context.Context, origin, id string, lines [][]byte) error {
	if err := s.begin(ctx, id); err != nil {
		return err
	}
	defer s.end(id)
	return s.copyLines(ctx, origin, id, lines)
}

// begin waits until nobody else appends to a conversation: what a relay has held may come
// at the same moment as what comes on a link.
func (s *Service) begin(ctx context.Context, id string) error {
	for {
		s.mu.Lock()
		busy := s.busy[id]
		if busy == nil {
			s.busy[id] = make(chan struct{})
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Service) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.busy[id])
	delete(s.busy, id)
}

func (s *Service) copyLines(ctx context.Context, origin, id string, lines [][]byte) error {
	if _, known := s.origin(id); !known && s.full(origin) {
		return fmt.Errorf("%w: more than %d conversations in which nobody of this host is", envelope.ErrInvalid, maxUnused)
	}
	stored, state, err := s.Ledger.Copy(ctx, ledger.Copy{
		Origin: origin, Conversation: id, Lines: lines,
		Check: func(state conv.State, lines []ledger.Stored) error {
			if s.Check == nil {
				return nil
			}
			err := s.Check(origin, id, state, lines)
			if err != nil && !later(err) {
				return &refusal{err}
			}
			return err
		},
	})
	if errors.Is(err, ledger.ErrReplayed) {
		err = &refusal{err}
	}
	if half := len(lines) / 2; errors.As(err, new(*refusal)) && half > 0 {
		if err := s.copyLines(ctx, origin, id, lines[:half]); err != nil {
			return err
		}
		return s.copyLines(ctx, origin, id, lines[half:])
	}
	if err != nil {
		return err
	}
	s.Learn(id, state)
	if s.Copied != nil {
		s.Copied(origin, id, stored)
	}
	return nil
}

// finish acknowledges frames that are dealt with, and goes on with the next ones.
func (l *line) finish(id string, frames int, asked bool) {
	l.mu.Lock()
	in := l.inlets[id]
	dealt := in.frames[:frames]
	in.frames = slices.Clone(in.frames[frames:])
	in.tries, in.asked = 0, asked
	switch {
	case len(in.frames) > 0:
		l.apply.Add(id)
	case !asked:
		delete(l.inlets, id)
	}
	l.mu.Unlock()
	l.done(dealt)
}

func (l *line) done(frames []link.Frame) {
	for _, f := range frames {
		l.session.Done(f)
	}
}

// missed drops lines before which others are missing, and asks once for those. Of a
// conversation that is not here a peer begins with the first line.
func (l *line) missed(id string, frames int, gap *ledger.GapError) {
	if _, known := l.service.origin(id); !known {
		l.session.End(link.Fault("%v", gap))
		return
	}
	l.mu.Lock()
	before := l.inlets[id].asked
	l.mu.Unlock()
	l.finish(id, frames, true)
	if !before {
		l.service.Logger.Warn("lines are missing", "conv", id, "seq", gap.Last+1, "peer", l.session.Host)
		l.say.Add(id)
	}
}

// halt ends the taking of a conversation on this link. It reports false where there are
// too many of them.
func (l *line) halt(p Problem) bool {
	l.mu.Lock()
	_, before := l.halted[p.Conversation]
	if !before {
		l.halted[p.Conversation] = p
	}
	many := len(l.halted) > maxHalted
	l.apply.Add(p.Conversation) // drops what waits
	l.mu.Unlock()
	if !before {
		l.service.report(l.session.Host, p)
	}
	return !many
}

var errHalted = link.Fault("more than %d conversations that cannot be taken", maxHalted)

// rest is halt for who has found out by appending. The peer is told of a fork.
func (l *line) rest(id string, fork int64, why error) {
	p := Problem{Conversation: id, Seq: fork, Fork: fork > 0, Text: why.Error()}
	if !p.Fork {
		state, _ := l.service.Ledger.State(l.ctx, id) // of one that is not here it is empty
		p.Seq = state.LastSeq + 1
	}
	if !l.halt(p) {
		l.session.End(errHalted)
	}
	if p.Fork {
		l.say.Add(id)
	}
}

// retry keeps the lines for later. They are not acknowledged, so a disk that takes none
// slows the peer.
func (l *line) retry(id string, why error) {
	l.mu.Lock()
	in := l.inlets[id]
	in.tries++
	tries := in.tries
	l.mu.Unlock()
	if tries == 1 {
		l.service.Logger.Warn("lines wait", "conv", id, "peer", l.session.Host, "err", why)
	}
	if tries == maxTries && !durable.DiskFailed(why) {
		l.rest(id, 0, why)
		return
	}
	l.apply.AddAfter(id, retryAfter)
}

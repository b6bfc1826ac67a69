package copies

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/sync/link"
)

const (
	pauseFor = 30 * time.Second // that nothing is added while lines are on their way back
	maxBack  = 16 << 20         // bytes of lines that nothing has proved yet
)

// recall is lines of this host's own that come back from a replica. They are taken when a
// proof, which this host has signed itself, covers them: so a replica can give back what
// was in the log and nothing else.
type recall struct {
	want    int64 // the last line of the peer
	have    chain // of the log here
	ahead   chain // with what nothing has proved yet
	pending [][]byte
	size    int
	frames  []link.Frame // not looked at yet
	failed  int64        // the peer has another line there, and gives back nothing
	over    bool
}

func (r *recall) active() bool { return r != nil && !r.over }

func (l *line) recalling(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recalls[id] != nil
}

// recall asks the peer for lines of this host that are lost here. Until they have come, or
// do not come, no line gets a number.
func (l *line) recall(ctx context.Context, id string, p proof) {
	s := l.service
	s.Ledger.Pause(id, time.Now().Add(pauseFor))
	head, have := ledger.Head{}, newChain(id)
	err := s.Ledger.Read(ctx, id, func(v ledger.View) (err error) {
		if have, err = s.chainAt(id, v, v.State.LastSeq); err == nil {
			head, err = v.Head(v.State.LastSeq)
		}
		return err
	})
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		s.Ledger.Pause(id, time.Time{})
		s.Logger.Error("log is not read", "conv", id, "peer", l.session.Host, "err", err)
		return
	}
	s.Logger.Warn("log has lost lines, which a peer gives back", "conv", id, "seq", head.Seq+1, "last", p.Seq, "peer", l.session.Host)
	l.mu.Lock()
	l.recalls[id] = &recall{want: p.Seq, have: have, ahead: have}
	l.mu.Unlock()
	_ = l.sayHeads(headsHeader{}, [][]byte{encode(headLine{Conversation: id, Seq: head.Seq, Hash: head.Hash})}) // else the link has ended
}

// takeOwn keeps a frame of lines of this host, or that there are none. It reports false
// where nobody has asked.
func (l *line) takeOwn(id string, header linesHeader, f link.Frame) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.recalls[id]
	switch {
	case r == nil:
		return false
	case r.over:
		l.session.Done(f)
	case header.Fork > 0:
		r.failed = header.Fork
		l.session.Done(f)
	default:
		r.frames = append(r.frames, f) // the peer's credit bounds them
	}
	l.apply.Add(id)
	return true
}

// takeBack deals with what has come back. It reports false where nothing is to.
func (l *line) takeBack(ctx context.Context, id string) bool {
	l.mu.Lock()
	r := l.recalls[id]
	if r == nil {
		l.mu.Unlock()
		return false
	}
	frames, failed, over := r.frames, r.failed, r.over
	r.frames = nil
	l.mu.Unlock()
	if over {
		l.done(frames)
		return true
	}
	var err error
	for _, f := range frames {
		if err == nil {
			err = l.accept(ctx, id, r, f)
		}
		l.session.Done(f) // what is not on disk is asked for again at the next link
	}
	switch {
	case err != nil:
		l.notBack(ctx, id, r, err)
	case failed > 0:
		l.notBack(ctx, id, r, &ledger.ForkError{Conversation: id, Seq: failed})
	case r.have.seq >= r.want:
		l.isBack(id, r)
	}
	return true
}

// accept adds a frame to what has come back, and writes what is proved.
func (l *line) accept(ctx context.Context, id string, r *recall, f link.Frame) error {
	s := l.service
	for _, line := range f.Lines {
		r.ahead = r.ahead.next(line)
		r.pending = append(r.pending, line)
		r.size += len(line)
	}
	p := proofOf(f)
	if p.Sig == "" {
		if r.size > maxBack {
			return fmt.Errorf("%w: %d bytes without a proof", errProof, r.size)
		}
		return nil
	}
	if !p.is(r.ahead) || !s.signed(s.Home.Host.ID, id, p) {
		return errProof
	}
	_, state, err := s.Ledger.Copy(ctx, ledger.Copy{Origin: s.Home.Host.ID, Conversation: id, Lines: r.pending, Own: true})
	if err != nil {
		return err
	}
	s.marks.put(id, r.ahead, r.pending[len(r.pending)-1])
	r.have, r.pending, r.size = r.ahead, nil, 0
	s.Ledger.Pause(id, time.Now().Add(pauseFor))
	s.Learn(id, state)
	return nil
}

// isBack ends a recall that has brought all.
func (l *line) isBack(id string, r *recall) {
	l.service.Logger.Warn("log has its lines back", "conv", id, "seq", r.have.seq, "peer", l.session.Host)
	l.service.Ledger.Pause(id, time.Time{})
	l.mu.Lock()
	r.over = true
	if p := l.places[id]; p != nil {
		p.sent = max(p.sent, r.have.seq)
	}
	l.mu.Unlock()
	l.mail.Add(id)
	l.bulk.Add(id)
}

// notBack ends a recall in vain: what the peer has is a fork.
func (l *line) notBack(ctx context.Context, id string, r *recall, why error) {
	s := l.service
	if ctx.Err() != nil || errors.Is(why, ledger.ErrClosed) {
		return
	}
	s.Ledger.Pause(id, time.Time{})
	s.Logger.Error("lines do not come back", "conv", id, "seq", r.have.seq+1, "peer", l.session.Host, "err", why)
	l.mu.Lock()
	r.over = true
	l.mu.Unlock()
	if durable.DiskFailed(why) { // the next link begins again
		return
	}
	l.move(id, func(p *place) { p.forked, p.tell = true, r.have.seq+1 })
	l.mail.Add(id)
}

// askedFor notes that the origin of a replica has less of it than was here.
func (l *line) askedFor(h headLine) {
	l.mu.Lock()
	l.asked[h.Conversation] = h
	l.mu.Unlock()
	l.back.Add(h.Conversation)
}

// giveBack sends the peer lines of its own that are behind the last one that it has, as
// far as there is a proof for them.
func (l *line) giveBack(ctx context.Context, id string) {
	l.mu.Lock()
	h, asked := l.asked[id]
	delete(l.asked, id)
	l.mu.Unlock()
	if !asked {
		return
	}
	fork, err := l.give(ctx, id, h)
	if err != nil {
		l.service.Logger.Warn("lines are not given back", "conv", id, "peer", l.session.Host, "err", err)
		fork = h.Seq + 1
	}
	if fork > 0 {
		_ = l.sayFork(ctx, id, fork) // else the link has ended
	}
}

func (l *line) give(ctx context.Context, id string, h headLine) (fork int64, err error) {
	s := l.service
	last := int64(0)
	err = s.Ledger.Read(ctx, id, func(v ledger.View) error {
		last = v.State.LastSeq
		head, err := v.Head(h.Seq)
		if err == nil && head.Hash != h.Hash {
			fork = h.Seq
		}
		return err
	})
	if err != nil || fork > 0 {
		return fork, err
	}
	proofs, err := s.proofs.behind(l.session.Name, id, h.Seq, last)
	if err != nil || len(proofs) == 0 {
		return h.Seq + 1, err
	}
	for at := h.Seq; len(proofs) > 0; {
		var p parcel
		err := s.Ledger.Read(ctx, id, func(v ledger.View) (err error) {
			p, err = fill(v, id, at, proofs[0].Seq)
			return err
		})
		if err == nil && len(p.lines) == 0 {
			err = errProof
		}
		if err != nil {
			return 0, err
		}
		if at = p.last; at == proofs[0].Seq {
			p.proof, proofs = proofs[0], proofs[1:]
		}
		if l.send(ctx, link.Bulk, id, p, nil) != nil {
			return 0, nil // the link has ended
		}
	}
	return 0, nil
}

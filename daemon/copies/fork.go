package copies

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
)

// errProof means that lines are not what the origin has signed.
var errProof = errors.New("lines are not what their origin has signed")

// checkProof compares what lines bring the log to with what the peer has signed. Where the
// peer has signed another log than this, that is a fork, wherever that is.
func (s *Service) checkProof(ctx context.Context, origin, id string, lines [][]byte, p proof) (chain, error) {
	c := newChain(id)
	if p.Sig == "" {
		return c, nil
	}
	if !s.signed(origin, id, p) {
		return c, errProof
	}
	first, _ := number(lines[0])
	last := int64(0)
	if first > 1 {
		err := s.Ledger.Read(ctx, id, func(v ledger.View) (err error) {
			if last = v.State.LastSeq; first > last+1 {
				return &ledger.GapError{Conversation: id, Last: last, Got: first}
			}
			c, err = s.chainAt(id, v, first-1)
			return err
		})
		if errors.Is(err, ledger.ErrNotFound) {
			err = &ledger.GapError{Conversation: id, Got: first}
		}
		if err != nil {
			return c, err
		}
	}
	for _, line := range lines {
		c = c.next(line)
	}
	switch {
	case p.is(c):
		return c, nil
	case first == 1:
		return c, errProof
	}
	return c, &ledger.ForkError{Conversation: id, Seq: last + 1}
}

// keepProof notes what proves lines that are in the replica.
func (s *Service) keepProof(origin, peer, id string, lines [][]byte, c chain, p proof) {
	if p.Sig == "" {
		return
	}
	s.marks.put(id, c, lines[len(lines)-1])
	size := 0
	for _, line := range lines {
		size += len(line) + 1
	}
	if err := s.proofs.put(peer, id, p, len(lines), int64(size)); err != nil {
		s.Logger.Warn("proof is not kept", "conv", id, "peer", origin, "err", err) // the origin may need it once
	}
}

// fork tells the peer that its replica is another log, and ships nothing until the peer
// has cut it.
func (l *line) fork(ctx context.Context, id string, seq int64) {
	l.service.Logger.Warn("replica has other lines", "conv", id, "seq", seq, "peer", l.session.Host)
	l.move(id, func(p *place) { p.forked = true })
	_ = l.sayFork(ctx, id, seq) // else the link has ended
}

// lost reports whether the peer has proved that it has lines of this host.
func (l *line) lost(id string, p place) bool {
	return p.said != nil && p.said.Seq > 0 && p.proof.Seq == p.said.Seq && l.service.signed(l.service.Home.Host.ID, id, p.proof)
}

func (l *line) sayFork(ctx context.Context, id string, seq int64) error {
	return l.session.Send(ctx, link.Frame{Type: typeLines, Lane: link.Mail, Header: encode(linesHeader{Conversation: id, Fork: seq})})
}

// answer tells the peer what it has still to hear of where the logs part.
func (l *line) answer(ctx context.Context, id string) {
	l.mu.Lock()
	var h *headLine
	var fork int64
	if p := l.places[id]; p != nil {
		h, p.probe, fork, p.tell = p.probe, nil, p.tell, 0
	}
	l.mu.Unlock()
	if fork > 0 && l.sayFork(ctx, id, fork) != nil {
		return
	}
	if h == nil {
		return
	}
	said := linesHeader{Conversation: id, Fork: h.Seq}
	err := l.service.Ledger.Read(ctx, id, func(v ledger.View) error {
		if h.Seq > v.State.LastSeq || h.Seq < 1 {
			return nil
		}
		c, err := l.service.chainAt(id, v, h.Seq)
		if err == nil && c.hex() == h.Chain {
			said.Fork, said.Agree = 0, h.Seq
		}
		return err
	})
	if err != nil {
		l.service.Logger.Error("log is not compared", "conv", id, "peer", l.session.Host, "err", err)
		return
	}
	_ = l.session.Send(ctx, link.Frame{Type: typeLines, Lane: link.Mail, Header: encode(said)}) // else the link has ended
}

// tellHealed tells those who are in a conversation that a replica has followed it after a
// fork.
func (l *line) tellHealed(id string, from ledger.Head) {
	s := l.service
	state, err := s.Ledger.State(l.ctx, id)
	if err != nil {
		return // who reads the log finds out
	}
	notice := &envelope.Envelope{
		ID: envelope.NamedID("restored", id, l.session.Host, from.Hash), Type: envelope.System, Event: envelope.EventRestored,
		Conversation: id, From: state.Creator,
		Why: fmt.Sprintf("host %s was restored from a backup: what %s had behind line %d is no longer in this conversation, and %s keeps it aside",
			s.Home.Host.Name, l.session.Name, from.Seq, l.session.Name),
	}
	if _, _, err := s.Ledger.Append(ledger.Line{Envelope: notice, After: from.Seq}); err != nil {
		s.Logger.Warn("fork is not told", "conv", id, "peer", l.session.Host, "err", err)
	}
}

const (
	maxHeals = 3  // of one conversation on one link
	maxForks = 16 // files of one conversation
)

// search is how a replica finds the last line that it has in common with its origin: the
// logs are the same through low, and not through high.
type search struct {
	low, high int64
	step      int64 // they part near the end, most likely
	asked     int64
}

// seek begins to look where the logs part; not behind a line.
func (l *line) seek(id string, high int64) {
	l.mu.Lock()
	if l.searches[id] != nil {
		l.mu.Unlock()
		return
	}
	l.heals[id]++
	many := l.heals[id] > maxHeals
	if !many {
		l.searches[id] = &search{high: high, step: 1}
	}
	l.mu.Unlock()
	if many {
		l.rest(id, high, fmt.Errorf("it parts from its origin again and again: %w", &ledger.ForkError{Conversation: id, Seq: high}))
		return
	}
	l.apply.Add(id) // drops what waits
	l.say.Add(id)
}

// compared notes what the origin says of the two logs.
func (l *line) compared(id string, h linesHeader) {
	l.mu.Lock()
	s := l.searches[id]
	_, halted := l.halted[id]
	switch {
	case s == nil:
	case h.Fork > 0 && h.Fork == s.asked:
		s.high = min(s.high, h.Fork)
	case h.Agree > 0 && h.Agree == s.asked:
		s.low = max(s.low, h.Agree)
	}
	l.mu.Unlock()
	switch {
	case halted:
	case s != nil:
		l.say.Add(id)
	case h.Fork > 0:
		l.seek(id, h.Fork)
	}
}

// probe asks the origin for the next place, where there is a search.
func (l *line) probe(ctx context.Context, id string) bool {
	l.mu.Lock()
	s := l.searches[id]
	l.mu.Unlock()
	if s == nil {
		return false
	}
	var h headLine
	err := l.service.Ledger.Read(ctx, id, func(v ledger.View) error {
		seq := l.next(s, v.State.LastSeq)
		if seq == 0 {
			return nil
		}
		c, err := l.service.chainAt(id, v, seq)
		h = headLine{Conversation: id, Seq: seq, Chain: c.hex(), Probe: true}
		return err
	})
	switch {
	case err != nil:
		l.service.Logger.Warn("replica is not read", "conv", id, "peer", l.session.Host, "err", err)
		l.say.AddAfter(id, retryAfter)
	case h.Seq == 0:
		l.apply.Add(id) // found
	default:
		_ = l.sayHeads(headsHeader{}, [][]byte{encode(h)}) // else the link has ended
	}
	return true
}

// next is the line to ask for, 0 when it is known where the logs part.
func (l *line) next(s *search, last int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.high = min(s.high, last+1)
	if s.high-s.low <= 1 {
		return 0
	}
	s.asked = max(s.low+(s.high-s.low)/2, s.high-s.step)
	s.step *= 2
	return s.asked
}

// cutNext cuts a replica where it is known where the logs part. It reports false where
// there is no search.
func (l *line) cutNext(ctx context.Context, id string) bool {
	l.mu.Lock()
	s := l.searches[id]
	found := s != nil && s.high-s.low <= 1
	l.mu.Unlock()
	if !found {
		return false
	}
	err := l.service.cut(ctx, l.session.Host, l.session.Name, id, s.low)
	switch {
	case ctx.Err() != nil || errors.Is(err, ledger.ErrClosed):
		return true
	case err != nil && (durable.DiskFailed(err) || errors.Is(err, maildir.ErrImporting)):
		l.service.Logger.Warn("replica is not cut", "conv", id, "peer", l.session.Host, "err", err)
		l.apply.AddAfter(id, retryAfter)
		return true
	}
	l.mu.Lock()
	delete(l.searches, id)
	in := l.inlets[id]
	delete(l.inlets, id)
	l.mu.Unlock()
	if in != nil {
		l.done(in.frames)
	}
	if err != nil {
		l.rest(id, s.high, err)
		return true
	}
	l.say.Add(id)
	return true
}

// cut takes the lines behind keep off a replica. A crash before the new log is in its place
// leaves a file of cut lines, of which the log still has the first: it is made again. A
// crash after that leaves to finish what has to be done about the lines.
func (s *Service) cut(ctx context.Context, origin, peer, id string, keep int64) error {
	if keep < 1 {
		return fmt.Errorf("log of %q has no line in common with its origin's", id)
	}
	if err := s.begin(ctx, id); err != nil {
		return err
	}
	defer s.end(id)
	state, err := s.Ledger.State(ctx, id)
	if err != nil || state.LastSeq == keep {
		return err
	}
	n, err := s.freeFork(id)
	if err != nil {
		return err
	}
	path := s.Home.CutPath(id, n)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("keep cut lines: %w", err)
	}
	w := bufio.NewWriter(f)
	err = s.Ledger.Cut(ctx, id, keep, func(line []byte) error {
		if line == nil {
			return errors.Join(w.Flush(), durable.Sync(f), durable.SyncDir(filepath.Dir(path)))
		}
		_, err := w.Write(append(bytes.Clone(line), '\n'))
		return err
	})
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cut replica: %w", err)
	}
	// The commit point: the replica follows its origin again, and its lines are kept.
	s.Logger.Error("replica has followed its origin, and other lines are kept aside", "conv", id, "seq", keep+1, "peer", origin, "path", s.Home.ForkPath(id, n))
	s.marks.cut(id, keep)
	if err := s.proofs.cut(peer, id, keep); err != nil {
		s.Logger.Warn("proofs are not cut", "conv", id, "peer", origin, "err", err)
	}
	return s.finishCut(ctx, origin, id, n)
}

// freeFork is the number of the next file of cut lines.
func (s *Service) freeFork(id string) (int, error) {
	for n := 1; n <= maxForks; n++ {
		if _, err := os.Lstat(s.Home.ForkPath(id, n)); errors.Is(err, fs.ErrNotExist) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("there are %d files of lines that were cut off already", maxForks)
}

// finishCut does what has to be done about lines that were cut off.
func (s *Service) finishCut(ctx context.Context, origin, id string, n int) error {
	path := s.Home.CutPath(id, n)
	first, ours, err := s.readCut(path)
	if err != nil {
		return err
	}
	stands := false
	err = s.Ledger.Read(ctx, id, func(v ledger.View) error {
		line, err := v.At(first.seq)
		stands = err == nil && bytes.Equal(line.Bytes, first.text)
		return nil
	})
	if err != nil {
		return err
	}
	if stands || first.seq == 0 { // it was not cut off
		return os.Remove(path)
	}
	if s.Cut != nil {
		if err := s.Cut(ctx, origin, id, first.seq-1, ours); err != nil {
			return fmt.Errorf("deal with cut lines: %w", err)
		}
	}
	if err := os.Rename(path, s.Home.ForkPath(id, n)); err != nil {
		return fmt.Errorf("keep cut lines: %w", err)
	}
	return durable.SyncDir(filepath.Dir(path))
}

// saidHere reports whether a line is by an agent of this host, which has signed it then. It
// may have come by another way than a link.
func (s *Service) saidHere(e *envelope.Envelope) bool {
	return s.here(e.From) && s.Signed != nil && s.Signed(s.Home.Host.ID, e.Signed(), e.Signature)
}

// cutLine is a line of a file of cut lines.
type cutLine struct {
	seq  int64
	text []byte
}

// readCut reads the first of some cut lines, and those that agents of this host have said.
// What they answer is named by its id, since numbers are given anew.
func (s *Service) readCut(path string) (first cutLine, ours []*envelope.Envelope, err error) {
	f, err := os.Open(path)
	if err != nil {
		return first, nil, fmt.Errorf("read cut lines: %w", err)
	}
	defer f.Close()
	ids := make(map[int64]string)
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, envelope.MaxLine+1)
	for scan.Scan() {
		e, err := envelope.Decode(scan.Bytes())
		if err != nil {
			continue
		}
		if first.seq == 0 {
			first = cutLine{e.Seq, bytes.Clone(scan.Bytes())}
		}
		ids[e.Seq] = e.ID
		if !s.saidHere(e) {
			continue
		}
		if id, cut := ids[e.ReplyTo.Seq]; cut && e.ReplyTo.Seq > 0 {
			e.ReplyTo = envelope.Ref{ID: id}
		}
		ours = append(ours, e)
	}
	if err := scan.Err(); err != nil {
		return first, nil, fmt.Errorf("read cut lines: %w", err)
	}
	return first, ours, nil
}

// finishCuts does what a crash has left undone about replicas of the peer.
func (l *line) finishCuts() {
	s := l.service
	s.mu.Lock()
	if s.cuts == nil {
		s.cuts = findCuts(s.Home)
	}
	all := s.cuts
	s.mu.Unlock()
	for _, id := range s.replicas(l.session.Host) {
		s.mu.Lock()
		numbers := all[id]
		delete(all, id)
		s.mu.Unlock()
		for _, n := range numbers {
			if err := s.finishCut(l.ctx, l.session.Host, id, n); err != nil {
				s.Logger.Error("cut lines wait", "conv", id, "peer", l.session.Host, "err", err)
			}
		}
	}
}

// findCuts lists the files of cut lines about which something has to be done.
func findCuts(home *maildir.Home) map[string][]int {
	cuts := make(map[string][]int)
	for e, err := range durable.Entries(home.ConversationsDir()) {
		if err != nil {
			return cuts
		}
		if id, n, cut, ok := maildir.ForkID(e.Name()); ok && cut {
			cuts[id] = append(cuts[id], n)
			slices.Sort(cuts[id])
		}
	}
	return cuts
}

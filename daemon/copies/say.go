package copies

import (
	"context"
	"errors"

	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/sync/link"
)

// sayAll tells the peer how far all replicas of its conversations are.
func (l *line) sayAll() {
	var lines [][]byte
	size := 0
	for _, id := range l.service.replicas(l.session.Host) {
		head, _, err := l.service.Ledger.Head(l.ctx, id)
		switch {
		case l.ctx.Err() != nil:
			return
		case errors.Is(err, ledger.ErrNotFound): // moved away: it comes again from the start
			continue
		case err != nil:
			l.service.Logger.Warn("replica is not read", "conv", id, "peer", l.session.Host, "err", err)
			continue
		}
		text := encode(l.headLine(id, head))
		if size+len(text) > link.Full || len(lines) == link.MaxLines {
			if l.sayHeads(headsHeader{}, lines) != nil {
				return
			}
			lines, size = nil, 0
		}
		lines, size = append(lines, text), size+len(text)+1
	}
	_ = l.sayHeads(headsHeader{All: true}, lines) // else the link has ended
}

// headLine is a head with the proof that the peer has ordered the lines through it.
func (l *line) headLine(id string, head ledger.Head) headLine {
	h := headLine{Conversation: id, Seq: head.Seq, Hash: head.Hash}
	if p := l.service.proofs.of(l.session.Name, id, head.Seq); p.Seq > 0 {
		h.Chain, h.Sig = p.Chain, p.Sig
	}
	return h
}

// sayOne tells the peer how far one replica is, or asks where the logs part.
func (l *line) sayOne(ctx context.Context, id string) {
	if l.probe(ctx, id) {
		return
	}
	head, _, err := l.service.Ledger.Head(ctx, id)
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		l.service.Logger.Warn("replica is not read", "conv", id, "peer", l.session.Host, "err", err)
		l.say.AddAfter(id, retryAfter)
		return
	}
	said := l.headLine(id, head)
	l.mu.Lock()
	if p := l.halted[id]; p.Fork {
		said.Fork = p.Seq
	}
	l.mu.Unlock()
	_ = l.sayHeads(headsHeader{}, [][]byte{encode(said)}) // else the link has ended
}

func (l *line) sayHeads(header headsHeader, lines [][]byte) error {
	return l.session.Send(l.ctx, link.Frame{Type: typeHeads, Lane: link.Mail, Header: encode(header), Lines: lines})
}

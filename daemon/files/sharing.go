package files

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Calls finds calls by their ids.
type Calls interface {
	Get(id string) (call.Request, error)
}

// Sharing is the Sharer of a home: what stands in its logs and calls decides. To mention a
// sum gives nobody the file: a host gets what others have mentioned.
type Sharing struct {
	Ledger *ledger.Ledger
	Calls  Calls
}

// Shares says whether a line, in a log that the peer has, or a call to the peer brings a
// blob.
func (s Sharing) Shares(ctx context.Context, peer Peer, place blob.Source, sum string) Grant {
	if place.Request != "" {
		return s.called(peer.Name, place.Request, sum)
	}
	grant := Refused
	err := s.Ledger.Read(ctx, place.Conversation, func(v ledger.View) error {
		switch {
		case !hasLog(v.State, peer, place.Seq):
			return nil
		case place.Seq > v.State.LastSeq:
			grant = NotYet // this host's own copy is behind
			return nil
		}
		line, err := v.At(place.Seq)
		if err == nil && brings(line.Envelope.Attachments, sum) && !strings.EqualFold(line.Envelope.From.Host, peer.Name) {
			grant = Granted
		}
		return err
	})
	if err != nil {
		return Refused
	}
	return grant
}

// hasLog reports whether a host has the line seq of a log: the origin has all of them, and
// another host those until its last agent has left. Who has only the name of such a host
// has none.
func hasLog(state conv.State, peer Peer, seq int64) bool {
	if id, known := state.Host(peer.Name); known && id != peer.ID {
		return false
	}
	return state.Origin == peer.ID || slices.ContainsFunc(state.Members, func(m conv.Member) bool {
		return strings.EqualFold(m.Address.Host, peer.Name) && (m.Present() || seq <= m.Left)
	})
}

func (s Sharing) called(peer, id, sum string) Grant {
	r, err := s.Calls.Get(id)
	if err != nil || strings.EqualFold(r.From.Host, peer) || !brings(r.Attachments, sum) {
		return Refused
	}
	if slices.ContainsFunc(r.To, func(a envelope.Address) bool { return strings.EqualFold(a.Host, peer) }) {
		return Granted
	}
	return Refused
}

func brings(list []envelope.Attachment, sum string) bool {
	return slices.ContainsFunc(list, func(a envelope.Attachment) bool { return a.SHA256 == sum })
}

// recent is how many of the last lines are looked at first: a message that has just come
// is among them.
const recent = 1000

// Line finds the line of a conversation that brings a blob, 0 where none does.
func (s Sharing) Line(ctx context.Context, conversation, sum string) (seq int64, err error) {
	err = s.Ledger.Read(ctx, conversation, func(v ledger.View) (err error) {
		if start := v.State.LastSeq - recent; start > 0 {
			seq, err = bringing(ctx, v, start, sum)
		}
		if seq == 0 && err == nil {
			seq, err = bringing(ctx, v, 0, sum)
		}
		return err
	})
	return seq, err
}

// bringing finds the first line behind seq that brings a blob.
func bringing(ctx context.Context, v ledger.View, seq int64, sum string) (int64, error) {
	scan, err := v.Log.Since(seq)
	if err != nil {
		return 0, err
	}
	for scan.Next() && ctx.Err() == nil {
		line := scan.Line()
		if line.Noise() || !bytes.Contains(line.Bytes, []byte(sum)) {
			continue
		}
		if e, err := envelope.Decode(line.Bytes); err == nil && brings(e.Attachments, sum) {
			return line.Seq, nil
		}
	}
	return 0, errors.Join(scan.Err(), ctx.Err())
}

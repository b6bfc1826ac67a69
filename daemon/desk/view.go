package desk

import (
	"context"
	"errors"
	"slices"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/show"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

const (
	windowLines = 60
	maxWindow   = 240
	windowBytes = 2 << 20 // of the lines in a window, but for one line more
)

// Window selects lines of a conversation that are shown together. Of At, After and Before
// one counts; where none does, it is the last lines.
type Window struct {
	At     int64 // around this line; 0 for none
	After  int64 // behind this line; negative for none
	Before int64 // before this line; 0 for none
	Limit  int   // so many lines; 0 for 60, at most 240
}

// View shows a part of a conversation, with how far each message got. What it reads does
// not grow with the log. A log that is damaged is shown up to the damage.
func (d *Desk) View(ctx context.Context, agent, id string, w Window) (api.View, error) {
	c, err := d.Conversation(ctx, agent, id)
	if err != nil {
		return api.View{}, err
	}
	out := api.View{Conversation: c, Messages: []api.ViewMessage{}}
	err = d.ledger.Read(ctx, id, func(v ledger.View) error {
		out.Last = v.State.LastSeq
		out.First = min(1, out.Last)
		lines, err := w.read(v)
		if err == nil {
			out.Messages, err = d.viewed(v, lines)
		}
		return err
	})
	return out, err
}

// read reads the lines of a window.
func (w Window) read(v ledger.View) ([]ledger.Stored, error) {
	limit := windowLines
	if w.Limit > 0 {
		limit = min(w.Limit, maxWindow)
	}
	switch {
	case w.At > 0:
		before, err := backward(v, w.At, limit/2, windowBytes/2)
		if err != nil {
			return nil, err
		}
		after, err := forward(v, w.At-1, limit-len(before), windowBytes/2)
		return append(before, after...), err
	case w.After >= 0:
		return forward(v, w.After, limit, windowBytes)
	case w.Before > 0:
		return backward(v, w.Before, limit, windowBytes)
	}
	return backward(v, v.State.LastSeq+1, limit, windowBytes)
}

// forward reads the lines behind one, so many and so many bytes.
func forward(v ledger.View, after int64, limit, bytes int) (list []ledger.Stored, err error) {
	if after >= v.State.LastSeq {
		return nil, nil
	}
	for line, err := range v.Since(after) {
		if bytes -= len(line.Bytes); err != nil || len(list) == limit || bytes < 0 && len(list) > 0 {
			return list, undamaged(err)
		}
		list = append(list, line)
	}
	return list, nil
}

// backward reads the lines before one, so many and so many bytes.
func backward(v ledger.View, before int64, limit, bytes int) (list []ledger.Stored, err error) {
	before = min(before, v.State.LastSeq+1)
	from, size := max(0, before-1-int64(limit)), 0
	if from >= before-1 {
		return nil, nil
	}
	for line, err := range v.Since(from) {
		if err != nil || line.Envelope.Seq >= before {
			return list, undamaged(err)
		}
		list = append(list, line)
		for size += len(line.Bytes); size > bytes && len(list) > 1; list = list[1:] {
			size -= len(list[0].Bytes)
			list[0] = ledger.Stored{} // it may be large
		}
	}
	return list, nil
}

// undamaged is the error of a log but for damage, up to which it is shown.
func undamaged(err error) error {
	if damage := new(convlog.DamageError); errors.As(err, &damage) {
		return nil
	}
	return err
}

// viewed makes of lines that follow each other what is shown.
func (d *Desk) viewed(v ledger.View, lines []ledger.Stored) ([]api.ViewMessage, error) {
	before, err := crossable(v, lines)
	if err != nil {
		return nil, err
	}
	ref := d.ledger.Refs().Short(v.State.ID)
	list := make([]api.ViewMessage, len(lines))
	far := false
	for i, line := range lines {
		e := line.Envelope
		list[i] = api.ViewMessage{Message: api.Message{Envelope: e, Ref: show.Ref(ref, e.Seq), Topic: v.State.Topic}, Recipients: []api.Recipient{}}
		if e.Type == "" || e.From.IsZero() {
			list[i].Error = "the line is no envelope"
			continue
		}
		list[i].Recipients = d.deliver.Recipients(v.State, e)
		far = far || slices.ContainsFunc(list[i].Recipients, d.mayRefuse)
		if behind, ok := show.CrossedBehind(e); ok {
			list[i].Crossed = show.Crossed(e, between(before, lines, behind))
		}
	}
	if far {
		err = d.refusalsIn(v, list)
	}
	return list, err
}

// crossable reads the lines before a window that messages in it can have crossed.
func crossable(v ledger.View, lines []ledger.Stored) ([]*envelope.Envelope, error) {
	if len(lines) == 0 {
		return nil, nil
	}
	first := lines[0].Envelope.Seq
	from := first
	for _, line := range lines {
		if behind, ok := show.CrossedBehind(line.Envelope); ok {
			from = min(from, behind)
		}
	}
	var list []*envelope.Envelope
	if from >= first-1 {
		return nil, nil
	}
	for line, err := range v.Since(from) {
		if err != nil || line.Envelope.Seq >= first {
			return list, undamaged(err)
		}
		e := line.Envelope
		list = append(list, &envelope.Envelope{Seq: e.Seq, Type: e.Type, From: e.From}) // not the text, which may be long
	}
	return list, nil
}

// between runs over the envelopes behind a line, those before a window and then those in it.
func between(before []*envelope.Envelope, lines []ledger.Stored, behind int64) func(func(*envelope.Envelope, error) bool) {
	return func(yield func(*envelope.Envelope, error) bool) {
		for _, e := range before {
			if e.Seq > behind && !yield(e, nil) {
				return
			}
		}
		for _, line := range lines {
			if line.Envelope.Seq > behind && !yield(line.Envelope, nil) {
				return
			}
		}
	}
}

// refusalsIn is refusals for all messages of a window.
func (d *Desk) refusalsIn(v ledger.View, list []api.ViewMessage) error {
	last := list[len(list)-1].Envelope.Seq
	for line, err := range v.Since(list[0].Envelope.Seq) {
		if err != nil || line.Envelope.Seq > last+soon {
			return undamaged(err)
		}
		if line.Envelope.Event != envelope.EventUndeliverable {
			continue
		}
		for _, m := range list {
			if behind := line.Envelope.Seq - m.Envelope.Seq; behind > 0 && behind <= soon {
				d.refusedBy(line.Envelope, m.Recipients)
			}
		}
	}
	return nil
}

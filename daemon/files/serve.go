package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/claude-duo/duo/maildir/durable"
	"github.com/claude-duo/duo/sync/link"
)

const maxGranted = 64

// serve answers what the peer asks, in order, until ctx ends.
func (l *line) serve(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-l.asks:
			r := l.give(ctx, a)
			if r.Missing {
				rests(ctx, missRest) // who guesses does so slowly
			}
			if l.session.Send(ctx, r.frame()) != nil {
				return // with the link
			}
		}
	}
}

// give reads a piece, where the peer may have it.
func (l *line) give(ctx context.Context, a ask) answer {
	none := answer{SHA256: a.SHA256, Missing: true}
	switch l.may(ctx, a) {
	case Refused:
		l.exchange.count("refused")
		return none
	case NotYet:
		none.Later = true
		return none
	}
	data := make([]byte, a.To-a.From)
	n, size, err := l.exchange.keeper.store.Piece(a.SHA256, a.From, data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		none.Later = l.wants.has(a.SHA256)
		return none
	case err != nil:
		l.exchange.logger.Warn("blob is not read", "peer", l.host, "path", a.SHA256, "err", err)
		none.Later = durable.DiskFailed(err)
		return none
	}
	if a.From+int64(n) == size {
		l.exchange.count("given")
	}
	return answer{SHA256: a.SHA256, From: a.From, Size: size, data: data[:n]}
}

// may remembers what was granted: that a place brings a blob does not end.
func (l *line) may(ctx context.Context, a ask) Grant {
	place := a.place(l.host)
	if sum, ok := l.granted[place]; ok && sum == a.SHA256 {
		return Granted
	}
	g := l.exchange.sharer.Shares(ctx, Peer{l.session.Host, l.host}, place, a.SHA256)
	if g == Granted {
		if len(l.granted) >= maxGranted {
			clear(l.granted)
		}
		l.granted[place] = a.SHA256
	}
	return g
}

func (ws *wants) has(sum string) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.all[sum] != nil
}

func (r answer) frame() link.Frame {
	f := frame(typeBlob, link.Bulk, r)
	if !r.Missing {
		f.Data = r.data
	}
	return f
}

func (a ask) frame() link.Frame { return frame(typeGet, link.Mail, a) }

func frame(kind string, lane link.Lane, header any) link.Frame {
	data, err := json.Marshal(header)
	if err != nil {
		panic(fmt.Sprintf("encode %s: %v", kind, err)) // texts and numbers always encode
	}
	return link.Frame{Type: kind, Lane: lane, Header: data}
}

func rests(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

package deliver

import (
	"context"
	"maps"
	"slices"

	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Line is what a stream carries: a line of a log, or something that stands in no log,
// such as a ringing call.
type Line struct {
	ledger.Stored
	Live         bool       // it stands in no log
	Receipt      *Receipt   // instead of an envelope, for observers
	Conversation string     // empty for what is Live
	State        conv.State // the same
}

// feed reads the logs from its own places, so it may be as slow as it likes. Next and
// TryNext are for one goroutine.
type feed struct {
	reads  func(ctx context.Context, id string, do func(ledger.View) error) error
	sub    *bus.Sub
	wants  wants
	places map[string]int64 // the line up to which each conversation was read
	first  map[string]int64 // of those that were not read yet: the first line that is new
	queue  []string         // conversations to read
	ready  []Line
}

// wants says what is carried.
type wants interface {
	covers(conversation string) bool
	// start is the line behind which a conversation is read; first is its first line that
	// is new, 0 where none is.
	start(conversation string, state conv.State, first int64) int64
	takes(conversation string, e *envelope.Envelope, state conv.State) bool
	// live returns what is in no log and has come since the last call.
	live() []Line
}

func newFeed(l *ledger.Ledger, sub *bus.Sub, w wants) feed {
	return feed{reads: l.Read, sub: sub, wants: w, places: make(map[string]int64), first: make(map[string]int64)}
}

// TryNext returns the next line, and false when there is none now.
func (f *feed) TryNext(ctx context.Context) (Line, bool, error) {
	select {
	case <-f.sub.Wake():
		f.woken()
	default:
	}
	for len(f.ready) == 0 {
		if len(f.queue) == 0 {
			return Line{}, false, nil
		}
		id := f.queue[0]
		f.queue = f.queue[1:]
		if err := f.readMore(ctx, id); err != nil {
			return Line{}, false, err
		}
	}
	line := f.ready[0]
	f.ready = f.ready[1:]
	return line, true, nil
}

// Next returns the next line, and waits for one until ctx ends.
func (f *feed) Next(ctx context.Context) (Line, error) {
	for {
		if line, ok, err := f.TryNext(ctx); ok || err != nil {
			return line, err
		}
		select {
		case <-ctx.Done():
			return Line{}, ctx.Err()
		case <-f.sub.Wake():
			f.woken()
		}
	}
}

// woken takes the news. What is live goes first: it is urgent, or soon worth nothing.
func (f *feed) woken() {
	grown := f.sub.Grown()
	for _, id := range slices.Sorted(maps.Keys(grown)) {
		if !f.wants.covers(id) {
			continue
		}
		if _, read := f.places[id]; !read && f.first[id] == 0 {
			f.first[id] = grown[id]
		}
		if !slices.Contains(f.queue, id) {
			f.queue = append(f.queue, id)
		}
	}
	f.ready = append(f.wants.live(), f.ready...)
}

const (
	streamBatch = 64      // lines that a stream holds at most
	streamBytes = 1 << 20 // of these, but for one line more
)

// readMore reads the next lines of a conversation.
func (f *feed) readMore(ctx context.Context, id string) error {
	return f.reads(ctx, id, func(v ledger.View) error {
		place, known := f.places[id]
		if !known {
			place = f.wants.start(id, v.State, f.first[id])
			delete(f.first, id)
		}
		place = min(place, v.State.LastSeq) // behind it where the log was cut
		size := 0
		for line, err := range v.Since(place) {
			if err != nil {
				return err
			}
			if len(f.ready) == streamBatch || size > streamBytes {
				f.queue = append([]string{id}, f.queue...)
				break
			}
			place = line.Envelope.Seq
			if f.wants.takes(id, line.Envelope, v.State) {
				size += len(line.Bytes)
				f.ready = append(f.ready, Line{Stored: line, Conversation: id, State: v.State})
			}
		}
		f.places[id] = place
		return nil
	})
}

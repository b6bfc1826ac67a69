package httpd

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// What a client is sent before it has taken what came before: little enough that a
// close frame finds room behind it in the buffers of the system.
const (
	maxFramesAhead = 96
	maxBytesAhead  = 96 << 10
	framesPerPing  = 32
	bytesPerPing   = 32 << 10
	takeWithin     = 10 * time.Second
)

var errSlow = errors.New("the client takes nothing: subscribe again, nothing is lost")

// flow counts what a client was sent and what it has taken. Pings carry how much was
// sent before them; a client answers them when it has read so far.
type flow struct {
	moved chan struct{} // holds one when the client has taken something

	mu     sync.Mutex
	out    amount // sent
	pinged amount // sent before the last ping
	in     amount // taken
}

type amount struct{ frames, bytes uint64 }

func newFlow() *flow { return &flow{moved: make(chan struct{}, 1)} }

// sent counts a frame.
func (f *flow) sent(bytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out.frames++
	f.out.bytes += uint64(bytes)
}

// pingDue reports whether so much was sent that the client is to be asked.
func (f *flow) pingDue() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.out.frames-f.pinged.frames >= framesPerPing || f.out.bytes-f.pinged.bytes >= bytesPerPing
}

// mark is what a ping carries.
func (f *flow) mark() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pinged = f.out
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, f.out.frames), f.out.bytes)
}

// taken reads what a pong brings back. One that we have not sent says nothing.
func (f *flow) taken(mark string) {
	if len(mark) != 16 {
		return
	}
	at := amount{binary.BigEndian.Uint64([]byte(mark[:8])), binary.BigEndian.Uint64([]byte(mark[8:]))}
	f.mu.Lock()
	defer f.mu.Unlock()
	if at.frames > f.pinged.frames || at.bytes > f.pinged.bytes || at.frames < f.in.frames || at.bytes < f.in.bytes {
		return
	}
	f.in = at
	select {
	case f.moved <- struct{}{}:
	default:
	}
}

func (f *flow) full() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.out.frames-f.in.frames >= maxFramesAhead || f.out.bytes-f.in.bytes >= maxBytesAhead
}

// wait waits until more may be sent. A client that takes nothing for long is slow.
func (f *flow) wait(ctx context.Context, ending <-chan struct{}) error {
	if !f.full() {
		return nil
	}
	patience := time.NewTimer(takeWithin)
	defer patience.Stop()
	for f.full() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ending:
			return nil
		case <-f.moved:
			patience.Reset(takeWithin)
		case <-patience.C:
			return errSlow
		}
	}
	return nil
}

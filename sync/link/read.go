package link

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/websocket"
)

// read hands frames to taker until the link ends.
func (l *Link) read(taker Taker) error {
	var buf bytes.Buffer
	for {
		f, size, err := l.next(&buf)
		if err != nil {
			return err
		}
		if err := l.take(f, size, taker); err != nil {
			return err
		}
		if l.ctx.Err() != nil { // what comes behind the end is nobody's
			return errors.New("ended here")
		}
	}
}

func (l *Link) take(f Frame, size int, taker Taker) error {
	switch f.Type {
	case typeAck:
		return l.acked(f)
	case typeBye:
		return heardBye(f)
	case typeHello:
		return fault(CodeFrame, "hello again")
	}
	if f.Number > 0 {
		l.mu.Lock()
		err := l.incoming[f.Lane].receive(f.Number, size)
		l.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return taker.Take(f)
}

func (l *Link) acked(f Frame) error {
	var h header
	if err := json.Unmarshal(f.Header, &h); err != nil {
		return fault(CodeFrame, "an ack that cannot be read")
	}
	for lane, number := range map[Lane]*uint64{Mail: h.Mail, Bulk: h.Bulk} {
		if number == nil {
			continue
		}
		l.mu.Lock()
		o := &l.outgoing[lane]
		sent, before := o.sent, o.acked
		tell, ok := o.ack(*number)
		l.mu.Unlock()
		if !ok {
			return fault(CodeAck, "%s %d, where %d were sent and %d acknowledged", lane, *number, sent, before)
		}
		for _, t := range tell {
			t()
		}
	}
	l.nudge()
	return nil
}

// next reads a frame, and tells how many bytes its message had. It keeps nothing of buf.
func (l *Link) next(buf *bytes.Buffer) (Frame, int, error) {
	kind, r, err := l.ws.NextReader()
	if err != nil {
		return Frame{}, 0, broken(err)
	}
	if buf.Cap() > keepBytes {
		*buf = bytes.Buffer{}
	}
	buf.Reset()
	if _, err := buf.ReadFrom(r); err != nil {
		return Frame{}, 0, broken(err)
	}
	message := bytes.Clone(buf.Bytes())
	f, err := decode(message, kind == websocket.BinaryMessage)
	if err != nil {
		return Frame{}, 0, fault(CodeFrame, "%v", err)
	}
	return f, len(message), nil
}

// broken tells a message that is too long from a connection that broke.
func broken(err error) error {
	if errors.Is(err, websocket.ErrReadLimit) {
		return fault(CodeFrame, "longer than a frame may be")
	}
	return err
}

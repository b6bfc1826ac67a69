package link

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
)

// writer is what the one goroutine that writes has in hand.
type writer struct {
	*Link
	held [lanes]*Frame // taken from the queue, for the next place
	ping bool          // is due
	buf  []byte
}

// write sends what there is, the urgent first, until the link ends; then it says
// goodbye where there is one to say, and closes the connection.
func (l *Link) write() {
	stop := context.AfterFunc(l.ctx, l.conn.end)
	defer stop()
	w := &writer{Link: l}
	if err := w.run(); err != nil {
		l.cancel(err)
	} else {
		var bye *Bye
		if cause := context.Cause(l.ctx); errors.As(cause, &bye) && !bye.Received {
			l.say(bye)
		}
	}
	l.cancel(ignoreClosed(l.conn.Close()))
}

// run returns nil when the link has ended otherwise.
func (w *writer) run() error {
	pings := time.NewTicker(pingEvery)
	defer pings.Stop()
	for w.ctx.Err() == nil {
		wrote, err := w.step()
		if err != nil {
			return err
		}
		if wrote { // who always writes need not ping: the other does
			continue
		}
		select {
		case <-w.ctx.Done():
		case <-w.wake:
		case <-pings.C:
			w.ping = true
		case f := <-w.free(Call):
			w.held[Call] = &f
		case f := <-w.free(Mail):
			w.held[Mail] = &f
		case f := <-w.free(Presence):
			w.held[Presence] = &f
		case f := <-w.free(Bulk):
			w.held[Bulk] = &f
		}
	}
	return nil
}

// free is the queue of a lane of which nothing is in hand, else nil.
func (w *writer) free(lane Lane) chan Frame {
	if w.held[lane] != nil {
		return nil
	}
	return w.queues[lane]
}

// step writes one thing, the first that can go, and reports whether there was one.
func (w *writer) step() (wrote bool, err error) {
	for _, try := range []func() (bool, error){
		func() (bool, error) { return w.frame(Call) },
		w.slots,
		func() (bool, error) { return w.frame(Mail) },
		func() (bool, error) { return w.frame(Presence) },
		func() (bool, error) { return w.frame(Bulk) },
	} {
		if wrote, err = try(); wrote || err != nil {
			return wrote, err
		}
	}
	return false, nil
}

// frame writes the next frame of a lane, if there is one and it may go.
func (w *writer) frame(lane Lane) (bool, error) {
	if w.held[lane] == nil {
		select {
		case f := <-w.queues[lane]:
			w.held[lane] = &f
		default:
			return false, nil
		}
	}
	f := w.held[lane]
	if lane.counted() && !w.number(f) {
		return false, nil
	}
	w.held[lane] = nil
	kind := websocket.TextMessage
	if f.Data != nil {
		kind = websocket.BinaryMessage
	}
	if cap(w.buf) > keepBytes {
		w.buf = nil
	}
	w.buf = f.encode(w.buf[:0])
	return true, w.ws.WriteMessage(kind, w.buf)
}

// number gives a frame its number, and reports false where there is no credit for it.
func (w *writer) number(f *Frame) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := &w.outgoing[f.Lane]
	f.Number = o.sent + 1
	size := f.size()
	if !o.room(size) {
		return false
	}
	o.send(size, f.Acked)
	return true
}

// slots writes what the link itself has to say.
func (w *writer) slots() (bool, error) {
	w.mu.Lock()
	ack, pong := w.ackDue, w.pong
	mail, bulk := w.incoming[Mail].done, w.incoming[Bulk].done
	w.ackDue, w.pong = false, nil
	w.mu.Unlock()
	ping := w.ping
	w.ping = false
	if ack {
		f := Frame{Type: typeAck, Header: []byte(`{"mail":` + strconv.FormatUint(mail, 10) + `,"bulk":` + strconv.FormatUint(bulk, 10) + `}`)}
		if err := w.ws.WriteMessage(websocket.TextMessage, f.encode(nil)); err != nil {
			return true, err
		}
	}
	if pong != nil {
		if err := w.control(websocket.PongMessage, []byte(*pong)); err != nil {
			return true, err
		}
	}
	if ping {
		if err := w.control(websocket.PingMessage, nil); err != nil {
			return true, err
		}
	}
	return ack || pong != nil || ping, nil
}

func (l *Link) control(kind int, data []byte) error {
	return l.ws.WriteControl(kind, data, time.Now().Add(writeTime))
}

// say says goodbye. Whether it arrives changes nothing.
func (l *Link) say(b *Bye) {
	l.conn.end()
	f := b.frame()
	if err := l.ws.WriteMessage(websocket.TextMessage, f.encode(nil)); err != nil {
		return
	}
	_ = l.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(byeTime))
}

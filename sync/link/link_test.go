package link_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/sync/link"
)

func TestFramesCrossVerbatim(t *testing.T) {
	bubble(t, func(t *testing.T, near, far *end) {
		if near.Peer() != "id-of-nyc" || near.PeerName() != "nyc" || far.Peer() != "id-of-lon" || far.PeerName() != "lon" {
			t.Errorf("got peers %s and %s", near.Peer(), far.Peer())
		}
		data := []byte("\x00\n\xff{")
		near.send(t, link.Frame{Type: "lines", Lane: link.Mail, Header: []byte(`{"conversation":"c"}`), Lines: lines(`{"seq":1,  "x":"\u003c<"}`, "é ")})
		synctest.Wait()
		near.send(t, link.Frame{Type: "blob", Lane: link.Bulk, Data: data})
		synctest.Wait()
		near.send(t, link.Frame{Type: "call", Lane: link.Call, Header: []byte(`{}`)})
		synctest.Wait()
		if got := far.types(); got != "lines blob call" {
			t.Fatalf("got %q", got)
		}
		mail, blob, call := far.taken[0], far.taken[1], far.taken[2]
		if string(mail.Header) != `{"t":"lines","mail":1,"conversation":"c"}` || mail.Number != 1 || mail.Lane != link.Mail ||
			string(bytes.Join(mail.Lines, []byte("|"))) != `{"seq":1,  "x":"\u003c<"}|é ` {
			t.Errorf("lines: got %+v", mail)
		}
		if !bytes.Equal(blob.Data, data) || blob.Lane != link.Bulk || blob.Number != 1 {
			t.Errorf("data: got %+v", blob)
		}
		if string(call.Header) != `{"t":"call"}` || call.Number != 0 || call.Lines != nil || call.Data != nil {
			t.Errorf("call: got %+v", call)
		}
	})
}

func TestHelloIsChecked(t *testing.T) {
	for name, test := range map[string]struct {
		hello string
		want  string
	}{
		"another version":   {strings.Replace(goodHello, "[1]", "[2,3]", 1), "version"},
		"another host":      {strings.Replace(goodHello, "id-of-lon", "id-of-eve", 1), "host"},
		"little credit":     {strings.Replace(goodHello, "65536", "65535", 1), "frame"},
		"a frame before":    {`{"t":"lines","mail":1}`, "frame"},
		"no JSON":           {"hello", "frame"},
		"wrong types":       {strings.Replace(goodHello, "65536", `"a"`, 1), "frame"},
		"far too long":      {goodHello + strings.Repeat(" ", 17<<10), "frame"},
		"far too much":      {goodHello + "\n" + strings.Repeat("x", 17<<10), "frame"},
		"a name twice":      {strings.Replace(goodHello, `"host"`, `"host":"id-of-lon","host"`, 1), "frame"},
		"an unknown field":  {strings.Replace(goodHello, `"host"`, `"later":{},"host"`, 1), ""},
		"a version besides": {strings.Replace(goodHello, "[1]", "[9,1]", 1), ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, far, err := hostile(t, test.hello)
			defer func() { _ = r.ws.Close() }()
			if test.want == "" {
				if err != nil {
					t.Fatalf("%s: got %v", name, err)
				}
				far.Close(&link.Bye{Code: link.CodeShutdown})
				far.run(t.Context())
				_ = r.bye()
				_ = far.ended()
				return
			}
			if !isBye(err, link.Code(test.want), false) {
				t.Errorf("%s: got %v, want %s", name, err, test.want)
			}
		})
	}
}

func TestHelloIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent, near := newWire()
		defer silent.Close()
		start := time.Now()
		if l, err := link.Dial(t.Context(), near, lon); err == nil {
			t.Errorf("dialled a silent host: got %v", l.Peer())
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %v, want 10 s", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		a, b := newWire()
		go func() { // hears the other, but its own hello goes nowhere
			_, _ = link.Dial(t.Context(), &muted{wire: a}, lon)
		}()
		start := time.Now()
		if _, err := accept(t, b, nyc); err == nil {
			t.Error("accepted a silent host")
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %v, want 10 s", took)
		}
		a.Close()
	})
}

// muted writes the HTTP request and nothing more.
type muted struct {
	*wire
	asked bool
}

func (m *muted) Write(b []byte) (int, error) {
	if !m.asked {
		m.asked = true
		return m.wire.Write(b)
	}
	return len(b), nil
}

func TestBrowsersAreNoHosts(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, link.Path, nil)
	for k, v := range map[string]string{"Connection": "upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": "http://example.com"} {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	if _, err := link.Accept(w, r, nyc); err == nil || w.Code != http.StatusForbidden {
		t.Errorf("got %v with status %d, want 403", err, w.Code)
	}
}

// TestCreditBoundsWhatIsInFlight has a peer that acknowledges nothing, and then does.
func TestCreditBoundsWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := nyc
		o.MailCredit = link.MinCredit
		near, far, nearErr, farErr := connect(t, lon, o)
		if nearErr != nil || farErr != nil {
			t.Fatal(nearErr, farErr)
		}
		far.hold = true
		ctx, cancel := context.WithCancel(t.Context())
		near.run(ctx)
		far.run(ctx)
		acked := 0
		sent := make(chan struct{})
		line := strings.Repeat("x", 10<<10)
		go func() {
			defer close(sent)
			for range 20 {
				_ = near.Send(ctx, link.Frame{Type: "lines", Lane: link.Mail, Lines: lines(line), Acked: func() { acked++ }})
			}
		}()
		synctest.Wait()
		if got := far.count(); got != 6 || acked != 0 {
			t.Errorf("without an acknowledgement: got %d frames, want 6 of 10 KiB for 64 KiB", got)
		}
		near.send(t, link.Frame{Type: "call", Lane: link.Call})
		near.send(t, link.Frame{Type: "blob", Lane: link.Bulk, Data: []byte("x")})
		near.send(t, link.Frame{Type: "presence", Lane: link.Presence})
		synctest.Wait()
		if got := far.types(); !strings.HasSuffix(got, "lines call presence blob") && !strings.HasSuffix(got, "lines call blob presence") {
			t.Errorf("the other lanes stand still: got %q", got)
		}
		far.Done(link.Mail, 2)
		synctest.Wait()
		if got := far.count(); got != 6+3+2 || acked != 2 {
			t.Errorf("two acknowledged: got %d frames and %d told, want 11 and 2", got, acked)
		}
		for n := uint64(3); n <= 20; n++ {
			far.Done(link.Mail, n)
			synctest.Wait()
		}
		<-sent
		if got := far.count(); got != 23 || acked != 20 {
			t.Errorf("all acknowledged: got %d frames and %d told, want 23 and 20", got, acked)
		}
		// A frame larger than all credit goes alone.
		near.send(t, link.Frame{Type: "big", Lane: link.Mail, Lines: lines(strings.Repeat("y", 1<<20))})
		near.send(t, link.Frame{Type: "next", Lane: link.Mail})
		synctest.Wait()
		if got := far.types(); !strings.HasSuffix(got, " big") {
			t.Errorf("got %q, want it to end with big", got)
		}
		cancel()
		_, _ = near.ended(), far.ended()
	})
}

// TestTheUrgentGoesFirst lets frames of all lanes wait behind one that is being written.
func TestTheUrgentGoesFirst(t *testing.T) {
	bubble(t, func(t *testing.T, near, far *end) {
		near.wire.set(func(w *wire) { w.slow = time.Second })
		near.send(t, link.Frame{Type: "first", Lane: link.Bulk})
		synctest.Wait() // it is being written
		near.send(t, link.Frame{Type: "bulk", Lane: link.Bulk})
		near.send(t, link.Frame{Type: "presence", Lane: link.Presence})
		near.send(t, link.Frame{Type: "mail", Lane: link.Mail})
		near.send(t, link.Frame{Type: "ring", Lane: link.Call})
		near.send(t, link.Frame{Type: "accept", Lane: link.Call})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got, want := far.types(), "first ring accept mail presence bulk"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestBothSendAtOnce fills both directions: whoever reads must not wait for who writes.
func TestBothSendAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, near, far *end) {
		const frames = 500
		sent := make(chan struct{})
		for _, e := range []*end{near, far} {
			e.wire.set(func(w *wire) { w.slow = time.Millisecond })
			for _, lane := range []link.Lane{link.Mail, link.Bulk} {
				go func() {
					for i := range frames {
						if err := e.Send(t.Context(), link.Frame{Type: fmt.Sprint(i), Lane: lane, Lines: lines(strings.Repeat("x", 8<<10))}); err != nil {
							t.Error(err)
							break
						}
					}
					sent <- struct{}{}
				}()
			}
		}
		for range 4 {
			<-sent
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, e := range []*end{near, far} {
			next := map[link.Lane]uint64{}
			for _, f := range e.taken {
				next[f.Lane]++
				if f.Number != next[f.Lane] || f.Type != fmt.Sprint(f.Number-1) {
					t.Fatalf("got frame %d %q of lane %s, want %d", f.Number, f.Type, f.Lane, next[f.Lane])
				}
			}
			if next[link.Mail] != frames || next[link.Bulk] != frames {
				t.Errorf("got %v, want %d of each", next, frames)
			}
		}
	})
}

func TestSendRefusesWhatIsNoFrame(t *testing.T) {
	bubble(t, func(t *testing.T, near, far *end) {
		for name, f := range map[string]link.Frame{
			"no type":        {},
			"no lane":        {Type: "x", Lane: 9},
			"an empty line":  {Type: "x", Lines: lines("")},
			"two in a line":  {Type: "x", Lines: lines("a\nb")},
			"both":           {Type: "x", Lines: lines("a"), Data: []byte("b")},
			"many lines":     {Type: "x", Lines: make([][]byte, link.MaxLines+1)},
			"too much":       {Type: "x", Data: make([]byte, link.MaxFrame)},
			"a long header":  {Type: "x", Header: []byte(`{"a":"` + strings.Repeat("x", link.MaxHeader) + `"}`)},
			"no object":      {Type: "x", Header: []byte(`["a"]`)},
			"a header of 2":  {Type: "x", Header: []byte("{\"a\":\n1}")},
			"space in front": {Type: "x", Header: []byte(` {"a":1}`)},
		} {
			if err := near.Send(t.Context(), f); err == nil {
				t.Errorf("%s: sent", name)
			}
		}
		near.send(t, link.Frame{Type: "last", Lane: link.Mail, Lines: lines(strings.Repeat("x", link.MaxFrame-200))})
		time.Sleep(time.Second)
		if got := far.types(); got != "last" {
			t.Errorf("got %q, want the longest frame and nothing else", got)
		}
	})
}

func TestBackoff(t *testing.T) {
	random := 0.5
	b := link.Backoff{Random: func() float64 { return random }}
	for i, want := range []string{"500ms", "1s", "2s", "4s", "8s", "16s", "32s", "1m0s", "1m0s"} {
		if got := b.Next(59 * time.Second); got.String() != want {
			t.Errorf("attempt %d: got %v, want %s", i, got, want)
		}
	}
	if got := b.Next(time.Minute); got != 500*time.Millisecond {
		t.Errorf("after a good link: got %v, want 500ms", got)
	}
	b.Next(0)
	b.Reset()
	random = 0
	if got := b.Next(0); got != 250*time.Millisecond {
		t.Errorf("least: got %v, want 250ms", got)
	}
	var zero link.Backoff
	for range 100 {
		if got := zero.Next(time.Hour); got < 250*time.Millisecond || got >= 750*time.Millisecond {
			t.Fatalf("got %v, want 250ms to 750ms", got)
		}
	}
}

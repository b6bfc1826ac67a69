package link_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/sync/link"
	"github.com/gorilla/websocket"
)

func TestAQuietLinkStaysUp(t *testing.T) {
	bubble(t, func(t *testing.T, near, far *end) {
		time.Sleep(24 * time.Hour)
		near.send(t, link.Frame{Type: "mail", Lane: link.Mail})
		synctest.Wait()
		if got := far.types(); got != "mail" {
			t.Errorf("got %q after a day", got)
		}
	})
}

// TestOneWayLoss loses what one side says; the other way is good.
func TestOneWayLoss(t *testing.T) {
	bubble(t, func(t *testing.T, near, far *end) {
		time.Sleep(time.Minute)
		start := time.Now()
		near.wire.set(func(w *wire) { w.lost = true })
		if err := far.ended(); !isTimeout(err) {
			t.Errorf("the side that hears nothing: got %v, want a deadline", err)
		}
		if err := near.ended(); err == nil {
			t.Error("the other side goes on")
		}
		if took := time.Since(start); took < 25*time.Second || took > 50*time.Second {
			t.Errorf("both ended after %v, want about 40 s", took)
		}
	})
}

// TestHalfOpen pulls the cable: no byte arrives and nobody is told.
func TestHalfOpen(t *testing.T) {
	bubble(t, func(t *testing.T, near, far *end) {
		start := time.Now()
		for _, e := range []*end{near, far} {
			e.wire.set(func(w *wire) { w.lost = true })
		}
		nearErr, farErr := near.ended(), far.ended()
		if !isTimeout(nearErr) && !isTimeout(farErr) {
			t.Errorf("got %v and %v, want a deadline", nearErr, farErr)
		}
		if took := time.Since(start); took > 50*time.Second {
			t.Errorf("took %v, want about 40 s", took)
		}
		if err := near.Send(t.Context(), link.Frame{Type: "late", Lane: link.Mail}); err == nil {
			t.Error("sent on a link that has ended")
		}
	})
}

// TestASilentReader has a peer that never reads: what is written does not move.
func TestASilentReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, far, err := hostile(t, goodHello)
		if err != nil {
			t.Fatal(err)
		}
		far.run(t.Context())
		start := time.Now()
		far.send(t, link.Frame{Type: "mail", Lane: link.Mail})
		if err := far.ended(); !isTimeout(err) {
			t.Errorf("got %v, want a deadline", err)
		}
		if took := time.Since(start); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("took %v, want 10 s", took)
		}
		r.ws.Close()
	})
}

// TestASlowLineIsNotADeadOne sends frames for which the line takes minutes.
func TestASlowLineIsNotADeadOne(t *testing.T) {
	bubble(t, func(t *testing.T, near, far *end) {
		for _, e := range []*end{near, far} {
			e.wire.set(func(w *wire) { w.slow = 2 * time.Second }) // up to 3 steps for what goes out at once
			e.send(t, link.Frame{Type: "long", Lane: link.Mail, Lines: lines(strings.Repeat("x", 2<<20))})
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if near.types() != "long" || far.types() != "long" {
			t.Errorf("got %q and %q, want both frames", near.types(), far.types())
		}
	})
}

// TestCutInAFrame cuts at every byte of some frames: each is taken whole or not at all.
func TestCutInAFrame(t *testing.T) {
	for left := 0; left <= 130; left++ {
		bubble(t, func(t *testing.T, near, far *end) {
			near.wire.set(func(w *wire) { w.left = left })
			for i := range 3 {
				_ = near.Send(t.Context(), link.Frame{Type: fmt.Sprint("f", i), Lane: link.Mail, Lines: lines("12345678")})
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			for i, f := range far.taken {
				if f.Type != fmt.Sprint("f", i) || len(f.Lines) != 1 || string(f.Lines[0]) != "12345678" {
					t.Errorf("cut behind %d bytes: got %+v", left, f)
				}
			}
			// A frame has 28 bytes, behind 6 of the WebSocket.
			if got, want := far.count(), min(3, left/34); got != want {
				t.Errorf("cut behind %d bytes: got %d frames, want %d", left, got, want)
			}
			if left < 3*34 && (near.ended() == nil || far.ended() == nil) {
				t.Errorf("cut behind %d bytes: goes on", left)
			}
		})
	}
}

func TestGoodbye(t *testing.T) {
	bubble(t, func(t *testing.T, near, far *end) {
		near.Close(&link.Bye{Code: link.CodeShutdown, Text: "restart", Wait: 5 * time.Second})
		if err := near.ended(); !isBye(err, link.CodeShutdown, false) {
			t.Errorf("who says it: got %v", err)
		}
		err := far.ended()
		var bye *link.Bye
		if !errors.As(err, &bye) || *bye != (link.Bye{Code: link.CodeShutdown, Text: "restart", Wait: 5 * time.Second, Received: true}) || bye.Fault() {
			t.Errorf("who hears it: got %v", err)
		}
	})
}

// TestGoodbyeToAPeerThatDoesNotRead must not take long.
func TestGoodbyeToAPeerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, far, err := hostile(t, goodHello)
		if err != nil {
			t.Fatal(err)
		}
		far.run(t.Context())
		far.send(t, link.Frame{Type: "mail", Lane: link.Mail})
		synctest.Wait() // it is being written
		start := time.Now()
		far.Close(&link.Bye{Code: link.CodeShutdown})
		_ = far.ended()
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %v, want about a second", took)
		}
		r.ws.Close()
	})
}

// TestHostileFrames has a peer break the rules, one after the other.
func TestHostileFrames(t *testing.T) {
	big := strings.Repeat("x", 60<<10)
	for name, test := range map[string]struct {
		say  []string
		want string
	}{
		"a number skipped":       {[]string{`{"t":"a","mail":1}`, `{"t":"a","mail":3}`}, "number"},
		"a number repeated":      {[]string{`{"t":"a","mail":1}`, `{"t":"a","mail":1}`}, "number"},
		"not from 1":             {[]string{`{"t":"a","bulk":2}`}, "number"},
		"the number 0":           {[]string{`{"t":"a","mail":0}`}, "frame"},
		"a number below 0":       {[]string{`{"t":"a","mail":-1}`}, "frame"},
		"a number that is none":  {[]string{`{"t":"a","mail":1.5}`}, "frame"},
		"two lanes":              {[]string{`{"t":"a","mail":1,"bulk":1}`}, "frame"},
		"over the credit":        {[]string{"{\"t\":\"a\",\"bulk\":1}\n" + big, "{\"t\":\"a\",\"bulk\":2}\n" + big, "{\"t\":\"a\",\"bulk\":3}\n" + big, "{\"t\":\"a\",\"bulk\":4}\n" + big, "{\"t\":\"a\",\"bulk\":5}\n" + big}, "credit"},
		"ack of what was not":    {[]string{`{"t":"ack","mail":1}`}, "ack"},
		"an ack that is none":    {[]string{`{"t":"ack","mail":"x"}`}, "frame"},
		"hello again":            {[]string{goodHello}, "frame"},
		"no JSON":                {[]string{"GET / HTTP/1.1"}, "frame"},
		"nothing":                {[]string{""}, "frame"},
		"null":                   {[]string{"null"}, "frame"},
		"an array":               {[]string{`[{"t":"a"}]`}, "frame"},
		"no type":                {[]string{`{"mail":1}`}, "frame"},
		"a name twice":           {[]string{`{"t":"a","t":"b"}`}, "frame"},
		"broken UTF-8":           {[]string{"{\"t\":\"a\xff\"}"}, "frame"},
		"an empty line":          {[]string{"{\"t\":\"a\"}\n"}, "frame"},
		"two LF":                 {[]string{"{\"t\":\"a\"}\nx\n\ny"}, "frame"},
		"too many lines":         {[]string{`{"t":"a"}` + strings.Repeat("\nx", link.MaxLines+1)}, "frame"},
		"a long header":          {[]string{`{"t":"a","x":"` + strings.Repeat("x", link.MaxHeader) + `"}`}, "frame"},
		"a long frame":           {[]string{`{"t":"a"}` + "\n" + strings.Repeat("x", link.MaxFrame)}, "frame"},
		"a header without end":   {[]string{`{"t":"a"`}, "frame"},
		"deep":                   {[]string{`{"t":"a","x":` + strings.Repeat("[", 16000)}, "frame"},
		"what is not known here": {[]string{`{"t":"later","x":{"y":[1]}}`, `{"t":"later","mail":1}`, `{"t":"bye","code":"shutdown"}`}, ""},
		"a goodbye without code": {[]string{`{"t":"bye"}`}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, far, err := hostile(t, goodHello)
			if err != nil {
				t.Fatal(err)
			}
			defer r.ws.Close()
			far.hold = true
			far.run(t.Context())
			heard := make(chan string, 1)
			go func() { heard <- r.bye() }()
			for _, s := range test.say {
				r.say(s)
			}
			err = far.ended()
			var bye *link.Bye
			if test.want == "" {
				if !errors.As(err, &bye) || !bye.Received {
					t.Errorf("%s: got %v, want the peer's goodbye", name, err)
				}
				<-heard
				return
			}
			if !isBye(err, link.Code(test.want), false) || !errors.As(err, &bye) || !bye.Fault() {
				t.Errorf("%s: got %v, want %s", name, err, test.want)
			}
			// What is left of a frame that is too long stands in the way of the goodbye.
			if got := <-heard; got != test.want && name != "a long frame" {
				t.Errorf("%s: the peer hears %s, want %s", name, got, test.want)
			}
		})
	}
}

func TestAcksGoForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, far, err := hostile(t, goodHello)
		if err != nil {
			t.Fatal(err)
		}
		defer r.ws.Close()
		far.run(t.Context())
		heard := make(chan string, 1)
		go func() { heard <- r.bye() }()
		told := 0
		for range 3 {
			far.send(t, link.Frame{Type: "a", Lane: link.Mail, Acked: func() { told++ }})
		}
		synctest.Wait()
		r.say(`{"t":"ack","mail":2,"bulk":0}`)
		r.say(`{"t":"ack","mail":2}`) // nothing new, and no fault
		synctest.Wait()
		if told != 2 {
			t.Errorf("told of %d, want 2", told)
		}
		r.say(`{"t":"ack","mail":1}`)
		if err := far.ended(); !isBye(err, link.CodeAck, false) {
			t.Errorf("got %v, want %s", err, link.CodeAck)
		}
		<-heard
	})
}

// TestAPingFloodIsAnsweredByTheNewest does not make the reader wait for the writer.
func TestAPingFloodIsAnsweredByTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, far, err := hostile(t, goodHello)
		if err != nil {
			t.Fatal(err)
		}
		defer r.ws.Close()
		far.run(t.Context())
		for i := range 1000 { // nobody reads the answers
			if err := r.ws.WriteControl(websocket.PingMessage, fmt.Append(nil, i), time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		var last string
		pongs := 0
		r.ws.SetPongHandler(func(data string) error { last = data; pongs++; return nil })
		heard := make(chan string, 1)
		go func() { heard <- r.bye() }()
		synctest.Wait()
		far.Close(&link.Bye{Code: link.CodeRemoved})
		_ = far.ended()
		if got := <-heard; got != "removed" || last != "999" || pongs > 3 {
			t.Errorf("got %s, %d pongs, the last %q; want the newest in few", got, pongs, last)
		}
	})
}

// TestATakerEndsTheLink says the goodbye that a taker returns.
func TestATakerEndsTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far, nearErr, farErr := connect(t, lon, nyc)
		if nearErr != nil || farErr != nil {
			t.Fatal(nearErr, farErr)
		}
		near.run(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- far.Run(t.Context(), refuser{}) }()
		near.send(t, link.Frame{Type: "x", Lane: link.Call})
		if err := <-ended; !isBye(err, link.CodeRemoved, false) {
			t.Errorf("got %v", err)
		}
		if err := near.ended(); !isBye(err, link.CodeRemoved, true) {
			t.Errorf("the other side: got %v", err)
		}
	})
}

type refuser struct{}

func (refuser) Take(link.Frame) error { return &link.Bye{Code: link.CodeRemoved} }

func TestTune(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := link.Tune(conn); err != nil {
		t.Error(err)
	}
	near, far := net.Pipe()
	defer far.Close()
	defer near.Close()
	if err := link.Tune(near); err != nil {
		t.Error("a connection that is not TCP: ", err)
	}
}

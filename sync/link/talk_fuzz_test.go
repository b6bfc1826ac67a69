package link_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gorilla/websocket"
)

// FuzzTalk is a peer that says what it likes, from hello on. Nothing panics, and the link
// ends when it is to.
func FuzzTalk(f *testing.F) {
	for _, s := range []string{
		`{"t":"ack","mail":0,"bulk":0}`, `{"t":"ack","mail":1}`, `{"t":"bye","code":"shutdown","text":"x","wait":5}`, `{"t":"hello"}`,
		`{"t":"apple","mail":1}`, `{"t":"apple","bulk":1}` + "\n" + `{"seq":1}`, "{}", "",
	} {
		f.Add([]byte(goodHello), []byte(s), []byte(`{"t":"pear","mail":2}`), false)
		f.Add([]byte(goodHello), []byte(s), []byte(s), true)
		f.Add([]byte(s), []byte(nil), []byte(nil), false)
	}
	f.Add([]byte(strings.Replace(goodHello, "65536", "-1", 1)), []byte(nil), []byte(nil), false)
	f.Fuzz(func(t *testing.T, hello, first, second []byte, binary bool) {
		synctest.Test(t, func(t *testing.T) {
			peer, host, err := hostile(t, string(hello))
			if err != nil {
				_ = peer.ws.Close()
				return
			}
			defer peer.ws.Close()
			ctx, cancel := context.WithCancel(context.Background())
			host.run(ctx)
			go func() {
				for {
					_, r, err := peer.ws.NextReader()
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r)
				}
			}()
			kind := websocket.TextMessage
			if binary {
				kind = websocket.BinaryMessage
			}
			_ = peer.ws.WriteMessage(kind, first) // the other may have closed
			_ = peer.ws.WriteMessage(kind, second)
			synctest.Wait()
			cancel()
			if host.ended() == nil {
				t.Error("the link ends without a reason")
			}
		})
	})
}

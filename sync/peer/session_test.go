package peer_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
)

// keeper is a service that keeps what it takes.
type keeper struct {
	types   []string
	session *peer.Session
	taken   []link.Frame
	closed  bool
}

func (k *keeper) Types() []string                { return k.types }
func (k *keeper) Open(s *peer.Session) peer.Line { k.session = s; return k }
func (k *keeper) Take(f link.Frame) error        { k.taken = append(k.taken, f); return nil }
func (k *keeper) Close()                         { k.closed = true }

// TestDealtInAnyOrder: a frame is acknowledged when it and all before it are dealt with.
func TestDealtInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		apples, pears := &keeper{types: []string{"apple"}}, &keeper{types: []string{"pear"}}
		l, nyc, _ := peertest.Connect(t, peertest.Side{ID: "id-of-nyc", Name: "nyc"},
			peertest.Side{ID: "id-of-lon", Name: "lon", Services: []peer.Service{apples, pears}})
		var acked []string
		for _, kind := range []string{"apple", "pear", "plum", "apple"} {
			f := link.Frame{Type: kind, Lane: link.Mail, Acked: func() { acked = append(acked, kind) }}
			if err := nyc.Send(context.Background(), f); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if len(apples.taken) != 2 || len(pears.taken) != 1 {
			t.Fatalf("got %d apples and %d pears, want 2 and 1", len(apples.taken), len(pears.taken))
		}
		pears.session.Done(pears.taken[0])
		synctest.Wait()
		if len(acked) != 0 {
			t.Errorf("%q are acknowledged before the first one is dealt with", acked)
		}
		apples.session.Done(apples.taken[0])
		synctest.Wait()
		if len(acked) != 3 { // what nobody knows is dealt with
			t.Errorf("got %q acknowledged, want all but the last", acked)
		}
		l.Cut()
		if !apples.closed || !pears.closed {
			t.Error("a line is not closed when the link has ended")
		}
	})
}

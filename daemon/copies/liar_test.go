package copies_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
)

// liar is a host that says whatever a test wants, and keeps what it hears.
type liar struct {
	t       *testing.T
	*host   // for its id, name and key
	session *peer.Session
	cut     func()
	heard   []link.Frame
}

func (l *liar) Types() []string                { return []string{"heads", "lines"} }
func (l *liar) Open(s *peer.Session) peer.Line { l.session = s; return l }
func (l *liar) Close()                         {}
func (l *liar) Take(f link.Frame) error {
	l.heard = append(l.heard, f)
	l.session.Done(f)
	return nil
}

// lie links a liar called mal with a host.
func lie(t *testing.T, with *host) *liar {
	t.Helper()
	mal := newHost(t, t.TempDir(), "mal")
	t.Cleanup(mal.close)
	acquaint(mal, with)
	return relie(t, &liar{host: mal}, with)
}

// relie is lie for a liar that was there before.
func relie(t *testing.T, before *liar, with *host) *liar {
	t.Helper()
	l := &liar{t: t, host: before.host}
	side := peertest.Side{ID: l.home.Host.ID, Name: "mal", Services: []peer.Service{l}}
	connection, _, _ := peertest.Connect(t, side, with.side())
	l.cut = connection.Cut
	synctest.Wait()
	return l
}

func (l *liar) say(f link.Frame) {
	l.t.Helper()
	if err := l.session.Send(context.Background(), f); err != nil {
		l.t.Fatal(err)
	}
	synctest.Wait()
}

func (l *liar) lines(id string, lines ...[]byte) {
	l.t.Helper()
	l.say(link.Frame{Type: "lines", Lane: link.Mail, Header: fmt.Appendf(nil, `{"conversation":%q}`, id), Lines: lines})
}

func (l *liar) heads(lines ...string) {
	l.t.Helper()
	f := link.Frame{Type: "heads", Lane: link.Mail, Header: []byte(`{"all":true}`)}
	for _, line := range lines {
		f.Lines = append(f.Lines, []byte(line))
	}
	l.say(f)
}

// log are lines of a conversation that the liar has made: a create and messages.
func (l *liar) log(topic string, messages int, who ...envelope.Address) (id string, lines [][]byte) {
	who = append([]envelope.Address{l.home.Address("Eve")}, who...)
	first := creation(l.home, topic, who...)
	for i := range messages + 1 {
		e := first
		if i > 0 {
			e = &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, Conversation: first.Conversation, From: who[0], Content: "hi"}
		}
		e.Seq, e.Timestamp = int64(i+1), int64(1000+i)
		lines = append(lines, e.Append(nil))
	}
	return first.Conversation, lines
}

// wantEnd checks whether the link has ended, and that it was for a fault.
func (l *liar) wantEnd(want bool) {
	l.t.Helper()
	cause := context.Cause(l.session.Context())
	var bye *link.Bye
	switch {
	case !want && cause != nil:
		l.t.Errorf("the link has ended: %v", cause)
	case want && (!errors.As(cause, &bye) || !bye.Received || bye.Code != link.CodeFrame):
		l.t.Errorf("the link has ended with %v, want a fault", cause)
	}
}

// TestLies: what breaks a rule ends the link, leaves nothing on disk, and harms no other
// peer.
func TestLies(t *testing.T) {
	const unknown = "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3"
	for name, test := range map[string]func(l *liar, own, nyc string){
		"a claimed conversation": func(l *liar, own, nyc string) {
			_, lines := l.log("x", 0, envelope.Address{Name: "Bob", Host: "lon"})
			id := envelope.ConversationID("another host", "x")
			l.lines(id, bytes.Replace(lines[0], []byte(`"conversation":"`), []byte(`"conversation":"`+id+`","was":"`), 1))
		},
		"a conversation of another peer": func(l *liar, own, nyc string) {
			_, lines := l.log("x", 1)
			l.lines(nyc, lines[1])
		},
		"a conversation of this host": func(l *liar, own, nyc string) {
			_, lines := l.log("x", 1)
			l.lines(own, lines[1])
		},
		"a line of another conversation": func(l *liar, own, nyc string) {
			id, lines := l.log("x", 1)
			_, other := l.log("y", 1)
			l.lines(id, lines[0], other[1])
		},
		"a conversation from its middle": func(l *liar, own, nyc string) {
			id, lines := l.log("x", 2)
			l.lines(id, lines[1], lines[2])
		},
		"a jump": func(l *liar, own, nyc string) {
			id, lines := l.log("x", 2)
			l.lines(id, lines[0], lines[2])
		},
		"no JSON": func(l *liar, own, nyc string) { l.lines(unknown, []byte("hello")) },
		"no line": func(l *liar, own, nyc string) { l.lines(unknown) },
		"a line over the limit": func(l *liar, own, nyc string) {
			id, lines := l.log("x", 0)
			l.lines(id, append(bytes.TrimSuffix(lines[0], []byte("}")), `,"x":"`+strings.Repeat("x", envelope.MaxLine)+`"}`...))
		},
		"no conversation": func(l *liar, own, nyc string) { l.lines("../../key", []byte("{}")) },
		"an odd header": func(l *liar, own, nyc string) {
			l.say(link.Frame{Type: "lines", Lane: link.Bulk, Header: []byte(`{"conversation":7}`), Lines: [][]byte{[]byte("{}")}})
		},
		"lines without number": func(l *liar, own, nyc string) {
			l.say(link.Frame{Type: "lines", Lane: link.Presence, Header: []byte(`{"conversation":"` + own + `"}`), Lines: [][]byte{[]byte("{}")}})
		},
		"heads without number": func(l *liar, own, nyc string) { l.say(link.Frame{Type: "heads", Lane: link.Call}) },
		"a head of nothing":    func(l *liar, own, nyc string) { l.heads(`[]`) },
		"a huge hash": func(l *liar, own, nyc string) {
			l.heads(`{"conversation":"` + own + `","seq":1,"hash":"` + strings.Repeat("0", 65) + `"}`)
		},
		"a head below 0": func(l *liar, own, nyc string) { l.heads(`{"conversation":"` + own + `","seq":-1}`) },
		"too much for nobody": func(l *liar, own, nyc string) {
			for i := range 65 {
				l.wantEnd(false)
				id, lines := l.log(fmt.Sprint(i), 0)
				l.lines(id, lines[0])
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, nyc, lon *host) {
				own := lon.create("own", lon.address("Bob"), lon.address("Ben"))
				with := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
				connect(t, nyc, lon)
				l := lie(t, lon)
				test(l, own, with)
				l.wantEnd(true)
				if list, err := lon.home.Conversations(); err != nil || len(list) > 2+64 || name != "too much for nobody" && len(list) != 2 {
					t.Errorf("got %d conversations, %v, want those that were there", len(list), err)
				}
				lon.wantCopy(lon, own, 1)
				nyc.say(with, nyc.address("Atlas"), "goes on")
				synctest.Wait()
				lon.wantCopy(nyc, with, 2)
			})
		})
	}
}

// TestLiesAboutHeads: what a peer says of its replicas brings it nothing that does not
// concern it.
func TestLiesAboutHeads(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		secret := nyc.create("secret", nyc.address("Atlas"), lon.address("Bob"))
		connect(t, nyc, lon)
		own := lon.create("own", lon.address("Bob"), lon.address("Ben"))
		mine := lon.create("shared", lon.address("Bob"), envelope.Address{Name: "Eve", Host: "mal"})
		l := lie(t, lon)
		l.heads(`{"conversation":"`+secret+`","seq":0}`, `{"conversation":"`+own+`","seq":0}`, `{"conversation":"nothing","seq":7}`,
			`{"conversation":"`+mine+`","seq":1,"hash":"`+strings.Repeat("0", 64)+`"}`)
		for range 2000 {
			l.heads(`{"conversation":"` + envelope.NewID() + `","seq":7}`)
		}
		l.wantEnd(false)
		var got []string
		for _, f := range l.heard {
			got = append(got, string(f.Header)+string(bytes.Join(f.Lines, nil)))
		}
		want := []string{`{"t":"heads","mail":1,"all":true}`, `{"t":"lines","mail":2,"conversation":"` + mine + `","fork":1}`}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestLiesAboutForks: a peer can stop what it has part in, and nothing else.
func TestLiesAboutForks(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		with := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		shared := lon.create("shared", lon.address("Bob"), envelope.Address{Name: "Eve", Host: "mal"}, nyc.address("Atlas"))
		connect(t, nyc, lon)
		l := lie(t, lon)
		l.heads(`{"conversation":"`+with+`","seq":1,"fork":1}`, `{"conversation":"`+shared+`","seq":1,"fork":1}`)
		for range 2000 {
			l.say(link.Frame{Type: "lines", Lane: link.Mail, Header: []byte(`{"fork":1,"conversation":"` + envelope.NewID() + `"}`)})
		}
		nyc.say(with, nyc.address("Atlas"), "goes on")
		lon.say(shared, lon.address("Bob"), "goes on")
		synctest.Wait()
		lon.wantCopy(nyc, with, 2)
		nyc.wantCopy(lon, shared, 2)
		l.wantEnd(false)
		if got := lon.service.Problems(l.home.Host.ID); len(got) != 1 || got[0].Conversation != shared {
			t.Errorf("got problems %+v, want one, with the conversation that the peer is in", got)
		}
	})
}

// TestManyFramesOfOneLine: tiny frames that have waited cost one sync for many of them.
func TestManyFramesOfOneLine(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		l := lie(t, lon)
		id, lines := l.log("x", 1000, lon.address("Bob"))
		l.lines(id, lines[0])
		before, goOn := lon.syncs, lon.hold()
		for _, line := range lines[1:] {
			l.lines(id, line)
		}
		goOn()
		synctest.Wait()
		l.wantEnd(false)
		if got, want := len(lon.lines(id)), len(lines); got != want || lon.syncs-before > 3 {
			t.Errorf("got %d lines with %d syncs, want %d with a few", got, lon.syncs-before, want)
		}
	})
}

// TestRepeatedFrames: lines that are there already change nothing, however they are cut
// into frames.
func TestRepeatedFrames(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		l := lie(t, lon)
		id, lines := l.log("x", 4, lon.address("Bob"))
		l.lines(id, lines[:2]...)
		goOn := lon.hold()
		for _, part := range [][][]byte{lines[2:3], lines[0:2], lines[1:4], lines[2:3], lines[4:]} {
			l.lines(id, part...)
		}
		goOn()
		synctest.Wait()
		l.wantEnd(false)
		if got := len(lon.lines(id)); got != len(lines) {
			t.Errorf("got %d lines, want %d", got, len(lines))
		}
	})
}

// TestGapIsSaidOnce: of lines that come too early the peer is told once, and again when
// others have fitted meanwhile.
func TestGapIsSaidOnce(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		l := lie(t, lon)
		id, lines := l.log("x", 4, lon.address("Bob"))
		l.lines(id, lines[0])
		for _, i := range []int{2, 3, 2, 1, 4, 4} {
			l.lines(id, lines[i])
		}
		l.wantEnd(false)
		var seqs []string
		for _, f := range l.heard {
			_, seq, _ := bytes.Cut(bytes.Join(f.Lines, nil), []byte(`"seq":`))
			seqs = append(seqs, string(seq[:min(len(seq), 1)]))
		}
		if want := []string{"", "1", "2"}; !slices.Equal(seqs, want) {
			t.Errorf("got heads of the lines %q, want %q", seqs, want)
		}
	})
}

// TestAcknowledged: a frame is acknowledged when its lines are on disk, and not before.
func TestAcknowledged(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		l := lie(t, lon)
		id, lines := l.log("x", 2, lon.address("Bob"))
		l.lines(id, lines[0])
		lon.failSyncs(syscall.ENOSPC)
		var acked []int
		for i := range 2 {
			l.say(link.Frame{
				Type: "lines", Lane: link.Mail, Header: []byte(`{"conversation":"` + id + `"}`), Lines: lines[i+1 : i+2],
				Acked: func() { acked = append(acked, i) },
			})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(acked) > 0 {
			t.Errorf("frames %v are acknowledged, want none on a full disk", acked)
		}
		lon.failSyncs(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !slices.Equal(acked, []int{0, 1}) || len(lon.lines(id)) != 3 {
			t.Errorf("got frames %v acknowledged and %d lines, want both and 3", acked, len(lon.lines(id)))
		}
	})
}

package copies_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/link"
)

// keep takes a copy of a log, and returns what puts it back.
func keep(t *testing.T, h *host, id string) (restore func()) {
	t.Helper()
	backup, err := os.ReadFile(h.home.LogPath(id))
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(h.home.LogPath(id), backup, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestoredOrigin: an origin that finds itself behind its replica gets its own lines
// back, and stamps nothing before.
func TestRestoredOrigin(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		atlas := nyc.address("Atlas")
		id := nyc.create("a", atlas, lon.address("Bob"))
		nyc.say(id, atlas, "before the backup")
		restore := keep(t, nyc, id)
		l := connect(t, nyc, lon)
		for i := range 3000 { // one frame each, so the proofs are of many
			nyc.say(id, atlas, fmt.Sprint("after the backup ", i))
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		want := lon.lines(id)
		l.Cut()
		nyc.restart(restore)
		l = connect(t, nyc, lon)
		if got := nyc.lines(id); len(got) != 3002 || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("origin: got %d lines, want the %d that it had", len(got), len(want))
		}
		nyc.say(id, atlas, "and on")
		synctest.Wait()
		lon.wantCopy(nyc, id, 3003)
		nyc.wantNoProblems(lon)
		lon.wantNoProblems(nyc)

		l.Cut() // a conversation that is younger than the backup
		nyc.restart(func() {
			if err := os.Remove(nyc.home.LogPath(id)); err != nil {
				t.Fatal(err)
			}
		})
		connect(t, nyc, lon)
		for range 60 { // part by part, with pauses by the bubble's clock
			if len(nyc.lines(id)) == 3003 {
				break
			}
			time.Sleep(time.Second)
		}
		if got := nyc.lines(id); len(got) != 3003 {
			t.Errorf("origin without the log: got %d lines, want 3003", len(got))
		}
	})
}

// TestStampsNothingWhileBehind: between the head of the replica and the lines nothing gets
// a number.
func TestStampsNothingWhileBehind(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id, l := behind(t, nyc, lon)
		l.sayHead(nyc, id, l.last(id))
		err := nyc.try(id)
		if !errors.Is(err, ledger.ErrBehind) {
			t.Fatalf("append while lines are on their way back: got %v, want %v", err, ledger.ErrBehind)
		}
		l.giveBack(id, l.tail(id), true)
		if err := nyc.try(id); err != nil {
			t.Fatalf("append when they are back: %v", err)
		}
		if got := len(nyc.lines(id)); got != 4 {
			t.Errorf("got %d lines, want those of before, and one", got)
		}
	})
}

// TestPauseEnds: a replica that gives back nothing holds nobody up for ever.
func TestPauseEnds(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id, l := behind(t, nyc, lon)
		l.sayHead(nyc, id, l.last(id))
		if err := nyc.try(id); !errors.Is(err, ledger.ErrBehind) {
			t.Fatalf("got %v, want %v", err, ledger.ErrBehind)
		}
		time.Sleep(31 * time.Second)
		if err := nyc.try(id); err != nil {
			t.Errorf("after the time for it: %v", err)
		}
	})
}

// TestLiesOfAReplica: a replica brings nothing into the log of an origin that the origin
// has not shipped, and keeps it from stamping by nothing else.
func TestLiesOfAReplica(t *testing.T) {
	for name, lie := range map[string]func(l *mute, nyc *host, id string){
		"a head without a proof": func(l *mute, nyc *host, id string) {
			l.heads(`{"conversation":"` + id + `","seq":9,"hash":"00"}`)
		},
		"a head with the proof of another line": func(l *mute, nyc *host, id string) {
			p := l.last(id)
			p.Seq = 9
			l.sayHead(nyc, id, p)
		},
		"another line under the number": func(l *mute, nyc *host, id string) {
			l.sayHead(nyc, id, l.last(id))
			l.giveBack(id, [][]byte{bytes.Replace(l.tail(id)[0], []byte("lost 0"), []byte("lost 1"), 1), l.tail(id)[1]}, true)
		},
		"one line more": func(l *mute, nyc *host, id string) {
			l.sayHead(nyc, id, l.last(id))
			l.giveBack(id, append(l.tail(id), bytes.Replace(l.tail(id)[1], []byte(`"seq":3`), []byte(`"seq":4`), 1)), true)
		},
		"no proof": func(l *mute, nyc *host, id string) {
			l.sayHead(nyc, id, l.last(id))
			l.giveBack(id, l.tail(id), false)
		},
		"lines that nobody asked for": func(l *mute, nyc *host, id string) {
			l.giveBack(id, l.tail(id), true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, nyc, lon *host) {
				id, l := behind(t, nyc, lon)
				lie(l, nyc, id)
				if got := len(nyc.lines(id)); got != 1 {
					t.Errorf("origin: got %d lines, want the one that it has", got)
				}
				time.Sleep(31 * time.Second)
				if err := nyc.try(id); err != nil {
					t.Errorf("append: %v", err)
				}
			})
		})
	}
}

// mute is a replica that has what its origin has shipped to it and lost, and says what a
// test wants.
type mute struct {
	*liar
	headers []string
	all     map[string][][]byte
}

// behind makes an origin lose two of three lines that a liar has.
func behind(t *testing.T, nyc, _ *host) (string, *mute) {
	t.Helper()
	id := nyc.create("a", nyc.address("Atlas"), envelope.Address{Name: "Eve", Host: "mal"})
	restore := keep(t, nyc, id)
	first := lie(t, nyc)
	first.heads()
	for i := range 2 {
		nyc.say(id, nyc.address("Atlas"), fmt.Sprint("lost ", i))
		synctest.Wait()
	}
	l := &mute{all: map[string][][]byte{id: nyc.lines(id)}}
	for _, f := range first.heard {
		if f.Type == "lines" {
			l.headers = append(l.headers, string(f.Header))
		}
	}
	first.cut()
	nyc.restart(restore)
	l.liar = relie(t, first, nyc)
	return id, l
}

type proofHeader struct {
	Seq        int64  `json:"seq"`
	Hash       string `json:"hash"`
	Chain, Sig string
}

func (m *mute) last(string) (p proofHeader) {
	if err := json.Unmarshal([]byte(m.headers[len(m.headers)-1]), &p); err != nil {
		m.t.Fatal(err)
	}
	p.Seq = 3
	return p
}

func (m *mute) tail(id string) [][]byte { return slices.Clone(m.all[id][1:]) }

func (m *mute) sayHead(_ *host, id string, p proofHeader) {
	m.heads(fmt.Sprintf(`{"conversation":%q,"seq":%d,"hash":"ab","chain":%q,"sig":%q}`, id, p.Seq, p.Chain, p.Sig))
}

func (m *mute) giveBack(id string, lines [][]byte, proved bool) {
	header := fmt.Sprintf(`{"conversation":%q}`, id)
	if proved {
		p := m.last(id)
		header = fmt.Sprintf(`{"conversation":%q,"chain":%q,"sig":%q}`, id, p.Chain, p.Sig)
	}
	_ = m.session.Send(m.t.Context(), link.Frame{Type: "lines", Lane: link.Mail, Header: []byte(header), Lines: lines})
	synctest.Wait()
}

// try appends a line.
func (h *host) try(id string) error {
	_, _, err := h.ledger.Append(ledger.Line{Envelope: &envelope.Envelope{
		ID: envelope.NewID(), Type: envelope.Message, Conversation: id, From: h.address("Atlas"), Content: "new",
	}})
	return err
}

// TestFork: an origin that has stamped other lines since keeps them; the replica follows
// it, keeps its own aside, and hands on what agents of its host have said.
func TestFork(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id, l := fork(t, nyc, lon)
		lon.wantCopy(nyc, id, 61) // 40 common ones, 20 new ones, and the notice
		wantAside(t, lon, id, 30)
		if len(lon.cuts) != 1 || lon.cuts[0].Content != "Bob said so" || lon.cuts[0].ReplyTo.ID == "" {
			t.Errorf("got %+v handed on, want what Bob has said, with the id of what it answers", lon.cuts)
		}
		if !strings.Contains(string(nyc.lines(id)[60]), `"restored"`) {
			t.Errorf("got %s, want the notice", nyc.lines(id)[60])
		}
		nyc.say(id, nyc.address("Atlas"), "goes on")
		synctest.Wait()
		lon.wantCopy(nyc, id, 62)
		nyc.wantNoProblems(lon)
		lon.wantNoProblems(nyc)
		l.Cut()
		lon.restart()
		connect(t, nyc, lon)
		lon.wantCopy(nyc, id, 62)
		if len(lon.cuts) != 1 {
			t.Errorf("got %d lines handed on after a restart, want those of before", len(lon.cuts))
		}
	})
}

// fork makes an origin lose 30 of 70 lines and stamp 20 others, and links it with its
// replica.
func fork(t *testing.T, nyc, lon *host) (string, closer) {
	t.Helper()
	atlas := nyc.address("Atlas")
	id := nyc.create("a", atlas, lon.address("Bob"))
	l := connect(t, nyc, lon)
	say := func(n int) {
		for i := range n {
			nyc.say(id, atlas, fmt.Sprint("message ", i))
			synctest.Wait()
		}
	}
	say(39)
	restore := keep(t, nyc, id)
	say(28)
	said := &envelope.Envelope{
		ID: envelope.NewID(), Type: envelope.Message, Conversation: id, From: lon.address("Bob"), Content: "Bob said so",
		After: envelope.Int(1), ReplyTo: envelope.Ref{Seq: 45},
	}
	said.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(lon.key, said.Signed()))
	nyc.add(said)
	forged := *said
	forged.ID, forged.Content = envelope.NewID(), "Bob did not say so"
	nyc.add(&forged)
	synctest.Wait()
	l.Cut()
	nyc.restart(restore)
	say(20)
	return id, connect(t, nyc, lon)
}

type closer interface{ Cut() }

// wantAside checks how many lines a replica has kept aside.
func wantAside(t *testing.T, h *host, id string, lines int) {
	t.Helper()
	data, err := os.ReadFile(h.home.ForkPath(id, 1))
	if err != nil || bytes.Count(data, []byte("\n")) != lines {
		t.Errorf("got %d lines aside, %v, want %d", bytes.Count(data, []byte("\n")), err, lines)
	}
	if left, _ := filepath.Glob(filepath.Join(h.home.ConversationsDir(), "*.cut")); len(left) > 0 {
		t.Errorf("got %v, want nothing unfinished", left)
	}
}

// TestForkOfTheReplica: whose log somebody has edited.
func TestForkOfTheReplica(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		other := nyc.create("b", nyc.address("Atlas"), lon.address("Bob"))
		l := connect(t, nyc, lon)
		nyc.say(id, nyc.address("Atlas"), "hi")
		nyc.say(id, nyc.address("Atlas"), "and then")
		synctest.Wait()
		l.Cut()
		lon.restart(func() { edit(t, lon, id, `"hi"`, `"ho"`) }) // the head does not show it
		connect(t, nyc, lon)
		nyc.say(id, nyc.address("Atlas"), "more")
		nyc.say(other, nyc.address("Atlas"), "goes on")
		synctest.Wait()
		lon.wantCopy(nyc, id, 5)
		lon.wantCopy(nyc, other, 2)
		wantAside(t, lon, id, 2)
	})
}

// TestCrashInACut: whatever a crash leaves of a cut is finished or made again.
func TestCrashInACut(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id, l := fork(t, nyc, lon)
		l.Cut()
		lon.restart(func() { // the new log is in its place, and nothing else was done
			if err := os.Rename(lon.home.ForkPath(id, 1), lon.home.CutPath(id, 1)); err != nil {
				t.Fatal(err)
			}
			lon.cuts = nil
		})
		l = connect(t, nyc, lon)
		wantAside(t, lon, id, 30)
		if len(lon.cuts) != 1 {
			t.Errorf("got %d lines handed on, want one", len(lon.cuts))
		}
		l.Cut()
		lon.restart(func() { // the lines are aside, and the log is as it was
			if err := os.WriteFile(lon.home.CutPath(id, 2), append(lon.lines(id)[50], '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
			lon.cuts = nil
		})
		connect(t, nyc, lon)
		wantAside(t, lon, id, 30)
		if len(lon.cuts) != 0 {
			t.Errorf("got %d lines handed on that are in the log", len(lon.cuts))
		}
		if _, err := os.Stat(lon.home.ForkPath(id, 2)); err == nil {
			t.Error("lines are aside that are in the log")
		}
	})
}

// TestLostProofs: without them a log that has lost lines is a fork.
func TestLostProofs(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		restore := keep(t, nyc, id)
		l := connect(t, nyc, lon)
		nyc.say(id, nyc.address("Atlas"), "lost")
		synctest.Wait()
		l.Cut()
		if err := os.RemoveAll(filepath.Dir(lon.home.ProofsPath("nyc", id))); err != nil {
			t.Fatal(err)
		}
		lon.restart()
		nyc.restart(restore)
		connect(t, nyc, lon)
		lon.wantCopy(nyc, id, 2) // with the notice
		wantAside(t, lon, id, 1)
	})
}

// TestManyForks: what is kept aside is bounded, and then a person decides.
func TestManyForks(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		restore := keep(t, nyc, id)
		for i := range 17 {
			l := connect(t, nyc, lon)
			nyc.say(id, nyc.address("Atlas"), fmt.Sprint("lost ", i))
			synctest.Wait()
			l.Cut()
			nyc.restart(restore)
			nyc.say(id, nyc.address("Atlas"), "another")
		}
		connect(t, nyc, lon)
		nyc.wantFork(lon, id, 2)
		if got := lon.problems(nyc); len(got) != 1 {
			t.Errorf("replica: got problems %+v, want one", got)
		}
		var damage *convlog.DamageError
		if _, err := lon.ledger.State(t.Context(), id); errors.As(err, &damage) {
			t.Error(err)
		}
	})
}

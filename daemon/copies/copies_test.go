package copies_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestShipped: a conversation that concerns a peer is there when the link is up, and
// line by line after that.
func TestShipped(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		alone := nyc.create("b", nyc.address("Atlas"), nyc.address("Nova"))
		nyc.say(id, nyc.address("Atlas"), "before the link")
		nyc.shell(id, "noise stays where it fell\n")
		connect(t, nyc, lon)
		lon.wantCopy(nyc, id, 2)
		nyc.say(id, nyc.address("Atlas"), "on the link")
		synctest.Wait()
		lon.wantCopy(nyc, id, 3)
		later := nyc.create("c", nyc.address("Atlas"), lon.address("Bob"))
		synctest.Wait()
		lon.wantCopy(nyc, later, 1)
		if got := lon.lines(alone); len(got) > 0 {
			t.Errorf("a conversation that does not concern lon: got %d lines there", len(got))
		}
		if want := []int64{1, 2, 3, 1}; !slices.Equal(lon.copied, want) {
			t.Errorf("lines that were told: got %v, want %v", lon.copied, want)
		}
		nyc.wantNoProblems(lon)
		lon.wantNoProblems(nyc)
	})
}

// TestBothAreOrigins: each host ships its own conversations on one link.
func TestBothAreOrigins(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		a := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		b := lon.create("b", lon.address("Bob"), nyc.address("Atlas"))
		connect(t, nyc, lon)
		lon.wantCopy(nyc, a, 1)
		nyc.wantCopy(lon, b, 1)
		for range 20 {
			nyc.say(a, nyc.address("Atlas"), "there")
			lon.say(b, lon.address("Bob"), "and back")
		}
		synctest.Wait()
		lon.wantCopy(nyc, a, 21)
		nyc.wantCopy(lon, b, 21)
	})
}

// TestCatchUp: what is many frames behind comes too, and what is said meanwhile.
func TestCatchUp(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		nyc.fill(id, nyc.address("Atlas"), 10_000, 50)
		l := connect(t, nyc, lon)
		nyc.say(id, nyc.address("Atlas"), "after all that")
		synctest.Wait()
		lon.wantCopy(nyc, id, 10_002)
		if lon.syncs > 200 {
			t.Errorf("got %d syncs, want one for each batch", lon.syncs)
		}
		l.Cut()
		before := lon.syncs
		connect(t, nyc, lon)
		lon.wantCopy(nyc, id, 10_002)
		if lon.syncs != before {
			t.Errorf("got %d syncs for a replica that lacks nothing", lon.syncs-before)
		}
	})
}

// TestNoLineOvertakes: what is said while a replica catches up comes behind that, also
// when the last of it waits for credit.
func TestNoLineOvertakes(t *testing.T) {
	for lines := 1200; lines < 1800; lines += 200 {
		bubble(t, func(t *testing.T, nyc, lon *host) {
			id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
			nyc.fill(id, nyc.address("Atlas"), lines, 50)
			goOn := lon.hold()
			connect(t, nyc, lon)
			for range 3 {
				nyc.say(id, nyc.address("Atlas"), "after all that")
				synctest.Wait()
			}
			goOn()
			synctest.Wait()
			lon.wantCopy(nyc, id, lines+4)
			if lon.gaps > 0 {
				t.Errorf("%d lines: one has come before those that it follows", lines)
			}
		})
	}
}

// TestCloseWaits: the next link does not begin while the last one appends.
func TestCloseWaits(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		l := connect(t, nyc, lon)
		goOn := lon.hold()
		nyc.say(id, nyc.address("Atlas"), "hi")
		synctest.Wait()
		closed := make(chan struct{})
		go func() {
			l.Cut()
			close(closed)
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		select {
		case <-closed:
			t.Error("the link is closed while a line of it is being appended")
		default:
		}
		goOn()
		<-closed
		lon.wantCopy(nyc, id, 2)
	})
}

// TestResume cuts the link after each few bytes that the replica has read.
func TestResume(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		nyc.fill(id, nyc.address("Atlas"), 3_000, 100)
		got := 0
		for cut := 20_000; len(lon.lines(id)) < 3_001; cut += 50_000 {
			cutting(t, nyc, lon, cut)
			lines := lon.lines(id)
			lon.wantCopy(nyc, id, len(lines))
			if len(lines) < got {
				t.Fatalf("got %d lines after %d", len(lines), got)
			}
			got = len(lines)
			if got%2 == 0 { // with the daemon killed as well
				lon.restart()
			}
		}
		lon.wantCopy(nyc, id, 3_001)
	})
}

// TestLeave: a host gets the line with which its last agent leaves, and no other until
// one is in again.
func TestLeave(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		atlas, bob, ben := nyc.address("Atlas"), lon.address("Bob"), lon.address("Ben")
		id := nyc.create("a", atlas, bob, ben)
		l := connect(t, nyc, lon)
		nyc.leave(id, bob)
		nyc.say(id, atlas, "Ben hears this")
		nyc.leave(id, ben)
		synctest.Wait()
		lon.wantCopy(nyc, id, 4)
		nyc.say(id, atlas, "nobody in lon hears this")
		synctest.Wait()
		lon.wantCopy(nyc, id, 4)
		l.Cut()
		nyc.restart()
		connect(t, nyc, lon)
		lon.wantCopy(nyc, id, 4)
		nyc.join(id, bob)
		synctest.Wait()
		lon.wantCopy(nyc, id, 6)
		nyc.say(id, atlas, "Bob hears this")
		synctest.Wait()
		lon.wantCopy(nyc, id, 7)
	})
}

// TestLateGuest: who comes late gets the log from its beginning.
func TestLateGuest(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), nyc.address("Nova"))
		nyc.fill(id, nyc.address("Atlas"), 2_000, 100)
		connect(t, nyc, lon)
		nyc.join(id, lon.address("Bob"))
		synctest.Wait()
		lon.wantCopy(nyc, id, 2_002)
	})
}

// TestRestoredReplica: a replica that lost lines gets them again.
func TestRestoredReplica(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		l := connect(t, nyc, lon)
		backup, err := os.ReadFile(lon.home.LogPath(id))
		if err != nil {
			t.Fatal(err)
		}
		nyc.say(id, nyc.address("Atlas"), "after the backup")
		synctest.Wait()
		l.Cut()
		lon.restart(func() {
			if err := os.WriteFile(lon.home.LogPath(id), append(backup, `{"seq":2,"id":"torn`...), 0o600); err != nil {
				t.Fatal(err)
			}
		})
		connect(t, nyc, lon)
		lon.wantCopy(nyc, id, 2)
	})
}

// TestGap: a replica that is moved away while the link is up says so when a line comes.
func TestGap(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		nyc.fill(id, nyc.address("Atlas"), 2_000, 100)
		connect(t, nyc, lon)
		lon.wantCopy(nyc, id, 2_001)
		if err := os.Rename(lon.home.LogPath(id), lon.home.LogPath(id)+".away"); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			nyc.say(id, nyc.address("Atlas"), "more")
		}
		synctest.Wait()
		lon.wantCopy(nyc, id, 2_011)
		lon.wantNoProblems(nyc)
	})
}

// TestFullDisk: lines that cannot be stored are not acknowledged, and come when they can.
func TestFullDisk(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		connect(t, nyc, lon)
		lon.failSyncs(syscall.ENOSPC)
		for range 3 {
			nyc.say(id, nyc.address("Atlas"), "hi")
			time.Sleep(50 * time.Second)
			synctest.Wait()
		}
		if n := len(lon.copied); n != 1 {
			t.Errorf("%d lines were told on a full disk, want 1", n)
		}
		lon.failSyncs(nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		lon.wantCopy(nyc, id, 4)
		lon.wantNoProblems(nyc)
		if !slices.Equal(slices.Compact(lon.copied), []int64{1, 2, 3, 4}) {
			t.Errorf("got %v told, want all lines in order", lon.copied)
		}
	})
}

// TestChecked: of lines that are refused those before the first bad one are taken.
func TestChecked(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		other := nyc.create("b", nyc.address("Atlas"), lon.address("Bob"))
		for range 10 {
			nyc.say(id, nyc.address("Atlas"), "hi")
		}
		lon.check = func(_ string, _ conv.State, lines []ledger.Stored) error {
			for _, l := range lines {
				if l.Envelope.Seq == 8 {
					return errors.New("a signature that is not right")
				}
			}
			return nil
		}
		connect(t, nyc, lon)
		nyc.say(id, nyc.address("Atlas"), "later")
		nyc.say(other, nyc.address("Atlas"), "goes on")
		synctest.Wait()
		lon.wantCopy(nyc, id, 7)
		lon.wantCopy(nyc, other, 2)
		if got := lon.problems(nyc); len(got) != 1 || got[0].Fork || got[0].Seq != 8 || !strings.Contains(got[0].Text, "signature") {
			t.Errorf("got problems %+v, want what Check says", got)
		}
	})
}

// TestCheckedLater: what cannot be checked now is checked again, and not acknowledged.
func TestCheckedLater(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		lon.check = func(string, conv.State, []ledger.Stored) error {
			if time.Now().Before(time.Date(2000, 1, 1, 0, 0, 10, 0, time.UTC)) { // the bubble's clock
				return fmt.Errorf("decline: %w", api.Errorf(api.QueueFull, "too much waits"))
			}
			return nil
		}
		connect(t, nyc, lon)
		lon.wantCopy(nyc, id, 0)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		lon.wantCopy(nyc, id, 1)
		lon.wantNoProblems(nyc)
	})
}

// TestNameOfAnotherHost: a host gets nothing of conversations in which its name means
// another one, that had the name before.
func TestNameOfAnotherHost(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		e := creation(nyc.home, "a", nyc.address("Atlas"), lon.address("Bob"))
		e.Hosts = map[string]string{"nyc": nyc.home.Host.ID, "lon": "another"}
		if _, err := nyc.ledger.Create(context.Background(), []*envelope.Envelope{e}); err != nil {
			t.Fatal(err)
		}
		connect(t, nyc, lon)
		nyc.say(e.Conversation, nyc.address("Atlas"), "hi")
		synctest.Wait()
		lon.wantCopy(nyc, e.Conversation, 0)
		l := lie(t, nyc)
		l.heads(`{"conversation":"` + e.Conversation + `","seq":7}`)
		if len(l.heard) != 1 {
			t.Errorf("got %d frames, want nothing but heads", len(l.heard))
		}
	})
}

// TestLineThatNobodyTakes: a line of the origin's log that is no envelope stops its
// conversation, and not the link.
func TestLineThatNobodyTakes(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		other := nyc.create("b", nyc.address("Atlas"), lon.address("Bob"))
		connect(t, nyc, lon)
		nyc.shell(id, `{"seq":2}`+"\n")
		if err := nyc.ledger.Refresh(context.Background(), id); err != nil {
			t.Fatal(err)
		}
		nyc.say(other, nyc.address("Atlas"), "goes on")
		synctest.Wait()
		lon.wantCopy(nyc, id, 1)
		lon.wantCopy(nyc, other, 2)
		if got := nyc.problems(lon); len(got) != 1 || got[0].Seq != 2 {
			t.Errorf("got problems %+v, want line 2", got)
		}
	})
}

// TestLargeLine: a line may be larger than a frame and all of the credit.
func TestLargeLine(t *testing.T) {
	bubble(t, func(t *testing.T, nyc, lon *host) {
		id := nyc.create("a", nyc.address("Atlas"), lon.address("Bob"))
		e := &envelope.Envelope{ID: envelope.NewID(), Type: envelope.Message, Conversation: id, From: nyc.address("Atlas"),
			Content: strings.Repeat("\x01", envelope.MaxContent)} // six times as long in JSON
		nyc.add(e)
		nyc.say(id, nyc.address("Atlas"), "small")
		connect(t, nyc, lon)
		lon.wantCopy(nyc, id, 3)
	})
}

// edit changes the bytes of a log.
func edit(t *testing.T, h *host, id, old, new string) {
	t.Helper()
	data, err := os.ReadFile(h.home.LogPath(id))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.home.LogPath(id), bytes.Replace(data, []byte(old), []byte(new), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

package daemontest_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/fsck"
	"github.com/claude-duo/duo/maildir/mailbox"
)

// TestReplica: a conversation with an agent of another host is there, byte for byte, and
// its messages are in the agent's inbox, whatever happens to the link and the daemons.
func TestReplica(t *testing.T) {
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc", "Atlas"), daemontest.NewBehind(t, "lon", "Bob")
	daemontest.Pair(t, nyc, lon)
	id := createWith(t, nyc, "Atlas", map[string]*daemontest.Host{"Bob": lon})
	say := func(n int) {
		for i := range n {
			nyc.Post("Atlas", &envelope.Envelope{Conversation: id, Content: fmt.Sprint("message ", i)})
		}
	}
	say(3)
	wantSame(t, nyc, lon, id)
	daemontest.Eventually(t, func() (bool, string) {
		items, err := filepath.Glob(filepath.Join(lon.Home().AgentDir("Bob"), mailbox.InboxNew, "*"+id+"*"))
		return err == nil && len(items) == 4, fmt.Sprint(items)
	})

	cable.Pull()
	say(300)
	cable.Plug()
	cable.PullAfter(40_000) // in the middle of what is lacking
	lon.Redial("nyc")
	daemontest.Eventually(t, func() (bool, string) {
		p, err := lon.As("").Peer(t.Context(), "nyc")
		return err == nil && p.State != "up", daemontest.JSON(p)
	})
	cable.Plug()
	for _, h := range []*daemontest.Host{lon, nyc} {
		h.Stop()
		if h == lon {
			say(3)
		}
		h.Start()
		lon.Redial("nyc")
		daemontest.Linked(t, nyc, lon)
		wantSame(t, nyc, lon, id)
	}
}

// createWith puts the log of a conversation into a home, as another program may.
func createWith(t *testing.T, h *daemontest.Host, creator string, guests map[string]*daemontest.Host) string {
	t.Helper()
	home := h.Home()
	from := home.Address(creator)
	e := &envelope.Envelope{
		ID: envelope.NewID(), Type: envelope.System, Event: envelope.EventCreate, From: from, Topic: "far away",
		Origin: home.Host.ID, Participants: []envelope.Address{from},
		Hosts: map[string]string{home.Host.Name: home.Host.ID},
	}
	for name, host := range guests {
		e.Participants = append(e.Participants, host.Home().Address(name))
		e.Hosts[host.Home().Host.Name] = host.Home().Host.ID
	}
	e.Conversation = envelope.ConversationID(home.Host.ID, e.ID)
	if err := convlog.Create(home.LogPath(e.Conversation), []*envelope.Envelope{e}, time.Now()); err != nil {
		t.Fatal(err)
	}
	return e.Conversation
}

func wantSame(t *testing.T, origin, replica *daemontest.Host, id string) {
	t.Helper()
	daemontest.Eventually(t, func() (bool, string) {
		want, err := os.ReadFile(origin.Home().LogPath(id))
		got, err2 := os.ReadFile(replica.Home().LogPath(id))
		return err == nil && err2 == nil && bytes.Equal(got, want), fmt.Sprintf("got %d bytes, %v, want %d, %v", len(got), err2, len(want), err)
	})
}

// TestShellOnReplicas: two hosts append with the shell at the same place of their copies,
// while nobody reaches the origin, and both messages come to the log, once.
func TestShellOnReplicas(t *testing.T) {
	cable := daemontest.NewCable(t)
	nyc := daemontest.NewNamed(t, cable, "nyc", "Atlas")
	lon, par := daemontest.NewBehind(t, "lon", "Bob"), daemontest.NewBehind(t, "par", "Pia")
	daemontest.Pair(t, nyc, lon)
	daemontest.Pair(t, nyc, par)
	id := createWith(t, nyc, "Atlas", map[string]*daemontest.Host{"Bob": lon, "Pia": par})
	wantSame(t, nyc, lon, id)
	wantSame(t, nyc, par, id)
	cable.Pull()
	for agent, h := range map[string]*daemontest.Host{"Bob": lon, "Pia": par} {
		f, err := os.OpenFile(h.Home().LogPath(id), os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			_, err = fmt.Fprintf(f, `{"from":%q,"content":"from the shell"}`+"\n", agent)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cable.Plug()
	lon.Redial("nyc")
	par.Redial("nyc")
	for _, h := range []*daemontest.Host{nyc, lon, par} {
		daemontest.Eventually(t, func() (bool, string) {
			said := make(map[string]int)
			for _, e := range h.Log(id) {
				if e.Type == envelope.Message {
					said[e.From.String()]++
				}
			}
			return len(said) == 2 && said["Bob@lon"] == 1 && said["Pia@par"] == 1, fmt.Sprint(said)
		})
	}
	for _, h := range []*daemontest.Host{nyc, lon, par} {
		report, err := fsck.Home(h.Dir)
		if worst, any := fsck.Worst(report.Findings); err != nil || any && worst > fsck.Note {
			t.Errorf("%s: %v, %v", h.Home().Host.Name, report.Findings, err)
		}
	}
}

// TestForkIsTold: both hosts show that their logs of a conversation differ, and where, when
// the replica has followed the origin too often to do so again.
func TestForkIsTold(t *testing.T) {
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc", "Atlas"), daemontest.NewBehind(t, "lon", "Bob")
	daemontest.Pair(t, nyc, lon)
	id := createWith(t, nyc, "Atlas", map[string]*daemontest.Host{"Bob": lon})
	nyc.Post("Atlas", &envelope.Envelope{Conversation: id, Content: "yes"})
	wantSame(t, nyc, lon, id)
	lon.Stop()
	for n := range 16 {
		if err := os.WriteFile(lon.Home().ForkPath(id, n+1), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := lon.Home().LogPath(id)
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, bytes.Replace(data, []byte(`"content":"yes"`), []byte(`"content":"no!"`), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	lon.Start()
	for host, other := range map[*daemontest.Host]string{nyc: "lon", lon: "nyc"} {
		daemontest.Eventually(t, func() (bool, string) {
			p, err := host.As("").Peer(t.Context(), other)
			return err == nil && len(p.Resting) == 1 && p.Resting[0].Conversation == id && p.Resting[0].Seq == 2 && p.Resting[0].Fork, daemontest.JSON(p)
		})
	}
}

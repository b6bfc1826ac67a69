package daemontest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestFileOverBadCable: a file of a conversation between two hosts comes to the other one,
// while the cable is pulled again and again and both daemons are started anew. What went
// through is not sent again.
func TestFileOverBadCable(t *testing.T) {
	t.Parallel()
	cable := daemontest.NewCable(t)
	nyc, lon := daemontest.NewNamed(t, cable, "nyc", "Atlas"), daemontest.NewBehind(t, "lon", "Bob")
	random := rand.NewChaCha8([32]byte{1})
	data := make([]byte, 6<<20)
	_, _ = random.Read(data)
	a := nyc.Upload("Atlas", "a.bin", string(data))
	secret := nyc.Upload("Atlas", "secret", "secret")
	id := between(t, nyc, lon, a)
	daemontest.Pair(t, nyc, lon)
	ref := id + ".2"
	want := func(sum string) ([]byte, error) {
		from, err := lon.As("Bob").Attachment(t.Context(), sum, ref)
		if err != nil {
			return nil, err
		}
		defer from.Close()
		return io.ReadAll(from)
	}
	var e *api.Error
	daemontest.Eventually(t, func() (bool, string) { // the log is known
		_, err := want(a.SHA256)
		return errors.As(err, &e) && e.Code == api.OnItsWay, fmt.Sprint(err)
	})
	before := cable.Carried()
	for n := range 5 {
		cable.PullAfter(700_000)
		started := cable.Carried()
		daemontest.Eventually(t, func() (bool, string) {
			p, err := lon.As("").Peer(t.Context(), "nyc")
			return err == nil && p.State != "up" && cable.Carried() > started, daemontest.JSON(p)
		})
		cable.Plug()
		switch n {
		case 1:
			lon.Stop()
			lon.Start()
		case 3:
			nyc.Stop()
			nyc.Start()
		}
		lon.Redial("nyc")
		daemontest.Linked(t, nyc, lon)
	}
	var got []byte
	daemontest.Eventually(t, func() (bool, string) {
		var err error
		got, err = want(a.SHA256)
		return err == nil, fmt.Sprint(err)
	})
	if !bytes.Equal(got, data) {
		t.Errorf("got %d other bytes", len(got))
	}
	if sent := cable.Carried() - before; sent > int64(len(data))+2<<20 {
		t.Errorf("%d bytes went through for a file of %d", sent, len(data))
	}
	if _, err := want(secret.SHA256); !errors.As(err, &e) || e.Code != api.AttachmentNotFound {
		t.Errorf("a file that is not in the message: got %v", err)
	}
}

// between makes a conversation of Atlas@nyc with Bob@lon, as both hosts have it, in which
// Atlas has brought a file.
func between(t *testing.T, nyc, lon *daemontest.Host, a envelope.Attachment) (id string) {
	t.Helper()
	atlas, bob := envelope.Address{Name: "Atlas", Host: "nyc"}, envelope.Address{Name: "Bob", Host: "lon"}
	origin := nyc.Home().Host.ID
	first := &envelope.Envelope{
		Type: envelope.System, Event: envelope.EventCreate, ID: envelope.NewID(), From: atlas, Origin: origin, Participants: []envelope.Address{atlas, bob},
	}
	first.Conversation = envelope.ConversationID(origin, first.ID)
	message := &envelope.Envelope{
		Type: envelope.Message, ID: envelope.NewID(), From: atlas, Conversation: first.Conversation, Content: "see", Attachments: []envelope.Attachment{a},
	}
	path := nyc.Home().LogPath(first.Conversation)
	if err := convlog.Create(path, []*envelope.Envelope{first, message}, time.Now()); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lon.Home().LogPath(first.Conversation), log, 0o600); err != nil {
		t.Fatal(err)
	}
	return first.Conversation
}

// TestFilesOfThree: what an agent brings to a conversation of another host comes to that
// host, and through it to a third one that the author's host is not linked with.
func TestFilesOfThree(t *testing.T) {
	t.Parallel()
	cable := daemontest.NewCable(t)
	nyc := daemontest.NewNamed(t, cable, "nyc", "Atlas")
	lon, ber := daemontest.NewBehind(t, "lon", "Bob"), daemontest.NewBehind(t, "ber", "Eve")
	daemontest.Pair(t, nyc, lon)
	daemontest.Pair(t, nyc, ber)
	data := strings.Repeat("0123456789", 30_000)
	posted := nyc.Post("Atlas", &envelope.Envelope{Type: envelope.Create, Topic: "Files", To: []string{"Bob@lon", "Eve@ber"}})
	id := posted.Conversation.ID
	daemontest.Eventually(t, func() (bool, string) {
		_, err := os.Stat(lon.Home().LogPath(id))
		return err == nil, fmt.Sprint(err)
	})
	a := lon.Upload("Bob", "a.txt", data)
	lon.Post("Bob", &envelope.Envelope{Type: envelope.Message, Conversation: id, Content: "see", Attachments: []envelope.Attachment{a}})
	for _, at := range []struct {
		host  *daemontest.Host
		agent string
	}{{nyc, "Atlas"}, {ber, "Eve"}, {lon, "Bob"}} {
		daemontest.Eventually(t, func() (bool, string) {
			from, err := at.host.As(at.agent).Attachment(t.Context(), a.SHA256, id+".2")
			if err != nil {
				return false, fmt.Sprint(at.agent, err)
			}
			defer from.Close()
			got, err := io.ReadAll(from)
			return string(got) == data, fmt.Sprint(at.agent, len(got), err)
		})
	}
	// A file that is known to be at nyc is none that lon may have for mentioning it.
	secret := nyc.Upload("Atlas", "secret", "secret")
	secret.Name = "mine.txt"
	if _, err := lon.As("Bob").Post(t.Context(), &envelope.Envelope{Type: envelope.Message, Conversation: id, Content: "mine", Attachments: []envelope.Attachment{secret}}); err == nil {
		t.Error("lon may mention a file that it has not got")
	}
}

package files_test

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/call"
	"github.com/claude-duo/duo/daemon/files"
	"github.com/claude-duo/duo/daemon/index"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/envelope"
)

type deaf struct{}

func (deaf) Committed(string, int64, []envelope.Address) {}
func (deaf) Raw(string)                                  {}

type calls map[string]call.Request

func (c calls) Get(id string) (call.Request, error) {
	if r, ok := c[id]; ok {
		return r, nil
	}
	return call.Request{}, errors.New("no such call")
}

func address(s string) envelope.Address {
	name, host, _ := strings.Cut(s, "@")
	return envelope.Address{Name: name, Host: host}
}

// TestSharing: a host gets what somebody else has mentioned in a line that it has, or in a
// call to it.
func TestSharing(t *testing.T) {
	home, err := maildir.Init(filepath.Join(t.TempDir(), "nyc"))
	must(t, err)
	x, err := index.OpenMemory()
	must(t, err)
	l, err := ledger.Open(home, x, deaf{}, ledger.Options{})
	must(t, err)
	defer l.Close()
	sum := func(s string) string { return strings.Repeat(s, 64) }
	attachment := func(s string) []envelope.Attachment {
		return []envelope.Attachment{{Name: "a", Size: 5, SHA256: sum(s)}}
	}
	people := []string{"Atlas@nyc", "Bob@lon", "Eve@ber", "Dan@par"}
	first := &envelope.Envelope{Type: envelope.System, Event: envelope.EventCreate, ID: envelope.NewID(), From: address("Atlas@nyc"), Origin: home.Host.ID, Hosts: map[string]string{"par": "another"}}
	for _, p := range people {
		first.Participants = append(first.Participants, address(p))
	}
	first.Conversation = envelope.ConversationID(home.Host.ID, first.ID)
	line := func(kind envelope.Type, from, bring string) *envelope.Envelope {
		e := &envelope.Envelope{Type: kind, ID: envelope.NewID(), From: address(from), Conversation: first.Conversation}
		if kind == envelope.Message {
			e.Content = "see " + sum("d")
		}
		if bring != "" {
			e.Attachments = attachment(bring)
		}
		return e
	}
	_, err = l.Create(context.Background(), []*envelope.Envelope{
		first,                                    // 1
		line(envelope.Message, "Atlas@nyc", "a"), // 2
		line(envelope.Message, "Bob@lon", "b"),   // 3
		line(envelope.Leave, "Eve@ber", ""),      // 4
		line(envelope.Message, "Atlas@nyc", "c"), // 5
	})
	must(t, err)
	request := envelope.NewID()
	sharing := files.Sharing{Ledger: l, Calls: calls{request: {ID: request, From: address("Atlas@nyc"), To: []envelope.Address{address("Cy@sfo")}, Attachments: attachment("e")}}}
	for _, test := range []struct {
		peer string
		seq  int64
		sum  string
		want files.Grant
	}{
		{"lon", 2, "a", files.Granted},
		{"LON", 2, "a", files.Granted},
		{"ber", 2, "a", files.Granted},
		{"ber", 3, "b", files.Granted},
		{"lon", 5, "c", files.Granted},
		{"ber", 5, "c", files.Refused}, // behind its last one's leave
		{"lon", 3, "b", files.Refused}, // it has mentioned that itself
		{"sfo", 2, "a", files.Refused}, // it has not got the log
		{"par", 2, "a", files.Refused}, // another host had its name
		{"lon", 2, "b", files.Refused}, // another line's
		{"lon", 2, "d", files.Refused}, // a text is no mention
		{"lon", 3, "d", files.Refused},
		{"lon", 1, "a", files.Refused},
		{"lon", 6, "a", files.NotYet},
		{"ber", 6, "a", files.Refused},
	} {
		got := sharing.Shares(context.Background(), files.Peer{ID: "id-of-" + test.peer, Name: test.peer}, blob.Source{Host: test.peer, Conversation: first.Conversation, Seq: test.seq}, sum(test.sum))
		if got != test.want {
			t.Errorf("%s of line %d for %s: got %v, want %v", test.sum, test.seq, test.peer, got, test.want)
		}
	}
	for _, test := range []struct {
		peer, request, sum string
		want               files.Grant
	}{
		{"sfo", request, "e", files.Granted},
		{"sfo", request, "a", files.Refused},
		{"lon", request, "e", files.Refused},
		{"nyc", request, "e", files.Refused}, // the caller's own
		{"sfo", envelope.NewID(), "e", files.Refused},
	} {
		if got := sharing.Shares(context.Background(), files.Peer{ID: "id-of-" + test.peer, Name: test.peer}, blob.Source{Request: test.request}, sum(test.sum)); got != test.want {
			t.Errorf("%s of a call for %s: got %v, want %v", test.sum, test.peer, got, test.want)
		}
	}
	if got := sharing.Shares(context.Background(), files.Peer{Name: "lon"}, blob.Source{Conversation: envelope.NewID(), Seq: 1}, sum("a")); got != files.Refused {
		t.Errorf("of no conversation: got %v", got)
	}
	origin := files.Peer{ID: home.Host.ID, Name: "old"} // which has the log, whoever is in it
	if got := sharing.Shares(context.Background(), origin, blob.Source{Conversation: first.Conversation, Seq: 5}, sum("c")); got != files.Granted {
		t.Errorf("for the origin: got %v", got)
	}
	for s, want := range map[string]int64{"a": 2, "b": 3, "c": 5, "d": 0, "e": 0} {
		if got, err := sharing.Line(context.Background(), first.Conversation, sum(s)); got != want || err != nil {
			t.Errorf("line that brings %s: got %d, %v; want %d", s, got, err, want)
		}
	}
}

// TestWantedOf: what the lines of a replica bring is got from the host that has sent them,
// or from that of the author.
func TestWantedOf(t *testing.T) {
	lon := newSite(t, "lon")
	line := func(seq int64, from, sum string) ledger.Stored {
		e := &envelope.Envelope{Seq: seq, From: address(from)}
		if sum != "" {
			e.Attachments = []envelope.Attachment{{Name: "a", Size: 5, SHA256: strings.Repeat(sum, 64)}}
		}
		return ledger.Stored{Envelope: e}
	}
	own, err := lon.Keeper.Take("Bob", "a", "", strings.NewReader("hello"))
	must(t, err)
	back := line(5, "Bob@lon", "")
	back.Envelope.Attachments = []envelope.Attachment{own}
	must(t, lon.WantedOf("nyc", conversation, []ledger.Stored{
		line(1, "Atlas@nyc", ""), line(2, "Atlas@nyc", "a"), line(3, "Eve@ber", "b"), line(4, "Bob@lon", "c"), back,
	}))
	list, err := blob.At(lon.home.BlobsDir(), 1).Wanted()
	must(t, err)
	got := make(map[string]string)
	for _, w := range list {
		got[w.SHA256[:1]] = w.From()
	}
	if want := map[string]string{"a": "nyc", "b": "ber or nyc", "c": "nyc"}; !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

package daemon_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/sync/identity"
	"github.com/claude-duo/duo/sync/link"
	"github.com/claude-duo/duo/sync/peer"
	"github.com/claude-duo/duo/sync/peer/peertest"
)

func fuzzHome(f *testing.F, name string) (*maildir.Home, *identity.Host) {
	f.Helper()
	dir := filepath.Join(f.TempDir(), name)
	must(f, os.Mkdir(dir, 0o700))
	must(f, os.WriteFile(filepath.Join(dir, "config.toml"), []byte(`host.name = "`+name+`"`), 0o600))
	home, err := maildir.Init(dir)
	must(f, err)
	who, err := identity.Open(home)
	must(f, err)
	return home, who
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// answerTime is how long a frame may be dealt with before the link is ended over it.
const answerTime = 20 * time.Millisecond

// FuzzFrames: whatever a peer sends, of whatever frame and in whatever lane, nothing
// panics, and the link can be ended.
func FuzzFrames(f *testing.F) {
	home, nyc := fuzzHome(f, "nyc")
	_, lon := fuzzHome(f, "lon")
	book, _, err := peer.OpenBook(home)
	must(f, err)
	must(f, book.Admit(peer.Peer{ID: lon.ID(), Name: "lon", Keys: lon.Keys()}))
	must(f, book.Admit(peer.Peer{ID: lon.ID(), Name: "lon", Keys: lon.Keys(), Relay: true}))
	atlas, bob := envelope.Address{Name: "Atlas", Host: "nyc"}, envelope.Address{Name: "Bob", Host: "lon"}
	first := &envelope.Envelope{
		Type: envelope.System, Event: envelope.EventCreate, ID: "0199d1b2-0000-7000-8000-000000000001", From: atlas, Origin: nyc.ID(),
		Participants: []envelope.Address{atlas, bob}, Topic: "Cogito",
	}
	first.Conversation = envelope.ConversationID(nyc.ID(), first.ID)
	must(f, convlog.Create(home.LogPath(first.Conversation), []*envelope.Envelope{first}, time.Now()))
	services, end, err := daemon.OpenServices(home)
	must(f, err)
	f.Cleanup(end)
	var kinds []string
	for _, s := range services {
		kinds = append(kinds, s.Types()...)
	}
	seed := func(kind string, lane link.Lane, header, body string, binary bool) {
		i := slices.Index(kinds, kind)
		if i < 0 {
			f.Fatalf("nobody takes %q: %q", kind, kinds)
		}
		text := strings.NewReplacer("CONV", first.Conversation, "NYC", nyc.ID(), "LON", lon.ID(), "SUM", strings.Repeat("a", 64)).Replace(header + "\n" + body)
		header, body, _ = strings.Cut(text, "\n")
		f.Add(byte(i), byte(lane), header, []byte(body), binary)
	}
	create := `{"seq":1,"id":"0199d1b2-0000-7000-8000-000000000009","type":"system","event":"create","from":"Bob@lon","conversation":"CONV","origin":"LON","participants":["Bob@lon","Atlas@nyc"],"hosts":{"lon":"LON","nyc":"NYC"},"timestamp":1739654400000}`
	message := `{"type":"message","id":"0199d1b2-0000-7000-8000-000000000002","from":"Bob@lon","conversation":"CONV","content":"hi","after":1,"attachments":[{"name":"a","size":5,"sha256":"SUM"}]}`
	call := `{"id":"0199d1b2-0000-7000-8000-000000000003","from":"Bob@lon","to":["Atlas@nyc"],"topic":"x","createdAt":1739654400000,"callees":[{"agent":"Atlas@nyc","state":"ringing","at":1739654400000}]}`
	for _, s := range []struct {
		kind         string
		lane         link.Lane
		header, body string
		binary       bool
	}{
		{"heads", link.Mail, `{"all":true}`, `{"conversation":"CONV","seq":1,"hash":"SUM"}`, false},
		{"lines", link.Mail, `{"conversation":"CONV"}`, create, false},
		{"lines", link.Bulk, `{"conversation":"CONV"}`, message, false},
		{"submit", link.Mail, `{"first":true}`, `{"host":"LON","sig":"AAAA","envelope":` + message + `}`, false},
		{"refused", link.Mail, `{}`, `{"id":"0199d1b2-0000-7000-8000-000000000002","code":"later","text":"x"}`, false},
		{"receipts", link.Mail, `{}`, `{"conversation":"CONV","agent":"Bob@lon","passed":1,"offered":[1],"delivered":[1]}`, false},
		{"presence", link.Presence, `{"snapshot":true,"last":true}`, `{"name":"Bob","id":"x","capabilities":["a"],"status":"busy"}` + "\n" + `{"name":"Eve","gone":true}`, false},
		{"get", link.Mail, `{"sha256":"SUM","from":0,"to":5,"conversation":"CONV","seq":1}`, "", false},
		{"blob", link.Bulk, `{"sha256":"SUM","from":0,"size":5}`, "hello", true},
		{"blob", link.Bulk, `{"sha256":"SUM","missing":true,"later":true}`, "", false},
		{"call", link.Call, `{"ring":30000}`, call, false},
		{"answer", link.Call, `{}`, `{"id":"0199d1b2-0000-7000-8000-000000000003","agent":"Bob@lon","answer":"accept"}`, false},
		{"typing", link.Call, `{}`, `{"type":"typing","from":"Bob@lon","conversation":"CONV"}`, false},
		{"tunnel", link.Call, `{"ask":7,"to":"NYC"}`, "", false},
		{"splice", link.Call, `{"ask":7,"host":"LON","token":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`, "", false},
		{"introduce", link.Presence, `{}`, `{"name":"ber","keys":"x","recipient":"age1x","sig":"AAAA"}`, false},
		{"recipient", link.Mail, `{"recipient":"age1x","sig":"AAAA"}`, "", false},
		{"hold", link.Bulk, `{"to":"NYC","id":"x","sig":"AAAA"}`, "sealed", true},
		{"held", link.Bulk, `{"from":"LON","id":"x","sig":"AAAA"}`, "sealed", true},
		{"unheld", link.Call, `{"to":"NYC","id":"x","code":"full"}`, "", false},
	} {
		seed(s.kind, s.lane, s.header, s.body, s.binary)
	}
	f.Fuzz(func(t *testing.T, kind, lane byte, header string, body []byte, binary bool) {
		if !json.Valid([]byte(header)) {
			return // which ends a link before a service is asked
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			var wire net.Conn
			keep := func(c net.Conn) net.Conn { wire = c; return c }
			l, _, session := peertest.Connect(t, peertest.Side{ID: nyc.ID(), Name: "nyc", Services: services}, peertest.Side{ID: lon.ID(), Name: "lon", Wrap: keep})
			defer l.Cut()
			defer wire.Close() // first: nobody waits for a goodbye
			dealt := make(chan struct{})
			frame := link.Frame{
				Type: kinds[int(kind)%len(kinds)], Lane: link.Lane(lane % 4), Header: []byte(header), Acked: func() { close(dealt) },
			}
			switch {
			case binary:
				frame.Data = append([]byte{}, body...)
			case len(body) > 0:
				for line := range strings.SplitSeq(string(body), "\n") {
					frame.Lines = append(frame.Lines, []byte(line))
				}
			}
			if session.Send(context.Background(), frame) != nil {
				return
			}
			select {
			case <-dealt:
			case <-session.Context().Done():
			case <-time.After(answerTime):
			}
		}()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Fatal("the link does not end")
		}
	})
}

package fsck_test

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/blob"
	"github.com/claude-duo/duo/maildir/card"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/fsck"
	"github.com/claude-duo/duo/maildir/mailbox"
	gocmp "github.com/google/go-cmp/cmp"
)

// scene is a home in which Atlas has written three messages to Nova, who has seen the
// first one and has answered it. All is well there.
type scene struct {
	t    *testing.T
	home *maildir.Home
	nova *mailbox.Box
	log  []*envelope.Envelope
}

var clock = time.UnixMilli(1739654400000)

func newScene(t *testing.T) *scene {
	t.Helper()
	home, err := maildir.Init(filepath.Join(t.TempDir(), "home"))
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, home: home}
	for _, name := range []string{"Atlas", "Nova", "Sage"} {
		s.nova, err = mailbox.Open(home.AgentDir(name))
		s.must(err)
		s.must(card.Card{ID: envelope.NewID(), Name: name}.Write(s.nova.Dir()))
	}
	s.nova = mailbox.At(home.AgentDir("Nova"))
	atlas, nova := home.Address("Atlas"), home.Address("Nova")
	s.log = []*envelope.Envelope{
		{Type: envelope.System, Event: envelope.EventCreate, From: atlas, Topic: "Plans", Participants: []envelope.Address{atlas, nova}},
		{Type: envelope.Message, From: atlas, Content: "one"},
		{Type: envelope.Message, From: nova, Content: "her own"},
		{Type: envelope.Message, From: atlas, Content: "two"},
		{Type: envelope.Message, From: atlas, Content: "three"},
	}
	for _, e := range s.log {
		e.ID, e.Conversation = envelope.NewID(), conversation
	}
	s.must(convlog.Create(home.LogPath(conversation), s.log, clock))
	for _, seq := range []int64{1, 2, 4, 5} {
		s.deliver(seq)
	}
	for _, seq := range []int64{1, 2} {
		_, err := s.nova.MarkSeen(s.item(seq).Name)
		s.must(err)
	}
	s.must(s.nova.Link(conversation))
	sender := mailbox.At(home.AgentDir("Atlas"))
	s.must(sender.Link(conversation))
	s.must(sender.WriteCursors(map[string]mailbox.Cursor{conversation: {Delivered: 5, Seen: 5}}))
	s.cursors(map[string]mailbox.Cursor{conversation: {Delivered: 5, Seen: 3}})
	return s
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) item(seq int64) mailbox.Item {
	return mailbox.ItemOf(conversation, seq, clock.UnixMilli())
}

func (s *scene) deliver(seq int64) {
	_, err := s.nova.Deliver(s.item(seq), s.log[seq-1].Append(nil))
	s.must(err)
}

func (s *scene) cursors(c map[string]mailbox.Cursor) { s.must(s.nova.WriteCursors(c)) }

// path is a path in Nova's folder.
func (s *scene) path(parts ...string) string {
	return filepath.Join(append([]string{s.nova.Dir()}, parts...)...)
}

func (s *scene) inNew(seq int64) string { return s.path(mailbox.InboxNew, s.item(seq).Name) }
func (s *scene) inCur(seq int64) string { return s.path(mailbox.InboxCur, s.item(seq).Name) }

func (s *scene) write(path, content string) { s.must(os.WriteFile(path, []byte(content), 0o600)) }

// append adds a line to the log.
func (s *scene) append(e *envelope.Envelope) {
	e.ID, e.Conversation, e.Seq, e.Timestamp = envelope.NewID(), conversation, int64(len(s.log)+1), clock.UnixMilli()
	f, err := os.OpenFile(s.home.LogPath(conversation), os.O_APPEND|os.O_WRONLY, 0)
	s.must(err)
	_, err = f.Write(append(e.Append(nil), '\n'))
	s.must(err)
	s.must(f.Close())
	s.log = append(s.log, e)
}

// ring says that Nova is called.
var ring = mailbox.SignalOf("0199c0de-0000-7000-8000-0000000077b2", clock.UnixMilli())

func (s *scene) record(id string) string { return filepath.Join(s.home.OpenRequestsDir(), id+".json") }

func (s *scene) farRecord() string {
	return filepath.Join(s.home.FarRequestsDir(), "lon", "done", ring.Request+".json")
}

// call lets Atlas call Nova, with a signal about the request, or about another one. It
// returns the path of the record.
func (s *scene) call(about string) string {
	e := &envelope.Envelope{ID: ring.Request, Type: envelope.Call, From: s.home.Address("Atlas"), Request: cmp.Or(about, ring.Request)}
	_, err := s.nova.PutSignal(ring, e.Append(nil), true)
	s.must(err)
	s.must(os.MkdirAll(s.home.OpenRequestsDir(), 0o700))
	s.write(s.record(ring.Request), `{"id":"`+ring.Request+`"}`)
	return s.record(ring.Request)
}

// hello is the SHA-256 of "hello".
const hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

// bring puts a file into the home, and lets Nova's own message bring it twice where that
// is said. It returns the path.
func (s *scene) bring(mention bool) string {
	_, err := blob.At(s.home.BlobsDir(), 5).Put(strings.NewReader("hello"))
	s.must(err)
	if mention {
		a := envelope.Attachment{Name: "a", Size: 5, SHA256: hello}
		s.append(&envelope.Envelope{Type: envelope.Message, From: s.home.Address("Nova"), Attachments: []envelope.Attachment{a, a}})
		s.must(mailbox.At(s.home.AgentDir("Atlas")).WriteCursors(map[string]mailbox.Cursor{conversation: {Delivered: 6, Seen: 6}}))
	}
	return filepath.Join(s.home.BlobsDir(), hello)
}

func (s *scene) check() []fsck.Finding {
	s.t.Helper()
	report, err := fsck.Home(s.home.Dir)
	s.must(err)
	return report.Findings
}

func TestHome(t *testing.T) {
	for name, test := range map[string]struct {
		fault    func(s *scene)
		severity fsck.Severity
		kind     fsck.Kind // empty for no finding
		path     func(s *scene) string
	}{
		"all is well":       {fault: func(*scene) {}},
		"files of messages": {fault: func(s *scene) { s.bring(true) }},
		"file of a message that is gone": {
			func(s *scene) { s.must(os.Remove(s.bring(true))) },
			fsck.Error, fsck.NoBlob, func(s *scene) string { return s.home.LogPath(conversation) },
		},
		"file of a message that has still to come": {
			func(s *scene) {
				s.must(os.Remove(s.bring(true)))
				s.must(blob.At(s.home.BlobsDir(), 5).Note(blob.Want{SHA256: hello, Size: 5, Sources: []blob.Source{{Host: "lon"}}}))
			},
			fsck.Note, fsck.NoBlob, func(s *scene) string { return s.home.LogPath(conversation) },
		},
		"file of a message with other content": {
			func(s *scene) { s.write(s.bring(false), "hellO") },
			fsck.Error, fsck.BadBlob, func(s *scene) string { return filepath.Join(s.home.BlobsDir(), hello) },
		},
		"file of nobody's": {
			func(s *scene) { s.bring(false); s.write(filepath.Join(s.home.BlobsDir(), "notes"), "") },
			fsck.Warning, fsck.BadBlob, func(s *scene) string { return filepath.Join(s.home.BlobsDir(), "notes") },
		},
		"damage": {
			func(s *scene) {
				s.log = append(s.log, nil)
				s.append(&envelope.Envelope{Type: envelope.Message, From: s.home.Address("Atlas"), Content: "early"})
			},
			fsck.Error, fsck.Damage, func(s *scene) string { return s.home.LogPath(conversation) },
		},
		"log that cannot be read": {
			func(s *scene) { s.must(os.Mkdir(s.home.LogPath("7c1e0000-0000-8000-8000-000000000002"), 0o700)) },
			fsck.Error, fsck.Unreadable, func(s *scene) string { return s.home.LogPath("7c1e0000-0000-8000-8000-000000000002") },
		},
		"not delivered yet": {
			func(s *scene) {
				s.append(&envelope.Envelope{Type: envelope.Message, From: s.home.Address("Atlas"), Content: "four"})
			},
			fsck.Note, fsck.NotGiven, func(s *scene) string { return s.inNew(6) },
		},
		"taken away": {
			func(s *scene) { s.must(os.Remove(s.inNew(4))) },
			fsck.Warning, fsck.TakenAway, func(s *scene) string { return s.inNew(4) },
		},
		"discarded after it was seen": {fault: func(s *scene) { s.must(os.Remove(s.inCur(2))) }},
		"seen and new": {
			func(s *scene) { s.write(s.inCur(4), string(s.log[3].Append(nil))+"\n") },
			fsck.Warning, fsck.SeenAndNew, func(s *scene) string { return s.inNew(4) },
		},
		"seen by the cursor, and new": {
			func(s *scene) { s.must(os.Rename(s.inCur(2), s.inNew(2))) },
			fsck.Warning, fsck.SeenAndNew, func(s *scene) string { return s.inNew(2) },
		},
		"empty file": {
			func(s *scene) { s.write(s.inNew(4), "") },
			fsck.Warning, fsck.TornItem, func(s *scene) string { return s.inNew(4) },
		},
		"file of NULs": {
			func(s *scene) { s.write(s.inNew(4), strings.Repeat("\x00", len(s.log[3].Append(nil))+1)) },
			fsck.Warning, fsck.TornItem, func(s *scene) string { return s.inNew(4) },
		},
		"altered file": {
			func(s *scene) {
				s.write(s.inCur(2), strings.Replace(string(s.log[1].Append(nil)), "one", "two", 1)+"\n")
			},
			fsck.Error, fsck.Altered, func(s *scene) string { return s.inCur(2) },
		},
		"file with another time in its name": {
			func(s *scene) {
				s.write(s.path(mailbox.InboxNew, mailbox.ItemOf(conversation, 4, 1).Name), string(s.log[3].Append(nil))+"\n")
			},
			fsck.Error, fsck.Altered, func(s *scene) string { return s.path(mailbox.InboxNew, mailbox.ItemOf(conversation, 4, 1).Name) },
		},
		"file for a line that is not there": {
			func(s *scene) { s.write(s.inNew(9), "{}\n") },
			fsck.Error, fsck.NotInLog, func(s *scene) string { return s.inNew(9) },
		},
		"file of another conversation": {
			func(s *scene) {
				s.write(s.path(mailbox.InboxNew, "0000000000001.7c1e0000-0000-8000-8000-000000000002.1.json"), "{}\n")
			},
			fsck.Error, fsck.NotInLog, func(s *scene) string {
				return s.path(mailbox.InboxNew, "0000000000001.7c1e0000-0000-8000-8000-000000000002.1.json")
			},
		},
		"file with a name that is none": {
			func(s *scene) { s.write(s.path(mailbox.InboxNew, "hello.json"), "{}\n") },
			fsck.Warning, fsck.BadItem, func(s *scene) string { return s.path(mailbox.InboxNew, "hello.json") },
		},
		"hidden file": {fault: func(s *scene) { s.write(s.path(mailbox.InboxNew, ".hello"), "") }},
		"link in the inbox": {
			func(s *scene) {
				s.must(os.Rename(s.inNew(4), s.path("elsewhere")))
				s.must(os.Symlink(s.path("elsewhere"), s.inNew(4)))
			},
			fsck.Error, fsck.BadItem, func(s *scene) string { return s.inNew(4) },
		},
		"cursor behind the end": {
			func(s *scene) {
				s.cursors(map[string]mailbox.Cursor{conversation: {Delivered: 6, Seen: 3}})
			},
			fsck.Error, fsck.CursorAhead, func(s *scene) string { return s.path("cursors.json") },
		},
		"cursor that has seen more than was delivered": {
			func(s *scene) {
				s.cursors(map[string]mailbox.Cursor{conversation: {Delivered: 2, Seen: 3}})
			},
			fsck.Error, fsck.CursorAhead, func(s *scene) string { return s.path("cursors.json") },
		},
		"cursor for no log": {
			func(s *scene) {
				s.cursors(map[string]mailbox.Cursor{conversation: {Delivered: 5, Seen: 3}, "7c1e0000-0000-8000-8000-000000000002": {}})
			},
			fsck.Warning, fsck.CursorAhead, func(s *scene) string { return s.path("cursors.json") },
		},
		"no cursors": {fault: func(s *scene) { s.must(os.Remove(s.path("cursors.json"))) }},
		"cursors that are no JSON": {
			func(s *scene) { s.write(s.path("cursors.json"), "{") },
			fsck.Error, fsck.BadCursors, func(s *scene) string { return s.path("cursors.json") },
		},
		"missing link": {
			func(s *scene) { s.must(os.Remove(s.path(mailbox.Links, conversation+".jsonl"))) },
			fsck.Warning, fsck.MissingLink, func(s *scene) string { return s.path(mailbox.Links, conversation+".jsonl") },
		},
		"link to something else": {
			func(s *scene) {
				path := s.path(mailbox.Links, conversation+".jsonl")
				s.must(os.Remove(path))
				s.must(os.Symlink("/etc/passwd", path))
			},
			fsck.Error, fsck.BadLink, func(s *scene) string { return s.path(mailbox.Links, conversation+".jsonl") },
		},
		"file in place of a link": {
			func(s *scene) {
				path := s.path(mailbox.Links, conversation+".jsonl")
				s.must(os.Remove(path))
				s.write(path, "")
			},
			fsck.Error, fsck.BadLink, func(s *scene) string { return s.path(mailbox.Links, conversation+".jsonl") },
		},
		"link to no log": {
			func(s *scene) { s.must(s.nova.Link("7c1e0000-0000-8000-8000-000000000002")) },
			fsck.Error, fsck.BadLink, func(s *scene) string {
				return s.path(mailbox.Links, "7c1e0000-0000-8000-8000-000000000002.jsonl")
			},
		},
		"link of an agent that never was there": {
			func(s *scene) { s.must(mailbox.At(s.home.AgentDir("Sage")).Link(conversation)) },
			fsck.Warning, fsck.BadLink, func(s *scene) string {
				return filepath.Join(s.home.AgentDir("Sage"), mailbox.Links, conversation+".jsonl")
			},
		},
		"card that is no JSON": {
			func(s *scene) { s.write(s.path(card.File), "{") },
			fsck.Error, fsck.BadAgent, func(s *scene) string { return s.path(card.File) },
		},
		"no card": {
			func(s *scene) { s.must(os.Remove(s.path(card.File))) },
			fsck.Note, fsck.BadAgent, func(s *scene) string { return s.path(card.File) },
		},
		"folder with a name in capitals": {
			func(s *scene) { s.must(os.Mkdir(filepath.Join(s.home.AgentsDir(), "Rex"), 0o700)) },
			fsck.Warning, fsck.BadAgent, func(s *scene) string { return filepath.Join(s.home.AgentsDir(), "Rex") },
		},
		"missing folder": {
			func(s *scene) { s.must(os.RemoveAll(s.path(mailbox.OutboxNew))) },
			fsck.Warning, fsck.BadAgent, func(s *scene) string { return s.path(mailbox.OutboxNew) },
		},
		"call that rings": {fault: func(s *scene) { s.call("") }},
		"call from another host": {fault: func(s *scene) {
			s.must(os.MkdirAll(filepath.Dir(s.farRecord()), 0o700))
			s.must(os.Rename(s.call(""), s.farRecord()))
		}},
		"record of a call from another host that is no JSON": {
			func(s *scene) {
				s.must(os.MkdirAll(filepath.Dir(s.farRecord()), 0o700))
				s.write(s.farRecord(), "{")
			},
			fsck.Error, fsck.BadCall, (*scene).farRecord,
		},
		"call without a record": {
			func(s *scene) { s.must(os.Remove(s.call(""))) },
			fsck.Warning, fsck.BadCall, func(s *scene) string { return s.path(mailbox.InboxNew, ring.Name) },
		},
		"record of a call that is no JSON": {
			func(s *scene) { s.write(s.call(""), "{") },
			fsck.Error, fsck.BadCall, func(s *scene) string { return s.record(ring.Request) },
		},
		"record of another call": {
			func(s *scene) { s.write(s.call(""), `{"id":"`+conversation+`"}`) },
			fsck.Error, fsck.BadCall, func(s *scene) string { return s.record(ring.Request) },
		},
		"record with a strange name": {
			func(s *scene) {
				s.must(os.Rename(s.call(""), s.record("mine")))
				s.must(os.Remove(s.path(mailbox.InboxNew, ring.Name)))
			},
			fsck.Warning, fsck.BadCall, func(s *scene) string { return s.record("mine") },
		},
		"call that is cut off": {
			func(s *scene) { s.call(""); s.write(s.path(mailbox.InboxNew, ring.Name), "") },
			fsck.Warning, fsck.TornItem, func(s *scene) string { return s.path(mailbox.InboxNew, ring.Name) },
		},
		"call with the name of another one": {
			func(s *scene) { s.call(conversation) },
			fsck.Error, fsck.Altered, func(s *scene) string { return s.path(mailbox.InboxNew, ring.Name) },
		},
		"contacts that are no addresses": {
			func(s *scene) { s.write(s.path(card.ContactsFile), `{"block":["Atlas"]}`) },
			fsck.Error, fsck.BadContacts, func(s *scene) string { return s.path(card.ContactsFile) },
		},
		"presence that says nothing": {
			func(s *scene) { s.write(s.path(card.PresenceFile), `{"said":"asleep"}`) },
			fsck.Warning, fsck.BadPresence, func(s *scene) string { return s.path(card.PresenceFile) },
		},
		"token that others can read": {
			func(s *scene) { s.write(s.path("token"), "duo_a_nova_x\n"); s.must(os.Chmod(s.path("token"), 0o644)) },
			fsck.Warning, fsck.BadToken, func(s *scene) string { return s.path("token") },
		},
		"tokens that are no JSON": {
			func(s *scene) { s.write(s.home.TokensPath(), "[") },
			fsck.Error, fsck.BadToken, func(s *scene) string { return s.home.TokensPath() },
		},
		"waiting drop": {
			func(s *scene) { s.write(s.path(mailbox.OutboxNew, "a.json"), "{}") },
			fsck.Note, fsck.WaitingDrops, func(s *scene) string { return s.path(mailbox.OutboxNew) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			test.fault(s)
			before := tree(t, s.home.Dir)
			got := s.check()
			if diff := gocmp.Diff(before, tree(t, s.home.Dir)); diff != "" {
				t.Errorf("the check changed files (-before +after):\n%s", diff)
			}
			switch {
			case test.kind == "" && len(got) > 0:
				t.Errorf("got %v, want no findings", got)
			case test.kind == "":
			case len(got) != 1 || got[0].Kind != test.kind || got[0].Severity != test.severity || got[0].Path != test.path(s):
				t.Errorf("got %v, want one %s of kind %q at %s", got, test.severity, test.kind, test.path(s))
			}
		})
	}
}

// tree is every file below dir with its mode, time and content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		content, _ := os.ReadFile(path) // folders have none
		files[path] = info.Mode().String() + info.ModTime().String() + string(content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestOwed goes through who is owed what: it has no files at all, so each line that is
// owed is a finding.
func TestOwed(t *testing.T) {
	s := newScene(t)
	s.must(os.RemoveAll(s.path(mailbox.InboxNew)))
	s.must(os.RemoveAll(s.path(mailbox.InboxCur)))
	s.must(os.Remove(s.path("cursors.json")))
	_, err := mailbox.Open(s.nova.Dir())
	s.must(err)
	atlas, nova, sage := s.home.Address("Atlas"), s.home.Address("Nova"), s.home.Address("Sage")
	system := func(from envelope.Address, event string) *envelope.Envelope {
		return &envelope.Envelope{Type: envelope.System, Event: event, From: from}
	}
	invite := system(atlas, envelope.EventInvite)
	invite.Participants = []envelope.Address{sage}
	again := system(sage, envelope.EventInvite)
	again.Participants = []envelope.Address{nova}
	back := system(atlas, envelope.EventUndeliverable)
	back.To = []string{atlas.String()}
	for _, e := range []*envelope.Envelope{
		invite, // 6, for Sage
		{Type: envelope.Message, From: nova, Content: "hello Sage"}, // 7, for Atlas and Sage
		{Type: envelope.Leave, From: nova},                          // 8, for Atlas and Sage
		{Type: envelope.Message, From: atlas, Content: "she left"},  // 9, for Sage
		again, // 10, for Nova
		{Type: envelope.Message, From: atlas, Content: "she is back"},         // 11, for Nova and Sage
		{Type: envelope.Join, From: home(s, "Rex"), Content: "nobody's line"}, // 12
		back,                              // 13, for Atlas
		system(sage, envelope.EventClose), // 14, for Atlas and Nova
	} {
		s.append(e)
	}
	got := make(map[string][]int64)
	for _, f := range s.check() {
		if f.Kind != fsck.NotGiven {
			t.Errorf("unexpected finding %v", f)
			continue
		}
		rest, _ := strings.CutPrefix(f.Path, s.home.AgentsDir()+"/")
		name, _, _ := strings.Cut(rest, "/")
		got[name] = append(got[name], f.Seq)
	}
	for _, seqs := range got {
		slices.Sort(seqs)
	}
	want := map[string][]int64{"atlas": {7, 8, 13, 14}, "nova": {1, 2, 4, 5, 10, 11, 14}, "sage": {6, 7, 8, 9, 11}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("owed lines (-want +got):\n%s", diff)
	}
}

func home(s *scene, name string) envelope.Address { return s.home.Address(name) }

// TestAutoCreate wants no file for a create event that a message has made.
func TestAutoCreate(t *testing.T) {
	s := newScene(t)
	s.must(os.Remove(s.home.LogPath(conversation)))
	s.log[0].Auto = true
	for _, e := range s.log {
		e.Seq, e.Timestamp = 0, 0
	}
	s.must(convlog.Create(s.home.LogPath(conversation), s.log, clock))
	s.must(os.Remove(s.inCur(1)))
	s.must(os.Remove(s.path("cursors.json")))
	if got := s.check(); len(got) > 0 {
		t.Errorf("got %v, want no findings", got)
	}
}

func TestNoHome(t *testing.T) {
	if report, err := fsck.Home(t.TempDir()); err == nil {
		t.Errorf("got %v, want an error", report)
	}
}

func TestFindingsHaveAJSONForm(t *testing.T) {
	f := fsck.Finding{Severity: fsck.Warning, Kind: fsck.Torn, Path: "/x", Offset: 3, Seq: 4, Text: "look"}
	data, err := json.Marshal(f)
	const want = `{"severity":"warning","kind":"torn","path":"/x","offset":3,"seq":4,"text":"look"}`
	if err != nil || string(data) != want {
		t.Errorf("got %s, %v; want %s", data, err, want)
	}
	if got, want := f.String(), "warning: /x, byte 3, line 4: look"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestSetAside: lines that were cut off a log are told of, and are no log.
func TestSetAside(t *testing.T) {
	s := newScene(t)
	for _, path := range []string{s.home.ForkPath(conversation, 1), s.home.CutPath(conversation, 2)} {
		s.must(os.WriteFile(path, []byte("{}\n"), 0o600))
	}
	report, err := fsck.Home(s.home.Dir)
	s.must(err)
	if report.Logs != 1 || len(report.Findings) != 2 {
		t.Fatalf("got %d logs, %v; want one, and two notes", report.Logs, report.Findings)
	}
	for _, f := range report.Findings {
		if f.Kind != fsck.SetAside || f.Severity != fsck.Note {
			t.Errorf("got %+v, want a note", f)
		}
	}
}

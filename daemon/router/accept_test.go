package router_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/daemon/ledger"
	"github.com/claude-duo/duo/daemon/router"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestEveryType says each thing that can be said, and looks at the log.
func TestEveryType(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage", "Rune")
	made := h.Post("Atlas", &draft{Type: envelope.Create, Topic: "Cogito", Mode: "async", Open: true, TurnLimit: 9, To: people("nova"), Content: "I think"})
	id := made.Conversation.ID
	if !made.Created || made.Message.Envelope.Seq != 2 || made.Conversation.Mode != "async" {
		t.Errorf("create: got %+v, want a new async conversation with its first message as line 2", made)
	}
	h.Post("Sage", &draft{Type: envelope.Join, Conversation: id})
	h.Post("Nova", &draft{Type: envelope.Invite, Conversation: id, To: people("Rune", "rune", "Atlas@"+h.Home().Host.Name)})
	posted := h.Post("Rune", &draft{Conversation: made.Conversation.Ref, Content: "therefore", ReplyTo: envelope.Ref{Seq: 2}, Data: []byte(`{"n":1}`)})
	if e := posted.Message.Envelope; e.After == nil || e.ReplyTo.Seq != 2 || string(e.Data) != `{"n":1}` || posted.Created {
		t.Errorf("message: got %+v, want what was sent, and what had been shown", e)
	}
	h.Post("Sage", &draft{Type: envelope.Leave, Conversation: id, Content: "bye"})
	h.Post("Atlas", &draft{Type: envelope.Close, Conversation: id, Reason: "done"})
	h.Post("Nova", &draft{Type: envelope.Leave, Conversation: id})
	h.wantEvents(id, "1 create of Atlas", "2 message of Atlas", "3 join of Sage", "4 invite of Nova", "5 message of Rune",
		"6 leave of Sage", "7 close of Atlas", "8 leave of Nova")
	h.wantSaid(id, "Atlas: I think", "Rune: therefore")
	log := h.Log(id)
	address := h.Home().Address
	first := log[0]
	if first.Topic != "Cogito" || !first.Open || first.TurnLimit != 9 || first.Origin != h.Home().Host.ID || first.Auto ||
		!slices.Equal(first.Participants, []envelope.Address{address("Atlas"), address("Nova")}) {
		t.Errorf("create: got %+v", first)
	}
	if got := log[3]; !slices.Equal(got.Participants, []envelope.Address{address("Rune")}) || got.To != nil {
		t.Errorf("invite: got participants %v and to %q, want who was not in it", got.Participants, got.To)
	}
	if log[5].Content != "bye" || log[6].Reason != "done" {
		t.Errorf("leave and close: got %q and %q, want what was said", log[5].Content, log[6].Reason)
	}
	for _, e := range log {
		if err := e.Validate(); err != nil {
			t.Errorf("line %d: %v", e.Seq, err)
		}
	}
}

// TestWhatADraftCannotSay: the sender, the number and the time are not its to choose.
func TestWhatADraftCannotSay(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	posted := h.Post("Atlas", &draft{
		To: people("Nova"), Content: "hi", From: envelope.Address{Name: "Nova", Host: "moon"}, Seq: 77, Timestamp: 7,
		Raw: envelope.Int(5), Origin: "moon", Unknown: []envelope.Field{{Name: "mood", Value: []byte(`"calm"`)}},
	})
	log := h.Log(posted.Conversation.ID)
	e := log[len(log)-1]
	if e.From != h.Home().Address("Atlas") || e.Seq != 2 || e.Timestamp < time.Now().Add(-time.Hour).UnixMilli() || e.Raw != nil || e.Origin != "" {
		t.Errorf("got %+v, want the sender, the number and the time of the daemon", e)
	}
	if len(e.Unknown) != 1 || e.Unknown[0].Name != "mood" {
		t.Errorf("unknown fields: got %v, want mood", e.Unknown)
	}
}

func TestRefusals(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage", "Gone")
	id := h.create("Atlas", "a", "Nova")
	open := h.Post("Atlas", &draft{Type: envelope.Create, Topic: "open", Open: true, TurnLimit: 1, Content: "one", To: people("Nova")}).Conversation.ID
	closed := h.create("Atlas", "closed", "Nova")
	h.Post("Atlas", &draft{Type: envelope.Close, Conversation: closed, Reason: "enough"})
	lonely := h.create("Atlas", "lonely", "Nova")
	h.Post("Nova", &draft{Type: envelope.Leave, Conversation: lonely})
	if _, err := h.As("").Unregister(context.Background(), "Gone"); err != nil {
		t.Fatal(err)
	}
	many := make([]string, 257)
	for i := range many {
		many[i] = "Nova"
	}
	for _, test := range []struct {
		what, agent string
		draft       draft
		want        api.Code
	}{
		{"nothing to say", "Atlas", draft{To: people("Nova")}, api.BadRequest},
		{"nothing to say in a conversation", "Atlas", draft{Conversation: id}, api.BadRequest},
		{"nowhere to go", "Atlas", draft{Content: "hi"}, api.BadRequest},
		{"to nobody known", "Atlas", draft{To: people("Nobody"), Content: "hi"}, api.AgentNotFound},
		{"to who has unregistered", "Atlas", draft{To: people("Gone"), Content: "hi"}, api.AgentNotFound},
		{"to another host", "Atlas", draft{To: people("Nova@moon"), Content: "hi"}, api.HostNotFound},
		{"to no name", "Atlas", draft{To: people("no/va"), Content: "hi"}, api.BadReference},
		{"to no name but dots", "Atlas", draft{To: people(".."), Content: "hi"}, api.BadReference},
		{"to oneself", "Atlas", draft{To: people("atlas"), Content: "hi"}, api.BadRequest},
		{"to oneself among others", "Atlas", draft{To: people("Nova", "Atlas"), Content: "hi"}, api.BadRequest},
		{"to too many", "Atlas", draft{To: many, Content: "hi"}, api.TooMany},
		{"in no reference", "Atlas", draft{Conversation: "cogito", Content: "hi"}, api.ConversationNotFound},
		{"in nothing like a reference", "Atlas", draft{Conversation: "Nova", Content: "hi"}, api.BadReference},
		{"in an unknown conversation", "Atlas", draft{Conversation: "7c1e0d52-91aa-8b7c-9c1d-5e6f708192a3", Content: "hi"}, api.ConversationNotFound},
		{"in a conversation of others", "Sage", draft{Conversation: id, Content: "hi"}, api.NotParticipant},
		{"in a conversation that was left", "Nova", draft{Conversation: lonely, Content: "hi"}, api.NotParticipant},
		{"in a closed conversation", "Nova", draft{Conversation: closed, Content: "hi"}, api.ConversationClosed},
		{"over the turn limit", "Nova", draft{Conversation: open, Content: "two"}, api.TurnLimitReached},
		{"to nobody else", "Atlas", draft{Conversation: lonely, Content: "hi"}, api.NobodyElse},
		{"a NUL", "Atlas", draft{Conversation: id, Content: "a\x00b"}, api.BadRequest},
		{"two megabytes", "Atlas", draft{Conversation: id, Content: strings.Repeat("x", 2<<20)}, api.TooLarge},
		{"a topic over the limit", "Atlas", draft{To: people("Nova"), Topic: strings.Repeat("x", 501), Content: "hi"}, api.BadRequest},
		{"two lines of topic", "Atlas", draft{To: people("Nova"), Topic: "a\nb", Content: "hi"}, api.BadRequest},

		{"a conversation without a topic", "Atlas", draft{Type: envelope.Create, To: people("Nova")}, api.BadRequest},
		{"a conversation of a strange mode", "Atlas", draft{Type: envelope.Create, Topic: "a", Mode: "dead"}, api.BadRequest},
		{"a conversation with nobody known", "Atlas", draft{Type: envelope.Create, Topic: "a", To: people("Nobody")}, api.AgentNotFound},
		{"a conversation with oneself", "Atlas", draft{Type: envelope.Create, Topic: "a", To: people("Atlas")}, api.BadRequest},
		{"a conversation of too many", "Atlas", draft{Type: envelope.Create, Topic: "a", To: many}, api.TooMany},

		{"joining what is not open", "Sage", draft{Type: envelope.Join, Conversation: id}, api.NotAllowed},
		{"joining what is closed", "Sage", draft{Type: envelope.Join, Conversation: closed}, api.ConversationClosed},
		{"joining nothing known", "Sage", draft{Type: envelope.Join, Conversation: "cffff"}, api.ConversationNotFound},
		{"leaving what one is not in", "Sage", draft{Type: envelope.Leave, Conversation: id}, api.NotParticipant},
		{"inviting nobody known", "Atlas", draft{Type: envelope.Invite, Conversation: id, To: people("Nobody")}, api.AgentNotFound},
		{"inviting who is in it", "Atlas", draft{Type: envelope.Invite, Conversation: id, To: people("Nova")}, api.AlreadyParticipant},
		{"inviting oneself", "Atlas", draft{Type: envelope.Invite, Conversation: id, To: people("Atlas")}, api.BadRequest},
		{"inviting where one is not", "Sage", draft{Type: envelope.Invite, Conversation: id, To: people("Nova")}, api.NotParticipant},
		{"speaking as nobody known", "Nobody", draft{Conversation: id, Content: "hi"}, api.IdentityUnknown},
		{"speaking as who has unregistered", "Gone", draft{Conversation: id, Content: "hi"}, api.IdentityUnknown},
		{"inviting into what is closed", "Atlas", draft{Type: envelope.Invite, Conversation: closed, To: people("Sage")}, api.ConversationClosed},
		{"closing what another has made", "Nova", draft{Type: envelope.Close, Conversation: id}, api.NotAllowed},
		{"closing where one is not", "Sage", draft{Type: envelope.Close, Conversation: id}, api.NotParticipant},
		{"closing twice", "Atlas", draft{Type: envelope.Close, Conversation: closed}, api.ConversationClosed},
	} {
		err := h.refuse(test.what, test.agent, &test.draft, test.want)
		if err.Message == "" || strings.Contains(err.Message, "  ") {
			t.Errorf("%s: got the message %q, want a sentence", test.what, err.Message)
		}
	}
	h.wantEvents(id, "1 create of Atlas")
	h.wantSaid(open, "Atlas: one")
}

func TestNearNames(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Novak", "Sage")
	err := h.refuse("a mistyped name", "Atlas", &draft{To: people("Nova", "Sagge"), Content: "hi"}, api.AgentNotFound)
	if !slices.Equal(err.Near, []string{"Sage"}) || err.Next == "" || !strings.Contains(err.Message, `"Sagge"`) {
		t.Errorf("got %+v, want Sage to be near, and a command", err)
	}
}

// TestAmbiguousReference needs two conversations whose ids end alike.
func TestAmbiguousReference(t *testing.T) {
	h := newHost(t, "Atlas")
	origin := h.Home().Host.ID
	ends := make(map[string]string) // create ids by the last four digits of the conversation
	var one, two, tail string
	for i := 0; two == ""; i++ {
		id := envelope.NewID()
		conversation := envelope.ConversationID(origin, id)
		tail = conversation[32:]
		if one = ends[tail]; one != "" {
			two = id
		}
		ends[tail] = id
	}
	var refs []string
	for _, id := range []string{one, two} {
		refs = append(refs, h.Post("Atlas", &draft{ID: id, Type: envelope.Create, Topic: id}).Conversation.ID)
	}
	err := h.refuse("a short reference", "Atlas", &draft{Conversation: "c" + tail, Content: "hi"}, api.AmbiguousReference)
	if len(err.Near) != 2 {
		t.Fatalf("near: got %q, want both", err.Near)
	}
	for i, ref := range err.Near {
		posted := h.send("Atlas", ref, "hi")
		if !slices.Contains(refs, posted.Conversation.ID) || i == 1 && posted.Conversation.LastSeq != 2 {
			t.Errorf("%s: got %+v, want one of the two", ref, posted.Conversation)
		}
	}
}

func TestUnavailable(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	var failing atomic.Bool
	h.Opts = convlog.Options{LockWait: time.Millisecond, Sync: func(*os.File) error {
		if failing.Load() {
			return syscall.ENOSPC
		}
		return nil
	}}
	h.restart()

	f, err := os.Open(h.Home().LogPath(id))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if busy := h.refuse("a locked log", "Atlas", &draft{Conversation: id, Content: "hi"}, api.Busy); !busy.Retryable() {
		t.Errorf("a locked log: got %v, want it retryable", busy)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}

	failing.Store(true)
	again := &draft{ID: envelope.NewID(), Conversation: id, Content: "once"}
	h.refuse("a full disk", "Atlas", again, api.StorageFailed)
	failing.Store(false)
	daemontest.Eventually(t, func() (bool, string) { // the watcher may have met the failing disk, too
		again.Conversation = id
		_, err := h.As("Atlas").Post(t.Context(), again)
		return err == nil, fmt.Sprint(err)
	})
	h.wantSaid(id, "Atlas: once")

	h.shell(id, `{"seq":99,"id":"`+envelope.NewID()+`","type":"message","from":"Nova@x"}`)
	refusal := h.refuse("a damaged log", "Atlas", &draft{Conversation: id, Content: "hi"}, api.Damaged)
	wantContains(t, "damaged", refusal.Message, "want seq", "got 99")
}

// TestDirect: two agents have one untitled conversation, whoever writes.
func TestDirect(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage", "Rune")
	first := h.message("Atlas", "Nova", "one")
	id := first.Conversation.ID
	same := func(what string, p api.Posted, want string) {
		t.Helper()
		if (p.Conversation.ID == want) != (want != "") || p.Created != (want == "") {
			t.Errorf("%s: got %s, created %v, want %q", what, p.Conversation.ID, p.Created, want)
		}
	}
	same("back", h.message("NOVA", "atlas@"+h.Home().Host.Name, "two"), id)
	same("again", h.message("Atlas", "Nova", "three"), id)
	h.wantEvents(id, "1 create of Atlas", "2 message of Atlas", "3 message of Nova", "4 message of Atlas")
	if e := h.Log(id)[0]; !e.Auto || e.Topic != "" || e.Mode != "async" || e.Open {
		t.Errorf("create: got %+v, want an untitled async one that is not open", e)
	}

	three := h.Post("Atlas", &draft{To: people("Nova", "Sage", "nova"), Content: "all"})
	same("with a third", three, "")
	same("with a third, in another order", h.Post("Sage", &draft{To: people("Nova", "Atlas"), Content: "all"}), three.Conversation.ID)

	titled := h.Post("Atlas", &draft{To: people("Nova"), Topic: "a topic", Content: "four"})
	same("with a topic", titled, "")
	same("with a topic again", h.Post("Atlas", &draft{To: people("Nova"), Topic: "a topic", Content: "five"}), "")
	same("without", h.message("Nova", "Atlas", "six"), id)

	h.Post("Nova", &draft{Type: envelope.Leave, Conversation: id})
	second := h.message("Nova", "Atlas", "seven")
	same("after somebody left", second, "")
	same("after somebody left, the other", h.message("Atlas", "Nova", "eight"), second.Conversation.ID)
	h.Post("Nova", &draft{Type: envelope.Close, Conversation: second.Conversation.ID})
	third := h.message("Atlas", "Nova", "nine")
	same("after the close", third, "")
	same("after the close, the other", h.message("Nova", "Atlas", "ten"), third.Conversation.ID)

	h.Post("Atlas", &draft{Type: envelope.Invite, Conversation: third.Conversation.ID, To: people("Rune")})
	fourth := h.message("Atlas", "Nova", "eleven")
	same("after a third was invited", fourth, "")
	h.restart()
	same("after a restart", h.message("Nova", "Atlas", "twelve"), fourth.Conversation.ID)
}

// TestDirectWithOtherPeople: that there are as many in it as there were is not enough.
func TestDirectWithOtherPeople(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage")
	id := h.message("Atlas", "Nova", "one").Conversation.ID
	h.Post("Atlas", &draft{Type: envelope.Invite, Conversation: id, To: people("Sage")})
	h.Post("Nova", &draft{Type: envelope.Leave, Conversation: id})
	posted := h.message("Atlas", "Nova", "for Nova alone")
	if posted.Conversation.ID == id || len(posted.Recipients) != 1 || !strings.HasPrefix(posted.Recipients[0].Agent, "Nova@") {
		t.Errorf("got it to %v, want it to Nova", posted.Recipients)
	}
}

// TestDirectAtOnce: two who write first at the same moment meet in one conversation.
func TestDirectAtOnce(t *testing.T) {
	h := newHost(t)
	for round := range 6 {
		pair := []string{fmt.Sprint("Ann", round), fmt.Sprint("Bob", round)}
		for _, name := range pair {
			h.Register(name)
		}
		var all sync.WaitGroup
		posted := make([]api.Posted, 2*4)
		begin := make(chan struct{})
		for i := range posted {
			all.Go(func() {
				<-begin
				me, you := pair[i%2], pair[(i+1)%2]
				var err error
				posted[i], err = h.As(me).Post(context.Background(), &draft{Type: envelope.Message, To: people(you), Content: fmt.Sprint(i)})
				if err != nil {
					t.Errorf("%s to %s: %v", me, you, err)
				}
			})
		}
		close(begin)
		all.Wait()
		created := 0
		for _, p := range posted {
			if p.Conversation.ID != posted[0].Conversation.ID {
				t.Errorf("round %d: got conversations %s and %s, want one", round, p.Conversation.ID, posted[0].Conversation.ID)
			}
			if p.Created {
				created++
			}
		}
		if said := h.said(posted[0].Conversation.ID); created != 1 || len(said) != len(posted) {
			t.Errorf("round %d: got %d created and %q, want one and each message once", round, created, said)
		}
	}
}

// TestCurrent: what one creates, joins or begins is what one means next.
func TestCurrent(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	want := func(what, agent, id string) {
		t.Helper()
		if got, err := h.Box(agent).Current(); err != nil || got != id {
			t.Errorf("%s: got current %q, %v, want %q", what, got, err, id)
		}
	}
	id := h.Post("Atlas", &draft{Type: envelope.Create, Topic: "a", Open: true}).Conversation.ID
	want("created", "Atlas", id)
	h.Post("Nova", &draft{Type: envelope.Join, Conversation: id})
	want("joined", "Nova", id)
	direct := h.message("Nova", "Atlas", "hi").Conversation.ID
	want("wrote to an agent", "Nova", direct)
	want("was written to", "Atlas", id)
}

// TestKeys: the same id is the same message.
func TestKeys(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	key := envelope.NamedID("key", "k1")
	first := h.Post("Atlas", &draft{ID: key, Conversation: id, Content: "once"})
	again := func(what string) {
		t.Helper()
		p := h.Post("Atlas", &draft{ID: key, Conversation: id, Content: "once"})
		if !p.Duplicate || p.Message.Ref != first.Message.Ref {
			t.Errorf("%s: got %s, duplicate %v, want %s again", what, p.Message.Ref, p.Duplicate, first.Message.Ref)
		}
		h.refuse(what+", another text", "Atlas", &draft{ID: key, Conversation: id, Content: "other"}, api.KeyReused)
		h.refuse(what+", another sender", "Nova", &draft{ID: key, Conversation: id, Content: "once"}, api.KeyReused)
		h.refuse(what+", another type", "Atlas", &draft{ID: key, Conversation: id, Type: envelope.Leave}, api.KeyReused)
	}
	again("at once")
	h.send("Nova", id, "in between")
	h.restart()
	again("after a restart")
	h.wantSaid(id, "Atlas: once", "Nova: in between")
}

// TestKeysOfConversations: a repeated create, or first message, makes nothing twice.
func TestKeysOfConversations(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	for name, d := range map[string]draft{
		"create":              {Type: envelope.Create, Topic: "a", To: people("Nova")},
		"create with message": {Type: envelope.Create, Topic: "a", To: people("Nova"), Content: "hi"},
		"message":             {To: people("Nova"), Content: "hi"},
		"message with topic":  {To: people("Nova"), Topic: "a", Content: "hi"},
	} {
		d.ID = envelope.NamedID("key", name)
		post := func() api.Posted {
			t.Helper()
			c := d
			return h.Post("Atlas", &c)
		}
		first := post()
		lines := len(h.Log(first.Conversation.ID))
		second := post()
		if second.Conversation.ID != first.Conversation.ID || second.Message.Ref != first.Message.Ref || !first.Created || second.Created || !second.Duplicate {
			t.Errorf("%s: got %s, created %v, duplicate %v, want %s again", name, second.Message.Ref, second.Created, second.Duplicate, first.Message.Ref)
		}
		h.send("Nova", first.Conversation.ID, "in between")
		h.restart()
		if third := post(); third.Message.Ref != first.Message.Ref || !third.Duplicate {
			t.Errorf("%s after a restart: got %s, duplicate %v, want %s again", name, third.Message.Ref, third.Duplicate, first.Message.Ref)
		}
		if got := len(h.Log(first.Conversation.ID)); got != lines+1 {
			t.Errorf("%s: got %d lines, want %d", name, got, lines+1)
		}
	}
	used := envelope.NamedID("key", "create")
	h.refuse("create with another topic", "Atlas", &draft{ID: used, Type: envelope.Create, Topic: "b", To: people("Nova")}, api.KeyReused)
	h.refuse("create with others", "Atlas", &draft{ID: used, Type: envelope.Create, Topic: "a"}, api.KeyReused)
	if posted := h.Post("Nova", &draft{ID: used, Type: envelope.Create, Topic: "a"}); !posted.Created {
		t.Errorf("the key of another: got %+v, want a conversation of its own", posted)
	}
}

// TestNobodyTakesTheDirectConversationOfOthers: its id is made of who they are, and
// nobody can make a conversation with that id but by a message between them.
func TestNobodyTakesTheDirectConversationOfOthers(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage")
	direct := envelope.NamedID("direct", "0", h.Home().Address("Atlas").Key(), h.Home().Address("Nova").Key())
	taken := h.Post("Sage", &draft{ID: direct, Type: envelope.Create, Topic: "mine", To: people("Atlas", "Nova"), TurnLimit: 1, Content: "x"})
	posted := h.Post("Atlas", &draft{To: people("Nova"), Content: "private"})
	if posted.Conversation.ID == taken.Conversation.ID || posted.Conversation.ID != envelope.ConversationID(h.Home().Host.ID, direct) || len(posted.Conversation.Participants) != 2 {
		t.Errorf("got %+v, want a conversation of the two", posted.Conversation)
	}
}

// TestDirectMessagesMeetAllWhomTheyName, whoever leaves in that moment.
func TestDirectMessagesMeetAllWhomTheyName(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage")
	var leaver sync.WaitGroup
	done := make(chan struct{})
	leaver.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			list, err := h.As("Sage").Conversations(t.Context(), "active", "", 1)
			if err == nil && len(list.Conversations) > 0 {
				_, _ = h.As("Sage").Post(t.Context(), &draft{Type: envelope.Leave, Conversation: list.Conversations[0].ID}) // it may be over already
			}
		}
	})
	for i := range 200 {
		posted := h.Post("Atlas", &draft{To: people("Nova", "Sage"), Content: fmt.Sprint(i)})
		if len(posted.Recipients) != 2 {
			t.Fatalf("message %d: got %+v, want both to get it", i, posted.Recipients)
		}
	}
	close(done)
	leaver.Wait()
}

// TestMessagesToSomebodyInAConversation: who is named is in it, or the sender hears of it.
func TestMessagesToSomebodyInAConversation(t *testing.T) {
	h := newHost(t, "Atlas", "Nova", "Sage", "Rune")
	id := h.Post("Atlas", &draft{Type: envelope.Create, Topic: "a", To: people("Nova", "Rune")}).Conversation.ID
	if posted := h.Post("Atlas", &draft{Conversation: id, To: people("Nova"), Content: "hi"}); !slices.Equal(posted.Message.Envelope.To, []string{"Nova"}) {
		t.Errorf("to: got %q, want Nova", posted.Message.Envelope.To)
	}
	if posted := h.Post("Atlas", &draft{Conversation: id, To: people("Rune", "nova"), Content: "hi"}); posted.Message.Envelope.To != nil {
		t.Errorf("to all: got %q, want it directed to nobody", posted.Message.Envelope.To)
	}
	h.refuse("nobody", "Atlas", &draft{Conversation: id, To: people("Ghost"), Content: "hi"}, api.AgentNotFound)
	if err := h.refuse("who is not in it", "Atlas", &draft{Conversation: id, To: people("Nova", "Sage"), Content: "hi"}, api.NotParticipant); !strings.Contains(err.Message, "Sage") {
		t.Errorf("got %v, want Sage named", err)
	}
}

// TestNothingOfACreateIsLost: what its first message has beside the text is in the log.
func TestNothingOfACreateIsLost(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	attached := []envelope.Attachment{h.Upload("Atlas", "a.txt", "a")}
	posted := h.Post("Atlas", &draft{
		Type: envelope.Create, Topic: "a", Mode: "async", To: people("Nova"), Content: "hi", Data: json.RawMessage(`{"a":1}`),
		Attachments: attached, Auto: true, Hops: 1, Unknown: []envelope.Field{{Name: "mood", Value: json.RawMessage(`"calm"`)}},
	})
	log := h.Log(posted.Conversation.ID)
	if e := log[1]; e.Content != "hi" || string(e.Data) != `{"a":1}` || len(e.Attachments) != 1 || !e.Auto || e.Hops != 1 || len(e.Unknown) != 1 || e.Topic != "" || e.Mode != "" {
		t.Errorf("first message: got %s, want all that the draft has", e.Append(nil))
	}
	if e := log[0]; e.Topic != "a" || e.Mode != "async" || len(e.Participants) != 2 {
		t.Errorf("create: got %s, want the topic, mode and people", e.Append(nil))
	}
}

// TestTermsOfAMessage: a message that begins a conversation says how it shall be, in
// words that there are.
func TestTermsOfAMessage(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	h.refuse("another mode", "Atlas", &draft{To: people("Nova"), Topic: "a", Mode: "nonsense", Content: "hi"}, api.BadRequest)
	posted := h.Post("Atlas", &draft{To: people("Nova"), Topic: "a", Mode: "live", Open: true, TurnLimit: 3, Content: "hi"})
	if c := posted.Conversation; c.Mode != "live" || !c.Open || c.TurnLimit != 3 {
		t.Errorf("got %+v, want it live, open and of 3 turns", c)
	}
}

// TestAfterBeyondTheEnd is refused: it would hide a repeat.
func TestAfterBeyondTheEnd(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.Post("Atlas", &draft{To: people("Nova"), Content: "hi"}).Conversation.ID
	h.refuse("after", "Atlas", &draft{Conversation: id, Content: "pay", After: envelope.Int(9999)}, api.MessageNotFound)
	h.Post("Atlas", &draft{Conversation: id, Content: "pay", After: envelope.Int(2)})
}

// TestLimits of the home's own configuration.
func TestLimits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := maildir.DefaultConfig()
	config.Limits.Content, config.Limits.Participants = 10, 2
	if err := config.Write(filepath.Join(dir, "config.toml")); err != nil {
		t.Fatal(err)
	}
	h := host{daemontest.NewAt(t, dir, "Atlas", "Nova", "Sage"), t}
	h.refuse("text", "Atlas", &draft{To: people("Nova"), Content: "eleven bytes"}, api.TooLarge)
	h.refuse("participants", "Atlas", &draft{To: people("Nova", "Sage"), Content: "hi"}, api.TooMany)
	id := h.Post("Atlas", &draft{Type: envelope.Create, Topic: "a", Open: true, To: people("Nova"), Content: "ten bytes."}).Conversation.ID
	h.refuse("a third who joins", "Sage", &draft{Type: envelope.Join, Conversation: id}, api.TooMany)
	h.refuse("a third who is invited", "Nova", &draft{Type: envelope.Invite, Conversation: id, To: people("Sage")}, api.TooMany)
	h.Post("Nova", &draft{Type: envelope.Leave, Conversation: id})
	h.Post("Sage", &draft{Type: envelope.Join, Conversation: id})
}

// TestAfter: what the sender had been shown is noted, where it does not say so itself.
func TestAfter(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "a", "Nova")
	h.send("Atlas", id, "two")
	after := func(what string, p api.Posted, want int64) {
		t.Helper()
		if e := p.Message.Envelope; e.After == nil || *e.After != want {
			t.Errorf("%s: got after %v, want %d", what, e.After, want)
		}
	}
	after("nothing shown", h.send("Nova", id, "three"), 0)
	if err := h.As("Nova").Shown(context.Background(), []api.Place{{Conversation: id, Seq: 2}}); err != nil {
		t.Fatal(err)
	}
	after("line 2 shown", h.send("Nova", id, "four"), 2)
	after("as the sender says", h.Post("Nova", &draft{Conversation: id, Content: "five", After: envelope.Int(1)}), 1)
	var refusal *api.Error
	if _, err := h.As("Nova").Post(context.Background(), &draft{Conversation: id, Type: "typing"}); !errors.As(err, &refusal) {
		t.Errorf("typing: got %v, want it refused", err)
	}
}

// TestJoiningTwice is no error: it answers with the line that brought the agent in.
func TestJoiningTwice(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.Post("Atlas", &draft{Type: envelope.Create, Topic: "a", Open: true}).Conversation.ID
	first := h.Post("Nova", &draft{Type: envelope.Join, Conversation: id})
	h.send("Atlas", id, "welcome")
	second := h.Post("Nova", &draft{Type: envelope.Join, Conversation: id})
	if !second.Duplicate || first.Duplicate || second.Message.Ref != first.Message.Ref || second.Message.Envelope.Timestamp != first.Message.Envelope.Timestamp {
		t.Errorf("second join: got %+v, want the first again", second)
	}
	h.wantEvents(id, "1 create of Atlas", "2 join of Nova", "3 message of Atlas")
}

// TestRepeatOfADirectMessage: a repeat is recognised though its conversation is over.
func TestRepeatOfADirectMessage(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	key := envelope.NamedID("key", "k")
	first := h.Post("Atlas", &draft{ID: key, To: people("Nova"), Content: "once"})
	h.Post("Atlas", &draft{Type: envelope.Close, Conversation: first.Conversation.ID})
	second := h.Post("Atlas", &draft{ID: key, To: people("Nova"), Content: "once"})
	if !second.Duplicate || second.Message.Ref != first.Message.Ref {
		t.Errorf("repeat after the close: got %s, duplicate %v, want %s", second.Message.Ref, second.Duplicate, first.Message.Ref)
	}
	h.refuse("another text after the close", "Atlas", &draft{ID: key, To: people("Nova"), Content: "other"}, api.KeyReused)
	if next := h.message("Atlas", "Nova", "twice"); next.Conversation.ID == first.Conversation.ID || !next.Created {
		t.Errorf("a new message: got %s, want a new conversation", next.Message.Ref)
	}
}

// TestTranslate is the table from errors of the parts below to codes.
func TestTranslate(t *testing.T) {
	for want, errs := range map[api.Code][]error{
		api.Damaged:              {&convlog.DamageError{Want: 2, Got: 9}, fmt.Errorf("%w: %w", convlog.ErrFailed, &convlog.DamageError{})},
		api.BadRequest:           {envelope.ErrInvalid},
		api.ConversationNotFound: {ledger.ErrNotFound},
		api.KeyReused:            {ledger.ErrReused},
		api.Stopping:             {ledger.ErrClosed},
		api.Busy:                 {convlog.ErrBusy, ledger.ErrBehind},
		api.StorageFailed:        {convlog.ErrFailed, convlog.ErrReplaced, syscall.ENOSPC, syscall.EROFS, syscall.EIO, syscall.EDQUOT, os.ErrPermission},
		api.Internal:             {errors.New("something else"), context.Canceled},
		api.AgentNotFound:        {api.Errorf(api.AgentNotFound, "known already")},
		api.NotParticipant:       {&conv.Refusal{Kind: conv.NotParticipant, Text: "no"}},
		api.NotAllowed:           {&conv.Refusal{Kind: conv.NotOpen, Text: "no"}, &conv.Refusal{Kind: conv.NotCreator, Text: "no"}},
		api.AlreadyParticipant:   {&conv.Refusal{Kind: conv.AlreadyIn, Text: "no"}},
		api.ConversationClosed:   {&conv.Refusal{Kind: conv.Closed, Text: "no"}},
		api.TurnLimitReached:     {&conv.Refusal{Kind: conv.TurnLimit, Text: "no"}},
		api.NobodyElse:           {&conv.Refusal{Kind: conv.NobodyElse, Text: "no"}},
		api.TooMany:              {&conv.Refusal{Kind: conv.TooMany, Text: "no"}},
	} {
		for _, err := range errs {
			wrapped := fmt.Errorf("deep down: %w", err)
			if got := router.Translate(wrapped, "c9f3a"); got.Code != want || got.Message == "" {
				t.Errorf("Translate(%v): got %s %q, want %s and a text", err, got.Code, got.Message, want)
			}
		}
	}
}

package deliver_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/bus"
	"github.com/claude-duo/duo/daemon/deliver"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/claude-duo/duo/maildir/mailbox"
)

const (
	request = "0199c0de-0000-7000-8000-0000000077b2"
	another = "0199c0de-0000-7000-8000-0000000077b3"
	placed  = 1739654400000
)

// signal tells Nova how far a call of Atlas's is.
func (p *post) signal(request, status string, waits bool) {
	p.t.Helper()
	e := &envelope.Envelope{ID: request, Type: envelope.Call, From: p.home.Address("Atlas"), Request: request, Status: status, Timestamp: placed}
	if err := p.Signal("Nova", request, placed, e, waits); err != nil {
		p.t.Fatal(err)
	}
}

// wantSignals checks what waits for Nova, as the deliverer says it and in its inbox.
func (p *post) wantSignals(what string, want ...string) {
	p.t.Helper()
	list, err := p.Signals("Nova")
	if err != nil {
		p.t.Fatal(err)
	}
	var got, files []string
	for _, e := range list {
		got = append(got, e.Status)
	}
	signals, err := p.box("Nova").Signals()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, s := range signals {
		e, err := p.box("Nova").ReadItem(s.Name)
		if err != nil {
			p.t.Fatal(err)
		}
		files = append(files, e.Status)
	}
	slices.Sort(got)
	slices.Sort(files)
	if !slices.Equal(got, want) || !slices.Equal(files, want) {
		p.t.Errorf("%s: waiting: got %q, in the inbox %q, want %q", what, got, files, want)
	}
}

// told is what a stream has now of what stands in no log.
func (p *post) told(s *deliver.Stream) (list []string) {
	p.t.Helper()
	for {
		line, ok, err := s.TryNext(context.Background())
		if err != nil {
			p.t.Fatal(err)
		}
		if !ok {
			return list
		}
		if line.Live {
			list = append(list, string(line.Envelope.Type)+" "+line.Envelope.Status)
		}
	}
}

func (p *post) wantTold(what string, s *deliver.Stream, want ...string) {
	p.t.Helper()
	if got := p.told(s); !slices.Equal(got, want) {
		p.t.Errorf("%s: streamed: got %q, want %q", what, got, want)
	}
}

// TestSignals: every change of a call is streamed once, and waits until it was seen.
func TestSignals(t *testing.T) {
	p := newPost(t, "Atlas", "Nova")
	id := p.create("a", "Atlas", "Nova")
	first := p.attach("Nova", deliver.Filter{})
	defer first.Close()
	narrow := p.attach("Nova", deliver.Filter{Conversations: []string{id}})
	defer narrow.Close()
	p.signal(request, "ringing", true)
	p.signal(request, "ringing", true)
	p.wantTold("rings", first, "call ringing")
	p.wantSignals("rings", "ringing")
	late := p.attach("Nova", deliver.Filter{})
	defer late.Close()
	p.wantTold("a stream that comes later", late, "call ringing")

	if err := p.SeenSignal("nova", request, ""); err != nil {
		t.Fatal(err)
	}
	p.wantSignals("seen")
	p.signal(request, "ringing", true)
	p.wantSignals("seen, and said again")
	p.wantTold("seen, and said again", first)

	p.signal(request, "missed", true)
	if err := p.SeenSignal("nova", request, "ringing"); err != nil {
		t.Fatal(err)
	}
	p.wantSignals("missed, while the ring was shown", "missed")
	p.signal(request, "accepted", false)
	p.wantSignals("answered")
	p.wantTold("missed and answered", first, "call accepted")
	p.wantTold("missed and answered", late, "call accepted")
	p.wantTold("a stream of one conversation", narrow)
	if after := p.attach("Nova", deliver.Filter{}); len(p.told(after)) != 0 {
		t.Error("a new stream is told of what is over")
	}
}

// TestSignalsThatMove: who moves the file from new to cur has seen the call.
func TestSignalsThatMove(t *testing.T) {
	p := newPost(t, "Atlas", "Nova")
	p.signal(request, "ringing", true)
	p.signal(another, "ringing", true)
	name := mailbox.SignalOf(request, placed).Name
	dir := p.box("Nova").Dir()
	if err := os.Rename(filepath.Join(dir, mailbox.InboxNew, name), filepath.Join(dir, mailbox.InboxCur, name)); err != nil {
		t.Fatal(err)
	}
	p.InboxChanged("Nova")
	p.wantSignals("moved", "ringing")
	p.signal(request, "ringing", true)
	p.wantSignals("said again", "ringing")
	if err := os.Remove(filepath.Join(dir, mailbox.InboxNew, mailbox.SignalOf(another, placed).Name)); err != nil {
		t.Fatal(err)
	}
	p.InboxChanged("Nova")
	p.signal(another, "ringing", true)
	p.wantSignals("deleted and said again", "ringing")
}

// TestSignalsAfterARestart: what waits still waits, and nothing is told again.
func TestSignalsAfterARestart(t *testing.T) {
	p := newPost(t, "Atlas", "Nova")
	p.signal(request, "ringing", true)
	p.signal(another, "rejected", false)
	p.begin()
	p.wantSignals("before it is said again", "ringing")
	s := p.attach("Nova", deliver.Filter{})
	defer s.Close()
	p.wantTold("a stream after the start", s, "call ringing")
	p.signal(request, "ringing", true)
	p.signal(another, "rejected", false)
	p.wantTold("said again", s)
	p.signal(request, "cancelled", false)
	p.wantTold("withdrawn", s, "call cancelled")
}

// TestSignalsOfLongAgo are forgotten in memory, and not told again.
func TestSignalsOfLongAgo(t *testing.T) {
	p := newPost(t, "Atlas", "Nova")
	p.signal(request, "busy", true)
	if err := p.SeenSignal("Nova", request, ""); err != nil {
		t.Fatal(err)
	}
	p.clock.pass(2 * time.Minute)
	p.Expire(context.Background())
	s := p.attach("Nova", deliver.Filter{})
	defer s.Close()
	p.signal(request, "busy", true)
	p.wantTold("said again long after", s)
	p.wantSignals("said again long after")
	p.signal(request, "accepted", false)
	p.wantTold("something else", s, "call accepted")
}

// TestNotices: typing and presence are for those who have asked for them.
func TestNotices(t *testing.T) {
	p := newPost(t, "Atlas", "Nova")
	id, other := p.create("a", "Atlas", "Nova"), p.create("b", "Atlas", "Nova")
	all := p.attach("Nova", deliver.Filter{Typing: true, Presence: true})
	defer all.Close()
	one := p.attach("Nova", deliver.Filter{Typing: true, Conversations: []string{id}})
	defer one.Close()
	plain := p.attach("Nova", deliver.Filter{})
	defer plain.Close()
	nova := bus.Agent(p.home.Address("Nova"))
	for _, where := range []string{id, other} {
		p.bus.Notify(&envelope.Envelope{Type: envelope.Typing, From: p.home.Address("Atlas"), Conversation: where}, nova)
	}
	p.bus.Notify(&envelope.Envelope{Type: envelope.Presence, From: p.home.Address("Atlas"), Status: "busy"}, bus.Presence)
	p.wantTold("who wants all", all, "typing ", "typing ", "presence busy")
	p.wantTold("who wants one conversation", one, "typing ")
	p.wantTold("who wants no notices", plain)
}

// TestObserver: who watches gets everything, and changes nothing.
func TestObserver(t *testing.T) {
	p := newPost(t, "Atlas", "Nova", "Sage").run()
	id := p.create("a", "Atlas", "Nova")
	p.say(id, "Atlas", "before")
	everything := p.Observe(deliver.Filter{Typing: true, Presence: true})
	defer everything.Close()
	from := p.Observe(deliver.Filter{After: map[string]int64{id: 1}, Conversations: []string{id}})
	defer from.Close()
	other := p.create("b", "Nova", "Sage")
	p.say(other, "Nova", "secret")
	p.say(id, "Nova", "after")
	p.settle()
	p.bus.Notify(&envelope.Envelope{Type: envelope.Typing, From: p.home.Address("Nova"), Conversation: id})
	p.bus.Notify(&envelope.Envelope{Type: envelope.Call, From: p.home.Address("Nova"), Status: "ringing"})

	got := watched(t, everything)
	want := []string{"call", "create", "message after", "message secret", "typing"}
	if !slices.Equal(got, want) {
		t.Errorf("everything: got %q, want %q", got, want)
	}
	if got, want := watched(t, from), []string{"message after", "message before"}; !slices.Equal(got, want) {
		t.Errorf("one conversation from line 2: got %q, want %q", got, want)
	}
	p.files("nothing was taken", "Nova", id, []int64{1, 2}, none)
	p.waits("nothing was seen", "Nova", id, 1, 2)
	p.states("nothing was seen", id, 2, "Nova delivered")
	if p.Listening("Nova") || p.Listening("Sage") {
		t.Error("who watches counts as an agent that listens")
	}
}

// watched is what an observer has now, sorted.
func watched(t *testing.T, o *deliver.Observer) (list []string) {
	t.Helper()
	for {
		line, ok, err := o.TryNext(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			slices.Sort(list)
			return list
		}
		e := line.Envelope
		switch {
		case e.Event != "":
			list = append(list, e.Event)
		case e.Content != "":
			list = append(list, string(e.Type)+" "+e.Content)
		default:
			list = append(list, string(e.Type))
		}
	}
}

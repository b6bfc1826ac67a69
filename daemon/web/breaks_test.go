package web_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/claude-duo/duo/daemon/daemontest"
	"github.com/claude-duo/duo/maildir/envelope"
)

// broken are the words with which a browser tells that a daemon is away.
var broken = []string{"ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_SOCKET_NOT_CONNECTED", "ERR_INCOMPLETE", "WebSocket connection to", "status of 503"}

func (p *tab) allowBreaks() {
	for _, words := range broken {
		p.allow(words)
	}
}

// said are the texts of the messages that the transcript shows, in their order.
func (p *tab) said() []string {
	p.t.Helper()
	return strings.Fields(eval[string](p, `[...document.querySelectorAll("article .body")].map(b => b.innerText.trim()).join(" ")`))
}

// hasAll waits until the transcript shows each of so many messages once and in order.
func (p *tab) hasAll(n int) {
	p.t.Helper()
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("word%d", i))
	}
	p.until(fmt.Sprintf("%d messages, each once and in order", n), func() bool { return slices.Equal(p.said(), want) })
}

// TestDaemonStartsAgain stops the daemon under an open page, more than once.
func TestDaemonStartsAgain(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	k := begin(t, h, envelope.Envelope{Topic: "Line 40"}, "Atlas", "Nova")
	p := newBrowser(t).watch(t, h, desk, "/c/"+k.c.Ref)
	p.allowBreaks()
	said := 0
	say := func(n int) {
		for range n {
			k.say([]string{"Atlas", "Nova"}[said%2], fmt.Sprintf("word%d", said))
			said++
		}
	}
	say(3)
	p.hasAll(said)
	for range 3 {
		h.Stop()
		p.now().shows("not connected")
		p.now().shows("again in")
		p.hasAll(said) // what was there stays
		h.Start()
		say(30) // before the page is back
		p.live()
		say(3)
		p.hasAll(said)
		p.conversations().find("link", "Line 40").shows(fmt.Sprintf("%d turns", said))
	}
	p.accessible("after the daemon came back")
}

// TestSequenceAfterABreak wants what was said while nobody was connected in the sequence.
func TestSequenceAfterABreak(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	k := begin(t, h, envelope.Envelope{Topic: "Line 40"}, "Atlas", "Nova")
	k.say("Atlas", "before")
	p := newBrowser(t).watch(t, h, desk, "/c/"+k.c.Ref+"/sequence")
	p.allowBreaks()
	main := p.find("main", "")
	main.find("link", "#2 Atlas to Nova: before")
	h.Stop()
	p.now().shows("not connected")
	h.Start()
	k.say("Nova", "meanwhile")
	p.live()
	main.find("link", "#3 Nova to Atlas: meanwhile")
}

// TestCableIsPulled cuts the connection alone, or lets nothing through without an end.
func TestCableIsPulled(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	cable := daemontest.NewCable(t)
	cable.Connect(strings.TrimPrefix(origin(t, h), "http://"))
	k := begin(t, h, envelope.Envelope{Topic: "Line 40"}, "Atlas", "Nova")
	p := newBrowser(t).newTab(t, "http://"+cable.Address(), desk)
	p.allowBreaks()
	p.open(login(t, h, false))
	p.live()
	p.open("/c/" + k.c.Ref)
	p.live()
	k.say("Atlas", "word0")
	p.hasAll(1)

	cable.Pull()
	p.now().shows("not connected")
	k.say("Nova", "word1")
	cable.Plug()
	p.now().find("button", "Try now").click()
	p.live()
	p.hasAll(2)

	cable.PullAfter(400) // in the middle of a frame
	k.say("Nova", "word2")
	k.say("Atlas", "word3")
	p.now().shows("not connected")
	cable.Plug()
	p.live()
	p.hasAll(4)

	if testing.Short() {
		return
	}
	cable.Deafen(daemontest.Back, true)
	k.say("Nova", "word4")
	p.until("the page does not call the connection live", func() bool { return !strings.HasPrefix(p.now().text(), "live") })
	p.until("the page takes it for broken", func() bool { return !strings.HasPrefix(p.now().text(), "silent") })
	cable.Deafen(daemontest.Back, false)
	p.live()
	p.hasAll(5)
}

// TestSlowReader is behind a line that is too slow for what is said: it loses its stream,
// and no message.
func TestSlowReader(t *testing.T) {
	if testing.Short() {
		t.Skip("a slow reader is waited for in the long tests")
	}
	h := newHost(t, "Atlas", "Nova")
	cable := daemontest.NewCable(t)
	cable.Connect(strings.TrimPrefix(origin(t, h), "http://"))
	k := begin(t, h, envelope.Envelope{Topic: "Line 40"}, "Atlas", "Nova")
	other := begin(t, h, envelope.Envelope{Topic: "Much"}, "Atlas", "Nova")
	p := newBrowser(t).newTab(t, "http://"+cable.Address(), desk)
	p.allowBreaks()
	p.open(login(t, h, false))
	p.live()
	p.open("/c/" + k.c.Ref)
	p.live()
	k.say("Atlas", "word0")
	p.hasAll(1)
	cable.Slow(0, 20<<10)
	for i := range 60 {
		other.say("Nova", strings.Repeat("much ", 40<<10))
		if i%20 == 0 {
			k.say("Atlas", fmt.Sprintf("word%d", 1+i/20))
		}
	}
	cable.Slow(0, 0)
	p.live()
	p.hasAll(4)
}

package web_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
)

// longest is how many messages the long conversation has.
const longest = 100_000

// most is how many lines of a log stand in the page at once.
const most = 240

// perJump is how many bytes of a conversation are read to go somewhere in it, and to load
// what stands around the place.
const perJump = 100_000

// TestLongConversation opens one of 100,000 messages, and goes anywhere in it.
func TestLongConversation(t *testing.T) {
	n := longest
	if testing.Short() {
		n = 2000
	}
	b := newBrowser(t)
	s := newScene(t, "nyc", "")
	s.agent("Atlas", "", morning)
	s.agent("Nova", "", morning)
	lines := make([]envelope.Envelope, n)
	for i := range lines {
		lines[i] = says([]string{"Atlas", "Nova"}[i%2], fmt.Sprintf("Message %d: `Expire` reads **the map** under a lock, and deletes under another one.", i+2), 0)
	}
	id := s.conversation(envelope.Envelope{Topic: "A long story"}, morning.Add(-1000*time.Hour), []string{"Atlas", "Nova"}, lines...)
	h := s.start()
	p := b.watch(t, h, desk, "/")
	p.conversations().find("link", "A long story")
	p.allow("NavigationEntryMarkedSkippable") // a script clicks here, and no person
	last := int64(n + 1)

	opened := p.timed(fmt.Sprintf(`document.querySelector(".conversations a[href='/c/%s']").click()`, ref(id)), last)
	var jumps []time.Duration
	for i := range int64(20) {
		seq := 1 + i*(last/20*7+1)%last
		jumps = append(jumps, p.timed(fmt.Sprintf(`(f => { f.elements.seq.value = %d; f.requestSubmit() })(document.querySelector(".places-bar form"))`, seq), seq))
	}
	if got := eval[float64](p, `performance.getEntriesByType("resource").filter(r => r.name.includes("/view")).reduce((sum, r) => sum + r.decodedBodySize, 0)`); got > perJump*float64(1+len(jumps)) {
		t.Errorf("got %.0f bytes for a way in and %d jumps, want %d for each at most", got, len(jumps), perJump)
	}
	p.open("/c/" + ref(id))
	p.line(last)
	fresh := time.Duration(eval[float64](p, `performance.now()`) * float64(time.Millisecond))
	slices.Sort(jumps)
	t.Logf("of %d messages: opened in the page after %s, with the page itself after %s at most, jumps %s, half of them within %s", n, opened, fresh, jumps, jumps[len(jumps)/2])

	// Up and up: the window goes along, what is read stays where it is, and the page
	// does not grow.
	for range 12 {
		before := p.first()
		eval[bool](p, `(b => { b.scrollTop = 0; return true })(document.querySelector("[role=log]"))`)
		p.until("earlier messages are there", func() bool { return p.first() < before })
		if n := eval[int](p, `document.querySelectorAll("article").length`); n > most {
			t.Fatalf("got %d lines in the page, want %d at most", n, most)
		}
	}
	p.open(fmt.Sprintf("/c/%s#%d", ref(id), last/2))
	p.line(last / 2)
	for range 3 {
		if moved := eval[float64](p, movedByEarlier); moved < 0 || moved > 2 {
			t.Errorf("what is read moved by %.0f pixels when earlier messages came, want it where it was; -1 is that none came", moved)
		}
	}
}

// movedByEarlier scrolls up until earlier messages come, and is by how many pixels that
// has moved what was in sight.
const movedByEarlier = `(async () => {
	const box = document.querySelector("[role=log]"), top = box.getBoundingClientRect().top
	const first = () => box.querySelector("article").dataset.seq
	const frame = () => new Promise(requestAnimationFrame)
	for (let step = 0; step < 100; step++) {
		const pinned = [...box.querySelectorAll("article")].find(a => a.getBoundingClientRect().top >= top)
		const before = first(), at = pinned.getBoundingClientRect().top, scrolled = box.scrollTop
		box.scrollTop -= 200
		const by = scrolled - box.scrollTop
		for (const began = performance.now(); first() === before && performance.now() - began < 150;) await frame()
		if (first() === before) continue
		await frame()
		await frame()
		return Math.abs(pinned.getBoundingClientRect().top - at - by)
	}
	return -1
})()`

// timed does something in a page that has come to rest, and says how long it takes until a
// line of a log is there and has a place on the screen.
func (p *tab) timed(do string, seq int64) time.Duration {
	p.t.Helper()
	took := eval[float64](p, fmt.Sprintf(`(async () => {
		for (let i = 0; i < 3; i++) await new Promise(requestIdleCallback)
		const began = performance.now();
		%s;
		for (;;) {
			const line = document.querySelector("article[data-seq='%d']")?.getBoundingClientRect()
			if (line?.height > 0 && line.top < innerHeight && line.bottom > 0) return performance.now() - began
			if (performance.now() - began > 15000) return 15000
			await new Promise(requestAnimationFrame)
		}
	})()`, do, seq))
	return time.Duration(took * float64(time.Millisecond)).Round(time.Millisecond)
}

// first is the seq of the first line that stands in the page.
func (p *tab) first() int64 {
	p.t.Helper()
	return eval[int64](p, `Number(document.querySelector("article").dataset.seq)`)
}

package web_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
)

// longest is how many messages the long conversation has.
const longest = 100_000

// most is how many lines of a log stand in the page at once.
const most = 240

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
	for _, seq := range []int64{last / 2, 2, last - 5, last / 3, last / 7} {
		jumps = append(jumps, p.timed(fmt.Sprintf(`(f => { f.elements.seq.value = %d; f.requestSubmit() })(document.querySelector(".places-bar form"))`, seq), seq))
	}
	p.open("/c/" + ref(id))
	p.line(last)
	fresh := time.Duration(eval[float64](p, `performance.now()`) * float64(time.Millisecond))
	t.Logf("of %d messages: opened in the page after %s, with the page itself after %s at most, jumps %s", n, opened, fresh, jumps)
	if opened > 3*time.Second {
		t.Errorf("opened after %s, want about a second at most", opened)
	}
	for _, jump := range jumps {
		if jump > time.Second {
			t.Errorf("got jumps %s, want about 100 ms each", jumps)
			break
		}
	}

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

// timed does something in the page and says how long it takes until a line of a log is
// there and has a place on the screen.
func (p *tab) timed(do string, seq int64) time.Duration {
	p.t.Helper()
	took := eval[float64](p, fmt.Sprintf(`(async () => {
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

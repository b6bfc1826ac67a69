package httpd_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
	"pgregory.net/rapid"
)

// long makes a conversation of so many lines in the log itself, while the daemon is down.
func (h *host) long(lines int, text func(seq int) string) string {
	h.t.Helper()
	id := h.create("Atlas", "long", "Nova")
	h.Stop()
	log, err := os.OpenFile(h.Home().LogPath(id), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	var out strings.Builder
	name, now := h.Home().Host.Name, time.Now().UnixMilli()
	for seq := 2; seq <= lines; seq++ {
		from := "Atlas"
		if seq%2 == 0 {
			from = "Nova"
		}
		e := envelope.Envelope{
			Seq: int64(seq), ID: envelope.NewID(), Type: envelope.Message, From: envelope.Address{Name: from, Host: name}, Conversation: id, Timestamp: now + int64(seq), Content: text(seq),
		}
		out.Write(append(e.Append(nil), '\n'))
	}
	if _, err := log.WriteString(out.String()); err != nil {
		h.t.Fatal(err)
	}
	h.Start()
	return id
}

func (h *host) view(conversation, query string) api.View {
	h.t.Helper()
	return get[api.View](h, "GET /v1/conversations/"+conversation+"/view?"+query, "")
}

func seqs(v api.View) (list []int64) {
	for _, m := range v.Messages {
		list = append(list, m.Envelope.Seq)
	}
	return list
}

func span(from, to int64) (list []int64) {
	for seq := from; seq <= to; seq++ {
		list = append(list, seq)
	}
	return list
}

func TestView(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	id := h.create("Atlas", "<b>topic</b>", "Nova")
	h.send("Atlas", id, "*one* <script>x</script>")
	h.Post("Nova", &draft{Conversation: id, Content: "two", After: new(int64)})
	h.state(id, 2, api.Delivered)
	v := h.view(id, "")
	if v.First != 1 || v.Last != 3 || v.Conversation.Topic != "<b>topic</b>" || !slices.Equal(seqs(v), span(1, 3)) {
		t.Fatalf("got %d to %d with %d in %+v, want three lines", v.First, v.Last, seqs(v), v.Conversation)
	}
	one, two := v.Messages[1], v.Messages[2]
	if want := "<p><em>one</em> &lt;script&gt;x&lt;/script&gt;</p>\n"; one.HTML != want || one.Envelope.Content != "*one* <script>x</script>" {
		t.Errorf("html: got %q of %q, want %q", one.HTML, one.Envelope.Content, want)
	}
	if want := (api.Recipient{Agent: h.Home().Address("Nova").String(), State: api.Delivered}); len(one.Recipients) != 1 || one.Recipients[0] != want {
		t.Errorf("recipients: got %+v, want %+v", one.Recipients, want)
	}
	if !slices.Equal(two.Crossed, []int64{2}) || two.Ref != v.Conversation.Ref+".3" {
		t.Errorf("got %s crossed by %d, want by line 2", two.Ref, two.Crossed)
	}
	if v.Messages[0].HTML != "" {
		t.Errorf("a line without a text: got html %q", v.Messages[0].HTML)
	}
}

// TestNobodySpeaksForUs: a sender's field with a name of ours is left out of what is shown,
// above all HTML.
func TestNobodySpeaksForUs(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	s := h.subscribe("", api.StreamRequest{})
	h.Drop("Atlas", "hostile.json", `{"to":"Nova","content":"hi","html":"<img src=x onerror=alert(1)>","recipients":[{"agent":"Nova@nyc","state":"seen"}],"crossed":[9],"mine":"kept"}`)
	s.next()
	_, told, err := s.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	id := get[api.Conversations](h, "GET /v1/conversations", "").Conversations[0].ID
	v := h.view(id, "")
	if m := v.Messages[len(v.Messages)-1]; m.HTML != "<p>hi</p>\n" || len(m.Crossed) != 0 {
		t.Errorf("view: got html %q, crossed %d", m.HTML, m.Crossed)
	}
	_, shown := h.ask("GET /v1/conversations/"+id+"/view", "", "")
	_, read := h.ask("POST /v1/me/read", "Nova", "")
	for what, text := range map[string]string{"stream": string(told), "view": string(shown), "read": string(read)} {
		if strings.Contains(text, "onerror") || !strings.Contains(text, `"mine":"kept"`) {
			t.Errorf("%s: got %s, want what the sender calls html left out, and the rest there", what, text)
		}
	}
}

func TestViewWindows(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	const last = 300
	id := h.long(last, func(seq int) string { return fmt.Sprint("line ", seq) })
	for query, want := range map[string][]int64{
		"":                     span(241, 300),
		"limit=2":              span(299, 300),
		"at=150":               span(120, 179),
		"at=1":                 span(1, 60),
		"at=300":               span(270, 300),
		"at=301":               span(271, 300),
		"at=1000000":           span(271, 300),
		"after=0&limit=3":      span(1, 3),
		"after=299":            span(300, 300),
		"after=300":            nil,
		"after=5000":           nil,
		"before=4":             span(1, 3),
		"before=1":             nil,
		"before=200&limit=240": span(1, 199),
		"before=9999&limit=1":  span(300, 300),
	} {
		if got := seqs(h.view(id, query)); !slices.Equal(got, want) {
			t.Errorf("%q: got %d, want %d", query, got, want)
		}
	}
	for _, query := range []string{"limit=241", "at=-1", "after=x", "before=1.5", "wide=1"} {
		resp, body := h.ask("GET /v1/conversations/"+id+"/view?"+query, "", "")
		wantProblem(t, query, resp, body, api.BadRequest)
	}
	rapid.Check(t, func(r *rapid.T) {
		at, limit := rapid.Int64Range(1, last).Draw(r, "at"), rapid.IntRange(1, 240).Draw(r, "limit")
		got := seqs(h.view(id, fmt.Sprintf("at=%d&limit=%d", at, limit)))
		if len(got) > limit || !slices.Contains(got, at) || !slices.Equal(got, span(got[0], got[len(got)-1])) {
			r.Errorf("at %d, %d lines: got %d", at, limit, got)
		}
	})
}

// TestViewOfLargeLines: however long lines are, an answer is bounded, and pages reach all
// of them.
func TestViewOfLargeLines(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	const last = 12
	id := h.long(last, func(int) string { return strings.Repeat("x ", 450<<10) })
	for query, want := range map[string][]int64{
		"": span(11, 12), "at=6": span(5, 6), "after=2": span(3, 4), "before=7": span(5, 6), "after=11": span(12, 12),
	} {
		if got := seqs(h.view(id, query)); !slices.Equal(got, want) {
			t.Errorf("%q: got %d, want %d", query, got, want)
		}
	}
}

// TestViewOfALongLog: what a view costs does not depend on how long the log is.
func TestViewOfALongLog(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	const last = 100_000
	id := h.long(last, func(seq int) string {
		return fmt.Sprintf("message **%d** of a long conversation, with `code` and a [link](https://example.com)", seq)
	})
	h.view(id, "") // which reads the log once
	for _, query := range []string{"", "at=1", "at=50000", "at=99999", "before=30000", "after=77777", "after=0", "at=12345&limit=240"} {
		before := allocated()
		v := h.view(id, query)
		// 240 lines take about 10 MB, all of them about 200.
		if took := allocated() - before; len(v.Messages) < 30 || v.Last != last || took > 50<<20 {
			t.Errorf("%q: got %d lines of %d for %d bytes of memory", query, len(v.Messages), v.Last, took)
		} else {
			t.Logf("%q: %d lines for %d bytes of memory", query, len(v.Messages), took)
		}
	}
}

// allocated is how many bytes this process has asked for so far.
func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

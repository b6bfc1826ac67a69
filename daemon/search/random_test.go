package search_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/conv"
	"github.com/claude-duo/duo/daemon/search"
	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var (
	people = []string{"Atlas@nyc", "Nova@nyc", "Nova@lon", "Sage@nyc"}
	pieces = []string{
		"parser", "Parser", "pars", "limit", "turn limit", "turn-limit", "main.go", "Café", "cafe\u0301", "CAFE", "été", "ß", "ς", "Σ", "naïve",
		"pass\u200bword", "password", "\u202eevil\u202c", "会議は明日", "明日", "ประชุม", "ｆｕｌｌ", "full", "½", "𝕏", "İstanbul", "istanbul", "\"", "*", "-", "(", ")", "NOT", "OR", "AND",
		"NEAR(", "body:", "{tags}", "a1", "c1", "kmessage", "x", "o", ":", "'", "\\", "😀", strings.Repeat("long", 30), strings.Repeat("long", 30) + "er", "\n", "1.5", "v2",
		"from:nova", "topic:review", "review", "\u0301", "\u00ad", "ﬁ", "한국어", "e\u0301te\u0301",
	}
)

func text(t *rapid.T, name string) string {
	parts := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(pieces), rapid.StringN(0, 6, 12)), 0, 6).Draw(t, name)
	return strings.ReplaceAll(strings.Join(parts, rapid.SampledFrom([]string{" ", "", "\n", "  "}).Draw(t, "between")), "\x00", "")
}

func line(s string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(s) }

func query(t *rapid.T, ids []string) string {
	one := rapid.Custom(func(t *rapid.T) string {
		p := line(text(t, "text"))
		switch rapid.IntRange(0, 11).Draw(t, "kind") {
		case 0:
			p = `"` + p + `"`
		case 1:
			p = `"` + p + `"*`
		case 2:
			p += "*"
		case 3:
			p = "-" + p
		case 4:
			p = "from:" + rapid.SampledFrom([]string{"nova", "Nova@lon", "nobody", "Atlas@nyc"}).Draw(t, "who")
		case 5:
			p = "-from:nova"
		case 6:
			p = "topic:" + rapid.SampledFrom(pieces).Draw(t, "topic")
		case 7:
			p = "-topic:review"
		case 8:
			p = rapid.SampledFrom([]string{"has:attachment", "-has:attachment", "name:report*", `name:"final report"`}).Draw(t, "has")
		case 9:
			p = rapid.SampledFrom([]string{"", "-"}).Draw(t, "not") + "in:" + rapid.SampledFrom(ids).Draw(t, "in")
		case 10:
			p = rapid.SampledFrom([]string{"since:59m", "until:59m", "since:2026-11-26", "until:2026-11-25"}).Draw(t, "time")
		default:
			p = rapid.SampledFrom(pieces).Draw(t, "piece")
		}
		return p
	})
	return strings.Join(rapid.SliceOfN(one, 1, 4).Draw(t, "query"), " ")
}

// grow adds lines of all kinds to a corpus.
func grow(t *rapid.T, c *corpus, ids []string) []string {
	for range rapid.IntRange(0, 25).Draw(t, "lines") {
		if len(ids) == 0 || rapid.IntRange(0, 9).Draw(t, "new") == 0 {
			in := rapid.IntRange(1, len(people)).Draw(t, "people")
			ids = append(ids, c.create(line(text(t, "topic")), rapid.IntRange(0, 3).Draw(t, "open") == 0, people[:in]...))
			continue
		}
		id := rapid.SampledFrom(ids).Draw(t, "conversation")
		who := rapid.SampledFrom(people).Draw(t, "who")
		e := &envelope.Envelope{Type: envelope.Message, From: address(who), Content: text(t, "content")}
		switch rapid.IntRange(0, 12).Draw(t, "kind") {
		case 0:
			e.Type = envelope.Join
		case 1:
			e.Type, e.Reason = envelope.Leave, line(text(t, "reason"))
		case 2:
			e.Type, e.Event, e.Content, e.Reason = envelope.System, envelope.EventClose, "", line(text(t, "reason"))
		case 3:
			e.Attachments = []envelope.Attachment{
				{Name: "final report.pdf", MediaType: "application/pdf", SHA256: strings.Repeat("a", 64)}, {Name: "Report", SHA256: strings.Repeat("b", 64)},
			}
		case 4:
			e.Timestamp = c.time // the same as of the line before
		case 5:
			e.ID = "01890000-0000-7000-8000-000000000001"
		case 6:
			e.To = []string{rapid.SampledFrom([]string{"nova", "Nova@lon", "Sage@nyc"}).Draw(t, "to")}
		case 7:
			c.raw(id, rapid.SampledFrom([]string{"noise parser\n", "\x00\x00\n", `{"from":"Nova","content":"parser"}` + "\n", `{"seq":1,"content":"limit"}` + "\n", "[]\n", "\n"}).Draw(t, "noise"))
			continue
		case 8:
			c.seqs[id]++
			c.raw(id, fmt.Sprintf(`{"seq":%d,"odd":"parser"}`+"\n", c.seqs[id]))
			continue
		}
		c.add(id, e)
	}
	return ids
}

// same holds what the index finds, page by page, against what the logs say.
func same(t *rapid.T, c *corpus, x index, ask string) {
	q, err := search.Parse(api.Search{Query: ask}, now)
	if err != nil {
		if refused := new(api.Error); !errors.As(err, &refused) || refused.Code != api.BadRequest {
			t.Fatalf("parse %q: got %v, want none or a bad request", ask, err)
		}
		return
	}
	reader := envelope.Address{}
	if who := rapid.SampledFrom(append([]string{""}, people...)).Draw(t, "reader"); who != "" {
		reader = address(who)
	}
	ref := func(id string) string { return "c" + id[len(id)-8:] }
	want, err := search.Scan(context.Background(), c.home, q, reader, 500, ref)
	if err != nil {
		t.Fatal(err)
	}
	limit := rapid.IntRange(1, 7).Draw(t, "limit")
	got := []api.Hit{}
	for next, more := "", true; more; more = next != "" {
		page, err := x.Find(context.Background(), q, reader, limit, next)
		if err != nil {
			t.Fatalf("find %q: %v", ask, err)
		}
		if page.Behind != (api.Lag{}) || len(page.Hits) > limit || page.Next != "" && page.More == 0 {
			t.Fatalf("find %q: got %d hits with %+v", ask, len(page.Hits), page)
		}
		got, next = append(got, page.Hits...), page.Next
	}
	sortEqual(got)
	sortEqual(want.Hits)
	if diff := cmp.Diff(want.Hits, got); diff != "" {
		t.Fatalf("find %q as %q: the index (+) differs from the logs (-):\n%s", ask, reader, diff)
	}
}

// talk is who has written to whom, as the logs say.
func talk(t *rapid.T, c *corpus, ids []string) map[string]api.Pair {
	all := make(map[string]api.Pair)
	for _, id := range ids {
		log, err := convlog.OpenReader(c.home.LogPath(id))
		if err != nil {
			t.Fatal(err)
		}
		var state conv.State
		for scan := log.Scan(convlog.Pos{}); scan.Next(); {
			e, err := envelope.Decode(slices.Clone(scan.Line().Bytes))
			if scan.Line().Noise() || err != nil {
				continue
			}
			state = state.Apply(e)
			if e.Validate() != nil || e.Type != envelope.Message {
				continue
			}
			for _, to := range state.Present() {
				if to.Same(e.From) || len(e.To) > 0 && !strings.EqualFold(e.To[0], to.Name) && !strings.EqualFold(e.To[0], to.String()) {
					continue
				}
				key := e.From.Key() + " " + to.Key()
				all[key] = api.Pair{From: e.From.String(), To: to.String(), Count: all[key].Count + 1, Last: max(all[key].Last, e.Timestamp)}
			}
		}
		_ = log.Close()
	}
	return all
}

// sameTalk holds who has written to whom as the index counts it against what the logs say.
func sameTalk(t *rapid.T, c *corpus, x index, ids []string) {
	got, err := x.Talk(context.Background(), time.UnixMilli(0), envelope.Address{})
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]api.Pair)
	for _, p := range got.Pairs {
		all[strings.ToLower(p.From+" "+p.To)] = p
	}
	if diff := cmp.Diff(talk(t, c, ids), all); diff != "" {
		t.Fatalf("talk: the index (+) differs from the logs (-):\n%s", diff)
	}
}

// sortEqual gives lines of one time that stand beside each other an order.
func sortEqual(hits []api.Hit) {
	for i := 0; i < len(hits); {
		j := i
		for j < len(hits) && hits[j].Timestamp == hits[i].Timestamp {
			j++
		}
		slices.SortFunc(hits[i:j], func(a, b api.Hit) int { return strings.Compare(a.Ref, b.Ref) })
		i = j
	}
}

// TestIndexIsTheLogs: whatever stands in the logs and whatever becomes of the index, it
// finds what reading the logs finds.
func TestIndexIsTheLogs(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			r.Fatal(err)
		}
		c := newCorpus(r, dir+"/home")
		ids := grow(r, c, []string{c.create("Review of the parser", false, people...)})
		x := c.run()
		defer func() { x.stop() }()
		for range rapid.IntRange(1, 4).Draw(r, "rounds") {
			for range 3 {
				same(r, c, x, query(r, ids))
			}
			sameTalk(r, c, x, ids)
			switch rapid.IntRange(0, 7).Draw(r, "then") {
			case 0: // stopped, while the logs grow
				x.stop()
				ids = grow(r, c, ids)
				x = c.run()
			case 1: // and its file is deleted
				x.stop()
				_ = os.Remove(dbPath(c.home))
				x = c.run()
			case 2: // or damaged
				x.stop()
				damage(r, dbPath(c.home))
				x = c.run()
			case 3: // a log is replaced
				id := rapid.SampledFrom(ids).Draw(r, "replaced")
				cut(r, c, id)
				x.Committed(id, 1)
				x.settle(r)
			case 4: // or goes
				if id := rapid.SampledFrom(ids).Draw(r, "gone"); len(ids) > 1 {
					_ = os.Remove(c.home.LogPath(id))
					ids = slices.DeleteFunc(ids, func(other string) bool { return other == id })
					x.Committed(id, 1)
					x.settle(r)
				}
			default:
				ids = grow(r, c, ids)
				for _, id := range ids {
					x.Committed(id, 1)
				}
				x.settle(r)
			}
		}
		same(r, c, x, query(r, ids))
		sameTalk(r, c, x, ids)
	})
}

// damage writes something else over a part of a file.
func damage(t *rapid.T, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := rapid.IntRange(0, len(data)-1).Draw(t, "damaged at")
	copy(data[at:], rapid.SliceOfN(rapid.Byte(), 1, 5000).Draw(t, "damage"))
	if err := os.WriteFile(path, data[:rapid.IntRange(at, len(data)).Draw(t, "cut at")], 0o600); err != nil {
		t.Fatal(err)
	}
}

// cut replaces a log by its first line and others behind it.
func cut(t *rapid.T, c *corpus, id string) {
	data, err := os.ReadFile(c.home.LogPath(id))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(data), "\n")
	if err := os.WriteFile(c.home.LogPath(id)+".tmp", []byte(first+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(c.home.LogPath(id)+".tmp", c.home.LogPath(id)); err != nil {
		t.Fatal(err)
	}
	c.seqs[id] = 1
	for range rapid.IntRange(0, 3).Draw(t, "lines instead") {
		c.say(id, "Nova@nyc", text(t, "instead"))
	}
}

package httpd_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestConversationsOfTheHost come a page at a time, the one that has changed last first. One
// page is bounded work, however little of what there is fits.
func TestConversationsOfTheHost(t *testing.T) {
	h := newHost(t, "Atlas", "Nova")
	var ids []string
	for _, topic := range []string{"a", "b", "c", "d", "e"} {
		ids = append(ids, h.create("Atlas", topic, "Nova"))
	}
	h.send("Atlas", ids[0], "again")
	want := []string{ids[0], ids[4], ids[3], ids[2], ids[1]}
	for i, id := range slices.Backward(want) { // several changes may have one time
		at := time.Now().Add(-time.Duration(i) * time.Second)
		if err := os.Chtimes(h.Home().LogPath(id), at, at); err != nil {
			t.Fatal(err)
		}
	}
	page := func(query string) api.Conversations {
		t.Helper()
		return get[api.Conversations](h, "GET /v1/conversations?"+query, "")
	}
	idsOf := func(c api.Conversations) (list []string) {
		for _, one := range c.Conversations {
			list = append(list, one.ID)
		}
		return list
	}
	first := page("limit=2")
	second := page("limit=2&cursor=" + first.Next)
	third := page("limit=2&cursor=" + second.Next)
	if got := slices.Concat(idsOf(first), idsOf(second), idsOf(third)); !slices.Equal(got, want) || first.More != 3 || third.More != 0 || third.Next != "" {
		t.Errorf("got %q, %d more at first, %d at the end, want %q in three pages", got, first.More, third.More, want)
	}
	if got := page("status=closed"); len(got.Conversations) != 0 || got.Next != "" {
		t.Errorf("closed: got %+v, want none", got)
	}
	if testing.Short() {
		return
	}
	h.Stop()
	later := time.Now().Add(time.Minute)
	for range 2500 {
		path := h.Home().LogPath(envelope.NewID())
		if err := os.WriteFile(path, []byte("{\"seq\":7}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, later, later); err != nil {
			t.Fatal(err)
		}
	}
	h.Start()
	none := page("status=active")
	if len(none.Conversations) != 0 || none.More != 505 || none.Next == "" {
		t.Fatalf("got %d, %d more, want an empty page that goes on behind 2000 looks", len(none.Conversations), none.More)
	}
	if got := idsOf(page("status=active&cursor=" + none.Next)); !slices.Equal(got, want) {
		t.Errorf("behind it: got %q, want %q", got, want)
	}
}

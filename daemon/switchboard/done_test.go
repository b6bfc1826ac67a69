package switchboard_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
)

// TestDoneRecordsAreBounded, by age and by number.
func TestDoneRecordsAreBounded(t *testing.T) {
	scene(t, []string{"Atlas", "Nova"}, func(t *testing.T, x *exchange) {
		x.come("Atlas", "Nova")
		reject := func() string {
			id := x.call(t, "Atlas", "hello", "Nova")
			x.must(t, "Nova", &draft{Type: envelope.Reject, Request: id})
			x.must(t, "Atlas", &draft{Type: envelope.Cancel, Request: id})
			if !slices.Contains(x.records(t, "done"), id) {
				t.Fatalf("%s: want it put away", id)
			}
			return id
		}
		old, young := reject(), reject()
		path := func(id string) string { return filepath.Join(x.home.DoneRequestsDir(), id+".json") }
		age := func(id string, age time.Duration) {
			at := time.Now().Add(-age)
			if err := os.Chtimes(path(id), at, at); err != nil {
				t.Fatal(err)
			}
		}
		x.restart(t, func() {
			age(old, 91*24*time.Hour)
			age(young, 89*24*time.Hour)
		})
		var refusal *api.Error
		if _, err := x.board.Get(old); !errors.As(err, &refusal) || refusal.Code != api.RequestNotFound {
			t.Errorf("the old one: got %v, want that it is gone", err)
		}
		if got := x.records(t, "done"); !slices.Equal(got, []string{young}) || len(x.board.Refs().Resolve(old)) > 0 {
			t.Errorf("done: got %q, want %s, and no reference to the other", got, young)
		}
		pass(2 * 24 * time.Hour)
		x.come("Atlas", "Nova")
		last := reject()
		if got := x.records(t, "done"); !slices.Equal(got, []string{last}) {
			t.Errorf("done: got %q, want %s alone: the other one is old by now", got, last)
		}

		if list, more := x.board.Past(t.Context(), x.home.Address("Nova"), 5); len(list) != 1 || list[0].ID != last || more != 0 {
			t.Errorf("calls of the past: got %v, and %d more, want %s alone", list, more, last)
		}
		if list, _ := x.board.Past(t.Context(), x.home.Address("Vega"), 5); len(list) != 0 {
			t.Errorf("calls of somebody else: got %v, want none", list)
		}

		if testing.Short() {
			return
		}
		const most = 10_000
		x.restart(t, func() {
			age(last, -time.Second)
			for range most {
				id := envelope.NewID()
				if err := os.WriteFile(path(id), []byte(`{"id":"`+id+`"}`), 0o600); err != nil {
					t.Fatal(err)
				}
				age(id, time.Hour)
			}
		})
		x.come("Atlas", "Nova")
		next := reject()
		if list, more := x.board.Past(t.Context(), x.home.Address("Atlas"), 5); len(list) != 2 || more != most-1000 {
			t.Errorf("calls of the past: got %v, and %d more, want %s and %s, and %d not looked at", list, more, last, next, most-1000)
		}
		got := x.records(t, "done")
		if len(got) != most || !slices.Contains(got, last) || !slices.Contains(got, next) {
			t.Errorf("done: got %d with last %v and next %v, want the newest %d", len(got), slices.Contains(got, last), slices.Contains(got, next), most)
		}
	})
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir"
	"github.com/claude-duo/duo/maildir/envelope"
)

// badDisk stands for a daemon whose disk fails so many times before it stores a draft.
type badDisk struct {
	failures int
	ids      []string // of the drafts that came
}

func (d *badDisk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var draft struct{ ID string }
	_ = json.NewDecoder(r.Body).Decode(&draft) // else the id is missing
	d.ids = append(d.ids, draft.ID)
	var answer any = api.Posted{Message: api.Message{Envelope: &envelope.Envelope{ID: draft.ID, Seq: 7}}}
	if len(d.ids) <= d.failures {
		e := api.Errorf(api.StorageFailed, "it is not known whether this is stored; the same again, with the same id, does no harm: log failed: no space left on device")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(e.Status())
		answer = e.Problem()
	}
	_ = json.NewEncoder(w).Encode(answer) // the command has gone otherwise
}

func (d *badDisk) serve(t *testing.T, home *maildir.Home) {
	t.Helper()
	listener, err := net.Listen("unix", home.SocketPath())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: d}
	ended := make(chan error)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

const tries = 4 // before a draft is given up

// TestPostInsists: while the disk fails, the same draft is posted again, and not for ever.
func TestPostInsists(t *testing.T) {
	for _, failures := range []int{2, 99} {
		home := newHome(t, "Atlas", "Nova")
		disk := &badDisk{failures: failures}
		disk.serve(t, home)
		a, _ := newRun(t, map[string]string{"DUO_AS": "Atlas", "DUO_AUTOSTART": "0"})
		draft, err := a.draft(envelope.Message, "")
		if err != nil {
			t.Fatal(err)
		}
		draft.Content, draft.Conversation = "a text", "c1234"
		posted, err := a.post(context.Background(), draft)
		var failed *api.Error
		switch {
		case failures < tries && (err != nil || posted.Message.Envelope.Seq != 7):
			t.Errorf("%d failures: got %+v, %v, want it posted", failures, posted, err)
		case failures >= tries && (!errors.As(err, &failed) || failed.Code != api.StorageFailed):
			t.Errorf("%d failures: got %v, want %s", failures, err, api.StorageFailed)
		}
		if want := slices.Repeat([]string{draft.ID}, min(failures+1, tries)); !slices.Equal(disk.ids, want) {
			t.Errorf("%d failures: got drafts %q, want %q", failures, disk.ids, want)
		}
	}
}

// TestUnknown: another run is harmless with a key only.
func TestUnknown(t *testing.T) {
	for _, test := range []struct {
		key, conversation, want, next string
	}{
		{"", "", "look before you run it again", "duo list"},
		{"", "c1234", "look before you run it again", "duo log c1234"},
		{"k", "c1234", "with the same key it does no harm to run it again", `duo message Nova "a text" --key k`},
	} {
		home := newHome(t, "Atlas", "Nova")
		(&badDisk{failures: 99}).serve(t, home)
		a, _ := newRun(t, map[string]string{"DUO_AS": "Atlas", "DUO_AUTOSTART": "0"})
		a.args = []string{"message", "Nova", "a text", "--key", "k"}
		draft, err := a.draft(envelope.Message, test.key)
		if err != nil {
			t.Fatal(err)
		}
		draft.Content, draft.Conversation, draft.To = "a text", test.conversation, []string{"Nova"}
		_, err = a.post(t.Context(), draft)
		e := asError(err)
		want := "the disk failed 4 times, and it is not known whether this is stored; " + test.want + ": log failed: no space left on device"
		if e == nil || e.Message != want || e.Code != api.StorageFailed || e.Next != test.next {
			t.Errorf("got %+v, want %q and %q", e, want, test.next)
		}
	}
}

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
		case failures < maxTries && (err != nil || posted.Message.Envelope.Seq != 7):
			t.Errorf("%d failures: got %+v, %v, want it posted", failures, posted, err)
		case failures >= maxTries && (!errors.As(err, &failed) || failed.Code != api.StorageFailed):
			t.Errorf("%d failures: got %v, want %s", failures, err, api.StorageFailed)
		}
		if want := slices.Repeat([]string{draft.ID}, min(failures+1, maxTries)); !slices.Equal(disk.ids, want) {
			t.Errorf("%d failures: got drafts %q, want %q", failures, disk.ids, want)
		}
	}
}

// TestUnknown: another run is harmless with a key only.
func TestUnknown(t *testing.T) {
	a, _ := newRun(t, nil)
	a.args = []string{"message", "Nova", "a text", "--key", "k"}
	failed := api.Errorf(api.StorageFailed, "it is not known whether this is stored; the same again, with the same id, does no harm: log failed: no space left on device")
	for _, test := range []struct {
		id, conversation, want, next string
	}{
		{envelope.NewID(), "", "look before you run it again: log failed: no space left on device", "duo list"},
		{envelope.NewID(), "c1234", "look before you run it again: log failed: no space left on device", "duo log c1234"},
		{envelope.NamedID("k"), "c1234", "with the same key it does no harm to run it again: log failed: no space left on device", `duo message Nova "a text" --key k`},
	} {
		e := asError(a.unknown(&envelope.Envelope{ID: test.id, Conversation: test.conversation}, failed))
		if want := "the disk failed 4 times, and it is not known whether this is stored; " + test.want; e.Message != want || e.Code != api.StorageFailed || e.Next != test.next {
			t.Errorf("got %+v, want %q and %q", e, want, test.next)
		}
	}
}

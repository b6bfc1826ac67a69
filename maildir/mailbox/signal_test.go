package mailbox_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/claude-duo/duo/maildir/mailbox"
)

const request = "0199c0de-0000-7000-8000-0000000077b2"

func signalNames(t *testing.T, b *mailbox.Box) (names []string) {
	t.Helper()
	signals, err := b.Signals()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range signals {
		names = append(names, s.Name)
	}
	return names
}

// TestSignal follows one call through the inbox of the callee.
func TestSignal(t *testing.T) {
	b := newBox(t)
	s := mailbox.SignalOf(request, 1739654400000)
	const name = "1739654400000.call." + request + ".json"
	if got, ok := mailbox.ParseSignal(name); !ok || got != s || s.Name != name {
		t.Fatalf("ParseSignal(%q): got %+v %v, want %+v", name, got, ok, s)
	}
	put := func(line string, waits, want bool) {
		t.Helper()
		if seen, err := b.PutSignal(s, []byte(line), waits); seen != want || err != nil {
			t.Errorf("PutSignal %q: got seen %v, %v, want %v", line, seen, err, want)
		}
	}
	want := func(what, folder, line string) {
		t.Helper()
		for _, f := range []string{mailbox.InboxNew, mailbox.InboxCur} {
			data, err := os.ReadFile(filepath.Join(b.Dir(), f, name))
			switch {
			case f == folder && string(data) != line+"\n":
				t.Errorf("%s: %s has %q, %v, want %q", what, f, data, err, line)
			case f != folder && !os.IsNotExist(err):
				t.Errorf("%s: %s has %q, %v, want nothing", what, f, data, err)
			}
		}
	}
	put("ringing", true, false)
	put("ringing", true, false)
	want("rings", mailbox.InboxNew, "ringing")
	if got := signalNames(t, b); !slices.Equal(got, []string{name}) {
		t.Errorf("Signals: got %q", got)
	}
	if items, err := b.Unseen(); len(items) != 0 || err != nil {
		t.Errorf("a signal is listed with the messages: %v, %v", items, err)
	}
	if ok, err := b.MarkSeen(name); !ok || err != nil {
		t.Fatalf("MarkSeen: %v, %v", ok, err)
	}
	put("ringing", true, true)
	want("seen, and said again after a restart", mailbox.InboxCur, "ringing")
	put("missed", true, false)
	want("missed", mailbox.InboxNew, "missed")
	put("accepted", false, false)
	want("answered", mailbox.InboxCur, "accepted")
	put("accepted", false, true)
	want("said again after a restart", mailbox.InboxCur, "accepted")
	if err := b.KeepSignal(s); err != nil {
		t.Errorf("KeepSignal of one that was seen: %v", err)
	}
	put("rings again", true, false)
	if err := b.KeepSignal(s); err != nil {
		t.Errorf("KeepSignal: %v", err)
	}
	put("answered", false, false)
	if got := signalNames(t, b); len(got) != 0 {
		t.Errorf("Signals after the answer: got %q", got)
	}
}

func TestParseSignalRefuses(t *testing.T) {
	for _, name := range []string{
		"", "call." + request + ".json", "1.call." + request + ".json", "1739654400000.call.x.json",
		"1739654400000.call." + request, "-739654400000.call." + request + ".json",
		"1739654400000." + request + ".1.json", "1739654400000.call.0199C0DE-0000-7000-8000-0000000077B2.json",
	} {
		if s, ok := mailbox.ParseSignal(name); ok {
			t.Errorf("%q: got %+v", name, s)
		}
	}
}

// TestTidySignals: of what was seen the newest stay, and all that waits does.
func TestTidySignals(t *testing.T) {
	b := newBox(t)
	for placed := range int64(4) {
		s := mailbox.SignalOf(request, placed)
		if _, err := b.PutSignal(s, []byte("{}"), placed == 0); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time there is nothing to do
		if err := b.TidySignals(2); err != nil {
			t.Fatal(err)
		}
	}
	all, err := b.AllSignals()
	var times []int64
	for _, s := range all {
		times = append(times, s.Time)
	}
	if want := []int64{0, 2, 3}; err != nil || !slices.Equal(times, want) {
		t.Errorf("left are those of %v, %v; want %v", times, err, want)
	}
}

// TestSignalIsReadWhileItChanges: whoever reads finds one of the things that are said.
func TestSignalIsReadWhileItChanges(t *testing.T) {
	b := newBox(t)
	s := mailbox.SignalOf(request, 1739654400000)
	put := func(n int) {
		line := fmt.Sprintf(`{"type":"call","request":"%s","ringUntil":%d}`, request, n+1)
		if _, err := b.PutSignal(s, []byte(line), n%3 > 0); err != nil {
			t.Error(err)
		}
	}
	put(1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range 1000 {
			put(n)
		}
	}()
	for reads := 0; ; reads++ {
		if _, err := b.ReadItem(s.Name); err != nil {
			t.Errorf("read %d: %v", reads, err)
			break
		}
		select {
		case <-done:
			return
		default:
		}
	}
	<-done
}

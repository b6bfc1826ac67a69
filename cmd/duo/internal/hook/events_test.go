package hook_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/cmd/duo/internal/hook"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what the hooks print into testdata")

// TestEvents plays a session of each client: what it says at an event is in
// testdata/CLIENT/EVENT.json, and what the hook is to print in EVENT.out.
func TestEvents(t *testing.T) {
	for _, client := range hook.Clients() {
		for _, event := range hook.Events(client) {
			if event == "wake" {
				continue // it waits
			}
			t.Run(client+"/"+event, func(t *testing.T) {
				s := newScene(t)
				s.allow("Nova@nyc")
				if event != "session-start" {
					s.run(client, "session-start", read(t, client, "session-start.json"))
				}
				s.call(0xa1, "Sage@lon", "Can we talk about <auth>?", "ringing")
				plan := s.converse(0xc1, "The plan", "Nova@nyc", "Sage@lon")
				s.say(plan, "Nova@nyc", "It is done.\n\nSee \"main.go\".")
				s.say(plan, "Sage@lon", "Not before tomorrow.")
				s.deliver(plan, envelope.Envelope{Type: envelope.Join, From: address("Echo@nyc")})
				s.later(time.Minute)
				out, stderr, exit := s.run(client, event, read(t, client, event+".json"))
				if stderr != "" || exit != 0 {
					t.Errorf("got %q and exit code %d, want nothing and 0", stderr, exit)
				}
				golden(t, filepath.Join("testdata", client, event+".out"), out)
				if again, _, _ := s.run(client, event, read(t, client, event+".json")); event != "session-start" && again != "" {
					t.Errorf("again: got %q, want nothing: it was told", again)
				}
			})
		}
	}
}

func read(t *testing.T, client, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", client, name))
	must(t, err)
	return string(data)
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// contextOf is the text that Claude Code is to give to the model.
func contextOf(t testing.TB, out string) string {
	t.Helper()
	var o struct {
		HookSpecificOutput struct {
			HookEventName, AdditionalContext string
		}
	}
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil || d.More() {
		t.Fatalf("got %q, %v, want one JSON object", out, err)
	}
	return o.HookSpecificOutput.AdditionalContext
}

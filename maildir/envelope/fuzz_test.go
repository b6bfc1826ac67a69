package envelope_test

import (
	"encoding/json"
	"testing"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/go-cmp/cmp"
)

func FuzzDecode(f *testing.F) {
	for _, folder := range []string{"good", "bad"} {
		for _, data := range vectors(f, folder) {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := envelope.Decode(data)
		if err != nil {
			return
		}
		wantSameContent(t, data, e)
		_ = e.Check(envelope.MaxContent)
		_ = e.Validate()
		line := e.Append(nil)
		if len(line) > envelope.MaxLine {
			return
		}
		again, err := envelope.Decode(line)
		if err != nil {
			t.Fatalf("Decode what was written (%s): got %v, want no error", line, err)
		}
		if diff := cmp.Diff(e, again); diff != "" {
			t.Fatalf("written and read back (-want +got):\n%s", diff)
		}
	})
}

// wantSameContent compares e with what encoding/json, an independent reader, makes
// of the same bytes.
func wantSameContent(t *testing.T, data []byte, e *envelope.Envelope) {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		t.Fatalf("encoding/json: got %v, want no error where Decode has none", err)
	}
	raw, ok := members["content"]
	if !ok {
		raw = []byte(`""`)
	}
	var want string
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatalf("encoding/json: got %v for the content %s, want a text", err, raw)
	}
	if e.Content != want {
		t.Fatalf("content: got %q, encoding/json has %q", e.Content, want)
	}
}

package envelope_test

import (
	"strings"
	"testing"
	"time"

	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/google/uuid"
)

// The golden values were computed by another program. They must never change: ids
// of older drops and conversations would no longer be recognised.
func TestIDsMadeFromNamesAreStable(t *testing.T) {
	for _, test := range []struct{ name, got, want string }{
		{"a drop", envelope.NamedID("Atlas", "hello.json", "1", "2"), "ff5f9248-7866-81be-ab0b-0869042bed1d"},
		{"no parts", envelope.NamedID(), "58e87f6a-7130-8edb-8273-1568ccfc6f90"},
		{"two parts", envelope.NamedID("a", "b"), "ab7094df-5b03-8b26-b31d-4a1fb9b27ec7"},
		{"one part", envelope.NamedID("ab"), "31716a97-ecb0-8d94-a6a0-03481edea6c0"},
		{"a conversation", envelope.ConversationID("host-1", messageID), "461a2796-16c1-8156-973e-aabb5369c272"},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, test.got, test.want)
		}
		if u := uuid.MustParse(test.got); u.Version() != 8 || u.Variant() != uuid.RFC4122 {
			t.Errorf("%s: got version %d and variant %s, want 8 and RFC4122", test.name, u.Version(), u.Variant())
		}
	}
}

func TestNewID(t *testing.T) {
	before := time.Now().Truncate(time.Millisecond)
	a, b := envelope.NewID(), envelope.NewID()
	if a >= b {
		t.Errorf("two ids: got %s, then %s, want the later one to be greater", a, b)
	}
	made, ok := envelope.MadeAt(a)
	if !ok || made.Before(before) || made.After(time.Now()) {
		t.Errorf("MadeAt(%s): got %s, %v, want now", a, made, ok)
	}
}

func TestMadeAt(t *testing.T) {
	// The example of RFC 9562.
	made, ok := envelope.MadeAt("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
	if want := time.UnixMilli(1645557742000); !ok || !made.Equal(want) {
		t.Errorf("version 7: got %s, %v, want %s", made, ok, want)
	}
	for _, id := range []string{conversation, envelope.NamedID("a"), uuid.NewString(), "", "hello"} {
		if made, ok := envelope.MadeAt(id); ok {
			t.Errorf("MadeAt(%q): got %s, want none", id, made)
		}
	}
}

func TestParseID(t *testing.T) {
	got, err := envelope.ParseID(strings.ToUpper(messageID))
	if err != nil || got != messageID {
		t.Errorf("upper case: got %s, %v, want %s", got, err, messageID)
	}
	for _, id := range []string{"", "{" + messageID + "}", "urn:uuid:" + messageID, strings.ReplaceAll(messageID, "-", ""), messageID + " ", " " + messageID[1:], strings.Repeat("é", 18)} {
		if got, err := envelope.ParseID(id); err == nil {
			t.Errorf("ParseID(%q): got %s, want an error", id, got)
		}
	}
}

package envelope_test

import (
	"strings"
	"testing"

	"github.com/claude-duo/duo/maildir/envelope"
)

func TestParseAddress(t *testing.T) {
	for _, test := range []struct{ text, name, host string }{
		{"Atlas", "Atlas", ""},
		{"Atlas@nyc", "Atlas", "nyc"},
		{"a", "a", ""},
		{"a@b", "a", "b"},
		{"A_b-9@home-2", "A_b-9", "home-2"},
		{"a@1", "a", "1"},
		{"x-@y", "x-", "y"},
		{strings.Repeat("a", 32) + "@" + strings.Repeat("b", 63), strings.Repeat("a", 32), strings.Repeat("b", 63)},
	} {
		got, err := envelope.ParseAddress(test.text)
		if want := (envelope.Address{Name: test.name, Host: test.host}); err != nil || got != want {
			t.Errorf("ParseAddress(%q): got %+v, %v, want %+v", test.text, got, err, want)
		}
		if got.String() != test.text {
			t.Errorf("String: got %q, want %q", got, test.text)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for _, text := range []string{
		"", "@", "@nyc", "Atlas@", "a@b@c", "1a", "-a", "_a", "a b", " a", "a ", "a\n", "a\x00", "ä", "a.b", "a/b", "..",
		"a@-b", "a@b-", "a@-", "a@B", "a@b.c", "a@b_c", "a@ b", "a@ü", "\xff",
		strings.Repeat("a", 33), "a@" + strings.Repeat("b", 64),
	} {
		if got, err := envelope.ParseAddress(text); err == nil {
			t.Errorf("ParseAddress(%q): got %+v, want an error", text, got)
		}
	}
}

func TestAddressesAreTheSameWithoutRegardToCase(t *testing.T) {
	for _, test := range []struct {
		a, b envelope.Address
		want bool
	}{
		{envelope.Address{Name: "Atlas", Host: "nyc"}, envelope.Address{Name: "ATLAS", Host: "nyc"}, true},
		{envelope.Address{Name: "Atlas", Host: "nyc"}, envelope.Address{Name: "Atlas", Host: "home"}, false},
		{envelope.Address{Name: "Atlas", Host: "nyc"}, envelope.Address{Name: "Nova", Host: "nyc"}, false},
		{envelope.Address{Name: "Atlas"}, envelope.Address{Name: "atlas"}, true},
		{envelope.Address{Name: "Atlas"}, envelope.Address{Name: "Atlas", Host: "nyc"}, false},
		{envelope.Address{}, envelope.Address{}, true},
	} {
		if got := test.a.Same(test.b); got != test.want {
			t.Errorf("(%q).Same(%q): got %v, want %v", test.a, test.b, got, test.want)
		}
		if got := test.a.Key() == test.b.Key(); got != test.want {
			t.Errorf("keys %q and %q are equal: got %v, want %v", test.a.Key(), test.b.Key(), got, test.want)
		}
	}
}

func TestAddressIsZero(t *testing.T) {
	if !(envelope.Address{}).IsZero() || (envelope.Address{Name: "a"}).IsZero() || (envelope.Address{Host: "b"}).IsZero() {
		t.Error("IsZero: want true for the empty address alone")
	}
	if !(envelope.Ref{}).IsZero() || (envelope.Ref{Seq: 1}).IsZero() || (envelope.Ref{ID: "x"}).IsZero() {
		t.Error("IsZero: want true for the empty reference alone")
	}
}

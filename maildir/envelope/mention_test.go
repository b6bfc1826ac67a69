package envelope_test

import (
	"testing"

	"github.com/claude-duo/duo/maildir/envelope"
)

func TestIsMentioned(t *testing.T) {
	nova := envelope.Address{Name: "Nova", Host: "nyc"}
	for text, want := range map[string]bool{
		"@Nova":                        true,
		"hey @nova, look":              true,
		"(@NOVA)":                      true,
		"@Nova@nyc?":                   true,
		"@Nova@NYC":                    true,
		"@Nova@lon":                    false,
		"@Nova@lon or rather @Nova":    true,
		"@Novara":                      false,
		"@Nova-2":                      false,
		"x@Nova":                       false,
		"mail me at sage@nova.example": false,
		"Nova":                         false,
		"@":                            false,
		"@@Nova":                       true,
		"":                             false,
		"ünï@Nova":                     true,
	} {
		if got := nova.IsMentioned(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestIsCalled(t *testing.T) {
	nova := envelope.Address{Name: "Nova", Host: "nyc"}
	for text, want := range map[string]bool{
		"Nova": true, "nova": true, "NOVA@nyc": true, "Nova@lon": false, "Novara": false, "@Nova": false, "": false,
	} {
		if got := nova.IsCalled(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

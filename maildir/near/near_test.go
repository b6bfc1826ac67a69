package near_test

import (
	"slices"
	"testing"

	"github.com/claude-duo/duo/maildir/near"
)

func TestNames(t *testing.T) {
	all := []string{"Atlas", "Nova", "Novak", "Sage", "Rune", "Pascal"}
	commands := []string{"message", "send", "reply", "read", "receipts", "register", "who", "whoami"}
	for _, test := range []struct {
		text  string
		names []string
		want  []string
	}{
		{"Nowa", all, []string{"Nova"}},
		{"nova", all, []string{"Nova", "Novak"}}, // itself, where it is asked for in another spelling
		{"Nov", all, []string{"Nova", "Novak"}},
		{"Atals", all, []string{"Atlas"}}, // two letters swapped are one mistake
		{"Talsa", all, nil},
		{"Atla", all, []string{"Atlas"}},
		{"Atlass", all, []string{"Atlas"}},
		{"AtlasTheGreat", all, []string{"Atlas"}},
		{"Pasqual", all, []string{"Pascal"}},
		{"x", all, nil},
		{"s", all, []string{"Sage"}},
		{"zzzzzz", all, nil},
		{"ann", []string{"anna", "annb", "annc", "annd"}, []string{"anna", "annb", "annc"}},
		{"anx", []string{"any", "ann", "anxiety"}, []string{"any", "ann", "anxiety"}},
		{"abc", nil, nil},
		{"", all, nil},
		{"mesage", commands, []string{"message"}},
		{"sned", commands, []string{"send"}},
		{"whomai", commands, []string{"whoami", "who"}},
		{"who", commands, []string{"who", "whoami"}},
	} {
		if got := near.Names(test.text, test.names); !slices.Equal(got, test.want) {
			t.Errorf("Names(%q): got %q, want %q", test.text, got, test.want)
		}
	}
}

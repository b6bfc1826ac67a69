package web_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestVendoredLibraries holds the libraries of the page to what "make web-vendor" has
// made, and to the page's policy, under which no script makes code of text.
func TestVendoredLibraries(t *testing.T) {
	source, err := os.ReadFile("static/vendor/preact.js")
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := os.ReadFile("../../.ci/web/preact.js.sha256")
	if err != nil {
		t.Fatal(err)
	}
	want, _, _ := strings.Cut(string(recorded), " ")
	if sum := sha256.Sum256(source); hex.EncodeToString(sum[:]) != want {
		t.Errorf("got preact.js with the sum %x, want %s as .ci/web/preact.js.sha256 has it: make web-vendor writes both", sum, want)
	}
	if made := makesCode.Find(source); made != nil {
		t.Errorf("preact.js makes code of text: %s", made)
	}
	for _, library := range []string{"preact 11.", "@preact/signals 2.", "htm 3."} {
		if !strings.Contains(string(source), "\n * "+library) {
			t.Errorf("preact.js does not say that it holds %s and under which licence", library)
		}
	}
}

var makesCode = regexp.MustCompile(`\beval\s*\(|\bnew\s+Function\b|\bFunction\s*\(`)

func TestMakesCodeCanFail(t *testing.T) {
	for _, source := range []string{`eval("1")`, `new Function("a")`, `var f=Function("a")`} {
		if !makesCode.MatchString(source) {
			t.Errorf("%s passes", source)
		}
	}
}

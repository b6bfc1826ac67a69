package web

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// TestFiles: what the page is made of fits its own policy: no script, style or handler
// stands in the document itself, and nothing points to another address.
func TestFiles(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	document := string(p.files[index].data)
	for _, bad := range []string{"<style", " style=", " onclick=", " onload=", "javascript:", "http://", "https://", "<script>"} {
		if strings.Contains(document, bad) {
			t.Errorf("%s: got %q in it, want nothing that the policy refuses", index, bad)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for name, root := range map[string]fs.FS{
		"no document": fstest.MapFS{"app.js": {}}, "an unknown kind": fstest.MapFS{index: {}, "app.wasm": {}},
	} {
		if _, err := read(root); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

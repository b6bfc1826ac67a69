package link_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/claude-duo/duo/sync/link"
)

// TestText: a frame that goes another way than by a link is the same there.
func TestText(t *testing.T) {
	f := link.Frame{Type: "submit", Number: 7, Lane: link.Mail, Header: []byte(`{"first":true}`), Lines: lines("one", "two")}
	text, err := f.Text()
	if err != nil || string(text) != "{\"t\":\"submit\",\"first\":true}\none\ntwo" {
		t.Fatalf("got %q, %v", text, err)
	}
	got, err := link.ParseText(text)
	if err != nil || got.Type != "submit" || got.Number != 0 || string(bytes.Join(got.Lines, nil)) != "onetwo" {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, f := range map[string]link.Frame{
		"data":       {Type: "blob", Data: []byte("x")},
		"no type":    {Lines: lines("x")},
		"empty line": {Type: "submit", Lines: lines("")},
	} {
		if text, err := f.Text(); err == nil {
			t.Errorf("%s: got %q", name, text)
		}
	}
	for name, text := range map[string]string{
		"a number":   `{"t":"submit","mail":1}`,
		"too long":   `{"t":"submit"}` + "\n" + strings.Repeat("x", link.MaxFrame),
		"no header":  "x",
		"empty line": `{"t":"submit"}` + "\n",
	} {
		if _, err := link.ParseText([]byte(text)); err == nil {
			t.Errorf("%s: it is read", name)
		}
	}
}

package link

import (
	"bytes"
	"testing"
)

// FuzzDecode reads what anybody may send. What is taken says the same when a frame of
// its parts is read again.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"t":"hello","versions":[1],"host":"x","mail":65536}`, `{"t":"ack","mail":3,"bulk":1}`,
		"{\"t\":\"lines\",\"mail\":7}\n{\"seq\":1}\n{\"seq\":2}", "{\"t\":\"a\"}\n", `{"t":"a","bulk":18446744073709551615}`,
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, message []byte, binary bool) {
		got, err := decode(message, binary)
		if err != nil {
			return
		}
		parts := [][]byte{got.Header}
		if binary {
			parts = append(parts, got.Data)
		}
		if again := bytes.Join(append(parts, got.Lines...), []byte("\n")); !bytes.Equal(again, message) {
			t.Errorf("got %q, want %q", again, message)
		}
		if len(got.Lines) > MaxLines || len(got.Header) > MaxHeader || got.Type == "" {
			t.Errorf("over the limits: %d lines", len(got.Lines))
		}
	})
}

// FuzzEncode sends lines and data, and reads them again.
func FuzzEncode(f *testing.F) {
	f.Add(uint64(0), []byte("a\nb"), false)
	f.Add(uint64(99), []byte{0, '\n'}, true)
	f.Fuzz(func(t *testing.T, number uint64, body []byte, binary bool) {
		for _, header := range []string{"", "{}", `{"a":[1]}`} {
			sent := Frame{Type: "x", Lane: Bulk, Number: number, Header: []byte(header)}
			if binary {
				sent.Data = append([]byte{}, body...)
			} else if len(body) > 0 {
				sent.Lines = bytes.Split(body, []byte("\n"))
			}
			if sent.check() != nil {
				return
			}
			message := sent.encode(nil)
			if len(message) != sent.size() {
				t.Errorf("%q: got size %d, want %d", message, sent.size(), len(message))
			}
			got, err := decode(message, binary)
			if err != nil {
				t.Fatalf("%q: %v", message, err)
			}
			if got.Number != number || got.Type != "x" || !bytes.Equal(got.Data, sent.Data) ||
				!bytes.Equal(bytes.Join(got.Lines, []byte("\n")), bytes.Join(sent.Lines, []byte("\n"))) {
				t.Errorf("got %+v, want %+v", got, sent)
			}
		}
	})
}

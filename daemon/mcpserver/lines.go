package mcpserver

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// lines is what a client says, a message a line, or several in a batch. A line that is no
// message is answered with an error and passed over, where the library would end the
// session, as it would for a batch, or for a space behind a message.
type lines struct {
	in   *bufio.Reader
	from io.Closer
	to   io.Writer
	rest []byte            // of the message that is being read
	next []json.RawMessage // of the same batch
}

func newLines(in io.ReadCloser, out io.Writer) *lines {
	return &lines{in: bufio.NewReaderSize(in, 64<<10), from: in, to: out}
}

// Close implements io.Closer.
func (l *lines) Close() error { return l.from.Close() }

// Read implements io.Reader. It gives no bytes of two messages at once.
func (l *lines) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		if len(l.next) > 0 {
			l.rest, l.next = append(l.next[0], '\n'), l.next[1:]
			break
		}
		line, end := l.line()
		if err := l.take(line); err != nil {
			return 0, err
		}
		if end != nil && len(l.next) == 0 {
			return 0, end
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// line reads a line. One that is too long is cut, and then it is no message.
func (l *lines) line() (line []byte, err error) {
	for {
		part, err := l.in.ReadSlice('\n')
		if len(line) <= maxRequest {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// take takes the messages of a line, or answers it.
func (l *lines) take(line []byte) error {
	messages, refused := messagesOf(line)
	l.next = messages
	if refused == "" {
		return nil
	}
	_, err := io.WriteString(l.to, refused)
	return err
}

// messagesOf are the messages of a line, none for an empty one. Where it is something else
// there is the answer to it.
func messagesOf(line []byte) (messages []json.RawMessage, refused string) {
	switch {
	case len(line) > maxRequest:
		return nil, answer(jsonrpc.CodeInvalidRequest, "the line is too long")
	case len(bytes.TrimSpace(line)) == 0:
		return nil, ""
	case !json.Valid(line):
		return nil, answer(jsonrpc.CodeParseError, "the line is no JSON")
	}
	if json.Unmarshal(line, &messages) != nil {
		messages = []json.RawMessage{bytes.TrimSpace(line)}
	}
	isNone := func(one json.RawMessage) bool { _, err := jsonrpc.DecodeMessage(one); return err != nil }
	if len(messages) == 0 || slices.ContainsFunc(messages, isNone) {
		return nil, answer(jsonrpc.CodeInvalidRequest, "the line is no message of JSON-RPC 2.0")
	}
	return messages, ""
}

func answer(code int64, text string) string {
	return fmt.Sprintf("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":%d,\"message\":%q}}\n", code, text)
}

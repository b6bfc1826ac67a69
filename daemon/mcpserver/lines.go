package mcpserver

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// lines is what a client says, a message a line. A line that is no message is answered
// with an error and passed over, where the library would end the session.
type lines struct {
	in   *bufio.Reader
	from io.Closer
	to   io.Writer
	rest []byte // of the message that is being read
}

func newLines(in io.ReadCloser, out io.Writer) *lines {
	return &lines{in: bufio.NewReaderSize(in, 64<<10), from: in, to: out}
}

// Close implements io.Closer.
func (l *lines) Close() error { return l.from.Close() }

// Read implements io.Reader. It gives no bytes of two messages at once.
func (l *lines) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		line, end := l.next()
		switch refused := refusal(line); {
		case len(bytes.TrimSpace(line)) == 0:
		case refused != "":
			if _, err := io.WriteString(l.to, refused); err != nil {
				return 0, err
			}
		default:
			l.rest = line
		}
		if end != nil && len(l.rest) == 0 {
			return 0, end
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// next reads a line. One that is too long is cut, and then it is no message.
func (l *lines) next() (line []byte, err error) {
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

// refusal is the answer to a line that is no message, and empty for one that is.
func refusal(line []byte) string {
	switch {
	case len(line) > maxRequest:
		return answer(jsonrpc.CodeInvalidRequest, "the line is too long")
	case !json.Valid(line):
		return answer(jsonrpc.CodeParseError, "the line is no JSON")
	case !isMessage(line):
		return answer(jsonrpc.CodeInvalidRequest, "the line is no message of JSON-RPC 2.0")
	}
	return ""
}

func answer(code int64, text string) string {
	return fmt.Sprintf("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":%d,\"message\":%q}}\n", code, text)
}

// isMessage reports whether JSON is a message, or some in a batch.
func isMessage(line []byte) bool {
	var batch []json.RawMessage
	if json.Unmarshal(line, &batch) != nil {
		batch = []json.RawMessage{line}
	}
	for _, one := range batch {
		if _, err := jsonrpc.DecodeMessage(one); err != nil {
			return false
		}
	}
	return len(batch) > 0
}

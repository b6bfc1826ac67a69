package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/claude-duo/duo/maildir/convlog"
	"github.com/claude-duo/duo/maildir/envelope"
)

// Raw is a line that somebody has appended to a log with the shell.
type Raw struct {
	Draft   *envelope.Envelope // with its Raw set to where the line begins
	Problem error              // why it cannot be a message; then the draft has nothing else but perhaps a sender
}

// parseRaw recognises a line of noise that is meant as a message: a JSON object with a
// sender and a text, and no number. One that is not written as it should be is meant
// as one too, and has its Problem.
func parseRaw(line convlog.Line) (Raw, bool) {
	if !bytes.Contains(line.Bytes, []byte(`"from"`)) || !bytes.Contains(line.Bytes, []byte(`"content"`)) {
		return Raw{}, false
	}
	e, err := envelope.Decode(line.Bytes)
	switch {
	case err != nil && meantAsMessage(line.Bytes):
		e = new(envelope.Envelope)
	case err != nil, e.Seq != 0, e.From.IsZero(), e.Content == "":
		return Raw{}, false
	case e.Type != "" && e.Type != envelope.Message:
		err = fmt.Errorf("%w: a line of type %q cannot be appended with the shell; leave a drop", envelope.ErrInvalid, e.Type)
		e = &envelope.Envelope{From: e.From}
	}
	e.Raw = envelope.Int(line.Offset)
	return Raw{Draft: e, Problem: err}, true
}

// meantAsMessage reports whether a line is a JSON object with a sender and a text that
// somebody may have meant as a message, however badly.
func meantAsMessage(line []byte) bool {
	var fields struct{ From, Content, Seq json.RawMessage }
	if json.Unmarshal(line, &fields) != nil || len(fields.From) == 0 || len(fields.Content) == 0 {
		return false
	}
	_, err := strconv.ParseInt(string(fields.Seq), 10, 64)
	return err != nil
}

package httpd

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/daemon/deliver"
)

// progress is what a client that asks for events was given: of each conversation the
// line up to which, of each call how far it was. Clients carry it as a text between
// their requests, and the daemon keeps nothing for them.
type progress struct {
	lines map[string]int64
	calls map[string]string
	order []string // what was given last stands last
}

const (
	maxProgress = 400 // places in a text: more would not fit into a header
	idBytes     = 16
)

func newProgress() *progress {
	return &progress{lines: make(map[string]int64), calls: make(map[string]string)}
}

// take notes that a line is given, and reports whether that is news.
func (p *progress) take(line deliver.Line) bool {
	id := line.Conversation
	if line.Live {
		id = line.Envelope.Request
		was, ok := p.calls[id]
		p.calls[id] = line.Envelope.Status
		if ok && was == line.Envelope.Status {
			return false
		}
	} else {
		p.lines[id] = line.Envelope.Seq
	}
	p.order = append(slices.DeleteFunc(p.order, func(s string) bool { return s == id }), id)
	return true
}

// String is a text that parseProgress reads: of each place the id, then the seq, or for
// a call its status. Of too many the newest are kept: the others may be given again.
func (p *progress) String() string {
	if len(p.order) == 0 {
		return ""
	}
	var data []byte
	for _, id := range p.order[max(0, len(p.order)-maxProgress):] {
		raw, err := hex.DecodeString(string(slices.DeleteFunc([]byte(id), func(c byte) bool { return c == '-' })))
		if err != nil || len(raw) != idBytes {
			continue // no id of ours
		}
		status, isCall := p.calls[id]
		switch seq := p.lines[id]; {
		case seq > 0:
			data = binary.AppendUvarint(append(data, raw...), uint64(seq))
		case isCall:
			data = append(append(append(data, raw...), 0, byte(len(status))), status...)
		}
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// parseProgress reads a text of String, or where it is a number, the line of a
// conversation up to which its client has read.
func parseProgress(text, conversation string) (*progress, error) {
	p := newProgress()
	bad := api.Errorf(api.BadRequest, "after: %.100q is neither a seq of the conversation nor the \"next\" of an answer", text)
	if seq, err := strconv.ParseInt(text, 10, 64); err == nil && seq >= 0 && conversation != "" {
		p.lines[conversation] = seq
		p.order = append(p.order, conversation)
		return p, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return p, bad
	}
	for len(data) > 0 {
		if len(data) < idBytes {
			return p, bad
		}
		id := formatID(data[:idBytes])
		seq, n := binary.Uvarint(data[idBytes:])
		if n <= 0 || seq > 1<<62 {
			return p, bad
		}
		data = data[idBytes+n:]
		p.order = append(p.order, id)
		if seq > 0 {
			p.lines[id] = int64(seq)
			continue
		}
		if len(data) == 0 || len(data) < 1+int(data[0]) {
			return p, bad
		}
		p.calls[id] = string(data[1 : 1+int(data[0])])
		data = data[1+int(data[0]):]
	}
	if len(p.order) > maxProgress || len(p.order) != len(p.lines)+len(p.calls) {
		return p, bad
	}
	return p, nil
}

// formatID writes the bytes of a UUID as text (RFC 9562).
func formatID(b []byte) string {
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
